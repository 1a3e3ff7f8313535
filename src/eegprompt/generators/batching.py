"""Calls of a pipeline with a fixed number of images at a time, and with fewer where memory is short."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import EegpromptError, InputError, ModelLoadError
from eegprompt.core.model_hub import quiet
from eegprompt.generators.base import Generator
from eegprompt.generators.loading import OFFLOADS, offload_pipeline

if TYPE_CHECKING:
    import torch

__all__ = ["PipelineGenerator", "free_memory", "out_of_memory"]


class PipelineGenerator(Generator):
    """A generator whose images come from calls of a pipeline of diffusers.

    Attributes
    ----------
    batch_size : int
        Images in every call; halved where they do not fit into memory.
    dtype : str
        Number format of the pipeline.
    notes : list of str
        What was done differently than asked for.
    """

    batch_size: int
    dtype: str
    notes: list[str]
    _device: torch.device
    _offload: str | None
    _pipeline: Any

    def _in_batches(
        self,
        call: Callable[[list[int]], tuple[torch.Tensor, list[bool]]],
        n: int,
        labels: list[str],
    ) -> tuple[list[np.ndarray], list[bool]]:
        """Call for all rows, a fixed number at a time; for fewer where they do not fit."""
        import torch

        images: list[np.ndarray] = []
        blanked: list[bool] = []
        with torch.inference_mode(), quiet():
            while len(images) < n:
                start, stop = len(images), min(len(images) + self.batch_size, n)
                rows = list(range(start, stop))
                filled = rows + rows[:1] * (self.batch_size - len(rows))
                fits = True
                try:
                    values, flags = call(filled)
                    part = self._as_bytes(values[: len(rows)], labels[start:stop])
                except EegpromptError:
                    raise
                except Exception as problem:
                    if isinstance(problem, ValueError):  # a size that cannot be drawn, and the like
                        said = (str(problem).splitlines() or [""])[0][:200]
                        raise InputError(f"{self.name} refuses to draw: {said}") from problem
                    if not out_of_memory(problem):
                        said = f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
                        raise ModelLoadError(
                            f"{self.name} fails while it draws ({said}); check that the model is whole "
                            "and that its options suit it"
                        ) from problem
                    fits = False
                if not fits:  # outside of the handler, which holds what fills the memory
                    self._need_less_memory()
                    continue
                images += list(part)
                blanked += flags[: len(rows)]
        return images, blanked

    def _as_bytes(self, values: torch.Tensor, labels: list[str]) -> np.ndarray:
        """From (n, 3, height, width) in [0, 1] to uint8 (n, height, width, 3)."""
        import torch

        values = values.float()
        finite = torch.isfinite(values).flatten(1).all(dim=1)
        if not bool(finite.all()):
            bad = labels[int((~finite).nonzero()[0, 0])]
            remedy = (
                "use dtype float32 or bfloat16"
                if self.dtype == "float16"
                else "its file is damaged"
            )
            raise ModelLoadError(
                f"{self.name} gives values that are not finite in {self.dtype} (prompt '{bad[:60]}'); "
                f"{remedy}"
            )
        levels = (values.clamp(0, 1) * 255).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _need_less_memory(self) -> None:
        """Draw fewer at a time, else keep parts of the pipeline elsewhere, else give up."""
        free_memory()
        if self.batch_size > 1:
            self.batch_size //= 2
            self.notes.append(
                f"{self.name} did not fit into memory; {self.batch_size} images are drawn at a time"
            )
            return
        later = OFFLOADS if self._offload is None else OFFLOADS[OFFLOADS.index(self._offload) + 1 :]
        if self._device.type == "cpu" or not later:
            raise InputError(
                f"{self.name} does not fit into memory with one image at a time"
                + ("" if self._device.type == "cpu" else " and its parts offloaded")
                + "; use a smaller height and width, vae_tiling, or another device"
            )
        self._offload = later[0]
        with quiet():
            offload_pipeline(self._pipeline, self._device, later[0])
        self.notes.append(
            f"{self.name} did not fit into memory; its parts are offloaded ({later[0]})"
        )


def free_memory() -> None:
    """Give back what is no longer used."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(problem: BaseException | None) -> bool:
    """Whether memory, not the model or the input, is at fault."""
    import torch

    while problem is not None:
        if isinstance(problem, (torch.OutOfMemoryError, MemoryError)):
            return True
        said = str(problem)
        if isinstance(problem, RuntimeError) and any(
            words in said for words in ("out of memory", "can't allocate memory")
        ):
            return True
        # Sana's pipeline only warns where decoding runs out of memory, and trips over that.
        if isinstance(problem, UnboundLocalError) and "'image'" in said:
            return True
        problem = problem.__cause__ or problem.__context__
    return False

"""Whether what a pipeline's networks compute is finite, seen before the pipeline clips it.

Pipelines bring images to [0, 1] by clipping, which turns an infinite value into black or white. So
the values are looked at where they arise: as the autoencoder decodes them, or, in pipelines that
generate pixels, as the denoising network gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["FiniteValues"]

_DECODERS = ("vae", "movq", "vqgan")
_DENOISERS = ("unet", "transformer", "decoder")


class FiniteValues:
    """Watches the last network of a pipeline, from its construction on.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Loaded.
    """

    def __init__(self, pipeline: Any):
        self._finite: list[torch.Tensor] = []  # one value for each image of each call
        of_name: dict[str, Any] = {n: getattr(pipeline, n, None) for n in (*_DECODERS, *_DENOISERS)}
        decoders = [of_name[name] for name in _DECODERS if hasattr(of_name[name], "decode")]
        for module in decoders:
            module.decode = self._watched(module.decode)
        if not decoders:
            for name in _DENOISERS:
                if hasattr(of_name[name], "register_forward_hook"):
                    of_name[name].register_forward_hook(lambda module, given, out: self._look(out))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def decode(*args: Any, **options: Any) -> Any:
            out = function(*args, **options)
            self._look(out)
            return out

        return decode

    def _look(self, out: Any) -> None:
        import torch

        values = out if isinstance(out, torch.Tensor) else out[0]
        # Kept on the device: reading it at every step would wait for the device each time.
        self._finite.append(torch.isfinite(values).flatten(1).all(dim=1))

    def clear(self) -> None:
        """Forget what was seen."""
        self._finite.clear()

    def of_images(self, n: int) -> list[bool]:
        """Whether each of `n` images was finite, of all that was computed since :meth:`clear`.

        Calls that compute other numbers of images at a time (guidance doubles them) speak for all
        `n` at once.
        """
        finite = [True] * n
        rows = [seen.tolist() for seen in self._finite]
        if sum(map(len, rows)) == n:  # one call, or one for each part
            return [bool(value) for seen in rows for value in seen]
        for seen in rows:
            one = seen if len(seen) == n else [all(seen)] * n
            finite = [a and b for a, b in zip(finite, one)]
        return finite

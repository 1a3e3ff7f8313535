"""Draw prompts with a frozen text-to-image pipeline of diffusers, any that loads by name.

A picture depends on its prompt and its seed alone. Two things see to that: every picture has a
random generator of its own, on the CPU, whatever the device; and the pipeline is always called
with the same number of prompts, the last call being filled up, so that the same kernels run on
the same shapes however many pictures are asked for and in whatever order.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import read_json
from eegprompt.builtin_models import pipeline_folder, read_defaults
from eegprompt.errors import (
    EegpromptError,
    InputError,
    ModelLoadError,
    TokenBudgetError,
    UnknownNameError,
)
from eegprompt.pretrained import (
    Source,
    choose_device,
    fetch,
    load_errors,
    locate,
    quiet,
    token_limit,
)

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "DiffusersGenerator", "builtin_generator", "distilled_defaults"]

DTYPES = ("float32", "float16", "bfloat16")

# Models distilled to few steps need other settings than their pipelines' defaults: with guidance
# or many steps they give burnt pictures. Matched against the model's name; the first that fits
# counts. The figures are those of the models' own pages.
_DISTILLED: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"sd3\.?5?.*turbo|stable-diffusion-3.*turbo", {"steps": 4, "guidance": 0.0}),
    (r"sdxl-turbo|sd-turbo", {"steps": 1, "guidance": 0.0, "height": 512, "width": 512}),
    (r"schnell", {"steps": 4, "guidance": 0.0}),
    (r"sana.*sprint", {"steps": 2}),
    (r"lightning|hyper-?sd", {"steps": 4, "guidance": 0.0}),
    (r"\blcm\b|lcm-", {"steps": 4, "guidance": 1.0}),
    (r"turbo", {"steps": 4, "guidance": 0.0}),
)
_LIGHT_FILES = ("model_index.json", "tokenizer*/*", "*/config.json", "scheduler/*")


def distilled_defaults(model: str) -> dict[str, Any]:
    """Settings for a model distilled to few steps, by its name; empty for all others.

    Examples
    --------
    >>> distilled_defaults("stabilityai/sdxl-turbo")
    {'steps': 1, 'guidance': 0.0, 'height': 512, 'width': 512}
    >>> distilled_defaults("stable-diffusion-v1-5/stable-diffusion-v1-5")
    {}
    """
    name = model.rstrip("/").rpartition("/")[2].lower()
    for pattern, settings in _DISTILLED:
        if re.search(pattern, name):
            return dict(settings)
    return {}


class DiffusersGenerator:
    """A text-to-image pipeline, by folder or by name on huggingface.co.

    The pipeline's weights are loaded when the first picture is drawn; counting tokens needs its
    tokenizers only.

    Parameters
    ----------
    model : str
        Folder in diffusers' format, or a name such as ``stabilityai/sdxl-turbo``.
    revision : str, optional
        Commit, tag or branch on the hub; the newest if left out. The commit is recorded.
    steps, guidance, height, width : optional
        Denoising steps, strength of classifier-free guidance, and size in pixels. Left out: what
        suits the model where its name says that it is distilled (turbo, schnell, lightning, …),
        else the pipeline's own defaults.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    dtype : str, optional
        ``float32``, ``float16`` or ``bfloat16``; left out: float32 on a CPU, else float16.
    batch_size : int, optional
        Pictures in every call of the pipeline; left out: 1 on a CPU, else 8. Fixed, because the
        last bit of a picture may depend on it.

    Attributes
    ----------
    name, revision : str
        What it is and in which version.
    max_tokens : int
        Longest prompt in tokens that is read to the end, marks included; the least of the
        pipeline's tokenizers'.

    Raises
    ------
    ModelLoadError
        If the model is not there, may not be had, or draws no pictures from text.
    """

    def __init__(
        self,
        model: str | None,
        *,
        revision: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
        device: str = "auto",
        dtype: str | None = None,
        batch_size: int | None = None,
    ):
        if not model:
            raise InputError(
                "a diffusers generator needs a name or a folder, as in "
                "'diffusers:stabilityai/sdxl-turbo'"
            )
        self.name = f"diffusers:{model}"
        self._model = model
        self._device = choose_device(device)
        on_cpu = self._device.type == "cpu"
        if dtype is not None and dtype not in DTYPES:
            raise UnknownNameError("dtype", dtype, DTYPES)
        self.dtype = dtype or ("float32" if on_cpu else "float16")
        given = {"steps": steps, "guidance": guidance, "height": height, "width": width}
        self._settings: dict[str, Any] = {**given, **distilled_defaults(model)}
        self._settings.update({k: v for k, v in given.items() if v is not None})
        for field in ("steps", "height", "width"):
            value = self._settings[field]
            if value is not None and value < 1:
                raise InputError(f"{field} must be at least 1, got {value}")
        self.batch_size = batch_size if batch_size is not None else (1 if on_cpu else 8)
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self._source = fetch(locate(model, "generator", revision), "generator", _LIGHT_FILES)
        assert self._source.folder is not None and self._source.revision is not None
        self.revision = self._source.revision
        index = self._source.folder / "model_index.json"
        if not index.exists():
            raise ModelLoadError(
                f"the generator '{model}' has no model_index.json, so it is no diffusers pipeline; "
                "name a text-to-image pipeline, e.g. stabilityai/sdxl-turbo"
            )
        self._index: dict[str, Any] = read_json(index)
        self._tokenizers, self.max_tokens = _load_tokenizers(
            self._source.folder, self._index, model
        )
        self._pipeline: Any = None

    def __repr__(self) -> str:
        return f"DiffusersGenerator('{self.name}', {self._device}, {self.dtype})"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides a picture beside prompt and seed, for the record."""
        return {
            "model": self.name,
            "revision": self.revision,
            **self._settings,
            "dtype": self.dtype,
            "device": self._device.type,
            "batch_size": self.batch_size,
            "pipeline": self._index.get("_class_name"),
            "scheduler": (self._index.get("scheduler") or [None, None])[1],
            # Built to blank photographs of people; a blank would be scored as a reconstruction.
            "safety_checker": "off" if "safety_checker" in self._index else "none",
        }

    def count_tokens(self, text: str) -> int:
        """Number of tokens, marks included; the most of the pipeline's tokenizers'."""
        with _no_length_warning():
            return max(len(t(text, truncation=False)["input_ids"]) for t in self._tokenizers)

    def load(self) -> None:
        """Load the pipeline's weights now instead of with the first picture."""
        if self._pipeline is None:
            self._pipeline = _load_pipeline(self._source, self._index, self._model, self.dtype)
            _to_device(self._pipeline, self._device, self._model)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Draw one picture a prompt.

        Parameters
        ----------
        prompts : sequence of str, length n
            Not empty, each within :attr:`max_tokens`.
        seeds : sequence of int, length n
            One a picture, 0 or greater.

        Returns
        -------
        array of uint8, shape (n, height, width, 3)

        Raises
        ------
        InputError
            If a prompt is empty, a seed is negative, or the lengths differ.
        TokenBudgetError
            If a prompt is longer than the pipeline reads.
        ModelLoadError
            If the pipeline gives values that are not finite.
        """
        prompts, seeds = list(prompts), [int(seed) for seed in seeds]
        self._check(prompts, seeds)
        self.load()
        pictures: list[np.ndarray] = []
        for start in range(0, len(prompts), self.batch_size):
            part = slice(start, start + self.batch_size)
            pictures.extend(self._call(prompts[part], seeds[part]))
        if not pictures:
            size = [self._settings[side] or 1 for side in ("height", "width")]
            return np.zeros((0, *size, 3), dtype=np.uint8)
        return np.stack(pictures)

    def _check(self, prompts: list[str], seeds: list[int]) -> None:
        if len(prompts) != len(seeds):
            raise InputError(f"{len(prompts)} prompts need as many seeds, got {len(seeds)}")
        if any(not 0 <= seed < 2**63 for seed in seeds):
            raise InputError(f"a seed must lie in [0, 2**63), got {min(seeds)} to {max(seeds)}")
        for i, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise InputError(f"prompt {i} is empty; every picture needs a prompt")
            n_tokens = self.count_tokens(prompt)
            if n_tokens > self.max_tokens:
                raise TokenBudgetError(
                    f"prompt {i} has {n_tokens} tokens, but {self.name} reads {self.max_tokens}; "
                    "shorten it (nothing is cut silently)"
                )

    def _call(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        """One call of the pipeline, filled up to the fixed batch size."""
        import torch

        n = len(prompts)
        missing = self.batch_size - n
        filled, all_seeds = prompts + prompts[:1] * missing, seeds + seeds[:1] * missing
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in all_seeds]
        try:
            with torch.inference_mode(), quiet():
                out = self._pipeline(
                    prompt=filled, generator=generators, output_type="np", **self._arguments()
                )
        except torch.OutOfMemoryError:
            raise InputError(
                f"{self.name} does not fit into memory with {self.batch_size} pictures at a time; "
                "use a smaller batch_size, a smaller picture or another device"
            ) from None
        except EegpromptError:
            raise
        except ValueError as problem:  # a size that the pipeline cannot draw, and the like
            raise InputError(
                f"{self.name} refuses to draw: {str(problem).splitlines()[0]}"
            ) from problem
        images = np.asarray(out.images, dtype=np.float32)[:n]
        finite = np.isfinite(images).reshape(n, -1).all(axis=1)
        if not finite.all():
            bad = prompts[int(np.flatnonzero(~finite)[0])]
            remedy = (
                "use dtype float32 or bfloat16"
                if self.dtype == "float16"
                else "its file is damaged"
            )
            raise ModelLoadError(
                f"{self.name} gives values that are not finite in {self.dtype} (prompt '{bad[:60]}'); "
                f"{remedy}"
            )
        return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)

    def _arguments(self) -> dict[str, Any]:
        """Settings under the names of the pipeline's call; None means the pipeline's default."""
        names = {
            "steps": "num_inference_steps",
            "guidance": "guidance_scale",
            "height": "height",
            "width": "width",
        }
        accepted = inspect.signature(type(self._pipeline).__call__).parameters
        arguments = {}
        for name, value in self._settings.items():
            if value is None:
                continue
            if names[name] not in accepted:
                raise InputError(f"{self.name} takes no setting '{name}'; leave it out")
            arguments[names[name]] = value
        return arguments


def builtin_generator(argument: str | None = None, **options: Any) -> DiffusersGenerator:
    """The pipeline that comes with the package.

    Parameters
    ----------
    argument : None
        The built-in model takes none.
    **options
        See :class:`DiffusersGenerator`.
    """
    if argument:
        raise InputError(f"the generator 'builtin' takes no argument, got '{argument}'")
    # Four at a time are nearly twice as fast as one on a CPU, and more are no faster.
    settings: dict[str, Any] = {**read_defaults(), "batch_size": 4}
    settings |= {name: value for name, value in options.items() if value is not None}
    generator = DiffusersGenerator(str(pipeline_folder()), **settings)
    generator.name = "builtin"
    return generator


def _no_length_warning() -> Any:
    """Tokenizers warn about long texts; here they are counted on purpose."""
    import contextlib

    from transformers.utils import logging

    @contextlib.contextmanager
    def silenced() -> Any:
        level = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(level)

    return silenced()


def _load_tokenizers(folder: Path, index: dict[str, Any], model: str) -> tuple[list[Any], int]:
    """The pipeline's tokenizers and the least of their limits."""
    tokenizers, limits = [], []
    with load_errors(model, "generator"), quiet():
        import transformers

        for name in sorted(index):
            entry = index[name]
            if not re.fullmatch(r"tokenizer(_\d+)?", name) or not (entry and entry[1]):
                continue
            loader = getattr(transformers, entry[1], transformers.AutoTokenizer)
            tokenizer = loader.from_pretrained(folder / name)
            tokenizers.append(tokenizer)
            limits.append(_limit(folder, index, name, entry[1], tokenizer))
    if not tokenizers:
        raise ModelLoadError(
            f"the generator '{model}' ({index.get('_class_name')}) has no tokenizer, so it draws no "
            "pictures from text; name a text-to-image pipeline"
        )
    return tokenizers, min(limits)


def _limit(folder: Path, index: dict[str, Any], name: str, kind: str, tokenizer: Any) -> int:
    """The most tokens of a prompt that reach the picture through one tokenizer."""
    config = folder / name.replace("tokenizer", "text_encoder") / "config.json"
    positions = read_json(config).get("max_position_embeddings") if config.exists() else None
    limit = token_limit(tokenizer, positions or 77)
    if "CLIP" in kind:
        return min(limit, positions or limit)
    # T5 and language models read as much as the pipeline's call asks them to.
    import diffusers

    pipeline = getattr(diffusers, str(index.get("_class_name")), None)
    if pipeline is not None:
        asked = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
        if asked is not None and isinstance(asked.default, int):
            limit = min(limit, asked.default)
    return limit


def _load_pipeline(source: Source, index: dict[str, Any], model: str, dtype: str) -> Any:
    """The text-to-image pipeline, without safety checker and progress bar."""
    with load_errors(model, "generator"), quiet(diffusion=True):
        import torch
        from diffusers import AutoPipelineForText2Image, DiffusionPipeline

        options: dict[str, Any] = {"torch_dtype": getattr(torch, dtype)}
        if "safety_checker" in index:
            options |= {"safety_checker": None, "feature_extractor": None}
            options["requires_safety_checker"] = False
        folder = source.folder
        assert folder is not None
        if not Path(source.name).expanduser().is_dir():
            folder = _download(source, dtype)
        if _takes_half(folder, dtype):
            options["variant"] = "fp16"
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(folder, **options)
        except ValueError as problem:
            if "AutoPipeline" not in str(problem):
                raise
            pipeline = DiffusionPipeline.from_pretrained(folder, **options)
    parameters = inspect.signature(type(pipeline).__call__).parameters
    image = parameters.get("image")
    if "prompt" not in parameters or (
        image is not None and image.default is inspect.Parameter.empty
    ):
        raise ModelLoadError(
            f"the generator '{model}' is a {type(pipeline).__name__}, which does not draw pictures "
            "from text alone; name a text-to-image pipeline"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _download(source: Source, dtype: str) -> Path:
    """Download what the pipeline needs, half-precision files where there are some."""
    from diffusers import DiffusionPipeline

    variants = ["fp16", None] if dtype == "float16" else [None]
    for variant in variants:
        try:
            return Path(
                DiffusionPipeline.download(source.name, revision=source.revision, variant=variant)
            )
        except (ValueError, OSError):
            if variant is None:
                raise
    raise AssertionError("unreachable")


def _takes_half(folder: Path, dtype: str) -> bool:
    """Whether to read the files named ``.fp16.``: as asked for, or as there are no others."""
    weights = [path.name for path in folder.rglob("*.safetensors")]
    half = [name for name in weights if ".fp16." in name]
    return bool(half) and (dtype == "float16" or len(half) == len(weights))


def _to_device(pipeline: Any, device: torch.device, model: str) -> None:
    import torch

    with load_errors(model, "generator"), quiet():
        pipeline.to(device)
        for part in ("unet", "vae"):  # convolutions run faster with the channels last
            module = getattr(pipeline, part, None)
            if isinstance(module, torch.nn.Module):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

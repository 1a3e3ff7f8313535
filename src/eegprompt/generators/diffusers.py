"""Draw prompts with a frozen text-to-image pipeline of diffusers, any that loads by name.

An image depends on its prompt and its seed alone. Two things see to that: every image has a
random generator of its own, on the CPU, whatever the device; and the pipeline is always called
with the same number of prompts, the last call being filled up, so that the same kernels run on
the same shapes however many images are asked for and in whatever order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import (
    InputError,
    ModelLoadError,
    TokenBudgetError,
    UnknownNameError,
)
from eegprompt.core.files import read_json
from eegprompt.core.model_hub import choose_device, fetch, locate, quiet
from eegprompt.generators.batching import PipelineGenerator, free_memory, out_of_memory
from eegprompt.generators.finite_values import FiniteValues
from eegprompt.generators.loading import OFFLOADS, load_pipeline, place_pipeline
from eegprompt.generators.model_defaults import (
    DTYPES,
    check_settings,
    checked_seeds,
    default_dtype,
    default_extra,
    default_side,
    distilled_by_files,
    distilled_defaults,
)
from eegprompt.generators.prompt_budget import load_budget
from eegprompt.generators.prompt_embeddings import PromptEncoder, takes_embeddings

if TYPE_CHECKING:
    import torch

__all__ = ["DiffusersGenerator"]

_LIGHT_FILES = ("model_index.json", "tokenizer*/*", "*/config.json", "scheduler/*")


_CALLED = {  # our names of settings and those of the pipelines' calls
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "height": "height",
    "width": "width",
}


_RESERVED = (  # what `extra` must not decide
    *_CALLED.values(),
    *("prompt", "negative_prompt", "generator", "latents", "output_type", "return_dict"),
    *("num_images_per_prompt", "prompt_embeds", "negative_prompt_embeds", "self"),
)


# Gives a call's arguments for some of the images, by their numbers.
_Arguments = Callable[[list[int]], dict[str, Any]]


class DiffusersGenerator(PipelineGenerator):
    """A text-to-image pipeline, by folder or by name on huggingface.co.

    The pipeline's weights are loaded when the first image is drawn; counting tokens needs its
    tokenizers only.

    Parameters
    ----------
    model : str
        Folder in diffusers' format, or a name such as ``stabilityai/sdxl-turbo``.
    revision : str, optional
        Commit, tag or branch on the hub; the newest if left out. The commit is recorded.
    steps, guidance, height, width : optional
        Denoising steps, strength of classifier-free guidance, and size in pixels. Left out: what
        suits the model where its name or its files say that it is distilled (turbo, schnell,
        lightning, LCM, …), else the pipeline's own defaults.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    dtype : str, optional
        ``float32``, ``float16`` or ``bfloat16``; left out: float32 on a CPU, else float16, and
        bfloat16 for diffusion transformers on a GPU that has it.
    batch_size : int, optional
        Images in every call of the pipeline; left out: 1 on a CPU, else 8. Fixed, because the
        last bit of an image may depend on it. Where they do not fit into memory, fewer are
        drawn at a time, and :attr:`notes` says so.
    offload : str, optional
        ``model`` or ``sequential``: keep what does not compute in the processor's memory.
    vae_slicing, vae_tiling : bool, default False
        Decode image by image, or tile by tile (for very large images).
    compile : bool or str, default False
        Compile the networks with ``torch.compile``, in the mode that a string names.
    channels_last : bool, default True
        Memory layout of the convolutions; the faster one.
    safety_checker : bool, default False
        Keep the checker that blanks images, where the model has one. A blanked image is
        marked in :attr:`blanked`.
    extra : dict, optional
        More arguments for the pipeline's call, by its names, e.g. ``clip_skip``,
        ``max_sequence_length`` or ``true_cfg_scale``.

    Attributes
    ----------
    name, revision : str
        What it is and in which version.
    max_tokens : int
        Longest prompt in tokens that is read to the end, special tokens included: that of the
        tokenizer with the least limit. Whoever composes prompts drops phrases.
    blanked : list of bool
        Of the images drawn last, which the safety checker blanked.
    notes : list of str
        What was done differently than asked for.

    Raises
    ------
    ModelLoadError
        If the model is not there, may not be had, or draws no images from text.
    """

    takes_negative_prompt = True
    max_tokens: int

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
        offload: str | None = None,
        vae_slicing: bool = False,
        vae_tiling: bool = False,
        compile: bool | str = False,
        channels_last: bool = True,
        safety_checker: bool = False,
        extra: Mapping[str, Any] | None = None,
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
        for what, value, allowed in (
            ("dtype", dtype, DTYPES),
            ("offload", offload, OFFLOADS),
        ):
            if value is not None and value not in allowed:
                raise UnknownNameError(what, str(value), allowed)
        if offload is not None and on_cpu:
            raise InputError("offload needs a GPU; leave it out on a CPU")
        given = {"steps": steps, "guidance": guidance, "height": height, "width": width}
        check_settings({**given, "batch_size": batch_size})
        self.batch_size = batch_size if batch_size is not None else (1 if on_cpu else 8)
        self._source = fetch(locate(model, "generator", revision), "generator", _LIGHT_FILES)
        folder = self._source.folder
        assert folder is not None and self._source.revision is not None
        self.revision = self._source.revision
        if not (folder / "model_index.json").exists():
            raise ModelLoadError(
                f"the generator '{model}' has no model_index.json, so it is no diffusers pipeline; "
                "name a text-to-image pipeline, e.g. stabilityai/sdxl-turbo"
            )
        self._index: dict[str, Any] = read_json(folder / "model_index.json", schema="mapping")
        self._kind = str(self._index.get("_class_name"))
        self.dtype = dtype or default_dtype(self._index, self._device)
        known = distilled_defaults(model) or distilled_by_files(folder, self._index)
        self._settings: dict[str, Any] = {**given, **known}
        self._settings.update({k: v for k, v in given.items() if v is not None})
        self._extra = {**default_extra(folder, self._index), **(extra or {})}
        asked = self._extra.get("max_sequence_length")
        self._budget = load_budget(folder, self._index, model, asked)
        self.max_tokens = self._budget.limit
        self._offload = offload
        self._running: dict[str, Any] = {
            "channels_last": channels_last,
            "vae_slicing": vae_slicing,
            "vae_tiling": vae_tiling,
            "compile": compile,
        }
        self._keeps_checker = safety_checker
        self._pipeline: Any = None
        self._encoder: PromptEncoder | None = None
        self._finite: FiniteValues | None = None
        self.notes: list[str] = []

    def __repr__(self) -> str:
        return f"DiffusersGenerator('{self.name}', {self._device}, {self.dtype})"

    @property
    def supports_embeddings(self) -> bool:
        """Whether prompts can be given as embeddings."""
        return takes_embeddings(self._kind)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides an image beside prompt and seed, for the record.

        What stands under ``running`` says how it was computed, and decides the last bit at most.
        """
        checker = "none"
        if "safety_checker" in self._index:
            # Built to blank photographs of people; a blank is no reconstruction.
            checker = "on" if self._keeps_checker else "off"
        return {
            "model": self.name,
            "revision": self.revision,
            **self._effective(),
            **({"extra": self._extra} if self._extra else {}),
            "dtype": self.dtype,
            "device": self._device.type,
            "batch_size": self.batch_size,
            "pipeline": self._kind,
            "scheduler": (self._index.get("scheduler") or [None, None])[1],
            "safety_checker": checker,
            "running": {**self._running, "offload": self._offload},
        }

    def _effective(self) -> dict[str, Any]:
        """The settings, with the pipeline's own steps and guidance where none are given."""
        accepted = self._accepted()
        out = dict(self._settings)
        for name in ("steps", "guidance"):
            parameter = accepted.get(_CALLED[name])
            if out[name] is None and parameter is not None:
                out[name] = parameter.default
        return out

    def count_tokens(self, text: str) -> int:
        """Number of tokens, marks included, as the tokenizer with the least limit counts them."""
        return self._budget.count(text)

    def load(self) -> None:
        """Load the pipeline's weights now instead of with the first image."""
        if self._pipeline is not None:
            return
        pipeline = load_pipeline(
            self._source, self._index, self.dtype, safety_checker=self._keeps_checker
        )
        self._check_extra(pipeline)
        place: dict[str, Any] = {"model": self._model, **self._running}
        too_large = False
        try:
            place_pipeline(pipeline, self._device, offload=self._offload, **place)
        except ModelLoadError as problem:
            too_large = out_of_memory(problem)
            if not too_large or self._offload or self._device.type == "cpu":
                raise
        if too_large:
            self._offload = "model"
            self.notes.append(f"{self.name} does not fit on the device whole; parts are offloaded")
            free_memory()
            place_pipeline(pipeline, self._device, offload="model", **place)
        self._pipeline = pipeline
        self._finite = FiniteValues(pipeline)
        if self.supports_embeddings:
            self._encoder = PromptEncoder(pipeline, self._extra)

    # -- drawing -------------------------------------------------------------------------------
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative_prompt: str | None = None,
        image_paths: Sequence[str] = (),
    ) -> np.ndarray:
        """Draw one image a prompt.

        Parameters
        ----------
        prompts : sequence of str, length n
            Not empty, each within :attr:`max_tokens`.
        seeds : sequence of int, length n
            One an image, 0 or greater.
        negative_prompt : str, optional
            What to keep away from; for models that are drawn with guidance.
        image_paths : sequence of str
            Not asked for.

        Returns
        -------
        array of uint8, shape (n, height, width, 3)
            An image that a safety checker blanked is black, and marked in :attr:`blanked`.

        Raises
        ------
        InputError
            If a prompt is empty, a seed is negative, the lengths differ, a setting does not suit
            the pipeline, or a single image does not fit into memory.
        TokenBudgetError
            If a prompt is longer than the pipeline reads.
        ModelLoadError
            If the pipeline cannot be loaded, fails, or gives no images or values that are not
            finite.
        """
        prompts, seeds = list(prompts), checked_seeds(seeds)
        if len(prompts) != len(seeds):
            raise InputError(f"{len(prompts)} prompts need as many seeds, got {len(seeds)}")
        self._check_prompts(prompts)
        negative = self._check_negative(negative_prompt)
        self.load()

        def arguments(rows: list[int]) -> dict[str, Any]:
            more = {"negative_prompt": [negative] * len(rows)} if negative else {}
            return {"prompt": [prompts[row] for row in rows], **more}

        drawn, self.blanked = self._draw(arguments, seeds, prompts)
        return np.stack(drawn) if drawn else self._nothing()

    def embed_prompts(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Embed prompts, for :meth:`generate_from_embeddings`.

        Parameters
        ----------
        prompts : sequence of str, length n
            Within :attr:`max_tokens`.

        Returns
        -------
        dict of str to tensor, each with n rows
            By the names of the pipeline's arguments: float32 on the CPU, masks as they are.

        Raises
        ------
        InputError
            If a prompt is empty, or the pipeline takes no embeddings.
        TokenBudgetError
            If a prompt is longer than the pipeline reads.
        """
        import torch

        prompts = list(prompts)
        self._check_prompts(prompts)
        encoder = self._loaded_encoder()
        if not prompts:
            raise InputError("there are no prompts to embed; give at least one")
        with torch.inference_mode(), quiet():
            embeds = encoder.encode(prompts, batch_size=self.batch_size)
        return {
            name: value.cpu().float().clone() if value.is_floating_point() else value.cpu().clone()
            for name, value in embeds.items()
        }

    def generate_from_embeddings(
        self,
        embeds: dict[str, torch.Tensor],
        seeds: Sequence[int],
        *,
        negative_prompt: str | None = None,
    ) -> np.ndarray:
        """Draw one image a row of embeddings.

        Parameters
        ----------
        embeds : dict of str to tensor, each with n rows
            From :meth:`embed_prompts`, or means of their rows. A weighted mean of masks counts as
            their union.
        seeds : sequence of int, length n
            As for :meth:`generate`.
        negative_prompt : str, optional
            As for :meth:`generate`.

        Returns
        -------
        array of uint8, shape (n, height, width, 3)

        Raises
        ------
        InputError
            If names or lengths do not fit, or the pipeline takes no embeddings.
        """
        seeds = checked_seeds(seeds)
        negative = self._check_negative(negative_prompt)
        encoder = self._loaded_encoder()
        names = set(encoder.names)
        if set(embeds) != names or any(len(value) != len(seeds) for value in embeds.values()):
            raise InputError(
                f"embeddings must hold {', '.join(sorted(names))} with a row a seed ({len(seeds)}), "
                f"got {', '.join(f'{k} {tuple(v.shape)}' for k, v in embeds.items()) or 'nothing'}"
            )
        placed = encoder.place(embeds)

        def arguments(rows: list[int]) -> dict[str, Any]:
            batch = {name: value[rows] for name, value in placed.items()}
            return {**batch, **self._negative(negative, batch)}

        drawn, self.blanked = self._draw(arguments, seeds, ["(embeddings)"] * len(seeds))
        return np.stack(drawn) if drawn else self._nothing()

    @property
    def has_autoencoder(self) -> bool:
        """Whether :meth:`round_trip` can be had; some pipelines draw pixels. Loads nothing."""
        return bool((self._index.get("vae") or [None, None])[1])

    def round_trip(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Send images through the pipeline's autoencoder: the best that it could draw.

        Parameters
        ----------
        images : sequence of uint8 arrays (height, width, 3), length n
            Brought to the size that is drawn first.

        Returns
        -------
        array of uint8, shape (n, height, width, 3)

        Raises
        ------
        InputError
            If the pipeline has no autoencoder, or an image is not uint8.
        """
        import torch
        from PIL import Image

        self.load()
        vae = getattr(self._pipeline, "vae", None)
        if vae is None or not hasattr(vae, "encode"):
            raise InputError(f"{self.name} has no autoencoder, so there is no round trip")
        height, width = self._size_in_pixels()
        all_images = np.zeros((len(images), height, width, 3), dtype=np.uint8)
        for i, image in enumerate(images):
            image = np.asarray(image)
            if image.dtype != np.uint8:  # values in [0, 1] would all become black
                raise InputError(
                    f"an image must be uint8 in [0, 255], got {image.dtype}; bring it to 8 bits first"
                )
            one_image = Image.fromarray(image)
            if one_image.size != (width, height):
                one_image = one_image.resize((width, height), Image.Resampling.BICUBIC)
            all_images[i] = np.asarray(one_image)

        def call(rows: list[int]) -> tuple[torch.Tensor, list[bool]]:
            # In half precision some autoencoders overflow; their settings say so.
            upcast = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
            before = vae.dtype
            if upcast:
                vae.to(torch.float32)
            try:
                x = torch.from_numpy(all_images[rows]).to(
                    self._pipeline._execution_device, vae.dtype
                )
                x = x.permute(0, 3, 1, 2) / 127.5 - 1
                code = vae.encode(x)
                latent = code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latent
                out = vae.decode(latent).sample
            finally:
                if upcast:
                    vae.to(before)
            return out / 2 + 0.5, [False] * len(rows)

        out, _ = self._in_batches(call, len(images), ["(round trip)"] * len(images))
        return np.stack(out) if out else self._nothing()

    def _size_in_pixels(self) -> tuple[int, int]:
        """Height and width of what is drawn."""
        height, width = self._settings["height"], self._settings["width"]
        if height is None or width is None:
            side = default_side(self._pipeline)
            height, width = height or side, width or side
        return height, width

    # -- what a call is given ------------------------------------------------------------------
    def _negative(self, negative: str | None, embeds: dict[str, Any]) -> dict[str, Any]:
        """The negative prompt's embeddings, where the pipeline is drawn with guidance."""
        # Some pipelines' own default is an empty text, which must not come beside embeddings.
        words = {"negative_prompt": None} if "negative_prompt" in self._accepted() else {}
        if not self._guided(negative):
            return words
        assert self._encoder is not None
        return {**words, **self._encoder.negative(negative, embeds, self.batch_size)}

    def _guided(self, negative: str | None) -> bool:
        """Whether what a negative prompt says has an effect."""
        accepted = self._accepted()
        if "negative_prompt_embeds" not in accepted and "negative_prompt" not in accepted:
            return False
        if "true_cfg_scale" in accepted:  # here the guidance is an input of the network
            scale = self._extra.get("true_cfg_scale", accepted["true_cfg_scale"].default)
            return negative is not None and scale > 1
        default = accepted["guidance_scale"].default if "guidance_scale" in accepted else 0
        scale = self._settings["guidance"]
        return (default if scale is None else scale) > 1

    def _accepted(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the pipeline's call."""
        if self._pipeline is not None:
            return inspect.signature(type(self._pipeline).__call__).parameters
        import diffusers

        kind = getattr(diffusers, self._kind, None)
        return inspect.signature(kind.__call__).parameters if kind is not None else {}

    def _check_prompts(self, prompts: list[str]) -> None:
        for i, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise InputError(f"prompt {i} is empty; every image needs a prompt")
            self._check_length(prompt, f"prompt {i}")

    def _check_length(self, text: str, what: str) -> None:
        n_tokens = self.count_tokens(text)
        if n_tokens > self.max_tokens:
            raise TokenBudgetError(
                f"{what} has {n_tokens} tokens, but {self.name} reads {self.max_tokens}; shorten it "
                "(nothing is cut silently)"
            )

    def _check_negative(self, negative: str | None) -> str | None:
        if negative is None or not negative.strip():
            return None
        with quiet():
            works = self._guided(negative)
        if not works:
            raise InputError(
                f"a negative prompt has no effect on {self.name}, which is drawn without guidance; "
                "leave it out, or set a guidance above 1 (of FLUX: extra.true_cfg_scale)"
            )
        self._check_length(negative, "the negative prompt")
        return negative

    def _check_extra(self, pipeline: Any) -> None:
        accepted = inspect.signature(type(pipeline).__call__).parameters
        allowed = sorted(set(accepted) - set(_RESERVED) - {"args", "kwargs"})
        for name in self._extra:
            if name not in allowed:
                raise UnknownNameError(f"argument of {type(pipeline).__name__}", name, allowed)
        for name, value in self._settings.items():
            if value is not None and _CALLED[name] not in accepted:
                raise InputError(f"{self.name} takes no setting '{name}'; leave it out")

    def _loaded_encoder(self) -> PromptEncoder:
        if not self.supports_embeddings:
            raise InputError(
                f"{self.name} is a {self._kind}, to which prompts cannot be given as embeddings; "
                "compose prompts as text"
            )
        self.load()
        assert self._encoder is not None
        return self._encoder

    # -- calling the pipeline ------------------------------------------------------------------
    def _draw(
        self, arguments: _Arguments, seeds: list[int], labels: list[str]
    ) -> tuple[list[np.ndarray], list[bool]]:
        """Images and whether each was blanked."""
        import torch

        fixed = {_CALLED[k]: v for k, v in self._settings.items() if v is not None} | self._extra
        if "clean_caption" in self._accepted():
            # Would change the prompt, and only where two further packages happen to be installed.
            fixed.setdefault("clean_caption", False)

        def call(rows: list[int]) -> tuple[torch.Tensor, list[bool]]:
            generators = [torch.Generator("cpu").manual_seed(seeds[row]) for row in rows]
            if self._finite is not None:
                self._finite.clear()
            out = self._pipeline(**arguments(rows), generator=generators, output_type="pt", **fixed)
            if not hasattr(out, "images"):
                raise ModelLoadError(
                    f"{self.name} ({self._kind}) gives {', '.join(out) or 'nothing'}, not images; name "
                    "a text-to-image pipeline"
                )
            flags = getattr(out, "nsfw_content_detected", None) or [False] * len(rows)
            if self._finite is not None:
                for row, finite in enumerate(self._finite.of_images(len(rows))):
                    if not finite and not flags[row]:  # the pipeline has clipped it
                        out.images[row] = float("nan")
            return out.images, [bool(flag) for flag in flags]

        return self._in_batches(call, len(seeds), labels)

    def _nothing(self) -> np.ndarray:
        size = [self._settings[side] or 1 for side in ("height", "width")]
        return np.zeros((0, *size, 3), dtype=np.uint8)

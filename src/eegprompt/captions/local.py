"""Captions by a vision-language model on this machine, through transformers, by name.

SmolVLM, Qwen2.5-VL, Idefics3, LLaVA, Gemma 3 and the like: whatever ``AutoProcessor`` and
``AutoModelForImageTextToText`` open and has a chat template. Images go through the model in
batches; the most likely words are taken, so the same model on the same machine answers the same.
An answer that is not in order is sent back once, as by the captioner `chat`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.captions._image_data import image_sources, load_image
from eegprompt.captions.answers import Answer, read_answer, repair_words
from eegprompt.captions.base import Answered, Captioner
from eegprompt.captions.instruction import load_instruction
from eegprompt.core.errors import CaptionError, InputError, ModelLoadError, UnknownNameError
from eegprompt.core.kinds import parse_kinds
from eegprompt.core.model_hub import choose_device, fetch, load_errors, locate, quiet
from eegprompt.study import Study

if TYPE_CHECKING:
    from PIL import Image as PILImage

__all__ = ["LocalCaptioner"]

_WHAT = "captioner"
_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "model*.safetensors*"]
_DTYPES = ("auto", "float32", "float16", "bfloat16")
_BROKEN_AFTER = 20  # images in a row at which the model itself failed, after which the run ends


class LocalCaptioner(Captioner):
    """Asks a vision-language model on this machine for captions, a batch of images at a time.

    The model is loaded when the first image is asked for, not before: a look at what a run would
    take costs nothing.

    Parameters
    ----------
    model : str
        Folder in transformers' format, or a name on huggingface.co such as
        ``HuggingFaceTB/SmolVLM-256M-Instruct``.
    revision : str, optional
        Commit, tag or branch on the hub; the newest if left out. The commit is recorded.
    instruction : path-like, optional
        Instruction file; see :func:`~eegprompt.captions.instruction.load_instruction`.
    kinds : str or iterable of str, optional
        Default all; a file of kinds of one's own may be among them.
    side : int, default 512
        Images are reduced to at most so many pixels a side.
    batch_size : int, default 4
        Images at once. Halved, down to one, where the memory does not suffice.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    dtype : {'auto', 'float32', 'float16', 'bfloat16'}
        Of weights and arithmetic. ``auto`` is bfloat16 on a GPU that has it, else float16 there,
        and float32 elsewhere. It is recorded with the captions, for it can change them.
    max_tokens : int, default 600
        Longest answer.
    language : str or None, default "en"
        Refuse captions in another language; None (or ``any``) takes all.

    Raises
    ------
    InputError
        If an argument is out of range or the device is absent.
    ModelLoadError
        If the model is not there or may not be had.
    CaptionError
        If the instruction file cannot be read.
    """

    name = "local"
    sees_images = True

    def __init__(
        self,
        model: str | None,
        *,
        revision: str | None = None,
        instruction: str | Path | None = None,
        kinds: str | Sequence[str] | None = None,
        side: int = 512,
        batch_size: int = 4,
        device: str = "auto",
        dtype: str = "auto",
        max_tokens: int = 600,
        language: str | None = "en",
    ):
        if not model:
            raise InputError(
                "the captioner 'local' needs a model: local:MODEL, e.g. "
                "local:HuggingFaceTB/SmolVLM-256M-Instruct"
            )
        for what, value, low in (
            ("side", side, 16), ("batch_size", batch_size, 1), ("max_tokens", max_tokens, 1)
        ):  # fmt: skip
            if not isinstance(value, int) or value < low:
                raise InputError(f"{what} must be a whole number of at least {low}, got {value!r}")
        if dtype not in _DTYPES:
            raise UnknownNameError("dtype", str(dtype), _DTYPES)
        self._device = choose_device(device)
        self._dtype = _dtype_on(self._device) if dtype == "auto" else dtype
        # Only the settings are fetched here: they pin the version, which stands in the store.
        self._source = fetch(locate(str(model), _WHAT, revision), _WHAT, ["config.json"])
        folder = Path(str(model)).expanduser()
        self._is_folder = folder.is_dir()
        # A folder goes by its own name: moving it must not make another model of it.
        name = folder.resolve().name if self._is_folder else model
        self.model = f"{name}@{str(self._source.revision)[:19]}"
        self.kinds = parse_kinds(kinds)
        self.side, self.batch_size, self.max_tokens = side, batch_size, max_tokens
        self.language = None if language in (None, "any") else language
        self.instruction = load_instruction(instruction, self.kinds)
        self.prompt_version = f"{self.instruction.version}-image{side}-{self._dtype}"
        self.notes: list[str] = []
        self._network: Any = None
        self._processor: Any = None

    def estimate(self, study: Study, image_ids: Sequence[str]) -> dict[str, Any]:
        """What captioning these images will take: no request, no money, and the first question."""
        example = None
        if image_ids:
            source = image_sources(study)[image_ids[0]]
            example = {"model": self.model, "messages": self._question(source["label"])}
        return {"requests": 0, "tokens_in": 0, "tokens_out": 0, "cost": 0.0, "example": example}

    def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
        """Yield each image's id, its captions by kind, and why there are none (else None).

        Raises
        ------
        ModelLoadError
            If the model cannot be loaded or has no chat template.
        CaptionError
            If the model itself fails again and again.
        """
        self._load()
        self.notes = [f"{self._dtype} on {self._device}"]
        known = image_sources(study)
        repairs = in_a_row = 0
        waiting = list(image_ids)
        while waiting:
            chosen, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
            ready: list[tuple[str, PILImage.Image, list[dict[str, Any]]]] = []
            for image_id in chosen:
                source = known[image_id]
                if source["path"] is None:
                    yield image_id, {}, "the study has no image of this image"
                    continue
                try:
                    image = load_image(source["path"], self.side)
                except CaptionError as problem:
                    yield image_id, {}, str(problem)
                    continue
                ready.append((image_id, image, self._question(source["label"])))
            said = self._say([image for _, image, _ in ready], [talk for *_, talk in ready])
            read = [self._read(words) for words in said]
            again = [i for i, answer in enumerate(read) if isinstance(answer, Answer)
                     and answer.problems]  # fmt: skip
            if again:
                repairs += len(again)
                mended = self._say(
                    [ready[i][1] for i in again],
                    [
                        [
                            *ready[i][2],
                            _turn("assistant", said[i][0][:4000] or "(nothing)"),  # type: ignore[index]
                            _turn("user", repair_words(read[i])),  # type: ignore[arg-type]
                        ]
                        for i in again
                    ],
                )
                for i, words in zip(again, mended):
                    read[i] = self._read(words)
            for (image_id, *_), answer in zip(ready, read):
                if isinstance(answer, str):
                    in_a_row += 1
                    yield image_id, {}, answer
                    if in_a_row >= _BROKEN_AFTER:
                        raise CaptionError(
                            f"the model failed at {in_a_row} images in a row ({answer}); what was "
                            "finished is kept: mend this and run the same command again"
                        )
                    continue
                in_a_row = 0
                wrong = "; ".join(answer.problems)[:400]
                yield image_id, {} if wrong else answer.captions, wrong or None
        self.notes.append(f"{repairs} answers had to be mended")

    # -- the model -----------------------------------------------------------------------------
    def _load(self) -> None:
        if self._network is not None:
            return
        source = self._source
        if not self._is_folder:
            source = fetch(source, _WHAT, _FILES, again=True)
        folder = Path(source.folder or "")
        with load_errors(source.name, _WHAT), quiet():
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor

            try:
                processor = AutoProcessor.from_pretrained(folder)
            except ImportError as problem:
                raise ModelLoadError(
                    f"the captioner '{source.name}' needs packages of its own to read images; "
                    "pip install 'eegprompt[local]' with torchvision in the build that fits your "
                    f"torch ({' '.join(str(problem).split())[:160]})"
                ) from None
            tokenizer = getattr(processor, "tokenizer", None)
            if tokenizer is None or getattr(processor, "image_processor", None) is None:
                raise ModelLoadError(
                    f"the captioner '{source.name}' does not read both images and text; name a "
                    "vision-language model"
                )
            if not (getattr(processor, "chat_template", None) or tokenizer.chat_template):
                raise ModelLoadError(
                    f"the captioner '{source.name}' has no chat template; name a model that was "
                    "tuned to follow instructions (often called …-Instruct)"
                )
            processor.chat_template = processor.chat_template or tokenizer.chat_template
            tokenizer.padding_side = "left"  # answers begin where the questions end
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            key = "dtype" if _newer_than("4.56") else "torch_dtype"
            network: Any = AutoModelForImageTextToText.from_pretrained(
                folder, **{key: getattr(torch, self._dtype)}
            )
            network = network.to(self._device).eval()
            network.requires_grad_(False)
        self._processor, self._network = processor, network

    def _question(self, label: str) -> list[dict[str, Any]]:
        # In one turn: many templates know no system role.
        text = self.instruction.text
        if label:
            text += f"\n\nThe study calls the object {json.dumps(label, ensure_ascii=False)}."
        content = [{"type": "image"}, {"type": "text", "text": text}]
        return [{"role": "user", "content": content}]

    def _read(self, said: tuple[str, bool] | Exception) -> Answer | str:
        """An answer, or why the model gave none and would give none if asked again."""
        if isinstance(said, Exception):
            reason = " ".join(str(said).split())[:150]
            return f"the model failed ({type(said).__name__}: {reason})"
        text, cut = said
        answer = read_answer(text, self.kinds, self.language)
        if answer.problems and cut:
            return (
                f"the answer was cut off by max_tokens={self.max_tokens}; allow more with "
                f"-o max_tokens={4 * self.max_tokens}"
            )
        return answer

    def _say(
        self, images: Sequence[PILImage.Image], talks: Sequence[list[dict[str, Any]]]
    ) -> list[tuple[str, bool] | Exception]:
        """The model's words for each image and whether they were cut off, or the exception."""
        import torch

        if not images:
            return []
        try:
            return list(self._generate(images, talks))
        except torch.OutOfMemoryError as problem:
            failure: Exception = problem
            if len(images) > 1:
                self.batch_size = max(1, len(images) // 2)
                self.notes.append(f"memory did not suffice: {self.batch_size} images at once")
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
        except Exception as problem:  # processors refuse odd images in many ways
            failure = problem
        if len(images) == 1:
            return [failure]
        half = len(images) // 2  # so one image does not fail its neighbors
        return self._say(images[:half], talks[:half]) + self._say(images[half:], talks[half:])

    def _generate(
        self, images: Sequence[PILImage.Image], talks: Sequence[list[dict[str, Any]]]
    ) -> list[tuple[str, bool]]:
        import torch

        processor, network = self._processor, self._network
        texts = [
            processor.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
            for talk in talks
        ]
        inputs = processor(
            text=texts, images=[[image] for image in images], padding=True,
            return_tensors="pt",
        )  # fmt: skip
        inputs = {
            key: value.to(self._device, network.dtype if value.is_floating_point() else value.dtype)
            for key, value in inputs.items()
            if hasattr(value, "is_floating_point")
        }
        with torch.inference_mode(), quiet():
            out = network.generate(
                **inputs, max_new_tokens=self.max_tokens, do_sample=False,
                pad_token_id=processor.tokenizer.pad_token_id,
            )  # fmt: skip
        new = out[:, inputs["input_ids"].shape[1] :]
        ends = {processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id}
        of_model = getattr(network.generation_config, "eos_token_id", None)
        ends |= {*of_model} if isinstance(of_model, list) else {of_model}
        full = new.shape[1] >= self.max_tokens
        return [
            (text.strip(), full and int(row[-1]) not in ends)
            for row, text in zip(new, processor.batch_decode(new, skip_special_tokens=True))
        ]


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _dtype_on(device: Any) -> str:
    """The dtype that suits a device."""
    if device.type != "cuda":
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _newer_than(release: str) -> bool:
    """Whether transformers is of this release or a later one."""
    ours, asked = (tuple(int(p) for p in v.split(".")[:2]) for v in
                   (version("transformers"), release))  # fmt: skip
    return ours >= asked

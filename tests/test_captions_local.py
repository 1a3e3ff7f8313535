"""The captioner `local` on tiny vision-language models that are assembled on the spot.

Their weights are random, so what they say by themselves is nothing; where captions shall come
through, what the network computes for the next token is replaced by the token of a planted answer
that depends on the image it was given.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import tiny_models
from chat_server import good
from eegprompt.captions import local
from eegprompt.core.errors import CaptionError, InputError, ModelLoadError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.steps.caption import caption as write_captions
from eegprompt.steps.caption import estimate_captions, failed_captions
from eegprompt.study import Study

FAMILIES = {
    "llava": transformers.LlavaForConditionalGeneration,
    "idefics3": transformers.Idefics3ForConditionalGeneration,
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = str(request.param)
    return tiny_models.save_vlm(tmp_path_factory.mktemp("vlm") / family, family=family)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_vlm(tmp_path_factory.mktemp("vlm") / "llava")


@pytest.fixture
def study(small_study: Path) -> Study:
    return Study(small_study)


class Planted:
    """Puts `answer(image, asked_again)` into a model's mouth, token by token.

    Image i of the small study is i × 30 bright; `seen` keeps which images came together.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        family: str,
        answer: Callable[[int, bool], str] = lambda i, again: json.dumps(good(i)),
    ):
        self.seen: list[list[int]] = []
        self.device: Any = None
        self.dtype: Any = None
        tok = tiny_models.byte_tokenizer(
            *(("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
              if family == "idefics3" else ())
        )  # fmt: skip
        network = FAMILIES[family]
        forward, generate = network.forward, network.generate
        mean, std = (0.46, 0.27) if family == "llava" else (0.5, 0.5)  # of the processors

        def asked(module: Any, **inputs: Any) -> Any:
            pixels = inputs["pixel_values"]
            self.device, self.dtype = pixels.device, pixels.dtype
            values = pixels.float().flatten(1).mean(1) * std + mean
            images = [round(float(v) * 255 / 30) for v in values]
            again = [
                "This is not in order" in talk for talk in tok.batch_decode(inputs["input_ids"])
            ]
            self.seen.append(images)
            self.lines = [tok.encode(answer(i, a)) for i, a in zip(images, again)]
            self.step = 0
            return generate(module, **inputs)

        @functools.wraps(forward)  # `generate` reads the signature to know what the model takes
        def computed(module: Any, *args: Any, **inputs: Any) -> Any:
            out = forward(module, *args, **inputs)
            logits = torch.full_like(out.logits[:, -1:], -10.0)
            for row, line in enumerate(self.lines):
                token = line[self.step] if self.step < len(line) else tok.eos_token_id
                logits[row, 0, token] = 10.0
            self.step += 1
            out.logits = logits
            return out

        monkeypatch.setattr(network, "generate", asked)
        monkeypatch.setattr(network, "forward", computed)


def failures(study: Study) -> dict[str, str]:
    return {f["image_id"]: f["error"] for f in failed_captions(study, "local")}


def test_captions_come_through_and_each_to_its_image(
    study: Study, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(monkeypatch, model.name)
    spec = f"local:{model}"
    write_captions(study, spec, max_images=3, batch_size=2)
    assert planted.seen == [[0, 1], [2]]
    path = write_captions(study, spec, batch_size=3)  # goes on; nothing is asked twice
    assert planted.seen[2:] == [[3, 4, 5], [6, 7]]
    table = study.captions(path.stem)
    expected = {(f"img-{i}", kind, text) for i in range(8) for kind, text in good(i).items()}
    assert set(zip(table["image_id"], table["kind"], table["text"])) == expected
    row = table.iloc[0]
    assert row["captioner"] == "local" and row["model"].startswith(f"{model.name}@folder-")
    assert row["prompt_version"].endswith("-image512-float32")
    assert planted.device.type == "cpu" and planted.dtype == torch.float32
    assert str(model.parent) not in path.with_suffix(".json").read_text()


def test_the_dtype_is_what_was_asked_for(
    study: Study, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(monkeypatch, "llava", lambda i, again: json.dumps(good(0)))
    table = study.captions(
        write_captions(study, f"local:{llava}", dtype="bfloat16", max_images=1, kinds="low").stem
    )
    assert planted.dtype == torch.bfloat16 and set(table["prompt_version"].str[-8:]) == {"bfloat16"}
    assert len(table) == 3


def test_random_weights_are_recorded_as_failures(study: Study, model: Path) -> None:
    with pytest.raises(CaptionError, match="all 8 images it was asked for failed"):
        write_captions(study, f"local:{model}", max_tokens=12)
    reasons = failures(study) or {
        f["image_id"]: f["error"] for f in _journal_of(study, "local") if "error" in f
    }
    assert set(reasons) == {f"img-{i}" for i in range(8)}
    assert all("the answer" in reason for reason in reasons.values())


def _journal_of(study: Study, name: str) -> list[Any]:
    lines = (study.path / "captions" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_answers_are_mended_once_and_bad_images_stop_nothing(
    study: Study, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(i: int, again: bool) -> str:
        if i == 1 and not again:
            return json.dumps({**good(1), "MoodFeel": ""})
        if i == 2:
            return "I'm sorry, I can't help with that."
        return "Here it is:\n```json\n" + json.dumps(good(i)) + "\n```"

    study.image_path("img-4").write_bytes(b"no image")
    study.image_path("img-5").unlink()
    planted = Planted(monkeypatch, "llava", answer)
    table = study.captions(write_captions(study, f"local:{llava}", batch_size=8).stem)
    assert set(table["image_id"]) == {f"img-{i}" for i in (0, 1, 3, 6, 7)} and len(table) == 50
    assert planted.seen == [[0, 1, 2, 3, 6, 7], [1, 2]]
    reasons = failures(study)
    assert set(reasons) == {"img-2", "img-4", "img-5"} and "is a refusal" in reasons["img-2"]
    planted.seen.clear()
    answers = {2: json.dumps(good(2))}
    Planted(monkeypatch, "llava", lambda i, again: answers[i])  # asks for image 2 alone, or fails
    table = study.captions(write_captions(study, f"local:{llava}", retry_failed=True).stem)
    assert table["image_id"].nunique() == 6 and set(failures(study)) == {"img-4", "img-5"}


def test_too_little_memory_halves_the_batch_and_a_failing_image_fails_alone(
    study: Study, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(monkeypatch, "llava")
    generate = local.LocalCaptioner._generate

    def tight(self: Any, images: Any, talks: Any) -> list[tuple[str, bool]]:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(p.getpixel((0, 0))[0] == 5 * 30 for p in images):
            raise ValueError("odd image")
        return generate(self, images, talks)

    monkeypatch.setattr(local.LocalCaptioner, "_generate", tight)
    captioner = local.LocalCaptioner(str(llava), batch_size=8)
    table = study.captions(write_captions(study, captioner).stem)
    assert set(table["image_id"]) == {f"img-{i}" for i in range(8)} - {"img-5"}
    assert failures(study) == {"img-5": "the model failed (ValueError: odd image)"}
    assert captioner.batch_size == 2 and max(map(len, planted.seen)) == 2
    monkeypatch.setattr(local, "_BROKEN_AFTER", 1)
    with pytest.raises(CaptionError, match="failed at 1 images in a row"):
        write_captions(study, captioner, retry_failed=True)


def test_what_cannot_caption_is_refused(
    study: Study, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, problem, said in (
        ({"dtype": "float8"}, UnknownNameError, "dtype"),
        ({"batch_size": 0}, InputError, "batch_size must be"),
        ({"device": "cuda:99"}, InputError, "cannot be used here"),
    ):
        with pytest.raises(problem, match=said):
            local.LocalCaptioner(str(llava), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a model"):
        local.LocalCaptioner(None)
    with pytest.raises(ModelLoadError, match="does not exist"):
        local.LocalCaptioner("./nowhere")
    bare = tiny_models.save_vlm(tmp_path / "bare", template=False)
    with pytest.raises(ModelLoadError, match="no chat template"):
        write_captions(study, f"local:{bare}")
    clip = tiny_models.save_clip(tmp_path / "clip")
    with pytest.raises(ModelLoadError, match="clip"):
        write_captions(study, f"local:{clip}")

    def absent(*args: Any, **options: Any) -> Any:
        raise ImportError("requires the Torchvision library")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", absent)
    with pytest.raises(ModelLoadError, match=r"pip install 'eegprompt\[local\]'.*Torchvision"):
        write_captions(study, f"local:{llava}")


def test_a_look_ahead_loads_nothing(study: Study, llava: Path) -> None:
    captioner = local.LocalCaptioner(str(llava))
    facts = estimate_captions(study, captioner)
    assert captioner._network is None and facts["images"] == 8 and facts["requests"] == 0
    text = facts["example"]["messages"][0]["content"][1]["text"]
    assert '"house"' in text and all(kind.instruction in text for kind in KINDS.values())


def test_an_answer_that_was_cut_off_is_not_asked_for_again(
    study: Study, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = json.dumps(dict.fromkeys(("ObjectSnap",), "a house"))

    def answer(i: int, again: bool) -> str:
        return short if i == 1 else "<think>" + "so " * 50 if i == 2 else short + " " * 200

    planted = Planted(monkeypatch, "llava", answer)
    path = write_captions(
        study, f"local:{llava}", kinds="ObjectSnap", max_tokens=60, max_images=4, batch_size=4
    )
    # What was whole before the cut counts; the one that was still thinking fails at once.
    assert planted.seen == [[0, 1, 2, 3]]
    assert set(study.captions(path.stem)["image_id"]) == {"img-0", "img-1", "img-3"}
    assert "max_tokens=240" in failures(study)["img-2"]

"""What goes wrong with a generator: no memory, a blanked image, values that are not finite."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models
from eegprompt.core.errors import InputError, ModelLoadError
from eegprompt.generators import load_generator
from eegprompt.generators.diffusers import DiffusersGenerator

SMALL: dict[str, Any] = {"steps": 1, "height": 16, "width": 16, "device": "cpu"}
PROMPTS = [f"a {color} {thing}" for color in ("red", "blue") for thing in ("cat", "dog", "zebra")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return tiny_models.save_pipeline(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def checked(tmp_path_factory, plain) -> Path:
    """A pipeline with a safety checker that finds fault with everything."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    from eegprompt.core.files import read_json, write_json

    folder = shutil.copytree(plain, tmp_path_factory.mktemp("models") / "checked")
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": 8,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-1.0)
        checker.special_care_embeds_weights.fill_(2.0)
    checker.save_pretrained(folder / "safety_checker")
    side = {"height": 16, "width": 16}
    CLIPImageProcessor(crop_size=side, size={"shortest_edge": 16}).save_pretrained(
        folder / "feature_extractor"
    )
    index = read_json(folder / "model_index.json")
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["requires_safety_checker"] = True
    write_json(folder / "model_index.json", index)
    return folder


# -- memory ---------------------------------------------------------------------------------------
def out_of_memory(generator: DiffusersGenerator, monkeypatch, fits: int, error: Any = None) -> list:
    """Let calls of the pipeline with more than so many images run out of memory."""
    import torch

    generator.load()
    kind = type(generator._pipeline)
    real, sizes = kind.__call__, []

    def call(self, *args, prompt, **more):
        sizes.append(len(prompt))
        if len(prompt) > fits:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(self, *args, prompt=prompt, **more)

    # There is nothing to be freed here, and looking for it takes seconds.
    monkeypatch.setattr("eegprompt.generators.batching.free_memory", lambda: None)
    # The settings that a call takes are read from its signature.
    call.__wrapped__ = real  # type: ignore[attr-defined]
    monkeypatch.setattr(kind, "__call__", call)
    return sizes


@pytest.mark.parametrize(
    "error",
    [
        None,
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GiB)"),
        # Where Sana's decoder runs out of memory, its pipeline warns and trips over that.
        UnboundLocalError("cannot access local variable 'image' where it is not associated"),
    ],
)
def test_too_large_a_batch_gives_smaller_ones_and_the_same_images(plain, monkeypatch, error):
    expected = DiffusersGenerator(str(plain), **SMALL, batch_size=2).generate(PROMPTS, range(6))
    generator = DiffusersGenerator(str(plain), **SMALL, batch_size=8)
    sizes = out_of_memory(generator, monkeypatch, fits=2, error=error)
    assert np.array_equal(generator.generate(PROMPTS, range(6)), expected)
    assert sizes == [8, 4, 2, 2, 2] and generator.batch_size == 2
    assert "2 images are drawn at a time" in generator.notes[-1]
    assert generator.settings["batch_size"] == 2


def test_what_does_not_fit_at_all_is_said(plain, monkeypatch):
    generator = DiffusersGenerator(str(plain), **SMALL, batch_size=4)
    sizes = out_of_memory(generator, monkeypatch, fits=0)
    with pytest.raises(InputError, match="does not fit into memory with one image at a time; use"):
        generator.generate(PROMPTS, range(6))
    assert sizes == [4, 2, 1]


def test_on_a_gpu_parts_are_offloaded_before_giving_up(plain, monkeypatch):
    import torch

    generator = DiffusersGenerator(str(plain), **SMALL, batch_size=2)
    out_of_memory(generator, monkeypatch, fits=0)
    generator._device = torch.device("cuda")  # after loading: there is none here
    asked = []
    kind = type(generator._pipeline)
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        monkeypatch.setattr(kind, name, lambda self, device, name=name: asked.append(name))
    with pytest.raises(InputError, match="and its parts offloaded; use a smaller height"):
        generator.generate(PROMPTS[:1], [0])
    assert asked == ["enable_model_cpu_offload", "enable_sequential_cpu_offload"]
    assert generator.settings["running"]["offload"] == "sequential"


def test_a_pipeline_that_does_not_fit_whole_is_loaded_in_parts(plain, monkeypatch):
    import diffusers
    import torch

    generator = DiffusersGenerator(str(plain), **SMALL)
    generator._device = torch.device("cuda")
    asked = []

    def to(self, *args, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    kind = diffusers.StableDiffusionPipeline
    monkeypatch.setattr(kind, "to", to)
    monkeypatch.setattr(
        kind, "enable_model_cpu_offload", lambda self, device: asked.append(device.type)
    )
    generator.load()
    assert asked == ["cuda"] and "parts are offloaded" in generator.notes[0]
    monkeypatch.setattr(kind, "enable_model_cpu_offload", to)
    again = DiffusersGenerator(str(plain), **SMALL)
    again._device = torch.device("cuda")
    with pytest.raises(ModelLoadError, match="does not fit into memory"):
        again.load()


def test_offload_and_other_ways_to_run_are_asked_for(plain, monkeypatch):
    import torch

    with pytest.raises(InputError, match="offload needs a GPU"):
        DiffusersGenerator(str(plain), **SMALL, offload="model")
    with pytest.raises(InputError, match="did you mean 'model'"):
        DiffusersGenerator(str(plain), **SMALL, offload="modle")
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compiled.append((type(self).__name__, how))
    )
    generator = DiffusersGenerator(
        str(plain), **SMALL, vae_slicing=True, vae_tiling=True, compile="max-autotune", batch_size=2
    )
    images = generator.generate(PROMPTS[:2], [1, 2])
    assert compiled == [
        ("UNet2DConditionModel", {"mode": "max-autotune"}),
        ("Decoder", {"mode": "max-autotune"}),
    ]
    vae = generator._pipeline.vae
    assert vae.use_slicing and vae.use_tiling
    usual = DiffusersGenerator(str(plain), **SMALL, batch_size=2).generate(PROMPTS[:2], [1, 2])
    assert np.abs(images.astype(int) - usual).max() <= 1
    running = generator.settings["running"]
    assert running["compile"] == "max-autotune" and running["vae_tiling"] is True


# -- the safety checker ---------------------------------------------------------------------------
def test_the_safety_checker_is_left_out_unless_asked_for(checked):
    generator = DiffusersGenerator(str(checked), **SMALL)
    assert generator.generate(["a cat"], [0]).any() and generator.blanked == [False]
    assert generator.settings["safety_checker"] == "off"


def test_a_image_that_the_checker_blanked_is_marked(checked):
    generator = DiffusersGenerator(str(checked), **SMALL, safety_checker=True, batch_size=2)
    images = generator.generate(PROMPTS[:3], [0, 1, 2])
    assert not images.any() and generator.blanked == [True] * 3
    assert generator.settings["safety_checker"] == "on"


# -- values that are not finite -------------------------------------------------------------------
def test_not_finite_in_half_precision_names_the_remedy(plain):
    import torch

    generator = DiffusersGenerator(str(plain), **SMALL, batch_size=2)
    generator.load()
    with torch.no_grad():
        generator._pipeline.vae.decoder.conv_out.bias[0] = float("nan")
    generator.dtype = "float16"  # as it would be on a GPU; a CPU is not to compute in it
    with pytest.raises(
        ModelLoadError, match=r"not finite in float16 .*use dtype float32 or bfloat16"
    ):
        generator.generate(["a cat", "a dog"], [0, 1])


def test_bfloat16_draws(plain):
    generator = DiffusersGenerator(str(plain), **SMALL, dtype="bfloat16", batch_size=2)
    images = generator.generate(PROMPTS[:3], [0, 1, 2])
    usual = DiffusersGenerator(str(plain), **SMALL, batch_size=2).generate(PROMPTS[:3], [0, 1, 2])
    assert 0 < np.abs(images.astype(int) - usual).mean() < 8


# -- arguments of the pipeline's own --------------------------------------------------------------
def test_more_arguments_go_to_the_pipeline_if_it_takes_them(plain):
    guided = {**SMALL, "guidance": 7.0}
    usual = DiffusersGenerator(str(plain), **guided).generate(["a cat"], [0])
    generator = DiffusersGenerator(str(plain), **guided, extra={"guidance_rescale": 0.9})
    assert not np.array_equal(generator.generate(["a cat"], [0]), usual)
    assert generator.settings["extra"] == {"guidance_rescale": 0.9}
    embeds = generator.embed_prompts(["a cat"])
    again = generator.generate_from_embeddings(embeds, [0])
    assert np.array_equal(again, generator.generate(["a cat"], [0]))
    with pytest.raises(InputError, match="did you mean 'clip_skip'"):
        DiffusersGenerator(str(plain), **SMALL, extra={"clip_skp": 1}).generate(["a"], [0])
    with pytest.raises(InputError, match="unknown argument of StableDiffusionPipeline 'latents'"):
        DiffusersGenerator(str(plain), **SMALL, extra={"latents": 1}).generate(["a"], [0])


# -- models that cannot be had --------------------------------------------------------------------
class Response:
    """As much of a server's response as the hub's errors look at."""

    def __init__(self, status: int):
        self.status_code = status
        self.headers: dict[str, str] = {}
        self.request = None


def hub_error(kind: str) -> Exception:
    import huggingface_hub.errors as errors

    status = {"GatedRepoError": 403, "RevisionNotFoundError": 404}.get(kind, 401)
    return getattr(errors, kind)("what the hub says", response=Response(status))


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("GatedRepoError", "is gated; agree to its terms .*hf auth login"),
        ("RepositoryNotFoundError", r"is not on huggingface.co, or is private; check the spelling"),
        ("RevisionNotFoundError", "has no such revision"),
        ("OfflineModeIsEnabled", "is not on this machine and huggingface.co cannot be reached"),
        ("ConnectionError", "is not on this machine and huggingface.co cannot be reached"),
    ],
)
def test_a_model_that_cannot_be_had_is_said_in_one_sentence(monkeypatch, kind, match):
    import huggingface_hub

    def refuse(*args, **more):
        if kind == "ConnectionError":
            raise ConnectionError("no route")
        if kind == "OfflineModeIsEnabled":
            raise huggingface_hub.errors.OfflineModeIsEnabled("offline")
        raise hub_error(kind)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(ModelLoadError, match=match) as problem:
        load_generator("diffusers:stabilityai/sdxl-turbo", device="cpu")
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 300


def test_weights_that_may_not_be_had_are_said_too(monkeypatch, plain):
    """Of a gated model the hub tells name and version, and refuses the files."""
    import diffusers
    import huggingface_hub

    class Info:
        sha = "c0ffee"

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: Info())

    def refuse(*args, **more):
        raise hub_error("GatedRepoError")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelLoadError, match="is gated"):
        load_generator("diffusers:black-forest-labs/FLUX.1-dev", device="cpu")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(plain))
    generator = load_generator("diffusers:owner/name", **SMALL)
    assert generator.revision == "c0ffee"
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", refuse)
    with pytest.raises(ModelLoadError, match="'owner/name' is gated"):
        generator.generate(["a cat"], [0])


def test_what_gives_no_images_or_fails_is_said(plain, monkeypatch):
    from diffusers.utils import BaseOutput

    class Film(BaseOutput):
        frames: Any

    generator = DiffusersGenerator(str(plain), **SMALL)
    generator.load()
    kind = type(generator._pipeline)
    monkeypatch.setattr(kind, "__call__", lambda self, **more: Film(frames=[1]))
    with pytest.raises(ModelLoadError, match="gives frames, not images"):
        generator.generate(["a cat"], [0])

    def broken(self, **more):
        raise AttributeError("'CLIPTextModel' object has no attribute 'x'")

    monkeypatch.setattr(kind, "__call__", broken)
    with pytest.raises(ModelLoadError, match=r"fails while it draws \(AttributeError"):
        generator.generate(["a cat"], [0])

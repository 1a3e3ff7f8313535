"""Generators: an image depends on its prompt and seed alone; nothing is cut or blanked silently."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from eegprompt.builtin.models import pipeline_folder, read_defaults
from eegprompt.core.errors import InputError, ModelLoadError, TokenBudgetError, UnknownNameError
from eegprompt.generators import load_generator
from eegprompt.generators.base import Generator
from eegprompt.generators.diffusers import DiffusersGenerator
from eegprompt.generators.model_defaults import distilled_defaults

PROMPTS = ["a cat", "a red dog", "hello, there", "zebra", "a"]
SEEDS = [3, 1, 4, 1, 5]
SMALL = {"steps": 2, "height": 16, "width": 16, "device": "cpu"}


@pytest.fixture(scope="module", params=["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def folder(request, tmp_path_factory) -> Path:
    """Pipelines without and with randomness in their steps."""
    place = tmp_path_factory.mktemp("models") / request.param
    return tiny_models.save_pipeline(place, scheduler=request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return tiny_models.save_pipeline(tmp_path_factory.mktemp("models") / "plain")


def levels(a: np.ndarray, b: np.ndarray) -> int:
    """Largest difference of two images in gray levels."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# -- images -------------------------------------------------------------------------------------
def test_a_image_does_not_change_with_order_or_with_how_many_are_asked_for(folder):
    generator = DiffusersGenerator(str(folder), **SMALL, batch_size=3)
    assert isinstance(generator, Generator)
    all_at_once = generator.generate(PROMPTS, SEEDS)
    assert all_at_once.shape == (5, 16, 16, 3) and all_at_once.dtype == np.uint8
    assert np.array_equal(generator.generate(PROMPTS[::-1], SEEDS[::-1])[::-1], all_at_once)
    one_by_one = [generator.generate([p], [s])[0] for p, s in zip(PROMPTS, SEEDS)]
    assert np.array_equal(np.stack(one_by_one), all_at_once)
    fresh = DiffusersGenerator(str(folder), **SMALL, batch_size=3)
    assert np.array_equal(fresh.generate(PROMPTS[2:], SEEDS[2:]), all_at_once[2:])


def test_another_batch_size_changes_rounding_at_most(folder):
    one = DiffusersGenerator(str(folder), **SMALL, batch_size=1).generate(PROMPTS, SEEDS)
    four = DiffusersGenerator(str(folder), **SMALL, batch_size=4).generate(PROMPTS, SEEDS)
    assert levels(one, four) <= 1


def test_images_are_those_of_the_pipeline_itself(folder):
    import diffusers
    import torch

    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    ours = DiffusersGenerator(str(folder), **SMALL, guidance=3.0).generate(PROMPTS[:2], [7, 8])
    for prompt, seed, image in zip(PROMPTS, (7, 8), ours):
        plain = pipeline(
            prompt,
            num_inference_steps=2,
            guidance_scale=3.0,
            height=16,
            width=16,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        assert levels(np.asarray(plain), image) <= 1


def test_seed_and_prompt_both_matter(plain):
    generator = DiffusersGenerator(str(plain), **SMALL, guidance=7.0)
    a, b, c, d = generator.generate(["a cat", "a cat", "zebra", "a cat"], [1, 2, 1, 1])
    assert levels(a, b) > 5 and levels(a, c) > 0 and np.array_equal(a, d)
    assert generator.generate([], []).shape[0] == 0


def test_settings_are_recorded(plain):
    generator = load_generator(f"diffusers:{plain}", **SMALL)
    settings = generator.settings
    assert settings["steps"] == 2 and settings["dtype"] == "float32"
    assert settings["pipeline"] == "StableDiffusionPipeline"
    assert settings["scheduler"] == "DDIMScheduler" and settings["safety_checker"] == "off"
    assert settings["revision"] == generator.revision and generator.revision.startswith("folder-")
    assert json.loads(json.dumps(settings)) == settings
    generator.load()
    assert generator._pipeline.safety_checker is None


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("stabilityai/sdxl-turbo", {"steps": 1, "guidance": 0.0, "height": 512, "width": 512}),
        ("stabilityai/sd-turbo/", {"steps": 1, "guidance": 0.0, "height": 512, "width": 512}),
        ("stabilityai/stable-diffusion-3.5-large-turbo", {"steps": 4, "guidance": 0.0}),
        ("black-forest-labs/FLUX.1-schnell", {"steps": 4, "guidance": 0.0}),
        ("Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers", {"steps": 2}),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", {}),
        ("black-forest-labs/FLUX.1-dev", {}),
    ],
)
def test_distilled_models_are_known_by_name(name, settings):
    assert distilled_defaults(name) == settings


def test_what_the_user_sets_wins_over_the_name(tmp_path):
    folder = tiny_models.save_pipeline(tmp_path / "tiny-sd-turbo")
    generator = DiffusersGenerator(str(folder), height=16, width=16)
    assert generator.settings["steps"] == 1 and generator.settings["guidance"] == 0.0
    assert generator.settings["height"] == 16
    assert generator.generate(["a cat"], [0]).shape == (1, 16, 16, 3)


# -- tokens ---------------------------------------------------------------------------------------
def test_tokens_are_counted_by_the_pipelines_own_tokenizer(plain):
    generator = DiffusersGenerator(str(plain), **SMALL)
    assert generator.max_tokens == 77
    for text in ("a cat", "xyz, a red dog", "a " * 90):
        assert generator.count_tokens(text) == len(tiny_models.tokenizer()(text)["input_ids"])
    assert generator._pipeline is None  # counting loads no weights


def test_of_two_tokenizers_the_stricter_counts(tmp_path, plain):
    import shutil

    folder = shutil.copytree(plain, tmp_path / "two")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    tiny_models.tokenizer(20).save_pretrained(folder / "tokenizer_2")
    assert DiffusersGenerator(str(folder)).max_tokens == 20


def test_prompts_that_cannot_be_drawn_are_refused(plain):
    generator = DiffusersGenerator(str(plain), **SMALL)
    with pytest.raises(TokenBudgetError, match=r"prompt 1 has 78 tokens, but .* reads 77"):
        generator.generate(["a cat", "a " * 76], [1, 2])
    with pytest.raises(InputError, match="prompt 0 is empty"):
        generator.generate([" "], [1])
    with pytest.raises(InputError, match="need as many seeds"):
        generator.generate(["a cat"], [1, 2])
    with pytest.raises(InputError, match="a seed must lie in"):
        generator.generate(["a cat"], [-1])


# -- what can go wrong ----------------------------------------------------------------------------
def test_values_that_are_not_finite_are_an_error_not_a_black_image(plain):
    import torch

    generator = DiffusersGenerator(str(plain), **SMALL)
    generator.load()
    with torch.no_grad():
        generator._pipeline.unet.conv_out.bias[0] = float("nan")
    with pytest.raises(ModelLoadError, match="not finite in float32"):
        generator.generate(["a cat"], [0])


def test_a_round_trip_takes_8_bits_and_no_parts_of_one(plain):
    generator = DiffusersGenerator(str(plain), **SMALL)
    white = np.ones((1, 16, 16, 3))
    assert generator.round_trip((white * 255).astype(np.uint8)).shape == (1, 16, 16, 3)
    with pytest.raises(InputError, match="uint8"):
        generator.round_trip(white.astype(np.float32))  # each value would be 1 of 255: black


def test_settings_that_do_not_fit_are_refused(plain):
    with pytest.raises(UnknownNameError, match="did you mean 'float16'"):
        DiffusersGenerator(str(plain), dtype="flaot16")
    for wrong in (0, "abc"):
        with pytest.raises(InputError, match="steps must be a whole number of at least 1"):
            DiffusersGenerator(str(plain), steps=wrong)
    with pytest.raises(InputError, match="guidance must be a number"):
        DiffusersGenerator(str(plain), guidance="abc")
    with pytest.raises(InputError, match="'diffusers': 'stepps'; did you mean 'steps'"):
        load_generator(f"diffusers:{plain}", stepps=2)
    with pytest.raises(InputError, match="refuses to draw"):
        DiffusersGenerator(str(plain), height=17, width=17, steps=1).generate(["a"], [0])
    with pytest.raises(UnknownNameError, match="unknown device"):
        DiffusersGenerator(str(plain), device="gpu")
    with pytest.raises(InputError, match="needs a name or a folder"):
        load_generator("diffusers")
    with pytest.raises(UnknownNameError, match="did you mean 'diffusers:MODEL'"):
        load_generator("difusers:x")


def test_models_that_are_not_there_or_draw_no_text_are_refused(tmp_path, plain):
    import diffusers

    with pytest.raises(ModelLoadError, match="cannot be reached"):
        DiffusersGenerator("stabilityai/sdxl-turbo")
    with pytest.raises(ModelLoadError, match="does not exist"):
        DiffusersGenerator(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"no model_index\.json"):
        DiffusersGenerator(str(tmp_path / "empty"))
    unconditional = diffusers.DDPMPipeline(
        diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
        ),
        diffusers.DDPMScheduler(),
    )
    unconditional.save_pretrained(tmp_path / "unconditional")
    with pytest.raises(ModelLoadError, match="no tokenizer, so it draws no images from text"):
        DiffusersGenerator(str(tmp_path / "unconditional"))


def test_half_a_pipeline_is_refused(tmp_path, plain):
    import shutil

    folder = shutil.copytree(plain, tmp_path / "half")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelLoadError, match="check that it is complete"):
        DiffusersGenerator(str(folder), **SMALL).generate(["a cat"], [0])


def test_a_pipeline_on_the_hub_is_downloaded_at_the_pinned_commit(monkeypatch, plain):
    import diffusers

    from eegprompt.core.model_hub import Source

    monkeypatch.setattr(
        "eegprompt.generators.diffusers.fetch",
        lambda source, what, patterns: Source(source.name, plain, "c0ffee"),
    )
    asked = []

    def download(name, *, revision, variant):
        asked.append((name, revision, variant))
        if variant == "fp16":
            raise ValueError("no such variant")
        return str(plain)

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", download)
    generator = DiffusersGenerator("owner/name", **SMALL)
    generator.load()
    assert asked == [("owner/name", "c0ffee", None)] and generator.revision == "c0ffee"
    asked.clear()
    DiffusersGenerator("owner/name", **SMALL, dtype="float16").load()
    assert asked == [("owner/name", "c0ffee", "fp16"), ("owner/name", "c0ffee", None)]


def test_files_in_half_precision_are_read_where_there_are_no_others(tmp_path, plain):
    import shutil

    folder = shutil.copytree(plain, tmp_path / "half")
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    ours = DiffusersGenerator(str(folder), **SMALL).generate(["a cat"], [0])
    assert levels(ours, DiffusersGenerator(str(plain), **SMALL).generate(["a cat"], [0])) == 0


# -- the built-in one -----------------------------------------------------------------------------
def test_the_builtin_defaults_are_those_it_was_made_for():
    from eegprompt.builtin.paths import GENERATION_DEFAULTS as made_for

    names = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
    assert {names.get(k, k): v for k, v in read_defaults().items()} == made_for


def test_the_builtin_generator_draws_fast_enough_and_independently():
    try:
        pipeline_folder()
    except ModelLoadError:
        pytest.skip("the built-in weights are not there")
    generator = load_generator("builtin", device="cpu")
    prompts = ["a red cat", "a blue house", "a dog on a sandy beach", "an apple", "a car"]
    began = time.process_time()
    images = generator.generate(prompts, range(5))
    assert time.process_time() - began < 30  # of one core, on any machine
    assert images.shape == (5, 64, 64, 3) and images.std() > 10
    assert np.array_equal(generator.generate(prompts[3:], [3, 4]), images[3:])

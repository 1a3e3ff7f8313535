"""Every family of pipelines, through its real classes: loaded by name, budgets, batches, seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_pipelines
from eegprompt.core.errors import InputError, ModelLoadError, TokenBudgetError
from eegprompt.generators import load_generator
from eegprompt.generators.base import Generator
from eegprompt.generators.diffusers import DiffusersGenerator

ALL = list(tiny_pipelines.FAMILIES)
# The class that draws it, the most tokens it reads, and those of T5 or the language model.
EXPECTED: dict[str, tuple[str, int, int | None]] = {
    "sd15": ("StableDiffusionPipeline", 77, None),
    "sd21": ("StableDiffusionPipeline", 77, None),
    "sd-turbo": ("StableDiffusionPipeline", 77, None),
    "sdxl": ("StableDiffusionXLPipeline", 77, None),
    "sdxl-turbo": ("StableDiffusionXLPipeline", 77, None),
    "sd35": ("StableDiffusion3Pipeline", 77, 256),
    "flux": ("FluxPipeline", 77, 512),
    "schnell": ("FluxPipeline", 77, 256),
    "sana": ("SanaPipeline", 299, 299),
    "pixart-alpha": ("PixArtAlphaPipeline", 120, 120),
    "pixart-sigma": ("PixArtSigmaPipeline", 300, 300),
}
PROMPTS = ["a cat", "a red dog", "zebra on the beach", "a house"]
SEEDS = [3, 1, 4, 1]


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("families")
    return {family: tiny_pipelines.save(family, place / f"{i}") for i, family in enumerate(ALL)}


def options(family: str, **more: Any) -> dict[str, Any]:
    """Small images in few steps."""
    side = 32 if family == "sana" else 16
    given: dict[str, Any] = {"steps": 2, "height": side, "width": side, "device": "cpu"}
    if family in ("sana", "pixart-alpha", "pixart-sigma"):
        given["extra"] = {"use_resolution_binning": False}
    if family == "sana":  # its own instruction has a thousand letters, which are tokens here
        given["extra"]["complex_human_instruction"] = ["look at: "]
    return {**given, **more}


def load(folders: dict[str, Path], family: str, **more: Any) -> DiffusersGenerator:
    generator = load_generator(f"diffusers:{folders[family]}", **options(family, **more))
    assert isinstance(generator, DiffusersGenerator)
    return generator


def levels(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("family", ALL)
def test_a_image_is_its_prompts_and_its_seeds_whatever_is_drawn_beside_it(folders, family):
    generator = load(folders, family, batch_size=3)
    assert isinstance(generator, Generator)
    kind, budget, longer = EXPECTED[family]
    assert generator.settings["pipeline"] == kind and generator.max_tokens == budget
    others = [r for r in generator._budget.readers if "CLIP" not in type(r.tokenizer).__name__]
    assert [r.limit for r in others] == ([longer] if longer else [])
    images = generator.generate(PROMPTS, SEEDS)
    side = 32 if family == "sana" else 16
    assert images.shape == (4, side, side, 3) and images.dtype == np.uint8
    assert images.std() > 3
    assert np.array_equal(generator.generate(PROMPTS[::-1], SEEDS[::-1])[::-1], images)
    assert np.array_equal(generator.generate(PROMPTS[2:3], SEEDS[2:3])[0], images[2])
    alone = load(folders, family, batch_size=1).generate(PROMPTS, SEEDS)
    assert levels(alone, images) <= 1
    other = generator.generate(PROMPTS[:1], [SEEDS[0] + 1])[0]
    assert levels(other, images[0]) > 5
    assert generator.blanked == [False]


@pytest.mark.parametrize("family", ALL)
def test_images_are_those_of_the_pipeline_itself(folders, family):
    import diffusers
    import torch

    pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(folders[family])
    pipeline.set_progress_bar_config(disable=True)
    given = options(family, guidance=3.0)
    given.get("extra", {}).pop("complex_human_instruction", None)  # here with its own
    generator = DiffusersGenerator(str(folders[family]), **given)
    ours = generator.generate(["a red dog"], [7])[0]
    plain = pipeline(
        "a red dog",
        num_inference_steps=2,
        guidance_scale=3.0,
        height=given["height"],
        width=given["width"],
        generator=torch.Generator("cpu").manual_seed(7),
        **given.get("extra", {}),
    ).images[0]
    assert levels(np.asarray(plain), ours) <= 1


def words(generator: DiffusersGenerator, n_tokens: int, last: str) -> str:
    """A prompt of exactly so many tokens that ends in a word of one token."""
    text = last
    while generator.count_tokens("a " + text) <= n_tokens:
        text = "a " + text
    if generator.count_tokens(text) < n_tokens:  # of letters, a word takes two with its space
        text = "aa " + text[2:]
    assert generator.count_tokens(text) == n_tokens
    return text


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd35", "flux", "sana", "pixart-alpha"])
def test_the_last_token_of_the_budget_is_read_and_one_more_is_refused(folders, family):
    """What the pipeline makes of two prompts that differ in their last word only."""
    import torch

    generator = load(folders, family)
    generator.load()
    assert generator.max_tokens is not None

    def read(text: str) -> list[torch.Tensor]:
        arguments = dict(generator._encoder._fixed)
        if family in ("sd35", "flux"):
            arguments["prompt_2"] = [text]
        if family == "sd35":
            arguments["prompt_3"] = [text]
        with torch.inference_mode():
            out = generator._pipeline.encode_prompt(prompt=[text], **arguments)
        return [x for x in out if torch.is_tensor(x)]

    def differ(n_tokens: int) -> list[bool]:
        ends = ("b", "c") if family == "sana" else ("cat", "dog")
        one, two = (read(words(generator, n_tokens, end)) for end in ends)
        return [not torch.equal(x, y) for x, y in zip(one, two)]

    fits, over = differ(generator.max_tokens), differ(generator.max_tokens + 1)
    assert fits[0]
    if family == "flux":  # T5 reads on, CLIP's pooled embedding does not
        assert fits[1] and over[0] and not over[1]
    elif family != "sd35":  # whose T5 reads on
        assert not over[0]
    with pytest.raises(TokenBudgetError, match=r"reads \d+; shorten it"):
        generator.generate([words(generator, generator.max_tokens + 1, "a")], [0])


@pytest.mark.parametrize("family", ALL)
def test_drawing_from_embeddings_is_drawing_from_words(folders, family):
    generator = load(folders, family, batch_size=2, guidance=3.0)
    assert generator.supports_embeddings
    embeds = generator.embed_prompts(PROMPTS[:3])
    assert all(len(value) == 3 for value in embeds.values())
    drawn = generator.generate_from_embeddings(embeds, SEEDS[:3])
    assert levels(drawn, generator.generate(PROMPTS[:3], SEEDS[:3])) <= 1
    alone = generator.embed_prompts(PROMPTS[2:3])
    assert all(np.array_equal(alone[name][0], embeds[name][2]) for name in embeds)
    # Half-way between two captions lies another image, and the masks' union is read.
    half = {name: (value[:1] * 0.5 + value[2:] * 0.5) for name, value in embeds.items()}
    between = generator.generate_from_embeddings(half, SEEDS[:1])
    assert between.shape == drawn[:1].shape
    with pytest.raises(InputError, match="with a row a seed"):
        generator.generate_from_embeddings(embeds, [1])


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd35", "sana", "pixart-sigma"])
def test_a_negative_prompt_changes_a_guided_image(folders, family):
    generator = load(folders, family, guidance=6.0)
    plain = generator.generate(["a cat"], [1])
    away = generator.generate(["a cat"], [1], negative_prompt="zebra on the beach")
    assert levels(plain, away) > 0
    embeds = generator.embed_prompts(["a cat"])
    again = generator.generate_from_embeddings(embeds, [1], negative_prompt="zebra on the beach")
    assert levels(away, again) <= 1
    with pytest.raises(InputError, match="has no effect"):
        load(folders, family, guidance=0.0).generate(["a cat"], [1], negative_prompt="zebra")


def test_flux_takes_a_negative_prompt_only_with_true_guidance(folders):
    with pytest.raises(InputError, match="has no effect"):
        load(folders, "flux").generate(["a cat"], [1], negative_prompt="zebra")
    guided = load(folders, "flux", extra={"true_cfg_scale": 4.0})
    plain = guided.generate(["a cat"], [1])
    assert levels(plain, guided.generate(["a cat"], [1], negative_prompt="zebra")) > 0


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd35", "flux", "sana", "pixart-sigma"])
def test_the_round_trip_is_the_autoencoders(folders, family):
    import torch

    generator = load(folders, family, batch_size=2)
    assert generator.has_autoencoder and generator._pipeline is None
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    out = generator.round_trip(images)
    side = 32 if family == "sana" else 16
    assert out.shape == (3, side, side, 3) and out.std() > 0
    assert np.array_equal(generator.round_trip(images[2:])[0], out[2])
    if family == "sana":
        vae = generator._pipeline.vae
        x = torch.from_numpy(images[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            plain = vae.decode(vae.encode(x).latent).sample[0] / 2 + 0.5
        expected = np.rint(plain.clamp(0, 1).permute(1, 2, 0).numpy() * 255)
        assert levels(expected.astype(np.uint8), out[0]) <= 1


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("sd15", {"steps": 50, "guidance": 7.5}),
        ("sd21", {"steps": 50, "guidance": 7.5}),
        ("sd-turbo", {"steps": 1, "guidance": 0.0}),
        ("sdxl", {"steps": 50, "guidance": 5.0}),
        ("sdxl-turbo", {"steps": 1, "guidance": 0.0}),
        ("sd35", {"steps": 28, "guidance": 7.0}),
        ("flux", {"steps": 28, "guidance": 3.5}),
        ("schnell", {"steps": 4, "guidance": 0.0}),
        ("sana", {"steps": 20, "guidance": 4.5}),
    ],
)
def test_distilled_models_are_known_by_their_files_too(folders, family, settings):
    generator = DiffusersGenerator(str(folders[family]), device="cpu")
    assert {name: generator.settings[name] for name in settings} == settings
    mine = DiffusersGenerator(str(folders[family]), device="cpu", steps=7, guidance=2.0)
    assert (mine.settings["steps"], mine.settings["guidance"]) == (7, 2.0)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("family", ALL)
def test_an_autoencoder_whose_values_are_not_finite_is_an_error(folders, family, value):
    """Pipelines clip what the autoencoder gives, which hides an infinity in black or white."""
    generator = load(folders, family, batch_size=2)
    generator.load()
    calls = []

    def spoil(module, given, out):  # the second image of the first call
        calls.append(len(out))
        if len(calls) == 1:
            out = out.clone()
            out[1, 0, 3, 5] = value
        return out

    spoiled = generator._pipeline.vae.decoder.register_forward_hook(spoil)
    with pytest.raises(ModelLoadError) as problem:
        generator.generate(PROMPTS[:2], SEEDS[:2])
    assert PROMPTS[1] in str(problem.value) and "not finite" in str(problem.value)
    assert calls == [2]
    spoiled.remove()  # and what came before does not count for what comes next
    assert generator.generate(PROMPTS[:2], SEEDS[:2]).std() > 3


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_a_pipeline_that_generates_pixels_is_watched_at_its_denoising_network(value):
    import torch

    from eegprompt.generators.finite_values import FiniteValues

    class Pixels:
        """As DeepFloyd IF: no autoencoder, guidance doubles the batch, values are clipped."""

        def __init__(self):
            self.unet = torch.nn.Conv2d(3, 3, 1)

        def __call__(self, x):
            return (self.unet(torch.cat([x, x])).chunk(2)[0] / 2 + 0.5).clamp(0, 1)

    pipeline = Pixels()
    watched = FiniteValues(pipeline)
    x = torch.zeros(2, 3, 4, 4)
    pipeline(x)
    assert watched.of_images(2) == [True, True]
    watched.clear()
    with torch.no_grad():
        pipeline.unet.bias[1] = value
    assert torch.isfinite(pipeline(x)).all()  # hidden by the clipping
    assert watched.of_images(2) == [False, False]
    watched.clear()
    assert watched.of_images(2) == [True, True]

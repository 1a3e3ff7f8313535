"""The built-in models: they load like any others, and know the built-in world."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eegprompt.builtin.drawing import draw
from eegprompt.builtin.paths import (
    GENERATION_DEFAULTS,
    clip_folder,
    features_folder,
    pipeline_folder,
)
from eegprompt.builtin.scene_captions import captions, meanings, phrasings, vocabulary
from eegprompt.builtin.world import ATTRIBUTES, meaning, split_scenes
from eegprompt.core.errors import InputError
from eegprompt.core.kinds import KINDS
from eegprompt.features.builtin import load_network

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def test_scenes():
    return split_scenes(0, 32, seed=11)[1]


@pytest.fixture(scope="module")
def images(test_scenes):
    return np.stack([draw(scene) for scene in test_scenes])


@pytest.fixture(scope="module")
def clip():
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(clip_folder(), dtype=torch.float32).eval()
    return model, CLIPTokenizer.from_pretrained(clip_folder())


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import DiffusionPipeline

    loaded = DiffusionPipeline.from_pretrained(pipeline_folder(), torch_dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def embed(clip, texts):
    model, tokenizer = clip
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = model.get_text_features(**ids).pooler_output
    return torch.nn.functional.normalize(out, dim=1)


def test_all_weights_are_small():
    root = clip_folder().parent
    assert features_folder().parent == root
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert size <= 25e6


def test_weights_are_half_precision_safetensors():
    from safetensors import safe_open

    files = sorted(clip_folder().parent.rglob("*.safetensors"))
    assert len(files) == 5  # CLIP, features, and the pipeline's text encoder, UNet and VAE
    for path in files:
        with safe_open(path, "pt") as tensors:
            kinds = {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118
        assert kinds <= {torch.float16, torch.int64}, path


def test_every_grammar_word_is_one_token(clip):
    tokenizer = clip[1]
    for word in vocabulary():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word


def test_the_tokenizer_reads_anything_and_gives_it_back(clip):
    tokenizer = clip[1]
    text = "a quixotic zebra, 42 ünder the glass!"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
    assert tokenizer.model_max_length == 77


def test_ten_captions_fit_the_token_budget(clip, test_scenes):
    tokenizer = clip[1]
    lengths = []
    for i, scene in enumerate(test_scenes):
        ten = captions(scene, f"image-{i}")
        assert all(len(text.split()) <= 20 for text in ten.values())
        lengths.append(len(tokenizer(", ".join(ten.values())).input_ids))
    longest = sum(
        max(
            len(tokenizer(p, add_special_tokens=False).input_ids)
            for m in meanings(kind)
            for p in phrasings(m, kind)
        )
        for kind in KINDS
    )
    assert longest + 9 + 2 <= 77  # nine commas, start and end
    assert np.mean(lengths) < 60


def test_the_tokenizer_is_made_of_the_words_alone(clip):
    from eegprompt.builtin.training.phrasing import words
    from eegprompt.builtin.training.tokenizer import build_tokenizer, learn_merges

    assert learn_merges(words()) == learn_merges(words())
    built, shipped = build_tokenizer(), clip[1]
    text = "a red cat, set among tall pines, zebra"
    assert built(text).input_ids == shipped(text).input_ids


def test_fast_token_ids_equal_the_tokenizers(clip, test_scenes):
    from eegprompt.builtin.training.phrasing import random_kinds, random_prompt
    from eegprompt.builtin.training.train_clip import TextIds

    to_ids, rng = TextIds(clip[1]), np.random.default_rng(0)
    for scene in test_scenes:
        prompt = random_prompt(scene, random_kinds(rng), rng)
        assert to_ids.ids(prompt) == clip[1](prompt).input_ids
    assert to_ids([""], 77).tolist() == clip[1]([""], padding="max_length").input_ids


@pytest.mark.parametrize("kind", list(KINDS))
def test_text_embeddings_separate_meanings(clip, kind):
    texts = [(p, m) for m in meanings(kind) for p in phrasings(m, kind)]
    e = embed(clip, [text for text, _ in texts])
    similarity = (e @ e.T).fill_diagonal_(-2)
    nearest = similarity.argmax(1)
    right = np.mean([texts[int(i)][1] == m for i, (_, m) in zip(nearest, texts, strict=True)])
    assert right >= 0.98


def test_text_embeddings_are_smooth_in_meaning(clip):
    cat, dog, house = embed(clip, ["a cat", "a dog", "a house"])
    assert cat @ dog > cat @ house


def test_clip_sees_settings_and_colors(clip, test_scenes, images):
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(clip_folder())
    pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (32, 3, 64, 64)
    with torch.no_grad():
        seen = clip[0].get_image_features(pixel_values=pixels).pooler_output
    seen = torch.nn.functional.normalize(seen, dim=1)
    for kind, name, least in (("SceneSetting", "setting", 0.8), ("ColorTone", "color", 0.5)):
        true = [meaning(scene, kind) for scene in test_scenes]
        texts = embed(clip, [phrasings(f"{name}={v}", kind)[0] for v in ATTRIBUTES[name]])
        chosen = [f"{name}={ATTRIBUTES[name][i]}" for i in (seen @ texts.T).argmax(1)]
        assert np.mean([a == b for a, b in zip(chosen, true, strict=True)]) > least


def test_the_pipeline_has_nothing_special(pipeline, clip):
    from diffusers import StableDiffusionPipeline

    assert type(pipeline) is StableDiffusionPipeline
    assert pipeline.vae_scale_factor == 8
    assert pipeline.unet.config.sample_size == 8
    shipped = pipeline.text_encoder.state_dict()
    model = clip[0].state_dict()
    for name, value in shipped.items():
        key = name if name in model else f"text_model.{name}"
        assert torch.equal(model[key], value)  # it is that CLIP's text side


def test_the_pipeline_draws_what_it_is_told(pipeline, test_scenes):
    prompts = [", ".join(captions(s, str(i)).values()) for i, s in enumerate(test_scenes[:16])]
    seeds = [torch.Generator().manual_seed(i) for i in range(16)]
    images = pipeline(prompts, generator=seeds, output_type="np", **GENERATION_DEFAULTS).images
    assert images.shape == (16, 64, 64, 3)
    assert np.isfinite(images).all()
    logits = load_network()(np.rint(images * 255).astype(np.uint8))["logits"]
    shown = [ATTRIBUTES["object"][i] for i in logits.argmax(1)]
    right = np.mean([a == s.object for a, s in zip(shown, test_scenes, strict=False)])
    assert right > 0.5  # the benchmark measures how much; here chance is 1/16


def test_a_image_depends_on_its_seed_alone(pipeline):
    def make(prompts, seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        settings = {**GENERATION_DEFAULTS, "num_inference_steps": 4}
        return pipeline(prompts, generator=generators, output_type="np", **settings).images

    pair = make(["a cat", "a dog"], [1, 2])
    np.testing.assert_allclose(make(["a dog"], [2])[0], pair[1], atol=2e-3)
    assert np.abs(make(["a dog"], [3])[0] - pair[1]).mean() > 1e-3


def test_the_autoencoder_gives_images_back(pipeline, images):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        z = pipeline.vae.encode(x).latent_dist.mode()
        y = pipeline.vae.decode(z).sample
    assert z.shape == (32, 12, 8, 8)
    assert (y - x).abs().mean() < 0.06  # of a range of 2
    assert z.std() == pytest.approx(1, abs=0.25)


def test_features(images, test_scenes):
    features = load_network()
    out = features(images)
    assert {name: value.shape for name, value in out.items()} == {
        "early": (32, 768),
        "late": (32, 96),
        "logits": (32, 16),
    }
    assert all(value.dtype == np.float32 for value in out.values())
    shown = [ATTRIBUTES["object"][i] for i in out["logits"].argmax(1)]
    assert np.mean([a == s.object for a, s in zip(shown, test_scenes, strict=True)]) > 0.9
    np.testing.assert_allclose(features(images[:3])["late"], out["late"][:3], atol=1e-4)
    large = np.stack([draw(scene, size=128) for scene in test_scenes[:4]])
    assert features(large)["late"].shape == (4, 96)
    assert features(images[:0])["early"].shape == (0, 768)
    with pytest.raises(InputError, match="uint8 of shape"):
        features(images.astype(float))


def test_scenes_import_without_torch():
    import subprocess

    code = (
        "import sys, eegprompt.builtin.world, eegprompt.builtin.scene_captions, "
        "eegprompt.features.builtin, eegprompt.builtin.paths; "
        "assert not {'torch', 'transformers', 'diffusers', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_projection_is_written_into_the_encoder():
    from eegprompt.builtin.training.patch_encoder import write_projection
    from eegprompt.builtin.training.train_autoencoder import Projection, build_vae

    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(192, 12))[0].T.reshape(12, 3, 8, 8)
    smooth = (
        torch.nn.functional.avg_pool2d(basis, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    project = Projection(weight=smooth, bias=torch.randn(12))
    vae = build_vae().eval()
    write_projection(vae, project)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        found = vae.encode(x).latent_dist
    torch.testing.assert_close(found.mode(), project(x), atol=5e-3, rtol=5e-3)
    assert found.std.max() < 0.01

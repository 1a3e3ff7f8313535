"""The prompt sources: each prompt source is what it is named, and differs from the others in that alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_models
from eegprompt.confounds.surrogates import count_scale, derange, matched_noise, trial_shapes
from eegprompt.core.errors import InputError
from eegprompt.core.files import read_json
from eegprompt.decoder import Decoder, image_seed
from eegprompt.generators.base import Generator
from eegprompt.generators.generated_files import image_facts
from eegprompt.prompts import HeadCaption, head_captions
from eegprompt.run import Run
from eegprompt.sources import (
    PROMPT_SOURCES,
    SOURCES,
    check_sources,
    class_names_decided,
)
from eegprompt.steps.decode import decode, decoded_trials, embed_noise, prompt_table
from eegprompt.steps.evaluate import evaluate
from eegprompt.steps.generate import generate
from tiny_models import HEADS


class Painter(Generator):
    """Paints a color of what it was asked for; takes embeddings, a negative prompt, a round trip."""

    name, revision, max_tokens = "painter", "1", 77
    supports_embeddings = has_autoencoder = takes_negative_prompt = True

    def __init__(self):
        self.asked: list[tuple] = []

    def count_tokens(self, text):
        return len(text.split())

    def _paint(self, keys):
        self.asked += keys
        colors = [hashlib.sha256(repr(key).encode()).digest()[:3] for key in keys]
        return np.array([np.full((8, 8, 3), list(color), np.uint8) for color in colors])

    def generate(self, prompts, seeds, *, negative_prompt=None):
        return self._paint([(p, s, negative_prompt) for p, s in zip(prompts, seeds)])

    def embed_prompts(self, prompts):
        import torch

        rows = [np.frombuffer(hashlib.sha256(p.encode()).digest(), np.uint8) for p in prompts]
        return {"embeds": torch.tensor(np.array(rows), dtype=torch.float32).view(-1, 2, 16)}

    def generate_from_embeddings(self, embeddings, seeds):
        rows = embeddings["embeds"].flatten(1).round(decimals=2).tolist()
        return self._paint([(tuple(row), seed) for row, seed in zip(rows, seeds)])

    def round_trip(self, images):
        return 255 - images


class Bare(Generator):
    """As little as a generator can be."""

    name = "bare"

    def generate(self, prompts, seeds):
        return np.zeros((len(prompts), 8, 8, 3), np.uint8)


class TextOnly(Painter):
    """Draws from text alone, and is shown no negative prompt."""

    supports_embeddings = takes_negative_prompt = False

    def generate(self, prompts, seeds):
        return self._paint(list(zip(prompts, seeds)))


class Shower(TextOnly):
    """Wants the training image that stands for the prompt."""

    name, wants_images = "shower", True

    def generate(self, prompts, seeds, *, image_paths):
        return self._paint(list(zip(image_paths, prompts)))


@pytest.fixture(scope="module")
def decoded(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("sources")
    clip = tiny_models.save_clip(place / "clip")
    pipeline = tiny_models.save_pipeline(place / "pipeline")
    study = tiny_models.save_study(
        place / "study", clip, noise=0.01, n_images=48, repetitions=4, images=True
    )
    run = tiny_models.save_run(
        place / "run", study, clip, pipeline, evaluation={"permutations": 99, "resamples": 100}
    )
    return decode(run).path


@pytest.fixture
def run(decoded, tmp_path) -> Run:
    return Run(shutil.copytree(decoded, tmp_path / "run"))


@pytest.fixture(scope="module")
def drawn_run(decoded, tmp_path_factory) -> Run:
    """All prompt sources drawn; no test changes it."""
    run = Run(shutil.copytree(decoded, tmp_path_factory.mktemp("drawn") / "run"))
    return generate(run, sources=["all"], generator=Painter())


def rows_of(run: Run) -> dict[str, dict[int, dict]]:
    table = run.prompts.to_dict("records")
    return {
        r: {row["trial_id"]: row for row in table if row["source"] == r} for r in PROMPT_SOURCES
    }


def files(run: Run) -> dict[str, bytes]:
    return {
        str(p.relative_to(run.path)): p.read_bytes()
        for p in sorted((run.path / "images").rglob("*.png"))
    }


def said(row: dict) -> dict[str, str]:
    return {c["head"]: c["text"] for c in json.loads(row["kept"])}


# -- what the prompt sources are ---------------------------------------------------------------------------
def test_each_source_is_what_it_is_named(drawn_run):
    study, rows = drawn_run.study, rows_of(drawn_run)
    images = study.trials["image_id"].astype(str)
    categories = study.trials["category"].astype(str)
    captions = study.captions("words").set_index(["image_id", "kind"])["text"]
    of = {image: {h: captions[image, h] for h in HEADS} for image in set(images)}
    test = drawn_run.fold.test.tolist()
    assert all(sorted(rows[source]) == sorted(test) for source in PROMPT_SOURCES)
    for trial in test:
        assert said(rows["ceiling"][trial]) == of[images[trial]]
        wrong = said(rows["wrong-class"][trial])
        sources = [image for image in of if of[image] == wrong]
        assert sources and all(
            categories[images == i].iloc[0] != categories[trial] for i in sources
        )
        assert rows["true-class"][trial]["text"] == categories[trial]
        assert rows["predicted-class"][trial]["text"] in set(categories)
        donor = int(rows["shuffled"][trial]["reason"].split()[3].rstrip(";"))
        assert images[donor] != images[trial] and donor in test
        assert study.trials["subject"][donor] == study.trials["subject"][trial]
        assert rows["shuffled"][trial]["text"] == rows["eeg"][donor]["text"]
        for source in ("floor", "ceiling", "wrong-class"):
            assert rows[source][trial]["heads"] == rows["eeg"][trial]["heads"]
    decided = [rows["predicted-class"][t]["text"] == categories[t] for t in test]
    assert np.mean(decided) > 0.9  # the oracle's heads say what was planted
    assert class_names_decided(decoded_trials(drawn_run, Painter()))[test[0]][1] > 0.5


def test_what_is_not_in_the_eeg_is_at_chance(drawn_run):
    study, rows = drawn_run.study, rows_of(drawn_run)
    captions = study.captions("words").set_index(["image_id", "kind"])["text"]
    images = study.trials["image_id"].astype(str)
    right = {
        source: np.mean([said(row)["ObjectSnap"] == captions[images[trial], "ObjectSnap"]
                       for trial, row in rows[source].items()])
        for source in ("eeg", "floor", "noise", "shuffled")
    }  # fmt: skip
    assert right["eeg"] > 0.95
    for source in ("floor", "noise", "shuffled"):  # four objects
        assert 0.05 < right[source] < 0.45, (source, right)


def test_sources_differ_by_what_they_are_drawn_from_and_by_nothing_else(drawn_run):
    entry = read_json(drawn_run.path / "generation.json")["generators"]["painter"]
    assert entry["sources"] == dict.fromkeys(SOURCES, True)
    looks = set()
    for trial in entry["trial_ids"]:
        facts = {r: image_facts(drawn_run.image_path("painter", r, trial)) for r in SOURCES}
        assert {facts[r]["seed"] for r in PROMPT_SOURCES} == {str(image_seed(0, trial, 0))}
        looks |= {facts[r]["look"] for r in PROMPT_SOURCES}
    assert len(looks) == 1


def test_references_are_shown_at_the_size_that_is_drawn_and_through_the_generator(drawn_run):
    study = drawn_run.study
    trial = read_json(drawn_run.path / "generation.json")["generators"]["painter"]["trial_ids"][3]
    shown, back = (
        np.asarray(Image.open(drawn_run.image_path("painter", source, trial)))
        for source in ("reference", "reference-vae")
    )
    own = study.load_images([study.trials["image_id"][trial]])[0]
    small = np.asarray(Image.fromarray(own).resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(shown, small) and np.array_equal(back, 255 - small)


# -- only what is missing -------------------------------------------------------------------------
def test_only_what_is_missing_is_composed_and_drawn_in_any_order_and_batch(run, drawn_run):
    before = run.prompts
    run.config["generation"]["batch_size"] = 3
    first = Painter()
    generate(run, sources=["ceiling", "shuffled"], generator=first)
    kept = files(run)
    assert {Path(name).parent.name for name in kept} == {"ceiling", "shuffled"}
    run.config["generation"]["batch_size"] = 50
    second = Painter()
    generate(run, sources=["all"], generator=second)
    assert not set(first.asked) & set(second.asked)
    assert set(kept.items()) <= set(files(run).items())
    assert files(run) == files(drawn_run)
    table = run.prompts
    same = table[table["source"].isin(["eeg", "floor", "ceiling"])].reset_index(drop=True)
    assert same.equals(before)
    third = Painter()
    generate(run, sources=["all"], generator=third)
    assert not third.asked and files(run) == files(drawn_run)


def test_decoding_again_with_another_choice_keeps_the_sources_and_changes_their_heads(run):
    generate(run, sources=["noise", "wrong-class"], generator=Painter())
    retrieved = run.decodings_path.read_bytes()
    run.config["decoding"]["selection"] = "heads:MoodFeel,ColorTone"
    decode(run)
    rows = rows_of(run)
    assert set(rows["noise"]) == set(rows["wrong-class"]) == set(run.fold.test.tolist())
    for source in ("eeg", "floor", "noise", "shuffled", "wrong-class", "ceiling"):
        for row in rows[source].values():
            assert json.loads(row["heads"]) == ["ColorTone", "MoodFeel"]
    entry = json.loads(next(iter(rows["eeg"].values()))["dropped"])
    assert [(c["head"], c["reason"]) for c in entry] == [("ObjectSnap", "not asked for")]
    assert json.loads(next(iter(rows["eeg"].values()))["kept"])[0]["reason"] == "named"
    assert run.decodings_path.read_bytes() == retrieved
    before = files(run)
    again = Painter()
    generate(run, sources=["noise", "wrong-class"], generator=again)
    assert again.asked and files(run).keys() == before.keys() and files(run) != before


def test_sources_are_named_and_those_that_cannot_be_are_said(run, tmp_path):
    assert check_sources(["ceiling", "all"]) == SOURCES
    assert check_sources(["ceiling", "eeg", "eeg"]) == ["eeg", "ceiling"]
    with pytest.raises(InputError, match="bare has none; leave the prompt source out"):
        generate(run, sources=["reference-vae"], generator=Bare())
    pixels_only = Painter()
    pixels_only.has_autoencoder = False
    with pytest.raises(InputError, match=r"'reference-vae' cannot be had: .* has none; leave"):
        generate(run, sources=["reference-vae"], generator=pixels_only)
    for without in (Bare(), pixels_only):
        with pytest.warns(UserWarning, match=r"'reference-vae' is left out: .* has none"):
            generate(run, sources=["all"], generator=without)
        assert list(run.images_dir(without.name, "reference").glob("*.png"))
        assert not list(run.images_dir(without.name, "reference-vae").glob("*.png"))
    study = run.study
    one = shutil.copytree(study.path, tmp_path / "one")
    import pandas as pd

    for table in ("trials.parquet", "images.parquet"):
        pd.read_parquet(one / table).assign(category="cat").to_parquet(one / table)
    run = Run(run)
    run.config["study"] = str(one)
    run._check_inputs = lambda study: None  # another study than it was trained on is refused
    for source in ("wrong-class", "predicted-class"):
        with pytest.raises(InputError, match=f"'{source}' needs .*leave the prompt source out"):
            prompt_table(run, Painter(), [source])


# -- other ways to an image ----------------------------------------------------------------------
def test_a_generator_that_wants_an_image_is_shown_the_one_of_the_best_caption(run):
    shower = Shower()
    generate(run, sources=["eeg", "ceiling", "true-class"], generator=shower)
    study = run.study
    train = study.trials.iloc[run.fold.train]
    path_of = {str(study.image_path(i)): i for i in set(train["image_id"])}
    captions = study.captions("words").set_index(["image_id", "kind"])["text"]
    category = dict(zip(train["image_id"], train["category"]))
    rows = rows_of(run)
    texts = {row["text"]: row for source in ("eeg", "ceiling") for row in rows[source].values()}
    assert shower.asked
    for path, prompt in shower.asked:
        image = path_of[path]
        if prompt in texts:
            kept = json.loads(texts[prompt]["kept"])
            best = max(kept, key=lambda c: c["confidence"] or 0)
            assert captions[image, best["head"]] == best["text"]
        else:
            assert category[image] == prompt
    facts = image_facts(next((run.path / "images" / "shower" / "eeg").glob("*.png")))
    assert facts["image"].endswith(".png") and "/" not in facts["image"]
    again = Shower()
    generate(run, sources=["eeg", "ceiling", "true-class"], generator=again)
    assert not again.asked
    with pytest.raises(InputError, match="only a run with its study knows"):
        Decoder.from_pretrained(run).generate(["a cat"], generator=Shower())


def test_the_embedding_route_blends_and_does_not_depend_on_the_batch(run, tmp_path):
    run.config["decoding"].update(route="embeddings", selection="top-k:2", top_k=3)
    decode(run)
    rows = rows_of(run)
    for row in rows["eeg"].values():
        kept = json.loads(row["kept"])
        assert sum(c["weight"] for c in kept) == pytest.approx(1, abs=3e-3)
        assert len(set(json.loads(row["heads"]))) == 2
    heads = [{c["head"] for c in json.loads(row["kept"])} for row in rows["eeg"].values()]
    assert heads == [
        {c["head"] for c in json.loads(row["kept"])} for row in rows["ceiling"].values()
    ]
    other = Run(shutil.copytree(run.path, tmp_path / "other"))
    other.config.update({**run.config, "generation": {**run.config["generation"]}})
    for one, size in ((run, 2), (other, 40)):
        one.config["generation"]["batch_size"] = size
        generate(one, sources=["eeg", "floor", "true-class", "ceiling"], generator=Painter())
    assert files(run) == files(other) and len(files(run)) == 4 * 12
    generate(
        run, sources=["eeg", "true-class"], generator=Shower()
    )  # it needs no embeddings to show one
    with pytest.raises(InputError, match=r"painter draws from text alone.*decoding.route=text"):
        generate(run, sources=["eeg"], generator=TextOnly())


def test_a_blend_of_one_caption_is_that_caption_drawn(run):
    """With a real pipeline: the way through embeddings changes nothing by itself."""
    decoder = Decoder.from_pretrained(run)
    eeg = run.study.eeg[:2]
    settings = decoder.candidates.settings["decoding"]
    assert settings["route"] == "text"
    decoded = decoder.decode(eeg, top_k=1)
    choices = {"selection": "heads:ObjectSnap"}
    plain = decoder.prompts(decoded, **choices)
    blend = decoder.prompts(decoded, route="embeddings", per_head=1, **choices)
    assert [p.parts for p in blend] == [((p.text, 1.0),) for p in plain]
    a, b = decoder.generate(plain, seed=3), decoder.generate(blend, seed=3)
    assert np.abs(a.astype(int) - b).max() <= 1
    assert not np.array_equal(a, decoder.generate(plain, seed=4))


def test_a_negative_prompt_is_handed_over_and_decides_the_image(run):
    generate(run, sources=["eeg"], generator=Painter())
    before = files(run)
    run.config["generation"]["negative_prompt"] = "text"
    painter = Painter()
    generate(run, sources=["eeg"], generator=painter)
    assert {negative for _, _, negative in painter.asked} == {"text"}
    assert files(run).keys() == before.keys() and not set(files(run).values()) & set(
        before.values()
    )
    assert image_facts(run.path / next(iter(before)))["negative_prompt"] == "text"
    with pytest.raises(InputError, match="painter takes no negative prompt; leave"):
        generate(run, sources=["eeg"], generator=TextOnly())


def test_a_blanked_image_is_recorded_and_never_scored(run):
    class Prude(Painter):
        def generate(self, prompts, seeds, **more):
            out = super().generate(prompts, seeds, **more)
            self.blanked = [seed % 2 == 0 for seed in seeds]
            return out

    generate(run, sources=["eeg"], generator=Prude())
    facts = [image_facts(path) for path in (run.path / "images/painter/eeg").glob("*.png")]
    blank = [f for f in facts if f.get("blanked")]
    assert [f for f in facts if int(f["seed"]) % 2 == 0] == blank and 0 < len(blank) < len(facts)
    again = Prude()
    generate(run, sources=["eeg"], generator=again)
    assert not again.asked  # the same seed would be blanked again

    from eegprompt.steps.evaluate import _images, _prompts

    missing: list[str] = []
    prompts = _prompts(run, "painter")
    found, blanked = _images(run, "painter", "eeg", prompts, None, "again", missing)
    assert len(found) == 12 - len(blank) and len(blanked) == len(blank)
    assert any("safety checker of generator 'painter'" in m for m in missing)


def test_new_eeg_is_drawn_with_other_choices_in_a_few_lines(run):
    decoder = Decoder.from_pretrained(run.encoder_dir)
    decoded = decoder.decode(run.study.eeg[:4])
    prompts = decoder.prompts(
        decoded, Painter(), selection="top-k:1", order="confidence", style="ink", abstain=0.6
    )
    said = head_captions(decoded.captions, decoded.trial_ids, 1)
    best = [max(c, key=lambda caption: caption.confidence) for c in said]
    assert [p.text for p in prompts] == [f"{caption.text}, ink" for caption in best]
    assert all(isinstance(p.kept[0], HeadCaption) and p.why[0] for p in prompts)
    assert decoder.generate(prompts, generator=Painter(), negative_prompt="text").shape == (
        4,
        8,
        8,
        3,
    )
    with pytest.raises(InputError, match="unknown choice 'oder'; did you mean 'order'"):
        decoder.prompts(decoded, Painter(), oder="kinds")


# -- scores ---------------------------------------------------------------------------------------
def test_every_source_that_exists_is_scored_and_the_others_are_named(run):
    generate(run, sources=["eeg", "noise", "reference", "reference-vae"], generator=Painter())
    rows = evaluate(run)
    values = {(r["metric"], r["source"]): r for r in rows if r.get("generator") == "painter"}
    assert {source for metric, source in values if metric == "pixcorr"} == {
        "eeg", "noise", "reference", "reference-vae", "gray", "mean-image",
    }  # fmt: skip
    assert values["two_way_late", "reference"]["value"] > 0.95
    assert values["pixcorr", "reference"]["value"] > 0.7
    assert values["pixcorr", "reference-vae"]["value"] < -0.7  # the painter inverts
    assert abs(values["pixcorr", "noise"]["value"]) < 0.2 and values["pixcorr", "noise"]["n"] == 12
    missing = read_json(run.scores_path)["missing"]
    assert any(
        m.endswith("--sources shuffled,wrong-class,predicted-class,true-class'") for m in missing
    )


# -- noise and exchange ---------------------------------------------------------------------------
def test_matched_noise_has_the_spectrum_and_covariance_and_nothing_else():
    rng = np.random.default_rng(0)
    time = np.arange(128) / 128
    evoked = np.exp(-((time - 0.3) ** 2) / 0.002)
    mixing = np.array([[1.0, 0.5], [0.0, 1.0], [2.0, -1.0]])
    eeg = mixing @ (rng.standard_normal((150, 2, 128)).cumsum(axis=2) / 8 + 3 * evoked) * 1e-6
    noise = matched_noise(eeg, range(600), seed=1)
    power = [np.abs(np.fft.rfft(x * 1e6, axis=2)) ** 2 for x in (eeg, noise)]
    ratio = power[1].mean(axis=0)[:, 1:20] / power[0].mean(axis=0)[:, 1:20]
    assert 0.85 < ratio.mean() < 1.15 and (np.abs(np.log(ratio)) < 0.4).all()
    a, b = (np.corrcoef(x.transpose(1, 0, 2).reshape(3, -1)) for x in (eeg, noise))
    np.testing.assert_allclose(a, b, atol=0.1)
    # Nothing happens at a moment: the mean over trials is flat where the evoked response stood.
    assert np.abs(eeg.mean(axis=0)[0]).max() > 8 * np.abs(noise.mean(axis=0)[0]).max()
    assert np.array_equal(matched_noise(eeg, [7, 3], seed=1), noise[[7, 3]])
    assert not np.array_equal(matched_noise(eeg, [7], seed=2)[0], noise[7])
    with pytest.raises(InputError, match="got shape"):
        matched_noise(eeg[0], [1], seed=0)


def test_noise_takes_each_trials_length_flat_channels_and_count() -> None:
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((60, 3, 64))
    eeg[:20, :, 50:] = 2.0  # padding has any value
    eeg[:20, :, :5] = -1.0
    eeg[20:40, 1] = 0.0
    eeg[40, 0, 60:] = 0.0  # in one channel only: no padding
    shapes = trial_shapes(eeg)
    assert set(shapes.first[:20]) == {5} and set(shapes.stop[:20]) == {50}
    assert set(shapes.first[20:]) == {0} and set(shapes.stop[20:]) == {64}
    assert shapes.flat[20:40, 1].all() and shapes.flat.sum() == 20 and shapes.vary
    assert not shapes[45:].vary and not trial_shapes(np.zeros((4, 2, 8))).vary
    noise = matched_noise(eeg, range(60), seed=1, shapes=shapes)
    plain = matched_noise(eeg, range(60), seed=1)
    assert not noise[:20, :, :5].any() and not noise[:20, :, 50:].any() and noise[0, 0, 5:50].all()
    assert not noise[20:40, 1].any() and noise[20:40, 0].all()
    ratio = noise[41:] / plain[41:]
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-4)
    whole = matched_noise(eeg[41:], range(19), seed=1, shapes=shapes[41:])
    assert np.array_equal(whole, matched_noise(eeg[41:], range(19), seed=1))
    with pytest.raises(InputError):
        matched_noise(eeg, range(3), seed=1, shapes=shapes)
    assert count_scale(np.array([1, 1]), np.array([4])).tolist() == [0.5]


def test_noise_goes_through_the_encoder_with_each_trials_own_length(run, monkeypatch) -> None:
    decoder, study = Decoder.from_pretrained(run), run.study
    seen: list[np.ndarray] = []
    embed = decoder.embed_checked

    def spy(eeg, *rest):
        seen.append(np.array(eeg))
        return embed(eeg, *rest)

    monkeypatch.setattr(decoder, "embed_checked", spy)
    like = run.fold.test[:6]
    eeg = np.array(study.eeg)
    eeg[like[:3], :, -8:] = 0
    monkeypatch.setattr(study, "eeg", eeg)
    study.trials.loc[like[3:], "n_averaged"] = 100
    embed_noise(decoder, study, like, like.tolist(), 0)
    noise = np.concatenate(seen)
    assert not noise[:3, :, -8:].any() and noise[3:, :, -8:].all()
    assert 5 < noise[:3, :, :-8].std() / noise[3:].std() < 20


@pytest.mark.parametrize("seed", range(5))
def test_exchanged_trials_meet_neither_themselves_nor_their_image(seed):
    rng = np.random.default_rng(seed)
    images = [f"i{i}" for i in rng.integers(0, 7, 60)]
    subjects = [f"s{i % 3}" for i in range(60)]
    order = derange(images, seed, strata=subjects)
    assert sorted(order) == list(range(60)) and np.array_equal(
        order, derange(images, seed, strata=subjects)
    )
    assert not any(
        images[i] == images[j] or subjects[i] != subjects[j] for i, j in enumerate(order)
    )
    assert not np.array_equal(order, derange(images, seed + 1, strata=subjects))
    alone = derange(["a", "a", "a", "b"], seed)
    assert sorted(alone) == [0, 1, 2, 3] and all(i != j for i, j in enumerate(alone))
    with pytest.raises(InputError, match="at least two trials"):
        derange(["a"], 0)

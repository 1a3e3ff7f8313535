"""Decoding: what was planted is read back; prompt sources are fair; new EEG is checked; nothing is redone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tiny_models
from eegprompt.core.errors import (
    CaptionError,
    InputError,
    RunError,
    StudyError,
    TokenBudgetError,
    UnknownNameError,
)
from eegprompt.core.files import read_json, write_json
from eegprompt.decoder import Decoder, image_seed
from eegprompt.generators.base import Generator
from eegprompt.retrieval.candidates import Candidates
from eegprompt.retrieval.pool import candidate_pools, caption_id
from eegprompt.run import Run
from eegprompt.sources import random_captions
from eegprompt.steps.decode import decode, prompt_table
from tiny_models import HEADS, SHAPE


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("models")
    return (
        tiny_models.save_clip(place / "clip"),
        tiny_models.save_pipeline(place / "pipeline"),
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory, models):
    return tiny_models.save_study(tmp_path_factory.mktemp("studies") / "study", models[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory, study, models) -> Run:
    """A decoded run that no test changes."""
    return decode(tiny_models.save_run(tmp_path_factory.mktemp("runs") / "run", study, *models))


@pytest.fixture
def fresh(tmp_path, study, models) -> Run:
    """A trained run that was not decoded."""
    return tiny_models.save_run(tmp_path / "run", study, *models)


# -- a run ----------------------------------------------------------------------------------------
def test_embeddings_of_both_sides_are_stored_with_their_trials(run, study):
    from safetensors.numpy import load_file

    arrays = load_file(run.embeddings_path)
    fold = run.fold
    for side in ("val", "test"):
        assert np.array_equal(arrays[f"{side}/trial_id"], getattr(fold, side))
        for head in HEADS:
            rows = arrays[f"{side}/{head}"]
            assert rows.dtype == np.float32 and rows.shape == (12, tiny_models.N_DIMS)
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert not any(name.startswith("train") for name in arrays)


def test_what_the_eeg_carries_is_what_is_retrieved(run, study):
    table = run.decodings
    captions = study.captions("words").set_index(["image_id", "kind"])["text"]
    shown = study.trials["image_id"]
    best = table[table["rank"] == 1]
    truth = [captions[shown[t], h] for t, h in zip(best["trial_id"], best["head"])]
    pool = pd.read_parquet(run.encoder_dir / "candidates.parquet")
    there = pd.Series(truth, index=best.index).isin(set(pool["text"]))
    assert there.mean() > 0.7 and (best["text"] == truth)[there].mean() > 0.9


def test_decodings_have_the_agreed_columns_and_order(run):
    table = run.decodings
    assert list(table) == ["trial_id", "head", "rank", "caption_id", "text", "similarity",
                           "confidence", "pool", "meaning"]  # fmt: skip
    assert set(table["pool"]) == {"train"}
    assert sorted(table["trial_id"].unique()) == sorted(run.fold.test)
    for (_, head), rows in table.groupby(["trial_id", "head"]):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1)) and len(rows) <= 5
        assert (np.diff(rows["similarity"]) <= 0).all()
        assert (np.diff(rows["confidence"]) <= 0).all()
        assert rows["confidence"].between(0, 1).all() and rows["similarity"].between(-1, 1).all()
        assert rows["caption_id"].tolist() == [caption_id(head, t) for t in rows["text"]]


def test_the_pool_holds_the_captions_of_its_own_side_only(run, study):
    fold, captions = run.fold, study.captions("words")
    shown = study.trials["image_id"]
    for name, ids in (
        ("train", fold.train),
        ("test", fold.test),
        ("all", np.concatenate([fold.train, fold.val, fold.test])),
    ):
        pools = candidate_pools(
            study, fold, captions, HEADS, name, lambda texts: np.ones((len(texts), 2))
        )
        for head, pool in pools.items():
            rows = captions[(captions["kind"] == head) & captions["image_id"].isin(shown[ids])]
            assert set(pool.texts) == set(rows["text"]) and pool.name == name
    with pytest.raises(UnknownNameError, match="candidate pool"):
        candidate_pools(study, fold, captions, HEADS, "tets", lambda texts: texts)


def test_the_calibration_sees_the_validation_side_only(run, fresh, study, tmp_path):
    """Turn every test trial to noise: pools and calibration stay to the last bit."""
    other = shutil.copytree(study.path, tmp_path / "other")
    eeg = np.load(other / "eeg.npy")
    eeg[run.fold.test] = np.random.default_rng(0).standard_normal(eeg[run.fold.test].shape)
    np.save(other / "eeg.npy", eeg)
    config = dict(fresh.config, study=str(other))
    import yaml

    (fresh.path / "config.yaml").write_text(yaml.safe_dump(config))
    noisy = decode(Run(fresh.path))
    pools = "candidates.safetensors"
    assert (noisy.encoder_dir / pools).read_bytes() == (run.encoder_dir / pools).read_bytes()
    calibrations = [read_json(r.encoder_dir / "calibration.json") for r in (noisy, run)]
    assert calibrations[0] == calibrations[1]
    assert not noisy.decodings.equals(run.decodings)
    stored = read_json(run.encoder_dir / "calibration.json")
    assert {head: c["n"] for head, c in stored["heads"].items()} == dict.fromkeys(HEADS, 12)


def test_sources_use_the_same_heads_and_the_same_pool(run, study):
    prompts = run.prompts
    assert list(prompts) == ["trial_id", "source", "text", "n_tokens", "heads", "kept", "dropped",
                             "reason"]  # fmt: skip
    assert len(prompts) == 3 * len(run.fold.test)
    pool = pd.read_parquet(run.encoder_dir / "candidates.parquet")
    captions = study.captions("words").set_index(["image_id", "kind"])["text"]
    floors, ceilings = set(), 0
    for trial, rows in prompts.groupby("trial_id"):
        rows = rows.set_index("source")
        assert set(rows.index) == {"eeg", "floor", "ceiling"}
        assert rows["heads"].nunique() == 1
        for source in rows.index:
            kept = json.loads(rows.loc[source, "kept"])
            assert rows.loc[source, "text"] == ", ".join(c["text"] for c in kept)
            for caption in kept:
                if source == "ceiling":
                    own = captions[study.trials["image_id"][trial], caption["head"]]
                    assert caption["text"] == own
                else:
                    known = pool[pool["kind"] == caption["head"]]["text"]
                    assert caption["text"] in set(known)
                assert (caption["confidence"] is None) == (source != "eeg")
        floors.add(rows.loc["floor", "text"])
        ceilings += rows.loc["ceiling", "text"] == rows.loc["eeg", "text"]
    assert len(floors) > 6 and ceilings >= 4


def test_floor_captions_are_fair_draws_from_the_pool(run):
    pool = Candidates.load(run.encoder_dir).pools["ObjectSnap"]
    drawn = [random_captions(pool, 0, trial, 1)[0] for trial in range(2000)]
    counts = pd.Series(drawn).value_counts()
    assert len(counts) == len(pool) == 4 and counts.between(430, 570).all()
    assert drawn == [random_captions(pool, 0, trial, 1)[0] for trial in range(2000)]
    assert drawn != [random_captions(pool, 1, trial, 1)[0] for trial in range(2000)]
    assert len(set(random_captions(pool, 0, 5, 4))) == 4
    assert len(random_captions(pool, 0, 5, 9)) == 4


def test_decoding_twice_gives_the_same_bytes(run, fresh):
    decode(fresh)
    for path in ("embeddings.safetensors", "decodings.parquet", "prompts.parquet"):
        assert (fresh.path / path).read_bytes() == (run.path / path).read_bytes()


def test_finished_work_is_not_done_twice_and_changed_settings_are_seen(fresh, monkeypatch):
    decode(fresh)
    calls = []
    real = Decoder.embed_checked
    monkeypatch.setattr(
        Decoder, "embed_checked", lambda self, *args: calls.append(1) or real(self, *args)
    )
    decode(fresh)
    assert not calls
    fresh.prompts_path.unlink()
    decode(fresh)
    assert not calls and fresh.prompts_path.exists()  # prompts are composed again, no more
    fresh.decodings_path.unlink()
    decode(fresh)
    assert calls and fresh.decodings_path.exists()
    calls.clear()
    changed = Run(fresh.path)
    changed.config["decoding"] = {**changed.config["decoding"], "pool": "all", "per_head": 2}
    decode(changed)
    assert calls and set(changed.decodings["pool"]) == {"all"}
    eeg = changed.prompts.query("source == 'eeg'")
    assert any(json.loads(heads) != [c["head"] for c in json.loads(kept)]
               for heads, kept in zip(eeg["heads"], eeg["kept"]))  # fmt: skip


def test_an_interruption_leaves_a_run_that_can_be_decoded(fresh, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Candidates, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        decode(fresh)
    monkeypatch.undo()
    assert len(decode(fresh).prompts) == 36


def test_progress_is_told(fresh):
    told = []
    decode(fresh, progress=lambda done, total, label: told.append((done, total, label)))
    assert (12, 12, "decoding test trials") in told and (
        12,
        12,
        "decoding validation trials",
    ) in told


# -- the budget -----------------------------------------------------------------------------------
def test_prompts_stay_within_the_generators_budget(tmp_path, study, models):
    small = tiny_models.save_pipeline(tmp_path / "pipeline", length=14)
    run = decode(tiny_models.save_run(tmp_path / "run", study, models[0], small))
    prompts = run.prompts
    tok = tiny_models.tokenizer(14)
    assert [len(tok(t)["input_ids"]) for t in prompts["text"]] == prompts["n_tokens"].tolist()
    assert prompts["n_tokens"].max() <= 14
    eeg = prompts[prompts["source"] == "eeg"]
    dropped = [json.loads(d) for d in eeg["dropped"]]
    assert any(dropped)
    for said, gone in zip(eeg["kept"], dropped):
        for caption in gone:
            if caption["reason"] == "budget":
                assert all(k["confidence"] >= caption["confidence"] for k in json.loads(said))
    assert eeg["reason"].str.contains("budget").any()
    spoke = prompts.assign(heads=prompts["heads"].map(json.loads)).pivot(
        index="trial_id", columns="source", values="heads"
    )
    for (
        row
    ) in spoke.itertuples():  # no prompt source speaks through a head that eeg had no room for
        assert set(row.floor) <= set(row.eeg) and set(row.ceiling) <= set(row.eeg)


def test_a_budget_too_small_for_one_caption_is_an_error(tmp_path, study, models):
    tiny = tiny_models.save_pipeline(tmp_path / "pipeline", length=4)
    run = tiny_models.save_run(tmp_path / "run", study, models[0], tiny, kinds=["ColorTone"])
    with pytest.raises(TokenBudgetError, match="reads 4 tokens, but the shortest of 1 captions"):
        decode(run)


# -- what does not fit ----------------------------------------------------------------------------
def test_a_missing_caption_is_named(tmp_path, models):
    study = tiny_models.save_study(tmp_path / "study", models[0])
    run = tiny_models.save_run(tmp_path / "run", study, *models)
    captions = study.captions("words")
    image = study.trials["image_id"][run.fold.test[0]]
    gone = (captions["image_id"] == image) & (captions["kind"] == "MoodFeel")
    study.write_captions("words", captions[~gone], overwrite=True)
    with pytest.raises(CaptionError, match=f"image '{image}' has no caption of kind MoodFeel"):
        decode(run)
    captions.loc[gone, "text"] = " "
    study.write_captions("words", captions, overwrite=True)
    with pytest.raises(CaptionError, match="no caption of kind MoodFeel"):
        decode(run)


def test_a_text_encoder_that_changed_since_training_is_refused(fresh):
    facts = read_json(fresh.encoder_dir / "config.json")
    write_json(
        fresh.encoder_dir / "config.json",
        {**facts, "text_encoder": {"name": "clip:x", "revision": "folder-0"}},
    )
    with pytest.raises(RunError, match="was trained on clip:x in revision folder-0"):
        decode(fresh)


def test_a_run_without_an_encoder_is_refused(fresh, tmp_path):
    shutil.rmtree(fresh.encoder_dir)
    with pytest.raises(RunError, match="holds no trained encoder"):
        decode(fresh)
    with pytest.raises(RunError, match="does not exist"):
        Decoder.from_pretrained(tmp_path / "nowhere")


def test_another_study_under_the_run_is_refused(fresh, study, tmp_path):
    other = shutil.copytree(study.path, tmp_path / "other")
    info = read_json(other / "study.json")
    write_json(other / "study.json", {**info, "ch_names": ["O1", "O2", "P3", "Cz"]})
    fresh.config["study"] = str(other)
    with pytest.raises(RunError, match="trained on other channels"):
        decode(fresh)


def test_a_study_that_knows_categories_only_is_decoded_too(fresh, study, tmp_path):
    other = shutil.copytree(study.path, tmp_path / "other")
    info = read_json(other / "study.json")
    write_json(other / "study.json", {**info, "image_identity": "category"})
    fresh.config["study"] = str(other)
    assert len(decode(fresh).prompts) == 36


# -- new EEG --------------------------------------------------------------------------------------
def test_new_eeg_is_decoded_without_study_split_or_images(run, study, tmp_path):
    """The encoder folder alone will do, and gives what the run gave."""
    folder = shutil.copytree(run.encoder_dir, tmp_path / "encoder")
    decoder = Decoder.from_pretrained(folder, device="cpu")
    test = run.fold.test
    decoded = decoder.decode(study.eeg[test], subject=study.trials["subject"][test].tolist())
    columns = ["head", "rank", "caption_id", "text", "similarity", "confidence", "pool"]
    kept = run.decodings.sort_values("trial_id", kind="stable")
    by_trial = {t: i for i, t in enumerate(test.tolist())}
    expected = kept.assign(trial_id=kept["trial_id"].map(by_trial)).sort_values(
        "trial_id", kind="stable"
    )
    pd.testing.assert_frame_equal(
        decoded.captions[columns].reset_index(drop=True), expected[columns].reset_index(drop=True)
    )
    prompts = decoder.prompts(decoded)
    stored = run.prompts.query("source == 'eeg'").set_index("trial_id")["text"]
    assert [p.text for p in prompts] == stored[test.tolist()].tolist()
    assert len(decoded) == 12 and decoded.heads == list(HEADS)
    assert decoder.prompts(decoded, per_head=2)[0].text != prompts[0].text


def test_decoded_prompts_are_drawn(run, study):
    decoder = Decoder.from_pretrained(run)
    prompts = decoder.prompts(decoder.decode(study.eeg[:2]))

    class Gray(Generator):
        name, revision, max_tokens = "gray", "1", 99

        def count_tokens(self, text):
            return 1

        def generate(self, prompts, seeds):
            return np.array([np.full((2, 2, 3), s % 256, np.uint8) for s in seeds])

    images = decoder.generate(prompts, generator=Gray(), seed=5)
    assert images[:, 0, 0, 0].tolist() == [image_seed(5, i) % 256 for i in range(2)]
    assert np.array_equal(
        decoder.generate([p.text for p in prompts], generator=Gray(), seed=5), images
    )


def test_an_embedding_does_not_depend_on_the_batch(run, study):
    decoder = Decoder.from_pretrained(run)
    whole = decoder.embed(study.eeg)
    one = decoder.embed(study.eeg[3:4])
    for head in HEADS:
        np.testing.assert_allclose(one[head][0], whole[head][3], atol=1e-6)
        assert whole[head].shape == (len(study.eeg), tiny_models.N_DIMS)
    assert decoder.embed(study.eeg[:0])["MoodFeel"].shape == (0, tiny_models.N_DIMS)


@pytest.mark.parametrize(
    ("change", "kwargs", "says"),
    [
        (
            lambda e: e[0],
            {},
            r"numbers of shape \(n_trials, 4, 12\).*a single trial is eeg\[None\]",
        ),
        (lambda e: e[:, :3], {}, "4 channels and 12 samples a trial, got 3 and 12"),
        (lambda e: e[:, :, :9], {}, "got 4 and 9"),
        (lambda e: e * 1e6, {}, "give the EEG in V"),
        (lambda e: e * 1e-6, {}, "give the EEG in V"),
        (lambda e: e, {"sfreq": 250.0}, "trained at 100 Hz, got 250 Hz; resample"),
        (lambda e: e, {"ch_names": ["O2", "O1", "P3", "P4"]}, "'O2' in place 0, where 'O1' was"),
        (lambda e: e, {"ch_names": ["O1"]}, "1 channels instead of 4"),
        (lambda e: e, {"subject": "S1"}, "unknown subject .* did you mean 's1'"),
        (lambda e: e, {"subject": ["s1"]}, "2 trials need one subject or 2, got 1"),
        (lambda e: e, {"positions": np.zeros((3, 3))}, r"positions must be \(4, 3\)"),
        (lambda e: e.astype(complex), {}, "must be numbers"),
    ],
)
def test_eeg_that_does_not_fit_is_refused_in_one_sentence(run, study, change, kwargs, says):
    decoder = Decoder.from_pretrained(run)
    with pytest.raises((InputError, StudyError), match=says):
        decoder.embed(change(np.array(study.eeg[:2])), **kwargs)


def test_nan_and_flat_channels_are_named(run, study):
    decoder = Decoder.from_pretrained(run)
    eeg = np.array(study.eeg[:3])
    eeg[2, 1, 5] = np.nan
    with pytest.raises(InputError, match="trial 2, channel 'O2' holds a value that is not finite"):
        decoder.decode(eeg)
    eeg[2, 1] = 3.0
    with pytest.raises(InputError, match="trial 2, channel 'O2' is flat"):
        decoder.decode(eeg)


def test_a_run_that_was_not_decoded_has_no_pool(fresh, study):
    with pytest.raises(RunError, match=r"no candidate captions for ObjectSnap.*run 'eegprompt"):
        Decoder.from_pretrained(fresh).decode(study.eeg[:1])


def test_prompts_can_be_composed_for_another_generator(run):
    class Short(Generator):
        name, revision, max_tokens = "short", "1", 3

        def count_tokens(self, text):
            return 1 + len(text.split(","))

        def generate(self, prompts, seeds):
            raise AssertionError

    table = prompt_table(run, Short())
    assert table["n_tokens"].max() == 3
    assert (table["heads"].map(json.loads).map(len) == 2).all()


def test_seeds_are_of_run_trial_and_sample_alone():
    seeds = [image_seed(r, t, s) for r in range(3) for t in range(40) for s in range(3)]
    assert len(set(seeds)) == len(seeds) and all(0 <= s < 2**32 for s in seeds)
    assert image_seed(0, 7) == image_seed(np.int64(0), np.int64(7), 0)
    assert SHAPE == (4, 12)

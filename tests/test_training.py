"""Training end to end on small planted studies: what it learns, what it may not see, how it resumes."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from eegprompt.core.errors import (
    CaptionError,
    InputError,
    RunError,
    SplitError,
    StudyError,
    TrainingError,
    UnknownNameError,
)
from eegprompt.core.files import read_json
from eegprompt.encoders.saved import load_encoder
from eegprompt.run import Run
from eegprompt.settings import load_config
from eegprompt.steps import train as training
from eegprompt.steps.train import train
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split
from eegprompt.training import batches as given
from eegprompt.training.alignment import Alignment

KINDS = ("ObjectSnap", "MoodFeel")
N_CLASSES, N_IMAGES, N_TRIALS = 4, 24, 240


class Hashed:
    """A text encoder whose embeddings are random but fixed."""

    name, revision, max_tokens = "hashed", "1", 77

    def embed(self, texts):
        seeds = [int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) for t in texts]
        rows = np.stack([np.random.default_rng(s).normal(size=16) for s in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def count_tokens(self, text):
        return len(text.split()) + 2


def write_study(path, signal=2.0, seed=0, n_subjects=1):
    """Images of four classes; each class has its own topography and latency."""
    rng = np.random.default_rng(seed)
    image = np.tile(np.arange(N_IMAGES), N_TRIALS // N_IMAGES)
    patterns = np.random.default_rng(5).normal(size=(N_CLASSES, 6, 1))
    times = np.arange(40) / 100
    waves = np.exp(-(((times - 0.1 - 0.05 * np.arange(N_CLASSES)[:, None]) / 0.03) ** 2))
    eeg = rng.normal(size=(N_TRIALS, 6, 40))
    eeg += signal * (patterns * waves[:, None])[image % N_CLASSES]
    directions = rng.normal(size=(6, 3))
    places = 0.09 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    names = [f"E{i}" for i in range(6)]
    with StudyWriter.open(path) as writer:
        writer.append(1e-5 * eeg)
        writer.finish(
            info={
                "name": "planted", "ch_names": names, "ch_pos": dict(zip(names, places.tolist())),
                "sfreq": 100.0, "tmin": 0.0, "unit": "V", "design": "randomised",
                "image_identity": "known",
            },
            trials=pd.DataFrame(
                {
                    "subject": [f"s{i % n_subjects}" for i in range(N_TRIALS)],
                    "image_id": [f"i{i:02d}" for i in image],
                    "category": [f"c{i % N_CLASSES}" for i in image],
                }
            ),
            images=pd.DataFrame(
                {
                    "image_id": [f"i{i:02d}" for i in range(N_IMAGES)],
                    "category": [f"c{i % N_CLASSES}" for i in range(N_IMAGES)],
                }
            ),
        )  # fmt: skip
    study = Study(path)
    side = image // N_CLASSES
    fold = Fold(*(np.flatnonzero(np.isin(side, s)) for s in ([0, 1, 2, 3], [4], [5])))
    study.write_split(Split("official", (fold,)))
    rows = [
        {
            "image_id": f"i{i:02d}",
            "kind": kind,
            "text": f"{kind} {'ab'[i // 12]} {i % N_CLASSES}",  # two phrasings of each meaning
            "meaning": f"{i % N_CLASSES}",
        }
        for i in range(N_IMAGES)
        for kind in KINDS
    ]
    study.write_captions("mine", pd.DataFrame(rows))
    return Study(path)


def settings(study, **changes):
    training_changes = changes.pop("training", {})
    return load_config(
        {
            "study": str(study.path),
            "captions": "mine",
            "kinds": KINDS,
            "encoder": {"options": {"n_filters": 6, "width": 8, "hidden": 8}},
            "training": {"epochs": 4, "batch_size": 40, "device": "cpu", **training_changes},
            **changes,
        }
    )


def go(study, out, progress=lambda *_: None, config=None, **options):
    config = config or settings(study)
    return train(study, out, config, progress=progress, text_encoder=Hashed(), **options)


def weights(run):
    return load_file(run.encoder_dir / "model.safetensors")


def assert_same_weights(a, b, but=()):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    for name in a.keys() - set(but):
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("studies") / "study")


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    return go(study, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def own(study, tmp_path):
    """A copy of the study that a test may spoil."""
    shutil.copytree(study.path, tmp_path / "own")
    return Study(tmp_path / "own")


# -- what comes out --------------------------------------------------------------------------------
def test_the_run_is_complete(run, study):
    opened = Run(run.path)
    assert opened.config["captions"] == "mine"
    encoder, steps, facts = load_encoder(opened.encoder_dir, device="cpu")
    assert facts["ch_names"] == study.ch_names and steps.names in (("standardize",), ("whiten",))
    assert facts["kinds"] == list(KINDS) == list(facts["scales"])
    assert (facts["sfreq"], facts["tmin"], facts["subjects"]) == (100.0, 0.0, ["s0"])
    assert facts["categories"] == ["c0", "c1", "c2", "c3"]
    fold = opened.fold
    places = torch.tensor(facts["positions"])
    embedded = encoder(torch.from_numpy(steps.apply(study.eeg[fold.test])), places)
    assert embedded["MoodFeel"].shape == (len(fold.test), 16)
    curve = pd.read_parquet(opened.training_log_path)
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    assert {"train_loss", "val_loss", "val_top1_ObjectSnap"} <= set(curve)
    assert curve.notna().all(axis=None) and curve["val_top1_MoodFeel"].between(0, 1).all()


def test_the_best_pass_is_kept(run):
    curve = pd.read_parquet(run.training_log_path)
    record = read_json(run.path / "provenance.json")["train"]
    assert record["selected_epoch"] == int(curve["epoch"][curve["val_loss"].idxmin()])
    assert record["selected_by"] == "lowest validation loss"


def planted_accuracy(tmp_path, signal):
    study = write_study(tmp_path / f"study{signal}", signal)
    config = settings(study, training={"epochs": 30})
    run = go(study, tmp_path / f"run{signal}", config=config)
    encoder, steps, facts = load_encoder(run.encoder_dir, device="cpu")
    test = run.fold.test
    with torch.no_grad():
        embedded = encoder(
            torch.from_numpy(steps.apply(study.eeg[test])), torch.tensor(facts["positions"])
        )
    texts = [f"ObjectSnap b {c}" for c in range(N_CLASSES)]
    chosen = (embedded["ObjectSnap"].numpy() @ Hashed().embed(texts).T).argmax(axis=1)
    true = study.trials["category"].iloc[test].str[1:].astype(int)
    return float((chosen == true.to_numpy()).mean())


def test_finds_what_was_planted_and_nothing_where_nothing_was(tmp_path):
    assert planted_accuracy(tmp_path, 2.0) > 0.7  # chance .25; 40 test trials
    assert planted_accuracy(tmp_path, 0.0) < 0.45


# -- what training may not see ---------------------------------------------------------------------
def test_the_test_side_does_not_reach_the_trainer(own, run, tmp_path):
    test = run.fold.test
    eeg = np.load(own.path / "eeg.npy")
    eeg[test] = np.nan
    np.save(own.path / "eeg.npy", eeg)
    trials = own.trials.copy()
    trials.loc[test, "category"] = "nonsense"
    trials.loc[test, "subject"] = "nobody"
    trials.loc[test, "image_id"] = trials.loc[test, "image_id"].to_numpy()[::-1]
    trials.to_parquet(own.path / "trials.parquet", index=False)
    images = own.images.copy()
    images.loc[images["image_id"].isin(trials.loc[test, "image_id"]), "category"] = "nonsense"
    images.to_parquet(own.path / "images.parquet", index=False)
    captions = own.captions("mine")
    unseen = set(run.study.trials["image_id"].iloc[test])
    captions.loc[captions["image_id"].isin(unseen), "text"] = "something else"
    own.write_captions("mine", captions, overwrite=True)
    assert_same_weights(run, go(Study(own.path), tmp_path / "run"))


def test_reads_no_row_of_the_test_side(own, run, monkeypatch):
    """The only ids that the gathering function is given are those of the two other sides."""
    seen = []
    original = given.collect

    def spy(study, train_ids, val_ids, *rest):
        seen.extend([*train_ids, *val_ids])
        return original(study, train_ids, val_ids, *rest)

    monkeypatch.setattr(training, "collect", spy)
    go(own, own.path.parent / "run", config=settings(own, training={"epochs": 1}))
    assert seen and not set(seen) & set(run.fold.test.tolist())


def test_validation_labels_select_but_do_not_teach(own, run, tmp_path):
    """Other validation data: the same weights after the first pass, which nothing has selected.

    But for the few numbers by which a network and its branches are added.
    """
    fold = run.fold
    eeg = np.load(own.path / "eeg.npy")
    eeg[fold.val] = eeg[fold.val][::-1]
    np.save(own.path / "eeg.npy", eeg)
    one = settings(own, training={"epochs": 1})
    changed = go(Study(own.path), tmp_path / "changed", config=one)
    assert_same_weights(
        go(run.study, tmp_path / "same", config=settings(run.study, training={"epochs": 1})),
        changed,
        but=("network_scale", "branch_scale", "anchor"),
    )


# -- again, and after an interruption --------------------------------------------------------------
def test_same_seed_same_bytes_and_another_seed_other_weights(study, run, tmp_path):
    torch.manual_seed(99)  # the caller's random state plays no part, and is left alone
    before = torch.get_rng_state()
    again = go(study, tmp_path / "again")
    assert torch.equal(before, torch.get_rng_state())
    a, b = (r.encoder_dir / "model.safetensors" for r in (run, again))
    assert a.read_bytes() == b.read_bytes()
    other = go(study, tmp_path / "other", config=settings(study, seed=1))
    assert (other.encoder_dir / "model.safetensors").read_bytes() != a.read_bytes()


def test_goes_on_after_an_interruption_as_if_there_had_been_none(study, run, tmp_path):
    def stop(done, total, label):
        if label.startswith("training") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(study, tmp_path / "run", stop)
    assert not (tmp_path / "run" / "encoder").exists()
    passes = []
    resumed = go(study, tmp_path / "run", lambda d, t, label: passes.append((d, label[:8])))
    done = [d for d, label in passes if label == "training"]
    assert done[0] > 1 and done[-1] == 4
    assert_same_weights(run, resumed)
    pd.testing.assert_frame_equal(*(pd.read_parquet(r.training_log_path) for r in (run, resumed)))


def test_stopping_early_is_final(study, tmp_path):
    """Killed between the last pass and the writing of the encoder: no pass is added."""
    config = settings(study, training={"epochs": 30, "patience": 1, "learning_rate": 0.05})
    run = go(study, tmp_path / "run", config=config)
    curve = pd.read_parquet(run.training_log_path)
    record = read_json(run.path / "provenance.json")["train"]
    assert record["stopped_early"] and len(curve) < 30
    before = weights(run)
    shutil.rmtree(run.encoder_dir)
    again = go(study, tmp_path / "run", config=config)
    assert len(pd.read_parquet(again.training_log_path)) == len(curve)
    assert all(torch.equal(before[name], value) for name, value in weights(again).items())


def test_a_checkpoint_that_does_not_fit_the_disk_leaves_the_one_before(
    study, tmp_path, monkeypatch
):
    real, calls = torch.save, []

    def save(value, path, *rest, **options):
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        return real(value, path, *rest, **options)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="free some space"):
        go(study, tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert go(study, tmp_path / "run").path == tmp_path / "run"


def test_finished_training_is_not_done_again(study, run):
    stamp = (run.encoder_dir / "model.safetensors").stat().st_mtime_ns
    passes = []
    later = settings(study, decoding={"per_head": 2})  # does not decide training
    again = go(study, run.path, lambda *a: passes.append(a), config=later)
    assert not passes and again.config["decoding"]["per_head"] == 2
    assert (run.encoder_dir / "model.safetensors").stat().st_mtime_ns == stamp


def test_not_resuming_begins_anew(own, tmp_path):
    one = settings(own, training={"epochs": 1})
    go(own, tmp_path / "run", config=one)
    passes = []
    go(own, tmp_path / "run", lambda *a: passes.append(a), config=one, resume=False)
    assert any(label.startswith("training") for _, _, label in passes)


def test_another_configuration_or_study_is_refused(own, tmp_path):
    one = settings(own, training={"epochs": 1})
    go(own, tmp_path / "run", config=one)
    two = settings(own, training={"epochs": 2})
    with pytest.raises(RunError, match=r"training.epochs: 1 there, 2 asked for.*--overwrite"):
        go(own, tmp_path / "run", config=two)
    captions = own.captions("mine")
    captions["text"] = captions["text"].str.upper()
    own.write_captions("mine", captions, overwrite=True)
    with pytest.raises(RunError, match="captions"):
        go(own, tmp_path / "run", config=one)
    assert len(pd.read_parquet(go(own, tmp_path / "run", config=two, overwrite=True)
                               .training_log_path)) == 2  # fmt: skip
    (tmp_path / "stuff").mkdir()
    (tmp_path / "stuff" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is no run"):
        go(own, tmp_path / "stuff", config=one, overwrite=True)
    assert (tmp_path / "stuff" / "thesis.txt").exists()


# -- how it is optimized ---------------------------------------------------------------------------
def module_of(study, **changes):
    config = settings(study, **changes)
    fold = study.split("official").fold(0)
    material = given.collect(
        study, fold.train, fold.val, study.captions("mine"), config, None, Hashed()
    )
    return Alignment(material, config), material


@pytest.mark.parametrize("objective", ["clip", "siglip", "mse"])
def test_every_parameter_is_in_the_optimizer(study, objective):
    module, _ = module_of(study, training={"objective": objective})
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "loggers": []})()
    (optimizer,), _ = module.configure_optimizers()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = [n for n, p in module.named_parameters() if id(p) not in held]
    assert not names
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(held)
    if objective == "clip":
        assert id(module.objective.log_scale) in held


def test_positives_are_same_image_or_same_meaning_and_never_just_same_class(own):
    captions = own.captions("mine")
    captions = captions[captions["kind"] == "ObjectSnap"]
    captions["text"] = "text of " + captions["image_id"]
    captions["meaning"] = captions["image_id"].str[1:].astype(int).floordiv(8).astype(str)
    captions.loc[captions["image_id"] == "i00", "meaning"] = None
    own.write_captions("mine", captions, overwrite=True)
    module, _ = module_of(Study(own.path), kinds=("ObjectSnap",))
    images = sorted(own.trials["image_id"].iloc[np.concatenate(
        [own.split("official").fold(0).train, own.split("official").fold(0).val]
    )].unique())  # fmt: skip
    number = torch.tensor([images.index(i) for i in ("i00", "i00", "i01", "i02", "i08")])
    _, positives = module.targets(number, None)
    expected = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert positives["ObjectSnap"].int().tolist() == expected


def test_several_captions_of_a_kind_are_drawn_in_turn(own):
    captions = own.captions("mine")
    second = captions.assign(text=captions["text"] + " again")
    own.write_captions("mine", pd.concat([captions, second], ignore_index=True), overwrite=True)
    _, material = module_of(Study(own.path))
    drawn = material.captions["MoodFeel"].choose(np.zeros(200, int), np.random.default_rng(0))
    assert sorted(np.unique(drawn)) == sorted(material.captions["MoodFeel"].of_image[0])
    assert len(np.unique(drawn)) == 2


def test_batches_cover_the_side_once_and_are_of_one_size():
    batches = given.ShuffledBatches(103, 25, seed=0)
    first = list(batches)
    assert sorted(np.concatenate(first)) == list(range(103)) and len(first) == len(batches)
    assert max(map(len, first)) - min(map(len, first)) <= 1
    batches.epoch = lambda: 1
    assert not all(np.array_equal(a, b) for a, b in zip(first, batches))


def test_grouped_batches_hold_whole_images():
    image = np.repeat(np.arange(20), 5)
    batches = list(given.ShuffledBatches(100, 25, 0, image))
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert [len(np.unique(image[b])) for b in batches] == [5, 5, 5, 5]
    again = list(given.ShuffledBatches(100, 25, 1, image))
    assert set(image[batches[0]]) != set(image[again[0]])


def test_trials_are_mixed_with_those_of_other_subjects_of_the_same_image(tmp_path):
    study = write_study(tmp_path / "study", n_subjects=5)  # image i is of subjects i % 5 alone, but
    trials = study.trials.copy()  # for the second half of the trials, which are shifted by one
    trials["subject"] = [f"s{(i + i // 120) % 5}" for i in range(N_TRIALS)]
    trials.to_parquet(study.path / "trials.parquet", index=False)
    _, material = module_of(Study(study.path), training={"mixing": 0.5})
    side = material.sides["train"]
    data = given.TrialsDataset(material, "train", 0.5, seed=3)
    which = np.arange(40)
    batch, plain = data[which], material.read(side.rows[which])
    alone = [
        i for i in which
        if (side.subject[data.same[side.image[i]]] == side.subject[i]).all()
    ]  # fmt: skip
    mixed = np.setdiff1d(which, alone)
    assert len(mixed) > 20
    np.testing.assert_array_equal(batch["eeg"][alone], plain[alone])
    assert (batch["subject"][mixed] == -1).all()
    for i in mixed:  # the mixture lies between the trial and one of its image by another subject
        others = [j for j in data.same[side.image[i]] if side.subject[j] != side.subject[i]]
        apart = material.read(side.rows[others]) - plain[i]
        moved = batch["eeg"][i].numpy() - plain[i]
        share = (moved * apart).sum(axis=(1, 2)) / (apart**2).sum(axis=(1, 2))
        left = np.abs(moved - share[:, None, None] * apart).max(axis=(1, 2))
        assert left.min() < 1e-5 and -1e-6 <= share[left.argmin()] <= 1 + 1e-6
    assert torch.equal(data[which]["eeg"], batch["eeg"])
    data.epoch = lambda: 1
    assert not torch.equal(data[which]["eeg"], batch["eeg"])
    assert not given.TrialsDataset(material, "val").mixing


# -- which epoch is kept ---------------------------------------------------------------------------
class Trainer:
    should_stop = False

    def __init__(self, value=0.0):
        self.callback_metrics = {"val_score": value}


def test_patience_by_retrieval_counts_only_what_is_clearly_worse():
    from eegprompt.training.checkpoints import Patience

    right, half = np.ones(100), np.arange(100) % 2.0
    slightly = right.copy()
    slightly[0] = 0
    for by_credit, credit, stops in (
        (True, half, True), (True, slightly, False), (False, slightly, True),
    ):  # fmt: skip
        patience = Patience(2, by_credit)
        patience.on_train_epoch_end(Trainer(1.0), type("M", (), {"credit": right}))
        for _ in range(2):
            trainer = Trainer(0.5)
            patience.on_train_epoch_end(trainer, type("M", (), {"credit": credit}))
        assert patience.stopped == trainer.should_stop == stops
        again = Patience(2, by_credit)
        again.load_state_dict(patience.state_dict())
        again.on_train_start(trainer := Trainer(), None)
        assert trainer.should_stop == stops and again.waited == patience.waited


def test_the_epoch_that_retrieves_best_is_kept(study, tmp_path):
    config = settings(study, training={"epochs": 6, "selection": "retrieval"})
    run = go(study, tmp_path / "run", config=config)
    curve = pd.read_parquet(run.training_log_path)
    record = read_json(run.path / "provenance.json")["train"]
    score = curve[[c for c in curve if c.startswith("val_top1")]].mean(axis=1)
    best = curve["epoch"][(score + 1e-6 * curve["epoch"]).idxmax()]
    assert record["selected_epoch"] == best and record["selected_by"] == "validation retrieval"


def test_that_the_first_epoch_was_the_best_is_said(study, tmp_path):
    config = settings(study, training={"epochs": 3, "learning_rate": 1.0})
    with pytest.warns(UserWarning, match="the first was best"):
        go(study, tmp_path / "run", config=config)


def test_a_study_larger_than_memory_trains_alike(own, run, tmp_path, monkeypatch):
    monkeypatch.setattr(given, "IN_MEMORY", 0)
    streamed = go(own, tmp_path / "run")
    for name, value in weights(run).items():
        torch.testing.assert_close(weights(streamed)[name], value, atol=1e-4, rtol=1e-3)


def test_subjects_share_an_encoder(tmp_path):
    study = write_study(tmp_path / "study", n_subjects=2)
    run = go(study, tmp_path / "run", config=settings(study, training={"epochs": 1}))
    encoder, _, facts = load_encoder(run.encoder_dir, device="cpu")
    assert facts["subjects"] == ["s0", "s1"] and encoder.config["n_subjects"] == 2


# -- bad input -------------------------------------------------------------------------------------
def test_missing_captions(own, tmp_path):
    captions = own.captions("mine")
    shown = own.trials["image_id"].iloc[own.split("official").fold(0).train[0]]
    gone = (captions["image_id"] == shown) & (captions["kind"] == "MoodFeel")
    own.write_captions("mine", captions[~gone], overwrite=True)
    with pytest.raises(CaptionError, match=rf"lacks 1 of the .* image '{shown}', kind MoodFeel"):
        go(own, tmp_path / "run")
    captions.loc[gone, "text"] = " "
    own.write_captions("mine", captions, overwrite=True)
    with pytest.raises(CaptionError, match="lacks 1"):
        go(own, tmp_path / "run2")
    captions["text"] = "always the same"
    captions["meaning"] = None
    own.write_captions("mine", captions, overwrite=True)
    with pytest.raises(CaptionError, match="nothing to tell apart"):
        go(own, tmp_path / "run3")


@pytest.mark.parametrize("side", ["train", "val"])
def test_nan(own, tmp_path, side):
    trial = getattr(own.split("official").fold(0), side)[3]
    eeg = np.load(own.path / "eeg.npy")
    eeg[trial, 2, 5] = np.nan
    np.save(own.path / "eeg.npy", eeg)
    with pytest.raises(StudyError, match=rf"trial {trial}, channel 'E2' .* not finite"):
        go(Study(own.path), tmp_path / "run")


def test_flat_channel(own, tmp_path):
    eeg = np.load(own.path / "eeg.npy")
    eeg[own.split("official").fold(0).train, 4] = 0
    np.save(own.path / "eeg.npy", eeg)
    with pytest.raises(StudyError, match="channel 'E4' is flat"):
        go(Study(own.path), tmp_path / "run")


def test_names_that_do_not_exist(study, tmp_path):
    for changes, match in (
        ({"split": "offical"}, "did you mean 'official'"),
        ({"captions": "mien"}, "did you mean 'mine'"),
        ({"training": {"objective": "clipp"}}, "did you mean 'clip'"),
        ({"training": {"preprocessing": ["whitening"]}}, "did you mean 'whiten'"),
        ({"encoder": {"options": {"widht": 8}}}, "did you mean 'width'"),
        ({"encoder": {"name": "transfromer"}}, "did you mean 'transformer'"),
    ):
        with pytest.raises(UnknownNameError, match=match):
            go(study, tmp_path / "run", config=settings(study, **changes))
        assert not (tmp_path / "run").exists()
    with pytest.raises(SplitError, match="folds 0 to 0"):
        go(study, tmp_path / "run", config=settings(study, fold=1))


def test_volts_without_a_step_that_scales_them(study, tmp_path):
    with pytest.raises(InputError, match=r"root mean square is 1\.?\d*e-05.*'standardize'"):
        go(study, tmp_path / "run", config=settings(study, training={"preprocessing": []}))


def test_a_loss_that_is_not_finite(study, tmp_path):
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        go(study, tmp_path / "run", config=settings(study, training={"learning_rate": 1e30}))


def test_quiet(study, tmp_path, capfd, recwarn):
    go(study, tmp_path / "run", progress=None, config=settings(study, training={"epochs": 1}))
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""
    assert not [w for w in recwarn if "lightning" in str(w.filename)]

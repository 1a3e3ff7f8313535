"""The built-in study on disk: tables, captions, split, truth, and what can be read from it."""

import hashlib
import json

import numpy as np
import pytest

from eegprompt.builtin.eeg import COMMON, load_truth
from eegprompt.builtin.world import is_held_out
from eegprompt.core.errors import InputError, StorageError, StudyError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.signal.montage import EEGCVPR_CHANNELS
from eegprompt.signal.steps import STEPS, preprocess
from eegprompt.steps.info import info as study_info
from eegprompt.steps.simulate import VAL_FRACTION, simulate
from eegprompt.study import Study

SMALL = {"subjects": 2, "images": 48, "test_images": 16, "repetitions": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("study") / "s", **SMALL)


@pytest.fixture(scope="module")
def learnable(tmp_path_factory):
    """Makes studies with enough trials to learn from, one a set of options."""
    made = {}

    def get(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in made:
            out = tmp_path_factory.mktemp("study") / "s"
            size = {"subjects": 1, "images": 320, "test_images": 96, "repetitions": 2}
            made[key] = simulate(out, **{**size, **options})
        return made[key]

    return get


def lda(study, *, by_time=False):
    """Accuracy of shrinkage LDA on the object, from single trials, over chance."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    first = int(np.searchsorted(study.times, 0.05))
    eeg = study.eeg[:, :, first : first + 24] * 1e6  # 50–240 ms in four bins
    x = eeg.reshape(study.n_trials, study.n_chans, 4, 6).mean(axis=3).reshape(study.n_trials, -1)
    y = study.trials["category"].to_numpy()
    if by_time:  # every fourth trial is tested: naive, as in the literature that was fooled
        test = np.arange(study.n_trials) % 4 == 0
        train, test = np.flatnonzero(~test), np.flatnonzero(test)
    else:
        fold = study.split("official").fold(0)
        train, test = fold.train, fold.test
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[train], y[train])
    return float((model.predict(x[test]) == y[test]).mean()) * len(study.categories)


def contents(path):
    files = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            name = str(file.relative_to(path))
            if name == "study.json":
                info = json.loads(file.read_text())
                for volatile in ("created", "command"):
                    info["provenance"].pop(volatile)
                files[name] = json.dumps(info)
            else:
                files[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return files


def test_it_is_a_study_like_any_other(study):
    assert study.name == "builtin" and study.unit == "V"
    assert study.design == "randomised" and study.image_identity == "known"
    assert study.info["license"] == "Apache-2.0"
    assert study.ch_names == list(EEGCVPR_CHANNELS)
    assert np.isfinite(study.positions).all()
    assert study.n_trials == 2 * (48 + 16)
    assert study.times[0] < -0.09 and study.times[-1] > 0.68
    assert any(step["name"] == "baseline" for step in study.info["steps"])
    assert study.subjects == ["S1", "S2"]
    assert len(study.categories) == 16
    assert Study(study.path).split_names() == ["official"]


def test_its_steps_are_named_like_those_of_any_study(study, tmp_path):
    steps = {step["name"]: step for step in study.info["steps"]}
    assert set(steps) <= set(STEPS)
    band = steps["band-pass"]
    assert 0 < band["low"] < band["high"] < study.sfreq / 2
    filters = study_info(study)["filters"]
    assert f"{band['low']:g} Hz" in filters and f"{band['high']:g} Hz" in filters
    for again in (
        {"name": "average reference"},
        {"name": "band-pass", "low": 1, "high": 30},
        {"name": "baseline", "start": None, "stop": 0},
    ):
        with pytest.raises(InputError):
            preprocess(study, tmp_path / "again", [again])


def test_provenance_holds_every_parameter(study):
    configuration = study.info["provenance"]["configuration"]
    assert configuration["signal"] > 0
    assert configuration["parameters"]["pink_exponent"] == 1.2
    assert configuration["parameters"]["kinds"]["MoodFeel"]["latency"] == 0.3


def test_images_are_drawn_and_described(study):
    images = study.load_images(list(study.images["image_id"][:5]))
    assert images.shape == (5, 64, 64, 3) and images.std() > 10
    row = study.images.iloc[0]
    assert row["attr_object"] == row["category"]
    data = (study.path / row["path"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_every_image_has_ten_captions(study):
    table = study.captions("builtin")
    assert len(table) == 10 * len(study.images)
    assert set(table["kind"]) == set(KINDS)
    assert (table["text"].str.split().str.len() <= 20).all()
    joined = table[table["kind"] == "ObjectSnap"].merge(study.images, on="image_id")
    assert (joined["meaning"] == "object=" + joined["category"]).all()


def test_test_images_are_combinations_never_seen_in_training(study):
    fold = study.split("official").fold(0)
    images = study.images.set_index("image_id")
    combinations = {}
    for side in ("train", "val", "test"):
        ids = study.trials["image_id"].iloc[getattr(fold, side)].unique()
        rows = images.loc[ids, ["attr_object", "attr_color", "attr_setting"]]
        combinations[side] = set(rows.itertuples(index=False, name=None))
        shown = set(ids)
        for other in {"train", "val", "test"} - {side}:
            others = study.trials["image_id"].iloc[getattr(fold, other)]
            assert not shown & set(others)
    seen = combinations["train"] | combinations["val"]
    assert not seen & combinations["test"]
    assert all(is_held_out(*c) for c in combinations["test"])
    assert not any(is_held_out(*c) for c in seen)


def test_validation_is_balanced_over_classes(learnable):
    study = learnable()
    fold = study.split("official").fold(0)
    counts = study.trials["category"].iloc[fold.val].value_counts()
    assert len(counts) == 16 and counts.max() == counts.min()
    assert len(fold.val) / (len(fold.val) + len(fold.train)) == pytest.approx(
        VAL_FRACTION, abs=0.02
    )


def test_truth_rebuilds_what_was_planted(study):
    truth = load_truth(study)
    assert truth.kinds == tuple(KINDS) and truth.n_trials == study.n_trials
    np.testing.assert_array_equal(
        np.array(truth.subjects)[truth.trial_subject], study.trials["subject"]
    )
    shown = study.images["image_id"].to_numpy()[truth.trial_image]
    np.testing.assert_array_equal(shown, study.trials["image_id"])
    evoked = sum(truth.responses(kind) for kind in (*KINDS, COMMON))
    with_noise = np.corrcoef(evoked.ravel(), np.asarray(study.eeg).ravel())[0, 1]
    assert 0.1 < with_noise < 0.9
    with pytest.raises(UnknownNameError, match="unknown caption kind 'Mood'"):
        truth.responses("Mood")
    with pytest.raises(UnknownNameError, match="unknown subject 'S3'"):
        truth.evoked("MoodFeel", "S3")


def test_truth_is_exact(tmp_path):
    """What is left after taking the rebuilt responses away does not depend on the signal."""
    residues = []
    for signal in (0.0, 0.5):
        study = simulate(tmp_path / str(signal), **{**SMALL, "subjects": 1}, signal=signal)
        truth = load_truth(study)
        residues.append(study.eeg - sum(truth.responses(kind) for kind in (*KINDS, COMMON)))
    np.testing.assert_allclose(residues[0], residues[1], atol=1e-10)


def test_recordings_have_no_truth(study, tmp_path):
    import shutil

    shutil.copytree(study.path, tmp_path / "s")
    (tmp_path / "s" / "truth" / "truth.npz").write_bytes(b"PK half")
    with pytest.raises(StudyError, match="simulate the study again"):
        load_truth(Study(tmp_path / "s"))
    shutil.rmtree(tmp_path / "s" / "truth")
    with pytest.raises(StudyError, match="has no truth"):
        load_truth(Study(tmp_path / "s"))


def test_same_seed_same_bytes(study, tmp_path):
    again = simulate(tmp_path / "again", **SMALL)
    assert contents(again.path) == contents(study.path)
    other = simulate(tmp_path / "other", **SMALL, seed=1)
    a, b = contents(other.path), contents(study.path)
    for name in ("eeg.npy", "trials.parquet", "images.parquet", "captions/builtin.parquet"):
        assert a[name] != b[name]


def test_progress_counts_up_to_all_trials(tmp_path):
    calls = []
    simulate(tmp_path / "s", **SMALL, progress=lambda done, total, _: calls.append((done, total)))
    assert calls[-1] == (128, 128)
    assert [c[0] for c in calls] == sorted({c[0] for c in calls})


def test_lda_reads_the_object_where_signal_is_planted(learnable):
    assert lda(learnable()) > 2.0


def test_lda_is_at_chance_where_none_is(learnable):
    assert lda(learnable(signal=0.0)) < 1.0 + 3 * np.sqrt(15 / 192)


def test_drift_in_a_block_design_fools_a_naive_decoder(learnable):
    """The confound: no image information at all, and yet high accuracy, for class is time."""
    study = learnable(signal=0.0, drift=1.0, design="block")
    assert study.design == "block"
    per_block = study.trials.groupby(["subject", "block"])["category"].nunique()
    assert (per_block == 1).all() and len(per_block) == 16
    assert not any(step["name"] == "baseline" for step in study.info["steps"])
    assert lda(study, by_time=True) > 4


def test_drift_in_a_randomised_design_tells_nothing(learnable):
    assert lda(learnable(signal=0.0, drift=1.0), by_time=True) < 1.0 + 3 * np.sqrt(15 / 208)


def test_memory_does_not_grow_with_the_study(tmp_path):
    import tracemalloc

    peaks = []
    for repetitions in (1, 8):
        tracemalloc.start()
        simulate(tmp_path / str(repetitions), **{**SMALL, "repetitions": repetitions})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = (tmp_path / "8" / "eeg.npy").stat().st_size
    assert peaks[1] - peaks[0] < size / 10


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 10}, "images must be at least 32, .* got 10"),
        ({"test_images": 0}, "test_images must be at least 16"),
        ({"signal": -1}, "signal must lie between 0 and 100, got -1"),
        ({"design": "random"}, "unknown design 'random'; did you mean 'randomised'"),
        ({"subjects": 0}, "subjects must lie between"),
    ],
)
def test_bad_values_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        simulate(tmp_path / "s", **{**SMALL, **options})
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_kept(study):
    before = contents(study.path)
    with pytest.raises(InputError, match="exists already"):
        simulate(study.path, **SMALL)
    assert contents(study.path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_simulation_leaves_nothing(tmp_path, error):
    def stop(done, total, label):
        raise error

    expected = KeyboardInterrupt if error is KeyboardInterrupt else StorageError
    with pytest.raises(expected):
        simulate(tmp_path / "s", **SMALL, progress=stop)
    assert not list(tmp_path.iterdir())

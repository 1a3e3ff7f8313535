"""The maps of a run: found where they were planted, judged, and left out where they cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tiny_models
from eegprompt.analyses import Finding, Omitted, levels
from eegprompt.analyses import _maps as maps
from eegprompt.analyses._trials import in_steps, step_edges
from eegprompt.analyses.attribution import Attributed
from eegprompt.analyses.levels import Levels
from eegprompt.analyses.localization import planted_maps
from eegprompt.analyses.patterns import Patterns
from eegprompt.analyses.sanity import Sanity
from eegprompt.analyses.timecourse import Timecourse
from eegprompt.attribution import sanity as interpret_trust
from eegprompt.figures.scalp import SensorLayout
from eegprompt.run import Run
from eegprompt.settings import load_config
from eegprompt.signal.montage import positions_of
from eegprompt.steps.decode import decode
from eegprompt.steps.explain import context_of, explain
from eegprompt.steps.simulate import simulate
from eegprompt.steps.train import train

MINE = ["patterns", "attribution", "timecourse", "levels", "sanity", "localization"]
KINDS = ("ObjectSnap", "ClarityCue", "SpatialLink", "ThemeTag")


@pytest.fixture(scope="module", autouse=True)
def _smaller():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "HALF", 10)
        patch.setattr(maps, "PERMUTATIONS", 20)
        patch.setattr(maps, "INTEGRATION_STEPS", 6)
        patch.setattr("eegprompt.analyses.levels.FLIPS", 100)
        patch.setattr("eegprompt.figures.style.save_figure.__kwdefaults__", {"dpi": 60})
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Run:
    """A small simulated study with a strong signal, trained; ThemeTag's captions are of others."""
    place = tmp_path_factory.mktemp("scenes")
    study = simulate(place / "study", subjects=1, images=96, repetitions=4, sfreq=64, signal=2.0)
    table = study.captions("builtin")
    theme = table["kind"] == "ThemeTag"
    order = np.random.default_rng(0).permutation(int(theme.sum()))
    for column in ("text", "meaning"):
        table.loc[theme, column] = table.loc[theme, column].to_numpy()[order]
    study.write_captions("planted-null", table)
    config = load_config(
        {
            "study": str(study.path), "captions": "planted-null", "kinds": list(KINDS),
            "training": {"epochs": 12, "batch_size": 64},
            "encoder": {"options": {"window": 0.02}},
        }
    )  # fmt: skip
    return decode(train(study, place / "run", config))


@pytest.fixture(scope="module")
def found(scenes) -> dict[str, Finding]:
    return {f.name: f for f in explain(scenes, what=MINE)}


def arrays(run: Run, name: str) -> dict[str, np.ndarray]:
    return load_file(run.path / "explain" / f"{name}.safetensors")


def test_every_analysis_says_what_is_seen_and_what_not(found):
    assert list(found) == MINE
    for name, finding in found.items():
        assert len(finding.seen) > 40 and len(finding.not_concluded) > 80, name
        assert finding.table and finding.figures and finding.notes
        for image in finding.figures:
            assert image.path.exists() and image.png.exists() and len(image.caption) > 40
        keys = [set(row) for row in finding.table]
        assert all(k == keys[0] for k in keys), name


def test_a_planted_null_head_is_named_and_its_maps_are_refused(found):
    """A head at chance passes once in twenty studies: what is said of it must be what its p says, and a
    p of .001 would be no such accident."""
    rows = {row["head"]: row for row in found["patterns"].table}
    null = [h for h in KINDS if rows[h]["p (Holm)"] >= 0.05]
    assert rows["ThemeTag"]["p (Holm)"] > 0.001
    assert not set(null) - {"ThemeTag"}
    for head in KINDS:
        assert rows[head]["verdict"].startswith("head at chance") == (head in null)
    assert rows["ClarityCue"]["verdict"] == "passed"
    for name in ("patterns", "sanity", "attribution"):
        at_chance = [a.text for a in found[name].answers if a.question == "chance" and not a.found]
        assert at_chance == [] if not null else "ThemeTag" in at_chance[0]
    levels_shown = {p for r in found["levels"].table for p in r["levels"].split(" − ")}
    assert ("high" in levels_shown) == (not null)


def test_null_heads_pass_no_more_often_than_stated(scenes):
    """Captions that belong to other images, forty times: the test that names a head at chance."""
    material = context_of(scenes)
    known = maps.patterns_of(material)
    said = {h: known.outputs[h] for h in ("ClarityCue", "ThemeTag")}
    images, first = np.unique(known.units, return_index=True)
    code = np.searchsorted(images, known.units)
    alarms = 0
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(images))
        for head, output in said.items():
            others = known.captions[head][first[order]][code]
            found = interpret_trust.caption_information(
                output, others, known.units, n_permutations=99, seed=seed
            )
            alarms += found.p < 0.05
    # Forty tests with at most p < .05 each: more than eight happen once in two thousand times.
    assert alarms <= 8
    real = interpret_trust.caption_information(
        said["ClarityCue"], known.captions["ClarityCue"], known.units
    )
    assert real.p == 0.001


def test_patterns_localize_and_beat_gradients_and_the_untrained(found, scenes):
    by_method = {row["method"]: row for row in found["localization"].table}
    own = by_method["activation patterns"]["mean AUC at its peak"]
    planted = context_of(scenes).truth
    assert planted is not None and own > 0.65
    assert arrays(scenes, "localization")["auc/patterns"].shape == (len(KINDS),)
    for other in ("|gradient|, as in the paper", "untrained (weights shuffled)"):
        assert own > by_method[other]["mean AUC at its peak"]
    table = {row["head"]: row for row in found["patterns"].table}
    assert 60 <= table["ClarityCue"]["peak (ms)"] <= 110
    assert 150 <= table["SpatialLink"]["peak (ms)"] <= 240
    z = arrays(scenes, "patterns")["z/SpatialLink"]
    assert z.shape == (128, context_of(scenes).study.n_times)


def test_planted_maps_are_the_sums_of_their_sources(scenes):
    material = context_of(scenes)
    total, own = planted_maps(material)
    assert set(total) == set(KINDS)
    clarity = np.sqrt((own["ClarityCue"] ** 2).mean(axis=0))
    assert abs(material.times[clarity.argmax()] - 0.085) < 0.02
    assert np.corrcoef(total["ClarityCue"].ravel(), own["ClarityCue"].ravel())[0, 1] > 0.8


def test_levels_come_in_their_order(found, scenes):
    rows = {row["head or level"]: row for row in found["timecourse"].table}
    assert rows["level low"]["onset (ms)"] < rows["level mid"]["onset (ms)"]
    null = rows["ThemeTag"]
    assert null["p (cluster)"] > 0.002, "500 flips can say no more than that"
    assert (null["onset (ms)"] is None) == (null["p (cluster)"] >= 0.05)
    assert ("ThemeTag" in found["timecourse"].seen) == (null["onset (ms)"] is None)
    square = arrays(scenes, "timecourse")["generalization/ClarityCue"]
    assert square.shape[0] == square.shape[1] and np.diag(square).max() > 0.65
    assert found["levels"].table[0]["levels"] == "low − mid"
    assert found["levels"].table[0]["p (strongest cluster)"] < 0.05


def test_gradients_are_drawn_in_the_steps_of_the_encoder(found, scenes):
    """Windows that a convolution reads more often weigh more: a comb that says nothing of the EEG."""
    step = maps.attributions_of(context_of(scenes)).module.step
    assert step == 2, "windows of one sample, patches of two"
    course = np.mean([arrays(scenes, "attribution")[f"saliency/{h}"].mean(0) for h in KINDS], 0)
    even, odd = course[: len(course) // 2 * 2].reshape(-1, 2).T
    assert abs(np.log(even.mean() / odd.mean())) > 0.1, "there is such a comb"
    captions = " ".join(p.caption for p in found["attribution"].figures)
    assert "the encoder's own steps of 31 ms" in captions
    edges = step_edges(context_of(scenes).times, step)
    assert len(edges) == len(in_steps(course, step)) + 1
    assert edges[0] == pytest.approx(-0.1 - 0.5 / 64, abs=0.01)


def test_shuffled_labels_give_maps_that_fail(scenes, tmp_path):
    """What --deep does, without its second training."""
    from eegprompt.steps.explain import retrained

    run = Run(shutil.copytree(scenes.path, tmp_path / "run"))
    other = maps.patterns_of(retrained(run, "shuffled-labels", shuffle=True))
    # A head at chance passes once in twenty times at most, two of four heads at once hardly ever.
    assert sum(v.good for v in other.verdicts.values()) <= 1
    study = run.path / "explain" / "retrained" / "shuffled-labels" / "study"
    assert (study / "eeg.npy").is_symlink()


# -- levels across subjects ------------------------------------------------------------------------
CAP = ["Fp1", "Fp2", "F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "Oz", "O2"]


def eight_subjects(tmp_path, *, planted: bool, seed: int = 0):
    """What `levels` looks at: eight subjects see 16 images; a low head's meaning is in occipital
    channels at 100 ms, a high one's in frontal ones at 350 ms, in every subject with a sign of its
    own. Shuffled, every subject's EEG is that of other images, of others in each: what all subjects
    shared by chance, a test across subjects would find and should."""
    from types import SimpleNamespace

    from eegprompt.analyses import Image
    from eegprompt.figures.style import save_figure

    rng = np.random.default_rng(seed)
    subject, image = (a.ravel() for a in np.indices((8, 16)))
    times = np.arange(-6, 42) / 64
    said = {"ObjectSnap": rng.standard_normal((16, 3)), "MoodFeel": rng.standard_normal((16, 3))}
    eeg = 1e-5 * rng.standard_normal((128, len(CAP), len(times)))
    seen = image if planted else np.concatenate([rng.permutation(16) for _ in range(8)])
    where = {"ObjectSnap": (slice(11, 14), 0.1), "MoodFeel": (slice(0, 5), 0.35)}
    for head, (channels, at) in where.items():
        sign = rng.choice([-1, 1], 8)[subject]
        course = np.exp(-((times - at) ** 2) / 0.002)
        eeg[:, channels] += 1e-5 * (sign * said[head][seen, 0])[:, None, None] * course
    known = SimpleNamespace(
        ids=np.arange(128),
        units=image.astype(str),
        subjects=subject.astype(str),
        captions={h: v[image] for h, v in said.items()},
        # a head lets some of its own trial's noise through, at a moment of its own
        outputs={
            h: v[image] + np.array([0, 0, 3e5]) * eeg[:, 6, 2 * i, None]
            for i, (h, v) in enumerate(said.items())
        },
        above_chance=list(said),
    )
    material = SimpleNamespace(
        study=SimpleNamespace(eeg=eeg, unit="V", image_identity="known"), unit_name="images",
        sfreq=64.0, times=times, ch_names=CAP, seed=seed, progress=lambda *_: None,
        positions=np.array([positions_of(CAP)[n] for n in CAP], np.float32),
        save_figure=lambda f, name, text: Image(save_figure(f, tmp_path / name), text),
    )  # fmt: skip
    return known, material


def test_levels_across_eight_subjects(tmp_path, monkeypatch):
    known, material = eight_subjects(tmp_path, planted=True)
    monkeypatch.setattr(levels, "patterns_of", lambda _: known)
    found = Levels().compute(material)
    (answer,) = found.answers
    assert answer.found and answer.value == 8 and answer.p < 0.05
    assert "one encoder" in found.not_concluded
    (row,) = found.table
    assert row["units"] == 8 and row["p (strongest cluster)"] < 0.05
    assert 70 <= row["first more at (ms)"] <= 130 and 300 <= row["first less at (ms)"] <= 400
    assert set(row["at electrodes"].split(", ")) == {"O1", "Oz", "O2"}
    assert set(row["at electrodes "].split(", ")) <= set(CAP[:5])
    noise = found.arrays["t/low-high"][6, :2]  # which either head reads
    assert [p.path.exists() for p in found.figures] == [True, True]
    # Outputs of the trial itself would show where either head reads noise.
    monkeypatch.setattr(material.study, "image_identity", "category")
    own = Levels().compute(material)
    assert "reading of noise counts too" in own.notes[0]
    low, high = own.arrays["t/low-high"][6, :2]
    assert low > 2.5 > -2.5 > high and np.abs(noise).max() < 2.5


def test_levels_across_eight_subjects_differ_nowhere_where_nothing_was_planted(
    tmp_path, monkeypatch
):
    alarms = 0
    for figure in ("_over_time", "_maps"):
        monkeypatch.setattr(levels, figure, lambda *_: None)
    for seed in range(10):
        known, material = eight_subjects(tmp_path, planted=False, seed=seed)
        monkeypatch.setattr(levels, "patterns_of", lambda _, known=known: known)
        found = Levels().compute(material)
        alarms += any(answer.found for answer in found.answers)
    # Each seed raises a false alarm with p < .05: four or more of ten happen once in a thousand.
    assert alarms <= 3


# -- what is not an ordinary study -----------------------------------------------------------------
@pytest.fixture(scope="module")
def four(tmp_path_factory) -> Path:
    """Four electrodes, twelve samples, three heads, another encoder than ours."""
    place = tmp_path_factory.mktemp("four")
    clip = tiny_models.save_clip(place / "clip")
    study = tiny_models.save_study(place / "study", clip, n_images=48, noise=0.04)
    pipeline = tiny_models.save_pipeline(place / "pipeline")
    return decode(tiny_models.save_run(place / "run", study, clip, pipeline)).path


def test_four_electrodes_are_dots_and_recordings_have_no_truth(four):
    (left_out,) = explain(Run(four), what="localization")
    assert left_out.verdict == "left out" and "recording" in left_out.seen
    material = context_of(Run(four))
    places = positions_of(material.ch_names)
    material.positions = np.array([places[n] for n in material.ch_names], np.float32)
    for analysis in (Patterns, Attributed, Levels):
        finding = analysis()(material)
        assert "nothing is interpolated" in " ".join(finding.notes) or analysis is Levels
        assert len(finding.figures) >= 2


def test_marked_electrodes_are_dots_that_no_line_connects():
    from matplotlib.figure import Figure

    names = [
        "Fp1",
        "Fp2",
        "F7",
        "F3",
        "Fz",
        "F4",
        "F8",
        "T7",
        "C3",
        "Cz",
        "C4",
        "T8",
        "P7",
        "P3",
        "Pz",
        "P4",
        "P8",
        "O1",
        "Oz",
        "O2",
    ]
    cap = SensorLayout(names, np.array([positions_of(names)[n] for n in names], np.float32))
    axes = Figure().subplots()
    cap.draw(axes, np.arange(len(names)), (0, 9), mask=np.arange(len(names)) % 3 == 0)
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert marks and all(line.get_linewidth() == 0 for line in marks)


def test_maps_that_are_the_same_for_all_levels_are_said_to_be():
    from types import SimpleNamespace

    from eegprompt.analyses.attribution import _same_for_levels

    heads = ("ObjectSnap", "SceneSetting", "MoodFeel")
    material = SimpleNamespace(heads=heads, ch_names=["a", "b", "c", "d"])
    alike = np.array([4.0, 1.0, 2.0, 3.0])
    apart = [alike, alike[::-1], np.array([1.0, 4.0, 1.0, 1.0])]
    found = SimpleNamespace(
        magnitude={
            "saliency": {h: alike * (i + 1) for i, h in enumerate(heads)},
            "rollout": dict(zip(heads, apart)),
            "occlusion": {h: np.zeros(4) for h in heads},
        }
    )
    assert set(_same_for_levels(material, found)) == {"saliency"}


def test_channels_without_a_place_are_left_out_and_said(four):
    material = context_of(four)
    positions = np.full_like(material.positions, np.nan)
    material.positions = positions
    finding = Patterns()(material)
    assert "No channel has a position" in " ".join(finding.notes)
    assert len(finding.figures) == 2, "time courses and images need no place"
    half = SensorLayout(
        material.ch_names, np.array([[0, 0.09, 0.05], [0, -0.09, 0.05], *positions[:2]])
    )
    assert "2 channels without a position" in half.notes[0]


def test_folds_are_pooled_and_what_is_of_one_fold_is_said_to_be(four, tmp_path):
    from eegprompt.analyses._across_folds import load_folds
    from eegprompt.reports import write_report
    from eegprompt.steps.explain import explain_folds

    runs = [Run(shutil.copytree(four, tmp_path / "run" / f"fold-{i}")) for i in range(2)]
    stored = load_file(runs[1].embeddings_path)
    noise = np.random.default_rng(0).standard_normal(stored["test/MoodFeel"].shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    save_file({**stored, "test/MoodFeel": noise.astype(np.float32)}, runs[1].embeddings_path)
    assert explain_folds(runs) is None and explain_folds(runs[:1]) is None, "not explained"
    each = [{f.name: f for f in explain(r, what="patterns,timecourse,confidence")} for r in runs]
    found = explain_folds(runs)
    assert found is not None and load_folds([r.path for r in runs]) == found == explain_folds(runs)
    tops = [
        max(one["confidence"].table, key=lambda r: r["most confident (%)"])["head"] for one in each
    ]
    answer = next(a for a in found.answers if a.question == "most confident")
    assert answer.found == (len(set(tops)) == 1) and tops[0] in answer.text
    rows = {row["head"]: row for row in found.table}
    # An encoder without weights to shuffle fails that test, in both folds.
    assert rows["ObjectSnap"]["maps that pass"] == "0 of 2"
    assert rows["ObjectSnap"]["else"] == "not learned 2×"
    mood = [{r["head"]: r for r in one["patterns"].table}["MoodFeel"] for one in each]
    assert (
        rows["MoodFeel"]["maps that pass"] == f"{sum(r['verdict'] == 'passed' for r in mood)} of 2"
    )
    value = np.array([r["two-way accuracy"] for r in mood])
    assert rows["MoodFeel"]["two-way accuracy"] == f"{value.mean():.3f} ± {value.std(ddof=1):.3f}"
    pooled = load_file(tmp_path / "run" / "explain" / "across-folds.safetensors")
    curves = [arrays(r, "timecourse")["accuracy/level high"] for r in runs]
    np.testing.assert_allclose(pooled["accuracy_mean/level high"], np.mean(curves, 0), atol=1e-6)
    maps_of = [arrays(r, "patterns")["z/MoodFeel"] for r in runs]
    np.testing.assert_allclose(pooled["z_mean/MoodFeel"], np.mean(maps_of, 0), atol=1e-5)
    assert rows["ObjectSnap"]["alike between folds"] == 1 > rows["MoodFeel"]["alike between folds"]
    assert len(found.figures) == 3, "no electrode has a place"
    page = write_report(tmp_path / "run").read_text("utf-8")
    assert page.index("All folds together") < page.index("From here on: fold 0 alone")
    explain(Run(runs[1].path), what="patterns")
    (runs[1].path / "explain" / "patterns.json").unlink()
    assert load_folds([r.path for r in runs]) is None
    assert "All folds together" not in write_report(tmp_path / "run").read_text("utf-8")


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_test_trials(four, n):
    material = context_of(Run(four))
    ids = material.ids("test")[:n]
    stored = {k: v[:n] for k, v in material.embeddings("test").items()}
    material.ids = lambda side, real=material.ids: ids if side == "test" else real(side)
    material._stored = {f"test/{h}": v for h, v in stored.items()}
    for analysis in (Patterns, Attributed, Timecourse, Sanity):
        finding = analysis()(material)
        assert finding.good is False, (analysis.__name__, finding.verdict)
        alike = "alike" in [a.question for a in finding.answers]
        assert n > 1 or not alike, "one caption tells nothing apart"
    with pytest.raises(Omitted, match="at least two"):
        Levels()(material)


def test_constant_heads_are_named(four, tmp_path):
    run = Run(shutil.copytree(four, tmp_path / "run"))
    stored = load_file(run.embeddings_path)
    stored["test/ObjectSnap"] = np.ascontiguousarray(
        np.broadcast_to(stored["test/ObjectSnap"][:1], stored["test/ObjectSnap"].shape)
    )
    save_file(stored, run.embeddings_path)
    finding = Patterns()(context_of(run))
    row = next(r for r in finding.table if r["head"] == "ObjectSnap")
    assert row["verdict"].startswith("head at chance") and row["largest z"] == 0
    assert not finding.arrays["amplitude/ObjectSnap"].any()

"""What `explain` writes: found where it was planted, named where it cannot be had, kept when done."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import tiny_models
from eegprompt.analyses import Analysis, Finding, Omitted, load_findings, names
from eegprompt.analyses._findings import load_record
from eegprompt.analyses._one_trial import explain_trial
from eegprompt.analyses.base import RENAMED, chosen, load_analysis
from eegprompt.cli.app import app
from eegprompt.core import registry
from eegprompt.core.errors import InputError, RunError, SplitError, StudyError, UnknownNameError
from eegprompt.core.files import read_json
from eegprompt.features.base import FeatureNetwork
from eegprompt.generators.base import Generator
from eegprompt.recipe import Recipe, demo_recipe, load_recipe
from eegprompt.reports import write_report
from eegprompt.run import Run
from eegprompt.steps.decode import decode
from eegprompt.steps.experiment import run_recipe
from eegprompt.steps.explain import context_of, explain, trial_page
from eegprompt.study.split import Fold, Split

HEADS = tiny_models.HEADS
MINE = ["geometry", "confidence"]


@pytest.fixture(scope="module", autouse=True)
def _fewer_permutations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eegprompt.analyses.geometry.PERMUTATIONS", 199)
        patch.setattr("eegprompt.analyses.confidence.PERMUTATIONS", 199)
        yield


@pytest.fixture(scope="module")
def decoded(tmp_path_factory) -> Path:
    """A decoded run whose encoder reads captions out of the EEG, where they were written."""
    place = tmp_path_factory.mktemp("explanation")
    clip = tiny_models.save_clip(place / "clip")
    pipeline = tiny_models.save_pipeline(place / "pipeline")
    study = tiny_models.save_study(place / "study", clip, n_images=96, noise=0.04)
    return decode(tiny_models.save_run(place / "run", study, clip, pipeline)).path


@pytest.fixture(scope="module")
def explained(decoded, tmp_path_factory) -> Run:
    """The same, explained; no test changes it."""
    run = Run(shutil.copytree(decoded, tmp_path_factory.mktemp("explained") / "run"))
    explain(run, what=MINE)
    return run


@pytest.fixture
def run(decoded, tmp_path) -> Run:
    return Run(shutil.copytree(decoded, tmp_path / "run"))


def arrays(run: Run, name: str) -> dict[str, np.ndarray]:
    return load_file(run.path / "explain" / f"{name}.safetensors")


def change_embeddings(run: Run, **heads) -> None:
    """Replace test embeddings of some heads by what a function makes of them."""
    stored = load_file(run.embeddings_path)
    for head, change in heads.items():
        stored[f"test/{head}"] = np.ascontiguousarray(change(stored[f"test/{head}"]))
    save_file(stored, run.embeddings_path)


# -- what is written -----------------------------------------------------------------------------
def test_every_finding_is_complete_on_disk(explained):
    for name in MINE:
        stored = read_json(explained.path / "explain" / f"{name}.json")
        for key in ("title", "seen", "not_concluded", "table", "notes"):
            assert stored[key], (name, key)
        assert stored["ch_names"] == ["O1", "O2", "P3", "P4"] and len(stored["times"]) == 12
        with safe_open(explained.path / "explain" / f"{name}.safetensors", "np") as file:
            axes = json.loads(file.metadata()["axes"])
            assert {k: stored[k] for k in axes} == axes and axes["heads"] == list(HEADS)
            assert {k: list(file.get_tensor(k).shape) for k in file.keys()} == stored["arrays"]  # noqa: SIM118
        keys = [set(row) for row in stored["table"]]
        assert all(k == keys[0] for k in keys)
        for figure in stored["figures"]:
            svg = explained.path / figure["path"]
            ET.parse(svg)
            with Image.open(svg.with_suffix(".png")) as image:
                assert image.width / image.info["dpi"][0] < 7.4  # two columns of a journal
                assert np.asarray(image.convert("L")).std() > 5
            assert len(figure["caption"]) > 40
        said = read_json(explained.path / "provenance.json")[f"explain {name}"]
        assert said["key"] == stored["record"]["key"] and "packages" in said


@pytest.mark.parametrize("name", names())
def test_every_analysis_keeps_its_contract(name):
    analysis = load_analysis(name)
    assert isinstance(analysis, Analysis) and analysis.name == name and name.isidentifier()
    assert analysis.title and analysis.question and len(analysis.not_concluded) > 80
    assert analysis.answers and all(len(pair) == 2 for pair in analysis.answers.values())
    with pytest.raises(KeyError):
        analysis.answer("no such question")


class Loudest(Analysis):
    """An analysis of one's own: which channel has the largest variance."""

    name = "loudest"
    title = "Which channel is the loudest"
    question = "Which channel has the largest variance"
    not_concluded = "Loud is not informative."
    answers: ClassVar = {
        "loudest": ("{channel} is the loudest ({value:.1f}).", "No channel is the loudest.")
    }

    def compute(self, context):
        power = np.var(context.study.eeg[context.ids("test")], axis=(0, 2))
        top = int(power.argmax())
        return self.finding(
            [self.answer("loudest", channel=context.ch_names[top], value=power[top])],
            table=[{"channel": n, "variance": float(v)} for n, v in zip(context.ch_names, power)],
            arrays={"variance": power},
        )


def test_an_analysis_from_outside_the_package_is_run_reported_and_listed(run, monkeypatch):
    spec = f"{__name__}:Loudest"
    [finding] = explain(run, what=spec)
    (answer,) = finding.answers
    power = arrays(run, "loudest")["variance"]
    assert answer.value == pytest.approx(power.max()) and answer.question == "loudest"
    assert load_findings(run.path)[-1] == finding
    assert finding.seen in _text(write_report(run))
    # With its one line in the registry it is among all, and in help.
    assert "loudest" not in [a.name for a in chosen(None, False)]
    monkeypatch.setitem(
        registry.GROUPS, "analysis", {**registry.GROUPS["analysis"], "loudest": spec}
    )
    assert "loudest" in [a.name for a in chosen(None, False)] and names()[-1] == "loudest"
    for wrong in (f"{__name__}:HEADS", f"{__name__}:Nothing", "no_such_module:Loudest"):
        with pytest.raises(InputError):
            load_analysis(wrong)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_names_of_before_suggest_those_of_now(old, new):
    with pytest.raises(UnknownNameError) as caught:
        chosen(old, False)
    assert caught.value.got == old and f"'{new}'" in str(caught.value)


def test_planted_captions_are_read_from_their_own_head(explained):
    found = arrays(explained, "geometry")
    rows = read_json(explained.path / "explain" / "geometry.json")["notes"][-1]
    names = rows.removeprefix("Rows of the probe arrays: ").rstrip(".").split(", ")
    category = found["probe"][names.index("category")]
    p = found["probe_p"][names.index("category")]
    own = HEADS.index("ObjectSnap")
    assert category[own] > 0.9 and p[own] < 0.05
    assert max(np.delete(category, own)) < 0.6 and min(np.delete(p, own)) > 0.05
    color = found["probe"][names.index("caption of ColorTone")]
    assert color.argmax() == HEADS.index("ColorTone") and color.max() > 0.7
    off = found["cka"][~np.eye(3, dtype=bool)]
    assert np.abs(off).max() < 0.5 and np.allclose(np.diag(found["cka"]), 1)
    table = {row["head"]: row for row in load_findings(explained.path, ["geometry"])[0].table}
    assert table["ObjectSnap"]["class k-NN accuracy"] > 0.9
    assert table["MoodFeel"]["class k-NN accuracy"] < 0.6
    assert table["ObjectSnap"]["class p"] < 0.05


def test_heads_of_noise_are_at_chance(run):
    rng = np.random.default_rng(0)
    change_embeddings(run, **{h: lambda e: unit_rows(rng.normal(size=e.shape)) for h in HEADS})
    explain(run, what="geometry")
    found = arrays(run, "geometry")
    assert (found["probe_p"] > 0.05).all()
    assert np.abs(found["probe"] - found["probe_chance"]).mean() < 0.12
    assert np.abs(found["cka"][~np.eye(3, dtype=bool)]).max() < 0.3
    assert all(row["class p"] > 0.05 for row in load_findings(run.path, ["geometry"])[0].table)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_planted_most_confident_heads_are_found(run):
    table = run.decodings
    trials = table["trial_id"].drop_duplicates().to_numpy()
    class_of = dict(zip(trials, context_of(run).trials(trials)["category"]))
    winner = (
        table["trial_id"]
        .map(class_of)
        .map({"cat": "ObjectSnap", "dog": "ObjectSnap", "fox": "MoodFeel", "owl": "MoodFeel"})
    )
    table["confidence"] = np.where(table["head"] == winner, 0.9, 0.6).astype(np.float32)
    run.write_table(run.decodings_path, table)
    [finding] = explain(run, what="confidence")
    shares = {row["head"]: row["most confident (%)"] for row in finding.table}
    assert shares["ColorTone"] == 0 and shares["ObjectSnap"] + shares["MoodFeel"] == 100
    answers = {answer.question: answer for answer in finding.answers}
    assert answers["class"].found and answers["class"].p < 0.05
    wins = arrays(run, "confidence")["most_confident"]
    assert ((wins == 0) | (wins == 1)).all() and (wins.sum(1) == 1).all()


def test_confidences_agree_with_the_decodings(explained):
    first = explained.decodings.query("rank == 1")
    wide = first.pivot(index="trial_id", columns="head", values="confidence")[list(HEADS)]
    found = arrays(explained, "confidence")
    assert np.allclose(found["confidence"], wide.loc[found["trial_id"]].to_numpy())
    study = explained.study
    names = study.trials["category"].to_numpy()[found["trial_id"]]
    said = first[first["head"] == "ObjectSnap"].set_index("trial_id")["text"]
    right = [said[t] == f"a {name}" for t, name in zip(found["trial_id"], names)]
    assert np.array_equal(found["right"][:, 0] == 1, right)
    assert (found["closeness"][:, 0][found["right"][:, 0] == 1] > 0.8).all()


# -- done once, done again -----------------------------------------------------------------------
def test_what_is_finished_is_not_done_again(explained, monkeypatch):
    def never(self, context):
        raise AssertionError("done again")

    for name in MINE:
        monkeypatch.setattr(type(load_analysis(name)), "compute", never)
    assert [f.name for f in explain(explained, what=MINE)] == MINE
    assert [f.name for f in explain(explained, what="confidence,geometry")] == MINE


def test_another_decoding_or_a_lost_figure_is_done_again(run):
    explain(run, what="confidence")
    before = load_record(run.path, "confidence")["key"]
    known = read_json(run.path / "provenance.json")
    known["decode"]["key"] = "another"
    (run.path / "provenance.json").write_text(json.dumps(known))
    assert "run eegprompt explain again" in _text(write_report(run))
    explain(run, what="confidence")
    assert load_record(run.path, "confidence")["key"] != before
    (run.figures_dir / "explain" / "confidence-shares.png").unlink()
    assert load_record(run.path, "confidence") == {}
    explain(run, what="confidence")
    assert (run.figures_dir / "explain" / "confidence-shares.png").exists()


def test_the_same_run_gives_the_same_bytes(explained, run):
    explain(run, what=MINE)
    for pattern in ("explain/*.safetensors", "figures/explain/*"):
        for path in sorted(run.path.glob(pattern)):
            assert path.read_bytes() == (explained.path / path.relative_to(run.path)).read_bytes()


def test_an_interruption_keeps_what_was_finished_and_leaves_nothing_half(run, monkeypatch):
    def stop(self, context):
        raise KeyboardInterrupt

    monkeypatch.setattr("eegprompt.analyses.confidence.Confidence.compute", stop)
    with pytest.raises(KeyboardInterrupt):
        explain(run, what=MINE)
    assert load_record(run.path, "geometry") and not load_record(run.path, "confidence")
    assert not list(run.path.rglob("*.partial*"))


def test_deep_is_asked_for_and_a_deep_finding_is_kept(run, monkeypatch):
    calls = []

    class Tried(Loudest):
        def compute(self, context):
            calls.append(context.deep)
            return Finding(self.name, "t", "s", "n", table=[{"deep": context.deep}])

    groups = dict(registry.GROUPS["analysis"])
    for name, options in (
        ("plain", {}),
        ("deepens", {"deepens": True}),
        ("only", {"only_deep": True}),
    ):
        cls = type(name, (Tried,), {"name": name, **options})
        monkeypatch.setattr(sys.modules[__name__], f"Tried_{name}", cls, raising=False)
        groups[name] = f"{__name__}:Tried_{name}"
    monkeypatch.setitem(registry.GROUPS, "analysis", groups)
    tried = {"plain", "deepens", "only"}
    assert tried & {a.name for a in chosen(None, False)} == {"plain", "deepens"}
    assert tried <= {a.name for a in chosen(None, True)}
    assert [a.name for a in chosen("only", False)] == ["only"]
    for deep in (False, False, True, False, True):
        explain(run, what="deepens", deep=deep)
    assert calls == [False, True]


def test_progress_rises_to_its_end(run):
    seen = []
    explain(run, what="confidence", progress=lambda done, total, label: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] and [d for d, _ in seen] == sorted(d for d, _ in seen)


# -- what cannot be had --------------------------------------------------------------------------
def test_unknown_analysis(run):
    with pytest.raises(UnknownNameError, match="geometry"):
        explain(run, what="geometri")


def test_run_that_was_not_decoded(run):
    run.embeddings_path.unlink()
    with pytest.raises(RunError, match=r"was not decoded yet.*eegprompt decode"):
        explain(run)


def test_run_whose_study_has_gone(explained, tmp_path):
    lost = Run(shutil.copytree(explained.path, tmp_path / "lost"))
    text = (lost.path / "config.yaml").read_text()
    place = next(line for line in text.splitlines() if line.startswith("study:"))
    (lost.path / "config.yaml").write_text(text.replace(place, f"study: {tmp_path / 'nowhere'}"))
    with pytest.raises(StudyError, match="cannot be opened"):
        explain(Run(lost.path))
    # what was found before is still shown
    assert "How the heads’ embeddings lie" in _text(write_report(Run(lost.path)))


def cut(run: Run, n_test: int, tmp_path: Path, *, subject: str | None = None) -> Run:
    """The run with another test set, decoded again."""
    study = run.study
    place = Path(shutil.copytree(study.path, tmp_path / "cut-study"))
    config = (run.path / "config.yaml").read_text().replace(str(study.path), str(place))
    (run.path / "config.yaml").write_text(config)
    run = Run(run.path)
    fold = run.fold
    trials = pd.read_parquet(place / "trials.parquet")
    if subject is not None:
        trials["subject"] = subject
        trials.to_parquet(place / "trials.parquet")
    (place / "splits" / "by-image.json").unlink()
    run.study.write_split(Split("by-image", (Fold(fold.train, fold.val, fold.test[:n_test]),)))
    return decode(Run(run.path))


def test_a_single_trial(run, tmp_path):
    geometry, confidence = explain(cut(run, 1, tmp_path), what=MINE)
    assert geometry.verdict == "left out" and "at least 8" in geometry.seen
    assert not geometry.figures
    assert len(confidence.answers) >= 1 and len(confidence.table) == 3
    assert "left out" in _text(write_report(run))


def test_no_test_trial(run, tmp_path):
    for finding in explain(cut(run, 0, tmp_path), what=MINE):
        assert finding.verdict == "left out" and "test trials" in finding.seen


def test_one_subject(run, tmp_path):
    geometry, confidence = explain(cut(run, 99, tmp_path, subject="s1"), what=MINE)
    assert not {"subject"} & {a.question for f in (geometry, confidence) for a in f.answers}
    assert not any("subject" in key for row in geometry.table for key in row)


def test_heads_that_say_the_same_are_called_so(run):
    stored = load_file(run.embeddings_path)["test/ObjectSnap"]
    change_embeddings(run, **dict.fromkeys(HEADS, lambda e: stored))
    [finding] = explain(run, what="geometry")
    assert {a.question: a.found for a in finding.answers}["redundant"]
    table = run.decodings
    first = table["rank"] == 1
    table.loc[first, "confidence"] = np.where(
        table.loc[first, "head"] == "MoodFeel", 0.61, 0.60
    ).astype(np.float32)
    run.write_table(run.decodings_path, table)
    [finding] = explain(run, what="confidence")
    answers = {a.question: a for a in finding.answers}
    assert answers["most confident"].value == 100 and "MoodFeel" in answers["most confident"].text
    assert not answers["lead"].found


def test_constant_heads(run):
    def flat(rows: np.ndarray) -> np.ndarray:
        return np.tile(rows[:1], (len(rows), 1))

    change_embeddings(run, ColorTone=flat)
    [finding] = explain(run, what="geometry")
    assert "ColorTone" in {a.question: a.text for a in finding.answers}["constant"]
    found = arrays(run, "geometry")
    assert np.isnan(found["cka"][1]).all()
    assert abs(found["probe"][0, 1] - found["probe_chance"][0, 1]) < 0.1
    change_embeddings(run, **dict.fromkeys(HEADS, flat))
    shutil.rmtree(run.path / "explain")
    [finding] = explain(run, what="geometry")
    assert finding.verdict == "left out" and "every head gives the same" in finding.seen


def test_confidences_that_are_not_numbers(run):
    table = run.decodings
    table.loc[table["head"] == "ObjectSnap", "confidence"] = np.nan
    run.write_table(run.decodings_path, table)
    [finding] = explain(run, what="confidence")
    row = {r["head"]: r for r in finding.table}["ObjectSnap"]
    assert row["most confident (%)"] == 0 and row["confidence"] is None
    assert any("48 confidences are not numbers" in note for note in finding.notes)
    table["confidence"] = np.nan
    run.write_table(run.decodings_path, table)
    shutil.rmtree(run.path / "explain")
    [finding] = explain(run, what="confidence")
    assert finding.verdict == "left out" and "no test trial has a confidence" in finding.seen


def test_omitted_says_why():
    finding = Finding.omitted("x", "Maps", str(Omitted("no positions")))
    assert finding.seen == "Left out: no positions." and finding.good is None


# -- where it is seen ----------------------------------------------------------------------------
def _text(path: Path) -> str:
    import html
    import re

    words = re.sub(r"<style>.*?</style>", "", path.read_text("utf-8"), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", words)).split())


def test_the_report_shows_every_finding_whole(explained):
    path = write_report(explained)
    text, source = _text(path), path.read_text("utf-8")
    for finding in load_findings(explained.path):
        for words in (finding.title, finding.seen, finding.not_concluded):
            assert " ".join(words.split()) in text
        for image in finding.figures:
            assert image.caption in text
    assert source.count('<figure class="plate">') == sum(
        len(finding.figures) for finding in load_findings(explained.path)
    )


def test_over_folds_the_report_says_which_fold_is_shown(explained, tmp_path):
    for i in (0, 1):
        shutil.copytree(explained.path, tmp_path / "runs" / f"fold-{i}")
    text = _text(write_report(tmp_path / "runs"))
    assert "Shown is fold 0" in text and "All folds together" not in text


def test_the_report_says_how_to_get_it_and_escapes_it(run):
    assert "eegprompt explain" in _text(write_report(run))
    explain(run, what="confidence")
    path = run.path / "explain" / "confidence.json"
    stored = read_json(path)
    stored |= {"title": "<script>x</script>", "verdict": "<b>", "good": False}
    path.write_text(json.dumps(stored))
    source = write_report(run).read_text("utf-8")
    assert "<script" not in source and "&lt;script&gt;" in source
    assert '<span class="badge bad">&lt;b&gt;</span>' in source


# -- without single heads ------------------------------------------------------------------------
class Painter(Generator):
    """Paints what the prompt says of two heads: the left half by object, the right by color."""

    name, revision, max_tokens = "painter", "1", 77
    asked = 0

    def count_tokens(self, text):
        return len(text.split())

    def generate(self, prompts, seeds):
        Painter.asked += len(prompts)
        if Painter.asked > Painter.fails_after:
            raise KeyboardInterrupt
        return np.stack([painted(prompt) for prompt in prompts])

    fails_after = 10**9


OBJECTS, COLORS = ("cat", "dog", "fox", "owl"), ("red", "blue", "gray")


def painted(text: str) -> np.ndarray:
    image = np.full((8, 8, 3), 128, np.uint8)
    for half, words in ((slice(0, 4), OBJECTS), (slice(4, 8), COLORS)):
        for i, word in enumerate(words):
            if word in text:
                rng = np.random.default_rng([len(words), i])
                image[:, half] = rng.integers(0, 256, (8, 4, 3))
    return image


class Pixels(FeatureNetwork):
    def __call__(self, images):
        return {layer: images.reshape(len(images), -1) / 255.0 for layer in ("early", "late")}


@pytest.fixture
def painting(run, tmp_path, monkeypatch) -> Run:
    """A run whose generator paints what two of its three heads say, and whose images show it."""
    study = run.study
    place = Path(shutil.copytree(study.path, tmp_path / "painted-study"))
    config = (run.path / "config.yaml").read_text().replace(str(study.path), str(place))
    (run.path / "config.yaml").write_text(config)
    images = pd.read_parquet(place / "images.parquet")
    (place / "images").mkdir()
    said = study.captions("words")
    for image in images["image_id"]:
        text = " ".join(said[said["image_id"] == image]["text"])
        Image.fromarray(painted(text)).save(place / "images" / f"{image}.png")
    images["path"] = [f"images/{image}.png" for image in images["image_id"]]
    images.to_parquet(place / "images.parquet")
    Painter.asked, Painter.fails_after = 0, 10**9
    monkeypatch.setattr("eegprompt.analyses.contribution.load_generator", lambda *a, **k: Painter())
    monkeypatch.setattr("eegprompt.analyses.contribution.load_features", lambda _: Pixels())
    return Run(run.path)


def test_heads_that_the_image_shows_are_missed_and_the_other_is_not(painting):
    [finding] = explain(painting, what="contribution")
    found = arrays(painting, "contribution")["early"]
    lost = found[0].mean() - found[1:].mean(axis=1)
    assert lost[HEADS.index("ObjectSnap")] > 0.05 and lost[HEADS.index("ColorTone")] > 0.05
    assert lost[HEADS.index("MoodFeel")] == 0
    rows = {row["without"]: row for row in finding.table}
    assert rows["MoodFeel"]["early, lost (points)"].startswith("+0.0")
    assert all(a.found for a in finding.answers) and "MoodFeel" not in finding.seen
    assert "contribution" not in [a.name for a in chosen(None, False)]


def test_drawing_without_heads_goes_on_where_it_stopped(painting):
    Painter.fails_after = 20
    with pytest.raises(KeyboardInterrupt):
        explain(painting, what="contribution")
    Painter.fails_after = 10**9
    Painter.asked = 0
    explain(painting, what="contribution")
    once = Painter.asked
    shutil.rmtree(painting.path / "explain")
    Painter.asked = 0
    explain(painting, what="contribution")
    assert once == Painter.asked - 16  # the batch that was finished is not drawn again


def test_without_images_or_without_other_heads_there_is_no_contribution(run, painting):
    info = painting.study.path / "study.json"
    info.write_text(info.read_text().replace('"known"', '"category"'))
    [finding] = explain(painting, what="contribution")
    assert finding.verdict == "left out" and "which image was shown is not known" in finding.seen


# -- one trial -----------------------------------------------------------------------------------
def test_attributions_of_one_trial_lie_where_its_captions_were_written(explained):
    trial = int(explained.fold.test[3])
    found = explain_trial(context_of(explained), trial)
    assert np.allclose(found.eeg, explained.study.eeg[trial])
    size, n = tiny_models.N_DIMS, len(HEADS)
    for i, said in enumerate(found.heads):
        flat = np.abs(said.attribution).ravel()
        own = flat[i * size : (i + 1) * size].sum()
        assert own > 0.999 * flat.sum() > 0  # the oracle reads no other part for this head
        assert flat[n * size :].sum() < 1e-6 * own and said.error < 0.02
    said = found.heads[0]
    table = explained.decodings.query(f"trial_id == {trial} and head == 'ObjectSnap'")
    assert [c.text for c in said.candidates] == table.sort_values("rank")["text"].tolist()
    pool = context_of(explained).pools["ObjectSnap"]
    similarity = np.sort(
        pool.embeddings @ context_of(explained).embeddings("test")["ObjectSnap"][3]
    )
    assert said.margin == pytest.approx((similarity[-1] - similarity[-2]) / similarity.std(), 1e-4)


def test_paraphrases_contend_for_nothing(explained):
    # "red tone" and "all red" mean the same: the margin is over the next color
    said = explain_trial(context_of(explained), int(explained.fold.test[0])).heads[1]
    pool = context_of(explained).pools["ColorTone"]
    query = context_of(explained).embeddings("test")["ColorTone"][0]
    similarity = dict(zip(pool.texts, pool.embeddings @ query))
    own = dict(zip(pool.texts, pool.meanings))[said.candidates[0].text]
    others = [s for t, s in similarity.items() if own not in t]
    spread = np.std(list(similarity.values()))
    lead = similarity[said.candidates[0].text] - max(others)
    assert said.margin == pytest.approx(lead / spread, rel=1e-3)


def test_page_of_one_trial(explained):
    trial = int(explained.fold.test[3])
    path = trial_page(explained, trial)
    assert path == explained.path / "explain" / f"trial-{trial:06d}.html"
    text, source = _text(path), path.read_text("utf-8")
    prompt = explained.prompts.query(f"trial_id == {trial} and source == 'eeg'").iloc[0]
    for caption in json.loads(prompt["kept"]):
        assert f'href="#head-{caption["head"]}"' in source and caption["text"] in text
        assert f'id="head-{caption["head"]}"' in source
    for words in ("Not to be concluded.", "Nothing was drawn of this trial", "no map of them"):
        assert words in text
    assert "<script" not in source and source.count('src="data:') == source.count("src=")


def test_text_on_the_page_is_escaped(run):
    trial = int(run.fold.test[0])
    table = run.decodings
    mine = (table["trial_id"] == trial) & (table["rank"] == 1) & (table["head"] == "ObjectSnap")
    table.loc[mine, "text"] = "<script>alert(1)</script>"
    run.write_table(run.decodings_path, table)
    source = trial_page(run, trial).read_text("utf-8")
    assert "<script" not in source and "&lt;script&gt;alert(1)" in source


def test_page_of_a_trial_that_was_not_tested(run):
    with pytest.raises(InputError, match="only test trials are decoded"):
        explain_trial(context_of(run), int(run.fold.train[0]))
    with pytest.raises(InputError, match="is not in the run's fold"):
        explain_trial(context_of(run), 10_000)
    answer = CliRunner().invoke(app, ["explain", str(run.path), "--trial", "10000"])
    assert answer.exit_code == 2 and "only test trials" in answer.output
    trial = str(run.fold.test[1])
    answer = CliRunner().invoke(app, ["explain", str(run.path), "--trial", trial])
    assert answer.exit_code == 0 and answer.stdout.strip().endswith(".html")


def test_a_recipe_explains_where_it_says_so(decoded, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "eegprompt.steps.explain.explain",
        lambda run, deep, progress, what=None: asked.append((run.path, deep)),
    )
    for name in ("experiment", "_up_to_images"):
        monkeypatch.setattr(f"eegprompt.steps.experiment.{name}", lambda *a, **k: Run(decoded))
    monkeypatch.setattr("eegprompt.steps.experiment._scores_hold", lambda *a: True)
    settings = {k: v for k, v in Run(decoded).config.items() if k != "fold"}
    for explains, folds in ((False, "one"), (True, "one"), ("deep", "all")):
        run_recipe(Recipe(settings=settings, folds=folds, explain=explains), tmp_path / "out")
    assert asked == [(decoded, False), (decoded, True)]
    assert demo_recipe().explain and not demo_recipe(quick=True).explain
    (tmp_path / "recipe.yaml").write_text(f"study: {settings['study']}\nexplain: deep\n")
    assert load_recipe(tmp_path / "recipe.yaml").explain == "deep"
    (tmp_path / "recipe.yaml").write_text(f"study: {settings['study']}\nexplain: perhaps\n")
    with pytest.raises(InputError, match="explain"):
        load_recipe(tmp_path / "recipe.yaml")


def test_the_command_prints_what_was_found(explained):
    answer = CliRunner().invoke(app, ["explain", str(explained.path), "--what", "confidence"])
    assert answer.exit_code == 0 and "Which head is the most confident" in answer.stdout
    answer = CliRunner().invoke(app, ["explain", str(explained.path), "--what", "x", "--json"])
    assert answer.exit_code == 2
    answer = CliRunner().invoke(
        app, ["explain", str(explained.path), "--what", "confidence", "--json"]
    )
    assert [row["name"] for row in json.loads(answer.stdout)] == ["confidence"]


# -- what cannot be computed, and one definition of an attribution ---------------------------------
def test_an_analysis_that_cannot_be_computed_is_left_out_and_the_others_go_on(run, monkeypatch):
    for problem, said in (
        (InputError("class 'cat' has 1 trial, 2 are needed"), "class 'cat' has 1 trial"),
        (ValueError("n_splits=5 cannot be greater than 1"), "ValueError: n_splits=5"),
        (IndexError("index 0 is out of bounds"), "IndexError"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
    ):
        shutil.rmtree(run.path / "explain", ignore_errors=True)
        monkeypatch.setattr(
            "eegprompt.analyses.geometry.Geometry.compute", Mock(side_effect=problem)
        )
        with pytest.warns(UserWarning, match="geometry"):
            found = {f.name: f for f in explain(run, what=MINE)}
        assert found["geometry"].verdict == "left out" and said in found["geometry"].seen
        assert found["confidence"].verdict != "left out" and found["confidence"].table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eegprompt.analyses.confidence.PERMUTATIONS", 199)
        said = CliRunner().invoke(app, ["explain", str(run.path), "--what", "geometry,confidence"])
    assert said.exit_code == 0 and "left out" in said.output


@pytest.mark.parametrize("problem", [RunError("broken"), StudyError("gone"), SplitError("other")])
def test_what_is_wrong_with_the_whole_run_still_stops_it(run, monkeypatch, problem):
    def broken(self, _context):
        raise problem

    monkeypatch.setattr("eegprompt.analyses.geometry.Geometry.compute", broken)
    with pytest.raises(type(problem)):
        explain(run, what=MINE)
    assert not load_record(run.path, "geometry")


def test_attributions_of_a_run_and_of_one_trial_are_of_one_loss(run, monkeypatch):
    from eegprompt.analyses import _maps
    from eegprompt.analyses import _one_trial as one_trial

    config = read_json(run.encoder_dir / "config.json")
    trained = {head: 3.0 + i for i, head in enumerate(HEADS)}
    (run.encoder_dir / "config.json").write_text(json.dumps({**config, "scales": trained}))
    asked: list[dict] = []

    def spy(inner):
        def called(*args, **options):
            asked.append(options)
            return inner(*args, **options)

        return called

    for module in (one_trial, _maps):
        monkeypatch.setattr(module.Question, "of", spy(module.Question.of))
    for module, name in (
        (one_trial, "integrated_gradients"),
        (_maps, "plain_gradients"),
        (_maps, "integrated_gradients"),
        (_maps, "channel_occlusion"),
    ):
        monkeypatch.setattr(module, name, spy(getattr(module, name)))
    explain_trial(context_of(run), int(run.fold.test[0]))
    context = context_of(run)
    _maps._attributions(context, one_trial.from_electrodes(context), context.ids("test")[:4])
    scales = [options["scales"] for options in asked if "scales" in options]
    assert len(scales) >= 2 and all(one == trained for one in scales)
    baselines = [options["baseline"] for options in asked if "baseline" in options]
    assert len(baselines) == 4
    for baseline in baselines[1:]:
        np.testing.assert_array_equal(baseline, baselines[0])


def test_over_runs_one_generator_is_held_at_a_time(monkeypatch):
    """What a run needs goes with it, before the next run's networks are loaded."""
    import gc
    import weakref
    from types import SimpleNamespace

    from eegprompt.analyses import contribution

    alive: list[weakref.ref] = []
    at_once = []

    class Network:
        pass

    def load(spec, **options):
        gc.collect()
        at_once.append(sum(ref() is not None for ref in alive))
        network = Network()
        alive.append(weakref.ref(network))
        return network

    monkeypatch.setattr(contribution, "load_generator", load)
    generation = SimpleNamespace(generator="builtin", options={})
    for _ in range(3):
        material = SimpleNamespace(settings=SimpleNamespace(generation=generation))
        assert contribution._generator(material) is contribution._generator(material)
        del material
    assert at_once == [0, 0, 0]

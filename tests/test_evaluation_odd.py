"""Runs that are odd: features that fail or fill memory, classes that are missing, equal references."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import test_evaluation as made
from eegprompt.core import registry
from eegprompt.core.errors import InputError, SplitError, StorageError
from eegprompt.metrics.identification import feature_correlation, two_way_table
from eegprompt.scores import feature_file as _feature_file
from eegprompt.scores import feature_scores as _features
from eegprompt.scores.feature_file import FeatureFile
from eegprompt.steps.evaluate import evaluate
from eegprompt.study import Study
from eegprompt.study.split import Fold, Split
from test_evaluation import find, make_run, make_study
from test_metrics_identification import by_loops


class SpoiledFeatures(made.FakeFeatures):
    """Layer `early` fails on images whose first pixel is (1, 2, 3), or on all."""

    uses = (
        ("early", "two_way_{features}"), ("early", "{features}_distance"),
        ("early", "{features}_image_cosine"), ("early", "fid"), ("late", "two_way_{features}"),
        ("logits", "inception_score"),
    )  # fmt: skip
    everywhere = False

    def __call__(self, images):
        given = super().__call__(images)
        bad = (images[:, 0, 0] == (1, 2, 3)).all(axis=1) | self.everywhere
        given["early"][bad, 3] = np.nan
        return given


def load_spoiled_features(_argument=None, **_options):
    return SpoiledFeatures()


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for group, name in (("text encoder", "FakeTextEncoder"), ("features", "load_fake_features")):
        monkeypatch.setitem(registry.GROUPS[group], "fake-evaluation", f"test_evaluation:{name}")
    monkeypatch.setitem(registry.GROUPS["features"], "spoiled", f"{__name__}:load_spoiled_features")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("odd") / "study", repetitions=1)


def said(run) -> dict[str, list[str]]:
    return json.loads(run.scores_path.read_text())


# -- features in a file ------------------------------------------------------------------------
def test_features_in_a_file_are_the_double_loop() -> None:
    rng = np.random.default_rng(0)
    references, images = rng.standard_normal((9, 50)), rng.standard_normal((7, 50))
    sides = []
    for rows in (references, images):
        rows[:] = rows.astype(np.float32)
        side = FeatureFile(rows.shape)
        for i in reversed(range(len(rows))):
            side[i] = rows[i]
        np.testing.assert_array_equal(side[2:5], rows[2:5].astype(np.float32))
        np.testing.assert_array_equal(np.asarray(side), rows.astype(np.float32))
        assert side[4:4].shape == (0, 50) and len(side) == len(rows)
        sides.append(side)
    table = two_way_table(*sides, chunk=4)
    for target in range(9):
        np.testing.assert_allclose(table[:, target], by_loops(references, images, [target] * 7))
    expected = np.corrcoef(references, images)[:9, 9:]
    np.testing.assert_allclose(feature_correlation(*sides, chunk=2), expected, atol=1e-6)


def test_features_that_do_not_fit_in_memory_give_the_same_scores(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", study)
    rows = evaluate(run)
    monkeypatch.setattr(_features, "_IN_MEMORY", 0)
    assert evaluate(run) == rows


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(_feature_file.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(StorageError, match="set TMPDIR"):
        FeatureFile((100, 100))


# -- features that are not finite --------------------------------------------------------------
def test_images_without_features_count_as_wrong_or_are_named(study: Study, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", study, features="spoiled")
    sound = evaluate(run)
    paths = sorted(run.images_dir("builtin", "eeg").glob("*.png"))
    image = np.asarray(Image.open(paths[0])).copy()
    image[0, 0] = (1, 2, 3)
    Image.fromarray(image).save(paths[0])
    rows = evaluate(run)
    before, after = (find(r, "two_way_early", scope="all", source="eeg") for r in (sound, rows))
    assert after["n"] == before["n"] == 12 and after["value"] < before["value"]
    assert after["value"] <= before["value"] - 0.9 / 12  # that image was right, and is wrong now
    for metric in ("early_distance", "early_image_cosine"):
        assert find(rows, metric, source="eeg")["n"] == 11
    assert not [r for r in rows if r["metric"] == "fid" and r["source"] == "eeg"]
    assert any("1 of 12 images of prompt source 'eeg'" in note for note in said(run)["notes"])
    assert any(
        "fid of prompt source 'eeg'" in m and "not finite" in m for m in said(run)["missing"]
    )


def test_references_without_features_cost_that_layer_alone(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpoiledFeatures, "everywhere", True)
    run = make_run(tmp_path / "run", study, features="spoiled")
    rows = evaluate(run)
    assert not [r for r in rows if r["metric"].startswith(("two_way_early", "early_"))]
    assert find(rows, "two_way_late", scope="all")["value"] > 0.5
    assert any(
        "'two_way_early' on layer 'early': the features of" in m for m in said(run)["missing"]
    )


# -- classes and images ------------------------------------------------------------------------
def with_test(study: Study, path: Path, kept) -> None:
    """The split with fewer test trials."""
    fold = study.split("official").folds[0]
    study.write_split(Split(path.name, (Fold(fold.train, fold.val, fold.test[kept(fold.test)]),)))


def test_a_class_without_test_trials_and_more_classes_than_images(
    study: Study, tmp_path: Path
) -> None:
    categories = study.trials["category"].to_numpy()
    images = study.trials["image_id"].to_numpy()
    few = {"img1", "img7"}  # two images of two of the four classes
    assert {categories[images == i][0] for i in few} == {"class0", "class1"}
    with_test(study, tmp_path / "few", lambda ids: np.isin(images[ids], list(few)))
    rows = evaluate(make_run(tmp_path / "run", study, split="few"))
    whole = find(rows, "class_accuracy", head="ensemble", subject=None)
    macro = find(rows, "class_accuracy_macro")
    assert (whole["n"], macro["n"]) == (2, 2)
    assert macro["value"] == pytest.approx(whole["value"])  # one trial of each class that is tested
    assert not [r for r in rows if r["scope"] == "within-class"]  # one image a class
    assert find(rows, "two_way_late", source="eeg")["n"] == 2
    for row in rows:  # whatever is left has its n, and no interval that promises more than it can
        assert row["n"] >= 2 and row["value"] is not None


def test_equal_references_are_never_each_others_distractors(tmp_path: Path) -> None:
    import shutil

    study = make_study(tmp_path / "study", classes=2, per_class=4, repetitions=1)
    folder = study.path / "images"
    run = make_run(tmp_path / "run", study)
    shutil.copy(folder / "img1.png", folder / "img3.png")  # two test images of one class
    rows = evaluate(run)
    row = find(rows, "two_way_late", scope="within-class", source="eeg")
    assert row["n"] == 2  # the class whose only two test images are equal has no distractor left


def test_a_test_set_used_for_selection_is_refused() -> None:
    ids = np.arange(4)
    with pytest.raises(SplitError, match="val"):
        Fold(ids, ids + 4, ids + 4)


def test_embeddings_of_the_wrong_length_are_refused(study: Study, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    run = make_run(tmp_path / "run", study, sources=())
    stored = load_file(run.embeddings_path)
    stored["test/StoryHint"] = stored["test/StoryHint"][:-1]
    save_file(stored, run.embeddings_path)
    with pytest.raises(InputError, match="StoryHint"):
        evaluate(run)


# -- the definitions of docs/scores.md, metric by metric ---------------------------------------
def test_constant_images_have_a_stated_score_in_every_metric() -> None:
    from eegprompt.metrics import distributions, generation, identification
    from eegprompt.metrics import pixels as images

    rng = np.random.default_rng(1)
    references, flat = rng.random((12, 20)), np.full((12, 20), 0.3)
    assert identification.two_way(references, flat).tolist() == [0.5] * 12
    assert not identification.feature_correlation(references, flat).any()
    assert not identification.feature_cosine(references, np.zeros((12, 20))).any()
    expected = ((references - 0.3) ** 2).sum(axis=1)
    distances = identification.squared_distances(references, flat)
    np.testing.assert_allclose(distances, np.repeat(expected[:, None], 12, axis=1))
    pixels, gray = rng.random((2, 16, 16, 3)), np.full((2, 16, 16, 3), 0.5)
    assert images.pixcorr(pixels, gray).tolist() == [0, 0]
    # without variance only the luminance term is left, and a constant of the contrast
    same = images.ssim(images.gray(gray), images.gray(gray))
    np.testing.assert_allclose(same, 1)
    for score in (images.ssim, images.ssim_legacy):
        assert (np.abs(score(images.gray(pixels), images.gray(gray))) < 0.2).all()
    assert distributions.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-12)
    assert distributions.kernel_distance(flat, flat, subsets=2)[0] == pytest.approx(0, abs=1e-9)
    moved = distributions.frechet_distance(flat, flat + 0.1)
    assert moved == pytest.approx(20 * 0.1**2)
    assert distributions.inception_score(flat)[0] == pytest.approx(1)
    np.testing.assert_allclose(generation.n_way_accuracy(flat, np.arange(12), n=5), 1 / 5)
    np.testing.assert_allclose(generation.same_class(flat, np.arange(12)), 1 / 20)


def test_one_image_is_refused_or_has_no_interval() -> None:
    from eegprompt.metrics import caption_retrieval as retrieval
    from eegprompt.metrics import distributions, identification
    from eegprompt.metrics import pixels as images
    from eegprompt.stats.bootstrap import bootstrap, ratio_statistic

    one = np.arange(6.0)[None]
    with pytest.raises(InputError, match="at least two references"):
        identification.two_way(one, one)
    for distance in (distributions.frechet_distance, distributions.kernel_distance):
        with pytest.raises(InputError, match="at least 2 images"):
            distance(one, one)
    with pytest.raises(InputError, match="at least 10 images"):
        distributions.inception_score(one)
    assert identification.feature_correlation(one, one)[0, 0] == pytest.approx(1)
    assert images.pixcorr(one, one)[0] == pytest.approx(1)
    alone = retrieval.answer_ranks(np.ones((3, 1)), np.ones((1, 1), dtype=bool))
    assert (retrieval.topk_hits(alone, 1) == 1).all()  # chance is 1 too
    found = bootstrap(ratio_statistic(np.ones(1), np.ones(1)), 1, 10)
    assert np.isnan(found.lo) and np.isnan(found.hi)


# -- captions that say nothing -----------------------------------------------------------------
@pytest.mark.parametrize("blank", ["", "  \n", None])
def test_blank_captions_cost_their_images_and_no_more(tmp_path: Path, blank: str | None) -> None:
    study = make_study(tmp_path / "study")
    run = make_run(tmp_path / "run", study)
    whole = evaluate(run)
    images = study.trials["image_id"]
    fold = study.split("official").fold(0)
    tested, trained = images[fold.test].iloc[0], images[fold.train].iloc[0]
    table = study.captions("builtin")
    spoiled = (table["image_id"] == tested) & (table["kind"] == "StoryHint")
    spoiled |= (table["image_id"] == trained) & (table["kind"] == "ColorTone")
    study.write_captions(
        "builtin", table.assign(text=table["text"].mask(spoiled, blank)), overwrite=True
    )
    scores = evaluate(run)
    stored = said(run)
    n_images = images[fold.test].nunique()
    assert any(f"1 of {n_images} test images (3 trials)" in m for m in stored["missing"])
    assert any("2 captions of set 'builtin' are blank" in n for n in stored["notes"])

    def key(row: dict) -> tuple:
        return tuple(row.get(k) for k in ("metric", "head", "scope", "subject", "source", "layer"))

    assert {key(row) for row in scores} == {key(row) for row in whole}
    for metric in ("caption_retrieval_top1", "class_accuracy"):
        values = [r["value"] for r in scores if r["metric"] == metric]
        assert values and np.isfinite(values).all()
    top = {r["head"]: r for r in scores if r["metric"] == "caption_retrieval_top1"}
    assert top["StoryHint"]["value"] > 0.3


def test_a_kind_without_a_word_for_the_test_images_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    run = make_run(tmp_path / "run", study)
    tested = set(study.trials["image_id"][study.split("official").fold(0).test])
    table = study.captions("builtin")
    spoiled = table["image_id"].isin(tested) & (table["kind"] == "StoryHint")
    study.write_captions(
        "builtin", table.assign(text=table["text"].mask(spoiled, " ")), overwrite=True
    )
    scores = evaluate(run)
    heads = {r["head"] for r in scores if r["metric"] == "caption_retrieval_top1"}
    assert heads == {"ObjectSnap", "ColorTone"}
    assert any("caption retrieval of StoryHint" in m for m in said(run)["missing"])

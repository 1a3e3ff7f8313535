"""Splits are disjoint by key, share no samples, and come back from their seed."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.core.errors import InputError, SplitError, UnknownNameError
from eegprompt.core.registry import names
from eegprompt.splits.base import ALIASES, check_split, make_split, split_function
from eegprompt.splits.by_image import by_image
from eegprompt.splits.by_run import by_run
from eegprompt.splits.by_subject import by_subject
from eegprompt.splits.cross_session import cross_session
from eegprompt.splits.forward_in_block import forward_in_block
from eegprompt.splits.leaks import check_overlap, overlapping, shared_images
from eegprompt.splits.leave_classes_out import leave_classes_out
from eegprompt.splits.leave_one_session_out import leave_one_session_out
from eegprompt.splits.official import official
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

SFREQ = 10.0


def make(
    out: Path,
    *,
    subjects: int = 2,
    sessions: int = 2,
    runs: int = 2,
    per_run: int = 24,
    spacing_s: float = 1.0,
    window_s: float = 0.8,
    identity: str = "known",
    n_images: int = 24,
    classes: int = 3,
    onsets: bool = True,
    twins: bool = False,
    class_by_run: bool = False,
) -> Study:
    """A study of zeros with chosen structure; trial times are `spacing_s` apart in each run."""
    rng = np.random.default_rng(0)
    rows = []
    for subject in range(1, subjects + 1):
        for session in range(1, sessions + 1):
            for run in range(1, runs + 1):
                order = rng.permutation(per_run)
                for i in range(per_run):
                    image = int(order[i]) % n_images
                    if class_by_run:
                        image = run % classes
                    rows.append(
                        {
                            "subject": str(subject),
                            "session": str(session),
                            "run": str(run),
                            "order": i,
                            "onset": 5 + i * spacing_s if onsets else np.nan,
                            "image": image,
                        }
                    )
    trials = pd.DataFrame(rows)
    trials["category"] = [f"class-{i % classes}" for i in trials["image"]]
    if identity == "category":
        trials["image_id"] = trials["category"]
    else:
        trials["image_id"] = [f"img-{i:02d}" for i in trials["image"]]
    images = trials[["image_id", "category"]].drop_duplicates().reset_index(drop=True)
    digests = [f"{i:064d}" for i in range(len(images))]
    if twins:  # the first two images are one image
        digests[1] = digests[0]
    images["sha256"] = digests
    with StudyWriter.open(out) as writer:
        writer.append(np.zeros((len(trials), 2, round(window_s * SFREQ)), np.float32))
        writer.finish(
            info={
                "name": "structure",
                "source": "test",
                "ch_names": ["Cz", "Oz"],
                "sfreq": SFREQ,
                "tmin": 0.0,
                "unit": "V",
                "design": "randomised",
                "image_identity": identity,
            },
            trials=trials.drop(columns="image"),
            images=images,
        )
    return Study(out)


def sides(fold: Fold) -> dict[str, np.ndarray]:
    return {side: getattr(fold, side) for side in ("train", "val", "test")}


def share_samples(study: Study, a: int, b: int) -> bool:
    """Two trials compared sample by sample: the definition, for the fast way to be checked by."""
    runs, onsets = study.trials["run"].to_numpy(), study.trials["onset"].to_numpy()
    first = {(runs[a], round(onsets[a] * SFREQ) + i) for i in range(study.n_times)}
    return bool(first & {(runs[b], round(onsets[b] * SFREQ) + i) for i in range(study.n_times)})


def assert_no_shared_samples(study: Study, split: Split) -> None:
    where = list(zip(study.trials["subject"], study.trials["session"], study.trials["run"]))
    first = (study.trials["onset"] * SFREQ).round().astype(int).tolist()
    for fold in split.folds:
        samples = {
            side: {(where[i], first[i] + k) for i in ids for k in range(study.n_times)}
            for side, ids in sides(fold).items()
        }
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            assert not samples[a] & samples[b]


@pytest.mark.parametrize("spacing", np.arange(1, 11) / 10)
def test_overlap_agrees_with_its_definition(spacing: float, tmp_path: Path) -> None:
    study = make(tmp_path / "study", subjects=1, sessions=1, per_run=10, spacing_s=spacing)
    ids = np.arange(study.n_trials)
    rng = np.random.default_rng(round(spacing * 10))
    for size in (0, 1, 5, 15):
        chosen = rng.choice(ids, size, replace=False)
        others = np.setdiff1d(ids, chosen)
        expected = [any(share_samples(study, int(i), int(j)) for j in others) for i in chosen]
        assert overlapping(study, chosen, others).tolist() == expected


KINDS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "by-run": (by_run, {}, {}),
    "by-run, another run validates": (by_run, {"runs": 3}, {"val_from": "group"}),
    "by-run, across subjects": (by_run, {}, {"within_subject": False, "folds": 3}),
    "by-run, one subject": (by_run, {}, {"subject": "2"}),
    "by-subject": (by_subject, {"subjects": 3}, {}),
    "by-subject, another subject validates": (by_subject, {"subjects": 3}, {"val_from": "group"}),
    "by-subject, other images": (by_subject, {"subjects": 3}, {"images": "apart", "val": 0.2}),
    "by-run, other images": (by_run, {}, {"images": "apart", "val": 0.25, "test": 0.25}),
    "cross-session": (cross_session, {}, {}),
    "leave-one-session-out": (leave_one_session_out, {}, {}),
    "by-image": (by_image, {}, {"val": 0.2, "test": 0.2}),
    "by-image, folds": (by_image, {}, {"folds": 4, "val": 0.2}),
    "leave-classes-out": (leave_classes_out, {"classes": 6}, {"classes": 1, "val": 0.2}),
    "forward-in-block": (forward_in_block, {}, {}),
    "forward-in-block, embargo": (forward_in_block, {}, {"embargo": 1.0}),
}


@pytest.mark.parametrize("overlap", [False, True], ids=["apart", "overlapping"])
@pytest.mark.parametrize("case", KINDS)
def test_every_split_is_disjoint_and_re_derivable(case: str, overlap: bool, tmp_path: Path) -> None:
    function, structure, options = KINDS[case]
    # Windows of .8 s every .5 s share samples with their neighbors.
    study = make(tmp_path / "study", spacing_s=0.5 if overlap else 1.0, **structure)
    split = function(study, **options)
    assert split.name == split.how["kind"] == case.split(",")[0]
    for fold in split.folds:
        everything = np.concatenate(list(sides(fold).values()))
        assert len(np.unique(everything)) == len(everything)
        assert all(len(ids) for ids in sides(fold).values())
        if "image" in case or "classes" in case:
            image = study.trials["image_id"].to_numpy()
            for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
                assert not set(image[sides(fold)[a]]) & set(image[sides(fold)[b]])
    assert_no_shared_samples(study, split)
    lost = sum(sum(fold.values()) for fold in split.how["left_out_for_overlap"])
    assert (lost > 0) == (overlap and "group" not in str(options) and "embargo" not in options)
    again = function(study, **options)
    for one, two in zip(split.folds, again.folds):
        for side, ids in sides(one).items():
            assert np.array_equal(ids, sides(two)[side])
    if "seed" in split.how and "val_from" not in options:
        other = function(study, **options, seed=1)
        assert any(not np.array_equal(a.val, b.val) for a, b in zip(split.folds, other.folds))
    # What is written reads back, and says how it was made.
    study.write_split(split)
    stored = study.split(split.name)
    assert stored.how == split.how
    check_split(study, stored)


def test_by_run_tests_each_run_once_within_subjects(tmp_path: Path) -> None:
    study = make(tmp_path / "study")
    split = by_run(study)
    assert len(split.folds) == 8
    trials = study.trials
    tested = np.concatenate([fold.test for fold in split.folds])
    assert sorted(tested.tolist()) == list(range(study.n_trials))
    for fold in split.folds:
        assert trials.loc[fold.test].groupby(["subject", "session", "run"]).ngroups == 1
        assert trials.loc[np.concatenate(list(sides(fold).values())), "subject"].nunique() == 1
        # Validation trials follow one another in each of the three training runs.
        for _, rows in trials.loc[fold.val].groupby(["session", "run"]):
            assert (np.diff(rows["order"]) == 1).all()
        assert trials.loc[fold.val].groupby(["session", "run"]).ngroups == 3
        assert len(fold.val) == pytest.approx(0.2 * (len(fold.val) + len(fold.train)), abs=3)
    assert by_run(study, folds=2, within_subject=False).how["n_folds"] == 2


def test_validation_mirrors_the_classes(tmp_path: Path) -> None:
    study = make(tmp_path / "study", subjects=1, per_run=90, n_images=90)
    for fold in by_run(study).folds:
        shares = study.trials.loc[fold.val, "category"].value_counts(normalize=True)
        assert (np.abs(shares - 1 / 3) < 0.13).all() and len(shares) == 3


def test_by_subject_leaves_each_subject_out(tmp_path: Path) -> None:
    study = make(tmp_path / "study", subjects=3)
    split = by_subject(study)
    assert split.how["folds"] == ["1", "2", "3"]
    for fold, subject in zip(split.folds, "123"):
        assert set(study.trials.loc[fold.test, "subject"]) == {subject}
        assert subject not in set(study.trials.loc[fold.train, "subject"])
        assert subject not in set(study.trials.loc[fold.val, "subject"])


def test_by_image_folds_part_the_images_and_keep_classes(tmp_path: Path) -> None:
    study = make(tmp_path / "study")
    split = by_image(study, folds=4, val=0.25)
    tested = [set(study.trials.loc[f.test, "image_id"]) for f in split.folds]
    assert sum(len(t) for t in tested) == len(set.union(*tested)) == 24
    for fold in split.folds:
        assert study.trials.loc[fold.test, "category"].nunique() == 3
    one = by_image(study, val=0.25, test=0.25).folds[0]
    assert study.trials.loc[one.test, "image_id"].nunique() == 6
    assert study.trials.loc[one.val, "image_id"].nunique() == 6


def test_one_image_under_two_names_is_one_image(tmp_path: Path) -> None:
    study = make(tmp_path / "study", twins=True)
    twins = study.images["image_id"].iloc[:2].tolist()
    for seed in range(8):
        fold = by_image(study, seed=seed, val=0.3, test=0.3).folds[0]
        of_side = {s: set(study.trials.loc[ids, "image_id"]) for s, ids in sides(fold).items()}
        assert sum(bool(set(twins) & images) for images in of_side.values()) == 1
    rows = [study.trials.index[study.trials["image_id"] == name].to_numpy() for name in twins]
    leaking = Fold(rows[0], study.trials.index[10:12].to_numpy(), rows[1])
    if not np.intersect1d(leaking.val, np.concatenate(rows)).size:
        assert ("train", "test") in shared_images(study, leaking)


def test_forward_keeps_order_and_embargo(tmp_path: Path) -> None:
    study = make(tmp_path / "study")
    fold = forward_in_block(study, embargo=2.5).folds[0]
    for _, rows in study.trials.groupby(["subject", "session", "run"]):
        times = {
            side: rows.loc[rows.index.intersection(ids), "onset"]
            for side, ids in sides(fold).items()
        }
        assert times["train"].max() + 2.5 < times["val"].min()
        assert times["val"].max() + 2.5 < times["test"].min()


def test_leave_classes_out_takes_names_numbers_and_fractions(tmp_path: Path) -> None:
    study = make(tmp_path / "study", classes=6)
    for wanted in (["class-1", "class-4"], "class-1, class-4"):
        split = leave_classes_out(study, classes=wanted)
        assert split.how["classes"] == ["class-1", "class-4"]
        tested = set(study.trials.loc[split.folds[0].test, "category"])
        trained = set(study.trials.loc[split.folds[0].train, "category"])
        assert tested == {"class-1", "class-4"} and not tested & trained
    assert len(leave_classes_out(study, classes=0.5).how["classes"]) == 3
    with pytest.raises(UnknownNameError, match="did you mean 'class-1'"):
        leave_classes_out(study, classes=["clas-1"])
    with pytest.raises(SplitError, match="two must be left"):
        leave_classes_out(study, classes=5)


def test_category_studies(tmp_path: Path) -> None:
    study = make(tmp_path / "study", identity="category")
    with pytest.raises(SplitError, match="split by run or by subject"):
        by_image(study)
    split = by_run(study)
    assert split.how["kept_apart"] == ["samples"]
    assert len(leave_classes_out(study, classes=1).folds[0].test)


@pytest.mark.parametrize(
    ("function", "structure", "options", "message"),
    [
        (by_run, {"runs": 1, "sessions": 1}, {}, r"a run needs at least two of subject 1.* has 1"),
        (by_run, {"runs": 2, "sessions": 1}, {"val_from": "group"}, "at least three"),
        (by_run, {}, {"folds": 9}, r"'folds' must lie between 2 and the number of runs \(4\)"),
        (by_run, {}, {"subject": "9"}, "unknown subject '9'"),
        (by_run, {}, {"val": 1.5}, "'val' is a fraction"),
        (by_run, {}, {"val_from": "blokcs"}, "did you mean 'blocks'"),
        (by_run, {"class_by_run": True, "sessions": 1}, {}, "a class belongs to one run"),
        (by_subject, {"subjects": 1}, {}, "a subject needs at least two"),
        (cross_session, {"sessions": 1}, {}, "a session needs at least two"),
        (by_image, {"n_images": 2}, {}, "2 images are too few"),
        (by_image, {}, {"folds": 0}, "at least 1"),
        (by_image, {}, {"val": 0.6, "test": 0.6}, "leave no training images"),
        (forward_in_block, {}, {"val": 0.5, "test": 0.5}, "leave nothing to train"),
        (forward_in_block, {"onsets": False}, {"embargo": 1}, "no embargo can be kept"),
        (by_run, {"per_run": 2}, {}, "would be empty"),
        # A trial lasts .8 s and begins every .1 s: apart by image means hardly a trial is left.
        (by_image, {"spacing_s": 0.1}, {"val": 0.3, "test": 0.3}, "would cost"),
    ],
)
def test_what_cannot_be_split_is_said(
    function: Any, structure: Any, options: Any, message: str, tmp_path: Path
) -> None:
    study = make(tmp_path / "study", **structure)
    with pytest.raises(InputError, match=message):
        function(study, **options)


def test_unknown_onsets_are_said_not_guessed(tmp_path: Path) -> None:
    study = make(tmp_path / "study", onsets=False)
    split = by_run(study)
    assert split.how["kept_apart"] == [] and "onsets are not known" in split.how["note"]
    assert forward_in_block(study).how["kept_apart"] == []


def test_leaks_are_found(tmp_path: Path) -> None:
    study = make(tmp_path / "study", spacing_s=0.5)
    ids = np.arange(24)
    with pytest.raises(SplitError, match=r"share samples .* \(first"):
        check_overlap(study, Fold(ids[::2], ids[1::4], ids[3::4]))
    image = study.trials["image_id"]
    first = np.flatnonzero((image == image[0]).to_numpy())
    leak = Split(
        "leak",
        (Fold(first[:1], np.array([100]), first[1:2]),),
        {"kept_apart": ["images"]},
    )
    with pytest.raises(SplitError, match="images are shown on both the train and the test set"):
        check_split(study, leak)


def test_the_dataset_s_own_split_is_never_counted_anew(tmp_path: Path) -> None:
    study = make(tmp_path / "study")
    with pytest.raises(SplitError, match=r"has no split 'official'; .* 'eegprompt import'"):
        official(study)
    (whole,) = by_image(study, val=0.2, test=0.2).folds
    how = {"kind": "official", "kept_apart": ["images"]}
    study.write_split(Split("official", (whole,), how))
    study.write_split(by_run(study))
    assert official(study).how == how
    split = make_split(study, "official", subject="2")
    assert split.name == "official-subject-2" and study.split(split.name).how["subject"] == "2"
    of_two = np.flatnonzero((study.trials["subject"] == "2").to_numpy())
    for side, ids in sides(split.folds[0]).items():
        assert ids.tolist() == np.intersect1d(sides(whole)[side], of_two).tolist()
    with pytest.raises(SplitError, match="was not brought by the dataset"):
        official(study, source="by-run")
    other = Split("official", (Fold(of_two[:4], of_two[4:5], of_two[5:6]),), how)
    study.write_split(other, overwrite=True)
    with pytest.raises(SplitError, match="subject 1 has no trial on the train side"):
        official(study, subject="1")


def test_images_on_two_sides_are_counted_or_kept_apart(tmp_path: Path) -> None:
    study = make(tmp_path / "study", subjects=3)
    shared = by_subject(study)
    assert shared.how["images_on_two_sides"][0]["train, test"] == 24
    assert "images" not in shared.how["kept_apart"]
    apart = by_subject(study, images="apart", test=0.25)
    assert apart.how["kept_apart"] == ["samples", "images"]
    for fold, subject in zip(apart.folds, "123"):
        assert set(study.trials.loc[fold.test, "subject"]) == {subject}
        assert subject not in set(study.trials.loc[fold.train, "subject"])
        assert study.trials.loc[fold.test, "image_id"].nunique() == 6
        assert study.trials.loc[fold.test, "category"].nunique() == 3
    with pytest.raises(SplitError, match="leave 'images' at 'shared'"):
        by_run(make(tmp_path / "b", identity="category"), images="apart")
    with pytest.raises(UnknownNameError, match="did you mean 'apart'"):
        by_run(study, images="aprt")


def test_make_split_writes_any_registered_kind(tmp_path: Path) -> None:
    study = make(tmp_path / "study", classes=6)
    study.write_split(Split("official", by_image(study).folds, {"kind": "official"}))
    for kind in names("split"):
        split = make_split(study, kind, **({"val": 0.2} if kind == "by-image" else {}))
        assert study.split(kind).how["kind"] == split.how["kind"] == kind
    make_split(study, "by-run", name="mine", seed=3, folds=2)
    assert "mine" in study.split_names()
    with pytest.raises(UnknownNameError, match="did you mean 'by-run'"):
        make_split(study, "by-runs")
    with pytest.raises(UnknownNameError, match="did you mean 'folds'"):
        make_split(study, "by-run", fold=2)


def test_equal_places_for_validation_are_drawn_from(tmp_path: Path) -> None:
    # One trial of each class in a recording: every place mirrors the classes equally badly.
    study = make(
        tmp_path / "study", subjects=6, sessions=1, runs=1, per_run=6, n_images=6, classes=6
    )
    places = set()
    for seed in range(6):
        fold = by_subject(study, seed=seed, val=0.2).folds[0]
        places |= set(study.trials.loc[fold.val, "order"])
        assert set(study.trials.loc[fold.train, "category"]) == set(study.categories)
    assert places == set(range(6))
    # Two subjects to train on, whose only trials of a class could both be taken.
    few = make(tmp_path / "few", subjects=3, sessions=1, runs=1, per_run=3, n_images=3, classes=3)
    for seed in range(12):
        for fold in by_subject(few, seed=seed, val=0.34).folds:
            assert set(few.trials.loc[fold.train, "category"]) == set(few.categories)


def test_a_class_that_went_to_validation_is_said_to_be_there(tmp_path: Path) -> None:
    study = make(
        tmp_path / "study", subjects=2, sessions=1, runs=1, per_run=3, n_images=3, classes=3
    )
    with pytest.raises(SplitError) as caught:  # the only training subject has one trial a class
        by_subject(study, val=0.34)
    assert "validation" in str(caught.value) and "belongs to one" not in str(caught.value)


@pytest.mark.parametrize(("val", "count"), [(0.05, 1), (0.2, 1), (0.4, 3), (0.89, 6)])
def test_groups_for_validation_are_a_fraction_of_them(
    tmp_path: Path, val: float, count: int
) -> None:
    study = make(tmp_path / "study", subjects=8, sessions=1, runs=1)
    for fold in by_subject(study, val=val, val_from="group").folds:
        assert study.trials.loc[fold.val, "subject"].nunique() == count
        assert study.trials.loc[fold.train, "subject"].nunique() == 7 - count
    with pytest.raises(SplitError):
        by_subject(
            make(tmp_path / "three", subjects=3, sessions=1, runs=1), val_from="group", folds=2
        )


def test_sessions_within_and_pooled_over_subjects(tmp_path: Path) -> None:
    study = make(tmp_path / "study", subjects=2, sessions=3)
    within = cross_session(study)
    assert len(within.folds) == 6 and within.how["within_subject"] is True
    pooled = leave_one_session_out(study)
    assert pooled.how["within_subject"] is False and pooled.how["folds"] == ["1", "2", "3"]
    for fold, session in zip(pooled.folds, "123"):
        for ids, names_ in ((fold.test, {session}), (fold.train, set("123") - {session})):
            assert set(study.trials.loc[ids, "session"]) == names_
            assert set(study.trials.loc[ids, "subject"]) == {"1", "2"}
    with pytest.raises(SplitError):
        leave_one_session_out(make(tmp_path / "one", sessions=1))


@pytest.mark.parametrize(
    ("alias", "kind", "n_folds"),
    [
        ("loso", "by-subject", 7),
        ("leave-one-subject-out", "by-subject", 7),
        ("leave-one-run-out", "by-run", 28),
        ("kfold", "by-image", 5),
        ("k-fold", "by-image", 5),
        ("group-kfold", "by-subject", 5),
    ],
)
def test_kinds_have_the_field_s_names_too(
    tmp_path: Path, alias: str, kind: str, n_folds: int
) -> None:
    study = make(tmp_path / "study", subjects=7)
    split = make_split(study, alias)
    assert (split.name, split.how["kind"], len(split.folds)) == (alias, kind, n_folds)
    assert study.split(alias).how == split.how
    with pytest.raises(UnknownNameError) as caught:
        make_split(study, f"{alias}s")
    assert {alias, kind} <= set(caught.value.allowed)


def test_group_kfold_of_few_subjects_has_a_fold_for_each(tmp_path: Path) -> None:
    study = make(tmp_path / "study", subjects=3)
    assert len(make_split(study, "group-kfold").folds) == 3
    assert len(make_split(study, "group-kfold", folds=2, overwrite=True).folds) == 2


def test_the_options_of_a_kind_are_listed() -> None:
    for kind in (*names("split"), *ALIASES):
        said = CliRunner().invoke(app, ["split", kind, "--options", "--json"])
        assert said.exit_code == 0, said.output
        rows = json.loads(said.stdout)
        function, _ = split_function(kind)
        wanted = [
            p.name for p in inspect.signature(function).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        ]  # fmt: skip
        assert [re.sub(r"^(--|-o )|=\.\.\.$", "", row["option"]) for row in rows] == wanted
        assert all(row["what_it_is"] for row in rows), kind
    assert CliRunner().invoke(app, ["split", "by-rn", "--options"]).exit_code == 2
    assert CliRunner().invoke(app, ["split", "--options"]).exit_code == 2
    assert CliRunner().invoke(app, ["split", "studies/x"]).exit_code == 2

"""Nothing of the user's is destroyed, and no trial that was trained on is ever scored."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.core import digests
from eegprompt.core.digests import remembered_sha256
from eegprompt.core.errors import CaptionError, InputError, RunError, SplitError
from eegprompt.core.files import (
    Ours,
    atomic_directory,
    is_replaced,
    settle,
    sha256_file,
    write_page,
)
from eegprompt.core.locks import only_writer
from eegprompt.reports.audit_page import write_audit_page as audit_page
from eegprompt.run import OURS as RUN
from eegprompt.run import Run, fold_runs
from eegprompt.settings import load_config
from eegprompt.steps.ablate import ablate
from eegprompt.steps.audit import audit as study_audit
from eegprompt.steps.decode import decode
from eegprompt.steps.evaluate import evaluate, evaluate_folds
from eegprompt.steps.experiment import changed_settings
from eegprompt.steps.explain import explain
from eegprompt.steps.generate import generate
from eegprompt.steps.report import report
from eegprompt.steps.train import train
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

MINE = Ours("a thing", ("thing.json",), ("thing.json", "data", "part-*.bin"))


def cli(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


# -- folders ---------------------------------------------------------------------------------------
def folder(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text("precious")
    return path


@pytest.mark.parametrize(
    "names",
    [("thesis.txt",), ("thing.json", "thesis.txt"), ("part-1.bin",), (".git", "thing.json")],
)
def test_a_folder_with_anything_foreign_is_never_replaced(tmp_path, names):
    place = folder(tmp_path / "place", *names)
    with pytest.raises(InputError), atomic_directory(place, overwrite=True, ours=MINE) as partial:
        (partial / "thing.json").write_text("new")
    assert sorted(p.name for p in place.iterdir()) == sorted(names)
    assert all((place / name).read_text() == "precious" for name in names)


def test_what_was_put_there_meanwhile_is_kept(tmp_path):
    place = folder(tmp_path / "place", "thing.json")
    with pytest.raises(InputError), atomic_directory(place, overwrite=True, ours=MINE) as partial:
        (partial / "thing.json").write_text("new")
        (place / "note.txt").write_text("precious")
    assert (place / "note.txt").exists() and (place / "thing.json").read_text() == "precious"


def test_ours_is_replaced_and_a_file_or_nothing_of_ours_is_not(tmp_path):
    place = folder(tmp_path / "place", "thing.json", "part-1.bin")
    with atomic_directory(place, overwrite=True, ours=MINE) as partial:
        (partial / "thing.json").write_text("new")
    assert [p.name for p in place.iterdir()] == ["thing.json"]
    assert list(tmp_path.iterdir()) == [place]
    with pytest.raises(InputError), atomic_directory(place, overwrite=True):
        pass
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(InputError), atomic_directory(file, overwrite=True, ours=MINE):
        pass
    assert file.read_text() == "precious"


def test_an_error_or_a_kill_while_replacing_keeps_the_old(tmp_path, monkeypatch):
    place = folder(tmp_path / "place", "thing.json")
    with pytest.raises(ZeroDivisionError), atomic_directory(place, overwrite=True, ours=MINE):
        _ = 1 / 0
    assert (place / "thing.json").read_text() == "precious"
    real = os.replace

    def killed(a, b):
        if Path(b) == place and ".partial" in str(a):
            raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr(os, "replace", killed)
    with (
        pytest.raises(KeyboardInterrupt),
        atomic_directory(place, overwrite=True, ours=MINE) as partial,
    ):
        (partial / "thing.json").write_text("new")
    monkeypatch.undo()
    settle(place)
    assert (place / "thing.json").read_text() == "precious" and not is_replaced(place)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    place = tmp_path / "place"
    child = os.fork()
    if not child:
        with atomic_directory(place) as partial:
            (partial / "half").write_text("half")
            os._exit(0)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    foreign = folder(tmp_path / ".place-thesis.partial", "text")
    with (
        pytest.raises(InputError),
        atomic_directory(place) as partial,
        atomic_directory(place) as another,
    ):
        (partial / "one").write_text("1")
        (another / "two").write_text("2")
    assert [p.name for p in place.iterdir()] == ["two"]
    assert sorted(tmp_path.iterdir()) == [foreign, place]


@pytest.mark.parametrize("command", ["simulate", "import"])
def test_overwrite_never_takes_somebodys_folder(tmp_path, command):
    place = folder(tmp_path / "thesis", "chapter-1.tex", "data.csv")
    words = {
        "simulate": ("simulate", place, "--overwrite"),
        "import": ("import", "mne", tmp_path / "none-epo.fif", "--out", place, "--overwrite"),
    }[command]
    answer = cli(*words)
    assert answer.exit_code == 2
    assert sorted(p.name for p in place.iterdir()) == ["chapter-1.tex", "data.csv"]


def test_a_page_replaces_pages_of_ours_alone(tmp_path):
    page = tmp_path / "report.html"
    head = '<meta name="generator" content="eegprompt">'
    write_page(page, head, of=tmp_path / "run")
    write_page(page, head + "again", of=tmp_path / "run")
    assert page.read_text().endswith("again")
    page.write_text("<html>precious</html>")
    with pytest.raises(InputError):
        write_page(page, head, of=tmp_path)
    assert page.read_text() == "<html>precious</html>"


# -- runs ------------------------------------------------------------------------------------------
@pytest.fixture
def trained(small_study, tmp_path):
    study = Study(small_study)
    names = study.caption_names()
    config = load_config(
        {
            "study": str(small_study),
            "captions": names[0],
            "split": study.split_names()[0],
            "kinds": "ObjectSnap",
            "encoder": {"name": "ridge"},
            "training": {"preprocessing": ["standardize"]},
            "generation": {"generator": "builtin"},
        }
    )
    return study, config, train(study, tmp_path / "run", config)


VERBS = {
    "decode": decode,
    "generate": generate,
    "evaluate": evaluate,
    "explain": explain,
    "report": report,
}


def other_fold(study: Study, split: str) -> Split:
    fold = study.split(split).fold(0)
    return Split(split, (Fold(fold.test, fold.val, fold.train),), {"kind": "by-hand"})


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_goes_on_with_a_split_that_changed(trained, verb):
    study, config, run = trained
    study.write_split(other_fold(study, config.split), overwrite=True)
    before = (run.path / "config.yaml").read_bytes()
    with pytest.raises(RunError) as problem:
        VERBS[verb](Run(run.path))
    assert config.split in str(problem.value)
    assert (run.path / "config.yaml").read_bytes() == before


def test_a_split_is_replaced_only_when_asked(trained):
    study, config, run = trained
    study.write_split(study.split(config.split))  # the same again is no change
    with pytest.raises(SplitError):
        study.write_split(other_fold(study, config.split))
    decode(run)


@pytest.mark.parametrize("what", ["study", "captions"])
def test_changed_trials_or_captions_are_refused(trained, what):
    study, config, run = trained
    if what == "captions":
        table = study.captions(config.captions)
        table.loc[0, "text"] = "something else"
        table.to_parquet(study.path / "captions" / f"{config.captions}.parquet", index=False)
    else:
        order = np.random.default_rng(1).permutation(study.n_trials)
        keep = {n: study.path / n for n in ("splits", "captions")}
        copies = {n: shutil.copytree(p, study.path.parent / n) for n, p in keep.items()}
        info = {k: v for k, v in study.info.items() if k not in ("provenance", "eeg_sha256")}
        eeg, trials, images = np.array(study.eeg), study.trials, study.images
        pictures = shutil.copytree(study.path / "images", study.path.parent / "images")
        with StudyWriter.open(study.path, overwrite=True) as writer:
            shutil.copytree(pictures, writer.folder / "images")
            writer.append(eeg[order])
            writer.finish(info=info, trials=trials.iloc[order], images=images)
        for name, copy in copies.items():
            shutil.copytree(copy, study.path / name)
    with pytest.raises(RunError):
        decode(Run(run.path))


def test_training_on_one_study_with_the_settings_of_another_is_refused(trained, tmp_path):
    study, config, _ = trained
    with pytest.raises(InputError):
        train(study, tmp_path / "other", config.model_copy(update={"study": str(tmp_path)}))
    assert not (tmp_path / "other").exists()


def test_a_relative_study_is_found_from_anywhere(trained, tmp_path, monkeypatch):
    study, config, _ = trained
    monkeypatch.chdir(study.path.parent)
    relative = config.model_copy(update={"study": study.path.name})
    run = train(Study(study.path.name), tmp_path / "relative", relative)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Run(run.path).study.n_trials == study.n_trials


def test_overwrite_keeps_what_is_not_the_runs_own(trained):
    study, config, run = trained
    (run.path / "study").mkdir()
    (run.path / "study" / "eeg.npy").write_text("precious")
    other = config.model_copy(update={"seed": 7})
    with pytest.raises(InputError) as problem:
        train(study, run.path, other, overwrite=True)
    assert "study" in str(problem.value)
    assert (run.path / "study" / "eeg.npy").read_text() == "precious"
    assert (run.path / "encoder" / "config.json").exists()


def test_a_run_that_is_replaced_comes_back_if_the_new_one_fails(trained):
    study, config, run = trained
    decode(run)
    weights = (run.path / "encoder" / "model.safetensors").read_bytes()
    bad = config.model_copy(
        update={
            "training": config.training.model_copy(update={"preprocessing": ("mvnn",)}),
            "seed": 8,
        }
    )
    bad = bad.model_copy(update={"text_encoder": "clip:/nowhere"})
    with pytest.raises(Exception):  # noqa: B017 (whatever it is)
        train(study, run.path, bad, overwrite=True)
    assert (run.path / "encoder" / "model.safetensors").read_bytes() == weights
    assert not is_replaced(run.path)
    other = config.model_copy(update={"seed": 9})
    train(study, run.path, other, overwrite=True)
    assert Run(run.path).config["seed"] == 9 and not is_replaced(run.path)


@contextmanager
def another_writer(place: Path) -> Iterator[int]:
    """A process that writes into a folder until the block ends, when it is killed."""
    here, there = os.pipe()
    child = os.fork()
    if not child:
        with only_writer(place):
            os.write(there, b"x")
            time.sleep(600)
        os._exit(1)
    try:
        assert os.read(here, 1) == b"x"
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(here)
        os.close(there)


@pytest.mark.parametrize("verb", [*VERBS, "train"])
def test_two_processes_never_write_one_run(trained, verb):
    study, config, run = trained
    call = VERBS.get(verb, lambda run: train(study, run.path, config, overwrite=True))
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    with another_writer(run.path) as child, pytest.raises(RunError) as problem:
        call(run)
    assert str(child) in str(problem.value) and "since" in str(problem.value)
    assert before == {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    # What a killed process left keeps nobody out.
    assert lock_of(run.path).exists()
    if verb in ("train", "decode", "report"):
        call(run)
        assert not lock_of(run.path).exists()


def lock_of(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial-lock")


def test_a_verb_within_a_verb_and_an_error_end_the_lock(tmp_path):
    place = tmp_path / "a" / "b"
    with only_writer(place), only_writer(place):
        assert lock_of(place).exists()
    with pytest.raises(ZeroDivisionError), only_writer(place):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    with another_writer(place), only_writer(tmp_path / "a"), pytest.raises(RunError):
        with only_writer(place):
            pass


def test_a_training_killed_before_its_settings_were_written_goes_on(trained, tmp_path):
    study, config, _ = trained
    place = tmp_path / "killed"
    place.mkdir()
    (place / ".config-x.partial.yaml").write_text("half")
    train(study, place, config)
    assert (place / "encoder" / "config.json").exists()


def test_a_step_that_fails_leaves_the_settings_as_they_were(trained):
    _, _, run = trained
    before = (run.path / "config.yaml").read_bytes()
    with (
        pytest.raises(ZeroDivisionError),
        changed_settings(run, ["decoding.top_k=2"], ("decoding",)) as changed,
    ):
        assert changed.config["decoding"]["top_k"] == 2
        _ = 1 / 0
    assert (run.path / "config.yaml").read_bytes() == before
    with changed_settings(run, ["decoding.top_k=2"], ("decoding",)):
        pass
    assert Run(run.path).config["decoding"]["top_k"] == 2


def test_a_backup_beside_the_folds_is_no_fold(tmp_path):
    for name in ("fold-0", "fold-10", "fold-2", "fold-0-backup", "fold-x"):
        folder(tmp_path / name, "config.yaml")
    assert [p.name for p in fold_runs(tmp_path)] == ["fold-0", "fold-2", "fold-10"]


def test_a_device_that_is_not_there_is_said(trained, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    study, config, _ = trained
    words = ("train", study.path, "--out", tmp_path / "cuda", f"captions={config.captions}")
    answer = cli(*words, f"split={config.split}", "training.device=cuda", "kinds=ObjectSnap")
    assert answer.exit_code == 2 and "cpu" in answer.output
    answer = cli(*words, f"split={config.split}", "training.device=gpu0", "kinds=ObjectSnap")
    assert answer.exit_code == 2


def test_leakage_is_allowed_as_often_as_it_is_said(trained, tmp_path):
    study, config, _ = trained
    out = tmp_path / "leaky"
    answer = cli(
        "train", study.path, "--out", out, "--allow-leakage", "images", "--allow-leakage",
        "subjects", f"captions={config.captions}", f"split={config.split}", "kinds=ObjectSnap",
        "encoder.name=ridge", "training.preprocessing=[standardize]",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    assert yaml.safe_load((out / "config.yaml").read_text())["allow_leakage"] == [
        "images",
        "subjects",
    ]


def test_what_a_run_writes_is_known_as_its_own(trained):
    _, _, run = trained
    decode(run)
    generate(run)
    evaluate(run)
    VERBS["report"](run)
    assert RUN.foreign(run.path) == []


# -- what looks like ours ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["images/notes/a.txt", "captions/notes.txt", "splits/plan.csv"])
def test_overwrite_of_a_study_keeps_what_lies_inside_its_folders(small_study, name):
    (small_study / name).parent.mkdir(exist_ok=True)
    (small_study / name).write_text("precious")
    with pytest.raises(InputError) as problem, StudyWriter.open(small_study, overwrite=True):
        pass
    assert name in str(problem.value)
    assert (small_study / name).read_text() == "precious"


@pytest.mark.parametrize(
    "name",
    [
        *("images/mine/talk.pptx", "figures/photo.jpg", "images/builtin/eeg/000001_0.png"),
        *("figures/explain/mine.png", "figures/mine.svg"),
    ],
)
def test_overwrite_of_a_run_keeps_what_lies_inside_its_folders(trained, name):
    study, config, run = trained
    (run.path / name).parent.mkdir(parents=True)
    (run.path / name).write_text("precious")
    with pytest.raises(InputError) as problem:
        train(study, run.path, config.model_copy(update={"seed": 7}), overwrite=True)
    assert name in str(problem.value)
    assert (run.path / name).read_text() == "precious"


def test_a_caption_set_is_replaced_only_when_asked(small_study):
    study = Study(small_study)
    name = study.caption_names()[0]
    table = study.captions(name)
    study.write_captions(name, table)  # the same again is no change
    other = table.assign(text=table["text"] + "!")
    with pytest.raises(CaptionError) as problem:
        study.write_captions(name, other)
    assert name in str(problem.value) and study.captions(name).equals(table)
    study.write_captions(name, other, overwrite=True)
    assert study.captions(name).equals(other)


def test_a_report_replaces_one_of_its_own_run_alone(trained, tmp_path):
    study, config, run = trained
    page, other = tmp_path / "page.html", train(study, tmp_path / "other", config)
    before = report(run, page).read_bytes()
    report(run, page)
    with pytest.raises(InputError) as problem:
        report(other, page)
    assert str(page) in str(problem.value) and before[:300] == page.read_bytes()[:300]
    report(other, other.path / "report.html")
    moved = shutil.move(other.path, tmp_path / "moved")  # its own page is known wherever it lies
    report(moved)
    with pytest.raises(InputError):
        audit_page(study, study_audit(study, permutations=199), page)


def test_a_recipe_never_writes_into_a_study(small_study):
    before = {p: p.read_bytes() for p in small_study.rglob("*") if p.is_file()}
    assert cli("demo", "--out", small_study).exit_code == 2
    assert before == {p: p.read_bytes() for p in small_study.rglob("*") if p.is_file()}


def test_a_recipe_keeps_a_file_that_only_bears_the_name_of_its_own(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "study.json").write_text('{"title": "precious"}')
    assert cli("demo", "--out", place).exit_code == 2
    assert [p.name for p in place.iterdir()] == ["study.json"]
    assert (place / "study.json").read_text() == '{"title": "precious"}'


def test_a_figure_replaces_its_like_alone(small_study, tmp_path):
    for suffix in (".png", ".svg", ".pdf"):
        path = tmp_path / f"cap{suffix}"
        assert cli("info", small_study, "--figure", path).exit_code == 0
        assert cli("info", small_study, "--figure", path).exit_code == 0
        path.write_bytes(b"precious")
        assert cli("info", small_study, "--figure", path).exit_code == 2
        assert path.read_bytes() == b"precious"


def test_a_folder_of_checkpoints_is_no_run(trained, tmp_path):
    study, config, _ = trained
    place = folder(tmp_path / "models" / "checkpoints", "mine.pt").parent
    with pytest.raises(RunError):
        train(study, place, config, resume=False)
    assert [p.name for p in place.rglob("*") if p.is_file()] == ["mine.pt"]


# -- what was trained on -----------------------------------------------------------------------------
@pytest.mark.parametrize("lost", ["all", "training"])
def test_a_run_without_its_provenance_knows_what_it_was_trained_on(trained, lost):
    study, config, run = trained
    path = run.path / "provenance.json"
    if lost == "all":
        path.unlink()
    else:  # killed between the encoder and the note of it
        path.write_text("{}")
    decode(run)
    study.write_split(other_fold(study, config.split), overwrite=True)
    with pytest.raises(RunError) as problem:
        evaluate(Run(run.path))
    assert str(run.encoder_dir) in str(problem.value)


def test_an_encoder_from_another_run_is_refused(trained, tmp_path):
    study, config, run = trained
    other = Split("other", other_fold(study, config.split).folds, {"kind": "by-hand"})
    study.write_split(other)
    stranger = train(study, tmp_path / "other", config.model_copy(update={"split": "other"}))
    shutil.rmtree(run.encoder_dir)
    shutil.copytree(stranger.encoder_dir, run.encoder_dir)
    with pytest.raises(RunError) as problem:
        decode(Run(run.path))
    assert str(run.encoder_dir) in str(problem.value)


def test_eeg_that_changed_in_its_place_is_refused(trained):
    study, _, run = trained
    eeg = np.load(study.path / "eeg.npy", mmap_mode="r+")
    eeg[:] = eeg[::-1].copy()
    eeg.flush()
    with pytest.raises(RunError):
        decode(Run(run.path))


def test_the_digest_of_a_large_file_sees_each_byte_and_is_computed_once(tmp_path, monkeypatch):
    file, note = tmp_path / "large.bin", tmp_path / "cache" / "note.json"
    file.write_bytes(bytes(8 << 20))
    digest = remembered_sha256(file, note)
    assert digest == sha256_file(file) and not note.exists()  # it may change again this moment
    old = time.time() - 100
    os.utime(file, (old, old))
    monkeypatch.setattr(digests, "_SETTLED", 0.0)
    assert remembered_sha256(file, note) == digest and note.exists()
    with monkeypatch.context() as patch:
        patch.setattr(digests, "sha256_file", None)
        assert remembered_sha256(file, note) == digest
    with open(
        file, "r+b"
    ) as stream:  # one byte, where no sample of it looks; and its time put back
        stream.seek((4 << 20) + 77_777)
        stream.write(b"x")
    os.utime(file, (old, old))
    assert remembered_sha256(file, note) == sha256_file(file) != digest
    note.write_text('{"size": 1}')
    assert remembered_sha256(file, note) == sha256_file(file)


def test_linear_algebra_of_audits_takes_one_thread(trained, monkeypatch):
    from threadpoolctl import threadpool_info

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    study, _, run = trained
    seen = []

    def look(*args, **kwargs):
        seen.append(threads())
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["eegprompt.steps.audit"], "check_design", look)
    monkeypatch.setattr(sys.modules["eegprompt.steps.evaluate"], "_scored", look)
    monkeypatch.setattr(sys.modules["eegprompt.steps.explain"], "context_of", look)
    before = threads()
    for call in (lambda: study_audit(study), lambda: evaluate(run), lambda: explain(run)):
        with pytest.raises(ZeroDivisionError):
            call()
    assert seen == [{1}] * 3 and threads() == before


def test_a_mean_over_folds_is_over_different_folds_of_one_split(trained, tmp_path):
    study, config, run = trained
    decode(run)
    parent = tmp_path / "folds"
    shutil.copytree(run.path, parent / "fold-0")
    shutil.copytree(run.path, parent / "fold-1")
    with pytest.raises(RunError) as problem:
        evaluate_folds(parent)
    assert "fold-1" in str(problem.value) and not (parent / "scores.json").exists()
    shutil.rmtree(parent / "fold-1")
    fold = study.split(config.split).fold(0)
    study.write_split(Split("other", (fold, fold), {"kind": "by-hand"}))
    train(study, parent / "fold-1", config.model_copy(update={"split": "other", "fold": 1}))
    with pytest.raises(RunError):
        evaluate_folds(parent)


def test_an_ablation_goes_on_with_its_own_split_alone(trained, tmp_path):
    study, config, _ = trained
    out = tmp_path / "ablation"
    ablate(study, out, config, what=["pool"], seeds=1, draw=False)
    before = (out / "ablation.json").read_bytes()
    study.write_split(other_fold(study, config.split), overwrite=True)
    with pytest.raises(RunError):
        ablate(study, out, config, what=["pool"], seeds=2, draw=False)
    assert (out / "ablation.json").read_bytes() == before

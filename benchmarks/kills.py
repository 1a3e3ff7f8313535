"""Kill every command at random moments, run it again, and compare with an undisturbed run.

usage: python benchmarks/kills.py [--kills 300] [--row 3] [--seed 0] [--out DIR] [--only COMMAND]

A tiny built-in study goes through all commands once, undisturbed. Then a command is started from
the state before it, killed (SIGKILL, so nothing can be tidied up) after a random share of the time
it took, started and killed again up to twice, and run again to its end. It counts as a fault if that
last run fails, if its files differ from the undisturbed ones (provenance, times and the text of HTML
pages apart), or if a file of the user's beside or inside the folders is gone or changed. The package
is imported once; each command runs in a forked process. Commands that take long are killed less
often. A second call with the same folder uses the undisturbed runs that are there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

UNSTEADY = {"provenance", "created", "command", "packages", "platform", "seconds", "mtime"}
# As little as each command can do: what is asked is when it is killed, not how much it computes.
SMALL = [
    "--subjects",
    "1",
    "--images",
    "48",
    "--test-images",
    "16",
    "--repetitions",
    "2",
    "--sfreq",
    "100",
]
TRAIN = ["training.epochs=3", "kinds=ObjectSnap", "encoder.name=transformer"]
RECIPE = """\
make: {simulate: {subjects: 1, images: 48, test_images: 16, repetitions: 2, sfreq: 100, seed: 1}}
training: {epochs: 2}
kinds: [ObjectSnap]
encoder: {name: transformer}
generation: {options: {steps: 2}}
evaluation: {permutations: 99, resamples: 100}
"""
COMMANDS: dict[str, list[str]] = {
    "simulate": ["simulate", "study", *SMALL],
    "simulate --overwrite": ["simulate", "study", *SMALL, "--overwrite"],
    "import": [
        "import",
        "mne",
        "epochs-epo.fif",
        "--out",
        "imported",
        "-o",
        "category_column=category",
    ],
    "split": ["split", "study", "by-image"],
    "captions write": ["captions", "write", "study", "--captioner", "rules"],
    "audit": ["audit", "study", "--split", "official", "--permutations", "199"],
    "train": ["train", "study", "--out", "run", "--split", "official", "captions=builtin", *TRAIN],
    "train --overwrite": [
        *("train", "study", "--out", "run", "--overwrite", "--split", "official"),
        *("captions=builtin", *TRAIN, "seed=1"),
    ],
    "decode": ["decode", "run"],
    "generate": ["generate", "run", "--sources", "eeg,floor,ceiling", "-o", "steps=2"],
    "evaluate": ["evaluate", "run", "evaluation.permutations=99", "evaluation.resamples=100"],
    "explain": ["explain", "run", "--what", "confidence", "--what", "attribution"],
    "report": ["report", "run"],
    "run": ["run", "recipe.yaml", "--out", "whole"],
}


def start(words: list[str], folder: Path) -> int:
    """Run a command in a forked process; give its process id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.chdir(folder)
    null = os.open(os.devnull, os.O_WRONLY)
    log = os.open(folder.parent / "last.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(null, 1)
    os.dup2(log, 2)
    code = 1
    try:
        from eegprompt.cli.app import app

        app(words, standalone_mode=True)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Exit code of a process, or minus the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def steady(value: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in UNSTEADY}
    return [steady(v) for v in value] if isinstance(value, list) else value


def differs(a: Path, b: Path) -> bool:
    """Whether two files of a result differ in what matters."""
    import pandas as pd
    from PIL import Image

    if a.suffix in (".html", ".svg", ".ckpt", ".log"):
        return not b.stat().st_size
    if a.name == "provenance.json":
        return list(json.loads(a.read_text())) != list(json.loads(b.read_text()))
    if a.suffix == ".json":
        return steady(json.loads(a.read_text())) != steady(json.loads(b.read_text()))
    if a.suffix == ".parquet":
        one, other = (pd.read_parquet(p).drop(columns="created", errors="ignore") for p in (a, b))
        return not one.equals(other)
    if a.suffix == ".png":
        with Image.open(a) as one, Image.open(b) as other:
            return not np.array_equal(np.asarray(one), np.asarray(other))
    return a.read_bytes() != b.read_bytes()


def files(folder: Path) -> dict[str, Path]:
    """Files by relative name; caches and checkpoints are no results."""
    return {
        str(p.relative_to(folder)): p
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and not {"cache", "checkpoints"} & set(p.relative_to(folder).parts)
        and not (p.name.startswith(".") and ".partial" in p.name)
    }


def faults(undisturbed: Path, after: Path) -> list[str]:
    """What is missing, left over or different after the second run."""
    want, have = files(undisturbed), files(after)
    found = [f"missing: {n}" for n in want if n not in have]
    found += [f"left over: {n}" for n in have if n not in want]
    return found + [f"differs: {n}" for n in want if n in have and differs(want[n], have[n])]


def begin_with(folder: Path) -> None:
    """What is there before the first command: a file of the user's, a recipe and Epochs."""
    import mne
    import pandas as pd

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    (folder / "recipe.yaml").write_text(RECIPE)
    info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 100.0, "eeg")
    events = np.c_[np.arange(40) * 100, np.zeros(40, int), np.arange(40) % 2 + 1]
    data = np.random.default_rng(0).normal(0, 1e-5, (40, 4, 80))
    metadata = pd.DataFrame({"category": ["face", "house"] * 20})
    metadata = metadata.iloc[events[:, 2] - 1].reset_index(drop=True)
    epochs = mne.EpochsArray(
        data, info, events, -0.1, {"face": 1, "house": 2}, metadata=metadata, verbose="ERROR"
    )
    epochs.save(folder / "epochs-epo.fif", verbose="ERROR")


def undisturbed(top: Path) -> dict[str, float]:
    """Seconds of each command; the folders before and after it are `state-0`, `state-1`, …"""
    noted = top / "seconds.json"
    if noted.exists():
        return dict(json.loads(noted.read_text()))
    begin_with(top / "state-0")
    seconds = {}
    for i, (name, words) in enumerate(COMMANDS.items(), 1):
        before, after, work = top / f"state-{i - 1}", top / f"state-{i}", top / "work"
        for place in (after, work):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(before, work)
        begin = time.perf_counter()
        code = finish(start(words, work))
        seconds[name] = time.perf_counter() - begin
        shutil.copytree(work, after)
        if code:
            sys.exit(f"{name} ends with {code} undisturbed:\n{(top / 'last.log').read_text()}")
        print(f"{name}: {seconds[name]:.1f} s undisturbed", flush=True)
    noted.write_text(json.dumps(seconds))
    return seconds


def kill(words: list[str], work: Path, after: float) -> float | None:
    """Start a command and kill it after some seconds; its seconds if it ended before that."""
    begin = time.perf_counter()
    child = start(words, work)
    while (spent := time.perf_counter() - begin) < after:
        if os.waitpid(child, os.WNOHANG)[0]:
            return spent
        time.sleep(min(0.005, after - spent))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return None if finish(child) < 0 else spent


def problems_of(name: str, before: Path, after: Path, work: Path) -> list[str]:
    """What is wrong once the command that was killed has been run again to its end."""
    code = finish(start(COMMANDS[name], work))
    problems = []
    for place in ("study", "run"):
        note = work / place / "note.txt"
        if note.exists() and note.read_text() == "mine":
            note.unlink()
        elif (before / place).is_dir() and "--overwrite" not in name:
            problems.append(f"{note} is gone or changed")
    different = faults(after, work)
    # After a kill in its last moment it refuses to do it again without --overwrite.
    if code and not (code == 2 and not different):
        problems.append(f"exit code {code}: {(work.parent / 'last.log').read_text()[-300:]}")
    return problems + different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--row", type=int, default=3, help="kills before it may run to its end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only")
    given = parser.parse_args()
    top = given.out or Path(tempfile.mkdtemp(prefix="kills-"))
    top.mkdir(parents=True, exist_ok=True)
    import mne
    import torch

    import eegprompt.cli.app
    import eegprompt.reports.html
    import eegprompt.steps.experiment
    import eegprompt.steps.explain  # noqa: F401

    mne.set_log_level("ERROR")
    torch.set_num_threads(1)
    seconds = undisturbed(top)
    rng = np.random.default_rng(given.seed)
    chosen = [n for n in COMMANDS if given.only in (None, n)]
    began = time.perf_counter()
    killed, late, found = Counter[str](), Counter[str](), Counter[str]()
    usual = dict(seconds)
    while killed.total() < given.kills:
        name = min(chosen, key=lambda n: (killed[n] + late[n]) * usual[n] ** 0.5)
        number = list(COMMANDS).index(name)
        before, after, work = top / f"state-{number}", top / f"state-{number + 1}", top / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(before, work)
        for place in ("study", "run"):
            if (work / place).is_dir() and "--overwrite" not in name:
                (work / place / "note.txt").write_text("mine")
        times = []
        for k in range(given.row):
            times.append(float(rng.uniform(0, seconds[name])))
            ended = kill(COMMANDS[name], work, times[-1])
            if ended is not None:
                late[name] += 1
                if k == 0:  # the machine is less busy than it was
                    seconds[name] = ended
                break
            killed[name] += 1
            seconds[name] = min(usual[name], 1.02 * seconds[name])
        problems = problems_of(name, before, after, work)
        if problems:
            found[name] += 1
            waits = ", ".join(f"{wait:.2f}" for wait in times)
            print(f"{name} (killed after {waits} s): {'; '.join(problems[:4])}", flush=True)
        spent = time.perf_counter() - began
        print(
            f"{name}: {killed.total()} kills in {spent:.0f} s, {found.total()} faults", flush=True
        )
    print(
        "\n| command | seconds | killed | ended before the kill | faults |\n|---|---|---|---|---|"
    )
    for name in chosen:
        print(f"| {name} | {usual[name]:.1f} | {killed[name]} | {late[name]} | {found[name]} |")
    print(f"\n{sum(killed.values())} kills, {sum(found.values())} faults")


if __name__ == "__main__":
    main()

"""Kill every command at random moments, run it again, and compare with an undisturbed run.

usage: python benchmarks/kills.py [--kills 300] [--seed 0] [--out DIR] [--only COMMAND]

A tiny built-in study goes through all commands once, undisturbed. Then a command is started from
the state before it, killed (SIGKILL, so nothing can be tidied up) after a random share of the time
it took, and run again to its end. It counts as a fault if the second run fails, if its files differ
from the undisturbed ones (provenance, times and the text of HTML pages apart), or if a file of the
user's beside or inside the folders is gone or changed. The package is imported once; each command
runs in a forked process.
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
SMALL = ["--subjects", "1", "--images", "64"]
TRAIN = ["training.epochs=3", "kinds=ObjectSnap,ColorTone"]
RECIPE = """\
make: {simulate: {subjects: 1, images: 64, seed: 1}}
training: {epochs: 2}
kinds: [ObjectSnap]
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
    "audit": ["audit", "study", "--split", "official"],
    "train": ["train", "study", "--out", "run", "--split", "official", "captions=builtin", *TRAIN],
    "train --overwrite": [
        *("train", "study", "--out", "run", "--overwrite", "--split", "official"),
        *("captions=builtin", *TRAIN, "seed=1"),
    ],
    "decode": ["decode", "run"],
    "generate": ["generate", "run", "--sources", "eeg,floor,ceiling"],
    "evaluate": ["evaluate", "run", "evaluation.permutations=99", "evaluation.resamples=100"],
    "explain": ["explain", "run", "--what", "winners", "--what", "attribution"],
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only")
    given = parser.parse_args()
    top = given.out or Path(tempfile.mkdtemp(prefix="kills-"))
    top.mkdir(parents=True, exist_ok=True)
    import mne
    import pandas as pd
    import torch

    import eegprompt.cli.app
    import eegprompt.reports.html
    import eegprompt.steps.experiment
    import eegprompt.steps.explain  # noqa: F401

    mne.set_log_level("ERROR")
    torch.set_num_threads(1)
    state = top / "state-0"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    (state / "precious.txt").write_text("mine")
    (state / "recipe.yaml").write_text(RECIPE)
    info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 100.0, "eeg")
    events = np.c_[np.arange(40) * 100, np.zeros(40, int), np.arange(40) % 2 + 1]
    data = np.random.default_rng(0).normal(0, 1e-5, (40, 4, 80))
    metadata = pd.DataFrame({"category": ["face", "house"] * 20})
    metadata = metadata.iloc[events[:, 2] - 1].reset_index(drop=True)
    epochs = mne.EpochsArray(
        data, info, events, -0.1, {"face": 1, "house": 2}, metadata=metadata, verbose="ERROR"
    )
    epochs.save(state / "epochs-epo.fif", verbose="ERROR")
    states, seconds = {}, {}
    for i, (name, words) in enumerate(COMMANDS.items(), 1):
        after, work = top / f"state-{i}", top / "work"
        for place in (after, work):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(state, work)
        begin = time.perf_counter()
        code = finish(start(words, work))
        shutil.copytree(work, after)
        seconds[name] = time.perf_counter() - begin
        if code:
            sys.exit(f"{name} ends with {code} undisturbed:\n{(top / 'last.log').read_text()}")
        states[name] = (state, after)
        state = after
    rng = np.random.default_rng(given.seed)
    chosen = [n for n in COMMANDS if given.only in (None, n)]
    killed, late, found = Counter[str](), Counter[str](), Counter[str]()
    for k in range(given.kills):
        name = chosen[k % len(chosen)]
        before, after = states[name]
        work = top / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(before, work)
        for place in ("study", "run"):
            if (work / place).is_dir() and "--overwrite" not in name:
                (work / place / "note.txt").write_text("mine")
        child = start(COMMANDS[name], work)
        time.sleep(float(rng.uniform(0, seconds[name])))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        (killed if finish(child) < 0 else late)[name] += 1
        code = finish(start(COMMANDS[name], work))
        for place in ("study", "run"):
            note = work / place / "note.txt"
            if note.exists() and note.read_text() == "mine":
                note.unlink()
            elif (before / place).is_dir() and "--overwrite" not in name:
                found[name] += 1
                print(f"{name}: {note} is gone or changed", flush=True)
        if code == 2 and not faults(after, work):
            code = 0  # it had just finished, and refuses to do it again without --overwrite
        problems = [f"exit code {code}: {(top / 'last.log').read_text()[-300:]}"] if code else []
        problems += faults(after, work)
        if problems:
            found[name] += 1
            print(f"{name}: {'; '.join(problems[:4])}", flush=True)
    print(
        "\n| command | seconds | killed | ended before the kill | faults |\n|---|---|---|---|---|"
    )
    for name in chosen:
        print(f"| {name} | {seconds[name]:.1f} | {killed[name]} | {late[name]} | {found[name]} |")
    print(f"\n{sum(killed.values())} kills, {sum(found.values())} faults")


if __name__ == "__main__":
    main()

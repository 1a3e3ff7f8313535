"""Random but valid sources, written by hand, with what a reader must find in them.

Each `random_…` writes one source from a seed and gives a `Case`; `check` imports it and compares
with what MNE itself reads at the samples that were written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mne
import numpy as np
from scipy.io import savemat

import tiny_datasets
import tiny_recordings as tiny
from eegprompt.core.errors import EegpromptError
from eegprompt.core.registry import resolve

RATE = 256
TMIN, TMAX = -0.1, 0.3
NAMES = ("Fz", "Cz", "Pz", "Oz")
TEXTS = (
    "1", "01", "001", "10", "0", "face", "Face", "face left", "face/left", "left/face", "S1", "S 1",
    "R  1", "ni\u00f1o", "n.a", "1.5", "-1", "\u732b",
)  # fmt: skip


@dataclass
class Part:
    """One recording of a case: its file, and each event as (sample, name) in the file's order."""

    path: Path
    subject: str
    events: list[tuple[int, str]]
    n_samples: int
    pause: int | None = None  # sample at which the recording was interrupted
    none: Counter[str] = field(default_factory=Counter)  # rows without a name or onset


@dataclass
class Case:
    """What to import, and what must come of it."""

    reader: str
    source: Any
    options: dict[str, Any]
    parts: list[Part]
    meaning: dict[str, str]  # name in the file -> category
    refused: bool = False  # whatever else is in it


# -- one recording ---------------------------------------------------------------------------------
def _events(rng: np.random.Generator, n: int, names: list[str], *, apart: bool) -> list[Any]:
    """Samples and names: some at the edges, beyond them, at one sample, and twice the same."""
    samples = rng.choice(np.arange(40, n - 120), int(rng.integers(5, 14)), replace=False).tolist()
    samples += [s for s in (0, n - 1, n - 78) if rng.random() < 0.3]
    if apart:
        samples = [s for i, s in enumerate(sorted(set(samples))) if s % 2 == i % 2 or i == 0]
        samples = [s for i, s in enumerate(samples) if i == 0 or s - samples[i - 1] > 1]
    else:
        samples += [n + int(rng.integers(0, 900))] * int(rng.random() < 0.4)
        samples += [samples[0]] * int(rng.random() < 0.25)
    events = [(int(s), str(rng.choice(names))) for s in samples]
    if not apart and rng.random() < 0.15:
        events.append(events[1])
    order = rng.permutation(len(events)) if rng.random() < 0.3 else np.arange(len(events))
    return [events[i] for i in order]


def _data(rng: np.random.Generator, n: int) -> np.ndarray:
    """Microvolts in steps of 0.1, which every format stores exactly."""
    return rng.integers(-600, 600, (len(NAMES), n)) / 10


def write_vhdr(path: Path, data: np.ndarray, events: list[Any], pause: int | None) -> Path:
    made = tiny.Tiny(data, np.array([], int), np.array([], int), float(RATE), NAMES)
    tiny.write_brainvision(path, made)
    lines = []
    for number, (sample, name) in enumerate(events, 2):
        kind, _, text = name.partition("/")
        kind, text = (kind, text) if kind in ("Stimulus", "Response") else ("Comment", name)
        lines.append(f"Mk{number}={kind},{text},{sample + 1},1,0")
    if pause is not None:
        lines.append(f"Mk900=New Segment,,{pause + 1},1,0,20200101000100000000")
    markers = path.with_suffix(".vmrk")
    markers.write_text(markers.read_text("utf-8") + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_edf(path: Path, data: np.ndarray, events: list[Any], pause: int | None) -> Path:
    timed = [(sample / RATE, name) for sample, name in events]
    return tiny_datasets.write_edf_plus(path, data, list(NAMES), RATE, timed)


def write_set(path: Path, data: np.ndarray, events: list[Any], pause: int | None) -> Path:
    marks = [*events] + ([] if pause is None else [(pause - 0.5, "boundary")])
    table = np.zeros(len(marks), dtype=[("latency", "O"), ("type", "O"), ("duration", "O")])
    table["latency"] = [sample + 1.0 for sample, _ in marks]
    table["type"], table["duration"] = [name for _, name in marks], 0.0
    chans = np.zeros(len(NAMES), dtype=[("labels", "O"), ("type", "O")])
    chans["labels"], chans["type"] = NAMES, "EEG"
    eeg = {
        "setname": path.stem, "nbchan": float(len(NAMES)), "trials": 1.0, "srate": float(RATE),
        "pnts": float(data.shape[1]), "xmin": 0.0, "xmax": (data.shape[1] - 1) / RATE,
        "data": data, "chanlocs": chans, "event": table, "ref": "common",
        "icawinv": np.zeros((0, 0)), "icaweights": np.zeros((0, 0)), "chaninfo": {"nosedir": "+X"},
    }  # fmt: skip
    savemat(path, {"EEG": eeg}, appendmat=False)
    return path


def write_fif(path: Path, data: np.ndarray, events: list[Any], pause: int | None) -> Path:
    info = mne.create_info(list(NAMES), RATE, "eeg")
    raw = mne.io.RawArray(data * 1e-6, info, first_samp=len(events) * 37, verbose="ERROR")
    onset = [sample / RATE for sample, _ in events]
    raw.set_annotations(mne.Annotations(onset, 0, [name for _, name in events]))
    if pause is not None:
        raw.annotations.append(pause / RATE + raw.first_time, 0, "BAD boundary")
    raw.save(path, fmt="double", overwrite=True, verbose="ERROR")
    return path


def write_csv(path: Path, data: np.ndarray, events: list[Any], pause: int | None) -> Path:
    marker = np.full(data.shape[1], "0", object)
    for sample, name in events:
        marker[sample] = name
    lines = ["t,Fz,Cz,Pz,Oz,mark"]
    lines += [
        f"{5 + i / RATE:.8f}," + ",".join(f"{v:.1f}" for v in data[:, i]) + f",{marker[i]}"
        for i in range(data.shape[1])
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


WRITERS: dict[str, Callable[..., Path]] = {
    ".vhdr": write_vhdr,
    ".edf": write_edf,
    ".set": write_set,
    "_raw.fif": write_fif,
    ".csv": write_csv,
}


def _short(name: str) -> str:
    """BrainVision's name of a marker without its kind and its blanks."""
    text = re.sub(r"^(Stimulus|Response|Comment)/", "", name)
    padded = len(text.lstrip("RS")) == 3 and text[-1].isdigit()
    return text.replace(" ", "") if padded else text


def random_recording(folder: Path, seed: int) -> Case:
    """One to three recordings of one format, with events as people's files have them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    ending = list(WRITERS)[seed % len(WRITERS)]
    texts = [t for t in TEXTS if not (ending == ".csv" and t == "0")]
    if ending == "_raw.fif":  # whose names are Latin-1
        texts = [t for t in texts if t.isascii()]
    if ending == ".vhdr":
        texts = [f"{kind}/{t}" for kind in ("Stimulus", "Response") for t in texts]
        texts += ["Stimulus/S  1", "Stimulus/S 12", "Response/S  1", "Stimulus/  7"]
    names = [str(t) for t in rng.choice(texts, 5, replace=False)]
    wanted = names[: int(rng.integers(1, 4))]
    parts = []
    for number in range(int(rng.integers(1, 4))):
        n = RATE * int(rng.integers(6, 11))
        events = _events(rng, n, names, apart=ending == ".csv")
        if ending == "_raw.fif":  # nothing beyond the data can be stored
            events = [e for e in events if e[0] < n]
        pause = int(rng.integers(300, n - 300)) if rng.random() < 0.25 else None
        pause = None if ending in (".csv", ".edf") else pause
        path = WRITERS[ending](folder / f"r{number}{ending}", _data(rng, n), events, pause)
        parts.append(Part(path, "1", events, n, pause))
    meaning = {name: f"c{i % 2}" for i, name in enumerate(wanted)}
    asked, refused = dict(meaning), False
    if ending == ".vhdr" and rng.random() < 0.5:  # short names, which may be ambiguous
        asked = {_short(name): category for name, category in meaning.items()}
        refused = len(asked) < len(meaning)
        there = {name for part in parts for _, name in part.events}
        meaning = {}
        for short, category in asked.items():
            fitting = [name for name in there if _short(name) == short]
            refused |= len(fitting) > 1  # also where they are in two recordings
            meaning |= dict.fromkeys(fitting, category)
    options: dict[str, Any] = {
        "events": asked, "subject": "1", "min_events": 1, "tmin": TMIN, "tmax": TMAX,
        "repeated": str(rng.choice(["error", "first", "last"])),
    }  # fmt: skip
    if ending == ".csv":
        options |= {"marker": "mark", "unit": "uV"}
    return Case("continuous", [p.path for p in parts], options, parts, meaning, refused)


# -- a dataset -------------------------------------------------------------------------------------
def random_dataset(folder: Path, seed: int) -> Case:
    """A BIDS dataset whose tables of events and channels are as people write them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    about = {"Name": "x", "BIDSVersion": "1.8.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(about))
    names = [str(t) for t in rng.choice(TEXTS, 4, replace=False)]
    wanted = names[: int(rng.integers(1, 4))]
    meaning = {name: f"c{i % 2}" for i, name in enumerate(wanted)}
    coded = rng.random() < 0.3  # the names stand in 'value', and trial_type says nothing
    how = str(rng.choice(["none", "same", "from one", "other rate"], p=[0.4, 0.3, 0.2, 0.1]))
    turned, misnamed = rng.random() < 0.2, rng.random() < 0.06
    subjects = [["1"], ["01", "1"], ["a", "b"]][int(rng.integers(3))]
    parts, refused = [], misnamed
    for subject in subjects:
        n = RATE * int(rng.integers(6, 11))
        stem = f"sub-{subject}_task-x"
        base = folder / f"sub-{subject}" / "eeg"
        base.mkdir(parents=True)
        pause = int(rng.integers(300, n - 300)) if rng.random() < 0.2 else None
        path = write_vhdr(base / f"{stem}_eeg.vhdr", _data(rng, n), [], pause)
        (base / f"{stem}_eeg.json").write_text('{"TaskName": "x", "EEGReference": "Fpz"}')
        rows = ["name\ttype\tunits", *(f"{c}\tEEG\t\u00b5V" for c in NAMES)]
        rows = [rows[0], *rows[:0:-1]] if turned else rows
        rows = [r.replace("Oz", "O9") for r in rows] if misnamed else rows
        (base / f"{stem}_channels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        part = Part(path, subject, [], n, pause)
        lines = ["onset\tduration\tvalue\ttrial_type" + ("\tsample" if how != "none" else "")]
        decimals = int(rng.integers(3, 8))
        differ = []
        for sample, name in _events(rng, n, names, apart=False):
            onset, shown = f"{sample / RATE:.{decimals}f}", name
            if rng.random() < 0.06:
                shown = str(rng.choice(["n/a", ""]))
                part.none["nothing shown"] += 1
            elif rng.random() < 0.06:
                onset = str(rng.choice(["n/a", "nan", ""]))
                wants = "no onset" if name in meaning else "not named"
                part.none[wants] += 1
            else:
                part.events.append((sample, name))
            other = {"from one": sample + 1, "other rate": 4 * sample}.get(how, sample)
            differ += [other - sample] if onset[:1].isdigit() else []
            cells = (shown, "stimulus") if coded else ("n/a", shown)
            last = f"\t{other}" if how != "none" else ""
            lines.append(f"{onset}\t0\t{cells[0]}\t{cells[1]}{last}")
        refused |= len({d for d in differ if d}) > (how == "from one")
        if how == "other rate":
            refused |= any(differ)
        (base / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        parts.append(part)
    options = {
        "events": meaning, "min_events": 1, "tmin": TMIN, "tmax": TMAX,
        "repeated": str(rng.choice(["error", "first", "last"])),
    }  # fmt: skip
    return Case("bids", folder, options, parts, meaning, refused)


# -- the comparison --------------------------------------------------------------------------------
def expected(part: Part, case: Case) -> tuple[list[tuple[int, str]], Counter[str], bool]:
    """Trials as (sample, name) in order, what is left out why, and whether two are at one sample."""
    lost = Counter(part.none)
    before, after = round(TMIN * RATE), round(TMAX * RATE)
    inside: dict[int, list[str]] = {}
    for sample, name in part.events:
        if name not in case.meaning:
            lost["not named"] += 1
        elif sample >= part.n_samples:
            lost["outside the data"] += 1
        else:
            inside.setdefault(sample, []).append(name)
    clash = any(len(names) > 1 for names in inside.values())
    lost["repeated at one sample"] = sum(len(names) - 1 for names in inside.values())
    edges = [0, part.n_samples] if part.pause is None else [0, part.pause, part.n_samples]
    trials = []
    for sample in sorted(inside):
        start = max(e for e in edges if e <= sample)
        stop = min(e for e in edges if e > sample)
        if sample + before < start or sample + after >= stop:
            lost["cut off"] += 1
        else:
            name = inside[sample][0 if case.options["repeated"] != "last" else -1]
            trials.append((sample, name))
    return trials, lost, clash


def check(case: Case, out: Path) -> str:
    """Import a case: "equal", "counted" (equal, with events left out) or "refused"; else an error."""
    found = [expected(part, case) for part in case.parts]
    outside = [lost["outside the data"] for _, lost, _ in found]
    wanted = [len(t) + lost["cut off"] + lost["repeated at one sample"] for t, lost, _ in found]
    refused = case.refused or not any(trials for trials, _, _ in found)
    refused |= case.options["repeated"] == "error" and any(clash for _, _, clash in found)
    # None of the names in one recording; or most events of a table outside the data.
    for part in case.parts:
        named = [name for _, name in part.events] + ["?"] * part.none["no onset"]
        refused |= bool(named) and not ({*named} & {*case.meaning, "?"})
    if case.reader == "bids":
        refused |= any(o > w for o, w in zip(outside, wanted))
    reader = resolve("reader", case.reader)[0]()
    try:
        study = reader.read(case.source, out, **case.options)
    except EegpromptError as problem:
        assert refused, f"refused: {problem}"
        assert "damaged" not in str(problem) and not out.exists()
        return "refused"
    assert not refused, "was not refused"
    row = 0
    for part, (trials, lost, _) in zip(case.parts, found):
        entry = next(
            e for e in study.info["recordings"]
            if (e["file"], e["subject"]) == (part.path.name, part.subject)
        )  # fmt: skip
        counted = {why: n for why, n in entry["dropped"].items() if n}
        assert counted == {why: n for why, n in lost.items() if n}, (counted, lost)
        assert entry["n_trials"] == len(trials)
        data = _as_mne_reads(part.path)[[NAMES.index(c) for c in study.ch_names]]
        here = study.trials.iloc[row : row + len(trials)]
        assert here["category"].tolist() == [case.meaning[name] for _, name in trials]
        np.testing.assert_allclose(here["onset"], [s / RATE for s, _ in trials], atol=1e-6)
        for index, (sample, _) in enumerate(trials, row):
            a, b = sample + round(TMIN * RATE), sample + round(TMAX * RATE) + 1
            np.testing.assert_allclose(study.eeg[index], data[:, a:b], rtol=1e-5, atol=1e-12)
        row += len(trials)
    assert row == study.n_trials == study.accounting.trials
    return "counted" if study.accounting.left_out else "equal"


def _as_mne_reads(path: Path) -> np.ndarray:
    """The signal in volts, channels in the order of NAMES."""
    if path.suffix == ".csv":
        table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(1, 2, 3, 4))
        return table.T * 1e-6
    raw = mne.io.read_raw(path, preload=True, verbose="ERROR")
    return raw.get_data(picks=list(NAMES))

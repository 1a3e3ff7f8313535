"""Random but valid recordings with what they hold, by writers that share no code with the readers.

EDF by edfio and, with gaps, by hand; BrainVision by pybv; FIF by MNE, also in parts; CSV by hand,
with gaps and clocks that jump.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tiny_recordings as tiny

SFREQ = 128.0
UNITS = {"uV": 1e6, "mV": 1e3, "V": 1.0}
BEFORE, AFTER = 13, 38  # samples of a trial from -0.1 to 0.3 s around its event
WINDOW = {"tmin": -0.1, "tmax": 0.3, "min_events": 1}
SPELLINGS: tuple[Callable[[str], str], ...] = (
    str, str, str.upper, str.lower, lambda n: n + ".", lambda n: f"EEG {n}-REF",
    lambda n: f"EEG {n}-LE", lambda n: f"{n}-A1",
)  # fmt: skip


@dataclass
class Source:
    """One recording on disk, and the truth of it."""

    path: Path
    options: dict[str, Any]
    names: list[str]  # as written
    expected: list[str]  # as they are to be read, those that are EEG
    volts: np.ndarray  # of the expected channels
    events: dict[str, int | None]  # category -> its sample; None where there is no data
    borders: list[int]  # samples at which segments begin, and the end
    tolerance: float  # of the writer, in volts
    refused: bool = False
    other_names: list[str] = field(default_factory=list)  # channels that are no EEG

    @property
    def kept(self) -> dict[str, int]:
        """The events whose trials lie within one segment."""
        return {
            name: s
            for name, s in self.events.items()
            if s is not None
            and any(
                a <= s - BEFORE and s + AFTER < b for a, b in zip(self.borders, self.borders[1:])
            )
        }


def make(kind: str, seed: int, folder: Path) -> Source:
    """A source of a kind: edf, edf-gaps, brainvision, fif or csv."""
    rng = np.random.default_rng([seed, *kind.encode()])
    folder.mkdir(parents=True, exist_ok=True)
    known = ["Fp1", "Fz", "FCz", "Cz", "POz", "O2", "C3", "TP9", "Iz", "T7"]
    places = [str(n) for n in rng.permutation(known)[: rng.integers(2, 7)]]
    spelled = {n: SPELLINGS[rng.integers(len(SPELLINGS))](n) for n in places}
    others = ["HEOG"] if rng.random() < 0.4 else []
    unplaced = ["Ear left"] if rng.random() < 0.3 and kind != "csv" else []
    order = [str(n) for n in rng.permutation([*places, *others, *unplaced])]
    n_samples = int(SFREQ) * int(rng.integers(20, 30))
    volts = rng.normal(0, 1, (len(order), n_samples)) * rng.uniform(5e-6, 4e-5, (len(order), 1))
    samples = np.arange(90, n_samples - 90, int(rng.integers(45, 200)))
    samples = samples + rng.integers(0, 20, len(samples))
    samples = np.unique([*samples, 2, n_samples - 1])  # at both ends, where trials are cut off
    seen = [i for i, n in enumerate(order) if n not in others]
    source = Source(
        path=folder,
        options=dict(WINDOW),
        names=[spelled.get(n, n) for n in order],
        expected=[order[i] for i in seen],
        volts=volts[seen],
        events={f"event {int(i):02d}": int(s) for i, s in enumerate(samples)},
        borders=[0, n_samples],
        tolerance=1e-8,
        other_names=others,
    )
    WRITERS[kind](source, volts, rng)
    if kind != "csv":
        source.options["events"] = {
            ("Comment/" if kind == "brainvision" else "") + name: name for name in source.events
        }
    return source


def _units(rng: np.random.Generator, n: int) -> list[str]:
    if rng.random() < 0.5:
        return ["uV"] * n
    return [str(u) for u in rng.choice(["uV", "mV", "V"], n)]


def _edf(source: Source, volts: np.ndarray, rng: np.random.Generator) -> None:
    from edfio import Edf, EdfAnnotation, EdfSignal

    units = _units(rng, len(volts))
    if rng.random() < 0.15 and set(units) == {"uV"}:
        units[int(rng.integers(len(units)))] = ""
        bare = source.names[units.index("")]
        source.refused = bare not in source.other_names
        source.tolerance = 1e-7
    top = 2.0 ** np.ceil(np.log2(np.abs(volts).max() * 1e6)) / 1e6
    signals = []
    for name, unit, row in zip(source.names, units, volts):
        factor = UNITS.get(unit, 1e6)
        edge = float(f"{top * factor:.3g}")
        signals.append(
            EdfSignal(
                np.clip(row * factor, -edge, edge), SFREQ, label=name, physical_dimension=unit,
                physical_range=(-edge, edge),
            )
        )  # fmt: skip
    source.tolerance = max(source.tolerance, top * 0.01)
    n = volts.shape[1]
    if rng.random() < 0.5:
        source.events |= {"event beyond": None}
    texts = [
        EdfAnnotation((n + 60 if s is None else s) / SFREQ, None, name)
        for name, s in source.events.items()
    ]
    source.path /= "rec.edf"
    Edf(signals, annotations=texts).write(source.path)


def _edf_gaps(source: Source, volts: np.ndarray, rng: np.random.Generator) -> None:
    n_records = volts.shape[1] // int(SFREQ)
    cuts = np.sort(rng.choice(np.arange(2, n_records - 1), int(rng.integers(1, 4)), replace=False))
    pauses = rng.integers(1, 4000, len(cuts)) / 64
    starts = [float(i + pauses[cuts <= i].sum()) for i in range(n_records)]
    texts = [
        (starts[s // int(SFREQ)] + (s % int(SFREQ)) / SFREQ, name)
        for name, s in source.events.items()
        if s is not None
    ]
    source.events |= {"event in the gap": None}
    texts.append((starts[cuts[0]] - float(pauses[0]) / 2, "event in the gap"))
    source.borders = [0, *(int(c) * int(SFREQ) for c in cuts), volts.shape[1]]
    units = _units(rng, len(volts))
    made = tiny.Tiny(volts * 1e6, np.zeros(0, int), np.zeros(0, int), SFREQ, tuple(source.names))
    source.path = tiny.write_edf_plus(
        source.path / "rec.edf",
        made,
        starts=starts,
        annotations=texts,
        units=dict(zip(source.names, units)),
        factors={n: UNITS[u] / 1e6 for n, u in zip(source.names, units)},
    )
    source.tolerance = 2e-6


def _brainvision(source: Source, volts: np.ndarray, rng: np.random.Generator) -> None:
    from pybv import write_brainvision

    write_brainvision(
        data=volts, sfreq=SFREQ, ch_names=source.names, fname_base="rec", folder_out=source.path,
        unit="µV" if rng.random() < 0.5 else [str(u) for u in rng.choice(["µV", "mV"], len(volts))],
        fmt="binary_float32", resolution=1e-7,
        events=[
            {"onset": s, "duration": 1, "description": name, "type": "Comment"}
            for name, s in source.events.items()
        ],
    )  # fmt: skip
    source.path /= "rec.vhdr"


def _fif(source: Source, volts: np.ndarray, rng: np.random.Generator) -> None:
    import mne

    info = mne.create_info(source.names, SFREQ, "eeg")
    first = int(rng.integers(0, 2000))
    raw = mne.io.RawArray(volts, info, first_samp=first, verbose="ERROR")
    onsets = [s / SFREQ for s in source.events.values() if s is not None]
    raw.set_annotations(mne.Annotations(onsets, 0, list(source.events)))
    file = source.path / "rec_raw.fif"
    raw.save(file, fmt=str(rng.choice(["single", "double"])), verbose="ERROR")
    source.path = file


def _csv(source: Source, volts: np.ndarray, rng: np.random.Generator) -> None:
    import pandas as pd

    n, unit = volts.shape[1], str(rng.choice(list(UNITS)))
    steps = np.full(n, 1 / SFREQ)
    cuts = np.sort(rng.choice(np.arange(400, n - 400), int(rng.integers(0, 3)), replace=False))
    steps[cuts] = rng.choice([-30.0, -5.0, -0.3, 0.4, 12.0], len(cuts))
    times = rng.uniform(0, 1e6) + np.cumsum(steps)
    marker = np.zeros(n, int)
    for code, s in enumerate(source.events.values(), start=1):
        with contextlib.suppress(TypeError):
            marker[s] = code
    table = {"time": times, **dict(zip(source.names, volts * UNITS[unit])), "code": marker}
    columns = [str(c) for c in rng.permutation(list(table))]
    source.path /= "rec.csv"
    pd.DataFrame({c: table[c] for c in columns}).to_csv(source.path, index=False)
    in_file = [c for c in columns if c in source.names]
    place = {source.names[i]: i for i in range(len(source.names))}
    kept = [c for c in in_file if c not in source.other_names]
    names = [n for n in source.names if n not in source.other_names]
    again = [names.index(c) for c in kept]
    source.expected = [source.expected[i] for i in again]
    source.volts = source.volts[again]
    source.names = [source.names[place[c]] for c in in_file]
    source.borders = [0, *(int(c) for c in cuts), n]
    source.options |= {
        "unit": unit,
        "marker": "code",
        "events": {str(i): name for i, name in enumerate(source.events, start=1)},
    }


WRITERS: dict[str, Callable[[Source, np.ndarray, np.random.Generator], None]] = {
    "edf": _edf,
    "edf-gaps": _edf_gaps,
    "brainvision": _brainvision,
    "fif": _fif,
    "csv": _csv,
}


def theirs(source: Source) -> np.ndarray:
    """What MNE (or pandas) reads, in volts, of the channels that are expected, in their order."""
    import mne
    import pandas as pd

    names = [n for n in source.names if n not in source.other_names]
    suffix = source.path.suffix
    if suffix == ".csv":
        return pd.read_csv(source.path)[names].to_numpy().T / UNITS[source.options["unit"]]
    read = {
        ".edf": mne.io.read_raw_edf,
        ".vhdr": mne.io.read_raw_brainvision,
        ".fif": mne.io.read_raw_fif,
    }[suffix]
    return read(source.path, verbose="CRITICAL").get_data(picks=names)

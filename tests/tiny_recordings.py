"""Small continuous recordings with a planted response, written in each format by its own rules.

The writers follow the formats' specifications by hand (EDF, BDF, BrainVision), or use a library
that eegprompt does not read with (SciPy for EEGLAB, MNE's writer for FIF).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHANNELS = ("TP9", "AF7", "AF8", "TP10")
CODES = {"1": "house", "2": "face"}
PEAK_S = 0.170
PEAK_UV = {"face": -12.0, "house": 6.0}


@dataclass
class Tiny:
    """A recording with known events: `data` in microvolts, channel by sample."""

    data: np.ndarray
    samples: np.ndarray
    codes: np.ndarray
    sfreq: float
    ch_names: tuple[str, ...] = CHANNELS

    @property
    def marker(self) -> np.ndarray:
        """Marker column: the code at each event's sample, else 0."""
        values = np.zeros(self.data.shape[1], int)
        values[self.samples] = self.codes
        return values


def make(
    seed: int = 0,
    sfreq: float = 256.0,
    n_events: int = 40,
    noise_uv: float = 0.5,
    spacing_s: float = 1.2,
) -> Tiny:
    """White noise with a Gaussian deflection on TP9 at 170 ms after each event."""
    rng = np.random.default_rng(seed)
    spacing = round(spacing_s * sfreq)
    samples = np.arange(n_events) * spacing + spacing + rng.integers(0, 20, n_events)
    codes = rng.permutation(np.arange(n_events) % 2 + 1)
    data = rng.normal(0, noise_uv, (len(CHANNELS), samples[-1] + 2 * spacing))
    times = np.arange(round(0.5 * sfreq)) / sfreq
    bump = np.exp(-0.5 * ((times - PEAK_S) / 0.02) ** 2)
    for sample, code in zip(samples, codes):
        data[0, sample : sample + len(bump)] += PEAK_UV[CODES[str(code)]] * bump
    return Tiny(data, samples, codes, sfreq)


def write_csv(path: Path, tiny: Tiny, *, aux: bool = True, times: np.ndarray | None = None) -> Path:
    """As a Muse recording lies on disk: time stamps, channels in microvolts, marker."""
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    n = tiny.data.shape[1]
    table = {"timestamps": 1000 + np.arange(n) / tiny.sfreq if times is None else times}
    table |= dict(zip(tiny.ch_names, tiny.data.round(6)))
    if aux:
        table["Right AUX"] = np.zeros(n)
    pd.DataFrame(table | {"Marker0": tiny.marker}).to_csv(path, index=False)
    return path


def write_fif(path: Path, tiny: Tiny, *, stim: bool = False, begin_late_s: float = 0.0) -> Path:
    """Through MNE, events as annotations or on a stimulus channel."""
    import mne

    names, types = list(tiny.ch_names), ["eeg"] * len(tiny.ch_names)
    data = tiny.data * 1e-6
    if stim:
        names, types = [*names, "STI 014"], [*types, "stim"]
        data = np.vstack([data, tiny.marker])
    info = mne.create_info(names, tiny.sfreq, types)
    first = round(begin_late_s * tiny.sfreq)
    raw = mne.io.RawArray(data, info, first_samp=first, verbose="ERROR")
    if not stim:
        onset = tiny.samples / tiny.sfreq
        raw.set_annotations(mne.Annotations(onset, 0, [str(c) for c in tiny.codes]))
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, overwrite=True, verbose="ERROR")
    return path


def write_brainvision(path: Path, tiny: Tiny) -> Path:
    """Three files; 16-bit integers of 0.1 µV; markers count samples from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.stem
    channels = "\n".join(f"Ch{i}={n},,0.1,µV" for i, n in enumerate(tiny.ch_names, 1))
    markers = "\n".join(
        f"Mk{i}=Stimulus,S{code:3d},{sample + 1},1,0"
        for i, (sample, code) in enumerate(zip(tiny.samples, tiny.codes), 2)
    )
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\nMarkerFile={stem}.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(tiny.ch_names)}\n"
        f"SamplingInterval={1e6 / tiny.sfreq:.10g}\n\n[Binary Infos]\nBinaryFormat=INT_16\n\n"
        f"[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\n\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200101000000000000\n"
        f"{markers}\n",
        encoding="utf-8",
    )
    path.with_suffix(".eeg").write_bytes((tiny.data.T * 10).round().astype("<i2").tobytes())
    return path


def _edf_header(tiny: Tiny, names: list[str], per_record: int, n_records: int, bits: int) -> bytes:
    """The 256 bytes of an EDF or BDF header, and 256 for each signal; range ±3276.8 µV."""
    top = 2 ** (bits - 1)
    n = len(names)
    version = b"0       " if bits == 16 else b"\xffBIOSEMI"

    def field(text: object, width: int) -> bytes:
        return str(text).encode("ascii").ljust(width)[:width]

    head = version + field("X X X X", 80) + field("Startdate 01-JAN-2020 X X X", 80)
    head += field("01.01.20", 8) + field("00.00.00", 8) + field(256 * (n + 1), 8)
    head += field("24BIT" if bits == 24 else "", 44)
    head += field(n_records, 8) + field(1, 8) + field(n, 4)
    head += b"".join(field(name, 16) for name in names) + field("", 80) * n
    head += b"".join(field("" if name == "Status" else "uV", 8) for name in names)
    low, high = (-top, top - 1)
    for name in names:
        head += field(low if name == "Status" else "-3276.8", 8)
    for name in names:
        head += field(high if name == "Status" else f"{3276.8 * high / top:.8g}"[:8], 8)
    head += field(low, 8) * n + field(high, 8) * n + field("", 80) * n
    return head + field(per_record, 8) * n + field("", 32) * n


def write_edf(path: Path, tiny: Tiny) -> Path:
    """EDF with one-second records and the markers as a fifth signal, scaled as microvolts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    per_record = round(tiny.sfreq)
    n_records = tiny.data.shape[1] // per_record
    rows = np.vstack([tiny.data, tiny.marker])[:, : n_records * per_record]
    numbers = (rows * 10).round().astype("<i2")
    blocks = numbers.reshape(len(rows), n_records, per_record).transpose(1, 0, 2)
    header = _edf_header(tiny, [*tiny.ch_names, "TRIGGER"], per_record, n_records, 16)
    path.write_bytes(header + blocks.tobytes())
    return path


def write_edf_plus(
    path: Path,
    tiny: Tiny,
    *,
    starts: list[float] | None = None,
    annotations: list[tuple[float, str]] = (),
    units: dict[str, str] | None = None,
    factors: dict[str, float] | None = None,
    continuous: bool = False,
) -> Path:
    """EDF+ with one-second records that begin at `starts`, and annotations in seconds.

    `units` are written into the header in place of uV; the stored values are microvolts times
    `factors`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    per_record, n = round(tiny.sfreq), len(tiny.ch_names)
    n_records = tiny.data.shape[1] // per_record
    starts = list(range(n_records)) if starts is None else starts
    wide = 60  # 16-bit samples of the annotation signal
    units, factors = units or {}, factors or {}

    def fields(values: list[object], width: int) -> bytes:
        return b"".join(str(v).encode("latin-1").ljust(width)[:width] for v in values)

    def number(value: float) -> str:
        return next(s for d in range(7, 0, -1) if len(s := f"{value:.{d}g}".lstrip("0")) <= 8)

    top = [3276.8 * factors.get(name, 1.0) for name in tiny.ch_names]
    head = fields(["0"], 8) + fields(["X X X X", "Startdate 01-JAN-2020 X X X"], 80)
    head += fields(["01.01.20", "00.00.00", 256 * (n + 2)], 8)
    head += fields(["EDF+C" if continuous else "EDF+D"], 44) + fields([n_records, 1], 8)
    head += fields([n + 1], 4) + fields([*tiny.ch_names, "EDF Annotations"], 16)
    head += fields([""] * (n + 1), 80)
    head += fields([*(units.get(name, "uV") for name in tiny.ch_names), ""], 8)
    head += fields([*(number(-t) for t in top), -1], 8)
    head += fields([*(number(t * 32767 / 32768) for t in top), 1], 8)
    head += fields([-32768] * (n + 1), 8) + fields([32767] * (n + 1), 8)
    head += fields([""] * (n + 1), 80) + fields([per_record] * n + [wide], 8)
    head += fields([""] * (n + 1), 32)
    numbers = (tiny.data * 10).round().astype("<i2")
    waiting = sorted(annotations)
    body = b""
    for record, start in enumerate(starts):
        body += numbers[:, record * per_record : (record + 1) * per_record].tobytes()
        text = f"+{start:g}\x14\x14\0"
        last = record + 1 == len(starts)
        while waiting and (last or waiting[0][0] < start + 1):
            onset, name = waiting.pop(0)
            text += f"+{onset:.6f}\x14{name}\x14\0"
        assert len(text.encode()) <= 2 * wide
        body += text.encode().ljust(2 * wide, b"\0")
    path.write_bytes(head + body)
    return path


def write_bdf(path: Path, tiny: Tiny) -> Path:
    """BDF with one-second records and a Status channel, as BioSemi writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    per_record = round(tiny.sfreq)
    n_records = tiny.data.shape[1] // per_record
    rows = np.vstack([(tiny.data * 2560).round(), tiny.marker])[:, : n_records * per_record]
    numbers = rows.astype("<i4")
    blocks = numbers.reshape(len(rows), n_records, per_record).transpose(1, 0, 2)
    three_bytes = np.frombuffer(blocks.tobytes(), np.uint8).reshape(-1, 4)[:, :3]
    header = _edf_header(tiny, [*tiny.ch_names, "Status"], per_record, n_records, 24)
    path.write_bytes(header + three_bytes.tobytes())
    return path


def write_eeglab(path: Path, tiny: Tiny) -> Path:
    """An EEG structure in a MATLAB 5 file; latencies count samples from 1."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    locations = np.zeros(len(tiny.ch_names), dtype=[("labels", "O"), ("type", "O")])
    locations["labels"], locations["type"] = tiny.ch_names, "EEG"
    events = np.zeros(len(tiny.samples), dtype=[("latency", "O"), ("type", "O"), ("duration", "O")])
    events["latency"] = (tiny.samples + 1).astype(float)
    events["type"] = [str(code) for code in tiny.codes]
    events["duration"] = 0.0
    n = tiny.data.shape[1]
    eeg = {
        "setname": path.stem, "nbchan": float(len(tiny.ch_names)), "trials": 1.0,
        "pnts": float(n), "srate": tiny.sfreq, "xmin": 0.0, "xmax": (n - 1) / tiny.sfreq,
        "data": tiny.data, "chanlocs": locations, "event": events, "ref": "common",
        "icawinv": np.zeros((0, 0)), "icaweights": np.zeros((0, 0)), "chaninfo": {"nosedir": "+X"},
    }  # fmt: skip
    savemat(path, {"EEG": eeg}, appendmat=False)
    return path


def write_eeglab_73(path: Path, tiny: Tiny) -> Path:
    """The same structure as MATLAB's version 7.3 lays it out in HDF5, with SciPy out of the game."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        eeg = file.create_group("EEG")
        eeg.attrs["MATLAB_class"] = np.bytes_("struct")
        references = file.create_group("#refs#")

        def put(group: h5py.Group, name: str, value: object) -> None:
            if isinstance(value, str):
                codes = np.frombuffer(value.encode("utf-16-le"), "<u2")[:, None]
                made = group.create_dataset(name, data=codes)
                made.attrs["MATLAB_class"] = np.bytes_("char")
                made.attrs["MATLAB_int_decode"] = np.int32(2)
            else:
                made = group.create_dataset(name, data=np.atleast_2d(value))
                made.attrs["MATLAB_class"] = np.bytes_("double")

        def put_structs(name: str, fields: dict[str, list]) -> None:
            group = eeg.create_group(name)
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for field, values in fields.items():
                cells = group.create_dataset(field, (len(values), 1), dtype=h5py.ref_dtype)
                for i, value in enumerate(values):
                    put(references, f"{name}-{field}-{i}", value)
                    cells[i, 0] = references[f"{name}-{field}-{i}"].ref

        n = tiny.data.shape[1]
        for name, value in (
            ("setname", path.stem), ("ref", "common"), ("nbchan", float(len(tiny.ch_names))),
            ("trials", 1.0), ("pnts", float(n)), ("srate", tiny.sfreq), ("xmin", 0.0),
            ("xmax", (n - 1) / tiny.sfreq), ("data", tiny.data.T),
        ):  # fmt: skip
            put(eeg, name, value)
        put_structs(
            "chanlocs", {"labels": list(tiny.ch_names), "type": ["EEG"] * len(tiny.ch_names)}
        )
        put_structs(
            "event",
            {
                "latency": [float(s + 1) for s in tiny.samples],
                "type": [str(code) for code in tiny.codes],
                "duration": [0.0] * len(tiny.samples),
            },
        )
    head = (
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Wed Jan  1 00:00:00 2020 HDF5 schema"
    )
    with open(path, "r+b") as stream:
        stream.write(head.ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def write_images(folder: Path, **n: int) -> Path:
    """Subfolders of gray images, e.g. ``faces=3``."""
    from PIL import Image

    for name, count in n.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade = (len(name) * 7 + i * 11) % 256
            Image.new("L", (20, 10), shade).save(folder / name / f"{name}_{i}.png")
    return folder

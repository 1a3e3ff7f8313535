"""What files from anybody do to eegprompt: each is read, or refused with a plain error.

Command: ``python benchmarks/fuzz.py --out DIR [--cases 10000] [--jobs 1] [--only NAME]``. It writes
small valid inputs of every reader, of everything that eegprompt reads back (study, run, recipe,
captions), damages one file of a copy, and reads it. Damage is of the kinds that disks, people and
attackers do: flipped bits, cut or spliced files, other types and extreme values in JSON, YAML and
tables, renamed columns, bombs, names that lead out of the folder, pickles that run code.

Each case ends as one of: read, refused (an error of eegprompt's own), traceback (any other
exception), hang (over 60 s), memory (over 6 GB), run (a program was started or a callable of a
pickle ran), outside (something was written outside of the case's folder). Expected: the first two
only. The same seed gives the same cases.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np  # noqa: E402 (after the number of threads)

from eegprompt.readers._matlab import COMMAND  # noqa: E402

SECONDS = 60.0
GRACE = 5.0  # for damaging a copy, which counts for nothing
BYTES = 6 << 30
HOSTILE_TEXT = (
    "", "nan", "-inf", "1e400", "-1", "0", "9" * 400, "1" * 5000, "../../../etc/passwd", "/etc/passwd",
    "\x00", "a" * 70_000, "=1+1", "\u202e", "true", "null", "[]", "{}", "''", '"', "%s%n", "1,2", "\t",
)  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 10**400, 0.5, 1e308, float("nan"), float("inf"),
    [], {}, [[]], [None], [1, "a"], {"": None}, {"a": {"b": {}}}, "\ud800", *HOSTILE_TEXT,
)  # fmt: skip


# -- damage ----------------------------------------------------------------------------------------
def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, cuts, splices, extreme numbers, other content."""
    if not data:
        return rng.randbytes(64)
    buffer = bytearray(data)
    # The beginning of a file, where its structure is described, is hit as often as all the rest.
    near = min(len(buffer), rng.choice((64, 512, 4096, len(buffer))))
    how = rng.randrange(9)
    if how <= 1:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            buffer[rng.randrange(near)] ^= 1 << rng.randrange(8)
    elif how == 2:
        del buffer[rng.choice((0, 1, rng.randrange(near), len(buffer) - 1, len(buffer) // 2)) :]
    elif how == 3:
        at, n = rng.randrange(near), rng.choice((1, 4, 100, 5000))
        source = rng.randrange(len(buffer))
        buffer[at : at + n] = data[source : source + n]
    elif how == 4:
        at = rng.randrange(near)
        del buffer[at : at + rng.choice((1, 2, 8, 100))]
    elif how == 5:
        at = rng.randrange(near)
        buffer[at:at] = rng.randbytes(rng.choice((1, 2, 8, 1000)))
    elif how == 6:
        at = rng.randrange(near)
        numbers = (b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(8),
                   struct.pack("<d", float("nan")), struct.pack("<q", -(2**62)))  # fmt: skip
        number = rng.choice(numbers)
        buffer[at : at + len(number)] = number
    elif how == 7:
        at = rng.randrange(near)
        buffer[at : at + 256] = bytes(256)
    else:
        return rng.choice(
            (b"", b"\x00", rng.randbytes(512), b"PK\x03\x04" + data, data * 2, data[::-1])
        )
    return bytes(buffer)


def damaged_text(data: bytes, rng: random.Random) -> bytes:
    """Other words, lines lost, doubled or joined."""
    import re

    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    at = rng.randrange(len(lines)) if rng.random() < 0.5 else min(rng.randrange(4), len(lines) - 1)
    how = rng.randrange(7)
    if how <= 2:
        words = list(re.finditer(r"[^\s,;:={}\[\]\"']+", lines[at]))
        if words:
            word = rng.choice(words)
            new = rng.choice(HOSTILE_TEXT)
            lines[at] = lines[at][: word.start()] + new + lines[at][word.end() :]
    elif how == 3:
        del lines[at]
    elif how == 4:
        lines[at:at] = [lines[at]] * rng.choice((1, 3))
    elif how == 5:
        lines[at] = lines[at].replace(rng.choice(",\t;= "), rng.choice((",", "\t", "", "\n", '"')))
    else:
        return damaged_bytes(data, rng)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damaged_value(value: Any, rng: random.Random) -> Any:
    """Plain values with one of them, anywhere, made something else."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        if isinstance(value, list):
            copy = list(value)
            at = rng.randrange(len(copy))
            how = rng.random()
            if how < 0.1:
                del copy[at]
            elif how < 0.2:
                copy.insert(at, copy[at])
            else:
                copy[at] = damaged_value(copy[at], rng)
            return copy
        key = rng.choice(list(value))
        how = rng.random()
        if how < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.25:
            new = rng.choice(HOSTILE_TEXT)
            return {(new if k == key else k): v for k, v in value.items()}
        return {k: (damaged_value(v, rng) if k == key else v) for k, v in value.items()}
    return rng.choice(HOSTILE_VALUES)


def deep(rng: random.Random) -> str:
    """Text that nests deep, or stands for much."""
    n = rng.choice((100, 2000, 100_000))
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi")
    )
    loop = "a: &a [*a]\n"
    merges = "a: &a {x: 1}\n" + "".join(
        f"{n}: &{n} {{<<: [{', '.join(['*' + o] * 9)}]}}\n" for o, n in zip("abcdefgh", "bcdefghi")
    )
    return rng.choice(
        (
            "[" * n,
            "[" * n + "]" * n,
            '{"a":' * n,
            "{a: " * min(n, 5000),
            bomb,
            loop,
            merges,
            "- " * n,
        )
    )


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """Another value somewhere, a bomb, or damaged text."""
    how = rng.random()
    if how < 0.08:
        return deep(rng).encode()
    if how < 0.25:
        return damaged_text(data, rng)
    lines = data.splitlines(keepends=True)
    with suppress(ValueError):
        value = damaged_value(json.loads(data), rng)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    at = rng.randrange(len(lines))  # one document a line
    with suppress(ValueError):
        lines[at] = json.dumps(damaged_value(json.loads(lines[at]), rng)).encode() + b"\n"
    return b"".join(lines)


def damaged_yaml(data: bytes, rng: random.Random) -> bytes:
    """Another value somewhere, a bomb, tags of Python, or damaged text."""
    import yaml

    how = rng.random()
    if how < 0.2:
        return (
            data + b"\nmore: \n" + deep(rng).encode() if rng.random() < 0.5 else deep(rng).encode()
        )
    if how < 0.3:
        tag = rng.choice(("!!python/object/apply:os.mkdir [RAN]", "!!int ''", "!!bool x", "!!binary x",
                          "!!timestamp x", "2020-13-45", "!!set {a, b}", "!!float x"))  # fmt: skip
        return data + f"\nmore: {tag}\n".encode()
    if how < 0.5:
        return damaged_text(data, rng)
    value = damaged_value(yaml.safe_load(data), rng)
    with suppress(Exception):
        return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    return damaged_text(data, rng)


def damaged_parquet(data: bytes, rng: random.Random) -> bytes:
    """Columns dropped, renamed, doubled, of another type, with nothing in them; or damaged bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.4:
        return damaged_bytes(data, rng)
    table = pq.read_table(pa.BufferReader(data))
    at = rng.randrange(table.num_columns)
    name, n = table.column_names[at], table.num_rows
    how = rng.randrange(9)
    column = table.column(at)
    if how == 0:
        table = table.remove_column(at)
    elif how == 1:
        names = list(table.column_names)
        names[at] = rng.choice(("", "x", names[rng.randrange(len(names))], "\x00"))
        table = table.rename_columns(names)
    elif how == 2:
        table = table.slice(0, rng.choice((0, 1, n // 2)))
    elif how == 3:
        table = pa.concat_tables([table, table])
    else:
        values: list[Any] = {
            4: [rng.choice((None, 1, -5, 2**62)) for _ in range(n)],
            5: [rng.choice((0.5, float("nan"), float("inf"), 1e308)) for _ in range(n)],
            6: [rng.choice((*HOSTILE_TEXT[:12], None)) for _ in range(n)],
            7: [rng.choice(([], [1], None)) for _ in range(n)],
        }.get(how, [])
        if how == 8:
            values = column.to_pylist()
            for _ in range(rng.choice((1, 3))):
                if n:
                    row = rng.randrange(n)
                    values[row] = rng.choice((None, values[rng.randrange(n)]))
                    if isinstance(values[row], str):
                        values[row] = rng.choice(HOSTILE_TEXT[:20])
        table = table.set_column(at, name, pa.array(values))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def damaged_npy(data: bytes, rng: random.Random) -> bytes:
    """Another header, values that are no numbers, an array of objects; or damaged bytes."""
    if not data.startswith(b"\x93NUMPY") or rng.random() < 0.5:
        return damaged_bytes(data, rng)
    size = int.from_bytes(data[8:10], "little")
    head, body = data[10 : 10 + size].decode("latin1"), data[10 + size :]
    kinds = ("|O", "<f8", "<U100000", "|V0", "<c16", ">f4", "x", "<i8", "<m8[ns]")
    shapes = ("(9999999999, ", "(-1, ", "((", "(0, ", "(1, 1, ")
    old, new = rng.choice(
        (
            ("<f4", rng.choice(kinds)),
            ("False", "True"),
            ("'shape': (", f"'shape': {rng.choice(shapes)}"),
            ("{", "{{"),
            (":", "="),
        )
    )
    head = head.replace(old, new)
    return data[:8] + len(head).to_bytes(2, "little") + head.encode("latin1") + body


def damaged_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Another header, or damaged bytes."""
    if rng.random() < 0.4:
        return damaged_bytes(data, rng)
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    if rng.random() < 0.3:
        keys = [k for k in head if k != "__metadata__"]
        a, b = rng.choice(keys), rng.choice(keys)
        head[a], head[b] = head[b], head[a]
        text = json.dumps(head)
    else:
        text = json.dumps(damaged_value(head, rng))
    if rng.random() < 0.3:
        text = text.replace("F32", rng.choice(("BF16", "F64", "I32", "F8_E4M3", "BOOL")))
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data[8 + size :]


def damaged_pickle(data: bytes, rng: random.Random) -> bytes:
    """A pickle that runs code, or damaged bytes."""
    if rng.random() < 0.15:
        from malicious import by_hand

        return rng.choice(list(by_hand(Path("RAN")).values()))
    return damaged_bytes(data, rng)


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": damaged_json, ".jsonl": damaged_json, ".yaml": damaged_yaml, ".parquet": damaged_parquet,
    ".safetensors": damaged_safetensors, ".npy": damaged_npy, ".pkl": damaged_pickle,
    **dict.fromkeys((".csv", ".tsv", ".txt", ".vhdr", ".vmrk", ".md"), damaged_text),
}  # fmt: skip


def damage(path: Path, rng: random.Random) -> str:
    """Damage one file; gives what was done to which."""
    if rng.random() < 0.02:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
        return "gone"
    data = path.read_bytes()
    way = DAMAGE.get(path.suffix, damaged_bytes)
    if path.suffix in (".npy", ".pt", ".pth") and rng.random() < 0.1:
        way = damaged_pickle
    new = way(data, rng)
    path.unlink()  # a copy may share its bytes with the original
    path.write_bytes(new)
    return way.__name__


# -- what is read ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Target:
    """Valid files, and how they are read."""

    write: Callable[[Path], Any]
    read: Callable[[Path, Path], Any]
    share: float = 1.0  # of the cases, beside the others
    files: str = "**/*"
    skip: tuple[str, ...] = ()


def _reader(name: str, where: str = ".", **options: Any) -> Callable[[Path, Path], Any]:
    def read(source: Path, out: Path) -> Any:
        from eegprompt.core.registry import resolve

        make, _ = resolve("reader", name)
        return make().read(source / where, out / "study", **options)

    return read


def _write_recordings(kind: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        import tiny_recordings as tiny

        return getattr(tiny, f"write_{kind}")(
            folder / f"rec.{_ENDING[kind]}", tiny.make(n_events=36, spacing_s=0.8)
        )

    return write


_ENDING = {
    "csv": "csv",
    "fif": "fif",
    "brainvision": "vhdr",
    "eeglab": "set",
    "bdf": "bdf",
    "edf": "edf",
}


def _write_epochs(folder: Path) -> None:
    import mne

    rng = np.random.default_rng(0)
    info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 128.0, "eeg")
    events = np.column_stack([np.arange(24) * 200, np.zeros(24, int), np.arange(24) % 2 + 1])
    epochs = mne.EpochsArray(rng.normal(0, 1e-5, (24, 4, 64)), info, events, -0.1,
                             {"house": 1, "face": 2}, verbose="ERROR")  # fmt: skip
    epochs.save(folder / "sub-01-epo.fif", overwrite=True, verbose="ERROR")


def _eegcvpr(folder: Path) -> None:
    import tiny_eegcvpr as tiny

    made = tiny.make(subjects=1, per_class=4)
    tiny.write(folder, made)
    tiny.write_splits(folder, made)
    tiny.write_order(folder, made)


def _with(
    module: str, function: str, *args: Any, below: str = ".", **more: Any
) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        import importlib

        return getattr(importlib.import_module(module), function)(folder / below, *args, **more)

    return write


def _eegcvpr_parts(function: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        import tiny_eegcvpr as tiny

        return getattr(tiny, function)(folder, tiny.make(subjects=1, per_class=4))

    return write


def _read_study(folder: Path, out: Path) -> None:
    """All that is read of a study by itself."""
    from eegprompt.builtin.eeg.truth import load_truth
    from eegprompt.captions.store import CaptionStore, Origin, facts_of
    from eegprompt.confounds.record import audits_of
    from eegprompt.core.errors import EegpromptError
    from eegprompt.steps.caption import check_captions
    from eegprompt.steps.info import info as study_info
    from eegprompt.study import Study

    refused: list[EegpromptError] = []

    def each(call: Callable[[], Any]) -> None:
        try:
            call()
        except EegpromptError as problem:
            refused.append(problem)

    study = Study(folder)
    each(lambda: json.dumps(study_info(study)).encode())
    each(lambda: audits_of(study))
    if (folder / "truth").exists():
        each(lambda: load_truth(study))
    each(lambda: study.key)
    each(lambda: study.load_images(study.images["image_id"].tolist()[:2]))
    for name in study.split_names():
        each(lambda name=name: study.split(name))
    for name in study.caption_names():
        each(lambda name=name: check_captions(study, name))
    for name in ("rules", "new"):
        origin = (
            Origin(facts_of(folder, name).get("origin", {}))
            if name == "rules"
            else Origin(captioner="a")
        )
        each(lambda name=name, origin=origin: CaptionStore(study, name, origin).failed())
        each(lambda name=name, origin=origin: CaptionStore(study, name, origin).rows())
    if refused:
        raise refused[0]


def _read_run(folder: Path, out: Path) -> None:
    """All that is read of a run by itself, up to its report."""
    from eegprompt.core.errors import EegpromptError
    from eegprompt.decoder import Decoder
    from eegprompt.recipe import load_recipe  # noqa: F401 (as a command would)
    from eegprompt.reports import write_report
    from eegprompt.reports.contents import Material
    from eegprompt.run import Run

    refused: list[EegpromptError] = []

    def each(call: Callable[[], Any]) -> None:
        try:
            call()
        except EegpromptError as problem:
            refused.append(problem)

    run = Run(folder)
    run.config["study"] = str(folder / "study")
    each(lambda: run.settings)
    each(run.study)
    each(run.fold)
    each(run.decodings)
    each(run.prompts)
    each(run.scores)
    each(lambda: list(run.generators.items()))
    if _LAST.startswith("encoder"):
        each(lambda: Decoder.from_pretrained(folder).decode(run.study, [0, 1]))
    elif _LAST.startswith("embeddings"):
        each(lambda: run.embeddings(run.config["kinds"]))
    else:
        each(lambda: Material.gather(run))
        if _LAST.endswith(("generation.json", "prompts.parquet")) or random.random() < 0.05:
            each(lambda: write_report(run, out / "report.html"))  # figures take seconds
    if refused:
        raise refused[0]


def _write_run(folder: Path) -> None:
    """A small run from study to explanation, made once."""
    from eegprompt.captions.store import CaptionStore, Origin
    from eegprompt.recipe import MakeRecipe, Recipe
    from eegprompt.steps.audit import audit
    from eegprompt.steps.caption import caption as write_captions
    from eegprompt.steps.experiment import run_recipe
    from eegprompt.study import Study

    recipe = Recipe(
        make=MakeRecipe(simulate={"subjects": 1, "images": 96, "test_images": 24, "repetitions": 2,
                                  "sfreq": 64.0, "signal": 2.0}),
        settings={
            "kinds": ("ObjectSnap", "ColorTone"),
            "training": {"epochs": 2, "batch_size": 64},
            "generation": {"trials_per_image": 1, "options": {"steps": 2}},
            "evaluation": {"permutations": 99, "resamples": 100},
        },
        explain=("confidence", "patterns"),
    )  # fmt: skip
    run_recipe(recipe, folder)
    study = Study(folder / "study")
    audit(study)
    write_captions(study, "rules", name="rules")
    store = CaptionStore(study, "new", Origin(captioner="a"))
    ids = study.images["image_id"].tolist()
    for image_id in ids[:8]:
        store.append(image_id, [{"kind": "ObjectSnap", "text": "a thing"}])
    store.fail(ids[9], "no answer")


def _write_study(folder: Path) -> None:
    shutil.copytree(_TEMPLATES / "run" / "study", folder, dirs_exist_ok=True)


def _read_recipe(folder: Path, out: Path) -> None:
    from eegprompt.recipe import load_recipe
    from eegprompt.settings import load_config

    for path in folder.glob("*.yaml"):
        if path.name == "config.yaml":
            load_config(path)
        else:
            load_recipe(path, source=folder if "import" in path.name else None)


def _write_recipes(folder: Path) -> None:
    import yaml

    from eegprompt.settings import load_config

    settings = {"kinds": ["ObjectSnap"], "training": {"epochs": 2}, "seed": 1}
    make = {"simulate": {"images": 64}, "captions": {"captioner": "rules"}}
    taken = {"import": {"reader": "continuous", "source": "x", "options": {"events": {"1": "a"}}},
             "split": {"kind": "by-image", "options": {"val": 0.1}}}  # fmt: skip
    (folder / "made.yaml").write_text(yaml.safe_dump({**settings, "make": make, "explain": True}))
    (folder / "import.yaml").write_text(
        yaml.safe_dump({**settings, "make": taken, "ablations": {"what": ["pool"], "seeds": 1}})
    )
    load_config({"study": "x", **settings}).save(folder / "config.yaml")


def _write_captions(folder: Path) -> None:
    import pandas as pd

    ids = _study().images["image_id"].tolist()
    rows = [{"image_id": i, "kind": kind, "text": f"a {kind} {i}", "meaning": f"m{i}"}
            for i in ids for kind in ("ObjectSnap", "ColorTone")]  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(folder / "captions.csv", index=False)
    table.to_csv(folder / "captions.tsv", index=False, sep="\t")
    table.to_parquet(folder / "captions.parquet")
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    coco = {"images": [{"id": i, "file_name": f"{n}.png"} for i, n in enumerate(ids)],
            "annotations": [{"image_id": i, "caption": f"a thing {i}"} for i in range(len(ids))]}  # fmt: skip
    (folder / "coco.json").write_text(json.dumps(coco))
    published = "name,two_way_alex2,inception_score\nOurs,0.91,5.3\nTheirs,0.72,4.1\n"
    (folder / "published.txt").write_text(published)


def _read_captions(folder: Path, out: Path) -> None:
    from eegprompt.captions.file import FileCaptioner
    from eegprompt.publication.published_table import _published

    path = folder / _LAST
    if path.name == "published.txt":
        _published(path)
        return
    study = _study()
    captioner = FileCaptioner(path)
    ids = study.images["image_id"].tolist()
    captioner.check(study, ids)
    list(captioner.write(study, ids))


@cache
def _study() -> Any:
    from eegprompt.study import Study

    return Study(_TEMPLATES / "run" / "study")


_CODES = {"1": "house", "2": "face"}
_CUT: dict[str, Any] = {"tmin": -0.1, "tmax": 0.5}
_CSV: dict[str, Any] = {"unit": "uV", "marker": "Marker0", "exclude": ["Right AUX"]}
_EVENTS: dict[str, Any] = {"events": _CODES, **_CUT}

TARGETS: dict[str, Target] = {
    "run": Target(_write_run, _read_run, 14, skip=("study/", "figures/", "checkpoints/", "images/builtin/f")),
    "study": Target(_write_study, _read_study, 10, skip=("cache/", "images/scene-000[1-9]", "audit-")),
    "recipe": Target(_write_recipes, _read_recipe, 5),
    "captions": Target(_write_captions, _read_captions, 4),
    "csv": Target(_write_recordings("csv"), _reader("continuous", **_CSV, **_EVENTS), 2),
    "fif": Target(_write_recordings("fif"), _reader("continuous", **_EVENTS), 2),
    "brainvision": Target(
        _write_recordings("brainvision"),
        _reader("continuous", events={"S1": "house", "S2": "face"}, **_CUT), 2),
    "eeglab": Target(_write_recordings("eeglab"), _reader("continuous", **_EVENTS), 2),
    "bdf": Target(_write_recordings("bdf"), _reader("continuous", marker="Status", **_EVENTS), 1),
    "edf": Target(_write_recordings("edf"), _reader("continuous", marker="TRIGGER", **_EVENTS), 1),
    "epochs": Target(_write_epochs, _reader("mne", events={"house": "a", "face": "b"}), 2),
    "bids": Target(_with("tiny_datasets", "write_bids", ("01",), 1, below="set"), _reader("bids", "set"), 3),
    "eegcvpr": Target(_eegcvpr, _reader("eegcvpr"), 3),
    "eegcvpr40": Target(_eegcvpr_parts("write_40"), _reader("eegcvpr40"), 2),
    "eegcvpr-hf": Target(_eegcvpr_parts("write_hub"), _reader("eegcvpr-hf"), 2),
    "thoughtviz": Target(_with("tiny_datasets", "write_thoughtviz"), _reader("thoughtviz"), 2),
    "alljoined": Target(_with("tiny_datasets", "write_alljoined"), _reader("alljoined"), 2),
    "alljoined-raw": Target(
        _with("tiny_datasets", "write_alljoined_raw"), _reader("alljoined", "raw_eeg", tmin=-0.1, tmax=0.25), 1),
    "alljoined1": Target(_with("tiny_datasets", "write_alljoined1"), _reader("alljoined"), 2),
    **{
        f"things-{layout}": Target(
            _with("tiny_datasets", "write_things", layout), _reader("things-eeg2", allow_missing_images=True), 2)
        for layout in ("gifford", "nice", "ubp", "samga", "neurobridge")
    },
}  # fmt: skip

_TEMPLATES = Path()
_LAST = ""  # the file that was damaged, below the case's folder


# -- one case --------------------------------------------------------------------------------------
@dataclass
class Watch:
    """An audit hook that notes programs that are started and files that are written elsewhere."""

    inside: tuple[str, ...] = ()
    seen: str = ""

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.inside:
            return
        if event == "subprocess.Popen" and list(args[1]) == COMMAND:
            return  # that one is ours, and parses MATLAB files
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.startfile"):
            self.seen = self.seen or f"run: {event} {args[0]!r}"
        elif event == "open":
            path, mode, flags = args
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes and isinstance(path, (str, bytes)):
                self._written(path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"):
            self._written(args[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._written(args[1])

    def _written(self, path: Any) -> None:
        with suppress(TypeError, ValueError):
            where = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links count as they are)
            if not where.startswith((*self.inside, "/dev/", "/proc/")):
                self.seen = self.seen or f"outside: {where}"


def one_case(name: str, number: int, seed: int, work: Path, watch: Watch) -> tuple[str, str, str]:
    """Damage a copy and read it: how it ended, which file was damaged, and where it failed."""
    from eegprompt.core.errors import EegpromptError

    global _LAST
    target = TARGETS[name]
    rng = random.Random(f"{seed}/{name}/{number}")
    random.seed(f"{seed}/{name}/{number}")
    case, out = work / "case", work / "out"
    for folder in (case, out):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_TEMPLATES / name, case, copy_function=os.link)
    out.mkdir()
    files = sorted(p for p in case.glob(target.files) if p.is_file())
    names = [p.relative_to(case).as_posix() for p in files]
    kept = [n for n in names if not any(_matches(n, s) for s in target.skip)]
    # Images and single trials are many: first a kind of file is chosen, then one of it.
    kinds: dict[str, list[str]] = {}
    for n in kept:
        many = n.startswith(("images/", "train/", "val/", "test/"))
        kinds.setdefault(n.split("/")[0] if many else n, []).append(n)
    _LAST = rng.choice(kinds[rng.choice(sorted(kinds))])
    how = damage(case / _LAST, rng)
    what = f"{_LAST} ({how})"
    os.chdir(out)
    watch.seen = ""
    watch.inside = (str(work), tempfile.gettempdir())
    try:
        target.read(case, out)
        ended, where = "read", ""
    except EegpromptError as problem:
        ended, where = "refused", type(problem).__name__
    except MemoryError as problem:
        ended, where = "memory", _where(problem)
    except Exception as problem:
        ended, where = "traceback", _where(problem)
    finally:
        watch.inside = ()
    if watch.seen or (out / "RAN").exists() or (case / "RAN").exists():
        ended, where = (watch.seen or "run: a callable of a pickle").split(":", 1)
    return ended, what, where


def _matches(name: str, pattern: str) -> bool:
    import fnmatch

    return name.startswith(pattern) or fnmatch.fnmatch(name, f"{pattern}*")


def _where(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [f for f in frames if "/eegprompt/" in f.filename and "site-packages" not in f.filename]
    at = ours[-1] if ours else frames[-1]
    text = (str(problem).splitlines() or [""])[0][:120]
    return f"{Path(at.filename).name}:{at.lineno} {type(problem).__name__}: {text}"


def _worker(name: str, numbers: list[int], seed: int, work: Path, pipe: Any) -> None:
    """Do cases one after the other; what begins and ends is said at once."""
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    scratch = work / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    watch = Watch()
    sys.addaudithook(watch)
    for number in numbers:
        pipe.send(("begins", number, None))
        try:
            found = one_case(name, number, seed, work, watch)
        except BaseException as problem:  # of the fuzz itself
            found = ("broken", _LAST, _where(problem))
        pipe.send(("ends", number, found))
    pipe.close()


def fuzz(name: str, numbers: list[int], seed: int, work: Path) -> list[tuple[int, str, str, str]]:
    """Cases of one target, in a child that is started again when it hangs or dies."""
    results = []
    context = multiprocessing.get_context("fork")
    todo = list(numbers)
    while todo:
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=_worker, args=(name, todo[:400], seed, work, there))
        child.start()
        there.close()
        current = todo[0]
        batch = len(todo[:400])
        try:
            while batch:
                if not here.poll(SECONDS + GRACE):
                    results.append((current, "hang", "", ""))
                    todo.remove(current)
                    break
                kind, number, found = here.recv()
                current = number
                if kind == "ends":
                    results.append((number, *found))
                    todo.remove(number)
                    batch -= 1
        except EOFError:
            child.join()
            results.append((current, "killed", "", f"exit {child.exitcode}"))
            todo.remove(current)
        child.kill()
        child.join()
    return results


def prepare(place: Path, names: list[str]) -> None:
    """Write the valid files of the targets once, and see that each is read."""
    global _TEMPLATES
    _TEMPLATES = place / "valid"
    for name in dict.fromkeys(["run", *names] if {"study", "captions"} & set(names) else names):
        folder = _TEMPLATES / name
        if folder.exists():
            continue
        partial = folder.with_name(f".{name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        TARGETS[name].write(partial)
        _read_valid(name, partial, place / "check")
        partial.rename(folder)


def _read_valid(name: str, folder: Path, out: Path) -> None:
    """Read the valid files: an error here says that the fuzz would prove nothing."""
    global _LAST
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out / "case")
    (out / "out").mkdir()
    _LAST = "captions.csv"
    TARGETS[name].read(out / "case", out / "out")


def main() -> None:
    """Run the cases and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(TARGETS))
    options = parser.parse_args()
    place = options.out.resolve()
    os.environ["HOME"] = str(place / "home")
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    import eegprompt.decoder
    import eegprompt.reports  # noqa: F401 (loaded once, for all children)

    prepare(place, options.only)
    total = sum(TARGETS[n].share for n in options.only)
    ended: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    began = time.perf_counter()
    said = began
    by_target: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with (
        open(place / "faults.jsonl", "w", encoding="utf-8") as log,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        # Small parts, so that jobs end together.
        parts = [
            (name, list(range(start, min(start + 100, count))))
            for name in options.only
            for count in [round(options.cases * TARGETS[name].share / total)]
            for start in range(0, count, 100)
        ]
        random.Random(0).shuffle(parts)
        todo = {
            pool.submit(
                fuzz, name, numbers, options.seed, place / "work" / f"{name}-{numbers[0]}"
            ): name
            for name, numbers in parts
        }
        for part in as_completed(todo):
            name = todo[part]
            ended += Counter(f[1] for f in part.result())
            by_target[name] += Counter(f[1] for f in part.result())
            for number, how, what, where in part.result():
                if how not in ("read", "refused"):
                    faults[f"{name}: {how}: {where}"] += 1
                    log.write(json.dumps([name, number, how, what, where]) + "\n")
            log.flush()
            if time.perf_counter() - said > 20:
                said = time.perf_counter()
                print(
                    f"{sum(ended.values())} cases, {said - began:.0f} s: {dict(ended)}", flush=True
                )
    for name, mine in sorted(by_target.items()):
        print(f"{name}: {', '.join(f'{k} {v}' for k, v in sorted(mine.items()))}")
    print(f"{sum(ended.values())} cases in {time.perf_counter() - began:.0f} s: {dict(ended)}")
    for fault, n in faults.most_common():
        print(f"{n:5d} × {fault}")


if __name__ == "__main__":
    main()

"""What an analysis found: in words, as a table, as figures, as arrays; on disk and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, RunError
from eegprompt.core.files import atomic_path, read_json, write_json
from eegprompt.run import Run

__all__ = [
    "Finding",
    "Image",
    "Omitted",
    "load_finding",
    "load_findings",
    "load_record",
    "save_finding",
]


class Omitted(InputError):
    """An analysis that this run cannot have, such as a topography without electrode positions.

    Raised inside an analysis; :func:`explain` writes a finding that says why.
    """


@dataclass(frozen=True)
class Image:
    """One figure, written as SVG and as PNG.

    Parameters
    ----------
    path : pathlib.Path
        The SVG file; the PNG lies beside it under the same name.
    caption : str
        What is drawn, with the settings that a reader must know; also its text alternative.
    """

    path: Path
    caption: str

    @property
    def png(self) -> Path:
        """The PNG file."""
        return self.path.with_suffix(".png")


@dataclass(frozen=True)
class Finding:
    """What one analysis found.

    Parameters
    ----------
    name : str
        The analysis.
    title : str
        Heading in the report.
    seen : str
        Two or three sentences: what is seen, with the figures that carry it.
    not_concluded : str
        Two or three sentences: what must not be concluded from it.
    table : list of dict
        Rows of equal keys; keys are column headings, numbers stay numbers.
    figures : list of Image
        In the order of the report.
    arrays : dict of str to array
        What the figures show, for other programs.
    verdict : str or None
        A few words on how far it can be trusted, where that was tested.
    good : bool or None
        Whether the verdict speaks for it; None where it is neither.
    notes : list of str
        Settings that decide the result: seeds, numbers of trials, perplexity, ….
    """

    name: str
    title: str
    seen: str
    not_concluded: str
    table: list[dict[str, Any]] = field(default_factory=list)
    figures: list[Image] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    verdict: str | None = None
    good: bool | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def omitted(cls, name: str, title: str, why: str) -> Finding:
        """A finding that says why there is none."""
        return cls(name, title, f"Left out: {why}.", "", verdict="left out")


def save_finding(
    place: Path, finding: Finding, *, record: Mapping[str, Any], axes: Mapping[str, Any]
) -> None:
    """Write ``explain/NAME.safetensors`` and then ``explain/NAME.json``, which marks it complete.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the run, or of a run over folds.
    finding : Finding
        What.
    record : mapping
        Key and provenance, kept in the JSON file.
    axes : mapping
        Channel names and the like that the arrays' axes refer to; stored in both files, in the
        first as JSON under ``axes`` of its metadata.
    """
    from safetensors.numpy import save_file

    folder = place / "explain"
    path = folder / f"{finding.name}.json"
    path.unlink(missing_ok=True)
    arrays = {name: np.ascontiguousarray(a) for name, a in finding.arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"array '{name}' of {finding.name} holds {array.dtype}, not numbers")
    with atomic_path(folder / f"{finding.name}.safetensors") as partial:
        # One entry only: the library writes several in an order of its own.
        save_file(arrays, partial, metadata={"axes": json.dumps(axes)})
    write_json(
        path,
        {
            "name": finding.name,
            "title": finding.title,
            "verdict": finding.verdict,
            "good": finding.good,
            "seen": finding.seen,
            "not_concluded": finding.not_concluded,
            "notes": finding.notes,
            "table": finding.table,
            "figures": [
                {"path": p.path.relative_to(place).as_posix(), "caption": p.caption}
                for p in finding.figures
            ],
            "arrays": {name: list(a.shape) for name, a in arrays.items()},
            **axes,
            "record": dict(record),
        },
    )


def load_record(place: Path, name: str) -> dict[str, Any]:
    """Key and provenance of a stored finding; empty if it is not there or not complete."""
    path = place / "explain" / f"{name}.json"
    if not path.exists():
        return {}
    stored = read_json(path, error=RunError, schema="finding")
    files = [place / "explain" / f"{name}.safetensors"]
    for figure in stored.get("figures", []):
        svg = place / figure["path"]
        files += [svg, svg.with_suffix(".png")]
    return dict(stored.get("record", {})) if all(f.exists() for f in files) else {}


def load_finding(place: Path, name: str) -> Finding | None:
    """One finding, without its arrays; None if it is not there."""
    path = place / "explain" / f"{name}.json"
    if not path.exists():
        return None
    stored = read_json(path, error=RunError, schema="finding")
    return Finding(
        name=stored["name"],
        title=stored["title"],
        seen=stored["seen"],
        not_concluded=stored["not_concluded"],
        table=stored["table"],
        figures=[Image(place / f["path"], f["caption"]) for f in stored["figures"]],
        verdict=stored["verdict"],
        good=stored["good"],
        notes=stored["notes"],
    )


def load_findings(run: Run | str | Path, names: Sequence[str] | None = None) -> list[Finding]:
    """Read what ``eegprompt explain`` found, without its arrays.

    Parameters
    ----------
    run : Run or path-like
        The run; its study need not be there.
    names : sequence of str, optional
        Which analyses; left out: all, in the order of :data:`ANALYSES`.

    Returns
    -------
    list of Finding
        Of those that are there; empty if nothing was explained.

    Raises
    ------
    RunError
        If a file is broken.
    """
    from eegprompt.analyses.catalog import ANALYSES

    run = Run(run)
    wanted = ANALYSES if names is None else names
    found = [load_finding(run.path, name) for name in wanted]
    return [finding for finding in found if finding is not None]

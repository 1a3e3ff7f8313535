"""What an analysis found: in words, as numbers, as a table, as figures, as arrays; on disk and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, RunError
from eegprompt.core.files import atomic_path, read_json, write_json
from eegprompt.core.registry import GROUPS

__all__ = [
    "Answer",
    "Finding",
    "Image",
    "Omitted",
    "load_finding",
    "load_findings",
    "load_record",
    "save_finding",
]


class Omitted(InputError):
    """An analysis that a run cannot have, such as a topography without electrode positions.

    Raised inside an analysis; ``explain`` writes a finding that says why.
    """


# -- what is found ---------------------------------------------------------------------------------
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
class Answer:
    """What was found to one question of an analysis.

    Parameters
    ----------
    question : str
        Its name, one of :attr:`Analysis.answers`.
    text : str
        The answer as a sentence.
    found : bool
        Whether what was asked for was found.
    value, lo, hi : float, optional
        The number that carries it, and its interval.
    chance, p : float, optional
        What the number is by chance, and the p of a test against that.
    """

    question: str
    text: str
    found: bool = True
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    chance: float | None = None
    p: float | None = None


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
        The answers, as text.
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
        Whether the verdict is favorable; None where it is neither.
    notes : list of str
        Settings that decide the result: seeds, numbers of trials, perplexity, ….
    answers : list of Answer
        What `seen` says, as numbers.
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
    answers: list[Answer] = field(default_factory=list)

    @classmethod
    def omitted(cls, name: str, title: str, why: str) -> Finding:
        """A finding that says why there is none."""
        return cls(name, title, f"Left out: {why}.", "", verdict="left out")


# -- on disk ---------------------------------------------------------------------------------------
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
    figures = [
        {"path": p.path.relative_to(place).as_posix(), "caption": p.caption}
        for p in finding.figures
    ]
    texts = ("name", "title", "verdict", "good", "seen", "not_concluded", "notes", "table")
    write_json(
        path,
        {
            **{key: vars(finding)[key] for key in texts},
            "answers": [asdict(answer) for answer in finding.answers],
            "figures": figures,
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
    files = [path.with_suffix(".safetensors")]
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
    texts = ("name", "title", "seen", "not_concluded", "table", "verdict", "good", "notes")
    return Finding(
        **{key: stored[key] for key in texts},
        figures=[Image(place / f["path"], f["caption"]) for f in stored["figures"]],
        answers=[Answer(**answer) for answer in stored.get("answers", [])],
    )


def load_findings(place: str | Path, wanted: Sequence[str] | None = None) -> list[Finding]:
    """Read what ``eegprompt explain`` found, without its arrays.

    Parameters
    ----------
    place : path-like
        The run's folder; its study need not be there.
    wanted : sequence of str, optional
        Which analyses; left out: all, in the order of the report, others' own last.

    Returns
    -------
    list of Finding
        Of those that are there; empty if nothing was explained.

    Raises
    ------
    RunError
        If a file is broken.
    """
    place = Path(place)
    if wanted is None:
        there = sorted(path.stem for path in (place / "explain").glob("*.json"))
        known = GROUPS["analysis"]
        wanted = [*known, *(name for name in there if name not in known)]
    found = [load_finding(place, name) for name in wanted]
    return [finding for finding in found if finding is not None]

"""The verdict of the audit, stamped on every score, and renewed when the study is audited later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegprompt.confounds.record import read_audit
from eegprompt.core.errors import EegpromptError, RunError
from eegprompt.core.files import read_json, write_json
from eegprompt.core.fold_sentences import merge_sentences
from eegprompt.run import Run, fold_runs

__all__ = ["restamp"]


def restamp(folder: str | Path) -> None:
    """Bring the verdict on scores that were computed before up to date with the audit made since.

    Parameters
    ----------
    folder : path-like
        A run, or the parent of the runs of folds. One without scores, or whose study is gone, keeps
        what it has.

    Raises
    ------
    RunError
        If the scores cannot be read.
    """
    folder = Path(folder)
    folders = [] if (folder / "config.yaml").exists() else fold_runs(folder)
    try:
        stamps = [Stamp.of(Run(f)) for f in folders or [folder]]
    except (EegpromptError, KeyError):
        return  # nobody can say more than what was stamped
    for place, stamp in zip(folders, stamps):
        _restamp(place, stamp)
    _restamp(folder, Stamp.of_folds(stamps, folders) if folders else stamps[0])


def _restamp(folder: Path, stamp: Stamp) -> None:
    path = folder / "scores.json"
    if not path.exists():
        return
    stored = read_json(path, error=RunError, schema="scores")
    if not isinstance(stored, dict) or stored.get("audit") == stamp.stored:
        return
    rows = [{**row, **stamp.in_row} for row in stored.get("rows") or []]
    write_json(path, {**stored, "audit": stamp.stored, "rows": rows})


@dataclass(frozen=True)
class Stamp:
    """What is printed wherever a score is: the verdict on the design, and what was allowed.

    Parameters
    ----------
    verdict, summary : str
        Of the audit of the run's study and split.
    allowed_leakage : tuple of str
        What the split's sides share by the user's leave, in words.
    """

    verdict: str
    summary: str
    allowed_leakage: tuple[str, ...]

    @property
    def stored(self) -> dict[str, Any]:
        """As ``scores.json`` holds it."""
        return {
            "verdict": self.verdict,
            "summary": self.summary,
            "allowed_leakage": list(self.allowed_leakage),
        }

    @property
    def in_row(self) -> dict[str, Any]:
        """As each row of scores holds it."""
        return {"audit": self.verdict, "allowed_leakage": "; ".join(self.allowed_leakage) or None}

    @classmethod
    def of_folds(cls, stamps: Sequence[Stamp], folders: Sequence[Path]) -> Stamp:
        """The stamp of the means over folds."""
        allowed_leakage = merge_sentences(
            [s.allowed_leakage for s in stamps], [f.name for f in folders]
        )
        return cls(stamps[0].verdict, stamps[0].summary, tuple(allowed_leakage))

    @classmethod
    def of(cls, run: Run) -> Stamp:
        """The stamp of a run's scores."""
        split = str(run.config["split"])
        found = read_audit(run.study, split)
        command = f"'eegprompt audit STUDY --split {split}'"
        trained = run.provenance.get("train", {})
        allowed_leakage = tuple(trained.get("allowed_leakage") or ())
        if found is None:
            return cls("not audited", f"Design not audited: {command} does it.", allowed_leakage)
        if found["stale"]:
            text = f"The study or its split changed since its audit: {command} does it again."
            return cls("outdated", text, allowed_leakage)
        return cls(
            found["verdict"], f"Design {found['verdict']}: {found['summary']}", allowed_leakage
        )

"""The verdict of the audit, stamped on every score, and renewed when the study is audited later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegprompt.confounds.record import read_audit
from eegprompt.core.errors import RunError
from eegprompt.core.files import read_json, write_json
from eegprompt.core.fold_sentences import merge_sentences
from eegprompt.study import Study

__all__ = ["Stamp"]


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
    def of(cls, study: Study, split: str, allowed_leakage: Sequence[str]) -> Stamp:
        """The stamp of scores on a split of a study, whose training allowed some leakage."""
        found, allowed = read_audit(study, split), tuple(allowed_leakage)
        command = f"'eegprompt audit STUDY --split {split}'"
        if found is None:
            return cls("not audited", f"Design not audited: {command} does it.", allowed)
        if found["stale"]:
            text = f"The study or its split changed since its audit: {command} does it again."
            return cls("outdated", text, allowed)
        return cls(found["verdict"], f"Design {found['verdict']}: {found['summary']}", allowed)

    def renew(self, folder: Path) -> None:
        """Put it on the scores in a folder, where they carry another one.

        Raises
        ------
        RunError
            If the scores cannot be read.
        """
        path = folder / "scores.json"
        if not path.exists():
            return
        stored = read_json(path, error=RunError, schema="scores")
        if isinstance(stored, dict) and stored.get("audit") != self.stored:
            rows = [{**row, **self.in_row} for row in stored.get("rows") or []]
            write_json(path, {**stored, "audit": self.stored, "rows": rows})

"""Where the events of a source went: each became a trial, or was left out for a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from eegprompt.core.errors import StudyError

__all__ = ["Accounting"]


@dataclass(frozen=True)
class Accounting:
    """Events found in a source = trials + events left out, with the number for each reason.

    Parameters
    ----------
    found : int
        Events (or trials that were cut already) in the source.
    trials : int
        Trials that were written.
    left_out : mapping of str to int
        Reason -> number of events left out for it; zeros are dropped.

    Raises
    ------
    StudyError
        If the numbers do not add up, or are no counts.

    Examples
    --------
    >>> Accounting(found=40, trials=30, left_out={"not named": 8, "amplitude": 2, "cut off": 0})
    Accounting(found=40, trials=30, left_out={'not named': 8, 'amplitude': 2})
    """

    found: int
    trials: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.left_out, Mapping):
            raise StudyError(f"'left_out' should map reasons to counts, got {self.left_out!r:.80}")
        for what, count in (("found", self.found), ("trials", self.trials), *self.left_out.items()):
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise StudyError(f"the accounting's '{what}' should be a count, got {count!r:.40}")
        object.__setattr__(self, "left_out", {str(k): n for k, n in self.left_out.items() if n})
        if self.found != self.trials + sum(self.left_out.values()):
            raise StudyError(
                f"{self.found} events were found, but {self.trials} trials and {self.left_out} left "
                f"out make {self.trials + sum(self.left_out.values())}; the import lost count"
            )

    @classmethod
    def total(cls, parts: Iterable[Accounting]) -> Accounting:
        """The sum of several, e.g. of the recordings of one import."""
        found = trials = 0
        left_out: Counter[str] = Counter()
        for part in parts:
            found, trials = found + part.found, trials + part.trials
            left_out.update(part.left_out)
        return cls(found, trials, dict(left_out))

    def less(self, reason: str, count: int) -> Self:
        """The same events with `count` trials fewer, for one more reason."""
        left_out = Counter(self.left_out)
        left_out[reason] += count
        return type(self)(self.found, self.trials - count, dict(left_out))

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``study.json`` under `accounting`."""
        return {"found": self.found, "trials": self.trials, "left_out": dict(self.left_out)}

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        StudyError
            If it is of another form, or does not add up.
        """
        if not isinstance(stored, Mapping) or set(stored) != {"found", "trials", "left_out"}:
            raise StudyError(
                f"'accounting' should hold found, trials and left_out, got {stored!r:.80}; import "
                "the study again"
            )
        return cls(stored["found"], stored["trials"], stored["left_out"])

    def words(self) -> dict[str, int]:
        """For a person: the events found, the trials, then each reason, the largest first."""
        reasons = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        return {
            "found": self.found,
            "trials": self.trials,
            **{f"left out, {why}": count for why, count in reasons},
        }

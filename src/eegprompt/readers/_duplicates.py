"""Trials that repeat another byte for byte, found without keeping them in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from eegprompt.core.errors import RecordingError

__all__ = ["POLICIES", "Repeats"]

POLICIES = ("drop", "keep", "refuse")


class Repeats:
    """Notices each trial that is equal to an earlier one in every byte.

    Only an excerpt of each trial is remembered. Equal trials have equal excerpts; those with equal
    excerpts are compared in full, for which the earlier one is read again. Where that cannot be
    done, the excerpt is a SHA-256 of the whole trial, which takes longer.

    Parameters
    ----------
    policy : {"drop", "keep", "refuse"}
        What becomes of a repeat. One that is said to show another image is refused unless kept:
        one of both is wrong.
    reload : callable or None
        Gives the signal of a trial that was seen before.
    where : callable
        Says in words where a trial lies, for messages.

    Examples
    --------
    >>> trials = [np.ones((2, 4)), np.zeros((2, 4)), np.ones((2, 4))]
    >>> repeats = Repeats("drop", trials.__getitem__, "trial {}".format)
    >>> [repeats.is_one(i, "a cat", trial) for i, trial in enumerate(trials)]
    [False, False, True]
    """

    def __init__(
        self,
        policy: str,
        reload: Callable[[Any], np.ndarray] | None,
        where: Callable[[Any], str],
    ):
        self.policy, self.reload, self.where = policy, reload, where
        self.seen: dict[tuple[Any, ...], list[tuple[Any, str]]] = {}
        self.found: list[tuple[Any, Any]] = []

    def is_one(self, trial: Any, image: str, signal: np.ndarray) -> bool:
        """Whether a trial repeats an earlier one and is to be left out."""
        if self.reload is None:
            content: Any = hashlib.sha256(signal.tobytes()).digest()
        else:
            content = hash(signal[::16, ::32].tobytes())
        excerpt = (signal.shape, signal.dtype.str, content)
        earlier = self.seen.setdefault(excerpt, [])
        for other, shown in earlier:
            if self.reload is not None and signal.tobytes() != self.reload(other).tobytes():
                continue
            what = f"{self.where(trial)} repeats {self.where(other)} byte for byte"
            if self.policy == "refuse":
                raise RecordingError(f"{what}; pass 'duplicates=drop' to leave it out")
            if self.policy == "drop" and image != shown:
                raise RecordingError(
                    f"{what}, under another image ({image}, {shown}); one of both is wrong: pass "
                    "'duplicates=keep' to keep both"
                )
            self.found.append((trial, other))
            return self.policy == "drop"
        earlier.append((trial, image))
        return False

    @property
    def n_dropped(self) -> int:
        """Trials that were left out because they repeat another."""
        return len(self.found) if self.policy == "drop" else 0

    def notes(self) -> list[str]:
        """One sentence on what was found; none where nothing was."""
        if not self.found:
            return []
        pairs = ", ".join(f"{self.where(a)} = {self.where(b)}" for a, b in self.found[:5])
        done = "were left out" if self.policy == "drop" else "were kept, on whatever side they fall"
        more = ", …" if len(self.found) > 5 else ""
        return [f"{len(self.found)} trials repeat another byte for byte and {done}: {pairs}{more}"]

"""Everything eegprompt raises on purpose.

::

    EegpromptError                    exit code of the command line
    ├── InputError          (also ValueError)          2
    │   ├── UnknownNameError          a name that is not on the list, with a suggestion
    │   ├── StudyError                a study that is missing, half-written or inconsistent
    │   ├── RunError                  a run that is missing, half-written or inconsistent
    │   ├── RecordingError            a recording that cannot be read as what it was said to be
    │   ├── SplitError                a split that leaks or does not fit the study
    │   ├── CaptionError              captions that are missing or malformed
    │   └── TokenBudgetError          a prompt budget that not even one caption fits
    ├── MissingDependencyError (also ImportError)      3
    ├── ModelLoadError                                 3
    ├── StorageError        (also OSError)             4
    └── TrainingError                                  5

One grammar for messages: what came, what is allowed, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CaptionError",
    "EegpromptError",
    "InputError",
    "MissingDependencyError",
    "ModelLoadError",
    "RecordingError",
    "RunError",
    "SplitError",
    "StorageError",
    "StudyError",
    "TokenBudgetError",
    "TrainingError",
    "UnknownNameError",
]


class EegpromptError(Exception):
    """Base of every error eegprompt raises on purpose."""

    exit_code = 1


class InputError(EegpromptError, ValueError):
    """What a user gave cannot be used; the message says what is allowed."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that is not on the list of what exists.

    Parameters
    ----------
    what : str
        What the name should have named, e.g. ``"generator"``.
    got : str
        The name that came.
    allowed : iterable of str
        The names that exist.
    instead : str, optional
        What to suggest where the name was given to something else before.

    Examples
    --------
    >>> print(UnknownNameError("prompt source", "flor", ["eeg", "floor", "ceiling"]))
    unknown prompt source 'flor'; did you mean 'floor'? Allowed: eeg, floor, ceiling
    """

    def __init__(self, what: str, got: str, allowed: Iterable[str], *, instead: str | None = None):
        names = [str(a) for a in allowed]
        # "diffusers:MODEL" is known by what stands before the colon.
        lowered = {(name.partition(":")[0] or name).lower(): name for name in names}
        close = difflib.get_close_matches(str(got).lower(), list(lowered), n=1)
        near = instead or (lowered[close[0]] if close else None)
        hint = f"; did you mean '{near}'?" if near else "."
        listing = ", ".join(names) or "(none)"
        if len(names) > 60:
            listing = f"{', '.join(names[:12])}, … ({len(names)} in all)"
        super().__init__(f"unknown {what} '{got}'{hint} Allowed: {listing}")
        self.got = got
        self.allowed = tuple(names)


class StudyError(InputError):
    """A study folder is missing, half-written or inconsistent."""


class RunError(InputError):
    """A run folder is missing, half-written or inconsistent."""


class RecordingError(InputError):
    """A recording cannot be read as what it was said to be."""


class SplitError(InputError):
    """A split leaks, is empty, or does not fit its study."""


class CaptionError(InputError):
    """Captions are missing or malformed."""


class TokenBudgetError(InputError):
    """Not even one caption fits the text encoder's token budget."""


class MissingDependencyError(EegpromptError, ImportError):
    """An optional package is absent; the message says which extra to install."""

    exit_code = 3

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"this needs the package '{package}', which is not installed; "
            f"install it with: pip install 'eegprompt[{extra}]'"
        )


class ModelLoadError(EegpromptError):
    """A model cannot be loaded under the name that was given."""

    exit_code = 3


class StorageError(EegpromptError, OSError):
    """The disk refused to write or read; nothing half-written is left in place."""

    exit_code = 4


class TrainingError(EegpromptError):
    """Training cannot start or go on."""

    exit_code = 5

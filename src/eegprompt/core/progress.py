"""How long work shows how far it is: a callback with (done, total, label)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "Warn"]

Progress = Callable[[int, int, str], None]


Warn = Callable[[str], None]

"""A run beside a publication: its table with the published rows, its figures under its numbers."""

from __future__ import annotations

from eegprompt.reproduction._folder import (
    CONTENTS,
    FIGURES,
    PUBLISHED,
    TABLE,
    PaperFigure,
    write_paper,
)
from eegprompt.reproduction._table import Cell, Comparison, compare

__all__ = [
    "CONTENTS",
    "FIGURES",
    "PUBLISHED",
    "TABLE",
    "Cell",
    "Comparison",
    "PaperFigure",
    "compare",
    "write_paper",
]

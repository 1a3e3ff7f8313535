"""A run beside a publication: its table with the published rows, its figures under its numbers."""

from __future__ import annotations

from eegprompt.publication.folder import (
    CONTENTS,
    FIGURES,
    PUBLISHED,
    TABLE,
    PaperFigure,
    write_paper,
)
from eegprompt.publication.published_table import Cell, Comparison, compare

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

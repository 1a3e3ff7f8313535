"""A run beside a publication: its table with the published rows, its figures under its numbers."""

from __future__ import annotations

from eegprompt.reproduction._folder import FIGURES, PaperFigure, write_paper
from eegprompt.reproduction._table import Comparison, compare

__all__ = ["FIGURES", "Comparison", "PaperFigure", "compare", "write_paper"]

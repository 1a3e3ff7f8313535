"""Which electrodes, moments and heads carry which meaning: the analyses of a run.

Each analysis is one file with a function from :class:`Material` to :class:`Finding`; the list is
:data:`ANALYSES`. To add one, write the file and its line in ``_registry.py``. The computations
themselves are plain functions in :mod:`eegprompt.attribution`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eegprompt.analyses.across_folds import explain_folds, load_folds
    from eegprompt.analyses.catalog import ANALYSES
    from eegprompt.analyses.context import Batch, Material
    from eegprompt.analyses.finding import Finding, Image, Omitted, load_findings

__all__ = [
    "ANALYSES",
    "Batch",
    "Finding",
    "Image",
    "Material",
    "Omitted",
    "explain_folds",
    "load_findings",
    "load_folds",
]

_HOMES = {
    "ANALYSES": "eegprompt.analyses.catalog",
    "Batch": "eegprompt.analyses.context",
    "Finding": "eegprompt.analyses.finding",
    "Material": "eegprompt.analyses.context",
    "Omitted": "eegprompt.analyses.finding",
    "Image": "eegprompt.analyses.finding",
    "explain_folds": "eegprompt.analyses.across_folds",
    "load_findings": "eegprompt.analyses.finding",
    "load_folds": "eegprompt.analyses.across_folds",
}


def __getattr__(name: str) -> Any:
    # The report reads findings without loading torch, which the material needs.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

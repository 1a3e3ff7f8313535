"""Which electrodes, moments and heads carry which meaning: the analyses of a run.

Each analysis is one file with a function from :class:`Material` to :class:`Finding`; the list is
:data:`ANALYSES`. To add one, write the file and its line in ``_registry.py``. The computations
themselves are plain functions in :mod:`eegprompt.interpret`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eegprompt.explanation._explain import explain
    from eegprompt.explanation._finding import Finding, Omitted, Picture, load_findings
    from eegprompt.explanation._material import Batch, Material
    from eegprompt.explanation._registry import ANALYSES
    from eegprompt.explanation.across_folds import explain_folds, load_folds

__all__ = [
    "ANALYSES",
    "Batch",
    "Finding",
    "Material",
    "Omitted",
    "Picture",
    "explain",
    "explain_folds",
    "load_findings",
    "load_folds",
]

_HOMES = {
    "ANALYSES": "eegprompt.explanation._registry",
    "Batch": "eegprompt.explanation._material",
    "Finding": "eegprompt.explanation._finding",
    "Material": "eegprompt.explanation._material",
    "Omitted": "eegprompt.explanation._finding",
    "Picture": "eegprompt.explanation._finding",
    "explain": "eegprompt.explanation._explain",
    "explain_folds": "eegprompt.explanation.across_folds",
    "load_findings": "eegprompt.explanation._finding",
    "load_folds": "eegprompt.explanation.across_folds",
}


def __getattr__(name: str) -> Any:
    # The report reads findings without loading torch, which the material needs.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

"""Which electrodes, time points and heads carry which meaning: the analyses of a run.

Each analysis is one file with a class below :class:`Analysis`, from a :class:`Context` to a
:class:`Finding`. To add one, write the file and its line in :data:`eegprompt.core.registry.GROUPS`;
one of one's own is named as ``module:Class``. The computations themselves are plain functions in
:mod:`eegprompt.attribution`.
"""

from __future__ import annotations

from eegprompt.analyses._findings import Answer, Finding, Image, Omitted, load_findings
from eegprompt.analyses.base import Analysis, Batch, Context, load_analysis, names

__all__ = [
    "Analysis",
    "Answer",
    "Batch",
    "Context",
    "Finding",
    "Image",
    "Omitted",
    "load_analysis",
    "load_findings",
    "names",
]

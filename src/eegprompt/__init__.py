"""Decode what a person was looking at from their EEG, through words that can be read."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module that holds it. Nothing is imported before it is used, so that
# `import eegprompt` stays quick and quiet.
_PUBLIC = {
    "Decoder": "eegprompt.decoder",
    "Fold": "eegprompt.study.split",
    "Run": "eegprompt.run",
    "Split": "eegprompt.study.split",
    "Study": "eegprompt.study",
    "ablate": "eegprompt.steps.ablate",
    "adapt": "eegprompt.steps.adapt",
    "audit": "eegprompt.steps.audit",
    "caption": "eegprompt.steps.caption",
    "check_plugin": "eegprompt.steps.check_plugin",
    "decode": "eegprompt.steps.decode",
    "generate": "eegprompt.steps.generate",
    "evaluate": "eegprompt.steps.evaluate",
    "explain": "eegprompt.steps.explain",
    "load_config": "eegprompt.settings",
    "dry_run": "eegprompt.steps.dry_run",
    "experiment": "eegprompt.steps.experiment",
    "import_": "eegprompt.steps.import_",
    "info": "eegprompt.steps.info",
    "report": "eegprompt.steps.report",
    "simulate": "eegprompt.steps.simulate",
    "split": "eegprompt.steps.split",
    "train": "eegprompt.steps.train",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'eegprompt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)

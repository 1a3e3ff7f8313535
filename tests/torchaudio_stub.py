"""Let braindecode be imported where torchaudio does not load beside a CPU build of torch.

braindecode imports torchaudio for filters that none of the baselines uses; the names it takes are
given here, and using one fails.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from typing import Any


def have_braindecode() -> bool:
    """Import braindecode, with a stand-in for torchaudio where that cannot be imported."""
    import importlib.util

    if importlib.util.find_spec("braindecode") is None:
        return False
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        declared = _declare()
    else:
        declared = []
    try:
        import braindecode.models  # noqa: F401
    except ImportError:  # something else that it imports is missing
        return False
    finally:
        for name in declared:  # transformers would take the stand-in for the real one
            del sys.modules[name]
    return True


def _declare() -> list[str]:
    import torch

    def named(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})

    parent = types.ModuleType("torchaudio")
    for part in ("", ".functional", ".transforms"):
        module = parent if not part else types.ModuleType(f"torchaudio{part}")
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        if part:
            module.__getattr__ = named  # type: ignore[method-assign]
            setattr(parent, part[1:], module)
        sys.modules[module.__name__] = module
    return ["torchaudio", "torchaudio.functional", "torchaudio.transforms"]

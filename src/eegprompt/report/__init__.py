"""One HTML file that shows a run to a colleague: what was run, what came out, and the evidence.

The file stands alone: styles, charts and pictures are inside it, it asks nothing of the network
and runs no script. See :func:`write_report`, and :func:`summary_table` for the same figures as
rows of text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eegprompt.report.page import write_report
    from eegprompt.report.summary import summary_table, summary_text

__all__ = ["summary_table", "summary_text", "write_report"]

_HOMES = {
    "write_report": "eegprompt.report.page",
    "summary_table": "eegprompt.report.summary",
    "summary_text": "eegprompt.report.summary",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

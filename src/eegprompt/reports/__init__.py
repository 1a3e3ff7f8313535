"""One HTML file that shows a run to a colleague: what was run, what came out, and the evidence.

The file stands alone: styles, charts and images are inside it, it asks nothing of the network
and runs no script. See :func:`write_report`, and :func:`summary_table` for the same figures as
rows of text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eegprompt.reports.html import write_report
    from eegprompt.reports.terminal import summary_table, summary_text

__all__ = ["summary_table", "summary_text", "write_report"]

_HOMES = {
    "write_report": "eegprompt.reports.html",
    "summary_table": "eegprompt.reports.terminal",
    "summary_text": "eegprompt.reports.terminal",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

"""How an object shows itself in a notebook: its name and a table of facts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

__all__ = ["facts_html"]


def facts_html(title: str, facts: Mapping[str, Any]) -> str:
    """A small table, everything escaped.

    Examples
    --------
    >>> facts_html("Study", {"trials": 3})
    '<b>Study</b><table><tr><td>trials</td><td>3</td></tr></table>'
    """
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<b>{html.escape(title)}</b><table>{rows}</table>"

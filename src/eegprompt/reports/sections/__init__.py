"""The report's sections, each a module with ``build(material)`` and a template of its own.

``build`` gives a :class:`Section`, or None where there is nothing to say. To add one, write
``sections/NAME.py`` and ``templates/sections/NAME.html.jinja`` and put NAME in its place below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SECTIONS", "Section"]

SECTIONS: tuple[str, ...] = (
    "summary",
    "images",
    "scores",
    "heads",
    "interpretation",
    "published",
    "ablations",
    "training",
    "facts",
    "repeat",
    "glossary",
)


@dataclass(frozen=True)
class Section:
    """One section of the report.

    Parameters
    ----------
    key : str
        Anchor, and name of its template.
    title : str
        Heading.
    data : dict
        What its template shows, as ``data``.
    short : str
        Heading in the navigation; `title` if empty.
    """

    key: str
    title: str
    data: dict[str, Any] = field(default_factory=dict)
    short: str = ""

    @property
    def template(self) -> str:
        """File of the template."""
        return f"sections/{self.key}.html.jinja"

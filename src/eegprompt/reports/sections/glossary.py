"""The words of the report, explained."""

from __future__ import annotations

from eegprompt.reports.contents import Material
from eegprompt.reports.sections import Section
from eegprompt.reports.wording import GLOSSARY

__all__ = ["build"]


def build(material: Material) -> Section:
    """The glossary."""
    return Section("glossary", "Words", {"entries": GLOSSARY})

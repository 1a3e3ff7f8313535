"""The words of the report, explained."""

from __future__ import annotations

from eegprompt.report.material import Material
from eegprompt.report.sections import Section
from eegprompt.report.words import GLOSSARY

__all__ = ["build"]


def build(material: Material) -> Section:
    """The glossary."""
    return Section("glossary", "Words", {"entries": GLOSSARY})

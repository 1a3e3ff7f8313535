"""What ``eegprompt explain`` found: each analysis with its figures, its limits and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eegprompt.reports.contents import Material, RunMaterial
from eegprompt.reports.data_uris import figure_uri
from eegprompt.reports.sections import Section

if TYPE_CHECKING:
    from eegprompt.analyses import Finding

__all__ = ["View", "build", "view"]

SIMULATED = (
    "The recording is simulated. That a map, a latency or a level comes out where it was planted "
    "shows that the method can find it; that moods were planted in frontal sources, and after "
    "objects, is an assumption of the simulation and says nothing about brains."
)


@dataclass(frozen=True)
class View:
    """A finding as it is shown."""

    name: str
    title: str
    badge: tuple[str, str] | None
    seen: str
    not_concluded: str
    figures: list[tuple[str, str, int]]
    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    notes: list[str]


def build(material: Material) -> Section | None:
    """All findings of the run; over folds, those of all together, then those of the first fold
    that was explained, and in words those of the others."""
    explained = [run for run in material.runs if run.findings]
    if not explained:
        return None
    first, *others = explained
    together = material.findings_together
    return Section(
        "interpretation",
        "What carries the meaning",
        {
            "label": first.label,
            "findings": [view(finding) for finding in first.findings],
            "others": [
                (run.label, [view(f, images=False) for f in run.findings]) for run in others
            ],
            "together": None if together is None else view(together),
            "simulated": SIMULATED if material.simulated else "",
            "outdated": [run.label or "this run" for run in explained if _outdated(run)],
        },
        short="Interpretation",
    )


def view(finding: Finding, *, images: bool = True) -> View:
    """Make a finding ready to be shown.

    Parameters
    ----------
    finding : Finding
        As read from the run.
    images : bool
        Whether its figures are put into the page.
    """
    figures = []
    for image in finding.figures if images else ():
        found = figure_uri(image.png)
        if found is not None:
            figures.append((found[0], image.caption, found[1]))
    names = list(dict.fromkeys(name for row in finding.table for name in row))
    numeric = [all(_is_number(row.get(name)) for row in finding.table) for name in names]
    badge = None
    if finding.verdict:
        css = {True: "good", False: "bad", None: ""}[finding.good]
        badge = (css, finding.verdict)
    return View(
        finding.name,
        finding.title,
        badge,
        finding.seen,
        finding.not_concluded,
        figures,
        list(zip(names, numeric)),
        [[_cell(row.get(name)) for name in names] for row in finding.table],
        finding.notes,
    )


def _outdated(run: RunMaterial) -> bool:
    """Whether the run was decoded anew after it was explained."""
    return any(
        run.provenance.get(f"explain {finding.name}", {}).get("decoded")
        != run.provenance.get("decode", {}).get("key")
        for finding in run.findings
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value).replace("-", "−") if isinstance(value, int) else str(value)

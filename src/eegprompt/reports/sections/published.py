"""The run beside a publication: its Table 1 with the published rows, and where its figures lie."""

from __future__ import annotations

from eegprompt.core.errors import RunError
from eegprompt.core.files import read_json
from eegprompt.publication import CONTENTS, PUBLISHED, TABLE, Cell, compare
from eegprompt.reports.contents import Material
from eegprompt.reports.data_uris import figure_uri
from eegprompt.reports.sections import Section

__all__ = ["build"]


def build(material: Material) -> Section | None:
    """Table and figures; None where the run was put beside nothing published, or has no scores."""
    folder = material.path / "paper"
    if not (folder / PUBLISHED).exists() or not (material.path / "scores.json").exists():
        return None
    table = compare(material.path, folder / PUBLISHED)
    contents = folder / CONTENTS
    figures = []
    if contents.exists():
        figures = read_json(contents, error=RunError, schema="published figures")
    explained = {finding.name for run in material.runs for finding in run.findings}
    shown = []
    for figure in figures:
        plate = None
        if figure["file"] and not figure["finding"]:  # the others stand where they were explained
            plate = figure_uri(folder / f"{figure['file']}.png")
        anchor = f"#finding-{figure['finding']}" if figure["finding"] in explained else ""
        shown.append({**figure, "plate": plate, "anchor": anchor})
    return Section(
        "published",
        "Beside published scores",
        {
            "headings": table.headings,
            "rows": [
                (row, [_lines(row.cells.get(m)) for m in table.metrics]) for row in table.rows
            ],
            "notes": table.notes,
            "figures": shown,
            "folder": folder.name,
            "table": TABLE,
        },
        short="Published",
    )


def _lines(cell: Cell | None) -> tuple[str, str]:
    """A number, and its spread or interval on a line of its own."""
    if cell is None:
        return "–", ""
    value, *more = str(cell).replace("-", "−").split(" ", 1)
    return value, "".join(more)

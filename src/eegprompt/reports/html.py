"""Put the sections together into one file."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eegprompt.core.files import write_page
from eegprompt.reports import charts
from eegprompt.reports import wording as words
from eegprompt.reports.contents import Material, bring_up_to_date
from eegprompt.reports.sections import SECTIONS, Section
from eegprompt.run import Run

__all__ = ["render", "write_report"]

_HERE = Path(__file__).parent


def write_report(run: Run | str | Path, out: str | Path | None = None) -> Path:
    """Write a run's report: one HTML file that needs nothing beside it.

    What the run does not have yet is named in the report, so it can be written after any step.

    Parameters
    ----------
    run : Run or path-like
        A run, its folder, or the parent folder of a run over folds.
    out : path-like, optional
        The file to write; ``report.html`` in the folder of `run` by default.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    RunError
        If `run` is no run, or one of its files is broken.
    StorageError
        If the file cannot be written.
    """
    bring_up_to_date(run)
    material = Material.gather(run)
    path = Path(out) if out is not None else material.path / "report.html"
    return write_page(path, render(material), material.path)


def render(material: Material) -> str:
    """The report as HTML text.

    Parameters
    ----------
    material : Material
        What the run left on disk.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        forest=charts.forest,
        axis=charts.axis,
        number=words.number,
        fixed=words.fixed,
        p_value=words.p_value,
        plural=words.plural,
    )
    built: list[Section] = []
    for name in SECTIONS:
        module = importlib.import_module(f"eegprompt.reports.sections.{name}")
        section = module.build(material)
        if section is not None:
            built.append(section)
    from eegprompt.reports.sections.facts import header

    context: dict[str, Any] = {
        "style": (_HERE / "templates" / "style.css").read_text("utf-8"),
        "sections": built,
        "header": header(material),
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return environment.get_template("page.html.jinja").render(context)

"""The folder ``paper/`` of a run: Table 1 and Figures 2 to 5 under the paper's own numbers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from eegprompt.core.files import Ours, atomic_directory, write_json, write_text
from eegprompt.publication.figure_images import chosen_trials, figure_of
from eegprompt.publication.published_table import compare
from eegprompt.run import Run, fold_runs

__all__ = ["CONTENTS", "FIGURES", "PUBLISHED", "TABLE", "PaperFigure", "write_paper"]

TABLE = "table-1"
PUBLISHED = "published.csv"
CONTENTS = "figures.json"
_TITLE = "Table 1, with the published rows"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper, and where a run has its like.

    Parameters
    ----------
    number : int
        In the paper.
    title : str
        What it shows.
    finding : str
        The analysis that draws it; empty where :func:`write_paper` does.
    stem : str
        Name of that analysis's figure, without suffix.
    """

    number: int
    title: str
    finding: str = ""
    stem: str = ""

    @property
    def name(self) -> str:
        """Name of its files, without suffix."""
        return f"figure-{self.number}"


FIGURES = (
    PaperFigure(2, "What was seen and what was drawn from the EEG"),
    PaperFigure(3, "t-SNE of the encoder's outputs by head", "geometry", "geometry-heads"),
    PaperFigure(4, "Saliency by level", "attribution", "attribution-topographies"),
    PaperFigure(5, "How often each head is the most confident", "confidence", "confidence-shares"),
)
"""The paper's figures that a run can have. Its Figure 1 is a drawing of the method."""


_OURS = Ours(
    "a table and figures of a run",
    (CONTENTS,),
    (
        *(CONTENTS, PUBLISHED, "README.md", f"{TABLE}.md", f"{TABLE}.csv"),
        *(f"{figure.name}.*" for figure in FIGURES),
    ),
)


def write_paper(out: str | Path, published: str | Path) -> Path:
    """Write a run's ``paper/``: table, figures, and a page that says what is what.

    Parameters
    ----------
    out : path-like
        A run's folder, or the parent of a run over folds, whose first fold then gives the figures.
    published : path-like
        CSV of published scores, as :func:`compare` takes it.

    Returns
    -------
    pathlib.Path
        The folder. Figures that the run does not have are named in its ``README.md``.

    Raises
    ------
    InputError
        If the published scores cannot be read.
    RunError
        If the run has no scores.
    """
    out = Path(out)
    table = compare(out, published)
    folds = [] if (out / "config.yaml").exists() else fold_runs(out)
    run = Run(folds[0] if folds else out)
    with atomic_directory(out / "paper", overwrite=True, ours=_OURS) as folder:
        shutil.copyfile(published, folder / PUBLISHED)
        write_text(folder / f"{TABLE}.md", table.markdown(_TITLE))
        write_text(folder / f"{TABLE}.csv", table.csv())
        lines = [
            "# The paper's table and figures, from this run",
            "",
            *(f"- {note}" for note in table.notes[:1]),
            *([f"- Figures are of the first of {len(folds)} folds."] if folds else []),
            "",
            f"**Table 1**: [{TABLE}.md]({TABLE}.md), [{TABLE}.csv]({TABLE}.csv)",
        ]
        contents = []
        for figure in FIGURES:
            caption, there = _put(figure, run, folder)
            contents.append(
                {
                    "number": figure.number,
                    "title": figure.title,
                    "caption": caption,
                    "file": figure.name if there else None,
                    "finding": figure.finding or None,
                }
            )
            links = (
                f" [{figure.name}.svg]({figure.name}.svg), [{figure.name}.png]({figure.name}.png)"
            )
            said = caption + links if there else f"Not there: {caption}"
            lines += ["", f"**Figure {figure.number}. {figure.title}.** {said}"]
        write_json(folder / CONTENTS, contents)
        if (out / "ablation" / "ablation.md").exists():
            lines += [
                "",
                "**Section 4.4, ablations**: [../ablation/ablation.md](../ablation/ablation.md)",
            ]
        lines += ["", "Figure 1 is a drawing of the method, and no result."]
        write_text(folder / "README.md", "\n".join(lines) + "\n")
    return out / "paper"


def _put(figure: PaperFigure, run: Run, folder: Path) -> tuple[str, bool]:
    """Put one figure into the folder; give its caption and True, or why it is not there and False."""
    from eegprompt.analyses import load_findings
    from eegprompt.figures.style import save_figure

    if not figure.finding:
        chosen = chosen_trials(run)
        if not chosen:
            return f"nothing was drawn; 'eegprompt generate {run.path}'.", False
        drawn, caption = figure_of(run, chosen)
        save_figure(drawn, folder / figure.name)
        return caption, True
    for finding in load_findings(run.path, [figure.finding]):
        for image in finding.figures:
            if image.path.stem == figure.stem and image.png.exists():
                shutil.copyfile(image.path, folder / f"{figure.name}.svg")
                shutil.copyfile(image.png, folder / f"{figure.name}.png")
                return image.caption, True
        return finding.seen, False
    return f"not explained; 'eegprompt explain {run.path}'.", False

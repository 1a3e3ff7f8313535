"""The table of an ablation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eegprompt.settings import ExperimentConfig

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["BY_HEAD", "MEASURES", "ablation_table"]

MEASURES: dict[str, tuple[str, bool]] = {
    "retrieval_within_class": ("caption retrieval within class, top 1, mean over heads", True),
    "retrieval": ("caption retrieval, top 1, mean over heads", True),
    "image_retrieval_within_class": ("which image, by all heads, within class, top 1", True),
    "image_retrieval": ("which image, by all heads, top 1", True),
    "class_accuracy": ("category by all heads", True),
    "two_way_within_class": ("two-way identification of images within class", True),
    "two_way": ("two-way identification of images", True),
    "inception_score": ("inception score of the images", True),
    "kid": ("KID of the images", False),
}


BY_HEAD = "retrieval_of_head"


def design_of(study: Study, config: ExperimentConfig) -> str:
    """What the audit says of the study and split that were compared on, and what was allowed.

    Parameters
    ----------
    study : Study
    config : ExperimentConfig

    Returns
    -------
    str
        A sentence or two, to stand wherever the numbers do.
    """
    from eegprompt.confounds.record import read_audit

    found = read_audit(study, config.split)
    if found is None or found["stale"]:
        state = "not audited" if found is None else "changed since its audit"
        said = f"Design {state}: 'eegprompt audit STUDY --split {config.split}' looks."
    else:
        said = f"Design {found['verdict']}: {found['summary']}"
    return said + (
        f" Allowed leakage: {', '.join(config.allow_leakage)}." if config.allow_leakage else ""
    )


def ablation_table(
    rows: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    *,
    stamp: str = "",
    failed: Sequence[str] = (),
) -> str:
    """The rows as a Markdown page, one table an axis.

    Parameters
    ----------
    rows : sequence of dict
        From :func:`ablate`.
    seeds : sequence of int
        That they are means over.
    stamp : str
        What is said of the design, above the tables.
    failed : sequence of str
        Variants that could not be measured and why, below the tables.

    Returns
    -------
    str
    """
    lines = [
        "# Ablations",
        "",
        *([stamp, ""] if stamp else []),
        (
            f"Mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
            if len(seeds) > 1
            else f"One seed ({seeds[0]}): nothing here says how much another would differ"
        )
        + ", and chance. In brackets: difference from the first row, 95 % interval and p by a bootstrap "
        "over images, the same resamples for both, averaged over seeds; it does not count the "
        "spread between seeds.",
    ]
    for axis in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == axis]
        measures = [m for m in MEASURES if any(row["measure"] == m for row in mine)]
        lines += [
            "",
            f"## {axis}",
            "",
            "| variant | " + " | ".join(MEASURES[m][0] for m in measures) + " |",
            "|---" * (len(measures) + 1) + "|",
        ]
        for variant in dict.fromkeys(row["variant"] for row in mine):
            cells = {row["measure"]: _cell(row) for row in mine if row["variant"] == variant}
            lines.append(f"| {variant} | " + " | ".join(cells.get(m, "–") for m in measures) + " |")
        without = dict.fromkeys(
            f"{MEASURES[row['measure']][0] if row['measure'] in MEASURES else row['head']} – "
            f"{row['no_interval']}"
            for row in mine
            if row.get("no_interval")
        )
        if without:
            lines += ["", f"Differences without interval and p: {'; '.join(without)}."]
        lines += _heads_table(mine)
    if failed:
        lines += ["", "## Not measured", "", *(f"- {each}" for each in failed)]
    return "\n".join(lines) + "\n"


def _heads_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each head's retrieval by variant, where variants differ in it, and how often it is lower."""
    mine = [row for row in rows if row["measure"] == BY_HEAD]
    if not any(row["difference"] for row in mine):
        return []
    heads = list(dict.fromkeys(row["head"] for row in mine))
    lines = [
        "",
        "Each head's caption retrieval, top 1:",
        "",
        "| variant | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    said = []
    for variant in dict.fromkeys(row["variant"] for row in mine):
        of = {row["head"]: row for row in mine if row["variant"] == variant}
        cells = [_cell({**of[h], "difference": None}) if h in of else "–" for h in heads]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
        both = [row for row in of.values() if row["difference"] is not None]
        lower = sum(row["difference"] < 0 for row in both)
        if both:
            said.append(f"{variant} is below {both[0]['compared_with']} in {lower} of {len(both)}")
    return [*lines, "", f"By head: {'; '.join(said)}."]


def _cell(row: dict[str, Any]) -> str:
    text = f"{row['mean']:.3f}"
    if row["sd"] is not None:
        text += f" ± {row['sd']:.3f}"
    if row.get("chance") is not None:
        text += f" (chance {row['chance']:.3f})"
    if row["difference"] is not None:
        text += f" [{row['difference']:+.3f}"
        if row["p"] is not None:
            with suppress(TypeError):
                text += f"; {row['lo']:+.3f}, {row['hi']:+.3f}; p = {row['p']:.3f}"
        text += "]"
    return text

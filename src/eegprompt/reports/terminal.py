"""The scores as rows of text, for a terminal."""

from __future__ import annotations

from pathlib import Path

from eegprompt.reports.contents import Material, bring_up_to_date
from eegprompt.reports.sections.scores import blocks
from eegprompt.reports.wording import p_value
from eegprompt.run import Run

__all__ = ["summary_table", "summary_text"]

COLUMNS = ("metric", "scope", "value", "chance", "p", "floor", "ceiling", "n")
_GROUP_ORDER = ("within", "category", "caption", "image", "other")


def summary_table(run: Run | str | Path, *, heads: bool = True) -> list[dict[str, str]]:
    """Scores as rows of text, in the order of the report: within class first.

    An audit made since the scores is stamped on them.

    Parameters
    ----------
    run : Run or path-like
        A run, its folder, or the parent folder of a run over folds.
    heads : bool
        Also one row a head for top-1 retrieval; other scores of single heads
        and subjects are left to the
        report.

    Returns
    -------
    list of dict
        With the keys ``metric scope value chance p floor ceiling n``, all text. ``value`` holds
        the interval; ``p`` is corrected (Holm) where a corrected one exists.

    Raises
    ------
    RunError
        If `run` is no run or one of its files is broken.
    """
    bring_up_to_date(run)
    found = blocks(Material.gather(run).scores)
    found.sort(key=lambda b: _GROUP_ORDER.index(b.group))
    table = []
    for block in found:
        for row in block.rows:
            score = row.score
            if score.member and (not heads or score.what.key != "retrieval_top1"):
                continue
            name = f"{score.what.label}: {score.head}" if score.per_head else score.what.label
            if score.features:
                name += f" [{score.features}]"
            table.append(
                {
                    "metric": name,
                    "scope": score.scope or "all",
                    "value": f"{score.text} {score.interval}".strip(),
                    "chance": score.fmt(score.chance),
                    "p": p_value(score.best_p),
                    "floor": score.fmt(row.floor),
                    "ceiling": score.fmt(row.ceiling),
                    "n": row.count,
                }
            )
    return table


def summary_text(run: Run | str | Path, *, heads: bool = True) -> str:
    """The rows of :func:`summary_table` as aligned plain text."""
    rows = summary_table(run, heads=heads)
    if not rows:
        return "no scores yet; run 'eegprompt evaluate'"
    lines = [{c: c for c in COLUMNS}, *rows]
    widths = {c: max(len(line[c]) for line in lines) for c in COLUMNS}
    return "\n".join(
        "  ".join(line[c].ljust(widths[c]) for c in COLUMNS).rstrip() for line in lines
    )

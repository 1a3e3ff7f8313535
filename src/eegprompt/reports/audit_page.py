"""An audit as a page: each check with its figure, for someone who never heard of the confound."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from eegprompt.core.files import write_page
from eegprompt.core.fold_sentences import merge_sentences
from eegprompt.reports import charts
from eegprompt.reports import wording as words
from eegprompt.study import Study

__all__ = ["BADGES", "leaks_once", "write_audit_page"]

_HERE = Path(__file__).parent

BADGES = {"clean": "good", "suspect": "warn", "confounded": "bad", "unknown": "warn"}

_SOURCES = {
    "order": "a trial beside it in time",
    "block": "another trial of its block",
    "run": "another trial of its run",
    "session": "another trial of its session",
    "recording": "another trial of its recording",
}
_SIDE_WORDS = {"train": "training", "val": "selection", "test": "test"}


def write_audit_page(study: Study, audit: dict[str, Any], out: str | Path | None = None) -> Path:
    """Write the page of one audit: one HTML file that needs nothing beside it.

    Parameters
    ----------
    study : Study
        What was audited.
    audit : dict
        From :func:`eegprompt.steps.audit.audit`.
    out : path-like, optional
        The file to write; ``audit-SPLIT.html`` in the study's folder by default.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(plural=words.plural)
    checks = audit["checks"]
    context = {
        "style": (_HERE / "templates" / "style.css").read_text("utf-8"),
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "study": study,
        "audit": audit,
        "css": BADGES.get(audit["verdict"], "warn"),
        "timeline": _timeline(checks["design"]["timeline"]),
        "sides": _sides(checks["design"]["timeline"]) if audit["split"] else None,
        "guesses": _bars(
            [(f"from {_SOURCES[s['source']]}", s, s["one_class"] or _low(s.get("p_holm"), audit))
             for s in checks["design"]["sources"]], p="p_holm",
        ),
        "time": _bars([("stretch of time, within a class", d, d["above_chance"])
                       for d in [checks["time"]["decoding"]] if d]),
        "early": _bars([("class, before any response", d, d["above_chance"])
                        for d in [checks["prestimulus"]["decoding"]] if d]),
        "decoders": _bars([(r["label"], r, r["above_chance"]) for r in checks["decoders"]["rows"]]),
        "distance": _distance(checks["decoders"], study),
        "leaks": _leaks(audit),
        "steps": _steps(audit),
        "many": len(study.categories) > 1,
        "accounting": _accounting(study),
    }  # fmt: skip
    name = audit["split"] or "no-split"
    path = Path(out) if out is not None else study.path / f"audit-{name}.html"
    page = environment.get_template("audit.html.jinja").render(context)
    return write_page(path, page, study.path)


def _accounting(study: Study) -> list[tuple[str, int]]:
    """Lines on what became of the source's events; none for a study that was made of no source."""
    if study.accounting is None:
        return []
    labels = {"found": "events found", "trials": "trials of the study"}
    return [(labels.get(what, what), count) for what, count in study.accounting.words().items()]


def _low(p: float | None, audit: dict[str, Any]) -> bool:
    return p is not None and p < audit["alpha"]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"


def _bars(rows: list[tuple[str, dict[str, Any], bool]], p: str = "p") -> dict[str, Any] | None:
    """Lines of a chart: each an accuracy beside its chance, on one axis."""
    rows = [r for r in rows if r[1].get("accuracy") is not None and r[1].get("chance") is not None]
    if not rows:
        return None
    values = [v for _, d, _ in rows for k in ("accuracy", "chance", "lo", "hi")
              if (v := d.get(k)) is not None]  # fmt: skip
    scale = charts.Scale.of(values, "proportion", zero=True)
    lines = []
    for label, d, found in rows:
        interval = f"{_percent(d['lo'])} to {_percent(d['hi'])}" if d.get("lo") is not None else ""
        lines.append(
            {
                "label": label,
                "accuracy": _percent(d["accuracy"]),
                "interval": interval,
                "chance": _percent(d["chance"]),
                "p": words.p_value(d.get(p)),
                "found": found,
                "share": d.get("share"),
                "chart": charts.forest(
                    scale, d["accuracy"], d.get("lo"), d.get("hi"), chance=d["chance"],
                    hollow=not found, title=f"{label}: {_percent(d['accuracy'])}, chance "
                    f"{_percent(d['chance'])}",
                ),
            }
        )  # fmt: skip
    return {"lines": lines, "axis": charts.axis(scale)}


def _timeline(
    found: dict[str, Any], width: int = 920, what: str = "Which class was shown when"
) -> Markup | None:
    """What was when: a mark a trial, a row a class."""
    if not found or len(found["shown"]) < 2:
        return None
    shown, names = found["shown"], found["classes"]
    n, rows = len(shown), max(len(names), 1)
    most = 24
    step = 13 if rows <= most else max(most * 13 // rows, 2)
    left = 104 if rows <= most else 8
    height = rows * step + 34
    cell = (width - left - 8) / n
    body = []
    if rows <= most:
        for i, name in enumerate(names):
            short = name if len(name) <= 15 else name[:14] + "…"
            body.append(f'<text x="{left - 8}" y="{i * step + 11}" text-anchor="end">{escape(short)}'
                        "</text>")  # fmt: skip
    body.extend(
        f'<rect x="{left + i * cell:.2f}" y="{c * step + 2}" width="{max(cell, 1.1):.2f}" '
        f'height="{max(step - 3, 1.5)}" fill="var(--accent)"/>'
        for i, c in enumerate(shown)
    )
    for place in found["breaks"]:
        x = f"{left + place * cell:.2f}"
        body.append(f'<line class="marked" x1="{x}" x2="{x}" y1="0" y2="{rows * step + 2}"/>')
    base = rows * step + 5
    body.append(f'<line class="base" x1="{left}" x2="{width - 8}" y1="{base}" y2="{base}"/>')
    body.append(f'<text class="name" x="{left}" y="{base + 17}">first trial</text>')
    body.append(
        f'<text class="name" x="{width - 8}" y="{base + 17}" text-anchor="end">trial {n:,}</text>'
    )
    title = f"{what}, subject {found['subject']}: {n} trials, {rows} rows"
    return Markup(
        f'<svg class="chart lines" viewBox="0 0 {width} {height}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{"".join(body)}</svg>'
    )


def _sides(found: dict[str, Any]) -> Markup | None:
    """Which side of the split each trial is on, in the order of showing."""
    names = ["training", "selection", "test", "left out"]
    if not found:
        return None
    used = sorted(set(found["sides"]))
    return _timeline(
        {
            **found,
            "classes": [names[s] for s in used],
            "shown": [used.index(s) for s in found["sides"]],
        },
        what="Which side of the split each trial is on",
    )


def _distance(found: dict[str, Any], study: Study) -> Markup | None:
    """Accuracy against the time to the nearest training trial."""
    bins = found["distance"]
    if len(bins) < 2:
        return None
    chance = next(r["chance"] for r in found["rows"] if r["decoder"] == "full")
    middle = [(b["near"] + b["far"]) / 2 for b in bins]
    seconds = study.trials["onset"].notna().all()
    return charts.line_chart(
        [
            charts.Line("full decoder", middle, [b["accuracy"] for b in bins]),
            charts.Line("chance", [middle[0], middle[-1]], [chance, chance], "source", "4 3"),
        ],
        x_label=f"{'seconds' if seconds else 'trials'} to the nearest training trial",
        y_label="trials decoded rightly",
        title="Accuracy against the time to the nearest training trial",
        unit="proportion",
        zero=True,
    )


def _leaks(audit: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of sides, and what they share, said once for all folds."""
    return [
        (
            f"{_SIDE_WORDS[a].capitalize()} and {_SIDE_WORDS[b]}",
            "; ".join(leaks_once(audit, (a, b))) or "nothing shared",
        )
        for a, b in (("train", "val"), ("train", "test"), ("val", "test"))
    ]


def leaks_once(audit: dict[str, Any], sides: tuple[str, str] | None = None) -> list[str]:
    """What sides of an audit's split share, each once for all folds that share it.

    Parameters
    ----------
    audit : dict
        From :func:`eegprompt.steps.audit.audit`.
    sides : tuple of str, optional
        One pair of sides; default: all pairs.
    """
    by_fold: list[list[str]] = [[] for _ in range(audit["folds"])]
    for leak in audit["leaks"]:
        if sides is None or tuple(leak["sides"]) == sides:
            by_fold[leak["fold"]].append(leak["words"])
    return merge_sentences(by_fold, [f"fold {i}" for i in range(len(by_fold))])


def _steps(audit: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The questions that make the verdict: question, answer, css."""
    checks = audit["checks"]
    share = checks["decoders"]["nuisance_share"]
    early = checks["prestimulus"]["decoding"]
    return [
        (
            "D · Can the class be told from when a trial was shown?",
            "yes" if checks["design"]["found"] else
            "no" if checks["design"]["order_known"] else "not known",
            "bad" if checks["design"]["found"] else "good",
        ),
        (
            "T · Can the EEG tell time within a class?",
            ("yes" if checks["time"]["found"] else "no") if checks["time"]["decoding"] else
            "not looked at",
            "plain",
        ),
        (
            "P · Can the class be decoded before any response?",
            ("yes" if checks["prestimulus"]["found"] else "no") if early else "not looked at",
            "bad" if checks["prestimulus"]["found"] else "plain",
        ),
        (
            "How much of the best decoder's gain does a nuisance (mean, variance, band power, slow "
            "part) reach alone?",
            f"{share:.0%}" if share is not None else
            "nothing is decodable" if audit["decodable"] is False else "none is above chance",
            "plain",
        ),
    ]  # fmt: skip

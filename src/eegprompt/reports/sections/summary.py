"""In short: what was done in plain words, and the figures that matter most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from eegprompt.reports.charts import Scale, axis, dot_strip, forest
from eegprompt.reports.contents import Material
from eegprompt.reports.sections import Section
from eegprompt.reports.sections.scores import ALPHA, Block, Row, blocks
from eegprompt.reports.wording import p_value, plural, spelled

__all__ = ["Tile", "build"]

SHOWN = (None, "", "eeg", "floor", "ceiling")
POOLS = {"train": "the training images", "test": "the test images", "all": "all images"}


@dataclass
class Tile:
    """One headline figure with everything that must stand beside it."""

    title: str
    value: str
    interval: str
    sentence: str
    verdict: str
    good: bool | None
    chart: Markup
    beside: list[tuple[str, str]] = field(default_factory=list)
    caution: str = ""


def build(material: Material) -> Section:
    """Lede and tiles."""
    found = blocks(material.scores)
    heads = None
    if not material.one_finding:  # else the category says it all
        heads = (
            _heads_tile(found, "retrieval_top1", within=True)
            or _heads_tile(found, "retrieval_top1", within=False)
            or _heads_tile(found, "retrieval_class", within=False)
        )
    wanted = (
        heads,
        _category_tile(found, material),
        _image_tile(found, within=False),
        _image_tile(found, within=True),
    )
    tiles = [tile for tile in wanted if tile is not None]
    return Section(
        "summary",
        "In short",
        {"lede": lede(material), "tiles": tiles, "is_range": material.spread_is_range},
    )


def lede(material: Material) -> list[str]:
    """What was done, in plain sentences."""
    study, sentences = material.study, []
    if study is not None:
        known = study.image_identity == "known"
        kind = "simulated " if material.simulated else ""
        who = spelled(len(study.subjects), f"{kind}person", f"{kind}people")
        seen = (
            f"{plural(len(study.images), 'image')} of {len(study.categories)} categories"
            if known
            else f"images of {len(study.categories)} categories ({', '.join(study.categories)})"
            if len(study.categories) <= 4
            else f"images of {len(study.categories)} categories"
        )
        sentences.append(
            f"{who[:1].upper() + who[1:]} looked at {seen} while EEG was recorded from "
            f"{plural(study.n_chans, 'channel')}."
            if not material.simulated
            else f"The EEG of {who} looking at {seen} was simulated at "
            f"{plural(study.n_chans, 'electrode')}."
        )
        if material.over_folds:
            sentences.append(
                f"A decoder was trained {spelled(len(material.runs), 'time')}, each time leaving "
                f"other trials out for the test (split “{material.first.config.get('split')}”)."
            )
        elif material.first.fold is not None:
            fold = material.first.fold
            tested = plural(len(fold.test), "trial")
            if known:
                images = study.trials["image_id"].to_numpy()
                test, train = np.unique(images[fold.test]), np.unique(images[fold.train])
                new = len(np.setdiff1d(test, train))
                tested += f" of {plural(len(test), 'image')}" + (
                    ", none of which it had met in training"
                    if new == len(test)
                    else f", {new} of which it had not met in training"
                )
            sentences.append(
                f"A decoder learned from {plural(len(fold.train), 'trial')}, was selected on "
                f"{len(fold.val):,} others, and was then asked about {tested}."
            )
    heads = len(material.first.kinds)
    if any(r.decodings is not None for r in material.runs):
        pool = POOLS.get(str(material.first.setting("decoding.pool", "")), "")
        told = f"For each trial, {spelled(heads, 'head')} retrieved the nearest captions" + (
            f" among those of {pool}" if pool else ""
        )
        if any(r.drawn("eeg") for r in material.runs):
            told += "; joined into a prompt, they told a frozen generator what to draw"
        sentences.append(told + ".")
    if material.one_finding:
        sentences.append(material.one_finding)
    return sentences


def _pick(
    found: list[Block], key: str, *, within: bool, many: str = ""
) -> tuple[Block, Row] | tuple[None, None]:
    """The last row of a kind, with its block: of several layers of features, the latest."""
    fitting = [
        (b, r)
        for b in found
        for r in b.rows
        if r.score.what.key == key and r.score.within_class == within and b.many == many
    ]
    return fitting[-1] if fitting else (None, None)


def _heads_tile(found: list[Block], key: str, *, within: bool) -> Tile | None:
    block, _ = _pick(found, key, within=within, many="head")
    if block is None:
        return None
    rows = [r for r in block.rows if r.score.value is not None and r.score.chance]
    if not rows:
        return None
    tested = [r for r in rows if r.score.best_p is not None]
    ratios = [float(r.score.value or 0) / float(r.score.chance or 1) for r in rows]
    corrected = bool(tested) and all(r.score.p_holm is not None for r in tested)
    scope = ", within class" if within else ""
    dots = [
        (
            ratio,
            f"{r.css} hollow" if r.hollow else r.css,
            r.shape,
            f"{r.label}: {ratio:.1f} × chance",
        )
        for ratio, r in zip(ratios, rows)
    ]
    scale = Scale.of([*ratios, 1.0], zero=True)
    chart = dot_strip(
        scale,
        dots,
        chance=1.0,
        title="Top-1 retrieval of each head as a multiple of chance: "
        + ", ".join(f"{r.label} {x:.1f}" for r, x in zip(rows, ratios)),
    ) + axis(scale, "top 1, as a multiple of chance")
    middle = float(np.median(ratios))
    if tested:
        hits = sum(1 for r in tested if (r.score.best_p or 0) < ALPHA)
        value, good = f"{hits} of {len(tested)}", hits > 0
        verdict = (
            f"heads above chance ({'Holm-corrected ' if corrected else 'uncorrected '}p < {ALPHA})"
        )
    else:
        hits = sum(1 for x in ratios if x > 1)
        value, good = f"{hits} of {len(rows)}", None
        verdict = "heads higher than chance (not tested)"
    return Tile(
        title=f"Captions{scope}",
        value=value,
        interval="",
        sentence=(
            "Captions searched only among images of the same category, so knowing the category "
            "does not help."
            if within
            else "Each head looks for the caption that describes what was seen."
            if key == "retrieval_top1"
            else "Whether the caption nearest to the EEG belongs to the right category."
        ),
        verdict=verdict,
        good=good,
        chart=chart,
        beside=[
            ("median head", f"{middle:.1f} × chance"),
            ("pool", str(rows[0].score.pool or "–")),
            ("n", block.count),
        ],
    )


def _category_tile(found: list[Block], material: Material) -> Tile | None:
    names = material.study.categories if material.study is not None else []
    for key in ("auc", "class_accuracy", "class_vote"):
        block, row = _pick(found, key, within=False)
        if block is None or row is None:
            continue
        what = (
            " or ".join(names)
            if 0 < len(names) <= 3
            else f"category, one of {len(names)}"
            if names
            else "category"
        )
        title = what[:1].upper() + what[1:]
        tile = _tile(block, row, title, row.score.what.says)
        for other in (r.score for b in found for r in b.rows):
            if other.what.key == "lda" and other.unit == row.score.unit:
                tile.beside.insert(-1, ("linear baseline", other.text))
        return tile
    return None


def _image_tile(found: list[Block], *, within: bool) -> Tile | None:
    block, row = _pick(found, "two_way", within=within)
    if block is None or row is None:
        return None
    title = "Images" + (", within class" if within else "")
    sentence = (
        "Against another image of the same category, how often the drawing resembles its own "
        "reference more."
        if within
        else "Against another image, how often the drawing resembles its own reference more."
    )
    tile = _tile(block, row, title, sentence)
    tile.caution = row.few
    return tile


def _tile(block: Block, row: Row, title: str, sentence: str) -> Tile:
    score = row.score
    p = score.best_p
    good = None if p is None else p < ALPHA
    if p is None:
        verdict = "not tested against chance"
    else:
        name = "Holm-corrected p" if score.p_holm is not None else "p"
        sign = "" if p < 0.001 else "= "
        relation = "above chance" if good else "not clearly above chance"
        verdict = f"{relation} ({name} {sign}{p_value(p)})"
    beside: list[tuple[str, str]] = []
    for name, value in (("chance", score.chance), ("floor", row.floor), ("ceiling", row.ceiling)):
        if value is not None:
            beside.append((name, score.fmt(value)))
    beside.append(("n", row.count))
    values: list[Any] = [v for s in (score, *row.sources) for v in s.extent if s.source in SHOWN]
    scale = Scale.of(values, score.unit)
    return Tile(
        title,
        score.text,
        score.interval,
        sentence,
        verdict,
        good,
        forest(
            scale,
            score.value,
            score.lo,
            score.hi,
            chance=score.chance,
            floor=row.floor,
            ceiling=row.ceiling,
            title=row.spoken,
            height=30,
        )
        + axis(scale, block.symbol),
        beside,
    )

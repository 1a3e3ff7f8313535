"""Generated images beside their references, and the scores of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import RunError
from eegprompt.generators.generated_files import pixels
from eegprompt.metrics.base import Metric, metrics_of
from eegprompt.metrics.pixels import prepare, resized
from eegprompt.scores.rows import Score, Units, number
from eegprompt.scores.scoring import Scoring
from eegprompt.sources import SOURCES
from eegprompt.stats.bootstrap import bootstrap, ratio_statistic

__all__ = ["FEW_IMAGES", "FEW_REFERENCES", "IN_ONE_ROW", "GeneratedImages", "pixel_scores"]

IN_ONE_ROW = ("eeg", "floor", "ceiling")
"""Prompt sources that stand in one row; the others have rows of their own."""

FEW_IMAGES = 50  # below this, two-way identification is uncertain by 14 points and more
FEW_REFERENCES = 10
_PIXEL_PAIRS = 2048  # images × references whose SSIM is computed for permutations
_PIXEL_IMAGES = 128  # and images at most, for they are held at 425 × 425
_MEAN_IMAGE_OF = 500  # training images that the mean image is made from, at most

Files = dict[int, list[Path]]  # of one prompt source, by trial


class GeneratedImages:
    """The images of one generator while they are scored.

    Parameters
    ----------
    work : Scoring
        What they were decoded from.
    generator : str
        What generated them.
    images : dict of str to dict
        Files by prompt source and trial; ``eeg`` has some.
    """

    def __init__(self, work: Scoring, generator: str, images: dict[str, Files]):
        self.work = work
        self.images = images
        self.trials = np.array(sorted(images["eeg"]), dtype=np.int64)
        self.image_ids = sorted(set(work.images[self.trials]))
        self.units = work.units_of(self.trials, self.image_ids)
        self.base = {"source": "eeg", "generator": generator}
        self.family = f"images {generator}"
        work.note(
            "Image scores are means over trials (over samples first). Their floor and ceiling are "
            "images drawn by the same generator with the same seeds from random captions and from "
            "the true captions."
        )
        remarks = [] if work.known else ["category-level: compared with the category's image"]
        if len(self.image_ids) < FEW_REFERENCES:
            remarks.append(f"only {len(self.image_ids)} references")
        self.remark = "; ".join(remarks)
        if len(self.image_ids) < FEW_REFERENCES or len(self.units) < FEW_IMAGES:
            work.note(
                f"Few images: scores of {len(self.trials)} drawings against "
                f"{len(self.image_ids)} references can show only large differences."
            )

    # -- loading -------------------------------------------------------------------------------
    def shown(self, image_ids: Sequence[str]) -> list[np.ndarray]:
        """Images of the study at their own sizes, which may differ."""
        return [self.work.study.load_images([image])[0] for image in image_ids]

    @staticmethod
    def load(paths: Sequence[Path]) -> list[np.ndarray]:
        """Generated images."""
        out = [pixels(path) for path in paths]
        if len({image.shape for image in out}) > 1:
            raise RunError(
                f"the images in {paths[0].parent} differ in size; delete them and run 'eegprompt "
                "generate' again"
            )
        return out

    def source_trials(self, source: str) -> np.ndarray:
        """Trials of a prompt source among those of prompt source eeg."""
        return np.array([t for t in self.trials if t in self.images[source]], dtype=np.int64)

    def files(self, source: str) -> tuple[list[Path], np.ndarray]:
        """Files of a prompt source, and for each the row of its trial in :meth:`source_trials`."""
        found = [self.images[source][int(trial)] for trial in self.source_trials(source)]
        rows = np.repeat(np.arange(len(found)), [len(files) for files in found])
        return [path for files in found for path in files], rows

    def by_trial(self, by_file: np.ndarray, source: str) -> np.ndarray:
        """Mean over samples: from a row a file to a row a trial."""
        return _mean_by(by_file, self.files(source)[1])

    # -- rows ----------------------------------------------------------------------------------
    def row(self, metric: Metric | str, scope: str, **more: Any) -> dict[str, Any]:
        """What rows of generated images have in common."""
        name = metric if isinstance(metric, str) else metric.name
        return {**self.base, "metric": name, "scope": scope, **more}

    def beside(
        self, by_source: dict[str, np.ndarray], mask: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Floor and ceiling with their intervals from scores by trial; NaN leaves a trial out."""
        out: dict[str, Any] = {}
        for source in ("floor", "ceiling"):
            values = by_source.get(source, np.zeros(0))
            kept = ~np.isnan(values)
            if mask is not None and len(values):
                kept &= mask[np.searchsorted(self.trials, self.source_trials(source))]
            if not kept.any():
                continue
            units = self.work.units_of(self.source_trials(source)[kept], self.image_ids)
            spread = bootstrap(
                ratio_statistic(units.totals(values[kept]), units.counts),
                len(units),
                self.work.settings.resamples,
                seed=self.work.seed(units),
            )
            for end, value in (("", spread.value), ("_lo", spread.lo), ("_hi", spread.hi)):
                out[source + end] = number(value)
        return out

    def further(self, row: dict[str, Any], by_source: dict[str, np.ndarray]) -> list[Score]:
        """Rows of the prompt sources beside floor and ceiling, from scores by trial; NaN leaves one out."""
        scores = []
        for source in SOURCES:
            values = by_source.get(source)
            if source in IN_ONE_ROW or values is None or np.isnan(values).all():
                continue
            kept = ~np.isnan(values)
            units = self.work.units_of(self.source_trials(source)[kept], self.image_ids)
            scores.append(self.work.mean({**row, "source": source}, units, values[kept]))
        return scores

    def of_tables(
        self, row: dict[str, Any], tables: dict[str, np.ndarray], *, within: bool
    ) -> list[Score]:
        """Rows of a score whose value under every label is known; none without EEG."""
        column = {image: i for i, image in enumerate(self.image_ids)}
        own = {
            source: table[
                np.arange(len(table)),
                [column[i] for i in self.work.images[self.source_trials(source)]],
            ]
            for source, table in tables.items()
        }
        scored = ~np.isnan(own["eeg"])
        if not scored.any():
            return []
        units = self.units.subset(scored)
        score = self.work.test(
            {**row, **self.beside(own, scored)},
            units,
            units.images,
            tables["eeg"][scored],
            family=self.family,
            within=within,
            also_within=not within,
        )
        return [score, *self.further(row, own)]


def _mean_by(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of the values of each row."""
    count = np.bincount(rows)
    out = np.zeros((len(count), *values.shape[1:]))
    np.add.at(out, rows, values)
    return out / count.reshape(-1, *[1] * (values.ndim - 1))


def pixel_scores(images: GeneratedImages) -> list[Score]:
    """Every metric of pixels, with a plain gray and the mean training image beside the prompt sources."""
    work, protocol = images.work, images.work.settings.protocol
    metrics = metrics_of("pixels")
    values = _values(images, metrics)
    tables, units = _tables(images, metrics)
    work.note(
        f"PixCorr, SSIM and ssim_legacy by protocol '{protocol}'; a constant image has "
        "PixCorr 0. ssim_legacy is what older scikit-image gave for gray images, as printed in "
        "many papers. Rows of prompt source 'gray' and 'mean-image' score a plain gray image and the mean "
        "of the training images."
    )
    if len(units) < len(images.units):
        work.note(
            f"Chance and p of PixCorr and SSIM permute a random {len(units)} of {len(images.units)} "
            "units."
        )
    scores = []
    for metric in metrics:
        by_source = values[metric.name]
        row = images.row(metric, "all", protocol=protocol, note=images.remark or None)
        score = work.mean({**row, **images.beside(by_source)}, images.units, by_source["eeg"])
        tested = work.test(
            row, units, units.images, tables[metric.name], family=None, also_within=True
        )
        tests = ("chance", "p", "chance_within_class", "p_within_class")
        score.row |= {key: tested.row[key] for key in tests if key in tested.row}
        score.family = images.family
        # the subset's statistic is not the value itself: shift its null to where the value stands
        if tested.null is not None and score.row["value"] is not None:
            score.null = tested.null + (score.row["value"] - tested.row["value"])
        scores += [score, *images.further(row, by_source)]
        scores += [
            work.mean({**row, "source": source}, images.units, by_source[source])
            for source in ("gray", "mean-image")
            if source in by_source
        ]
    return scores


def _computed(
    metrics: Sequence[Metric], kind: str, references: Any, images: Any
) -> dict[str, np.ndarray]:
    """Values by metric; a function that serves several metrics is called once."""
    made: dict[Callable[..., Any], np.ndarray] = {}
    out = {}
    for metric in metrics:
        function = getattr(metric, kind)
        if function not in made:
            made[function] = np.asarray(function(references, images), dtype=np.float64)
        values = made[function]
        out[metric.name] = values if metric.column is None else values[..., metric.column]
    return out


def _values(images: GeneratedImages, metrics: Sequence[Metric]) -> dict[str, dict[str, np.ndarray]]:
    """Scores by metric and prompt source, one a trial; each reference is prepared once."""
    work, protocol = images.work, images.work.settings.protocol
    plain = {"gray": np.full((425, 425, 3), 128, dtype=np.uint8)}
    mean = _mean_image(images)
    if mean is None:
        work.missing.append(
            "prompt source 'mean-image': every training image is a reference itself, so that their mean "
            "would hold the answer"
        )
    else:
        plain["mean-image"] = mean
    baselines = {source: prepare([image], protocol)[0] for source, image in plain.items()}
    trials = {source: images.source_trials(source) for source in SOURCES if images.images[source]}
    trials |= dict.fromkeys(baselines, images.trials)
    out = {
        metric.name: {source: np.zeros(len(ids)) for source, ids in trials.items()}
        for metric in metrics
    }
    for image_id in images.image_ids:
        reference = prepare(images.shown([image_id]), protocol)[0]
        given: list[np.ndarray] = []
        places: list[tuple[str, np.ndarray, np.ndarray]] = []  # rows of trials, and of each file
        for source, ids in trials.items():
            mine = np.flatnonzero(work.images[ids] == image_id)
            if source in baselines:
                given.append(baselines[source])
                places.append((source, mine, np.zeros(1, dtype=int)))
                continue
            files = [images.images[source][int(trial)] for trial in ids[mine]]
            if files:
                given.extend(prepare(images.load([f for of in files for f in of]), protocol))
            places.append((source, mine, np.repeat(np.arange(len(mine)), [len(f) for f in files])))
        scored = _computed(metrics, "function", [reference] * len(given), given)
        for name, values in scored.items():
            at = 0
            for source, mine, rows in places:
                if len(rows):
                    out[name][source][mine] = _mean_by(values[at : at + len(rows)], rows)
                at += len(rows)
    return out


def _mean_image(images: GeneratedImages) -> np.ndarray | None:
    """Mean of the training images that are no references; None where there are none."""
    work = images.work
    image_ids = sorted(set(work.images[work.fold.train]) - set(images.image_ids))
    if not image_ids:
        return None
    if len(image_ids) > _MEAN_IMAGE_OF:
        step = len(image_ids) / _MEAN_IMAGE_OF
        image_ids = [image_ids[int(i * step)] for i in range(_MEAN_IMAGE_OF)]
    shape = images.shown(images.image_ids[:1])[0].shape
    total = np.zeros(shape)
    for image in image_ids:
        total += resized(images.shown([image])[0], shape)
    return np.asarray(np.round(total / len(image_ids)).astype(np.uint8))


def _tables(
    images: GeneratedImages, metrics: Sequence[Metric]
) -> tuple[dict[str, np.ndarray], Units]:
    """Scores of images against all references, for as many units as are affordable."""
    units, protocol = images.units, images.work.settings.protocol
    per_unit = sum(len(p) for p in images.images["eeg"].values()) / len(units)
    if images.work.known:  # as many references as units
        affordable = int(np.sqrt(_PIXEL_PAIRS / per_unit))
    else:
        affordable = int(_PIXEL_PAIRS / (per_unit * len(images.image_ids)))
    affordable = min(affordable, int(_PIXEL_IMAGES / per_unit))
    chosen = np.arange(len(units))
    if affordable < len(units):
        rng = np.random.default_rng(images.work.seed(units))
        chosen = np.sort(rng.choice(len(units), max(affordable, 2), replace=False))
    mine = np.isin(units.index, chosen)
    inner = units.subset(mine)
    shown = np.unique(inner.images)
    files = [images.images["eeg"][int(trial)] for trial in images.trials[mine]]
    rows = np.repeat(np.arange(len(files)), [len(f) for f in files])
    references = prepare(images.shown([images.image_ids[i] for i in shown]), protocol)
    given = prepare(images.load([f for of in files for f in of]), protocol)
    whole = [m if m.pairs else replace(m, pairs=_pairs_of(m)) for m in metrics]
    tables = {
        name: _mean_by(values.T, rows)
        for name, values in _computed(whole, "pairs", references, given).items()
    }
    return tables, replace(inner, images=np.searchsorted(shown, inner.images))


def _pairs_of(metric: Metric) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """All references with all images, by a function of pairs."""
    function = metric.function
    assert function is not None

    def pairs(references: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.array([function([one] * len(images), list(images)) for one in references])

    return pairs

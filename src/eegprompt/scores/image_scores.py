"""Generated images beside their references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import RunError, StudyError
from eegprompt.core.files import read_table
from eegprompt.generators.generated_files import image_facts, look_of
from eegprompt.metrics.pixels import gray, pixcorr, prepare, ssim, ssim_legacy, ssim_pairs
from eegprompt.run import slug
from eegprompt.scores.rows import Score, Units, number, row_of
from eegprompt.scores.scoring import Material
from eegprompt.sources import PROMPT_SOURCES, SOURCES
from eegprompt.stats.bootstrap import bootstrap, ratio_statistic

__all__ = ["FEW_IMAGES", "FEW_REFERENCES", "image_scores"]

_SIDES = (
    "eeg",
    "floor",
    "ceiling",
)  # stand in one row; other prompt sources have rows of their own
_PIXEL_PAIRS = 2048  # images × references whose SSIM is computed for permutations
_PIXEL_IMAGES = 128  # and images at most, for they are held at 425 × 425
FEW_IMAGES = 50  # below this, two-way identification is uncertain by 14 points and more
FEW_REFERENCES = 10
_MEAN_IMAGE_OF = 500  # training images that the mean image is made from, at most


def image_scores(work: Material, *, pixels: bool = True) -> list[Score]:
    """Pixel and feature scores of the images of each prompt source, for each generator that drew some."""
    named = work.config.generation.generator
    folders = sorted(p.name for p in (work.run.path / "images").glob("*") if p.is_dir())
    others = [f for f in folders if f != slug(named)]
    entries = work.run.generators
    asked = {name: set(entry.get("trial_ids", ())) for name, entry in entries.items()}
    scores: list[Score] = []
    for generator in (named, *others):
        prompts = _prompts(work, generator)
        look = entries.get(slug(generator), {}).get("look")
        found = {"eeg": _images(work, generator, "eeg", prompts, look)}
        look = look_of(f for files in found["eeg"][0].values() for f in files) or look
        found |= {r: _images(work, generator, r, prompts, look) for r in SOURCES if r != "eeg"}
        images = {source: files for source, (files, _) in found.items()}
        if not images["eeg"]:
            if generator == named or any(images.values()):
                work.missing.append(
                    f"image scores: no images of prompt source 'eeg' by generator '{generator}'; "
                    f"{_remedy(work, generator)}"
                )
            continue
        wanted = {
            "eeg": asked.get(slug(generator), set()) & set(work.fold.test.tolist()),
            **{r: set(images["eeg"]) for r in SOURCES[1:] if r in _SIDES or images[r]},
        }
        absent = [source for source in SOURCES if source not in wanted]
        if absent:
            work.missing.append(
                f"image scores: prompt sources that generator '{generator}' has not drawn: "
                f"{', '.join(absent)}; {_remedy(work, generator, *absent)}"
            )
        for source, trials in wanted.items():
            lacking = len(trials - set(images[source]) - found[source][1])
            if lacking:
                work.missing.append(
                    f"image scores: {lacking} of {len(trials)} trials have no image of prompt source '{source}' "
                    f"by generator '{generator}'; {_remedy(work, generator, source)}"
                )
        try:
            scores += ImageScores(work, generator, images).scores(pixels=pixels)
        except StudyError as problem:  # reference images are gone; captions can still be scored
            work.missing.append(f"image scores: {problem}")
    return scores


def _remedy(work: Material, generator: str, *sources: str) -> str:
    """The command that draws what is missing, to be copied."""
    words = ["eegprompt generate", str(work.run.path)]
    if slug(generator) != slug(work.config.generation.generator):
        entry = work.run.generators.get(slug(generator), {})
        words.append(f"--generator {entry.get('name', generator)}")
    if sources:
        words.append(f"--sources {','.join(sources)}")
    return f"run '{' '.join(words)}'"


def _prompts(work: Material, generator: str) -> dict[tuple[int, str], str]:
    """Prompts that a generator's images should have been drawn from, by trial and prompt source."""
    own = work.run.path / "images" / slug(generator) / "prompts.parquet"
    path = own if own.exists() else work.run.prompts_path
    if not path.exists():
        return {}
    table = read_table(path, error=RunError, columns="prompts")
    return {
        (int(trial), str(source)): str(text)
        for trial, source, text in zip(table["trial_id"], table["source"], table["text"])
    }


def _images(
    work: Material,
    generator: str,
    source: str,
    prompts: dict[tuple[int, str], str],
    look: str | None,
) -> tuple[dict[int, list[Path]], set[int]]:
    """Files of one prompt source, by test trial, and the trials that have a blanked image.

    Blanked images are left out, as are those of other prompts than the run's, and those drawn
    with other settings (steps, guidance, …) than `look`, the key of prompt source ``eeg``'s: prompt sources are
    compared, and differ in their prompts alone. Where all of prompt source ``eeg`` is of an earlier key,
    that counts.
    """
    test = set(work.fold.test.tolist())
    found: dict[int, list[Path]] = {}
    outdated = 0
    blanked: list[int] = []
    other_look: dict[int, list[Path]] = {}
    for path in sorted(work.run.images_dir(generator, source).glob("*_*.png")):
        name, _, sample = path.stem.partition("_")
        if not (name.isdigit() and sample.isdigit() and int(name) in test):
            continue
        facts = image_facts(path)
        if facts is None:
            work.missing.append(
                f"image scores: {path} cannot be read as an image; "
                f"{_remedy(work, generator, source)}, which draws it anew"
            )
            continue
        if facts.get("blanked"):
            blanked.append(int(name))
            continue
        prompt = prompts.get((int(name), source))
        unknown = prompt is None and bool(prompts) and source in PROMPT_SOURCES
        if unknown or (prompt is not None and facts.get("prompt", prompt) != prompt):
            outdated += 1
            continue
        mine = look is None or facts.get("look", look) == look
        (found if mine else other_look).setdefault(int(name), []).append(path)
    if source == "eeg" and not found:
        found, other_look = other_look, {}
    if blanked:
        work.missing.append(
            f"image scores: {len(blanked)} images of prompt source '{source}' are left out, for the safety "
            f"checker of generator '{generator}' blanked them"
        )
    if other_look:
        work.missing.append(
            f"image scores: {sum(map(len, other_look.values()))} images of prompt source '{source}' by "
            f"generator '{generator}' were drawn with other settings (steps, guidance, negative "
            f"prompt, …) than those of prompt source 'eeg' now; {_remedy(work, generator, source)}"
        )
    if outdated:
        work.missing.append(
            f"image scores: {outdated} images of prompt source '{source}' by generator '{generator}' were drawn "
            f"from other prompts than the run now has; {_remedy(work, generator, source)}"
        )
    return found, set(blanked)


class ImageScores:
    """The images of a run while they are scored."""

    def __init__(self, work: Material, generator: str, images: dict[str, dict[int, list[Path]]]):
        self.work = work
        self.images = images
        self.trials = np.array(sorted(images["eeg"]), dtype=np.int64)
        self.image_ids = sorted(set(work.images[self.trials]))
        self.units = work.units_of(self.trials, self.image_ids)
        self.protocol = work.settings.protocol
        self.base = {
            "source": "eeg",
            "generator": generator,
            "higher_is_better": True,
        }
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

    def scores(self, *, pixels: bool = True) -> list[Score]:
        """All rows, corrected together as one family."""
        from eegprompt.scores.feature_scores import feature_scores

        return [*feature_scores(self), *(self.pixel_scores() if pixels else ())]

    # -- loading -------------------------------------------------------------------------------
    def shown(self, image_ids: Sequence[str]) -> list[np.ndarray]:
        """Images of the study at their own sizes, which may differ."""
        return [self.work.study.load_images([image])[0] for image in image_ids]

    def load(self, paths: Sequence[Path]) -> list[np.ndarray]:
        """Generated images."""
        from PIL import Image

        out = []
        for path in paths:
            with Image.open(path) as handle:
                out.append(np.asarray(handle.convert("RGB"), dtype=np.uint8))
        sizes = {image.shape for image in out}
        if len(sizes) > 1:
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
        paths: list[Path] = []
        rows: list[int] = []
        for row, trial in enumerate(self.source_trials(source)):
            paths += self.images[source][int(trial)]
            rows += [row] * len(self.images[source][int(trial)])
        return paths, np.array(rows, dtype=int)

    def sources(
        self, by_source: dict[str, np.ndarray], mask: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Floor and ceiling with their intervals from scores by trial; NaN leaves a trial out."""
        out: dict[str, Any] = {}
        for source in ("floor", "ceiling"):
            values = by_source.get(source)
            if values is None or not len(values):
                continue
            trials = self.source_trials(source)
            kept = ~np.isnan(values)
            if mask is not None:
                kept &= mask[np.searchsorted(self.trials, trials)]
            if not kept.any():
                continue
            units = self.work.units_of(trials[kept], self.image_ids)
            spread = bootstrap(
                ratio_statistic(units.totals(values[kept]), units.counts),
                len(units),
                self.work.settings.resamples,
                seed=self.work.seed(units),
            )
            out |= {
                source: number(spread.value),
                f"{source}_lo": number(spread.lo),
                f"{source}_hi": number(spread.hi),
            }
        return out

    # -- features ------------------------------------------------------------------------------
    def by_trial(self, by_file: np.ndarray, source: str) -> np.ndarray:
        """Mean over samples: from a row a file to a row a trial."""
        _, rows = self.files(source)
        count = np.bincount(rows)
        out = np.zeros((len(count), *by_file.shape[1:]))
        np.add.at(out, rows, by_file)
        return out / count.reshape(-1, *[1] * (by_file.ndim - 1))

    def _own(self, table: np.ndarray, source: str) -> np.ndarray:
        row = {image: i for i, image in enumerate(self.image_ids)}
        columns = [row[i] for i in self.work.images[self.source_trials(source)]]
        return table[np.arange(len(table)), columns]

    def table_score(
        self, row: dict[str, Any], tables: dict[str, np.ndarray], *, within: bool
    ) -> Score | None:
        """A score whose value under every label is known, with its chance and interval; None without EEG."""
        own = {source: self._own(table, source) for source, table in tables.items()}
        scored = ~np.isnan(own["eeg"])
        if not scored.any():
            return None
        units = self.units.subset(scored)
        return self.work.test(
            {**row, **self.sources(own, scored)},
            units,
            units.images,
            tables["eeg"][scored],
            family=f"images {self.base['generator']}",
            within=within,
            also_within=not within,
        )

    def further(self, row: dict[str, Any], by_source: dict[str, np.ndarray]) -> list[Score]:
        """Rows of the prompt sources beside floor and ceiling, from scores by trial; NaN leaves one out."""
        scores = []
        for source in SOURCES:
            values = by_source.get(source)
            if source in _SIDES or values is None or np.isnan(values).all():
                continue
            kept = ~np.isnan(values)
            units = self.work.units_of(self.source_trials(source)[kept], self.image_ids)
            scores.append(self._plain_score({**row, "source": source}, values[kept], units))
        return scores

    def further_of_tables(self, row: dict[str, Any], tables: dict[str, np.ndarray]) -> list[Score]:
        """The same from tables, images × references."""
        return self.further(row, {source: self._own(t, source) for source, t in tables.items()})

    # -- pixels --------------------------------------------------------------------------------
    def pixel_scores(self) -> list[Score]:
        """PixCorr and SSIM, with a plain gray and the mean training image beside them."""
        work = self.work
        values = self._pixel_values()
        tables, units = self._pixel_tables()
        work.note(
            f"PixCorr, SSIM and ssim_legacy by protocol '{self.protocol}'; a constant image has "
            "PixCorr 0. ssim_legacy is what older scikit-image gave for gray images, as printed in "
            "many papers. Rows of prompt source 'gray' and 'mean-image' score a plain gray image and the mean "
            "of the training images."
        )
        if len(units) < len(self.units):
            work.note(
                f"Chance and p of PixCorr and SSIM permute a random {len(units)} of {len(self.units)} "
                "units."
            )
        scores = []
        for metric, by_source in values.items():
            facts = {
                **self.base,
                "metric": metric,
                "scope": "all",
                "unit": "r" if metric == "pixcorr" else "SSIM",
                "protocol": self.protocol,
                "note": self.remark or None,
            }
            scores.append(self._pixel_score(facts, by_source, tables[metric], units))
            scores += self.further(facts, by_source)
            scores += [
                self._plain_score({**facts, "source": source}, by_source[source])
                for source in ("gray", "mean-image")
                if source in by_source
            ]
        return scores

    def _pixel_values(self, chunk: int = 16) -> dict[str, dict[str, np.ndarray]]:
        """Scores by metric and prompt source, one a trial; references are prepared once for all prompt sources."""
        plain = {"gray": np.full((425, 425, 3), 128, dtype=np.uint8)}
        mean = self._mean_image()
        if mean is None:
            self.work.missing.append(
                "prompt source 'mean-image': every training image is a reference itself, so that their mean "
                "would hold the answer"
            )
        else:
            plain["mean-image"] = mean
        baselines = {source: prepare([image], self.protocol) for source, image in plain.items()}
        parts: dict[str, dict[str, list[np.ndarray]]] = {
            metric: {source: [] for source in (*SOURCES, *plain)}
            for metric in ("pixcorr", "ssim", "ssim_legacy")
        }
        for start in range(0, len(self.trials), chunk):
            trials = self.trials[start : start + chunk]
            references = prepare(self.shown(self.work.images[trials].tolist()), self.protocol)
            shades = gray(references)

            def score(
                source: str,
                images: np.ndarray,
                own: np.ndarray,
                references: np.ndarray = references,
                shades: np.ndarray = shades,
            ) -> None:
                other = gray(images)
                count = np.bincount(own)
                kept = count > 0
                for metric, by_file in (
                    ("pixcorr", pixcorr(references[own], images)),
                    ("ssim", ssim(shades[own], other)),
                    ("ssim_legacy", ssim_legacy(shades[own], other)),
                ):
                    mean = np.bincount(own, weights=by_file)[kept] / count[kept]
                    parts[metric][source].append(mean)

            for source in SOURCES:
                files = [
                    (path, i)
                    for i, trial in enumerate(trials)
                    for path in self.images[source].get(int(trial), ())
                ]
                if files:
                    images = prepare(self.load([path for path, _ in files]), self.protocol)
                    score(source, images, np.array([i for _, i in files]))
            for source, image in baselines.items():
                score(source, np.repeat(image, len(trials), axis=0), np.arange(len(trials)))
        return {
            metric: {source: np.concatenate(p) for source, p in by_source.items() if p}
            for metric, by_source in parts.items()
        }

    def _mean_image(self) -> np.ndarray | None:
        """Mean of the training images that are no references; None where there are none."""
        work = self.work
        image_ids = sorted(set(work.images[work.fold.train]) - set(self.image_ids))
        if not image_ids:
            return None
        if len(image_ids) > _MEAN_IMAGE_OF:
            step = len(image_ids) / _MEAN_IMAGE_OF
            image_ids = [image_ids[int(i * step)] for i in range(_MEAN_IMAGE_OF)]
        shape = self.shown(self.image_ids[:1])[0].shape
        total = np.zeros(shape)
        for image in image_ids:
            total += squashed(self.shown([image])[0], shape)
        return np.round(total / len(image_ids)).astype(np.uint8)

    def _pixel_tables(self) -> tuple[dict[str, np.ndarray], Units]:
        """Scores of images against all references, for as many units as are affordable."""
        units = self.units
        per_unit = sum(len(p) for p in self.images["eeg"].values()) / len(units)
        if self.work.known:  # as many references as units
            affordable = int(np.sqrt(_PIXEL_PAIRS / per_unit))
        else:
            affordable = int(_PIXEL_PAIRS / (per_unit * len(self.image_ids)))
        affordable = min(affordable, int(_PIXEL_IMAGES / per_unit))
        chosen = np.arange(len(units))
        if affordable < len(units):
            rng = np.random.default_rng(self.work.seed(units))
            chosen = np.sort(rng.choice(len(units), max(affordable, 2), replace=False))
        mine = np.isin(units.index, chosen)
        inner = units.subset(mine)
        images = np.unique(inner.images)
        paths: list[Path] = []
        rows: list[int] = []
        for row, trial in enumerate(self.trials[mine]):
            files = self.images["eeg"][int(trial)]
            paths += files
            rows += [row] * len(files)
        references = prepare(self.shown([self.image_ids[i] for i in images]), self.protocol)
        all_images = prepare(self.load(paths), self.protocol)
        flat = [_standardized(x) for x in (references, all_images)]
        a, b = gray(references), gray(all_images)
        pairs = {
            "pixcorr": flat[0] @ flat[1].T,
            "ssim": ssim_pairs(a, b),
            "ssim_legacy": ssim_pairs(a, b, legacy=True),
        }
        tables = {}
        count = np.bincount(rows).reshape(-1, 1)
        for metric, values in pairs.items():
            by_trial = np.zeros((int(mine.sum()), len(images)))
            np.add.at(by_trial, np.array(rows), values.T)
            tables[metric] = by_trial / count
        return tables, replace(inner, images=np.searchsorted(images, inner.images))

    def _pixel_score(
        self,
        row: dict[str, Any],
        by_source: dict[str, np.ndarray],
        table: np.ndarray,
        units: Units,
    ) -> Score:
        """Value over all trials, chance over the units of the table."""
        score = self._plain_score({**row, **self.sources(by_source)}, by_source["eeg"])
        tested = self.work.test({}, units, units.images, table, family=None, also_within=True)
        score.row["chance"], score.row["p"] = tested.row["chance"], tested.row["p"]
        for key in ("chance_within_class", "p_within_class"):
            if key in tested.row:
                score.row[key] = tested.row[key]
        score.family = f"images {self.base['generator']}"
        # the subset's statistic is not the value itself: shift its null to where the value stands
        if tested.null is not None and score.row["value"] is not None:
            score.null = tested.null + (score.row["value"] - tested.row["value"])
        return score

    def _plain_score(
        self, row: dict[str, Any], by_trial: np.ndarray, units: Units | None = None
    ) -> Score:
        """Value and interval, without a test."""
        units = self.units if units is None else units
        spread = bootstrap(
            ratio_statistic(units.totals(by_trial), units.counts),
            len(units),
            self.work.settings.resamples,
            seed=self.work.seed(units),
        )
        return Score(
            row_of(
                **{
                    "n": len(units),
                    "n_trials": len(by_trial),
                    "value": number(spread.value),
                    "lo": number(spread.lo),
                    "hi": number(spread.hi),
                    **row,
                }
            ),
            None,
            None,
            spread.replicates,
            units.names,
        )


def squashed(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image at the height and width of another."""
    from PIL import Image

    if image.shape == shape:
        return image
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _standardized(images: np.ndarray) -> np.ndarray:
    """Flattened, centered and scaled to unit length; a constant image becomes 0."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    constant = np.ptp(flat, axis=1) == 0
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat[constant] = 0
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(norm == 0, 1, norm)

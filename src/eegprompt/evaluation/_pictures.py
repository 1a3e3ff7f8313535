"""Drawn pictures beside their references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.artifacts import read_table
from eegprompt.controls.bootstrap import bootstrap, ratio_statistic
from eegprompt.drawing import drawn, look_of, picture_facts
from eegprompt.errors import RunError, StudyError
from eegprompt.evaluation._material import Material
from eegprompt.evaluation._rows import Score, Units, number, row_of
from eegprompt.ladder import PROMPT_RUNGS, RUNGS
from eegprompt.metrics.images import gray, pixcorr, prepare, ssim, ssim_legacy, ssim_pairs
from eegprompt.run import slug

__all__ = ["FEW_PICTURES", "FEW_REFERENCES", "picture_scores"]

_SIDES = ("eeg", "floor", "ceiling")  # stand in one row; other rungs have rows of their own
_PIXEL_PAIRS = 2048  # pictures × references whose SSIM is computed for permutations
_PIXEL_PICTURES = 128  # and pictures at most, for they are held at 425 × 425
FEW_PICTURES = 50  # below this, two-way identification is uncertain by 14 points and more
FEW_REFERENCES = 10
_MEAN_IMAGE_OF = 500  # training images that the mean image is made from, at most


def picture_scores(work: Material, *, pixels: bool = True) -> list[Score]:
    """Pixel and feature scores of the pictures of each rung, for each generator that drew some."""
    named = work.config.drawing.generator
    folders = sorted(p.name for p in (work.run.path / "images").glob("*") if p.is_dir())
    others = [f for f in folders if f != slug(named)]
    entries = dict(drawn(work.run))
    asked = {name: set(entry.get("trial_ids", ())) for name, entry in entries.items()}
    scores: list[Score] = []
    for generator in (named, *others):
        prompts = _prompts(work, generator)
        look = entries.get(slug(generator), {}).get("look")
        found = {"eeg": _pictures(work, generator, "eeg", prompts, look)}
        look = look_of(f for files in found["eeg"][0].values() for f in files) or look
        found |= {r: _pictures(work, generator, r, prompts, look) for r in RUNGS if r != "eeg"}
        pictures = {rung: files for rung, (files, _) in found.items()}
        if not pictures["eeg"]:
            if generator == named or any(pictures.values()):
                work.missing.append(
                    f"picture scores: no pictures of rung 'eeg' by generator '{generator}'; "
                    f"{_remedy(work, generator)}"
                )
            continue
        wanted = {
            "eeg": asked.get(slug(generator), set()) & set(work.fold.test.tolist()),
            **{r: set(pictures["eeg"]) for r in RUNGS[1:] if r in _SIDES or pictures[r]},
        }
        absent = [rung for rung in RUNGS if rung not in wanted]
        if absent:
            work.missing.append(
                f"picture scores: rungs that generator '{generator}' has not drawn: "
                f"{', '.join(absent)}; {_remedy(work, generator, *absent)}"
            )
        for rung, trials in wanted.items():
            lacking = len(trials - set(pictures[rung]) - found[rung][1])
            if lacking:
                work.missing.append(
                    f"picture scores: {lacking} of {len(trials)} trials have no picture of rung '{rung}' "
                    f"by generator '{generator}'; {_remedy(work, generator, rung)}"
                )
        try:
            scores += PictureScores(work, generator, pictures).scores(pixels=pixels)
        except StudyError as problem:  # reference pictures are gone; captions can still be scored
            work.missing.append(f"picture scores: {problem}")
    return scores


def _remedy(work: Material, generator: str, *rungs: str) -> str:
    """The command that draws what is missing, to be copied."""
    words = ["eegprompt generate", str(work.run.path)]
    if slug(generator) != slug(work.config.drawing.generator):
        entry = dict(drawn(work.run)).get(slug(generator), {})
        words.append(f"--generator {entry.get('name', generator)}")
    if rungs:
        words.append(f"--rungs {','.join(rungs)}")
    return f"run '{' '.join(words)}'"


def _prompts(work: Material, generator: str) -> dict[tuple[int, str], str]:
    """Prompts that a generator's pictures should have been drawn from, by trial and rung."""
    own = work.run.path / "images" / slug(generator) / "prompts.parquet"
    path = own if own.exists() else work.run.prompts_path
    if not path.exists():
        return {}
    table = read_table(path, error=RunError)
    return {
        (int(trial), str(rung)): str(text)
        for trial, rung, text in zip(table["trial_id"], table["rung"], table["text"])
    }


def _pictures(
    work: Material,
    generator: str,
    rung: str,
    prompts: dict[tuple[int, str], str],
    look: str | None,
) -> tuple[dict[int, list[Path]], set[int]]:
    """Files of one rung, by test trial, and the trials that have a blanked picture.

    Blanked pictures are left out, as are those of other prompts than the run's, and those drawn
    with other settings (steps, guidance, …) than `look`, the key of rung ``eeg``'s: rungs are
    compared, and differ in their prompts alone. Where all of rung ``eeg`` is of an earlier key,
    that counts.
    """
    test = set(work.fold.test.tolist())
    found: dict[int, list[Path]] = {}
    outdated = 0
    blanked: list[int] = []
    other_look: dict[int, list[Path]] = {}
    for path in sorted(work.run.images_dir(generator, rung).glob("*_*.png")):
        name, _, sample = path.stem.partition("_")
        if not (name.isdigit() and sample.isdigit() and int(name) in test):
            continue
        facts = picture_facts(path)
        if facts is None:
            work.missing.append(
                f"picture scores: {path} cannot be read as a picture; "
                f"{_remedy(work, generator, rung)}, which draws it anew"
            )
            continue
        if facts.get("blanked"):
            blanked.append(int(name))
            continue
        prompt = prompts.get((int(name), rung))
        unknown = prompt is None and bool(prompts) and rung in PROMPT_RUNGS
        if unknown or (prompt is not None and facts.get("prompt", prompt) != prompt):
            outdated += 1
            continue
        mine = look is None or facts.get("look", look) == look
        (found if mine else other_look).setdefault(int(name), []).append(path)
    if rung == "eeg" and not found:
        found, other_look = other_look, {}
    if blanked:
        work.missing.append(
            f"picture scores: {len(blanked)} pictures of rung '{rung}' are left out, for the safety "
            f"checker of generator '{generator}' blanked them"
        )
    if other_look:
        work.missing.append(
            f"picture scores: {sum(map(len, other_look.values()))} pictures of rung '{rung}' by "
            f"generator '{generator}' were drawn with other settings (steps, guidance, negative "
            f"prompt, …) than those of rung 'eeg' now; {_remedy(work, generator, rung)}"
        )
    if outdated:
        work.missing.append(
            f"picture scores: {outdated} pictures of rung '{rung}' by generator '{generator}' were drawn "
            f"from other prompts than the run now has; {_remedy(work, generator, rung)}"
        )
    return found, set(blanked)


class PictureScores:
    """The pictures of a run while they are scored."""

    def __init__(self, work: Material, generator: str, pictures: dict[str, dict[int, list[Path]]]):
        self.work = work
        self.pictures = pictures
        self.trials = np.array(sorted(pictures["eeg"]), dtype=np.int64)
        self.image_ids = sorted(set(work.images[self.trials]))
        self.units = work.units_of(self.trials, self.image_ids)
        self.protocol = work.settings.protocol
        self.base = {
            "rung": "eeg",
            "generator": generator,
            "higher_is_better": True,
        }
        work.note(
            "Picture scores are means over trials (over samples first). Their floor and ceiling are "
            "pictures drawn by the same generator with the same seeds from random captions and from "
            "the true captions."
        )
        remarks = [] if work.known else ["category-level: compared with the category's picture"]
        if len(self.image_ids) < FEW_REFERENCES:
            remarks.append(f"only {len(self.image_ids)} references")
        self.remark = "; ".join(remarks)
        if len(self.image_ids) < FEW_REFERENCES or len(self.units) < FEW_PICTURES:
            work.note(
                f"Few pictures: scores of {len(self.trials)} drawings against "
                f"{len(self.image_ids)} references can show only large differences."
            )

    def scores(self, *, pixels: bool = True) -> list[Score]:
        """All rows, corrected together as one family."""
        from eegprompt.evaluation._features import feature_scores

        return [*feature_scores(self), *(self.pixel_scores() if pixels else ())]

    # -- loading -------------------------------------------------------------------------------
    def shown(self, image_ids: Sequence[str]) -> list[np.ndarray]:
        """Pictures of the study at their own sizes, which may differ."""
        return [self.work.study.load_images([image])[0] for image in image_ids]

    def load(self, paths: Sequence[Path]) -> list[np.ndarray]:
        """Drawn pictures."""
        from PIL import Image

        out = []
        for path in paths:
            with Image.open(path) as handle:
                out.append(np.asarray(handle.convert("RGB"), dtype=np.uint8))
        sizes = {picture.shape for picture in out}
        if len(sizes) > 1:
            raise RunError(
                f"the pictures in {paths[0].parent} differ in size; delete them and run 'eegprompt "
                "generate' again"
            )
        return out

    def rung_trials(self, rung: str) -> np.ndarray:
        """Trials of a rung among those of rung eeg."""
        return np.array([t for t in self.trials if t in self.pictures[rung]], dtype=np.int64)

    def files(self, rung: str) -> tuple[list[Path], np.ndarray]:
        """Files of a rung, and for each the row of its trial in :meth:`rung_trials`."""
        paths: list[Path] = []
        rows: list[int] = []
        for row, trial in enumerate(self.rung_trials(rung)):
            paths += self.pictures[rung][int(trial)]
            rows += [row] * len(self.pictures[rung][int(trial)])
        return paths, np.array(rows, dtype=int)

    def ladder(
        self, by_rung: dict[str, np.ndarray], mask: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Floor and ceiling with their intervals from scores by trial; NaN leaves a trial out."""
        out: dict[str, Any] = {}
        for rung in ("floor", "ceiling"):
            values = by_rung.get(rung)
            if values is None or not len(values):
                continue
            trials = self.rung_trials(rung)
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
                rung: number(spread.value),
                f"{rung}_lo": number(spread.lo),
                f"{rung}_hi": number(spread.hi),
            }
        return out

    # -- features ------------------------------------------------------------------------------
    def by_trial(self, by_file: np.ndarray, rung: str) -> np.ndarray:
        """Mean over samples: from a row a file to a row a trial."""
        _, rows = self.files(rung)
        count = np.bincount(rows)
        out = np.zeros((len(count), *by_file.shape[1:]))
        np.add.at(out, rows, by_file)
        return out / count.reshape(-1, *[1] * (by_file.ndim - 1))

    def _own(self, table: np.ndarray, rung: str) -> np.ndarray:
        row = {image: i for i, image in enumerate(self.image_ids)}
        columns = [row[i] for i in self.work.images[self.rung_trials(rung)]]
        return table[np.arange(len(table)), columns]

    def table_score(
        self, row: dict[str, Any], tables: dict[str, np.ndarray], *, within: bool
    ) -> Score | None:
        own = {rung: self._own(table, rung) for rung, table in tables.items()}
        scored = ~np.isnan(own["eeg"])
        if not scored.any():
            return None
        units = self.units.subset(scored)
        return self.work.test(
            {**row, **self.ladder(own, scored)},
            units,
            units.images,
            tables["eeg"][scored],
            family=f"pictures {self.base['generator']}",
            within=within,
            also_within=not within,
        )

    def further(self, row: dict[str, Any], by_rung: dict[str, np.ndarray]) -> list[Score]:
        """Rows of the rungs beside floor and ceiling, from scores by trial; NaN leaves one out."""
        scores = []
        for rung in RUNGS:
            values = by_rung.get(rung)
            if rung in _SIDES or values is None or np.isnan(values).all():
                continue
            kept = ~np.isnan(values)
            units = self.work.units_of(self.rung_trials(rung)[kept], self.image_ids)
            scores.append(self._plain_score({**row, "rung": rung}, values[kept], units))
        return scores

    def further_of_tables(self, row: dict[str, Any], tables: dict[str, np.ndarray]) -> list[Score]:
        """The same from tables, pictures × references."""
        return self.further(row, {rung: self._own(t, rung) for rung, t in tables.items()})

    # -- pixels --------------------------------------------------------------------------------
    def pixel_scores(self) -> list[Score]:
        """PixCorr and SSIM, with a plain gray and the mean training picture beside them."""
        work = self.work
        values = self._pixel_values()
        tables, units = self._pixel_tables()
        work.note(
            f"PixCorr, SSIM and ssim_legacy by protocol '{self.protocol}'; a constant picture has "
            "PixCorr 0. ssim_legacy is what older scikit-image gave for gray pictures, as printed in "
            "many papers. Rows of rung 'gray' and 'mean-image' score a plain gray picture and the mean "
            "of the training images."
        )
        if len(units) < len(self.units):
            work.note(
                f"Chance and p of PixCorr and SSIM permute a random {len(units)} of {len(self.units)} "
                "units."
            )
        scores = []
        for metric, by_rung in values.items():
            facts = {
                **self.base,
                "metric": metric,
                "scope": "all",
                "unit": "r" if metric == "pixcorr" else "SSIM",
                "protocol": self.protocol,
                "note": self.remark or None,
            }
            scores.append(self._pixel_score(facts, by_rung, tables[metric], units))
            scores += self.further(facts, by_rung)
            scores += [
                self._plain_score({**facts, "rung": rung}, by_rung[rung])
                for rung in ("gray", "mean-image")
                if rung in by_rung
            ]
        return scores

    def _pixel_values(self, chunk: int = 16) -> dict[str, dict[str, np.ndarray]]:
        """Scores by metric and rung, one a trial; references are prepared once for all rungs."""
        plain = {"gray": np.full((425, 425, 3), 128, dtype=np.uint8)}
        mean = self._mean_image()
        if mean is None:
            self.work.missing.append(
                "rung 'mean-image': every training image is a reference itself, so that their mean "
                "would hold the answer"
            )
        else:
            plain["mean-image"] = mean
        baselines = {rung: prepare([picture], self.protocol) for rung, picture in plain.items()}
        parts: dict[str, dict[str, list[np.ndarray]]] = {
            metric: {rung: [] for rung in (*RUNGS, *plain)}
            for metric in ("pixcorr", "ssim", "ssim_legacy")
        }
        for start in range(0, len(self.trials), chunk):
            trials = self.trials[start : start + chunk]
            references = prepare(self.shown(self.work.images[trials].tolist()), self.protocol)
            shades = gray(references)

            def score(
                rung: str,
                pictures: np.ndarray,
                own: np.ndarray,
                references: np.ndarray = references,
                shades: np.ndarray = shades,
            ) -> None:
                other = gray(pictures)
                count = np.bincount(own)
                kept = count > 0
                for metric, by_file in (
                    ("pixcorr", pixcorr(references[own], pictures)),
                    ("ssim", ssim(shades[own], other)),
                    ("ssim_legacy", ssim_legacy(shades[own], other)),
                ):
                    mean = np.bincount(own, weights=by_file)[kept] / count[kept]
                    parts[metric][rung].append(mean)

            for rung in RUNGS:
                files = [
                    (path, i)
                    for i, trial in enumerate(trials)
                    for path in self.pictures[rung].get(int(trial), ())
                ]
                if files:
                    pictures = prepare(self.load([path for path, _ in files]), self.protocol)
                    score(rung, pictures, np.array([i for _, i in files]))
            for rung, picture in baselines.items():
                score(rung, np.repeat(picture, len(trials), axis=0), np.arange(len(trials)))
        return {
            metric: {rung: np.concatenate(p) for rung, p in by_rung.items() if p}
            for metric, by_rung in parts.items()
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
        """Scores of pictures against all references, for as many units as are affordable."""
        units = self.units
        per_unit = sum(len(p) for p in self.pictures["eeg"].values()) / len(units)
        if self.work.known:  # as many references as units
            affordable = int(np.sqrt(_PIXEL_PAIRS / per_unit))
        else:
            affordable = int(_PIXEL_PAIRS / (per_unit * len(self.image_ids)))
        affordable = min(affordable, int(_PIXEL_PICTURES / per_unit))
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
            files = self.pictures["eeg"][int(trial)]
            paths += files
            rows += [row] * len(files)
        references = prepare(self.shown([self.image_ids[i] for i in images]), self.protocol)
        pictures = prepare(self.load(paths), self.protocol)
        flat = [_standardized(x) for x in (references, pictures)]
        a, b = gray(references), gray(pictures)
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
        by_rung: dict[str, np.ndarray],
        table: np.ndarray,
        units: Units,
    ) -> Score:
        """Value over all trials, chance over the units of the table."""
        score = self._plain_score({**row, **self.ladder(by_rung)}, by_rung["eeg"])
        tested = self.work.test({}, units, units.images, table, family=None, also_within=True)
        score.row["chance"], score.row["p"] = tested.row["chance"], tested.row["p"]
        for key in ("chance_within_class", "p_within_class"):
            if key in tested.row:
                score.row[key] = tested.row[key]
        score.family = f"pictures {self.base['generator']}"
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
    """A picture at the height and width of another."""
    from PIL import Image

    if image.shape == shape:
        return image
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _standardized(images: np.ndarray) -> np.ndarray:
    """Flattened, centered and scaled to unit length; a constant picture becomes 0."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    constant = np.ptp(flat, axis=1) == 0
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat[constant] = 0
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(norm == 0, 1, norm)

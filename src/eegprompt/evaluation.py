"""Scores of a run, each beside its chance, its interval, its floor and its ceiling.

Nothing is drawn and nothing of the decoder is trained here: what exists is scored, and what does
not exist is named. The within-class figures stand first, because knowing the class cannot lift
them.

What a score's surroundings mean:

- *chance* and *p*: by permuting which image each condition shows (all its trials together), or,
  where only the category of a trial is known, the categories of trials within a run.
- *interval*: 95 %, bootstrap over images with all their trials (over trials where only the category
  is known).
- *floor*: caption scores of the captions of a random image of the pool; picture scores of the
  pictures drawn from random captions.
- *ceiling*: caption scores of the true captions' own embeddings; picture scores of the pictures
  drawn from the true captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import content_key, write_json
from eegprompt.controls.bootstrap import bootstrap, interval, ratio_statistic
from eegprompt.controls.correction import holm
from eegprompt.controls.permutation import (
    permutation_p,
    permutation_test,
    table_chance,
    table_statistic,
)
from eegprompt.errors import InputError, RunError
from eegprompt.experiment import load_config
from eegprompt.metrics.classification import (
    class_probabilities,
    class_prototypes,
    decision_credit,
    ensemble_probabilities,
    fit_temperature,
    fit_weights,
    majority_credit,
    weighted_auc,
)
from eegprompt.metrics.identification import two_way_table
from eegprompt.metrics.images import gray, pixcorr, prepare, ssim, ssim_legacy, ssim_pairs
from eegprompt.metrics.retrieval import (
    answer_ranks,
    class_credit,
    cosine_similarity,
    right_answers,
    topk_hits,
)
from eegprompt.registry import resolve
from eegprompt.run import Run, fold_runs

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study import Study

__all__ = ["evaluate", "evaluate_folds"]

Progress = Callable[[int, int, str], None]

RUNGS = ("eeg", "floor", "ceiling")
_KEYS = (
    "metric", "rung", "head", "pool", "scope", "unit", "n", "n_trials", "value", "lo", "hi",
    "chance", "p", "p_holm", "floor", "ceiling", "generator", "features", "higher_is_better",
    "protocol", "note",
)  # fmt: skip
_PIXEL_PAIRS = 4096  # pictures × references whose SSIM is computed for permutations
_MEAN_IMAGE_OF = 500  # training images that the mean image is made from, at most
_SURE_THING = 0.95  # a score whose chance is above this says nothing and is left out


@dataclass
class _Score:
    """A row with what is needed to average it over folds."""

    row: dict[str, Any]
    family: str | None = None
    null: np.ndarray | None = None
    replicates: np.ndarray | None = None
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Units:
    """What is permuted and drawn again: images with all their trials, or single trials.

    Parameters
    ----------
    names : tuple of str
        One a unit.
    index : array of int, shape (n_trials,)
        Unit of each scored trial.
    images : array of int, shape (n_units,)
        Image of each unit, as a row of the list of test images.
    classes : array of int, shape (n_units,)
        Class of each unit.
    strata : array of shape (n_units,), optional
        Labels are exchanged only inside a stratum.
    """

    names: tuple[str, ...]
    index: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    strata: np.ndarray | None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def counts(self) -> np.ndarray:
        return np.bincount(self.index, minlength=len(self.names)).astype(float)

    def totals(self, by_trial: np.ndarray) -> np.ndarray:
        """Sum over each unit's trials."""
        out = np.zeros((len(self.names), *by_trial.shape[1:]))
        np.add.at(out, self.index, by_trial)
        return out

    def subset(self, trials: np.ndarray) -> _Units:
        """The units of some of the trials (a bool mask)."""
        kept, index = np.unique(self.index[trials], return_inverse=True)
        return _Units(
            tuple(self.names[i] for i in kept),
            index,
            self.images[kept],
            self.classes[kept],
            None if self.strata is None else self.strata[kept],
        )


def evaluate(run: Run | str | Path, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Score what a run holds and write ``scores.json``.

    Parameters
    ----------
    run : Run or path-like
        A run; its embeddings, decodings, prompts and pictures are scored as far as they exist.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    list of dict
        The rows of ``scores.json``: ``metric rung head pool scope unit n n_trials value lo hi chance
        p p_holm floor ceiling generator features higher_is_better protocol note``, None where a key
        does not apply. Rows over all candidates also hold ``chance_within_class`` and
        ``p_within_class`` (images exchanged only within their class); picture rows ``floor_lo
        floor_hi ceiling_lo ceiling_hi``; rows of one subject ``subject``.

    Raises
    ------
    RunError
        If what the run holds does not belong to its study and split, or cannot be read.
    """
    run = run if isinstance(run, Run) else Run(run)
    scores, notes, missing = _scored(run, progress)
    return _write(run.path, scores, notes, missing, run)


def evaluate_folds(parent: str | Path, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Score every fold of a run over folds, and their means into the parent's ``scores.json``.

    A mean's chance and p come from averaging the folds' permuted statistics, permutation by
    permutation; its interval likewise from the folds' resamples. Folds that test the same images
    share permutations and resamples.

    Parameters
    ----------
    parent : path-like
        The folder that holds ``fold-0``, ``fold-1``, …
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    list of dict
        As :func:`evaluate`, with ``folds``: the value in each fold. A score that not every fold has
        is named among what is missing.

    Raises
    ------
    RunError
        If there are no fold runs.
    """
    parent = Path(parent)
    folders = fold_runs(parent)
    if not folders:
        raise RunError(
            f"{parent} holds no runs named fold-0, fold-1, …; make a run over folds, or evaluate a "
            "single run"
        )
    by_key: dict[tuple[Any, ...], list[_Score]] = {}
    notes: list[str] = [f"Each value is the mean over {len(folders)} folds."]
    missing: list[str] = []
    for i, folder in enumerate(folders):

        def of_fold(done: int, total: int, label: str, i: int = i) -> None:
            if progress is not None:
                progress(i * total + done, len(folders) * total, f"fold {i}: {label}")

        run = Run(folder)
        scores, said, lacking = _scored(run, of_fold)
        _write(run.path, scores, said, lacking, run)
        notes += [n for n in said if n not in notes]
        missing += [f"{folder.name}: {m}" for m in lacking]
        for score in scores:
            by_key.setdefault(_identity(score.row), []).append(score)
    means = []
    for group in by_key.values():
        if len(group) < len(folders):
            row = group[0].row
            name = " ".join(str(row[k]) for k in ("metric", "head", "scope") if row.get(k))
            missing.append(f"{name}: only {len(group)} of {len(folders)} folds have it")
            continue
        means.append(_mean_of_folds(group))
    return _write(parent, means, notes, missing, None)


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("metric", "rung", "head", "scope", "generator", "features", "protocol", "subject")
    return tuple(row.get(k) for k in keys)


def _mean_of_folds(group: list[_Score]) -> _Score:
    row = dict(group[0].row)

    def mean(key: str) -> float | None:
        values = [s.row.get(key) for s in group]
        return None if any(v is None for v in values) else float(np.mean(values))  # type: ignore[arg-type]

    units = {name for s in group for name in s.units}
    row["folds"] = [s.row["value"] for s in group]
    for key in ("value", "chance", "floor", "ceiling", "chance_within_class"):
        if key in row:
            row[key] = mean(key)
    row["n_trials"] = sum(int(s.row["n_trials"]) for s in group)
    row["n"] = len(units) or sum(int(s.row["n"]) for s in group)
    for key in (
        "lo",
        "hi",
        "p",
        "p_within_class",
        "floor_lo",
        "floor_hi",
        "ceiling_lo",
        "ceiling_hi",
    ):
        if key in row:
            row[key] = None
    nulls = [s.null for s in group]
    null = None
    if all(n is not None for n in nulls) and row["value"] is not None:
        null = np.mean([n for n in nulls if n is not None], axis=0)
        row["p"] = permutation_p(row["value"], null, higher_is_better=bool(row["higher_is_better"]))
    resampled = [s.replicates for s in group]
    replicates = None
    if all(r is not None for r in resampled) and row["value"] is not None:
        replicates = np.mean([r for r in resampled if r is not None], axis=0)
        row["lo"], row["hi"] = map(_number, interval(row["value"], replicates))
    return _Score(row, group[0].family, null, replicates, tuple(sorted(units)))


def _write(
    folder: Path, scores: list[_Score], notes: list[str], missing: list[str], run: Run | None
) -> list[dict[str, Any]]:
    _correct(scores)
    rows = [s.row for s in sorted(scores, key=lambda s: s.row["scope"] != "within-class")]
    write_json(folder / "scores.json", {"rows": rows, "notes": notes, "missing": missing})
    if run is not None:
        run.record("evaluate", settings=run.config.get("evaluation", {}), rows=len(rows))
    return rows


def _correct(scores: list[_Score]) -> None:
    """Holm's correction inside each family, in place."""
    families: dict[str, list[_Score]] = {}
    for score in scores:
        if score.family is not None and score.row["p"] is not None:
            families.setdefault(score.family, []).append(score)
    for members in families.values():
        for score, p in zip(members, holm(np.array([s.row["p"] for s in members]))):
            score.row["p_holm"] = float(p)


def _number(value: float | np.floating[Any] | None) -> float | None:
    """A float that JSON can hold."""
    return None if value is None or not np.isfinite(value) else float(value)


def _scored(run: Run, progress: Progress | None) -> tuple[list[_Score], list[str], list[str]]:
    work = _Evaluation(run)
    steps: list[tuple[str, Callable[[], Iterable[_Score]]]] = [
        ("caption retrieval", work.caption_scores),
        ("class accuracy", work.class_scores),
        ("shrinkage LDA", work.lda_scores),
        ("pictures", work.picture_scores),
    ]
    scores: list[_Score] = []
    for i, (label, step) in enumerate(steps):
        if progress is not None:
            progress(i, len(steps), label)
        scores += step()
    if progress is not None:
        progress(len(steps), len(steps), "scores")
    return scores, work.notes, work.missing


@dataclass
class _Evaluation:
    """One run while it is scored."""

    run: Run
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = load_config(self.run.config)
        self.settings = self.config.evaluation
        self.study: Study = self.run.study()
        self.fold = self.run.fold(self.study)
        if not len(self.fold.test):
            raise RunError(
                f"the test side of split '{self.config.split}' is empty, so there is nothing to score; "
                "make a split with a test side"
            )
        self.known = self.study.image_identity == "known"
        self.images = self.study.trials["image_id"].astype(str).to_numpy()
        self.categories = self.study.trials["category"].astype(str).to_numpy()
        self.class_names = sorted(set(self.categories[self.fold.train]))
        if self.known:
            self.note(
                "n counts images; chance and p permute which image each condition shows, all its "
                "trials together; intervals draw images again with all their trials."
            )
        else:
            self.note(
                "Only the category of a trial is known: n counts trials, chance and p permute "
                "categories within a run, intervals draw trials again, there are no image-level and no "
                "within-class scores, and picture scores compare with a picture that stands for the "
                "category."
            )

    # -- helpers -------------------------------------------------------------------------------
    def note(self, sentence: str) -> None:
        """Add a sentence once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def units_of(self, trials: np.ndarray, image_ids: Sequence[str]) -> _Units:
        """Units of some trials; `image_ids` are the images that can be asked for."""
        row = {image: i for i, image in enumerate(image_ids)}
        class_row = {name: i for i, name in enumerate(sorted(set(self.categories)))}
        if self.known:
            shown, index = np.unique(self.images[trials], return_inverse=True)
            first = trials[np.unique(index, return_index=True)[1]]
            names, strata = tuple(shown), None
        else:
            index, first = np.arange(len(trials)), trials
            names = tuple(str(t) for t in trials)
            columns = self.study.trials.loc[trials, ["subject", "session", "run"]].astype(str)
            strata = columns.agg("\t".join, axis=1).to_numpy()
        return _Units(
            names,
            index,
            np.array([row[i] for i in self.images[first]]),
            np.array([class_row[c] for c in self.categories[first]]),
            strata,
        )

    def seed(self, units: _Units) -> int:
        """Seed of permutations and resamples: equal for equal units, so that folds and heads share."""
        return int(content_key(self.config.seed, list(units.names), length=12), 16)

    def test(
        self,
        row: dict[str, Any],
        units: _Units,
        labels: np.ndarray,
        by_trial: np.ndarray,
        *,
        family: str | None,
        within: bool = False,
        also_within: bool = False,
    ) -> _Score:
        """Surround a mean over trials, given what each trial scores under each label.

        `within` permutes inside classes; `also_within` adds that beside the global permutation.
        """
        totals, counts = units.totals(by_trial), units.counts
        strata = units.classes if within else units.strata
        statistic = table_statistic(totals, counts)
        seed = self.seed(units)
        result = permutation_test(
            statistic,
            labels,
            self.settings.permutations,
            strata=strata,
            seed=seed,
            chance=table_chance(totals, counts, labels, strata),
        )
        own = totals[np.arange(len(units)), labels]
        spread = bootstrap(
            ratio_statistic(own, counts), len(units), self.settings.resamples, seed=seed
        )
        extra: dict[str, Any] = {}
        if also_within and self.known:
            inner = permutation_test(
                statistic,
                labels,
                self.settings.permutations,
                strata=units.classes,
                seed=seed,
                chance=table_chance(totals, counts, labels, units.classes),
            )
            extra = {
                "chance_within_class": _number(inner.chance),
                "p_within_class": _number(inner.p),
            }
        tested = not np.isnan(result.p)
        return _Score(
            _row(
                **{
                    "n": len(units),
                    "n_trials": int(counts.sum()),
                    "value": _number(result.value),
                    "lo": _number(spread.lo),
                    "hi": _number(spread.hi),
                    "chance": _number(result.chance) if tested else None,
                    "p": _number(result.p),
                    **row,
                },
                **extra,
            ),
            family,
            result.null if tested else None,
            spread.replicates,
            units.names,
        )

    # -- what the run holds --------------------------------------------------------------------
    @cached_property
    def embeddings(self) -> dict[str, np.ndarray] | None:
        """Head embeddings of validation and test trials, checked against the split."""
        path = self.run.embeddings_path
        if not path.exists():
            self.missing.append(
                "caption and class scores: embeddings.safetensors is missing; run 'eegprompt decode'"
            )
            return None
        from safetensors.numpy import load_file

        try:
            stored = load_file(path)
        except Exception as problem:  # the package's errors have no common base worth naming
            raise RunError(
                f"{path} cannot be read ({type(problem).__name__}); delete it and run 'eegprompt "
                "decode' again"
            ) from None
        for side in ("val", "test"):
            ids = stored.get(f"{side}/trial_id")
            if ids is None:
                raise RunError(f"{path} lacks '{side}/trial_id'; run 'eegprompt decode' again")
            foreign = np.setdiff1d(ids, getattr(self.fold, side))
            if len(foreign):
                raise RunError(
                    f"{path} holds {len(foreign)} {side} trials that are not on the {side} side of "
                    f"fold {self.config.fold} of split '{self.config.split}' (first: {foreign[0]}); "
                    "run 'eegprompt decode' again"
                )
            for head in self.config.kinds:
                rows = stored.get(f"{side}/{head}")
                if rows is not None and (rows.ndim != 2 or len(rows) != len(ids)):
                    raise RunError(
                        f"{path} holds {len(ids)} {side} trials but embeddings of shape {rows.shape} "
                        f"for head {head}; run 'eegprompt decode' again"
                    )
        absent = len(np.setdiff1d(self.fold.test, stored["test/trial_id"]))
        if absent:
            self.missing.append(f"embeddings of {absent} of {len(self.fold.test)} test trials")
        if not len(stored["test/trial_id"]):
            self.missing.append(
                "caption and class scores: there are no test trials in the embeddings"
            )
            return None
        return stored

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Heads with test embeddings."""
        if self.embeddings is None:
            return ()
        present = tuple(h for h in self.config.kinds if f"test/{h}" in self.embeddings)
        for head in self.config.kinds:
            if head not in present:
                self.missing.append(f"head {head}: no embeddings; run 'eegprompt decode' again")
        for head in present:
            bad = int((~np.isfinite(self.embeddings[f"test/{head}"]).all(axis=1)).sum())
            if bad:
                self.note(
                    f"{bad} test trials have an embedding that is not a number for head {head}; they "
                    "count as wrong."
                )
        return present

    @cached_property
    def trials(self) -> np.ndarray:
        """Test trials with embeddings, in the order of the file."""
        assert self.embeddings is not None
        return np.asarray(self.embeddings["test/trial_id"], dtype=np.int64)

    @cached_property
    def captions(self) -> pd.DataFrame:
        table = self.study.captions(self.config.captions)
        return table.assign(image_id=table["image_id"].astype(str), text=table["text"].astype(str))

    @cached_property
    def text_encoder(self) -> Any:
        from eegprompt.text import load_text_encoder

        return load_text_encoder(self.config.text_encoder)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of captions, kept in the study's cache."""
        from eegprompt.text import cached_embeddings

        return cached_embeddings(self.text_encoder, list(texts), self.study.path / "cache")

    def of_kind(self, head: str, image_ids: Iterable[str]) -> pd.DataFrame:
        """Captions of one kind of some images."""
        table = self.captions
        rows = table[(table["kind"] == head) & table["image_id"].isin(set(image_ids))]
        return rows.sort_values(["image_id", "text"], kind="stable")

    # -- caption retrieval ---------------------------------------------------------------------
    def caption_scores(self) -> list[_Score]:
        """Retrieval of each head on pool `test`."""
        if self.embeddings is None or not self.heads:
            return []
        image_ids = sorted(set(self.images[self.trials]))
        units = self.units_of(self.trials, image_ids)
        self.note(
            "Caption retrieval: pool 'test' holds each caption text of the test images once; captions "
            "of the same image or of the same meaning count as right. Its floor is what the captions "
            "of a random image of the pool score, its ceiling what the true captions score, both "
            "embedded as text."
        )
        if self.known:
            self.note(
                "Within-class retrieval chooses only among captions of images of the trial's class, and "
                "permutes images within the class, so that knowing the class does not help."
            )
        self.note(
            "Class-level retrieval asks whether the nearest caption belongs to the right class; a "
            "caption of images of several classes counts by its share of images in each."
        )
        scores = []
        for head in self.heads:
            scores += self._head_retrieval(head, image_ids, units)
        return scores

    def _head_retrieval(self, head: str, image_ids: list[str], units: _Units) -> list[_Score]:
        assert self.embeddings is not None
        captions = self.of_kind(head, image_ids)
        texts = sorted(set(captions["text"]))
        if not texts:
            self.missing.append(
                f"caption retrieval of {head}: the test images have no such captions"
            )
            return []
        right = right_answers(
            texts,
            image_ids,
            captions["image_id"].tolist(),
            captions["text"].tolist(),
            captions["meaning"].tolist() if "meaning" in captions else None,
        )
        candidates = self.embed(texts)
        queries = self.embeddings[f"test/{head}"]
        similarity = cosine_similarity(queries, candidates)
        # what the captions of each image would retrieve, were they the query
        row = {image: i for i, image in enumerate(image_ids)}
        column = {text: i for i, text in enumerate(texts)}
        of_image = np.array([row[i] for i in captions["image_id"]])
        caption_column = np.array([column[t] for t in captions["text"]])
        between = cosine_similarity(candidates, candidates)[caption_column]
        n_captions = np.bincount(of_image, minlength=len(image_ids))[:, None]

        def per_image(by_caption: np.ndarray) -> np.ndarray:
            out = np.zeros((len(image_ids), by_caption.shape[1]))
            np.add.at(out, of_image, by_caption)
            return out / n_captions

        scores = []
        base = {"head": head, "pool": "test", "unit": "proportion", "higher_is_better": True}
        if self.known:
            scores += self._within_class(
                head, base, units, right, similarity, between, per_image, of_image
            )
            ranks = answer_ranks(similarity, right)
            caption_ranks = answer_ranks(between, right)
            for k in (1, 5):
                if k > len(texts):
                    continue
                truth = per_image(topk_hits(caption_ranks, k))
                floor, ceiling = _floor_ceiling(truth, units.images, units.counts)
                score = self.test(
                    {
                        **base,
                        "metric": f"caption_retrieval_top{k}",
                        "scope": "all",
                        "floor": floor,
                        "ceiling": ceiling,
                    },
                    units,
                    units.images,
                    topk_hits(ranks, k),
                    family=f"caption_retrieval_top{k} all",
                    also_within=True,
                )
                self._keep(scores, score)
        scores += self._class_retrieval(head, base, units, right, similarity, between, per_image)
        return scores

    def _keep(self, scores: list[_Score], score: _Score) -> None:
        """Keep a score unless chance alone gives nearly all of it."""
        chance = score.row["chance"]
        if chance is not None and chance > _SURE_THING:
            where = "within class " if score.row["scope"] == "within-class" else ""
            self.missing.append(
                f"{score.row['metric']} {where}of {score.row['head']}: the pool is so small that chance "
                f"alone gives {chance:.3f}"
            )
        else:
            scores.append(score)

    def _within_class(
        self,
        head: str,
        base: dict[str, Any],
        units: _Units,
        right: np.ndarray,
        similarity: np.ndarray,
        between: np.ndarray,
        per_image: Callable[[np.ndarray], np.ndarray],
        of_image: np.ndarray,
    ) -> list[_Score]:
        n_images = len(right)
        image_class = np.full(n_images, -1)
        image_class[units.images] = units.classes
        hits = {k: np.zeros((len(similarity), n_images)) for k in (1, 5)}
        truth = {k: np.zeros((len(of_image), n_images)) for k in (1, 5)}
        scored = np.zeros(n_images, dtype=bool)
        trial_class = units.classes[units.index]
        for c in np.unique(image_class):
            members = np.flatnonzero(image_class == c)
            columns = np.flatnonzero(right[members].any(axis=0))
            answers = right[np.ix_(members, columns)]
            if len(np.unique(answers, axis=0)) < 2:
                continue  # the kind says the same of every image of the class
            scored[members] = True
            rows = np.flatnonzero(trial_class == c)
            asked = np.flatnonzero(np.isin(of_image, members))
            ranks = answer_ranks(similarity[np.ix_(rows, columns)], answers)
            caption_ranks = answer_ranks(between[np.ix_(asked, columns)], answers)
            for k in (1, 5):
                among = min(k, len(columns))
                hits[k][np.ix_(rows, members)] = topk_hits(ranks, among)
                truth[k][np.ix_(asked, members)] = topk_hits(caption_ranks, among)
        if not scored.any():
            self.note(
                f"{head} does not vary within a class of the test images: no within-class score."
            )
            return []
        kept = scored[units.images][units.index]
        inner = units.subset(kept)
        scores: list[_Score] = []
        for k in (1, 5):
            floor, ceiling = _floor_ceiling(
                per_image(truth[k]), inner.images, inner.counts, inner.classes
            )
            score = self.test(
                {
                    **base,
                    "metric": f"caption_retrieval_top{k}",
                    "scope": "within-class",
                    "floor": floor,
                    "ceiling": ceiling,
                },
                inner,
                inner.images,
                hits[k][kept],
                family=f"caption_retrieval_top{k} within-class",
                within=True,
            )
            self._keep(scores, score)
        return scores

    def _class_retrieval(
        self,
        head: str,
        base: dict[str, Any],
        units: _Units,
        right: np.ndarray,
        similarity: np.ndarray,
        between: np.ndarray,
        per_image: Callable[[np.ndarray], np.ndarray],
    ) -> list[_Score]:
        present, labels = np.unique(units.classes, return_inverse=True)
        if len(present) < 2:
            return []
        image_class = np.zeros((len(right), len(present)))
        image_class[units.images, labels] = 1
        share = right.T.astype(float) @ image_class
        share /= share.sum(axis=1, keepdims=True)
        truth = per_image(class_credit(between, share))
        own = truth[units.images, labels]
        floor = (truth[units.images].mean(axis=0)[labels] * units.counts).sum()
        return [
            self.test(
                {
                    **base,
                    "metric": "caption_retrieval_class_top1",
                    "scope": "all",
                    "floor": _number(floor / units.counts.sum()),
                    "ceiling": _number((own * units.counts).sum() / units.counts.sum()),
                },
                units,
                labels,
                class_credit(similarity, share),
                family="caption_retrieval_class_top1",
            )
        ]

    # -- class accuracy ------------------------------------------------------------------------
    def _class_trials(self) -> np.ndarray | None:
        """Which test trials can be classified (bool), or None with the reason named."""
        known = np.isin(self.categories[self.trials], self.class_names)
        tested = set(self.categories[self.trials][known])
        if len(self.class_names) < 2:
            self.missing.append("class accuracy: the training trials have only one class")
            return None
        if not known.any():
            self.missing.append("class accuracy: no test class was seen in training")
            return None
        if len(tested) < 2:
            self.missing.append("class accuracy: the test trials have only one class")
            return None
        unseen = sorted(set(self.categories[self.trials]) - set(self.class_names))
        if unseen:
            self.note(
                f"Class accuracy leaves out {int((~known).sum())} test trials of classes that were "
                f"not seen in training: {', '.join(unseen[:8])}."
            )
        untested = sorted(set(self.class_names) - tested)
        if untested:
            self.note(
                f"{len(untested)} of {len(self.class_names)} classes have no test trial; they can be "
                "chosen, but do not enter the mean over classes."
            )
        return known

    def class_scores(self) -> list[_Score]:
        """Class decisions of each head and of the ensemble of heads."""
        if self.embeddings is None or not self.heads:
            return []
        known = self._class_trials()
        if known is None:
            return []
        number = {name: i for i, name in enumerate(self.class_names)}
        trials = self.trials[known]
        target = np.array([number[c] for c in self.categories[trials]])
        validation = np.asarray(self.embeddings["val/trial_id"], dtype=np.int64)
        usable = np.isin(self.categories[validation], self.class_names)
        truth_val = np.array([number[c] for c in self.categories[validation][usable]], dtype=int)
        training_class = dict(zip(self.images[self.fold.train], self.categories[self.fold.train]))
        image_ids = sorted(set(self.images[trials]))
        of_head: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for head in self.heads:
            training = self.of_kind(head, training_class)
            classes = np.array([number[training_class[i]] for i in training["image_id"]], dtype=int)
            absent = set(range(len(number))) - set(classes.tolist())
            if absent:
                self.missing.append(
                    f"class accuracy of {head}: class '{self.class_names[min(absent)]}' has no training "
                    "caption of this kind"
                )
                continue
            prototypes = class_prototypes(
                self.embed(training["text"].tolist()), classes, len(number)
            )
            val = self.embeddings.get(f"val/{head}")
            if val is None or not usable.any():
                self.missing.append(f"class accuracy of {head}: no validation embeddings to fit on")
                continue
            on_val = cosine_similarity(val[usable], prototypes)
            try:
                temperature = fit_temperature(on_val, truth_val)
            except InputError as problem:
                self.missing.append(f"class accuracy of {head}: {problem}")
                continue
            shown = self.of_kind(head, image_ids)
            row = {image: i for i, image in enumerate(image_ids)}
            true_captions = np.zeros((len(image_ids), prototypes.shape[1]))
            np.add.at(
                true_captions,
                [row[i] for i in shown["image_id"]],
                self.embed(shown["text"].tolist()),
            )
            of_head[head] = (
                class_probabilities(on_val, temperature),
                class_probabilities(
                    cosine_similarity(self.embeddings[f"test/{head}"][known], prototypes),
                    temperature,
                ),
                class_probabilities(cosine_similarity(true_captions, prototypes), temperature),
            )
        if not of_head:
            return []
        self.note(
            "Class accuracy: each head gives class probabilities (softmax of its cosine with the mean "
            "training caption of each class, temperature fitted on validation); the ensemble takes "
            "their mean. 'weighted' weighs heads by validation, 'majority' counts their votes, 'macro' "
            "is the mean over classes. The floor classifies the captions of a random test image, the "
            "ceiling the true captions."
        )
        val, test, caption = (np.stack([p[i] for p in of_head.values()]) for i in range(3))
        units = self.units_of(trials, image_ids)
        # the class of a unit, counted among the training classes
        labels = np.empty(len(units), dtype=int)
        labels[units.index] = target
        scores: list[_Score] = []

        def add(metric: str, head: str, credit: np.ndarray, of_captions: np.ndarray, family: str):
            floor, ceiling = _floor_ceiling(
                of_captions[:, labels], np.arange(len(units)), units.counts, queries=units.images
            )
            row = {
                "metric": metric,
                "head": head,
                "scope": "all",
                "unit": "proportion",
                "higher_is_better": True,
                "floor": floor,
                "ceiling": ceiling,
            }
            scores.append(self.test(row, units, labels, credit, family=family))

        weights = fit_weights(val, truth_val)
        mean, weighted = ensemble_probabilities(test), ensemble_probabilities(test, weights)
        mean_caption = ensemble_probabilities(caption)
        ensemble = "class accuracy of the ensemble"
        add(
            "class_accuracy",
            "ensemble",
            decision_credit(mean),
            decision_credit(mean_caption),
            ensemble,
        )
        macro_row = {
            "metric": "class_accuracy_macro",
            "head": "ensemble",
            "scope": "all",
            "unit": "proportion",
            "higher_is_better": True,
        }
        scores.append(
            self.test_macro(macro_row, units, labels, decision_credit(mean), family=ensemble)
        )
        add(
            "class_accuracy_weighted",
            "ensemble",
            decision_credit(weighted),
            decision_credit(ensemble_probabilities(caption, weights)),
            ensemble,
        )
        add(
            "class_accuracy_majority",
            "ensemble",
            majority_credit(test),
            majority_credit(caption),
            ensemble,
        )
        two = len(self.class_names) == 2
        if two:
            self.note(
                f"AUC: the probability that a trial of '{self.class_names[1]}' gets a higher score for "
                f"it than a trial of '{self.class_names[0]}'."
            )
            scores.append(
                self.test_auc(
                    "class_auc", "ensemble", units, labels, _margin(mean), family=ensemble
                )
            )
        for head, (_, on_test, on_captions) in of_head.items():
            add(
                "class_accuracy",
                head,
                decision_credit(on_test),
                decision_credit(on_captions),
                "class_accuracy heads",
            )
            if two:
                scores.append(
                    self.test_auc(
                        "class_auc", head, units, labels, _margin(on_test), family="class_auc heads"
                    )
                )
        scores += self._by_subject(trials, target, decision_credit(mean))
        return scores

    def _by_subject(
        self, trials: np.ndarray, target: np.ndarray, credit: np.ndarray
    ) -> list[_Score]:
        """Accuracy of the ensemble for each subject, where there are several."""
        subjects = self.study.trials["subject"].astype(str).to_numpy()[trials]
        names = sorted(set(subjects))
        if len(names) < 2:
            return []
        scores = []
        for name in names:
            mine = subjects == name
            units = self.units_of(trials[mine], sorted(set(self.images[trials[mine]])))
            labels = np.empty(len(units), dtype=int)
            labels[units.index] = target[mine]
            row = {
                "metric": "class_accuracy",
                "head": "ensemble",
                "scope": "all",
                "unit": "proportion",
                "higher_is_better": True,
                "subject": name,
                "note": f"subject {name}",
            }
            scores.append(
                self.test(row, units, labels, credit[mine], family="class_accuracy subjects")
            )
        return scores

    def test_macro(
        self,
        row: dict[str, Any],
        units: _Units,
        labels: np.ndarray,
        credit: np.ndarray,
        *,
        family: str,
    ) -> _Score:
        """Surround a mean over classes of their accuracies."""
        totals, counts = units.totals(credit), units.counts
        classes = np.unique(labels)

        def permuted(sets: np.ndarray) -> np.ndarray:
            parts = []
            for c in classes:
                mine = sets == c
                with np.errstate(invalid="ignore", divide="ignore"):
                    parts.append((mine @ totals[:, c]) / (mine @ counts))
            return np.nanmean(parts, axis=0)

        def resampled(weights: np.ndarray) -> np.ndarray:
            parts = []
            for c in classes:
                mine = labels == c
                with np.errstate(invalid="ignore", divide="ignore"):
                    parts.append(
                        (weights[:, mine] @ totals[mine, c]) / (weights[:, mine] @ counts[mine])
                    )
            return np.nanmean(parts, axis=0)

        return self._general(row, units, labels, permuted, resampled, family)

    def test_auc(
        self,
        metric: str,
        head: str | None,
        units: _Units,
        labels: np.ndarray,
        scores: np.ndarray,
        *,
        family: str,
    ) -> _Score:
        """Surround an AUC; label 1 is positive."""
        row = {
            "metric": metric,
            "head": head,
            "scope": "all",
            "unit": "AUC",
            "higher_is_better": True,
        }
        by_trial = weighted_auc(scores, labels[units.index] == 1)

        def permuted(sets: np.ndarray) -> np.ndarray:
            every = np.ones((1, len(scores)))
            return np.array([weighted_auc(scores, one[units.index] == 1)(every)[0] for one in sets])

        def resampled(weights: np.ndarray) -> np.ndarray:
            return by_trial(weights[:, units.index])

        return self._general(row, units, labels, permuted, resampled, family)

    def _general(
        self,
        row: dict[str, Any],
        units: _Units,
        labels: np.ndarray,
        permuted: Callable[[np.ndarray], np.ndarray],
        resampled: Callable[[np.ndarray], np.ndarray],
        family: str,
    ) -> _Score:
        seed = self.seed(units)
        result = permutation_test(
            permuted, labels, self.settings.permutations, strata=units.strata, seed=seed
        )
        spread = bootstrap(resampled, len(units), self.settings.resamples, seed=seed)
        tested = not np.isnan(result.p)
        return _Score(
            _row(
                **{
                    "n": len(units),
                    "n_trials": int(units.counts.sum()),
                    "value": _number(result.value),
                    "lo": _number(spread.lo),
                    "hi": _number(spread.hi),
                    "chance": _number(result.chance) if tested else None,
                    "p": _number(result.p),
                    **row,
                }
            ),
            family,
            result.null if tested else None,
            spread.replicates,
            units.names,
        )

    # -- baseline ------------------------------------------------------------------------------
    def lda_scores(self) -> list[_Score]:
        """Shrinkage LDA on the same trials: what a linear classifier of the EEG reaches."""
        from eegprompt.encoders.lda import ShrinkageLDA, bin_means

        trials = self.trials if self.embeddings is not None else self.fold.test
        seen = np.isin(self.categories[trials], self.class_names)
        trials = trials[seen]
        if len(self.class_names) < 2 or len(set(self.categories[trials])) < 2:
            self.missing.append("shrinkage LDA: fewer than two classes to tell apart")
            return []
        study = self.study

        def binned(ids: np.ndarray) -> np.ndarray:
            parts = [
                bin_means(np.asarray(study.eeg[ids[s : s + 256]]), study.sfreq, tmin=study.tmin)
                for s in range(0, len(ids), 256)
            ]
            return np.concatenate(parts)

        try:
            # the windows are made above, a block of trials at a time: one sample a window is left
            lda = ShrinkageLDA(sfreq=1.0, width=1.0).fit(
                binned(self.fold.train), self.categories[self.fold.train]
            )
        except InputError as problem:
            self.missing.append(f"shrinkage LDA: {problem}")
            return []
        decision = lda.decision(binned(trials))
        number = {str(name): i for i, name in enumerate(lda.classes_)}
        units = self.units_of(trials, sorted(set(self.images[trials])))
        labels = np.empty(len(units), dtype=int)
        labels[units.index] = [number[c] for c in self.categories[trials]]
        self.note(
            "class_accuracy_lda and class_auc_lda: shrinkage LDA on window means of the EEG, fitted on "
            "the training trials – a baseline on the same test trials, not part of the decoder."
        )
        row = {
            "metric": "class_accuracy_lda",
            "scope": "all",
            "unit": "proportion",
            "higher_is_better": True,
        }
        scores = [self.test(row, units, labels, decision_credit(decision), family="shrinkage LDA")]
        if len(number) == 2:
            scores.append(
                self.test_auc(
                    "class_auc_lda", None, units, labels, _margin(decision), family="shrinkage LDA"
                )
            )
        return scores

    # -- pictures ------------------------------------------------------------------------------
    def picture_scores(self) -> list[_Score]:
        """Pixel and feature scores of the pictures of each rung."""
        pictures = {rung: self._pictures(rung) for rung in RUNGS}
        if not pictures["eeg"]:
            self.missing.append(
                "picture scores: no pictures of rung 'eeg' by generator "
                f"'{self.config.drawing.generator}'; run 'eegprompt generate'"
            )
            return []
        for rung in ("floor", "ceiling"):
            lacking = len(set(pictures["eeg"]) - set(pictures[rung]))
            if lacking == len(pictures["eeg"]):
                self.missing.append(
                    f"picture scores: no pictures of rung '{rung}'; run 'eegprompt generate'"
                )
            elif lacking:
                self.missing.append(
                    f"picture scores: {lacking} of {len(pictures['eeg'])} pictures of rung '{rung}'; "
                    "its figure is over the others"
                )
        return _PictureScores(self, pictures).scores()

    def _pictures(self, rung: str) -> dict[int, list[Path]]:
        """Files of one rung, by test trial."""
        test = set(self.fold.test.tolist())
        found: dict[int, list[Path]] = {}
        for path in sorted(
            self.run.images_dir(self.config.drawing.generator, rung).glob("*_*.png")
        ):
            trial, _, sample = path.stem.partition("_")
            if trial.isdigit() and sample.isdigit() and int(trial) in test:
                found.setdefault(int(trial), []).append(path)
        return found


class _PictureScores:
    """The pictures of a run while they are scored."""

    def __init__(self, work: _Evaluation, pictures: dict[str, dict[int, list[Path]]]):
        self.work = work
        self.pictures = pictures
        self.trials = np.array(sorted(pictures["eeg"]), dtype=np.int64)
        self.image_ids = sorted(set(work.images[self.trials]))
        self.units = work.units_of(self.trials, self.image_ids)
        self.protocol = work.settings.protocol
        self.base = {
            "rung": "eeg",
            "generator": work.config.drawing.generator,
            "higher_is_better": True,
        }
        work.note(
            "Picture scores are means over trials (over samples first). Their floor and ceiling are "
            "pictures drawn by the same generator with the same seeds from random captions and from "
            "the true captions."
        )
        self.level = "" if work.known else "category-level: compared with the category's picture"

    def scores(self) -> list[_Score]:
        """All rows, corrected together as one family."""
        return [*self.feature_scores(), *self.pixel_scores()]

    # -- loading -------------------------------------------------------------------------------
    @cached_property
    def references(self) -> list[np.ndarray]:
        """The reference pictures at their own sizes."""
        return [self.work.study.load_images([image])[0] for image in self.image_ids]

    def load(self, paths: Sequence[Path]) -> list[np.ndarray]:
        """Drawn pictures."""
        from PIL import Image

        out = []
        for path in paths:
            try:
                with Image.open(path) as handle:
                    out.append(np.asarray(handle.convert("RGB"), dtype=np.uint8))
            except OSError:
                raise RunError(
                    f"{path} cannot be read as a picture; delete it and run 'eegprompt generate' again"
                ) from None
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
                rung: _number(spread.value),
                f"{rung}_lo": _number(spread.lo),
                f"{rung}_hi": _number(spread.hi),
            }
        return out

    # -- features ------------------------------------------------------------------------------
    def feature_scores(self) -> list[_Score]:
        """Two-way identification on each layer, over all references and within class."""
        work = self.work
        name = work.settings.features
        loader, argument = resolve("features", name)
        network = loader(argument) if argument else loader()
        size = self.load([self.pictures["eeg"][int(self.trials[0])][0]])[0].shape
        references = self._features(network, [self._squash(r, size) for r in self.references])
        by_rung = {}
        for rung in RUNGS:
            paths, _ = self.files(rung)
            if paths:
                by_rung[rung] = self._features(network, self.load(paths))
        if name.partition(":")[0] == "builtin":
            work.note(
                "Features 'builtin' are those of a small network trained on the built-in scenes: such "
                "scores cannot be compared with published ones, which use other networks."
            )
        work.note(
            "Two-way identification: how often the features of a picture correlate more with its own "
            "reference than with another; each distinct reference is one distractor, ties count half, "
            "chance is one half. Within class, only references of the same class are distractors."
        )
        scores: list[_Score] = []
        if len(self.image_ids) < 2:
            work.missing.append("two-way identification: there is only one reference")
            return []
        image_class = np.zeros(len(self.image_ids), dtype=int)
        image_class[self.units.images] = self.units.classes
        for layer in ("early", "late"):
            if layer not in references:
                work.missing.append(
                    f"two-way identification on '{layer}': '{name}' has no such layer"
                )
                continue
            for scope in ("within-class", "all") if work.known else ("all",):
                groups = image_class if scope == "within-class" else None
                tables = {
                    rung: self._by_trial(
                        two_way_table(references[layer], features[layer], classes=groups), rung
                    )
                    for rung, features in by_rung.items()
                }
                row = {
                    **self.base,
                    "metric": f"two_way_{layer}",
                    "scope": scope,
                    "unit": "proportion",
                    "features": name,
                    "protocol": f"squashed to {size[1]}x{size[0]}",
                    "note": self.level or None,
                }
                score = self._table_score(row, tables, within=scope == "within-class")
                if score is None:
                    work.missing.append(
                        f"two-way identification on '{layer}' within class: no class has two distinct "
                        "references"
                    )
                else:
                    scores.append(score)
        return scores

    @staticmethod
    def _squash(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        from PIL import Image

        if image.shape == shape:
            return image
        size = (shape[1], shape[0])
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

    @staticmethod
    def _features(network: Any, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        parts = [network(np.stack(images[s : s + 64])) for s in range(0, len(images), 64)]
        return {
            layer: np.concatenate([np.asarray(p[layer]).reshape(len(p[layer]), -1) for p in parts])
            for layer in parts[0]
        }

    def _by_trial(self, by_file: np.ndarray, rung: str) -> np.ndarray:
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

    def _table_score(
        self, row: dict[str, Any], tables: dict[str, np.ndarray], *, within: bool
    ) -> _Score | None:
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
            family="pictures",
            within=within,
            also_within=not within,
        )

    # -- pixels --------------------------------------------------------------------------------
    def pixel_scores(self) -> list[_Score]:
        """PixCorr and SSIM, with a plain gray and the mean training picture beside them."""
        work = self.work
        metrics = ("pixcorr", "ssim", "ssim_legacy")
        values: dict[str, dict[str, np.ndarray]] = {m: {} for m in metrics}
        rows = {image: i for i, image in enumerate(self.image_ids)}
        for rung in RUNGS:
            paths, row = self.files(rung)
            if not paths:
                continue
            own = [rows[work.images[t]] for t in self.rung_trials(rung)[row]]

            def drawn(at: slice, paths: list[Path] = paths) -> list[np.ndarray]:
                return self.load(paths[at])

            by_file = self._pixels(own, drawn)
            for metric in metrics:
                values[metric][rung] = self._by_trial(by_file[metric], rung)
        own = [rows[i] for i in work.images[self.trials]]
        plain = np.full((425, 425, 3), 128, dtype=np.uint8)
        mean = self._mean_image()
        baselines = {
            "gray": self._pixels(own, lambda s: [plain] * len(own[s])),
            "mean-image": self._pixels(own, lambda s: [mean] * len(own[s])),
        }
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
        for metric in metrics:
            facts = {
                **self.base,
                "metric": metric,
                "scope": "all",
                "unit": "r" if metric == "pixcorr" else "SSIM",
                "protocol": self.protocol,
                "note": self.level or None,
            }
            scores.append(self._pixel_score(facts, values[metric], tables[metric], units))
            for rung, by_metric in baselines.items():
                scores.append(self._plain_score({**facts, "rung": rung}, by_metric[metric]))
        return scores

    def _pixels(
        self, own: list[int], load: Callable[[slice], list[np.ndarray]], chunk: int = 16
    ) -> dict[str, np.ndarray]:
        """The three pixel scores of pictures against their own references."""
        parts: dict[str, list[np.ndarray]] = {"pixcorr": [], "ssim": [], "ssim_legacy": []}
        for start in range(0, len(own), chunk):
            at = slice(start, start + chunk)
            pictures = prepare(load(at), self.protocol)
            references = prepare([self.references[i] for i in own[at]], self.protocol)
            parts["pixcorr"].append(pixcorr(references, pictures))
            a, b = gray(references), gray(pictures)
            parts["ssim"].append(ssim(a, b))
            parts["ssim_legacy"].append(ssim_legacy(a, b))
        return {metric: np.concatenate(p) for metric, p in parts.items()}

    def _mean_image(self) -> np.ndarray:
        """Mean of the training images."""
        work = self.work
        image_ids = sorted(set(work.images[work.fold.train]))
        if len(image_ids) > _MEAN_IMAGE_OF:
            step = len(image_ids) / _MEAN_IMAGE_OF
            image_ids = [image_ids[int(i * step)] for i in range(_MEAN_IMAGE_OF)]
        shape = self.references[0].shape
        total = np.zeros(shape)
        for image in image_ids:
            total += self._squash(work.study.load_images([image])[0], shape)
        return np.round(total / len(image_ids)).astype(np.uint8)

    def _pixel_tables(self) -> tuple[dict[str, np.ndarray], _Units]:
        """Scores of pictures against all references, for as many units as are affordable."""
        units = self.units
        per_unit = sum(len(p) for p in self.pictures["eeg"].values()) / len(units)
        if self.work.known:  # as many references as units
            affordable = int(np.sqrt(_PIXEL_PAIRS / per_unit))
        else:
            affordable = int(_PIXEL_PAIRS / (per_unit * len(self.image_ids)))
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
        references = prepare([self.references[i] for i in images], self.protocol)
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
        units: _Units,
    ) -> _Score:
        """Value over all trials, chance over the units of the table."""
        score = self._plain_score({**row, **self.ladder(by_rung)}, by_rung["eeg"])
        tested = self.work.test({}, units, units.images, table, family=None, also_within=True)
        score.row["chance"], score.row["p"] = tested.row["chance"], tested.row["p"]
        for key in ("chance_within_class", "p_within_class"):
            if key in tested.row:
                score.row[key] = tested.row[key]
        score.family = "pictures"
        # the subset's statistic is not the value itself: shift its null to where the value stands
        if tested.null is not None and score.row["value"] is not None:
            score.null = tested.null + (score.row["value"] - tested.row["value"])
        return score

    def _plain_score(self, row: dict[str, Any], by_trial: np.ndarray) -> _Score:
        """Value and interval, without a test."""
        units = self.units
        spread = bootstrap(
            ratio_statistic(units.totals(by_trial), units.counts),
            len(units),
            self.work.settings.resamples,
            seed=self.work.seed(units),
        )
        return _Score(
            _row(
                **{
                    "n": len(units),
                    "n_trials": len(by_trial),
                    "value": _number(spread.value),
                    "lo": _number(spread.lo),
                    "hi": _number(spread.hi),
                    **row,
                }
            ),
            None,
            None,
            spread.replicates,
            units.names,
        )


def _row(**given: Any) -> dict[str, Any]:
    """A row with every key, in the order of the format."""
    return {**dict.fromkeys(_KEYS), **given}


def _margin(probabilities: np.ndarray) -> np.ndarray:
    """How far the second class is ahead of the first."""
    return probabilities[:, 1] - probabilities[:, 0]


def _standardized(images: np.ndarray) -> np.ndarray:
    """Flattened, centered and scaled to unit length; a constant picture becomes 0."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    constant = np.ptp(flat, axis=1) == 0
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat[constant] = 0
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(norm == 0, 1, norm)


def _floor_ceiling(
    truth: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    queries: np.ndarray | None = None,
) -> tuple[float | None, float | None]:
    """What a random unit's captions and a unit's own captions score.

    Parameters
    ----------
    truth : array of shape (n_images, n_labels)
        What the captions of each image would score, were the label the column's.
    labels : array of int, shape (n_units,)
        Column of each unit.
    counts : array of shape (n_units,)
        Trials of each unit.
    classes : array of shape (n_units,), optional
        The random unit is of the same class.
    queries : array of int, shape (n_units,), optional
        Row of each unit's own captions; `labels` where not given.
    """
    queries = labels if queries is None else queries
    own = truth[queries, labels]
    groups = np.zeros(len(labels), dtype=int) if classes is None else classes
    random = np.empty(len(labels))
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        random[mine] = truth[np.ix_(np.unique(queries[mine]), labels[mine])].mean(axis=0)
    total = counts.sum()
    return _number((random * counts).sum() / total), _number((own * counts).sum() / total)

"""What a decoder put out on a fold of a study, and what surrounds each score of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from eegprompt.captions.usable import usable_captions
from eegprompt.core.errors import RunError
from eegprompt.core.files import content_key
from eegprompt.metrics.base import metric_of
from eegprompt.metrics.classification import weighted_auc
from eegprompt.scores.rows import Score, Units, floor_and_ceiling, number, row_of
from eegprompt.settings import ExperimentConfig
from eegprompt.stats.bootstrap import bootstrap, ratio_statistic
from eegprompt.stats.permutation import (
    PermutationResult,
    permutation_test,
    table_chance,
    table_statistic,
)
from eegprompt.study import Study
from eegprompt.study.split import Fold

__all__ = ["Scoring"]

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass
class Scoring:
    """A fold of a study, and what a decoder put out on it, while it is scored.

    Parameters
    ----------
    study, fold, config
        What the decoder was trained on, which of it, and how.
    embeddings : dict of str to array, optional
        Head embeddings: ``val/trial_id``, ``test/trial_id``, ``val/HEAD``, ``test/HEAD``.
    scales : dict of str to float
        Trained scale of each head's cosines; 1 / 0.07 where not given.
    notes, missing : list of str
        What must be read with the scores, and what could not be scored.
    """

    study: Study
    fold: Fold
    config: ExperimentConfig
    embeddings: dict[str, np.ndarray] | None = None
    scales: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = self.config.evaluation
        if not len(self.fold.test):
            raise RunError(
                f"the test set of split '{self.config.split}' is empty, so there is nothing to score; "
                "make a split with a test set"
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
                "within-class scores, and image scores compare with an image that stands for the "
                "category."
            )

    # -- helpers -------------------------------------------------------------------------------
    def note(self, sentence: str) -> None:
        """Add a sentence once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def units_of(self, trials: np.ndarray, image_ids: Sequence[str]) -> Units:
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
        return Units(
            names,
            index,
            np.array([row[i] for i in self.images[first]]),
            np.array([class_row[c] for c in self.categories[first]]),
            strata,
        )

    def seed(self, units: Units) -> int:
        """Seed of permutations and resamples: equal for equal units, so that folds and heads share."""
        return int(content_key(self.config.seed, list(units.names), length=12), 16)

    def surround(
        self,
        row: dict[str, Any],
        units: Units,
        resampled: Statistic,
        *,
        labels: np.ndarray | None = None,
        permuted: Statistic | None = None,
        family: str | None = None,
        **test: Any,
    ) -> Score:
        """A row with value and interval, and with chance and p where it can be permuted.

        `resampled` maps how often each unit counts to values, `permuted` maps labels to values;
        `test` goes to the permutation test.
        """
        extra = {}
        spread = bootstrap(resampled, len(units), self.settings.resamples, seed=self.seed(units))
        value, null = spread.value, None
        if permuted is not None and labels is not None:
            found = self.permute(row, units, permuted=permuted, labels=labels, **test)
            value, p = found.value, number(found.p)
            null = None if p is None else found.null
            extra = {"chance": None if p is None else number(found.chance), "p": p}
        return Score(
            row_of(
                **{
                    "n": len(units),
                    "n_trials": int(units.counts.sum()),
                    "value": number(value),
                    "lo": number(spread.lo),
                    "hi": number(spread.hi),
                    **extra,
                    **row,
                }
            ),
            family,
            null,
            spread.replicates,
            units.names,
        )

    def permute(
        self,
        row: dict[str, Any],
        units: Units,
        *,
        permuted: Statistic,
        labels: np.ndarray,
        **test: Any,
    ) -> PermutationResult:
        """Compare a statistic with itself under permuted labels."""
        return permutation_test(
            permuted,
            labels,
            self.settings.permutations,
            seed=self.seed(units),
            higher_is_better=metric_of(str(row["metric"])).higher_is_better,
            **test,
        )

    def mean(self, row: dict[str, Any], units: Units, by_trial: np.ndarray) -> Score:
        """Surround a mean over trials by its interval alone."""
        return self.surround(row, units, ratio_statistic(units.totals(by_trial), units.counts))

    def test(
        self,
        row: dict[str, Any],
        units: Units,
        labels: np.ndarray,
        by_trial: np.ndarray,
        *,
        family: str | None,
        within: bool = False,
        also_within: bool = False,
    ) -> Score:
        """Surround a mean over trials, given what each trial scores under each label.

        `within` permutes inside classes; `also_within` adds that beside the global permutation.
        """
        totals, counts = units.totals(by_trial), units.counts
        statistic = table_statistic(totals, counts)

        def permutation(strata: np.ndarray | None) -> dict[str, Any]:
            chance = table_chance(totals, counts, labels, strata)
            return {"permuted": statistic, "labels": labels, "strata": strata, "chance": chance}

        resampled = ratio_statistic(totals[np.arange(len(units)), labels], counts)
        strata = units.classes if within else units.strata
        score = self.surround(row, units, resampled, family=family, **permutation(strata))
        if also_within and self.known:
            inner = self.permute(row, units, **permutation(units.classes))
            score.row["chance_within_class"] = number(inner.chance)
            score.row["p_within_class"] = number(inner.p)
        return score

    def test_macro(
        self,
        row: dict[str, Any],
        units: Units,
        labels: np.ndarray,
        credit: np.ndarray,
        *,
        family: str,
        truth: np.ndarray,
    ) -> Score:
        """Surround a mean over classes of their accuracies; `truth` as for floor_and_ceiling."""
        totals, counts = units.totals(credit), units.counts
        equal = counts / np.bincount(labels, weights=counts)[labels]  # classes weigh the same
        floor, ceiling = floor_and_ceiling(truth, labels, equal, queries=units.images)

        classes = np.unique(labels)

        def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(above / below)

        def permuted(sets: np.ndarray) -> np.ndarray:
            parts = [ratio((sets == c) @ totals[:, c], (sets == c) @ counts) for c in classes]
            return np.asarray(np.nanmean(parts, axis=0))

        def resampled(weights: np.ndarray) -> np.ndarray:
            parts = []
            for c in classes:
                own = labels == c
                parts.append(ratio(weights[:, own] @ totals[own, c], weights[:, own] @ counts[own]))
            return np.asarray(np.nanmean(parts, axis=0))

        row = {**row, "floor": floor, "ceiling": ceiling}
        return self.surround(
            row,
            units,
            resampled,
            labels=labels,
            permuted=permuted,
            family=family,
            strata=units.strata,
        )

    def test_auc(
        self,
        row: dict[str, Any],
        units: Units,
        labels: np.ndarray,
        scores: np.ndarray,
        *,
        family: str,
        truth: np.ndarray | None = None,
    ) -> Score:
        """Surround an AUC; label 1 is positive; `truth` are the scores of each image's captions."""
        from scipy.stats import rankdata

        positive_trials = labels[units.index] == 1
        by_trial = weighted_auc(scores, positive_trials)
        every = np.ones((1, len(scores)))
        if truth is not None:  # captions of a random image know nothing of the class
            of_trials = truth[units.images][units.index]
            ceiling = weighted_auc(of_trials, positive_trials)(every)[0]
            row = {**row, "floor": 0.5, "ceiling": number(ceiling)}

        def permuted(sets: np.ndarray) -> np.ndarray:
            # one pass of ranks serves all labels, unless a NaN ranks by its label
            if np.isnan(scores).any():
                return np.array(
                    [weighted_auc(scores, one[units.index] == 1)(every)[0] for one in sets]
                )
            positive = sets[:, units.index] == 1
            n_positive = positive.sum(axis=1)
            won = positive @ rankdata(scores) - n_positive * (n_positive + 1) / 2
            with np.errstate(invalid="ignore"):
                return won / (n_positive * (len(scores) - n_positive))

        return self.surround(
            row,
            units,
            lambda weights: by_trial(weights[:, units.index]),
            labels=labels,
            permuted=permuted,
            family=family,
            strata=units.strata,
        )

    # -- what the decoder put out --------------------------------------------------------------
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
        """The study's captions."""
        table = self.study.captions(self.config.captions)
        usable = usable_captions(table, self.config.kinds)
        blank = int(table["kind"].isin(self.config.kinds).sum()) - len(usable)
        if blank:
            self.note(
                f"{blank} captions of set '{self.config.captions}' are blank and do not count; "
                "'eegprompt captions check' names them."
            )
        return usable.assign(
            image_id=usable["image_id"].astype(str), text=usable["text"].astype(str)
        )

    @cached_property
    def text_encoder(self) -> Any:
        """The text encoder of the run."""
        from eegprompt.text_encoders import load_text_encoder

        return load_text_encoder(self.config.text_encoder)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of captions, kept in the study's cache."""
        from eegprompt.text_encoders import cached_embeddings

        return cached_embeddings(self.text_encoder, list(texts), self.study.path / "cache")

    def of_kind(self, head: str, image_ids: Iterable[str]) -> pd.DataFrame:
        """Captions of one kind of some images."""
        table = self.captions
        rows = table[(table["kind"] == head) & table["image_id"].isin(set(image_ids))]
        return rows.sort_values(["image_id", "text"], kind="stable")

"""What a run holds, and what surrounds each score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions.usable import usable_captions
from eegprompt.core.errors import RunError
from eegprompt.core.files import content_key
from eegprompt.metrics.classification import weighted_auc
from eegprompt.run import Run
from eegprompt.scores.rows import Score, Units, floor_and_ceiling, number, row_of
from eegprompt.stats.bootstrap import bootstrap, ratio_statistic
from eegprompt.stats.permutation import permutation_test, table_chance, table_statistic

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study import Study

__all__ = ["Material"]


@dataclass
class Material:
    """One run while it is scored."""

    run: Run
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = self.run.settings
        self.settings = self.config.evaluation
        self.study: Study = self.run.study
        self.fold = self.run.fold
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
            higher_is_better=bool(row.get("higher_is_better", True)),
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
                higher_is_better=bool(row.get("higher_is_better", True)),
            )
            extra = {
                "chance_within_class": number(inner.chance),
                "p_within_class": number(inner.p),
            }
        tested = not np.isnan(result.p)
        return Score(
            row_of(
                **{
                    "n": len(units),
                    "n_trials": int(counts.sum()),
                    "value": number(result.value),
                    "lo": number(spread.lo),
                    "hi": number(spread.hi),
                    "chance": number(result.chance) if tested else None,
                    "p": number(result.p),
                    **row,
                },
                **extra,
            ),
            family,
            result.null if tested else None,
            spread.replicates,
            units.names,
        )

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
        classes = np.unique(labels)
        equal = counts / np.bincount(labels, weights=counts)[labels]  # classes weigh the same
        floor, ceiling = floor_and_ceiling(truth, labels, equal, queries=units.images)
        row = {**row, "floor": floor, "ceiling": ceiling}

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

        return self.test_general(row, units, labels, permuted, resampled, family)

    def test_auc(
        self,
        metric: str,
        head: str | None,
        units: Units,
        labels: np.ndarray,
        scores: np.ndarray,
        *,
        family: str,
        truth: np.ndarray | None = None,
    ) -> Score:
        """Surround an AUC; label 1 is positive; `truth` are the scores of each image's captions."""
        from scipy.stats import rankdata

        row: dict[str, Any] = {
            "metric": metric,
            "head": head,
            "scope": "all",
            "unit": "AUC",
            "higher_is_better": True,
        }
        positive_trials = labels[units.index] == 1
        by_trial = weighted_auc(scores, positive_trials)
        every = np.ones((1, len(scores)))
        if truth is not None:  # captions of a random image know nothing of the class
            of_trials = truth[units.images][units.index]
            ceiling = weighted_auc(of_trials, positive_trials)(every)[0]
            row |= {"floor": 0.5, "ceiling": number(ceiling)}

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

        def resampled(weights: np.ndarray) -> np.ndarray:
            return by_trial(weights[:, units.index])

        return self.test_general(row, units, labels, permuted, resampled, family)

    def test_general(
        self,
        row: dict[str, Any],
        units: Units,
        labels: np.ndarray,
        permuted: Callable[[np.ndarray], np.ndarray],
        resampled: Callable[[np.ndarray], np.ndarray],
        family: str,
    ) -> Score:
        """Surround a statistic given as functions of permuted labels and of resampled units."""
        seed = self.seed(units)
        result = permutation_test(
            permuted, labels, self.settings.permutations, strata=units.strata, seed=seed
        )
        spread = bootstrap(resampled, len(units), self.settings.resamples, seed=seed)
        tested = not np.isnan(result.p)
        return Score(
            row_of(
                **{
                    "n": len(units),
                    "n_trials": int(units.counts.sum()),
                    "value": number(result.value),
                    "lo": number(spread.lo),
                    "hi": number(spread.hi),
                    "chance": number(result.chance) if tested else None,
                    "p": number(result.p),
                    **row,
                }
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
        stored = self.run.embeddings
        for side in ("val", "test"):
            ids = stored[f"{side}/trial_id"]
            foreign = np.setdiff1d(ids, getattr(self.fold, side))
            if len(foreign):
                raise RunError(
                    f"{path} holds {len(foreign)} {side} trials that are not on the {side} set of "
                    f"fold {self.config.fold} of split '{self.config.split}' (first: {foreign[0]}); "
                    "run 'eegprompt decode' again"
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

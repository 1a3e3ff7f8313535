"""What an audit looks at: labels, places in the protocol, folds; and which trials it can afford."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from eegprompt.core.progress import Progress
from eegprompt.splits.leaks import has_onsets, image_keys, recording_index
from eegprompt.study import Study
from eegprompt.study.split import Split

__all__ = ["ALPHA", "Material", "Progress"]


ALPHA = 0.01
"""Below this p a check has found something."""

MOST_TRIALS = 8000
"""Trials that decoders see; of a larger study, a random part."""

MOST_FOLDS = 10
MOST_FEATURES = 1600
MANY_CLASSES, FEATURES_FOR_MANY = 50, 400
CHUNK = 256  # trials read at once


@dataclass
class Material:
    """A study and one of its splits while they are audited."""

    study: Study
    split: Split | None
    seed: int
    permutations: int
    progress: Progress
    limits: list[str] = field(default_factory=list)

    def limit(self, sentence: str) -> None:
        """Say once what was left out or could not be known."""
        if sentence not in self.limits:
            self.limits.append(sentence)

    def rng(self, stream: int) -> np.random.Generator:
        """Randomness of one check, apart from all others'."""
        return np.random.default_rng([self.seed, 31, stream])

    # -- who, what, when -----------------------------------------------------------------------
    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return sorted(self.study.trials["category"].astype(str).unique())

    @cached_property
    def labels(self) -> np.ndarray:
        """Class of each trial, as a number."""
        return np.searchsorted(self.classes, self.study.trials["category"].astype(str))

    @cached_property
    def subject(self) -> np.ndarray:
        """Subject of each trial, as a number."""
        return np.searchsorted(self.study.subjects, self.study.trials["subject"].astype(str))

    @cached_property
    def recording(self) -> np.ndarray:
        """Recording (subject, session, run) of each trial."""
        return recording_index(self.study.trials)

    @cached_property
    def order_known(self) -> bool:
        """Whether it is known when each trial came."""
        order = self.study.trials["order"].to_numpy(dtype=np.float64)
        return bool((order >= 0).all()) or has_onsets(self.study)

    @property
    def in_seconds(self) -> bool:
        """Whether :attr:`position` is in seconds rather than in trials."""
        return has_onsets(self.study)

    @cached_property
    def position(self) -> np.ndarray:
        """When each trial came within its recording; the trial's number where that is not known."""
        trials = self.study.trials
        if self.in_seconds:
            return trials["onset"].to_numpy(dtype=np.float64)
        if self.order_known:
            return trials["order"].to_numpy(dtype=np.float64)
        return np.arange(self.study.n_trials, dtype=np.float64)

    @cached_property
    def units(self) -> np.ndarray | None:
        """Image of each trial, where labels must be permuted image by image; else None.

        Trials of an image share whatever it evokes, so they move together. Where most classes have
        a single image, image and class are one, and trials are what can be exchanged.
        """
        if self.study.image_identity != "known":
            return None
        keys = self.study.trials["image_id"].astype(str).map(image_keys(self.study)).to_numpy()
        images = np.unique(keys.astype(str), return_inverse=True)[1]
        per_class = np.array(
            [len(np.unique(images[self.labels == c])) for c in range(len(self.classes))]
        )
        return images if (per_class >= 2).mean() >= 0.5 else None

    # -- which trials decoders see -------------------------------------------------------------
    @cached_property
    def chosen(self) -> np.ndarray:
        """Trials that decoders see, in the order of the file."""
        n = self.study.n_trials
        if n <= MOST_TRIALS:
            return np.arange(n)
        self.limit(f"decoders saw {MOST_TRIALS:,} trials drawn at random from {n:,}")
        return np.sort(self.rng(0).choice(n, MOST_TRIALS, replace=False))

    @cached_property
    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Trials to fit on and to decode, in each fold that decoders look at."""
        return [
            (train[np.isin(train, self.chosen)], test[np.isin(test, self.chosen)])
            for train, test in self._sides()
        ]

    def _sides(self) -> list[tuple[np.ndarray, np.ndarray]]:
        if self.split is None:
            self.limit(
                "the study has no split yet: decoders used a random one, a fifth of each class"
            )
            return [self._random_fold(np.arange(self.study.n_trials))]
        sides = [(f.train, f.test) for f in self.split.folds if len(f.test)]
        if not sides:
            self.limit(
                f"split '{self.split.name}' has no test set: decoders were tested on the validation "
                "side"
            )
            sides = [(f.train, f.val) for f in self.split.folds]
        if len(sides) > MOST_FOLDS:
            at = np.linspace(0, len(sides) - 1, MOST_FOLDS).round().astype(int)
            self.limit(f"decoders looked at {MOST_FOLDS} of the {len(sides)} folds, evenly spaced")
            sides = [sides[i] for i in at]
        if any(np.isin(self.labels[test], self.labels[train]).any() for train, test in sides):
            return sides
        self.limit(
            "the split tests classes that it never trains, so decoders used a random split of its "
            "training trials, a fifth of each class"
        )
        return [self._random_fold(sides[0][0])]

    def _random_fold(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A fifth of each class for testing: of its images where these are known."""
        rng = self.rng(1)
        unit = np.arange(self.study.n_trials) if self.units is None else self.units
        tested: list[np.ndarray] = []
        for c in np.unique(self.labels[ids]):
            mine = np.unique(unit[ids[self.labels[ids] == c]])
            tested.append(rng.permutation(mine)[: round(0.2 * len(mine))])
        inside = np.isin(unit[ids], np.concatenate(tested))
        return ids[~inside], ids[inside]

    # -- the signal ----------------------------------------------------------------------------
    @cached_property
    def most_features(self) -> int:
        """Features a decoder may have."""
        return MOST_FEATURES if len(self.classes) <= MANY_CLASSES else FEATURES_FOR_MANY

    def after_onset(self) -> slice:
        """Samples from stimulus onset on; all where the trial begins later."""
        first = max(int(np.ceil(-self.study.tmin * self.study.sfreq - 1e-6)), 0)
        return slice(first if first < self.study.n_times else 0, None)

    def before_onset(self) -> tuple[slice | None, str]:
        """Samples that cannot hold a response yet, and which they are."""
        study = self.study
        first = int(np.ceil(-study.tmin * study.sfreq - 1e-6))
        if first >= 2:
            return slice(0, min(first, study.n_times)), (
                f"{1e3 * study.tmin:.0f} to 0 ms before the stimulus"
            )
        early = max(round((0.02 - study.tmin) * study.sfreq), 0)
        if early >= 1:
            return slice(0, min(early, study.n_times)), "the first 20 ms after the stimulus"
        return None, f"the trials begin {1e3 * study.tmin:.0f} ms after the stimulus"

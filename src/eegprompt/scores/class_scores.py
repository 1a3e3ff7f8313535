"""Class decisions of the heads, of their ensemble, and of a linear baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.metrics.base import metrics_of
from eegprompt.metrics.caption_retrieval import cosine_similarity
from eegprompt.metrics.classification import (
    class_probabilities,
    class_prototypes,
    decision_credit,
    ensemble_probabilities,
    fit_temperature,
    fit_weights,
)
from eegprompt.scores.rows import Score, Units, floor_and_ceiling
from eegprompt.scores.scoring import Scoring

__all__ = ["class_scores", "lda_scores"]


def _class_trials(work: Scoring) -> np.ndarray | None:
    """Which test trials can be classified (bool), or None with the reason named."""
    known = np.isin(work.categories[work.trials], work.class_names)
    tested = set(work.categories[work.trials][known])
    if len(work.class_names) < 2:
        work.missing.append("class accuracy: the training trials have only one class")
        return None
    if not known.any():
        work.missing.append("class accuracy: no test class was seen in training")
        return None
    if len(tested) < 2:
        work.missing.append("class accuracy: the test trials have only one class")
        return None
    unseen = sorted(set(work.categories[work.trials]) - set(work.class_names))
    if unseen:
        work.note(
            f"Class accuracy leaves out {int((~known).sum())} test trials of classes that were "
            f"not seen in training: {', '.join(unseen[:8])}."
        )
    untested = sorted(set(work.class_names) - tested)
    if untested:
        work.note(
            f"{len(untested)} of {len(work.class_names)} classes have no test trial; they can be "
            "chosen, but do not enter the mean over classes."
        )
    return known


@dataclass(frozen=True)
class _Decisions:
    """Class probabilities by head, each of shape (n_heads, n_rows, n_classes).

    Parameters
    ----------
    heads : list of str
        Which heads.
    val, test, truth : array
        Of the validation trials, of the test trials, and of the test images' own captions.
    """

    heads: list[str]
    val: np.ndarray
    test: np.ndarray
    truth: np.ndarray


def class_scores(work: Scoring) -> list[Score]:
    """Class decisions of each head and of the ensemble of heads."""
    if work.embeddings is None or not work.heads:
        return []
    known = _class_trials(work)
    if known is None:
        return []
    index = {name: i for i, name in enumerate(work.class_names)}
    trials = work.trials[known]
    target = np.array([index[c] for c in work.categories[trials]])
    validation = np.asarray(work.embeddings["val/trial_id"], dtype=np.int64)
    usable = np.isin(work.categories[validation], work.class_names)
    truth_val = np.array([index[c] for c in work.categories[validation][usable]], dtype=int)
    image_ids = sorted(set(work.images[trials]))
    made = {
        head: parts
        for head in work.heads
        if (parts := _decide(work, head, index, known, usable, truth_val, image_ids)) is not None
    }
    if not made:
        return []
    by_head = _Decisions(list(made), *(np.stack([p[i] for p in made.values()]) for i in range(3)))
    work.note(
        "Class accuracy: each head gives class probabilities (softmax of its cosine with the mean "
        "training caption of each class, temperature fitted on validation); the ensemble takes their "
        "mean. 'weighted' weighs heads by validation, 'majority' counts their votes, 'macro' is the "
        "mean over classes. The floor classifies the captions of a random test image, the ceiling the "
        "true captions."
    )
    units = work.units_of(trials, image_ids)
    labels = np.empty(len(units), dtype=int)
    labels[units.index] = target

    mean, mean_truth = (ensemble_probabilities(p) for p in (by_head.test, by_head.truth))
    judged = _Judged(work, units, labels)
    weights = fit_weights(by_head.val, truth_val)
    family = "class accuracy of the ensemble"
    scores: list[Score] = []
    for metric in metrics_of("decisions"):
        assert metric.function is not None
        credit, truth = (metric.function(p, weights) for p in (by_head.test, by_head.truth))
        surround = judged.macro if metric.by_class else judged.accuracy
        scores.append(surround(metric.name, "ensemble", credit, truth, family))
    two = len(index) == 2
    if two:
        work.note(
            f"AUC: the probability that a trial of '{work.class_names[1]}' gets a higher score for it "
            f"than a trial of '{work.class_names[0]}'."
        )
        scores.append(judged.auc("class_auc", "ensemble", mean, mean_truth, family))
    for head, tested, true in zip(by_head.heads, by_head.test, by_head.truth):
        credit, truth = decision_credit(tested), decision_credit(true)
        scores.append(
            judged.accuracy("class_accuracy", head, credit, truth, "class_accuracy heads")
        )
        if two:
            scores.append(judged.auc("class_auc", head, tested, true, "class_auc heads"))
    return scores + _by_subject(
        work, trials, target, decision_credit(mean), decision_credit(mean_truth), image_ids
    )


@dataclass(frozen=True)
class _Judged:
    """Units with the class of each, to surround decisions on them."""

    work: Scoring
    units: Units
    labels: np.ndarray

    def accuracy(
        self,
        metric: str,
        head: str | None,
        credit: np.ndarray,
        truth: np.ndarray | None,
        family: str,
        **more: str,
    ) -> Score:
        """A mean over trials; `truth` are the credits of the test images' own captions."""
        row: dict[str, Any] = {"metric": metric, "head": head, "scope": "all", **more}
        if truth is not None:
            row["floor"], row["ceiling"] = floor_and_ceiling(
                truth, self.labels, self.units.counts, queries=self.units.images
            )
        return self.work.test(row, self.units, self.labels, credit, family=family)

    def macro(
        self, metric: str, head: str, credit: np.ndarray, truth: np.ndarray, family: str
    ) -> Score:
        """A mean over classes."""
        row = {"metric": metric, "head": head, "scope": "all"}
        return self.work.test_macro(
            row, self.units, self.labels, credit, family=family, truth=truth
        )

    def auc(
        self,
        metric: str,
        head: str | None,
        probabilities: np.ndarray,
        truth: np.ndarray | None,
        family: str,
    ) -> Score:
        """How far the second of two classes is ahead of the first."""
        ahead = probabilities[:, 1] - probabilities[:, 0]
        true = None if truth is None else truth[:, 1] - truth[:, 0]
        row = {"metric": metric, "head": head, "scope": "all"}
        return self.work.test_auc(row, self.units, self.labels, ahead, family=family, truth=true)


def _decide(
    work: Scoring,
    head: str,
    index: dict[str, int],
    known: np.ndarray,
    usable: np.ndarray,
    truth_val: np.ndarray,
    image_ids: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Class probabilities of one head, or None with the reason named."""
    assert work.embeddings is not None
    training_class = dict(zip(work.images[work.fold.train], work.categories[work.fold.train]))
    training = work.of_kind(head, training_class)
    classes = np.array([index[training_class[i]] for i in training["image_id"]], dtype=int)
    absent = set(range(len(index))) - set(classes.tolist())
    if absent:
        work.missing.append(
            f"class accuracy of {head}: class '{work.class_names[min(absent)]}' has no training caption "
            "of this kind"
        )
        return None
    val = work.embeddings.get(f"val/{head}")
    if val is None or not usable.any():
        work.missing.append(f"class accuracy of {head}: no validation embeddings to fit on")
        return None
    prototypes = class_prototypes(work.embed(training["text"].tolist()), classes, len(index))
    on_val = cosine_similarity(val[usable], prototypes)
    try:
        temperature = fit_temperature(on_val, truth_val)
    except InputError as problem:
        work.missing.append(f"class accuracy of {head}: {problem}")
        return None
    shown = work.of_kind(head, image_ids)
    row = {image: i for i, image in enumerate(image_ids)}
    of_images = np.zeros((len(image_ids), prototypes.shape[1]))
    np.add.at(of_images, [row[i] for i in shown["image_id"]], work.embed(shown["text"].tolist()))
    queries = (work.embeddings[f"test/{head}"][known], of_images)
    on_test, on_truth = (
        class_probabilities(cosine_similarity(q, prototypes), temperature) for q in queries
    )
    return class_probabilities(on_val, temperature), on_test, on_truth


def _by_subject(
    work: Scoring,
    trials: np.ndarray,
    target: np.ndarray,
    credit: np.ndarray,
    truth: np.ndarray,
    image_ids: list[str],
) -> list[Score]:
    """Accuracy of the ensemble for each subject, where there are several."""
    subjects = work.study.trials["subject"].astype(str).to_numpy()[trials]
    names = sorted(set(subjects))
    if len(names) < 2:
        return []
    scores = []
    for name in names:
        mine = subjects == name
        units = work.units_of(trials[mine], image_ids)
        labels = np.empty(len(units), dtype=int)
        labels[units.index] = target[mine]
        of_subject = {"subject": name, "note": f"subject {name}"}
        scores.append(
            _Judged(work, units, labels).accuracy(
                "class_accuracy",
                "ensemble",
                credit[mine],
                truth,
                "class_accuracy subjects",
                **of_subject,
            )
        )
    return scores


def lda_scores(work: Scoring) -> list[Score]:
    """Shrinkage LDA on the same trials: what a linear classifier of the EEG reaches."""
    from eegprompt.encoders.lda import ShrinkageLDA, bin_means

    trials = work.trials if work.embeddings is not None else work.fold.test
    seen = np.isin(work.categories[trials], work.class_names)
    trials = trials[seen]
    if len(work.class_names) < 2 or len(set(work.categories[trials])) < 2:
        work.missing.append("shrinkage LDA: fewer than two classes to tell apart")
        return []
    study = work.study

    def binned(ids: np.ndarray) -> np.ndarray:
        parts = [
            bin_means(np.asarray(study.eeg[ids[s : s + 256]]), study.sfreq, tmin=study.tmin)
            for s in range(0, len(ids), 256)
        ]
        return np.concatenate(parts)

    subjects = study.trials["subject"].astype(str).to_numpy()
    try:
        train = work.fold.train
        lda = ShrinkageLDA().fit(binned(train), work.categories[train], subjects[train])
        decision = lda.decision(binned(trials), subjects[trials])
    except InputError as problem:
        work.missing.append(f"shrinkage LDA: {problem}")
        return []
    number = {str(name): i for i, name in enumerate(lda.classes_)}
    units = work.units_of(trials, sorted(set(work.images[trials])))
    labels = np.empty(len(units), dtype=int)
    labels[units.index] = [number[c] for c in work.categories[trials]]
    work.note(
        "class_accuracy_lda and class_auc_lda: shrinkage LDA (scikit-learn) on window means of the EEG, "
        "fitted on the training trials, for each subject where that has all classes – a baseline on "
        "the same test trials, not part of the decoder."
    )
    judged, family = _Judged(work, units, labels), "shrinkage LDA"
    scores = [judged.accuracy("class_accuracy_lda", None, decision_credit(decision), None, family)]
    if len(number) == 2:
        scores.append(judged.auc("class_auc_lda", None, decision, None, family))
    return scores

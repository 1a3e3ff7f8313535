"""Class decisions by caption heads: probabilities per head, ensembles, and how they are scored.

A head names a class by the cosine of the EEG embedding with a *prototype* of each class in text
space, the mean embedding of the class's training captions, turned into probabilities by a softmax
whose temperature is fitted on validation trials.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eegprompt.core.arrays import numbers, whole_numbers
from eegprompt.core.errors import InputError
from eegprompt.metrics.base import Metric, metric, register_metric

__all__ = [
    "class_probabilities",
    "class_prototypes",
    "decision_credit",
    "ensemble_probabilities",
    "fit_temperature",
    "fit_weights",
    "majority_credit",
    "roc_auc",
    "weighted_auc",
]

_OF_HEADS = ("heads", "trials", "classes")
_CATEGORY: dict[str, Any] = {
    "group": "category",
    "symbol": "trials right",
    "unit": "proportion",
    "range": "0 to 100 %",
    "chance": "chance by permutation, about one in the number of categories",
}
_AUC: dict[str, Any] = {
    "group": "category", "symbol": "AUC", "unit": "AUC", "range": "0 to 1", "chance": "chance 0.5",
}  # fmt: skip
_LINEAR = (
    "A linear classifier on the EEG itself, on the same trials: not part of the decoder, but what it "
    "must be held against."
)


def class_prototypes(embeddings: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Mean embedding of each class, scaled to unit length.

    Parameters
    ----------
    embeddings : array of shape (n_captions, n_dims)
        Unit rows: training captions of one kind.
    classes : array of int, shape (n_captions,)
        Class of each, in [0, n_classes).
    n_classes : int
        Number of classes.

    Returns
    -------
    array of float64, shape (n_classes, n_dims)

    Raises
    ------
    InputError
        If counts differ or a class has no caption.

    References
    ----------
    Radford et al. (2021), the ensemble of prompts of CLIP's zero-shot classifier.
    """
    embeddings = numbers(embeddings, "embeddings", ("captions", "dimensions"), infinite=False)
    classes = whole_numbers(
        classes, "classes of the captions", length=len(embeddings), below=n_classes
    )
    counts = np.bincount(classes, minlength=n_classes)
    if (counts == 0).any():
        raise InputError(
            f"each of {n_classes} classes needs at least one training caption; class "
            f"{int(np.argmin(counts))} has {int(counts.min())}"
        )
    sums = np.zeros((n_classes, embeddings.shape[1]))
    np.add.at(sums, classes, embeddings)
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.where(norm == 0, 1, norm)


def class_probabilities(similarity: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax over classes of similarity / temperature.

    Parameters
    ----------
    similarity : array of shape (n_trials, n_classes)
        Cosines with the prototypes.
    temperature : float
        Above 0; the lower, the more decided.

    Returns
    -------
    array of float64, shape (n_trials, n_classes)
        Rows sum to 1; a row with a NaN is NaN throughout.
    """
    if not temperature > 0:
        raise InputError(f"a temperature must be above 0, got {temperature}")
    logits = (
        numbers(similarity, "similarities", ("trials", "classes"), infinite=False) / temperature
    )
    logits = logits - logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


def fit_temperature(similarity: np.ndarray, target: np.ndarray) -> float:
    """Temperature with the least mean log loss on validation trials, in [0.001, 100].

    Parameters
    ----------
    similarity : array of shape (n_trials, n_classes)
        Cosines; rows with a NaN are left out.
    target : array of int, shape (n_trials,)
        True class of each trial.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    similarity, target = _with_targets(similarity, target, "similarities", infinite=False)
    fine = ~np.isnan(similarity).any(axis=1)
    if not fine.any():
        raise InputError("no validation trial has a similarity that is a number")
    similarity, target = similarity[fine], target[fine]
    own = similarity[np.arange(len(target)), target]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(similarity * scale, axis=1) - own * scale).mean())

    best = minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e2)), method="bounded")
    return float(np.exp(best.x))


def ensemble_probabilities(
    probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Weighted mean over heads of class probabilities.

    Parameters
    ----------
    probabilities : array of shape (n_heads, n_trials, n_classes)
        From :func:`class_probabilities`.
    weights : array of shape (n_heads,), optional
        Not negative, not all 0; equal where not given.

    Returns
    -------
    array of shape (n_trials, n_classes)
        Rows sum to 1; NaN where a head is.
    """
    probabilities = numbers(probabilities, "probabilities", _OF_HEADS)
    if weights is None:
        return probabilities.mean(axis=0)
    weights = numbers(weights, "weights", ("heads",), infinite=False)
    if weights.shape != probabilities.shape[:1] or not (weights >= 0).all() or not any(weights):
        raise InputError(
            f"weights must be one for each of {len(probabilities)} heads, none negative and not all "
            f"0, got {weights}"
        )
    return np.tensordot(weights / weights.sum(), probabilities, axes=1)


def fit_weights(probabilities: np.ndarray, target: np.ndarray, *, steps: int = 200) -> np.ndarray:
    """Weights of the heads with the highest likelihood of the validation trials.

    The log likelihood of a mixture is concave in its weights; expectation–maximization climbs it.

    Parameters
    ----------
    probabilities : array of shape (n_heads, n_trials, n_classes)
        On validation trials; trials with a NaN are left out.
    target : array of int, shape (n_trials,)
        True classes.
    steps : int
        Iterations.

    Returns
    -------
    array of shape (n_heads,)
        Not negative, summing to 1.
    """
    probabilities = numbers(probabilities, "probabilities", _OF_HEADS, infinite=False)
    _, target = _with_targets(probabilities[0], target, "probabilities")
    own = probabilities[:, np.arange(len(target)), target]
    own = own[:, ~np.isnan(own).any(axis=0)]
    weights = np.full(len(own), 1 / len(own))
    if not own.size:
        return weights
    for _ in range(steps):
        joint = weights[:, None] * np.maximum(own, 1e-300)
        weights = (joint / joint.sum(axis=0)).mean(axis=1)
    return weights


def decision_credit(scores: np.ndarray) -> np.ndarray:
    """The decision for one class as a table: 1 at the highest score, shared evenly by ties.

    Parameters
    ----------
    scores : array of shape (n_trials, n_classes)
        Probabilities, votes or any score that is higher for the likelier class.

    Returns
    -------
    array of float, shape (n_trials, n_classes)
        Rows sum to 1; a row with a NaN is 0 throughout: it is always wrong.
    """
    scores = numbers(scores, "scores", ("trials", "classes"))
    bad = np.isnan(scores).any(axis=1, keepdims=True)
    top = (scores == scores.max(axis=1, keepdims=True)) & ~bad
    return top / np.maximum(top.sum(axis=1, keepdims=True), 1)


@metric(
    "class_accuracy",
    label="Category, by all heads together",
    says="How often the category of the highest probability, averaged over heads, is the right one.",
    of="decisions",
    **_CATEGORY,
)
def _mean_credit(probabilities: np.ndarray, _weights: np.ndarray) -> np.ndarray:
    return decision_credit(ensemble_probabilities(probabilities))


register_metric(
    Metric(
        "class_accuracy_macro",
        family="class_macro",
        label="Category, averaged over categories",
        says="As before, but every category counts the same however many trials it has.",
        function=_mean_credit,
        of="decisions",
        by_class=True,
        **_CATEGORY,
    )
)


@metric(
    "class_accuracy_weighted",
    family="class_weighted",
    label="Category, heads weighted by validation",
    says="As the category by all heads together, with heads that did better on validation trials "
    "counting more.",
    of="decisions",
    **_CATEGORY,
)
def _weighted_credit(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return decision_credit(ensemble_probabilities(probabilities, weights))


@metric(
    "class_accuracy_majority",
    family="class_vote",
    label="Category, by majority vote of the heads",
    says="How often the category that most heads name is the right one.",
    of="decisions",
    **_CATEGORY,
)
def majority_credit(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The class most heads decide for, as in :func:`decision_credit`; a tie of votes is shared.

    Parameters
    ----------
    probabilities : array of shape (n_heads, n_trials, n_classes)
        A head with a NaN has no vote.
    weights : array of shape (n_heads,), optional
        Not used: every head has one vote.
    """
    probabilities = numbers(probabilities, "probabilities", _OF_HEADS)
    votes = np.sum([decision_credit(head) for head in probabilities], axis=0)
    return np.where(votes.any(axis=1, keepdims=True), decision_credit(votes), 0.0)


def _with_targets(
    table: Any, target: Any, what: str, *, infinite: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A table of trials × classes and the true class of each trial."""
    table = numbers(table, what, ("trials", "classes"), infinite=infinite)
    return table, whole_numbers(target, "true classes", length=len(table), below=table.shape[1])


for _name, _family, _label, _says, _facts in (
    (
        "class_accuracy_lda",
        "lda",
        "Category, by a linear baseline (shrinkage LDA)",
        _LINEAR,
        _CATEGORY,
    ),
    ("class_auc_lda", "lda", "A linear baseline (shrinkage LDA), AUC", _LINEAR, _AUC),
):
    register_metric(Metric(_name, _label, _says, family=_family, **_facts))


@metric(
    "class_auc",
    family="auc",
    label="Telling the categories apart (AUC)",
    says="The chance that a trial of one category gets a higher score for it than a trial of another "
    "category; 0.5 is guessing.",
    **_AUC,
)
def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive trial scores higher than a negative one; ties count half.

    Higher is better; in [0, 1]; chance is 0.5. A NaN score is wrong on either side: it ranks below
    the negatives for a positive trial and above the positives for a negative one.

    Parameters
    ----------
    scores : array of shape (n_trials,)
        Higher speaks for positive.
    positive : array of bool, shape (n_trials,)
        True class.

    Examples
    --------
    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    statistic = weighted_auc(scores, positive)
    return float(statistic(np.ones((1, len(positive))))[0])


def weighted_auc(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """:func:`roc_auc` as a function of how often each trial counts.

    Returns
    -------
    callable
        Maps weights (n_sets, n_trials) to values (n_sets,); NaN where a side has no weight.
    """
    scores = numbers(scores, "scores", ("trials",)).copy()
    positive = whole_numbers(positive, "classes (positive or not)", length=len(scores), below=2) > 0
    bad = np.isnan(scores)
    scores[bad] = np.where(positive[bad], -np.inf, np.inf)
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    is_positive = positive[order]

    def value(weights: np.ndarray) -> np.ndarray:
        ordered = np.asarray(weights, dtype=np.float64)[:, order]
        up = np.add.reduceat(ordered * is_positive, starts, axis=1)
        down = np.add.reduceat(ordered * ~is_positive, starts, axis=1)
        below = np.cumsum(down, axis=1) - down
        with np.errstate(invalid="ignore", divide="ignore"):
            return (up * (below + 0.5 * down)).sum(axis=1) / (up.sum(axis=1) * down.sum(axis=1))

    return value

"""How far a retrieved caption can be trusted: temperature and calibration on validation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.retrieval.search import closeness, evidence, retrieve, unit_rows

if TYPE_CHECKING:
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["Calibration", "fit_temperature"]


_TEMPERATURES = np.geomspace(0.001, 1, 61)


def fit_temperature(query: np.ndarray, truth: np.ndarray, pool: CandidatePool, k: int) -> float:
    """Temperature with which a head's candidates are best weighed against one another.

    Weights are the softmax of similarity / temperature over the k nearest captions. Chosen is the
    temperature whose weighted mean of the captions' embeddings lies closest (mean cosine over
    trials) to the true caption's: a head that is right trusts its first candidate, one that guesses
    spreads its bet.

    Parameters
    ----------
    query : array, shape (n, n_dims)
        The head's embeddings of the validation trials.
    truth : array, shape (n, n_dims)
        Embeddings of those trials' true captions.
    pool : CandidatePool
        What the head retrieves from.
    k : int
        Candidates that are weighed.

    Returns
    -------
    float
        In [.001, 1]; of equally good ones the largest.
    """
    indices, similarity = retrieve(query, pool, k)
    candidates = unit_rows(pool.embeddings)[indices]
    truth = unit_rows(truth)
    best, chosen = -np.inf, float(_TEMPERATURES[-1])
    for temperature in _TEMPERATURES[::-1]:
        weight = np.exp((similarity - similarity[:, :1]) / temperature)
        mean = np.einsum("nk,nkd->nd", weight, candidates)
        closeness_to_truth = float((unit_rows(mean) * truth).sum(axis=1).mean())
        if closeness_to_truth > best + 1e-9:
            best, chosen = closeness_to_truth, float(temperature)
    return round(chosen, 6)


@dataclass(frozen=True)
class Logistic:
    """A logistic function of a caption's evidence that never falls with more of it.

    Parameters
    ----------
    intercept : float
        Logit at the center.
    slopes : (float, float)
        For z-score and margin, standardized; not negative.
    center, scale : (float, float)
        Mean and standard deviation of z-score and margin where it was fitted.
    """

    intercept: float = 0.0
    slopes: tuple[float, float] = (0.0, 0.0)
    center: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray) -> Logistic:
        """Fit to fractions, with a Gaussian prior of unit precision on all coefficients.

        Parameters
        ----------
        features : array, shape (n, 2)
            From :func:`evidence`.
        target : array, shape (n,)
            About .5 at chance.
        """
        from scipy.optimize import minimize

        center, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 1e-6, spread, 1.0)
        design = np.column_stack([np.ones(len(features)), (features - center) / scale])

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            logit = design @ weights
            value = np.logaddexp(0, logit).sum() - target @ logit + 0.5 * weights @ weights
            return float(value), design.T @ (_sigmoid(logit) - target) + weights

        intercept, *slopes = minimize(
            loss,
            np.zeros(3),
            jac=True,
            method="L-BFGS-B",
            bounds=[(None, None), (0, None), (0, None)],
            options={"ftol": 1e-12, "gtol": 1e-9, "maxiter": 500},
        ).x.tolist()
        return cls(intercept, (slopes[0], slopes[1]), tuple(center.tolist()), tuple(scale.tolist()))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Logistic:
        """Back from plain values."""
        return cls(
            float(stored["intercept"]),
            tuple(stored["slopes"]),
            tuple(stored["center"]),
            tuple(stored["scale"]),
        )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Value in [0, 1] of evidence (…, 2)."""
        standard = (features - np.array(self.center)) / np.array(self.scale)
        return _sigmoid(self.intercept + standard @ np.array(self.slopes))


@dataclass(frozen=True)
class Calibration:
    """What a head's retrieval is worth, on a scale that all heads share.

    The confidence of a retrieved caption is an estimate, from the validation trials, of how close
    in meaning it is to the true one: the fraction of the pool's captions that are less similar to
    the true caption, in text space, than the retrieved one (ties half). 1 is the true caption, .5
    is what a random caption gets. It is a logistic function of two numbers a trial
    (:func:`evidence`): the z-score of the top similarity among the pool's similarities, and its
    margin over the runner-up. Its slopes are never negative, so that more evidence never means
    less confidence.

    What a caption earns whatever the trial is taken off the target (a head that always retrieves
    one caption near the middle of the pool knows nothing, though that caption is close to
    everything), and a Gaussian prior of unit precision draws the function towards .5: with few
    validation trials the confidence stays near .5, without any it is .5. It is .5, too, where the
    pool has one caption only and where all similarities are equal: nothing was told apart.

    Captions of lower rank have a function of their own, fitted on ranks 2 to 5; their confidence
    never exceeds that of a better rank.

    Parameters
    ----------
    head : str
        The head.
    first, rest : Logistic
        For the nearest caption, and for those after it.
    n : int
        Validation trials it was fitted on.
    mean : float
        Mean of the target on them, for the nearest caption: .5 for a head at chance.
    pool : str
        Name of the pool it was fitted with.
    temperature : float
        For weights over candidates; see :func:`fit_temperature`.
    thresholds : tuple of float
        Confidence that a caption must exceed to be worth .50, .51, …, .99; see :meth:`threshold`.
    """

    head: str
    first: Logistic = Logistic()
    rest: Logistic = Logistic()
    n: int = 0
    mean: float = 0.5
    pool: str = "train"
    temperature: float = 0.05
    thresholds: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, head: str, query: np.ndarray, truth: np.ndarray, pool: CandidatePool
    ) -> Calibration:
        """Fit on validation trials.

        Parameters
        ----------
        head : str
            The head.
        query : array, shape (n, n_dims)
            The head's embeddings of the validation trials.
        truth : array, shape (n, n_dims)
            Embeddings of those trials' true captions of the head's kind.
        pool : CandidatePool
            What the head retrieves from.
        """
        if len(query) != len(truth):
            raise InputError(f"{len(query)} queries need as many true captions, got {len(truth)}")
        if not len(query) or len(pool) < 2:
            return cls(head, pool=pool.name)
        indices, _ = retrieve(query, pool, _FITTED_RANKS)
        features = evidence(query, pool, indices)
        own, others = closeness(truth, pool, indices)
        target = own - others + 0.5
        mean = float(target[:, 0].mean())
        temperature = fit_temperature(query, truth, pool, _FITTED_RANKS)
        if not np.abs(features).any():  # a constant head
            return cls(head, n=len(query), mean=mean, pool=pool.name, temperature=temperature)
        first = Logistic.fit(features[:, 0], target[:, 0])
        rest = Logistic.fit(features[:, 1:].reshape(-1, 2), target[:, 1:].ravel())
        fitted = cls(head, first, rest, len(query), mean, pool.name, temperature)
        confidence = fitted.confidence(query, pool, indices[:, :1])[:, 0]
        thresholds = tuple(_reject(confidence, target[:, 0], worth) for worth in _WORTHS)
        return replace(fitted, thresholds=thresholds)

    def confidence(self, query: np.ndarray, pool: CandidatePool, indices: np.ndarray) -> np.ndarray:
        """Confidence of retrieved captions.

        Parameters
        ----------
        query : array, shape (n, n_dims)
            The head's embeddings.
        pool : CandidatePool
            What they retrieved from; best the pool of the fit.
        indices : array of int, shape (n, k)
            Retrieved captions, best first, from :func:`retrieve`.

        Returns
        -------
        array of float64, shape (n, k)
            In [0, 1]; .5 is what a random caption gets. Never rises with rank.
        """
        features = evidence(query, pool, indices)
        value = np.concatenate([self.first(features[:, :1]), self.rest(features[:, 1:])], axis=1)
        value = np.minimum.accumulate(value, axis=1)
        told_apart = np.abs(features[:, 0]).any(axis=1)
        return np.where(told_apart[:, None], value, 0.5)

    def threshold(self, worth: float) -> float:
        """Confidence that a head must exceed to speak, so that what it says is worth something.

        Chow's rule of rejection, fitted on the validation trials: of all thresholds the one that
        maximizes the sum of (value - `worth`) over the trials on which the head would speak, where
        a caption's value is the target of the calibration: 1 for the true caption, .5 for a random
        one. A head whose trials above no threshold are worth it never speaks.

        Parameters
        ----------
        worth : float
            In [.5, 1), rounded to two digits.

        Returns
        -------
        float
            In [0, 1]; 0 if the head always speaks, 1 if it never does, as without validation.

        References
        ----------
        Chow (1970), On optimum recognition error and reject tradeoff; with the threshold fitted as
        in selective classification (Geifman and El-Yaniv 2017), by validation alone.

        Examples
        --------
        >>> Calibration("ObjectSnap").threshold(0.6)
        1.0
        """
        place = round((worth - 0.5) * 100)
        if not 0 <= place < len(_WORTHS):
            raise InputError(f"a caption's worth must lie in [0.5, 1), got {worth}")
        return self.thresholds[place] if self.thresholds else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Calibration:
        """Back from :meth:`to_dict`, through JSON or not."""
        functions = {name: Logistic.from_dict(stored[name]) for name in ("first", "rest")}
        thresholds = tuple(stored.get("thresholds", ()))
        return cls(**{**stored, **functions, "thresholds": thresholds})


_FITTED_RANKS = 5


_WORTHS = tuple(round(0.5 + i / 100, 2) for i in range(50))


def _reject(confidence: np.ndarray, value: np.ndarray, worth: float) -> float:
    """The threshold above which the sum of value - worth is greatest; 1 if none is above 0."""
    levels, which = np.unique(-confidence, return_inverse=True)  # most confident first
    gain = np.cumsum(np.bincount(which.reshape(-1), weights=value - worth))
    best = int(np.argmax(gain))
    if gain[best] <= 0:
        return 1.0
    if best == len(levels) - 1:
        return 0.0
    return round(float(-(levels[best] + levels[best + 1]) / 2), 6)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))

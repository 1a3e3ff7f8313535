"""Caption retrieval of each head on pool `test`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eegprompt.metrics.base import metrics_of
from eegprompt.metrics.caption_retrieval import (
    answer_ranks,
    class_credit,
    cosine_similarity,
    right_answers,
)
from eegprompt.scores.rows import Score, Units, floor_and_ceiling
from eegprompt.scores.scoring import Scoring

__all__ = ["caption_scores"]

_SURE_THING = 0.95  # a score whose chance is above this says nothing and is left out


def caption_scores(work: Scoring) -> list[Score]:
    """Retrieval of each head: among all captions, within class, and at class level."""
    if work.embeddings is None or not work.heads:
        return []
    image_ids, rows = _captioned(work)
    if not image_ids:
        return []
    units = work.units_of(work.trials[rows], image_ids)
    work.note(
        "Caption retrieval: pool 'test' holds each caption text of the test images once; captions of "
        "the same image or of the same meaning count as right. Its floor is what the captions of a "
        "random image of the pool score, its ceiling what the true captions score, both embedded as "
        "text."
    )
    if work.known:
        work.note(
            "Within-class retrieval chooses only among captions of images of the trial's class, and "
            "permutes images within the class, so that knowing the class does not help."
        )
    work.note(
        "Class-level retrieval asks whether the nearest caption belongs to the right class; a caption "
        "of images of several classes counts by its share of images in each."
    )
    scores: list[Score] = []
    heads: list[_Head] = []
    alike: list[str] = []
    for head in work.heads:
        one = _head(work, head, image_ids, units, rows)
        if one is None:
            work.missing.append(
                f"caption retrieval of {head}: the test images have no such captions"
            )
            continue
        heads.append(one)
        if work.known:
            inside = _within_class(work, one)
            if inside is None:
                alike.append(head)
            scores += inside or []
            scores += _among_all(work, one)
        scores += _class_level(work, one)
    if not work.known:
        work.note(
            "As only the category of a trial is known, every caption kind says the same here, which "
            "category it was, in other words: the rows of the heads are one finding, not one each."
        )
    if alike:
        work.note(
            f"No within-class score of {', '.join(alike)}: captions of these kinds do not vary within "
            "a class of the test images."
        )
    if work.known and heads:
        scores += _image_retrieval(work, heads)
    return scores


def _captioned(work: Scoring) -> tuple[list[str], np.ndarray]:
    """Test images with a caption of every kind that any of them has, and which trials show them."""
    shown = work.images[work.trials]
    every = sorted(set(shown))
    having = {head: set(work.of_kind(head, every)["image_id"]) for head in work.heads}
    complete = [i for i in every if all(i in have for have in having.values() if have)]
    rows = np.isin(shown, complete)
    if len(complete) < len(every):
        first = next(i for i in every if i not in complete)
        lacking = next(head for head, have in having.items() if have and first not in have)
        work.missing.append(
            f"caption retrieval of {len(every) - len(complete)} of {len(every)} test images "
            f"({int((~rows).sum())} trials): they lack captions (first: {lacking} of '{first}'); write "
            "them, or give blank ones a text"
        )
    return complete, rows


def _image_retrieval(work: Scoring, heads: list[_Head]) -> list[Score]:
    """Which test image was seen, by all heads together: the sum of their log probabilities."""
    eye = np.eye(len(heads[0].right), dtype=bool)
    if len(eye) < 2:
        return []
    scale = {one.name: work.scales.get(one.name, 1 / 0.07) for one in heads}
    logits = [scale[one.name] * one.per_column(one.similarity) for one in heads]
    truths = [scale[one.name] * one.per_column(one.per_image(one.between)) for one in heads]
    work.note(
        "Image retrieval: which of the test images was seen, by the sum over heads of the log "
        "probability of each image's captions (cosines at the trained temperature); images whose "
        "captions are all equal share their rank. Within class, only images of that class compete."
    )
    units, image_class = heads[0].units, heads[0].image_class
    trial_class = units.classes[units.index]
    scores: list[Score] = []
    for scope in ("within-class", "all"):
        within = scope == "within-class"
        groups = image_class if within else np.zeros(len(eye), dtype=int)
        of_trial = trial_class if within else np.zeros(len(trial_class), dtype=int)
        sizes = np.bincount(groups[groups >= 0], minlength=groups.max() + 1)
        kept = sizes[of_trial] > 1
        if not kept.any():
            continue
        ranked = []  # rows and columns of a group of images, how trials rank them, and captions
        for group in np.flatnonzero(sizes > 1).tolist():
            members = np.flatnonzero(groups == group)
            rows, answers = np.flatnonzero(of_trial == group), np.eye(len(members), dtype=bool)
            of_trials = answer_ranks(_log_probabilities(logits, rows, members), answers)
            of_captions = answer_ranks(_log_probabilities(truths, members, members), answers)
            ranked.append((rows, members, of_trials, of_captions))
        for metric in metrics_of("images"):
            assert metric.function is not None
            hits, truth = np.zeros((len(of_trial), len(eye))), np.zeros(eye.shape)
            for rows, members, of_trials, of_captions in ranked:
                hits[np.ix_(rows, members)] = metric.function(of_trials)
                truth[np.ix_(members, members)] = metric.function(of_captions)
            inner = units.subset(kept)
            floor, ceiling = floor_and_ceiling(
                truth, inner.images, inner.counts, inner.classes if within else None
            )
            row = heads[0].row(metric.name, scope, head="ensemble", floor=floor, ceiling=ceiling)
            score = work.test(
                row,
                inner,
                inner.images,
                hits[kept],
                family=f"{metric.name} {scope}",
                within=within,
                also_within=not within,
            )
            _keep(work, scores, score)
    return scores


def _log_probabilities(
    logits: list[np.ndarray], rows: np.ndarray, members: np.ndarray
) -> np.ndarray:
    """Sum over heads of the log softmax over some images."""
    from scipy.special import log_softmax

    return np.sum([log_softmax(one[np.ix_(rows, members)], axis=1) for one in logits], axis=0)


@dataclass(frozen=True)
class _Head:
    """One head's queries and candidates.

    Parameters
    ----------
    name : str
        The head.
    units : Units
        Units of the queries' trials; images are rows of `right`.
    right : array of bool, shape (n_images, n_candidates)
        Right candidates of each image.
    similarity : array of shape (n_trials, n_candidates)
        Of the EEG with the candidates.
    between : array of shape (n_captions, n_candidates)
        Of every test image's own captions with the candidates.
    of_image : array of int, shape (n_captions,)
        Whose caption each row of `between` is.
    own : array of float, shape (n_images, n_candidates)
        One where a candidate is a caption of the image itself.
    """

    name: str
    units: Units
    right: np.ndarray
    similarity: np.ndarray
    between: np.ndarray
    of_image: np.ndarray
    own: np.ndarray

    @cached_property
    def image_class(self) -> np.ndarray:
        """Class of each image."""
        classes = np.full(len(self.right), -1)
        classes[self.units.images] = self.units.classes
        return classes

    def per_image(self, by_caption: np.ndarray) -> np.ndarray:
        """Mean over the captions of each image."""
        out = np.zeros((len(self.right), by_caption.shape[1]))
        np.add.at(out, self.of_image, by_caption)
        return out / np.bincount(self.of_image, minlength=len(self.right))[:, None]

    def per_column(self, by_caption: np.ndarray) -> np.ndarray:
        """Mean over each image's own captions, from columns of candidates to columns of images."""
        weights = self.own / self.own.sum(axis=1, keepdims=True)
        return by_caption @ weights.T

    def row(self, metric: str, scope: str, **more: Any) -> dict[str, Any]:
        """What all rows of the head have in common."""
        return {
            "metric": metric,
            "head": self.name,
            "pool": "test",
            "scope": scope,
            **more,
        }


def _head(
    work: Scoring, head: str, image_ids: list[str], units: Units, rows: np.ndarray
) -> _Head | None:
    assert work.embeddings is not None
    captions = work.of_kind(head, image_ids)
    texts = sorted(set(captions["text"]))
    if not texts:
        return None
    right = right_answers(
        texts,
        image_ids,
        captions["image_id"].tolist(),
        captions["text"].tolist(),
        captions["meaning"].tolist() if "meaning" in captions else None,
    )
    candidates = work.embed(texts)
    row = {image: i for i, image in enumerate(image_ids)}
    column = {text: i for i, text in enumerate(texts)}
    own = np.zeros(right.shape)
    own[[row[i] for i in captions["image_id"]], [column[t] for t in captions["text"]]] = 1
    return _Head(
        head,
        units,
        right,
        cosine_similarity(work.embeddings[f"test/{head}"][rows], candidates),
        cosine_similarity(candidates, candidates)[[column[t] for t in captions["text"]]],
        np.array([row[i] for i in captions["image_id"]]),
        own,
    )


def _keep(work: Scoring, scores: list[Score], score: Score) -> None:
    """Keep a score unless chance alone gives nearly all of it."""
    chance = score.row["chance"]
    if chance is not None and chance > _SURE_THING:
        where = "within class " if score.row["scope"] == "within-class" else ""
        work.missing.append(
            f"{score.row['metric']} {where}of {score.row['head']}: the pool is so small that chance "
            f"alone gives {chance:.3f}"
        )
    else:
        scores.append(score)


def _among_all(work: Scoring, one: _Head) -> list[Score]:
    """Instance level, among all captions of the pool."""
    ranks = answer_ranks(one.similarity, one.right)
    truth = answer_ranks(one.between, one.right)
    scores: list[Score] = []
    for metric in metrics_of("captions"):
        assert metric.function is not None
        floor, ceiling = floor_and_ceiling(
            one.per_image(metric.function(truth)), one.units.images, one.units.counts
        )
        score = work.test(
            one.row(metric.name, "all", floor=floor, ceiling=ceiling),
            one.units,
            one.units.images,
            metric.function(ranks),
            family=f"{metric.name} all",
            also_within=True,
        )
        _keep(work, scores, score)
    return scores


def _within_class(work: Scoring, one: _Head) -> list[Score] | None:
    """Instance level, among the captions of images of the trial's class; None if all are alike."""
    metrics, n_images = metrics_of("captions"), len(one.right)
    hits = [np.zeros((len(one.similarity), n_images)) for _ in metrics]
    truth = [np.zeros((len(one.between), n_images)) for _ in metrics]
    scored = np.zeros(n_images, dtype=bool)
    trial_class = one.units.classes[one.units.index]
    for c in np.unique(one.image_class):
        members = np.flatnonzero(one.image_class == c)
        columns = np.flatnonzero(one.right[members].any(axis=0))
        answers = one.right[np.ix_(members, columns)]
        if len(np.unique(answers, axis=0)) < 2:
            continue  # the kind says the same of every image of the class
        scored[members] = True
        for rows, of, tables in (
            (np.flatnonzero(trial_class == c), one.similarity, hits),
            (np.flatnonzero(np.isin(one.of_image, members)), one.between, truth),
        ):
            ranks = answer_ranks(of[np.ix_(rows, columns)], answers)
            for metric, table in zip(metrics, tables):
                assert metric.function is not None
                table[np.ix_(rows, members)] = metric.function(ranks)
    if not scored.any():
        return None
    kept = scored[one.units.images][one.units.index]
    units = one.units.subset(kept)
    scores: list[Score] = []
    for metric, of_trials, of_captions in zip(metrics, hits, truth):
        floor, ceiling = floor_and_ceiling(
            one.per_image(of_captions), units.images, units.counts, units.classes
        )
        score = work.test(
            one.row(metric.name, "within-class", floor=floor, ceiling=ceiling),
            units,
            units.images,
            of_trials[kept],
            family=f"{metric.name} within-class",
            within=True,
        )
        _keep(work, scores, score)
    return scores


def _class_level(work: Scoring, one: _Head) -> list[Score]:
    """Whether the nearest caption belongs to the right class."""
    units = one.units
    present, labels = np.unique(units.classes, return_inverse=True)
    if len(present) < 2:
        return []
    image_class = np.zeros((len(one.right), len(present)))
    image_class[units.images, labels] = 1
    share = one.right.T.astype(float) @ image_class
    share /= share.sum(axis=1, keepdims=True)
    truth = one.per_image(class_credit(one.between, share))
    floor, ceiling = floor_and_ceiling(truth, labels, units.counts, queries=units.images)
    metric = "caption_retrieval_class_top1"
    return [
        work.test(
            one.row(metric, "all", floor=floor, ceiling=ceiling),
            units,
            labels,
            class_credit(one.similarity, share),
            family=metric,
        )
    ]

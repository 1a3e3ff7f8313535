"""Malformed arrays in every public function of metrics and controls: a plain error or an answer.

Each function is called once as it should be, then with each of its arrays replaced by something that
is not what it asks for. Nothing but InputError may come out, and what is plainly wrong must be
refused. A function that is not listed here fails the test of completeness.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import eegprompt.confounds
import eegprompt.metrics
import eegprompt.stats
from eegprompt.confounds import design, drift, nuisance, surrogates, verdict
from eegprompt.confounds import linear_decoder as linear
from eegprompt.core.errors import InputError
from eegprompt.metrics import caption_retrieval as retr
from eegprompt.metrics import classification as cls
from eegprompt.metrics import distributions as dist
from eegprompt.metrics import generation as gen
from eegprompt.metrics import identification as ident
from eegprompt.metrics import pixels as img
from eegprompt.stats import bootstrap as boot
from eegprompt.stats import multiple as correction
from eegprompt.stats import permutation as perm

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((6, 4))  # trials × classes, queries × dimensions, …
OTHER = RNG.standard_normal((6, 4))
LABELS = np.array([0, 1, 2, 3, 0, 1])
HEADS = RNG.random((2, 6, 4))
SIGNS = LABELS % 2 == 0
EEG = RNG.standard_normal((6, 3, 20))
PIXELS = RNG.random((2, 12, 12, 3))
SHADES = RNG.random((2, 12, 12))
RANKS = retr.answer_ranks(ROWS, np.eye(4, dtype=bool))
SETS = RNG.random((12, 4))

# Keyword arguments that work. All arrays among them are spoiled one by one.
CALLS: dict[Callable[..., Any], dict[str, Any]] = {
    cls.class_prototypes: {"embeddings": ROWS, "classes": LABELS, "n_classes": 4},
    cls.class_probabilities: {"similarity": ROWS, "temperature": 0.1},
    cls.fit_temperature: {"similarity": ROWS, "target": LABELS},
    cls.ensemble_probabilities: {"probabilities": HEADS, "weights": np.ones(2)},
    cls.fit_weights: {"probabilities": HEADS, "target": LABELS},
    cls.decision_credit: {"scores": ROWS},
    cls.majority_credit: {"probabilities": HEADS},
    cls.roc_auc: {"scores": ROWS[:, 0], "positive": SIGNS},
    cls.weighted_auc: {"scores": ROWS[:, 0], "positive": SIGNS},
    dist.inception_score: {"logits": SETS},
    dist.frechet_distance: {"one": SETS, "two": SETS + 1},
    dist.kernel_distance: {"one": SETS, "two": SETS + 1, "subsets": 2},
    gen.n_way_accuracy: {"scores": ROWS, "targets": LABELS, "n": 3},
    gen.same_class: {"scores": ROWS, "targets": LABELS},
    ident.two_way: {"references": ROWS, "images": OTHER, "targets": LABELS, "classes": LABELS},
    ident.two_way_table: {"references": ROWS, "images": OTHER, "classes": LABELS},
    ident.feature_correlation: {"references": ROWS, "images": OTHER},
    ident.feature_cosine: {"references": ROWS, "images": OTHER},
    ident.caption_score: {"texts": ROWS, "images": OTHER},
    ident.squared_distances: {"references": ROWS, "images": OTHER},
    img.prepare: {"images": (255 * PIXELS).astype(np.uint8)},
    img.pixcorr: {"references": PIXELS, "images": PIXELS},
    img.gray: {"images": PIXELS},
    img.ssim: {"references": SHADES, "images": SHADES},
    img.ssim_legacy: {"references": SHADES, "images": SHADES},
    img.ssim_pairs: {"references": SHADES, "images": SHADES},
    retr.cosine_similarity: {"queries": ROWS, "candidates": OTHER},
    retr.right_answers: {
        "candidate_texts": ["a", "b"], "image_ids": ["1"], "caption_images": ["1"],
        "caption_texts": ["a"],
    },
    retr.answer_ranks: {"similarity": ROWS, "right": np.eye(4, dtype=bool)},
    retr.topk_hits: {"ranks": RANKS, "k": 1},
    retr.class_credit: {"similarity": ROWS, "share": np.eye(4)},
    boot.bootstrap: {
        "statistic": boot.ratio_statistic(np.ones(6), np.ones(6)), "n_units": 6, "n": 20,
        "strata": SIGNS,
    },
    boot.cluster_weights: {"n_units": 6, "n": 5, "strata": SIGNS},
    boot.interval: {"value": 0.5, "replicates": RNG.random(20), "jackknife": RNG.random(6)},
    boot.ratio_statistic: {"totals": np.arange(6), "counts": np.ones(6)},
    correction.holm: {"p": np.array([0.1, 0.2])},
    design.group_guess: {"labels": LABELS, "groups": LABELS // 2, "strata": SIGNS, "n": 9},
    design.time_neighbors: {"recording": np.zeros(6, int), "position": np.arange(6)},
    design.neighbor_guess: {
        "labels": LABELS, "neighbors": design.time_neighbors(np.zeros(6), np.arange(6)), "n": 9,
    },
    drift.pseudo_classes: {
        "time": np.arange(30), "groups": np.zeros(30, int), "rng": np.random.default_rng(0),
    },
    drift.decode_pseudo_classes: {
        "features": RNG.standard_normal((30, 2)), "pseudo": np.arange(30) // 10,
        "groups": np.zeros(30, int), "rng": np.random.default_rng(0),
    },
    drift.accuracy_by_distance: {"right": RNG.random(30) < 0.5, "distance": np.arange(30.0)},
    linear.linear_predictions: {"train": ROWS, "labels": LABELS // 2, "test": OTHER},
    linear.decode_sides: {
        "features": ROWS, "labels": LABELS // 2, "subject": np.zeros(6, int),
        "folds": [(np.arange(4), np.arange(4, 6))],
    },
    linear.score_predictions: {"predicted": LABELS, "labels": LABELS, "strata": SIGNS, "n": 9},
    nuisance.dc: {"eeg": EEG},
    nuisance.mean_and_log_variance: {"eeg": EEG},
    nuisance.band_power: {"eeg": EEG, "sfreq": 100.0},
    nuisance.slow_part: {"eeg": EEG, "sfreq": 100.0},
    nuisance.phase_randomised: {"eeg": EEG, "rng": np.random.default_rng(0)},
    nuisance.window_means: {"eeg": EEG, "n_windows": 4},
    perm.permuted_labels: {"labels": LABELS, "n": 5, "strata": SIGNS},
    perm.table_statistic: {"totals": ROWS, "counts": np.ones(6)},
    perm.table_chance: {"totals": ROWS, "counts": np.ones(6), "labels": LABELS, "strata": SIGNS},
    perm.permutation_test: {
        "statistic": perm.table_statistic(ROWS, np.ones(6)), "labels": LABELS, "n": 9,
        "strata": SIGNS,
    },
    perm.permutation_p: {"value": 0.5, "null": RNG.random(10)},
    surrogates.matched_noise: {"eeg": EEG, "keys": [0, 1], "seed": 0},
    surrogates.trial_shapes: {"eeg": EEG},
    surrogates.count_scale: {"model": np.ones(6), "counts": np.ones(6)},
    surrogates.derange: {"groups": ["a", "b", "c"], "seed": 0},
    verdict.verdict: {
        "design": True, "time": False, "prestimulus": False, "nuisance_share": None,
        "order_known": True,
    },
}  # fmt: skip


SPOILED: dict[str, Callable[[np.ndarray], Any]] = {
    "nothing": lambda _: None,
    "a word": lambda _: "words",
    "one number": lambda _: np.float64(1.5),
    "text": lambda a: np.full(a.shape, "x"),
    "objects": lambda a: np.full(a.shape, None, dtype=object),
    "ragged": lambda _: [[1, 2], [3]],
    "one axis more": lambda a: a[..., None],
    "flattened": lambda a: a.ravel() if a.ndim > 1 else a.reshape(2, -1),
    "one fewer": lambda a: a[:-1],
    "one": lambda a: a[:1],
    "none": lambda a: a[:0],
    "not a number": lambda a: np.full(a.shape, np.nan),
    "infinite": lambda a: np.full(a.shape, np.inf),
    "constant": lambda a: np.ones_like(a),
    "negative": lambda a: -1 - np.abs(a) if a.dtype.kind in "if" else a,
    "far out": lambda a: (a + 99).astype(a.dtype) if a.dtype.kind == "i" else a,
}
MUST_REFUSE = {"a word", "one number", "text", "objects", "ragged"}
# strata and groups are any values that can be compared; classes of references likewise
OF_STUDIES = {"base", "audit_data", "design_checks", "signal_checks", "record", "max_statistic"}
ANY_VALUES = {"strata", "groups", "recording", "subject", "classes"}


def _public() -> set[Callable[..., Any]]:
    found = set()
    for package in (eegprompt.metrics, eegprompt.stats, eegprompt.confounds):
        for module in pkgutil.iter_modules(package.__path__):
            if module.name in OF_STUDIES:
                continue
            whole = importlib.import_module(f"{package.__name__}.{module.name}")
            found |= {
                getattr(whole, n) for n in whole.__all__ if inspect.isfunction(getattr(whole, n))
            }
    return found


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    result = function(**arguments)
    if inspect.isgenerator(result):
        return list(result)
    return result


def test_every_public_function_is_here() -> None:
    assert _public() == set(CALLS)


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__name__)
def test_they_work_as_called_here(function: Callable[..., Any]) -> None:
    _called(function, CALLS[function])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__name__)
def test_malformed_arrays_are_refused_or_answered(function: Callable[..., Any]) -> None:
    good = CALLS[function]
    wrong = []
    for name, value in good.items():
        if not isinstance(value, np.ndarray):
            continue
        for spoiled, spoil in SPOILED.items():
            said = ""
            try:
                _called(function, {**good, name: spoil(value)})
            except InputError as problem:
                said = str(problem)
            except Exception as problem:
                wrong.append(f"{name}, {spoiled}: {type(problem).__name__} {problem}")
                continue
            any_value = name in ANY_VALUES and spoiled in ("text", "objects")
            if spoiled in MUST_REFUSE and not any_value and len(said) < 25:
                wrong.append(f"{name}, {spoiled}: was taken, or refused in few words: {said!r}")
    assert not wrong, "\n".join(wrong)

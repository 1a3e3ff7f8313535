"""T, P and the decoders: what the EEG itself says, about the class and about time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eegprompt.confounds.audit_data import ALPHA, CHUNK, MOST_TRIALS, Material
from eegprompt.confounds.drift import accuracy_by_distance, decode_pseudo_classes, pseudo_classes
from eegprompt.confounds.linear_decoder import Decoding, decode_sides, score_predictions
from eegprompt.confounds.nuisance import (
    band_power,
    dc,
    mean_and_log_variance,
    phase_randomised,
    slow_part,
    window_means,
)
from eegprompt.confounds.surrogates import TrialShapes, count_scale, matched_noise, trial_shapes

__all__ = ["DECODERS", "NUISANCES", "check_decoders", "check_prestimulus", "check_time"]

Extract = Callable[[np.ndarray], np.ndarray]

DECODERS = {
    "full": "full decoder",
    "dc": "mean of each channel (DC)",
    "variance": "channel means and log variances",
    "power": "band power",
    "slow": "slow part (below 5 Hz)",
    "surrogate": "phase-randomized surrogates",
    "noise": "noise of each trial's length and count",
}
"""Linear decoders of an audit; the first is what the others stand beside."""

NUISANCES = ("slow", "dc", "variance", "power")
"""Decoders that count against a study where class and time go together."""

_MODELED = 64  # trials that the audit's noise is matched to, at most

_TIME_WINDOWS = 4
_TIME_FEATURES = 512
_MOST_GROUPS = 240
_STRETCHES = 4


def features_of(work: Material, ids: np.ndarray, extract: dict[str, Extract], label: str,
                done: int, total: int) -> dict[str, np.ndarray]:  # fmt: skip
    """Features of some trials, read in the order of the file, a few trials at a time."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in extract}
    scale = _scale(work, ids)
    for start in range(0, len(ids), CHUNK):
        work.progress(done, total, f"{label}: reading trial {start:,} of {len(ids):,}")
        block = np.asarray(work.study.eeg[ids[start : start + CHUNK]], dtype=np.float32) * scale
        if not np.isfinite(block).all():
            work.limit(
                "some values are not finite, and were taken as 0 here; training refuses such trials "
                "(import the study again without them)"
            )
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        for name, function in extract.items():
            parts[name].append(function(block).astype(np.float32))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _scale(work: Material, ids: np.ndarray) -> np.float32:
    """What brings the values near 1, so that volts do not vanish in float32."""
    some = np.asarray(work.study.eeg[ids[:CHUNK]], dtype=np.float64)
    finite = some[np.isfinite(some)]
    size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return np.float32(1 / size if size > 0 else 1.0)


def _decoding(found: Decoding) -> dict[str, Any]:
    return {
        "accuracy": found.accuracy,
        "lo": found.lo,
        "hi": found.hi,
        "chance": found.chance,
        "p": None if np.isnan(found.p) else found.p,
        "n": found.n_trials,
        "units": found.n_units,
        "classes": found.n_classes,
        "noticed": None if np.isnan(found.noticed) else found.noticed,
        "above_chance": bool(found.p < ALPHA),
    }


def _decode(
    work: Material, ids: np.ndarray, features: np.ndarray
) -> tuple[dict[str, Any] | None, np.ndarray, np.ndarray]:
    """Decode the class on the audit's folds; also which trials were decoded, and rightly."""
    nothing = np.zeros(0, np.int64)
    if not features.shape[1]:
        return None, nothing, nothing
    folds = [(np.searchsorted(ids, a), np.searchsorted(ids, b)) for a, b in work.folds]
    rows, predicted = decode_sides(features, work.labels[ids], folds, work.subject[ids])
    if not len(rows):
        return None, nothing, nothing
    trials = ids[rows]
    units = None if work.units is None else work.units[trials]

    def test(strata: np.ndarray | None) -> Decoding:
        return score_predictions(
            predicted, work.labels[trials], units=units, strata=strata, n=work.permutations,
            seed=work.seed,
        )  # fmt: skip

    # Slow changes between recordings are no signal, where labels can be exchanged within them.
    found = test(work.recording[trials] if units is None else None)
    if np.isnan(found.p):
        found = test(None)
    return _decoding(found), trials, predicted == work.labels[trials]


def check_decoders(work: Material, done: int, total: int) -> dict[str, Any]:
    """The full decoder and the nuisance decoders, on one and the same split."""
    if len(work.classes) < 2:
        return _no_decoders("There is one class only, so there is nothing to decode.")
    study, inside = work.study, work.after_onset()
    n_times = len(range(*inside.indices(study.n_times)))
    sfreq = study.sfreq
    windows = max(1, min(work.most_features // study.n_chans, round(n_times / sfreq / 0.02)))
    # Coefficients that fit the features a decoder may have; at least the mean.
    most_slow = max((work.most_features // study.n_chans + 1) // 2, 1)
    below = min(5.0, most_slow * sfreq / n_times)
    if below < 5.0:
        work.limit(f"the slow decoder was cut at {below:.2g} Hz, for its size")
    rng = work.rng(2)
    extract: dict[str, Extract] = {
        "full": lambda x: window_means(x[:, :, inside], windows),
        "dc": lambda x: dc(x[:, :, inside]),
        "variance": lambda x: mean_and_log_variance(x[:, :, inside]),
        "power": lambda x: band_power(x[:, :, inside], sfreq),
        "slow": lambda x: slow_part(x[:, :, inside], sfreq, below),
        "surrogate": lambda x: window_means(phase_randomised(x[:, :, inside], rng), windows),
        "shape": _packed_shapes,
    }
    ids = np.unique(np.concatenate([side for fold in work.folds for side in fold]))
    if not len(ids):
        return _no_decoders("No trial could be decoded: the split's sides are too small.")
    features = features_of(work, ids, extract, "decoders", done, total)
    shapes = _unpacked_shapes(features.pop("shape"), study.n_times)
    counts = np.maximum(study.trials["n_averaged"].to_numpy()[ids], 1)
    if shapes.vary or len(np.unique(counts)) > 1:
        features["noise"] = _noise_power(work, ids, shapes, counts, windows, done, total)
    flat = bool(np.ptp(features["full"], axis=0).max(initial=0) == 0)
    rows: list[dict[str, Any]] = []
    distance: list[dict[str, Any]] = []
    for name in [n for n in DECODERS if n in features]:
        work.progress(done, total, f"decoding: {DECODERS[name]}")
        found, trials, right = _decode(work, ids, features.pop(name))
        if found is not None:
            rows.append({"decoder": name, "label": DECODERS[name], **found})
            if name == "full":
                distance = _distance(work, trials, right)
    by_name = {r["decoder"]: r for r in rows}
    full = by_name.get("full")
    if full is None:
        return _no_decoders(f"No trial could be decoded: {_why_none(flat)}.") | {"rows": rows}
    above = [r for r in rows if r["above_chance"]]
    of_eeg = [r for r in above if r["decoder"] != "noise"]
    gained = max((r["accuracy"] - r["chance"] for r in of_eeg), default=0.0)
    undecided = ""
    for row in rows:
        row["share"] = (row["accuracy"] - row["chance"]) / gained if gained > 0 else None
    nuisances = [r for r in above if r["decoder"] in NUISANCES and r["share"] is not None]
    best = max(nuisances, key=lambda r: r["share"], default=None)
    words = [
        f"A linear decoder of the whole response is right in {full['accuracy']:.1%} of "
        f"{full['n']:,} test trials; chance is {full['chance']:.1%} ({_p(full['p'])})."
    ]
    if of_eeg and not full["above_chance"]:
        words.append(
            "It is not above chance, but a decoder that is not linear may read what these read: "
            + "; ".join(
                f"{r['label']}, {r['accuracy']:.1%} right, chance {r['chance']:.1%} ({_p(r['p'])})"
                for r in of_eeg
            )
            + "."
        )
    if best is not None:
        words.append(
            f"From the {best['label']} alone, {best['accuracy']:.1%} are decoded rightly: "
            f"{best['share']:.0%} of what the best decoder here gains over chance."
        )
    elif of_eeg:
        words.append("No nuisance decoder (mean, variance, band power, slow part) is above chance.")
    elif full["noticed"] is None:
        undecided = "Whether anything is decodable cannot be told from so few trials."
        words.append(undecided)
    else:
        words.append(
            f"No decoder of the response is above chance; {full['noticed']:.1%} would have been "
            "noticed in the full one."
        )
    noise = by_name.get("noise")
    if noise is None:
        words.append(
            "All trials are equally long and averages of equally many, so that noise of the same "
            "shape cannot tell one from another."
        )
    elif noise["above_chance"]:
        words.append(
            f"Trials differ in length, in flat channels or in how many were averaged, and that alone "
            f"tells the class: noise without any EEG is decoded rightly in {noise['accuracy']:.1%}. "
            "Cut all trials to one length and average equally many of each class."
        )
    return {
        "rows": rows,
        "decodable": True if above else None if full["noticed"] is None else False,
        "nuisance_share": None if best is None else best["share"],
        "nuisance": None if best is None else best["decoder"],
        "shape": bool(noise is not None and noise["above_chance"]),
        "distance": distance,
        "words": words,
        "undecided": undecided,
    }


def _no_decoders(why: str) -> dict[str, Any]:
    return {"rows": [], "words": [why], "decodable": None, "nuisance_share": None,
            "nuisance": None, "shape": False, "distance": [], "undecided": why}  # fmt: skip


def _packed_shapes(eeg: np.ndarray) -> np.ndarray:
    """Shapes of some trials as rows of numbers, so that they are gathered like features."""
    found = trial_shapes(eeg)
    return np.column_stack([found.first, found.stop, found.flat])


def _unpacked_shapes(rows: np.ndarray, n_times: int) -> TrialShapes:
    return TrialShapes(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:] > 0, n_times)


def _noise_power(
    work: Material, ids: np.ndarray, shapes: TrialShapes, counts: np.ndarray, windows: int,
    done: int, total: int,
) -> np.ndarray:  # fmt: skip
    """Log power in windows of noise that has each trial's length, flat channels and count.

    Power, for the mean of noise is nothing that a linear decoder could read a length from.
    """
    some = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), _MODELED)).astype(int))
    model = np.nan_to_num(
        np.asarray(work.study.eeg[ids[some]], dtype=np.float64) * _scale(work, ids),
        nan=0.0, posinf=0.0, neginf=0.0,
    )  # fmt: skip
    scale = count_scale(counts[some], counts)
    parts = []
    for start in range(0, len(ids), CHUNK):
        work.progress(done, total, f"noise of each trial's length: trial {start:,} of {len(ids):,}")
        part = slice(start, start + CHUNK)
        noise = matched_noise(model, ids[part].tolist(), work.seed, shapes=shapes[part])
        power = window_means((noise * scale[part, None, None]) ** 2, windows)
        parts.append(np.log(power + np.finfo(np.float32).tiny).astype(np.float32))
    return np.concatenate(parts)


def _why_none(flat: bool) -> str:
    if flat:
        return "the EEG is the same in all trials"
    return "no class has two training trials and a test trial"


def _distance(work: Material, trials: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Accuracy against the time to the nearest training trial of the same recording."""
    if not work.order_known:
        return []
    nearest = np.full(len(trials), np.inf)
    for train, test in work.folds:
        for recording in np.unique(work.recording[train]):
            times = np.sort(work.position[train[work.recording[train] == recording]])
            here = np.flatnonzero(np.isin(trials, test) & (work.recording[trials] == recording))
            at = work.position[trials[here]]
            place = np.searchsorted(times, at).clip(1, max(len(times) - 1, 1))
            left = np.abs(times[place - 1] - at)
            beside = np.abs(times[np.minimum(place, len(times) - 1)] - at)
            nearest[here] = np.minimum(nearest[here], np.minimum(left, beside))
    return [vars(b) for b in accuracy_by_distance(right, nearest)]


def check_prestimulus(work: Material, design_found: bool, done: int, total: int) -> dict[str, Any]:
    """P: can the class be decoded from samples that cannot hold a response?"""
    window, words = work.before_onset()
    result: dict[str, Any] = {"window": words, "found": False, "decoding": None}
    if len(work.classes) < 2:
        return {**result, "words": ["There is one class only, so there is nothing to decode."]}
    if window is None:
        return {**result, "words": [f"Not looked at: {words}."]}
    study = work.study
    n_times = len(range(*window.indices(study.n_times)))
    windows = max(1, min(work.most_features // 2 // study.n_chans,
                         round(n_times / study.sfreq / 0.02)))  # fmt: skip
    ids = np.unique(np.concatenate([side for fold in work.folds for side in fold]))
    found = None
    if len(ids):
        extract = {"early": lambda x: window_means(x[:, :, window], windows)}
        features = features_of(work, ids, extract, "before the stimulus", done, total)
        found, _, _ = _decode(work, ids, features["early"])
    if found is None:
        return {**result, "words": ["No trial could be decoded."]}
    said = [
        f"From {words} the class is decoded in {found['accuracy']:.1%} of trials; chance is "
        f"{found['chance']:.1%} ({_p(found['p'])})."
    ]
    if found["above_chance"]:
        said.append("No response can be there yet: something else tells the class.")
        if not design_found and any(
            "pass" in str(step.get("name", step)) for step in _steps(study)
        ):
            said.append(
                "The study was filtered: a filter without delay smears responses to before the "
                "stimulus, and may be the cause."
            )
    elif found["noticed"] is None:
        said.append("With so few trials, nothing could have been noticed.")
    else:
        said.append(f"{found['noticed']:.1%} would have been noticed.")
    return {**result, "found": found["above_chance"], "decoding": found, "words": said}


def _steps(study: Any) -> list[dict[str, Any]]:
    return [s if isinstance(s, dict) else {"name": str(s)} for s in study.info.get("steps") or []]


def check_time(work: Material, design_found: bool, done: int, total: int) -> dict[str, Any]:
    """T: can time be decoded within a class?"""
    nothing: dict[str, Any] = {"found": False, "decoding": None}
    if not work.order_known:
        return {**nothing, "words": ["Not looked at: the order of the trials is not known."]}
    ids = _apart_in_time(work)
    groups = np.unique(
        np.stack([work.recording[ids], work.labels[ids]], axis=1), axis=0, return_inverse=True
    )[1].ravel()
    rng = work.rng(3)
    time = work.position[ids]
    pseudo = pseudo_classes(time, groups, rng)
    cut = "trials of one class in one recording were cut"
    if (pseudo >= 0).mean() < 0.5 and not design_found:
        # Classes come too seldom to be cut one by one, and are spread evenly over time.
        groups = np.unique(work.recording[ids], return_inverse=True)[1]
        pseudo = pseudo_classes(time, groups, rng, stretches=_STRETCHES)
        cut = "each recording was cut, for its classes come too seldom to be cut one by one,"
    used = np.unique(groups[pseudo >= 0])
    if not len(used):
        return {**nothing, "words": ["Not looked at: no class has enough trials in a recording."]}
    if len(used) > _MOST_GROUPS:
        work.limit(f"drift was looked for in {_MOST_GROUPS} of {len(used)} groups of trials")
        used = rng.choice(used, _MOST_GROUPS, replace=False)
    keep = np.isin(groups, used) & (pseudo >= 0)
    ids, groups, pseudo = ids[keep], groups[keep], pseudo[keep]
    windows = max(1, min(_TIME_WINDOWS, _TIME_FEATURES // work.study.n_chans))
    extract = {"time": lambda x: window_means(x, windows)}
    features = features_of(work, ids, extract, "drift", done, total)["time"]
    work.progress(done, total, "decoding time within classes")
    rows, predicted = decode_pseudo_classes(features, pseudo, groups, rng)
    if not len(rows):
        why = (
            "the EEG is the same in all trials" if np.ptp(features, axis=0).max(initial=0) == 0
            else "no class has enough trials in a recording"
        )  # fmt: skip
        return {**nothing, "words": [f"Not looked at: {why}."]}
    found = _decoding(
        score_predictions(
            predicted, pseudo[rows], strata=groups[rows], n=work.permutations, seed=work.seed
        )
    )
    n_parts = int(pseudo.max()) + 1
    words = [
        f"To look for drift, {cut} in time into {n_parts} stretches: which stretch a trial is of is "
        f"decoded in {found['accuracy']:.1%} of trials; chance is {found['chance']:.1%} "
        f"({_p(found['p'])})."
    ]
    words.append(
        "The EEG drifts, as every recording does; by itself that accuses nobody."
        if found["above_chance"] else "No drift was found."
    )  # fmt: skip
    return {"found": found["above_chance"], "decoding": found, "words": words}


def _apart_in_time(work: Material) -> np.ndarray:
    """Trials for the look at drift: whole recordings, without trials that share samples."""
    ids = np.arange(work.study.n_trials)
    if len(ids) > MOST_TRIALS:
        kept: list[np.ndarray] = []
        for r in work.rng(4).permutation(np.unique(work.recording)):
            here = np.flatnonzero(work.recording == r)
            if kept and sum(map(len, kept)) + len(here) > MOST_TRIALS:
                break
            kept.append(here[: 2 * MOST_TRIALS])
        ids = np.sort(np.concatenate(kept))
        work.limit(f"drift was looked for in {len(kept)} recordings of {len(ids):,} trials")
    if not work.in_seconds:
        return ids
    length = (work.study.n_times - 0.5) / work.study.sfreq
    last: dict[int, float] = {}
    chosen = []
    for i in ids[np.lexsort((work.position[ids], work.recording[ids]))]:
        if work.position[i] - last.get(int(work.recording[i]), -np.inf) >= length:
            last[int(work.recording[i])] = float(work.position[i])
            chosen.append(i)
    if len(chosen) < len(ids):
        work.limit(
            f"to look for drift, {len(ids) - len(chosen):,} trials that share samples with the one "
            "before were left out"
        )
    return np.sort(np.array(chosen, dtype=np.int64))


def _p(p: float | None) -> str:
    if p is None:
        return "not testable"
    text = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return text.replace(" ", "\u00a0")

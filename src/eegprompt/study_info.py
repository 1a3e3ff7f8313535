"""What is in a study, in words and numbers, and as a picture: the cap and the evoked response."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import atomic_path
from eegprompt.captions.store import facts_of, unfinished_sets
from eegprompt.errors import InputError, SplitError
from eegprompt.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "cap_coordinates",
    "draw_study",
    "evoked",
    "step_in_words",
    "study_figure",
    "study_info",
]

# Middle of the sphere on which the electrodes of MNE's templates lie, in head coordinates (m): the
# origin of these coordinates is lower, between the ears.
_HEAD_CENTER = np.array([0.0, 0.018, 0.042])
_MOST_NAMED = 5
FIGURE_SUFFIXES = (".svg", ".png", ".pdf")


def study_info(study: Study) -> dict[str, Any]:
    """Facts of a study, ready to be printed or written as JSON.

    Parameters
    ----------
    study : Study

    Returns
    -------
    dict
        Name, counts (subjects, sessions, runs, trials, images, classes), channels, sampling,
        design, what is known of images (without an image file, with a file that is gone, never
        shown, of equal bytes), steps applied, splits, caption sets and notes.

    Raises
    ------
    StudyError
        If a table of the study cannot be read.
    """
    info, trials = study.info, study.trials
    of_class = dict(zip(study.images["image_id"], study.images["category"].astype(str)))
    classes = trials["image_id"].map(of_class).value_counts().sort_index()
    per_subject = trials.groupby("subject", sort=True)
    onset = trials["onset"].to_numpy(dtype=np.float64)
    paths = study.images["path"].fillna("").astype(str)
    without_position = [
        name for name, where in zip(study.ch_names, study.positions) if not np.isfinite(where).all()
    ]
    steps = [step_in_words(step) for step in info.get("steps", [])]
    facts: dict[str, Any] = {
        "name": study.name,
        "path": str(study.path),
        "source": info.get("source", ""),
        "license": info.get("license", ""),
        "citation": info.get("citation", ""),
        "subjects": {str(s): len(t) for s, t in per_subject},
        "sessions": int(trials.groupby(["subject", "session"]).ngroups),
        "runs": int(trials.groupby(["subject", "session", "run"]).ngroups),
        "trials": study.n_trials,
        "images": len(study.images),
        "images_without_picture": int((paths == "").sum()),
        "image_files_gone": sum(not (study.path / path).is_file() for path in paths if path),
        "images_never_shown": len(set(study.images["image_id"]) - set(trials["image_id"])),
        "images_of_equal_bytes": _equal_images(study),
        "image_identity": study.image_identity,
        "n_classes": len(classes),
        "classes": {str(name): int(count) for name, count in classes.items()},
        "design": study.design,
        "onsets": "known" if np.isfinite(onset).all() else "not known",
        "channels": study.ch_names,
        "channels_without_position": without_position,
        "montage": info.get("montage", ""),
        "sampling_rate_hz": study.sfreq,
        "trial_s": [round(study.tmin, 6), round(float(study.times[-1]), 6)],
        "samples": study.n_times,
        "unit": study.unit,
        "filters": _filters(info.get("steps", [])),
        "expected": info.get("expected", ""),
        "megabytes": round(study.eeg.nbytes / 1e6, 1),
        "steps": steps or ["none"],
        "splits": {name: _split_in_words(study, name) for name in study.split_names()},
        "captions": _captions(study),
        "notes": list(info.get("notes", [])),
    }
    return {k: v for k, v in facts.items() if v not in ("", [], None)}


def _equal_images(study: Study) -> list[str]:
    """Images that are one file under several names, a group each."""
    groups: dict[str, list[tuple[str, str]]] = {}
    images = study.images
    for image_id, category, digest in zip(
        images["image_id"].tolist(), images["category"].tolist(), images["sha256"].tolist()
    ):
        if isinstance(digest, str) and digest:
            groups.setdefault(digest, []).append((str(image_id), str(category)))
    said = []
    for group in groups.values():
        if len(group) > 1:
            names = " = ".join(name for name, _ in group[:_MOST_NAMED])
            names += f" = … ({len(group)} names)" if len(group) > _MOST_NAMED else ""
            categories = sorted({category for _, category in group})
            apart = f", of the categories {', '.join(categories[:_MOST_NAMED])}"
            said.append(names + (apart if len(categories) > 1 else ""))
    more = len(said) - _MOST_NAMED
    return said[:_MOST_NAMED] + ([f"… and {more} more"] if more > 0 else [])


def _filters(steps: list[dict[str, Any]]) -> str:
    """Which frequencies were kept and removed, whoever did it."""
    words = []
    for step in steps:
        if step.get("name") == "band-pass":
            low, high = step.get("low"), step.get("high")
            edges = [f"from {low:g} Hz"] * (low is not None) + [f"to {high:g} Hz"] * (
                high is not None
            )
            words.append(" ".join(edges) or "of unknown edges")
        elif step.get("name") in ("highpass", "lowpass") and step.get("hz") is not None:
            words.append(f"{'from' if step['name'] == 'highpass' else 'to'} {step['hz']:g} Hz")
        elif step.get("name") == "notch":
            words.append("without " + ", ".join(f"{f:g} Hz" for f in step.get("frequencies", ())))
    return ", ".join(words) or "none on record"


def step_in_words(step: dict[str, Any]) -> str:
    """One step of a study's processing in words; what is not known of it is left out.

    Examples
    --------
    >>> step_in_words({"name": "crop", "tmin": 0.02, "tmax": None, "lengths_kept": [450, 600]})
    'crop (tmin 0.02, lengths kept 450, 600)'
    """
    details = ", ".join(
        f"{k.replace('_', ' ')} {_value_in_words(v)}"
        for k, v in step.items()
        if k != "name" and v is not None
    )
    return f"{step.get('name', '?')} ({details})" if details else str(step.get("name", "?"))


def _value_in_words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value_in_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _split_in_words(study: Study, name: str) -> str:
    try:
        split = study.split(name)
    except SplitError as problem:
        return f"unusable: {problem}"
    sizes = [
        "/".join(f"{round(n):d}" for n in np.atleast_1d(counts))
        for counts in ([len(f.train), len(f.val), len(f.test)] for f in split.folds[:1])
    ]
    apart = split.how.get("kept_apart")
    kept = f", kept apart: {' and '.join(apart)}" if apart else ""
    folds = f"{len(split.folds)} fold{'s' * (len(split.folds) > 1)}"
    which = ", the first" if len(split.folds) > 1 else ""
    return f"{folds}{which} of {sizes[0]} train/validation/test trials{kept}"


def _captions(study: Study) -> dict[str, str]:
    """Caption sets in words, those among them that are not whole or failed."""
    said = {name: _captions_in_words(study, name) for name in study.caption_names()}
    for name, (n_done, failed) in unfinished_sets(study).items():
        state = (
            f"broken off with {n_done} of {len(study.images)} images captioned{_failures(failed)}"
        )
        if failed and not n_done:
            state = f"none: {len(failed)} of {len(study.images)} images failed, the first with: "
            state += failed[0]["error"]
        said[name] = f"{said[name]}; a later call was {state}" if name in said else state
    return said


def _captions_in_words(study: Study, name: str) -> str:
    table = study.captions(name)
    facts = facts_of(study.path, name)
    by = " ".join(str(v) for v in facts.get("origin", {}).values() if v)
    return (
        f"{len(table)} captions of {table['kind'].nunique()} kinds for "
        f"{table['image_id'].nunique()} images{f', by {by}' if by else ''}"
        f"{_failures(facts.get('failed', []))}"
    )


def _failures(failed: list[dict[str, str]]) -> str:
    if not failed:
        return ""
    what = "image" if len(failed) == 1 else "images"
    return f"; {len(failed)} {what} failed, the first with: {failed[0]['error']}"


def evoked(study: Study, max_trials: int = 4000) -> tuple[np.ndarray, int]:
    """Mean over trials of each channel.

    Parameters
    ----------
    study : Study
    max_trials : int
        Larger studies are averaged over this many trials, evenly spread.

    Returns
    -------
    mean : array of float64, shape (n_chans, n_times)
        In the study's unit.
    n : int
        Number of trials averaged.
    """
    if max_trials < 1:
        raise InputError(f"'max_trials' must be at least 1, got {max_trials}")
    n = min(study.n_trials, max_trials)
    rows = np.unique(np.linspace(0, study.n_trials - 1, n).round().astype(int))
    total = np.zeros((study.n_chans, study.n_times))
    for start in range(0, len(rows), 256):
        total += study.eeg[rows[start : start + 256]].sum(axis=0, dtype=np.float64)
    return total / len(rows), len(rows)


def cap_coordinates(positions: np.ndarray) -> np.ndarray:
    """Electrodes on a flat cap seen from above, nose up.

    Azimuthal equidistant around the middle of MNE's template head: the distance from the center is
    the angle from the vertex, 1 at a right angle, which is near the ring Fpz, T7, Oz, T8.

    Parameters
    ----------
    positions : array, shape (n_chans, 3)
        Meters, head coordinates; NaN where unknown.

    Returns
    -------
    array of float64, shape (n_chans, 2)
        NaN where unknown.
    """
    positions = np.asarray(positions, dtype=np.float64) - _HEAD_CENTER
    x, y, z = positions.T
    radius = np.sqrt((positions**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arccos(np.clip(z / radius, -1, 1)) / (np.pi / 2)
        flat = np.hypot(x, y)
        scale = np.where(flat > 0, angle / flat, 0.0)
    return np.column_stack([x * scale, y * scale])


def study_figure(study: Study, max_trials: int = 4000) -> Figure:
    """Draw the cap and the evoked response of a study.

    Channels have one color on the cap and in the plot, from front (dark) to back (bright), on a
    scale that color-blind people can read and that survives a gray print.

    Parameters
    ----------
    study : Study
    max_trials : int
        See :func:`evoked`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    mean, n_averaged = evoked(study, max_trials)
    cap = cap_coordinates(study.positions)
    known = np.isfinite(cap).all(axis=1)
    front = np.where(known, cap[:, 1], 0.0)
    # The lightest part of the map is left out: it would not show on white.
    span = float(np.ptp(front[known])) if known.any() else 0.0
    shade = (front.max() - front) / span * 0.85 if span > 0 else np.full(len(front), 0.3)
    colors = colormaps["cividis"](np.clip(shade, 0, 0.85))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    _draw_cap(left, study, cap, known, colors)
    scale, unit = (1e6, "µV") if study.unit == "V" else (1.0, study.unit)
    for channel in np.argsort(shade):
        right.plot(study.times * 1e3, mean[channel] * scale, color=colors[channel], lw=0.9)
    power = mean.std(axis=0) if study.n_chans > 1 else np.abs(mean[0])
    label = "standard deviation over channels" if study.n_chans > 1 else "absolute value"
    right.plot(study.times * 1e3, power * scale, color="black", lw=1.8, label=label)
    right.axhline(0, color="0.7", lw=0.6, zorder=0)
    if study.tmin < 0:
        right.axvline(0, color="0.4", lw=0.8, ls="--", zorder=0)
    right.set_xlabel("time from stimulus onset (ms)")
    right.set_ylabel(f"mean over trials ({unit})")
    right.set_title(f"evoked response, {n_averaged} of {study.n_trials} trials", fontsize=10)
    right.legend(frameon=False, fontsize=8, loc="best")
    right.spines[["top", "right"]].set_visible(False)
    right.margins(x=0)
    return figure


def _draw_cap(
    axes: Axes, study: Study, cap: np.ndarray, known: np.ndarray, colors: np.ndarray
) -> None:
    """Head from above with a dot an electrode; names where they do not crowd."""
    around = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(around), np.sin(around), color="0.3", lw=1.2)
    axes.plot([-0.1, 0, 0.1], [0.99, 1.14, 0.99], color="0.3", lw=1.2)  # nose
    for side in (-1, 1):
        ear = np.linspace(-np.pi / 2, np.pi / 2, 40)
        axes.plot(side * (1 + 0.07 * np.cos(ear)), 0.16 * np.sin(ear), color="0.3", lw=1.2)
    n_known = int(known.sum())
    axes.scatter(
        cap[known, 0], cap[known, 1], s=36 if n_known <= 40 else 14, c=colors[known], zorder=3,
        edgecolors="white", linewidths=0.5,
    )  # fmt: skip
    if n_known <= 40:
        for name, (x, y) in zip(np.array(study.ch_names)[known], cap[known]):
            axes.annotate(
                str(name), (x, y), xytext=(0, 5), textcoords="offset points", ha="center",
                fontsize=7,
            )  # fmt: skip
    missing = study.n_chans - n_known
    note = f", {missing} without position" if missing else ""
    axes.set_title(f"{study.n_chans} channels{note}", fontsize=10)
    limit = max(1.25, float(np.abs(cap[known]).max()) + 0.15 if n_known else 0)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_aspect("equal")
    axes.axis("off")


def draw_study(study: Study, path: str | Path, max_trials: int = 4000) -> Path:
    """Write :func:`study_figure` to a file, atomically.

    Parameters
    ----------
    study : Study
    path : path-like
        Ends in .svg, .png or .pdf.
    max_trials : int
        See :func:`evoked`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If the suffix is none of these.
    """
    import matplotlib

    path = Path(path)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise InputError(
            f"a figure is written as {', '.join(FIGURE_SUFFIXES)}; got '{path.suffix}' in {path}"
        )
    figure = study_figure(study, max_trials)
    # A fixed salt: the same study gives the same bytes.
    settings: dict[Any, Any] = {"svg.hashsalt": "eegprompt", "svg.fonttype": "none"}
    with atomic_path(path) as partial, matplotlib.rc_context(settings):
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
        figure.savefig(partial, dpi=150, metadata=metadata)
    return path

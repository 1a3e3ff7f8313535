"""What is in a study, in words and numbers, and as an image: the cap and the evoked response."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.captions.store import facts_of, unfinished_sets
from eegprompt.core.errors import SplitError
from eegprompt.signal.description import filters, step_in_words
from eegprompt.study import Study

__all__ = ["info"]

_MOST_NAMED = 5


def info(study: Study) -> dict[str, Any]:
    """Facts of a study, ready to be printed or written as JSON.

    Parameters
    ----------
    study : Study

    Returns
    -------
    dict
        Name, counts (subjects, sessions, runs, trials, images, classes), what became of the
        source's events, channels, sampling, design, what is known of images (without an image
        file, with a file that is gone, never shown, of equal bytes), steps applied, splits,
        caption sets and notes.

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
        "accounting": None if study.accounting is None else study.accounting.words(),
        "images": len(study.images),
        "images_without_image": int((paths == "").sum()),
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
        "filters": filters(info.get("steps", [])),
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

"""Adapt a run to a new person from a few labeled minutes: the encoder stays, a read-out is fitted.

The study of the new person has a split of its own: the fold's training trials fit the read-out, its
validation trials say how much it and the encoder are worth, its test trials are scored.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions.usable import usable_captions
from eegprompt.core.errors import InputError, RunError, StudyError
from eegprompt.core.files import content_key
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder
from eegprompt.run import Run, input_keys
from eegprompt.splits.leaks import check_leaks
from eegprompt.steps.decode import fit_candidates
from eegprompt.study import Study

if TYPE_CHECKING:
    from eegprompt.encoders.adapted import AdaptedEncoder
    from eegprompt.text_encoders.base import TextEncoder
    from eegprompt.training.batches import TrainingData

__all__ = ["adapt"]

SMALLEST = 8
"""Trials of the first point of the learning curve; each next one has twice as many."""


def adapt(
    run: Run | str | Path,
    study: Study | str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    fold: int = 0,
    captions: str | None = None,
    progress: Progress | None = None,
    text_encoder: TextEncoder | None = None,
) -> Run:
    """Fit a new person's read-out beside a trained encoder, and write both as a run.

    Only the read-out and its weight are fitted, in closed form; the encoder is left as it is. Of two
    preprocessings, the run's and the same steps fitted to the new person, the one is taken with which
    the encoder retrieves better on the training trials.

    Parameters
    ----------
    run : Run or path-like
        Trained on other people, with the same channels, rate and window.
    study : Study or path-like
        Of the new person, with a split and captions.
    out : path-like
        The new run's folder; it must not exist.
    split : str, optional
        The split's name; the only one where not given.
    fold : int
        The fold, counted from 0.
    captions : str, optional
        The caption set; that of the run where not given.
    progress : callable, optional
        Called with (done, total, label).
    text_encoder : TextEncoder, optional
        Used instead of loading the one that the run names.

    Returns
    -------
    Run
        Ready for 'eegprompt decode'. Its ``provenance.json`` holds the learning curve under `adapt`:
        retrieval on the test trials, mean over heads, of the encoder alone, of the read-out alone and
        of both, by number of training trials. It selects nothing.

    Raises
    ------
    InputError
        If `out` exists or there are several splits and none is named.
    StudyError
        If channels, rate or window are not those of the run.
    RunError
        If the run holds no trained encoder.
    """
    from eegprompt.encoders.saved import load_encoder, save_encoder
    from eegprompt.settings import load_config

    run, out = Run(run), Path(out)
    study = Study(study) if isinstance(study, str | Path) else study
    if out.exists():
        raise InputError(f"{out} exists; choose another folder for the adapted run")
    names = study.split_names()
    if split is None and len(names) != 1:
        raise InputError(f"study {study.path} has {len(names)} splits; say which: {names}")
    encoder, steps, facts = load_encoder(run.encoder_dir, "cpu")
    _check_fits(study, facts, run)
    config = load_config(
        {
            **run.settings.model_dump(mode="json"),
            "study": str(study.path.resolve()),
            "split": split or names[0],
            "fold": fold,
            "captions": captions or run.settings.captions,
            "encoder": {"name": "adapted", "options": {"run": str(run.path.resolve())}},
        }
    )
    sides = study.split(config.split).fold(fold)
    leaks = check_leaks(study, study.split(config.split), fold, config.allow_leakage)
    seen = set(facts["subjects"]) & set(study.trials["subject"].astype(str))
    if seen:
        warnings.warn(
            f"subjects {sorted(seen)} have the names of subjects that the run {run.path} was trained on; "
            "scores are of a new person only if they are other people",
            stacklevel=2,
        )
    table = study.captions(config.captions)
    asked = {"config": config, "captions": table, "text_encoder": text_encoder, "steps": steps}
    material, aligned = _better_aligned(study, sides, encoder, asked, progress)
    adapted = _fitted(encoder, facts, material, len(sides.train), progress)
    keys = input_keys(study, sides, table)
    config.save(out / "config.yaml")
    save_encoder(
        (made := Run(out)).encoder_dir,
        adapted,
        material.steps,
        **{
            **{name: value for name, value in facts.items() if name != "encoder"},
            **material.facts,
            "name": "adapted",
            "study": study.name,
            "scales": adapted.scales,
            "subjects": material.subjects,
            "categories": material.categories,
            "training_key": config.key,
            "inputs": content_key(keys),
        },
    )
    made.record(
        "train",
        key=config.key,
        inputs=content_key(keys),
        keys=keys,
        study=study.name,
        seed=config.seed,
        text_encoder=material.text_encoder,
        selected_by="adapted: nothing selected",
        n_train=len(sides.train),
        n_val=len(sides.val),
        allowed_leakage=leaks,
        n_parameters=sum(p.numel() for p in adapted.parameters()),
    )
    made.record(
        "adapt",
        source=str(run.path.resolve()),
        preprocessing="of the new person" if aligned else "of the run",
        curve=_curve(study, sides, encoder, facts, asked, material.steps, progress),
    )
    decoder = Decoder.from_pretrained(made)
    usable = usable_captions(table, decoder.heads)
    fit_candidates(made, decoder, usable, progress, text_encoder)[0].save(made.encoder_dir)
    return made


def _check_fits(study: Study, facts: dict[str, Any], run: Run) -> None:
    """Refuse a study that the encoder cannot read."""
    from eegprompt.encoders.saved import check_channels

    if facts["name"] == "adapted":
        raise RunError(f"{run.path} is adapted already; give the run that it was made from")
    check_channels(facts, study.ch_names)
    for what, have, want in (
        ("sampling rate", study.sfreq, facts["sfreq"]),
        ("first sample", study.tmin, facts["tmin"]),
        ("number of samples", study.n_times, facts["n_times"]),
    ):
        if not np.isclose(have, want, atol=1e-6):
            raise StudyError(
                f"the study's {what} is {have:g} and the run's {want:g}; bring the study to the run's"
            )


def _better_aligned(
    study: Study, sides: Any, encoder: Any, asked: dict[str, Any], progress: Progress | None
) -> tuple[TrainingData, bool]:
    """The material with the preprocessing under which the encoder retrieves better on training trials."""
    from eegprompt.training.batches import collect

    steps = asked["steps"]
    found = []
    for own in (False, True) if steps.names else (False,):
        config = asked["config"]
        if own:
            training = config.training.model_copy(update={"preprocessing": steps.names})
            config = config.model_copy(update={"training": training})
        material = collect(
            study, sides.train, sides.val, asked["captions"], config, progress,
            asked["text_encoder"], None if own else steps,
        )  # fmt: skip
        score = _retrieval(encoder, material, material.sides["train"])
        found.append((score, not own, material))
    _, is_runs, material = max(found, key=lambda one: one[:2])
    return material, not is_runs


def _retrieval(encoder: Any, material: TrainingData, side: Any) -> float:
    """Mean over heads of caption retrieval, top 1, among the captions of these trials' images."""
    import torch

    from eegprompt.training.closed_form import blocks_of
    from eegprompt.training.selection import top1_credit

    positions = torch.from_numpy(material.positions)
    with torch.inference_mode():
        said = [encoder(eeg, positions) for eeg, _ in blocks_of(material, side)]
    return float(
        np.mean(
            [
                top1_credit(torch.cat([s[head] for s in said]).numpy(), side.image, captions).mean()
                for head, captions in material.captions.items()
            ]
        )
    )


def _fitted(
    encoder: Any, facts: dict[str, Any], material: TrainingData, n: int, progress: Progress | None
) -> AdaptedEncoder:
    """The encoder with a read-out fitted on the first `n` training trials."""
    from dataclasses import replace

    from eegprompt.encoders.adapted import AdaptedEncoder
    from eegprompt.training.closed_form import fit_branches, fuse_branches

    base = facts["encoder"]
    sizes = {name: base[name] for name in ("heads", "embedding_dim", "n_chans", "n_times", "sfreq")}
    adapted = AdaptedEncoder(**sizes, tmin=facts["tmin"], name=facts["name"], base=base)
    adapted.base.load_state_dict(encoder.state_dict())
    train = material.sides["train"]
    few = replace(train, rows=train.rows[:n], subject=train.subject[:n], image=train.image[:n])
    folds = material.folds[:n] if len(set(material.folds[:n])) > 1 else np.arange(n) * 2 // n
    part = replace(material, sides={**material.sides, "train": few}, folds=folds)
    fit_branches(part, adapted.eval(), progress)
    fuse_branches(part, adapted)
    return adapted


def _curve(
    study: Study,
    sides: Any,
    encoder: Any,
    facts: dict[str, Any],
    asked: dict[str, Any],
    steps: Any,
    progress: Progress | None,
) -> list[dict[str, float]]:
    """Retrieval on the test trials by number of training trials."""
    from eegprompt.training.batches import collect

    order = study.trials.iloc[sides.train][["session", "run", "order"]]
    train = sides.train[np.lexsort([order[c].to_numpy() for c in ("order", "run", "session")])]
    material = collect(
        study, train, sides.val, asked["captions"], asked["config"], progress,
        asked["text_encoder"], steps,
    )  # fmt: skip
    tested = collect(
        study, sides.test, sides.val, asked["captions"], asked["config"], progress,
        asked["text_encoder"], steps,
    )  # fmt: skip
    side = tested.sides["train"]
    rows = [{"n_trials": 0, "both": _retrieval(encoder, tested, side)}]
    n = SMALLEST
    while n < len(train):
        rows.append({"n_trials": n})
        n *= 2
    rows.append({"n_trials": len(train)})
    for row in rows[1:]:
        adapted = _fitted(encoder, facts, material, int(row["n_trials"]), None)
        row["both"] = _retrieval(adapted, tested, side)
        row["read-out"] = _retrieval(
            lambda eeg, places, a=adapted: a.alone(eeg, places)["own"], tested, side
        )
    for row in rows:
        row["encoder"] = rows[0]["both"]
    return rows

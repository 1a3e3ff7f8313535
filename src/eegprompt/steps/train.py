"""Train an EEG encoder on one fold of a study: the training set learns, the validation set selects.

Nothing here opens the test set. What the trainer sees is collected by :func:`collect` from the
training and validation trial ids alone; preprocessing, subjects and categories come from the training
side. The checkpoint that is kept is the one with the lowest validation loss.
"""

from __future__ import annotations

import inspect
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.captions.usable import usable_captions
from eegprompt.core.errors import (
    InputError,
    RunError,
    UnknownNameError,
)
from eegprompt.core.files import (
    content_key,
    is_replaced,
    move_aside,
    read_json,
    settle,
    write_json,
)
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.core.registry import resolve
from eegprompt.decoder import Decoder
from eegprompt.encoders.base import Branched
from eegprompt.recipe import complete_settings
from eegprompt.run import OURS, Run, input_keys
from eegprompt.settings import ExperimentConfig, grouped, load_config
from eegprompt.splits.leaks import check_leaks
from eegprompt.steps.decode import fit_candidates
from eegprompt.study import Study
from eegprompt.training.batches import collect
from eegprompt.training.fitting import fit

if TYPE_CHECKING:
    from eegprompt.text_encoders.base import TextEncoder
    from eegprompt.training.alignment import Alignment
    from eegprompt.training.batches import TrainingData

__all__ = ["train"]


@writes("out")
def train(
    study: Study | str | Path,
    out: str | Path,
    config: ExperimentConfig | None = None,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    text_encoder: TextEncoder | None = None,
    **settings: Any,
) -> Run:
    """Train an encoder and write it into a run folder.

    Training that was interrupted goes on from its last finished pass, with the same result as if
    it had not been; training that was finished is not done again.

    Parameters
    ----------
    study : Study or path-like
        With a split and captions.
    out : path-like
        The run's folder.
    config : ExperimentConfig, optional
        All settings; they are written to ``config.yaml``. Left out: `settings`, and defaults.
    resume : bool
        Go on where an interrupted training stopped; False begins anew.
    overwrite : bool
        Delete a run in `out` that was made with other settings or data; else it is an error.
    progress : callable, optional
        Called with passes done, passes in all, and a label. Without it a bar is shown on terminals.
    text_encoder : TextEncoder, optional
        Used instead of loading the one that `config` names.
    **settings
        Instead of `config`: any setting by its name, e.g. ``kinds="low"``, ``epochs=20``,
        ``seed=1``, ``encoder="ridge"``; see :func:`eegprompt.settings.grouped`. The study's only
        split and caption set need not be named.

    Returns
    -------
    Run
        With ``config.yaml``, ``encoder/``, ``training.parquet`` and ``provenance.json``. Candidate
        captions and calibration are fitted, so that ``run.decoder()`` decodes new EEG.

    Raises
    ------
    SplitError
        If the fold's sides share what they should not and `config` does not allow_leakage.
    StudyError
        If a value is not finite or a channel is flat on the training set.
    CaptionError
        If an image of the training or validation set has no caption of some kind.
    RunError
        If `out` holds a run made with other settings or from other data.
    TrainingError
        If the loss stops being finite.

    Examples
    --------
    ``run = eegprompt.train(study, "runs/mine", kinds="low", epochs=20, seed=1)``
    """
    out = Path(out)
    study = Study(study) if isinstance(study, str | Path) else study
    if config is not None and settings:
        raise InputError(
            f"give either a config or settings by name, not both; got a config and {sorted(settings)}"
        )
    if config is None:
        nested = {"study": str(study.path), **grouped(settings)}
        config = load_config(complete_settings(study, nested))
    config = _with_study(config, study, out)
    split = study.split(config.split)
    fold = split.fold(config.fold)
    allowed_leakage = check_leaks(study, split, config.fold, config.allow_leakage)
    for leak in allowed_leakage:
        warnings.warn(f"allowed: {leak}", stacklevel=2)
    captions = study.captions(config.captions)
    keys = input_keys(study, fold, captions)
    inputs = content_key(keys)
    if _is_finished(out, config, inputs, resume=resume, overwrite=overwrite):
        config.save(out / "config.yaml")  # settings of later steps may have changed
        return Run(out)
    _check_names(config)
    with _replaced(out, config, inputs, overwrite=overwrite):
        material = collect(study, fold.train, fold.val, captions, config, progress, text_encoder)
        run = _open_folder(out, config, inputs, resume=resume)
        fitted = fit(material, config, run.checkpoints_dir, progress)
        _save(run, fitted.module, material, config, inputs, study)
    n_distinct = {head: len(set(c.codes.tolist())) for head, c in material.captions.items()}
    run.record(
        "train",
        key=config.key,
        inputs=inputs,
        keys=keys,
        study=study.name,
        seed=config.seed,
        text_encoder=material.text_encoder,
        selected_by=fitted.selected_by,
        selected_epoch=fitted.epoch,
        stopped_early=fitted.stopped,
        n_train=len(fold.train),
        n_val=len(fold.val),
        distinct_captions=n_distinct,
        allowed_leakage=allowed_leakage,
        n_parameters=sum(p.numel() for p in fitted.module.encoder.parameters()),
    )
    decoder = Decoder.from_pretrained(run)
    usable = usable_captions(captions, decoder.heads)
    candidates, _ = fit_candidates(run, decoder, usable, progress, text_encoder)
    candidates.save(run.encoder_dir)
    return run


# -- the run's folder ------------------------------------------------------------------------------
def _with_study(config: ExperimentConfig, study: Study, out: Path) -> ExperimentConfig:
    """The settings with a path of the study that leads there from any working directory.

    A path relative to `out` stays as it is, so that run and study can be moved together.
    """
    there = study.path.resolve()
    if not Path(config.study).is_absolute() and (out / config.study).resolve() == there:
        return config
    if Path(config.study).resolve() != there:
        raise InputError(
            f"the settings name the study '{config.study}', but the study to train on is {study.path}; "
            f"set 'study' to the latter, or open the former"
        )
    return config.model_copy(update={"study": str(there)})


def _is_finished(
    out: Path, config: ExperimentConfig, inputs: str, *, resume: bool, overwrite: bool
) -> bool:
    """Whether `out` holds this very training, finished; refuses what it may not replace."""
    if not (out / "config.yaml").exists():
        # A training that was killed at its very beginning leaves nothing but temporary files.
        if out.exists() and (
            not out.is_dir() or any(not fnmatch(p.name, ".*.partial*") for p in out.iterdir())
        ):
            raise RunError(f"{out} exists and is no run; choose another folder for the run")
        return False
    difference = _difference(Run(out), config, inputs)
    if difference and not overwrite:
        raise RunError(
            f"{out} holds a run with another {difference}; choose another folder, or pass "
            "--overwrite to replace that run"
        )
    if difference:
        OURS.check(out)
        return False
    return resume and (out / "encoder" / "config.json").exists()


@contextmanager
def _replaced(
    out: Path, config: ExperimentConfig, inputs: str, *, overwrite: bool
) -> Iterator[None]:
    """Keep the run that is replaced until the new one is trained; an error brings it back.

    After an interruption both are kept: the same command goes on with the new one.
    """
    if overwrite and (out / "config.yaml").exists() and _difference(Run(out), config, inputs):
        OURS.check(out)
        if is_replaced(out):
            shutil.rmtree(out)  # begun anew and not finished: the run before it is still kept
        else:
            move_aside(out)
    try:
        yield
    except Exception:
        if is_replaced(out):
            shutil.rmtree(out, ignore_errors=True)  # what was begun anew
        settle(out)
        raise
    settle(out)


def _open_folder(out: Path, config: ExperimentConfig, inputs: str, *, resume: bool) -> Run:
    """Make the run's folder, or open that of an interrupted training."""
    if not resume:
        for name in ("checkpoints", "encoder"):
            shutil.rmtree(out / name, ignore_errors=True)
    config.save(out / "config.yaml")
    write_json(out / "checkpoints" / "inputs.json", {"inputs": inputs})
    return Run(out)


def _difference(run: Run, config: ExperimentConfig, inputs: str) -> str:
    """What of the settings or data decides training and differs from the run's; "" if nothing."""

    try:
        there = run.settings
    except InputError as problem:
        return f"configuration ({problem})"
    if there.key != config.key:
        old, new = _flat(there.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
        names = [n for n in new if old.get(n) != new[n] and n.split(".")[0] not in _LATER]
        names += [n for n in old if n not in new and n.split(".")[0] not in _LATER]
        return "configuration (" + "; ".join(
            f"{n}: {old.get(n)} there, {new.get(n)} asked for" for n in names[:5]
        ) + ")"  # fmt: skip
    for note in (run.checkpoints_dir / "inputs.json", run.encoder_dir / "config.json"):
        before = read_json(note, error=RunError, schema="training inputs") if note.exists() else {}
        if before.get("inputs", inputs) != inputs:
            return "state of the study, its split or its captions"
    return ""


_LATER = ("decoding", "generation", "evaluation")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _check_names(config: ExperimentConfig) -> None:
    """Refuse a name that does not exist before anything is computed or written."""
    resolve("objective", config.training.objective)
    make, argument = resolve("encoder", config.encoder.name)
    if config.encoder.name == "adapted":
        raise InputError(
            "the encoder 'adapted' is made of a trained run: eegprompt adapt RUN STUDY --out NEW"
        )
    if argument and "model" not in inspect.signature(make).parameters:
        raise InputError(
            f"encoder '{config.encoder.name}' takes nothing after the colon; name it as "
            f"'{config.encoder.name.partition(':')[0]}'"
        )
    allowed = _options(make)
    if "network" in allowed:  # an encoder around another one takes the other's options, too
        network = str(config.encoder.options.get("network", _default(make, "network")))
        allowed |= _options(resolve("encoder", network)[0])
    sizes = {
        "heads",
        "embedding_dim",
        "n_chans",
        "n_times",
        "sfreq",
        "n_subjects",
        "tmin",
        "ch_names",
    }
    for name in config.encoder.options:
        if name not in allowed - sizes:
            raise UnknownNameError("encoder option", name, sorted(allowed - sizes))


def _options(make: Any) -> set[str]:
    """Names of a constructor's parameters."""
    parameters = inspect.signature(make).parameters
    return {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}


def _default(make: Any, name: str) -> Any:
    return inspect.signature(make).parameters[name].default


def _save(
    run: Run,
    module: Alignment,
    material: TrainingData,
    config: ExperimentConfig,
    inputs: str,
    study: Study,
) -> None:
    """Write the training curve and the encoder, the encoder's config.json last."""
    import pandas as pd

    from eegprompt.encoders.saved import save_encoder

    encoder = module.encoder
    run.write_table(run.training_log_path, pd.DataFrame(module.rows))
    save_encoder(
        run.encoder_dir,
        encoder,
        material.steps,
        name=config.encoder.name,
        study=study.name,
        kinds=list(config.kinds),
        scales=(encoder if isinstance(encoder, Branched) else module.objective).scales,
        subjects=material.subjects,
        categories=material.categories,
        text_encoder={"spec": config.text_encoder, **material.text_encoder},
        training_key=config.key,
        inputs=inputs,
        **material.facts,
    )

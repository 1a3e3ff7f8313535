"""What each part of the method is worth: the same experiment with one thing changed at a time.

An *axis* is a question (which loss? how many captions?), a *variant* one answer to it. The first
variant of an axis is what it is compared with. Every variant is trained with the same seeds on the
same fold and measured on the same test trials, so differences are paired: over seeds as mean ± sd,
and by a bootstrap over images whose resamples are the same for both, averaged over seeds.

Nothing is selected here: variants are compared on the test set because they were declared
beforehand. Choose settings by the validation set, before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.ablations.axes import AXES, image_model, joined_captions, merged
from eegprompt.ablations.table import BY_HEAD, MEASURES, ablation_table, design_of
from eegprompt.core.errors import EegpromptError, InputError, RunError, UnknownNameError
from eegprompt.core.files import content_key, read_json, write_json, write_text
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.run import OURS, input_keys
from eegprompt.settings import ExperimentConfig, load_config
from eegprompt.text_encoders.images import image_captions

if TYPE_CHECKING:
    from eegprompt.ablations.axes import Variant
    from eegprompt.study import Study

__all__ = ["ablate"]


@dataclass(frozen=True)
class _Job:
    """One variant with one seed."""

    axis: str
    variant: Variant
    config: ExperimentConfig
    folder: Path
    trained: Path
    draw: bool

    @property
    def key(self) -> str:
        """Of what decides the measures; the study's own key stands in ``base.json``, not its path."""
        settings = self.config.model_dump(mode="json", exclude={"study"})
        return content_key(settings, self.draw)


@writes("out")
def ablate(
    study: Study,
    out: str | Path,
    config: ExperimentConfig,
    *,
    what: Sequence[str] = ("loss", "captions", "heads", "levels", "encoder", "pool"),
    seeds: int | Sequence[int] = 3,
    draw: bool = True,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Compare variants of an experiment and write the table of differences.

    Parameters
    ----------
    study : Study
        With the split and the captions that `config` names.
    out : path-like
        Folder of ``AXIS/VARIANT/seed-N`` runs, ``ablation.json`` and ``ablation.md``. What is
        finished there is kept. Where two axes ask for the same experiment (each has the base among
        its variants) it is carried out for the first; the other's ``measured.json`` says whose it is.
    config : ExperimentConfig
        The base; a variant changes one thing of it.
    what : sequence of str
        Axes, of :data:`AXES`.
    seeds : int or sequence of int
        How many, counted from the base's seed, or which.
    draw : bool
        Also draw images and score them; without it the image measures are left out.
    jobs : int
        Processes that work side by side.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    list of dict
        One row a variant and measure: ``axis variant measure n mean sd chance values difference lo hi
        p compared_with``; differences are to the axis's first variant. Rows of the measure
        :data:`BY_HEAD` also have a `head`.

    Raises
    ------
    UnknownNameError
        If there is no such axis.
    InputError
        If no seed or no process is asked for.
    RunError
        If `out` holds an ablation of another base, or if no variant can be measured. One that
        cannot, where others can, is named with the reason in ``ablation.json`` and ``ablation.md``.
    """
    for axis in what:
        if axis not in AXES:
            raise UnknownNameError("ablation axis", axis, sorted(AXES))
    chosen = [config.seed + i for i in range(seeds)] if isinstance(seeds, int) else list(seeds)
    if not chosen or jobs < 1 or not what:
        raise InputError(
            f"an ablation needs at least one axis, seed and process, got {len(list(what))}, "
            f"{len(chosen)} and {jobs}"
        )
    out = Path(out)
    _note_base(out, config, study)
    work = list(_jobs(study, out, config, what, chosen, draw))
    # variants that share a training follow each other in one process
    groups: dict[Path, list[_Job]] = {}
    for job in work:
        groups.setdefault(job.trained, []).append(job)
    done = 0
    for finished in _carried_out(list(groups.values()), jobs):
        done += len(finished)
        if progress:
            progress(done, len(work), f"{finished[-1].axis}: {finished[-1].variant.name}")
    rows, failed = _rows(out, config, what, chosen, work)
    stamp = design_of(study, config)
    features = f"Images are scored with the features '{config.evaluation.features}'" + (
        ", which no published score can be compared with."
        if config.evaluation.features.partition(":")[0] == "builtin"
        else "."
    )
    notes = [stamp, features] if draw else [stamp]
    written = {"seeds": chosen, "notes": notes, "rows": rows, "failed": failed}
    write_json(out / "ablation.json", written)
    page = ablation_table(rows, chosen, stamp="\n\n".join(notes), failed=failed)
    write_text(out / "ablation.md", page)
    if not rows:
        raise RunError(f"no variant could be measured; the first: {failed[0]}")
    return rows


def _note_base(out: Path, config: ExperimentConfig, study: Study) -> None:
    path = out / "base.json"
    if (
        out.is_dir()
        and not path.exists()
        and any(not p.name.startswith(".") for p in out.iterdir())
    ):
        raise RunError(f"{out} exists and holds no ablation; choose another folder")
    base: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude={"study", "seed", "generation"}),
        **input_keys(
            study, study.split(config.split).fold(config.fold), study.captions(config.captions)
        ),
    }
    before: dict[str, Any] = (
        read_json(path, error=RunError, schema="ablation base") if path.exists() else base
    )
    before.get("settings", {}).pop("study", None)  # its path, noted by older versions
    if before != base:
        raise RunError(
            f"{out} holds an ablation of other settings, or of another study, split or caption set; "
            "choose another folder, or delete this one"
        )
    write_json(path, base)


def _jobs(
    study: Study,
    out: Path,
    config: ExperimentConfig,
    what: Sequence[str],
    seeds: Sequence[int],
    draw: bool,
) -> Iterator[_Job]:
    base = config.model_dump(mode="json")
    for axis in what:
        for variant in AXES[axis](config):
            if not variant.trainable:
                continue
            for seed in seeds:
                settings = merged({**base, "seed": seed}, variant.settings)
                if variant.joined:
                    settings["captions"] = joined_captions(study, config)
                if variant.image:
                    settings["captions"] = image_captions(study)
                    settings["text_encoder"] = f"images:{image_model(config)}@{config.study}"
                one = load_config(settings)
                yield _Job(
                    axis,
                    variant,
                    one,
                    out / axis / variant.name / f"seed-{seed}",
                    out / "trained" / one.key,
                    draw and not variant.image,
                )


# -- carrying out ----------------------------------------------------------------------------------
def _carried_out(groups: list[list[_Job]], jobs: int) -> Iterator[list[_Job]]:
    if jobs == 1:
        for group in groups:
            _work(group, 0)
            yield group
        return
    import multiprocessing

    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(_work, group, threads): group for group in groups}
        try:
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    yield pending.pop(future)
        finally:
            for future in pending:
                future.cancel()


def _work(group: list[_Job], threads: int) -> None:
    """Measure variants that share a training; those that are the same experiment, once."""
    if threads:
        import torch

        torch.set_num_threads(threads)
    known: dict[str, dict[str, Any]] = {}
    for job in group:
        path = job.folder / "measured.json"
        there = read_json(path, error=RunError, schema="measured") if path.exists() else {}
        if there.get("key") != job.key:
            twin = known.get(job.key)
            try:
                there = twin or {"key": job.key, **_measure(job)}
            except EegpromptError as problem:  # this variant cannot be had here; others can
                there = {"measures": {}, "failed": str(problem)}  # without a key: tried again
            write_json(path, there)
        if "failed" not in there:
            known.setdefault(job.key, {"same_as": f"{job.axis}/{job.variant.name}", **there})


def _measure(job: _Job) -> dict[str, Any]:
    from eegprompt.steps.decode import decode
    from eegprompt.steps.evaluate import scores_of
    from eegprompt.steps.generate import generate
    from eegprompt.steps.train import train
    from eegprompt.study import Study

    study = Study(job.config.study)
    trained = train(study, job.trained, job.config, progress=_silent)
    if job.folder.exists():
        foreign = [name for name in OURS.foreign(job.folder) if name != "measured.json"]
        if foreign:
            raise InputError(
                f"{job.folder} holds what eegprompt did not write: {', '.join(foreign[:5])}; move that "
                "elsewhere, or choose another --out"
            )
        shutil.rmtree(job.folder)
    job.folder.mkdir(parents=True)
    for name in ("encoder", "training.parquet", "provenance.json"):
        source, target = trained.path / name, job.folder / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    job.config.save(job.folder / "config.yaml")
    run = train(study, job.folder, job.config, progress=_silent)  # finished: only checked
    decode(run, progress=_silent)
    if job.draw:
        generate(
            run, sources=("eeg",), progress=_silent
        )  # nothing of the other prompt sources is compared
    scores, missing = scores_of(run, pixels=False)
    log = _best_pass(run.training_log_path)
    found: dict[str, Any] = {"measures": {}, "heads": {}, "missing": missing, "validation": log}
    for score in scores:
        row = score.row
        of_head = row["metric"] == "caption_retrieval_top1" and row.get("scope") == "all"
        if of_head and row.get("subject") is None and row["value"] is not None:
            found["heads"][row["head"]] = {k: row[k] for k in ("value", "chance", "n")}
    for measure, members in _members(scores).items():
        values = [m.row["value"] for m in members]
        if not values or any(v is None for v in values):
            continue
        entry: dict[str, Any] = {"value": float(np.mean(values)), "n": members[0].row["n"]}
        chance = [m.row["chance"] for m in members]
        entry["chance"] = None if any(c is None for c in chance) else float(np.mean(chance))
        replicates = [m.replicates for m in members]
        if all(r is not None for r in replicates):
            entry["replicates"] = np.mean(np.array(replicates, dtype=float), axis=0).tolist()
            entry["units"] = content_key(*sorted({m.units for m in members}))
        found["measures"][measure] = entry
    return found


def _members(scores: Sequence[Any]) -> dict[str, list[Any]]:
    """Score rows that each measure is the mean of."""

    def rows(metric: str, **want: Any) -> list[Any]:
        return [
            s
            for s in scores
            if s.row["metric"] == metric and all(s.row.get(k) == v for k, v in want.items())
            and s.row.get("subject") is None
        ]  # fmt: skip

    layer = "clip" if rows("two_way_clip") else "late"
    return {
        "retrieval_within_class": rows("caption_retrieval_top1", scope="within-class"),
        "retrieval": rows("caption_retrieval_top1", scope="all"),
        "image_retrieval_within_class": rows("image_retrieval_top1", scope="within-class"),
        "image_retrieval": rows("image_retrieval_top1", scope="all"),
        "class_accuracy": rows("class_accuracy", head="ensemble"),
        "class_accuracy_lda": rows("class_accuracy_lda"),
        "two_way_within_class": rows(f"two_way_{layer}", scope="within-class", source="eeg"),
        "two_way": rows(f"two_way_{layer}", scope="all", source="eeg"),
        "inception_score": rows("inception_score", source="eeg"),
        "kid": rows("kid", source="eeg"),
    }


def _best_pass(path: Path) -> float | None:
    """Mean over heads of validation retrieval at the selected pass."""
    import pandas as pd

    log = pd.read_parquet(path)
    columns = [str(c) for c in log.columns if str(c).startswith("val_top1_")]
    row = log.iloc[int(log["val_loss"].argmin()) if "val_loss" in log else 0]
    return float(np.mean([row[c] for c in columns])) if columns else None


def _silent(done: int, total: int, label: str) -> None:
    """No bars from the processes."""


# -- the table -------------------------------------------------------------------------------------
def _rows(
    out: Path,
    config: ExperimentConfig,
    what: Sequence[str],
    seeds: Sequence[int],
    work: Sequence[_Job],
) -> tuple[list[dict[str, Any]], list[str]]:
    """The table's rows, and which variants are not among them and why."""
    found = {
        (job.axis, job.variant.name, job.config.seed): read_json(
            job.folder / "measured.json", error=RunError, schema="measured"
        )
        for job in work
    }
    failed = list(
        dict.fromkeys(
            f"{axis}: {variant}: {entry['failed']}"
            for (axis, variant, _), entry in found.items()
            if "failed" in entry
        )
    )
    rows = []
    for axis in what:
        variants = AXES[axis](config)
        first = variants[0].name
        for variant in variants:
            for measure in MEASURES:
                if variant.trainable:
                    mine = [found[axis, variant.name, s]["measures"].get(measure) for s in seeds]
                elif measure == "class_accuracy":
                    mine = [
                        found[axis, first, s]["measures"].get("class_accuracy_lda") for s in seeds
                    ]
                else:
                    continue
                base = [found[axis, first, s]["measures"].get(measure) for s in seeds]
                if any(m is None for m in mine):
                    continue
                rows.append(_row(axis, variant.name, first, measure, mine, base))
            if variant.trainable:
                rows += _head_rows(
                    axis,
                    variant.name,
                    first,
                    [found[axis, variant.name, s].get("heads", {}) for s in seeds],
                    [found[axis, first, s].get("heads", {}) for s in seeds],
                )
    return rows, failed


def _head_rows(
    axis: str,
    variant: str,
    first: str,
    mine: list[dict[str, Any]],
    base: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """One row a head that was measured with every seed."""
    rows = []
    for head in mine[0]:
        if all(head in of_seed for of_seed in mine):
            row = _row(
                axis, variant, first, BY_HEAD, [m[head] for m in mine], [b.get(head) for b in base]
            )
            rows.append({**row, "head": head})
    return rows


def _row(
    axis: str,
    variant: str,
    first: str,
    measure: str,
    mine: list[dict[str, Any]],
    base: list[dict[str, Any] | None],
) -> dict[str, Any]:
    values = np.array([m["value"] for m in mine])
    # An older version measured no chance.
    chance = [float(m["chance"]) for m in mine if m.get("chance") is not None]
    row: dict[str, Any] = {
        "axis": axis,
        "variant": variant,
        "measure": measure,
        "higher_is_better": measure == BY_HEAD or MEASURES[measure][1],
        "n": mine[0]["n"],
        "values": values.tolist(),
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "chance": float(np.mean(chance)) if len(chance) == len(mine) else None,
        **dict.fromkeys(("difference", "lo", "hi", "p")),
        "compared_with": None,
        "no_interval": None,
    }
    if variant == first or any(b is None for b in base):
        return row
    there = [b for b in base if b is not None]
    difference = values - np.array([b["value"] for b in there])
    row |= {"difference": float(difference.mean()), "compared_with": first}
    paired = all(
        "replicates" in m and "replicates" in b and m["units"] == b["units"]
        for m, b in zip(mine, there)
    )
    if not paired:
        resampled = all("replicates" in m for m in [*mine, *there])
        row["no_interval"] = (
            f"'{variant}' and '{first}' were scored on different images or trials"
            if resampled
            else "a score of the whole set of images, which cannot be drawn again image by image"
        )
    else:
        drawn = np.mean(
            [np.array(m["replicates"]) - np.array(b["replicates"]) for m, b in zip(mine, there)],
            axis=0,
        )
        drawn = drawn[np.isfinite(drawn)]
        row["lo"], row["hi"] = (float(q) for q in np.quantile(drawn, (0.025, 0.975)))
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        row["p"] = float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))
    return row


"""What is measured: its name in words, and whether higher is better."""


"""Measure of rows that are of one head: its caption retrieval, top 1, as in the paper."""


"""Questions that can be asked, and how each makes its variants from the base settings."""

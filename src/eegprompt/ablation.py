"""What each part of the method is worth: the same experiment with one thing changed at a time.

An *axis* is a question (which loss? how many captions?), a *variant* one answer to it. The first
variant of an axis is what it is compared with. Every variant is trained with the same seeds on the
same fold and measured on the same test trials, so differences are paired: over seeds as mean ± sd,
and by a bootstrap over images whose resamples are the same for both, averaged over seeds.

Nothing is selected here: variants are compared on the test side because they were declared
beforehand. Choose settings by the validation side, before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import content_key, read_json, write_json, write_text
from eegprompt.errors import EegpromptError, InputError, RunError, UnknownNameError
from eegprompt.experiment import ExperimentConfig, load_config
from eegprompt.image_targets import image_captions
from eegprompt.kinds import LEVELS

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["AXES", "BY_HEAD", "MEASURES", "Variant", "ablate", "ablation_table", "plan"]

Progress = Callable[[int, int, str], None]

MEASURES: dict[str, tuple[str, bool]] = {
    "retrieval_within_class": ("caption retrieval within class, top 1, mean over heads", True),
    "retrieval": ("caption retrieval, top 1, mean over heads", True),
    "image_retrieval_within_class": ("which image, by all heads, within class, top 1", True),
    "image_retrieval": ("which image, by all heads, top 1", True),
    "class_accuracy": ("category by all heads", True),
    "two_way_within_class": ("two-way identification of pictures within class", True),
    "two_way": ("two-way identification of pictures", True),
    "inception_score": ("inception score of the pictures", True),
    "kid": ("KID of the pictures", False),
}
"""What is measured: its name in words, and whether higher is better."""

BY_HEAD = "retrieval_of_head"
"""Measure of rows that are of one head: its caption retrieval, top 1, as in the paper."""

_JOINED = ("ObjectSnap", "ColorTone", "SceneSetting")  # the paper's single caption


@dataclass(frozen=True)
class Variant:
    """One answer to an axis's question.

    Parameters
    ----------
    name : str
        Unique on its axis; a file name.
    settings : dict
        Nested settings that differ from the base.
    joined : bool
        Trained on one joined caption an image instead of the kinds.
    image : bool
        Trained on the images' own embeddings; nothing is drawn, for there are no words.
    trainable : bool
        False for a baseline that only classifies: its class accuracy is read from the base's scores.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    joined: bool = False
    image: bool = False
    trainable: bool = True


def _loss(_: ExperimentConfig) -> list[Variant]:
    names = {"clip": "CLIP", "mse": "MSE", "siglip": "SigLIP"}
    return [Variant(label, {"training": {"objective": name}}) for name, label in names.items()]


def _positives(_: ExperimentConfig) -> list[Variant]:
    return [
        Variant("multi-positive", {"training": {"objective": "clip"}}),
        Variant("single-positive", {"training": {"objective": "clip-single"}}),
    ]


def _captions(base: ExperimentConfig) -> list[Variant]:
    return [
        Variant(f"{len(base.kinds)}-kinds"),
        Variant("one-joined", {"kinds": [_JOINED[0]]}, joined=True),
    ]


def _target(base: ExperimentConfig) -> list[Variant]:
    return [Variant("captions"), Variant("image", {"kinds": [_JOINED[0]]}, image=True)]


def _levels(base: ExperimentConfig) -> list[Variant]:
    parts = {level.value: [k for k in kinds if k in base.kinds] for level, kinds in LEVELS.items()}
    return [
        Variant("all-levels"),
        *(Variant(level, {"kinds": kinds}) for level, kinds in parts.items() if kinds),
    ]


def _per_head(_: ExperimentConfig) -> list[Variant]:
    return [Variant(f"{n}-per-head", {"decoding": {"per_head": n}}) for n in (1, 2, 3)]


def _heads(base: ExperimentConfig) -> list[Variant]:
    return [
        Variant("all-heads"),
        *(
            Variant(f"top-{k}", {"decoding": {"selection": f"top-k:{k}"}})
            for k in range(1, len(base.kinds))
        ),
    ]


def _pool(_: ExperimentConfig) -> list[Variant]:
    return [Variant(name, {"decoding": {"pool": name}}) for name in ("train", "test", "all")]


def _encoder(base: ExperimentConfig) -> list[Variant]:
    from importlib.util import find_spec

    found = [Variant(base.encoder.name)]
    if base.encoder.name != "ridge":
        found.append(Variant("ridge", {"encoder": {"name": "ridge", "options": {}}}))
    if find_spec("braindecode") is not None:
        from eegprompt.encoders.braindecode import MODELS

        found += [
            Variant(name, {"encoder": {"name": f"braindecode:{name}", "options": {}}})
            for name in MODELS
        ]
    return [*found, Variant("shrinkage-LDA", trainable=False)]


AXES: dict[str, Callable[[ExperimentConfig], list[Variant]]] = {
    "loss": _loss,
    "positives": _positives,
    "captions": _captions,
    "target": _target,
    "levels": _levels,
    "per-head": _per_head,
    "heads": _heads,
    "pool": _pool,
    "encoder": _encoder,
}
"""Questions that can be asked, and how each makes its variants from the base settings."""


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
        Also draw pictures and score them; without it the picture measures are left out.
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
    features = f"Pictures are scored with the features '{config.evaluation.features}'" + (
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
    base: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude={"study", "seed", "drawing"}),
        "study": study.key,
    }
    before: dict[str, Any] = read_json(path, error=RunError) if path.exists() else base
    before.get("settings", {}).pop("study", None)  # its path, noted by older versions
    if before != base:
        raise RunError(
            f"{out} holds an ablation of other settings or another study; choose another folder, "
            "or delete this one"
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
                settings = _merged({**base, "seed": seed}, variant.settings)
                if variant.joined:
                    settings["captions"] = joined_captions(study, config)
                if variant.image:
                    settings["captions"] = image_captions(study)
                    settings["text_encoder"] = f"images:{_image_model(config)}@{config.study}"
                one = load_config(settings)
                yield _Job(
                    axis,
                    variant,
                    one,
                    out / axis / variant.name / f"seed-{seed}",
                    out / "trained" / one.key,
                    draw and not variant.image,
                )


def plan(
    config: ExperimentConfig, what: Sequence[str], seeds: int | Sequence[int]
) -> tuple[dict[str, list[str]], int]:
    """What :func:`ablate` would do.

    Parameters
    ----------
    config : ExperimentConfig
        The base.
    what : sequence of str
        Axes, of :data:`AXES`.
    seeds : int or sequence of int
        How many, or which.

    Returns
    -------
    variants : dict of str to list of str
        Names of the variants of each axis.
    n_trainings : int
        How many encoders are trained; variants that differ only after training share one.

    Raises
    ------
    UnknownNameError
        If there is no such axis.
    """
    for axis in what:
        if axis not in AXES:
            raise UnknownNameError("ablation axis", axis, sorted(AXES))
    base = config.model_dump(mode="json")
    variants = {axis: AXES[axis](config) for axis in what}
    trained = {
        (load_config(_merged(base, v.settings)).key, v.joined, v.image)
        for of_axis in variants.values()
        for v in of_axis
        if v.trainable
    }
    count = seeds if isinstance(seeds, int) else len(seeds)
    return {axis: [v.name for v in of] for axis, of in variants.items()}, count * len(trained)


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = {**settings}
    for name, value in changes.items():
        inner = result.get(name)
        keep = isinstance(value, dict) and isinstance(inner, dict) and name != "options"
        result[name] = _merged(inner, value) if keep else value  # type: ignore[arg-type]
    return result


def _image_model(config: ExperimentConfig) -> str:
    """The CLIP whose text side embeds the captions."""
    return "builtin" if config.text_encoder == "builtin" else config.text_encoder.partition(":")[2]


def joined_captions(study: Study, config: ExperimentConfig) -> str:
    """Write the caption set that says object, color and place of each image in one caption.

    Returns
    -------
    str
        Its name: ``NAME-joined``. Its captions are filed under ``ObjectSnap``.
    """
    name = f"{config.captions}-joined"
    if name not in study.caption_names():
        table = study.captions(config.captions)
        parts = table[table["kind"].isin(_JOINED)].drop_duplicates(["image_id", "kind"])
        wide = parts.pivot(index="image_id", columns="kind", values="text")
        lacking = [kind for kind in _JOINED if kind not in wide]
        if lacking or wide[list(_JOINED)].isna().any().any():
            raise InputError(
                f"caption set '{config.captions}' lacks captions of {', '.join(lacking or _JOINED)} "
                "for some images, so they cannot be joined to one; leave the axis 'captions' out"
            )
        texts = wide[list(_JOINED)].agg(", ".join, axis=1)
        joined = texts.rename("text").reset_index().assign(kind=_JOINED[0])
        study.write_captions(name, joined)
    return name


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
        there = read_json(path, error=RunError) if path.exists() else {}
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
    from eegprompt.decoding import decode
    from eegprompt.drawing import draw
    from eegprompt.evaluation import scores_of
    from eegprompt.study import Study
    from eegprompt.training import train

    study = Study(job.config.study)
    trained = train(study, job.trained, job.config, progress=_silent)
    if job.folder.exists():
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
        draw(run, rungs=("eeg",), progress=_silent)  # nothing of the other rungs is compared
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
        "two_way_within_class": rows(f"two_way_{layer}", scope="within-class", rung="eeg"),
        "two_way": rows(f"two_way_{layer}", scope="all", rung="eeg"),
        "inception_score": rows("inception_score", rung="eeg"),
        "kid": rows("kid", rung="eeg"),
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
        (job.axis, job.variant.name, job.config.seed): read_json(job.folder / "measured.json")
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
            else "a score of the whole set of pictures, which cannot be drawn again image by image"
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


def design_of(study: Study, config: ExperimentConfig) -> str:
    """What the audit says of the study and split that were compared on, and what was waived.

    Parameters
    ----------
    study : Study
    config : ExperimentConfig

    Returns
    -------
    str
        A sentence or two, to stand wherever the numbers do.
    """
    from eegprompt.auditing import read_audit

    found = read_audit(study, config.split)
    if found is None or found["stale"]:
        state = "not audited" if found is None else "changed since its audit"
        said = f"Design {state}: 'eegprompt audit STUDY --split {config.split}' looks."
    else:
        said = f"Design {found['verdict']}: {found['summary']}"
    return said + (f" Waived: {', '.join(config.waive)}." if config.waive else "")


def ablation_table(
    rows: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    *,
    stamp: str = "",
    failed: Sequence[str] = (),
) -> str:
    """The rows as a Markdown page, one table an axis.

    Parameters
    ----------
    rows : sequence of dict
        From :func:`ablate`.
    seeds : sequence of int
        That they are means over.
    stamp : str
        What is said of the design, above the tables.
    failed : sequence of str
        Variants that could not be measured and why, below the tables.

    Returns
    -------
    str
    """
    lines = [
        "# Ablations",
        "",
        *([stamp, ""] if stamp else []),
        (
            f"Mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
            if len(seeds) > 1
            else f"One seed ({seeds[0]}): nothing here says how much another would differ"
        )
        + ", and chance. In brackets: difference from the first row, 95 % interval and p by a bootstrap "
        "over images, the same resamples for both, averaged over seeds; it does not count the "
        "spread between seeds.",
    ]
    for axis in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == axis]
        measures = [m for m in MEASURES if any(row["measure"] == m for row in mine)]
        lines += [
            "",
            f"## {axis}",
            "",
            "| variant | " + " | ".join(MEASURES[m][0] for m in measures) + " |",
            "|---" * (len(measures) + 1) + "|",
        ]
        for variant in dict.fromkeys(row["variant"] for row in mine):
            cells = {row["measure"]: _cell(row) for row in mine if row["variant"] == variant}
            lines.append(f"| {variant} | " + " | ".join(cells.get(m, "–") for m in measures) + " |")
        without = dict.fromkeys(
            f"{MEASURES[row['measure']][0] if row['measure'] in MEASURES else row['head']} – "
            f"{row['no_interval']}"
            for row in mine
            if row.get("no_interval")
        )
        if without:
            lines += ["", f"Differences without interval and p: {'; '.join(without)}."]
        lines += _heads_table(mine)
    if failed:
        lines += ["", "## Not measured", "", *(f"- {each}" for each in failed)]
    return "\n".join(lines) + "\n"


def _heads_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each head's retrieval by variant, where variants differ in it, and how often it is lower."""
    mine = [row for row in rows if row["measure"] == BY_HEAD]
    if not any(row["difference"] for row in mine):
        return []
    heads = list(dict.fromkeys(row["head"] for row in mine))
    lines = [
        "",
        "Each head's caption retrieval, top 1:",
        "",
        "| variant | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    said = []
    for variant in dict.fromkeys(row["variant"] for row in mine):
        of = {row["head"]: row for row in mine if row["variant"] == variant}
        cells = [_cell({**of[h], "difference": None}) if h in of else "–" for h in heads]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
        both = [row for row in of.values() if row["difference"] is not None]
        lower = sum(row["difference"] < 0 for row in both)
        if both:
            said.append(f"{variant} is below {both[0]['compared_with']} in {lower} of {len(both)}")
    return [*lines, "", f"By head: {'; '.join(said)}."]


def _cell(row: dict[str, Any]) -> str:
    text = f"{row['mean']:.3f}"
    if row["sd"] is not None:
        text += f" ± {row['sd']:.3f}"
    if row.get("chance") is not None:
        text += f" (chance {row['chance']:.3f})"
    if row["difference"] is not None:
        text += f" [{row['difference']:+.3f}"
        if row["p"] is not None:
            with suppress(TypeError):
                text += f"; {row['lo']:+.3f}, {row['hi']:+.3f}; p = {row['p']:.3f}"
        text += "]"
    return text

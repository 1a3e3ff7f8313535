"""All that a run left on disk, gathered for the report; what is not there is named."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.audit_stamp import Stamp
from eegprompt.confounds.record import read_audit
from eegprompt.core.errors import (
    CaptionError,
    EegpromptError,
    InputError,
    RunError,
    SplitError,
    StorageError,
    StudyError,
)
from eegprompt.core.files import read_json, read_table
from eegprompt.core.fold_sentences import merge_sentences
from eegprompt.generators.generated_files import image_facts, look_of
from eegprompt.reports.score_rows import Score, mean_over_folds
from eegprompt.run import Run, fold_runs, slug
from eegprompt.study import Study
from eegprompt.study.split import Fold

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.analyses import Finding

__all__ = ["VERDICTS", "Material", "Missing", "RunMaterial", "bring_up_to_date"]

VERDICTS = ("clean", "suspect", "confounded", "unknown")
"""What an audit can say of a design."""


@dataclass(frozen=True)
class Missing:
    """Something a complete report would show, and how to get it."""

    what: str
    why: str
    command: str = ""


@dataclass
class RunMaterial:
    """What one run (one fold) left on disk.

    Parameters
    ----------
    run : Run
        The run.
    label : str
        How it is called among its siblings, e.g. ``"fold 2"``; empty if it stands alone.
    missing : list of Missing
        What is not there; filled in while reading.
    """

    run: Run
    label: str = ""
    missing: list[Missing] = field(default_factory=list)

    def __post_init__(self) -> None:
        run, path = self.run, self.run.path
        self.config: dict[str, Any] = run.config
        self.study: Study | None = None
        self.fold: Fold | None = None
        try:
            self.study = run.study
        except StudyError as problem:
            self._miss("the study", str(problem))
        if self.study is not None:
            try:
                self.fold = run.fold
            except (SplitError, InputError, KeyError) as problem:
                self._miss("the split", str(problem))
        self.training = self._table(
            run.training_log_path,
            "the training curve",
            f"eegprompt train {run.study_path} --out {path}",
        )
        self.decodings = self._table(
            run.decodings_path, "retrieved captions", f"eegprompt decode {path}"
        )
        self.prompts = self._table(run.prompts_path, "prompts", f"eegprompt decode {path}")
        self._take_prompts_of_generator()
        self.provenance = run.provenance
        self.scores: list[Score] = []
        self.score_notes: list[str] = []
        self.score_missing: list[str] = []
        if run.scores_path.exists():
            stored = read_json(run.scores_path, error=RunError, schema="scores")
            self.scores = [Score.from_row(row) for row in stored.get("rows", [])]
            self.score_notes = [_in_words(x) for x in stored.get("notes") or []]
            self.score_missing = [_in_words(x) for x in stored.get("missing") or []]
        else:
            self._miss("scores", "not computed yet", f"eegprompt evaluate {path}")
        if not self.drawn("eeg"):
            self._miss("images", "none drawn yet", f"eegprompt generate {path}")
        if not self.findings:
            self._miss("interpretation", "not explained yet", f"eegprompt explain {path}")
        wanted = set(self.generation.get("trial_ids") or [])
        for source in self.generation.get("sources") or {}:
            lacking = len(wanted - set(self.drawn(source)))
            if 0 < lacking < len(wanted) or (lacking and source != "eeg"):
                why = f"{len(wanted) - lacking} of {len(wanted)} drawn so far"
                self._miss(f"images of prompt source {source}", why, f"eegprompt generate {path}")

    def _miss(self, what: str, why: str, command: str = "") -> None:
        self.missing.append(Missing(what, why, command))

    def _table(self, path: Path, what: str, command: str) -> pd.DataFrame | None:
        if not path.exists():
            self._miss(what, "not there yet", command)
            return None
        return read_table(path, error=RunError, columns=path.stem)

    def _take_prompts_of_generator(self) -> None:
        """Prompts that were composed anew for the generator shown, where there are such."""
        if self.generator is not None:
            path = self.run.path / "images" / self.generator / "prompts.parquet"
            if path.exists():
                self.prompts = read_table(path, error=RunError, columns="prompts")

    @cached_property
    def generation(self) -> dict[str, Any]:
        """What was noted of the generator shown: name, revision, settings; empty if nothing."""
        return dict(self.run.generators.get(self.generator or "") or {})

    @cached_property
    def findings(self) -> list[Finding]:
        """What ``eegprompt explain`` found; empty if the run was not explained."""
        from eegprompt.analyses import load_findings

        return load_findings(self.run.path)

    # -- settings ------------------------------------------------------------------------------
    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config.get("seed", 0))

    @property
    def kinds(self) -> list[str]:
        """Caption kinds of the run, in prompt order."""
        return list(self.config.get("kinds", []))

    def setting(self, dotted: str, default: Any = None) -> Any:
        """A setting by its dotted name."""
        value: Any = self.config
        for part in dotted.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    # -- images ------------------------------------------------------------------------------
    @cached_property
    def generators(self) -> list[str]:
        """Folders of generators that drew something, the configured one first."""
        folder = self.run.path / "images"
        found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        wanted = slug(str(self.setting("generation.generator", "")))
        return sorted(found, key=lambda name: (name != wanted, name))

    @property
    def generator(self) -> str | None:
        """Folder of the generator whose images are shown."""
        return self.generators[0] if self.generators else None

    def drawn(self, source: str) -> list[int]:
        """Trials that have a first image on this prompt source, sorted."""
        if self.generator is None:
            return []
        files = self.run.images_dir(self.generator, source).glob("*_0.png")
        return sorted(int(p.stem.split("_")[0]) for p in files if p.stem.split("_")[0].isdigit())

    @cached_property
    def _look(self) -> str | None:
        """Key of the settings that prompt source `eeg` was drawn with, as the scores take it."""
        if self.generator is None:
            return None
        some = sorted(self.run.images_dir(self.generator, "eeg").glob("*_0.png"))[:32]
        return look_of(some) or self.generation.get("look")

    def is_comparable(self, source: str, trial_id: int) -> bool:
        """Whether a trial's first image was drawn with the settings of prompt source `eeg`'s.

        Others (of more steps, another guidance, …) are left out of the scores and are not to be
        shown beside them. Images that do not say how they were drawn count as drawn alike.
        """
        if self.generator is None or self._look is None:
            return True
        facts = image_facts(self.run.image_path(self.generator, source, trial_id))
        return facts is None or facts.get("look", self._look) == self._look

    def image(self, source: str, trial_id: int) -> Path | None:
        """Path of a trial's first image on a prompt source, if it was drawn with the settings of `eeg`."""
        if self.generator is None:
            return None
        path = self.run.image_path(self.generator, source, trial_id)
        return path if path.exists() and self.is_comparable(source, trial_id) else None

    # -- captions ------------------------------------------------------------------------------
    @cached_property
    def captions(self) -> pd.DataFrame | None:
        """The caption set of the run, if its study still has it."""
        if self.study is None:
            return None
        try:
            return self.study.captions(str(self.config.get("captions")))
        except (CaptionError, InputError):
            return None

    @cached_property
    def _truth(self) -> dict[tuple[str, str], list[tuple[str, str | None]]]:
        truth: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
        if self.captions is not None:
            for image_id, kind, text, meaning in _rows(
                self.captions, "image_id", "kind", "text", "meaning"
            ):
                truth.setdefault((str(image_id), str(kind)), []).append((str(text), meaning))
        return truth

    @cached_property
    def _meanings(self) -> dict[tuple[str, str], str | None]:
        if self.captions is None:
            return {}
        rows = _rows(self.captions, "kind", "text", "meaning")
        return {(str(kind), str(text)): meaning for kind, text, meaning in rows}

    @property
    def has_meanings(self) -> bool:
        """Whether captions say what they mean, so that paraphrases can be told."""
        return any(meaning is not None for meaning in self._meanings.values())

    def true_captions(self, image_id: str, kind: str) -> list[str]:
        """The captions of this kind of an image."""
        return [text for text, _ in self._truth.get((str(image_id), kind), [])]

    def same_meaning(self, image_id: str, kind: str, text: str) -> bool | None:
        """Whether a caption says the same as the image's own; None if that is not known."""
        truth = self._truth.get((str(image_id), kind))
        if not truth:
            return None
        meaning = self._meanings.get((kind, text))
        return any(
            text == own or (meaning is not None and meaning == own_meaning)
            for own, own_meaning in truth
        )

    @cached_property
    def _candidates(self) -> dict[str, list[str]]:
        """Distinct captions of each kind in the pool that prompts are made from."""
        if self.captions is None or self.study is None or self.fold is None:
            return {}
        table = self.captions
        pool = str(self.setting("decoding.pool", "train"))
        if pool in ("train", "test"):
            images = self.study.trials["image_id"].to_numpy()[getattr(self.fold, pool)]
            table = table[table["image_id"].isin(set(images))]
        return {str(kind): sorted(set(t)) for kind, t in table.groupby("kind")["text"]}

    def share_right(self, image_id: str, kind: str) -> float | None:
        """Share of the pool's captions of a kind that say the same as the image's own."""
        texts = self._candidates.get(kind)
        if not texts:
            return None
        return sum(bool(self.same_meaning(image_id, kind, t)) for t in texts) / len(texts)


@dataclass
class Material:
    """What a report is made from: one run, or the runs of all folds.

    Parameters
    ----------
    path : pathlib.Path
        The run's folder, or the parent folder of the folds.
    runs : list of RunMaterial
        One, or one a fold.
    over_folds : bool
        Whether the runs are folds of one run.
    """

    path: Path
    runs: list[RunMaterial]
    over_folds: bool = False

    @classmethod
    def gather(cls, run: Run | str | Path) -> Material:
        """Read everything.

        Raises
        ------
        RunError
            If `run` is neither a run nor a run over folds, or one of its files is broken.
        """
        if isinstance(run, Run):
            return cls(run.path, [RunMaterial(run)])
        path = Path(run)
        folders = [] if (path / "config.yaml").exists() else fold_runs(path)
        if not folders:
            return cls(path, [RunMaterial(Run(path))])
        runs = [RunMaterial(Run(p), p.name.replace("-", " ")) for p in folders]
        return cls(path, runs, over_folds=True)

    @property
    def first(self) -> RunMaterial:
        """The run, or the first of the folds."""
        return self.runs[0]

    @cached_property
    def findings_together(self) -> Finding | None:
        """What ``eegprompt explain`` found in all folds together; None for one run."""
        from eegprompt.analyses._across_folds import load_folds

        return load_folds([r.run.path for r in self.runs]) if self.over_folds else None

    @property
    def study(self) -> Study | None:
        """The study, if it can be opened."""
        return next((r.study for r in self.runs if r.study is not None), None)

    @cached_property
    def audit(self) -> dict[str, Any] | None:
        """The audit of the run's study and split, if one was made; it may be stale.

        Where the study has gone, what was stamped on the scores.
        """
        if self.study is None:
            path = self.path / "scores.json"
            stored = read_json(path, error=RunError, schema="scores") if path.exists() else {}
            stamp = stored.get("audit")
            if not stamp or stamp.get("verdict") not in VERDICTS:
                return None
            return {**stamp, "evidence": [], "limits": [], "stale": False}
        return read_audit(self.study, str(self.first.config.get("split")))

    @cached_property
    def allowed_leakage(self) -> list[str]:
        """What the split's sides share by the user's leave, in words, each once."""
        trained = [r.provenance.get("train") or {} for r in self.runs]
        return self._once([t.get("allowed_leakage") or [] for t in trained])

    def _once(self, by_run: list[list[str]]) -> list[str]:
        """Sentences of one run as they are; of folds, each once."""
        if not self.over_folds:
            return list(dict.fromkeys(str(s) for s in by_run[0]))
        return merge_sentences(by_run, [r.label for r in self.runs])

    @cached_property
    def _parent_scores(self) -> dict[str, Any]:
        path = self.path / "scores.json"
        if not self.over_folds or not path.exists():
            return {}
        return read_json(path, error=RunError, schema="scores")

    @cached_property
    def scores(self) -> list[Score]:
        """The scores: of the run, of all folds together, or their means over folds."""
        if not self.over_folds:
            return self.first.scores
        if self._parent_scores.get("rows"):
            return [Score.from_row(row) for row in self._parent_scores["rows"]]
        return mean_over_folds([r.scores for r in self.runs if r.scores])

    @property
    def spread_is_range(self) -> bool:
        """Whether intervals are the range over folds rather than bootstrap intervals."""
        return self.over_folds and not self._parent_scores.get("rows")

    @property
    def score_notes(self) -> list[str]:
        """Notes that came with the scores, each once."""
        if self._parent_scores:  # the folds' own are among them
            return [_in_words(x) for x in self._parent_scores.get("notes") or []]
        return self._once([r.score_notes for r in self.runs])

    @property
    def score_missing(self) -> list[str]:
        """Scores that could not be computed, each once."""
        if self._parent_scores:
            return [_in_words(x) for x in self._parent_scores.get("missing") or []]
        own = [[s.replace(str(r.run.path), str(self.path)) for s in r.score_missing]
               for r in self.runs]  # fmt: skip
        return self._once(own)

    @property
    def missing(self) -> list[Missing]:
        """Everything that is not there, folds named."""
        if not self.over_folds:
            return self.first.missing
        found: dict[tuple[str, str], list[tuple[RunMaterial, Missing]]] = {}
        for run in self.runs:
            for one in run.missing:
                command = one.command.replace(str(run.run.path), "")
                found.setdefault((one.what, command), []).append((run, one))
        result = []
        for (what, _), lacking in found.items():
            run, one = lacking[0]
            whys = merge_sentences([[m.why] for _, m in lacking])
            if len(lacking) == len(self.runs):  # one command does it for all folds
                command = one.command.replace(str(run.run.path), str(self.path))
                if one.command.startswith("eegprompt train"):
                    command += " --all-folds"
                result.append(Missing(f"{what} of all folds", "; ".join(whys), command))
            else:
                labels = ", ".join(r.label for r, _ in lacking)
                result.append(Missing(f"{what} of {labels}", "; ".join(whys), one.command))
        return result

    @property
    def one_finding(self) -> str:
        """Why the heads of this study are not as many findings; empty where they may be."""
        if self.study is None or self.study.image_identity != "category":
            return ""
        return (
            "Only the category of a trial is known here, so every kind of caption says the same in "
            f"other words ({' or '.join(self.study.categories[:4])}"
            f"{', …' if len(self.study.categories) > 4 else ''}): the heads are one finding, not "
            "one each."
        )

    @property
    def builtin_features(self) -> bool:
        """Whether an image score rests on the built-in features."""
        return any("builtin" in (s.features or "") for s in self.scores)

    @property
    def simulated(self) -> bool:
        """Whether the study is simulated."""
        if self.study is None:
            return False
        info = self.study.info
        return bool(info.get("simulation")) or "simulat" in str(info.get("source", "")).lower()


def bring_up_to_date(run: Run | str | Path) -> None:
    """Stamp an audit made since on the scores of a run or of its folds, where they can be written."""
    folder = run.path if isinstance(run, Run) else Path(run)
    folds = [] if (folder / "config.yaml").exists() else fold_runs(folder)
    try:
        stamps = [stamp_of(Run(f)) for f in folds or [folder]]
    except (EegpromptError, KeyError):
        return  # nobody can say more than what was stamped
    whole = Stamp.of_folds(stamps, folds) if folds else stamps[0]
    with contextlib.suppress(StorageError):  # what is shown is up to date all the same
        for place, stamp in (*zip(folds, stamps), (folder, whole)):
            stamp.renew(place)


def stamp_of(run: Run) -> Stamp:
    """The audit's verdict on a run, and what its training allowed."""
    allowed = run.provenance.get("train", {}).get("allowed_leakage") or ()
    return Stamp.of(run.study, str(run.config["split"]), allowed)


def _rows(table: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of some columns; a column that is not there, and a null in it, is None."""
    parts = []
    for column in columns:
        if column in table:
            values = table[column].to_numpy(dtype=object)
            parts.append([None if _null(v) else v for v in values])
        else:
            parts.append([None] * len(table))
    return list(zip(*parts))


def _null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))


def _in_words(value: Any) -> str:
    """A note or missing entry as a sentence, whether it came as text or as a mapping."""
    if isinstance(value, dict):
        what = value.get("metric") or value.get("what") or value.get("name")
        why = value.get("why") or value.get("reason") or value.get("note")
        if what:
            return f"{what}: {why}" if why else str(what)
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def json_list(value: Any) -> list[Any]:
    """A list that was stored as JSON text; an empty list where it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return list(value) if isinstance(value, (list, tuple)) else []

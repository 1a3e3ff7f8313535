"""One run on disk: what was asked, what came out, and where each piece lies.

A run is made from one fold of one split of a study. A run over several folds is a parent folder
whose ``fold-0``, ``fold-1``, … are such runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eegprompt.core.errors import EegpromptError, RunError, StudyError
from eegprompt.core.files import (
    Ours,
    atomic_path,
    content_key,
    provenance,
    read_arrays,
    read_json,
    read_table,
    write_json,
    write_table,
)
from eegprompt.core.kinds import add_kinds
from eegprompt.study import Study
from eegprompt.study.split import Fold

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.settings import ExperimentConfig

__all__ = ["OURS", "Run", "fold_runs", "input_keys"]

_View = TypeVar("_View")

OURS = Ours(
    "a run",
    ("config.yaml&checkpoints/inputs.json", "config.yaml&encoder/config.json"),
    (
        *("config.yaml", "provenance.json", "checkpoints", "encoder", "training.parquet"),
        *("embeddings.safetensors", "decodings.parquet", "prompts.parquet", "generation.json"),
        *("images", "scores.json", "explain", "figures", "report.html", "paper", "ablation"),
    ),
    inside={
        "images": ("*.png", "prompts.parquet"),
        "figures": ("*.png", "*.svg"),
    },
)
"""What eegprompt writes into a run's folder; only such a folder is ever replaced."""

_INPUTS = {
    "study": "the study's trials",
    "fold": "fold {fold} of the split '{split}'",
    "captions": "the caption set '{captions}'",
}


def input_keys(study: Study, fold: Fold, captions: pd.DataFrame) -> dict[str, str]:
    """Content keys of what a run is trained on, by part.

    Parameters
    ----------
    study, fold
        The study, and which of its trials train, validate and test.
    captions : pandas.DataFrame
        The whole caption set.

    Returns
    -------
    dict
        ``study``, ``fold`` and ``captions``.
    """
    return {
        "study": study.key,
        "fold": fold.key,
        "captions": content_key(captions.to_json(orient="split", index=False)),
    }


class Run:
    """A run's folder, opened.

    What the folder holds is read when it is first asked for, and again when the file has changed.

    Parameters
    ----------
    path : path-like or Run
        The run's folder, with ``config.yaml`` in it. A :class:`Run` is opened anew with its
        settings, so that a study or split that was changed since is noticed.

    Raises
    ------
    RunError
        If the folder is missing or is no run.
    """

    def __init__(self, path: str | Path | Run):
        self.path: Path = path.path if isinstance(path, Run) else Path(path)
        if not (self.path / "config.yaml").exists():
            if fold_runs(self.path):
                raise RunError(
                    f"{self.path} is a run over folds; name one of them, e.g. {self.path / 'fold-0'}"
                )
            exists = (
                "has no config.yaml, so it is no run" if self.path.exists() else "does not exist"
            )
            raise RunError(f"{self.path} {exists}; make one with 'eegprompt train STUDY --out RUN'")
        from eegprompt.core.safe_yaml import read_yaml_settings
        from eegprompt.core.schemas import check_content

        settings = self.path / "config.yaml"
        self.config: dict[str, Any] = (
            path.config if isinstance(path, Run) else read_yaml_settings(settings, error=RunError)
        )
        check_content(self.config, "config", settings, RunError)
        add_kinds(self.config.get("own_kinds", ()))
        self._views: dict[Path, tuple[tuple[int, ...], Any]] = {}

    def __repr__(self) -> str:
        return f"Run('{self.path}')"

    def __fspath__(self) -> str:
        return str(self.path)

    # -- places --------------------------------------------------------------------------------
    @property
    def encoder_dir(self) -> Path:
        """Folder of the trained encoder, its preprocessing and its calibration."""
        return self.path / "encoder"

    @property
    def checkpoints_dir(self) -> Path:
        """Folder of training checkpoints."""
        return self.path / "checkpoints"

    @property
    def embeddings_path(self) -> Path:
        """Head embeddings of the validation and test trials (safetensors)."""
        return self.path / "embeddings.safetensors"

    @property
    def decodings_path(self) -> Path:
        """Retrieved captions."""
        return self.path / "decodings.parquet"

    @property
    def prompts_path(self) -> Path:
        """Prompts, by trial and prompt source."""
        return self.path / "prompts.parquet"

    @property
    def scores_path(self) -> Path:
        """Scores."""
        return self.path / "scores.json"

    @property
    def training_log_path(self) -> Path:
        """Training and validation curves."""
        return self.path / "training.parquet"

    @property
    def figures_dir(self) -> Path:
        """Figures."""
        return self.path / "figures"

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def images_dir(self, generator: str, source: str) -> Path:
        """Folder of one generator's images on one prompt source."""
        return self.path / "images" / slug(generator) / source

    def image_path(self, generator: str, source: str, trial_id: int, sample: int = 0) -> Path:
        """Path of one image."""
        return self.images_dir(generator, source) / f"{trial_id:06d}_{sample}.png"

    # -- what it was made from -----------------------------------------------------------------
    @cached_property
    def settings(self) -> ExperimentConfig:
        """All settings, from ``config.yaml``."""
        from eegprompt.settings import load_config

        return load_config(self.config)

    @property
    def study_path(self) -> Path:
        """Folder of the study: as recorded, or beside the run if both were moved together."""
        recorded = Path(self.config["study"])
        beside = self.path / recorded  # an absolute path stays as it is
        return beside if beside.exists() or not recorded.exists() else recorded

    @cached_property
    def study(self) -> Study:
        """The run's study.

        Raises
        ------
        StudyError
            If it is gone from where it was.
        RunError
            If the study, the split or the captions changed since training.
        """
        try:
            study = Study(self.study_path)
        except StudyError as problem:
            raise StudyError(
                f"the study of run {self.path} cannot be opened: {problem}; if it was moved, set "
                f"'study:' in {self.path / 'config.yaml'}"
            ) from None
        self._check_inputs(study)
        return study

    @cached_property
    def fold(self) -> Fold:
        """The fold this run was trained on."""
        return self.study.split(self.config["split"]).fold(int(self.config["fold"]))

    @property
    def captions(self) -> pd.DataFrame:
        """The caption set this run was trained on."""
        return self.study.captions(self.config["captions"])

    def _check_inputs(self, study: Study) -> None:
        """Refuse a study, split or caption set that changed since training.

        A test trial of the changed split may have been trained on: no score of it would mean
        anything.
        """
        trained = self.provenance.get("train")
        keys = trained.get("keys") if isinstance(trained, dict) else None
        path = self.encoder_dir / "config.json"
        encoder = read_json(path, error=RunError, schema="encoder") if path.exists() else {}
        if not isinstance(keys, dict) and not encoder:
            return  # not trained yet
        lacking = [n for n in ("split", "fold", "captions") if n not in self.config]
        if lacking:
            raise RunError(
                f"{self.path / 'config.yaml'} lacks '{lacking[0]}', though the run is trained; put back "
                "the file that 'eegprompt train' wrote"
            )
        names = {n: self.config[n] for n in ("split", "fold", "captions")}
        now = _keys_now(study, **names)
        if not isinstance(keys, dict):  # killed, or moved, before that was noted
            keys = now
        changed = [part for part in _INPUTS if now.get(part) != keys.get(part)]
        if not changed and encoder.get("inputs") not in (None, content_key(now)):
            raise RunError(
                f"{self.encoder_dir} was trained on another study, split, fold or caption set than the "
                f"run {self.path} names now, so its test trials may be ones that it was trained on; "
                "bring back what was there, or train a new run with 'eegprompt train STUDY --out RUN'"
            )
        if changed:
            what = " and ".join(_INPUTS[part].format(**names) for part in changed)
            raise RunError(
                f"{what} changed since the run {self.path} was trained, so its test trials may be ones "
                "that it was trained on; bring back what was there, or train a new run with "
                "'eegprompt train STUDY --out RUN'"
            )

    # -- what came out -------------------------------------------------------------------------
    def _view(self, path: Path, read: Callable[[Path], _View]) -> _View:
        """What a file holds, read once for each state of the file."""
        now = path.stat()
        state = (now.st_ino, now.st_mtime_ns, now.st_size)
        known = self._views.get(path)
        if known is None or known[0] != state:
            self._views[path] = known = (state, read(path))
        view: _View = known[1]
        return view

    def _need(self, path: Path, step: str) -> Path:
        if not path.exists():
            raise RunError(f"{path} is missing; run 'eegprompt {step} {self.path}'")
        return path

    def _table(self, path: Path, columns: str) -> pd.DataFrame:
        table = self._view(
            self._need(path, "decode"), lambda p: read_table(p, error=RunError, columns=columns)
        )
        return table.copy(deep=False)

    @property
    def provenance(self) -> dict[str, Any]:
        """How each step was done, by its name; empty before the first."""
        path = self.path / "provenance.json"
        if not path.exists():
            return {}
        return dict(self._view(path, lambda p: read_json(p, error=RunError, schema="provenance")))

    @property
    def decodings(self) -> pd.DataFrame:
        """Retrieved captions, written by ``eegprompt decode``."""
        return self._table(self.decodings_path, "decodings")

    @property
    def prompts(self) -> pd.DataFrame:
        """Prompts, written by ``eegprompt decode`` and ``eegprompt generate``."""
        return self._table(self.prompts_path, "prompts")

    @property
    def embeddings(self) -> dict[str, np.ndarray]:
        """Head embeddings, written by ``eegprompt decode``.

        Returns
        -------
        dict of str to array
            ``val/trial_id``, ``test/trial_id``, and ``val/HEAD``, ``test/HEAD`` (n_trials, n_dims).

        Raises
        ------
        RunError
            If the file is missing or broken, lacks an array, or arrays do not fit one another.
        """
        return dict(self._view(self._need(self.embeddings_path, "decode"), self._read_embeddings))

    def _read_embeddings(self, path: Path) -> dict[str, np.ndarray]:
        stored = read_arrays(path, error=RunError)
        heads = self.config.get("kinds", ())
        needed = [f"{part}/{name}" for part in ("val", "test") for name in ("trial_id", *heads)]
        lacking = [name for name in needed if name not in stored]
        wrong = [
            name
            for name, array in stored.items()
            if array.dtype.kind != ("i" if name.endswith("/trial_id") else "f")
            or array.ndim != (1 if name.endswith("/trial_id") else 2)
            or len(array) != len(stored.get(f"{name.partition('/')[0]}/trial_id", ()))
        ]
        if lacking or wrong:
            what = f"lacks '{lacking[0]}'" if lacking else f"holds a '{wrong[0]}' that does not fit"
            raise RunError(f"{path} {what}; run 'eegprompt decode {self.path}' again")
        return stored

    @property
    def generators(self) -> dict[str, dict[str, Any]]:
        """What was asked of each generator, by the name of its folder under ``images``."""
        path = self.path / "generation.json"
        if not path.exists():
            return {}
        stored = self._view(path, lambda p: read_json(p, error=RunError, schema="generation"))
        return dict(stored["generators"])

    @property
    def images(self) -> pd.DataFrame:
        """Generated images: `generator` (its folder), `source`, `trial_id`, `sample`, `path`."""
        import pandas as pd

        rows = [
            (path.parts[-3], path.parts[-2], *map(int, path.stem.split("_")), path)
            for path in sorted((self.path / "images").glob("*/*/*.png"))
            if re.fullmatch(r"\d+_\d+", path.stem)
        ]
        return pd.DataFrame(rows, columns=["generator", "source", "trial_id", "sample", "path"])

    @property
    def score_rows(self) -> list[dict[str, Any]]:
        """Scores as they are written by ``eegprompt evaluate``: one dict per score."""
        path = self._need(self.scores_path, "evaluate")
        return list(
            self._view(path, lambda p: read_json(p, error=RunError, schema="scores"))["rows"]
        )

    @property
    def scores(self) -> pd.DataFrame:
        """Scores, one row per score; written by ``eegprompt evaluate``."""
        import pandas as pd

        return pd.DataFrame(self.score_rows)

    # -- the steps, as methods -----------------------------------------------------------------
    # A step is `eegprompt.NAME`; it stands above a run, so it is taken from the package's face.
    def decode(self, **options: Any) -> Run:
        """Decode validation and test trials; see :func:`eegprompt.decode`."""
        import eegprompt

        return eegprompt.decode(self, **options)  # type: ignore[no-any-return]

    def decoder(self, device: str = "auto") -> Any:
        """The trained decoder, for any EEG of the right channels; see :class:`eegprompt.Decoder`."""
        import eegprompt

        decoder = eegprompt.Decoder.from_pretrained(self, device)
        if decoder.candidates.pools:
            return decoder
        eegprompt.decode(self)  # training was stopped before its candidates were fitted
        return eegprompt.Decoder.from_pretrained(self, device)

    def generate(self, **options: Any) -> Run:
        """Generate images of the prompts; see :func:`eegprompt.generate`."""
        import eegprompt

        return eegprompt.generate(self, **options)  # type: ignore[no-any-return]

    def evaluate(self, **options: Any) -> pd.DataFrame:
        """Score what the run holds; it is decoded first if it was not. See :func:`eegprompt.evaluate`.

        Returns
        -------
        pandas.DataFrame
            One row per score, as :attr:`scores`.
        """
        import eegprompt

        self._decoded()
        eegprompt.evaluate(self, **options)
        return self.scores

    def explain(self, **options: Any) -> Any:
        """Run the analyses; it is decoded first if it was not. See :func:`eegprompt.explain`."""
        import eegprompt

        self._decoded()
        return eegprompt.explain(self, **options)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report; see :func:`eegprompt.report`."""
        import eegprompt

        return Path(eegprompt.report(self, out))

    def _decoded(self) -> None:
        if not self.decodings_path.exists():
            self.decode()

    def _repr_html_(self) -> str:
        from eegprompt.core.html_facts import facts_html

        named = {n: self.config.get(n, "") for n in ("study", "split", "fold", "captions")}
        steps = ", ".join(self.provenance) or "nothing"
        return facts_html("Run", {"folder": self.path, **named, "done": steps})

    # -- writing -------------------------------------------------------------------------------
    def record(self, step: str, **facts: Any) -> None:
        """Add one step's provenance to ``provenance.json``."""
        write_json(self.path / "provenance.json", {**self.provenance, step: provenance(**facts)})

    def write_embeddings(self, embeddings: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Write head embeddings.

        Parameters
        ----------
        embeddings : mapping of str to mapping of str to array (n_trials, n_dims)
            Of the validation (``val``) and the test trials (``test``), by head.
        """
        from safetensors.numpy import save_file

        arrays: dict[str, np.ndarray] = {}
        for part, heads in embeddings.items():
            ids = self.fold.val if part == "val" else self.fold.test
            arrays[f"{part}/trial_id"] = ids.astype(np.int64)
            arrays |= {f"{part}/{head}": np.ascontiguousarray(e) for head, e in heads.items()}
        with atomic_path(self.embeddings_path) as partial:
            save_file(arrays, partial)

    def write_table(self, path: Path, table: pd.DataFrame) -> Path:
        """Write one of the run's tables, atomically."""
        return write_table(path, table)


def slug(name: str) -> str:
    """A name as a file name: what is not a letter, digit, dot or dash becomes a dash.

    Examples
    --------
    >>> slug("diffusers:stabilityai/sdxl-turbo")
    'diffusers-stabilityai-sdxl-turbo'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "unnamed"


def fold_runs(path: str | Path) -> list[Path]:
    """Run folders of a run over folds, in order; empty if `path` is none."""
    numbered = {
        int(found[1]): p
        for p in Path(path).glob("fold-*")
        if (found := re.fullmatch(r"fold-(\d+)", p.name)) and (p / "config.yaml").exists()
    }
    return [numbered[i] for i in sorted(numbered)]


def _keys_now(study: Study, split: str, fold: int, captions: str) -> dict[str, str]:
    """Keys of what is there now; a part that is gone has none. Unchanged files are read once."""
    files = [
        study.path / "study.json",
        study.path / "trials.parquet",
        study.path / "images.parquet",
        study.path / "eeg.npy",
        study.path / "splits" / f"{split}.json",
        study.path / "captions" / f"{captions}.parquet",
    ]
    states = tuple(
        (str(f), s.st_mtime_ns, s.st_size) for f in files if f.exists() and (s := f.stat())
    )
    key = (states, int(fold))
    if key not in _KEYS:
        _KEYS.clear()  # one study is looked at at a time
        found = {"study": study.key}
        with suppress(EegpromptError):
            found["fold"] = study.split(split).fold(int(fold)).key
        with suppress(EegpromptError):
            table = study.captions(captions)
            found["captions"] = content_key(table.to_json(orient="split", index=False))
        _KEYS[key] = found
    return _KEYS[key]


_KEYS: dict[tuple[Any, ...], dict[str, str]] = {}

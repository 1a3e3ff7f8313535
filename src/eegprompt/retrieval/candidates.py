"""What a run's heads retrieve from, and how far they can be trusted: pools and calibrations.

They are kept beside the encoder, so that a folder ``encoder`` decodes EEG without its study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import RunError, UnknownNameError
from eegprompt.core.files import (
    atomic_path,
    read_arrays,
    read_json,
    read_table,
    write_json,
    write_table,
)
from eegprompt.prompts import Composer
from eegprompt.retrieval.calibration import Calibration
from eegprompt.retrieval.pool import CandidatePool
from eegprompt.retrieval.search import retrieve

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Candidates"]

_CHOICES = ("selection", "abstain", "order", "deduplicate", "style", "route")


@dataclass(frozen=True)
class Candidates:
    """The captions that each head retrieves, and what its retrieval is worth.

    Parameters
    ----------
    pools : dict of str to CandidatePool
        By head.
    calibrations : dict of str to Calibration
        By head.
    settings : dict
        What else ``calibration.json`` holds: ``decoding``, ``generator``, ``eeg_std``, ….
    """

    pools: dict[str, CandidatePool] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        pools: Mapping[str, CandidatePool],
        queries: Mapping[str, np.ndarray],
        true_captions: Mapping[str, Sequence[str]],
        embed: Callable[[Sequence[str]], np.ndarray],
        settings: Mapping[str, Any],
    ) -> Candidates:
        """Calibrate each head on the validation trials.

        Parameters
        ----------
        pools : mapping of str to CandidatePool
            By head.
        queries : mapping of str to array (n_trials, n_dims)
            The heads' embeddings of the validation trials.
        true_captions : mapping of str to sequence of str
            Those trials' captions, by head.
        embed : callable
            From texts to unit rows.
        settings : mapping
            Kept beside.
        """
        calibrations = {
            head: Calibration.fit(head, queries[head], embed(true_captions[head]), pool)
            for head, pool in pools.items()
        }
        return cls(dict(pools), calibrations, dict(settings))

    def retrieve(
        self,
        embeddings: Mapping[str, np.ndarray],
        trial_ids: np.ndarray,
        top_k: int,
        pools: Mapping[str, CandidatePool] | None = None,
    ) -> pd.DataFrame:
        """The nearest captions of embeddings, by trial, head and rank.

        Parameters
        ----------
        embeddings : mapping of str to array (n_trials, n_dims)
            By head, in prompt order.
        trial_ids : array of int, shape (n_trials,)
            Which trials.
        top_k : int
            Captions of each head.
        pools : mapping of str to CandidatePool, optional
            Other captions to retrieve from.

        Returns
        -------
        pandas.DataFrame
            The columns of ``decodings.parquet``.

        Raises
        ------
        RunError
            If a head has no pool.
        """
        import pandas as pd

        pools = self.pools if pools is None else pools
        lacking = [head for head in embeddings if head not in pools]
        if lacking:
            raise RunError(
                f"there are no candidate captions for {', '.join(lacking)}; run 'eegprompt decode "
                "RUN' once, or give a pool for every head"
            )
        parts: list[dict[str, np.ndarray]] = []
        for place, (head, query) in enumerate(embeddings.items()):
            pool = pools[head]
            indices, similarity = retrieve(query, pool, top_k)
            calibration = self.calibrations.get(head, Calibration(head))
            confidence = calibration.confidence(query, pool, indices)
            n, k = indices.shape
            flat = indices.ravel()
            parts.append(
                {
                    "trial_id": np.repeat(trial_ids, k),
                    "head": np.full(n * k, head, dtype=object),
                    "rank": np.tile(np.arange(1, k + 1), n),
                    "caption_id": np.array(pool.caption_ids, dtype=object)[flat],
                    "text": np.array(pool.texts, dtype=object)[flat],
                    "similarity": similarity.ravel().astype(np.float32),
                    "confidence": confidence.ravel().astype(np.float32),
                    "pool": np.full(n * k, pool.name, dtype=object),
                    "meaning": np.array(pool.meanings, dtype=object)[flat],
                    "place": np.full(n * k, place),
                }
            )
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.lexsort([columns["rank"], columns.pop("place"), columns["trial_id"]])
        if all(meaning is None for head in embeddings for meaning in pools[head].meanings):
            del columns["meaning"]
        # One table of all heads: for few trials, making one for each takes longer than all else.
        return pd.DataFrame({name: column[order] for name, column in columns.items()})

    def composer(self, **choices: Any) -> Composer:
        """How captions become prompts: by the settings under ``decoding``, but for `choices`.

        Parameters
        ----------
        **choices
            `selection`, `abstain`, `order`, `deduplicate`, `style` or `route`.

        Raises
        ------
        UnknownNameError
            If there is no such choice.
        """
        for name in choices:
            if name not in _CHOICES:
                raise UnknownNameError("choice", name, _CHOICES)
        return composer_of({**self.settings.get("decoding", {}), **choices}, self.calibrations)

    @staticmethod
    def paths(folder: Path) -> list[Path]:
        """Files that :meth:`save` writes into an ``encoder`` folder."""
        names = ("candidates.parquet", "candidates.safetensors", "calibration.json")
        return [folder / name for name in names]

    @staticmethod
    def note(folder: Path, **settings: Any) -> None:
        """Replace settings in ``calibration.json`` where they differ."""
        path = folder / "calibration.json"
        stored = read_json(path, error=RunError, schema="calibration")
        if any(stored.get(name) != value for name, value in settings.items()):
            write_json(path, {**settings, **stored, **settings})

    def save(self, folder: Path) -> None:
        """Write into an ``encoder`` folder; ``calibration.json`` comes last and marks it complete."""
        import pandas as pd
        from safetensors.numpy import save_file

        rows = [
            {"kind": head, "pool": pool.name, "caption_id": i, "text": text, "meaning": meaning}
            for head, pool in self.pools.items()
            for i, text, meaning in zip(pool.caption_ids, pool.texts, pool.meanings)
        ]
        (folder / "calibration.json").unlink(missing_ok=True)
        write_table(folder / "candidates.parquet", pd.DataFrame(rows))
        vectors = {head: np.ascontiguousarray(p.embeddings) for head, p in self.pools.items()}
        with atomic_path(folder / "candidates.safetensors") as partial:
            save_file(vectors, partial)
        heads = {head: c.to_dict() for head, c in self.calibrations.items()}
        write_json(folder / "calibration.json", {**self.settings, "heads": heads})

    @classmethod
    def load(cls, folder: Path) -> Candidates:
        """Read from an ``encoder`` folder; nothing where the run was not decoded yet.

        Raises
        ------
        RunError
            If a file is missing or cannot be read.
        """
        if not (folder / "calibration.json").exists():
            return cls()
        settings = read_json(folder / "calibration.json", error=RunError, schema="calibration")
        calibrations = {
            head: Calibration.from_dict(stored) for head, stored in settings.pop("heads").items()
        }
        table = read_table(folder / "candidates.parquet", error=RunError, columns="candidates")
        arrays = read_arrays(folder / "candidates.safetensors", error=RunError)
        pools = {}
        for head in calibrations:
            rows = table[table["kind"] == head]
            vectors = arrays.get(head)
            if vectors is None or vectors.ndim != 2 or len(vectors) != len(rows) or not len(rows):
                raise RunError(
                    f"{folder} has no embedding for each of the {len(rows)} candidates of '{head}'; run "
                    "'eegprompt decode RUN' again"
                )
            pools[head] = CandidatePool(
                kind=head,
                texts=tuple(rows["text"]),
                embeddings=vectors,
                caption_ids=tuple(rows["caption_id"]),
                meanings=tuple(m if isinstance(m, str) else None for m in rows["meaning"]),
                name=str(rows["pool"].iloc[0]),
            )
        return cls(pools, calibrations, settings)


def composer_of(choices: Mapping[str, Any], calibrations: Mapping[str, Calibration]) -> Composer:
    """How captions become prompts, by settings and what validation says of the heads.

    Parameters
    ----------
    choices : mapping
        Settings under ``decoding``; what is left out is as by default.
    calibrations : mapping of str to Calibration
        By head.

    Returns
    -------
    Composer
    """
    worth = choices.get("abstain")
    return Composer(
        **{name: choices[name] for name in _CHOICES if name in choices and name != "abstain"},
        accuracy={head: c.mean for head, c in calibrations.items()},
        thresholds={}
        if worth is None
        else {head: c.threshold(worth) for head, c in calibrations.items()},
        temperatures={head: c.temperature for head, c in calibrations.items()},
    )


def candidates_in_prompts(choices: Mapping[str, Any]) -> int:
    """How many captions of each head enter a prompt, by settings under ``decoding``."""
    if choices.get("route", "text") == "embeddings":
        return int(choices.get("top_k", 5))
    return int(choices.get("per_head", 1))

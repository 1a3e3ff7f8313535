"""What the heads of a decoder retrieved for some trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.generators.base import Generator
    from eegprompt.prompts import Prompt

__all__ = ["Decoded"]


@dataclass(frozen=True)
class Decoded:
    """What the heads retrieved for some trials.

    Parameters
    ----------
    captions : pandas.DataFrame
        One row per trial, head and rank, with the columns of ``decodings.parquet``: `trial_id`,
        `head`, `rank` (from 1), `caption_id`, `text`, `similarity` (cosine), `confidence` (in
        [0, 1], comparable across heads), `pool`, and `meaning` where it is known.
    embeddings : dict of str to array (n_trials, n_dims)
        The heads' embeddings, rows of unit length.
    trial_ids : array of int, shape (n_trials,)
        Which trials.
    decoder : Decoder, optional
        What decoded them.
    """

    captions: pd.DataFrame
    embeddings: dict[str, np.ndarray]
    trial_ids: np.ndarray
    decoder: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.trial_ids)

    @property
    def heads(self) -> list[str]:
        """The heads."""
        return list(self.embeddings)

    @property
    def best(self) -> pd.DataFrame:
        """The nearest caption of each head: one row per trial, one column per head."""
        first = self.captions[self.captions["rank"] == 1]
        table = first.pivot(index="trial_id", columns="head", values="text")
        return table.reindex(index=self.trial_ids, columns=self.heads)

    def prompts(self, generator: str | Generator | None = None, **choices: Any) -> list[Prompt]:
        """Make each trial's captions a prompt; see :meth:`eegprompt.Decoder.prompts`.

        Parameters
        ----------
        generator : str or Generator, optional
            Whose tokenizer counts; left out: the run's generator.
        **choices
            As for :meth:`eegprompt.Decoder.prompts`.
        """
        if self.decoder is None:
            raise InputError(
                "these captions have lost their decoder; use 'decoder.prompts(decoded)'"
            )
        prompts: list[Prompt] = self.decoder.prompts(self, generator, **choices)
        return prompts

    def _repr_html_(self) -> str:
        return str(self.best.to_html(max_rows=20))

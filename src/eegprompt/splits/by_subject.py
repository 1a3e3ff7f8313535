"""Leave subjects out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegprompt.splits.base import leave_group_out
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    from eegprompt.splits.base import SharedImages, ValidationFrom

__all__ = ["by_subject"]


def by_subject(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.15,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one subject out in each fold; subjects may have seen the same images.

    Parameters
    ----------
    study, seed, val, val_from, folds, images, test, name
        As in :func:`by_run`, with subjects in place of runs; ``val_from="group"`` selects on
        other subjects.

    Raises
    ------
    SplitError
        If the study has one subject only.
    """
    subjects = study.trials["subject"].astype(str).to_numpy()
    return leave_group_out(
        study,
        "by-subject",
        subjects,
        "subject",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=None,
        eligible=np.arange(study.n_trials),
        images=images,
        test=test,
    )

"""Leave sessions out, pooled over subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegprompt.splits.base import leave_group_out
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    from eegprompt.splits.base import SharedImages, ValidationFrom

__all__ = ["leave_one_session_out"]


def leave_one_session_out(
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
    """Leave one session out in each fold, pooled over subjects.

    A session counts by its name: a fold tests session 2 of all subjects, and trains on all other
    sessions of all subjects. :func:`cross_session` does the same within each subject.

    Parameters
    ----------
    study, seed, val, val_from, folds, images, test, name
        As in :func:`by_run`, with sessions in place of runs.

    Raises
    ------
    SplitError
        If the study has one session only.
    """
    return leave_group_out(
        study,
        "leave-one-session-out",
        study.trials["session"].astype(str).to_numpy().astype(str),
        "session",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=None,
        eligible=np.arange(study.n_trials),
        within_subject=False,
        images=images,
        test=test,
    )

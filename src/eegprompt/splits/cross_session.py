"""Leave sessions out, within each subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eegprompt.splits.base import leave_group_out, of_subject
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    from eegprompt.splits.base import SharedImages, ValidationFrom

__all__ = ["cross_session"]


def cross_session(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.15,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    subject: str | None = None,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one session (recording day) out in each fold, within subjects.

    A fold trains on the other sessions of the tested subject alone. To train on all subjects use
    :func:`leave_one_session_out`.

    Parameters
    ----------
    study, seed, val, val_from, folds, subject, images, test, name
        As in :func:`by_run`, with sessions in place of runs.

    Raises
    ------
    SplitError
        If a subject has one session only.
    """
    subjects = study.trials["subject"].astype(str)
    sessions = study.trials["session"].astype(str)
    groups = (subjects + "/" + sessions if len(study.subjects) > 1 else sessions).to_numpy()
    return leave_group_out(
        study,
        "cross-session",
        groups.astype(str),
        "session",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=subjects.to_numpy(),
        eligible=of_subject(study, subject),
        subject=subject,
        within_subject=True,
        images=images,
        test=test,
    )

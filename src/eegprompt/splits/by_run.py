"""Leave recordings out: each run is tested by an encoder that never saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eegprompt.splits.base import leave_group_out, of_subject
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    from eegprompt.splits.base import SharedImages, ValidationFrom

__all__ = ["by_run"]


# -- the kinds -----------------------------------------------------------------------------------
def by_run(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.2,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    subject: str | None = None,
    within_subject: bool = True,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one run (continuous file) out in each fold.

    Parameters
    ----------
    study : Study
    seed : int
        Decides where the validation stretches lie.
    val : float
        Fraction of each training run's trials that select, in (0, 0.9); with ``"group"``, fraction
        of the runs that are not tested.
    val_from : {"blocks", "group"}
        ``"blocks"``: one contiguous stretch of each training run; trials beside it that share
        samples with it are left out. ``"group"``: whole other runs, at least one.
    folds : int, optional
        Leave out a share of the runs, in that many folds, instead of one at a time.
    subject : str, optional
        Use this subject's trials only.
    within_subject : bool
        Train on runs of the tested subject only; else on all other runs of all subjects.
    images : {"shared", "apart"}
        ``"apart"``: besides, no image is on two sides. Shares of the images, drawn within classes,
        are for validation (`val`) and for testing (`test`), and trials that show others are left
        out of those sides. Else how many images stand on two sides is recorded.
    test : float
        Fraction of the images that test, in (0, 0.9), where `images` is ``"apart"``.
    name : str, optional
        Default ``"by-run"``.

    Returns
    -------
    Split

    Raises
    ------
    SplitError
        If a subject has one run only, or a run holds a class that no other holds.
    """
    eligible = of_subject(study, subject)
    runs = study.trials["run"].astype(str)
    if study.trials["session"].nunique() > 1:
        runs = study.trials["session"].astype(str) + "/" + runs
    if len(study.subjects) > 1:
        runs = study.trials["subject"].astype(str) + "/" + runs
    subjects = study.trials["subject"].astype(str).to_numpy()
    return leave_group_out(
        study,
        "by-run",
        runs.to_numpy().astype(str),
        "run",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=subjects if within_subject else None,
        eligible=eligible,
        subject=subject,
        within_subject=within_subject,
        images=images,
        test=test,
    )

"""Train on the beginning of each block and test on its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import InputError, SplitError
from eegprompt.splits.base import checked_fraction, finish, in_order, of_subject
from eegprompt.splits.leaks import has_onsets, recording_index
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    pass

__all__ = ["forward_in_block"]


def forward_in_block(
    study: Study,
    *,
    val: float = 0.15,
    test: float = 0.2,
    embargo: float = 0.0,
    subject: str | None = None,
    name: str | None = None,
) -> Split:
    """Train on the beginning of each recording or block, validate on what follows, test on its end.

    Parameters
    ----------
    study : Study
        One that knows the order or the onsets of its trials.
    val, test : float
        Fractions of each block's trials, in (0, 0.9).
    embargo : float
        Seconds between sides in which trials are left out, beyond those that share samples.
    subject, name
        As in :func:`by_run`; default ``"forward-in-block"``.

    Raises
    ------
    SplitError
        If the order is not known, or blocks are too short.
    """
    val, test = checked_fraction("val", val), checked_fraction("test", test)
    if val + test >= 1:
        raise SplitError(f"validation ({val:g}) and test ({test:g}) leave nothing to train")
    if embargo < 0:
        raise InputError(f"'embargo' is a number of seconds of at least 0, got {embargo}")
    if embargo and not has_onsets(study):
        raise SplitError("the study does not know when trials began, so no embargo can be kept")
    if not has_onsets(study) and (study.trials["order"].to_numpy() < 0).any():
        raise SplitError(
            "the study knows neither the onset nor the order of its trials, so there is no forward "
            "in time; split by image"
        )
    eligible = of_subject(study, subject)
    onset = study.trials["onset"].to_numpy(dtype=np.float64)
    block = study.trials["block"].to_numpy()
    stretch = recording_index(study.trials)
    sides: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    n_embargoed = 0
    for index in np.unique(stretch[eligible]):
        for number in np.unique(block[eligible[stretch[eligible] == index]]):
            here = eligible[(stretch[eligible] == index) & (block[eligible] == number)]
            here = in_order(study, here)
            n_test, n_val = round(test * len(here)), round(val * len(here))
            tested = here[len(here) - n_test :]
            validated = here[len(here) - n_test - n_val : len(here) - n_test]
            trained = here[: len(here) - n_test - n_val]
            if embargo:
                before = len(trained) + len(validated)
                if len(tested):
                    validated = validated[onset[validated] < onset[tested[0]] - embargo]
                later = validated if len(validated) else tested
                if len(later):
                    trained = trained[onset[trained] < onset[later[0]] - embargo]
                n_embargoed += before - len(trained) - len(validated)
            for side, ids in zip(sides, (trained, validated, tested)):
                sides[side].append(ids)
    train, validation, tested = (np.concatenate(ids) for ids in sides.values())
    return finish(
        study,
        "forward-in-block",
        name,
        [(train, validation, tested)],
        ["end of each block"],
        images_apart=False,
        same_classes=False,
        val=val,
        test=test,
        embargo=embargo,
        left_out_for_embargo=n_embargoed,
        subject=subject,
    )

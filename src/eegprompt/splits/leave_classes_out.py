"""Leave whole classes out (zero-shot)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import SplitError, UnknownNameError
from eegprompt.splits.base import blocks, categories, checked_fraction, finish, of_subject
from eegprompt.splits.leaks import image_keys
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    pass

__all__ = ["leave_classes_out"]


def leave_classes_out(
    study: Study,
    *,
    classes: Sequence[str] | int | float = 0.2,
    seed: int = 0,
    val: float = 0.1,
    subject: str | None = None,
    name: str | None = None,
) -> Split:
    """Test on classes that are never trained (zero-shot).

    Parameters
    ----------
    study : Study
    classes : list of str, str, int or float
        The classes to leave out (a text names them with commas between), their number, or their
        fraction; a number is drawn by the seed.
    seed : int
        Decides the draw of classes and the validation set.
    val : float
        Fraction of the trained classes' images that select (of their trials, in contiguous
        stretches, where only categories are known).
    subject, name
        As in :func:`by_run`; default ``"leave-classes-out"``.

    Raises
    ------
    SplitError
        If fewer than two classes would be left to train.
    """
    val = checked_fraction("val", val)
    rng = np.random.default_rng(seed)
    everything = study.categories
    if isinstance(classes, (int, float)):
        count = classes if isinstance(classes, int) else max(1, round(classes * len(everything)))
        if not 1 <= count <= len(everything) - 2:
            raise SplitError(
                f"{count} of {len(everything)} classes cannot be left out: at least one must be, and "
                "two must be left to train"
            )
        out = sorted(rng.permutation(everything)[:count].tolist())
    else:
        named = classes.split(",") if isinstance(classes, str) else classes
        out = sorted({str(c).strip() for c in named})
        for c in out:
            if c not in everything:
                raise UnknownNameError("class", c, everything)
        if not 1 <= len(out) <= len(everything) - 2:
            raise SplitError(
                f"{len(out)} of {len(everything)} classes cannot be left out: two must be left"
            )
    eligible = of_subject(study, subject)
    category = categories(study)
    tested = np.isin(category[eligible], out)
    rest = eligible[~tested]
    if study.image_identity == "known":
        keys = study.trials["image_id"].map(image_keys(study)).to_numpy().astype(str)
        chosen: list[str] = []
        for c in np.unique(category[rest]):
            images = np.unique(keys[rest[category[rest] == c]])
            if len(images) > 1:
                chosen += rng.permutation(images)[: max(1, round(val * len(images)))].tolist()
        in_val = np.isin(keys[rest], chosen)
        train, validation = rest[~in_val], rest[in_val]
    else:
        train, validation = blocks(study, rest, val, rng)
    return finish(
        study,
        "leave-classes-out",
        name,
        [(train, validation, eligible[tested])],
        [", ".join(out)],
        images_apart=True,
        same_classes=False,
        seed=seed,
        val=val,
        classes=out,
        subject=subject,
    )

"""From the checks to one word."""

from __future__ import annotations

__all__ = ["NUISANCE_SHARE", "VERDICTS", "verdict"]

VERDICTS = ("clean", "suspect", "confounded", "unknown")

NUISANCE_SHARE = 0.5
"""From this share of the best decoder's excess over chance on, a nuisance alone explains it."""


def verdict(
    *,
    design: bool,
    time: bool,
    prestimulus: bool,
    nuisance_share: float | None,
    order_known: bool,
    shape: bool = False,
) -> str:
    """Judge a study.

    Parameters
    ----------
    design : bool
        Class can be told from the protocol alone, or was declared to be shown in blocks.
    time : bool
        Time can be decoded within a class.
    prestimulus : bool
        Class can be decoded before the stimulus.
    nuisance_share : float or None
        What the best nuisance decoder that is above chance (of slow activity, of the mean, of
        variances or of band power) reaches above chance, as a share of what the best decoder of all
        does; None where no nuisance decoder is above chance.
    order_known : bool
        Whether the order of all trials is known.
    shape : bool
        Class can be decoded from noise that has each trial's length and number of averages.

    Returns
    -------
    {"clean", "suspect", "confounded", "unknown"}

    Examples
    --------
    >>> verdict(design=False, time=True, prestimulus=False, nuisance_share=0.9, order_known=True)
    'clean'
    """
    if design:
        nuisance = nuisance_share is not None and nuisance_share >= NUISANCE_SHARE
        return "confounded" if time or prestimulus or shape or nuisance else "suspect"
    if prestimulus or shape:
        return "suspect"
    return "clean" if order_known else "unknown"

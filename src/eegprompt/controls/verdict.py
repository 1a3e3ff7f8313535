"""From the checks to one word."""

from __future__ import annotations

__all__ = ["SLOW_SHARE", "VERDICTS", "verdict"]

VERDICTS = ("clean", "suspect", "confounded", "unknown")

SLOW_SHARE = 0.5
"""From this share of the full decoder's excess over chance on, slow activity alone explains it."""


def verdict(
    *,
    design: bool,
    time: bool,
    prestimulus: bool,
    slow_share: float | None,
    order_known: bool,
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
    slow_share : float or None
        What the decoder of slow activity or of the mean reaches above chance, as a share of what
        the full decoder does; None where the full decoder is not above chance.
    order_known : bool
        Whether the order of all trials is known.

    Returns
    -------
    {"clean", "suspect", "confounded", "unknown"}

    Examples
    --------
    >>> verdict(design=False, time=True, prestimulus=False, slow_share=0.9, order_known=True)
    'clean'
    """
    if design:
        slow = slow_share is not None and slow_share >= SLOW_SHARE
        return "confounded" if time or prestimulus or slow else "suspect"
    if prestimulus:
        return "suspect"
    return "clean" if order_known else "unknown"

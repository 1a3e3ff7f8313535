"""Which heads speak for a trial, and why each of them does or does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.kinds import KINDS, LEVELS

__all__ = ["RULES", "Choice", "Selection", "choose"]

RULES = ("all", "top-k", "top-k-global", "level", "heads")
_DEFAULT_K = 2  # the best of the paper's head combinations (its ablations)


@dataclass(frozen=True)
class Selection:
    """A rule for choosing heads.

    Parameters
    ----------
    rule : str
        ``all``; ``top-k``: the k most confident heads of each trial; ``top-k-global``: the k heads
        most accurate on the validation trials; ``level``: all heads of some levels; ``heads``: by
        name.
    k : int
        For the first two kinds of ``top-k``.
    names : tuple of str
        Levels or heads.
    """

    rule: str = "all"
    k: int = _DEFAULT_K
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Read a rule as it is written in settings.

        Parameters
        ----------
        text : str
            ``all``, ``top-k:2``, ``top-k-global:3``, ``level:low,mid`` or
            ``heads:ObjectSnap,ThemeTag``.

        Raises
        ------
        InputError
            If it is none of these.

        Examples
        --------
        >>> Selection.parse("top-k:3").k
        3
        >>> Selection.parse("level:low,mid").names
        ('low', 'mid')
        """
        rule, _, argument = (part.strip() for part in str(text).partition(":"))
        if rule not in RULES:
            raise UnknownNameError("selection of heads", rule, RULES)
        if rule == "all":
            if argument:
                raise InputError(f"the selection 'all' takes no argument, got '{argument}'")
            return cls()
        if rule.startswith("top-k"):
            if argument and (not argument.isdigit() or int(argument) < 1):
                raise InputError(
                    f"the selection '{rule}' takes a number of heads from 1, e.g. {rule}:2; got "
                    f"'{argument}'"
                )
            return cls(rule, int(argument) if argument else _DEFAULT_K)
        names = tuple(name.strip() for name in argument.split(",") if name.strip())
        example = "level:low,mid" if rule == "level" else "heads:ObjectSnap,ThemeTag"
        if not names:
            raise InputError(f"the selection '{rule}' needs names, e.g. {example}")
        allowed = [level.value for level in LEVELS] if rule == "level" else list(KINDS)
        for name in names:
            if name not in allowed:
                raise UnknownNameError("level" if rule == "level" else "head", name, allowed)
        return cls(rule, names=names)


@dataclass(frozen=True)
class Choice:
    """Which heads speak for one trial.

    Parameters
    ----------
    heads : tuple of str
        Those that speak, in the order in which they came.
    why : dict of str to str
        For every head, why it speaks or why it does not.
    """

    heads: tuple[str, ...]
    why: dict[str, str]


def choose(
    confidence: Mapping[str, float],
    selection: Selection,
    *,
    accuracy: Mapping[str, float] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Choice:
    """Choose the heads that speak for one trial.

    A head that abstains is left out before the k most confident are counted. Where all of the
    heads in question abstain, the most confident of them speaks nevertheless, for an image needs
    a prompt, and trials without one would make the others look better than they are.

    Parameters
    ----------
    confidence : mapping of str to float
        By head, of its best caption, in [0, 1].
    selection : Selection
        The rule.
    accuracy : mapping of str to float, optional
        By head, on the validation trials; for ``top-k-global``.
    thresholds : mapping of str to float, optional
        By head: it abstains unless its confidence is greater.

    Returns
    -------
    Choice

    Raises
    ------
    InputError
        If there is no head, the rule fits none of them, or accuracies are needed and not there.

    Examples
    --------
    >>> sure = {"ObjectSnap": 0.9, "ColorTone": 0.6, "MoodFeel": 0.7}
    >>> choose(sure, Selection("top-k", 2)).heads
    ('ObjectSnap', 'MoodFeel')
    >>> choose(sure, Selection(), thresholds={"ColorTone": 0.65}).why["ColorTone"]
    'abstains: not above its threshold 0.65'
    """
    if not confidence:
        raise InputError("there is no head to choose from; decode the trial first")
    why: dict[str, str] = {}
    asked = _asked(tuple(confidence), selection, accuracy, why)
    speaking = []
    for head in asked:
        threshold = (thresholds or {}).get(head)
        if threshold is not None and not confidence[head] > threshold:
            why[head] = f"abstains: not above its threshold {threshold:.2f}"
        else:
            speaking.append(head)
    if not speaking:
        last = max(asked, key=lambda head: confidence[head])
        why[last] = "all heads would abstain, and it is the most confident of them"
        return Choice((last,), why)
    if selection.rule == "top-k":
        ranked = sorted(speaking, key=lambda head: -confidence[head])
        for place, head in enumerate(ranked, start=1):
            if place <= selection.k:
                why[head] = f"confidence {confidence[head]:.2f}, place {place} of {len(ranked)}"
            else:
                why[head] = f"not among the {selection.k} most confident"
        speaking = [head for head in speaking if head in ranked[: selection.k]]
    return Choice(tuple(speaking), why)


def _asked(
    heads: tuple[str, ...],
    selection: Selection,
    accuracy: Mapping[str, float] | None,
    why: dict[str, str],
) -> list[str]:
    """Heads that a rule asks, whatever the trial; notes in `why` what it says of each."""
    if selection.rule in ("all", "top-k"):
        why.update(dict.fromkeys(heads, "all heads speak"))
        return list(heads)
    if selection.rule == "top-k-global":
        lacking = [head for head in heads if head not in (accuracy or {})]
        if accuracy is None or lacking:
            raise InputError(
                f"there is no validation accuracy of {', '.join(lacking)}; run 'eegprompt decode RUN'"
            )
        ranked = sorted(heads, key=lambda head: -accuracy[head])
        best = ranked[: selection.k]
        for head in heads:
            why[head] = (
                f"validation accuracy {accuracy[head]:.2f}, place {ranked.index(head) + 1} of "
                f"{len(heads)}"
                if head in best
                else f"not among the {selection.k} most accurate on validation"
            )
        return [head for head in heads if head in best]
    if selection.rule == "level":
        of = {head: KINDS[head].level.value if head in KINDS else "" for head in heads}
        asked = [head for head in heads if of[head] in selection.names]
        why.update({head: f"level {of[head]}" for head in asked})
    else:
        asked = [head for head in heads if head in selection.names]
        why.update(dict.fromkeys(asked, "named"))
    if not asked:
        raise InputError(
            f"the selection '{selection.rule}:{','.join(selection.names)}' fits none of the run's heads "
            f"({', '.join(heads)}); name others"
        )
    why.update({head: "not asked for" for head in heads if head not in asked})
    return asked

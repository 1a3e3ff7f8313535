"""The analyses that exist, in the order in which the report shows them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eegprompt.core.errors import UnknownNameError

if TYPE_CHECKING:
    from eegprompt.analyses.context import Material
    from eegprompt.analyses.finding import Finding

__all__ = ["ANALYSES", "Analysis", "chosen"]


@dataclass(frozen=True)
class Analysis:
    """Where an analysis lies, and when it runs.

    Parameters
    ----------
    target : str
        ``"module:function"``; the function maps a Material to a Finding.
    question : str
        What it answers, for the command's help.
    deepens : bool
        Whether it does more where ``deep`` is asked for; its result is then another one.
    only_deep : bool
        Whether it retrains or redraws as a whole, and so is left out unless ``deep`` is asked for.
    """

    target: str
    question: str
    deepens: bool = False
    only_deep: bool = False

    def load(self) -> Callable[[Material], Finding]:
        """Import the function."""
        module, _, name = self.target.partition(":")
        function: Callable[[Material], Finding] = getattr(importlib.import_module(module), name)
        return function


ANALYSES: dict[str, Analysis] = {
    "patterns": Analysis(
        "eegprompt.analyses.patterns:analyze",
        "Where and when the EEG goes along with what each head says",
    ),
    "attribution": Analysis(
        "eegprompt.analyses.attribution:analyze", "What the encoder is sensitive to"
    ),
    "when": Analysis("eegprompt.analyses.when:analyze", "When the EEG carries which meaning"),
    "levels": Analysis("eegprompt.analyses.levels:analyze", "Where and when the levels differ"),
    "trust": Analysis("eegprompt.analyses.trust:analyze", "What the maps survive", deepens=True),
    "localization": Analysis(
        "eegprompt.analyses.localization:analyze", "Do the maps find what was planted?"
    ),
    "geometry": Analysis("eegprompt.analyses.geometry:analyze", "How the heads’ embeddings lie"),
    "winners": Analysis("eegprompt.analyses.winners:analyze", "Which head speaks"),
    "contribution": Analysis(
        "eegprompt.analyses.contribution:analyze",
        "What each head contributes to the images",
        only_deep=True,
    ),
}


def chosen(what: str | Iterable[str] | None, deep: bool) -> list[str]:
    """Names of the analyses to run, in the order of :data:`ANALYSES`.

    Parameters
    ----------
    what : str, iterable of str or None
        Names, separated by commas or as a list; None or ``"all"`` is every analysis that `deep`
        admits. One that is named is run in any case.
    deep : bool
        Whether analyses that retrain or redraw are among all.

    Raises
    ------
    UnknownNameError
        If a name is not on the list.
    """
    if what is None or what == "all":
        return [name for name, analysis in ANALYSES.items() if deep or not analysis.only_deep]
    words = [w for item in ([what] if isinstance(what, str) else what) for w in item.split(",")]
    asked = [word.strip() for word in words if word.strip()]
    for name in asked:
        if name not in ANALYSES:
            raise UnknownNameError("analysis", name, ANALYSES)
    return [name for name in ANALYSES if name in asked]

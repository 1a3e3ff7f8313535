"""All choices on the way from a trial's captions to its prompt, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from eegprompt.core.errors import UnknownNameError
from eegprompt.prompts.blend import blend, weigh
from eegprompt.prompts.join import compose, in_words
from eegprompt.prompts.prompt import HeadCaption, Prompt, clean, styled
from eegprompt.prompts.select import Selection, choose

__all__ = ["ROUTES", "Composer"]

ROUTES = ("text", "embeddings")


@dataclass(frozen=True)
class Composer:
    """How captions become prompts.

    Parameters
    ----------
    selection : str, default "all"
        Which heads speak; see :class:`eegprompt.prompts.Selection`.
    order, deduplicate, style
        See :func:`eegprompt.prompts.compose`.
    route : str, default "text"
        ``text`` joins captions; ``embeddings`` blends their prompt embeddings.
    accuracy : mapping of str to float
        Of the heads, on validation.
    thresholds : mapping of str to float
        Below which they abstain; empty where none may.
    temperatures : mapping of str to float
        For the weights within a head.

    Raises
    ------
    InputError
        If `selection` or `route` is not known.
    """

    selection: str = "all"
    order: str = "kinds"
    deduplicate: str = "exact"
    style: str = ""
    route: str = "text"
    accuracy: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Selection.parse(self.selection)
        if self.route not in ROUTES:
            raise UnknownNameError("route", self.route, ROUTES)

    def prompt(
        self,
        captions: Sequence[HeadCaption],
        count_tokens: Callable[[str], int],
        max_tokens: int | None,
    ) -> Prompt:
        """Choose heads and make their captions a prompt.

        Parameters
        ----------
        captions : sequence of HeadCaption
            One trial's, head by head, best first.
        count_tokens, max_tokens
            See :func:`eegprompt.prompts.compose`.

        Raises
        ------
        TokenBudgetError
            If not even one caption fits.
        """
        confidence: dict[str, float] = {}
        for caption in captions:
            confidence.setdefault(caption.head, caption.confidence)
        choice = choose(
            confidence,
            Selection.parse(self.selection),
            accuracy=self.accuracy or None,
            thresholds=self.thresholds,
        )
        chosen = [caption for caption in captions if caption.head in choice.heads]
        passed = [
            (caption, choice.why[caption.head])
            for caption in captions
            if caption.head not in choice.heads
        ]
        prompt = self.joined(chosen, count_tokens, max_tokens)
        gone = [*passed, *zip(prompt.dropped, prompt.reasons)]
        reason = prompt.reason
        if passed:
            kind = "blend of embeddings: " if prompt.weights else ""
            reason = kind + in_words(len(prompt.kept), gone, prompt.n_tokens, max_tokens)
        return replace(
            prompt,
            dropped=tuple(caption for caption, _ in gone),
            reasons=tuple(why for _, why in gone),
            reason=reason,
            why=tuple(choice.why[caption.head] for caption in prompt.kept),
        )

    def joined(
        self,
        captions: Sequence[HeadCaption],
        count_tokens: Callable[[str], int],
        max_tokens: int | None,
    ) -> Prompt:
        """Make all of these captions a prompt, without choosing heads.

        Parameters
        ----------
        captions, count_tokens, max_tokens
            As for :meth:`prompt`.
        """
        if self.route == "embeddings":
            return blend(
                captions,
                count_tokens,
                max_tokens,
                self.order,
                temperatures=self.temperatures,
                style=self.style,
            )
        return compose(
            captions,
            count_tokens,
            max_tokens,
            self.order,
            deduplicate=self.deduplicate,
            style=self.style,
        )

    def reworded(
        self,
        captions: Sequence[HeadCaption],
        weights: Sequence[float],
        count_tokens: Callable[[str], int],
        max_tokens: int | None,
    ) -> Prompt:
        """A prompt like another one, of other captions: the same heads, order and weights.

        Parameters
        ----------
        captions : sequence of HeadCaption
            What stands in the place of the other prompt's captions.
        weights : sequence of float
            Theirs in a blend; empty for a text.
        count_tokens, max_tokens
            As for :meth:`prompt`.
        """
        if not weights:
            return self.joined(captions, count_tokens, max_tokens)
        lengths = {c.text: count_tokens(styled(clean(c.text), self.style)) for c in captions}
        fitting = [
            (caption, weight)
            for caption, weight in zip(captions, weights)
            if max_tokens is None or lengths[caption.text] <= max_tokens
        ]
        if not fitting:  # not one fits: the usual error says so
            return self.joined(captions, count_tokens, max_tokens)
        return weigh(fitting, lengths, max_tokens, self.order, style=self.style)

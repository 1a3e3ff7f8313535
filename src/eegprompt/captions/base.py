"""What a captioner offers: captions of images, image by image, and who wrote them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["Answered", "Captioner", "caption_rows"]

Answered = tuple[str, Mapping[str, str] | Sequence[Mapping[str, Any]], str | None]
"""An image's id, its captions (text by kind, or rows with `kind`, `text` and, where it is known,
`meaning`), and why there are none (else None)."""


class Captioner(ABC):
    """Writes captions for images. Only `name` and :meth:`answers` must be given.

    The constructor takes what a user types behind the name (``NAME:ARGUMENT``), or None, and
    options by keyword.

    Attributes
    ----------
    name : str
        Names the caption set where the user gives no other name.
    model, prompt_version : str
        With `name`, what decides captions: an image is asked for again where one of them changed.
    kinds : tuple of str
        Caption kinds that it writes; empty where that is not known beforehand.
    sees_images : bool
        Whether a model is shown the images: equal captions for many of them are then reported.
    notes : sequence of str
        What a person should know after a run, a sentence each.

    Examples
    --------
    >>> class Shout(Captioner):
    ...     name = "shout"
    ...
    ...     def answers(self, study, image_ids):
    ...         for image_id in image_ids:
    ...             yield image_id, {"ObjectSnap": image_id.upper()}, None
    >>> list(Shout().answers(None, ["cat"]))
    [('cat', {'ObjectSnap': 'CAT'}, None)]
    """

    name: str
    model: str = ""
    prompt_version: str = ""
    kinds: tuple[str, ...] = ()
    sees_images: bool = False
    notes: Sequence[str] = ()

    def check(self, study: Study) -> list[str]:
        """What a person should know before it writes, a sentence each; raises if it cannot write."""
        return []

    def estimate(self, study: Study, image_ids: Sequence[str]) -> dict[str, Any]:
        """Requests, tokens and cost of captioning these images, and an example of a request."""
        return {"requests": 0, "tokens_in": 0, "tokens_out": 0, "cost": 0.0, "example": None}

    @abstractmethod
    def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
        """Yield each image as soon as it is captioned, or has failed."""


def caption_rows(
    captions: Mapping[str, str] | Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    """Captions of one image as rows with `kind` and `text`.

    Examples
    --------
    >>> caption_rows({"ObjectSnap": "a cat"})
    [{'kind': 'ObjectSnap', 'text': 'a cat'}]
    """
    if isinstance(captions, Mapping):
        return [{"kind": kind, "text": text} for kind, text in captions.items()]
    return list(captions)

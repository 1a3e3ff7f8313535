"""What a captioner must offer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["Captioner"]


@runtime_checkable
class Captioner(Protocol):
    """Writes captions for images."""

    name: str

    def write(self, study: Study, image_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield rows with at least ``image_id``, ``kind`` and ``text``, an image at a time."""
        ...

"""What chat servers answer, and what follows from it; and an event loop to ask them in."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = [
    "NO_IMAGES",
    "Again",
    "Failed",
    "Fatal",
    "Loop",
    "Said",
    "message_of",
    "useless_to_repeat",
]

T = TypeVar("T")

# How servers say that their model takes no image at all, as against not this one.
NO_IMAGES = re.compile(
    r"\b(images?|image_url|vision|multi-?modal)( (inputs?|content|parts?|messages?|data))?"
    r" (is|are) (not|only) supported"
    r"|\b(does not|doesn't|do not|don't|cannot|can't) (support|accept|take|process|handle)"
    r" (any )?(images?\b(?! (format|type|size|file|of|larger|with))|vision|multi-?modal)"
    r"|\bnot an? (multi-?modal|vision)|\btext[- ]only\b|\bmmproj\b|\bno (vision|image) support\b"
    r"|\bunsupported content( part)?( type)?\W+image|unknown variant\W+image_url"
    r"|\bat most 0 (images?|multi-?modal)|\bcontent\W+(must|should) be a (valid )?string"
    r"|\bno endpoints found that support image|\bmissing data required for image input",
    re.IGNORECASE,
)


class Fatal(Exception):
    """Nothing more can come of this run."""


class Failed(Exception):
    """This image failed; `by_server` says that the next would fail for the same reason."""

    def __init__(self, reason: str, *, by_server: bool = False):
        super().__init__(reason)
        self.by_server = by_server


class Again(Exception):
    """This request failed and may be repeated."""


@dataclass(frozen=True)
class Said:
    """What came of one request: the model's words, and why there may be none or too few."""

    text: str
    cut: str | None = None  # what its length was limited by, where it was cut off
    elsewhere: str | None = None  # field of the message that holds words, where `content` is empty

    @property
    def hopeless(self) -> str | None:
        """Why the same question would get no better answer, or None."""
        where = f", and all of it stands in '{self.elsewhere}'" if self.elsewhere else ""
        if self.cut is not None:
            return f"the answer was cut off by {self.cut}{where}"
        if self.elsewhere:
            return (
                f"the server gave words in '{self.elsewhere}' and none in 'content'; switch the "
                "model's thinking, or the server's parser of it, off"
            )
        return None


def message_of(problem: Any) -> str:
    """What a server says of an error, as far as it does."""
    body = problem.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return " ".join(str(inner[k]) for k in ("message", "code", "param") if inner.get(k))
        return str(inner)
    return str(body or problem)


async def useless_to_repeat(response: Any) -> None:
    """Tell the client not to repeat what no repetition mends: no quota, or no eye for images."""
    if response.status_code == 429 or response.status_code >= 500:
        await response.aread()
        if "insufficient_quota" in response.text or NO_IMAGES.search(response.text):
            response.headers["x-should-retry"] = "false"


class Loop:
    """An event loop in a thread of its own, so that it also runs where one is running already."""

    def __enter__(self) -> Loop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a piece of work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop's thread."""
        self._loop.call_soon_threadsafe(function)

    def close_client(self, client: AsyncOpenAI) -> None:
        """End all work and close the client."""

        async def close() -> None:
            here = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not here]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await client.close()

        self.submit(close()).result(timeout=10)

    def __exit__(self, *problem: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()

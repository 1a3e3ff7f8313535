"""Images by any server that speaks OpenAI's protocol for images (``/images/generations``).

One request an image, several at once. The key is read from the environment (``OPENAI_API_KEY``)
and never written anywhere. What a server draws from a prompt and a seed is the server's business:
many take a seed and some ignore it, so images need not come out the same twice.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from eegprompt.core.errors import InputError, ModelLoadError
from eegprompt.core.image_files import to_rgb
from eegprompt.generators.base import Generator

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["ServerGenerator"]

_MOST_BYTES = 64 << 20  # of one image's file
_MOST_PIXELS = 8192 * 8192
# How servers word that they will not draw something.
_REFUSALS = ("content_policy", "moderation", "safety", "content filter", "content_filter")


class _NotAccepted(Exception):
    """The server does not know a field of the request."""


class ServerGenerator(Generator):
    """Asks a server for images.

    Parameters
    ----------
    url : str
        Where the protocol begins, e.g. ``http://localhost:8000/v1``.
    model : str, optional
        The model's name on the server; left out: the server's own choice.
    height, width : int, default 512
        Size in pixels. A server that sends another size is refused.
    steps, guidance : optional
        Sent as ``num_inference_steps`` and ``guidance_scale``, which some servers take.
    extra : dict, optional
        More fields of the request, e.g. ``quality``.
    max_tokens : int, optional
        Longest prompt, in words, that the server's model reads; left out: no limit is known.
    concurrency : int, default 4
        Requests at once.
    timeout : float, default 120
        Seconds without a sign of life, after which a request has failed.
    retries : int, default 4
        Repetitions of a request that failed for want of time, of a connection or of room (408,
        409, 429, 5xx), after the pause that the server asks for or a growing one.

    Attributes
    ----------
    name, revision : str
        What it is; the version is not known.
    max_tokens : int or None
        As given.
    batch_size : int
        Requests at once; it pays to ask for so many images.
    blanked : list of bool
        Of the images drawn last, which the server refused to draw; they are black.
    seeded : bool
        Whether the server accepts a seed.

    Raises
    ------
    InputError
        If an argument is out of range, or there is no key for OpenAI.
    """

    def __init__(
        self,
        url: str | None,
        *,
        model: str | None = None,
        height: int = 512,
        width: int = 512,
        steps: int | None = None,
        guidance: float | None = None,
        extra: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        concurrency: int = 4,
        timeout: float = 120.0,
        retries: int = 4,
    ):
        parts = urlsplit(url or "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"a server generator needs the server's address, got '{url or ''}'; e.g. "
                "server:http://localhost:8000/v1"
            )
        if parts.username or parts.password or parts.query:
            raise InputError(
                "the server's address must hold no user, password or key; a key belongs into "
                "OPENAI_API_KEY"
            )
        for field, value, least in (
            ("height", height, 1),
            ("width", width, 1),
            ("steps", steps, 1),
            ("max_tokens", max_tokens, 1),
            ("concurrency", concurrency, 1),
            ("retries", retries, 0),
        ):
            if value is not None and (not isinstance(value, int) or value < least):
                raise InputError(
                    f"{field} must be a whole number of at least {least}, got {value!r}"
                )
        if not timeout > 0:
            raise InputError(f"timeout must be more than 0 seconds, got {timeout!r}")
        self._url = str(url).rstrip("/")
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not self._key and parts.hostname == "api.openai.com":
            raise InputError("OPENAI_API_KEY is not set; export it before asking OpenAI")
        self.name = f"server:{self._url}"
        self.model = model
        self.max_tokens = max_tokens
        self.seeded = True
        self._formatted = True
        self._settled = False  # whether it is known what fields the server accepts
        self._height, self._width = height, width
        self._fields: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            **(extra or {}),
        }
        self._fields = {k: v for k, v in self._fields.items() if v is not None}
        self.batch_size, self._timeout, self._retries = concurrency, float(timeout), retries

    def __repr__(self) -> str:
        return f"ServerGenerator('{self.name}')"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides an image beside prompt and seed, as far as it is known here."""
        return {
            "model": self.name,
            "revision": self.revision,
            "server_model": self.model,
            "height": self._height,
            "width": self._width,
            **self._fields,
        }

    def count_tokens(self, text: str) -> int:
        """Number of words and marks; the server's own tokenizer is not known."""
        return len(re.findall(r"\w+|[^\w\s]", text))

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative_prompt: str | None = None,
        image_paths: Sequence[str] = (),
    ) -> np.ndarray:
        """Ask for one image a prompt.

        Parameters
        ----------
        prompts : sequence of str, length n
            Not empty.
        seeds : sequence of int, length n
            One an image, 0 or greater.
        negative_prompt, image_paths
            Not asked for.

        Returns
        -------
        array of uint8, shape (n, height, width, 3)
            An image that the server's content filter refuses is black, and marked in
            :attr:`blanked`.

        Raises
        ------
        InputError
            If a prompt is empty or the server refuses the request.
        ModelLoadError
            If the server does not let us in, is not there, sends no image or one of another
            size, or fails again and again.
        """
        prompts, seeds = list(prompts), [int(seed) for seed in seeds]
        if len(prompts) != len(seeds):
            raise InputError(f"{len(prompts)} prompts need as many seeds, got {len(seeds)}")
        for i, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise InputError(f"prompt {i} is empty; every image needs a prompt")
        images = np.zeros((len(prompts), self._height, self._width, 3), dtype=np.uint8)
        self.blanked = blanked = [False] * len(prompts)
        if not prompts:
            return images
        from openai import OpenAI

        with OpenAI(
            # Servers of one's own ask for no key, the client wants one.
            api_key=self._key or "none",
            base_url=self._url,
            max_retries=self._retries,
            timeout=self._timeout,
        ) as client:
            drawn = []
            if not self._settled:
                drawn.append(self._one(client, prompts[0], seeds[0]))
                self._settled = True
            rest = slice(len(drawn), None)
            pool = ThreadPoolExecutor(self.batch_size)
            try:
                drawn += pool.map(self._one, repeat(client), prompts[rest], seeds[rest])
            finally:  # of an error or an interruption too: nothing more is asked for
                pool.shutdown(wait=False, cancel_futures=True)
        for i, image in enumerate(drawn):
            if image is None:
                blanked[i] = True
            else:
                images[i] = image
        return images

    def _one(self, client: OpenAI, prompt: str, seed: int) -> np.ndarray | None:
        """One image; None where the content filter refuses it."""
        while True:
            try:
                return self._image(self._ask(client, prompt, seed))
            except _NotAccepted:
                continue  # the request has changed

    def _ask(self, client: OpenAI, prompt: str, seed: int) -> Any:
        """What the server sends for an image; None where its content filter refuses."""
        import openai

        seeded, formatted = self.seeded, self._formatted
        body: dict[str, Any] = {**self._fields, "size": f"{self._width}x{self._height}", "n": 1}
        if formatted:
            body["response_format"] = "b64_json"
        if seeded:
            body["seed"] = seed % 2**32  # of what servers take, the most common range
        if self.model is not None:
            body["model"] = self.model
        try:
            answer = client.images.generate(prompt=prompt, extra_body=body)
        except openai.APITimeoutError:
            raise ModelLoadError(
                f"{self._url} gave no answer within {self._timeout:g} s, {self._retries + 1} times; "
                "raise timeout, or run the same command again: what was drawn is kept"
            ) from None
        except openai.APIConnectionError as problem:
            cause = self._clean(str(problem.__cause__ or problem))
            raise ModelLoadError(
                f"{self._url} cannot be reached ({cause}); start the server, or check its address"
            ) from None
        except openai.APIStatusError as problem:
            said = self._clean(_message_of(problem))
            if problem.status_code in (400, 422):
                low = said.lower()
                if any(word in low for word in _REFUSALS):
                    return None
                if seeded and "seed" in low:
                    self.seeded = False
                    raise _NotAccepted from None
                if formatted and "response_format" in low:
                    self._formatted = False
                    raise _NotAccepted from None
                raise InputError(
                    f"{self._url} refuses the request ({problem.status_code}: {said}); change the "
                    "generator's options"
                ) from None
            raise ModelLoadError(self._explain(problem.status_code, said)) from None
        except (openai.APIError, ValueError) as problem:  # an answer that is not of the protocol
            raise self._no_image(str(problem)) from None
        return answer

    def _explain(self, status: int, said: str) -> str:
        remedy = {
            401: "set OPENAI_API_KEY to a key that the server knows",
            403: "this key may not use the model",
            404: f"check the address and the model '{self.model or ''}'",
            429: "too many requests; use a smaller concurrency, or wait and run again",
        }.get(status, "look at the server's own log, and run the same command again")
        times = f" {self._retries + 1} times" if status == 429 or status >= 500 else ""
        return f"{self._url} answered {status}{times} ({said}); {remedy}; what was drawn is kept"

    def _image(self, answer: Any) -> np.ndarray | None:
        """From an answer to uint8 (height, width, 3)."""
        if answer is None:
            return None
        from PIL import Image, UnidentifiedImageError

        try:
            data = answer.data[0]
            inline, url = getattr(data, "b64_json", None), getattr(data, "url", None)
        except (AttributeError, IndexError, TypeError):
            raise self._no_image("no data") from None
        try:
            if inline:
                content = base64.b64decode(inline, validate=True)
            elif url:
                content = self._fetch(url)
            else:
                raise self._no_image("neither b64_json nor url")
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise self._no_image(f"{image.width}x{image.height} pixels")
                size, shown = image.size, np.asarray(to_rgb(image), dtype=np.uint8)
        except UnidentifiedImageError:  # its text names an object in memory
            raise self._no_image(f"{len(content)} bytes that are no image") from None
        except (binascii.Error, OSError, SyntaxError, ValueError, InputError) as problem:
            raise self._no_image(f"{type(problem).__name__}: {problem}") from None
        if size != (self._width, self._height):
            raise ModelLoadError(
                f"{self._url} draws {size[0]}x{size[1]} pixels and was asked for "
                f"{self._width}x{self._height}; set width={size[0]} and height={size[1]}"
            )
        return shown

    def _fetch(self, url: str) -> bytes:
        """An image that the server gives the address of; without our key."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise self._no_image(f"address '{url[:60]}'")
        request = urllib.request.Request(url, headers={"User-Agent": "eegprompt"})
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            content: bytes = response.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise self._no_image(f"more than {_MOST_BYTES >> 20} MiB")
        return content

    def _no_image(self, said: str) -> ModelLoadError:
        return ModelLoadError(
            f"{self._url} sent no image ({self._clean(said)}); check that the address is that of "
            "an images server, as in http://localhost:8000/v1"
        )

    def _clean(self, text: str) -> str:
        """One short line, without the key, which some servers repeat in their errors."""
        line = " ".join(text.split())
        return (line.replace(self._key, "…") if len(self._key) > 3 else line)[:200]


def _message_of(problem: Any) -> str:
    body = problem.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            words = [inner.get(k) for k in ("message", "code", "type", "param", "detail")]
            return " ".join(str(word) for word in words if word)
        return str(inner)
    return str(body or problem)

"""Captions by any server that speaks the OpenAI chat protocol.

OpenAI itself, vLLM, Ollama, LM Studio, llama.cpp: one request an image brings all its captions.
The key is read from the environment (``OPENAI_API_KEY``) and never written anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eegprompt.captions._image_data import data_url, image_sources, load_image
from eegprompt.captions.answers import json_schema, read_answer, repair_words
from eegprompt.captions.base import Answered, Captioner
from eegprompt.captions.chat_replies import (
    NO_IMAGES,
    Again,
    Failed,
    Fatal,
    Loop,
    Said,
    message_of,
    useless_to_repeat,
)
from eegprompt.captions.instruction import load_instruction
from eegprompt.core.errors import CaptionError, InputError
from eegprompt.core.kinds import parse_kinds
from eegprompt.study import Study

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["ChatCaptioner"]

T = TypeVar("T")

_MAX_BYTES = 1 << 20  # of an answer; a server that never ends is cut off here
_LONGEST_PAUSE = 120  # seconds; the client waits no longer, and neither do we
_BROKEN_AFTER = 50  # failures of the server in a row, after which the run ends
# Forms of an answer, from the strictest; a server that refuses one is asked for the next.
_FORMS = ("a JSON schema", "a JSON object", "words alone")
_FORM_WORDS = ("response_format", "json_schema", "json_object", "structured output", "grammar")
_IMAGE_TOKENS = 255  # of an image within 512 × 512: 85 and 170 a tile, as OpenAI counts them
_ANSWER_TOKENS = 300  # ten captions of about 15 words, with their keys


@dataclass
class _Usage:
    """What was spent."""

    requests: int = 0
    retries: int = 0
    repairs: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


@dataclass
class _Result:
    """One image's captions, or why there are none."""

    captions: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    by_server: bool = False
    asked: bool = True  # whether it holds a place among the requests under way


class ChatCaptioner(Captioner):
    """Asks a model on a server for captions, one request an image.

    The server is asked for structured output by a JSON schema; where it has none, for a JSON
    object; where it has neither, in words. A refusal that does not say what it refuses counts as
    one of the form only if the same request is answered in another; the run's notes say so. An
    answer that is not in order is sent back once with what is wrong; if the second is not in order
    either, the image is recorded as failed. An answer that was cut off, or that stands in another
    field than ``content``, would not get better: its image fails at once, and says what to change. A
    model that takes no images ends the run. Failures of the server (no answer in time, 408, 409,
    429, 5xx, a dropped connection) are repeated by the client after a growing, jittered pause, or
    after the one the server asks for (``Retry-After``).

    Parameters
    ----------
    model : str
        The model's name on the server.
    base_url : str, optional
        The server, e.g. ``http://localhost:11434/v1``; default ``OPENAI_BASE_URL`` in the
        environment, else OpenAI.
    instruction : path-like, optional
        Instruction file; see :func:`~eegprompt.captions.instruction.load_instruction`.
    kinds : str or iterable of str, optional
        Default all; a file of kinds of one's own may be among them.
    images : bool, default True
        Send the image. For models that read text only: False sends the image's label and what
        the captioner `rules` can say about its image.
    side : int, default 512
        Images are reduced to at most so many pixels a side.
    concurrency : int, default 16
        Requests at once.
    timeout : float, default 60
        Seconds for one whole request, reading its answer included.
    retries : int, default 5
        Repetitions of a request that the server failed to answer.
    max_cost : float, optional
        Budget of a run in the currency of the prices. No request is made that might exceed it.
    price_in, price_out : float, optional
        Price of a million tokens read and written. They change, so none are built in.
    max_tokens : int, default 1000
        Longest answer, what a model thinks before it included.
    temperature : float, default 0
        Of the model.
    language : str or None, default "en"
        Refuse captions in another language; None (or ``any``) takes all.

    Raises
    ------
    InputError
        If an argument is out of range, or there is no key for OpenAI.
    CaptionError
        If the instruction file cannot be read.
    """

    name = "chat"

    def __init__(
        self,
        model: str | None,
        *,
        base_url: str | None = None,
        instruction: str | Path | None = None,
        kinds: str | Sequence[str] | None = None,
        images: bool = True,
        side: int = 512,
        concurrency: int = 16,
        timeout: float = 60.0,
        retries: int = 5,
        max_cost: float | None = None,
        price_in: float | None = None,
        price_out: float | None = None,
        max_tokens: int = 1000,
        temperature: float | None = 0.0,
        language: str | None = "en",
    ):
        if not model:
            raise InputError(
                "the captioner 'chat' needs a model: chat:MODEL, e.g. chat:gpt-4o-mini"
            )
        for what, value, low in (
            ("concurrency", concurrency, 1),
            ("retries", retries, 0),
            ("side", side, 16),
            ("max_tokens", max_tokens, 1),
        ):
            if not isinstance(value, int) or value < low:
                raise InputError(f"{what} must be a whole number of at least {low}, got {value!r}")
        for what, number in (
            ("timeout", timeout),
            ("max_cost", max_cost),
            ("price_in", price_in),
            ("price_out", price_out),
            ("temperature", temperature),
        ):
            if number is not None and not (isinstance(number, (int, float)) and number >= 0):
                raise InputError(f"{what} must be a number of at least 0, got {number!r}")
        if not timeout:
            raise InputError(f"timeout must be more than 0 seconds, got {timeout!r}")
        if max_cost is not None and (price_in is None or price_out is None):
            raise InputError(
                "a budget needs the server's prices: give price_in and price_out, each for a "
                "million tokens, e.g. -o price_in=0.15 -o price_out=0.60"
            )
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or "").strip() or None
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise InputError(
                f"base_url begins with http:// or https://, e.g. http://localhost:11434/v1; got "
                f"'{self.base_url}'"
            )
        if self.base_url and "@" in self.base_url.split("://")[-1].split("/")[0]:
            raise InputError(
                "base_url must hold no user or password; a key belongs into OPENAI_API_KEY"
            )
        self.model = str(model)
        self.kinds = parse_kinds(kinds)
        self.images = self.sees_images = bool(images)
        self.side = side
        self.concurrency, self.timeout, self.retries = concurrency, float(timeout), retries
        self.max_cost, self.price_in, self.price_out = max_cost, price_in, price_out
        self.max_tokens, self.temperature = max_tokens, temperature
        self.language = None if language in (None, "any") else language
        self.instruction = load_instruction(instruction, self.kinds)
        seen = f"image{side}" if self.images else "text"
        self.prompt_version = f"{self.instruction.version}-{seen}"
        self.usage = _Usage()
        self.notes: list[str] = []
        self._form = 0
        self._answered: set[int] = set()  # forms in which an answer came
        self._length_field = "max_tokens"

    # -- what it will take ---------------------------------------------------------------------
    def estimate(self, study: Study, image_ids: Sequence[str]) -> dict[str, Any]:
        """What captioning these images will take, without asking anything.

        Tokens are estimated at four characters each, an image at 255 (as OpenAI counts one of
        512 × 512 pixels) and an answer at 300; servers differ by a factor of two and more.

        Returns
        -------
        dict
            ``requests``, ``tokens_in``, ``tokens_out``, ``cost`` (None without prices), and
            ``example``: the first request, its image left out.
        """
        one_in, one_out = self._tokens_of_one()
        n = len(image_ids)
        example: dict[str, Any] | None = None
        if image_ids:
            source = image_sources(study)[image_ids[0]]
            messages = self._messages(source, "data:image/jpeg;base64,…" if self.images else None)
            example = self._request(messages)
        return {
            "requests": n,
            "tokens_in": n * one_in,
            "tokens_out": n * one_out,
            "cost": None if self.price_in is None else self._cost(n * one_in, n * one_out),
            "example": example,
        }

    def _tokens_of_one(self) -> tuple[int, int]:
        fixed = len(self.instruction.text) + len(json.dumps(json_schema(self.kinds)))
        beside = _IMAGE_TOKENS if self.images else 100
        return fixed // 4 + beside + 40, _ANSWER_TOKENS * len(self.kinds) // 10 + 20

    def _cost(self, tokens_in: float, tokens_out: float) -> float:
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6

    def _affordable(self, under_way: int) -> bool:
        """Whether one more request stays within the budget, those under way counted in."""
        if self.max_cost is None:
            return True
        one = self._cost(*self._tokens_of_one())
        if self.usage.requests:  # what requests cost in fact, if that is more
            one = max(one, self.usage.cost / self.usage.requests)
        # An answer that is not in order doubles its image's cost.
        return self.usage.cost + 2 * one * (under_way + 1) <= self.max_cost

    # -- writing -------------------------------------------------------------------------------
    def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
        """Yield each image's id, its captions by kind, and why there are none (else None).

        Raises
        ------
        CaptionError
            If the server refuses the key or the model, asks for too long a pause, or fails again
            and again.
        """
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        self.usage, self.notes = _Usage(), []
        failed: Counter[str] = Counter()
        in_a_row, any_good = 0, False
        fatal: str | None = None
        waiting = iter(image_ids)
        exhausted = False
        n_asked = 0
        known = image_sources(study)
        with Loop() as loop:
            client = AsyncOpenAI(
                api_key=self._key(),
                base_url=self.base_url,
                max_retries=self.retries,
                timeout=self.timeout,
                http_client=DefaultAsyncHttpxClient(event_hooks={"response": [useless_to_repeat]}),
            )
            gate = asyncio.Semaphore(self.concurrency)
            pending: dict[Future[_Result], str] = {}
            try:
                while fatal is None:
                    # More than can be asked at once, so that images are ready when their turn
                    # comes; few enough for memory to stay flat.
                    while not exhausted and len(pending) < 2 * self.concurrency:
                        if not self._affordable(len(pending)):
                            if not pending:
                                exhausted = True
                                self.notes.append(
                                    f"the budget of {self.max_cost:g} is reached: {n_asked} of "
                                    f"{len(image_ids)} images were asked for; "
                                    + ("run again to go on" if n_asked else "give more")
                                )
                            break
                        image_id = next(waiting, None)
                        if image_id is None:
                            exhausted = True
                            break
                        n_asked += 1
                        source = known[image_id]
                        pending[loop.submit(self._one(client, gate, source))] = image_id
                    if not pending:
                        break
                    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        image_id = pending.pop(future)
                        problem = future.exception()
                        if isinstance(problem, Fatal):
                            fatal = str(problem)
                            continue
                        if problem is not None:
                            raise problem
                        result = future.result()
                        if result.error is not None:
                            failed[result.error.split(" (")[0][:60]] += 1
                            # Before the first good answer, the question itself may be at fault.
                            if result.by_server or (result.asked and not any_good):
                                in_a_row += 1
                            elif result.asked:
                                in_a_row = 0
                            if in_a_row >= max(_BROKEN_AFTER, 3 * self.concurrency):
                                fatal = f"{in_a_row} requests in a row failed: {result.error}"
                        else:
                            in_a_row, any_good = 0, True
                        yield image_id, result.captions, result.error
                        # Only now is it written: until then it counts as under way, so that a
                        # crash never loses more answers than there may be requests at once.
                        if result.asked:
                            loop.call(gate.release)
            finally:
                for future in pending:
                    future.cancel()
                loop.close_client(client)
        self.notes.append(self._summary(failed))
        if fatal is not None:
            raise CaptionError(
                f"{fatal}; what was finished is kept: mend this and run the same command again"
            )

    def _summary(self, failed: Counter[str]) -> str:
        used = self.usage
        cost = "" if self.price_in is None else f", {used.cost:.4f} in all"
        parts = [
            f"{used.requests} requests ({used.retries} repeated, {used.repairs} to mend an answer), "
            f"{used.tokens_in} tokens read and {used.tokens_out} written{cost}"
        ]
        parts += [f"{count} × {reason}" for reason, count in failed.most_common(5)]
        return "; ".join(parts)

    def _key(self) -> str:
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and self.base_url is None:
            raise InputError(
                "OPENAI_API_KEY is not set; export it, or name your own server with base_url, e.g. "
                "-o base_url=http://localhost:11434/v1"
            )
        return key or "none"  # local servers ask for no key, the client wants one

    def _clean(self, text: str) -> str:
        """One short line, without the key, which some servers repeat in their errors."""
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        line = " ".join(text.split())
        return (line.replace(key, "…") if len(key) > 3 else line)[:200]

    # -- one image -----------------------------------------------------------------------------
    async def _one(
        self, client: AsyncOpenAI, gate: asyncio.Semaphore, source: Mapping[str, Any]
    ) -> _Result:
        asked = False
        try:
            url = None
            if self.images:
                if source["path"] is None:
                    raise Failed("the study has no image of this image")
                url = await asyncio.to_thread(_read_url, source["path"], self.side)
            elif source["path"] is not None:
                source = {**source, "seen": await asyncio.to_thread(_seen, source["path"])}
            elif not source["label"]:
                raise Failed("there is neither an image nor a label to describe")
            messages = self._messages(source, url)
            await gate.acquire()  # released when the answer is written
            asked = True
            said = await self._ask(client, messages)
            answer = read_answer(said.text, self.kinds, self.language)
            if answer.problems and said.hopeless is None:
                self.usage.repairs += 1
                messages = [
                    *messages,
                    {"role": "assistant", "content": said.text[:4000] or "(nothing)"},
                    {"role": "user", "content": repair_words(answer)},
                ]
                said = await self._ask(client, messages)
                answer = read_answer(said.text, self.kinds, self.language)
            if answer.problems and said.hopeless is not None:
                raise Failed(said.hopeless, by_server=True)
            if answer.problems:
                raise Failed("; ".join(answer.problems)[:400])
            return _Result(answer.captions)
        except CaptionError as problem:  # of the image
            return _Result(error=str(problem), asked=asked)
        except Failed as problem:
            why = self._clean(str(problem))
            return _Result(error=why, by_server=problem.by_server, asked=asked)

    def _messages(self, source: Mapping[str, Any], url: str | None) -> list[dict[str, Any]]:
        label = json.dumps(source["label"], ensure_ascii=False) if source["label"] else None
        if url is not None:
            content: Any = [{"type": "image_url", "image_url": {"url": url}}]
            if label:
                content.insert(0, {"type": "text", "text": f"The study calls the object {label}."})
        else:
            said = [f"The image's label: {label}." if label else "The image has no label."]
            if source.get("seen"):
                said.append(f"Measured in the image: {source['seen']}.")
            said.append("You cannot see it: say only what label and measurements support.")
            content = " ".join(said)
        return [
            {"role": "system", "content": self.instruction.text},
            {"role": "user", "content": content},
        ]

    def _request(self, messages: list[dict[str, Any]], form: int = 0) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model, "messages": messages}
        request[self._length_field] = self.max_tokens
        if self.temperature is not None:
            request["temperature"] = self.temperature
        if form == 0:
            schema = {"name": "captions", "strict": True, "schema": json_schema(self.kinds)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == 1:
            request["response_format"] = {"type": "json_object"}
        return request

    async def _ask(self, client: AsyncOpenAI, messages: list[dict[str, Any]]) -> Said:
        """One answer; the client repeats what the server refuses, and here is what breaks off."""
        for _ in range(self.retries + 1):
            try:
                return await self._once(client, messages)
            except Again as problem:
                self.usage.retries += 1
                reason = str(problem)
        raise self._gave_up(reason)

    def _gave_up(self, reason: str) -> Failed:
        return Failed(f"{reason}, {self.retries + 1} times", by_server=True)

    async def _once(self, client: AsyncOpenAI, messages: list[dict[str, Any]]) -> Said:
        """Make one request."""
        import openai

        form = 0  # what this request has come down to; the others' form is not touched by it
        refusal = ""
        while True:
            form = max(form, self._form)
            request = self._request(messages, form)
            self.usage.requests += 1
            try:
                said = self._said_in(await self._body(client, request))
                if form > self._form and self._form not in self._answered:
                    self._change_form(form, refusal)
                self._answered.add(form)
                return said
            except openai.APITimeoutError:
                raise self._gave_up(f"no answer within {self.timeout:g} s") from None
            except openai.APIConnectionError as problem:
                cause = problem.__cause__ or problem
                raise self._gave_up(self._clean(f"connection failed ({cause})")) from None
            except openai.APIStatusError as problem:
                refusal = self._clean(message_of(problem))
                form = self._refused(problem, request, form)

    async def _body(self, client: AsyncOpenAI, request: dict[str, Any]) -> bytes:
        # The body is read here, not by the client: an endless one must not fill the memory.
        create = client.chat.completions.with_streaming_response.create
        async with create(**request) as response:
            self.usage.requests += response.retries_taken
            self.usage.retries += response.retries_taken
            body = bytearray()
            try:
                async with asyncio.timeout(self.timeout):
                    async for chunk in response.iter_bytes():
                        body += chunk
                        if len(body) > _MAX_BYTES:
                            raise Failed(f"the answer is longer than {_MAX_BYTES >> 20} MiB")
            except (Failed, asyncio.CancelledError):
                raise
            except TimeoutError:
                raise Again(f"no answer within {self.timeout:g} s") from None
            except Exception as problem:  # the client does not wrap what breaks off while reading
                kind = type(problem).__name__
                raise Again(self._clean(f"connection dropped ({problem or kind})")) from None
        return bytes(body)

    def _said_in(self, body: bytes) -> Said:
        """The model's words in a response."""
        try:
            answer = json.loads(body)
            choice = answer["choices"][0]
            message = choice["message"]
            text = message.get("content")
            usage = answer.get("usage") or {}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            start = self._clean(body[:80].decode("utf-8", "replace"))
            raise Again(f"the server's response is no chat completion ({start!r})") from None
        estimate = self._tokens_of_one()
        used = [
            value if isinstance(value := usage.get(name), int) and value >= 0 else guess
            for name, guess in zip(("prompt_tokens", "completion_tokens"), estimate)
        ]
        self.usage.tokens_in += used[0]
        self.usage.tokens_out += used[1]
        self.usage.cost += self._cost(*used)
        if isinstance(text, list):  # some servers answer in parts
            text = "".join(str(p.get("text", "")) for p in text if isinstance(p, dict))
        if message.get("refusal"):
            raise Failed(f"the model refused ({message['refusal']})")
        if choice.get("finish_reason") == "content_filter":
            raise Failed("the server's content filter stopped the answer")
        text = text if isinstance(text, str) else ""
        cut = None
        if choice.get("finish_reason") == "length":
            written = usage.get("completion_tokens")
            cut = (
                f"max_tokens={self.max_tokens}; allow more with -o max_tokens={4 * self.max_tokens}"
            )
            if isinstance(written, int) and 0 < written < self.max_tokens:
                cut = (
                    f"the server after {written} tokens, fewer than max_tokens={self.max_tokens}; "
                    "start it with a longer context"
                )
        # Names that servers give to the words a model thinks.
        fields = ("reasoning_content", "reasoning", "thinking")
        elsewhere = next((name for name in fields if message.get(name)), None)
        return Said(text, cut, elsewhere if not text.strip() else None)

    def _change_form(self, form: int, refusal: str) -> None:
        self.notes.append(
            f"the server refused {_FORMS[self._form]} ({refusal or 'no reason given'}), so answers were "
            f"asked for as {_FORMS[form]}"
        )
        self._form = form

    def _refused(self, problem: Any, request: dict[str, Any], form: int) -> int:
        """Decide what follows from an HTTP error: gives the form to ask for next, or raises."""
        status = int(problem.status_code)
        said = self._clean(message_of(problem))
        if self.images and NO_IMAGES.search(message_of(problem)):
            raise Fatal(
                f"the model '{self.model}' takes no images (the server answered {status}: {said}); "
                "name a vision-language model, or pass -o images=false to caption from labels and "
                "measurements"
            )
        if status in (400, 422):
            low = said.lower()
            if self._length_field in request and "max_completion_tokens" in low:
                self._length_field = "max_completion_tokens"
                return form
            if "temperature" in low and "temperature" in request:
                if self.temperature is not None:
                    self.notes.append(f"the server takes no temperature ({said}); its own was used")
                self.temperature = None
                return form
            if form < len(_FORMS) - 1:
                if any(word in low for word in _FORM_WORDS):
                    if form >= self._form:
                        self._change_form(form + 1, said)
                    return form + 1
                # Servers word it differently. Where no answer came in this form yet, any refusal may
                # mean the form, or this image: the same request in another form will tell.
                if form not in self._answered:
                    return form + 1
            raise Failed(f"the server refused the request ({status}: {said})")
        if status in (401, 403, 404):
            remedy = {
                401: "check OPENAI_API_KEY",
                403: "this key may not use the model",
                404: f"check the model '{self.model}' and base_url",
            }[status]
            raise Fatal(f"the server answered {status} ({said}); {remedy}")
        if status == 429 and "insufficient_quota" in message_of(problem):
            raise Fatal(f"the account's quota is used up ({said})")
        if status in (408, 409, 429) or status >= 500:
            pause = problem.response.headers.get("retry-after", "")
            if pause.isdigit() and int(pause) > _LONGEST_PAUSE:
                raise Fatal(f"the server asks to wait {pause} s before the next request")
            raise self._gave_up(f"the server answered {status} ({said})")
        raise Failed(f"the server answered {status} ({said})")


def _read_url(path: Path, side: int) -> str:
    return data_url(load_image(path, side))


def _seen(path: Path) -> str:
    """What can be measured in an image, in words."""
    from eegprompt.captions.rules import describe, measure

    captions = describe(measure(load_image(path, 256)), None)
    return "; ".join(captions[k] for k in ("ColorTone", "ClarityCue", "LayoutMap", "AngleView"))

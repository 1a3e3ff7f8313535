"""What a model answered: captions by kind, and what is wrong with them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eegprompt.captions.text_quality import is_refusal, text_problem, wrong_language
from eegprompt.core.kinds import KINDS

__all__ = ["Answer", "json_schema", "read_answer", "repair_words"]

_MAX_CHARACTERS = 100_000  # no ten captions are longer; a longer answer is not searched
_MAX_STARTS = 50  # braces and brackets at which JSON is tried

# How models mark what they think before they answer: DeepSeek and Qwen, Magistral, Kimi, gpt-oss.
_NAMES = "think|thinking|thoughts?|reasoning|reflection|seed:think"
_THINKING_BEGINS = re.compile(
    rf"<(?:{_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis",
    re.IGNORECASE,
)
_THINKING_ENDS = re.compile(
    rf"</(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """Captions of one image.

    Parameters
    ----------
    captions : dict of str to str
        Text by kind; whole only where `problems` is empty.
    problems : tuple of str
        What is wrong, a phrase each.
    """

    captions: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def json_schema(kinds: Sequence[str]) -> dict[str, Any]:
    """JSON schema of an answer: an object with one text a kind and nothing else."""
    return {
        "type": "object",
        "properties": {
            kind: {"type": "string", "description": KINDS[kind].instruction} for kind in kinds
        },
        "required": list(kinds),
        "additionalProperties": False,
    }


def read_answer(text: str, kinds: Sequence[str], language: str | None = "en") -> Answer:
    """Read the captions out of a model's answer.

    JSON may stand in a code fence or between other words. Keys are taken whatever their case, and
    an object within an object (``{"captions": {...}}``) or a list of ``{"kind": ..., "text": ...}``
    is opened. Keys that are no kind are passed over. Nothing is cut or made up.

    What a model marks as its thinking (``<think>…</think>``) is no answer, whatever it holds. Where
    the words after it hold two whole sets of captions that differ, neither is taken.

    Parameters
    ----------
    text : str
        The answer.
    kinds : sequence of str
        The kinds that were asked for.
    language : str or None
        What the captions should be in; None takes any.
    """
    if not text.strip():
        return Answer(problems=("the answer is empty",))
    if len(text) > _MAX_CHARACTERS:
        return Answer(problems=(f"the answer has {len(text)} characters",))
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype", "<html", "<?xml")):
        return Answer(problems=("the answer is a web page, not JSON",))
    said = _after_thinking(text)
    if said is None:
        return Answer(problems=("the answer ends before its thinking does",))
    if not said.strip():
        return Answer(problems=("the answer is empty after its thinking",))
    objects = [
        {str(key).strip().lower(): value for key, value in _opened(found).items()}
        for found in _objects(said)
    ]
    if not objects:
        what = "is a refusal" if is_refusal(said[:500]) else "is not a JSON object"
        return Answer(problems=(f"the answer {what} ({_short(said)})",))
    asked = [kind.lower() for kind in kinds]
    sets = [{kind: given[kind] for kind in asked} for given in objects if given.keys() >= {*asked}]
    if any(one != sets[0] for one in sets):
        return Answer(problems=(f"the answer holds {len(sets)} sets of captions that differ",))
    given = sets[0] if sets else objects[0]
    captions: dict[str, str] = {}
    problems: list[str] = []
    for kind in kinds:
        value = given.get(kind.lower())
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is None:
            problems.append(f"{kind} is missing")
        elif not isinstance(value, str):
            problems.append(f"{kind} is {type(value).__name__}, not text")
        elif wrong := text_problem(value):
            problems.append(f"{kind} {wrong} ({_short(value)})")
        else:
            captions[kind] = " ".join(value.split()).strip('"“”')
    seen: dict[str, str] = {}
    for kind, caption in captions.items():
        twin = seen.setdefault(caption.lower().strip(" ."), kind)
        if twin != kind:
            problems.append(f"{kind} is a copy of {twin}")
    if language and (wrong := wrong_language(captions.values(), language)):
        problems.append(f"the captions are not in '{language}': {wrong}")
    return Answer(captions, tuple(problems))


def repair_words(answer: Answer) -> str:
    """What a model is told when its answer is not in order: once, then the image has failed."""
    wrong = "; ".join(answer.problems)[:1000]
    return (
        f"This is not in order: {wrong}. Answer again with the whole JSON object and nothing else."
    )


def _short(text: str) -> str:
    return repr(" ".join(text.split())[:60])


def _after_thinking(text: str) -> str | None:
    """What a model says after it has thought; None if its thinking does not end.

    The mark of the beginning may be missing: some servers put it into the question.
    """
    said = text
    for end in _THINKING_ENDS.finditer(text):
        said = text[end.end() :]
    return None if _THINKING_BEGINS.search(said) else said


def _objects(text: str) -> list[Any]:
    """JSON objects, and lists of objects, in a text, in their order."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    position = 0
    for _ in range(_MAX_STARTS):
        start = _STARTS.search(text, position)
        if start is None:
            break
        try:
            value, position = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.end()
            continue
        if value and (isinstance(value, dict) or isinstance(value[0], dict)):
            found.append(value)
    return found


_STARTS = re.compile(r"[{\[]")


def _opened(found: Any) -> Mapping[str, Any]:
    """Captions by kind, out of the forms in which models give them."""
    if isinstance(found, list):
        pairs: dict[str, Any] = {}
        for item in found:
            if isinstance(item, Mapping) and "kind" in item:
                pairs[str(item["kind"])] = item.get("text", item.get("caption"))
            elif isinstance(item, Mapping):
                pairs.update({str(k): v for k, v in item.items()})
        return pairs
    if not isinstance(found, Mapping):
        return {}
    known = {kind.lower() for kind in KINDS}
    if not any(str(k).strip().lower() in known for k in found):
        for value in found.values():
            if isinstance(value, (Mapping, list)):
                return _opened(value) if isinstance(value, list) else value
    return found

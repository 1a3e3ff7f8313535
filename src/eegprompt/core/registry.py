"""From a user's string to the code that serves it, imported only when asked for.

``resolve("generator", "diffusers:stabilityai/sdxl-turbo")`` gives the class that ``diffusers``
names and the argument after the colon. An entry is ``"module:object"``; nothing is imported until
it is resolved, so listing what exists costs nothing.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterable
from typing import Any

from eegprompt.core.errors import EegpromptError, UnknownNameError

__all__ = ["GROUPS", "check_options", "forms", "names", "register", "resolve"]

GROUPS: dict[str, dict[str, str]] = {
    "reader": {
        "alljoined": "eegprompt.readers.alljoined:AlljoinedReader",
        "bids": "eegprompt.readers.bids:BidsReader",
        "continuous": "eegprompt.readers.continuous:ContinuousReader",
        "eegcvpr": "eegprompt.readers.eegcvpr:EegcvprReader",
        "eegcvpr-hf": "eegprompt.readers.eegcvpr_hf:EegcvprHfReader",
        "eegcvpr40": "eegprompt.readers.eegcvpr40:Eegcvpr40Reader",
        "mne": "eegprompt.readers.mne:MneEpochsReader",
        "things-eeg2": "eegprompt.readers.things_eeg2:ThingsEeg2Reader",
        "thoughtviz": "eegprompt.readers.thoughtviz:ThoughtVizReader",
    },
    "captioner": {
        "chat": "eegprompt.captions.chat:ChatCaptioner",
        "file": "eegprompt.captions.file:FileCaptioner",
        "local": "eegprompt.captions.local:LocalCaptioner",
        "rules": "eegprompt.captions.rules:RulesCaptioner",
    },
    "text encoder": {
        "builtin": "eegprompt.text_encoders.builtin:builtin_text_encoder",
        "clip": "eegprompt.text_encoders.clip:ClipTextEncoder",
        "sentence-transformers": "eegprompt.text_encoders.sentence_transformers:SentenceEncoder",
        "images": "eegprompt.text_encoders.images:ImageTargets",
    },
    "encoder": {
        "braindecode": "eegprompt.encoders.braindecode:BraindecodeEncoder",
        "fused": "eegprompt.encoders.fused:FusedEncoder",
        "ridge": "eegprompt.encoders.ridge:RidgeEncoder",
        "transformer": "eegprompt.encoders.transformer:EEGTransformer",
    },
    "objective": {
        "clip": "eegprompt.training.objectives:ClipObjective",
        "clip-single": "eegprompt.training.objectives:SinglePositiveClipObjective",
        "mse": "eegprompt.training.objectives:MseObjective",
        "siglip": "eegprompt.training.objectives:SiglipObjective",
    },
    "generator": {
        "builtin": "eegprompt.generators.builtin:builtin_generator",
        "diffusers": "eegprompt.generators.diffusers:DiffusersGenerator",
        "nearest": "eegprompt.generators.nearest:NearestGenerator",
        "server": "eegprompt.generators.server:ServerGenerator",
    },
    "features": {
        "builtin": "eegprompt.features.builtin:BuiltinFeatures",
        "pretrained": "eegprompt.features.pretrained:PretrainedFeatures",
    },
    "split": {
        "by-image": "eegprompt.splits.by_image:by_image",
        "by-run": "eegprompt.splits.by_run:by_run",
        "by-subject": "eegprompt.splits.by_subject:by_subject",
        "cross-session": "eegprompt.splits.cross_session:cross_session",
        "forward-in-block": "eegprompt.splits.forward_in_block:forward_in_block",
        "leave-classes-out": "eegprompt.splits.leave_classes_out:leave_classes_out",
        "leave-one-session-out": "eegprompt.splits.leave_one_session_out:leave_one_session_out",
        "official": "eegprompt.splits.official:official",
    },
}

# How names are shown that need an argument.
_FORMS = {
    "captioner": {"chat": "chat:MODEL", "file": "file:PATH", "local": "local:MODEL"},
    "generator": {"diffusers": "diffusers:MODEL", "server": "server:URL"},
    "text encoder": {
        "clip": "clip:MODEL",
        "sentence-transformers": "sentence-transformers:MODEL",
    },
}


def forms(group: str) -> list[str]:
    """Names of a group as a user types them: those that need an argument show it.

    Examples
    --------
    >>> "diffusers:MODEL" in forms("generator")
    True
    """
    shown = _FORMS.get(group, {})
    return [shown.get(name, name) for name in names(group)]


def names(group: str) -> list[str]:
    """Names that exist in a group, sorted."""
    if group not in GROUPS:
        raise UnknownNameError("registry group", group, sorted(GROUPS))
    return sorted(GROUPS[group])


def register(group: str, name: str, target: str) -> None:
    """Add an entry of one's own.

    Parameters
    ----------
    group : str
        One of :data:`GROUPS`.
    name : str
        What a user types; without a colon.
    target : str
        ``"package.module:object"``; imported when the name is first used.

    Raises
    ------
    EegpromptError
        If the name is taken by another target, or the target is not of that form.
    """
    if ":" in name or target.count(":") != 1:
        raise EegpromptError(
            f"cannot register '{name}' as '{target}': a name holds no colon and a target is "
            "'package.module:object'"
        )
    entries = GROUPS.setdefault(group, {})
    if entries.get(name, target) != target:
        raise EegpromptError(f"the {group} '{name}' exists already as {entries[name]}")
    entries[name] = target


def resolve(group: str, spec: str) -> tuple[Any, str | None]:
    """Import what a user's string names.

    Parameters
    ----------
    group : str
        One of :data:`GROUPS`.
    spec : str
        ``NAME`` or ``NAME:ARGUMENT``; the argument may hold further colons.

    Returns
    -------
    target : object
        The class or function behind the name.
    argument : str or None
        What came after the first colon.

    Raises
    ------
    UnknownNameError
        If the name is not in the group.
    """
    name, _, argument = spec.partition(":")
    names(group)
    if name not in GROUPS[group]:
        raise UnknownNameError(group, name, forms(group))
    module, _, attribute = GROUPS[group][name].partition(":")
    return getattr(importlib.import_module(module), attribute), argument or None


def check_options(
    target: Any, given: Iterable[str], what: str, *, beside: Collection[str] = ("progress",)
) -> None:
    """Refuse an option that a class or function does not take, instead of failing inside it.

    Parameters
    ----------
    target : callable
        Its keyword-only parameters are its options; one with ``**options`` checks them itself.
    given : iterable of str
        Names of options.
    what : str
        What takes them, for the message, e.g. ``"the captioner 'chat'"``.
    beside : collection of str
        Keyword-only parameters that are no options of a user.

    Raises
    ------
    UnknownNameError
        With a suggestion and those that exist.

    Examples
    --------
    >>> def draw(prompt, *, steps=4, guidance=0.0): ...
    >>> check_options(draw, ["steps"], "the generator 'x'")
    >>> check_options(draw, ["step"], "the generator 'x'")
    Traceback (most recent call last):
    eegprompt.core.errors.UnknownNameError: unknown option of the generator 'x': 'step'; did you mean ...
    """
    parameters = inspect.signature(target).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in beside]
    for name in given:
        if name not in allowed:
            raise UnknownNameError(f"option of {what}:", name, sorted(allowed))

"""From a user's string to the code that serves it, imported only when asked for.

``resolve("generator", "diffusers:stabilityai/sdxl-turbo")`` gives the class that ``diffusers``
names and the argument after the colon. An entry is ``"module:object"``; nothing is imported until
it is resolved, so listing what exists costs nothing.

Parts of one's own need no change of this package: ``module:Class`` (or ``module:Class:ARGUMENT``)
is taken wherever a name is, of any module that Python can import; and an installed package may name
its parts by entry points, one group for each of :data:`ENTRY_POINTS`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

from eegprompt.core.errors import EegpromptError, InputError, UnknownNameError

__all__ = [
    "ENTRY_POINTS",
    "GROUPS",
    "check_name",
    "check_options",
    "forms",
    "installed",
    "names",
    "own_object",
    "register",
    "resolve",
]

GROUPS: dict[str, dict[str, str]] = {
    # in the order of the report
    "analysis": {
        "patterns": "eegprompt.analyses.patterns:Patterns",
        "attribution": "eegprompt.analyses.attribution:Attributed",
        "timecourse": "eegprompt.analyses.timecourse:Timecourse",
        "levels": "eegprompt.analyses.levels:Levels",
        "sanity": "eegprompt.analyses.sanity:Sanity",
        "localization": "eegprompt.analyses.localization:Localization",
        "geometry": "eegprompt.analyses.geometry:Geometry",
        "confidence": "eegprompt.analyses.confidence:Confidence",
        "contribution": "eegprompt.analyses.contribution:Contribution",
    },
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
        "adapted": "eegprompt.encoders.adapted:AdaptedEncoder",
        "atm": "eegprompt.encoders.atm:AtmEncoder",
        "braindecode": "eegprompt.encoders.braindecode:BraindecodeEncoder",
        "fused": "eegprompt.encoders.fused:FusedEncoder",
        "nice": "eegprompt.encoders.nice:NiceEncoder",
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
    "metric": {},  # of one's own; those of eegprompt lie in eegprompt.metrics
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
    "encoder": {"braindecode": "braindecode:MODEL"},
    "captioner": {"chat": "chat:MODEL", "file": "file:PATH", "local": "local:MODEL"},
    "generator": {"diffusers": "diffusers:MODEL", "server": "server:URL"},
    "text encoder": {
        "clip": "clip:MODEL",
        "sentence-transformers": "sentence-transformers:MODEL",
    },
}


ENTRY_POINTS = {
    "reader": "eegprompt.readers",
    "captioner": "eegprompt.captioners",
    "text encoder": "eegprompt.text_encoders",
    "encoder": "eegprompt.encoders",
    "objective": "eegprompt.objectives",
    "generator": "eegprompt.generators",
    "features": "eegprompt.features",
    "split": "eegprompt.splits",
    "metric": "eegprompt.metrics",
    "analysis": "eegprompt.analyses",
    "prompt source": "eegprompt.sources",
}
"""Groups of entry points in which an installed package names its parts."""

# What a part of one's own derives from. A name from a settings file must not call just anything.
_BASES = {
    "reader": "eegprompt.readers.base:Reader",
    "analysis": "eegprompt.analyses.base:Analysis",
    "captioner": "eegprompt.captions.base:Captioner",
    "text encoder": "eegprompt.text_encoders.base:TextEncoder",
    "generator": "eegprompt.generators.base:Generator",
    "encoder": "torch.nn:Module",
}
# What makes a part of one's own fit for its group.
_ADAPTED = {"encoder": "eegprompt.encoders.own:adapted"}
_OWN = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)(?::(.*))?", re.DOTALL)


@cache
def installed(group: str) -> dict[str, str]:
    """Parts that installed packages name by entry points: ``"module:object"`` by name."""
    from importlib.metadata import entry_points

    return {p.name: p.value for p in entry_points(group=ENTRY_POINTS[group])}


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
    return sorted({**installed(group), **GROUPS[group]})


def check_name(group: str, spec: str) -> None:
    """Refuse a name that is neither in a group nor of the form ``module:Class``; imports nothing.

    Raises
    ------
    UnknownNameError
        If it is neither.
    """
    if spec.partition(":")[0] not in names(group) and not _OWN.fullmatch(spec):
        raise UnknownNameError(group, spec.partition(":")[0], [*forms(group), "module:Class"])


def own_object(what: str, spec: str, allowed: Iterable[str] = ()) -> Any:
    """Import an object of one's own.

    Parameters
    ----------
    what : str
        What it is, for messages.
    spec : str
        ``module:object``.
    allowed : iterable of str
        Names that exist beside, for messages.

    Raises
    ------
    UnknownNameError
        If it is not of that form, or there is no such module or object.
    InputError
        If the module cannot be imported.
    """
    found = _OWN.fullmatch(spec)
    if found is None:
        raise UnknownNameError(what, spec, [*allowed, "module:object"])
    name = found[1]
    try:
        module = importlib.import_module(name)
    except Exception as problem:
        if isinstance(problem, ModuleNotFoundError) and f"{name}.".startswith(f"{problem.name}."):
            raise UnknownNameError(what, spec, [*allowed, "module:object"]) from None
        said = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        raise InputError(f"the module '{name}' of the {what} cannot be imported ({said})") from None
    if not hasattr(module, found[2]):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UnknownNameError(f"{what} of module '{name}'", found[2], public)
    return getattr(module, found[2])


def _own_part(group: str, spec: str) -> Any:
    """A part of one's own, if it is what its group needs."""
    target = own_object(group, spec, forms(group))
    if group in _BASES:
        module, _, name = _BASES[group].partition(":")
        base = getattr(importlib.import_module(module), name)
        if not (isinstance(target, type) and issubclass(target, base)):
            raise InputError(
                f"the {group} '{spec}' must be a class that derives from {module}.{name}"
            )
    elif group == "split" and next(iter(_parameters(target)), "") != "study":
        raise InputError(f"the split '{spec}' must be a function whose first parameter is 'study'")
    elif not callable(target):
        raise InputError(f"the {group} '{spec}' cannot be called; name a class or a function")
    if group in _ADAPTED:
        module, _, name = _ADAPTED[group].partition(":")
        target = getattr(importlib.import_module(module), name)(target)
    return target


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Parameters of a function, empty of what has none."""
    try:
        return dict(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return {}


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
        ``NAME`` or ``NAME:ARGUMENT``, ``module:Class`` or ``module:Class:ARGUMENT``; the argument
        may hold further colons.

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
    InputError
        If a part of one's own cannot be imported, or is not what the group needs.
    """
    name, _, argument = spec.partition(":")
    check_name(group, spec)
    if name in GROUPS[group]:
        module, _, attribute = GROUPS[group][name].partition(":")
        return getattr(importlib.import_module(module), attribute), argument or None
    if name in installed(group):
        return _own_part(group, installed(group)[name]), argument or None
    own = _OWN.fullmatch(spec)
    assert own is not None
    return _own_part(group, f"{own[1]}:{own[2]}"), own[3] or None


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

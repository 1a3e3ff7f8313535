"""Generators draw pictures from prompts; each is one file, named in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eegprompt.errors import InputError, UnknownNameError
from eegprompt.registry import resolve

if TYPE_CHECKING:
    from eegprompt.protocols import Generator

__all__ = ["load_generator"]


def load_generator(spec: str, **options: Any) -> Generator:
    """Load the generator a user's string names.

    Parameters
    ----------
    spec : str
        ``builtin``; ``diffusers:MODEL`` with a folder or a name on huggingface.co; ``nearest``;
        or ``server:URL``.
    **options
        Go to the generator, e.g. ``steps``, ``guidance``, ``height``, ``width``, ``device``,
        ``dtype``, ``revision``; what each takes is said at its class.

    Raises
    ------
    UnknownNameError
        If there is no such generator.
    ModelLoadError
        If the model cannot be loaded.
    InputError
        If the generator does not take an option.
    """
    target, argument = resolve("generator", spec)
    try:
        return target(argument, **options)
    except TypeError as problem:
        if "unexpected keyword" not in str(problem):
            raise
        raise InputError(
            f"the generator '{spec}' does not take these options: {_unknown(problem, target)}"
        ) from None


def _unknown(problem: TypeError, target: object) -> str:
    """What a constructor did not take, in words, with what it takes."""
    from inspect import signature

    def options(made: object) -> list[str]:
        every = signature(made).parameters.values()  # type: ignore[arg-type]
        return [p.name for p in every if p.kind is p.KEYWORD_ONLY]

    # The built-in one hands its options on to diffusers'.
    allowed = options(target) or options(resolve("generator", "diffusers")[0])
    return str(UnknownNameError("option", str(problem).split("'")[-2], allowed))

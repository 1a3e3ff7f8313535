"""Generators draw images from prompts; each is one file, named in the registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eegprompt.core.registry import check_options, resolve

if TYPE_CHECKING:
    from eegprompt.generators.base import Generator

__all__ = ["check_generator_options", "load_generator"]


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
        If there is no such generator, or it has no such option.
    ModelLoadError
        If the model cannot be loaded.
    """
    check_generator_options(spec, options)
    target, argument = resolve("generator", spec)
    generator: Generator = target(argument, **options)
    return generator


def check_generator_options(spec: str, options: Iterable[str]) -> None:
    """Refuse an option that the generator a user's string names does not take; loads nothing.

    Raises
    ------
    UnknownNameError
        If there is no such generator or option.
    """
    target, _ = resolve("generator", spec)
    name = spec.partition(":")[0]
    if name == "builtin":  # hands its options on
        target, _ = resolve("generator", "diffusers")
    check_options(target, options, f"the generator '{name}'")

"""The built-in generator: a small latent-diffusion pipeline trained on the built-in scenes."""

from __future__ import annotations

from typing import Any

from eegprompt.builtin.models import pipeline_folder, read_defaults
from eegprompt.core.errors import InputError
from eegprompt.generators.diffusers import DiffusersGenerator

__all__ = ["builtin_generator"]


def builtin_generator(argument: str | None = None, **options: Any) -> DiffusersGenerator:
    """The pipeline that comes with the package.

    Parameters
    ----------
    argument : None
        The built-in model takes none.
    **options
        See :class:`DiffusersGenerator`.
    """
    if argument:
        raise InputError(f"the generator 'builtin' takes no argument, got '{argument}'")
    # Four at a time are nearly twice as fast as one on a CPU, and more are no faster.
    settings: dict[str, Any] = {**read_defaults(), "batch_size": 4}
    settings |= {name: value for name, value in options.items() if value is not None}
    generator = DiffusersGenerator(str(pipeline_folder()), **settings)
    generator.name = "builtin"
    return generator

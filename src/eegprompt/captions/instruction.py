"""What a captioner is told: a text file with a version, which a researcher can read and replace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eegprompt.core.errors import CaptionError
from eegprompt.core.files import content_key
from eegprompt.core.kinds import KINDS

__all__ = ["DEFAULT_INSTRUCTION", "Instruction", "load_instruction"]

DEFAULT_INSTRUCTION = Path(__file__).with_name("instructions") / "ten-kinds.md"
_VERSION = re.compile(r"version:\s*([A-Za-z0-9._-]+)\s*")


@dataclass(frozen=True)
class Instruction:
    """An instruction, ready to be sent.

    Parameters
    ----------
    version : str
        What the file says of itself, and a key of what is sent: a changed text has another version
        even if its author forgot to say so.
    text : str
        What is sent.
    """

    version: str
    text: str


def load_instruction(
    path: str | Path | None = None, kinds: Sequence[str] | None = None
) -> Instruction:
    """Read an instruction file.

    Parameters
    ----------
    path : path-like, optional
        Default the one in the package, :data:`DEFAULT_INSTRUCTION`. Its first line is
        ``version: NAME``; in the rest, ``{kinds}`` stands for the list of kinds with what each
        says, and ``{names}`` for their names.
    kinds : sequence of str, optional
        The kinds that are asked for; default all.

    Raises
    ------
    CaptionError
        If the file is missing, is not UTF-8, has no version, or does not hold ``{kinds}``.
    """
    file = Path(path) if path else DEFAULT_INSTRUCTION
    kinds = tuple(KINDS) if kinds is None else kinds
    try:
        first, _, body = file.read_text("utf-8-sig").partition("\n")
    except FileNotFoundError:
        raise CaptionError(
            f"the instruction file {file} does not exist; copy and change {DEFAULT_INSTRUCTION}"
        ) from None
    except (UnicodeDecodeError, OSError) as problem:
        raise CaptionError(f"the instruction file {file} cannot be read ({problem})") from None
    match = _VERSION.fullmatch(first.strip())
    if match is None:
        raise CaptionError(
            f"{file} must begin with a line 'version: NAME', got {first[:60]!r}; {DEFAULT_INSTRUCTION} "
            "is an example"
        )
    if "{kinds}" not in body:
        raise CaptionError(
            f"{file} must hold {{kinds}} where the list of caption kinds shall stand"
        )
    listed = "\n".join(
        f"- {name} ({KINDS[name].level.value} level): {KINDS[name].instruction}" for name in kinds
    )
    # Not str.format: a file may hold braces of its own, e.g. an example in JSON.
    text = body.strip().replace("{kinds}", listed).replace("{names}", ", ".join(kinds))
    return Instruction(f"{match[1]}-{content_key(text, length=8)}", text)

"""Settings of a reader: checked before a file is opened, with errors in words."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from eegprompt.errors import InputError, UnknownNameError

__all__ = ["ReaderOptions"]


class ReaderOptions(BaseModel):
    """Base of every reader's settings: unknown names are refused, values cannot change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,  # a subject called 1 comes from a command line as a number
        hide_input_in_errors=True,
    )

    @classmethod
    def parse(cls, options: dict[str, Any]) -> Self:
        """Check settings; all that is wrong is said at once.

        Raises
        ------
        InputError
            If a setting is unknown (with a suggestion) or its value is not allowed.
        """
        try:
            return cls(**options)
        except ValidationError as problem:
            sentences = []
            for error in problem.errors():
                where = ".".join(str(p) for p in error["loc"])
                if error["type"] == "extra_forbidden":
                    sentences.append(str(UnknownNameError("option", where, cls.model_fields)))
                elif error["type"] == "value_error":
                    sentences.append(str(error["ctx"]["error"]))
                else:
                    sentences.append(
                        f"option '{where}': {error['msg']}, got {error.get('input')!r}"
                    )
            raise InputError("; ".join(dict.fromkeys(sentences))) from None

"""Settings of a reader: checked before a file is opened, with errors in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from eegprompt.study import Study

from collections.abc import Mapping
from types import UnionType
from typing import ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from eegprompt.core.errors import InputError, UnknownNameError

__all__ = ["Reader", "ReaderOptions"]


class ReaderOptions(BaseModel):
    """Base of every reader's settings: unknown names are refused, values cannot change.

    What may be several can be given as one, or as a text with commas, as a command line has it;
    what gives names to names, as a text like ``T3=T7,T5=P7``.

    Examples
    --------
    >>> class Options(ReaderOptions):
    ...     subjects: tuple[str, ...] | None = None
    ...     rename: dict[str, str] = {}
    >>> Options.parse({"subjects": 7, "rename": {3: "T7"}})
    Options(subjects=('7',), rename={'3': 'T7'})
    >>> Options.parse({"subjects": "01, 02"}).subjects
    ('01', '02')
    >>> Options.parse({"rename": "T3=T7, T5=P7"}).rename
    {'T3': 'T7', 'T5': 'P7'}
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,  # a subject called 1 comes from a command line as a number
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_several(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        result = dict(values)
        for name, value in values.items():
            field = cls.model_fields.get(name)
            kinds = _alternatives(field.annotation) if field is not None else []
            if any(get_origin(k) is tuple and Ellipsis in get_args(k) for k in kinds):
                if isinstance(value, str):
                    result[name] = tuple(part for p in value.split(",") if (part := p.strip()))
                elif isinstance(value, (int, float, Path)):
                    result[name] = (value,)
            elif isinstance(value, Mapping):
                result[name] = {str(key): entry for key, entry in value.items()}
            elif isinstance(value, str) and any(get_origin(k) is dict for k in kinds):
                result[name] = _pairs_in(value, Path in kinds)
        return result

    not_offered: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def offered(cls) -> dict[str, FieldInfo]:
        """The settings that a person can give; a reader may refuse some that it inherits."""
        return {name: f for name, f in cls.model_fields.items() if name not in cls.not_offered}

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
                    sentences.append(str(UnknownNameError("option", where, cls.offered())))
                elif error["type"] == "value_error":
                    sentences.append(str(error["ctx"]["error"]))
                else:
                    sentences.append(
                        f"option '{where}': {error['msg']}, got {error.get('input')!r}"
                    )
            raise InputError("; ".join(dict.fromkeys(sentences))) from None


def _pairs_in(text: str, or_path: bool) -> Any:
    """A mapping from a text of pairs; the text itself where it is none, or may be a path and is."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        return text
    if or_path and Path(text).exists():
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}


def _alternatives(annotation: Any) -> list[Any]:
    """What an annotation allows: the parts of ``A | B``, or itself."""
    if get_origin(annotation) in (Union, UnionType):
        return list(get_args(annotation))
    return [annotation]


@runtime_checkable
class Reader(Protocol):
    """Turns files of one kind into a study."""

    name: str

    def read(self, source: Path, out: Path, **options: Any) -> Study:
        """Import `source` into a new study folder `out`; a failure leaves no half study."""
        ...

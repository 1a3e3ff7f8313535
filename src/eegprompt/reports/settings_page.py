"""All settings of an experiment with their defaults and meanings, as the code has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eegprompt.core.registry import forms
from eegprompt.settings import ExperimentConfig

__all__ = ["Setting", "list_settings", "settings_page"]

# Settings whose values are names in the registry: what exists is listed with them.
_NAMES = {
    "encoder.name": "encoder",
    "training.objective": "objective",
    "text_encoder": "text encoder",
    "generation.generator": "generator",
    "evaluation.features": "features",
}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Parameters
    ----------
    key : str
        As it is written before the ``=``.
    default : str
        As it would be written behind it; empty where there is none.
    allowed : str
        What may stand there, in words; empty where anything of the default's type may.
    meaning : str
        What it decides.
    """

    key: str
    default: str
    allowed: str
    meaning: str


def list_settings() -> list[Setting]:
    """All settings, in the order of the code: single ones first, then group by group.

    Returns
    -------
    list of Setting
    """
    fields = ExperimentConfig.model_fields
    single = [
        _setting(name, field) for name, field in fields.items() if _group(field.annotation) is None
    ]
    grouped = [
        _setting(f"{name}.{inner}", of)
        for name, field in fields.items()
        if (group := _group(field.annotation)) is not None
        for inner, of in group.model_fields.items()
    ]
    return single + grouped


def settings_page() -> str:
    """The page ``docs/settings.md``.

    Returns
    -------
    str
        Markdown.
    """
    lines = [
        "# Settings",
        "",
        "Every setting of an experiment can be given on the command line as `key=value`, in a recipe,",
        "or in the file that `--config` names. Values are read as YAML: `training.epochs=5`,",
        "`generation.sources=[eeg, noise]`, `decoding.abstain=null`. Settings under `decoding` and",
        "`generation` may change after training (`eegprompt decode RUN key=value`, `eegprompt generate",
        "RUN key=value`), those under `evaluation` before `eegprompt evaluate RUN`.",
        "",
        "This page is written by `eegprompt settings --markdown > docs/settings.md`, and a test",
        "compares it with the code.",
    ]
    group = None
    for setting in list_settings():
        mine = setting.key.rpartition(".")[0]
        if mine != group:
            group = mine
            title = f"`{group}`" if group else "The experiment"
            lines += ["", f"## {title}", ""]
            if group:
                model = _group(ExperimentConfig.model_fields[group].annotation)
                assert model is not None
                lines += [str(model.__doc__).strip().splitlines()[0], ""]
            lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
        cells = (
            f"`{setting.key}`",
            f"`{setting.default}`" if setting.default else "–",
            setting.allowed,
            setting.meaning,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _group(annotation: Any) -> type[BaseModel] | None:
    """The settings inside a group; None for a single setting."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _setting(key: str, field: FieldInfo) -> Setting:
    default = "" if field.is_required() else _written(field.get_default(call_default_factory=True))
    return Setting(key, default, _allowed(key, field), field.description or "")


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]


def _allowed(key: str, field: FieldInfo) -> str:
    if key in _NAMES:
        return ", ".join(forms(_NAMES[key]))
    kinds = get_args(field.annotation)
    if get_origin(field.annotation) is Literal:
        return ", ".join(str(kind) for kind in kinds)
    words = []
    for limit in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            bound = getattr(limit, name, None)
            if bound is not None:
                words.append(f"{sign} {bound}")
    if type(None) in kinds:
        words.append("or null" if words else "null")
    return " ".join(words)

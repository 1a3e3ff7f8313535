"""How to repeat the run: commands, settings, and where each piece came from."""

from __future__ import annotations

from typing import Any

from eegprompt.reports.contents import Material
from eegprompt.reports.sections import Section

__all__ = ["build"]

_NOT_FACTS = {
    "packages",
    "platform",
    "command",
    "created",
    "allowed_leakage",
}  # the last stands at the head


def build(material: Material) -> Section:
    """Settings and provenance."""
    run = material.first
    settings = (run.run.path / "config.yaml").read_text("utf-8")
    steps = [
        {
            "label": each.label,
            "name": name,
            "created": str(step.get("created", "")).replace("T", " ").replace("+00:00", " UTC"),
            "command": str(step.get("command", "")),
            "facts": [(k, _short(v)) for k, v in step.items() if k not in _NOT_FACTS],
        }
        for each in material.runs
        for name, step in each.provenance.items()
        if isinstance(step, dict)
    ]
    return Section(
        "repeat",
        "How to repeat this",
        {
            "settings": settings,
            "folds": len(material.runs) if material.over_folds else 0,
            "steps": steps,
            "commands": list(dict.fromkeys(s["command"] for s in steps if s["command"])),
            "platforms": sorted(
                {
                    str(step.get("platform"))
                    for each in material.runs
                    for step in each.provenance.values()
                    if isinstance(step, dict) and step.get("platform")
                }
            ),
        },
        short="Repeat",
    )


def _short(value: Any) -> str:
    text = (
        ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    )
    return text if len(text) <= 200 else text[:197] + "…"

"""The steps of a signal in words."""

from __future__ import annotations

from typing import Any

__all__ = ["step_in_words"]


def filters(steps: list[dict[str, Any]]) -> str:
    """Which frequencies were kept and removed, whoever did it."""
    words = []
    for step in steps:
        if step.get("name") == "band-pass":
            low, high = step.get("low"), step.get("high")
            edges = [
                f"{word} {edge:g} Hz"
                for word, edge in (("from", low), ("to", high))
                if edge is not None
            ]
            words.append(" ".join(edges) or "of unknown edges")
        elif step.get("name") in ("highpass", "lowpass") and step.get("hz") is not None:
            words.append(f"{'from' if step['name'] == 'highpass' else 'to'} {step['hz']:g} Hz")
        elif step.get("name") == "notch":
            words.append("without " + ", ".join(f"{f:g} Hz" for f in step.get("frequencies", ())))
    return ", ".join(words) or "none on record"


def step_in_words(step: dict[str, Any]) -> str:
    """One step of a study's processing in words; what is not known of it is left out.

    Examples
    --------
    >>> step_in_words({"name": "crop", "tmin": 0.02, "tmax": None, "lengths_kept": [450, 600]})
    'crop (tmin 0.02, lengths kept 450, 600)'
    """
    details = ", ".join(
        f"{k.replace('_', ' ')} {_value_in_words(v)}"
        for k, v in step.items()
        if k != "name" and v is not None
    )
    return f"{step.get('name', '?')} ({details})" if details else str(step.get("name", "?"))


def _value_in_words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value_in_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

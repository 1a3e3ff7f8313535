"""A page for one decoding: its EEG, what each head retrieved from it, the prompt, the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError
from eegprompt.core.files import write_page
from eegprompt.core.kinds import KINDS
from eegprompt.reports.contents import RunMaterial, json_list
from eegprompt.reports.data_uris import data_uri, figure_uri
from eegprompt.reports.wording import SOURCES, fixed, plural
from eegprompt.run import Run

if TYPE_CHECKING:
    from eegprompt.analyses._one_trial import TrialExplanation

__all__ = ["write_trial_page"]

_HERE = Path(__file__).parent
_NAMES = {
    "eeg": "From EEG",
    "floor": "Floor: from random captions",
    "ceiling": "Ceiling: from the true captions",
}


@dataclass(frozen=True)
class _Phrase:
    """A piece of the prompt; `head` is empty for what joins phrases."""

    text: str
    head: str = ""
    level: str = ""
    number: int = 0
    right: bool = False


def write_trial_page(
    run: Run, explanation: TrialExplanation, out: str | Path | None = None
) -> Path:
    """Write a page for one decoding: one HTML file that needs nothing beside it.

    Parameters
    ----------
    run : Run
        A decoded run.
    explanation : TrialExplanation
        Of one of its test trials.
    out : path-like, optional
        The file to write; ``explain/trial-ID.html`` in the run's folder by default.

    Returns
    -------
    pathlib.Path
        The file.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    trial_id = explanation.trial_id
    material = RunMaterial(run)
    numbers = {one.head: i for i, one in enumerate(explanation.heads, 1)}
    right = {s.head: bool(s.candidates and s.candidates[0].right) for s in explanation.heads}
    prompt = _prompt(material, trial_id)
    kept = json_list(prompt.get("kept"))
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(fixed=fixed, plural=plural)
    known = material.study is None or material.study.image_identity == "known"
    page = environment.get_template("trial.html.jinja").render(
        style=(_HERE / "templates" / "style.css").read_text("utf-8"),
        trial=explanation,
        study=material.study.name if material.study is not None else "",
        run=run.path.name,
        known=known,
        images=_images(material, explanation.image_id, trial_id, known),
        phrases=_phrases(str(prompt.get("text", "")), kept, numbers, right),
        prompt=prompt,
        dropped=[d for d in json_list(prompt.get("dropped")) if isinstance(d, dict)],
        in_prompt={str(k.get("head")) for k in kept if isinstance(k, dict)},
        numbers=numbers,
        level_of={name: kind.level.value for name, kind in KINDS.items()},
        says={name: kind.says for name, kind in KINDS.items()},
        figures=[
            (found[0], p.caption, found[1])
            for p in explanation.figures
            if (found := figure_uri(p.png)) is not None
        ],
        error=max((one.error for one in explanation.heads), default=0.0),
        simulated=bool(material.study is not None and "simulation" in material.study.info),
    )
    path = Path(out) if out is not None else run.path / "explain" / f"trial-{trial_id:06d}.html"
    return write_page(path, page, run.path)


def _prompt(material: RunMaterial, trial_id: int) -> dict[str, Any]:
    """The decoded prompt's row; empty if there is none."""
    if material.prompts is None:
        return {}
    table = material.prompts
    rows = table[(table["trial_id"] == trial_id) & (table["source"] == "eeg")].to_dict("records")
    return {str(k): v for k, v in rows[0].items()} if rows else {}


def _phrases(
    prompt: str, kept: list[Any], numbers: dict[str, int], right: dict[str, bool]
) -> list[_Phrase]:
    """The prompt cut into the captions it was made of; as a whole where it cannot be cut."""
    pieces: list[_Phrase] = []
    done = 0
    for caption in (k for k in kept if isinstance(k, dict)):
        head = str(caption.get("head"))
        text = " ".join(str(caption.get("text")).split()).rstrip(".,;: ")  # as prompts are joined
        place = prompt.find(text, done)
        if place < 0 or not text:
            return [_Phrase(prompt)] if prompt else []
        if place > done:
            pieces.append(_Phrase(prompt[done:place]))
        level = KINDS[head].level.value if head in KINDS else "other"
        pieces.append(_Phrase(text, head, level, numbers.get(head, 0), right.get(head, False)))
        done = place + len(text)
    if done < len(prompt):
        pieces.append(_Phrase(prompt[done:]))
    return pieces


def _images(
    material: RunMaterial, image_id: str, trial_id: int, known: bool
) -> list[tuple[str, str, str | None]]:
    """Every image of the trial: prompt source, what it is, data URI; what was shown comes first."""
    from eegprompt.sources import SOURCES as SOURCE_ORDER

    shown: str | None = None
    if material.study is not None:
        try:
            shown = data_uri(material.study.image_path(image_id))
        except InputError:
            shown = None
    images: list[tuple[str, str, str | None]] = [
        (
            "shown",
            "Shown" if known else "An image of its category; which was shown is unknown",
            shown,
        )
    ]
    for source in SOURCE_ORDER:
        path = material.image(source, trial_id)
        if path is not None and source != "reference":
            says = SOURCES.get(source, source)
            name = _NAMES.get(source, says[:1].upper() + says[1:])
            images.append((source, name, data_uri(path)))
    return images

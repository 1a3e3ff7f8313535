"""What was shown and what was drawn: one trial step by step, then a fair sample."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from eegprompt.reports.charts import butterfly
from eegprompt.reports.contents import Material, RunMaterial
from eegprompt.reports.sections import Section
from eegprompt.reports.trial_choice import sample_trials, view_trial

__all__ = ["build"]

COUNT = 13  # one explained at length and twelve in the grid

# Prompt sources beside floor and ceiling, shown of the trial that is explained at length.
_FURTHER = (
    ("noise", "Noise", "drawn from what was decoded from noise"),
    ("shuffled", "Another trial", "drawn from another trial's EEG"),
    ("wrong-class", "Wrong category", "drawn from the captions of an image of another category"),
    ("predicted-class", "Decided category", "drawn from the decided category's name"),
    ("true-class", "True category", "drawn from the true category's name"),
    ("reference-vae", "Shown, recoded", "the image shown, through the generator's own coding"),
)


def build(material: Material) -> Section | None:
    """The sample; None if nothing was decoded or drawn."""
    sample, n_images = sample_trials(material, COUNT)
    if not sample:
        return None
    known = material.study is None or material.study.image_identity == "known"
    views = [view_trial(run, trial, others=2) for run, trial in sample]
    first_run, first_trial = sample[0]
    sources = [r for r in ("eeg", "floor", "ceiling") if any(v.images[r] for v in views)]
    other = [
        source
        for source in dict.fromkeys(
            (*sources, "floor", "ceiling", *(name for name, *_ in _FURTHER))
        )
        if any(not run.is_comparable(source, trial) for run, trial in sample)
    ]
    columns = [
        ("reference", "Shown" if known else "Its category", "the reference"),
        ("eeg", "From EEG", "the reconstruction"),
        ("floor", "Floor", "drawn from random captions"),
        ("ceiling", "Ceiling", "drawn from the true captions"),
    ]
    generators = sorted(
        {str(r.generation.get("name") or r.generator) for r in material.runs if r.generator}
    )
    return Section(
        "images",
        "Shown and drawn" if sources else "Shown and decoded",
        {
            "columns": columns if sources else columns[:1],
            "further": [column for column in _FURTHER if views[0].images.get(column[0])],
            "drawn": bool(sources),
            "absent": [r for r in ("eeg", "floor", "ceiling") if r not in sources + other],
            "other_settings": other,
            "first": views[0],
            "first_eeg": _eeg(first_run, first_trial),
            "views": views[1:],
            "count": len(views),
            "n_images": n_images,
            "unit": "image" if known else "trial",
            "seed": material.first.seed,
            "known": known,
            "pool": material.first.setting("decoding.pool", ""),
            "meanings": any(r.has_meanings for r in material.runs),
            "generators": generators,
        },
        short="Images",
    )


def _eeg(run: RunMaterial, trial_id: int) -> Markup | None:
    study = run.study
    if study is None or not 0 <= trial_id < study.n_trials or study.n_times < 2:
        return None
    eeg: Any = study.eeg[trial_id]
    return Markup("").join(
        butterfly(study.times, eeg, unit=study.unit, width=width, css=css)
        for css, width in (("wide", 470), ("narrow", 340))
    )

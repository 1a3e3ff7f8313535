"""Captions offline, from the image itself and its label: no model, no service, no chance.

What is measured, and after whom:

- *Colors* by their basic names, in CIELAB; see :mod:`eegprompt.captions._colors`.
- *Sharpness*: what a second blur takes away (Crété-Roffet et al. 2007, Proc SPIE 6492:64920I).
- *Haze*: the dark channel (He, Sun & Tang 2011, IEEE TPAMI 33:2341), here of the whole image.
- *Light*: the brightest values of each channel, again the white patch.
- *Salient mass*: what the borders do not explain; see :mod:`eegprompt.captions._salient`.
- *Mood*: pleasure and arousal from mean brightness and saturation (Valdez & Mehrabian 1994,
  J Exp Psychol Gen 123:394, eqs. for hue-free stimuli: pleasure = .69 brightness + .22 saturation,
  arousal = -.31 brightness + .60 saturation), worded by their quadrant (Russell 1980, J Pers Soc
  Psychol 39:1161).

It is no vision model. It cannot recognize things, people, places or actions: the object is the
label, the place is no more than indoor-like or outdoor-like lightness and color, and theme and
story follow from mood and label alone. Its captions say so little on purpose; where there is no
label, it says "an object". Thresholds were set on drawn scenes of 64 × 64 pixels; on photographs
treat them as rough. Of 1000 other drawn scenes it names the light right in 91 %, the clarity in
97 %, the object's color in 90 % (of eight) and the place in 89 % (of five).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions._colors import NAMES, balance, body_color, name_indices, to_lab
from eegprompt.captions._image_data import image_sources, load_image
from eegprompt.captions._salient import salient_mask
from eegprompt.captions.base import Answered, Captioner
from eegprompt.core.errors import CaptionError, InputError
from eegprompt.study import Study

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PILImage

__all__ = ["Measures", "RulesCaptioner", "describe", "measure"]

_VERSION = "2"
_SIDE = 128  # pixels; images are measured at this size at most

_SOFT = 0.42  # share of the variation that a second blur takes; above it an image is not sharp
_HAZY = 48.0  # darkest value of any channel, of 255; above it a veil lies on the image
_BRIGHT = 199.0  # brightest blue, of 255; above it the light is white and full
_WARM = 35.0  # brightest red less brightest blue; above it the light is warm
_OFF_CENTER = 0.055  # of the frame; nearer to its center the mass counts as central
_STANDING = 0.03  # of the frame; a thing that stands in its middle lies so much below it
_UPRIGHT = 0.7  # weight of up and down: shadows and what things stand on blur these more


@dataclass(frozen=True)
class Measures:
    """What can be measured in an image.

    Parameters
    ----------
    object_colors, background_colors : tuple of str
        Color names of the salient mass and of what surrounds it, most frequent first.
    clarity : {'sharp', 'soft', 'hazy'}
        Sharpness and veil.
    light : {'bright', 'warm', 'dim'}
        Strength and cast of the light.
    place : {'left', 'right', 'top', 'bottom', 'center'}
        Where the salient mass lies.
    parts : int
        Separate salient masses, at least 1.
    share : float
        Part of the frame that the salient mass covers, in [0, 1].
    contrast : {'low', 'moderate', 'strong'}
        Spread of luminance.
    texture : {'smooth', 'fine', 'busy'}
        Density of edges.
    horizon : float or None
        Height of the strongest level edge, from 0 (top) to 1; None if there is none.
    symmetric : bool
        Whether the left half mirrors the right.
    pleasure, arousal : float
        After Valdez & Mehrabian, around 0 for a mid-gray image.
    """

    object_colors: tuple[str, ...]
    background_colors: tuple[str, ...]
    clarity: str
    light: str
    place: str
    parts: int
    share: float
    contrast: str
    texture: str
    horizon: float | None
    symmetric: bool
    pleasure: float
    arousal: float


def measure(image: PILImage.Image) -> Measures:
    """Measure an image.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode RGB. It is reduced to 128 pixels a side.
    """
    image = image.convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    x = np.asarray(image, dtype=np.float64)
    height, width = x.shape[:2]
    gray = x @ np.array([0.2126, 0.7152, 0.0722])
    high = np.percentile(x.reshape(-1, 3), 99.5, axis=0)
    low = np.percentile(x.reshape(-1, 3), 0.5, axis=0)
    floor = float(low.min())
    blur = _blur(gray)
    clarity = "soft" if blur > _SOFT else "hazy" if floor > _HAZY else "sharp"
    light = "bright" if high[2] > _BRIGHT else "warm" if high[0] - high[2] > _WARM else "dim"

    lab = to_lab(balance(x, floor if clarity == "hazy" else 0.0))
    mask, parts = salient_mask(lab)
    names = name_indices(lab)
    inside = lab[mask] if mask.any() else lab.reshape(-1, 3)
    main = NAMES[int(name_indices(body_color(inside)))]
    others = _ranked(name_indices(inside), chromatic_first=True)
    outside = names[~mask] if not mask.all() else names.reshape(-1)

    ys, xs = np.nonzero(mask) if mask.any() else (np.array([height / 2]), np.array([width / 2]))
    dx, dy = _middle(xs, width), _UPRIGHT * (_middle(ys, height) - _STANDING)
    place = "center"
    if max(abs(dx), abs(dy)) >= _OFF_CENTER:
        across = abs(dx) > abs(dy)
        place = ("left" if dx < 0 else "right") if across else ("top" if dy < 0 else "bottom")

    spread = float(gray.std())
    edges = float((np.abs(np.diff(gray, axis=1)) > 20).mean()) if width > 1 else 0.0
    steps = np.abs(np.diff(gray.mean(axis=1)))
    horizon = None
    if len(steps) and steps.max() > 12 and steps.max() > 4 * np.median(steps):
        horizon = float((np.argmax(steps) + 1) / height)
    mirrored = float(np.abs(gray - gray[:, ::-1]).mean())
    brightness = float(x.max(axis=2).mean()) / 255
    saturation = float(
        np.divide(
            np.ptp(x, axis=2), x.max(axis=2), out=np.zeros_like(gray), where=x.max(2) > 0
        ).mean()
    )
    return Measures(
        object_colors=(main, *(name for name in others if name != main))[:3],
        background_colors=_ranked(outside, chromatic_first=False),
        clarity=clarity,
        light=light,
        place=place,
        parts=parts,
        share=float(mask.mean()),
        contrast="low" if spread < 28 else "moderate" if spread < 52 else "strong",
        texture="smooth" if edges < 0.05 else "fine" if edges < 0.15 else "busy",
        horizon=horizon,
        symmetric=mirrored < 0.25 * max(spread, 4.0),
        pleasure=0.69 * (brightness - 0.5) + 0.22 * (saturation - 0.5),
        arousal=-0.31 * (brightness - 0.5) + 0.60 * (saturation - 0.5),
    )


def _blur(gray: NDArray[np.float64]) -> float:
    """Share of the variation between neighbors that a mean over five takes away, in [0, 1]."""
    worst = 0.0
    for axis in (0, 1):
        line = np.moveaxis(gray, axis, 0)
        if len(line) < 6:
            continue
        padded = np.concatenate([line[:1], line[:1], line, line[-1:], line[-1:]])
        blurred = np.mean([padded[k : k + len(line)] for k in range(5)], axis=0)
        before, after = np.abs(np.diff(line, axis=0)), np.abs(np.diff(blurred, axis=0))
        total = float(before.sum())
        if total > 0:
            worst = max(worst, 1 - float(np.maximum(0, before - after).sum()) / total)
    return worst


def _middle(at: NDArray[Any], size: int) -> float:
    """Middle of a mass along one axis, from -0.5 to 0.5: between its extent and its center."""
    low, high = np.percentile(at, [3, 97])
    return float(((low + high) / 2 + at.mean()) / 2 / max(size - 1, 1) - 0.5)


def _ranked(names: NDArray[np.int64], *, chromatic_first: bool) -> tuple[str, ...]:
    """Names that cover a tenth at least, most frequent first."""
    counts = np.bincount(names, minlength=len(NAMES)).astype(float)
    counts /= max(counts.sum(), 1.0)
    if chromatic_first:  # lines and shadows are dark whatever the thing's color
        counts[NAMES.index("black")] *= 0.3
        counts[NAMES.index("gray")] *= 0.5
    order = np.argsort(-counts, kind="stable")
    ranked = tuple(NAMES[i] for i in order if counts[i] >= 0.1)
    return (ranked or (NAMES[int(order[0])],))[:3]


_PLACES = {
    "left": "on the left side of the frame",
    "right": "on the right side of the frame",
    "top": "in the upper part of the frame",
    "bottom": "in the lower part of the frame",
    "center": "in the middle of the frame",
}
_LIGHTS = {"bright": "in bright light", "warm": "in warm light", "dim": "in dim light"}
_CLARITIES = {"sharp": "sharp edges", "soft": "soft, blurred edges", "hazy": "a hazy veil"}
_MOODS = {
    (True, True): ("a lively, cheerful mood", "energy and play", "something lively is going on"),
    (True, False): ("a calm, pleasant mood", "peace and rest", "a quiet moment passes"),
    (False, True): ("a tense, restless mood", "danger and unrest", "something is about to happen"),
    (False, False): ("a gloomy, still mood", "silence and solitude", "nothing moves for a while"),
}


def describe(measures: Measures, label: str | None) -> dict[str, str]:
    """Put measures and a label into ten captions, by kind.

    Parameters
    ----------
    measures : Measures
        What was measured.
    label : str or None
        What the image shows, e.g. the study's category.
    """
    m = measures
    thing = (label or "object").replace("_", " ").strip().lower()
    noun = f"{'an' if thing[:1] in 'aeiou' else 'a'} {thing}"
    behind = [c for c in m.background_colors if c != m.object_colors[0]]
    ground = " and ".join(behind[:2]) or m.object_colors[0]
    colors = f"mostly {m.object_colors[0]} " + (f"on {ground}" if behind else "throughout")
    surface = {"smooth": "plain", "fine": "lightly textured", "busy": "busy"}[m.texture]
    scene = f"before a {surface} {ground} background"
    where = "level"
    if m.horizon is not None:
        where = "high" if m.horizon < 0.4 else "low" if m.horizon > 0.6 else "level"
        scene += f" with a {where} horizon"
    if m.parts > 1:
        link = f"{'two' if m.parts == 2 else 'several'} parts apart from one another"
    else:
        link = "one mass, apart from its background"
    near = "a close view" if m.share > 0.3 else "a far view" if m.share < 0.1 else "a medium view"
    if m.horizon is not None:  # the horizon lies at the height of the eye
        near += {"high": " from above", "low": " from below", "level": " at eye level"}[where]
    layout = f"{thing} {_PLACES[m.place]}" + (", nearly symmetric" if m.symmetric else "")
    mood, theme, story = _MOODS[m.pleasure >= 0, m.arousal >= -0.1]
    return {
        "ObjectSnap": noun,
        "ColorTone": colors,
        "ClarityCue": f"{_CLARITIES[m.clarity]} {_LIGHTS[m.light]}, {m.contrast} contrast",
        "SceneSetting": scene,
        "LayoutMap": layout,
        "SpatialLink": link,
        "AngleView": near,
        "MoodFeel": mood,
        "ThemeTag": theme,
        "StoryHint": story,
    }


class RulesCaptioner(Captioner):
    """Writes captions offline, from images and labels, the same every time.

    See this module's page for what is measured and what cannot be seen. Images without an image
    fail; images without a label are called "an object".

    Parameters
    ----------
    argument : None
        It takes none.
    """

    name = "rules"
    model = ""
    prompt_version = _VERSION

    def __init__(self, argument: str | None = None):
        if argument:
            raise InputError(f"the captioner 'rules' takes no argument, got '{argument}'")

    def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
        """Yield each image's id, its captions by kind, and why there are none (else None)."""
        known = image_sources(study)
        for image_id in image_ids:
            source = known[image_id]
            if source["path"] is None:
                yield image_id, {}, "the study has no file of this image"
                continue
            try:
                image = load_image(source["path"], 2 * _SIDE)
            except CaptionError as problem:
                yield image_id, {}, str(problem)
                continue
            yield image_id, describe(measure(image), source["label"] or None), None

"""What a metric is: a function beside its name, label, meaning, unit, range, chance and direction.

A metric is one entry, put beside its function by :func:`metric`, in a module of this package or in one of
your own that is registered as ``register("metric", NAME, "module:function")``. Its rows in
``scores.json`` – value, interval, chance, p – and what report and terminal call it follow from there.

A name may hold one placeholder: ``two_way_{features}`` stands for the score on any layer of a feature
network, ``{ways}_way_accuracy`` for any number of ways. A score without an entry is shown under its
own name.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar

from eegprompt.core.errors import InputError
from eegprompt.core.registry import GROUPS, resolve

__all__ = ["METRICS", "Metric", "metric", "metric_of", "metrics_of", "register_metric"]

Function = TypeVar("Function", bound=Callable[..., Any])
Of = Literal["pixels", "features", "captions", "images", "decisions", ""]


@dataclass(frozen=True)
class Metric:
    """One score.

    Parameters
    ----------
    name : str
        As in ``scores.json``, e.g. ``"class_accuracy"``; may hold one placeholder in braces.
    label : str
        Its name in a table; may hold the same placeholder.
    says : str
        One sentence for someone who has not met it.
    unit : str
        ``proportion`` (shown in percent), ``AUC``, ``r``, ``SSIM``, ``cosine``, ``1 - r``,
        ``distance`` or ``score``.
    range : str
        Smallest to largest value, in words.
    chance : str
        Its level without information, in words; the number is found by permutation.
    higher_is_better : bool
        Its direction.
    family : str
        Scores that sections of the report select together, e.g. ``"two_way"``; default: the name.
    group : {"category", "caption", "image", "other"}
        What is judged.
    symbol : str
        The quantity on an axis.
    of : {"pixels", "features", "captions", "images", "decisions", ""}
        What `function` takes and gives:

        - ``pixels``: two equally long lists of images (height, width, 3) in [0, 1], references and
          generated ones, brought to one size by the protocol → one value per pair;
        - ``features``: features (n_references, n_values) and (n_images, n_values) on a layer that the
          network's ``uses`` names, and with `within` a keyword ``classes`` of the references → a table
          (n_images, n_references);
        - ``captions`` and ``images``: an :class:`~eegprompt.metrics.caption_retrieval.AnswerRanks` of
          one head's captions, or of all heads' images → (n_queries, n_answers);
        - ``decisions``: class probabilities (n_heads, n_trials, n_classes) and the heads' weights by
          validation → credits (n_trials, n_classes);
        - empty: computed by a step of its own in :mod:`eegprompt.scores`.
    function : callable, optional
        What computes it.
    pairs : callable, optional
        For ``pixels``: all references with all images at once, (n_references, n_images).
    column : int, optional
        Where the function gives several values of a pair: which is this metric's.
    within : bool
        Of ``features``: also scored among references of one class.
    by_class : bool
        Of ``decisions``: averaged over classes instead of trials.
    """

    name: str
    label: str
    says: str = ""
    unit: str = "score"
    range: str = ""
    chance: str = "chance by permutation"
    higher_is_better: bool = True
    family: str = ""
    group: str = "other"
    symbol: str = "score"
    of: Of = ""
    function: Callable[..., Any] | None = None
    pairs: Callable[..., Any] | None = None
    column: int | None = None
    within: bool = False
    by_class: bool = False

    @property
    def key(self) -> str:
        """The family, by which sections of the report select."""
        return self.family or self.name

    @property
    def scale(self) -> str:
        """Direction, range and chance in one sentence; empty where they are not known."""
        direction = "Higher" if self.higher_is_better else "Lower"
        return f"{direction} is better; {self.range}; {self.chance}." if self.range else ""


METRICS: dict[str, Metric] = {}
"""Every metric whose module was imported, by name; :func:`metric_of` and :func:`metrics_of` import them."""


def register_metric(entry: Metric) -> Metric:
    """Add a metric.

    Raises
    ------
    InputError
        If another one has the name.
    """
    known = METRICS.get(entry.name, entry)
    if replace(known, function=None, pairs=None) != replace(entry, function=None, pairs=None):
        raise InputError(f"the metric '{entry.name}' exists already")
    METRICS[entry.name] = entry
    return entry


def metric(name: str, **facts: Any) -> Callable[[Function], Function]:
    """Make a function a metric.

    Parameters
    ----------
    name : str
        Of the metric.
    **facts
        The other fields of :class:`Metric`.

    Returns
    -------
    callable
        A decorator that leaves the function as it is.

    Examples
    --------
    >>> @metric("brightness", label="Brightness", of="pixels", range="0 to 1", group="image")
    ... def brightness(references, images):
    ...     return [1 - abs(a.mean() - b.mean()) for a, b in zip(references, images)]
    >>> metric_of("brightness").scale
    'Higher is better; 0 to 1; chance by permutation.'
    >>> del METRICS["brightness"]
    """

    def add(function: Function) -> Function:
        register_metric(Metric(name, **facts, function=function))
        return function

    return add


@cache
def _import(package: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def _known() -> dict[str, Metric]:
    """All metrics: those of this package, and those that were registered."""
    _import(__package__ or "eegprompt.metrics")
    for name in GROUPS["metric"]:
        resolve("metric", name)
    return METRICS


def metrics_of(of: Of) -> list[Metric]:
    """The metrics whose function takes `of`, see :class:`Metric`; one's own come last."""
    return [entry for entry in _known().values() if entry.of == of]


# What is put for {features}: the layer in a score's name, its label, and what its features are.
_LAYERS = {
    "early": ("early features", "features of edges, colors and textures"),
    "late": ("late features", "features of things"),
    "alex2": ("AlexNet layer 2", "features of AlexNet’s layer 2"),
    "alex5": ("AlexNet layer 5", "features of AlexNet’s layer 5"),
    "inception": ("Inception", "features of Inception v3"),
    "clip": ("CLIP", "CLIP’s image embeddings"),
    "effnet": ("EfficientNet", "features of EfficientNet"),
    "swav": ("SwAV", "features of SwAV"),
    "lpips": ("LPIPS", "LPIPS’s features of several layers"),
}


def metric_of(name: str) -> Metric:
    """The entry of a score; one that has none is shown under its own name.

    Parameters
    ----------
    name : str
        As in ``scores.json``.

    Examples
    --------
    >>> metric_of("ssim_legacy").key, metric_of("my_new_score").label
    ('ssim_legacy', 'My new score')
    >>> metric_of("two_way_alex5").label, metric_of("effnet_distance").label
    ('Two-way identification, AlexNet layer 5', 'Feature distance, EfficientNet')
    """
    known = _known()
    if name in known:
        return known[name]
    words = re.sub(r"[_\s]+", " ", name).strip()
    for entry in known.values():
        before, brace, rest = entry.name.partition("{")
        hole, _, after = rest.partition("}")
        given = name.removeprefix(before).removesuffix(after)
        if (
            brace
            and given
            and name == f"{before}{given}{after}"
            and given.isidentifier() | given.isdigit()
        ):
            plain = given.replace("_", " ")
            label, says = given, given
            if hole == "features":
                label, says = _LAYERS.get(given, (plain, f"features of {plain}"))
            hole = f"{{{hole}}}"
            return replace(
                entry, label=entry.label.replace(hole, label), says=entry.says.replace(hole, says)
            )
    return Metric(name, words[:1].upper() + words[1:], unit="", chance="")

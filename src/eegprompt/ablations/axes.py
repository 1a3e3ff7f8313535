"""The axes of an ablation: what is changed, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.kinds import LEVELS
from eegprompt.settings import ExperimentConfig, load_config

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["AXES", "Variant", "plan"]

_JOINED = ("ObjectSnap", "ColorTone", "SceneSetting")  # the paper's single caption


@dataclass(frozen=True)
class Variant:
    """One answer to an axis's question.

    Parameters
    ----------
    name : str
        Unique on its axis; a file name.
    settings : dict
        Nested settings that differ from the base.
    joined : bool
        Trained on one joined caption an image instead of the kinds.
    image : bool
        Trained on the images' own embeddings; nothing is drawn, for there are no words.
    trainable : bool
        False for a baseline that only classifies: its class accuracy is read from the base's scores.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    joined: bool = False
    image: bool = False
    trainable: bool = True


def _loss(_: ExperimentConfig) -> list[Variant]:
    names = {"clip": "CLIP", "mse": "MSE", "siglip": "SigLIP"}
    return [Variant(label, {"training": {"objective": name}}) for name, label in names.items()]


def _positives(_: ExperimentConfig) -> list[Variant]:
    return [
        Variant("multi-positive", {"training": {"objective": "clip"}}),
        Variant("single-positive", {"training": {"objective": "clip-single"}}),
    ]


def _captions(base: ExperimentConfig) -> list[Variant]:
    return [
        Variant(f"{len(base.kinds)}-kinds"),
        Variant("one-joined", {"kinds": [_JOINED[0]]}, joined=True),
    ]


def _target(base: ExperimentConfig) -> list[Variant]:
    return [Variant("captions"), Variant("image", {"kinds": [_JOINED[0]]}, image=True)]


def _levels(base: ExperimentConfig) -> list[Variant]:
    parts = {level.value: [k for k in kinds if k in base.kinds] for level, kinds in LEVELS.items()}
    return [
        Variant("all-levels"),
        *(Variant(level, {"kinds": kinds}) for level, kinds in parts.items() if kinds),
    ]


def _per_head(_: ExperimentConfig) -> list[Variant]:
    return [Variant(f"{n}-per-head", {"decoding": {"per_head": n}}) for n in (1, 2, 3)]


def _heads(base: ExperimentConfig) -> list[Variant]:
    return [
        Variant("all-heads"),
        *(
            Variant(f"top-{k}", {"decoding": {"selection": f"top-k:{k}"}})
            for k in range(1, len(base.kinds))
        ),
    ]


def _pool(_: ExperimentConfig) -> list[Variant]:
    return [Variant(name, {"decoding": {"pool": name}}) for name in ("train", "test", "all")]


def _encoder(base: ExperimentConfig) -> list[Variant]:
    from importlib.util import find_spec

    found = [Variant(base.encoder.name)]
    found += [
        Variant(name, {"encoder": {"name": name, "options": {}}})
        for name in ("transformer", "ridge", "nice", "atm")
        if name != base.encoder.name
    ]
    if find_spec("braindecode") is not None:
        from eegprompt.encoders.braindecode import COMPARED

        found += [
            Variant(name, {"encoder": {"name": f"braindecode:{name}", "options": {}}})
            for name in COMPARED
        ]
    return [*found, Variant("shrinkage-LDA", trainable=False)]


AXES: dict[str, Callable[[ExperimentConfig], list[Variant]]] = {
    "loss": _loss,
    "positives": _positives,
    "captions": _captions,
    "target": _target,
    "levels": _levels,
    "per-head": _per_head,
    "heads": _heads,
    "pool": _pool,
    "encoder": _encoder,
}


def plan(
    config: ExperimentConfig, what: Sequence[str], seeds: int | Sequence[int]
) -> tuple[dict[str, list[str]], int]:
    """What :func:`ablate` would do.

    Parameters
    ----------
    config : ExperimentConfig
        The base.
    what : sequence of str
        Axes, of :data:`AXES`.
    seeds : int or sequence of int
        How many, or which.

    Returns
    -------
    variants : dict of str to list of str
        Names of the variants of each axis.
    n_trainings : int
        How many encoders are trained; variants that differ only after training share one.

    Raises
    ------
    UnknownNameError
        If there is no such axis.
    """
    for axis in what:
        if axis not in AXES:
            raise UnknownNameError("ablation axis", axis, sorted(AXES))
    base = config.model_dump(mode="json")
    variants = {axis: AXES[axis](config) for axis in what}
    trained = {
        (load_config(merged(base, v.settings)).key, v.joined, v.image)
        for of_axis in variants.values()
        for v in of_axis
        if v.trainable
    }
    count = seeds if isinstance(seeds, int) else len(seeds)
    return {axis: [v.name for v in of] for axis, of in variants.items()}, count * len(trained)


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed."""
    result = {**settings}
    for name, value in changes.items():
        inner = result.get(name)
        keep = isinstance(value, dict) and isinstance(inner, dict) and name != "options"
        result[name] = merged(inner, value) if keep else value  # type: ignore[arg-type]
    return result


def image_model(config: ExperimentConfig) -> str:
    """The CLIP whose text side embeds the captions."""
    return "builtin" if config.text_encoder == "builtin" else config.text_encoder.partition(":")[2]


def joined_captions(study: Study, config: ExperimentConfig) -> str:
    """Write the caption set that says object, color and place of each image in one caption.

    Returns
    -------
    str
        Its name: ``NAME-joined``. Its captions are filed under ``ObjectSnap``.
    """
    name = f"{config.captions}-joined"
    if name not in study.caption_names():
        table = study.captions(config.captions)
        parts = table[table["kind"].isin(_JOINED)].drop_duplicates(["image_id", "kind"])
        wide = parts.pivot(index="image_id", columns="kind", values="text")
        lacking = [kind for kind in _JOINED if kind not in wide]
        if lacking or wide[list(_JOINED)].isna().any().any():
            raise InputError(
                f"caption set '{config.captions}' lacks captions of {', '.join(lacking or _JOINED)} "
                "for some images, so they cannot be joined to one; leave the axis 'captions' out"
            )
        texts = wide[list(_JOINED)].agg(", ".join, axis=1)
        joined = texts.rename("text").reset_index().assign(kind=_JOINED[0])
        study.write_captions(name, joined)
    return name

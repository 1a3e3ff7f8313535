"""`eegprompt check-plugin`: whether a part of one's own keeps the contract of its group."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import EegpromptError, InputError, UnknownNameError
from eegprompt.core.kinds import KINDS, read_kinds
from eegprompt.core.registry import ENTRY_POINTS, own_object, resolve
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Split

__all__ = ["check_plugin"]

_TEXTS = ["a red cat on a beach", "a blue house", "a red cat on a beach"]


def check_plugin(spec: str, *, kind: str | None = None, **options: Any) -> list[str]:
    """Try a part of one's own on small made-up data, as its group will use it.

    Parameters
    ----------
    spec : str
        ``module:Class`` or ``module:Class:ARGUMENT``, a name that an installed package gives, or a
        YAML file of caption kinds.
    kind : str, optional
        What it is: ``encoder``, ``captioner``, ``text encoder``, ``generator``, ``split``,
        ``features``, ``prompt source`` or ``kinds``; found out by itself where it can be.
    **options
        Of its constructor.

    Returns
    -------
    list of str
        What was found in order, a phrase each.

    Raises
    ------
    InputError
        With the first thing that is not in order.
    """
    kind = kind or _kind_of(spec)
    if kind not in _CHECKS:
        raise UnknownNameError("kind of part", kind, _CHECKS)
    found: list[str] = []
    try:
        found += _CHECKS[kind](spec, options)  # one after the other, so that what went well is kept
    except EegpromptError:
        raise
    except Exception as problem:  # a part may fail in any way
        said = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        after = f" after '{found[-1]}'" if found else ""
        raise InputError(f"the {kind} '{spec}' fails{after} ({said})") from problem
    return found


def _kind_of(spec: str) -> str:
    """What a part is, by what it derives from."""
    if spec.endswith((".yaml", ".yml")):
        return "kinds"
    from eegprompt.captions.base import Captioner
    from eegprompt.generators.base import Generator
    from eegprompt.sources import Source
    from eegprompt.text_encoders.base import TextEncoder

    target = own_object("part", ":".join(spec.split(":")[:2]))
    if isinstance(target, Source):
        return "prompt source"
    if isinstance(target, type):
        import torch

        bases = {"captioner": Captioner, "text encoder": TextEncoder, "generator": Generator,
                 "encoder": torch.nn.Module}  # fmt: skip
        for kind, base in bases.items():
            if issubclass(target, base):
                return kind
    raise InputError(
        f"what '{spec}' is cannot be told from what it derives from; name it with --as "
        f"({', '.join(_CHECKS)})"
    )


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise InputError(what)


def _made(group: str, spec: str, options: Mapping[str, Any]) -> Any:
    """A captioner, text encoder or generator, as its group makes it."""
    target, argument = resolve(group, spec)
    try:
        part = target(argument, **options)
    except TypeError as problem:
        raise InputError(
            f"the {group} '{spec}' cannot be made: its constructor takes the argument after the name "
            f"(or None) and options by keyword ({problem})"
        ) from None
    name = getattr(part, "name", None)
    _require(bool(name) and isinstance(name, str), f"the {group} '{spec}' has no name")
    return part


# -- one check for each kind of part ---------------------------------------------------------------
def _encoder(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    import torch

    make, _ = resolve("encoder", spec)
    heads, dim, shape = ("ObjectSnap", "MoodFeel"), 16, (3, 8, 128)
    sizes = {"heads": heads, "embedding_dim": dim, "n_chans": 8, "n_times": 128, "sfreq": 128.0}
    encoder = make(**sizes, n_subjects=2, **options).eval()
    yield "it is made from the sizes of the data"
    rng = torch.Generator().manual_seed(0)
    eeg, positions = torch.randn(shape, generator=rng), 0.1 * torch.randn((8, 3), generator=rng)
    with torch.no_grad():
        out = encoder(eeg, positions, torch.tensor([0, 1, -1]))
        alone = encoder(eeg[1:2], positions, torch.tensor([1]))
    wrong = not isinstance(out, dict) or set(out) != set(heads)
    _require(not wrong, f"the encoder '{spec}' must give a dictionary with the heads {heads}")
    for head, rows in out.items():
        _require(
            tuple(rows.shape) == (3, dim),
            f"the encoder '{spec}' gives {head} of shape {tuple(rows.shape)}, not (3, {dim})",
        )
        _require(
            bool(torch.isfinite(rows).all()),
            f"the encoder '{spec}' gives values that are not finite",
        )
        _require(
            torch.allclose(rows[1:2], alone[head], atol=1e-4),
            f"the encoder '{spec}' gives a trial another embedding beside other trials",
        )
    yield "it gives one finite embedding for each head and trial, whatever stands beside the trial"
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    sum(rows.sum() for rows in encoder(eeg, positions, None).values()).backward()
    _require(
        bool(parameters) and any(p.grad is not None for p in parameters),
        f"the encoder '{spec}' has nothing that training could change",
    )
    yield "gradients reach its parameters"
    config = getattr(encoder, "config", None)
    _require(
        isinstance(config, dict),
        f"the encoder '{spec}' needs a 'config': the arguments that make one of the same shape",
    )
    try:
        again = make(**json.loads(json.dumps(config)))
        again.load_state_dict(encoder.state_dict())
        pickle.loads(pickle.dumps(encoder))
    except Exception as problem:
        raise InputError(
            f"the encoder '{spec}' cannot be saved and loaded ({type(problem).__name__}: {problem})"
        ) from None
    with torch.no_grad():
        same = again.eval()(eeg, positions, torch.tensor([0, 1, -1]))
    _require(
        all(torch.equal(same[head], out[head]) for head in heads),
        f"the encoder '{spec}' gives something else after it was saved and loaded",
    )
    yield "it is the same after it was saved and loaded, and can be pickled"


def _captioner(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    from eegprompt.captions.base import caption_rows

    captioner = _made("captioner", spec, options)
    yield "it is made"
    with _tiny_study() as study:
        ids = study.images["image_id"].astype(str).tolist()
        captioner.check(study)
        json.dumps(captioner.estimate(study, ids), default=str)
        seen = set()
        for image_id, captions, error in captioner.answers(study, ids):
            _require(image_id in ids, f"the captioner '{spec}' answers for '{image_id}', not asked")
            seen.add(image_id)
            if error is not None:
                continue
            for row in caption_rows(captions):
                _require(
                    row["kind"] in KINDS,
                    f"the captioner '{spec}' writes the kind '{row['kind']}', which is not known",
                )
                _require(
                    isinstance(row["text"], str) and bool(row["text"].strip()),
                    f"the captioner '{spec}' writes {row['text']!r} for {row['kind']}, not a text",
                )
        _require(bool(seen), f"the captioner '{spec}' answers for none of {len(ids)} images")
    yield f"it answers for {len(seen)} of {len(ids)} images, with captions of known kinds"


def _text_encoder(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    encoder = _made("text encoder", spec, {"device": "cpu", **options})
    yield "it is made"
    rows = np.asarray(encoder.embed(_TEXTS))
    _require(
        rows.ndim == 2 and len(rows) == len(_TEXTS) and rows.dtype == np.float32,
        f"the text encoder '{spec}' must give float32 (n_texts, n_dims), got {rows.dtype} "
        f"{rows.shape}",
    )
    _require(
        bool(np.isfinite(rows).all()),
        f"the text encoder '{spec}' gives values that are not finite",
    )
    _require(
        np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4),
        f"the text encoder '{spec}' must give rows of unit length",
    )
    yield "it gives finite rows of unit length"
    alone = np.asarray(encoder.embed(_TEXTS[:1]))
    _require(
        np.array_equal(rows[0], rows[2]) and np.allclose(alone[0], rows[0], atol=1e-5),
        f"the text encoder '{spec}' gives equal texts different rows",
    )
    _require(
        encoder.count_tokens(_TEXTS[0]) >= 1,
        f"the text encoder '{spec}' counts no tokens in '{_TEXTS[0]}'",
    )
    yield "equal texts have equal rows, whatever stands beside them"


def _generator(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    generator = _made("generator", spec, options)
    yield "it is made"
    json.dumps(generator.settings)
    more: dict[str, Any] = {}
    with _tiny_study() as study:
        path = str(study.image_path(str(study.images["image_id"].iloc[0])))
        if generator.wants_images:
            more["image_paths"] = [path, path]
        images = generator.generate(_TEXTS[:2], [1, 2], **more)
        again = generator.generate(_TEXTS[:2], [1, 2], **more)
        one = {name: value[1:] for name, value in more.items()}
        alone = generator.generate(_TEXTS[1:2], [2], **one)
    good = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4
    _require(
        good and len(images) == 2 and images.shape[3] == 3,
        f"the generator '{spec}' must give uint8 (n, height, width, 3), got "
        f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}",
    )
    yield "it gives one image for each prompt"
    _require(
        np.array_equal(images, again) and np.array_equal(images[1:], alone),
        f"the generator '{spec}' gives another image for the same prompt and seed",
    )
    yield "an image depends on its prompt and seed alone"
    if generator.supports_embeddings:
        drawn = generator.generate_from_embeddings(generator.embed_prompts(_TEXTS[:2]), [1, 2])
        _require(
            drawn.shape == images.shape,
            f"the generator '{spec}' gives {drawn.shape} from embeddings, {images.shape} from text",
        )
        yield "it generates from prompt embeddings"
    if generator.has_autoencoder:
        _require(
            generator.round_trip(list(images)).shape == images.shape,
            f"the generator '{spec}' changes the shape of images in a round trip",
        )
        yield "its autoencoder gives images of the same shape"


def _split(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    from eegprompt.splits.base import make_split

    with _tiny_study() as study:
        split = make_split(study, spec, **options)
        _require(isinstance(split, Split) and bool(split.folds), f"the split '{spec}' has no folds")
        for i, fold in enumerate(split.folds):
            empty = [n for n in ("train", "val", "test") if not len(getattr(fold, n))]
            _require(not empty, f"the split '{spec}' leaves {', '.join(empty)} of fold {i} empty")
    yield f"it gives {len(split.folds)} folds whose sets share no trial and no sample"


def _features(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    target, argument = resolve("features", spec)
    network = target(argument, **options) if argument else target(**options)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = network(images)
    _require(isinstance(found, dict) and bool(found), f"the features '{spec}' name no layers")
    for name, rows in found.items():
        rows = np.asarray(rows)
        _require(
            len(rows) == 3 and rows.dtype.kind == "f" and bool(np.isfinite(rows).all()),
            f"the features '{spec}' must give finite numbers (n, n_dims) for '{name}'",
        )
    yield f"it gives finite features of {len(found)} layers"


def _source(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    from eegprompt.sources import Source

    source = own_object("prompt source", spec)
    _require(
        isinstance(source, Source) and callable(source.prompts),
        f"the prompt source '{spec}' must be a Source with prompts",
    )
    yield "it is a prompt source"


def _kinds(spec: str, options: Mapping[str, Any]) -> Iterator[str]:
    yield f"it defines the caption kinds {', '.join(kind.name for kind in read_kinds(spec))}"


_CHECKS: dict[str, Callable[[str, Mapping[str, Any]], Iterator[str]]] = {
    "encoder": _encoder,
    "captioner": _captioner,
    "text encoder": _text_encoder,
    "generator": _generator,
    "split": _split,
    "features": _features,
    "prompt source": _source,
    "kinds": _kinds,
}
assert set(_CHECKS) - {"kinds"} <= set(ENTRY_POINTS)


@contextmanager
def _tiny_study() -> Iterator[Study]:
    """A study of 48 random trials: 2 subjects, 2 sessions, 12 images of 3 categories."""
    import pandas as pd
    from PIL import Image

    rng = np.random.default_rng(0)
    n_images, n_trials = 12, 48
    names = [f"image{i:02d}" for i in range(n_images)]
    with tempfile.TemporaryDirectory() as place:
        with StudyWriter.open(Path(place) / "study") as writer:
            (writer.folder / "images").mkdir()
            for name in names:
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(writer.folder / "images" / f"{name}.png")
            writer.append(rng.standard_normal((n_trials, 8, 64)).astype(np.float32))
            shown = [names[i % n_images] for i in range(n_trials)]
            writer.finish(
                info={
                    "name": "tiny", "ch_names": [f"EEG{i}" for i in range(8)], "sfreq": 64.0,
                    "tmin": 0.0, "unit": "V", "design": "randomised", "image_identity": "known",
                },
                trials=pd.DataFrame(
                    {
                        "subject": ["s1"] * 24 + ["s2"] * 24,
                        "session": (["1"] * 12 + ["2"] * 12) * 2,
                        "run": ["1"] * n_trials,
                        "block": 0,
                        "order": np.tile(np.arange(12), 4),
                        "onset": np.tile(2.0 * np.arange(12), 4),
                        "image_id": shown,
                        "category": [f"class{int(name[5:]) % 3}" for name in shown],
                    }
                ),
                images=pd.DataFrame(
                    {
                        "image_id": names,
                        "path": [f"images/{name}.png" for name in names],
                        "category": [f"class{i % 3}" for i in range(n_images)],
                    }
                ),
            )  # fmt: skip
        yield Study(Path(place) / "study")

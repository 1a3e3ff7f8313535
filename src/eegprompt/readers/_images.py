"""The images of a study: found by name, checked, and copied into it."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError, RecordingError, UnknownNameError
from eegprompt.core.files import sha256_file
from eegprompt.core.image_files import to_rgb

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "IMAGE_SUFFIXES",
    "NO_IMAGE",
    "add_image",
    "add_pixels",
    "category_folders",
    "category_images",
    "check_stimuli",
    "find_images",
    "image_ids_of",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# What the table of images says of one that is not there.
NO_IMAGE = {"path": "", "sha256": "", "width": 0, "height": 0}
_BETWEEN_WORDS = "_-‐‑‒–—.,;:'’()[]"
_KEPT = {"PNG": ".png", "JPEG": ".jpg"}  # what every browser and every reader of studies shows


def check_stimuli(folder: Path | None) -> None:
    """Find a wrong folder of images before recordings are read, which may take minutes."""
    if folder is not None and not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise RecordingError(f"the stimulus folder {folder} {what}; correct 'stimuli'")


def _images_in(folder: Path) -> list[Path]:
    """Images below a folder, sorted by path."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [
            Path(root) / f
            for f in files
            if Path(f).suffix.lower() in IMAGE_SUFFIXES and not f.startswith(".")
        ]
    return sorted(found)


def _plain(name: str) -> str:
    """A name without case, punctuation and English plural: 'Faces' and 'face' are one.

    Letters, digits and signs of every script count; only what parts words is left out.

    Examples
    --------
    >>> _plain("Faces") == _plain("face"), _plain("house_1"), _plain("glass")
    (True, 'house1', 'glass')
    >>> _plain("猫") == _plain("犬")
    False
    """
    folded = _folded(name)
    text = "".join(c for c in folded if c not in _BETWEEN_WORDS and not c.isspace())
    if not text:
        return folded
    plural = len(text) > 2 and text.endswith("s") and not text.endswith("ss") and text.isascii()
    return text[:-1] if plural else text


def _folded(name: str) -> str:
    """A name without case; the same letter written as one sign or as two is the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def category_folders(stimuli: Path, categories: Iterable[str]) -> dict[str, Path]:
    """Subfolder of `stimuli` for each category, by name whatever its case and plural."""
    check_stimuli(stimuli)
    folders = sorted(p for p in stimuli.iterdir() if p.is_dir() and not p.name.startswith("."))
    result: dict[str, Path] = {}
    for category in categories:
        exact = [p for p in folders if p.name == category]
        fitting = exact or [p for p in folders if _plain(p.name) == _plain(category)]
        if len(fitting) != 1:
            listing = ", ".join(p.name for p in folders) or "none"
            what = "no folder" if not fitting else f"{len(fitting)} folders"
            raise RecordingError(
                f"{stimuli} has {what} for the category '{category}' (folders: {listing}); name one "
                f"of its images, or a folder of them, with 'images.{category}=PATH'"
            )
        other = next((c for c, folder in result.items() if folder == fitting[0]), None)
        if other is not None:
            raise RecordingError(
                f"the folder {fitting[0]} fits the categories '{other}' and '{category}'; name the "
                f"image of each, or a folder of them, with 'images.{category}=PATH'"
            )
        result[category] = fitting[0]
    return result


def category_images(
    categories: Sequence[str],
    stimuli: Path | None,
    images: Mapping[str, str | Path],
) -> dict[str, tuple[Path, int]]:
    """One image to stand for each category, and how many there were to choose from.

    `images` names an image or a folder for a category; the first by name in a folder is taken. A
    category without one is absent.
    """
    for name in images:
        if name not in categories:
            raise UnknownNameError("category in 'images'", name, categories)
    result: dict[str, tuple[Path, int]] = {}
    rest = [c for c in categories if c not in images]
    places = {c: Path(p) for c, p in images.items()}
    if stimuli is not None:
        places |= category_folders(Path(stimuli), rest)
    for category, place in places.items():
        if place.is_dir():
            inside = _images_in(place)
            if not inside:
                raise RecordingError(
                    f"{place} holds no image for the category '{category}'; formats: "
                    f"{', '.join(IMAGE_SUFFIXES)}"
                )
            result[category] = (inside[0], len(inside))
        elif place.is_file():
            result[category] = (place, 1)
        else:
            raise RecordingError(f"the image {place} of category '{category}' does not exist")
    return result


def find_images(names: Iterable[str], stimuli: Path) -> dict[str, Path]:
    """Find images by the names that an events table gives them.

    A name is looked for as a path below `stimuli`, then by its file name anywhere below, then by
    its file name without suffix. What is found more than once by an incomplete name is an error.
    """
    check_stimuli(stimuli)
    files = _images_in(stimuli)
    by_path: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    by_stem: dict[str, list[Path]] = {}
    for p in files:
        by_path.setdefault(_folded(p.relative_to(stimuli).as_posix()), []).append(p)
        by_name.setdefault(_folded(p.name), []).append(p)
        by_stem.setdefault(_folded(p.stem), []).append(p)
    found: dict[str, Path] = {}
    served: dict[Path, str] = {}
    for name in names:
        wanted = PurePosixPath(name.replace("\\", "/"))
        parts = [_folded(part) for part in wanted.parts if part not in (".", "..", "/")]
        # Tables often begin a path above the folder that a person names: drop its first parts.
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        candidates = next((by_path[end] for end in ends if end in by_path), [])
        # A file name may hold dots that are no suffix: house1.1 is a name without one.
        is_image = wanted.suffix.lower() in IMAGE_SUFFIXES
        stem = _folded(wanted.stem if is_image else wanted.name)
        candidates = candidates or by_name.get(_folded(wanted.name)) or by_stem.get(stem, [])
        if len(candidates) > 1:  # names that differ in case only
            candidates = [p for p in candidates if p.name == wanted.name] or candidates
        if len(candidates) > 1:
            raise RecordingError(
                f"the image '{name}' fits {len(candidates)} images below {stimuli} (e.g. "
                f"{candidates[0].relative_to(stimuli)} and {candidates[1].relative_to(stimuli)}); "
                "give its folder with its name"
            )
        if candidates:
            other = served.setdefault(candidates[0], name)
            if _folded(other.replace("\\", "/")) != _folded(name.replace("\\", "/")):
                raise RecordingError(
                    f"the images '{other}' and '{name}' both fit {candidates[0]}, but are two; add "
                    "the one that is missing, or give each its folder as it lies below 'stimuli'"
                )
            found[name] = candidates[0]
    return found


def image_ids_of(names: Sequence[str]) -> dict[str, str]:
    """An id for each image name: its file name without suffix, with its folder where needed.

    Examples
    --------
    >>> image_ids_of(["a/cat_1.jpg", "b/dog.png"])
    {'a/cat_1.jpg': 'cat_1', 'b/dog.png': 'dog'}
    >>> image_ids_of(["a/1.jpg", "b/1.jpg"])
    {'a/1.jpg': 'a-1', 'b/1.jpg': 'b-1'}
    """

    def parts_of(name: str) -> list[str]:
        path = PurePosixPath(name.replace("\\", "/"))
        last = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        return [*(p for p in path.parts[:-1] if p not in (".", "..", "/")), last]

    unique = list(dict.fromkeys(names))
    for depth in range(1, 1 + max((len(parts_of(n)) for n in unique), default=1)):
        ids = {name: "-".join(parts_of(name)[-depth:]) for name in unique}
        if len(set(ids.values())) == len(ids):
            return ids
    return {name: name for name in unique}


def add_image(image: Path, folder: Path, image_id: str) -> dict[str, Any]:
    """Copy an image into a study under construction.

    PNG and JPEG are copied as they are, other formats are converted to PNG.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(image) as handle:
            handle.load()
            upright = ImageOps.exif_transpose(handle)
            width, height = upright.size
            target = _target(folder, image_id, _KEPT.get(str(handle.format), ".png"))
            if handle.format in _KEPT:
                shutil.copyfile(image, target)
            else:
                to_rgb(upright).save(target)
    except FileNotFoundError:
        raise RecordingError(f"the image {image} does not exist") from None
    except (
        OSError, SyntaxError, ValueError, InputError, Image.DecompressionBombError,
    ) as problem:  # fmt: skip
        if isinstance(problem, OSError) and problem.errno is not None:
            raise  # the disk's fault, not the image's
        raise RecordingError(
            f"{image} cannot be read as an image ({problem}); replace it, or leave it out"
        ) from None
    return _facts(target, folder, width, height)


def add_pixels(pixels: np.ndarray, folder: Path, image_id: str) -> dict[str, Any]:
    """Write an image that comes as an array into a study under construction, as PNG."""
    from PIL import Image

    target = _target(folder, image_id, ".png")
    Image.fromarray(pixels).save(target)
    return _facts(target, folder, pixels.shape[1], pixels.shape[0])


def _facts(target: Path, folder: Path, width: int, height: int) -> dict[str, Any]:
    return {
        "path": target.relative_to(folder).as_posix(),
        "sha256": sha256_file(target),
        "width": int(width),
        "height": int(height),
    }


def _target(folder: Path, image_id: str, suffix: str) -> Path:
    """Where an image goes: ids may differ in signs that files cannot have, so names get numbers."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", image_id).strip(".-") or "image"
    path = candidate = folder / "images" / f"{safe}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    n = 1
    while candidate.exists():
        n += 1
        candidate = path.with_name(f"{path.stem}-{n}{path.suffix}")
    return candidate

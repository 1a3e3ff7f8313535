"""Image files of any kind, as a small RGB image or a data URL.

Rotation in EXIF is applied, modes are converted by :mod:`eegprompt.core.image_files`, and of an animation
the first frame counts.
"""

from __future__ import annotations

import base64
import io
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import CaptionError
from eegprompt.core.image_files import to_rgb

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from eegprompt.study import Study

__all__ = ["data_url", "image_sources", "load_image"]

_HUGE = 20_000_000  # pixels; of images as large as this one is decoded at a time
_ONE_AT_A_TIME = threading.Lock()


def load_image(path: str | Path, side: int = 512) -> PILImage.Image:
    """Load an image, at most `side` pixels high and wide.

    Parameters
    ----------
    path : path-like
        The file.
    side : int, default 512
        Larger images are reduced, with their proportions; smaller ones stay.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    CaptionError
        If the file is missing, is no image, is cut off, or is too large to be decoded safely.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        with Image.open(path) as handle:
            if handle.format == "JPEG":
                handle.draft(handle.mode, (side, side))  # decodes at a fraction of the size
            huge = handle.size[0] * handle.size[1] > _HUGE
            with _ONE_AT_A_TIME if huge else nullcontext():
                handle.seek(0)
                image = to_rgb(handle)
                image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            try:
                # The table of a rotation is small: it is read from the file's own EXIF.
                turn = handle.getexif().get(0x0112, 1)
            except Exception:  # damaged EXIF says nothing
                turn = 1
    except FileNotFoundError:
        raise CaptionError(f"the image {path.name} is missing") from None
    except Image.DecompressionBombError:
        raise CaptionError(
            f"the image {path.name} has too many pixels to be decoded safely; reduce it"
        ) from None
    except Exception as problem:  # PIL's readers raise many kinds; each means it is no image
        reason = " ".join(str(problem).split()).replace(str(path), path.name)[:150]
        raise CaptionError(
            f"the image {path.name} cannot be read ({reason or type(problem).__name__})"
        ) from None
    if turn != 1:
        exif = Image.Exif()
        exif[0x0112] = turn
        image.info["exif"] = exif.tobytes()
        image = ImageOps.exif_transpose(image)
    return image


def data_url(image: PILImage.Image, quality: int = 85) -> str:
    """Write an image as a ``data:`` URL holding a JPEG without metadata.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode RGB.
    quality : int, default 85
        Of the JPEG, 1 to 95.
    """
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=quality, exif=b"")
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def image_sources(study: Study) -> dict[str, dict[str, Any]]:
    """What is known of each image of a study: its `path` (or None) and its `label` (or "")."""
    table = study.images
    return {
        str(image_id): {
            "path": study.path / path if isinstance(path, str) and path else None,
            "label": label.replace("_", " ").strip() if isinstance(label, str) else "",
        }
        for image_id, path, label in zip(table["image_id"], table["path"], table["category"])
    }

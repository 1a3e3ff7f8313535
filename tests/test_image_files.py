"""Every mode of Pillow comes out as bright as it went in, or is refused; none is clipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms

from eegprompt.captions._image_data import load_image
from eegprompt.core.errors import CaptionError, InputError, RecordingError, StudyError
from eegprompt.core.image_files import to_rgb
from eegprompt.generators.nearest import NearestGenerator
from eegprompt.readers._images import add_image
from eegprompt.study import Study

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
GRAY = Image.fromarray(RAMP)
WIDE = ("I;16", "I;16L", "I;16B", "I;16N")


def _lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(GRAY.convert("RGB"), *profiles, outputMode="LAB")
    assert lab is not None
    return lab


def image_of(mode: str) -> Image.Image:
    """The ramp from black to white in a mode."""
    if mode == "1":
        return Image.fromarray(RAMP > 127)
    if mode in WIDE:
        wide = (RAMP.astype(np.uint16) * 257).astype(">u2" if mode == "I;16B" else "<u2")
        return Image.frombytes(mode, GRAY.size, wide.tobytes())
    if mode == "I":
        return Image.fromarray(RAMP.astype(np.int32))
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32) / 255)
    if mode == "LAB":
        return _lab()
    if mode in ("PA", "La", "RGBa"):
        return GRAY.convert({"PA": "LA", "La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    return GRAY.convert("RGB").convert(mode) if mode not in ("L", "P") else GRAY.convert(mode)


MODES = sorted({*Image.MODES, *WIDE, "LA", "PA", "La", "RGBa", "RGBX"})


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_its_brightness(mode: str) -> None:
    try:
        image = image_of(mode)
    except (ValueError, KeyError) as problem:
        pytest.skip(f"this Pillow makes no {mode} ({problem})")
    assert image.mode == mode
    rgb = to_rgb(image)
    assert rgb.mode == "RGB" and rgb.size == GRAY.size
    expected = np.where(RAMP > 127, 255, 0) if mode == "1" else RAMP.astype(int)
    found = np.asarray(rgb).astype(int)
    assert np.abs(found - expected[..., None]).max() <= 3


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e6])
@pytest.mark.parametrize("mode", ["F", "I"])
def test_the_range_is_taken_from_the_largest_value(mode: str, top: float) -> None:
    values = RAMP / 255 * top
    image = Image.fromarray(values.astype(np.float32 if mode == "F" else np.int32))
    found = np.asarray(to_rgb(image))[..., 0].astype(int)
    assert np.abs(found - np.asarray(image) / top * 255).max() <= 0.51


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), -float("inf")])
def test_values_that_no_range_holds_are_refused(value: float) -> None:
    values = RAMP.astype(np.float32) / 255
    values[3, 3] = value
    with pytest.raises(InputError):
        to_rgb(Image.fromarray(values))


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (0, 0, 0, 128))
    assert np.asarray(to_rgb(clear))[0].tolist() == [[255] * 3, [127] * 3]
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("F", ".tif"), ("I;16", ".png"), ("I;16", ".tif"), ("LAB", ".tif")]
)
def test_all_that_reads_image_files_reads_them_alike(
    small_study: Path, tmp_path: Path, mode: str, suffix: str
) -> None:
    path = tmp_path / f"ramp{suffix}"
    image_of(mode).save(path)
    study = Study(small_study)
    study.images = study.images.assign(path=str(path))
    nearest = NearestGenerator(None, width=8, height=8)
    imported = add_image(path, tmp_path, "copy")
    with Image.open(tmp_path / imported["path"]) as copied:
        copy = np.asarray(to_rgb(copied))
    for found in (
        study.load_images(["img-3"])[0],
        np.asarray(load_image(path)),
        nearest.generate(["a"], [0], image_paths=[str(path)])[0],
        copy,
    ):
        assert np.abs(found.astype(int) - RAMP[..., None].astype(int)).max() <= 3


def test_an_image_that_is_refused_is_refused_everywhere(small_study: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    Image.fromarray(RAMP.astype(np.float32) - 100).save(path)
    study = Study(small_study)
    study.images = study.images.assign(path=str(path))
    with pytest.raises(StudyError):
        study.load_images(["img-3"])
    with pytest.raises(CaptionError):
        load_image(path)
    with pytest.raises(InputError):
        NearestGenerator(None).generate(["a"], [0], image_paths=[str(path)])
    with pytest.raises(RecordingError):
        add_image(path, tmp_path, "copy")


def test_paths_of_images_are_looked_up_and_follow_the_table(small_study: Path) -> None:
    study = Study(small_study)
    assert study.image_path("img-3") == small_study / "images" / "img-3.png"
    study.images = study.images.assign(path=["x.png"] * len(study.images))
    assert study.image_path("img-3") == small_study / "x.png"
    n = 20_000
    study.images = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "path": "a.png"})
    import time

    start = time.process_time()
    for k in range(n):
        study.image_path(f"i{k}")
    assert time.process_time() - start < 5  # a scan of the table for each takes ten times as long

"""The training image instead of a generated image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eegprompt.core.errors import InputError
from eegprompt.generators import load_generator
from eegprompt.generators.base import Generator


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png", pixels


def test_the_image_itself_is_shown_at_its_size(image):
    path, pixels = image
    generator = load_generator("nearest", height=12, width=20)
    assert isinstance(generator, Generator) and generator.wants_images
    out = generator.generate(["a", "b"], [1, 2], image_paths=[str(path)] * 2)
    assert out.dtype == np.uint8 and np.array_equal(out, np.stack([pixels] * 2))
    assert generator.max_tokens is None and generator.settings["model"] == "nearest"


def test_images_of_any_size_and_mode_are_brought_to_one(image, tmp_path):
    path, pixels = image
    gray = Image.fromarray(pixels).convert("L")
    gray.save(tmp_path / "g.png")
    generator = load_generator("nearest", height=6, width=6)
    paths = [path, tmp_path / "g.png"]
    out = generator.generate(["a", "b"], [1, 2], image_paths=paths)
    squashed = Image.fromarray(pixels).resize((6, 6), Image.Resampling.BICUBIC)
    assert np.array_equal(out[0], np.asarray(squashed))
    assert (out[1] == out[1][..., :1]).all()
    assert load_generator("nearest").generate([], [], image_paths=[]).shape == (0, 256, 256, 3)


def test_an_image_that_is_not_given_or_not_there_is_said(image, tmp_path):
    generator = load_generator("nearest")
    with pytest.raises(InputError, match="1 prompts need as many seeds and training images"):
        generator.generate(["a"], [1])
    with pytest.raises(InputError, match="no training image that stands for it"):
        generator.generate(["a"], [1], image_paths=[""])
    with pytest.raises(InputError, match="cannot be read"):
        generator.generate(["a"], [1], image_paths=[str(tmp_path / "none.png")])
    (tmp_path / "half.png").write_bytes(image[0].read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be read"):
        generator.generate(["a"], [1], image_paths=[str(tmp_path / "half.png")])
    with pytest.raises(InputError, match="takes no argument"):
        load_generator("nearest:x")
    with pytest.raises(InputError, match="height must be"):
        load_generator("nearest", height=0)

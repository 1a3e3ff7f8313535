"""Pixel scores against scikit-image and SciPy, to 1e-6, and the preparations against torch and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.metrics.pixels import (
    gray,
    pixcorr,
    prepare,
    ssim,
    ssim_legacy,
    ssim_pairs,
)


def smooth_images(n, height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 5, 4, 3), dtype=np.uint8)
    resized = [Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC) for c in coarse]
    noise = rng.integers(-9, 10, (n, height, width, 3))
    return (np.stack([np.asarray(r) for r in resized]) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    return tuple(smooth_images(4, 60, 47, s) / 255 for s in (0, 1))


def test_ssim_is_scikit_images(images):
    a, b = gray(images[0]), gray(images[1])
    expected = [
        structural_similarity(
            rgb2gray(x), rgb2gray(y), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=1.0,
        )
        for x, y in zip(*images)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(ssim(a, a), 1)


def test_ssim_legacy_takes_columns_for_channels(images):
    a, b = gray(images[0]), gray(images[1])

    def column_by_column(x, y):
        """SSIM of one-dimensional signals, written out: each column is a channel of its own."""
        values = []
        for u, v in zip(x.T, y.T):
            mean = [gaussian_filter1d(s, 1.5, truncate=3.5) for s in (u, v, u * u, v * v, u * v)]
            mu, mv, uu, vv, uv = mean
            top = (2 * mu * mv + 1e-4) * (2 * (uv - mu * mv) + 9e-4)
            bottom = (mu**2 + mv**2 + 1e-4) * (uu - mu**2 + vv - mv**2 + 9e-4)
            values.append((top / bottom)[5:-5].mean())
        return np.mean(values)

    expected = [column_by_column(x, y) for x, y in zip(a, b)]
    np.testing.assert_allclose(ssim_legacy(a, b), expected, atol=1e-9)


def test_pixcorr_is_pearson_and_a_constant_image_counts_zero(images):
    expected = [pearsonr(x.ravel(), y.ravel()).statistic for x, y in zip(*images)]
    np.testing.assert_allclose(pixcorr(*images), expected, atol=1e-6)
    flat = np.full_like(images[0], 0.3)
    assert pixcorr(images[0], flat).tolist() == [0, 0, 0, 0]
    assert pixcorr(flat, flat).tolist() == [0, 0, 0, 0]
    gray_flat = gray(flat)
    assert np.isfinite(ssim(gray(images[0]), gray_flat)).all()
    assert np.isnan(pixcorr(images[0] * np.nan, images[1])).all()


@pytest.mark.parametrize("legacy", [False, True])
def test_all_pairs_are_the_pairs_one_by_one(images, legacy):
    one = gray(images[0].astype(np.float32))
    two = gray(images[1][:3].astype(np.float32))
    table = ssim_pairs(one, two)[..., int(legacy)]
    alone = ssim_legacy if legacy else ssim
    for i in range(4):
        expected = alone(np.repeat(one[i : i + 1], 3, axis=0), two)
        np.testing.assert_allclose(table[i], expected, atol=1e-4)


def test_mindeye_goes_through_256():
    import torch

    image = smooth_images(1, 300, 500)[0]
    x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    for side in (256, 425):
        x = torch.nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
    np.testing.assert_allclose(prepare([image])[0], x[0].permute(1, 2, 0).numpy(), atol=1e-6)


def test_brain_diffuser_squashes_with_pillow_and_leaves_425_alone():
    small, native = smooth_images(1, 64, 64)[0], smooth_images(1, 425, 425)[0]
    out = prepare([small, native], "brain-diffuser")
    expected = np.asarray(Image.fromarray(small).resize((425, 425))) / 255
    np.testing.assert_allclose(out[0], expected, atol=1e-6)
    np.testing.assert_allclose(out[1], native / 255, atol=1e-6)


def test_a_constant_image_stays_constant():
    image = np.zeros((64, 48, 3), dtype=np.uint8) + np.array([10, 128, 250], dtype=np.uint8)
    for protocol in ("mindeye", "brain-diffuser"):
        out = prepare([image], protocol)[0]
        assert np.ptp(out, axis=(0, 1)).tolist() == [0, 0, 0]


def test_bad_input_is_named(images):
    with pytest.raises(UnknownNameError, match="did you mean 'mindeye'"):
        prepare(np.zeros((1, 9, 9, 3), np.uint8), "mindeyes")
    with pytest.raises(InputError, match="must be uint8"):
        prepare(np.zeros((1, 9, 9, 3)))
    with pytest.raises(InputError, match="one reference of the same size"):
        pixcorr(images[0], images[1][:2])
    with pytest.raises(InputError, match="at least 11 pixels"):
        ssim(np.zeros((1, 10, 30)), np.zeros((1, 10, 30)))

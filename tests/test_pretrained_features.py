"""The field's feature networks against torchvision, torchmetrics and torch-fidelity themselves.

Needs the ``eval`` extra: run with ``make test-eval``; skipped where torchvision is absent. The
weights are random, in files named as the published ones, so that nothing is downloaded.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eegprompt.core.errors import ModelLoadError, UnknownNameError
from eegprompt.features.pretrained import WEIGHTS, PretrainedFeatures, find_weights
from tiny_models import save_clip
from torchvision_shim import have_torchvision

pytestmark = pytest.mark.skipif(
    not have_torchvision(), reason="needs torchvision: make test-eval has it"
)

MEAN, SD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of every network, under the published names."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchvision import models

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    for name, network in (
        ("alexnet", models.alexnet(weights=None)),
        ("inception", models.inception_v3(weights=None, init_weights=False)),
        ("effnet-v1", models.efficientnet_b1(weights=None)),
        ("effnet-v2", models.efficientnet_b1(weights=None)),
    ):
        torch.save(network.state_dict(), folder / WEIGHTS[name].file)
    swav = {f"module.{k}": v for k, v in models.resnet50(weights=None).state_dict().items()}
    swav = {k: v for k, v in swav.items() if not k.startswith("module.fc")}
    swav["module.prototypes.weight"] = torch.zeros(3, 128)
    torch.save(swav, folder / WEIGHTS["swav"].file)

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args, **kwargs):
            return None

    torch.save({}, folder / "nothing.pth")
    network = Untrained("x", ["2048"], feature_extractor_weights_path=str(folder / "nothing.pth"))
    torch.save(network.state_dict(), folder / WEIGHTS["fid"].file)
    return folder


@pytest.fixture(autouse=True)
def _random_weights_have_no_published_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in list(WEIGHTS.items()):
        monkeypatch.setitem(WEIGHTS, name, replace(file, sha256=""))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((400, 300))) for c in coarse])


def prepared(images: np.ndarray, size: int, protocol: str = "mindeye") -> torch.Tensor:
    """By torchvision's own transforms."""
    from torchvision.transforms import InterpolationMode, v2

    if protocol == "brain-diffuser":
        from PIL import Image

        squash = v2.Resize((224, 224), InterpolationMode.BILINEAR)
        x = (
            torch.stack(
                [v2.functional.pil_to_tensor(squash(Image.fromarray(i))) for i in images]
            ).float()
            / 255
        )
    else:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        for side in (256, size):
            x = v2.Resize((side, side), InterpolationMode.BILINEAR, antialias=True)(x)
    return v2.Normalize(MEAN.tolist(), SD.tolist())(x)


@pytest.mark.parametrize("protocol", ["mindeye", "brain-diffuser"])
def test_layers_are_torchvisions(weights: Path, images: np.ndarray, protocol: str) -> None:
    from torchvision import models
    from torchvision.models.feature_extraction import create_feature_extractor

    got = PretrainedFeatures(
        weights=weights,
        protocol=protocol,
        device="cpu",
        only=["alexnet", "inception", "effnet", "swav"],
    )(images)
    effnet = "effnet-v2" if protocol == "mindeye" else "effnet-v1"
    for file, network, size, nodes in (
        ("alexnet", models.alexnet(), 256, {"features.4": "alex2", "features.11": "alex5"}),
        (
            "inception",
            models.inception_v3(init_weights=False, transform_input=True),
            342,
            {"avgpool": "inception", "fc": "classes"},
        ),
        (effnet, models.efficientnet_b1(), 255, {"avgpool": "effnet"}),
        ("swav", models.resnet50(), 224, {"avgpool": "swav"}),
    ):
        state = torch.load(weights / WEIGHTS[file].file)
        state = {k.removeprefix("module."): v for k, v in state.items()}
        network.load_state_dict(state, strict=file != "swav")
        extractor = create_feature_extractor(network.eval(), nodes)
        with torch.inference_mode():
            expected = extractor(prepared(images, size, protocol))
        for layer, values in expected.items():
            np.testing.assert_allclose(
                got[layer], values.flatten(1).numpy(), rtol=2e-3, atol=2e-4 * values.abs().max()
            )
    assert got["alex2"].shape[1] == (184_512 if protocol == "mindeye" else 192 * 27 * 27)


def test_lpips_is_torchmetrics(
    weights: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as lpips

    from eegprompt.metrics.identification import squared_distances

    features = PretrainedFeatures(weights=weights, device="cpu", only=["lpips"])
    square = images[:, :256, :256]
    ours = squared_distances(features(square)["lpips"][:1], features(square)["lpips"])[0]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / WEIGHTS["alexnet"].file).symlink_to(weights / WEIGHTS["alexnet"].file)
    x = torch.from_numpy(np.ascontiguousarray(square)).permute(0, 3, 1, 2).float() / 255
    theirs = [
        float(lpips(x[:1], x[i : i + 1], net_type="alex", normalize=True)) for i in range(len(x))
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert ours[0] < 1e-6 < ours[1]


def test_fid_network_is_torch_fidelitys(weights: Path, images: np.ndarray) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    got = PretrainedFeatures(weights=weights, device="cpu", only=["fid"])(images)
    network = FeatureExtractorInceptionV3(
        "x",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(weights / WEIGHTS["fid"].file),
    )
    pool, logits = network(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(got["fid_pool"], pool.numpy())
    np.testing.assert_array_equal(got["fid_logits"], logits.numpy())


def test_set_scores_are_torch_fidelitys() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    from eegprompt.metrics.distributions import (
        frechet_distance,
        inception_score,
        kernel_distance,
    )

    rng = np.random.default_rng(0)
    n, d = 2100, 256
    mix = rng.standard_normal((d, d)) / np.sqrt(d)
    one = np.abs(rng.standard_normal((n, d)) @ mix)
    two = np.abs(rng.standard_normal((n, d)) @ mix + 0.2)
    a, b = torch.from_numpy(one), torch.from_numpy(two)
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False
    )["frechet_inception_distance"]
    assert frechet_distance(one, two) == pytest.approx(theirs, rel=1e-4)
    kid = kid_features_to_metric(a, b, kid_subsets=20, kid_subset_size=1000, verbose=False)
    mean, sd = kernel_distance(one, two, subsets=20)
    assert mean == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-4)
    assert sd == pytest.approx(kid["kernel_inception_distance_std"], rel=1e-4)
    isc = isc_features_to_metric(torch.from_numpy(4 * one), splits=10, shuffle=True, rng_seed=2020)
    ours = inception_score(4 * one)
    assert ours[0] == pytest.approx(isc["inception_score_mean"], rel=1e-4)
    assert ours[1] == pytest.approx(isc["inception_score_std"], rel=1e-4)


def test_clip_images_and_captions(weights: Path, images: np.ndarray, tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "clip")
    features = PretrainedFeatures(str(clip), weights=weights, device="cpu", only=["clip"])
    got = features(images)["clip"]
    assert got.shape[0] == 3 and np.isfinite(got).all()
    np.testing.assert_allclose(features(images[1:2])["clip"], got[1:2], rtol=1e-4, atol=1e-5)
    texts = features.embed_texts(["a red car", "a blue house on a hill"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    assert texts.shape[1] == got.shape[1]
    assert features.hashes["clip"].startswith("folder-")


def test_a_missing_file_is_named_and_costs_only_its_scores(
    weights: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / WEIGHTS["alexnet"].file).symlink_to(weights / WEIGHTS["alexnet"].file)
    features = PretrainedFeatures(weights=tmp_path, device="cpu", only=["alexnet", "effnet"])
    assert set(features(images)) == {"alex2", "alex5"}
    assert list(features.missing) == ["effnet"]
    assert WEIGHTS["effnet-v2"].file in features.missing["effnet"]
    assert "https://" in features.missing["effnet"]
    assert set(features.hashes) == {"alexnet"} and "alexnet:" in features.revision


def test_another_file_of_that_name_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTS, "alexnet", replace(WEIGHTS["alexnet"], sha256="7be5be79"))
    with pytest.raises(ModelLoadError, match=r"is not the published file.*7be5be79"):
        find_weights("alexnet", weights)
    with pytest.raises(UnknownNameError, match="alexnet"):
        find_weights("alexnte")


def test_weights_that_would_run_code_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for name in ("alexnet", "fid"):
        (tmp_path / WEIGHTS[name].file).write_bytes(pickle.dumps(Evil()))
        features = PretrainedFeatures(weights=tmp_path, device="cpu", only=[name])
        assert "cannot be read as weights" in features.missing[name]
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS["alexnet"].file).symlink_to(weights / WEIGHTS["effnet-v1"].file)
    features = PretrainedFeatures(weights=tmp_path, device="cpu", only=["alexnet"])
    assert "do not fit" in features.missing["alexnet"]


def test_a_run_is_scored_with_them(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every score of the field on a run whose images are right: at its best end, beside floors."""
    import test_evaluation as made
    from eegprompt.core import registry
    from eegprompt.steps.evaluate import evaluate

    monkeypatch.setitem(
        registry.GROUPS["text encoder"], "fake-evaluation", "test_evaluation:FakeTextEncoder"
    )
    monkeypatch.setitem(
        registry.GROUPS["features"], "fake-evaluation", "test_evaluation:load_fake_features"
    )
    study = made.make_study(tmp_path / "study", classes=2, per_class=4, repetitions=1)
    clip = save_clip(tmp_path / "clip")
    run = made.make_run(
        tmp_path / "run",
        study,
        features=f"pretrained:{clip}",
        weights=str(weights),
        permutations=19,
    )
    rows = evaluate(run)
    found = {row["metric"]: row for row in rows if row["features"]}
    assert {
        "two_way_alex2", "two_way_alex5", "two_way_inception", "two_way_clip", "clip_image_cosine",
        "clip_score", "effnet_distance", "swav_distance", "lpips", "50_way_accuracy",
        "1000_way_accuracy", "inception_score", "fid", "kid",
    } <= set(found)  # fmt: skip
    for metric in ("two_way_alex2", "lpips"):
        row = found[metric]
        assert row["chance"] is not None and row["floor"] is not None and row["lo"] is not None
    better = found["two_way_alex2"]
    assert better["value"] > better["floor"] and better["ceiling"] >= better["value"]
    worse = found["lpips"]
    assert worse["higher_is_better"] is False and worse["value"] < worse["floor"]
    assert "alexnet:" in "".join(__import__("json").loads(run.scores_path.read_text())["notes"])

    # The paper's table has a number of ours in each of its columns, and says what it rests on.
    from eegprompt.publication import compare

    table = compare(run.path, Path(__file__).parents[1] / "recipes" / "eegcvpr-published.csv")
    own = next(row for row in table.rows if row.measured)
    assert list(own.cells) and set(own.cells) == set(table.metrics)
    kid = next(row for row in rows if row["metric"] == "kid" and row["source"] == "eeg")
    assert own.cells["kid"].value == kid["value"]
    for words in ("alexnet-owt-7be5be79.pth", "weights-inception-2015", str(clip)):
        assert words in own.weights
    assert "mindeye" in own.protocol and "torch-fidelity (IS, KID, FID)" in own.protocol
    named = {row.model for row in table.rows if row.measured}
    assert {"chance, by permutation", "a plain gray image"} <= named
    assert "the images shown, in place of drawn ones" in named  # the IS of the real images

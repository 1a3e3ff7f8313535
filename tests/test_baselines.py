"""Ridge and braindecode as encoders: against scikit-learn, and through training and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eegprompt.core.errors import (
    InputError,
    MissingDependencyError,
    ModelLoadError,
    UnknownNameError,
)
from eegprompt.core.registry import resolve
from eegprompt.encoders.ridge import PENALTIES, RidgeEncoder
from eegprompt.settings import load_config
from eegprompt.steps.train import train
from eegprompt.study import Study
from torchaudio_stub import have_braindecode

needs_braindecode = pytest.mark.skipif(
    not have_braindecode(), reason="needs braindecode: make test-eval"
)


def planted(
    n: int, seed: int, subjects: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """EEG whose window means give the target linearly, with another map for each subject."""
    rng = np.random.default_rng(seed)
    maps = np.random.default_rng(0).standard_normal((subjects, 3 * 5, 6))
    eeg = rng.standard_normal((n, 3, 20)).astype(np.float32)
    subject = rng.integers(0, subjects, n)
    means = eeg.reshape(n, 3, 5, 4).mean(axis=3).reshape(n, -1)
    target = np.einsum("nf,nfd->nd", means, maps[subject]) + 0.2 * rng.standard_normal((n, 6))
    return torch.from_numpy(eeg), torch.from_numpy(target).float(), torch.from_numpy(subject)


def solved(
    encoder: RidgeEncoder, eeg: torch.Tensor, target: torch.Tensor, subject: torch.Tensor
) -> list[dict[str, float]]:
    test_eeg, test_target, test_subject = planted(200, 1, max(len(encoder.bias) - 1, 1))

    def validate() -> float:
        given = encoder(test_eeg, torch.zeros(3, 3), test_subject)["ObjectSnap"]
        return -float((given - test_target).square().mean())

    return encoder.solve([(eeg, subject)], {"ObjectSnap": target}, validate)


@pytest.mark.parametrize("n", [10, 80])  # fewer trials than features, and more
def test_ridge_is_scikit_learns(n: int) -> None:
    from sklearn.linear_model import Ridge

    encoder = RidgeEncoder(["ObjectSnap"], 6, 3, 20, 100.0, bin_width=0.04)
    eeg, target, subject = planted(n, 2)
    tried = solved(encoder, eeg, target, torch.full_like(subject, -1))
    assert [row["penalty"] for row in tried] == list(PENALTIES)
    best = max(tried, key=lambda row: row["score"])["penalty"]
    x = encoder.features(eeg).double().numpy()
    x = (x - x.mean(0)) / x.std(0, ddof=1)
    values = np.linalg.eigvalsh(x @ x.T).clip(0)
    reference = Ridge(alpha=best * values.sum() / min(x.shape)).fit(x, target.numpy())
    got = encoder(eeg, torch.zeros(3, 3))["ObjectSnap"]
    np.testing.assert_allclose(got.numpy(), reference.predict(x), atol=2e-4)


def test_subjects_have_maps_of_their_own_and_others_the_shared_one() -> None:
    eeg, target, subject = planted(300, 3, subjects=2)
    own = RidgeEncoder(["ObjectSnap"], 6, 3, 20, 100.0, n_subjects=2)
    shared = RidgeEncoder(["ObjectSnap"], 6, 3, 20, 100.0, n_subjects=2, per_subject=False)
    with_own = max(r["score"] for r in solved(own, eeg, target, subject))
    one_for_all = max(r["score"] for r in solved(shared, eeg, target, subject))
    assert with_own > -0.1 > one_for_all  # the noise has a variance of .04
    stranger = own(eeg[:4], torch.zeros(3, 3), torch.full((4,), -1))["ObjectSnap"]
    torch.testing.assert_close(own(eeg[:4], torch.zeros(3, 3))["ObjectSnap"], stranger)


def test_ridge_refuses_windows_longer_than_a_trial() -> None:
    with pytest.raises(InputError, match="bin_width"):
        RidgeEncoder(["ObjectSnap"], 6, 3, 20, 100.0, bin_width=0.5)


def test_ridge_is_trained_stored_and_read_back(small_study: Path, tmp_path: Path) -> None:
    from eegprompt.encoders.saved import load_encoder

    study = Study(small_study)
    config = load_config(
        {
            "study": str(small_study),
            "split": study.split_names()[0],
            "captions": study.caption_names()[0],
            "encoder": {"name": "ridge", "options": {"bin_width": 0.05}},
        }
    )
    run = train(study, tmp_path / "run", config)
    encoder, _, facts = load_encoder(run.encoder_dir, "cpu")
    assert facts["name"] == "ridge" and encoder.config["bin_width"] == 0.05
    assert float(encoder.weight.abs().sum()) > 0
    with pytest.raises(UnknownNameError, match="bin_width"):
        wrong = {"name": "ridge", "options": {"bin": 1}}
        train(
            study,
            tmp_path / "b",
            config.model_copy(update={"encoder": type(config.encoder)(**wrong)}),
        )
    with pytest.raises(InputError, match="takes nothing after the colon"):
        named = type(config.encoder)(name="ridge:EEGNet")
        train(study, tmp_path / "c", config.model_copy(update={"encoder": named}))


def test_braindecode_that_is_absent_is_asked_for() -> None:
    from importlib.util import find_spec

    from eegprompt.encoders.braindecode import BraindecodeEncoder

    if find_spec("braindecode") is None:
        with pytest.raises(MissingDependencyError, match=r"eegprompt\[baselines\]"):
            BraindecodeEncoder(["ObjectSnap"], 6, 3, 64, 100.0)


@needs_braindecode
@pytest.mark.parametrize(
    "model", ["EEGNet", "ShallowFBCSPNet", "Deep4Net", "EEGConformer", "ATCNet"]
)
def test_braindecodes_models_learn(model: str) -> None:
    """Each fits a planted class in a few steps, and comes back from disk as it was."""
    from eegprompt.encoders.braindecode import BraindecodeEncoder

    torch.manual_seed(0)
    encoder = BraindecodeEncoder(["ObjectSnap", "MoodFeel"], 6, 8, 128, 128.0, model=model)
    eeg, label = torch.randn(32, 8, 128), torch.arange(32) % 2
    eeg[label == 1, :4, 40:80] += 2.0
    optimizer = torch.optim.AdamW(encoder.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        out = encoder(eeg, torch.zeros(8, 3))
        assert set(out) == {"ObjectSnap", "MoodFeel"} and out["MoodFeel"].shape == (32, 6)
        loss = torch.nn.functional.cross_entropy(out["ObjectSnap"], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.6 * losses[0]


@needs_braindecode
def test_a_model_that_braindecode_lacks_is_refused() -> None:
    from eegprompt.encoders.braindecode import BraindecodeEncoder

    with pytest.raises(UnknownNameError, match="EEGNet"):
        BraindecodeEncoder(["ObjectSnap"], 6, 3, 64, 100.0, model="EEGNett")


@needs_braindecode
def test_pretrained_weights_are_loaded_and_the_eeg_brought_to_their_form(tmp_path: Path) -> None:
    """A tiny network saved by braindecode itself, at another rate, for other channels."""
    from braindecode.models import BIOT

    from eegprompt.encoders.braindecode import BraindecodeEncoder

    theirs, ours = ["Fz", "Cz", "Pz", "Oz"], ["OZ", "Pz", "Cz", "POz", "C3"]
    torch.manual_seed(0)
    saved = BIOT(
        embed_dim=16, num_heads=2, num_layers=1, sfreq=200, n_times=200, n_outputs=2,
        chs_info=[{"ch_name": name} for name in theirs],
    )  # fmt: skip
    saved.save_pretrained(tmp_path)
    encoder = BraindecodeEncoder(
        ["ObjectSnap"], 6, 5, 100, 128.0, ch_names=ours, model="BIOT", pretrained=str(tmp_path)
    ).eval()
    there = encoder.network.state_dict()
    same = [n for n, v in saved.state_dict().items() if n in there and torch.equal(v, there[n])]
    assert len(same) >= len(there) - 2  # all but the last layer
    assert (encoder.rate, encoder.length, encoder.resampled) == (200.0, 200, 156)
    mixing = encoder.mixing
    assert mixing.shape == (4, 5)
    assert mixing[1].tolist() == [0, 0, 1, 0, 0] and mixing[3].tolist() == [1, 0, 0, 0, 0]
    assert mixing[0].argmax() == 2 and float(mixing[0].sum()) == pytest.approx(1)  # Fz: from Cz
    again = BraindecodeEncoder(**json.loads(json.dumps(encoder.config))).eval()
    again.load_state_dict(encoder.state_dict())
    eeg = torch.randn(2, 5, 100)
    torch.testing.assert_close(
        again(eeg, torch.zeros(5, 3))["ObjectSnap"], encoder(eeg, torch.zeros(5, 3))["ObjectSnap"]
    )
    for names, error in ((["A", "B", "C", "D", "E"], InputError), ((), InputError)):
        with pytest.raises(error):
            BraindecodeEncoder(
                ["ObjectSnap"], 6, 5, 100, 128.0, ch_names=names, model="BIOT",
                pretrained=str(tmp_path),
            )  # fmt: skip
    with pytest.raises(ModelLoadError):
        BraindecodeEncoder(
            ["ObjectSnap"], 6, 5, 100, 128.0, model="BIOT", pretrained=str(tmp_path / "none")
        )


@pytest.mark.parametrize("seconds", [0.8, 1.0, 4.5])
def test_kernels_last_as_long_as_published(seconds: float) -> None:
    from eegprompt.encoders.braindecode import PUBLISHED, lasting

    for model, (rate, published) in PUBLISHED.items():
        assert lasting(model, rate, 100_000) == published
        halved = lasting(model, rate / 2, round(seconds * rate / 2))
        if model != "ATCNet":
            assert all(abs(halved[name] - n / 2) <= 0.5 for name, n in published.items())
    atcnet = lasting("ATCNet", 128.0, round(seconds * 128))
    pools = atcnet["conv_block_pool_size_1"] * atcnet["conv_block_pool_size_2"]
    assert round(seconds * 128) // pools >= 10


@pytest.mark.parametrize("n_new", [64, 100, 101, 200, 256])
def test_resampling_keeps_what_both_rates_can_hold(n_new: int) -> None:
    from eegprompt.encoders.braindecode import resampled

    def wave(n: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * 5 * torch.arange(n) / n + 0.3)[None]

    torch.testing.assert_close(resampled(wave(128), n_new), wave(n_new), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["nice", "atm"])
def test_peers_learn_and_come_back_from_disk(name: str) -> None:
    make, _ = resolve("encoder", name)
    torch.manual_seed(0)
    encoder = make(["ObjectSnap", "MoodFeel"], 6, 8, 128, 128.0)
    eeg, label = torch.randn(32, 8, 128), torch.arange(32) % 2
    eeg[label == 1, :4, 40:80] += 2.0
    optimizer = torch.optim.AdamW(encoder.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        out = encoder(eeg, torch.zeros(8, 3), label)
        loss = torch.nn.functional.cross_entropy(out["ObjectSnap"], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.6 * losses[0] and out["MoodFeel"].shape == (32, 6)
    again = make(**json.loads(json.dumps(encoder.config)))
    again.load_state_dict(encoder.state_dict())
    stranger = torch.full((32,), -1)
    torch.testing.assert_close(
        again.eval()(eeg, torch.zeros(8, 3))["MoodFeel"],
        encoder.eval()(eeg, torch.zeros(8, 3), stranger)["MoodFeel"],
    )


def test_pooling_before_the_convolution_is_the_same_function() -> None:
    from eegprompt.encoders.nice import TemporalSpatial

    first = TemporalSpatial(4, 250, 250.0).eval()
    published = TemporalSpatial(4, 250, 250.0, pooled_first=False).eval()
    published.load_state_dict(first.state_dict())
    assert first.n_features == 1440  # as published, for 250 samples
    eeg = torch.randn(3, 4, 250)
    torch.testing.assert_close(first(eeg), published(eeg), atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError):
        TemporalSpatial(4, 60, 250.0)


def test_single_positive_counts_other_right_answers_as_wrong() -> None:
    from eegprompt.training.objectives import ClipObjective, SinglePositiveClipObjective

    torch.manual_seed(0)
    one = {"a": torch.randn(4, 5)}
    two = {"a": torch.randn(4, 5)}
    own = {"a": torch.eye(4, dtype=torch.bool)}
    shared = {"a": torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).bool()}
    multi, single = ClipObjective(["a"]), SinglePositiveClipObjective(["a"])
    assert single(one, two, shared)[0] == multi(one, two, own)[0] != multi(one, two, shared)[0]

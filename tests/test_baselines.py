"""Ridge and braindecode as encoders: against scikit-learn, and through training and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eegprompt.core.errors import InputError, MissingDependencyError, UnknownNameError
from eegprompt.encoders.ridge import PENALTIES, RidgeEncoder
from eegprompt.settings import load_config
from eegprompt.steps.train import train
from eegprompt.study import Study
from torchaudio_stub import have_braindecode
from torchvision_shim import have_torchvision


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

    with pytest.raises(UnknownNameError, match="EEGNet"):
        BraindecodeEncoder(["ObjectSnap"], 6, 3, 64, 100.0, model="EEGNett")
    if find_spec("braindecode") is None:
        with pytest.raises(MissingDependencyError, match=r"eegprompt\[baselines\]"):
            BraindecodeEncoder(["ObjectSnap"], 6, 3, 64, 100.0)


@pytest.mark.skipif(
    not (have_torchvision() and have_braindecode()), reason="needs braindecode: make test-eval"
)
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


def test_single_positive_counts_other_right_answers_as_wrong() -> None:
    from eegprompt.training.objectives import ClipObjective, SinglePositiveClipObjective

    torch.manual_seed(0)
    one = {"a": torch.randn(4, 5)}
    two = {"a": torch.randn(4, 5)}
    own = {"a": torch.eye(4, dtype=torch.bool)}
    shared = {"a": torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).bool()}
    multi, single = ClipObjective(["a"]), SinglePositiveClipObjective(["a"])
    assert single(one, two, shared)[0] == multi(one, two, own)[0] != multi(one, two, shared)[0]

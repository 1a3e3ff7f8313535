"""The transformer encoder: any montage, any subject, and what it may depend on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from eegprompt.core.errors import InputError, RunError, StudyError, UnknownNameError
from eegprompt.encoders.preprocessing import FittedSteps
from eegprompt.encoders.saved import check_channels, load_encoder, save_encoder
from eegprompt.encoders.transformer import READOUTS, STEMS, EEGTransformer, SpatialAttention

HEADS = ["ObjectSnap", "MoodFeel"]


def make(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"n_chans": 8, "n_times": 60, "sfreq": 100.0, "n_filters": 6, "width": 16, "hidden": 8}
    encoder = EEGTransformer(heads=HEADS, embedding_dim=12, **{**sizes, **options}).eval()
    if encoder.config["readout"] == "flatten":  # it starts at zero, which would hide everything
        torch.nn.init.normal_(encoder.readout.read.weight, std=0.2)
    return encoder


def montage(n_chans, seed=0):
    directions = np.random.default_rng(seed).normal(size=(n_chans, 3))
    sphere = 0.09 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return torch.tensor(sphere, dtype=torch.float32)


def trials(n=3, n_chans=8, n_times=60, seed=0):
    return torch.randn(n, n_chans, n_times, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("n_chans", [4, 32, 128, 256])
def test_any_montage(n_chans, stem, readout):
    encoder = make(n_chans=n_chans, stem=stem, readout=readout)
    out = encoder(trials(n_chans=n_chans), montage(n_chans))
    assert list(out) == HEADS
    for embedding in out.values():
        assert embedding.shape == (3, 12) and torch.isfinite(embedding).all()
    # the same weights on another montage
    other = encoder(trials(n_chans=19), montage(19, seed=1))
    assert torch.isfinite(other["MoodFeel"]).all()


@pytest.mark.parametrize("n_times,sfreq", [(40, 64.0), (232, 256.0), (450, 1000.0), (130, 128.0)])
def test_sizes_come_from_the_data(n_times, sfreq):
    encoder = make(n_times=n_times, sfreq=sfreq)
    assert encoder(trials(n_times=n_times), montage(8))["MoodFeel"].shape == (3, 12)


def test_order_of_channels_does_not_matter():
    encoder, eeg, places = make(), trials(), montage(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    a, b = encoder(eeg, places), encoder(eeg[:, order], places[order])
    for head in HEADS:
        torch.testing.assert_close(a[head], b[head])
    moved = encoder(eeg[:, order], places)  # the EEG alone: another recording
    assert not torch.allclose(a["MoodFeel"], moved["MoodFeel"], atol=1e-3)


def test_unplaced_electrodes_are_told_apart_by_their_place_in_the_list():
    encoder, eeg = make(), trials()
    nowhere = torch.full((8, 3), torch.nan)
    out = encoder(eeg, nowhere)["MoodFeel"]
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, encoder(eeg.flip(1), nowhere)["MoodFeel"], atol=1e-3)
    with pytest.raises(InputError, match="give a montage"):
        make(n_chans=257).space(torch.full((257, 3), torch.nan))


def test_filters_can_be_bipolar_and_are_normalized():
    filters = SpatialAttention(16)(montage(32))
    assert ((filters > 0.1).any(dim=1) & (filters < -0.1).any(dim=1)).float().mean() > 0.5
    assert torch.linalg.matrix_rank(SpatialAttention(32)(montage(4))) == 4
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(16))


def test_neighbors_have_like_weights():
    places = montage(32)
    near = torch.cat([places, places[:1] + 0.001])
    filters = SpatialAttention(64)(near)
    step = (filters[:, 0] - filters[:, -1]).abs().mean()
    assert step < 0.2 * (filters[:, 0] - filters[:, 1:-1].T).abs().mean()


def test_spatial_attention_is_what_filters_the_eeg():
    encoder = make(n_subjects=3)
    with torch.no_grad():
        encoder.space.adaptation.normal_()
    places = montage(8)
    shared, own = encoder.spatial_attention(places), encoder.spatial_attention(places, 1)
    assert shared.shape == own.shape == (6, 8) and not torch.allclose(shared, own)
    torch.testing.assert_close(shared, encoder.spatial_attention(places, -1))
    # EEG that the filters do not see changes nothing
    unseen = torch.linalg.svd(own, full_matrices=True).Vh[6:]
    eeg, who = trials(), torch.tensor([1, 1, 1])
    hidden = eeg + 5 * (unseen.T @ torch.randn(2, 60))
    a, b = encoder(eeg, places, who), encoder(hidden, places, who)
    torch.testing.assert_close(a["MoodFeel"], b["MoodFeel"], atol=1e-4, rtol=1e-3)


def test_adaptation_starts_at_nothing_and_strangers_take_the_shared_path():
    encoder, eeg, places = make(n_subjects=2), trials(), montage(8)
    shared = encoder(eeg, places)["MoodFeel"]
    known = encoder(eeg, places, torch.tensor([0, 1, 0]))["MoodFeel"]
    torch.testing.assert_close(shared, known)
    with torch.no_grad():
        encoder.space.adaptation.normal_()
    mixed = encoder(eeg, places, torch.tensor([0, -1, 7]))["MoodFeel"]
    torch.testing.assert_close(mixed[1:], shared[1:])
    assert not torch.allclose(mixed[0], shared[0], atol=1e-3)


@pytest.mark.parametrize("readout", READOUTS)
def test_gradients_reach_every_parameter(readout):
    encoder = make(readout=readout, n_subjects=2).train()
    places = montage(8)
    places[3] = torch.nan
    for _ in range(2):  # a path that starts at zero passes gradients on after the first step
        encoder.zero_grad()
        out = encoder(trials(), places, torch.tensor([0, 1, 0]))
        sum(e.square().sum() for e in out.values()).backward()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter -= 1e-3 * parameter.grad
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_trials_do_not_see_each_other():
    encoder, eeg, places = make(), trials(5), montage(8)
    together = encoder(eeg, places)["MoodFeel"]
    alone = torch.cat([encoder(eeg[i : i + 1], places)["MoodFeel"] for i in range(5)])
    torch.testing.assert_close(together, alone)


def test_time_matters():
    encoder, eeg, places = make(), trials(), montage(8)
    a, b = encoder(eeg, places), encoder(eeg.roll(20, dims=2), places)
    assert not torch.allclose(a["MoodFeel"], b["MoodFeel"], atol=1e-3)


def test_one_head_and_config_round_trip():
    encoder = EEGTransformer(
        heads=("ThemeTag",), embedding_dim=5, n_chans=4, n_times=50, sfreq=100.0, patch=3
    )
    again = EEGTransformer(**json.loads(json.dumps(encoder.config)))
    again.load_state_dict(encoder.state_dict())
    assert again.config == encoder.config and again.heads == ("ThemeTag",)


@pytest.mark.parametrize(
    "options,error,match",
    [
        ({"readout": "flaten"}, UnknownNameError, "did you mean 'flatten'"),
        ({"stem": "deep"}, UnknownNameError, "unknown stem"),
        ({"n_times": 2}, InputError, "fewer than one patch"),
        ({"width": 15}, InputError, "multiple of"),
    ],
)
def test_refuses_options(options, error, match):
    with pytest.raises(error, match=match):
        make(**options)


def test_refuses_eeg_that_does_not_fit():
    encoder = make()
    with pytest.raises(InputError, match="made for trials of 60 samples"):
        encoder(trials(n_times=61), montage(8))
    with pytest.raises(InputError, match=r"positions must be \(8, 3\)"):
        encoder(trials(), montage(7))


# -- on disk ---------------------------------------------------------------------------------------
def saved(folder):
    encoder = make(n_subjects=2)
    eeg = trials(50).numpy()
    steps = FittedSteps.fit(["whiten"], eeg, np.arange(50))
    save_encoder(
        folder,
        encoder,
        steps,
        name="transformer",
        sfreq=250.0,
        tmin=-0.1,
        ch_names=list("ABCDEFGH"),
    )
    return encoder, steps, torch.from_numpy(eeg)


def test_save_and_load_give_equal_outputs(tmp_path):
    encoder, steps, eeg = saved(tmp_path)
    again, again_steps, facts = load_encoder(tmp_path, device="cpu")
    places, who = montage(8), torch.zeros(50, dtype=torch.long)
    a = encoder(steps.apply(eeg), places, who)
    b = again(again_steps.apply(eeg), places, who)
    for head in HEADS:
        torch.testing.assert_close(a[head], b[head], rtol=0, atol=0)
    assert facts["ch_names"] == list("ABCDEFGH")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "fitted.safetensors"])
def test_missing_or_broken_files_are_run_errors(name, tmp_path):
    saved(tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(RunError):
        load_encoder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunError):
        load_encoder(tmp_path)


def test_other_channels_are_refused(tmp_path):
    facts = {"ch_names": ["Fz", "Cz", "Pz"]}
    check_channels(facts, ["Fz", "Cz", "Pz"])
    with pytest.raises(StudyError, match="2 channels instead of 3"):
        check_channels(facts, ["Fz", "Cz"])
    with pytest.raises(StudyError, match="'Oz' in place 2, where 'Pz' was"):
        check_channels(facts, ["Fz", "Cz", "Oz"])

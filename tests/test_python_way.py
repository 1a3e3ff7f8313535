"""From MNE's Epochs to captions, images, maps, scores and a report, as in a notebook."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import eegprompt
from eegprompt import Decoder, Run, Study
from eegprompt.core.errors import InputError, StudyError, UnknownNameError
from eegprompt.settings import grouped


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Epochs with images known by file, as a researcher has them."""
    study = eegprompt.simulate(tmp_path_factory.mktemp("way") / "scenes", subjects=2, images=64)
    epochs = study.to_epochs()
    epochs.metadata = epochs.metadata.rename(columns={"subject": "who", "image_id": "stimulus"})
    return study, epochs


@pytest.fixture(scope="module")
def trained(recorded, tmp_path_factory):
    source, epochs = recorded
    out = tmp_path_factory.mktemp("own")
    study = Study.from_epochs(epochs, out / "study", image_column="stimulus", subject_column="who",
                              images=source.path / "images")  # fmt: skip
    study.caption("rules")
    study.split("by-image", folds=4)
    return eegprompt.train(study, out / "run", kinds="low", epochs=2)


def test_settings_and_inputs_are_found(trained):
    assert trained.settings.kinds == ("ObjectSnap", "ColorTone", "ClarityCue")
    assert trained.settings.training.epochs == 2
    assert (trained.settings.split, trained.settings.captions) == ("by-image", "rules")
    assert (
        trained.study.subjects == ["S1", "S2"] and len(trained.study.split("by-image").folds) == 4
    )


def test_a_trained_run_decodes_new_epochs(trained, recorded, tmp_path):
    decoder = trained.decoder()
    assert Decoder.from_pretrained(trained.path).heads == decoder.heads
    epochs = recorded[1][:3]
    decoded = decoder.decode(epochs)
    assert isinstance(decoded.captions, pd.DataFrame)
    assert decoded.best.shape == (3, 3) and list(decoded.best) == decoder.heads
    assert [p.text for p in decoded.prompts()] == [p.text for p in decoder.prompts(decoded)]
    one, two = decoder.generate(decoded, seed=1), decoder.generate(decoded, 2, 1)
    assert one.shape[0] == 3 and two.shape == (3, 2, *one.shape[1:])
    assert np.array_equal(one, two[:, 0]) and not np.array_equal(two[:, 0], two[:, 1])
    with pytest.raises(InputError):
        decoder.generate(decoded, 0)


@pytest.mark.parametrize(
    "method", ["integrated-gradients", "gradient-x-input", "saliency", "smoothgrad"]
)
def test_retrieved_captions_are_attributed_to_channels_and_times(trained, recorded, method):
    decoder, epochs = trained.decoder(), recorded[1][:2]
    decoded = decoder.decode(epochs)
    maps = decoder.attribute(epochs, method, decoded)
    shape = (2, len(epochs.ch_names), len(epochs.times))
    assert list(maps) == decoder.heads and {m.shape for m in maps.values()} == {shape}
    assert all(np.isfinite(m).all() and m.any() for m in maps.values())
    one = decoder.attribute(epochs[1:2], method)  # a trial alone differs by its scale alone
    assert np.corrcoef(one["ObjectSnap"][0].ravel(), maps["ObjectSnap"][1].ravel())[0, 1] > 0.5
    evoked = decoder.attribute(epochs, method, decoded, as_evoked=True)["ColorTone"]
    assert np.allclose(evoked.data, maps["ColorTone"].mean(axis=0)) and evoked.nave == 2
    figure = evoked.plot_topomap(times=[0.1], show=False)
    assert figure.axes


def test_hiding_what_supports_a_caption_makes_it_less_similar(trained, recorded):
    decoder = trained.decoder()
    eeg = recorded[1].get_data()[:8]
    decoded = decoder.decode(eeg)
    maps = decoder.attribute(eeg, target=decoded)["ObjectSnap"]
    pool = decoder.candidates.pools["ObjectSnap"]
    first = decoded.captions.query("head == 'ObjectSnap' and rank == 1")["caption_id"]
    own = pool.embeddings[[pool.caption_ids.index(i) for i in first]]

    def without(values):
        limit = np.quantile(values, 0.8, axis=(1, 2), keepdims=True)
        hidden = np.where(values >= limit, 0.1 * eeg, eeg)
        return float((decoder.embed(hidden)["ObjectSnap"] * own).sum(axis=1).mean())

    assert without(maps) < without(np.random.default_rng(0).permuted(maps, axis=2))


def test_a_method_that_does_not_exist_is_refused(trained, recorded):
    with pytest.raises(UnknownNameError):
        trained.decoder().attribute(recorded[1][:1], "gradcam")
    decoder = trained.decoder()
    with pytest.raises(InputError):
        decoder.attribute(recorded[1][:2], target=decoder.decode(recorded[1][:1]))


def test_the_steps_are_methods(trained, tmp_path):
    scores = trained.evaluate()
    assert {"metric", "value", "chance", "p"} <= set(scores) and len(scores) == len(trained.scores)
    assert trained.report(tmp_path / "r.html").exists()
    assert Run(trained).decodings.equals(trained.decodings)


@pytest.mark.parametrize("what", ["study", "run", "decoder", "decoded"])
def test_objects_show_themselves_in_a_notebook(trained, recorded, what):
    decoder = trained.decoder()
    thing = {"study": trained.study, "run": trained, "decoder": decoder,
             "decoded": decoder.decode(recorded[1][:1])}[what]  # fmt: skip
    text = thing._repr_html_()
    assert text.startswith("<") and "</table>" in text and "<script" not in text


def test_settings_by_name_go_into_their_groups():
    assert grouped({"epochs": 3, "pool": "all", "encoder": "ridge", "seed": 1}) == {
        "training": {"epochs": 3}, "decoding": {"pool": "all"}, "encoder": {"name": "ridge"}, "seed": 1,
    }  # fmt: skip
    with pytest.raises(UnknownNameError) as caught:
        grouped({"epoch": 3})
    assert "'epochs'" in str(caught.value)


def test_a_config_and_settings_by_name_exclude_one_another(trained, tmp_path):
    with pytest.raises(InputError):
        eegprompt.train(trained.study, tmp_path / "no", trained.settings, epochs=3)


def test_images_of_a_folder_are_found_by_name_or_refused(recorded, tmp_path):
    source, epochs = recorded
    with pytest.raises(StudyError) as caught:
        Study.from_epochs(epochs, tmp_path / "no", image_column="stimulus", images=tmp_path)
    assert "no file" in str(caught.value) and not (tmp_path / "no").exists()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for path in (source.path / "images").glob("*"):
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(StudyError) as caught:
        Study.from_epochs(epochs, tmp_path / "no", image_column="stimulus", images=tmp_path)
    assert "2 files" in str(caught.value)


@pytest.mark.parametrize("kind", ["Raw", "Evoked"])
def test_what_is_no_epochs_is_refused_by_name(recorded, tmp_path, kind):
    import mne

    epochs = recorded[1]
    thing = epochs.average() if kind == "Evoked" else mne.io.RawArray(
        epochs.get_data()[0], epochs.info, verbose="ERROR"
    )  # fmt: skip
    with pytest.raises(StudyError) as caught:
        Study.from_epochs(thing, tmp_path / "no")
    assert kind in str(caught.value)


def test_an_old_split_is_not_replaced_by_new_options(trained):
    from eegprompt.core.errors import SplitError

    study = Study(trained.study.path)
    assert len(study.split("by-image", folds=4).folds) == 4
    with pytest.raises(SplitError):
        study.split("by-image", folds=2)

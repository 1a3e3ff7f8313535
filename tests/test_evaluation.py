"""Scores of whole runs, on run folders written here: what is planted is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin
from safetensors.numpy import save_file

from eegprompt.core import registry
from eegprompt.core.errors import InputError, ModelLoadError, RunError, UnknownNameError
from eegprompt.core.files import content_key, write_json
from eegprompt.features.base import FeatureNetwork
from eegprompt.metrics.base import METRICS, metric_of, register_metric
from eegprompt.reports import write_report
from eegprompt.run import Run
from eegprompt.scores.rows import Score, mean_of_folds, row_of
from eegprompt.settings import load_config
from eegprompt.steps.evaluate import evaluate, evaluate_folds, scores_of
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split
from eegprompt.text_encoders.base import TextEncoder

HEADS = ("ObjectSnap", "ColorTone", "StoryHint")
COLORS = ("red", "blue", "green")
DIMS = 24


class FakeTextEncoder(TextEncoder):
    """A fixed random direction for each text, close for texts that share their first word."""

    name, revision, max_tokens = "fake", "1", 77

    def __init__(self, argument=None, device="auto"):
        pass

    @staticmethod
    def _direction(text: str) -> np.ndarray:
        seed = int(content_key(text)[:8], 16)
        return np.random.default_rng(seed).standard_normal(DIMS)

    def embed(self, texts):
        rows = [self._direction(t.split()[0]) + 0.3 * self._direction(t) for t in texts]
        rows = np.array(rows).reshape(len(rows), DIMS)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def count_tokens(self, text):
        return len(text.split()) + 2


class FakeFeatures(FeatureNetwork):
    """Coarse and fine blocks of pixels."""

    name = "fake"

    def __call__(self, images):
        x = images.astype(np.float32)
        coarse = x.reshape(len(x), 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(len(x), -1)
        return {"early": x[:, ::2, ::2].reshape(len(x), -1), "late": coarse, "logits": coarse}


def load_fake_features(_argument=None, **_options):
    return FakeFeatures()


def load_absent_features(_argument=None, **_options):
    raise ModelLoadError("the weights of 'absent' are missing")


@pytest.fixture(scope="module", autouse=True)
def _fakes():
    registry.register("text encoder", "fake-evaluation", f"{__name__}:FakeTextEncoder")
    registry.register("features", "fake-evaluation", f"{__name__}:load_fake_features")
    yield
    del registry.GROUPS["text encoder"]["fake-evaluation"]
    del registry.GROUPS["features"]["fake-evaluation"]


def captions_of(image: str, category: str, color: str) -> list[dict]:
    wording = int(image[3:]) % 2
    return [
        {"kind": "ObjectSnap", "text": f"{category} there", "meaning": category},
        {"kind": "ColorTone", "text": f"{color} {('tones', 'paint')[wording]}", "meaning": color},
        {"kind": "StoryHint", "text": f"story{image} happens", "meaning": None},
    ]


def random_image(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC))


def make_study(
    path: Path, *, classes=4, per_class=6, repetitions=3, subjects=1, identity="known", folds=1
) -> Study:
    """Images of some classes; the second half of each class is tested, or runs where only known."""
    rng = np.random.default_rng(1)
    names = [f"class{c}" for c in range(classes)]
    rows = [
        (f"img{c * per_class + i}", category, COLORS[(i + c) % len(COLORS)], i)
        for c, category in enumerate(names)
        for i in range(per_class)
    ]
    images = pd.DataFrame(rows, columns=["image_id", "category", "color", "place"])
    shown = [
        (f"s{subject}", image, category, f"run{r % 4}")
        for image, category, _, _ in rows
        for subject in range(subjects)
        for r in range(repetitions)
    ]
    trials = pd.DataFrame(shown, columns=["subject", "image_id", "category", "run"])
    captions = pd.DataFrame(
        [
            {"image_id": image, **caption}
            for image, category, color, _ in rows
            for caption in captions_of(image, category, color)
        ]
    )
    with StudyWriter.open(path) as writer:
        (writer.folder / "images").mkdir()
        for image in images["image_id"]:
            Image.fromarray(random_image(rng)).save(writer.folder / "images" / f"{image}.png")
        images["path"] = [f"images/{i}.png" for i in images["image_id"]]
        eeg = rng.standard_normal((len(trials), 3, 20))
        eeg += trials["category"].str[5:].astype(int).to_numpy()[:, None, None] * 0.3
        writer.append(eeg)
        writer.finish(
            info={
                "name": "fake",
                "source": "test",
                "ch_names": ["Fz", "Cz", "Pz"],
                "sfreq": 100.0,
                "tmin": 0.0,
                "unit": "V",
                "design": "randomised",
                "image_identity": identity,
            },
            trials=trials,
            images=images.drop(columns=["color", "place"]),
        )
    study = Study(path)
    study.write_captions("builtin", captions)
    table = study.trials.merge(images[["image_id", "place"]], on="image_id")
    made = []
    for f in range(folds):
        if identity == "known":
            side = table["place"].to_numpy()
            test = (side % (2 * folds)) == 2 * f + 1
            val = (side == 0) & ~test
        else:
            test = (table["run"] == f"run{f}").to_numpy()
            val = (table["run"] == f"run{(f + 1) % 4}").to_numpy()
        ids = table["trial_id"].to_numpy()
        made.append(Fold(ids[~test & ~val], ids[val], ids[test]))
    study.write_split(Split("official", tuple(made)))
    return study


def make_run(
    path: Path,
    study: Study,
    *,
    signal=3.0,
    seed=0,
    fold=0,
    split="official",
    heads=HEADS,
    sources=("eeg", "floor", "ceiling"),
    **evaluation,
) -> Run:
    """A run whose embeddings hold the true captions with noise, and whose images likewise."""
    rng = np.random.default_rng(seed)
    config = load_config(
        {
            "study": str(study.path),
            "fold": fold,
            "split": split,
            "kinds": list(heads),
            "text_encoder": "fake-evaluation",
            "evaluation": {
                "features": "fake-evaluation", "permutations": 199, "resamples": 200, **evaluation
            },
        }
    )  # fmt: skip
    config.save(path / "config.yaml")
    run = Run(path)
    side = run.fold
    encoder = FakeTextEncoder()
    captions = study.captions("builtin").set_index(["kind", "image_id"])["text"]
    images = study.trials["image_id"].to_numpy()
    stored = {}
    for name in ("val", "test"):
        ids = getattr(side, name)
        stored[f"{name}/trial_id"] = ids
        for head in heads:
            true = encoder.embed([captions[head, images[t]] for t in ids])
            noisy = signal * true + rng.standard_normal(true.shape)
            noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
            stored[f"{name}/{head}"] = noisy.astype(np.float32)
    save_file(stored, run.embeddings_path)
    drawn = pd.Series(side.test, index=images[side.test]).groupby(level=0).first()
    for image, trial in drawn.items():
        true = study.load_images([image])[0].astype(float)
        for source in sources:
            share = {"eeg": min(signal / 6, 1), "floor": 0.0, "ceiling": 0.9}[source]
            mixed = share * true + (1 - share) * random_image(rng)
            out = run.image_path("builtin", source, int(trial))
            out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mixed.round().astype(np.uint8)).save(out)
    return run


def find(rows, metric, **want):
    found = [
        r for r in rows if r["metric"] == metric and all(r.get(k) == v for k, v in want.items())
    ]
    assert len(found) == 1, f"{metric} {want}: {len(found)} rows"
    return found[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("evaluation") / "study")


@pytest.fixture(scope="module")
def planted(study, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("evaluation") / "run", study)
    return run, evaluate(run)


def test_planted_signal_is_found(planted):
    _, rows = planted
    for head in HEADS:
        row = find(rows, "caption_retrieval_top1", head=head, scope="all")
        assert row["value"] > row["chance"] + 0.2
        assert row["p_holm"] < 0.05
        assert row["lo"] <= row["value"] <= row["hi"]
        assert row["floor"] == pytest.approx(row["chance"], abs=0.02)
        assert row["ceiling"] == 1
        assert row["n"] == 12
        assert row["n_trials"] == 36
        assert row["pool"] == "test"
    accuracy = find(rows, "class_accuracy", head="ensemble", note=None)
    assert accuracy["value"] > 0.9
    assert accuracy["p"] < 0.05
    assert accuracy["chance"] == pytest.approx(0.25)
    assert accuracy["ceiling"] > 0.9
    assert accuracy["floor"] == pytest.approx(0.25, abs=0.05)


def test_within_class_rows_come_first_and_only_for_kinds_that_vary(planted):
    run, rows = planted
    within = [r for r in rows if r["scope"] == "within-class"]
    assert rows[: len(within)] == within
    heads = {r["head"] for r in within if r["metric"] == "caption_retrieval_top1"}
    assert heads == {"ColorTone", "StoryHint"}
    story = find(rows, "caption_retrieval_top1", head="StoryHint", scope="within-class")
    assert story["chance"] == pytest.approx(1 / 3)  # three test images a class
    assert story["floor"] == pytest.approx(1 / 3)
    assert story["ceiling"] == 1
    said = json.loads(run.scores_path.read_text())
    assert any("No within-class score of ObjectSnap" in note for note in said["notes"])
    assert any("top5 within class" in m for m in said["missing"])


def test_images_stand_between_floor_and_ceiling(planted):
    _, rows = planted
    for metric in ("two_way_early", "two_way_late", "pixcorr", "ssim", "ssim_legacy"):
        row = find(rows, metric, source="eeg", scope="all")
        assert row["floor"] < row["value"] <= row["ceiling"]
        assert row["floor_lo"] <= row["floor"] <= row["floor_hi"]
        assert row["ceiling_lo"] <= row["ceiling"] <= row["ceiling_hi"]
        assert row["p"] < 0.05
        assert row["n"] == 12
        assert row["generator"] == "builtin"
    two = find(rows, "two_way_early", scope="within-class")
    assert two["chance"] == pytest.approx(0.5)
    assert two["features"] == "fake-evaluation"
    gray = find(rows, "pixcorr", source="gray")
    assert gray["value"] == 0
    mean = find(rows, "ssim", source="mean-image")
    assert 0 < mean["lo"] < mean["value"] < mean["hi"] < 1


def test_every_row_has_every_key_and_values_in_range(planted):
    _, rows = planted
    keys = {"metric", "source", "head", "pool", "scope", "unit", "n", "n_trials", "value", "lo", "hi",
            "chance", "p", "p_holm", "floor", "ceiling", "generator", "features",
            "higher_is_better", "protocol", "note"}  # fmt: skip
    for row in rows:
        assert keys <= set(row)
        assert -1 <= row["value"] <= 1
        assert row["p"] is None or 0 < row["p"] <= 1
        assert row["p_holm"] is None or row["p_holm"] >= row["p"]
        if row["source"] not in ("gray", "mean-image"):
            assert row["chance"] is not None


def test_all_heads_together_find_the_image(planted, study, tmp_path):
    _, rows = planted
    for scope in ("within-class", "all"):
        row = find(rows, "image_retrieval_top1", scope=scope)
        heads = [r["value"] for r in rows if r["metric"] == "caption_retrieval_top1"
                 and r["scope"] == scope and r["head"] == "StoryHint"]  # fmt: skip
        assert row["ceiling"] == 1.0 and row["value"] >= max(heads) - 0.05
        assert row["value"] > row["chance"] and row["p"] <= 0.01
    nothing = evaluate(make_run(tmp_path / "none", study, signal=0.0))
    assert find(nothing, "image_retrieval_top1", scope="all")["p"] > 0.05


def test_lda_stands_beside_the_encoder(planted):
    _, rows = planted
    lda = find(rows, "class_accuracy_lda")
    assert lda["value"] > lda["chance"] + 0.1
    assert lda["n_trials"] == 36


def test_same_inputs_same_scores(planted, study, tmp_path):
    _, rows = planted
    again = evaluate(make_run(tmp_path / "again", study))
    assert [{**r} for r in again] == rows


def test_pixel_scores_can_be_left_out(planted, study, tmp_path):
    _, rows = planted
    scores, _ = scores_of(make_run(tmp_path / "again", study), pixels=False)
    without = {r["metric"] for r in rows} - {"pixcorr", "ssim", "ssim_legacy"}
    assert {s.row["metric"] for s in scores} == without


def test_no_signal_stays_at_chance(study, tmp_path):
    ps, excess = [], []
    for seed in range(8):
        run = make_run(tmp_path / f"run{seed}", study, signal=0.0, seed=seed, sources=())
        for row in evaluate(run):
            if row["metric"].startswith("caption_retrieval_top1"):
                ps.append(row["p"])
                excess.append(row["value"] - row["chance"])
    assert abs(np.mean(excess)) < 0.04
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) < 0.1) < 0.3


def test_class_information_alone_does_not_lift_within_class(study, tmp_path):
    run = make_run(tmp_path / "run", study, sources=())
    from safetensors.numpy import load_file

    stored = load_file(run.embeddings_path)
    captions = study.captions("builtin").set_index(["kind", "image_id"])["text"]
    category = study.trials.groupby("category")["image_id"].unique()
    trials = study.trials
    encoder = FakeTextEncoder()
    mean = {
        c: encoder.embed([captions["StoryHint", i] for i in images]).mean(axis=0)
        for c, images in category.items()
    }
    for side in ("val", "test"):
        ids = stored[f"{side}/trial_id"]
        stored[f"{side}/StoryHint"] = np.array([mean[trials["category"][t]] for t in ids])
    save_file(stored, run.embeddings_path)
    rows = evaluate(run)
    overall = find(rows, "caption_retrieval_top1", head="StoryHint", scope="all")
    within = find(rows, "caption_retrieval_top1", head="StoryHint", scope="within-class")
    assert overall["value"] > overall["chance"] + 0.1
    assert overall["p_within_class"] > 0.05
    assert within["value"] == pytest.approx(1 / 3)
    assert within["p"] > 0.5


def test_missing_parts_are_named(study, tmp_path):
    run = make_run(tmp_path / "run", study, sources=("eeg",))
    rows = evaluate(run)
    said = json.loads(run.scores_path.read_text())
    assert find(rows, "ssim", source="eeg")["floor"] is None
    assert any("prompt source 'floor'" in m for m in said["missing"])
    run.embeddings_path.unlink()
    rows = evaluate(run)
    said = json.loads(run.scores_path.read_text())
    assert not [r for r in rows if r["metric"].startswith("caption")]
    assert any("embeddings.safetensors is missing" in m for m in said["missing"])
    assert find(rows, "class_accuracy_lda")


def test_embeddings_of_another_split_are_refused(study, tmp_path):
    run = make_run(tmp_path / "run", study, sources=())
    from safetensors.numpy import load_file

    stored = load_file(run.embeddings_path)
    stored["test/trial_id"] = stored["test/trial_id"].copy()
    stored["test/trial_id"][0] = run.fold.train[0]
    save_file(stored, run.embeddings_path)
    with pytest.raises(RunError, match="not in the test set"):
        evaluate(run)
    run.embeddings_path.write_bytes(b"broken")
    with pytest.raises(RunError, match="cannot be read"):
        evaluate(run)


def test_nan_embeddings_count_as_wrong(study, tmp_path):
    run = make_run(tmp_path / "run", study, sources=())
    from safetensors.numpy import load_file

    stored = load_file(run.embeddings_path)
    stored["test/StoryHint"] = np.full_like(stored["test/StoryHint"], np.nan)
    save_file(stored, run.embeddings_path)
    rows = evaluate(run)
    assert find(rows, "caption_retrieval_top1", head="StoryHint", scope="all")["value"] == 0
    said = json.loads(run.scores_path.read_text())
    assert any("not a number for head StoryHint" in n for n in said["notes"])


def test_only_the_category_known(tmp_path):
    study = make_study(
        tmp_path / "study", classes=2, per_class=1, repetitions=40, identity="category", folds=2
    )
    parent = tmp_path / "parent"
    for fold in range(2):
        make_run(parent / f"fold-{fold}", study, fold=fold, seed=fold, signal=1.0)
    rows = evaluate_folds(parent)
    metrics = {r["metric"] for r in rows}
    assert "caption_retrieval_top1" not in metrics
    assert not [r for r in rows if r["scope"] == "within-class"]
    auc = find(rows, "class_auc", head="ensemble")
    assert auc["unit"] == "AUC"
    assert auc["value"] > 0.6
    assert auc["p"] < 0.05
    assert auc["n"] == auc["n_trials"] == 40
    assert auc["value"] == pytest.approx(np.mean(auc["folds"]))
    assert auc["lo"] < auc["value"] < auc["hi"]
    assert (auc["floor"], auc["ceiling"]) == (0.5, 1)
    macro = find(rows, "class_accuracy_macro")
    assert macro["floor"] == pytest.approx(0.5)
    assert macro["ceiling"] == 1
    retrieval = find(rows, "caption_retrieval_class_top1", head="ObjectSnap")
    assert retrieval["chance"] == pytest.approx(0.5)
    assert find(rows, "class_auc_lda")["value"] > 0.5
    note = find(rows, "ssim", source="eeg")["note"]
    assert note.startswith("category-level") and "only 2 references" in note
    assert not [r for r in rows if r["source"] == "mean-image"]  # it would hold the references
    said = json.loads((parent / "scores.json").read_text())
    assert any("the rows of the heads are one finding" in n for n in said["notes"])


def test_folds_are_pooled_permutation_by_permutation():
    rng = np.random.default_rng(0)
    scores = []
    for fold in range(3):
        null, replicates = rng.normal(0.5, 0.1, 99), rng.normal(0.6, 0.1, 300)
        row = row_of(metric="m", value=0.6, chance=0.5, n=4, n_trials=8, higher_is_better=True)
        scores.append(Score(row, None, null, replicates, (f"a{fold}", "shared")))
    pooled = mean_of_folds(scores).row
    null = np.mean([s.null for s in scores], axis=0)
    assert pooled["p"] == pytest.approx((1 + (null >= 0.6).sum()) / 100)
    assert pooled["p"] < min((1 + (s.null >= 0.6).sum()) / 100 for s in scores)
    lo, hi = np.quantile(np.mean([s.replicates for s in scores], axis=0), [0.025, 0.975])
    assert (pooled["lo"], pooled["hi"]) == pytest.approx((lo, hi))
    assert (pooled["n"], pooled["n_trials"], pooled["folds"]) == (4, 24, [0.6, 0.6, 0.6])


def test_each_subject_has_a_row_of_its_own(tmp_path):
    study = make_study(tmp_path / "study", subjects=2)
    rows = evaluate(make_run(tmp_path / "run", study, sources=()))
    both = [find(rows, "class_accuracy", subject=s) for s in ("s0", "s1")]
    everyone = find(rows, "class_accuracy", head="ensemble", note=None)
    assert np.mean([r["value"] for r in both]) == pytest.approx(everyone["value"])
    for row in both:
        assert (row["n"], row["n_trials"]) == (12, 36)
        assert row["ceiling"] == everyone["ceiling"]
        assert row["floor"] == pytest.approx(everyone["floor"])


def test_one_class_and_one_image(tmp_path):
    study = make_study(tmp_path / "study", classes=1, per_class=3, repetitions=4)
    run = make_run(tmp_path / "run", study)
    rows = evaluate(run)
    said = json.loads(run.scores_path.read_text())
    assert not [r for r in rows if "class" in r["metric"]]
    assert any("only one class" in m for m in said["missing"])
    assert any("only one reference" in m for m in said["missing"])
    row = find(rows, "ssim", source="eeg")
    assert row["p"] is None
    assert row["lo"] is None


def test_images_of_other_prompts_are_left_out(study, tmp_path):
    run = make_run(tmp_path / "run", study)
    drawn = sorted(run.images_dir("builtin", "eeg").glob("*.png"))
    prompts = []
    for i, path in enumerate(drawn):
        facts = PngImagePlugin.PngInfo()
        facts.add_text("prompt", "the prompt" if i else "an older prompt")
        Image.open(path).save(path, pnginfo=facts)
        prompts.append((int(path.stem.split("_")[0]), "eeg", "the prompt"))
    table = pd.DataFrame(prompts, columns=["trial_id", "source", "text"])
    run.write_table(run.prompts_path, table)
    asked = {"trial_ids": [*table["trial_id"], run.fold.test[-1]]}
    write_json(run.path / "generation.json", {"generators": {"builtin": asked}})
    rows = evaluate(run)
    said = json.loads(run.scores_path.read_text())["missing"]
    assert find(rows, "ssim", source="eeg")["n"] == 11
    assert any("1 images of prompt source 'eeg'" in m and "other prompts" in m for m in said)
    (lacking,) = (m for m in said if "2 of 13 trials have no image of prompt source 'eeg'" in m)
    assert lacking.endswith(f"run 'eegprompt generate {run.path} --sources eeg'")


def test_sources_drawn_with_other_settings_are_not_compared(study, tmp_path):
    run = make_run(tmp_path / "run", study)
    for source in ("eeg", "floor", "ceiling"):
        for path in sorted(run.images_dir("builtin", source).glob("*.png")):
            facts = PngImagePlugin.PngInfo()
            facts.add_text("look", "4 steps" if source == "floor" else "12 steps")
            Image.open(path).save(path, pnginfo=facts)
    row = find(evaluate(run), "ssim", source="eeg")
    assert row["floor"] is None and row["ceiling"] is not None
    said = json.loads(run.scores_path.read_text())["missing"]
    assert any("prompt source 'floor'" in m and "other settings" in m for m in said)


def test_blanked_images_are_counted_and_not_scored(study, tmp_path):
    run = make_run(tmp_path / "run", study)
    files = sorted(run.images_dir("builtin", "eeg").glob("*.png"))
    for path in files[:2]:
        facts = PngImagePlugin.PngInfo()
        facts.add_text("blanked", "by the generator's safety checker")
        Image.open(path).save(path, pnginfo=facts)
    trials = [int(path.stem.split("_")[0]) for path in files]
    write_json(run.path / "generation.json", {"generators": {"builtin": {"trial_ids": trials}}})
    rows = evaluate(run)
    said = json.loads(run.scores_path.read_text())["missing"]
    assert find(rows, "ssim", source="eeg")["n"] == len(files) - 2
    assert [m for m in said if "2 images of prompt source 'eeg'" in m and "blanked" in m]
    assert not [m for m in said if "have no image" in m]


def test_images_of_every_generator_are_scored(study, tmp_path):
    run = make_run(tmp_path / "run", study)
    shutil.copytree(run.path / "images" / "builtin", run.path / "images" / "other")
    shutil.rmtree(run.images_dir("other", "ceiling"))
    rows = evaluate(run)
    one, two = (find(rows, "pixcorr", source="eeg", generator=g) for g in ("builtin", "other"))
    assert one["value"] == two["value"]
    assert two["ceiling"] is None


def test_features_that_cannot_be_had_are_named(study, tmp_path):
    registry.register("features", "absent-evaluation", f"{__name__}:load_absent_features")
    run = make_run(tmp_path / "run", study, features="absent-evaluation")
    rows = evaluate(run)
    del registry.GROUPS["features"]["absent-evaluation"]
    said = json.loads(run.scores_path.read_text())["missing"]
    assert any("the weights of 'absent' are missing" in m for m in said)
    assert find(rows, "ssim", source="eeg")
    assert not [r for r in rows if r["metric"].startswith("two_way")]
    with pytest.raises(UnknownNameError, match="absent-evaluation"):
        evaluate(run)


def test_reference_images_that_are_gone_are_named(tmp_path):
    study = make_study(tmp_path / "study")
    run = make_run(tmp_path / "run", study)
    study.image_path("img1").unlink()
    rows = evaluate(run)
    said = json.loads(run.scores_path.read_text())["missing"]
    assert any("image of image 'img1' is gone" in m for m in said)
    assert find(rows, "class_accuracy_macro")


def test_a_broken_image_is_named_and_costs_itself_alone(study, tmp_path):
    run = make_run(tmp_path / "run", study)
    broken = sorted(run.images_dir("builtin", "eeg").glob("*.png"))[0]
    broken.write_bytes(b"no image")
    rows = evaluate(run)
    missing = json.loads(run.scores_path.read_text())["missing"]
    assert any(broken.name in text and "draws it anew" in text for text in missing)
    assert find(rows, "two_way_early", scope="all")["n"] == 11  # of twelve test images
    assert find(rows, "caption_retrieval_top1", head="StoryHint", scope="all")["n"] == 12


OWN_METRICS = """
import numpy as np
from eegprompt.metrics.base import metric

@metric("brightness_gap", label="Gap of brightness", says="How far mean brightness is off.",
        unit="distance", range="0 to 1", higher_is_better=False, group="image", of="pixels")
def brightness_gap(references, images):
    return [abs(float(a.mean() - b.mean())) for a, b in zip(references, images)]

@metric("reciprocal_rank", label="Reciprocal rank", says="One over the rank of the right caption.",
        range="0 to 1", group="caption", of="captions")
def reciprocal_rank(ranks):
    return 1 / (1 + ranks.better)
"""


def test_metrics_of_ones_own_are_scored_and_reported(study, tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(OWN_METRICS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("eegprompt.metrics.base.METRICS", dict(METRICS))
    for name in ("brightness_gap", "reciprocal_rank"):
        monkeypatch.setitem(registry.GROUPS["metric"], name, f"own_metrics:{name}")
    run = make_run(tmp_path / "run", study)
    evaluate(run)
    rows = json.loads(run.scores_path.read_text())["rows"]
    gap = find(rows, "brightness_gap", source="eeg")
    assert gap["unit"] == "distance" and gap["higher_is_better"] is False
    assert gap["chance"] > gap["value"] and 0 < gap["p"] < 0.5 and gap["floor"] > gap["ceiling"]
    assert gap["lo"] <= gap["value"] <= gap["hi"] and gap["p_within_class"] is not None
    for scope in ("all", "within-class"):
        rank = find(rows, "reciprocal_rank", head="StoryHint", scope=scope)
        assert 0 < rank["chance"] < rank["value"] <= 1 and rank["p"] < 0.05
    page = write_report(run).read_text("utf-8")
    for said in ("Gap of brightness", "How far mean brightness is off.", "Reciprocal rank"):
        assert said in page
    with pytest.raises(InputError):
        register_metric(replace(metric_of("brightness_gap"), label="Another"))

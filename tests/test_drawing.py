"""Drawing: only what is missing, the same image however it comes about, nothing lost."""

from __future__ import annotations

import errno
import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny_models
import tiny_pipelines
from eegprompt.core.errors import InputError, RunError, StorageError, UnknownNameError
from eegprompt.core.files import read_json, write_table
from eegprompt.decoder import image_seed
from eegprompt.generators.base import Generator
from eegprompt.generators.generated_files import image_facts
from eegprompt.run import Run
from eegprompt.scores.choice import select_trials
from eegprompt.steps.decode import decode
from eegprompt.steps.generate import generate, prompts_for

SOURCES = ("eeg", "floor", "ceiling")


class Painter(Generator):
    """A generator that paints a color of its prompt and seed, and notes what it was asked for."""

    name, revision, max_tokens = "painter", "1", 77

    def __init__(self, fail_at: int | None = None):
        self.asked: list[tuple[str, int]] = []
        self.calls = 0
        self.fail_at = fail_at

    def count_tokens(self, text):
        return len(text.split())

    def generate(self, prompts, seeds):
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.asked += list(zip(prompts, seeds))
        keys = [hashlib.sha256(f"{p}{s}".encode()).digest()[:3] for p, s in zip(prompts, seeds)]
        return np.array([np.full((4, 4, 3), list(key), np.uint8) for key in keys])


@pytest.fixture(scope="module")
def decoded(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("generation")
    clip = tiny_models.save_clip(place / "clip")
    pipeline = tiny_models.save_pipeline(place / "pipeline")
    study = tiny_models.save_study(place / "study", clip)
    return decode(tiny_models.save_run(place / "run", study, clip, pipeline)).path


@pytest.fixture
def run(decoded, tmp_path) -> Run:
    """A decoded run of a test's own, without images."""
    import shutil

    return Run(shutil.copytree(decoded, tmp_path / "run"))


def files(run: Run) -> dict[str, bytes]:
    return {
        str(p.relative_to(run.path)): p.read_bytes()
        for p in sorted((run.path / "images").rglob("*.png"))
    }


# -- which trials ---------------------------------------------------------------------------------
def test_as_many_trials_of_each_image_are_chosen_and_more_only_add():
    images = [f"i{t % 5}" for t in range(60)]
    ids = np.arange(10, 50)
    chosen = [select_trials(images, ids, k, 3) for k in (1, 2, 5, 8, 100)]
    for k, some in zip((1, 2, 5, 8, 8), chosen):
        assert np.bincount([int(images[t][1]) for t in some]).tolist() == [k] * 5
        assert set(some) <= set(ids) and (np.diff(some) > 0).all()
    for fewer, more in itertools.pairwise(chosen):
        assert set(fewer) <= set(more)
    assert np.array_equal(select_trials(images, ids[::-1], 1, 3), chosen[0])
    assert not np.array_equal(select_trials(images, ids, 1, 4), chosen[0])
    assert np.array_equal(select_trials(images, ids, None, 3), ids)


# -- what is drawn --------------------------------------------------------------------------------
def test_every_image_says_where_it_came_from(run):
    generate(run, generator=Painter())
    prompts = run.prompts.set_index(["trial_id", "source"])["text"]
    (name, entry), *_ = run.generators.items()
    assert name == "painter" and len(entry["trial_ids"]) == 6
    for trial in entry["trial_ids"]:
        for source in SOURCES:
            facts = image_facts(run.image_path("painter", source, trial))
            assert facts is not None
            assert facts["prompt"] == prompts[trial, source]
            assert facts["seed"] == str(image_seed(0, trial, 0))
            assert (facts["model"], facts["revision"]) == ("painter", "1")
            assert (facts["trial_id"], facts["sample"], facts["source"]) == (
                str(trial),
                "0",
                source,
            )
    assert len(files(run)) == 18
    assert entry["sources"] == dict.fromkeys(SOURCES, True) and "provenance" in entry
    assert read_json(run.path / "provenance.json")["generate"]["sources"] == list(SOURCES)


def test_only_what_is_missing_is_drawn(run):
    generate(run, sources=["eeg"], generator=Painter())
    second = Painter()
    generate(run, generator=second)
    prompts = run.prompts.set_index(["trial_id", "source"])["text"]
    there = {
        (prompts[t, "eeg"], image_seed(0, t))
        for t in next(iter(run.generators.items()))[1]["trial_ids"]
    }
    assert second.asked and not there & set(second.asked)
    before = files(run)
    third = Painter()
    generate(run, generator=third)
    assert not third.asked and files(run) == before
    victim = run.path / next(iter(before))
    victim.unlink()
    generate(run, generator=third)
    assert files(run) == before


def test_equal_prompt_and_seed_are_drawn_once_for_all_sources(run):
    painter = Painter()
    generate(run, generator=painter)
    assert len(set(painter.asked)) == len(painter.asked) < 18
    # Decoded perfectly, a trial's eeg image is its ceiling: copied, also in a later call.
    prompts = run.prompts.set_index(["trial_id", "source"])["text"]
    trial = next(
        t
        for t in next(iter(run.generators.items()))[1]["trial_ids"]
        if prompts[t, "eeg"] == prompts[t, "ceiling"]
    )
    a, b = (run.image_path("painter", source, trial) for source in ("eeg", "ceiling"))
    assert np.array_equal(np.asarray(Image.open(a)), np.asarray(Image.open(b)))
    pixels = np.asarray(Image.open(b))
    b.unlink()
    later = Painter()
    generate(run, generator=later)
    assert not later.asked and np.array_equal(np.asarray(Image.open(b)), pixels)
    assert image_facts(b)["source"] == "ceiling"


def test_a_half_written_image_is_drawn_again(run):
    generate(run, generator=Painter())
    before = files(run)
    for i, (name, content) in enumerate(list(before.items())[:3]):
        (run.path / name).write_bytes(content[: len(content) // 2] if i else b"")
    assert files(run) != before
    generate(run, generator=Painter())
    assert files(run) == before


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_images_do_not_depend_on_the_batch(run, batch_size):
    run.config["generation"]["batch_size"] = batch_size
    painter = Painter()
    generate(run, generator=painter)
    assert painter.calls == -(-len(painter.asked) // batch_size)
    digest = hashlib.sha256(b"".join(files(run).values())).hexdigest()
    known = test_images_do_not_depend_on_the_batch.__dict__.setdefault("digest", digest)
    assert digest == known


def test_samples_and_trials_per_image_are_asked_for(run):
    generate(run, sources=["eeg"], generator=Painter(), samples=3, trials_per_image=2)
    assert len(files(run)) == 3 * 12
    seeds = {image_facts(run.path / name)["seed"] for name in files(run)}
    assert len(seeds) == 36
    fewer = Painter()
    generate(run, sources=["eeg"], generator=fewer)
    assert not fewer.asked  # the fewer are among the more


def test_progress_counts_what_was_there(run):
    generate(run, sources=["eeg"], generator=Painter())
    told = []
    generate(run, generator=Painter(), progress=lambda *step: told.append(step))
    assert told[0] == (6, 18, "drawing with painter") and told[-1][:2] == (18, 18)


# -- what can go wrong ----------------------------------------------------------------------------
def test_an_interruption_keeps_what_was_finished(run):
    run.config["generation"]["batch_size"] = 4
    with pytest.raises(KeyboardInterrupt):
        generate(run, generator=Painter(fail_at=3))
    kept = files(run)
    assert len(kept) >= 8
    assert set(next(iter(run.generators.items()))[1]["sources"].values()) == {False}
    rest = Painter()
    generate(run, generator=rest)
    assert len(files(run)) == 18 and set(kept.items()) <= set(files(run).items())
    assert len(rest.asked) <= 18 - len(kept)
    assert set(next(iter(run.generators.items()))[1]["sources"].values()) == {True}


def test_a_full_disk_is_said_and_loses_nothing(run, monkeypatch):
    real, written = Path.write_bytes, []

    def full(self, data):
        if self.suffix == ".png":
            if len(written) == 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(self)
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="no space left on the disk"):
        generate(run, generator=Painter())
    assert len(files(run)) == 5 and not list(run.path.rglob("*.partial*"))
    monkeypatch.undo()
    generate(run, generator=Painter())
    assert len(files(run)) == 18


def test_images_of_an_older_prompt_are_never_left_among_the_new(run):
    generate(run, generator=Painter(), trials_per_image=2)
    prompts = run.prompts
    shown = next(iter(run.generators.items()))[1]["trial_ids"]
    changed = shown[:5]
    prompts.loc[prompts["trial_id"].isin(changed) & (prompts["source"] == "eeg"), "text"] = "a dog"
    write_table(run.prompts_path, prompts)
    painter = Painter()
    generate(run, generator=painter)
    texts = prompts.set_index(["trial_id", "source"])["text"]
    for name in files(run):
        facts = image_facts(run.path / name)
        assert facts["prompt"] == texts[int(facts["trial_id"]), facts["source"]]
    assert {p for p, _ in painter.asked} == {"a dog"} and 0 < len(painter.asked) < 5


def test_another_revision_is_drawn_anew(run):
    generate(run, sources=["eeg"], generator=Painter())
    newer = Painter()
    newer.revision = "2"
    generate(run, sources=["eeg"], generator=newer)
    assert len(newer.asked) == 6
    assert {image_facts(run.path / name)["revision"] for name in files(run)} == {"2"}


def test_a_generator_that_reads_less_gets_prompts_of_its_own(run):
    small = Painter()
    small.name, small.max_tokens = "small", 4
    assert prompts_for(run, Painter()).equals(run.prompts)
    generate(run, generator=small)
    own = run.path / "images" / "small" / "prompts.parquet"
    assert own.exists()
    assert all(len(p.split()) <= 4 for p, _ in small.asked)
    again = Painter()
    again.name, again.max_tokens = "small", 4
    generate(run, generator=again)
    assert not again.asked


def test_names_and_numbers_that_do_not_exist_are_refused(run, tmp_path):
    with pytest.raises(
        UnknownNameError, match="unknown prompt source 'flor'; did you mean 'floor'"
    ):
        generate(run, sources=["flor"], generator=Painter())
    with pytest.raises(UnknownNameError, match="unknown generator"):
        generate(run, generator="bultin")
    with pytest.raises(InputError, match="at least 1, got 0"):
        generate(run, generator=Painter(), samples=0)
    run.prompts_path.unlink()
    with pytest.raises(RunError, match=r"prompts.parquet is missing"):
        generate(run, generator=Painter())


# -- with a real pipeline -------------------------------------------------------------------------
def test_the_runs_own_pipeline_draws_the_same_from_any_batch(run):
    generate(run, sources=["eeg"])
    folder = next((run.path / "images").iterdir())
    images = files(run)
    assert len(images) == 6 and Image.open(run.path / next(iter(images))).size == (16, 16)
    some = list(images)[::2]
    for name in some:
        (run.path / name).unlink()
    run.config["generation"]["batch_size"] = 2
    generate(run, sources=["eeg"])
    assert files(run) == images
    assert (
        read_json(run.path / "generation.json")["generators"][folder.name]["settings"]["steps"] == 2
    )


class Prudish(Painter):
    """Blanks every image of some prompts, as a safety checker does."""

    blanked: list[bool] = []  # noqa: RUF012

    def generate(self, prompts, seeds):
        images = super().generate(prompts, seeds)
        self.blanked = [len(prompt) % 2 == 0 for prompt in prompts]
        images[self.blanked] = 0
        return images


def test_a_blanked_image_is_marked_kept_and_copied_with_its_mark(run):
    generate(run, generator=Prudish())
    facts = {name: image_facts(run.path / name) for name in files(run)}
    marked = {name for name, said in facts.items() if "blanked" in said}
    assert marked == {name for name, said in facts.items() if len(said["prompt"]) % 2 == 0}
    assert 0 < len(marked) < len(facts)
    assert all(not np.asarray(Image.open(run.path / name)).any() for name in marked)
    again = Prudish()
    before = files(run)
    generate(run, generator=again)
    assert not again.asked and files(run) == before
    # Of equal images on two prompt sources one is copied, its mark with it.
    copied = next(
        n
        for n in marked
        if "/ceiling/" in n and facts[n]["prompt"] == facts[n.replace("ceiling", "eeg")]["prompt"]
    )
    (run.path / copied).unlink()
    generate(run, generator=again)
    assert not again.asked and files(run) == before


def test_a_generator_is_asked_for_as_many_as_it_draws_at_a_time(run):
    run.config["generation"]["batch_size"] = 64

    class InThrees(Painter):
        batch_size = 3

    with pytest.raises(KeyboardInterrupt):
        generate(run, generator=InThrees(fail_at=3))
    written = {image_facts(run.path / name)["prompt"] for name in files(run)}
    assert len(files(run)) >= 6 and written  # what two calls gave, nothing less
    rest = InThrees()
    generate(run, generator=rest)
    assert len(files(run)) == 18 and rest.calls == -(-len(rest.asked) // 3)


def test_steps_and_guidance_stand_in_the_image_and_decide_it(run):
    class Settled(Painter):
        def __init__(self, steps, device="cpu"):
            super().__init__()
            self.steps, self.device = steps, device

        @property
        def settings(self):
            running = {"compile": self.device == "cuda"}
            how = {"device": self.device, "batch_size": 4, "running": running}
            return {"model": "painter", "steps": self.steps, "guidance": 0.0, **how}

    generate(run, sources=["eeg"], generator=Settled(2))
    said = [image_facts(run.path / name) for name in files(run)]
    assert {(facts["steps"], facts["guidance"]) for facts in said} == {("2", "0.0")}
    elsewhere, other = Settled(2, "cuda"), Settled(3)
    generate(run, sources=["eeg"], generator=elsewhere)
    assert not elsewhere.asked  # how it is computed decides nothing
    generate(run, sources=["eeg"], generator=other)
    assert len(other.asked) == 6


@pytest.mark.parametrize("family", ["sdxl-turbo", "sd35", "schnell", "pixart-sigma"])
def test_every_family_draws_a_run_and_goes_on_where_it_stopped(run, tmp_path, monkeypatch, family):
    from eegprompt.generators.diffusers import DiffusersGenerator

    folder = tiny_pipelines.save(family, tmp_path / family)
    options: dict[str, Any] = {"steps": 1, "height": 16, "width": 16, "batch_size": 4}
    if family == "pixart-sigma":
        options["extra"] = {"use_resolution_binning": False}
    name = f"diffusers:{folder}"
    generate(run, sources=["eeg", "ceiling"], generator=name, options=options, trials_per_image=1)
    images = files(run)
    facts = [image_facts(run.path / path) for path in images]
    assert len(images) == 12 and {said["model"] for said in facts} == {name}
    assert {said["steps"] for said in facts} == {"1"}
    first = Image.open(run.path / next(iter(images)))
    assert first.size == (16, 16)
    for path in list(images)[::5]:
        (run.path / path).unlink()
    generate(run, sources=["eeg", "ceiling"], generator=name, options=options, trials_per_image=1)
    assert files(run) == images
    monkeypatch.setattr(DiffusersGenerator, "generate", None)
    generate(run, sources=["eeg", "ceiling"], generator=name, options=options, trials_per_image=1)


def test_the_command_takes_options_of_the_generator(run, tmp_path):
    from typer.testing import CliRunner

    from eegprompt.cli.app import app

    name = f"diffusers:{tiny_pipelines.save('sd-turbo', tmp_path / 'model')}"
    words = ["generate", str(run.path), "--sources", "eeg", "--generator", name]
    out = CliRunner().invoke(app, [*words, "-o", "height=16", "-o", "width=32"])
    assert out.exit_code == 0, out.output
    shown = [Image.open(path) for path in run.images_dir(name, "eeg").glob("*.png")]
    assert len(shown) == 6 and {image.size for image in shown} == {(32, 16)}
    assert {image_facts(image.filename)["steps"] for image in shown} == {"1"}
    out = CliRunner().invoke(app, [*words, "-o", "hight=6"])
    assert out.exit_code == 2
    with pytest.raises(InputError, match="come too late"):
        generate(run, generator=Painter(), options={"steps": 1})


def test_what_needed_more_memory_than_there_is_is_said(run):
    class Modest(Painter):
        notes = ("modest did not fit into memory; 2 images are drawn at a time",)

    with pytest.warns(UserWarning, match="2 images are drawn at a time"):
        generate(run, sources=["eeg"], generator=Modest())
    assert read_json(run.path / "provenance.json")["generate"]["notes"] == list(Modest.notes)


def test_nearest_shows_a_training_image_of_what_was_read(run, tmp_path):
    """Images that tell their number: what is shown is of the training set, and fits the words."""
    import shutil

    from eegprompt.study import Study

    place = Path(shutil.copytree(run.study.path, tmp_path / "study"))
    images = Study(place).images
    (place / "images").mkdir(exist_ok=True)
    for i, image in enumerate(images["image_id"]):
        Image.new("RGB", (10, 6), (10 + i, 0, 0)).save(place / "images" / f"{image}.png")
    images = images.assign(path=[f"images/{image}.png" for image in images["image_id"]])
    write_table(place / "images.parquet", images)
    run.config["study"] = str(place)
    generate(run, generator="nearest", options={"height": 6, "width": 10})
    study = Study(place)
    train = {study.trials["image_id"][t] for t in run.fold.train}
    captions = study.captions(run.config["captions"])
    said_of = captions.set_index("image_id")["text"]
    prompts = run.prompts.set_index(["trial_id", "source"])["text"]
    shown = next(iter(run.generators.items()))[1]["trial_ids"]
    for trial in shown:
        for source in SOURCES:
            path = run.image_path("nearest", source, trial)
            number = int(np.asarray(Image.open(path))[0, 0, 0]) - 10
            image = images["image_id"].iloc[number]
            assert image in train  # never the image that was seen
            assert image_facts(path)["image"] == f"{image}.png"
            said, own = prompts[trial, source].split(", "), said_of.loc[image].tolist()
            # What is trusted most decides: on the other prompt sources no caption is trusted, and it is the
            # first.
            assert set(said) & set(own) if source == "eeg" else said[0] == own[0]
    again = files(run)
    generate(run, generator="nearest", options={"height": 6, "width": 10})
    assert files(run) == again

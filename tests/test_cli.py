"""The command line is thin: these tests put stand-ins where the library is and look at what
reaches it, what is printed where, and with which code a command ends."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from pydantic import Field
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.core.errors import MissingDependencyError, TrainingError
from eegprompt.core.files import write_json
from eegprompt.readers.base import ReaderOptions
from eegprompt.run import Run, fold_runs
from eegprompt.settings import load_config
from eegprompt.study import Study

COMMANDS = (
    "simulate", "import", "info", "split", "captions", "train", "decode", "generate", "evaluate",
    "explain", "report", "settings", "run", "demo",
)  # fmt: skip
CAPTION_COMMANDS = ("write", "check", "show", "export")


@pytest.fixture
def cli():
    """Run a command line; the answer has exit_code, stdout and stderr."""
    runner = CliRunner()

    def call(*words: object):
        answer = runner.invoke(
            app, [str(w) for w in words], prog_name="eegprompt", env={"COLUMNS": "200"}
        )
        if answer.exception is not None and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        return answer

    return call


class Fakes:
    """Stand-ins for library calls, which remember how they were called."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.calls: list[tuple[str, tuple, dict]] = []

    def put(self, module: str, name: str, does=lambda *a, **k: None):
        if module not in sys.modules or not isinstance(sys.modules[module], _Fake):
            self.monkeypatch.setitem(sys.modules, module, _Fake(module))

        def stand_in(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return does(*args, **kwargs)

        setattr(sys.modules[module], name, stand_in)

    def named(self, name: str) -> list[tuple[tuple, dict]]:
        return [(a, k) for n, a, k in self.calls if n == name]


class _Fake(types.ModuleType):
    pass


@pytest.fixture
def fakes(monkeypatch):
    return Fakes(monkeypatch)


def make_run(path: Path, study: Path, **settings) -> Run:
    path.mkdir(parents=True, exist_ok=True)
    load_config({"study": str(study), **settings}).save(path / "config.yaml")
    return Run(path)


@pytest.fixture
def small_run(tmp_path, small_study) -> Run:
    return make_run(tmp_path / "run", small_study)


# -- help --------------------------------------------------------------------------------------
def test_help_names_every_command_and_the_exit_codes(cli):
    answer = cli("--help")
    assert answer.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", answer.stdout)
    assert "130 interrupted" in answer.stdout


@pytest.mark.parametrize(
    "words",
    [(c,) for c in COMMANDS if c != "captions"] + [("captions", c) for c in CAPTION_COMMANDS],
)
def test_each_command_explains_itself_with_an_example(cli, words):
    answer = cli(*words, "--help")
    assert answer.exit_code == 0
    text = " ".join(answer.stdout.split())
    assert f"Example: eegprompt {' '.join(words)}" in text
    assert "[bold]" not in text


def test_help_is_folded_once_and_names_the_readers():
    answer = CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "80"})
    assert "--marker\n Marker0 --event 1=house" in re.sub(r" +\n", "\n", answer.stdout)
    words = answer.stdout.replace("│", " ").split()
    assert "things-eeg2," in words and "thoughtviz." in words
    assert "(seconds)." in words  # not taken for markup


def test_help_is_quick():
    """Processor time beside that of importing NumPy and Typer, since machines differ in speed."""
    pytest.importorskip("resource")
    used = (
        "import atexit, resource, sys\n"
        "usage = lambda: resource.getrusage(resource.RUSAGE_SELF)\n"
        "atexit.register(lambda: print(usage().ru_utime + usage().ru_stime, file=sys.stderr))\n"
    )

    def seconds(code: str) -> float:
        line = [sys.executable, "-c", used + code, "--help"]
        done = [subprocess.run(line, capture_output=True, text=True, check=True) for _ in range(3)]
        return min(float(d.stderr) for d in done)

    needed = seconds("import numpy, typer.main, typer.rich_utils\n")
    assert seconds("from eegprompt.cli import main\nmain()\n") < 2.5 * needed


def test_version(cli):
    from eegprompt import __version__

    assert cli("--version").stdout.strip() == f"eegprompt {__version__}"


@pytest.mark.parametrize(
    ("words", "hint"),
    [(("trian", "x"), "train"), (("demo", "--signl", "0"), "--signal")],
)
def test_a_slip_in_a_name_is_answered_with_a_suggestion(cli, words, hint):
    answer = cli(*words)
    assert answer.exit_code == 2
    assert hint in answer.stderr


# -- errors ------------------------------------------------------------------------------------
def test_an_error_is_one_sentence_without_traceback_and_ends_with_its_code(cli, tmp_path):
    answer = cli("info", tmp_path / "nowhere")
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("Error: ")
    assert "eegprompt simulate" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("where", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(cli, tmp_path, where):
    words = ["info", tmp_path / "nowhere"]
    words.insert(where, "--debug")
    answer = cli(*words)
    assert answer.exit_code == 2
    assert "Traceback" in answer.stderr
    assert answer.stderr.strip().splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("problem", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on where it stopped"),
        (TrainingError("the loss is not finite"), 5, "the loss is not finite"),
        (MissingDependencyError("torchvision", "eval"), 3, "pip install 'eegprompt[eval]'"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "No space left"),
        (MemoryError(), 1, "batch size"),
        (ZeroDivisionError("division by zero"), 1, "--debug"),
        (KeyError("x"), 1, "--debug"),
    ],
)
def test_each_sort_of_failure_has_its_exit_code(cli, fakes, small_run, problem, code, says):
    def fail(*args, **kwargs):
        raise problem

    fakes.put("eegprompt.steps.decode", "decode", fail)
    answer = cli("decode", small_run.path)
    assert answer.exit_code == code
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_interrupting_a_real_process_ends_with_130(tmp_path, small_study):
    run = make_run(tmp_path / "run", small_study)
    code = (
        "import sys, types, time\n"
        "fake = types.ModuleType('eegprompt.steps.decode')\n"
        "def decode(run, progress=None):\n"
        "    print('started', flush=True); time.sleep(30)\n"
        "fake.decode = decode\n"
        "sys.modules['eegprompt.steps.decode'] = fake\n"
        "from eegprompt.cli import main\n"
        f"sys.argv = ['eegprompt', 'decode', {str(run.path)!r}]\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline().strip() == "started"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "What was finished is kept" in errors
    assert "Traceback" not in errors


# -- studies -----------------------------------------------------------------------------------
def test_simulate_hands_over_only_what_was_given(cli, fakes, small_study, tmp_path):
    fakes.put(
        "eegprompt.steps.simulate",
        "simulate",
        lambda out, *, signal=1.0, overwrite=False, progress=None: Study(small_study),
    )
    answer = cli("simulate", tmp_path / "s", "--signal", "0", "--json")
    assert answer.exit_code == 0
    ((args, given),) = fakes.named("simulate")
    assert args == (tmp_path / "s",)
    given.pop("progress")
    assert given == {"signal": 0.0, "overwrite": False}
    assert json.loads(answer.stdout)["trials"] == 32


class _Options(ReaderOptions):
    notch: float = Field(50.0, description="line frequency")
    marker: str | None = None
    events: dict[str, str] | Path | None = None
    bandpass: tuple[float, float] | None = None
    baseline: tuple[float, float] | None = None


class _Reader:
    name = "fake"
    options = _Options
    calls: list = []  # noqa: RUF012
    study: Path

    def read(self, source, out, *, progress=None, **options):
        self.calls.append((source, out, options))
        return Study(self.study)


@pytest.fixture
def reader(monkeypatch, small_study):
    from eegprompt.core import registry

    module = types.ModuleType("fake_reader_module")
    module.Reader = _Reader
    monkeypatch.setitem(sys.modules, "fake_reader_module", module)
    monkeypatch.setitem(registry.GROUPS["reader"], "fake", "fake_reader_module:Reader")
    _Reader.calls = []
    _Reader.study = small_study
    return _Reader


def test_import_turns_flags_and_pairs_into_options_of_the_reader(cli, reader, tmp_path):
    answer = cli(
        "import", "fake", "a.csv", "b.csv", "--out", tmp_path / "s", "--marker", "Marker0",
        "--event", "1=house", "--event", "2=face", "--bandpass", "1,30", "--baseline", "-0.1,0",
        "-o", "notch=60",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.stderr
    ((source, out, options),) = reader.calls
    assert source == [Path("a.csv"), Path("b.csv")]
    assert out == tmp_path / "s"
    assert options == {
        "marker": "Marker0",
        "events": {"1": "house", "2": "face"},
        "bandpass": (1.0, 30.0),
        "baseline": (-0.1, 0.0),
        "notch": 60,
    }
    assert "32 trials of 8 images" in answer.stdout


@pytest.mark.parametrize(
    ("text", "arrives"),
    [("1=house,2=face", {"1": "house", "2": "face"}), ("codes.csv", Path("codes.csv"))],
)
def test_events_are_a_table_or_a_list(cli, reader, tmp_path, text, arrives):
    answer = cli("import", "fake", "a.csv", "--out", tmp_path / "s", "--events", text)
    assert answer.exit_code == 0, answer.stderr
    assert reader.calls[0][2]["events"] == arrives


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--event", "1=a", "--events", "x.csv"], "exclude one another"),
        (["-o", "notsch=50"], "unknown option '-o notsch'; did you mean '-o notch=...'?"),
        (
            ["--tmin", "0"],
            "reader 'fake': unknown option '--tmin'. Allowed: -o notch=..., --marker",
        ),
        (["-o", "notch"], "key=value"),
        (["--event", "house"], "CODE=CATEGORY"),
        (["--event", "1=a", "--event", "1=b"], "code 1 twice"),
        (["--bandpass", "1"], "2 numbers"),
        (["--bandpass", "low,high"], "2 numbers"),
    ],
)
def test_import_names_what_is_wrong_with_an_option(cli, reader, tmp_path, words, says):
    answer = cli("import", "fake", "a.csv", "--out", tmp_path / "s", *words)
    assert answer.exit_code == 2
    assert says in answer.stderr
    assert not reader.calls


def test_import_lists_the_options_of_a_reader_and_asks_for_what_is_missing(cli, reader):
    answer = cli("import", "fake", "--options")
    assert answer.exit_code == 0
    assert re.search(r"(?m)^ -o notch=\.\.\.\s+50\.0\s+line frequency", answer.stdout)
    assert re.search(r"(?m)^ --marker", answer.stdout)
    answer = cli("import", "fake", "a.csv")
    assert answer.exit_code == 2
    assert "--out" in answer.stderr
    answer = cli("import", "fak", "a.csv", "--out", "s")
    assert answer.exit_code == 2
    assert "did you mean 'fake'" in answer.stderr


def test_captions_show_prints_what_was_asked(cli, small_study):
    answer = cli("captions", "show", small_study, "--kind", "low", "--image", "img-3", "--json")
    rows = json.loads(answer.stdout)
    assert {r["kind"] for r in rows} == {"ObjectSnap", "ColorTone", "ClarityCue"}
    assert {r["image_id"] for r in rows} == {"img-3"}
    answer = cli("captions", "show", small_study, "--image", "img-33")
    assert answer.exit_code == 2
    assert "did you mean 'img-3'" in answer.stderr
    assert "ObjectSnap of img-0" in cli("captions", "show", small_study).stdout
    rows = json.loads(cli("captions", "show", small_study, "img-5", "img-2", "--json").stdout)
    assert {r["image_id"] for r in rows} == {"img-2", "img-5"} and len(rows) == 20


def test_captions_export_writes_what_the_captioner_file_reads(cli, small_study, tmp_path):
    study = Study(small_study)
    before = study.captions("builtin")
    before.loc[0, "text"] = 'said "=1+1", émigré\u2014null'
    before.loc[1, "text"] = "NA"
    study.write_captions("builtin", before, overwrite=True)
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        file = tmp_path / f"captions.{suffix}"
        answer = cli("captions", "export", small_study, "--name", "builtin", "--to", file)
        assert answer.exit_code == 0 and answer.stdout.strip() == str(file)
        words = ["--captioner", f"file:{file}", "--name", suffix]
        assert cli("captions", "write", small_study, *words).exit_code == 0
        again = study.captions(suffix)
        for column in ("image_id", "kind", "text"):
            assert again[column].tolist() == before[column].tolist()
    answer = cli("captions", "export", small_study, "--name", "csv", "--to", file)
    assert answer.exit_code == 2 and "exists already" in answer.stderr
    assert cli("captions", "export", small_study, "--to", "x.csv").exit_code == 2  # which set?
    answer = cli("captions", "export", small_study, "--name", "csv", "--to", tmp_path / "a.xls")
    assert answer.exit_code == 2 and ".jsonl" in answer.stderr


# -- runs --------------------------------------------------------------------------------------
def test_train_resolves_settings_and_reaches_the_library(cli, fakes, small_study, tmp_path):
    fakes.put(
        "eegprompt.steps.train",
        "train",
        lambda study, out, config, *, overwrite, progress: types.SimpleNamespace(path=out),
    )
    answer = cli(
        "train", small_study, "--out", tmp_path / "r", "training.epochs=3", "kinds=low", "seed=7"
    )
    assert answer.exit_code == 0, answer.stderr
    ((args, _),) = fakes.named("train")
    study, out, config = args
    assert (study.path, out) == (small_study, tmp_path / "r")
    assert (config.training.epochs, config.seed, config.fold) == (3, 7, 0)
    assert config.kinds == ("ObjectSnap", "ColorTone", "ClarityCue")
    assert Path(config.study) == small_study
    assert answer.stdout.strip() == str(tmp_path / "r")


def test_train_over_all_folds_makes_one_run_a_fold(cli, fakes, small_study, tmp_path):
    from eegprompt.study.split import Split

    study = Study(small_study)
    fold = study.split("official").fold(0)
    study.write_split(Split("two", (fold, fold)))
    fakes.put(
        "eegprompt.steps.train",
        "train",
        lambda study, out, config, *, overwrite, progress: types.SimpleNamespace(path=out),
    )
    answer = cli(
        "train", small_study, "--out", tmp_path / "r", "--split", "two", "--all-folds", "--json"
    )
    assert answer.exit_code == 0, answer.stderr
    calls = [a for a, _ in fakes.named("train")]
    assert [(a[1].name, a[2].fold) for a in calls] == [("fold-0", 0), ("fold-1", 1)]
    assert json.loads(answer.stdout)["paths"] == [str(tmp_path / "r" / f"fold-{i}") for i in (0, 1)]
    answer = cli("train", small_study, "--out", tmp_path / "r", "--all-folds", "--fold", "1")
    assert answer.exit_code == 2


def test_train_does_not_delete_the_study_it_is_to_learn_from(cli, fakes, small_study):
    fakes.put("eegprompt.steps.train", "train")
    answer = cli("train", small_study, "--out", small_study.parent, "--overwrite")
    assert answer.exit_code == 2
    assert "would delete the study" in answer.stderr
    assert not fakes.calls


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["training.epoch=3"], "did you mean"),
        (["training.epochs=0"], "training.epochs"),
        (["training.epochs"], "key=value"),
        (["kinds=Objectsnap"], "did you mean 'ObjectSnap'"),
        (["text_encoder=buitlin"], "did you mean 'builtin'"),
        (["generation.generator=diffuser:x/y"], "did you mean 'diffusers:MODEL'"),
        (["--split", "oficial"], "did you mean 'official'"),
        (["--fold", "3"], "folds 0 to 0"),
        (["--config", "no.yaml"], "does not exist"),
    ],
)
def test_train_names_a_setting_that_does_not_exist(cli, fakes, small_study, tmp_path, words, says):
    fakes.put(
        "eegprompt.steps.train", "train", lambda *a, **k: a[0].split(a[2].split).fold(a[2].fold)
    )
    answer = cli("train", small_study, "--out", tmp_path / "r", *words)
    assert answer.exit_code == 2
    assert says in answer.stderr


def test_later_steps_change_their_own_settings_only(cli, fakes, small_run):
    fakes.put("eegprompt.steps.decode", "decode")
    answer = cli("decode", small_run.path, "decoding.per_head=2")
    assert answer.exit_code == 0, answer.stderr
    ((args, _),) = fakes.named("decode")
    assert args[0].config["decoding"]["per_head"] == 2
    assert Run(small_run.path).config["decoding"]["per_head"] == 2
    answer = cli("decode", small_run.path, "training.epochs=2")
    assert answer.exit_code == 2
    assert "only decoding.* and generation.*" in answer.stderr
    assert Run(small_run.path).config["training"]["epochs"] != 2


def test_generate_hands_over_sources_and_generator(cli, fakes, small_run):
    fakes.put("eegprompt.steps.generate", "generate")
    answer = cli("generate", small_run.path, "--source", "eeg", "--generator", "diffusers:a/b")
    assert answer.exit_code == 0, answer.stderr
    ((_, given),) = fakes.named("generate")
    assert given["sources"] == ["eeg"]
    assert given["generator"] == "diffusers:a/b"
    answer = cli("generate", small_run.path, "--source", "flor")
    assert answer.exit_code == 2
    assert "did you mean 'floor'" in answer.stderr


ROWS = [{"metric": "retrieval_top1", "value": 0.25}]
TABLE = [
    {"metric": "Top-1: ObjectSnap", "value": "0.25 [0.20, 0.30]", "chance": "0.06", "p": ".010"}
]


@pytest.fixture
def scoring(fakes):
    def score(folder):
        return write_json(
            folder / "scores.json", {"rows": ROWS, "notes": ["a note"], "missing": []}
        )

    fakes.put("eegprompt.steps.evaluate", "evaluate", lambda run, progress=None: score(run.path))
    fakes.put("eegprompt.steps.evaluate", "evaluate_folds", lambda path, progress=None: score(path))
    fakes.put("eegprompt.reports", "summary_table", lambda path: TABLE)
    fakes.put("eegprompt.steps.report", "report", lambda path, out=None: path / "report.html")
    return fakes


def test_evaluate_prints_each_score_with_what_must_stand_beside_it(cli, scoring, small_run):
    text = cli("evaluate", small_run.path).stdout
    for part in (*TABLE[0], *TABLE[0].values(), "Note: a note"):
        assert part in text
    stored = json.loads(cli("evaluate", small_run.path, "--json").stdout)
    assert stored["rows"] == ROWS
    assert cli("evaluate", small_run.path, "evaluation.permutations=99").exit_code == 0
    assert Run(small_run.path).config["evaluation"]["permutations"] == 99


def test_a_run_over_folds_is_scored_and_reported_as_one(cli, scoring, small_study, tmp_path):
    for i in (0, 1):
        make_run(tmp_path / "r" / f"fold-{i}", small_study, fold=i)
    assert cli("evaluate", tmp_path / "r", "evaluation.permutations=99").exit_code == 0
    assert [a for a, _ in scoring.named("evaluate_folds")] == [(tmp_path / "r",)]
    assert not scoring.named("evaluate")
    assert Run(tmp_path / "r" / "fold-1").config["evaluation"]["permutations"] == 99
    answer = cli("report", tmp_path / "r", "--json")
    assert json.loads(answer.stdout)["paths"] == [str(tmp_path / "r" / "report.html")]


# -- the whole path ----------------------------------------------------------------------------
@pytest.fixture
def journey(fakes, small_study):
    """Stand-ins for every step, which write what the next one needs."""
    import shutil

    def simulate(out, **options):
        shutil.copytree(small_study, out)
        return Study(out)

    def train(study, out, config, *, resume=True, progress=None):
        # As the real one does, this refuses a folder with something else in it.
        assert not out.exists() or not any(out.iterdir()) or (out / "config.yaml").exists()
        out.mkdir(parents=True, exist_ok=True)
        config.save(out / "config.yaml")
        return Run(out)

    def decode(run, progress=None):
        for path in (run.decodings_path, run.prompts_path, run.embeddings_path):
            if not path.exists():
                path.write_text("x")

    def score(folder, run=None):
        write_json(folder / "scores.json", {"rows": ROWS})
        for one in [run] if run else map(Run, fold_runs(folder)):
            one.record("evaluate", settings=one.config["evaluation"])

    fakes.put("eegprompt.steps.simulate", "simulate", simulate)
    fakes.put("eegprompt.steps.train", "train", train)
    fakes.put("eegprompt.steps.decode", "decode", decode)
    fakes.put("eegprompt.steps.generate", "generate")
    fakes.put(
        "eegprompt.steps.evaluate", "evaluate", lambda run, progress=None: score(run.path, run)
    )
    fakes.put("eegprompt.steps.evaluate", "evaluate_folds", lambda path, progress=None: score(path))
    fakes.put("eegprompt.steps.explain", "explain")
    fakes.put("eegprompt.reports", "summary_table", lambda path: TABLE)
    fakes.put("eegprompt.steps.report", "report", lambda path, out=None: path / "report.html")
    return fakes


def count(fakes) -> dict[str, int]:
    return {n: len(fakes.named(n)) for n in ("simulate", "train", "decode", "generate", "evaluate")}


def test_demo_goes_the_whole_way_and_does_not_do_finished_work_again(cli, journey, tmp_path):
    out = tmp_path / "demo"
    answer = cli("demo", "--out", out, "--signal", "0", "--seed", "3")
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.strip().splitlines()[-1] == f"Report: {out / 'report.html'}"
    assert "ObjectSnap" in answer.stdout
    ((args, given),) = journey.named("simulate")
    assert args == (out / "study",)
    assert (given["signal"], given["seed"]) == (0.0, 3)
    config = journey.named("train")[0][0][2]
    assert (config.study, config.seed) == ("study", 3)
    once = {"simulate": 1, "train": 1, "decode": 1, "generate": 1, "evaluate": 1}
    assert count(journey) == once
    assert [(args[0].path, given["deep"]) for args, given in journey.named("explain")] == [
        (out, False)
    ]

    assert cli("demo", "--out", out, "--signal", "0", "--seed", "3").exit_code == 0
    # The others know themselves what of their work is done, so they are asked again.
    assert count(journey) == {**once, "train": 2, "decode": 2, "generate": 2}

    answer = cli("demo", "--out", out, "--signal", "0.5", "--seed", "3")
    assert answer.exit_code == 2
    assert "simulate" in answer.stderr and "other settings" in answer.stderr


def test_demo_runs_with_captions_measured_from_the_images(cli, journey, tmp_path):
    out = tmp_path / "demo"
    answer = cli("demo", "--out", out, "--captions", "rules")
    assert answer.exit_code == 0, answer.stderr
    assert journey.named("train")[0][0][2].captions == "rules"
    study = Study(out / "study")
    assert study.caption_names() == ["builtin", "rules"]
    assert set(study.captions("rules")["captioner"]) == {"rules"}
    assert cli("demo", "--out", out).exit_code == 2  # a run has one set of captions
    answer = cli("demo", "--out", tmp_path / "other", "--captions", "builtin")
    assert journey.named("train")[-1][0][2].captions == "builtin"


def test_demo_goes_on_after_an_interruption(cli, journey, tmp_path):
    decode = sys.modules["eegprompt.steps.decode"].decode

    def interrupted(run, progress=None):
        raise KeyboardInterrupt

    sys.modules["eegprompt.steps.decode"].decode = interrupted
    assert cli("demo", "--out", tmp_path / "demo").exit_code == 130
    sys.modules["eegprompt.steps.decode"].decode = decode
    assert cli("demo", "--out", tmp_path / "demo").exit_code == 0
    assert count(journey) == {"simulate": 1, "train": 2, "decode": 1, "generate": 1, "evaluate": 1}


def test_demo_keeps_out_of_a_folder_with_something_else_in_it(cli, journey, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    answer = cli("demo", "--out", tmp_path)
    assert answer.exit_code == 2
    assert "is no run" in answer.stderr
    assert not journey.calls


def test_new_images_captions_or_settings_are_scored_anew(cli, journey, tmp_path):
    out = tmp_path / "demo"
    cli("demo", "--out", out)
    image = Run(out).image_path("builtin", "eeg", 0)
    image.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    cli("demo", "--out", out)
    assert count(journey)["evaluate"] == 2
    Run(out).prompts_path.write_text("y")
    cli("demo", "--out", out)
    assert count(journey)["evaluate"] == 3
    cli("demo", "--out", out, "evaluation.permutations=99")
    assert count(journey)["evaluate"] == 4
    cli("demo", "--out", out, "evaluation.permutations=99")
    assert count(journey)["evaluate"] == 4


def test_run_carries_out_a_recipe_over_all_folds(cli, journey, small_study, tmp_path, monkeypatch):
    from eegprompt.study.split import Split

    study = Study(small_study)
    fold = study.split("official").fold(0)
    study.write_split(Split("two", (fold, fold, fold)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "make: {simulate: {images: 40}}\nsplit: two\nfolds: all\ntraining: {epochs: 4}\n"
    )
    out = tmp_path / "out"
    answer = cli("run", recipe, "--out", out, "training.patience=2", "--json")
    assert answer.exit_code == 0, answer.stderr
    stored = json.loads(answer.stdout)
    assert stored == {"run": str(out), "report": str(out / "report.html"), "rows": ROWS}
    assert (len(journey.named("evaluate")), len(journey.named("evaluate_folds"))) == (0, 1)
    configs = [a[2] for a, _ in journey.named("train")]
    assert [c.fold for c in configs] == [0, 1, 2]
    assert {(c.training.epochs, c.training.patience) for c in configs} == {(4, 2)}
    cli("run", recipe, "--out", out, "training.patience=2", "--json")
    assert len(journey.named("evaluate_folds")) == 1
    # A run is opened with its study wherever both were moved to.
    out.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert Run(tmp_path / "elsewhere" / "fold-1").study.n_trials == 32


IMPORT_RECIPE = """
make:
  import:
    reader: fake
    source: ${EEGPROMPT_TEST_SOURCE}
    files: [one.csv, two.csv]
    options: {marker: "{source}/m"}
    obtain: they are at example.org
"""


def test_a_recipe_imports_from_a_variable_or_an_argument(
    cli, journey, reader, tmp_path, monkeypatch
):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(IMPORT_RECIPE)
    source = tmp_path / "recordings"

    answer = cli("run", recipe, "--out", tmp_path / "a")
    assert answer.exit_code == 2
    for part in ("EEGPROMPT_TEST_SOURCE", "--source", "example.org"):
        assert part in answer.stderr
    answer = cli("run", recipe, "--out", tmp_path / "a", "--source", source)
    assert answer.exit_code == 2
    assert "no recordings at" in answer.stderr and "example.org" in answer.stderr

    source.mkdir()
    monkeypatch.setenv("EEGPROMPT_TEST_SOURCE", str(source))
    cli("run", recipe, "--out", tmp_path / "b")
    ((files, _, options),) = reader.calls
    assert files == [source / "one.csv", source / "two.csv"]
    assert options["marker"] == f"{source}/m"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training: {epoch: 3}\nstudy: x", "did you mean"),
        ("mak: {}\nstudy: x", "did you mean 'make'"),
        ("make: {simulat: {}}", "simulat"),
        ("make: {}", "either 'simulate' or"),
        ("seed: 1", "names no study"),
        ("folds: some\nstudy: x", "folds"),
        ("a: [", "not valid YAML"),
        ("- a", "must hold settings"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_before_anything_is_made(
    cli, journey, tmp_path, text, says
):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    answer = cli("run", recipe, "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert says in answer.stderr
    assert not (tmp_path / "out").exists()


def test_the_recipes_that_come_with_the_source_are_in_order(monkeypatch):
    from eegprompt.recipe import demo_recipe, load_recipe

    folder = Path(__file__).parents[1] / "recipes"
    assert load_recipe(folder / "builtin.yaml") == demo_recipe()
    recipe = load_recipe(folder / "n170.yaml", source=folder)
    assert recipe.make.import_.reader == "continuous"
    assert recipe.folds == "all"


# -- what is printed where ---------------------------------------------------------------------
def test_progress_is_drawn_on_a_terminal_only(capsys):
    from eegprompt.cli import console

    with console.bar() as progress:
        progress(1, 2, "half")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_progress_on_a_terminal_goes_to_stderr():
    import pty

    leader, follower = pty.openpty()
    code = (
        "from eegprompt.cli import console\n"
        "with console.step('train') as progress:\n"
        "    for i in range(4): progress(i, 3, 'epochs')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=follower, check=True
    )
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert done.stdout == b""
    assert "epochs" in shown and "train: " in shown


def test_our_warnings_are_one_line_and_those_of_others_are_kept_quiet():
    code = (
        "import warnings, eegprompt\n"
        "from eegprompt.cli import console\n"
        "console.quiet_libraries()\n"
        "warnings.warn_explicit('ours', UserWarning, eegprompt.__file__, 1)\n"
        "warnings.warn_explicit('theirs', UserWarning, '/x/site-packages/mne/io.py', 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "Warning: ours\n"

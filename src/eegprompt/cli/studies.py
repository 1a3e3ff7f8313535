"""Commands that make and show studies: simulate, import, info, split."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from eegprompt.cli import console
from eegprompt.cli.options import (
    Json,
    Overwrite,
    StudyPath,
    numbers,
    pairs,
)
from eegprompt.core.errors import EegpromptError, InputError, UnknownNameError
from eegprompt.core.registry import names

__all__ = ["register"]

_PANEL = "Studies"


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The study's folder, to be made.")],
    subjects: Annotated[int | None, typer.Option(help="Number of subjects.")] = None,
    images: Annotated[
        int | None, typer.Option(help="Number of scenes for training and validation.")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(help="Number of further scenes, to test on.")
    ] = None,
    repetitions: Annotated[int | None, typer.Option(help="Trials of each image a subject.")] = None,
    sfreq: Annotated[float | None, typer.Option(help="Sampling rate in Hz.")] = None,
    signal: Annotated[
        float | None,
        typer.Option(help="Evoked over background RMS, a linear ratio; 0 plants no signal."),
    ] = None,
    design: Annotated[
        str | None, typer.Option(help="Order of showing: 'randomised' or 'block'.")
    ] = None,
    drift: Annotated[
        float | None, typer.Option(help="Slow drift of the electrodes, relative to background.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; equal seeds give equal studies.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make the built-in study: drawn scenes, ten captions each, and simulated EEG.

    Writes a study folder with its captions and an official split. Every caption kind drives its
    own sources in a head model, over background EEG; the truth lies in the folder too.

    Example: [bold]eegprompt simulate studies/scenes --subjects 2 --signal 0.5[/bold]
    """
    from eegprompt.steps.simulate import simulate as make

    options = _given(
        subjects=subjects,
        images=images,
        test_images=test_images,
        repetitions=repetitions,
        sfreq=sfreq,
        signal=signal,
        design=design,
        drift=drift,
        seed=seed,
    )
    with console.step("simulate") as progress:
        study = make(out, overwrite=overwrite, progress=progress, **options)
    _made(study, json)


def import_(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=f"What the files are: {', '.join(names('reader'))}."),
    ],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE...", help="Files or folders to read."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder, to be made.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The study's name; default: the source's.")
    ] = None,
    marker: Annotated[
        str | None, typer.Option(help="Column or channel that holds the markers.")
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE=CATEGORY", help="What a marker means; once for each code."),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Table of what markers mean (event, and category or image), or 1=house,2=face.",
        ),
    ] = None,
    events_table: Annotated[
        str | None,
        typer.Option(help="Table of onsets and images or categories; {stem} is each file's name."),
    ] = None,
    windows: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH,STEP", help="Cut windows (seconds) where there are no events."
        ),
    ] = None,
    repeated: Annotated[
        str | None,
        typer.Option(help="Which of several events at one sample to take: error, first, last."),
    ] = None,
    category_from: Annotated[
        str | None, typer.Option(help="Where windows take their category from: file or folder.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of the values in CSV files: uV, mV, V or a.u.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="CHANNEL", help="Leave a channel out.")
    ] = None,
    bandpass: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Band-pass filter in Hz.")
    ] = None,
    tmin: Annotated[
        float | None, typer.Option(help="Start of a trial relative to onset, in seconds.")
    ] = None,
    tmax: Annotated[
        float | None, typer.Option(help="End of a trial relative to onset, in seconds.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="START,END", help="Subtract the mean of this stretch (seconds)."),
    ] = None,
    reject: Annotated[
        float | None, typer.Option(help="Leave out trials beyond this many microvolts.")
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Folder of the images that were shown.")
    ] = None,
    allow_missing_images: Annotated[
        bool, typer.Option("--allow-missing-images", help="Go on without images not found.")
    ] = False,
    design: Annotated[
        str | None, typer.Option(help="Order of showing: 'randomised', 'block' or 'unknown'.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="Any other option of the reader."),
    ] = None,
    options: Annotated[
        bool, typer.Option("--options", help="List the options of reader KIND and stop.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Turn recordings into a study.

    Reads files with the reader KIND and writes a study folder; a failure leaves none behind.

    Example: [bold]eegprompt import continuous rec/*.csv --out studies/n170 --marker Marker0
    --event 1=house --event 2=face --unit uV --bandpass 1,30 --tmin -0.1 --tmax 0.8
    --baseline -0.1,0 --reject 75 --stimuli images[/bold]
    """
    from eegprompt.steps.import_ import import_ as read
    from eegprompt.steps.import_ import load_reader

    reader = load_reader(kind)
    if options:
        _list_options(reader)
        return
    if not sources or out is None:
        raise InputError(
            "import needs what to read and where to write: "
            f"eegprompt import {kind} SOURCE --out studies/NAME"
        )
    if event and events:
        raise InputError("--event and --events exclude one another; give one of them")
    given = _given(
        name=name,
        marker=marker,
        events=_events(event) if event else _table_or_events(events),
        events_table=events_table,
        windows=numbers(windows, "--windows", 2) if windows else None,
        repeated=repeated,
        category_from=category_from,
        unit=unit,
        exclude=tuple(exclude) if exclude else None,
        bandpass=numbers(bandpass, "--bandpass", 2) if bandpass else None,
        tmin=tmin,
        tmax=tmax,
        baseline=numbers(baseline, "--baseline", 2) if baseline else None,
        reject=reject,
        stimuli=stimuli,
        allow_missing_images=allow_missing_images or None,
        design=design,
        overwrite=overwrite or None,
    )
    others = pairs(option)
    _check_known(reader, given, others)
    given |= others
    with console.step("import") as progress:
        try:
            study = read(kind, sources, out, progress=progress, **given)
        except EegpromptError as problem:
            problem.args = (_as_typed(str(problem), reader),)
            raise
    _made(study, json, reader)


def info(
    study: StudyPath,
    figure: Annotated[
        Path | None,
        typer.Option(help="Also draw the cap and the evoked response: .svg, .png or .pdf."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what is in a study: recording, trials, images, splits, captions.

    Reads a study folder; writes nothing but the figure, if one is asked for.

    Example: [bold]eegprompt info studies/scenes --figure cap.svg[/bold]
    """
    from eegprompt.figures.sensors import draw_study
    from eegprompt.steps.info import info as study_info
    from eegprompt.study import Study

    opened = Study(study)
    facts = study_info(opened)
    if figure is not None:
        draw_study(opened, figure)
    if json:
        console.print_json(facts)
        return
    shown: dict[str, str] = {}
    for name, value in facts.items():
        label = _LABELS.get(name, name.replace("_", " "))
        if name == "trial_s":
            shown[label] = f"{value[0]:.4g} to {value[1]:.4g}"
        elif name in ("notes", "steps") and len(value) > 1:  # sentences: one a line
            shown |= {f"{label} {i}": _words(v) for i, v in enumerate(value, start=1)}
        else:
            shown[label] = _words(value)
    console.print_facts(shown)


def split(
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY", help="The study's folder.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help=f"How: {', '.join(names('split'))}; also loso, leave-one-subject-out, "
            "leave-one-run-out, kfold, group-kfold.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The split's name; default: KIND.")] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; equal seeds give equal splits.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="KEY=VALUE", help="Any other option of this kind of split."
        ),
    ] = None,
    options_: Annotated[
        bool, typer.Option("--options", help="List the options of KIND and stop; STUDY may lack.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace a split of that name; runs trained on it must then be trained again.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Divide a study's trials into a training, a validation and a test set.

    Writes STUDY/splits/NAME.json: one or more folds of trial ids, and how they were made.
    'eegprompt split KIND --options' lists what a kind can be told.

    Example: [bold]eegprompt split studies/n170 by-run[/bold]
    """
    if options_:
        _list_split_options(kind or (str(study) if study is not None else ""), json)
        return
    if study is None or kind is None:
        raise InputError(
            "split needs a study and a kind: eegprompt split studies/NAME by-run; the kinds are "
            f"{', '.join(names('split'))}"
        )
    from eegprompt.steps.split import split as divide
    from eegprompt.study import Study

    opened = Study(study)
    options = _given(folds=folds, seed=seed) | pairs(option)
    made = divide(opened, kind, name, overwrite=overwrite, **options)
    path = opened.path / "splits" / f"{made.name}.json"
    sizes = [{side: len(getattr(f, side)) for side in ("train", "val", "test")} for f in made.folds]
    if json:
        console.print_json({"path": path, "name": made.name, "folds": sizes, "how": made.how})
        return
    console.print_table(
        ("fold", "train", "val", "test"),
        [(str(i), *map(str, s.values())) for i, s in enumerate(sizes)],
    )
    console.out().print(str(path), markup=False)


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("simulate", rich_help_panel=_PANEL)(simulate)
    app.command("import", rich_help_panel=_PANEL)(import_)
    app.command("info", rich_help_panel=_PANEL)(info)
    app.command("split", rich_help_panel=_PANEL)(split)


def _given(**options: Any) -> dict[str, Any]:
    """Only what was given, so that a default lives in one place: the library."""
    return {name: value for name, value in options.items() if value is not None}


def _list_split_options(kind: str, json: bool) -> None:
    """What a kind of split can be told: each option as it is typed, its default, what it is."""
    from eegprompt.splits import base as splits
    from eegprompt.splits.by_run import by_run

    if not kind:
        raise InputError(
            "--options needs a kind of split: eegprompt split by-run --options; the kinds are "
            f"{', '.join(names('split'))}"
        )
    function, known = splits.split_function(kind)
    group = {"by-subject": "subject", "by-run": "run"}.get(known, "session")
    said = {  # where a kind refers to by-run, as it would be said of its own groups
        name: re.sub(r"\brun(?=s?\b)", group, words) for name, words in _parameters(by_run).items()
    }
    said |= {**_parameters(function), "name": f'Name of the split; default "{kind}".'}
    folds = splits.ALIASES.get(kind, (kind, None))[1]
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        default = parameter.default
        if isinstance(default, int | float) and not isinstance(default, bool):
            default = f"{default:g}"
        if name == "folds" and folds is not None:
            default = str(folds)
        flag = name in ("name", "folds", "seed")
        typed = f"--{name}" if flag else f"-o {name}=..."
        rows.append((typed, _default(default), said.get(name, "")))
    if json:
        console.print_json([dict(zip(("option", "default", "what_it_is"), row)) for row in rows])
        return
    console.print_table(("option", "default", "what it is"), rows)


def _parameters(function: Any) -> dict[str, str]:
    """What a docstring in numpydoc's form says of each parameter; references to others are left out.

    Examples
    --------
    >>> def f(*, a, b):
    ...     "One line.\\n\\nParameters\\n----------\\na, b : int\\n    How ``many``."
    >>> _parameters(f)
    {'a': 'How many.', 'b': 'How many.'}
    """
    text = inspect.getdoc(function) or ""
    _, _, rest = text.partition("Parameters\n----------\n")
    found: dict[str, list[str]] = {}
    current: list[str] = []
    lines = rest.splitlines()
    for i, line in enumerate(lines):
        if i + 1 < len(lines) and lines[i + 1].startswith("---"):
            break  # the next section
        if line and not line.startswith(" "):
            current = [name.strip(" *") for name in line.partition(" : ")[0].split(",")]
            found |= {name: [] for name in current}
        elif line.strip():
            for name in current:
                found[name].append(line.strip())
    said = {name: " ".join(words).replace("`", "") for name, words in found.items()}
    return {name: words for name, words in said.items() if words and "As in :func:" not in words}


def _list_options(reader: Any) -> None:
    model = getattr(reader, "options", None)
    if model is None:
        console.note(f"reader '{reader.name}' declares no options")
        return
    console.print_table(
        ("option", "default", "what it is"),
        [
            (
                _typed(name, "A=B,..." if get_origin(field.annotation) is dict else "..."),
                _default(field.default),
                field.description or "",
            )
            for name, field in model.offered().items()
        ],
    )


# What `info` calls a fact where its name as JSON does not read well.
_LABELS = {
    "n_classes": "number of classes",
    "sampling_rate_hz": "sampling rate (Hz)",
    "trial_s": "trial (s from onset)",
    "megabytes": "size (MB)",
}

# Options of readers that have a flag of their own; what is not here is given with -o.
_FLAGS = (
    *("name", "marker", "events", "events_table", "windows", "category_from", "unit", "exclude"),
    *("bandpass", "tmin", "tmax", "baseline", "reject", "stimuli", "design", "overwrite"),
    *("repeated", "allow_missing_images"),
)


def _default(value: Any) -> str:
    """An option's default as it would be typed; nothing where there is none."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value) if value else ""


def _typed(name: str, value: str = "...") -> str:
    """How an option of a reader is typed.

    Examples
    --------
    >>> _typed("events_table"), _typed("sfreq"), _typed("sfreq", "250")
    ('--events-table', '-o sfreq=...', '-o sfreq=250')
    """
    return f"--{name.replace('_', '-')}" if name in _FLAGS else f"-o {name}={value}"


def _check_known(reader: Any, flags: dict[str, Any], others: dict[str, Any]) -> None:
    """Refuse an option that the reader does not have, as it was typed, with those it has."""
    model = getattr(reader, "options", None)
    if model is None:
        return
    for name in (*flags, *others):
        if name not in model.model_fields:  # what is known and not offered, the reader refuses
            word = f"--{name.replace('_', '-')}" if name in flags else f"-o {name}"
            unknown = UnknownNameError("option", word, map(_typed, model.offered()))
            raise InputError(f"reader '{reader.name}': {unknown}")


def _as_typed(message: str, reader: Any) -> str:
    """A reader's message with its options as they are typed: 'unit' becomes --unit.

    Examples
    --------
    >>> class Reader:
    ...     class options:
    ...         model_fields = {"events_table": None, "sfreq": None}
    >>> _as_typed("give 'events_table' or 'sfreq', not 'Oz'", Reader)
    "give --events-table or -o sfreq=..., not 'Oz'"
    >>> _as_typed("pass 'sfreq=250', or 'sfreq.a b=PATH'", Reader)
    'pass -o sfreq=250, or -o "sfreq.a b=PATH"'
    """
    fields = getattr(getattr(reader, "options", None), "model_fields", {})

    def typed(found: re.Match[str]) -> str:
        name, inner, value = found.groups()
        if name not in fields:
            return found.group(0)
        if inner:  # one entry of a group
            word = f"{name}{inner}={value}"
            return f'-o "{word}"' if " " in word else f"-o {word}"
        return _typed(name, value or "...") + (f" {value}" if value and name in _FLAGS else "")

    # A suggestion repeats a name in the place of the one that was typed.
    return re.sub(r"(?<!did you mean )'(\w+)(?:(\.[^'=]+)?=([^']*))?'", typed, message)


def _events(words: list[str]) -> dict[str, str]:
    meaning: dict[str, str] = {}
    for word in words:
        code, equals, category = word.partition("=")
        if not equals or not code.strip() or not category.strip():
            raise InputError(f"--event is written CODE=CATEGORY, e.g. 2=face; got '{word}'")
        if code in meaning:
            raise InputError(f"--event names code {code} twice; give each code one category")
        meaning[code.strip()] = category.strip()
    return meaning


def _table_or_events(text: str | None) -> Path | dict[str, str] | None:
    if text is None:
        return None
    if "=" in text and not Path(text).exists():
        return _events(text.split(","))
    return Path(text)


def _made(study: Any, json: bool, reader: Any = None) -> None:
    facts = {
        "path": str(study.path),
        "trials": study.n_trials,
        "images": len(study.images),
        "channels": study.n_chans,
        "samples": study.n_times,
        "sfreq": study.sfreq,
        "splits": study.split_names(),
        "captions": study.caption_names(),
    }
    if json:
        console.print_json(facts)
    else:
        console.out().print(
            f"{study.path}: {study.n_trials} trials of {len(study.images)} images, "
            f"{study.n_chans} channels, {study.n_times} samples at {study.sfreq:g} Hz",
            markup=False,
        )
    for text in study.info.get("notes", []):
        console.note(f"Note: {_as_typed(text, reader)}")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_words(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        shown = ", ".join(_words(v) for v in value[:12])
        return (shown or "none") + (f", … ({len(value)} in all)" if len(value) > 12 else "")
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)

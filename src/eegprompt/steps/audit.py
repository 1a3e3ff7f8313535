"""Is a study's score going to mean what it says? A look at design, splits and signal before training.

Five checks (see the page ``docs/audit.md``): what two sides of the split share (*overlap*), whether the
class can be told from the protocol alone (*design*, D), whether the EEG tells time within a class
(*time*, T), whether it tells the class before the stimulus (*prestimulus*, P), and what linear decoders
of nuisances reach beside one of the whole response. One verdict comes of them, with its evidence; it is
kept in the study's ``audit.json``, one entry a split, and stamped on every later score. An
entry holds as long as the study and the split are what they were.
"""

from __future__ import annotations

from typing import Any

from eegprompt.confounds.audit_data import ALPHA, Material, Progress
from eegprompt.confounds.design_checks import check_design
from eegprompt.confounds.record import FORMAT, NO_SPLIT, audit_key, stored_audits
from eegprompt.confounds.signal_checks import check_decoders, check_prestimulus, check_time
from eegprompt.confounds.verdict import NUISANCE_SHARE, verdict
from eegprompt.core.errors import InputError, StudyError
from eegprompt.core.files import provenance, read_json, write_json
from eegprompt.core.threads import one_blas_thread
from eegprompt.splits.leaks import leaks
from eegprompt.study import Study
from eegprompt.study.split import Split

__all__ = ["audit"]

FEW = 50


_STEPS = 5


_ALONE = {
    None: "",
    "slow": "slow activity",
    "dc": "the mean of each channel",
    "variance": "the mean and variance of each channel",
    "power": "band power",
}


def audit(
    study: Study,
    split: str | None = None,
    *,
    seed: int = 0,
    permutations: int = 999,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Look for what could make a study's scores mean something else, and write it down.

    Parameters
    ----------
    study : Study
        It is not changed, but for its ``audit.json``.
    split : str, optional
        Which split is going to be used. Default: ``official``, or the only one; a study
        without splits is audited with a random one.
    seed : int
        Seed of permutations and of everything drawn.
    permutations : int
        At least 199, so that p can fall below .01 after Holm's correction over five sources.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    dict
        ``verdict`` (clean, suspect, confounded or unknown), ``decodable`` (bool, or None where nothing
        could be decoded), ``summary``, ``evidence`` (sentences), ``leaks``, ``limits`` (what was
        left out or not known), and under ``checks`` the figures of ``design``, ``time``,
        ``prestimulus`` and ``decoders``.

    Raises
    ------
    InputError
        If there are several splits and none is named, or too few permutations.
    UnknownNameError
        If there is no split of that name.
    """
    if permutations < 199:
        raise InputError(
            f"'permutations' must be at least 199, or no check could reach p < {ALPHA}; got "
            f"{permutations}"
        )
    chosen = _split_of(study, split)
    tell = progress or (lambda done, total, label: None)
    work = Material(study, chosen, seed, permutations, tell)
    tell(0, _STEPS, "what the split's sides share")
    leaking = _leaks(study, chosen)
    tell(1, _STEPS, "design")
    with one_blas_thread():
        design = check_design(work)
        time = check_time(work, design["found"], 2, _STEPS)
        if study.n_trials < FEW:
            work.limit(
                f"with {study.n_trials} trials little can be found: 'clean' says little here"
            )
        early = check_prestimulus(work, design["found"], 3, _STEPS)
        decoders = check_decoders(work, 4, _STEPS)
    word = verdict(
        design=design["found"],
        time=time["found"],
        prestimulus=early["found"],
        nuisance_share=decoders["nuisance_share"],
        order_known=work.order_known,
        shape=decoders["shape"],
    )
    # Nothing is decodable only where nothing is, before the stimulus either.
    decodable = True if early["found"] else decoders["decodable"]
    evidence = [*design["words"], *time["words"], *early["words"], *decoders["words"]]
    result: dict[str, Any] = {
        "format": FORMAT,
        "study": study.name,
        "split": chosen.name if chosen else None,
        "key": audit_key(study, chosen),
        "verdict": word,
        "decodable": decodable,
        "summary": _summary(word, decodable, design, time, early, decoders),
        "evidence": evidence,
        "leaks": leaking,
        "folds": len(chosen.folds) if chosen else 0,
        "limits": work.limits,
        "checks": {"design": design, "time": time, "prestimulus": early, "decoders": decoders},
        "alpha": ALPHA,
        "permutations": permutations,
        "seed": seed,
        "provenance": provenance(),
    }
    stored = stored_audits(study)
    stored[chosen.name if chosen else NO_SPLIT] = result
    write_json(study.path / "audit.json", {"format": FORMAT, "splits": stored})
    tell(_STEPS, _STEPS, "audit")
    return read_json(study.path / "audit.json", error=StudyError, schema="audit")["splits"][
        chosen.name if chosen else NO_SPLIT
    ]


def _split_of(study: Study, name: str | None) -> Split | None:
    names = study.split_names()
    if name is not None:
        return study.split(name)
    if not names:
        return None
    if "official" in names or len(names) == 1:
        return study.split("official" if "official" in names else names[0])
    raise InputError(
        f"{study.path} has several splits, and an audit is of one; name it with --split: "
        f"{', '.join(names)}"
    )


def _leaks(study: Study, split: Split | None) -> list[dict[str, Any]]:
    if split is None:
        return []
    return [
        {"fold": index, "kind": leak.kind, "sides": list(leak.sides), "count": leak.count,
         "words": str(leak)}
        for index, fold in enumerate(split.folds)
        for leak in leaks(study, fold, split.how)
    ]  # fmt: skip


def _summary(
    word: str, decodable: bool | None, design: dict[str, Any], time: dict[str, Any],
    early: dict[str, Any], decoders: dict[str, Any],
) -> str:  # fmt: skip
    """One or two sentences for the badge."""
    if word == "confounded":
        share = decoders["nuisance_share"]
        reasons = [
            ("the EEG tells time", time["found"]),
            ("the class is there before the stimulus", early["found"]),
            ("the lengths of trials tell the class", decoders["shape"]),
            (f"{_ALONE[decoders['nuisance']]} alone reaches {share or 0:.0%} of what any decoder "
             "here gains", share is not None and share >= NUISANCE_SHARE),
        ]  # fmt: skip
        said = (
            "Class and time go together in this study, and "
            + ", and ".join(r for r, holds in reasons if holds)
            + ": scores cannot tell the images from the time they were shown."
        )
    elif word == "suspect" and design["found"]:
        said = (
            "Class and time go together in this study; that the EEG gives time away was not found, "
            "and cannot be ruled out."
        )
    elif word == "suspect":
        reasons = [
            ("before the stimulus", early["found"]),
            ("from the length of trials and their number of averages", decoders["shape"]),
        ]
        said = (
            f"The class can be decoded {' and '.join(r for r, holds in reasons if holds)}: "
            "something besides the image tells it."
        )
    elif word == "clean":
        said = (
            "The order of showing tells nothing of the class, and nothing of it can be decoded before "
            "the stimulus."
        )
        if early["decoding"] is None or early["decoding"]["noticed"] is None:
            said = "The order of showing tells nothing of the class."
    else:
        said = (
            "When trials were shown is not recorded, so whether time could stand in for the class "
            "cannot be known."
        )
    above = [r for r in decoders["rows"] if r["above_chance"]]
    if decodable is False:
        said += " Nothing is decodable: no linear decoder is above chance."
    elif decodable is None:
        said += " " + decoders["undecided"]
    elif above and all(r["decoder"] != "full" for r in above):
        best = max(above, key=lambda r: r["accuracy"] - r["chance"])
        said += (
            f" A linear decoder of the whole response is not above chance, but one of the "
            f"{best['label']} is."
        )
    return said


"""Entry of an audit that was made before the study had a split."""

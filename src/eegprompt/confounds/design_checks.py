"""D: can the class be told from the protocol alone?"""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.confounds.audit_data import ALPHA, Material
from eegprompt.confounds.design import GuessTest, group_guess, neighbor_guess, time_neighbors
from eegprompt.stats.multiple import holm

__all__ = ["check_design"]

_LEAST_IN_ONE_CLASS = 4
"""Groups of one class each are no accident when they hold so many trials on average."""


def check_design(work: Material) -> dict[str, Any]:
    """Test every source of class knowledge that the study records."""
    sources: list[dict[str, Any]] = []
    if len(work.classes) > 1:
        for name, test in _tests(work):
            pure = test.one_class and test.n_groups > 1
            sources.append(
                {
                    "source": name,
                    "accuracy": test.accuracy,
                    "chance": test.chance,
                    "p": None if np.isnan(test.p) else test.p,
                    "groups": test.n_groups,
                    "one_class": bool(pure),
                }
            )
        tested = [s for s in sources if s["p"] is not None]
        if tested:
            for source, p in zip(tested, holm(np.array([s["p"] for s in tested]))):
                source["p_holm"] = float(p)
    found = [s for s in sources if s["one_class"] or s.get("p_holm", 1.0) < ALPHA]
    return {
        "declared": work.study.design,
        "order_known": work.order_known,
        "sources": sources,
        "found": bool(found) or (work.study.design == "block" and len(work.classes) > 1),
        "found_in": [s["source"] for s in found],
        "words": _words(work, sources, found),
        "timeline": _timeline(work),
    }


def _tests(work: Material) -> list[tuple[str, GuessTest]]:
    """A test of each source that has more than one value to tell classes by."""
    trials = work.study.trials
    subject = work.subject
    session = trials.groupby(["subject", "session"], sort=False).ngroup().to_numpy()
    block = trials["block"].to_numpy()
    made: list[tuple[str, GuessTest]] = []

    def group(name: str, groups: np.ndarray, strata: np.ndarray | None, stream: int) -> None:
        inside = np.zeros(len(groups), int) if strata is None else strata
        pairs = np.unique(np.stack([inside, groups], axis=1), axis=0)
        if len(pairs) <= len(np.unique(inside)):
            return  # one value only: it tells nothing
        test = group_guess(
            work.labels, groups, units=work.units, strata=_units_strata(work, strata),
            n=work.permutations, seed=work.seed + stream,
        )  # fmt: skip
        if test.one_class and len(groups) < _LEAST_IN_ONE_CLASS * test.n_groups:
            test = GuessTest(test.accuracy, test.chance, test.p, test.n_groups, False)
        made.append((name, test))

    group("session", session, subject, 0)
    group("run", work.recording, session, 1)
    if len(np.unique(session)) > 1:
        group("recording", work.recording, None, 2)
    if (block >= 0).all():
        whole = trials.assign(_recording=work.recording).groupby(["_recording", "block"]).ngroup()
        group("block", whole.to_numpy(), session, 3)
    elif (block >= 0).any():
        work.limit("the block is recorded for some trials only, so it was not looked at")
    if work.order_known:
        neighbors = time_neighbors(work.recording, work.position)
        made.append(
            (
                "order",
                neighbor_guess(
                    work.labels, neighbors, units=work.units,
                    strata=_units_strata(work, subject), n=work.permutations, seed=work.seed + 4,
                ),
            )
        )  # fmt: skip
    return made


def _units_strata(work: Material, strata: np.ndarray | None) -> np.ndarray | None:
    """Strata that labels are exchanged in; none where an image was shown in several of them."""
    if strata is None or work.units is None:
        return strata
    pairs = np.unique(np.stack([work.units, strata], axis=1), axis=0)
    return strata if len(pairs) == len(np.unique(work.units)) else None


def _words(work: Material, sources: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[str]:
    if len(work.classes) < 2:
        return ["There is one class only, so nothing can be told apart by its time."]
    said = []
    if work.study.design == "block":
        said.append("The study declares that each class was shown in a block of its own.")
    for s in found:
        of = {
            "order": "a trial beside it in time",
            "block": "another trial of its block",
            "run": "another trial of its run",
            "session": "another trial of its session",
            "recording": "another trial of its recording (subject, session and run)",
        }[s["source"]]
        p = s.get("p_holm")
        said.append(
            f"Guessing the class of a trial from {of} is right in {s['accuracy']:.0%} of trials; by "
            f"chance it would be {s['chance']:.0%}"
            + (f" (p\u00a0=\u00a0{p:.3f})." if p is not None else ".")
        )
        if s["one_class"]:
            said.append(
                f"Each of {s['groups']} {s['source']}s holds one class only"
                + (", which the study does not declare." if work.study.design != "block" else ".")
            )
    if not found and work.study.design != "block":
        names = [s["source"] for s in sources]
        said.append(
            f"The class cannot be told from {_listed(names)}." if names
            else "Neither order, block, run nor session of the trials is recorded."
        )  # fmt: skip
    if not work.order_known:
        declared = work.study.design
        said.append(
            "The order in which trials were shown is not recorded"
            + (f"; that it was {declared}, as declared, cannot be checked." if declared != "unknown"
               else ", and no design is declared.")
        )  # fmt: skip
    return said


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _timeline(work: Material, most: int = 600) -> dict[str, Any]:
    """Class, and side of the first fold, of one subject's trials in the order of showing."""
    if not work.order_known:
        return {}
    rows = np.flatnonzero(work.subject == work.subject[0])
    rows = rows[np.lexsort((work.position[rows], work.recording[rows]))][:most]
    names = list(dict.fromkeys(work.labels[rows].tolist()))
    side = np.full(work.study.n_trials, 3)
    if work.split is not None:
        fold = work.split.folds[0]
        for number, ids in enumerate((fold.train, fold.val, fold.test)):
            side[ids] = number
    return {
        "subject": work.study.subjects[int(work.subject[0])],
        "classes": [work.classes[c] for c in names],
        "shown": [names.index(c) for c in work.labels[rows].tolist()],
        "sides": side[rows].tolist(),
        "breaks": (np.flatnonzero(np.diff(work.recording[rows])) + 1).tolist(),
    }

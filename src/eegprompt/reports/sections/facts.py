"""What was run on what: the study, the split, the models, and the page's head."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.reports.contents import Material, RunMaterial
from eegprompt.reports.score_rows import Score
from eegprompt.reports.sections import Section
from eegprompt.reports.sections.scores import ALPHA, blocks
from eegprompt.reports.wording import SOURCES, plural
from eegprompt.signal.description import step_in_words
from eegprompt.study import Study

__all__ = ["build", "header"]

Facts = list[tuple[str, str]]

_VERDICTS = {
    "clean": ("good", "Design: clean"),
    "suspect": ("warn", "Design: suspect"),
    "confounded": ("bad", "Design: confounded"),
    "unknown": ("warn", "Design: unknown"),
}

DESIGN_WORDS = {
    "block": "block: each category shown in one stretch, so that time and category are entangled",
    "randomised": "randomized order",
    "unknown": "order not known",
}


def build(material: Material) -> Section:
    """Tables of facts."""
    tables: list[tuple[str, Facts]] = []
    if material.study is not None:
        tables.append(("Study", _study_facts(material.study)))
    tables.append(("Split", _split_facts(material)))
    tables.append(("Decoder and models", _model_facts(material.first)))
    audit = _audit_words(material)
    return Section(
        "facts",
        "What was run on what",
        {
            "tables": [(title, facts) for title, facts in tables if facts],
            "audit": audit,
            "citation": _info(material.study, "citation"),
            "licence": _info(material.study, "licence") or _info(material.study, "license"),
            "design": material.study.design if material.study else None,
        },
        short="What was run",
    )


def header(material: Material) -> dict[str, Any]:
    """Title, facts at a glance, badges and warnings."""
    study, run = material.study, material.first
    name = study.name if study is not None else material.path.name
    glance: Facts = []
    if study is not None:
        glance = [
            ("Subjects", f"{len(study.subjects):,}"),
            ("Trials", f"{study.n_trials:,}"),
            (
                "Images" if study.image_identity == "known" else "Stimuli",
                f"{len(study.images):,}",
            ),
            ("Categories", f"{len(study.categories):,}"),
            ("Channels", f"{study.n_chans:,}"),
            ("Window", _window(study)),
        ]
    if material.over_folds:
        glance.append(("Folds", str(len(material.runs))))
    elif run.fold is not None:
        sides = (run.fold.train, run.fold.val, run.fold.test)
        glance.append(("Train · select · test", " · ".join(f"{len(s):,}" for s in sides)))
    return {
        "study": name,
        "source": _info(study, "source"),
        "run": material.path.resolve().name,
        "glance": glance,
        "badges": _badges(material),
        "warnings": _warnings(material),
        "missing": material.missing,
    }


def _badges(material: Material) -> list[tuple[str, str, str]]:
    """Badges as (css, text, explanation)."""
    badges = []
    if material.audit is None and material.study is None:
        badges.append(("plain", "Design: not known", "The study cannot be opened."))
    elif material.audit is None:
        badges.append(("plain", "Design: not audited", "No audit of the design was made."))
    elif material.audit["stale"]:
        why = "The study or its split changed since it was audited."
        badges.append(("warn", "Design: audit outdated", why))
    else:
        verdict = str(material.audit.get("verdict", "unknown"))
        css, text = _VERDICTS.get(verdict, ("warn", f"Design: {verdict}"))
        if material.audit.get("decodable") is False:
            text += ", nothing decodable"
        badges.append((css, text, _audit_words(material)["summary"]))
    if material.allowed_leakage:
        badges.append(("bad", "Leaks allowed", "; ".join(material.allowed_leakage)))
    if material.simulated:
        badges.append(("plain", "Simulated EEG", "The EEG was simulated, not recorded."))
    if material.study is not None and material.study.image_identity == "category":
        badges.append(
            ("plain", "Categories only", "Which image was shown is not known, only its category.")
        )
    return badges


def _warnings(material: Material) -> list[str]:
    warnings = []
    study = material.study
    if material.simulated:
        warnings.append(
            "The EEG of this study is simulated: the scores tell whether the method finds what was "
            "planted, and nothing about brains."
        )
    if material.builtin_features:
        warnings.append(
            "Image scores rest on the built-in features: they can be compared with each other, "
            "not with published numbers."
        )
    if study is not None and study.image_identity == "category":
        warnings.append(
            "Which image was shown is not known, only its category. Categories stand in for "
            "images: the image beside a reconstruction is one of its category, and nothing here "
            "says that details of an image were decoded."
        )
    warnings.extend(_about_images(material))
    if study is not None and study.design == "block":
        warnings.append(
            "Each category was shown in one block: a decoder can read the time instead of the "
            "image, and no score here can tell the two apart."
        )
    warnings.extend(_too_few_permutations(material))
    if material.audit is None and study is None:
        warnings.append(
            "The study cannot be opened: how it was recorded and whether its design was audited is "
            "not known here."
        )
    elif material.audit is None:
        warnings.append(
            "The design was not audited: whether the category could be told from time, drift or leaks "
            "is not known. 'eegprompt audit' looks."
        )
    elif material.audit["stale"]:
        warnings.append(
            "The study or its split changed since it was audited; 'eegprompt audit' looks again."
        )
    audit = _audit_words(material)
    if audit["verdict"] in ("confounded", "suspect"):
        warnings.append(audit["summary"])
    warnings.extend(f"Allowed leakage: {allowed_leak}" for allowed_leak in material.allowed_leakage)
    return warnings


def _about_images(material: Material) -> list[str]:
    """What to know before believing an image score: how few there are, and what scores without EEG."""
    rows = [r for b in blocks(material.scores) for r in b.rows if r.score.what.group == "image"]
    warnings = []
    few = [row.few for row in rows if row.few]
    if few:
        warnings.append(f"Image scores. {few[0]}")
    plain = []
    for row in rows:
        better = [
            f"{SOURCES[s.source]} {s.text}"
            for s in row.further
            if s.source in ("gray", "mean-image") and _beats(s, row.score)
        ]
        if better:
            plain.append(f"{row.label} {row.score.text} ({', '.join(better)})")
    if plain:
        warnings.append(
            "Images that hold nothing of the EEG score as high or higher on: "
            + "; ".join(plain)
            + "."
        )
    dull = [
        f"{row.label} {row.score.fmt(row.ceiling)}"
        for row in rows
        if row.score.what.key == "two_way"
        and row.ceiling is not None
        and row.score.chance is not None
        and row.ceiling <= row.score.chance + 0.05
    ]
    if dull:
        warnings.append(
            "Even drawn from the true captions, images are hardly told apart (ceiling of "
            + "; ".join(dull)
            + "): this generator cannot draw such images, whatever the EEG tells."
        )
    return warnings


def _beats(other: Score, score: Score) -> bool:
    """Whether another prompt source's value is at least as good."""
    if other.value is None or score.value is None:
        return False
    if score.higher_is_better is False:
        return other.value <= score.value
    return other.value >= score.value


def _too_few_permutations(material: Material) -> list[str]:
    """A warning where no head could have passed the test, however well it did."""
    count = material.first.setting("evaluation.permutations")
    together = [
        len(block.rows)
        for block in blocks(material.scores)
        if block.many == "head" and all(r.score.p_holm is not None for r in block.rows)
    ]
    if not isinstance(count, int) or not together:
        return []
    least = max(together) / (count + 1)
    if least < ALPHA:
        return []
    return [
        f"With {count:,} permutations, p corrected for {max(together)} heads cannot fall below "
        f"{least:.2g}, so “above chance (p < {ALPHA})” cannot be reached however well a head does; "
        f"score with at least {int(max(together) / ALPHA):,} permutations."
    ]


def _audit_words(material: Material) -> dict[str, Any]:
    """Verdict, summary, evidence and limits of the audit; empty where there is none that holds."""
    audit = material.audit or {}
    if not audit or audit["stale"]:
        return {"verdict": "", "summary": "", "evidence": [], "outdated": bool(audit)}
    return {
        "verdict": audit["verdict"],
        "summary": audit["summary"],
        "evidence": [*audit["evidence"], *(f"Limit: {text}." for text in audit["limits"])],
        "outdated": False,
    }


def _info(study: Study | None, key: str) -> str:
    value = study.info.get(key) if study is not None else None
    return str(value) if value else ""


def _window(study: Study) -> str:
    times = 1e3 * study.times
    return f"{times[0]:.0f} to {times[-1]:.0f} ms".replace("-", "−")


def _study_facts(study: Study) -> Facts:
    per_subject = study.trials["subject"].astype(str).value_counts()
    spread = (
        f"{per_subject.min():,}"
        if per_subject.min() == per_subject.max()
        else f"{per_subject.min():,} to {per_subject.max():,}"
    )
    shown = study.categories
    listed = ", ".join(shown[:24]) + (f" and {len(shown) - 24} more" if len(shown) > 24 else "")
    names = study.ch_names
    channels = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    identity = {
        "known": "known for every trial",
        "category": "not known; only its category",
    }[study.image_identity]
    facts = [
        ("Name", study.name),
        ("Source", _info(study, "source")),
        ("Subjects", f"{len(study.subjects)}, {spread} trials each"),
        ("Trials", f"{study.n_trials:,}"),
        ("Images", f"{len(study.images):,}; which one was shown is {identity}"),
        ("Categories", f"{len(shown)}: {listed}"),
        ("Channels", f"{study.n_chans}: {channels}"),
        ("Montage", _info(study, "montage")),
        ("Sampling", f"{study.sfreq:g} Hz, {study.n_times} samples from {_window(study)}"),
        ("Design", DESIGN_WORDS[study.design]),
        ("Unit", study.unit),
        ("Processing", "; ".join(step_in_words(s) for s in study.info.get("steps") or [])),
        ("Simulation", _simulation(study)),
        ("Notes", "; ".join(str(n) for n in study.info.get("notes") or [])),
    ]
    return [(k, v) for k, v in facts if v]


def _simulation(study: Study) -> str:
    asked = study.info.get("simulation")
    if not isinstance(asked, dict):
        return ""
    names = {"signal": "evoked over background RMS"}
    plain = {str(k): v for k, v in asked.items() if not isinstance(v, dict)}
    return _pairs({names.get(k, k): v for k, v in plain.items()})


def _split_facts(material: Material) -> Facts:
    run = material.first
    facts: Facts = [("Split", str(run.config.get("split", "")))]
    if material.over_folds:
        facts.append(("Folds", ", ".join(r.label for r in material.runs)))
    else:
        facts.append(("Fold", str(run.config.get("fold", 0))))
    for each in material.runs:
        if each.fold is None or each.study is None:
            continue
        prefix = f"{each.label}: " if material.over_folds else ""
        sides = {side: getattr(each.fold, side) for side in ("train", "val", "test")}
        sizes = []
        for side, name in (("train", "training"), ("val", "selection"), ("test", "test")):
            images = each.study.trials["image_id"].to_numpy()[sides[side]]
            text = plural(len(sides[side]), f"{name} trial")
            if each.study.image_identity == "known":
                text += f" ({plural(len(np.unique(images)), 'image')})"
            sizes.append(text)
        facts.append((f"{prefix}Sizes".capitalize(), ", ".join(sizes)))
        facts.append((f"{prefix}Kept apart".capitalize(), _kept_apart(each)))
    if run.study is not None:
        try:
            how = run.study.split(str(run.config.get("split"))).how
        except ValueError:
            how = {}
        if how:
            facts.append(("How it was made", _pairs(how)))
    return [(k, v) for k, v in facts if v]


def _pairs(mapping: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in mapping.items() if v not in (None, "", [], {}))


def _kept_apart(run: RunMaterial) -> str:
    """What training and test have in common, in words."""
    assert run.fold is not None and run.study is not None
    if not len(run.fold.test):
        return "no test trials"
    trials = run.study.trials
    columns = [("subject", "subjects"), ("run", "recording runs")]
    if run.study.image_identity == "known":
        columns.insert(0, ("image_id", "images"))
    parts = []
    for column, noun in columns:
        values = trials[column].astype(str).to_numpy()
        if column == "run":  # a run's name is unique only within its subject and session
            values = (trials["subject"].astype(str) + "/" + trials["session"].astype(str)
                      + "/" + trials["run"].astype(str)).to_numpy()  # fmt: skip
        test = set(values[run.fold.test])
        both = test & set(values[run.fold.train])
        parts.append(
            f"no {noun} shared" if not both else f"{len(both)} of {len(test)} test {noun} shared"
        )
    return "between training and test: " + ", ".join(parts)


def _model_facts(run: RunMaterial) -> Facts:
    options = run.setting("encoder.options") or {}
    encoder = str(run.setting("encoder.name", ""))
    size = (run.provenance.get("train") or {}).get("n_parameters")
    if isinstance(size, int):
        encoder += f", {size:,} parameters"
    if options:
        encoder += f" ({_pairs(options)})"
    training = [
        f"objective {run.setting('training.objective')}",
        f"{run.setting('training.epochs')} epochs at most",
        f"batches of {run.setting('training.batch_size')}",
        f"learning rate {run.setting('training.learning_rate')}",
    ]
    steps = run.setting("training.preprocessing") or []
    facts = [
        ("EEG encoder", encoder),
        ("Training", ", ".join(training)),
        ("Fitted on training trials", ", ".join(str(s) for s in steps)),
        ("Caption kinds", ", ".join(run.kinds)),
        ("Captions", str(run.config.get("captions", ""))),
        ("Text encoder", _with_revision(run, "text_encoder", run.config.get("text_encoder"))),
        ("Prompt pool", str(run.setting("decoding.pool", ""))),
        ("Generator", _generator(run)),
        ("Image features", _with_revision(run, "features", run.setting("evaluation.features"))),
        ("Seed", str(run.seed)),
        ("Versions", _versions(run)),
    ]
    return [(k, v) for k, v in facts if v and v != "None"]


def _with_revision(run: RunMaterial, what: str, name: Any) -> str:
    """A model's name with the revision that some step recorded."""
    for step in run.provenance.values():
        if not isinstance(step, dict):
            continue
        for key in (f"{what}_revision", f"{what}-revision"):
            if step.get(key):
                return f"{name}, revision {step[key]}"
        inner = step.get(what)
        if isinstance(inner, dict) and inner.get("revision"):
            return f"{inner.get('name', name)}, revision {inner['revision']}"
    return str(name) if name else ""


def _generator(run: RunMaterial) -> str:
    """The generator whose images are shown, with the settings that decide what it draws."""
    noted = run.generation
    if not noted:
        return _with_revision(run, "generator", run.setting("generation.generator"))
    settings = noted.get("settings") or {}
    left_out = ("model", "name", "revision", "device", "batch_size")
    more = _pairs({k: v for k, v in settings.items() if k not in left_out})
    text = str(noted.get("name"))
    if noted.get("revision"):
        text += f", revision {noted['revision']}"
    return f"{text} ({more})" if more else text


def _versions(run: RunMaterial) -> str:
    packages: dict[str, str] = {}
    for step in run.provenance.values():
        if isinstance(step, dict):
            packages.update(step.get("packages") or {})
    return ", ".join(f"{name} {version}" for name, version in packages.items())

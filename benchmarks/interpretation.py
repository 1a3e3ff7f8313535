"""Whether maps of the built-in study show what was planted, and fail where they must.

    python benchmarks/interpretation.py --out runs/interpretation     # some 6 minutes on 2 cores

For each seed the demonstration's study is made and its encoder trained (kept in OUT, and not made
again). The truth is the covariance of the noise-free sensors with a kind's caption embeddings; an
electrode counts as planted from half of the largest value on, within 24 ms of the map's own peak.
Printed are the area under the ROC curve of every method, a paired test against the paper's
|gradient|, latencies, heads whose peak is a partner's; then what must fail: an encoder trained on
captions shuffled among images, and a head whose captions belong to other images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

from eegprompt.analyses import Context
from eegprompt.analyses import _maps as maps
from eegprompt.analyses.localization import localize, planted_maps
from eegprompt.analyses.patterns import partners_of
from eegprompt.analyses.timecourse import Timecourse
from eegprompt.attribution.localization import latency_error
from eegprompt.attribution.patterns import peak
from eegprompt.recipe import complete_settings, demo_recipe
from eegprompt.run import Run
from eegprompt.settings import load_config
from eegprompt.steps.decode import decode
from eegprompt.steps.experiment import make_study
from eegprompt.steps.explain import context_of
from eegprompt.steps.train import train

NULL = "StoryHint"
GOOD = 0.8  # area under the ROC curve from which a map is called good


def trained(out: Path, seed: int) -> Run:
    """The demonstration's run of one seed, without images."""
    recipe = demo_recipe(seed=seed)
    assert recipe.make is not None
    study = make_study(recipe.make, out / f"s{seed}" / "study")
    settings = complete_settings(study, dict(recipe.settings))
    run = train(
        study, out / f"s{seed}" / "run", load_config({**settings, "study": str(study.path)})
    )
    return decode(run)


def with_null_head(run: Run, out: Path) -> Context:
    """The same study with captions of one kind shuffled among images."""
    study, name = run.study, "planted-null"
    if name not in study.caption_names():
        table = study.captions(run.settings.captions)
        rows = (table["kind"] == NULL).to_numpy()
        order = np.random.default_rng(5).permutation(int(rows.sum()))
        for column in ("text", "meaning"):
            table.loc[rows, column] = table.loc[rows, column].to_numpy()[order]
        study.write_captions(name, table)
    settings = {**run.settings.model_dump(mode="json"), "captions": name}
    return context_of(decode(train(study, out / "null-head", load_config(settings))))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    rows, errors, own_errors, judged, shuffled = [], [], [], [], []
    for seed in (int(s) for s in options.seeds.split(",")):
        run = trained(options.out, seed)
        material = context_of(run)
        assert material.retrain is not None
        started = time.process_time()
        known = maps.patterns_of(material)
        total, own = planted_maps(material)
        rows += [{**row, "seed": seed} for row in localize(material, total)]
        z = {head: pattern.z for head, pattern in known.found.items()}
        errors += [latency_error(z[h], total[h], material.times) for h in z]
        own_errors += [latency_error(z[h], own[h], material.times) for h in z]
        found, true = (
            {level: 1e3 * peak(m, material.times) for level, m in maps.level_maps(some, z).items()}
            for some in (z, total)
        )
        print(f"seed {seed}: level peaks " + ", ".join(
            f"{level} {found[level]:.0f} ms (planted {true[level]:.0f})" for level in found
        ))  # fmt: skip
        in_order = list(found.values()) == sorted(found.values())
        decoding = {r["head or level"]: r for r in Timecourse()(material).table}
        print("  in order: " + ("yes" if in_order else "NO") + "; decoding onsets " + ", ".join(
            f"{lv} {decoding[f'level {lv}']['onset (ms)']} ms [{decoding[f'level {lv}']['onset 95 %']}]"
            for lv in found
        ))  # fmt: skip
        far = [h for h in z if abs(latency_error(z[h], own[h], material.times)) > 30]
        shared = [f"{s.head} on {s.partner}" for s in partners_of(material, known)]
        print(f"  peak > 30 ms from its own sources: {', '.join(far) or 'none'}")
        print(f"  named as a partner's: {', '.join(shared) or 'none'}")
        auc = {r["head"]: r["auc"] for r in rows if r["seed"] == seed and r["method"] == "patterns"}
        judged += [(auc[h], v.good) for h, v in known.verdicts.items() if h in auc]
        refused = [
            f"{h} ({v.why.partition(':')[0]}; AUC {auc.get(h, np.nan):.2f})"
            for h, v in known.verdicts.items()
            if not v.good
        ]
        print(f"  patterns refused: {', '.join(refused) or 'none'}; least reliability "
              f"{min(known.reliability.values()):.2f}")  # fmt: skip
        print(f"  processor time {time.process_time() - started:.0f} s")
        labels = maps.patterns_of(material.retrain("shuffled-labels", shuffle=True))
        passed = [h for h, v in labels.verdicts.items() if v.good]
        shuffled += [(v.good, labels.reliability_p[h]) for h, v in labels.verdicts.items()]
        print(f"  trained on shuffled captions, heads that pass: {', '.join(passed) or 'none'}")
        if seed == 0:
            null = maps.patterns_of(with_null_head(run, options.out))
            print(f"  planted head at chance {NULL}: {null.verdicts[NULL].why} (p = {null.p[NULL]:.3f}); "
                  f"others that pass: {sum(v.good for v in null.verdicts.values())} of 9")  # fmt: skip
    print("\nmethod                 mean AUC   least   all time   |latency error|, median (ms)")
    by_method: dict[str, dict[tuple[str, int], dict]] = {}
    for row in rows:
        by_method.setdefault(row["method"], {})[row["head"], row["seed"]] = row
    for method, chosen in by_method.items():
        auc, all_time, late = (
            np.array([r[key] for r in chosen.values()])
            for key in ("auc", "auc_all_time", "latency_error")
        )
        lateness = f"{np.median(np.abs(late)):8.1f}" if np.isfinite(late).all() else "       –"
        print(f"{method:22s} {auc.mean():8.3f} {auc.min():7.3f} {all_time.mean():10.3f} {lateness}")
    good = [passes for value, passes in judged if value >= GOOD]
    bad = [passes for value, passes in judged if value < GOOD]
    print(f"\nof {len(good)} maps with an AUC of at least {GOOD}, {len(good) - sum(good)} are refused; "
          f"of {len(bad)} with less, {sum(bad)} pass; of {len(shuffled)} after shuffled captions, "
          f"{sum(passes for passes, _ in shuffled)} pass (halves alone would pass "
          f"{sum(p < 0.05 for _, p in shuffled)})")  # fmt: skip
    pairs = [
        (row["auc"], by_method["saliency"][key]["auc"])
        for key, row in by_method["patterns"].items()
    ]
    ours, theirs = np.array(pairs).T
    p = wilcoxon(ours, theirs, alternative="greater").pvalue
    print(f"\npatterns against |gradient|: {(ours > theirs).sum()} of {len(ours)} pairs, "
          f"mean difference {np.mean(ours - theirs):.3f}, Wilcoxon p = {p:.1g}")  # fmt: skip
    for what, values in (("planted map", errors), ("kind's own sources", own_errors)):
        size = np.abs(values)
        print(f"pattern peaks from the {what}: median error {np.median(size):.1f} ms, largest "
              f"{size.max():.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()

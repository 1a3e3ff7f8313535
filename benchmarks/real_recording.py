"""Faces or houses from four electrodes: the encoder beside shrinkage LDA on the same trials.

    python benchmarks/real_recording.py RECORDINGS [--seeds 0,1,2] [--out FOLDER]

RECORDINGS is the folder that README's second example makes. Runs `recipes/n170.yaml` (six
recordings of one person, each tested by an encoder trained on the other five) once a seed and
prints the area under the ROC curve, the mean over recordings, with permutation p within recordings.
Some 50 s a seed on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from eegprompt.recipe import load_recipe
from eegprompt.steps.experiment import run_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "n170.yaml"


def main() -> None:
    """Run the recipe once a seed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp())
    found = {"class_auc": [], "class_auc_lda": []}
    print("seed   encoder AUC [95 %]          p      LDA AUC")
    for seed in (int(text) for text in arguments.seeds.split(",")):
        recipe = load_recipe(RECIPE, [f"seed={seed}"], source=arguments.recordings)
        run_recipe(recipe, out / f"seed-{seed}")
        rows = json.loads((out / f"seed-{seed}" / "scores.json").read_text())["rows"]
        whole = {r["metric"]: r for r in rows if r["head"] in (None, "ensemble")}
        ours, lda = whole["class_auc"], whole["class_auc_lda"]
        for name, values in found.items():
            values.append(whole[name]["value"])
        print(
            f"{seed:4}   {ours['value']:.3f} [{ours['lo']:.3f}, {ours['hi']:.3f}]   "
            f"{ours['p']:.4f}   {lda['value']:.3f}",
            flush=True,
        )
    print(f"mean   {np.mean(found['class_auc']):.3f}   LDA {np.mean(found['class_auc_lda']):.3f}")


if __name__ == "__main__":
    main()

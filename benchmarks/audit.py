"""Audits of studies with a known truth: does each get the verdict it should?

    python benchmarks/audit.py [--seeds 10] [--subjects 1] [--images 480] [--drift 1.0]

Four studies are planted a seed: (a) an evoked response in random order, (b) drift in a block design
and no evoked response, (c) nothing, in random order, (d) both, in blocks. Prints how often each
verdict came, the accuracy of the full decoder beside that of slow activity, and processor times. Then
the audit of a study of 2,400 trials and 128 channels is timed. About 8 s a study, 6 minutes in all.

The evoked response has the simulation's default size. The drift's RMS over a session is that of the
background, about 10 µV: a random walk and slow sinusoids, and the least one would expect of a
DC-coupled recording (skin and electrode potentials move by tens of µV within minutes).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from eegprompt.steps.audit import audit
from eegprompt.steps.simulate import simulate

PLANTED = {
    "a evoked, randomised": ("clean", True, {}),
    "b drift, block": ("confounded", True, {"signal": 0.0, "design": "block", "drift": None}),
    "c nothing, randomised": ("clean", False, {"signal": 0.0}),
    "d both, block": ("confounded", True, {"design": "block", "drift": None}),
}


def main() -> None:
    """Plant, audit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--subjects", type=int, default=1)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--drift", type=float, default=1.0)
    parser.add_argument("--no-timing", action="store_true")
    arguments = parser.parse_args()
    print(f"{'study':24} {'as planted':>10}  verdicts; decodable  "
          f"{'full':>6} {'slow/DC':>8} {'before':>7} {'chance':>7}  {'audit':>6}")  # fmt: skip
    for name, (word, decodable, options) in PLANTED.items():
        asked = {k: arguments.drift if k == "drift" else v for k, v in options.items()}
        found, seconds = [], []
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                study = simulate(
                    Path(folder) / "s", subjects=arguments.subjects, images=arguments.images,
                    test_images=arguments.images // 5, seed=seed, **asked,
                )  # fmt: skip
                start = time.process_time()
                found.append(audit(study))
                seconds.append(time.process_time() - start)
        right = sum(f["verdict"] == word and f["decodable"] is decodable for f in found)
        rows = [{r["decoder"]: r for r in f["checks"]["decoders"]["rows"]} for f in found]
        early = [f["checks"]["prestimulus"]["decoding"]["accuracy"] for f in found]
        print(
            f"{name:24} {right:>4} of {len(found)}  "
            f"{dict(Counter((f['verdict'], f['decodable']) for f in found))}  "
            f"{np.mean([r['full']['accuracy'] for r in rows]):>6.1%} "
            f"{np.mean([max(r['slow']['accuracy'], r['dc']['accuracy']) for r in rows]):>8.1%} "
            f"{np.mean(early):>7.1%} {np.mean([r['full']['chance'] for r in rows]):>7.1%}  "
            f"{np.mean(seconds):>5.1f}s",
            flush=True,
        )
    if not arguments.no_timing:
        with tempfile.TemporaryDirectory() as folder:
            study = simulate(Path(folder) / "s", images=500, test_images=100, seed=0)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            wall, start = time.monotonic(), time.process_time()
            audit(study)
            print(
                f"{study.n_trials} trials, {study.n_chans} channels: "
                f"{time.process_time() - start:.0f} s of processor time, "
                f"{time.monotonic() - wall:.0f} s by the clock; peak memory "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB "
                f"({before / 2**20:.2f} before)"
            )


if __name__ == "__main__":
    main()

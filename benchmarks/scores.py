"""How long the permutations take, and how much memory two-way identification needs.

Command: ``python benchmarks/scores.py``. Expected on 2 cores: 1,000 permutations of retrieval over
2,000 trials and 10 heads, top-1 and top-5, within 10 s; two-way identification of 2,000 × 2,000
images with features as long as AlexNet's second layer (184,512) within 2 GB, the features in the
files that ``evaluate`` keeps them in (3 GB in the folder of temporary files).
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from eegprompt.metrics.caption_retrieval import answer_ranks, cosine_similarity, topk_hits
from eegprompt.metrics.identification import two_way_table
from eegprompt.scores.feature_scores import _room
from eegprompt.stats.permutation import permutation_test, table_chance, table_statistic


def permutations(n: int = 2000, heads: int = 10, dims: int = 512) -> tuple[float, float]:
    """Seconds, on the clock and of processor time, for 1,000 permutations of top-1 and top-5
    retrieval, every trial its own image."""
    rng = np.random.default_rng(0)
    right, labels, counts = np.eye(n, dtype=bool), np.arange(n), np.ones(n)
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(heads):
        captions = rng.standard_normal((n, dims), dtype=np.float32)
        queries = captions + 5 * rng.standard_normal((n, dims), dtype=np.float32)
        ranks = answer_ranks(cosine_similarity(queries, captions), right)
        for k in (1, 5):
            hits = topk_hits(ranks, k)
            permutation_test(
                table_statistic(hits, counts),
                labels,
                1000,
                chance=table_chance(hits, counts, labels),
            )
    return time.perf_counter() - start, time.process_time() - busy


def identification(n: int = 2000, width: int = 184_512) -> dict[str, float]:
    """Seconds and gigabytes of two-way identification, in a fresh process of its own."""
    script = f"import scores; print(scores.identification_here({n}, {width}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(ast.literal_eval(done.stdout))


def identification_here(n: int, width: int) -> dict[str, float]:
    """The same in this process: features written and scored as ``eegprompt evaluate`` does it."""
    rng = np.random.default_rng(0)
    sides = [_room((n, width)) for _ in range(2)]
    for row in range(n):  # images: half of what they hold is the reference
        values = rng.standard_normal((2, width), dtype=np.float32)
        sides[0][row] = values[0]
        sides[1][row] = 0.02 * values[0] + values[1]
    with _Peak() as peak:
        start, busy = time.perf_counter(), time.process_time()
        table = two_way_table(*sides)
    return {
        "score": float(table.diagonal().mean()),
        "seconds": time.perf_counter() - start,
        "processor seconds": time.process_time() - busy,
        "GB of its own": peak.own,
        "GB in all": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


class _Peak(threading.Thread):
    """The most memory of its own (anonymous pages) the process holds, looked at every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            kilobytes = next(int(x.split()[1]) for x in lines if x.startswith("RssAnon"))
            self.own = max(self.own, kilobytes / 2**20)

    def __enter__(self) -> _Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-identification", action="store_true", help="needs 3 GB of disk")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    wall, processor = permutations()
    print(
        "1,000 permutations, 2,000 trials, 10 heads, top-1 and top-5: "
        f"{processor:.1f} s of processor time, {wall:.1f} s on the clock"
    )
    if not arguments.skip_identification:
        found = identification()
        print("two-way identification, 2,000 x 2,000 x 184,512:")
        for what, value in found.items():
            print(f"  {what}: {value:.2f}")


if __name__ == "__main__":
    main()

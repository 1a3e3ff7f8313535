"""How long the permutations take, and how much memory two-way identification needs.

Command: ``python benchmarks/scores.py``. Expected on 2 cores: 1,000 permutations of retrieval over
2,000 trials and 10 heads, top-1 and top-5, within 10 s; two-way identification of 2,000 × 2,000
pictures with features as long as AlexNet's second layer (184,512) within 2 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from eegprompt.controls.permutation import permutation_test, table_chance, table_statistic
from eegprompt.metrics.identification import two_way
from eegprompt.metrics.retrieval import answer_ranks, cosine_similarity, topk_hits


def permutations(n: int = 2000, heads: int = 10, dims: int = 512) -> float:
    """Seconds for 1,000 permutations of top-1 and top-5 retrieval, every trial its own image."""
    rng = np.random.default_rng(0)
    right, labels, counts = np.eye(n, dtype=bool), np.arange(n), np.ones(n)
    start = time.perf_counter()
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
    return time.perf_counter() - start


def identification(n: int = 2000, width: int = 184_512) -> tuple[float, float]:
    """Seconds and gigabytes (this process's peak) for two-way identification from files."""
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        paths = [Path(folder) / side for side in ("references", "pictures")]
        for path in paths:
            with path.open("wb") as stream:
                for row in range(0, n, 50):
                    block = rng.standard_normal((min(50, n - row), width), dtype=np.float32)
                    stream.write(block.tobytes())
        one, two = (_Rows(path, n, width) for path in paths)
        start = time.perf_counter()
        two_way(one, two)
        seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class _Rows:
    """Rows read from a file when asked for, so that mapped pages do not count as memory."""

    def __init__(self, path: Path, n: int, width: int):
        self.path, self.n, self.width = path, n, width

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.n)
        flat = np.fromfile(
            self.path,
            dtype=np.float32,
            count=(stop - start) * self.width,
            offset=4 * start * self.width,
        )
        return flat.reshape(stop - start, self.width)


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-identification", action="store_true", help="needs 3 GB of disk")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    print(f"1,000 permutations, 2,000 trials, 10 heads, top-1 and top-5: {permutations():.1f} s")
    if not arguments.skip_identification:
        seconds, peak = identification()
        print(f"two-way identification, 2,000 x 2,000 x 184,512: {seconds:.0f} s, {peak:.2f} GB")


if __name__ == "__main__":
    main()

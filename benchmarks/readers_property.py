"""Random but valid sources of a reader, imported and compared with MNE's own reading.

usage: python benchmarks/readers_property.py [--reader continuous] [--cases 2000] [--seed 0]

A case is equal to MNE sample for sample with every event in the accounting, or it is refused where
it must be; everything else is a fault, and its seed is printed. Sources are those of the tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import random_sources
import test_mne_reader


def _epochs(seed: int, folder: Path) -> str:
    test_mne_reader.test_any_valid_source_equals_mne_or_is_counted(seed, folder)
    return "equal or counted"


def _recording(seed: int, folder: Path) -> str:
    return random_sources.check(random_sources.random_recording(folder / "f", seed), folder / "s")


def _dataset(seed: int, folder: Path) -> str:
    return random_sources.check(random_sources.random_dataset(folder / "f", seed), folder / "s")


CASES = {"continuous": _recording, "bids": _dataset, "mne": _epochs}


def one(job: tuple[str, int]) -> tuple[int, str]:
    """Outcome of one case; the fault in words where there is one."""
    reader, seed = job
    with tempfile.TemporaryDirectory() as folder:
        try:
            return seed, CASES[reader](seed, Path(folder))
        except Exception as problem:  # whatever it is, it is a fault of the reader or of the case
            reason = " ".join(str(problem).split())[:160]
            return seed, f"FAULT {type(problem).__name__}: {reason}"


def main() -> int:
    """Run the cases; the number of faults is the exit code (at most 1)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reader", choices=sorted(CASES), action="append")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    faults = 0
    for reader in given.reader or sorted(CASES):
        start = time.perf_counter()
        outcomes: Counter[str] = Counter()
        jobs = [(reader, given.seed + i) for i in range(given.cases)]
        with ProcessPoolExecutor(given.jobs) as pool:
            for seed, outcome in pool.map(one, jobs, chunksize=8):
                if outcome.startswith("FAULT"):
                    print(f"{reader}, seed {seed}: {outcome}")
                outcomes[outcome.split()[0] if outcome.startswith("FAULT") else outcome] += 1
        faults += outcomes["FAULT"]
        said = ", ".join(f"{n} {what}" for what, n in outcomes.most_common())
        print(f"{reader}: {given.cases} cases, {said}; {time.perf_counter() - start:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())

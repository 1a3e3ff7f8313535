"""Random valid recordings through the reader, each compared with what MNE reads of it.

``python benchmarks/recordings.py [CASES]`` writes CASES (2,000) recordings of each kind by independent
writers and counts how many came in equal, sample for sample and event for event, and how many were
refused because nothing in the file says the unit of a channel. Needs the package's test extra.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import random_recordings
from test_recordings_read_like_mne import check


def main() -> None:
    """Print one line for each kind of source."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for kind in random_recordings.WRITERS:
        begin, outcomes = time.monotonic(), Counter[str]()
        for seed in range(1000, 1000 + cases):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    outcomes[check(kind, seed, Path(folder))] += 1
                except Exception as problem:
                    outcomes["wrong"] += 1
                    print(f"{kind}, seed {seed}: {type(problem).__name__}: {str(problem)[:200]}")
        counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
        print(f"{kind}: {counts} ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

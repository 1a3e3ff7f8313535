"""Training pace of encoders in trials per second of processor time, on one thread: default beside peers.

    python benchmarks/throughput.py [--trials 128] [--steps 4]

Trials of 128 channels and 440 samples, ten heads of 512 dimensions; a step is forward, contrastive
loss, backward and AdamW. NICE is measured with the order of its publication and pooled first, which is
the same function. Of the default encoder it is the part that is trained by steps.
"""

from __future__ import annotations

import argparse
import time

import torch

from eegprompt.core.kinds import KINDS
from eegprompt.core.registry import resolve
from eegprompt.training.objectives import ClipObjective

N_CHANS, N_TIMES, SFREQ, DIM = 128, 440, 250.0, 512
ENCODERS = {
    "fused (default)": ("fused", {}),
    "transformer": ("transformer", {}),
    "NICE as published": ("nice", {"pooled_first": False}),
    "NICE pooled first": ("nice", {}),
    "like ATM": ("atm", {}),
}


def pace(name: str, options: dict[str, object], n_trials: int, steps: int) -> float:
    """Trials a second."""
    torch.manual_seed(0)
    heads = list(KINDS)
    make, _ = resolve("encoder", name)
    encoder = make(
        heads=heads, embedding_dim=DIM, n_chans=N_CHANS, n_times=N_TIMES, sfreq=SFREQ, **options
    )
    objective = ClipObjective(heads)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()])
    eeg, places = torch.randn(n_trials, N_CHANS, N_TIMES), 0.05 * torch.randn(N_CHANS, 3)
    texts = {head: torch.randn(n_trials, DIM) for head in heads}
    right = dict.fromkeys(heads, torch.eye(n_trials, dtype=torch.bool))
    taken = []
    for _ in range(steps + 1):
        start = time.process_time()
        loss, _ = objective(encoder(eeg, places), texts, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken.append(time.process_time() - start)
    return n_trials / min(taken[1:])


def main() -> None:
    """Print a line an encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for label, (name, options) in ENCODERS.items():
        found = pace(name, options, arguments.trials, arguments.steps)
        print(f"{label:20s} {found:6.0f} trials/s", flush=True)


if __name__ == "__main__":
    main()

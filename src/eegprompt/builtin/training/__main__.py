"""Train the built-in models: ``python -m eegprompt.builtin.training.__main__ all --out DIR``.

In order: the autoencoder's decoder, the CLIP, its image side further, the feature network, the
denoiser (which needs the CLIP's text side), and the export of the weights. Everything is trained
on combinations that are not held out; see :func:`eegprompt.builtin.world.is_held_out`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

_ORDER = ("vae", "clip", "vision", "features", "diffusion", "export")


def main(argv: Sequence[str] | None = None) -> None:
    """Train one of the built-in models, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", choices=[*_ORDER, "all"])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument(
        "--minutes",
        type=float,
        default=None,
        help="train for so long (each model), instead of for a number of steps",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    options = parser.parse_args(argv)

    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = _ORDER if options.model == "all" else (options.model,)
    for name in wanted:
        how = {"minutes": options.minutes, "resume": options.resume}
        if name == "vae":
            from eegprompt.builtin.training.train_autoencoder import train_vae

            train_vae(options.out, **how)
        elif name == "clip":
            from eegprompt.builtin.training.train_clip import train_clip

            train_clip(options.out, **how)
        elif name == "vision":
            from eegprompt.builtin.training.train_clip import train_vision

            train_vision(options.out, **how)
        elif name == "features":
            from eegprompt.builtin.feature_network import train_features

            train_features(options.out, **how)
        elif name == "diffusion":
            from eegprompt.builtin.training.train_denoiser import train_diffusion

            train_diffusion(options.out, **how)
        else:
            from eegprompt.builtin.training.export import export

            export(options.out)


if __name__ == "__main__":
    main()

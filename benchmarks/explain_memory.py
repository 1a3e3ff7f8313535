"""The memory and the time of `eegprompt explain` on a run of EEGCVPR's size.

    python benchmarks/explain_memory.py --out runs/large        # 3 GB of disk; some 10 minutes on 2 cores

A synthetic study of 12,000 trials × 128 channels × 500 samples at 1 kHz, six subjects, 2,000 images
of 40 classes, a little of each caption planted over noise; the usual encoder, trained in one pass
over 8,000 trials, decoded on 2,000. Study and run are kept in OUT and not made again. Then `explain`
runs as a process of its own. Printed are the largest anonymous memory (RssAnon: what the process
cannot give back), the largest resident size (with mapped pages of the recording and of libraries,
which the system takes back when it needs them), the time, and how long each analysis took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from eegprompt.builtin.scene_captions import captions
from eegprompt.builtin.world import kind_vector, meaning, sample_scene
from eegprompt.core.files import read_json
from eegprompt.core.kinds import KINDS
from eegprompt.settings import load_config
from eegprompt.signal.montage import EEGCVPR_CHANNELS, positions_of
from eegprompt.steps.decode import decode
from eegprompt.steps.train import train
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

N_TIMES, SFREQ, SUBJECTS, IMAGES, CLASSES = 500, 1000.0, 6, 2000, 40
NOISE = 1e-5  # volts
BLOCK = 200  # trials written at a time


def make_study(out: Path) -> Study:
    """Write the study, block by block."""
    rng = np.random.default_rng(0)
    kept = [sample_scene(rng) for _ in range(CLASSES)]
    of_class = np.arange(IMAGES) % CLASSES
    scenes = [
        sample_scene(rng, object=kept[c].object, color=kept[c].color, setting=kept[c].setting)
        for c in of_class
    ]
    ids = [f"image-{i:04d}" for i in range(IMAGES)]
    shown = np.concatenate([rng.permutation(IMAGES) for _ in range(SUBJECTS)])
    responses = Responses(scenes, rng)
    names = [f"class-{c:02d}" for c in of_class]
    with StudyWriter.open(out) as writer:
        for start in range(0, len(shown), BLOCK):
            images = shown[start : start + BLOCK]
            noise = rng.standard_normal((len(images), 128, N_TIMES), dtype=np.float32)
            writer.append(NOISE * (noise + responses.of(images)))
        writer.finish(
            info={
                "name": "large",
                "source": "synthetic, of EEGCVPR's size",
                "design": "randomised",
                "image_identity": "known",
                "ch_names": list(EEGCVPR_CHANNELS),
                "ch_pos": positions_of(list(EEGCVPR_CHANNELS)),
                "sfreq": SFREQ,
                "tmin": 0.0,
                "unit": "V",
            },
            trials=pd.DataFrame(
                {
                    "subject": np.repeat([f"s{i + 1}" for i in range(SUBJECTS)], IMAGES),
                    "image_id": np.array(ids)[shown],
                    "category": np.array(names)[shown],
                    "order": np.tile(np.arange(IMAGES), SUBJECTS),
                }
            ),
            images=pd.DataFrame({"image_id": ids, "category": names}),
        )
        study = Study(writer.folder)
        study.write_captions(
            "scenes",
            pd.DataFrame(
                [
                    {"image_id": name, "kind": k, "text": text, "meaning": meaning(scene, k)}
                    for name, scene in zip(ids, scenes)
                    for k, text in captions(scene, name).items()
                ]
            ),
        )
        side = np.digitize(rng.permutation(IMAGES), [IMAGES * 4 // 6, IMAGES * 5 // 6])[shown]
        study.write_split(
            Split("official", (Fold(*(np.flatnonzero(side == s) for s in range(3))),))
        )
    return Study(out)


class Responses:
    """What each image evokes: every kind's meaning in a topography and at a moment of its own."""

    def __init__(self, scenes: list, rng: np.random.Generator):
        times = np.arange(N_TIMES) / SFREQ
        peaks = np.linspace(0.08, 0.4, len(KINDS))
        self.courses = np.exp(-0.5 * ((times - peaks[:, None]) / 0.03) ** 2).astype(np.float32)
        codes = [np.stack([kind_vector(scene, kind) for scene in scenes]) for kind in KINDS]
        # (kind, image, channel)
        self.fields = np.stack(
            [0.2 * code @ rng.standard_normal((code.shape[1], 128)) for code in codes]
        ).astype(np.float32)

    def of(self, images: np.ndarray) -> np.ndarray:
        """Noise-free trials (n, 128, n_times), in standard deviations of the noise."""
        n = len(images)
        flat = self.fields[:, images].reshape(len(self.courses), -1).T @ self.courses
        return flat.reshape(n, 128, N_TIMES)


def watched(command: list[str]) -> tuple[dict[str, float], float, float]:
    """Run a process; give its largest memory by kind (bytes), wall and processor seconds."""
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    largest = {"RssAnon": 0, "RssFile": 0, "VmRSS": 0}
    while True:
        done, _, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in largest:
                largest[name] = max(largest[name], int(value.split()[0]) * 1024)
        time.sleep(0.02)
    return largest, time.perf_counter() - begin, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Make what is missing, explain, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where study and run are kept")
    parser.add_argument("--what", default="all", help="analyses, separated by commas")
    options = parser.parse_args()
    path = options.out / "study"
    study = Study(path) if path.exists() else make_study(path)
    run = options.out / "run"
    settings = {"study": str(path.resolve()), "captions": "scenes", "training": {"epochs": 1}}
    decode(train(study, run, load_config(settings)))
    shutil.rmtree(run / "explain", ignore_errors=True)
    shutil.rmtree(run / "figures" / "explain", ignore_errors=True)
    whats = [word for what in options.what.split(",") if what != "all" for word in ("--what", what)]
    program = "from eegprompt.cli import main; main()"
    largest, wall, processor = watched([sys.executable, "-c", program, "explain", str(run), *whats])
    print(f"study {study.n_trials} × {study.n_chans} × {study.n_times}, "
          f"{(path / 'eeg.npy').stat().st_size / 1e9:.2f} GB; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print("  ".join(f"{name} at most {size / 1e9:.2f} GB" for name, size in largest.items()))
    print(f"wall clock {wall:.0f} s, processor time {processor:.0f} s")
    for file in sorted((run / "explain").glob("*.json")):
        found = read_json(file)
        print(f"  {found['name']:13s} {found['record']['seconds']:6.1f} s  {found['verdict']}")
        print("      " + " ".join(note for note in found["notes"] if "trials" in note)[:200])


if __name__ == "__main__":
    main()

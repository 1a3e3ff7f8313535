"""How fast captions are asked for, how flat memory stays, and how often rules see what is there.

Command: ``python benchmarks/captions.py throughput|kills|agreement|embedding|checking|all``. Expected on
2 free cores: at least 60 requests/s against a server on the same machine that answers in 200 ms and
takes 16 at once (80 are possible); memory that does not grow with the number of images; after ten
SIGKILLs one complete set an image and no request repeated beyond those under way. Agreement of the
captioner `rules` with what was drawn, in 1000 scenes that played no part in making it: light 91 %,
clarity 97 %, color 90 %, place 89 % (the aim is 85 % each). 20,000 different captions embedded by
the built-in encoder in less than a minute (``OMP_NUM_THREADS=2``). A check of 16,740 images in 5 s
of the processors (``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.kinds import KINDS

ANSWER = {kind: f"{kind.lower()} of this image" for kind in KINDS}


# -- a server ------------------------------------------------------------------------------------
def serve(port: Any, count: Any, delay: float, at_once: int) -> None:
    """Answer chat requests after a delay, `at_once` at a time; plain asyncio, to cost little."""
    body = json.dumps(
        {
            "choices": [
                {"finish_reason": "stop", "message": {"content": json.dumps(ANSWER)}, "index": 0}
            ],
            "usage": {"prompt_tokens": 500, "completion_tokens": 200},
        }
    ).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    gate = asyncio.Semaphore(at_once)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = await reader.readuntil(b"\r\n\r\n")
                fields = dict(
                    line.lower().split(b": ", 1) for line in header.split(b"\r\n")[1:] if line
                )
                await reader.readexactly(int(fields[b"content-length"]))
                count.value += 1
                async with gate:
                    await asyncio.sleep(delay)
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=1 << 22)
        port.value = server.sockets[0].getsockname()[1]
        async with server:
            await server.serve_forever()

    asyncio.run(run())


class Server:
    """The server in a process of its own; `count` counts its requests."""

    def __init__(self, delay: float = 0.2, at_once: int = 16):
        self._port = multiprocessing.Value("i", 0)
        self._count = multiprocessing.Value("i", 0)
        self._process = multiprocessing.Process(
            target=serve, args=(self._port, self._count, delay, at_once), daemon=True
        )

    def __enter__(self) -> Server:
        self._process.start()
        while not self._port.value:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._port.value}/v1"
        return self

    def __exit__(self, *problem: object) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def count(self) -> int:
        """Requests so far."""
        return int(self._count.value)


def make_study(out: Path, n_images: int) -> Any:
    """A study of one trial an image; a hundred images of 256 × 256 stand for all images."""
    import pandas as pd
    from PIL import Image

    from eegprompt.study import Study, StudyWriter

    rng = np.random.default_rng(0)
    ids = [f"img-{i:05d}" for i in range(n_images)]
    with StudyWriter.open(out) as writer:
        (writer.folder / "images").mkdir()
        for i in range(100):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC)
            image.save(writer.folder / "images" / f"{i}.jpg")
        writer.append(np.zeros((n_images, 1, 2), dtype=np.float32))
        info = {
            "name": "benchmark", "source": "noise", "ch_names": ["Cz"], "sfreq": 64.0,
            "tmin": 0.0, "unit": "V", "design": "randomised", "image_identity": "known",
        }  # fmt: skip
        writer.finish(
            info=info,
            trials=pd.DataFrame(
                {
                    "subject": "a", "run": "1", "order": np.arange(n_images), "image_id": ids,
                    "category": "thing",
                }
            ),
            images=pd.DataFrame(
                {
                    "image_id": ids, "path": [f"images/{i % 100}.jpg" for i in range(n_images)],
                    "category": "thing", "width": 256, "height": 256,
                }
            ),
        )  # fmt: skip
    return Study(out)


def megabytes() -> float:
    """Memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def throughput(n_images: int) -> None:
    """Print requests a second and memory while captioning."""
    from eegprompt.steps.caption import caption as write_captions

    with tempfile.TemporaryDirectory() as folder, Server() as server:
        study = make_study(Path(folder) / "study", n_images)
        marks: dict[int, tuple[float, float]] = {}

        def progress(done: int, total: int, label: str) -> None:
            if done and done % max(1, total // 4) == 0:
                marks[done] = (time.perf_counter(), megabytes())

        started = time.perf_counter()
        write_captions(study, "chat:m", progress=progress, base_url=server.url)
        last = max(marks)
        for done, (at, memory) in marks.items():
            print(f"{done:6d} images: {done / (at - started):5.1f} requests/s, {memory:.0f} MB")
        seconds = time.perf_counter() - marks[last][0]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"made the table in {seconds:.1f} s; peak {peak:.0f} MB; {server.count} requests")


_WRITER = """
import sys
from eegprompt.steps.caption import caption as write_captions
from eegprompt.study import Study
write_captions(Study(sys.argv[1]), "chat:m", base_url=sys.argv[2])
"""


def kills(n_images: int = 400, n_kills: int = 10) -> None:
    """Print what is left after a run was killed again and again."""
    from eegprompt.study import Study

    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, Server(0.2, 16) as server:
        study = make_study(Path(folder) / "study", n_images)
        command = [sys.executable, "-c", _WRITER, str(study.path), server.url]
        killed = 0
        while True:
            before = server.count
            process = subprocess.Popen(command)
            if killed == n_kills:
                process.wait()
                break
            while server.count == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        table = Study(study.path).captions("chat")
        sets = table.groupby("image_id")["kind"].agg(["size", "nunique"])
        whole = len(sets) == n_images and bool((sets == len(KINDS)).to_numpy().all())
        repeated = server.count - n_images
        print(
            f"{killed} kills: {'one complete set an image' if whole else 'SETS ARE INCOMPLETE'}; "
            f"{repeated} requests repeated, at most {killed * 16} were under way"
        )


def agreement(n_images: int = 1000, seed: int = 90210) -> dict[str, float]:
    """Share of scenes on which the captioner `rules` and the known attributes agree."""
    from PIL import Image

    from eegprompt.builtin.drawing import draw
    from eegprompt.builtin.world import sample_scene
    from eegprompt.captions.rules import measure

    light = {"day": "bright", "dusk": "warm", "dim": "dim"}
    rng = np.random.default_rng(seed)
    hits: dict[str, list[bool]] = {"color": [], "light": [], "clarity": [], "place": []}
    for _ in range(n_images):
        scene = sample_scene(rng)
        found = measure(Image.fromarray(np.asarray(draw(scene))))
        hits["color"].append(found.object_colors[0] == scene.color)
        hits["light"].append(found.light == light[scene.light])
        hits["clarity"].append(found.clarity == scene.clarity)
        hits["place"].append(found.place == scene.place)
    shares = {name: float(np.mean(values)) for name, values in hits.items()}
    for name, share in shares.items():
        print(f"{name:8s} {share:6.1%} of {n_images} scenes")
    return shares


def embedding(n_captions: int = 20_000) -> None:
    """Print how long the built-in text encoder takes for captions that all differ, and again."""
    from eegprompt.builtin.scene_captions import captions
    from eegprompt.builtin.world import sample_scene
    from eegprompt.text_encoders import cached_embeddings, load_text_encoder

    rng = np.random.default_rng(0)
    written = [t for i in range(400) for t in captions(sample_scene(rng), str(i)).values()]
    longer = (f"{a} {b}" for a, b in zip(written * 20, rng.permutation(written * 20)))
    texts = list(dict.fromkeys([*written, *longer]))[:n_captions]
    encoder = load_text_encoder("builtin", device="cpu")
    words = np.mean([len(text.split()) for text in texts])
    with tempfile.TemporaryDirectory() as folder:
        for what in ("embedded", "read from the cache"):
            started, spent = time.perf_counter(), time.process_time()
            rows = cached_embeddings(encoder, texts, folder)
            print(
                f"{len(rows)} different captions of {words:.1f} words {what} in "
                f"{time.perf_counter() - started:.1f} s ({time.process_time() - spent:.1f} s of "
                f"the processors)"
            )


def checking(n_images: int = 16_740) -> None:
    """Print how long a look at a caption set takes: of different sets, and of nearly equal ones."""
    import pandas as pd

    from eegprompt.captions.review import review_table
    from eegprompt.core.kinds import KINDS

    rng = np.random.default_rng(0)
    words = np.array([f"w{i:04d}" for i in range(4000)])
    chances = 1 / np.arange(1, 4001)
    drawn = words[rng.choice(4000, (n_images, len(KINDS), 11), p=chances / chances.sum())]
    ids = [f"image-{i:05d}" for i in range(n_images)]
    for what in ("different sets", "sets that differ in one kind"):
        rows = [
            (image_id, kind, " ".join(drawn[i if what[0] == "d" or not column else 0, column]))
            for i, image_id in enumerate(ids)
            for column, kind in enumerate(KINDS)
        ]
        table = pd.DataFrame(rows, columns=["image_id", "kind", "text"])
        started, spent = time.perf_counter(), time.process_time()
        review = review_table(table, ids, language=None)
        print(
            f"{what}: {len(rows)} captions of {n_images} images looked at in "
            f"{time.perf_counter() - started:.1f} s ({time.process_time() - spent:.1f} s of the "
            f"processors); {review.problems or 'no problems'}"
        )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", choices=["throughput", "kills", "agreement", "embedding", "checking", "all"]
    )
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if arguments.what in ("throughput", "all"):
        throughput(arguments.images)
    if arguments.what in ("kills", "all"):
        kills()
    if arguments.what in ("agreement", "all"):
        agreement()
    if arguments.what in ("embedding", "all"):
        embedding()
    if arguments.what in ("checking", "all"):
        checking()


if __name__ == "__main__":
    main()

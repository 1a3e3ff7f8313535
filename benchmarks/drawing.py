"""What drawing costs beyond the pipeline's own call, and how fast it is on a GPU.

Command: ``python benchmarks/generation.py``; a GPU is used where there is one, and the script says so
where there is none. Expected: on a CPU, our code adds at most 5 % of processor time to the built-in
pipeline's own call at eight images, files included. On a GPU, a pipeline of SDXL-Turbo's size with
random weights, one step and 512 × 512 pixels, in float16 and bfloat16: at least three times the
images a second of a plain loop over prompts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 8
PROMPTS = [
    "a red cat, bright and clear, on a sandy beach, in the middle, seen from the front",
    "a blue house, sharp and sunny, in a green field, on the left, seen from afar",
    "a yellow car, soft and dim, on a gray street, on the right, seen from above",
    "a green tree, bright and clear, under a blue sky, in the middle, seen from below",
]


def overhead(rounds: int) -> tuple[float, float, float, float]:
    """Processor seconds of the pipeline's call and of ours, their ratio less 1, and ours without it.

    Ours is what `eegprompt generate` does for eight images: it looks what is there, counts
    tokens, draws, and writes PNG files with their facts. Rounds are paired and change their order.
    The last figure is the time of the same with a call that gives ready images at once: it does
    not hang on the small difference of two large times.
    """
    import functools

    import torch

    from eegprompt.core.model_hub import quiet
    from eegprompt.generators import load_generator
    from eegprompt.generators.requests import ImageRequest
    from eegprompt.steps.generate import _draw_missing, _Task

    generator = load_generator("builtin", device="cpu", batch_size=BATCH)
    generator.load()
    pipeline, settings = generator._pipeline, generator.settings
    folder = Path(tempfile.mkdtemp())

    def plain(number: int) -> None:
        seeds = [torch.Generator("cpu").manual_seed(BATCH * abs(number) + i) for i in range(BATCH)]
        with torch.inference_mode():
            pipeline(
                prompt=[PROMPTS[i % len(PROMPTS)] for i in range(BATCH)],
                num_inference_steps=settings["steps"],
                guidance_scale=settings["guidance"],
                height=settings["height"],
                width=settings["width"],
                generator=seeds,
                output_type="pt",
            )

    def ours(number: int) -> None:
        tasks = [
            _Task(
                folder / f"{number}" / f"{i}.png",
                "eeg",
                i,
                0,
                ImageRequest(PROMPTS[i % len(PROMPTS)], BATCH * abs(number) + i),
            )
            for i in range(BATCH)
        ]
        _draw_missing(tasks, generator, "look", "", BATCH, None)

    def seconds(what: Callable[[int], None], number: int) -> float:
        start = time.process_time()
        what(number)
        return time.process_time() - start

    with quiet(diffusion=True):
        plain(0)
    ours(0)
    pairs = []
    for number in range(1, rounds + 1):
        order = (plain, ours) if number % 2 else (ours, plain)
        took = {what.__name__: seconds(what, number) for what in order}
        pairs.append((took["plain"], took["ours"]))
    kind = type(pipeline)
    real = kind.__call__
    output = pipeline(
        prompt=PROMPTS[:1] * BATCH,
        num_inference_steps=1,
        height=settings["height"],
        width=settings["width"],
        output_type="pt",
    )
    kind.__call__ = functools.wraps(real)(lambda self, **arguments: output)
    try:
        alone = statistics.median(seconds(ours, -number) for number in range(1, rounds + 1))
    finally:
        kind.__call__ = real
    shutil.rmtree(folder)
    ratio = statistics.median(mine / own for own, mine in pairs)
    own, mine = (statistics.median(column) for column in zip(*pairs))
    return own, mine, ratio - 1, alone


def save_large(folder: Path, *, tiny: bool) -> Path:
    """A pipeline of SDXL-Turbo's size with random weights, in float16 (`tiny`: to try this script)."""
    import diffusers
    import torch
    from tokenizers import pre_tokenizers
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

    # A vocabulary of bytes suffices; the text encoders' size does not depend on it much.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77
    )
    end = tokenizer.eos_token_id
    marks = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    size = [(32, 64, 2, 2), (32, 64, 2, 2)] if tiny else [(768, 3072, 12, 12), (1280, 5120, 20, 32)]
    texts = [
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=hidden,
            intermediate_size=middle,
            num_attention_heads=heads,
            num_hidden_layers=layers,
            projection_dim=hidden,
            **marks,
        )
        for hidden, middle, heads, layers in size
    ]
    width = (32, 32) if tiny else (128, 256, 512, 512)
    wide = (32, 64, 64) if tiny else (320, 640, 1280)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        pipeline = diffusers.StableDiffusionXLPipeline(
            vae=diffusers.AutoencoderKL(
                block_out_channels=width,
                down_block_types=("DownEncoderBlock2D",) * len(width),
                up_block_types=("UpDecoderBlock2D",) * len(width),
                layers_per_block=2,
                latent_channels=4,
                sample_size=512,
                scaling_factor=0.13025,
                force_upcast=False,
            ),
            text_encoder=CLIPTextModel(texts[0]),
            text_encoder_2=CLIPTextModelWithProjection(texts[1]),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=diffusers.UNet2DConditionModel(
                sample_size=64,
                block_out_channels=wide,
                layers_per_block=2,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=size[0][0] + size[1][0],
                attention_head_dim=(2, 4, 4) if tiny else (5, 10, 20),
                transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=size[1][0] + 6 * 256,
            ),
            scheduler=diffusers.EulerAncestralDiscreteScheduler(
                timestep_spacing="trailing", beta_schedule="scaled_linear", steps_offset=1
            ),
            add_watermarker=False,
        )
    finally:
        torch.set_default_dtype(previous)
    pipeline.save_pretrained(folder)
    return folder


def rates(device: str, dtype: str, n: int, *, tiny: bool) -> list[tuple[str, float]]:
    """Images a second: a plain loop over prompts, ours in batches, and ours compiled."""
    import torch

    from eegprompt.generators import load_generator

    found: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = save_large(Path(place) / "sdxl-turbo-sized", tiny=tiny)
        side = 64 if tiny else 512
        prompts = [PROMPTS[i % len(PROMPTS)] for i in range(n)]

        def wait() -> None:
            if device != "cpu":
                torch.cuda.synchronize()

        def rate(label: str, call: Callable[[], Any]) -> None:
            call()  # compiles, and chooses algorithms
            wait()
            start = time.perf_counter()
            call()
            wait()
            found.append((label, n / (time.perf_counter() - start)))

        rate("a plain loop over prompts", _plain_loop(folder, device, dtype, prompts, side))
        wait()
        size = {"height": side, "width": side, "device": device, "dtype": dtype}
        kinds: list[tuple[str, dict[str, Any]]] = [
            (f"eegprompt, {b} at a time", {"batch_size": b}) for b in (1, 8, 16)
        ]
        kinds.append(("eegprompt, 8 at a time, compiled", {"batch_size": 8, "compile": True}))
        kinds.append(("eegprompt, 16 at a time, compiled", {"batch_size": 16, "compile": True}))
        for label, options in kinds:
            generator = load_generator(f"diffusers:{folder}", **size, **options)
            rate(label, lambda generator=generator: generator.generate(prompts, range(n)))
            del generator
            if device != "cpu":
                torch.cuda.empty_cache()
    return found


def _plain_loop(
    folder: Path, device: str, dtype: str, prompts: list[str], side: int
) -> Callable[[], None]:
    """What the model's own page shows: the pipeline as it is loaded, a prompt at a time."""
    import torch
    from diffusers import AutoPipelineForText2Image

    pipeline = AutoPipelineForText2Image.from_pretrained(folder, torch_dtype=getattr(torch, dtype))
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)

    def loop() -> None:
        for number, prompt in enumerate(prompts):
            pipeline(
                prompt,
                num_inference_steps=1,
                guidance_scale=0.0,
                height=side,
                width=side,
                generator=torch.Generator("cpu").manual_seed(number),
            )

    return loop


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="paired rounds on the CPU")
    parser.add_argument("--images", type=int, default=64, help="images a measurement on the GPU")
    parser.add_argument("--try-gpu-part", action="store_true", help="tiny, on the CPU: no figures")
    options = parser.parse_args()
    import torch

    if options.try_gpu_part:
        for label, rate in rates("cpu", "float32", 16, tiny=True):
            print(f"  {label:36} {rate:7.2f} images/s (tiny, CPU: says nothing)")
        return
    torch.set_num_threads(1)
    own, mine, share, alone = overhead(options.rounds)
    print(
        f"built-in pipeline, {BATCH} images a call, one core, medians of {options.rounds} rounds:"
    )
    print(f"  its own call {own:.3f} s, eegprompt with files {mine:.3f} s: overhead {share:+.1%}")
    print(
        f"  our code alone, its call answered at once: {alone:.4f} s, {alone / own:.1%} of the call"
    )
    if not torch.cuda.is_available():
        print("no CUDA here: the part that needs a GPU was not run")
        return
    print(f"SDXL-Turbo's size, random weights, 1 step, 512 × 512, {torch.cuda.get_device_name()}:")
    for dtype in ("float16", "bfloat16"):
        measured = rates("cuda", dtype, options.images, tiny=False)
        base = measured[0][1]
        for label, rate in measured:
            print(f"  {dtype:9} {label:36} {rate:7.2f} images/s, {rate / base:.2f} ×")


if __name__ == "__main__":
    main()

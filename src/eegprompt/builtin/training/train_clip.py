"""Train the built-in CLIP: images with captions, captions with their paraphrases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from eegprompt.builtin.training.loop import Loop, sample_batches, training_pool
from eegprompt.builtin.training.phrasing import (
    all_meanings,
    random_caption,
    random_kinds,
    random_prompt,
)
from eegprompt.builtin.training.tokenizer import MAX_LENGTH, build_tokenizer
from eegprompt.builtin.training.train_autoencoder import to_tensor
from eegprompt.builtin.world import (
    ATTRIBUTES,
    KIND_ATTRIBUTES,
    Scene,
    meaning,
    parse_meaning,
    semantic_coordinates,
)

__all__ = ["TextIds", "build_clip", "load_clip", "train_clip", "train_vision"]

POOL = 60_000
_NAMES = list(ATTRIBUTES)
_VISIBLE = np.array([name not in ("theme", "story") for name in _NAMES])


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Build the CLIP, untrained."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }
    config = CLIPConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=128,
            **ids,
        ),
        vision_config={
            "hidden_size": 160,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "image_size": 64,
            "patch_size": 8,
            "projection_dim": 128,
        },
        projection_dim=128,
    )
    # On a CPU the fused attention is slower than the plain one to go back through.
    return CLIPModel._from_config(config, attn_implementation="eager")


class TextIds:
    """Token ids of prompts made of known captions, quickly.

    A caption is tokenized once; a prompt is its captions' ids with the comma's between them,
    which is what the tokenizer itself gives (a test compares the two).
    """

    def __init__(self, tokenizer: CLIPTokenizer):
        self.tokenizer = tokenizer
        self.bos, self.eos = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)  # type: ignore
        self.comma = tokenizer(",", add_special_tokens=False).input_ids
        self._known: dict[str, list[int]] = {}

    def ids(self, prompt: str) -> list[int]:
        """Token ids with start and end."""
        out = [self.bos]
        for i, part in enumerate(prompt.split(", ") if prompt else []):
            if part not in self._known:
                self._known[part] = self.tokenizer(part, add_special_tokens=False).input_ids
            out += (self.comma if i else []) + self._known[part]
        return [*out[: MAX_LENGTH - 1], self.eos]

    def __call__(self, prompts: list[str], length: int | None = None) -> torch.Tensor:
        """Token ids, padded with the end token to a length or to the longest."""
        rows = [self.ids(prompt) for prompt in prompts]
        length = length or max(map(len, rows))
        return torch.tensor([row + [self.eos] * (length - len(row)) for row in rows])


def _codes(scenes: list[Scene]) -> NDArray[np.int64]:
    return np.array([[ATTRIBUTES[n].index(getattr(s, n)) for n in _NAMES] for s in scenes])


def _said(kinds: list[str]) -> NDArray[np.bool_]:
    names = {name for kind in kinds for name in KIND_ATTRIBUTES[kind]}
    return np.array([name in names for name in _NAMES])


def _contrast(similarity: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against an even target over the positives, rows with none left out."""
    n = positive.sum(1)
    rows = n > 0
    log_p = F.log_softmax(similarity[rows], dim=1)
    return -((log_p * positive[rows]).sum(1) / n[rows]).mean()


def _relations() -> tuple[torch.Tensor, torch.Tensor]:
    """Wanted cosine between meanings of one kind, and where it is wanted.

    Neighbors in meaning lie nearer (.55 at most between different meanings), as the CLIPs that
    learned from the world have it; so the text space varies smoothly with meaning.
    """
    every = all_meanings()
    vectors = []
    for _, text in every:
        parts = []
        for name, value in parse_meaning(text).items():
            table = np.stack([semantic_coordinates(name, v) for v in ATTRIBUTES[name]])
            z = (semantic_coordinates(name, value) - table.mean(0)) / table.std(0)
            parts.append(z / np.sqrt(table.shape[1]))
        vectors.append(np.concatenate(parts))
    kinds = np.array([kind for kind, _ in every])
    same = (kinds[:, None] == kinds[None]) & ~np.eye(len(every), dtype=bool)
    target = np.zeros(same.shape)
    for i, j in zip(*np.nonzero(same), strict=True):
        target[i, j] = 0.6 * np.exp(-0.5 * ((vectors[i] - vectors[j]) ** 2).sum())
    return torch.from_numpy(target).float(), torch.from_numpy(same)


def train_clip(folder: Path, *, minutes: float | None, resume: bool, steps: int = 4000) -> None:
    """Train, then write ``folder/clip``."""
    torch.manual_seed(2)
    scenes, images, _ = training_pool(folder, POOL, seed=1)
    codes = _codes(scenes)
    tokenizer = build_tokenizer()
    to_ids = TextIds(tokenizer)
    model = build_clip(tokenizer)
    loop = Loop(
        "clip",
        model,
        folder,
        lr=1e-3,
        steps=steps,
        minutes=minutes,
        resume=resume,
        weight_decay=0.05,
    )
    rng = np.random.default_rng(loop.step + 2)
    batches = sample_batches(len(scenes), 64, seed=loop.step + 2)
    every = all_meanings()
    wanted, where = _relations()

    def embed(texts: list[str]) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model.get_text_features(input_ids=to_ids(texts)).pooler_output
        return F.normalize(out.float(), dim=1)

    while not loop.done:
        index = np.sort(next(batches))
        batch = [scenes[i] for i in index]
        x = to_tensor(images[index])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen = model.get_image_features(pixel_values=x).pooler_output
        seen = F.normalize(seen.float(), dim=1)

        subsets = [random_kinds(rng, all_ten=0.2) for _ in batch]
        joined = [random_prompt(s, k, rng) for s, k in zip(batch, subsets, strict=True)]
        again = [
            random_prompt(s, [k[i] for i in rng.permutation(len(k))], rng)
            for s, k in zip(batch, subsets, strict=True)
        ]
        singles = [[str(rng.choice(list(KIND_ATTRIBUTES)))] for _ in batch]
        single = [
            random_caption(meaning(s, k[0]), k[0], rng) for s, k in zip(batch, singles, strict=True)
        ]
        pairs = [random_caption(t, k, rng) for k, t in every + every]
        long, short = embed(joined + again), embed(single + pairs)
        joined_e, again_e = long.split(len(batch))
        single_e, first, second = short.split([len(batch), len(every), len(every)])

        scale = model.logit_scale.exp().clamp(max=100)
        c = codes[index]
        said = np.stack([_said(k) for k in subsets + singles])
        equal = c[:, None] == np.concatenate([c, c])[None]  # image, text, attribute
        visible = said & _VISIBLE
        positive = (equal | ~visible[None]).all(2) & visible.any(1)[None]
        similarity = scale * seen @ torch.cat([joined_e, single_e]).T
        p = torch.from_numpy(positive).float()
        image_text = 0.5 * (_contrast(similarity, p) + _contrast(similarity.T, p.T))

        # Two prompts are paraphrases if they say the same attributes and give them the same values.
        same = (said[: len(batch), None] == said[None, : len(batch)]).all(2)
        same &= (c[:, None] == c[None]).__or__(~said[: len(batch)][None]).all(2)
        prompts = _contrast(scale * joined_e @ again_e.T, torch.from_numpy(same).float())
        eye = torch.eye(len(every))
        phrases = _contrast(scale * first @ second.T, eye)
        relation = ((first @ second.T - wanted)[where] ** 2).mean()
        spread = (1 - (first * second).sum(1)).mean()
        loop.update(
            image_text + 0.5 * prompts + phrases + 10 * relation + 2 * spread,
            image_text=image_text,
            prompts=prompts,
            phrases=phrases,
            relation=relation,
            spread=spread,
        )
    loop.finish()
    write_clip(model, tokenizer, folder)


def train_vision(folder: Path, *, minutes: float | None, resume: bool, steps: int = 6000) -> None:
    """Train the image side further, with the text side as it is, and write ``folder/clip``.

    The denoiser is trained on the text side, which must not change after that.
    """
    torch.manual_seed(5)
    scenes, images, _ = training_pool(folder, POOL, seed=1)
    codes = _codes(scenes)
    model, tokenizer = load_clip(folder)
    to_ids = TextIds(tokenizer)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("vision_model", "visual_projection")))
    loop = Loop(
        "vision",
        model,
        folder,
        lr=1e-3,
        steps=steps,
        minutes=minutes,
        resume=resume,
        weight_decay=0.05,
    )
    rng = np.random.default_rng(loop.step + 5)
    batches = sample_batches(len(scenes), 64, seed=loop.step + 5)
    every = [(k, t) for k, t in all_meanings() if _said([k])[_VISIBLE].any()]
    meant = [parse_meaning(text) for _, text in every]
    wanted = np.array(
        [[ATTRIBUTES[n].index(m[n]) if n in m else -1 for n in _NAMES] for m in meant]
    )
    while not loop.done:
        index = np.sort(next(batches))
        c = codes[index]
        subsets = [random_kinds(rng, all_ten=0.3) for _ in index]
        joined = [random_prompt(scenes[i], k, rng) for i, k in zip(index, subsets, strict=True)]
        single = [random_caption(t, k, rng) for k, t in every]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            long = model.get_text_features(input_ids=to_ids(joined)).pooler_output
            short = model.get_text_features(input_ids=to_ids(single)).pooler_output
        long, short = (F.normalize(e.float(), dim=1) for e in (long, short))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = to_tensor(images[index])
            seen = model.get_image_features(pixel_values=x).pooler_output
        seen = F.normalize(seen.float(), dim=1)
        scale = float(model.logit_scale.exp().clamp(max=100))
        visible = np.stack([_said(k) for k in subsets]) & _VISIBLE
        p = (c[:, None] == c[None]) | ~visible[None]
        positive = torch.from_numpy(p.all(2) & visible.any(1)[None]).float()
        similarity = scale * seen @ long.T
        prompts = 0.5 * (_contrast(similarity, positive) + _contrast(similarity.T, positive.T))
        # Within each kind, the image chooses the caption that is true of it.
        true = torch.from_numpy(((c[:, None] == wanted[None]) | (wanted[None] < 0)).all(2)).float()
        similarity, choices = scale * seen @ short.T, torch.zeros(())
        for kind in dict.fromkeys(k for k, _ in every):
            columns = torch.tensor([k == kind for k, _ in every])
            choices = choices + _contrast(similarity[:, columns], true[:, columns])
        loop.update(prompts + 0.3 * choices, prompts=prompts, choices=choices)
    loop.finish()
    write_clip(model, tokenizer, folder)


def write_clip(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write ``folder/clip``: model, tokenizer, image processor."""
    from transformers import CLIPImageProcessor

    out = folder / "clip"
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    CLIPImageProcessor(
        size={"height": 64, "width": 64},
        do_center_crop=False,
        crop_size={"height": 64, "width": 64},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(out)


def load_clip(folder: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """Load ``folder/clip``, frozen."""
    model = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32).eval()
    return model, CLIPTokenizer.from_pretrained(folder / "clip")

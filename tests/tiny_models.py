"""Tiny models with random weights, in the real formats, made on the spot and saved to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.'-"


def tokenizer(max_length: int = 77) -> Any:
    """A CLIP tokenizer that knows letters and a few words: one token a word, else one a letter."""
    from transformers import CLIPTokenizer

    vocab: dict[str, int] = {}
    for token in [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]:
        vocab[token] = len(vocab)
    merges = []
    for word in ("cat", "dog", "red", "a"):
        for end in range(2, len(word) + 1):
            left = word[: end - 1]
            right = word[end - 1] + ("</w>" if end == len(word) else "")
            merges.append((left, right))
            vocab.setdefault(left + right, len(vocab))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def text_settings(tok: Any, length: int = 77) -> dict[str, Any]:
    """Settings of a tiny CLIP text model for a tokenizer."""
    return {
        "vocab_size": len(tok),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": length,
        "projection_dim": 16,
        "bos_token_id": tok.bos_token_id,
        "eos_token_id": tok.eos_token_id,
        "pad_token_id": tok.eos_token_id,
    }


def save_clip(folder: Path, *, seed: int = 0, half: bool = False, length: int = 77) -> Path:
    """A whole CLIP with its tokenizer."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    tok = tokenizer(length)
    config = CLIPConfig(
        text_config=text_settings(tok, length),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 16,
        },
        projection_dim=16,
    )
    model = CLIPModel(config)
    (model.half() if half else model).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def save_pipeline(
    folder: Path, *, seed: int = 0, length: int = 77, scheduler: str = "DDIMScheduler"
) -> Path:
    """A Stable Diffusion pipeline that draws 16×16 images."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tok = tokenizer(length)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=16,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text_settings(tok, length))),
        tokenizer=tok,
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        ),
        scheduler=getattr(diffusers, scheduler)(
            num_train_timesteps=100,
            steps_offset=1,
            **({"clip_sample": False} if scheduler == "DDIMScheduler" else {}),
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


# -- a study whose EEG is the captions' embeddings, and an encoder that reads them back -----------
HEADS = ("ObjectSnap", "ColorTone", "MoodFeel")
N_DIMS = 16  # of the tiny CLIP
SHAPE = (4, 12)  # channels × samples: room for one embedding a head


def oracle(**config: Any) -> Any:
    """An encoder that reads each head's embedding out of the EEG, where `save_study` wrote it."""
    import torch

    class Oracle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = config
            self.gain = torch.nn.Parameter(torch.ones(1))

        def forward(self, eeg: Any, positions: Any, subject: Any = None) -> dict[str, Any]:
            flat = self.gain * eeg.flatten(1)
            size = config["embedding_dim"]
            return {
                head: flat[:, i * size : (i + 1) * size] for i, head in enumerate(config["heads"])
            }

    return Oracle()


def save_study(
    folder: Path,
    clip: Path,
    *,
    noise: float = 0.05,
    n_images: int = 24,
    repetitions: int = 2,
    seed: int = 0,
    images: bool = False,
) -> Any:
    """A study with captions and a split by image; with files of its images on request."""
    import numpy as np
    import pandas as pd

    from eegprompt.study import Study, StudyWriter
    from eegprompt.study.split import Fold, Split
    from eegprompt.text_encoders.clip import ClipTextEncoder

    rng = np.random.default_rng(seed)
    objects, colors, moods = ("cat", "dog", "fox", "owl"), ("red", "blue", "gray"), ("sad", "gay")
    image_rows, captions = [], []
    for i in range(n_images):
        name, color, mood = objects[i % 4], colors[i // 4 % 3], moods[i // 12 % 2]
        image_rows.append({"image_id": f"image{i:02d}", "category": name})
        for kind, text, meaning in (
            ("ObjectSnap", f"a {name}", name),
            ("ColorTone", f"{color} tone" if i % 2 else f"all {color}", color),
            ("MoodFeel", f"{mood} mood {i % 3}", None),
        ):
            captions.append(
                {"image_id": f"image{i:02d}", "kind": kind, "text": text, "meaning": meaning}
            )
    table = pd.DataFrame(captions)
    encoder = ClipTextEncoder(str(clip), device="cpu")
    vectors = dict(zip(table["text"], encoder.embed(table["text"].tolist())))
    said = {(row.image_id, row.kind): vectors[row.text] for row in table.itertuples()}
    shown = [image["image_id"] for image in image_rows for _ in range(repetitions)]
    eeg = np.stack([np.concatenate([said[image_id, head] for head in HEADS]) for image_id in shown])
    eeg = (eeg + noise * rng.standard_normal(eeg.shape)).reshape(-1, *SHAPE).astype(np.float32)
    with StudyWriter.open(folder) as writer:
        if images:
            from PIL import Image

            (writer.folder / "images").mkdir()
            for i, image in enumerate(image_rows):
                image["path"] = f"images/{image['image_id']}.png"
                dots = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
                large = Image.fromarray(dots).resize((24 + i % 2, 20))  # of two sizes, not square
                large.save(writer.folder / image["path"])
        writer.append(eeg)
        writer.finish(
            info={
                "name": "tiny",
                "ch_names": ["O1", "O2", "P3", "P4"],
                "sfreq": 100.0,
                "tmin": 0.0,
                "unit": "V",
                "design": "randomised",
                "image_identity": "known",
            },
            trials=pd.DataFrame(
                {
                    "subject": ["s1", "s2"] * (len(shown) // 2),
                    "image_id": shown,
                    "category": [objects[int(image_id[5:]) % 4] for image_id in shown],
                }
            ),
            images=pd.DataFrame(image_rows),
        )
    study = Study(folder)
    study.write_captions("words", table)
    order = rng.permutation(n_images)
    sides = np.split(order, [n_images // 2, 3 * n_images // 4])
    ids = [np.flatnonzero(np.isin([int(i[5:]) for i in shown], side)) for side in sides]
    study.write_split(Split("by-image", (Fold(*ids),)))
    return study


def save_run(folder: Path, study: Any, clip: Path, pipeline: Path, **settings: Any) -> Any:
    """A run with the oracle as its trained encoder."""
    import numpy as np

    from eegprompt.core.registry import register
    from eegprompt.encoders.preprocessing import FittedSteps
    from eegprompt.encoders.saved import save_encoder
    from eegprompt.run import Run
    from eegprompt.settings import load_config

    register("encoder", "oracle", "tiny_models:oracle")
    config = load_config(
        {
            "study": str(study.path),
            "split": "by-image",
            "captions": "words",
            "kinds": list(HEADS),
            "text_encoder": f"clip:{clip}",
            "encoder": {"name": "oracle"},
            **settings,
            "generation": {
                "generator": f"diffusers:{pipeline}",
                "options": {"steps": 2, "height": 16, "width": 16},
                **settings.get("generation", {}),
            },
        }
    )
    config.save(folder / "config.yaml")
    save_encoder(
        folder / "encoder",
        oracle(heads=list(config.kinds), embedding_dim=N_DIMS, n_times=SHAPE[1]),
        FittedSteps((), np.eye(SHAPE[0]), np.zeros(SHAPE[0])),
        name="oracle",
        ch_names=study.ch_names,
        positions=study.positions,
        sfreq=study.sfreq,
        tmin=study.tmin,
        unit=study.unit,
        subjects=["s1", "s2"],
    )
    return Run(folder)


# -- a vision-language model -----------------------------------------------------------------------
_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def byte_tokenizer(*more: str) -> Any:
    """One token a byte, and a few special ones: it spells whatever a model may want to say."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tok = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<start>", eos_token="<end>", pad_token="<pad>"
    )
    tok.add_special_tokens({"additional_special_tokens": ["<image>", *more]})
    return tok


def save_vlm(folder: Path, *, family: str = "llava", seed: int = 0, template: bool = True) -> Path:
    """A tiny LLaVA or Idefics3 with random weights, its processor and tokenizer."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    chat = _TEMPLATE if template else None
    if family == "llava":
        tok = byte_tokenizer()
        size = {"vocab_size": len(tok), "bos_token_id": tok.bos_token_id}
        size |= {"eos_token_id": tok.eos_token_id, "pad_token_id": tok.pad_token_id}
        config = t.LlavaConfig(
            text_config=t.LlamaConfig(**text, **size),
            vision_config=t.CLIPVisionConfig(**vision),
            image_token_id=tok.convert_tokens_to_ids("<image>"),
            vision_feature_layer=-1,
        )
        model = t.LlavaForConditionalGeneration(config)
        processor = t.LlavaProcessor(
            t.CLIPImageProcessorPil(
                size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
            ),
            tok,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=chat,
        )
    else:
        tok = byte_tokenizer("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
        size = {"vocab_size": len(tok), "bos_token_id": tok.bos_token_id}
        size |= {"eos_token_id": tok.eos_token_id, "pad_token_id": tok.pad_token_id}
        config = t.Idefics3Config(
            text_config=t.LlamaConfig(**text, **size),
            vision_config=vision,
            image_token_id=tok.convert_tokens_to_ids("<image>"),
            scale_factor=1,
            pad_token_id=tok.pad_token_id,
        )
        model = t.Idefics3ForConditionalGeneration(config)
        processor = t.Idefics3Processor(
            t.Idefics3ImageProcessorPil(
                size={"longest_edge": 16}, max_image_size={"longest_edge": 16}
            ),
            tok,
            image_seq_len=4,
            chat_template=chat,
        )
    model.generation_config.eos_token_id = tok.eos_token_id
    model.generation_config.pad_token_id = tok.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


# -- a sentence encoder ----------------------------------------------------------------------------
def save_sentence_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A tiny BERT with mean pooling, as sentence-transformers keeps it; it reads 64 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as parts
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    tok = byte_tokenizer()
    tok.backend_tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", tok.bos_token_id), ("<end>", tok.eos_token_id)],
    )
    tok.model_max_length = 64
    bert = folder.with_name(f"{folder.name}-bert")
    BertModel(
        BertConfig(
            vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, pad_token_id=tok.pad_token_id,
        )
    ).save_pretrained(bert)  # fmt: skip
    tok.save_pretrained(bert)
    words = parts.Transformer(str(bert), max_seq_length=64)
    SentenceTransformer(modules=[words, parts.Pooling(32)], device="cpu").save(str(folder))
    return folder

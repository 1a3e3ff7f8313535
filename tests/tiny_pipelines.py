"""Every family of text-to-image pipelines, tiny, with random weights, through its real classes.

Each is built from diffusers' and transformers' own classes and saved to disk as a model on the
hub lies there; tokenizers are made on the spot. They draw noise, which is all that is needed to see
that loading, token budgets, batches, seeds and embeddings are right.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_models

# Of T5's and Gemma's tokenizers: one token a word.
WORDS = ("a", "cat", "dog", "red", "blue", "zebra", "house", "on", "the", "beach", ",", ".")


def _numbers() -> list[str]:
    return [f"w{i}" for i in range(40)]


def t5_tokenizer(max_length: int = 512) -> Any:
    """A T5 tokenizer of a few words; it ends a text with </s>."""
    from transformers import T5TokenizerFast

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -3.0)]
    vocab += [(f"▁{word}", -2.0) for word in (*WORDS, *_numbers())]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=max_length)


def gemma_tokenizer(max_length: int = 512) -> Any:
    """A Gemma tokenizer of letters: one token a letter or space; it begins a text with <bos>."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizerFast

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *tiny_models.LETTERS]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tok = GemmaTokenizerFast(vocab=vocab, merges=[], model_max_length=max_length)
    tok._tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    return tok


def _vae(channels: int = 4, *, shift: float | None = None) -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def _unet(width: int, *, sample_size: int = 8, **more: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=4,
        **more,
    )


def _clip(tok: Any, *, projection: bool, **more: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    settings = tiny_models.text_settings(tok) | {"num_hidden_layers": 1, **more}
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return kind(CLIPTextConfig(**settings))


def _t5(tok: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tok),
            d_model=64,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            is_gated_act=True,
        )
    )


def _stable_diffusion(scheduler: Any, **text: Any) -> Any:
    import diffusers

    tok = tiny_models.tokenizer()
    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_clip(tok, projection=False, **text),
        tokenizer=tok,
        unet=_unet(32),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd15() -> Any:
    """Stable Diffusion 1.5."""
    import diffusers

    return _stable_diffusion(diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1))


def sd21() -> Any:
    """Stable Diffusion 2.1: predicts velocities."""
    import diffusers

    return _stable_diffusion(
        diffusers.DDIMScheduler(
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        hidden_act="gelu",
    )


def sd_turbo() -> Any:
    """SD-Turbo: one step, no guidance."""
    import diffusers

    return _stable_diffusion(diffusers.EulerDiscreteScheduler(timestep_spacing="trailing"))


def _sdxl(scheduler: Any) -> Any:
    import diffusers

    one, two = tiny_models.tokenizer(), tiny_models.tokenizer()
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(one, projection=False),
        text_encoder_2=_clip(two, projection=True),
        tokenizer=one,
        tokenizer_2=two,
        unet=_unet(
            64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=scheduler,
        add_watermarker=False,
    )


def sdxl() -> Any:
    """SDXL: two CLIP text encoders, of which the second also gives a pooled embedding."""
    import diffusers

    return _sdxl(diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1))


def sdxl_turbo() -> Any:
    """SDXL-Turbo: SDXL with noise in its steps, one step, no guidance."""
    import diffusers

    return _sdxl(diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing"))


def sd35(*, t5: bool = True) -> Any:
    """Stable Diffusion 3.5: two CLIP encoders and, unless left out, T5."""
    import diffusers

    one, two, three = tiny_models.tokenizer(), tiny_models.tokenizer(), t5_tokenizer()
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=64,
            caption_projection_dim=16,
            pooled_projection_dim=32,
            pos_embed_max_size=8,
            qk_norm="rms_norm",
            dual_attention_layers=(0,),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, shift=0.06),
        text_encoder=_clip(one, projection=True),
        tokenizer=one,
        text_encoder_2=_clip(two, projection=True),
        tokenizer_2=two,
        text_encoder_3=_t5(three) if t5 else None,
        tokenizer_3=three if t5 else None,
    )


def flux(*, schnell: bool = False) -> Any:
    """FLUX.1: T5 gives the sequence, CLIP one pooled embedding."""
    import diffusers

    one, two = tiny_models.tokenizer(), t5_tokenizer()
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=1.0 if schnell else 3.0, use_dynamic_shifting=not schnell
        ),
        vae=_vae(4, shift=0.12),
        text_encoder=_clip(one, projection=False),
        tokenizer=one,
        text_encoder_2=_t5(two),
        tokenizer_2=two,
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=not schnell,
        ),
    )


def schnell() -> Any:
    """FLUX.1-schnell: distilled, without an input for the guidance."""
    return flux(schnell=True)


def sana() -> Any:
    """Sana: a language model reads the prompt; a deep compression autoencoder."""
    import diffusers
    from transformers import Gemma2Config, Gemma2Model

    tok = gemma_tokenizer()
    return diffusers.SanaPipeline(
        tokenizer=tok,
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(tok),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                query_pre_attn_scalar=8,
            )
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=32,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


def _pixart(kind: str, sample_size: int) -> Any:
    import diffusers

    tok = t5_tokenizer()
    return getattr(diffusers, kind)(
        tokenizer=tok,
        text_encoder=_t5(tok),
        vae=_vae(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=sample_size,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=64,
            in_channels=4,
            cross_attention_dim=16,
            out_channels=8,
            norm_num_groups=4,
            use_additional_conditions=False,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def pixart_alpha() -> Any:
    """PixArt-α: T5 alone, 120 tokens."""
    return _pixart("PixArtAlphaPipeline", 32)


def pixart_sigma() -> Any:
    """PixArt-Σ: T5 alone, 300 tokens."""
    return _pixart("PixArtSigmaPipeline", 32)


FAMILIES: dict[str, Callable[[], Any]] = {
    "sd15": sd15,
    "sd21": sd21,
    "sd-turbo": sd_turbo,
    "sdxl": sdxl,
    "sdxl-turbo": sdxl_turbo,
    "sd35": sd35,
    "flux": flux,
    "schnell": schnell,
    "sana": sana,
    "pixart-alpha": pixart_alpha,
    "pixart-sigma": pixart_sigma,
}


def save(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Build one family's pipeline and write it as it would lie on the hub."""
    import torch

    torch.manual_seed(seed)
    FAMILIES[family]().save_pretrained(folder)
    return folder

"""Tiny pipelines of diffusers with random weights, made in place: tokenizers, text encoders, network, autoencoder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

KINDS = ("sd1", "sd2", "sdxl", "sd3", "sd3_t5")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-"
PROMPTS = {"normal": "a normal x-ray", "effusion": ("effusion left", "effusion right", "fluid")}
TOKENS = 77


def clip_tokenizer() -> Any:
    """CLIP's tokenizer with a vocabulary of single characters."""
    vocabulary = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    transformers = import_module("transformers")
    ids = {token: index for index, token in enumerate(vocabulary)}
    return transformers.CLIPTokenizer(vocab=ids, merges=[], model_max_length=TOKENS)


def t5_tokenizer() -> Any:
    """T5's tokenizer with a vocabulary of single characters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), *((letter, -2.0) for letter in LETTERS)]
    return import_module("transformers").T5Tokenizer(vocab=pieces, extra_ids=0)


def text_encoder(width: int, *, projected: bool = False, layers: int = 3) -> Any:
    """CLIP's text encoder; a projected one gives a pooled prompt of its width too."""
    transformers = import_module("transformers")
    last = 2 * len(LETTERS) + 1
    config = transformers.CLIPTextConfig(
        vocab_size=last + 1,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=last - 1,
        eos_token_id=last,
        pad_token_id=last,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config).eval()


def t5_encoder(width: int) -> Any:
    """T5's encoder."""
    transformers = import_module("transformers")
    settings = {"d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return transformers.T5EncoderModel(transformers.T5Config(vocab_size=len(LETTERS) + 4, **settings)).eval()


def autoencoder(channels: int, **settings: Any) -> Any:
    """An autoencoder that halves the image."""
    made = import_module("diffusers").AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=2,
        **settings,
    )
    return made.eval()


def unet(width: int, **settings: Any) -> Any:
    """A conditional U-Net of two levels."""
    made = import_module("diffusers").UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": width,
            **settings,
        }
    )
    return made.eval()


def make_pipeline(kind: str, **unet_settings: Any) -> Any:
    """A pipeline: "sd1" (epsilon), "sd2" (v), "sdxl", "sd3" (flow) or "sd3_t5" (with its third encoder)."""
    diffusers = import_module("diffusers")
    torch.manual_seed(0)
    if kind.startswith("sd3"):
        return _sd3(kind == "sd3_t5")
    prediction = "v_prediction" if kind == "sd2" else "epsilon"
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": prediction}
    ddim = {"steps_offset": 1, "clip_sample": False}
    scheduler = (
        diffusers.EulerDiscreteScheduler(**noise) if kind == "sdxl" else diffusers.DDIMScheduler(**noise, **ddim)
    )
    parts = {"vae": autoencoder(4), "tokenizer": clip_tokenizer(), "scheduler": scheduler}
    if kind == "sdxl":
        sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
        return diffusers.StableDiffusionXLPipeline(
            **parts,
            text_encoder=text_encoder(8),
            text_encoder_2=text_encoder(12, projected=True),
            tokenizer_2=clip_tokenizer(),
            unet=unet(20, **sizes, projection_class_embeddings_input_dim=6 * 4 + 12, **unet_settings),
        )
    return diffusers.StableDiffusionPipeline(
        **parts,
        text_encoder=text_encoder(8),
        unet=unet(8, **unet_settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd3(with_t5: bool) -> Any:
    diffusers = import_module("diffusers")
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=8,
        pooled_projection_dim=20,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4, scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(8, projected=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=text_encoder(12, projected=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(24) if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
    )


def write_pipeline(folder: Path, kind: str, **unet_settings: Any) -> Path:
    """The same in a folder."""
    make_pipeline(kind, **unet_settings).save_pretrained(folder)
    return folder

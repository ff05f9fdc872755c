"""The configurations of the published Wan checkpoints, to compute a model's needs before its download.

They come from the Hugging Face repositories that the profiles name and from google/umt5-xxl, without values that equal
the classes' defaults. Statistics of the latents are left out, because nothing here computes with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from engine.loading import part_sizes
from engine.loading.memory_plan import PartSize

UMT5_XXL: Mapping[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
VAE_2_1: Mapping[str, Any] = {"base_dim": 96, "z_dim": 16}
VAE_2_2: Mapping[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "in_channels": 12,
    "is_residual": True,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "z_dim": 48,
}
TRANSFORMER_5B: Mapping[str, Any] = {
    "attention_head_dim": 128,
    "ffn_dim": 14336,
    "freq_dim": 256,
    "in_channels": 48,
    "num_attention_heads": 24,
    "num_layers": 30,
    "out_channels": 48,
    "text_dim": 4096,
}
TRANSFORMER_1_3B: Mapping[str, Any] = {**TRANSFORMER_5B, "ffn_dim": 8960, "in_channels": 16, "num_attention_heads": 12}
TRANSFORMER_14B: Mapping[str, Any] = {
    **TRANSFORMER_5B,
    "ffn_dim": 13824,
    "in_channels": 16,
    "num_attention_heads": 40,
    "num_layers": 40,
}

# By profile: transformer, VAE, and how many transformers of that shape.
MODELS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], int]] = {
    "wan2.2-ti2v-5b": (TRANSFORMER_5B, VAE_2_2, 1),
    "fastwan2.2-5b": (TRANSFORMER_5B, VAE_2_2, 1),
    "wan2.1-t2v-1.3b": ({**TRANSFORMER_1_3B, "out_channels": 16}, VAE_2_1, 1),
    "wan2.2-t2v-a14b": ({**TRANSFORMER_14B, "out_channels": 16}, VAE_2_1, 2),
}


def sizes(profile: str) -> dict[str, PartSize]:
    """The sizes of a published model's parts, in the order of the plan. Builds the parts without weights."""
    from transformers import UMT5Config, UMT5EncoderModel  # noqa: PLC0415  seconds that the engine need not wait

    transformer, vae, num_transformers = MODELS[profile]
    with torch.device("meta"):
        modules: dict[str, nn.Module] = {"transformer": WanTransformer3DModel(**transformer)}
        if num_transformers == 2:
            modules["transformer_2"] = modules["transformer"]
        modules["text_encoder"] = UMT5EncoderModel(UMT5Config(**UMT5_XXL, is_encoder_decoder=False))
        modules["vae"] = AutoencoderKLWan(**vae)
    return {name: part_sizes.part_size(name, _shapes(module)) for name, module in modules.items()}


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in module.named_parameters()}

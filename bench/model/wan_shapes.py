"""The exact shapes of the published 5B model, with random weights made on the device; and small ones for a CPU.

The configurations are those of `engine.loading.published_configs`, the tiny decoder's widths those of taew2_2. Times
and memory depend on shapes and dtypes, not on the weights' values, so random weights measure the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn
from torch.nn import functional
from transformers import UMT5Config, UMT5EncoderModel

from engine.loading import published_configs
from engine.parts.tiny_decoder import TinyDecoderModule


@dataclass(frozen=True, slots=True)
class Shapes:
    """What to build and measure. `frames`: the clip length of all measurements, then one for the forward alone."""

    name: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    pruned_base_dim: int
    text_encoder: Mapping[str, Any]
    tiny_widths: tuple[int, int, int, int]
    width: int
    height: int
    frames: tuple[int, int]
    num_tokens: tuple[int, int] = (64, 512)

    @property
    def latent_channels(self) -> int:
        return int(self.vae["z_dim"])

    def latent_shape(self, num_frames: int) -> tuple[int, int, int, int]:
        return self.latent_channels, (num_frames - 1) // 4 + 1, self.height // 16, self.width // 16


PUBLISHED = Shapes(
    name="published 5B",
    transformer=published_configs.TRANSFORMER_5B,
    vae=published_configs.VAE_2_2,
    pruned_base_dim=64,
    text_encoder=published_configs.UMT5_XXL,
    tiny_widths=(256, 128, 64, 64),
    width=832,
    height=480,
    frames=(49, 97),
)

SMALL = Shapes(
    name="small",
    transformer={
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 48,
        "out_channels": 48,
        "text_dim": 32,
        "freq_dim": 32,
        "ffn_dim": 96,
        "num_layers": 2,
    },
    vae={**published_configs.VAE_2_2, "base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1},
    pruned_base_dim=4,
    text_encoder={
        "vocab_size": 400,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    tiny_widths=(16, 8, 8, 8),
    width=64,
    height=32,
    frames=(9, 17),
)


def transformer(shapes: Shapes) -> WanTransformer3DModel:
    return WanTransformer3DModel(**shapes.transformer)


def vae(shapes: Shapes) -> AutoencoderKLWan:
    return AutoencoderKLWan(**shapes.vae)


def pruned_vae(shapes: Shapes) -> AutoencoderKLWan:
    return AutoencoderKLWan(**{**shapes.vae, "decoder_base_dim": shapes.pruned_base_dim})


def text_encoder(shapes: Shapes) -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(**shapes.text_encoder, is_encoder_decoder=False))


def tiny_module(shapes: Shapes) -> TinyDecoderModule:
    return TinyDecoderModule(shapes.latent_channels, 2, shapes.tiny_widths)


def on_device(make: Any, shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Any:
    """Builds a module without weights, then makes random weights directly on the device: seconds, not minutes.

    Modules that diffusers keeps in float32 are in float32 here too. Buffers keep their values.
    """
    with _parameters_on_meta():
        module = make(shapes)
    in_fp32 = getattr(module, "_keep_in_fp32_modules", None) or ()
    made: dict[int, nn.Parameter] = {}  # tied weights stay tied
    random = torch.Generator(device).manual_seed(0)
    for name, owner, parameter in list(_parameters(module)):
        if id(parameter) not in made:
            kept = torch.float32 if any(part in name for part in in_fp32) else dtype
            made[id(parameter)] = nn.Parameter(_random(name, parameter, device, kept, random), requires_grad=False)
        setattr(owner, name.rpartition(".")[2], made[id(parameter)])
    for name, owner, buffer in list(_buffers(module)):
        setattr(owner, name.rpartition(".")[2], buffer.to(device))
    return module.eval()


def _random(
    name: str, parameter: torch.Tensor, device: torch.device, dtype: torch.dtype, random: torch.Generator
) -> torch.Tensor:
    """Scaled so that values stay finite through thirty layers: gains 1, biases 0, matrices that keep the variance."""
    values = torch.empty(parameter.shape, device=device, dtype=dtype)
    if name.endswith("bias") and "relative" not in name:
        return values.zero_()
    if parameter.ndim < 2 or "norm" in name or "gamma" in name:
        return values.fill_(1.0)
    return values.normal_(0.0, 1 / math.sqrt(max(1, parameter[0].numel())), generator=random)


def _parameters(module: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    for prefix, owner in module.named_modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                yield f"{prefix}.{name}".lstrip("."), owner, parameter


def _buffers(module: nn.Module) -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    for prefix, owner in module.named_modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                yield f"{prefix}.{name}".lstrip("."), owner, buffer


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Creates parameters without storage; buffers (rotary frequencies) are computed as usual."""
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # a tied one exists already, and stays the same
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    skipped = {name: getattr(nn.init, name) for name in ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_")}
    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign]
    for name in skipped:
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
        for name, function in skipped.items():
            setattr(nn.init, name, function)


def write_configs(shapes: Shapes, folder: Path) -> Path:
    """Writes a model folder for the memory plan and the noise schedule: configurations, no weights."""
    scheduler = {
        "_class_name": "UniPCMultistepScheduler",
        "flow_shift": 5.0,
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
    }
    configs = {"transformer": shapes.transformer, "vae": shapes.vae}
    for name, config in configs.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(dict(config)))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


@dataclass(frozen=True, slots=True)
class Tokens:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor


class RandomTokens:
    """Replaces the tokenizer, which needs the hub: gives `num_tokens` random tokens for any prompt."""

    def __init__(self, num_tokens: int, vocabulary: int) -> None:
        random = torch.Generator().manual_seed(0)
        self._token_ids = torch.randint(2, vocabulary, (1, num_tokens), generator=random)

    def __call__(self, *_prompt: Any, padding: str = "", max_length: int = 512, **_options: Any) -> Tokens:
        is_real = torch.ones_like(self._token_ids)
        if padding != "max_length":
            return Tokens(self._token_ids, is_real)
        room = (0, max_length - is_real.shape[1])
        return Tokens(functional.pad(self._token_ids, room), functional.pad(is_real, room))

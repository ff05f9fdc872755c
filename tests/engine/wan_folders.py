"""Tiny Wan folders with random weights, in the published layouts: tests and benches load them instead of 25 GB.

Every builder writes a diffusers folder (`model_index.json`, one sub-folder for each component, safetensors only) and
returns its path; it leaves an existing folder alone. `cached(builder)` keeps one for each process. Only the widths
differ from the published models: layers, class names, latent channels, scale factors and flags are the same. The
default sizes of the profiles are far too large for a CPU: load them with `SIZE`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from engine.parts import linear_preview

TEXT_DIM = 32
_WORDS = "the sea at sunset city night rain robot walking forest snow dance red blue light calm wind"


class Size(TypedDict):
    width: int
    height: int
    num_frames: int


# Legal for both VAEs (multiples of 32), nine frames: three latent frames.
SIZE: Size = {"width": 64, "height": 32, "num_frames": 9}

Builder = Callable[[Path], Path]


def ti2v_5b(folder: Path) -> Path:
    """Wan-AI/Wan2.2-TI2V-5B-Diffusers: the 16x VAE with 48 channels, a timestep for each token, UniPC shift 5."""
    return _write(
        folder,
        {"boundary_ratio": None, "expand_timesteps": True},
        vae=_vae_2_2,
        transformer=lambda: _transformer(48, seed=0),
        scheduler=_unipc(flow_shift=5.0),
    )


def fastwan(folder: Path) -> Path:
    """FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers: the 5B's parts, distilled to three steps."""
    return _write(
        folder,
        {"_class_name": "WanDMDPipeline", "boundary_ratio": None, "expand_timesteps": True},
        vae=_vae_2_2,
        transformer=lambda: _transformer(48, seed=3),
        scheduler=_unipc(flow_shift=5.0),
    )


def t2v_1_3b(folder: Path) -> Path:
    """Wan-AI/Wan2.1-T2V-1.3B-Diffusers: the 8x VAE with 16 channels, UniPC shift 3."""
    return _write(
        folder,
        {},
        vae=_vae_2_1,
        transformer=lambda: _transformer(16, seed=1),
        scheduler=_unipc(flow_shift=3.0),
    )


def a14b(folder: Path) -> Path:
    """Wan-AI/Wan2.2-T2V-A14B-Diffusers: two experts that change over at sigma 0.875."""
    return _write(
        folder,
        {"boundary_ratio": 0.875, "expand_timesteps": False},
        vae=_vae_2_1,
        transformer=lambda: _transformer(16, seed=1),
        transformer_2=lambda: _transformer(16, seed=2),
        scheduler=_unipc(flow_shift=3.0),
    )


@functools.cache
def cached(builder: Builder) -> Path:
    """The folder of `builder`, made once in each process; its users must not write to it.

    It has the factors of its linear previews. Otherwise each load would fit them, which takes most of a second.
    """
    root = Path(tempfile.mkdtemp(prefix="wan_folder_"))
    folder = builder(root / builder.__name__)
    vae = AutoencoderKLWan.from_pretrained(folder / "vae")
    factors = linear_preview.fit(linear_preview.vae_encode(vae), spatial_factor=vae.config.scale_factor_spatial)
    linear_preview.write(folder / linear_preview.FILE_NAME, factors)
    return folder


def euler(shift: float = 3.0) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def _write(folder: Path, flags: dict[str, Any], **parts: Any) -> Path:
    if (folder / "model_index.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    classes: dict[str, list[str | None]] = {"transformer_2": [None, None]}
    for name, make in parts.items():
        part = make()
        part.save_pretrained(folder / name)
        classes[name] = ["diffusers", type(part).__name__]
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        _text_encoder().save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    classes |= {"text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"]}
    index = {"_class_name": "WanPipeline", "_diffusers_version": "0.35.0.dev0", **flags, **classes}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def _unipc(*, flow_shift: float) -> Callable[[], UniPCMultistepScheduler]:
    return lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift, num_train_timesteps=1000
    )


def _transformer(latent_channels: int, *, seed: int) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=latent_channels,
        out_channels=latent_channels,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=48,
        num_layers=2,
        rope_max_seq_len=64,
    ).eval()


def _vae_2_2() -> AutoencoderKLWan:
    random = torch.Generator().manual_seed(11)
    return _make_vae(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=48,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=(torch.randn(48, generator=random) * 0.2).tolist(),
        latents_std=(0.5 + torch.rand(48, generator=random)).tolist(),
    )


def _vae_2_1() -> AutoencoderKLWan:
    return _make_vae(base_dim=4, z_dim=16)  # the class's own defaults are the 2.1 form, statistics included


def _make_vae(**config: Any) -> AutoencoderKLWan:
    torch.manual_seed(10)
    return AutoencoderKLWan(num_res_blocks=1, **config).eval()


def _text_encoder() -> UMT5EncoderModel:
    torch.manual_seed(20)
    config = UMT5Config(
        vocab_size=400, d_model=TEXT_DIM, d_kv=8, d_ff=48, num_layers=2, num_heads=4, is_encoder_decoder=False
    )
    return UMT5EncoderModel(config).eval()


def _write_tokenizer(folder: Path) -> None:
    """A Unigram tokenizer over bytes-like pieces: every text has tokens, and it needs no hub."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -4.0) for word in _WORDS.split()]
    pieces += [(chr(code), -6.0) for code in range(33, 127)]
    pieces += [(character, -6.0) for character in "日落时的海边城市夜晚雨机器人走森林雪"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    fast.save_pretrained(folder)
    # What the published folders say; transformers builds the same Unigram model from it.
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "T5TokenizerFast"}, indent=2))

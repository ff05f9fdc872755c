"""Reads how large a model's parts and its work are, from file headers and configurations, before any weights load.

`memory_plan.py` plans with the result. Exact: the weights, and the VAE's feature cache (by a run on shapes alone).
Estimated: the activations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from engine.api import ModelError
from engine.loading.memory_plan import PARTS, PartSize, Workload

_GIB = 2**30


def read_sizes(folder: Path) -> dict[str, PartSize]:
    """The sizes of the parts in a diffusers folder, from the safetensors headers alone."""
    parts = [name for name in PARTS if (folder / name).is_dir()]
    return {name: read_size(name, folder / name) for name in parts}


def read_size(name: str, folder: Path) -> PartSize:
    """The size of one part, from its own folder."""
    return part_size(name, _weights(folder))


def num_weights(file: Path) -> int:
    """The number of weights in a safetensors file, from its header."""
    return sum(_product(entry["shape"]) for name, entry in _header(file).items() if name != "__metadata__")


def part_size(name: str, weights: Mapping[str, Sequence[int]]) -> PartSize:
    """The size of a part whose weights have these names and shapes."""
    numbers = {weight: _product(shape) for weight, shape in weights.items()}
    castable = {weight for weight, shape in weights.items() if _is_castable(name, weight, shape)}
    return PartSize(
        name=name,
        num_weights=sum(numbers.values()),
        num_castable=sum(numbers[weight] for weight in castable),
        num_streamed=_streamed(name, numbers),
    )


def _streamed(name: str, numbers: Mapping[str, int]) -> int:
    """Weights on the GPU at once: while one group computes, the next is copied. A transformer streams its blocks."""
    groups: dict[str, int] = {}
    for weight, number in numbers.items():
        groups[_group(weight)] = groups.get(_group(weight), 0) + number
    blocks = {group: number for group, number in groups.items() if group.rpartition(".")[2].isdecimal()}
    if not name.startswith("transformer"):
        return sum(sorted(groups.values())[-2:])
    return sum(groups.values()) - sum(blocks.values()) + sum(sorted(blocks.values())[-2:])


def _group(weight: str) -> str:
    """The group that streams together: a block (``blocks.7``, ``encoder.block.7``), or one top-level module."""
    parts = weight.split(".")
    for index, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: index + 1])
    return parts[0]


def _is_castable(part: str, weight: str, shape: Sequence[int]) -> bool:
    """Whether diffusers' layer-wise casting, told to keep `uncast_modules(part)`, holds this weight in fp8."""
    module, _, kind = weight.rpartition(".")
    names = module.split(".")
    around = [".".join(names[: length + 1]) for length in range(len(names))]
    is_kept = any(re.search(pattern, name) for pattern in uncast_modules(part) for name in around)
    return kind == "weight" and len(shape) >= 2 and not is_kept


def uncast_modules(part: str) -> tuple[str, ...]:
    """Patterns of modules that are not cast, because they need the precision or because casting fails."""
    if part == "text_encoder":
        # T5's feed-forward casts its activations to the dtype of `wo` before it is upcast; an embedding would be
        # upcast whole, two gigabytes, for a few rows.
        return ("norm", r"\bwo$", "shared", "embed_tokens", "relative_attention_bias")
    wan = (*WanTransformer3DModel._skip_layerwise_casting_patterns, *WanTransformer3DModel._keep_in_fp32_modules)
    return (*DEFAULT_SKIP_MODULES_PATTERN, *wan)


def _weights(folder: Path) -> dict[str, list[int]]:
    """Names and shapes in all safetensors files of a folder. Raises `ModelError` if one is cut off or none is there.

    Reads pickles if there is nothing else: `engine.loading.checkpoint` has refused them unless the user allows them.
    """
    files = sorted(folder.glob("*.safetensors"))
    pickles = sorted(folder.glob("*.bin")) if not files else []
    if not files and not pickles:
        raise ModelError(f"{folder} holds no safetensors file")
    weights: dict[str, list[int]] = {}
    for file in files:
        weights |= {name: entry["shape"] for name, entry in _header(file).items() if name != "__metadata__"}
    for file in pickles:  # mapped, so that no weight is read
        weights |= {name: list(weight.shape) for name, weight in torch.load(file, weights_only=True, mmap=True).items()}
    return weights


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        try:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length)) if length < 2**27 else {}
        except ValueError:
            header = {}
    if not header:
        raise ModelError(f"{file} is not a safetensors file, or was cut off")
    return header


def _product(shape: Iterable[int]) -> int:
    number = 1
    for side in shape:
        number *= side
    return number


def read_workload(
    folder: Path,
    *,
    width: int,
    height: int,
    num_frames: int,
    rows: int = 1,
    num_forwards: int = 3,
    decodes_full: bool = True,
    starts_from_frame: bool = True,
    vae_folder: Path | None = None,
) -> Workload:
    """The workload of the model in a folder, decoded by its own VAE or that in `vae_folder`; see `workload_of`."""
    return workload_of(
        _config(folder / "transformer"),
        _config(vae_folder or folder / "vae"),
        width=width,
        height=height,
        num_frames=num_frames,
        rows=rows,
        num_forwards=num_forwards,
        decodes_full=decodes_full,
        starts_from_frame=starts_from_frame,
    )


def workload_of(
    transformer: Mapping[str, Any],
    vae: Mapping[str, Any],
    *,
    width: int,
    height: int,
    num_frames: int,
    rows: int = 1,
    num_forwards: int = 3,
    decodes_full: bool = True,
    starts_from_frame: bool = True,
) -> Workload:
    """The work of clips of this size. `rows` run in one forward; `decodes_full` adds the VAE's cache."""
    factor = int(vae.get("scale_factor_spatial", 8))
    latent_frames = (num_frames - 1) // 4 + 1
    num_tokens = latent_frames * (height // factor // 2) * (width // factor // 2)
    inner = int(transformer["num_attention_heads"]) * int(transformer["attention_head_dim"])
    # Live at once in a block, counted along its forward: hidden states and norms in fp32 and bf16 (14 bytes a channel),
    # both sides of the feed-forward's nonlinearity (4), and, if a clip starts from a frame, a modulation of its own for
    # each token (six vectors in fp32 and bf16 and the embedding they come from: 40). Plus a quarter for temporary
    # tensors.
    a_token = 1.25 * ((54 if starts_from_frame else 14) * inner + 4 * int(transformer["ffn_dim"]))
    cache, largest = _decoder_features(vae, height // factor, width // factor) if decodes_full else (0, 0)
    tiny = int(0.4 * _GIB * width * height / (832 * 480))
    return Workload(
        denoising=int(rows * num_tokens * a_token),
        # A residual block at the largest feature map: input, shortcut, norm in fp32, activation, padded copy, output.
        decoding=max(8 * 2 * largest, tiny),
        feature_cache=2 * cache,
        num_forwards=num_forwards,
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    return config


def _decoder_features(config: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Numbers held by the VAE decoder's cache, and by its largest feature map, for latents of this height and width.

    Runs the decoder on shapes alone, for three latent frames; after them the cache grows no more.
    """
    with torch.device("meta"):
        vae: Any = AutoencoderKLWan.from_config(dict(config))
    largest = 0

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal largest
        largest = max(largest, output.numel() if isinstance(output, torch.Tensor) else 0)

    modules = list(vae.decoder.modules())
    for module in modules:
        module.register_forward_hook(note)
    cache: list[Any] = [None] * sum(isinstance(module, WanCausalConv3d) for module in modules)
    latents = torch.empty(1, int(config["z_dim"]), 1, height, width, device="meta")
    with torch.inference_mode():
        for latent_index in range(3):
            vae.decoder(latents, feat_cache=cache, feat_idx=[0], first_chunk=latent_index == 0)
    return sum(kept.numel() for kept in cache if isinstance(kept, torch.Tensor)), largest

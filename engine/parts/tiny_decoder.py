"""A decoder of some ten million weights in place of the VAE's (TAEHV, by Ollin Boer Bohan). Loop thread.

These facts are from the published sources (github.com/madebyollin/taehv, MIT; `taew2_1` for 8x8x4 latents of 16
channels, `taew2_2` for 16x16x4 latents of 48): the order of the layers below, and so the names ``decoder.N...`` of the
weights; it takes latents as the transformer makes them; its first three frames are dropped; pixels are in [0, 1]. Here
the weights come from a safetensors file; an encoder's weights in it are ignored. We checked the layout against the
published source. We had no published file, so the shapes are checked at load, but the pictures were never checked.

A latent frame passes all layers at once. Between two latent frames each memory block keeps one feature map, and nothing
else is kept. So streaming is exact: the same convolutions over the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn import functional

from engine.api import ModelError

WIDTHS = (256, 128, 64, 64)  # of the published decoders
_NUM_TRIMMED = 3  # two doublings in time make four frames of the first latent frame, and only the last one is right

# The memory blocks' feature maps ``[1, C, H, W]``, by index of the layer.
_Memory = dict[int, torch.Tensor]


class TinyDecoder:
    """Decodes ``[1, C, T, h, w]`` with a tiny module."""

    def __init__(self, module: TinyDecoderModule) -> None:
        self._module = module

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, *, closes: bool = True) -> Iterator[torch.Tensor]:
        """Consecutive frames ``[N, 3, H, W]`` in [0, 1] of ``[1, C, T, h, w]``: one first, then four a latent frame."""
        memory: _Memory = {}
        for latent_index in range(latents.shape[2]):
            frames = self._module(latents[:, :, latent_index], memory)
            yield frames[_NUM_TRIMMED if latent_index == 0 else 0 :]

    @torch.inference_mode()
    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        """The last frame ``[1, 3, H, W]`` of one latent frame, with the memory of the one before it, for a preview."""
        memory: _Memory = {}
        first = max(0, latent_index - 1)
        frames = torch.empty(0)
        for index in range(first, latent_index + 1):
            frames = self._module(latents[:, :, index], memory)
        return frames[-1:]


class TinyDecoderModule(nn.Module):
    """The published stack. `patch_size` is 2 if the latents are 16 times smaller than the picture, else 1."""

    def __init__(self, latent_channels: int, patch_size: int, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        self.patch_size = patch_size
        layers: list[nn.Module] = [_SoftClamp(), _convolution(latent_channels, widths[0]), nn.ReLU()]
        for width, next_width, growth in zip(widths, widths[1:], (1, 2, 2), strict=False):
            layers += [_MemoryBlock(width) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), _Grow(width, growth), _convolution(width, next_width, bias=False)]
        layers += [nn.ReLU(), _convolution(widths[-1], 3 * patch_size**2)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, latents: torch.Tensor, memory: _Memory) -> torch.Tensor:
        """Four frames ``[4, 3, H, W]`` in [0, 1] of the next latent frame ``[1, C, h, w]``; `memory` is updated."""
        features = latents.to(next(self.parameters()).dtype)
        for index, layer in enumerate(self.decoder):
            if isinstance(layer, _MemoryBlock):
                past = memory.get(index)
                memory[index] = features[-1:]
                before = torch.zeros_like(features[:1]) if past is None else past
                features = layer(features, torch.cat([before, features[:-1]]))
            else:
                features = layer(features)
        if self.patch_size > 1:
            features = functional.pixel_shuffle(features, self.patch_size)
        return features.clamp(0, 1)


class _SoftClamp(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(features / 3) * 3


class _MemoryBlock(nn.Module):
    """A residual block that sees each frame beside the one before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(_convolution(2 * width, width), nn.ReLU()),
            *(_convolution(width, width), nn.ReLU()),
            _convolution(width, width),
        )

    def forward(self, features: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = self.conv(torch.cat([features, before], dim=1))
        return functional.relu(residual + features)


class _Grow(nn.Module):
    """``[N, C, H, W]`` to ``[N * growth, C, H, W]``: consecutive frames out of more channels."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * growth, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        _, width, height, breadth = features.shape
        grown: torch.Tensor = self.conv(features)
        return grown.reshape(-1, width, height, breadth)


def _convolution(num_in: int, num_out: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 3, padding=1, bias=bias)


def load_tiny_decoder(
    file: Path,
    *,
    latent_channels: int,
    spatial_factor: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TinyDecoder:
    """Reads a TAEHV safetensors file for latents of this many channels, `spatial_factor` times smaller (8 or 16).

    Raises `ModelError` that names the first weight that is missing or of another shape.
    """
    weights = _read(file)
    first = weights.get("decoder.1.weight")
    if first is not None and first.shape[1] != latent_channels:
        raise ModelError(
            f"{file} decodes latents of {first.shape[1]} channels, this model's have {latent_channels}"
            " (taew2_2 is for 48 channels, taew2_1 for 16): give the other file"
        )
    module = TinyDecoderModule(latent_channels, spatial_factor // 8, _widths(weights))
    weights |= _newest_frames(module, weights)
    _check(file, module.state_dict(), weights)
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    module = module.to(device, dtype).eval().requires_grad_(False)
    if torch.device(device).type == "cuda":
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TinyDecoder(module)


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix != ".safetensors":
        raise ModelError(
            f"{file} is not a safetensors file, and a pickle could run code of its author's choice; convert it once:"
            f' python -c "import torch, safetensors.torch as s; s.save_file(torch.load({file.name!r},'
            f' weights_only=True), {file.stem + ".safetensors"!r})"'
        )
    try:
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith("decoder.")]  # noqa: SIM118 (no mapping)
            return {name: weights.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the tiny decoder {file} cannot be read: {error}") from error


def _widths(weights: dict[str, torch.Tensor]) -> tuple[int, int, int, int]:
    """The widths in the file if it has them, so that smaller decoders of this layout work too; else the published."""
    found = [weights.get(f"decoder.{index}.weight") for index in (1, 8, 14, 20)]
    first, second, third, fourth = (
        WIDTHS[index] if weight is None else int(weight.shape[0]) for index, weight in enumerate(found)
    )
    return first, second, third, fourth


def _newest_frames(module: TinyDecoderModule, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published file may have weights for more frames than its layer has. Like the source, we keep the last ones."""
    newest = {}
    for name, weight in module.state_dict().items():
        index = name.split(".")[1]
        found = weights.get(name)
        if isinstance(module.decoder[int(index)], _Grow) and found is not None and len(found) > len(weight):
            newest[name] = found[-len(weight) :]
    return newest


def _check(file: Path, expected: dict[str, Any], found: dict[str, torch.Tensor]) -> None:
    for name, weight in expected.items():
        if name not in found:
            raise ModelError(f"the tiny decoder {file} lacks {name}; expected the TAEHV layout (taew2_1, taew2_2)")
        if found[name].shape != weight.shape:
            raise ModelError(
                f"the tiny decoder {file}: {name} is {list(found[name].shape)}, expected {list(weight.shape)};"
                " wider or deeper forms of TAEHV are not known here"
            )
    unknown = sorted(found.keys() - expected.keys())
    if unknown:
        raise ModelError(f"the tiny decoder {file} has {unknown[0]}, which the TAEHV layout does not")

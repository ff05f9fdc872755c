"""The last steps of a rendered picture: its palette, and a slow drift of the camera."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.world.drawing import TAU

_LUMA = (0.299, 0.587, 0.114)


def apply_palette(pixels: Tensor, palette: str) -> Tensor:
    """`pixels` [T, 3, H, W] in [0, 1] in another mood; colours and times of day stay recognisable."""
    if palette == "vivid":
        return pixels
    if palette == "pastel":
        # Dark tones rise less than they would by plain fading, so that night stays night.
        return _toned(pixels, saturation=0.96, gain=(0.70, 0.68, 0.68), lift=(0.28, 0.27, 0.305))
    if palette == "vintage":
        return _toned(pixels, saturation=0.78, gain=(0.89, 0.82, 0.70), lift=(0.105, 0.08, 0.07))
    raise ValueError(f"unknown palette {palette!r}")


def _toned(
    pixels: Tensor, *, saturation: float, gain: tuple[float, float, float], lift: tuple[float, float, float]
) -> Tensor:
    grey = (pixels * pixels.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    toned = torch.lerp(grey, pixels, saturation)
    return (
        toned.mul_(pixels.new_tensor(gain).view(1, 3, 1, 1)).add_(pixels.new_tensor(lift).view(1, 3, 1, 1)).clamp_(0, 1)
    )


def drifted(pixels: Tensor, phase: Tensor) -> Tensor:
    """A camera that sways left and right once, a little closer: `pixels` [T, 3, H, W], `phase` [T, 1, 1]."""
    turn = TAU * phase.view(-1)
    scale = 1 / (1.11 - 0.01 * torch.cos(turn))
    theta = pixels.new_zeros(pixels.shape[0], 2, 3)
    theta[:, 0, 0] = scale
    theta[:, 1, 1] = scale
    theta[:, 0, 2] = (1 - scale) * torch.sin(turn)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)

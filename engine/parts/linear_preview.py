"""The cheapest preview: turns latents into colours by one product of two small matrices. Loop thread.

The factors belong to a VAE. `fit` finds them for any VAE, by least squares between pictures and their latents. It makes
the pictures itself (no data set, no download). The factors are stored as ``preview.json`` beside the model
(`engine.tools.fit_preview`) or fitted at load.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch.nn import functional

from engine.api import ModelError
from engine.parts.vae_decoder import normalised

FILE_NAME = "preview.json"

# Pictures ``[N, 3, H, W]`` in [0, 1] to latents ``[N, C, h, w]`` as the transformer makes them.
Encode = Callable[[torch.Tensor], torch.Tensor]

# Keeps the factors finite if two channels carry the same signal. The latents' own scatter is about 1.
_RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class LinearFactors:
    """``rgb = latents @ matrix + bias``; `matrix` is ``[C, 3]``. `psnr_db` is of pictures outside of the fit."""

    matrix: torch.Tensor
    bias: torch.Tensor
    psnr_db: float

    @torch.inference_mode()
    def colours(self, latents: torch.Tensor) -> torch.Tensor:
        """``[N, C, h, w]`` to ``[N, 3, h, w]``, not clamped."""
        matrix, bias = self.matrix.to(latents.device), self.bias.to(latents.device)
        return torch.einsum("nchw,cr->nrhw", latents.float(), matrix) + bias.view(1, 3, 1, 1)


def fit(encode: Encode, *, spatial_factor: int, num_pictures: int = 24, side: int = 128) -> LinearFactors:
    """Least squares over every latent of `num_pictures` pictures against the mean colour of its patch."""
    pictures = dead_leaves(num_pictures + num_pictures // 4, side)
    fitted, held_out = pictures[:num_pictures], pictures[num_pictures:]
    latents, colours = _pairs(encode, fitted, spatial_factor)
    design = torch.cat([latents, torch.ones(len(latents), 1, dtype=latents.dtype)], dim=1)
    penalty = _RIDGE * len(design) * torch.eye(design.shape[1], dtype=design.dtype)
    penalty[-1, -1] = 0
    solution = torch.linalg.solve(design.T @ design + penalty, design.T @ colours)
    matrix, bias = solution[:-1], solution[-1]
    latents, colours = _pairs(encode, held_out, spatial_factor)
    error = ((latents @ matrix + bias).clamp(0, 1) - colours).square().mean().item()
    return LinearFactors(matrix.float(), bias.float(), round(-10 * math.log10(max(error, 1e-10)), 2))


def vae_encode(vae: AutoencoderKLWan) -> Encode:
    """Encodes single pictures with a Wan VAE, one at a time: its cache would make one clip of a batch."""

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            frames = (pictures * 2 - 1).unsqueeze(2).to(vae.device, vae.dtype)
            latents = torch.cat([vae.encode(frame[None]).latent_dist.mode() for frame in frames])
            return normalised(vae, latents.float())[:, :, 0]

    return encode


def dead_leaves(num_pictures: int, side: int, seed: int = 0) -> torch.Tensor:
    """``[N, 3, side, side]`` in [0, 1]: discs of all sizes on top of one another, with shade and grain.

    Occluding discs whose sizes follow a power law share the statistics of natural pictures (Lee, Mumford and Huang,
    2001): edges, flat parts, and the same look at every scale.
    """
    random = torch.Generator().manual_seed(seed)
    axis = torch.linspace(0, 1, side)
    x, y = axis.view(1, 1, side), axis.view(1, side, 1)
    pictures = torch.rand(num_pictures, 3, 1, 1, generator=random).expand(-1, -1, side, side).clone()
    for _ in range(80):
        u = torch.rand(num_pictures, 8, 1, 1, generator=random)
        radius = 0.04 / (1 - 0.99 * u[:, 0]).sqrt()
        inside = (x - u[:, 1]).square() + (y - u[:, 2]).square() < radius.square()
        shade = 1 + 0.6 * ((x - u[:, 1]) * (u[:, 6] - 0.5) + (y - u[:, 2]) * (u[:, 7] - 0.5)) / radius
        leaf = u[:, 3:6] * shade.unsqueeze(1)
        pictures = torch.where(inside.unsqueeze(1), leaf, pictures)
    grain = torch.randn(num_pictures, 1, side, side, generator=random)
    return (pictures + 0.02 * grain).clamp(0, 1)


def _pairs(encode: Encode, pictures: torch.Tensor, spatial_factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents ``[M, C]`` and the colours ``[M, 3]`` of their patches, float64 on the CPU."""
    latents = encode(pictures).movedim(1, -1).flatten(0, 2).double().cpu()
    colours = functional.avg_pool2d(pictures, spatial_factor).movedim(1, -1).flatten(0, 2).double()
    return latents, colours


def read(file: Path, *, latent_channels: int) -> LinearFactors:
    """Raises `ModelError` if the file is broken or for another VAE."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        matrix, bias = torch.tensor(found["matrix"]), torch.tensor(found["bias"])
        psnr_db = float(found["psnr_db"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the preview factors {file} cannot be read: {error}; make them with engine.tools.fit_preview"
        ) from None
    if matrix.shape != (latent_channels, 3) or bias.shape != (3,):
        raise ModelError(
            f"the preview factors {file} are for {matrix.shape[0]} latent channels, this model's VAE has"
            f" {latent_channels}; fit them again with engine.tools.fit_preview"
        )
    return LinearFactors(matrix, bias, psnr_db)


def write(file: Path, factors: LinearFactors) -> None:
    content = {
        "matrix": [[round(value, 5) for value in row] for row in factors.matrix.tolist()],
        "bias": [round(value, 5) for value in factors.bias.tolist()],
        "psnr_db": factors.psnr_db,
    }
    file.write_text(json.dumps(content) + "\n", encoding="utf-8")

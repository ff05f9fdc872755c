"""Latents to frames, latent frame by latent frame, so that the worker stays in charge between any two. Loop thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from engine.embedded.modules import Decoder as EmbeddedModule


class Decoder(Protocol):
    def decode(self, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        """Consecutive frames ``[N, 3, H, W]`` in [0, 1] of ``[1, C, T, h, w]``: one first, then four a latent frame."""
        ...

    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        """The frames ``[N, 3, H, W]`` of one latent frame alone, for a preview."""
        ...


class EmbeddedDecoder:
    """The embedded model's decoder sees one latent frame and the one before it; nothing else is kept."""

    def __init__(self, module: EmbeddedModule) -> None:
        self._module = module

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        for latent_index in range(latents.shape[2]):
            yield self.decode_around(latents, latent_index)

    @torch.inference_mode()
    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        previous = latents[:, :, latent_index - 1] if latent_index else None
        return self._module.decode_latent_frame(latents[:, :, latent_index], previous)[0]

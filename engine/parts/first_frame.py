"""Encodes the frame on air into the latent frame that a clip starts from. Engine process, loop thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch.nn import functional

from engine.api import Frames
from engine.embedded.modules import Encoder as EmbeddedEncoder
from engine.parts.pixels import to_rgb
from engine.parts.vae_decoder import normalised


class FirstFrames(Protocol):
    def encode(self, frame: Frames, *, width: int, height: int) -> torch.Tensor:
        """``[1, C, 1, h, w]`` float32 of one frame of any size, normalised as the transformer expects latents."""
        ...


class FirstFrameEncoder:
    """Encodes with `vae`. `in_use` brings it to its device, if it is not there already."""

    def __init__(
        self, vae: AutoencoderKLWan, *, in_use: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self._vae = vae
        self._in_use = in_use

    @torch.inference_mode()
    def encode(self, frame: Frames, *, width: int, height: int) -> torch.Tensor:
        rgb = _sized(frame, width=width, height=height)
        with self._in_use():
            pixels = (rgb * 2 - 1).unsqueeze(2).to(self._vae.device, self._vae.dtype)
            latents: torch.Tensor = self._vae.encode(pixels).latent_dist.mode()
        return normalised(self._vae, latents.float())


class EmbeddedFirstFrameEncoder:
    """The embedded model's encoder: a first latent frame is one frame, four times."""

    def __init__(self, module: EmbeddedEncoder) -> None:
        self._module = module

    @torch.inference_mode()
    def encode(self, frame: Frames, *, width: int, height: int) -> torch.Tensor:
        rgb = _sized(frame, width=width, height=height).to(self._module.standardise.running_mean)
        return self._module.encode(rgb[:, None])


def _sized(frame: Frames, *, width: int, height: int) -> torch.Tensor:
    """``[1, 3, height, width]`` in [0, 1]."""
    rgb = to_rgb(frame)[:1]
    if rgb.shape[2:] != (height, width):
        rgb = functional.interpolate(rgb, (height, width), mode="bilinear", antialias=True)
    return rgb

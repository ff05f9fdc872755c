"""Runs the Wan VAE's decoder, one latent frame at a time. Loop thread; the feature cache belongs to one decode.

The arithmetic is `AutoencoderKLWan._decode`'s (diffusers) after `WanPipeline`'s scaling of the latents, bitwise, for
both published forms: 2.1 (8x8x4, 16 channels) and 2.2 (16x16x4, 48 channels, residual, patches of 2). The module's own
cache (`_feat_map`) is never used, so that two decodes may be interleaved. A pruned VAE is the same class with a
smaller `decoder_base_dim`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d, unpatchify

# What a causal convolution of the decoder remembers between two latent frames; the mark "Rep" after the first one.
_FeatureCache = list[torch.Tensor | str | None]


class VaeDecoder:
    """Decodes with `vae`. `in_use` brings it to its device for a decode, if it is not there already."""

    def __init__(
        self, vae: AutoencoderKLWan, *, in_use: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self._vae = vae
        self._in_use = in_use
        self._num_convolutions = sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, *, closes: bool = True) -> Iterator[torch.Tensor]:
        """Consecutive frames ``[N, 3, H, W]`` in [0, 1] of ``[1, C, T, h, w]``: one first, then four a latent frame."""
        with self._in_use():
            features = self._features(latents)
            cache: _FeatureCache = [None] * self._num_convolutions
            for latent_index in range(latents.shape[2]):
                yield self._decode_next(features[:, :, latent_index : latent_index + 1], cache, latent_index == 0)

    @torch.inference_mode()
    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        """One latent frame decoded as if the clip began with it: one frame ``[1, 3, H, W]``, for a preview."""
        with self._in_use():
            features = self._features(latents[:, :, latent_index : latent_index + 1])
            return self._decode_next(features, [None] * self._num_convolutions, True)

    def _features(self, latents: torch.Tensor) -> torch.Tensor:
        """The decoder's input, same shape, in the VAE's dtype."""
        scaled = denormalised(self._vae, latents.to(self._vae.dtype))
        features: torch.Tensor = self._vae.post_quant_conv(scaled)
        return features

    def _decode_next(self, features: torch.Tensor, cache: _FeatureCache, is_first: bool) -> torch.Tensor:
        decoded = self._vae.decoder(features, feat_cache=cache, feat_idx=[0], first_chunk=is_first)
        patch_size = self._vae.config["patch_size"]
        if patch_size is not None:
            decoded = unpatchify(decoded, patch_size=patch_size)  # type: ignore[no-untyped-call]
        rgb: torch.Tensor = (torch.clamp(decoded, min=-1.0, max=1.0) * 0.5 + 0.5).clamp(0, 1)
        return rgb[0].transpose(0, 1)


def denormalised(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The VAE's latents from the transformer's latents (mean 0, deviation 1): ``[1, C, T, h, w]``."""
    mean, deviation = _statistics(vae, latents)
    # Divided by the reciprocal, as WanPipeline does it: the product differs in the last bit.
    return latents / (1.0 / deviation) + mean


def normalised(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The opposite way, as `WanImageToVideoPipeline` does it."""
    mean, deviation = _statistics(vae, latents)
    return (latents - mean) * (1.0 / deviation)


def _statistics(vae: AutoencoderKLWan, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    def column(name: str) -> torch.Tensor:
        return torch.tensor(vae.config[name]).view(1, -1, 1, 1, 1).to(latents.device, latents.dtype)

    return column("latents_mean"), column("latents_std")

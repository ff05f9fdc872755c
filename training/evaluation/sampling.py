"""Loads the embedded model's folder and samples clips from it with the plain Euler loop of flow matching.

This is the reference that the engine's batched step loop must agree with; the evaluation and the tests use it.
diffusers is imported only when a model is loaded: it takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import LATENT_CHANNELS, PIXELS_PER_LATENT, Decoder, TextEncoder

TokenIds = tuple[int, ...]
# diffusers' WanTransformer3DModel, unmodified; its decorators hide its types from mypy.
Transformer = Any


@dataclass(frozen=True)
class SamplingSettings:
    """How a clip is sampled. The model card recommends two settings, called fast and fine."""

    num_steps: int
    guidance_scale: float
    shift: float


@dataclass(frozen=True)
class EmbeddedModel:
    transformer: Transformer
    text_encoder: TextEncoder
    decoder: Decoder
    settings: dict[str, SamplingSettings]

    @classmethod
    def from_pretrained(
        cls, folder: str | Path = EMBEDDED_FOLDER, *, dtype: torch.dtype = torch.float32
    ) -> EmbeddedModel:
        """`dtype`: of transformer and decoder."""
        from diffusers import WanTransformer3DModel  # noqa: PLC0415

        folder = Path(folder)
        index = json.loads((folder / "model_index.json").read_text())
        wan: Any = WanTransformer3DModel
        transformer = wan.from_pretrained(folder / "transformer", torch_dtype=dtype)
        return cls(
            transformer=transformer.eval(),
            text_encoder=TextEncoder.from_pretrained(folder / "text_encoder"),
            decoder=Decoder.from_pretrained(folder / "decoder").to(dtype),
            settings={name: SamplingSettings(**values) for name, values in index["settings"].items()},
        )


def initial_noise(seed: int, *, num_latent_frames: int = 7, height: int = 256, width: int = 416) -> Tensor:
    """[1, C, T, H, W] from the seed alone, so that a clip does not depend on the rest of its batch."""
    shape = (1, LATENT_CHANNELS, num_latent_frames, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def sample_latents(
    transformer: Transformer,
    text_encoder: TextEncoder,
    texts: Sequence[TokenIds],
    *,
    noise: Tensor,
    settings: SamplingSettings,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Latents [B, C, T, H, W] of `texts` from `noise` of that shape. `on_step` gets each step's index and its x0.

    Velocity v = noise - x0 and x_t = (1 - sigma) x0 + sigma noise, as Wan; the transformer is told sigma * 1000.
    """
    scheduler = _noise_schedule(settings)
    conditional = text_encoder.encode(list(texts))
    unconditional = text_encoder.encode([()]).expand_as(conditional) if settings.guidance_scale != 1 else None
    latents = noise
    for index, timestep in enumerate(scheduler.timesteps):
        velocity = _velocity(
            transformer,
            latents,
            timestep,
            conditional=conditional,
            unconditional=unconditional,
            guidance_scale=settings.guidance_scale,
        )
        if on_step is not None:
            on_step(index, latents - scheduler.sigmas[index] * velocity)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents


def _noise_schedule(settings: SamplingSettings) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler  # noqa: PLC0415

    scheduler: Any = FlowMatchEulerDiscreteScheduler(  # type: ignore[no-untyped-call]
        shift=settings.shift
    )
    # Explicit sigmas: `set_timesteps(n)` alone spaces them between bounds that are already shifted.
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / settings.num_steps, settings.num_steps).tolist())
    return scheduler


def _velocity(
    transformer: Transformer,
    latents: Tensor,
    timestep: Tensor,
    *,
    conditional: Tensor,
    unconditional: Tensor | None,
    guidance_scale: float,
) -> Tensor:
    """One denoising step's velocity, in float32; guidance runs both halves as one batch."""
    latents, conditional = latents.to(transformer.dtype), conditional.to(transformer.dtype)
    if unconditional is None:
        velocity: Tensor = transformer(latents, timestep.expand(len(latents)), conditional, return_dict=False)[0]
        return velocity.float()
    both = transformer(
        torch.cat([latents, latents]),
        timestep.expand(2 * len(latents)),
        torch.cat([conditional, unconditional.to(conditional)]),
        return_dict=False,
    )[0]
    with_text, without_text = both.float().chunk(2)
    guided: Tensor = without_text + guidance_scale * (with_text - without_text)
    return guided

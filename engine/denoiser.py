"""One denoising step of a batch of generations: transformer, guidance, update; leaves x0 behind. Loop thread.

The loop around it belongs to the worker, so that previews, cancels and other generations fit between any two steps.
The arithmetic is `WanPipeline.__call__`'s (diffusers), for one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from engine.generation import Generation


@dataclass(frozen=True, slots=True)
class _Row:
    """One batch row of a transformer forward: a generation's conditional or unconditional half."""

    latents: torch.Tensor
    timestep: torch.Tensor
    embeds: torch.Tensor


class Denoiser:
    """Runs the transformer. `rows_per_forward` bounds a forward's batch; see `ModelProfile`."""

    def __init__(self, transformer: nn.Module, *, rows_per_forward: int) -> None:
        self._transformer = transformer
        self._rows_per_forward = rows_per_forward
        self._dtype = next(transformer.parameters()).dtype

    @torch.inference_mode()
    def step(self, generations: Sequence[Generation]) -> None:
        """Advances each by one step. All must be started, not denoised, and of one latent shape."""
        rows = [row for generation in generations for row in _rows(generation)]
        velocities = iter(self._forward(rows))
        for generation in generations:
            conditional = guided = next(velocities)
            if generation.negative_embeds is not None:
                unconditional = next(velocities)
                guided = unconditional + generation.guidance_scale * (conditional - unconditional)
            _advance(generation, conditional, guided)

    def _forward(self, rows: Sequence[_Row]) -> list[torch.Tensor]:
        """Velocities, float32 ``[1, C, T, H, W]`` each, in the order of `rows`."""
        velocities: list[torch.Tensor] = []
        for first in range(0, len(rows), self._rows_per_forward):
            batch = rows[first : first + self._rows_per_forward]
            velocity = self._transformer(
                hidden_states=torch.cat([row.latents for row in batch]).to(self._dtype),
                timestep=torch.stack([row.timestep for row in batch]),
                encoder_hidden_states=torch.cat([row.embeds for row in batch]).to(self._dtype),
                return_dict=False,
            )[0]
            velocities.extend(velocity.float().split(1))
        return velocities


def _rows(generation: Generation) -> list[_Row]:
    assert generation.solver is not None and generation.latents is not None and generation.prompt_embeds is not None
    timestep = generation.solver.timestep(generation.step_index)
    rows = [_Row(generation.latents, timestep, generation.prompt_embeds)]
    if generation.negative_embeds is not None:
        rows.append(_Row(generation.latents, timestep, generation.negative_embeds))
    return rows


def _advance(generation: Generation, conditional: torch.Tensor, guided: torch.Tensor) -> None:
    assert generation.solver is not None and generation.latents is not None
    step_index = generation.step_index
    # Flow matching: x_t = (1 - sigma) x0 + sigma noise and v = noise - x0, hence x0 = x_t - sigma v. For previews the
    # conditional velocity: guidance at high sigma points far beyond the clip (twice its standard deviation, measured),
    # which a decoder turns into glare.
    generation.x0 = generation.latents - generation.solver.sigma(step_index) * conditional
    generation.latents = generation.solver.step(guided, step_index, generation.latents, generation.generator)
    generation.step_index += 1

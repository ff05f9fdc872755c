"""Runs one denoising step of a batch of generations: transformer, guidance, update. Also sets x0. Loop thread.

The worker owns the loop around it, so that previews, cancels and other generations fit between any two steps. The
arithmetic of a step is `WanPipeline.__call__`'s (diffusers). For a clip that starts from a frame, it is
`WanImageToVideoPipeline.__call__`'s with expanded timesteps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.parts.generation import Generation


@dataclass(frozen=True, slots=True)
class _Row:
    """One batch row of a transformer forward: a generation's conditional or unconditional half.

    `latents`: ``[1, C, T, H, W]``; `timestep`: a scalar, or one of each token, ``[T * H/2 * W/2]``.
    """

    latents: torch.Tensor
    timestep: torch.Tensor
    embeds: torch.Tensor


class Denoiser:
    """Runs the transformer, or the one of two experts that fits the noise level.

    The experts are modules, or objects that are called like them (`engine.loading.compiling`). `rows_per_forward`
    bounds a forward's batch; see `ModelProfile`. Before a step, it calls `prepare` with the expert's index and the name
    of its LoRA, or None.
    """

    def __init__(
        self,
        *experts: Any,
        rows_per_forward: int,
        prepare: Callable[[int, str | None], None] | None = None,
    ) -> None:
        self.experts = experts
        self._rows_per_forward = rows_per_forward
        self._prepare = prepare
        # The dtype that diffusers reports, not the first parameter's: Wan keeps some modules in float32.
        self._dtype: torch.dtype = experts[0].dtype

    @torch.inference_mode()
    def step(self, generations: Sequence[Generation]) -> None:
        """Advances each by one step. All must be started, not denoised, and of one `shape_key`, else ValueError."""
        first = generations[0]
        if any(generation.shape_key != first.shape_key for generation in generations[1:]):
            keys = {generation.shape_key for generation in generations}
            raise ValueError(f"generations of different shapes cannot share a step: {keys}")
        if self._prepare is not None:
            self._prepare(first.expert_index, first.command.lora)
        rows = [row for generation in generations for row in _rows(generation)]
        velocities = iter(self._forward(self.experts[first.expert_index], rows))
        for generation in generations:
            conditional = guided = _rolled(next(velocities), _roll(generation))
            if generation.negative_embeds is not None:
                unconditional = _rolled(next(velocities), _roll(generation))
                guided = unconditional + generation.guidance_scale_now * (conditional - unconditional)
            _advance(generation, conditional, guided)

    def _forward(self, transformer: Any, rows: Sequence[_Row]) -> list[torch.Tensor]:
        """Velocities, float32 ``[1, C, T, H, W]`` each, in the order of `rows`."""
        velocities: list[torch.Tensor] = []
        for first in range(0, len(rows), self._rows_per_forward):
            batch = rows[first : first + self._rows_per_forward]
            velocity = transformer(
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
    latents = generation.latents
    if generation.condition is not None:
        latents = _with_first_frame(latents, generation.condition)
        timestep = _expanded(timestep, latents)
    latents = _rolled(latents, -_roll(generation))
    rows = [_Row(latents, timestep, generation.prompt_embeds)]
    if generation.negative_embeds is not None:
        rows.append(_Row(latents, timestep, generation.negative_embeds))
    return rows


def _roll(generation: Generation) -> int:
    """The number of latent frames by which this step rotates the clip: the transformer sees the seam in mid-clip.

    After Mobius (Bi et al. 2025): if every latent frame has been first and last once, the clip has no end of its own.
    """
    return generation.step_index * generation.loop_shift


def _rolled(latents: torch.Tensor, num_latent_frames: int) -> torch.Tensor:
    return latents.roll(num_latent_frames, dims=2) if num_latent_frames else latents


def _with_first_frame(latents: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    return torch.cat([condition, latents[:, :, 1:]], dim=2)


def _expanded(timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """``[T * H/2 * W/2]``, a timestep for each token: 0 for the clean first latent frame. Patches are 2x2."""
    _, _, num_latent_frames, height, width = latents.shape
    tokens = timestep.float().repeat(num_latent_frames, height // 2, width // 2)
    tokens[0] = 0.0
    return tokens.flatten()


def _advance(generation: Generation, conditional: torch.Tensor, guided: torch.Tensor) -> None:
    assert generation.solver is not None and generation.latents is not None
    step_index = generation.step_index
    # Flow matching: x_t = (1 - sigma) x0 + sigma noise and v = noise - x0, hence x0 = x_t - sigma v. Previews use the
    # conditional velocity: guidance at high sigma points far beyond the clip (twice its standard deviation, measured),
    # which a decoder turns into glare.
    generation.x0 = generation.latents - generation.solver.sigma(step_index) * conditional
    generation.latents = generation.solver.step(guided, step_index, generation.latents, generation.generator)
    generation.step_index += 1
    if generation.condition is not None:
        generation.x0 = _with_first_frame(generation.x0, generation.condition)
        if generation.is_denoised:
            generation.latents = _with_first_frame(generation.latents, generation.condition)

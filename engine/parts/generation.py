"""The whole state of one generation; it shares nothing. Engine process, loop thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import torch

from engine.api import Generate, PromptWords, Timings
from engine.arbiter.cost import Piece
from engine.parts.noise_schedule import Solver


@dataclass(eq=False, slots=True)
class Generation:
    """From queued to finished or cancelled. Tensors are on the model's device.

    `latents`: ``[1, C, T, H, W]`` float32, noise at first; `x0`: the clean latents that the last step
    implied, without guidance, same shape; `prompt_embeds`, `negative_embeds`: ``[1, L, D]``, the latter None when
    guidance is off.
    """

    command: Generate
    queued_at: float
    started_at: float = 0.0
    latents: torch.Tensor | None = None
    x0: torch.Tensor | None = None
    prompt_embeds: torch.Tensor | None = None
    negative_embeds: torch.Tensor | None = None
    guidance_scale: float = 1.0
    # Below this timestep the second expert of a model with two works, with a guidance scale of its own.
    boundary_timestep: float | None = None
    low_noise_guidance_scale: float = 1.0
    # The clean latent frame that the clip starts from, ``[1, C, 1, H, W]``; None: it starts from noise alone.
    condition: torch.Tensor | None = None
    loop_shift: int = 0  # latent frames by which each step rotates the clip further; see the denoiser
    rung_index: int = 0  # of the profile's ladder; decided before the generation begins
    solver: Solver | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    step_index: int = 0
    words: PromptWords = field(default_factory=PromptWords)  # what was understood; known once begun
    # The decoder's pictures, latent frame by latent frame, ``[N, 3, H, W]``; None before and after the decode.
    stream: Iterator[torch.Tensor] | None = None
    num_decoded: int = 0  # frames
    spent_s: defaultdict[Piece, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def generation_id(self) -> str:
        return self.command.generation_id

    @property
    def shape_key(self) -> tuple[Hashable, ...]:
        """Generations with equal keys may share a forward at their next steps. Only once the generation has begun.

        Guidance is not part of it: an unguided generation has one row, a guided one has two.
        """
        assert self.latents is not None and self.prompt_embeds is not None
        return (
            tuple(self.latents.shape),
            self.latents.dtype,
            tuple(self.prompt_embeds.shape),
            self.command.lora,
            self.condition is not None,
            self.expert_index,
        )

    @property
    def expert_index(self) -> int:
        """Which transformer makes the next step: 0, or 1 below the boundary of a model with two experts."""
        if self.solver is None or self.boundary_timestep is None or self.is_denoised:
            return 0
        return int(self.solver.timestep_number(self.step_index) < self.boundary_timestep)

    @property
    def guidance_scale_now(self) -> float:
        return self.low_noise_guidance_scale if self.expert_index else self.guidance_scale

    @property
    def is_started(self) -> bool:
        return self.solver is not None

    @property
    def num_steps(self) -> int:
        return self.solver.num_steps if self.solver is not None else 0

    @property
    def is_denoised(self) -> bool:
        return self.solver is not None and self.step_index >= self.solver.num_steps

    def timings(self) -> Timings:
        return Timings(
            queued_s=self.started_at - self.queued_at,
            text_s=self.spent_s[Piece.BEGIN],
            denoised_s=self.spent_s[Piece.STEP],
            previewed_s=self.spent_s[Piece.PREVIEW],
            decoded_s=self.spent_s[Piece.DECODE],
        )

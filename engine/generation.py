"""Everything that one generation remembers, and nothing shared. Engine process, loop thread."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from engine.api import Generate, Timings
from engine.noise_schedule import Solver


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
    rung_index: int = 0  # of the profile's ladder; decided before the generation begins
    solver: Solver | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    step_index: int = 0
    text_s: float = 0.0
    denoised_s: float = 0.0
    previewed_s: float = 0.0
    decoded_s: float = 0.0

    @property
    def generation_id(self) -> str:
        return self.command.generation_id

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
            text_s=self.text_s,
            denoised_s=self.denoised_s,
            previewed_s=self.previewed_s,
            decoded_s=self.decoded_s,
        )

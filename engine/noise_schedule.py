"""Noise schedules: which sigmas a generation walks through, and the solver that walks. Engine process only.

diffusers calls the solver classes schedulers; that word stays in this file. Each generation has a solver of its own,
because multistep solvers keep history.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler


@dataclass(slots=True)
class Solver:
    """One generation's walk from noise (sigma 1) to a clip (sigma 0)."""

    _solver: Any

    @property
    def num_steps(self) -> int:
        return len(self._solver.timesteps)

    def sigma(self, step_index: int) -> float:
        return float(self._solver.sigmas[step_index])

    def timestep(self, step_index: int) -> torch.Tensor:
        """What the transformer is told: sigma * 1000, a scalar tensor."""
        timestep: torch.Tensor = self._solver.timesteps[step_index]
        return timestep

    def step(
        self, velocity: torch.Tensor, step_index: int, latents: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Latents after this step; `velocity` and `latents` are ``[1, C, T, H, W]`` float32."""
        timestep = self._solver.timesteps[step_index]
        updated: torch.Tensor = self._solver.step(velocity, timestep, latents, generator=generator, return_dict=False)[
            0
        ]
        return updated


class NoiseSchedule:
    """Makes solvers from a model folder's ``scheduler/scheduler_config.json``."""

    def __init__(self, folder: Path) -> None:
        self._config = FlowMatchEulerDiscreteScheduler.load_config(folder / "scheduler")

    def solver(self, num_steps: int, device: torch.device) -> Solver:
        """Evenly spaced sigmas from 1 to 1/num_steps, shifted by the configuration's `shift`, then 0.

        The sigmas are given explicitly: `set_timesteps(n)` alone spaces them between bounds that are shifted
        already, which shifts twice and ends above 1/n.
        """
        solver = FlowMatchEulerDiscreteScheduler.from_config(self._config)
        solver.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_steps, num_steps).tolist(), device=device)
        solver.set_begin_index(0)
        return Solver(solver)

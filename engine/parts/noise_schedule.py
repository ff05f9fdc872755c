"""Noise schedules: the sigmas that a generation walks through, and the solver that walks. Engine process only.

diffusers calls the solver classes schedulers; that word stays in this file. Each generation has a solver of its own,
because multistep solvers keep history.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_lcm import FlowMatchLCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from engine.api import ModelError

_SOLVERS = {
    solver.__name__: solver
    for solver in (FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, UniPCMultistepScheduler)
}


class Solver:
    """One generation's walk from noise (sigma 1) to a clip (sigma 0)."""

    def __init__(self, solver: Any) -> None:
        """`solver`: a diffusers scheduler with its timesteps set."""
        self._solver = solver
        # On the host: reading them from the device at each step would wait for all work queued there.
        self._sigmas: list[float] = solver.sigmas.tolist()
        self._timestep_numbers: list[float] = solver.timesteps.tolist()
        self._takes_generator = "generator" in inspect.signature(solver.step).parameters
        solver.set_begin_index(0)

    @property
    def num_steps(self) -> int:
        return len(self._timestep_numbers)

    def sigma(self, step_index: int) -> float:
        return self._sigmas[step_index]

    def timestep(self, step_index: int) -> torch.Tensor:
        """The transformer's input: sigma * 1000, a scalar tensor."""
        timestep: torch.Tensor = self._solver.timesteps[step_index]
        return timestep

    def timestep_number(self, step_index: int) -> float:
        """The same on the host."""
        return self._timestep_numbers[step_index]

    def step(
        self, velocity: torch.Tensor, step_index: int, latents: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Latents after this step; `velocity` and `latents` are ``[1, C, T, H, W]`` float32."""
        options = {"generator": generator} if self._takes_generator else {}
        timestep = self._solver.timesteps[step_index]
        updated: torch.Tensor = self._solver.step(velocity, timestep, latents, return_dict=False, **options)[0]
        return updated


class NoiseSchedule:
    """Makes solvers from a model folder's ``scheduler/scheduler_config.json``.

    A few-step model was distilled at timesteps of its own. For it, `distilled_timesteps` replace the folder's schedule,
    with the sampler of such models (predict x0, add fresh noise down to the next sigma).
    """

    def __init__(self, folder: Path, *, distilled_timesteps: tuple[float, ...] = ()) -> None:
        """Raises `ModelError` for a scheduler class that this engine does not know."""
        self._distilled_timesteps = distilled_timesteps
        self._solver_class: Any
        if distilled_timesteps:
            # shift 1: the timesteps are used as they are written.
            self._solver_class, self._config = FlowMatchLCMScheduler, {"shift": 1.0}
            return
        # Reads the file, whichever class it names.
        self._config = FlowMatchEulerDiscreteScheduler.load_config(folder / "scheduler")
        name = self._config.get("_class_name")
        if name not in _SOLVERS:
            raise ModelError(f"{folder}/scheduler is a {name}; expected one of {', '.join(sorted(_SOLVERS))}")
        self._solver_class = _SOLVERS[name]

    @property
    def num_train_timesteps(self) -> int:
        """The timestep of pure noise."""
        return int(self._config.get("num_train_timesteps", 1000))

    def solver(self, num_steps: int, device: torch.device) -> Solver:
        """A walk of `num_steps` from sigma 1 to 0, shifted as the configuration says. Raises `ModelError`.

        We pass the flow-matching sigmas explicitly, evenly spaced from 1 to 1/num_steps before the shift. For these
        classes, `set_timesteps(n)` alone spaces them between bounds that are already shifted, which shifts twice and
        ends above 1/n. UniPC does it right by itself.
        """
        solver = self._solver_class.from_config(self._config)
        if self._distilled_timesteps:
            if num_steps != len(self._distilled_timesteps):
                raise ModelError(f"this model makes {len(self._distilled_timesteps)} steps, not {num_steps}")
            solver.set_timesteps(timesteps=list(self._distilled_timesteps), device=device)
        elif self._solver_class is UniPCMultistepScheduler:
            solver.set_timesteps(num_steps, device=device)
        else:
            solver.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_steps, num_steps).tolist(), device=device)
        return Solver(solver)

"""Engine settings and model profiles: the same engine, other numbers. Frozen, read once, no model code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.api import ModelError, Quality

EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "weights"


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of a profile's fidelity ladder: how a generation is made there. The topmost is what was asked for.

    `degraded` names what is given up against the topmost, for the user: ``fewer_steps``, ``tiny_decoder``,
    ``smaller_size``. Sizes are in pixels; `decoder` is ``full``, ``pruned`` or ``tiny``.
    """

    num_steps: Mapping[Quality, int]
    width: int
    height: int
    decoder: str = "full"
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What a checkpoint needs and makes.

    `folder` is a diffusers-style folder. Sizes are in pixels; `num_frames` is 4n + 1. `num_steps` says what the two
    qualities mean for this model. `guidance_scale` 1 means off: one model call a step instead of two.
    """

    name: str
    folder: Path
    width: int
    height: int
    num_frames: int
    frame_rate: int
    num_steps: Mapping[Quality, int]
    guidance_scale: float
    # Rows (a generation's conditional and unconditional half are one row each) that go through the transformer at
    # once. 1 gives the very numbers of diffusers' pipeline; more is faster where a row does not fill the device.
    rows_per_forward: int
    closes_on_itself: bool
    # Rungs below the topmost, in the order in which they are taken when the engine is short of time. The last is the
    # floor: nothing is ever made worse than that.
    lower_rungs: tuple[Rung, ...] = ()

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """All rungs, the topmost (index 0) first."""
        return (Rung(self.num_steps, self.width, self.height), *self.lower_rungs)

    @property
    def num_latent_frames(self) -> int:
        return (self.num_frames - 1) // 4 + 1


PROFILES: Mapping[str, ModelProfile] = {
    "embedded": ModelProfile(
        name="embedded",
        folder=EMBEDDED_FOLDER,
        width=224,
        height=128,
        num_frames=25,
        frame_rate=12,
        num_steps={Quality.FAST: 6, Quality.FINE: 12},
        guidance_scale=3.0,
        rows_per_forward=2,
        closes_on_itself=True,
    ),
}


def profile(name: str) -> ModelProfile:
    """The profile called `name`. Raises `ModelError` that lists what there is."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ModelError(f"unknown model {name!r}; known: {', '.join(sorted(PROFILES))}") from None


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Which model is loaded, and how. Crosses to the engine process."""

    model: str = "embedded"  # a profile's name, a folder on disk, or a hub id
    device: str | None = None  # None: the first accelerator, else the CPU
    gpu_memory_bytes: int | None = None  # None: what the device has free
    decoder: str | None = None  # None: the profile's; or full, tiny, or a file of a tiny decoder
    lora_folder: str | None = None
    compiles: bool = True  # on a GPU, behind an engine that already serves
    allows_pickles: bool = False


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine process is run and watched. Times in seconds."""

    load: LoadSettings = LoadSettings()
    num_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    # The program's clock must win against the model on a busy machine: measured on two cores, a neighbour of equal
    # niceness takes the clock's p50 lateness from 0.9 to 5.8 ms.
    niceness: int = 10
    # No word from inside the step loop for this long: hung. A step takes some 50 ms, an idle beat comes every 0.5 s.
    heartbeat_timeout_s: float = 3.0
    startup_timeout_s: float = 120.0
    max_start_attempts: int = 4
    # How often one generation may be running when the engine is lost before it is blamed and fails.
    max_attempts: int = 3
    max_in_flight: int = 64
    # Keep a second process ready with everything imported: the imports took 4 to 6 s, which a recovery need not wait.
    keep_spare: bool = True
    frames_bytes: int = 64 * 2**20
    worker_command: tuple[str, ...] = (sys.executable, "-m", "engine.worker")

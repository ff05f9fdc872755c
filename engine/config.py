"""Engine settings and model profiles: frozen values, without model code.

The entry point reads the settings once; `LoadSettings` crosses to the engine process. A profile adapts the same engine
to another model by numbers alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from engine.api import ModelError, Quality

EMBEDDED_MODEL = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "weights"


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of a profile's fidelity ladder: its steps, size and decoder. The topmost is what the user asked for.

    `degraded` tells the user what a lower rung gives up: ``fewer_steps``, ``tiny_decoder``, ``smaller_size``. Sizes are
    in pixels; `decoder` is ``full``, ``pruned`` or ``tiny``.
    """

    num_steps: Mapping[Quality, int]
    width: int
    height: int
    decoder: str = "full"
    degraded: tuple[str, ...] = ()


class Family(StrEnum):
    """Which parts a model folder holds."""

    EMBEDDED = "embedded"  # our own small model
    WAN = "wan"  # a diffusers folder of Wan 2.1 or 2.2


# The negative prompt that the published Wan models were tuned with (diffusers' documentation of `WanPipeline`).
_WAN_NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What a checkpoint needs, and what it makes.

    `folder` is a diffusers-style folder; None until `engine.loading.checkpoint` has found it (`hub_id` says where it is
    published). Sizes are in pixels; `num_frames` is 4n + 1. `num_steps` says what the two qualities mean for this
    model. `guidance_scale` 1 means off: one model call a step instead of two.
    """

    name: str
    width: int
    height: int
    num_frames: int
    frame_rate: int
    num_steps: Mapping[Quality, int]
    guidance_scale: float
    folder: Path | None = None
    family: Family = Family.WAN
    hub_id: str = ""
    # Rows in one call of the transformer; the conditional and the unconditional half of a generation are one row each.
    # 1 gives exactly the numbers of diffusers' pipeline. More is faster if one row does not fill the device.
    rows_per_forward: int = 1
    closes_on_itself: bool = False
    # Rungs below the topmost, in the order in which the engine takes them when it is short of time. The last is the
    # floor: no clip is made worse than that.
    lower_rungs: tuple[Rung, ...] = ()
    decoder: str = "full"  # of the topmost rung
    # Two experts: the second works below this share of the noise levels, with its own guidance scale.
    boundary_ratio: float | None = None
    low_noise_guidance_scale: float | None = None
    # A few-step model makes exactly these steps, whatever the folder's scheduler says.
    distilled_timesteps: tuple[float, ...] = ()
    # Each step rotates the clip by this many latent frames, so that its end meets its beginning. 0: off. No profile
    # uses it: only real weights can show whether it helps, and nobody has tried that yet (docs/decisions/models.md).
    loop_shift: int = 0
    # What guidance leads away from.
    negative_prompt: str = ""
    can_start_from_frame: bool = False

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """All rungs, the topmost (index 0) first."""
        return (Rung(self.num_steps, self.width, self.height, self.decoder), *self.lower_rungs)

    @property
    def num_latent_frames(self) -> int:
        return (self.num_frames - 1) // 4 + 1

    def resized(self, width: int, height: int, num_frames: int) -> ModelProfile:
        """This profile at another size. Rungs keep their share of the size, in multiples of 32 pixels."""

        def share(of: int, part: int, whole: int) -> int:
            return of if part == whole else max(32, round(of * part / whole / 32) * 32)

        rungs = tuple(
            replace(rung, width=share(width, rung.width, self.width), height=share(height, rung.height, self.height))
            for rung in self.lower_rungs
        )
        return replace(self, width=width, height=height, num_frames=num_frames, lower_rungs=rungs)

    def with_decoders(self, available: Collection[str], *, topmost: str | None = None) -> ModelProfile:
        """This profile with the decoders that are available.

        A rung whose decoder is missing uses the topmost rung's. A rung that then equals the one above it is dropped.
        """
        topmost = topmost or self.decoder
        rungs = [Rung(self.num_steps, self.width, self.height, topmost)]
        for lower in self.lower_rungs:
            rung = lower
            if rung.decoder not in available or rung.decoder == topmost:
                degraded = tuple(what for what in rung.degraded if what != "tiny_decoder")
                rung = replace(rung, decoder=topmost, degraded=degraded)
            if replace(rung, degraded=()) != replace(rungs[-1], degraded=()):
                rungs.append(rung)
        return replace(self, decoder=topmost, lower_rungs=tuple(rungs[1:]))


def _steps(fast: int, fine: int) -> Mapping[Quality, int]:
    return {Quality.FAST: fast, Quality.FINE: fine}


def _wan_rungs(fewer: Mapping[Quality, int], fewest: Mapping[Quality, int]) -> tuple[Rung, ...]:
    """Lower rungs of the models with many steps: first fewer steps, then the tiny decoder, then a smaller size."""
    return (
        Rung(fewer, 832, 480, degraded=("fewer_steps",)),
        Rung(fewer, 832, 480, "tiny", ("fewer_steps", "tiny_decoder")),
        Rung(fewest, 640, 384, "tiny", ("fewer_steps", "tiny_decoder", "smaller_size")),
    )


_PROFILES = (
    ModelProfile(
        name=EMBEDDED_MODEL,
        folder=EMBEDDED_FOLDER,
        family=Family.EMBEDDED,
        width=416,
        height=256,
        num_frames=25,
        frame_rate=12,
        num_steps=_steps(4, 8),
        guidance_scale=1.0,
        can_start_from_frame=True,
        closes_on_itself=True,
        lower_rungs=(
            Rung(_steps(3, 6), 416, 256, degraded=("fewer_steps",)),
            Rung(_steps(2, 4), 416, 256, degraded=("fewer_steps",)),
        ),
    ),
    # Guidance, sampler and frame rate as published with the model; 49 frames at 832x480 are our choice for a stage.
    ModelProfile(
        name="wan2.2-ti2v-5b",
        hub_id="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        width=832,
        height=480,
        num_frames=49,
        frame_rate=24,
        num_steps=_steps(30, 50),
        guidance_scale=5.0,
        negative_prompt=_WAN_NEGATIVE_PROMPT,
        can_start_from_frame=True,
        lower_rungs=_wan_rungs(_steps(20, 30), _steps(15, 20)),
    ),
    # Distilled at exactly these three timesteps and never trained for others. So both qualities give the same clip, and
    # the rungs differ only in decoder and size.
    ModelProfile(
        name="fastwan2.2-5b",
        hub_id="FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers",
        width=832,
        height=480,
        num_frames=49,
        frame_rate=24,
        num_steps=_steps(3, 3),
        guidance_scale=1.0,
        distilled_timesteps=(1000.0, 757.0, 522.0),
        rows_per_forward=4,  # one row a generation, without guidance: alone it still gives the pipeline's numbers
        can_start_from_frame=True,
        lower_rungs=(
            Rung(_steps(3, 3), 832, 480, "tiny", ("tiny_decoder",)),
            Rung(_steps(3, 3), 640, 384, "tiny", ("tiny_decoder", "smaller_size")),
        ),
    ),
    ModelProfile(
        name="wan2.1-t2v-1.3b",
        hub_id="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        width=832,
        height=480,
        num_frames=49,
        frame_rate=16,
        num_steps=_steps(30, 50),
        guidance_scale=5.0,
        negative_prompt=_WAN_NEGATIVE_PROMPT,
        lower_rungs=_wan_rungs(_steps(20, 30), _steps(15, 20)),
    ),
    ModelProfile(
        name="wan2.2-t2v-a14b",
        hub_id="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        width=832,
        height=480,
        num_frames=49,
        frame_rate=16,
        num_steps=_steps(20, 40),
        guidance_scale=4.0,
        boundary_ratio=0.875,
        low_noise_guidance_scale=3.0,
        negative_prompt=_WAN_NEGATIVE_PROMPT,
        lower_rungs=_wan_rungs(_steps(14, 28), _steps(12, 20)),
    ),
)
PROFILES: Mapping[str, ModelProfile] = {made.name: made for made in _PROFILES}


def profile(name: str) -> ModelProfile:
    """The profile called `name`. Raises `ModelError` with a list of all profiles."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ModelError(f"unknown model {name!r}; known: {', '.join(sorted(PROFILES))}") from None


def default_model() -> str:
    """The profile for this machine when nobody chose one: the few-step 5B with a GPU, else the embedded model."""
    return "fastwan2.2-5b" if _has_cuda_device() else EMBEDDED_MODEL


def _has_cuda_device() -> bool:
    """Asks the driver, because the entry point must not import torch. Also False if torch was built without CUDA."""
    if metadata.version("torch").endswith("+cpu"):
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Which model is loaded, and how. Crosses to the engine process."""

    # A profile's name, a folder on disk, a hub id, or PROFILE=FOLDER: that folder with this profile's numbers.
    model: str = EMBEDDED_MODEL
    width: int | None = None  # None: the profile's
    height: int | None = None
    num_frames: int | None = None
    device: str | None = None  # None: the first accelerator, else the CPU
    gpu_memory_bytes: int | None = None  # None: what the device has free
    decoder: str | None = None  # None: the profile's; or full, tiny, or a file of a tiny decoder
    lora_folder: str | None = None
    compiles: bool = True  # on a GPU, in the background of an engine that already serves
    allows_pickles: bool = False


# Niceness by `--engine-priority`. Each step costs a fifth of the weight, so `normal` is close to an ordinary program's
# fair share. Beside three ordinary programs on two cores, a clip took nine times as long as alone at 10, three times at
# 5 and twice at 1 (2.5 would be fair). No frame on air was late at any of them (bench/RESULTS.md).
NICENESS: Mapping[str, int] = {"low": 10, "normal": 1}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine process is run and watched. Times in seconds."""

    load: LoadSettings = LoadSettings()
    num_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    niceness: int = NICENESS["normal"]
    # A step loop that is silent for this long of the process's own time (`engine.process.own_clock`) hangs. A step
    # takes some 50 ms; an idle loop beats every 0.5 s.
    heartbeat_timeout_s: float = 3.0
    # The same in elapsed time, if the system does not report waits for a core (not Linux, or hardened).
    blind_heartbeat_timeout_s: float = 30.0
    startup_timeout_s: float = 120.0  # silence of an engine that starts, also in its own time
    max_start_attempts: int = 4
    # A generation fails when the engine was lost this many times while that generation was running.
    max_attempts: int = 3
    max_in_flight: int = 64
    # Keep a second process ready with its imports done, so that a recovery does not wait for them (4 to 6 s).
    keep_spare: bool = True
    frames_bytes: int = 64 * 2**20
    worker_command: tuple[str, ...] = (sys.executable, "-m", "engine.process.worker")

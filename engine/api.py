"""The only door to an engine: commands in, events out, value types and errors.

The server and `sceneshift generate` use only this module. Two engines implement it: the supervised engine process
(`engine.process.supervisor`) and the synthetic engine (`engine.synthetic`). Callers cannot tell them apart. Standard
library and numpy only; values are immutable and may cross threads.

The life of a generation::

    Generate ─▶ GenerationStarted ─▶ (StepFinished ─▶ PreviewReady?)* ─▶ FramesReady+ ─▶ GenerationFinished
                      └──────────── at any point ───────────▶ GenerationCancelled | GenerationFailed

Each `Generate` gets exactly one end (finished, cancelled or failed). After `EngineLost` the generations in flight
start again from the beginning, under the same id, with another `GenerationStarted`. Frames before it are void.

Each end tells `engine_s`, the seconds that the engine worked for the generation. Generations that shared a step share
its seconds. Work that a crash or a lack of memory made void counts, except the piece during which a process died.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# --- values -------------------------------------------------------------------------------------------------------


class Quality(StrEnum):
    """The two qualities that a user picks from; a model profile says how many denoising steps each is."""

    FAST = "fast"
    FINE = "fine"


class Reuse(StrEnum):
    """Whether the engine may answer with a clip that it made before. The prompt must be identical."""

    NEVER = "never"  # always make a new clip
    SAME_SEED = "same_seed"  # someone chose the seed: only the clip with that seed
    ANY_SEED = "any_seed"  # nobody chose the seed: any clip of this prompt


class EngineState(StrEnum):
    """What the engine as a whole can do now."""

    STARTING = "starting"  # loading and warming up; commands wait
    READY = "ready"  # this process has made one real generation with these weights
    RECOVERING = "recovering"  # the process was lost and is being replaced; commands wait
    FAILED = "failed"  # could not be started again; commands are refused
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Frames:
    """Consecutive frames: planar yuv420p, BT.601 limited range, uint8 ``[N, H * 3 // 2, W]``, both sides even.

    The layout of one frame is PyAV's: H rows of Y, then U and V packed as H/4 rows of W each.
    """

    planes: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape = self.planes.shape
        if self.planes.dtype != np.uint8 or len(shape) != 3 or shape[1] % 3 or shape[2] % 2:
            raise ValueError(f"expected uint8 [N, H*3//2, W], got {self.planes.dtype} {list(shape)}")

    def __len__(self) -> int:
        return int(self.planes.shape[0])

    @property
    def width(self) -> int:
        return int(self.planes.shape[2])

    @property
    def height(self) -> int:
        return int(self.planes.shape[1]) * 2 // 3


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the loaded model makes. Frames are in the model's size; the stage scales them to the program's."""

    name: str
    device: str
    width: int
    height: int
    num_frames: int
    frame_rate: int
    num_steps: dict[Quality, int]
    # True: the last frame shows the same moment as the first, so a loop goes on with frame 1 without a seam.
    closes_on_itself: bool
    can_start_from_frame: bool = False  # the model understands `Generate.first_frame` (morph, continued scenes)
    loras: tuple[str, ...] = ()  # the names that `Generate.lora` may have

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.frame_rate

    @property
    def loop_s(self) -> float:
        """Without a last frame that repeats the first: a player that loops the file would show it twice."""
        return (self.num_frames - int(self.closes_on_itself and self.num_frames > 1)) / self.frame_rate


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a generation's time went, in seconds, measured in the engine process."""

    queued_s: float
    text_s: float
    denoised_s: float
    previewed_s: float
    decoded_s: float


@dataclass(frozen=True, slots=True)
class PromptWords:
    """The words of a prompt that a model knows, and those that it does not know. Both empty if it cannot tell."""

    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CostEntry:
    """One measured cost: `what` (``step fast 7x8x14 batch 2``), its mean, and how far predictions were off.

    `error` is the 90th percentile of |predicted - measured| / measured, 0 until there were two measurements.
    """

    what: str
    seconds: float
    error: float
    num_measured: int


@dataclass(frozen=True, slots=True)
class EngineReport:
    """How the engine runs its model: the choices at load, and what became ready since. For `/readyz` and people."""

    dtype: str = ""
    attention: str = ""  # the back end in use, and which ones were tried before it
    decoder: str = ""
    preview: str = ""
    compiled: tuple[str, ...] = ()  # shapes that run compiled now
    compiling: tuple[str, ...] = ()
    memory_plan: tuple[str, ...] = ()  # one line a part: where it lives, in which dtype, bytes
    peak_memory_bytes: int = 0
    notes: tuple[str, ...] = ()  # each fallback, and why


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected seconds until a prompt sent now shows its first preview and its finished clip."""

    preview_s: float
    picture_s: float


# --- commands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Generate:
    """Make a clip. The same prompt, quality, seed, first frame and LoRA give the same clip on the same machine.

    `first_frame` is one frame, in the size of the model or of a lower rung. The clip starts from it, if the model's
    description says that it can. `scene_seed` chooses what the prompt leaves open, in models that choose (None: `seed`
    does), so that a scene stays the same over several clips. The other fields say whose clip it is and how soon it is
    needed: only the arbiter reads them, and the picture does not depend on them.
    """

    generation_id: str
    prompt: str
    quality: Quality = Quality.FAST
    seed: int = 0
    wants_previews: bool = True
    scene_seed: int | None = None
    first_frame: Frames | None = None
    lora: str | None = None
    reuse: Reuse = Reuse.NEVER
    stage_id: str = ""
    tenant: str = ""  # the token's holder; tenants share the engine fairly
    is_operator: bool = True  # the prompt comes from the operator, not from the audience
    is_stage_empty: bool = False  # the stage shows nothing yet: more urgent than one that loops
    due_in_s: float = 10.0  # from `send` until the finished frames are needed
    # Ordered for a file: never degraded, and behind live work, but for this share of the engine's time.
    is_background: bool = False
    background_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a generation at its next denoising step. Does nothing if it has ended or is unknown."""

    generation_id: str


Command = Generate | Cancel

# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The engine made a real generation as its warm-up and takes work. Sent at the start and after each recovery."""

    model: ModelDescription
    startup_s: float


@dataclass(frozen=True, slots=True)
class EngineLost:
    """The engine process is gone and is being replaced.

    `reason` is ``exited`` (killed, or died), ``unresponsive`` (no heartbeat from the step loop) or ``raised`` (an
    error of its own); `generation_ids` are in flight and will be made again.
    """

    reason: str
    detail: str
    generation_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStopped:
    """The engine could not be restarted and gives up; every generation in flight has failed."""

    detail: str


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """Work begins. `understood` and `not_understood` are words of the prompt, where the model can tell them apart.

    `degraded` names what the arbiter gave up to keep its promises (``fewer_steps``, ``tiny_decoder``,
    ``smaller_size``). `is_reused`: the clip was made before.
    """

    generation_id: str
    num_steps: int
    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    is_reused: bool = False


@dataclass(frozen=True, slots=True)
class StepFinished:
    """Denoising step `step_index` (from 0) of `num_steps` is done."""

    generation_id: str
    step_index: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class PreviewReady:
    """The model's estimate of the clip after step `step_index`: a few frames spread over the clip, often smaller."""

    generation_id: str
    step_index: int
    num_steps: int
    frames: Frames


@dataclass(frozen=True, slots=True)
class FramesReady:
    """The next frames of the finished clip, as the decoder gives them; `first_index` counts within the clip."""

    generation_id: str
    first_index: int
    frames: Frames


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """All frames have been sent. `timings` are of the last attempt."""

    generation_id: str
    num_frames: int
    timings: Timings
    engine_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GenerationCancelled:
    """Stopped on request; `num_steps_done` steps had been spent."""

    generation_id: str
    num_steps_done: int
    engine_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GenerationFailed:
    """No clip will come. `code` is stable (``engine_lost``, ``out_of_memory``, ``model_error``)."""

    generation_id: str
    code: str
    message: str
    retryable: bool
    engine_s: float = 0.0


GenerationEvent = (
    GenerationStarted
    | StepFinished
    | PreviewReady
    | FramesReady
    | GenerationFinished
    | GenerationCancelled
    | GenerationFailed
)
# Every generation has one of these, as its last event.
GenerationEnd = GenerationFinished | GenerationCancelled | GenerationFailed
EngineEvent = EngineReady | EngineLost | EngineStopped
Event = GenerationEvent | EngineEvent

# --- errors -------------------------------------------------------------------------------------------------------


class EngineError(Exception):
    """Base class of the errors that an engine raises."""


class EngineBusy(EngineError):
    """Too many generations wait already; try again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineUnavailable(EngineError):
    """The engine has failed and will not start again, or it is closed."""


class ModelError(EngineError):
    """The model cannot be loaded or used; the message says what was expected, what was found and what to do."""


# --- the door -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class EngineStatistics:
    """Counters since the start, for `/metrics` and the soak."""

    num_restarts: int = 0
    num_finished: int = 0
    num_cancelled: int = 0
    num_failed: int = 0
    num_steps: int = 0
    num_previews_dropped: int = 0
    in_flight: int = 0
    busy_s: float = 0.0  # the time in which it worked, measured in the engine process, around all of its pieces
    # The time in which the engine's threads had a core, as a share of the time in which they wanted one, during work.
    # None without recent work, or if the system does not report it. Starved: so low that people should be told.
    core_share: float | None = None
    is_starved: bool = False
    extra: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """An engine. All methods are called on one event loop; none of them blocks."""

    @property
    def state(self) -> EngineState: ...

    @property
    def model(self) -> ModelDescription | None:
        """The loaded model; None until the first `EngineReady`."""
        ...

    async def open(self) -> None:
        """Start; returns before the engine is ready (wait for `EngineReady`). Raises `ModelError`."""
        ...

    async def close(self) -> None:
        """Stop and free everything. Idempotent. After it, `events` ends."""
        ...

    def send(self, command: Command) -> None:
        """Queue a command. Raises `EngineBusy` or `EngineUnavailable` for `Generate`; `Cancel` never raises."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """The events, in order, for one consumer. Bounded: unread previews are dropped first, oldest first.

        They end when the engine is closed. If they end earlier, the task that makes them has died, and the engine is
        unusable, whatever `state` says.
        """
        ...

    def estimate(self, command: Generate) -> Estimate | None:
        """How long this command would take if it were sent now, by measured costs and a model of the running work.

        Work of the same stage does not count: the new prompt supersedes it. None before the first measurement.
        """
        ...

    def words(self, prompt: str) -> PromptWords:
        """Which words of a prompt the model knows, before any work on the prompt."""
        ...

    def cost_s(self, quality: Quality) -> float | None:
        """Engine seconds of one clip made alone; None before the first measurement."""
        ...

    def costs(self) -> tuple[CostEntry, ...]:
        """The measured costs, with the error of the predictions made from them."""
        ...

    def report(self) -> EngineReport | None:
        """How the engine runs its model; None until the model is loaded."""
        ...

    def statistics(self) -> EngineStatistics: ...

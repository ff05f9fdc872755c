"""A scripted engine without model or GPU, which paints the prompt's number into its pixels.

It is for tests of the code above `engine.api`: exact latencies, exact pictures, faults on demand. Runs as one task on
the caller's event loop. It makes one generation after the other, in order of arrival, in steps that can be cancelled,
as the real engine does. Time passes only through its `sleep` argument.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from engine.api import (
    Cancel,
    Command,
    CostEntry,
    EngineBusy,
    EngineLost,
    EngineReady,
    EngineReport,
    EngineState,
    EngineStatistics,
    EngineUnavailable,
    Estimate,
    Event,
    Frames,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationEnd,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    PreviewReady,
    PromptWords,
    Quality,
    StepFinished,
    Timings,
)

MAX_WAITING = 64

# The picture: a grid of light and dark cells over the upper three quarters, most significant bit first, row by row:
# ten bits of the prompt's number, six of the frame's (63 for a preview), two of parity. The number also sets the hue.
_COLUMNS, _ROWS = 6, 3
_NUMBER_BITS, _FRAME_BITS = 10, 6
PREVIEW_FRAME = 2**_FRAME_BITS - 1


class Fault(StrEnum):
    """A fault in the middle of a generation, once for each listed prompt number."""

    FAIL = "fail"  # the model raises, the generation fails, the engine lives
    LOSE = "lose"  # the engine process dies and comes back; the generation is made again


@dataclass(frozen=True, slots=True)
class Script:
    """The durations in seconds, and the faults by prompt number."""

    startup_s: float = 0.0
    recovery_s: float = 0.05
    text_s: float = 0.0
    step_s: float = 0.02
    decode_s: float = 0.02
    num_steps: Mapping[Quality, int] = field(default_factory=lambda: {Quality.FAST: 4, Quality.FINE: 8})
    faults: Mapping[int, Fault] = field(default_factory=dict)
    # `GenerationStarted.degraded`, by prompt number.
    degraded: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    can_start_from_frame: bool = False
    loras: tuple[str, ...] = ()
    width: int = 224
    height: int = 128
    num_frames: int = 25
    frame_rate: int = 12


class SyntheticEngine:
    """See `engine.api.Engine` for the contract of each method."""

    def __init__(
        self, script: Script | None = None, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.script = script or Script()
        self._sleep = sleep
        self._state = EngineState.STARTING
        self._model: ModelDescription | None = None
        self._waiting: deque[Generate] = deque()
        self._cancelled: set[str] = set()
        self._running: Generate | None = None
        self._engine_s: defaultdict[str, float] = defaultdict(float)  # by generation, over all attempts
        self._faults = dict(self.script.faults)
        self._has_work = asyncio.Event()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._statistics = EngineStatistics()

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def model(self) -> ModelDescription | None:
        return self._model

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="synthetic-engine")
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))  # the events end with their maker

    async def close(self) -> None:
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.CLOSED
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def send(self, command: Command) -> None:
        if isinstance(command, Cancel):
            self._cancel(command.generation_id)
            return
        if self._state is EngineState.CLOSED:
            raise EngineUnavailable("the engine is closed")
        if len(self._waiting) >= MAX_WAITING:
            raise EngineBusy(f"{MAX_WAITING} generations wait already", retry_after_s=1.0)
        self._waiting.append(command)
        self._has_work.set()

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    def estimate(self, command: Generate) -> Estimate:
        one_s = self.cost_s(command.quality)
        running = () if self._running is None else (self._running,)
        ahead = [other for other in (*self._waiting, *running) if not _is_superseded(other, command)]
        ahead_s = one_s * len(ahead)
        first_s = self.script.text_s + self.script.step_s
        return Estimate(preview_s=ahead_s + first_s, picture_s=ahead_s + one_s)

    def words(self, prompt: str) -> PromptWords:
        return PromptWords(understood=tuple(re.findall(r"\w+", prompt)))

    def cost_s(self, quality: Quality) -> float:
        return self.script.text_s + self.script.num_steps[quality] * self.script.step_s + self.script.decode_s

    def costs(self) -> tuple[CostEntry, ...]:
        return ()

    def report(self) -> EngineReport | None:
        return None

    def statistics(self) -> EngineStatistics:
        self._statistics.in_flight = len(self._waiting) + (self._running is not None)
        return self._statistics

    # --- the worker -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._sleep(self.script.startup_s)
        self._become_ready(self.script.startup_s)
        while True:
            while not self._waiting:
                self._has_work.clear()
                await self._has_work.wait()
            self._running = self._waiting.popleft()
            again = await self._generate(self._running)
            if again:
                self._waiting.appendleft(self._running)
            self._cancelled.discard(self._running.generation_id)
            self._running = None

    async def _generate(self, command: Generate) -> bool:
        """One generation from start to end; True if the engine was lost and it must be made again."""
        script, name = self.script, command.generation_id
        num_steps = script.num_steps[command.quality]
        number = prompt_number(command.prompt)
        words = self.words(command.prompt).understood
        if not self._can_make(command):
            self._end(GenerationFailed(name, "model_error", "no such LoRA, or no first frames here", retryable=False))
            return False
        degraded = script.degraded.get(number, ())
        self._put(GenerationStarted(name, num_steps, understood=words, degraded=degraded))
        await self._work(name, script.text_s)
        for step_index in range(num_steps):
            if name in self._cancelled:
                self._end(GenerationCancelled(name, step_index))
                return False
            await self._work(name, script.step_s)
            self._statistics.num_steps += 1
            fault = self._faults.pop(number, None) if step_index == num_steps // 2 else None
            if fault is Fault.FAIL:
                self._end(GenerationFailed(name, "model_error", "scripted failure", retryable=True))
                return False
            if fault is Fault.LOSE:
                await self._lose(command)
                return True
            self._put(StepFinished(name, step_index, num_steps))
            if command.wants_previews:
                frames = paint(number, [PREVIEW_FRAME], script.width, script.height)
                self._put(PreviewReady(name, step_index, num_steps, frames))
        await self._work(name, script.decode_s)
        if name in self._cancelled:
            self._end(GenerationCancelled(name, num_steps))
            return False
        self._put(FramesReady(name, 0, paint(number, list(range(script.num_frames)), script.width, script.height)))
        denoised_s = num_steps * script.step_s
        timings = Timings(0.0, script.text_s, denoised_s, previewed_s=0.0, decoded_s=script.decode_s)
        self._end(GenerationFinished(name, script.num_frames, timings))
        return False

    async def _work(self, name: str, seconds: float) -> None:
        await self._sleep(seconds)
        self._engine_s[name] += seconds
        self._statistics.busy_s += seconds

    def _end(self, event: GenerationEnd) -> None:
        self._statistics.num_finished += isinstance(event, GenerationFinished)
        self._statistics.num_cancelled += isinstance(event, GenerationCancelled)
        self._statistics.num_failed += isinstance(event, GenerationFailed)
        self._put(replace(event, engine_s=self._engine_s.pop(event.generation_id, 0.0)))

    def _can_make(self, command: Generate) -> bool:
        """False for a LoRA or a first frame that the model's description does not offer, as with a real model."""
        can_start = command.first_frame is None or self.script.can_start_from_frame
        return can_start and (command.lora is None or command.lora in self.script.loras)

    async def _lose(self, command: Generate) -> None:
        in_flight = (command.generation_id, *(waiting.generation_id for waiting in self._waiting))
        self._state = EngineState.RECOVERING
        self._statistics.num_restarts += 1
        self._put(EngineLost("exited", "scripted loss", in_flight))
        await self._sleep(self.script.recovery_s)
        self._become_ready(self.script.recovery_s)

    def _become_ready(self, startup_s: float) -> None:
        script = self.script
        self._model = ModelDescription(
            name="synthetic",
            device="none",
            width=script.width,
            height=script.height,
            num_frames=script.num_frames,
            frame_rate=script.frame_rate,
            num_steps=dict(script.num_steps),
            closes_on_itself=True,
            can_start_from_frame=script.can_start_from_frame,
            loras=script.loras,
        )
        self._state = EngineState.READY
        self._put(EngineReady(self._model, startup_s))

    def _cancel(self, generation_id: str) -> None:
        for command in self._waiting:
            if command.generation_id == generation_id:
                self._waiting.remove(command)
                self._end(GenerationCancelled(generation_id, 0))
                return
        if self._running is not None and self._running.generation_id == generation_id:
            self._cancelled.add(generation_id)

    def _put(self, event: Event) -> None:
        self._events.put_nowait(event)


def _is_superseded(other: Generate, command: Generate) -> bool:
    return bool(command.stage_id) and other.stage_id == command.stage_id


def prompt_number(prompt: str) -> int:
    """The first number in the prompt, modulo 1024; 0 if there is none."""
    found = re.search(r"\d+", prompt)
    return int(found.group()[:9]) % 2**_NUMBER_BITS if found else 0


def paint(number: int, frame_indices: list[int], width: int, height: int) -> Frames:
    """Frames whose pixels encode `number` and their own index; see the layout at the top of this module."""
    planes = np.empty((len(frame_indices), height * 3 // 2, width), np.uint8)
    chroma = np.array([(number * 73) % 120 + 68, (number * 151) % 120 + 68], np.uint8)
    planes[:, height : height + height // 4] = chroma[0]
    planes[:, height + height // 4 :] = chroma[1]
    planes[:, :height] = 120
    cell_height, cell_width = height * 3 // 4 // _ROWS, width // _COLUMNS
    for picture, frame_index in zip(planes, frame_indices, strict=True):
        for place, bit in enumerate(_bits(number, frame_index)):
            row, column = divmod(place, _COLUMNS)
            top, left = row * cell_height, column * cell_width
            picture[top : top + cell_height, left : left + cell_width] = 210 if bit else 40
    return Frames(planes)


def read(planes: NDArray[np.uint8]) -> tuple[int, int] | None:
    """The (prompt number, frame index) painted into the luma of one frame ``[H*3//2, W]`` of any size, or None."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    cell_height, cell_width = height * 0.75 / _ROWS, width / _COLUMNS
    bits = []
    for place in range(_COLUMNS * _ROWS):
        row, column = divmod(place, _COLUMNS)
        y, x = round((row + 0.5) * cell_height), round((column + 0.5) * cell_width)
        luma = float(planes[y - 3 : y + 4, x - 3 : x + 4].mean())
        if 100 < luma < 150:
            return None
        bits.append(int(luma > 125))
    value = int("".join(map(str, bits[:-2])), 2)
    number, frame_index = value >> _FRAME_BITS, value & (2**_FRAME_BITS - 1)
    return (number, frame_index) if bits == _bits(number, frame_index) else None


def _bits(number: int, frame_index: int) -> list[int]:
    value = (number << _FRAME_BITS) | frame_index
    bits = [(value >> place) & 1 for place in reversed(range(_NUMBER_BITS + _FRAME_BITS))]
    return [*bits, sum(bits) % 2, 1 - sum(bits[::2]) % 2]

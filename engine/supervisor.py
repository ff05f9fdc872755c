"""Spawns, watches and talks to the engine process; the server's side of `engine.wire`. Runs on one asyncio loop.

`EngineProcess` is the `engine.api.Engine` that the product uses. One task lives through the engine's lives: it takes a
process (the spare one if there is one), has it load and warm up, hands it what is in flight, and relays its messages
until it exits, raises or falls silent; then the process is killed and the next one gets the same work.

Silence is the only sign of a hang, and the beat comes from inside the step loop, not from a thread beside it. Every
generation has one end however the process ends: what was cancelled is reported cancelled, what was running during
`max_attempts` losses fails, the rest is made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from engine import checkpoint, wire
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
    EngineStopped,
    EngineUnavailable,
    Estimate,
    Event,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    PreviewReady,
    PromptWords,
    Quality,
    StepFinished,
)
from engine.config import EMBEDDED_MODEL, EngineSettings
from engine.cost import CostRow, Piece
from engine.embedded.reading import read
from engine.foresight import Foresight

logger = logging.getLogger(__name__)

# The library's threads must sleep while they wait, or two processes on two cores cost ten times, not twice; glibc must
# keep large buffers instead of returning each to the kernel (1.8 times on the decoder).
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}


# The engine must have been idle for so long before the spare process starts.
SPARE_AFTER_IDLE_S = 3.0


# Silence for so many times the slowest piece of the warm-up means that the loop hangs.
_SLOWEST_PIECES = 5


class _Lost(Exception):
    """The process can no longer be used; `reason` as in `EngineLost`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Refused(Exception):
    """The model cannot be loaded, by the next process as little as by this one."""


@dataclass(eq=False, slots=True)
class _InFlight:
    """A generation between `Generate` and its end, as the supervisor sees it."""

    command: Generate
    sent_at: float
    started_at: float | None = None  # in this process; None while it waits there
    is_cancelled: bool = False
    num_losses: int = 0
    estimated_s: float | None = None  # what was foretold when it was sent

    def command_now(self, now: float) -> Generate:
        """The command as it must be given again: its deadline has not moved."""
        return replace(self.command, due_in_s=self.command.due_in_s - (now - self.sent_at))


class _Process:
    """One life: the subprocess, the socket to it and the frame ring that both map. Owned by the supervising task."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ring: wire.FrameRing,
        *,
        is_bound: bool,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.ring = ring
        self._is_bound = is_bound  # dies with us by the system's hand

    @property
    def pid(self) -> int:
        return self._process.pid

    def pause(self) -> None:
        """Stops it where it stands, where that is safe: a stopped process cannot end with its socket, so it must be one
        that the system kills with us. What is paused goes on with `go_on`, or is killed by `close`."""
        if self._is_bound:
            self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._is_bound:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    @classmethod
    async def spawn(cls, settings: EngineSettings) -> _Process:
        ours, theirs = socket.socketpair()
        ring_fd = wire.open_shared_file(settings.frames_bytes)
        try:
            nice = shutil.which("nice")
            prefix = (nice, "-n", str(settings.niceness)) if nice and settings.niceness else ()
            setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
            if setpriv:
                prefix = (setpriv, "--pdeathsig", "KILL", *prefix)
            process = await asyncio.create_subprocess_exec(
                *prefix,
                *settings.worker_command,
                *("--socket-fd", str(theirs.fileno())),
                *("--frames-fd", str(ring_fd)),
                *("--frames-bytes", str(settings.frames_bytes)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), ring_fd),
                env={**os.environ, **_ENVIRONMENT},
            )
            ring = wire.FrameRing(ring_fd, settings.frames_bytes)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(ring_fd)
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, ring, is_bound=setpriv is not None)

    def send(self, message: wire.ToEngine) -> None:
        """Never blocks; commands are small and bounded in number. What a dead process does not read is lost with it."""
        if not self._writer.is_closing():
            self._writer.write(wire.encode(message))

    async def receive(self, timeout_s: float) -> wire.Message:
        """The next message. Raises `_Lost` if none comes in time or the process has gone."""
        try:
            async with asyncio.timeout(timeout_s):
                header = await self._reader.readexactly(wire.HEADER_BYTES)
                return wire.decode(await self._reader.readexactly(wire.body_length(header)))
        except TimeoutError:
            raise _Lost("unresponsive", f"no heartbeat for {timeout_s:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise _Lost("exited", "the engine process has gone") from None

    async def close(self) -> None:
        """Kills what is left, which works on a stopped process too, and waits until the system has let go of it."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self.ring.close()


class _EventQueue:
    """Events for one reader. At most `max_previews` previews, oldest out first; the rest is bounded by the work."""

    def __init__(self, max_previews: int) -> None:
        self._events: deque[Event] = deque()
        self._max_previews = max_previews
        self._num_previews = 0
        self._changed = asyncio.Event()
        self._is_closed = False
        self.num_dropped = 0

    def put(self, event: Event) -> None:
        if isinstance(event, PreviewReady):
            if self._num_previews >= self._max_previews:
                self._events.remove(next(old for old in self._events if isinstance(old, PreviewReady)))
                self._num_previews -= 1
                self.num_dropped += 1
            self._num_previews += 1
        self._events.append(event)
        self._changed.set()

    def close(self) -> None:
        self._is_closed = True
        self._changed.set()

    async def read(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                event = self._events.popleft()
                self._num_previews -= isinstance(event, PreviewReady)
                yield event
            if self._is_closed:
                return
            self._changed.clear()
            await self._changed.wait()


class EngineProcess:
    """An engine in a process of its own. See `engine.api.Engine` for the contract of each method."""

    def __init__(
        self,
        settings: EngineSettings | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings or EngineSettings()
        self._monotonic = monotonic
        self._sleep = sleep
        self._state = EngineState.STARTING
        self._model: ModelDescription | None = None
        self._report: EngineReport | None = None
        self._process: _Process | None = None
        self._spare: asyncio.Task[_Process] | None = None
        self._is_spare_waiting = False
        self._importing: _Process | None = None  # the spare, which gives way to work
        self._in_flight: dict[str, _InFlight] = {}
        self._idle = asyncio.Event()  # nothing is in flight
        self._idle.set()
        self._num_sent = 0
        self._foresight: Foresight | None = None
        self._ready_again_at = 0.0  # expected, while the engine starts or recovers
        self._events = _EventQueue(max_previews=self._settings.max_in_flight)
        self._statistics = EngineStatistics()
        self._task: asyncio.Task[None] | None = None
        self._startup_s = 0.0

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def model(self) -> ModelDescription | None:
        return self._model

    @property
    def pid(self) -> int | None:
        """The engine process's id, for operators and tests; None between two processes."""
        return self._process.pid if self._process else None

    async def settled(self) -> None:
        """Returns when the spare process runs, if there is to be one: it waits for an idle engine."""
        if self._spare is not None:
            await asyncio.wait([self._spare])

    async def open(self) -> None:
        checkpoint.resolve(self._settings.load)  # a wrong model is the caller's error, now, not the process's later
        self._task = asyncio.create_task(self._supervise(), name="engine-supervisor")
        self._task.add_done_callback(self._end_events)

    async def close(self) -> None:
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.CLOSED
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._events.close()

    def send(self, command: Command) -> None:
        if isinstance(command, Cancel):
            self._cancel(command)
            return
        if self._state in (EngineState.CLOSED, EngineState.FAILED):
            raise EngineUnavailable(f"the engine is {self._state}")
        if len(self._in_flight) >= self._settings.max_in_flight:
            wait_s = self.cost_s(command.quality) or 1.0
            raise EngineBusy(f"{len(self._in_flight)} generations are in flight already", retry_after_s=wait_s)
        if command.generation_id in self._in_flight:
            raise ValueError(f"generation {command.generation_id} is in flight already")
        now = self._monotonic()
        foretold = self.estimate(command)
        generation = _InFlight(command, sent_at=now, estimated_s=foretold.picture_s if foretold else None)
        self._in_flight[command.generation_id] = generation
        self._num_sent += 1
        self._idle.clear()
        if self._importing is not None:
            self._importing.pause()
        if self._foresight is not None:
            self._foresight.add(command, now)
        if self._process is not None:
            self._process.send(command)

    def events(self) -> AsyncIterator[Event]:
        return self._events.read()

    def _end_events(self, task: asyncio.Task[None]) -> None:
        """A supervisor that died leaves nobody who would make any more; one that gave the engine up has said so."""
        if task.cancelled() or task.exception() is not None:
            self._events.close()

    def estimate(self, command: Generate) -> Estimate | None:
        if self._foresight is None:
            return None
        now = self._monotonic()
        until_ready_s = 0.0 if self._process is not None else max(0.0, self._ready_again_at - now)
        return self._foresight.estimate(command, now, until_ready_s)

    def words(self, prompt: str) -> PromptWords:
        if self._model is None or self._model.name != EMBEDDED_MODEL:
            return PromptWords()
        reading = read(prompt)
        return PromptWords(reading.understood, reading.not_understood)

    def cost_s(self, quality: Quality) -> float | None:
        return self._foresight.cost.clip_s(0, quality) if self._foresight is not None else None

    def costs(self) -> tuple[CostEntry, ...]:
        return self._foresight.cost.entries() if self._foresight is not None else ()

    def cost_rows(self) -> tuple[CostRow, ...]:
        """The same as the cost model keeps it, for the simulator's tables."""
        return self._foresight.cost.rows() if self._foresight is not None else ()

    def report(self) -> EngineReport | None:
        return self._report

    def statistics(self) -> EngineStatistics:
        self._statistics.in_flight = len(self._in_flight)
        self._statistics.num_previews_dropped = self._events.num_dropped
        if self._foresight is not None and (error := self._foresight.error_p90) is not None:
            self._statistics.extra["estimate_error_p90"] = error
        return self._statistics

    def _cancel(self, command: Cancel) -> None:
        generation = self._in_flight.get(command.generation_id)
        if generation is None or generation.is_cancelled:
            return
        generation.is_cancelled = True
        if self._foresight is not None:
            self._foresight.remove(command.generation_id)
        if self._process is not None:
            self._process.send(command)
        else:
            self._end(GenerationCancelled(command.generation_id, 0))

    # --- the supervising task -------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        failed_starts = 0
        try:
            while failed_starts < self._settings.max_start_attempts:
                began_at = self._monotonic()
                process = await self._next_process()
                try:
                    ready = await self._start(process)
                    failed_starts = 0
                    self._become_ready(process, ready, began_at)
                    while True:
                        self._relay(process, await process.receive(patience_s(self._settings, ready)))
                except _Lost as lost:
                    failed_starts += self._process is None
                    self._lose(lost)
                finally:
                    self._process = None
                    await process.close()
            self._give_up(f"the engine did not start in {failed_starts} attempts; see its messages above")
        except _Refused as refused:
            logger.error("! the model cannot be loaded: %s", refused)
            self._give_up(str(refused))
        except Exception:
            # The task boundary: without this line the engine would be gone and nobody would hear of it.
            logger.exception("! engine supervisor")
            self._give_up("the engine's supervisor failed; see the log")
        finally:
            await self._close_spare()

    async def _next_process(self) -> _Process:
        """The spare process, or a new one; a spare that died while it waited shows when it is started."""
        if self._spare is None:
            return await _Process.spawn(self._settings)
        spare, self._spare = self._spare, None
        if self._is_spare_waiting:
            await _cancelled(spare)
            return await _Process.spawn(self._settings)
        process = await spare
        self._importing = None
        process.go_on()
        return process

    async def _spawn_when_idle(self) -> _Process:
        """The spare. Its imports take a core for seconds, so they wait until nobody prompts, and pause when somebody
        does: beside them, a fresh server's play ratio was 0.989, and its first clip took three times as long."""
        self._is_spare_waiting = True
        while True:
            await self._idle.wait()
            num_sent = self._num_sent
            await self._sleep(SPARE_AFTER_IDLE_S)
            if self._idle.is_set() and self._num_sent == num_sent:
                break
        self._is_spare_waiting = False
        self._importing = await _Process.spawn(self._settings)
        if not self._idle.is_set():
            self._importing.pause()
        return self._importing

    async def _start(self, process: _Process) -> wire.WarmedUp:
        """Imports, weights, warm-up. Raises `_Lost` or `_Refused`."""
        process.send(wire.Load(self._settings.load, self._settings.num_threads))
        rows: tuple[CostRow, ...] = ()
        while True:
            message = await process.receive(self._settings.startup_timeout_s)
            if isinstance(message, EngineReport):
                self._report = message
            if isinstance(message, wire.Costs):
                rows = message.rows
            if isinstance(message, wire.WarmedUp):
                self._foresee(message, rows)
                return message
            if isinstance(message, wire.Raised):
                raise _Lost("raised", message.detail)
            if isinstance(message, wire.Refused):
                raise _Refused(message.detail)

    def _foresee(self, ready: wire.WarmedUp, rows: tuple[CostRow, ...]) -> None:
        foresight = Foresight(ready.ladder, ready.num_pieces, rows, max_batch=ready.max_batch)
        if self._foresight is not None:
            foresight.succeed(self._foresight)
        self._foresight = foresight

    def _become_ready(self, process: _Process, ready: wire.WarmedUp, began_at: float) -> None:
        self._process = process
        self._model = ready.model
        self._state = EngineState.READY
        now = self._monotonic()
        startup_s = self._startup_s = now - began_at
        logger.info("= engine ready after %.1f s, pid %d, model %s", startup_s, process.pid, ready.model.name)
        self._events.put(EngineReady(ready.model, startup_s))
        for generation in self._in_flight.values():
            command = generation.command_now(now)
            process.send(command)
            if self._foresight is not None:
                self._foresight.add(command, now)
        if self._settings.keep_spare and self._spare is None:
            self._spare = asyncio.create_task(self._spawn_when_idle(), name="engine-spare")

    def _lose(self, lost: _Lost) -> None:
        """Decides what each generation in flight comes to, and tells."""
        logger.error("! engine lost (%s): %s", lost.reason, lost.detail)
        was_ready = self._process is not None
        self._process = None
        self._ready_again_at = self._monotonic() + self._startup_s
        self._statistics.num_restarts += was_ready
        self._state = EngineState.RECOVERING if self._model else EngineState.STARTING
        for generation_id, generation in list(self._in_flight.items()):
            generation.num_losses += generation.started_at is not None
            generation.started_at = None
            if self._foresight is not None:
                self._foresight.start_again(generation_id)
            if generation.is_cancelled:
                self._end(GenerationCancelled(generation_id, 0))
            elif generation.num_losses >= self._settings.max_attempts:
                message = f"the engine was lost {generation.num_losses} times while it made this"
                self._end(GenerationFailed(generation_id, "engine_lost", message, retryable=True))
        if was_ready:
            self._events.put(EngineLost(lost.reason, lost.detail, tuple(self._in_flight)))

    def _give_up(self, detail: str) -> None:
        self._state = EngineState.FAILED
        for generation_id in list(self._in_flight):
            self._end(GenerationFailed(generation_id, "engine_lost", detail, retryable=False))
        self._events.put(EngineStopped(detail))

    async def _close_spare(self) -> None:
        if self._spare is not None:
            spare, self._spare = self._spare, None
            self._importing = None
            if self._is_spare_waiting:
                await _cancelled(spare)
            else:
                await (await spare).close()

    # --- what the process says ------------------------------------------------------------------------------------

    def _relay(self, process: _Process, message: wire.Message) -> None:
        assert self._foresight is not None, "ready"
        now = self._monotonic()
        match message:
            case wire.Heartbeat():
                pass
            case wire.Raised(detail=detail):
                raise _Lost("raised", detail)
            case EngineReport():
                self._report = message
            case wire.Costs(rows=rows):
                self._foresight.cost.take(rows)
            case wire.FramesAt(generation_id=generation_id):
                piece = Piece.DECODE if message.step_index < 0 else Piece.PREVIEW
                self._foresight.advanced(generation_id, piece, now)
                self._relay_frames(process, message)
            case GenerationStarted(generation_id=generation_id, num_steps=num_steps, degraded=degraded):
                self._in_flight[generation_id].started_at = now
                self._foresight.begun(generation_id, num_steps, degraded, now)
                self._events.put(message)
            case StepFinished(generation_id=generation_id):
                self._statistics.num_steps += 1
                self._foresight.advanced(generation_id, Piece.STEP, now)
                self._events.put(message)
            case GenerationFinished() | GenerationCancelled() | GenerationFailed():
                self._end(message)
            case _:
                raise _Lost("raised", f"the engine process sent {type(message).__name__}, which it should not")

    def _relay_frames(self, process: _Process, at: wire.FramesAt) -> None:
        frames = process.ring.get(at.offset, at.shape)
        process.send(wire.Consumed(at.position))
        if at.step_index < 0:
            self._events.put(FramesReady(at.generation_id, at.first_index, frames))
        else:
            self._events.put(PreviewReady(at.generation_id, at.step_index, at.num_steps, frames))

    def _end(self, event: GenerationFinished | GenerationCancelled | GenerationFailed) -> None:
        generation = self._in_flight.pop(event.generation_id)
        if not self._in_flight:
            self._idle.set()
            if self._importing is not None:
                self._importing.go_on()
        now = self._monotonic()
        if generation.started_at is not None:
            self._statistics.busy_s += now - generation.started_at
        if self._foresight is not None:
            self._foresight.remove(event.generation_id)
            if isinstance(event, GenerationFinished) and generation.estimated_s is not None:
                self._foresight.came_true(generation.estimated_s, now - generation.sent_at)
        match event:
            case GenerationFinished():
                self._statistics.num_finished += 1
            case GenerationCancelled():
                self._statistics.num_cancelled += 1
            case GenerationFailed():
                self._statistics.num_failed += 1
        self._events.put(event)


async def _cancelled(task: asyncio.Task[_Process]) -> None:
    task.cancel()
    await asyncio.wait([task])


def patience_s(settings: EngineSettings, ready: wire.WarmedUp) -> float:
    """How long the process may be silent: a guided step of a 5B model on a small GPU takes seconds, without a beat."""
    return max(settings.heartbeat_timeout_s, _SLOWEST_PIECES * ready.slowest_s)

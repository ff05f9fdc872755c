"""Starts, watches and relays the engine process; the server's side of `engine.process.wire`. Runs on one asyncio loop.

`EngineProcess` is the `engine.api.Engine` that the product uses. One task runs one process after the other. It takes a
process (the spare one if there is one), tells it to load and warm up, sends it the commands in flight, and relays its
messages until the process exits, raises or falls silent. Then the task kills it and gives the same work to the next
process. Once the engine has been ready, a next process always follows, whatever ended the last one.

Silence is the only sign of a hang, so the heartbeat comes from inside the step loop, not from a thread beside it. Time
in which the process waited for a core does not count (`engine.process.own_clock`): a busy machine makes it slow, not
hung. Every generation gets one end, however the process ends: a cancelled one is reported as cancelled, one that was
running during `max_attempts` losses fails, and all others are made again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from engine.api import (
    Cancel,
    Command,
    CostEntry,
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
    GenerationEnd,
    GenerationEvent,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    PreviewReady,
    PromptWords,
    Quality,
    StepFinished,
)
from engine.arbiter.cost import CostRow
from engine.config import EMBEDDED_MODEL, EngineSettings
from engine.embedded.reading import read
from engine.loading import checkpoint
from engine.process import wire
from engine.process.child import Child, LoadRefused, Lost
from engine.process.event_queue import EventQueue
from engine.process.ledger import Ledger
from engine.process.own_clock import CoreShare, threads_of
from engine.process.spare import Spare

logger = logging.getLogger(__name__)

# Silence for this many times the slowest piece of the warm-up means that the loop hangs.
_SLOWEST_PIECES = 5

# An engine that has been ready once pauses after each failed start: 1, 2, 4, ... s, at most this.
MAX_RESTART_PAUSE_S = 60.0

# `words` reads so much of a prompt, because it does so on the server's event loop: 2000 Han characters took 6.6 ms.
MAX_CHARACTERS_READ = 300

# How often we measure the core share of an engine that works.
_SHARE_EVERY_S = 1.0


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
        self._process: Child | None = None
        self._ledger = Ledger(self._settings.max_in_flight)
        self._spare = Spare(self._settings, self._ledger, sleep=sleep)
        self._ready_again_at = 0.0  # expected, while the engine starts or recovers
        self._events = EventQueue(max_previews=self._settings.max_in_flight)
        self._core_share = CoreShare()
        self._shared_at = 0.0  # when it was last measured
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
        """Returns when the spare process runs, which waits for an idle engine; at once if none is planned."""
        await self._spare.settled()

    async def open(self) -> None:
        checkpoint.resolve(self._settings.load)  # raises for a wrong model here, not later in the process
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
        now = self._monotonic()
        was_idle = not len(self._ledger)
        self._ledger.add(command, now, self._until_ready_s(now))
        if was_idle:
            self._note_core_share(now, begins=True)
        self._spare.pause()
        if self._process is not None:
            self._process.send(command)

    def events(self) -> AsyncIterator[Event]:
        return self._events.read()

    def _end_events(self, task: asyncio.Task[None]) -> None:
        """Ends the events if the supervisor died: no more will come. One that gave up has sent `EngineStopped`."""
        if task.cancelled() or task.exception() is not None:
            self._events.close()

    def estimate(self, command: Generate) -> Estimate | None:
        now = self._monotonic()
        return self._ledger.estimate(command, now, self._until_ready_s(now))

    def words(self, prompt: str) -> PromptWords:
        if self._model is None or self._model.name != EMBEDDED_MODEL:
            return PromptWords()
        reading = read(_beginning(prompt))
        return PromptWords(reading.understood, reading.not_understood)

    def cost_s(self, quality: Quality) -> float | None:
        return self._ledger.cost_s(quality)

    def costs(self) -> tuple[CostEntry, ...]:
        return self._ledger.costs()

    def cost_rows(self) -> tuple[CostRow, ...]:
        """The measured costs as rows of the cost model, for the simulator's tables."""
        return self._ledger.cost_rows()

    def report(self) -> EngineReport | None:
        return self._report

    def statistics(self) -> EngineStatistics:
        statistics, now = self._ledger.statistics, self._monotonic()
        statistics.in_flight = len(self._ledger)
        statistics.num_previews_dropped = self._events.num_dropped
        statistics.core_share = self._core_share.share(now)
        statistics.is_starved = self._core_share.is_starved(now)
        if (error := self._ledger.estimate_error_p90) is not None:
            statistics.extra["estimate_error_p90"] = error
        return statistics

    def _cancel(self, command: Cancel) -> None:
        if not self._ledger.cancel(command.generation_id):
            return
        if self._process is not None:
            self._process.send(command)
        else:
            self._end(GenerationCancelled(command.generation_id, 0))

    def _until_ready_s(self, now: float) -> float:
        return 0.0 if self._process is not None else max(0.0, self._ready_again_at - now)

    # --- the supervising task -------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        failed_starts = 0
        try:
            while self._model is not None or failed_starts < self._settings.max_start_attempts:
                if self._model is not None and failed_starts:
                    pause_s = restart_pause_s(failed_starts)
                    self._ready_again_at += pause_s
                    await self._sleep(pause_s)
                failed_starts = 0 if await self._live() else failed_starts + 1
            self._give_up(f"the engine did not start in {failed_starts} attempts; see its messages above")
        except LoadRefused as refused:
            logger.error("! the model cannot be loaded: %s", refused)
            self._give_up(str(refused))
        except Exception:
            # The task boundary: without this line the engine would be gone and the log would say nothing.
            logger.exception("! engine supervisor")
            self._give_up("the engine's supervisor failed; see the log")
        finally:
            await self._spare.close()

    async def _live(self) -> bool:
        """One process, until it is lost. Returns whether it was ever ready. Raises `LoadRefused`."""
        process: Child | None = None
        try:
            began_at = self._monotonic()
            process = await self._spare.take() or await Child.spawn(self._settings)
            ready = await self._start(process)
            self._become_ready(process, ready, began_at)
            patience = patience_s(self._settings, ready)
            while True:
                self._relay(process, await process.receive(patience, self._settings.blind_heartbeat_timeout_s))
        except LoadRefused:
            raise
        except Lost as lost:
            return self._lose(lost)
        except Exception as error:
            # The boundary of one process: no descriptor or memory for it, or a message that cannot be decoded. The next
            # process may do better. This loss is reported like any other.
            logger.exception("! engine process")
            return self._lose(Lost("raised", f"{type(error).__name__}: {error}"[:500]))
        finally:
            self._process = None
            if process is not None:
                await process.close()

    async def _start(self, process: Child) -> wire.WarmedUp:
        """Imports, weights, warm-up. Raises `Lost` or `LoadRefused`."""
        process.send(wire.Load(self._settings.load, self._settings.num_threads))
        rows: tuple[CostRow, ...] = ()
        while True:
            message = await process.receive(self._settings.startup_timeout_s, self._settings.startup_timeout_s)
            if isinstance(message, EngineReport):
                self._report = message
            if isinstance(message, wire.Costs):
                rows = message.rows
            if isinstance(message, wire.WarmedUp):
                self._ledger.foresee(message, rows)
                return message
            if isinstance(message, wire.Raised):
                raise Lost("raised", message.detail)
            if isinstance(message, wire.LoadRefused):
                raise LoadRefused(message.detail)

    def _become_ready(self, process: Child, ready: wire.WarmedUp, began_at: float) -> None:
        self._process = process
        self._model = ready.model
        self._state = EngineState.READY
        now = self._monotonic()
        startup_s = self._startup_s = now - began_at
        logger.info("= engine ready after %.1f s, pid %d, model %s", startup_s, process.pid, ready.model.name)
        self._events.put(EngineReady(ready.model, startup_s))
        for command in self._ledger.commands(now):
            process.send(command)
        if self._settings.keep_spare:
            self._spare.prepare()

    def _lose(self, lost: Lost) -> bool:
        """Ends or keeps each generation in flight, and reports the loss. Returns whether the process had been ready."""
        logger.error("! engine lost (%s): %s", lost.reason, lost.detail)
        was_ready = self._process is not None
        self._process = None
        self._core_share.end()
        self._ready_again_at = self._monotonic() + self._startup_s
        self._ledger.statistics.num_restarts += was_ready
        self._state = EngineState.RECOVERING if self._model else EngineState.STARTING
        for end in self._ledger.lose(self._settings.max_attempts):
            self._end(end)
        if was_ready:
            self._events.put(EngineLost(lost.reason, lost.detail, self._ledger.generation_ids))
        return was_ready

    def _give_up(self, detail: str) -> None:
        self._state = EngineState.FAILED
        for generation_id in self._ledger.generation_ids:
            self._end(GenerationFailed(generation_id, "engine_lost", detail, retryable=False))
        self._events.put(EngineStopped(detail))

    # --- messages from the process --------------------------------------------------------------------------------

    def _relay(self, process: Child, message: wire.Message) -> None:
        now = self._monotonic()
        if isinstance(message, wire.FramesAt | GenerationEvent) and message.generation_id not in self._ledger:
            self._drop(process, message)
            return
        if len(self._ledger) and now - self._shared_at >= _SHARE_EVERY_S:
            self._note_core_share(now)
        match message:
            case wire.Heartbeat(busy_s=busy_s):
                self._ledger.statistics.busy_s += busy_s
            case wire.Spent():
                self._ledger.spent(message)
            case wire.Raised(detail=detail):
                raise Lost("raised", detail)
            case EngineReport():
                self._report = message
            case wire.Costs(rows=rows):
                self._ledger.measured(rows)
            case wire.FramesAt():
                self._ledger.advanced(message, now)
                self._relay_frames(process, message)
            case GenerationStarted() | StepFinished():
                self._ledger.advanced(message, now)
                self._events.put(message)
            case GenerationFinished() | GenerationCancelled() | GenerationFailed():
                self._end(message)
            case _:
                raise Lost("raised", f"the engine process sent {type(message).__name__}, which it should not")

    def _drop(self, process: Child, message: wire.FramesAt | GenerationEvent) -> None:
        """Drops a message about a generation that is not in flight: a bug in the process, but no reason to end it."""
        logger.warning("! the engine process sent %s of a generation that is not in flight", type(message).__name__)
        if isinstance(message, wire.FramesAt):
            process.send(wire.Consumed(message.position))

    def _note_core_share(self, now: float, *, begins: bool = False) -> None:
        """Does nothing between two processes, or if the kernel does not report the threads."""
        sample = threads_of(self._process.pid) if self._process is not None else None
        if sample is None:
            return
        self._shared_at = now
        if begins:
            self._core_share.begin(now, sample)
        else:
            self._core_share.add(now, sample)

    def _relay_frames(self, process: Child, at: wire.FramesAt) -> None:
        frames = process.ring.get(at.offset, at.shape)
        process.send(wire.Consumed(at.position))
        if at.step_index < 0:
            self._events.put(FramesReady(at.generation_id, at.first_index, frames))
        else:
            self._events.put(PreviewReady(at.generation_id, at.step_index, at.num_steps, frames))

    def _end(self, event: GenerationEnd) -> None:
        now = self._monotonic()
        event = self._ledger.end(event, now)
        if not len(self._ledger):
            self._spare.go_on()
            self._note_core_share(now)
        self._events.put(event)


def _beginning(prompt: str) -> str:
    """The first characters of a long prompt, without a word that they cut."""
    if len(prompt) <= MAX_CHARACTERS_READ:
        return prompt
    whole_words, _, cut = prompt[:MAX_CHARACTERS_READ].rpartition(" ")
    return whole_words if cut.isascii() else prompt[:MAX_CHARACTERS_READ]


def patience_s(settings: EngineSettings, ready: wire.WarmedUp) -> float:
    """How long the process may be silent. A guided step of a 5B model on a small GPU takes seconds without a beat."""
    return max(settings.heartbeat_timeout_s, _SLOWEST_PIECES * ready.slowest_s)


def restart_pause_s(failed_starts: int) -> float:
    """The pause after this many failed starts in a row: 1, 2, 4, ... seconds, so that a shortage may pass."""
    return min(MAX_RESTART_PAUSE_S, 2.0 ** min(failed_starts - 1, 10))

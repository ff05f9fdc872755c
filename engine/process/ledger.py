"""The generations in flight, as the supervisor knows them, with their estimates and counters.

Pure except for the `idle` event; runs on the supervisor's loop. Every generation enters once and ends once, however
many processes work on it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from engine.api import (
    CostEntry,
    EngineBusy,
    EngineStatistics,
    Estimate,
    Generate,
    GenerationCancelled,
    GenerationEnd,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    Quality,
    StepFinished,
)
from engine.arbiter.cost import CostRow, Piece
from engine.arbiter.foresight import Foresight
from engine.process import wire


@dataclass(eq=False, slots=True)
class InFlight:
    """A generation between `Generate` and its end, as the supervisor knows it."""

    command: Generate
    sent_at: float
    started_at: float | None = None  # by the current process; None while it waits
    is_cancelled: bool = False
    num_losses: int = 0
    engine_s: float = 0.0  # by all processes
    estimated_s: float | None = None  # the estimate when it was sent

    def command_now(self, now: float) -> Generate:
        """The command for a new process, with the same deadline: `due_in_s` counts from now."""
        return replace(self.command, due_in_s=self.command.due_in_s - (now - self.sent_at))


class Ledger:
    """At most `max_in_flight` generations. Times are seconds of the caller's clock."""

    def __init__(self, max_in_flight: int) -> None:
        self.idle = asyncio.Event()  # nothing is in flight
        self.idle.set()
        self.num_sent = 0
        self.statistics = EngineStatistics()
        self._max_in_flight = max_in_flight
        self._in_flight: dict[str, InFlight] = {}
        self._foresight: Foresight | None = None  # None before the first warm-up

    def __contains__(self, generation_id: str) -> bool:
        return generation_id in self._in_flight

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def generation_ids(self) -> tuple[str, ...]:
        return tuple(self._in_flight)

    # --- the work -------------------------------------------------------------------------------------------------

    def add(self, command: Generate, now: float, until_ready_s: float) -> None:
        """Raises `EngineBusy`, and `ValueError` for an id that is in flight."""
        if len(self._in_flight) >= self._max_in_flight:
            wait_s = self.cost_s(command.quality) or 1.0
            raise EngineBusy(f"{len(self._in_flight)} generations are in flight already", retry_after_s=wait_s)
        if command.generation_id in self._in_flight:
            raise ValueError(f"generation {command.generation_id} is in flight already")
        foretold = self.estimate(command, now, until_ready_s)
        estimated_s = foretold.picture_s if foretold else None
        self._in_flight[command.generation_id] = InFlight(command, sent_at=now, estimated_s=estimated_s)
        self.num_sent += 1
        self.idle.clear()
        if self._foresight is not None:
            self._foresight.add(command, now)

    def cancel(self, generation_id: str) -> bool:
        """False if it has ended, or was cancelled before."""
        generation = self._in_flight.get(generation_id)
        if generation is None or generation.is_cancelled:
            return False
        generation.is_cancelled = True
        if self._foresight is not None:
            self._foresight.remove(generation_id)
        return True

    def commands(self, now: float) -> list[Generate]:
        """All commands in flight, for a new process."""
        commands = [generation.command_now(now) for generation in self._in_flight.values()]
        if self._foresight is not None:
            for command in commands:
                self._foresight.add(command, now)
        return commands

    def advanced(self, message: GenerationStarted | StepFinished | wire.FramesAt, now: float) -> None:
        """The process has begun a generation or done a piece of it."""
        assert self._foresight is not None, "a process that works has warmed up"
        match message:
            case GenerationStarted(generation_id=generation_id, num_steps=num_steps, degraded=degraded):
                self._in_flight[generation_id].started_at = now
                self._foresight.begun(generation_id, num_steps, degraded, now)
            case StepFinished(generation_id=generation_id):
                self.statistics.num_steps += 1
                self._foresight.advanced(generation_id, Piece.STEP, now)
            case wire.FramesAt(generation_id=generation_id, step_index=step_index):
                self._foresight.advanced(generation_id, Piece.DECODE if step_index < 0 else Piece.PREVIEW, now)

    def spent(self, message: wire.Spent) -> None:
        """The process has done a piece of work. Those that it served share its seconds.

        A generation that was cancelled meanwhile is still here: its end comes after this message.
        """
        for generation_id in message.generation_ids:
            if generation_id in self._in_flight:
                self._in_flight[generation_id].engine_s += message.seconds / len(message.generation_ids)

    def lose(self, max_attempts: int) -> list[GenerationEnd]:
        """The process is lost. Returns the ends of the generations that are not made again."""
        ends: list[GenerationEnd] = []
        for generation_id, generation in self._in_flight.items():
            generation.num_losses += generation.started_at is not None
            generation.started_at = None
            if self._foresight is not None:
                self._foresight.start_again(generation_id)
            if generation.is_cancelled:
                ends.append(GenerationCancelled(generation_id, 0))
            elif generation.num_losses >= max_attempts:
                message = f"the engine was lost {generation.num_losses} times while it made this"
                ends.append(GenerationFailed(generation_id, "engine_lost", message, retryable=True))
        return ends

    def end(self, event: GenerationEnd, now: float) -> GenerationEnd:
        """Forgets the generation. Returns its end with the engine's seconds."""
        generation = self._in_flight.pop(event.generation_id)
        if not self._in_flight:
            self.idle.set()
        if self._foresight is not None:
            self._foresight.remove(event.generation_id)
            if isinstance(event, GenerationFinished) and generation.estimated_s is not None:
                self._foresight.record_outcome(generation.estimated_s, now - generation.sent_at)
        match event:
            case GenerationFinished():
                self.statistics.num_finished += 1
            case GenerationCancelled():
                self.statistics.num_cancelled += 1
            case GenerationFailed():
                self.statistics.num_failed += 1
        return replace(event, engine_s=generation.engine_s)

    # --- estimates ------------------------------------------------------------------------------------------------

    def foresee(self, ready: wire.WarmedUp, rows: tuple[CostRow, ...]) -> None:
        """A process has warmed up. Takes its costs and keeps the record of the process before it."""
        foresight = Foresight(ready.ladder, ready.num_pieces, rows, max_batch=ready.max_batch)
        if self._foresight is not None:
            foresight.inherit(self._foresight)
        self._foresight = foresight

    def measured(self, rows: tuple[CostRow, ...]) -> None:
        if self._foresight is not None:
            self._foresight.cost.take(rows)

    def estimate(self, command: Generate, now: float, until_ready_s: float) -> Estimate | None:
        return self._foresight.estimate(command, now, until_ready_s) if self._foresight is not None else None

    def cost_s(self, quality: Quality) -> float | None:
        return self._foresight.cost.clip_s(0, quality) if self._foresight is not None else None

    def costs(self) -> tuple[CostEntry, ...]:
        return self._foresight.cost.entries() if self._foresight is not None else ()

    def cost_rows(self) -> tuple[CostRow, ...]:
        return self._foresight.cost.rows() if self._foresight is not None else ()

    @property
    def estimate_error_p90(self) -> float | None:
        return self._foresight.error_p90 if self._foresight is not None else None

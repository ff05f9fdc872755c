"""`faulty_server.py FAULT FLAGS…`: the real `sceneshift serve` with a scripted fault. Started by tests and a bench.

On SIGUSR1 a neighbour of the task causes the fault, as a bug or a full machine would. `clock-ahead` and `clock-back`
move the wall clock by a day, as NTP or a user would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any


class WallTime:
    """Stands in for `time.time` before anything of the server has kept a reference to it."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.offset_s


time.time = wall_time = WallTime()

import server.__main__  # noqa: E402
from engine.api import Event, Quality  # noqa: E402
from engine.synthetic import SyntheticEngine  # noqa: E402
from server.media.webrtc.pacer import Pacer  # noqa: E402

CLOCK_STEPS_S = {"clock-ahead": 86_400.0, "clock-back": -86_400.0}


class FaultyEngine(SyntheticEngine):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self._fault = fault
        self._is_struck = False
        signal.signal(signal.SIGUSR1, self._strike)

    def _strike(self, number: int, frame: Any) -> None:
        self._is_struck = True
        if self._fault == "pacer":
            Pacer.round = failing_for_one(Pacer.round)  # type: ignore[method-assign]
        if self._fault in CLOCK_STEPS_S:
            wall_time.offset_s = CLOCK_STEPS_S[self._fault]

    async def events(self) -> AsyncIterator[Event]:
        """The task that reads these events dies, or gets one event that it cannot read."""
        async for event in super().events():
            if self._is_struck and self._fault == "engine-events":
                raise ZeroDivisionError("scripted")
            if self._is_struck and self._fault == "one-event":
                self._is_struck = False
                yield None  # type: ignore[misc]
            yield event

    def cost_s(self, quality: Quality) -> float:
        """The ticking task calls it while a controller waits for a stage."""
        if self._is_struck and self._fault == "session-ticks":
            raise ZeroDivisionError("scripted")
        return super().cost_s(quality)

    async def _run(self) -> None:
        """Becomes ready when the test says so, so that this happens after something else."""
        while self._fault == "late-start" and not self._is_struck:  # noqa: ASYNC110  a signal's flag
            await asyncio.sleep(0.02)
        await super()._run()

    async def _generate(self, command: Any) -> bool:
        """The engine's own task dies: its events end."""
        if self._is_struck and self._fault == "engine":
            raise ZeroDivisionError("scripted")
        return await super()._generate(command)


def failing_for_one(work: Callable[..., Any]) -> Callable[..., Any]:
    """A method that raises for the first object that calls it, each time: one show's task dies, others go on."""
    failing: list[object] = []

    def call(self: object, *arguments: Any) -> Any:
        if not failing:
            failing.append(self)
        if self is failing[0]:
            raise ZeroDivisionError("scripted")
        return work(self, *arguments)

    return call


if __name__ == "__main__":
    if "--token" not in sys.argv:
        os.environ["SCENESHIFT_NO_TOKEN"] = "true"  # not a flag, because the bench also runs older checkouts
    server.__main__._engine = lambda settings: FaultyEngine(sys.argv[1])
    sys.exit(server.__main__.main(["serve", *sys.argv[2:]]))

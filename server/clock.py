"""Monotonic time that can be injected: the real clock, and one that tests move by hand.

Used by everything in `server` that waits for a due time. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds from an arbitrary origin that never go back."""

    def now(self) -> float: ...

    async def sleep_until(self, due: float) -> None:
        """Return at `due` or soon after it; at once, without giving up the loop, if `due` has passed. Cancellable."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep_until(self, due: float) -> None:
        remaining_s = due - time.monotonic()
        if remaining_s > 0:
            await asyncio.sleep(remaining_s)


class FakeClock:
    """Time for tests: stands still until `advance` moves it past the sleepers, one due time after the other."""

    # After a sleeper wakes it may take some turns of the loop until it sleeps again; a program's turn takes about five.
    NUM_TURNS = 20

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    @property
    def num_sleepers(self) -> int:
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    async def sleep_until(self, due: float) -> None:
        if due <= self._now:
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (due, next(self._order), sleeper))
        await sleeper

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking every sleeper at its own due time and letting it run before the next."""
        await self._settle()
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, sleeper = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not sleeper.done():  # a cancelled sleeper stays in the heap until its time
                sleeper.set_result(None)
                await self._settle()
        self._now = end
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(self.NUM_TURNS):
            await asyncio.sleep(0)

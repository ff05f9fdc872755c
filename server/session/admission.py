"""Admission: expected engine load, room for one more session, and the queue.

Pure bookkeeping with an injected clock, on the event loop; `registry.py` calls it. A session's load is its rate of
generations times the cost of one. The rate is the mean of a Gamma distribution with a prior of one generation in
`PRIOR_GAP_S`; observations decay with a time constant of `MEMORY_S`. So a new session counts as a quiet show, a busy
one counts by its own rate, and a burst is forgiven within a minute.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from server.clock import Clock
from server.protocol.errors import Refused

# A show that is prompted by hand changes its scene every twenty seconds or less often.
PRIOR_GAP_S = 20.0
MEMORY_S = 60.0
# Share of the engine's time. At this load the mean wait of an M/D/1 queue is the time of two clips (0.8 / (2 * 0.2)),
# as a prompt's deadline allows (`prompts.PROMISE_COSTS`). The wait doubles at 0.89.
CAPACITY = 0.8
# `session.queued` is repeated this often, so that the controller knows that its connection is alive.
QUEUED_EVERY_S = 5.0
# ... and at once if the estimated wait has changed by more than this share.
WAIT_CHANGE = 0.25
MIN_RETRY_S = 5.0
MAX_RETRY_S = 600.0
# The weight of the newest session in the mean duration.
_NEWEST = 0.2


class Rate:
    """Events a second of one session; see the module."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._num_events = 0.0
        self._seconds = 0.0
        self._updated_at = clock.now()

    def count(self) -> None:
        self._update()
        self._num_events += 1.0

    @property
    def per_s(self) -> float:
        self._update()
        return (1.0 + self._num_events) / (PRIOR_GAP_S + self._seconds)

    def _update(self) -> None:
        now = self._clock.now()
        passed_s, self._updated_at = now - self._updated_at, now
        kept = math.exp(-passed_s / MEMORY_S)
        self._num_events *= kept
        self._seconds = self._seconds * kept + MEMORY_S * (1.0 - kept)


class Admission:
    """The sessions' rates and their mean duration."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rates: dict[str, Rate] = {}
        self._opened_at: dict[str, float] = {}
        self._mean_duration_s: float | None = None

    def open(self, session_id: str) -> None:
        self._rates[session_id] = Rate(self._clock)
        self._opened_at[session_id] = self._clock.now()

    def close(self, session_id: str) -> None:
        """Does nothing for an unknown session."""
        if self._rates.pop(session_id, None) is None:
            return
        duration_s = self._clock.now() - self._opened_at.pop(session_id)
        mean_s = self._mean_duration_s
        self._mean_duration_s = duration_s if mean_s is None else mean_s + _NEWEST * (duration_s - mean_s)

    def generated(self, session_id: str) -> None:
        """The engine began a generation of this session, not one reused from the cache."""
        if session_id in self._rates:
            self._rates[session_id].count()

    def load(self, cost_s: dict[str, float]) -> float:
        """Engine seconds a second. `cost_s` is what a generation costs, by session id."""
        return sum(rate.per_s * cost_s.get(session_id, 0.0) for session_id, rate in self._rates.items())

    def has_room(self, cost_s: dict[str, float], newcomer_cost_s: float, num_more: int = 0) -> bool:
        """Whether there is room for a session after `num_more` that were called. The first always has room."""
        if not self._rates and not num_more:
            return True
        return self.load(cost_s) + (1 + num_more) * newcomer_cost_s / PRIOR_GAP_S <= CAPACITY

    def wait_s(self, position: int) -> float | None:
        """Expected time until `position` sessions have ended, if they end at random; None before the first end."""
        if self._mean_duration_s is None or not self._rates:
            return None
        return position * self._mean_duration_s / len(self._rates)

    def retry_after_s(self, num_queued: int) -> float:
        wait_s = self.wait_s(num_queued + 1)
        return MIN_RETRY_S if wait_s is None else min(MAX_RETRY_S, max(MIN_RETRY_S, wait_s))


@dataclass(eq=False, slots=True)
class Ticket:
    """One controller's place in the queue. `position` counts from 1; `is_called`: there is room now."""

    cost_s: float
    position: int = 0
    wait_s: float | None = None
    is_called: bool = False
    refusal: Refused | None = None
    _told: tuple[int, float | None, float] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def news(self) -> bool:
        """Waits for a change that the controller should know; True when it may come in. Raises `Refused`."""
        await self._changed.wait()
        self._changed.clear()
        if self.refusal is not None:
            raise self.refusal
        return self.is_called

    def call(self) -> None:
        self.is_called = True
        self._changed.set()

    def refuse(self, refusal: Refused) -> None:
        self.refusal = refusal
        self._changed.set()

    def tell(self, position: int, wait_s: float | None, now: float) -> None:
        """Wakes the controller if this is news, or if it has heard nothing for a while."""
        self.position, self.wait_s = position, wait_s
        if self._told is None or self._is_news(*self._told, now):
            self._told = (position, wait_s, now)
            self._changed.set()

    def _is_news(self, told_position: int, told_wait_s: float | None, told_at: float, now: float) -> bool:
        if self.position != told_position or now - told_at >= QUEUED_EVERY_S:
            return True
        if self.wait_s is None or told_wait_s is None:
            return self.wait_s is not told_wait_s
        return abs(self.wait_s - told_wait_s) > WAIT_CHANGE * told_wait_s


class Queue:
    """Controllers that wait for a stage, first come first served. Bound: `max_queued`; more are refused."""

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(list(self._tickets))

    @property
    def is_full(self) -> bool:
        return len(self._tickets) >= self._max_queued

    @property
    def num_called(self) -> int:
        return sum(ticket.is_called for ticket in self._tickets)

    def join(self, ticket: Ticket) -> None:
        self._tickets.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Does nothing for a ticket that has left already."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def tell_all(self, admission: Admission, now: float) -> None:
        for position, ticket in enumerate(self._tickets, start=1):
            if not ticket.is_called:
                ticket.tell(position, admission.wait_s(position), now)

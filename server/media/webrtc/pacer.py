"""Times the packets of all senders of a program with one clock, and measures how late they leave.

A frame's packets must not leave at once: on a 4 Mbit/s link with a queue of 32 KB, bursts lost 166 packets and froze
the picture four times in seven seconds; spaced packets had no loss. One timer serves all senders, because one timer
each made 64 viewers late (p99 55 ms). The program owns it. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from server.clock import Clock

_log = logging.getLogger(__name__)

# Packets that are due within a millisecond leave now: epoll's timers are no finer.
GRANULARITY_S = 0.001
# The least time between two rounds, because each visits every sender that waits.
MIN_ROUND_S = 0.002
_BUCKET_S = 0.00025
_NUM_BUCKETS = 400


class Paced(Protocol):
    """A sender whose packets the pacer times."""

    def flush(self, now: float, lateness: Lateness) -> float | None:
        """Send what is due by `now`; return when the next packet is due, None if there is none."""


class Lateness:
    """How late packets left, as a histogram of quarter milliseconds up to 0.1 s."""

    def __init__(self) -> None:
        self._buckets = [0] * (_NUM_BUCKETS + 1)
        self.num_packets = 0

    def note(self, lateness_s: float, num_packets: int = 1) -> None:
        self._buckets[min(_NUM_BUCKETS, max(0, int(lateness_s / _BUCKET_S)))] += num_packets
        self.num_packets += num_packets

    def quantile_s(self, share: float) -> float:
        """The upper edge of the bucket that holds this share of the packets; 0.0 before the first."""
        wanted, seen = share * self.num_packets, 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return (index + 1) * _BUCKET_S
        return 0.0


class Pacer:
    """Visits the senders that have packets, in turns, so that none is always the last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._active: dict[Paced, None] = {}
        self._woken = asyncio.Event()
        self.lateness = Lateness()

    def add(self, paced: Paced) -> None:
        """This sender has packets: it is visited in the next `round`, and then at its own pace."""
        self._active[paced] = None
        self._woken.set()

    def remove(self, paced: Paced) -> None:
        self._active.pop(paced, None)

    async def run(self) -> None:
        """Runs as long as the program, which owns the task."""
        while True:
            next_due = self.round()
            if next_due is None:
                self._woken.clear()
                await self._woken.wait()
            else:
                await self._clock.sleep_until(max(next_due - GRANULARITY_S / 2, self._clock.now() + MIN_ROUND_S))

    def round(self) -> float | None:
        """Send all that is due now; returns when more is due, None if no sender waits."""
        next_due: float | None = None
        for paced in list(self._active):
            due = self._flush(paced)
            if due is None:
                self._active.pop(paced, None)
            elif next_due is None or due < next_due:
                next_due = due
        if len(self._active) > 1:
            first = next(iter(self._active))
            self._active[first] = self._active.pop(first)  # to the end
        return next_due

    def _flush(self, paced: Paced) -> float | None:
        try:
            return paced.flush(self._clock.now(), self.lateness)
        except Exception:
            # Boundary between senders: an error in one must not stop the others.
            _log.exception("! a sender failed")
            return None

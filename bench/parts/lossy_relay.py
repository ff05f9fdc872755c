"""A bad network between a viewer and the program: a UDP relay with loss, delay, a bottleneck and outages, by script.

Asyncio, on loopback. The viewer gets the relay's address in place of the server's; the server receives the viewer's
packets from the relay's other socket. Randomness is seeded: a scenario is the same in every run.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Path:
    """One direction. `rate` in bits per second (None: no bottleneck) with a queue of `queue_bytes` before it."""

    loss: float = 0.0
    delay_s: float = 0.0
    rate: float | None = None
    queue_bytes: int = 32 * 1024


@dataclass(slots=True)
class _Direction:
    path: Path
    chance: random.Random
    free_at: float = 0.0
    num_passed: int = 0
    num_dropped: int = 0
    is_out: bool = False
    last_due: float = 0.0
    timers: set[asyncio.TimerHandle] = field(default_factory=set)

    def due_at(self, now: float, num_bytes: int) -> float | None:
        """When a packet comes out at the other end; None if it never does."""
        if self.is_out or self.chance.random() < self.path.loss:
            self.num_dropped += 1
            return None
        sent_at = now
        if self.path.rate is not None:
            queued_bytes = max(0.0, self.free_at - now) * self.path.rate / 8
            if queued_bytes + num_bytes > self.path.queue_bytes:
                self.num_dropped += 1
                return None
            self.free_at = max(now, self.free_at) + num_bytes * 8 / self.path.rate
            sent_at = self.free_at
        self.num_passed += 1
        self.last_due = max(self.last_due, sent_at + self.path.delay_s)  # in order
        return self.last_due


class LossyRelay:
    """One viewer's network. `front` is where the viewer sends to, `down` is towards it."""

    def __init__(self, server: tuple[str, int], down: Path, up: Path | None = None, *, seed: int = 1) -> None:
        self._server = server
        self._viewer: tuple[str, int] | None = None
        self._down = _Direction(down, random.Random(seed))
        self._up = _Direction(up or Path(delay_s=down.delay_s), random.Random(seed + 1))
        self._front: Any = None
        self._back: Any = None

    async def open(self, host: str) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: _Receiver(self._from_viewer), local_addr=(host, 0))
        self._back, _ = await loop.create_datagram_endpoint(lambda: _Receiver(self._from_server), local_addr=(host, 0))
        address: tuple[str, int] = self._front.get_extra_info("sockname")[:2]
        return address

    def close(self) -> None:
        for direction in (self._down, self._up):
            for timer in direction.timers:
                timer.cancel()
        for transport in (self._front, self._back):
            if transport is not None:
                transport.close()

    def cut(self, is_out: bool) -> None:
        """No packet passes while `is_out` is true."""
        self._down.is_out = self._up.is_out = is_out

    @property
    def num_dropped(self) -> int:
        return self._down.num_dropped

    def _from_viewer(self, packet: bytes, address: tuple[str, int]) -> None:
        self._viewer = address
        self._pass(self._up, packet, lambda: self._back.sendto(packet, self._server))

    def _from_server(self, packet: bytes, address: tuple[str, int]) -> None:
        self._pass(self._down, packet, lambda: self._viewer and self._front.sendto(packet, self._viewer))

    @staticmethod
    def _pass(direction: _Direction, packet: bytes, send: Any) -> None:
        loop = asyncio.get_running_loop()
        due = direction.due_at(loop.time(), len(packet) + 28)
        if due is None:
            return
        if due <= loop.time():
            send()
            return

        def leave() -> None:
            direction.timers.discard(timer)
            send()

        timer = loop.call_at(due, leave)
        direction.timers.add(timer)


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, receive: Any) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data, addr[:2])

    def error_received(self, exc: Exception) -> None:
        """The other end is gone. UDP reports it at the next packet; we ignore it."""

"""A show on a running server, and what its viewer and the server's machine notice while something else happens to it.

One controller, one prompt on air, one viewer over WebSocket. `bench.live.hostile` attacks beside it. Asyncio; the
caller that opens it closes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.attacks.attacker import SHOW, until
from bench.parts.served import Served

# By then, encoders have allocated their memory.
WARM_S = 2.0
# How long we wait for a server to answer again: 120 s is longer than any attack here took.
RECOVERY_S = 120.0
# Viewers that never connect keep their sockets for 5 s, recordings and stages end within 2 s.
FILES_BACK_S = 15.0
_DELAYED_S = 1.0  # for frames that are late, and for the next `stats.updated`


@dataclass(slots=True)
class Noticed:
    """The worst since `Show.begin`."""

    stall_s: float = 0.0  # between two frames at the viewer
    play_ratio: float = 1.0  # the server's own figure, of the whole show
    livez_s: float = 0.0  # for an answer of /livez
    growth_mb: float = 0.0
    num_files: int = 0  # opened at once, beyond those of the show
    num_files_left: int = 0  # still open after `settle`
    num_log_bytes: int = 0


class Show:
    """See the module. `begin` before an attack, `settle` after it."""

    def __init__(self, server: Served, http: aiohttp.ClientSession) -> None:
        self.noticed = Noticed()
        self._server = server
        self._http = http
        self._first_mb = 0.0
        self._first_files = 0
        self._first_log_bytes = 0
        self._last_frame_at = 0.0
        self._play_ratio = 1.0
        self._answered = asyncio.Event()  # by /livez
        self._tasks: list[asyncio.Task[None]] = []  # each lasts as long as the server serves it

    @asynccontextmanager
    async def on(self) -> AsyncIterator[Show]:
        async with self._http.ws_connect("/v1/realtime") as controller:
            await controller.send_json({"type": "session.start", "name": SHOW, "on_preview": "off"})
            await until(controller, "session.created")
            await controller.send_json({"type": "prompt.set", "text": "scene 1", "transition": "cut"})
            await until(controller, "prompt.applied")
            async with self._http.ws_connect(f"/v1/sessions/{SHOW}/watch", max_msg_size=0) as viewer:
                await viewer.receive_str()  # `stream.started`
                await viewer.receive_bytes()
                works = self._read(controller), self._watch(viewer), self._ask(), self._weigh()
                self._tasks = [asyncio.create_task(work) for work in works]
                try:
                    await asyncio.sleep(WARM_S)
                    self.begin()
                    yield self
                finally:
                    for task in self._tasks:
                        task.cancel()
                    await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_on(self) -> bool:
        """Whether its controller, its viewer and /livez are still served."""
        return not any(task.done() for task in self._tasks)

    def begin(self) -> None:
        self.noticed = Noticed(play_ratio=self._play_ratio)
        self._first_mb, self._first_files = _resident_mb(self._server.pid), _num_files(self._server.pid)
        self._first_log_bytes = self._server.num_log_bytes
        self._last_frame_at = time.monotonic()

    async def settle(self) -> Noticed:
        """Waits until the server answers again, late frames have come, and the attacker's files are closed."""
        self._answered.clear()
        async with asyncio.timeout(RECOVERY_S):
            await self._answered.wait()
        await asyncio.sleep(_DELAYED_S)
        # A stall that still lasts has brought no frame to end it.
        self._saw_no_frame()
        noticed = self.noticed
        noticed.play_ratio = self._play_ratio
        noticed.num_log_bytes = self._server.num_log_bytes - self._first_log_bytes
        give_up_at = time.monotonic() + FILES_BACK_S
        while (left := _num_files(self._server.pid) - self._first_files) > 0 and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        noticed.num_files_left = max(0, left)
        return noticed

    async def _read(self, controller: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in controller:
            message = json.loads(frame.data)
            if message["type"] == "stats.updated":
                self._play_ratio = message["continuous_play_ratio"]

    async def _watch(self, viewer: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in viewer:
            self._saw_no_frame()
            self._last_frame_at = time.monotonic()

    def _saw_no_frame(self) -> None:
        """Since the last one, up to now."""
        self.noticed.stall_s = max(self.noticed.stall_s, time.monotonic() - self._last_frame_at)

    async def _ask(self) -> None:
        while True:
            asked_at = time.monotonic()
            async with self._http.get("/livez"):  # one kept connection
                self.noticed.livez_s = max(self.noticed.livez_s, time.monotonic() - asked_at)
            self._answered.set()
            await asyncio.sleep(0.01)

    async def _weigh(self) -> None:
        while True:
            noticed = self.noticed
            noticed.growth_mb = max(noticed.growth_mb, _resident_mb(self._server.pid) - self._first_mb)
            noticed.num_files = max(noticed.num_files, _num_files(self._server.pid) - self._first_files)
            await asyncio.sleep(0.05)


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _num_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))

"""A second engine process with its imports done, so that a recovery need not wait for them.

`engine.process.supervisor` owns it, on its loop. Its imports take a core for seconds, so they start when the engine is
idle and pause while it works. Without that, a fresh server's play ratio was 0.989, and its first clip took three times
as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from engine.config import EngineSettings
from engine.process.child import Child
from engine.process.ledger import Ledger

logger = logging.getLogger(__name__)

# The engine must have been idle for this long before the spare process starts.
SPARE_AFTER_IDLE_S = 3.0


class Spare:
    """At most one spare process. `ledger` says whether there is work."""

    def __init__(
        self, settings: EngineSettings, ledger: Ledger, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._sleep = sleep
        self._task: asyncio.Task[Child] | None = None
        self._is_waiting = False  # for an idle engine
        self._importing: Child | None = None

    @property
    def pid(self) -> int | None:
        """None before the process runs and after it was taken."""
        return self._importing.pid if self._importing is not None else None

    def prepare(self) -> None:
        """Starts one as soon as the engine is idle, unless there is one."""
        if self._task is None:
            self._task = asyncio.create_task(self._spawn_when_idle(), name="engine-spare")

    async def settled(self) -> None:
        """Returns when the process runs; at once if none was prepared."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def take(self) -> Child | None:
        """The spare process, if there is one. If it died while it waited, the supervisor notices when it loads."""
        task = await self._given_up()
        if task is None:
            return None
        try:
            process = await task
        except OSError as error:
            logger.warning("! the spare engine process could not be started: %s", error)
            return None
        process.go_on()
        return process

    def pause(self) -> None:
        """There is work: stops the imports."""
        if self._importing is not None:
            self._importing.pause()

    def go_on(self) -> None:
        """There is no work left: continues the imports."""
        if self._importing is not None:
            self._importing.go_on()

    async def close(self) -> None:
        task = await self._given_up()
        if task is not None:
            with contextlib.suppress(OSError):  # it could not be started
                await (await task).close()

    async def _given_up(self) -> asyncio.Task[Child] | None:
        """Hands the task over to the caller. None if there is no task, or it has not started a process yet."""
        task, self._task = self._task, None
        self._importing = None
        if task is not None and self._is_waiting:
            task.cancel()
            await asyncio.wait([task])
            return None
        return task

    async def _spawn_when_idle(self) -> Child:
        self._is_waiting = True
        while True:
            await self._ledger.idle.wait()
            num_sent = self._ledger.num_sent
            await self._sleep(SPARE_AFTER_IDLE_S)
            if self._ledger.idle.is_set() and self._ledger.num_sent == num_sent:
                break
        self._is_waiting = False
        self._importing = await Child.spawn(self._settings)
        if not self._ledger.idle.is_set():
            self._importing.pause()
        return self._importing

"""Essential tasks: if one ends before its owner ends it, the owner is useless.

The registry has the server's: if one dies, the process ends, so that systemd, Docker or k8s start another one. Each
program has those of its show: if one dies, that show ends. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)


class EssentialTasks:
    """`on_death` is called at most once, on the event loop, with the name of the first that has ended by itself."""

    def __init__(self, on_death: Callable[[str], None] = lambda name: None) -> None:
        self.dead: str | None = None
        self._on_death = on_death
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def expect_end(self) -> None:
        """The owner begins to close: a task that ends from now on ends in order."""
        self._is_closed = True

    async def close(self) -> None:
        """Cancels all, and waits until they have ended. Idempotent."""
        self.expect_end()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None or not self._is_closed:
            _log.critical("- ! task %s died", task.get_name(), exc_info=error)
        if self._is_closed or self.dead is not None:
            return
        self.dead = task.get_name()
        self._on_death(self.dead)

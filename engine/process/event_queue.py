"""The queue of engine events from the supervisor to its one reader. Pure asyncio, on the supervisor's loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from engine.api import Event, PreviewReady


class EventQueue:
    """Events for one reader. Beyond `max_previews` it drops the oldest preview; the work bounds all other events."""

    def __init__(self, max_previews: int) -> None:
        self._events: deque[Event] = deque()
        self._max_previews = max_previews
        self._num_previews = 0
        self._changed = asyncio.Event()
        self._is_closed = False
        self.num_dropped = 0

    def put(self, event: Event) -> None:
        if isinstance(event, PreviewReady):
            if self._num_previews >= self._max_previews:
                self._events.remove(next(old for old in self._events if isinstance(old, PreviewReady)))
                self._num_previews -= 1
                self.num_dropped += 1
            self._num_previews += 1
        self._events.append(event)
        self._changed.set()

    def close(self) -> None:
        self._is_closed = True
        self._changed.set()

    async def read(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                event = self._events.popleft()
                self._num_previews -= isinstance(event, PreviewReady)
                yield event
            if self._is_closed:
                return
            self._changed.clear()
            await self._changed.wait()

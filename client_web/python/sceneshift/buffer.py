"""A bounded buffer of events that wait for their reader; it never blocks the connection. Runs on one event loop."""

from __future__ import annotations

import asyncio
from collections import deque

from sceneshift.decoding import type_of
from sceneshift.protocol.messages import ServerMessage

LENGTH = 256
# Events that the next one of their kind makes obsolete.
_OF_THE_MOMENT = frozenset({"prompt.preview", "stats.updated", "session.queued"})


class EventBuffer:
    """At most `length` events. When it is full, the oldest preview or statistic is dropped, else the oldest event."""

    def __init__(self, length: int = LENGTH) -> None:
        self._length = length
        self._events: deque[ServerMessage] = deque()
        self._changed = asyncio.Event()
        self._is_ended = False
        self._error: Exception | None = None
        self.num_dropped = 0

    def put(self, event: ServerMessage) -> None:
        if len(self._events) >= self._length:
            self.num_dropped += 1
            self._events.remove(next((old for old in self._events if type_of(old) in _OF_THE_MOMENT), self._events[0]))
        self._events.append(event)
        self._changed.set()

    def end(self, error: Exception | None) -> None:
        """No more will come. The reader gets the waiting events, and then `error`, if there is one."""
        self._is_ended, self._error = True, error
        self._changed.set()

    def __aiter__(self) -> EventBuffer:
        return self

    async def __anext__(self) -> ServerMessage:
        """The oldest event. If cancelled, nothing is lost."""
        while not self._events:
            if self._is_ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

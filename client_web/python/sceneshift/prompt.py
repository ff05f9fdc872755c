"""One prompt for its sender: futures to await, from its acceptance to its end. Runs on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sceneshift.decoding import END_TYPES, type_of
from sceneshift.errors import NotShown, Refused, SceneshiftError
from sceneshift.protocol.messages import (
    PromptAccepted,
    PromptApplied,
    PromptPreview,
    PromptRejected,
    PromptStarted,
    ServerMessage,
)

T = TypeVar("T")


class Prompt:
    """Await the futures that you need. Each may be awaited often, and cancelling one wait disturbs no other.

    All raise `Refused` if the server refused the prompt, and `SessionLost` if the session was lost first.
    """

    def __init__(self, prompt_id: str, text: str, on_end: Callable[[str], None]) -> None:
        self.prompt_id = prompt_id
        self.text = text
        self._on_end = on_end
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[PromptAccepted] = loop.create_future()
        self._started: asyncio.Future[PromptStarted | None] = loop.create_future()
        self._preview: asyncio.Future[PromptPreview | None] = loop.create_future()
        self._picture: asyncio.Future[PromptApplied] = loop.create_future()
        self._ended: asyncio.Future[ServerMessage] = loop.create_future()

    @property
    def accepted(self) -> asyncio.Future[PromptAccepted]:
        """The server accepted it: its seed, and the expected times of its preview and its picture."""
        return asyncio.shield(self._accepted)

    @property
    def started(self) -> asyncio.Future[PromptStarted | None]:
        """The engine works on it: which words the model understood. Raises `NotShown` if it ended before."""
        return asyncio.shield(self._started)

    @property
    def preview(self) -> asyncio.Future[PromptPreview | None]:
        """The first preview (as JPEG, or the frame that shows it); None if the clip came without. Raises `NotShown`."""
        return asyncio.shield(self._preview)

    @property
    def picture(self) -> asyncio.Future[PromptApplied]:
        """The clip is on air: which frame first shows it, where the time went. Raises `NotShown` for another end."""
        return asyncio.shield(self._picture)

    @property
    def ended(self) -> asyncio.Future[ServerMessage]:
        """The event that ended it, of whatever kind."""
        return asyncio.shield(self._ended)

    @property
    def is_ended(self) -> bool:
        return self._ended.done()

    def hear(self, event: ServerMessage) -> None:
        """Takes an event of this prompt. For `conversation.Conversation`."""
        match event:
            case PromptAccepted():
                _set(self._accepted, event)
            case PromptStarted():
                _set(self._started, event)
            case PromptPreview():
                _set(self._preview, event)
            case _ if type_of(event) in END_TYPES:
                self._end(event)

    def fail(self, error: SceneshiftError) -> None:
        """No end will come: fails all futures. For `conversation.Conversation`."""
        for future in (self._accepted, self._started, self._preview, self._picture, self._ended):
            _fail(future, error)

    def _end(self, end: ServerMessage) -> None:
        self._on_end(self.prompt_id)
        _set(self._ended, end)
        if isinstance(end, PromptApplied):
            _set(self._picture, end)
            _set(self._started, None)
            _set(self._preview, None)
            return
        error: SceneshiftError = Refused.by(end.error) if isinstance(end, PromptRejected) else NotShown(end)
        for future in (self._accepted, self._started, self._preview, self._picture):
            _fail(future, error)


def _set(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as retrieved, because callers need not await all of them

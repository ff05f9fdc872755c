"""The same stage for programs without asyncio: a thread with an event loop, and blocking calls.

It has no logic of its own: each call runs the async one on the loop's thread and waits in the caller's thread. Safe to
use from several threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from sceneshift.conversation import State
from sceneshift.prompt import Prompt
from sceneshift.protocol.messages import (
    PromptAccepted,
    PromptApplied,
    PromptPreview,
    PromptStarted,
    ServerMessage,
    SessionCreated,
    StatsUpdated,
)
from sceneshift.session import Session, connect

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def connect_sync(url: str | None = None, token: str | None = None, **options: Any) -> Iterator[BlockingSession]:
    """As `connect`, with the same arguments, for ``with``."""
    with _loop() as loop:
        stack = AsyncExitStack()
        session = _wait(loop, stack.enter_async_context(connect(url, token, **options)))
        try:
            yield BlockingSession(session, loop)
        finally:
            _wait(loop, stack.aclose())


def _blocking(
    method: Callable[Concatenate[Session, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingSession, P], T]:
    def call(self: BlockingSession, /, *arguments: P.args, **options: P.kwargs) -> T:
        return _wait(self._loop, method(self._session, *arguments, **options))

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call


class BlockingSession:
    """`session.Session`, blocking."""

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop

    request = _blocking(Session.request)
    take = _blocking(Session.take)
    show = _blocking(Session.show)
    blank = _blocking(Session.blank)
    resume = _blocking(Session.resume)
    update = _blocking(Session.update)
    record = _blocking(Session.record)
    push = _blocking(Session.push)

    def prompt(self, text: str, *, prompt_id: str | None = None, **options: Any) -> BlockingPrompt:
        """As `Session.prompt`."""
        prompt = _wait(self._loop, self._session.prompt(text, prompt_id=prompt_id, **options))
        return BlockingPrompt(prompt, self._loop)

    def cancel(self, prompt: BlockingPrompt | str) -> ServerMessage:
        """As `Session.cancel`."""
        prompt_id = prompt if isinstance(prompt, str) else prompt.prompt_id
        return _wait(self._loop, self._session.cancel(prompt_id))

    def events(self) -> Iterator[ServerMessage]:
        """As `Session.events`."""
        events = self._session.events()

        async def next_event() -> ServerMessage | None:
            return await anext(events, None)  # a StopAsyncIteration may not leave a coroutine

        while (event := _wait(self._loop, next_event())) is not None:
            yield event

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def created(self) -> SessionCreated:
        return self._session.created

    @property
    def stats(self) -> StatsUpdated | None:
        return self._session.stats

    @property
    def whep_url(self) -> str:
        return self._session.whep_url

    @property
    def obs_url(self) -> str:
        return self._session.obs_url

    @property
    def num_dropped_events(self) -> int:
        return self._session.num_dropped_events


class BlockingPrompt:
    """`prompt.Prompt`, blocking: methods instead of futures. Raises `TimeoutError` after `timeout_s`."""

    def __init__(self, prompt: Prompt, loop: asyncio.AbstractEventLoop) -> None:
        self._prompt = prompt
        self._loop = loop

    @property
    def prompt_id(self) -> str:
        return self._prompt.prompt_id

    @property
    def text(self) -> str:
        return self._prompt.text

    def accepted(self, timeout_s: float | None = None) -> PromptAccepted:
        return self._wait(lambda: self._prompt.accepted, timeout_s)

    def started(self, timeout_s: float | None = None) -> PromptStarted | None:
        return self._wait(lambda: self._prompt.started, timeout_s)

    def preview(self, timeout_s: float | None = None) -> PromptPreview | None:
        return self._wait(lambda: self._prompt.preview, timeout_s)

    def picture(self, timeout_s: float | None = None) -> PromptApplied:
        return self._wait(lambda: self._prompt.picture, timeout_s)

    def ended(self, timeout_s: float | None = None) -> ServerMessage:
        return self._wait(lambda: self._prompt.ended, timeout_s)

    def _wait(self, future: Callable[[], asyncio.Future[T]], timeout_s: float | None) -> T:
        async def wait() -> T:
            async with asyncio.timeout(timeout_s):
                return await future()

        return _wait(self._loop, wait())


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own while the block does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sceneshift", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on the loop's thread. If the caller is interrupted (Ctrl-C), the work is cancelled."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise

"""A program's live stage: the I/O around `conversation.Conversation`. Runs on one event loop.

One task keeps the connection: it opens it, reads, and after a cut opens it again and resumes the session.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from sceneshift.address import Address
from sceneshift.buffer import EventBuffer
from sceneshift.conversation import Conversation, State, new_id
from sceneshift.errors import Refused, SceneshiftError, SessionLost, Unreachable
from sceneshift.prompt import Prompt
from sceneshift.protocol.codes import ErrorDetail
from sceneshift.protocol.messages import (
    ServerMessage,
    SessionCreated,
    SessionOptions,
    SessionQueued,
    SessionUpdated,
    StatsUpdated,
)

_log = logging.getLogger("sceneshift")

# Larger than any event: a preview is a small JPEG.
MAX_FRAME_BYTES = 8 * 2**20
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
# The server pings after 5 s of silence; so do we, and a dead link is noticed within 13 s.
PING_INTERVAL_S, PING_TIMEOUT_S = 5.0, 8.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Clock, sleep and random numbers, which tests replace."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    now: Callable[[], float] = time.monotonic


@asynccontextmanager
async def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    name: str | None = None,
    patience_s: float = 0.0,
    on_queued: Callable[[SessionQueued], None] | None = None,
    pace: Pace | None = None,
    **options: Any,
) -> AsyncIterator[Session]:
    """A stage of your own while the block runs. Its end closes the stage and waits for `session.closed`.

    Args:
        url: what `sceneshift serve` prints; else SCENESHIFT_URL, else ``http://127.0.0.1:8080``.
        token: the access token, unless it is in the url (``#token=…``) or in SCENESHIFT_TOKEN, or the server is yours
            and runs on this machine.
        name: the stage's own name, 3 to 40 of ``a-z0-9-``, so that its addresses outlive a restart of the server.
        patience_s: how long to wait for a server that cannot be reached, or is full, before giving up.
        on_queued: gets the place in the queue while the server has no room for another stage.
        pace: clock, sleep and random numbers; for tests.
        options: of the session, as in docs/protocol.md (``quality="fine"``, ``width=1280``, …).

    Raises `Refused`, `Unreachable`, and `ValueError` for an invalid address.
    """
    if name is not None:
        options["name"] = name
    session = Session(Address.of(url, token, os.environ), options, on_queued=on_queued, pace=pace or Pace())
    try:
        await session.open(patience_s)
        yield session
    finally:
        await session.close()


class Session:
    """Made by `connect`. While there is no connection, calls wait; limit them with `asyncio.timeout`."""

    def __init__(
        self,
        address: Address,
        options: dict[str, Any],
        *,
        on_queued: Callable[[SessionQueued], None] | None,
        pace: Pace,
    ) -> None:
        self._address = address
        self._on_queued = on_queued
        self._pace = pace
        self._talk = Conversation(options, self._hear)
        self._buffer = EventBuffer()
        self._stats: StatsUpdated | None = None
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gives_up_at = 0.0

    # --- state ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._talk.state

    @property
    def session_id(self) -> str:
        return str(self.created.session_id)

    @property
    def created(self) -> SessionCreated:
        """The server's answer when the session was started or resumed: options, model, estimate."""
        if self._talk.created is None:
            raise SessionLost("there is no session yet")
        return self._talk.created

    @property
    def stats(self) -> StatsUpdated | None:
        """The newest figures of the stage; they come once a second."""
        return self._stats

    @property
    def whep_url(self) -> str:
        """For players: POST an SDP offer here (with the access token as Bearer, if there is one)."""
        return self._address.whep_url(self.session_id)

    @property
    def obs_url(self) -> str:
        """For a browser source in OBS. Holds the access token, if there is one: a secret."""
        return self._address.obs_url(self.session_id)

    @property
    def num_dropped_events(self) -> int:
        """How many events `events` left out because nobody read them in time."""
        return self._buffer.num_dropped

    # --- requests ------------------------------------------------------------------------------------------------

    async def prompt(self, text: str, *, prompt_id: str | None = None, **options: Any) -> Prompt:
        """Sends a prompt; does not wait for an answer. Options (``quality``, ``seed``, …) as in docs/protocol.md."""
        prompt = Prompt(prompt_id or new_id("p-"), text, self._talk.ended)
        fields = {"text": text, "prompt_id": prompt.prompt_id, **options}
        # Only the handle gets the answer: `accepted` raises a refusal, and callers need not await it.
        self._talk.ask("prompt.set", fields, lambda answer: None, prompt=prompt)
        await self._flush()
        return prompt

    async def request(self, kind: str, /, **fields: Any) -> ServerMessage:
        """Sends any message of docs/protocol.md and returns its answer. Raises `Refused`, `SessionLost`."""
        answered: asyncio.Future[ServerMessage] = asyncio.get_running_loop().create_future()

        def answer(given: ServerMessage | SceneshiftError) -> None:
            if answered.done():
                return  # the caller was cancelled
            if isinstance(given, SceneshiftError):
                answered.set_exception(given)
            else:
                answered.set_result(given)

        self._talk.ask(kind, fields, answer)
        await self._flush()
        return await answered

    async def take(self, /, **options: Any) -> ServerMessage:
        """With ``take="manual"``: puts the waiting clip on air. Options: ``transition``, ``transition_s``."""
        return await self.request("program.take", **options)

    async def show(self, clip_id: str, /, **options: Any) -> ServerMessage:
        """Puts a finished clip of `/v1/videos` on the stage; returns `prompt.accepted`. Options: ``prompt_id``,
        ``transition``, ``transition_s``, ``after``. The events of its prompt follow, as for any other."""
        return await self.request("program.show", clip_id=clip_id, **options)

    async def blank(self) -> ServerMessage:
        """The panic button: black at once."""
        return await self.request("program.blank")

    async def resume(self) -> ServerMessage:
        """Ends the blank."""
        return await self.request("program.resume")

    async def cancel(self, prompt: Prompt | str) -> ServerMessage:
        prompt_id = prompt if isinstance(prompt, str) else prompt.prompt_id
        return await self.request("prompt.cancel", prompt_id=prompt_id)

    async def update(self, /, **options: Any) -> SessionOptions:
        """Changes options for the prompts to come, and returns all of them as they are now."""
        answer = await self.request("session.update", **options)
        assert isinstance(answer, SessionUpdated)
        self._talk.remember(options)
        return answer.options

    async def record(self, recording: bool = True) -> ServerMessage:
        """Starts or ends the recording of the program; the answer has its `name` and `url`."""
        return await self.request("program.record", recording=recording)

    async def push(self, target: str, push: bool = True) -> ServerMessage:
        """Starts or ends a push to an ingest that the operator has named; `created.push_targets` has the names."""
        return await self.request("program.push", target=target, push=push)

    def events(self) -> AsyncIterator[ServerMessage]:
        """All events of the server, in order, from `session.created` on; ends with the session.

        At most 256 events wait for their reader. Beyond that the oldest previews and figures are dropped, then the
        oldest events (`num_dropped_events`). Handles of prompts miss nothing. Of several readers, each event goes to
        one.
        """
        return self._buffer

    # --- opening and closing -------------------------------------------------------------------------------------

    async def open(self, patience_s: float) -> None:
        """For `connect`. Returns when there is a session, or raises the reason why there is none."""
        self._gives_up_at = self._pace.now() + patience_s
        self._task = asyncio.create_task(self._run(), name="sceneshift-session")
        await asyncio.shield(self._opened)

    async def close(self) -> None:
        """Ends the stage and waits for `session.closed`. Idempotent. If cancelled, the connection is dropped."""
        task = self._task
        if task is None:
            return
        try:
            was_live = self._talk.state is State.LIVE
            self._talk.close()
            await self._flush()
            if was_live:
                await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        """The session's task: one connection after the other, until it is over."""
        error: SceneshiftError = SessionLost("the session is closed")
        try:
            while not self._talk.is_over:
                await self._converse()
                if self._talk.is_over:
                    break
                if not self._opened.done() and self._pace.now() >= self._gives_up_at:
                    raise self._talk.trouble or Unreachable(f"no answer from {self._address.base}")
                await self._pace.sleep(self._talk.next_delay_s(self._pace.random()))
            if self._talk.state is State.REFUSED and self._talk.trouble is not None:
                raise self._talk.trouble
        except SceneshiftError as trouble:
            error = trouble
        except Exception:
            # Boundary of the session's task: callers that wait get an error instead of waiting forever.
            _log.exception("internal error in the session")
            error = SessionLost("internal error of the SDK; see its log")
        finally:
            self._buffer.end(None if self._talk.state is State.CLOSED else error)
            self._talk.abandon(error)
            if not self._opened.done():
                self._opened.set_exception(error)
                self._opened.exception()

    async def _converse(self) -> None:
        """One connection from its opening to its end. Network errors are not raised."""
        self._talk.connecting()
        close: tuple[int | None, str | None] = (None, None)
        try:
            async with open_socket(
                self._address.realtime_url,
                additional_headers=self._address.headers,
                max_size=MAX_FRAME_BYTES,
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=1.0,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_TIMEOUT_S,
                # A proxy from the environment is not meant for this machine.
                proxy=None if self._address.is_this_machine else True,
            ) as socket:
                self._socket = socket
                self._talk.connected()
                await self._flush()
                async for frame in socket:
                    goes_on = self._talk.received(frame)
                    await self._flush()
                    if not goes_on:
                        break
                close = (socket.close_code, socket.close_reason)
        except InvalidStatus as refusal:
            self._refused_by_http(refusal)
        except ConnectionClosed as closed:
            close = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (None, None)
        except (OSError, InvalidHandshake, TimeoutError) as trouble:
            reason = f"no Sceneshift server answers at {self._address.base}: {trouble or 'it took too long'}"
            self._talk.trouble = Unreachable(reason)
        finally:
            self._socket = None
            self._talk.lost(*close)

    def _refused_by_http(self, refusal: InvalidStatus) -> None:
        """HTTP came instead of a WebSocket: the server's answer with an error object, or a proxy's answer."""
        status = refusal.response.status_code
        try:
            error: SceneshiftError = Refused.by(
                msgspec.json.decode(refusal.response.body or b"", type=_ErrorBody).error
            )
        except msgspec.DecodeError:
            error = Unreachable(f"{self._address.base} answers with HTTP {status} instead of a WebSocket")
        if 400 <= status < 500 and status not in (408, 429):
            self._talk.refuse(error)
        else:
            self._talk.trouble = error

    async def _flush(self) -> None:
        """Sends the outgoing messages. The reader notices a cut, and unanswered messages are sent again."""
        try:
            while self._socket is not None and self._talk.outgoing:
                await self._socket.send(self._talk.outgoing.popleft())
        except ConnectionClosed:
            pass

    def _hear(self, event: ServerMessage) -> None:
        match event:
            case SessionCreated():
                if not self._opened.done():
                    self._opened.set_result(None)
            case SessionQueued():
                if self._on_queued is not None:
                    self._on_queued(event)
            case StatsUpdated():
                self._stats = event
        self._buffer.put(event)


class _ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail

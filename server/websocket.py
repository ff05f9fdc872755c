"""The WebSocket endpoint `/v1/realtime`: a thin shell around a session.

Reads, checks size, rate and shape, hands on; writes what the session's outbox gives. One `Connection` per socket, in
two tasks: the handler's, which reads, and a writer of its own. The session outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from server.admission import Ticket
from server.auth import Access
from server.clock import Clock
from server.limits import ConnectionLimits, TokenBucket
from server.messages import (
    AnyClientMessage,
    Error,
    ErrorDetail,
    MessageError,
    PromptSet,
    Refused,
    SessionClose,
    SessionPing,
    SessionPong,
    SessionQueued,
    SessionResume,
    SessionStart,
    decode,
    encode,
    error_detail,
)
from server.metrics import Metrics
from server.registry import Registry
from server.session import Session, SessionState

_log = logging.getLogger(__name__)

# Beyond our own limit of 256 KiB, whose error is answered, so far; beyond that the socket is closed (1009).
MAX_FRAME_BYTES = 4 * 1024 * 1024
# A ping after so much silence, half of it to answer: a vanished peer is noticed within 7.5 s.
HEARTBEAT_S = 5.0
CLOSE_TIMEOUT_S = 1.0


class RealtimeEndpoint:
    """Serves `GET /v1/realtime`. `close` ends the connections that have no session; the registry ends the others."""

    def __init__(
        self, registry: Registry, access: Access, *, metrics: Metrics, clock: Clock, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._registry = registry
        self._access = access
        self._metrics = metrics
        self._clock = clock
        self._connections: set[Connection] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from upgrade to close. Host and `Origin` were checked by the middleware."""
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S, heartbeat=self._heartbeat_s, max_msg_size=MAX_FRAME_BYTES, compress=False
        )
        await socket.prepare(request)
        if not self._access.has_token(request.headers, request.query):
            # Only after the upgrade: a browser tells its page the close code, but no HTTP status.
            await _refuse_socket(socket)
            return socket
        tenant = self._access.holder(request.headers, request.query)
        connection = Connection(
            socket, request, self._registry, tenant=tenant, metrics=self._metrics, clock=self._clock
        )
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
        return socket

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))


class Connection:
    """One controller's socket. Implements `session.Controller`."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        request: web.Request,
        registry: Registry,
        *,
        tenant: str,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._tenant = tenant
        self._socket = socket
        self._request = request
        self._registry = registry
        self._metrics = metrics
        self._limits = ConnectionLimits(clock)
        self._session: Session | None = None
        self._writer: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves until the peer leaves or the session ends. If cancelled, the session is detached."""
        try:
            async for frame in self._socket:
                await self._receive(frame)
        finally:
            if self._waiting is not None:
                self._waiting.cancel()
                await asyncio.wait([self._waiting])
            if self._session is not None:
                self._session.detach(self)
            if self._writer is not None:
                await self._stop_writer(self._writer)

    async def close(self) -> None:
        """Says goodbye. Idempotent."""
        if self._writer is not None:
            # The writer still has the session's last words to send, and then closes the socket itself.
            await asyncio.wait([self._writer], timeout=CLOSE_TIMEOUT_S)
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    def abort(self, reason: str) -> None:
        """Drops the TCP connection: a peer that does not read would not read a goodbye either."""
        _log.info("- x connection aborted: %s", reason)
        if self._writer is not None:
            # Now, not when the reader notices: two writers would share out the events of a session taken up elsewhere.
            self._writer.cancel()
        if self._request.transport is not None:
            self._request.transport.abort()

    # --- reading --------------------------------------------------------------------------------------------------

    async def _receive(self, frame: WSMessage) -> None:
        message: AnyClientMessage | None = None
        try:
            message = self._decode(frame)
            if message is not None:
                await self._handle(message)
        except Refused as refusal:
            await self._refuse(refusal.answer_to(message) if message is not None else refusal.detail)
        except Exception:
            # The boundary of a message: a bug that it met must not cost the session.
            _log.exception("%s ! a message met an internal error", self._session_id)
            event_id = message.event_id if message is not None else None
            await self._refuse(error_detail("internal_error", "an error of the server's", event_id=event_id))

    def _decode(self, frame: WSMessage) -> AnyClientMessage | None:
        """Raises `Refused`. None for frames that carry no message."""
        if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return None
        _check_rate(self._limits.messages, "messages")
        if frame.type is WSMsgType.BINARY:
            raise MessageError("binary_not_supported", "expected a text frame with one JSON object")
        return decode(frame.data)

    async def _handle(self, message: AnyClientMessage) -> None:
        if isinstance(message, PromptSet):
            _check_rate(self._limits.prompts, "prompts")
        if self._session is not None:
            await self._handle_in(self._session, message)
            return
        match message:
            case SessionStart() | SessionResume() if self._waiting is not None:
                raise Refused("session_exists", "this connection waits for its stage already")
            case SessionStart():
                entered = await self._registry.start(message, self, tenant=self._tenant)
                if isinstance(entered, Ticket):
                    self._waiting = asyncio.create_task(self._wait(entered, message), name="waiting-for-a-stage")
                else:
                    self._session = entered
                    self._start_writer(entered)
            case SessionResume():
                self._session = self._registry.take_up(message, self)
                self._start_writer(self._session)
            case SessionPing():
                await self._send(encode(SessionPong(event_id=message.event_id)))
            case _:
                reason = "wait for `session.created`" if self._waiting is not None else "send `session.start` first"
                raise Refused("no_session", reason)

    async def _wait(self, ticket: Ticket, message: SessionStart) -> None:
        """Tells the controller where it stands until it may come in. If cancelled, its place is given up."""
        try:
            while self._session is None:
                if await ticket.news():
                    self._session = await self._registry.come_in(ticket, message, self, tenant=self._tenant)
                    continue
                wait_ms = round(ticket.wait_s * 1000) if ticket.wait_s is not None else None
                queued = SessionQueued(event_id=message.event_id, position=ticket.position, estimated_wait_ms=wait_ms)
                await self._send(encode(queued))
            self._start_writer(self._session)
        except Refused as refusal:
            await self._refuse(refusal.answer_to(message))
        except Exception:
            # The boundary of this task: the controller is told, and may start again.
            _log.exception("- ! a waiting controller met an internal error")
            await self._refuse(error_detail("internal_error", "an error of the server's", event_id=message.event_id))
        finally:
            self._waiting = None
            self._registry.leave(ticket)

    async def _handle_in(self, session: Session, message: AnyClientMessage) -> None:
        if session.state is SessionState.CLOSED:
            return  # `session.closed` is on its way
        await session.handle(message)
        if isinstance(message, SessionClose):
            await self._registry.end(session)

    async def _refuse(self, detail: ErrorDetail) -> None:
        if self._session is not None:
            self._session.refuse(detail)
            return
        self._metrics.refused(detail.code)
        await self._send(encode(Error(error=detail)))

    # --- writing --------------------------------------------------------------------------------------------------

    def _start_writer(self, session: Session) -> None:
        self._writer = asyncio.create_task(self._write(session), name=f"writer-{session.session_id}")

    async def _write(self, session: Session) -> None:
        """Sends the session's events, in order; closes the socket after the last."""
        try:
            while (text := await session.outbox.next_text()) is not None:
                if not await self._send(text):
                    return
            await self._socket.close()
        except Exception:
            # The boundary of this task: without a writer the connection is of no use.
            _log.exception("%s ! the writer met an internal error", session.session_id)
            self.abort("internal error")

    async def _stop_writer(self, writer: asyncio.Task[None]) -> None:
        if self._session is not None and self._session.state is SessionState.CLOSED:
            await asyncio.wait([writer], timeout=CLOSE_TIMEOUT_S)  # it says goodbye
        writer.cancel()
        await asyncio.wait([writer])

    @property
    def _session_id(self) -> str:
        return self._session.session_id if self._session is not None else "-"

    async def _send(self, text: str) -> bool:
        """False if the peer is gone, which the reader will notice, too."""
        try:
            await self._socket.send_str(text)
        except (ConnectionError, RuntimeError):
            # aiohttp raises RuntimeError for a socket whose close has begun.
            return False
        return True


async def _refuse_socket(socket: web.WebSocketResponse) -> None:
    detail = error_detail("unauthorized", "an access token is needed, or it is wrong")
    with contextlib.suppress(ConnectionError):
        await socket.send_str(encode(Error(error=detail)))
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"unauthorized")


def _check_rate(bucket: TokenBucket, what: str) -> None:
    wait_s = bucket.take()
    if wait_s > 0:
        retry_after_ms = math.ceil(wait_s * 1000)
        raise Refused("rate_limited", f"too many {what} on this connection", retry_after_ms=retry_after_ms)

"""The WebSocket endpoint `/v1/realtime`: a socket as the transport of a `connection.Connection`. On the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import WSCloseCode, WSMsgType, web

from server.clock import Clock
from server.doors.auth import Access
from server.doors.connection import CLOSE_TIMEOUT_S, Connection
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail
from server.protocol.decoding import encode
from server.protocol.errors import Refused
from server.protocol.messages import Error
from server.session.registry import Registry

# A message above our limit of 256 KiB is answered with an error. A frame above this one closes the socket (1009).
MAX_FRAME_BYTES = 4 * 1024 * 1024
# A ping is sent after this much silence, and half of it is the time to answer: a lost peer is noticed within 7.5 s.
HEARTBEAT_S = 5.0


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
        try:
            identity = self._access.admit(request.headers, request.query, "prompt")
        except Refused as refusal:
            # Only after the upgrade: a browser tells its page the close code, but no HTTP status.
            await _refuse_socket(socket, refusal.detail)
            return socket
        transport = WebSocketTransport(socket, request)
        connection = Connection(transport, self._registry, identity=identity, metrics=self._metrics, clock=self._clock)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
        return socket

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))


class WebSocketTransport:
    """One socket. Implements `connection.Transport`."""

    is_carried_by_program = False

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request

    async def frames(self) -> AsyncIterator[str | bytes]:
        async for frame in self._socket:
            if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield frame.data

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except RuntimeError as error:
            # aiohttp raises this for a socket whose close has begun.
            raise ConnectionError(str(error)) from None

    async def close(self, *, is_going_away: bool = False) -> None:
        await self._socket.close(code=WSCloseCode.GOING_AWAY if is_going_away else WSCloseCode.OK)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


async def _refuse_socket(socket: web.WebSocketResponse, detail: ErrorDetail) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_str(encode(Error(error=detail)))
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=detail.code.encode())

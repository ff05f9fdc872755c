"""The WebSocket endpoint `/v1/realtime`: a socket as the transport of a `connection.Connection`. On the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from aiohttp import WSCloseCode, web

from server.clock import Clock
from server.doors import sockets
from server.doors.access.auth import PROTOCOL
from server.doors.access.gate import Gate
from server.doors.connection import Connection
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail
from server.protocol.decoding import MAX_MESSAGE_BYTES
from server.protocol.errors import Refused
from server.session.registry import Registry

# A message above our limit of 256 KiB is answered with an error. A frame above this one closes the socket (1009).
MAX_FRAME_BYTES = 4 * 1024 * 1024
# A ping is sent after this much silence, and half of it is the time to answer: a lost peer is noticed within 7.5 s.
HEARTBEAT_S = 5.0


class RealtimeEndpoint:
    """Serves `GET /v1/realtime`. `close` ends the connections that have no session; the registry ends the others."""

    def __init__(
        self,
        registry: Registry,
        gate: Gate,
        *,
        metrics: Metrics,
        clock: Clock,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._registry = registry
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._connections: set[Connection] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from upgrade to close. Host and `Origin` were checked by the middleware."""
        refusal: ErrorDetail | None = None
        try:
            identity = self._gate.admit_controller(request)
        except Refused as refused:
            refusal = refused.detail
        socket = web.WebSocketResponse(
            timeout=sockets.CLOSE_TIMEOUT_S,
            heartbeat=self._heartbeat_s,
            autoping=False,
            autoclose=False,
            max_msg_size=MAX_FRAME_BYTES if refusal is None else MAX_MESSAGE_BYTES,
            compress=False,
            protocols=(PROTOCOL,),
        )
        await socket.prepare(request)
        if refusal is not None:
            # Only after the upgrade: a browser tells its page the close code, but no HTTP status.
            self._metrics.refused(refusal.code)
            self._gate.note_refusal(request, refusal.code)
            await sockets.refuse(socket, request, refusal)
            return socket
        connection = Connection(
            WebSocketTransport(socket, request),
            self._registry,
            identity=identity,
            metrics=self._metrics,
            clock=self._clock,
            payer=self._gate.payer(request, identity),
            note=partial(self._gate.note_message, request, identity),
        )
        self._connections.add(connection)
        let_go = self._gate.keyring.hold(identity, connection.revoke)
        try:
            await connection.run()
        finally:
            let_go()
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

    def frames(self) -> AsyncGenerator[str | bytes | None, None]:
        return sockets.frames(self._socket)

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except RuntimeError as error:
            # aiohttp raises this for a socket whose close has begun.
            raise ConnectionError(str(error)) from None

    async def close(self, *, is_going_away: bool = False) -> None:
        await self._socket.close(code=WSCloseCode.GOING_AWAY if is_going_away else WSCloseCode.OK)

    async def refuse(self, detail: ErrorDetail) -> None:
        await sockets.refuse(self._socket, self._request, detail)

    def abort(self) -> None:
        sockets.abort(self._request)

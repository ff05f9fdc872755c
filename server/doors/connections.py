"""The server's TCP connections: how many there may be, and how long a request may take to arrive.

A connection beyond the bounds is closed at accept, before anything is read. A request's head and body must arrive in
time, and an answer must be taken. So a peer that sends by halves, or nothing, or reads nothing, holds nothing.
`Connections.serve` makes the connections, in place of aiohttp's factory, and the middleware `bounded` tells them when a
head has arrived. Everything runs on the event loop.

`BoundedHandler` uses no private name of aiohttp, but one that its documentation lacks:
`RequestHandler.finish_response`, called once for each answer. `test_connections.py` notices if it is called no more.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from server.clock import Clock
from server.doors.access.peers import Proxies
from server.rarely import Rarely

_log = logging.getLogger(__name__)

# For the engine's processes, media, files: beside what is open when the server starts.
RESERVED_FILES = 64
# More than any machine of ours can use. macOS refuses an infinite limit.
MAX_FILES = 65_536
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """Of all connections together, and of those of one peer (`peers.py`; 0: any number)."""

    most: int = 512
    most_by_peer: int = 32
    head_s: float = 10.0
    body_s: float = 20.0
    # In which the peer takes none of what waits for it. The kernel measures it, on Linux only.
    silence_s: float = 30.0
    # Longer than nginx and Caddy keep a silent connection (60 s at nginx), so that they close it first.
    keep_alive_s: float = 75.0


class Connections:
    """Counts and makes the connections of one server."""

    def __init__(self, bounds: ConnectionBounds, clock: Clock, proxies: Proxies | None = None) -> None:
        self.bounds = bounds
        self.proxies = proxies or Proxies()
        self._most = bounds.most
        self._num_open = 0
        self._by_peer: Counter[str] = Counter()
        self._warn_of_bounds = Rarely(clock)
        self._warn_of_resources = Rarely(clock)

    def reserve_files(self) -> None:
        """Raises this process's limit of open files as far as the system allows, and keeps some for the engine."""
        num_files, hardest = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = MAX_FILES if hardest == resource.RLIM_INFINITY else min(hardest, MAX_FILES)
        if num_files == resource.RLIM_INFINITY:
            return
        if num_files < highest:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hardest))
                num_files = highest
            except (OSError, ValueError) as error:
                _log.warning("- ! the limit of open files stays %s: %s", num_files, error)
        num_free = num_files - len(list(Path("/dev/fd").iterdir())) - RESERVED_FILES
        if num_free < self._most:
            self._most = max(1, num_free)
            _log.warning("- ! at most %s connections: this system allows %s open files", self._most, num_files)

    @asynccontextmanager
    async def serve(self, server: web.Server, listener: socket.socket) -> AsyncIterator[None]:
        """Accepts connections for `server` while the block runs."""
        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(self._on_loop_error)
        listening = await loop.create_server(lambda: BoundedHandler(server, self, loop), sock=listener, backlog=128)
        try:
            yield
        finally:
            listening.close()
            loop.set_exception_handler(handler)

    def admit(self, peer: str | None) -> bool:
        """Counts a new connection, or says that it must be closed."""
        most_by_peer = self.bounds.most_by_peer
        if self._num_open >= self._most:
            self._warn_of_bounds("- ! connections closed at accept: there are %s", self._num_open)
            return False
        if peer is not None and most_by_peer and self._by_peer[peer] >= most_by_peer:
            self._warn_of_bounds("- ! connections closed at accept: %s come from one address", most_by_peer)
            return False
        self._num_open += 1
        if peer is not None:
            self._by_peer[peer] += 1
        return True

    def forget_peer(self, peer: str) -> None:
        """A connection of this peer counts no more as the peer's own: it is gone, or a proxy's."""
        self._by_peer[peer] -= 1
        if self._by_peer[peer] <= 0:
            del self._by_peer[peer]

    def leave(self) -> None:
        self._num_open -= 1

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio logs a failed accept up to 128 times a second, with a traceback each."""
        error = context.get("exception")
        if "socket" in context and isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
            self._warn_of_resources("- ! a connection could not be accepted: %s", error.strerror)
        else:
            loop.default_exception_handler(context)


class BoundedHandler(web.RequestHandler):
    """One connection. Its timer runs while a head or a body is due; aiohttp's own ends a silent kept connection."""

    __slots__ = ("_connections", "_is_admitted", "_is_busy", "_peer", "_timer")

    def __init__(self, server: web.Server, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        # No access log: request lines hold tokens. No decompression: aiohttp would do it on the loop, before the token
        # is checked, and 1 MB from a stranger stopped every show for 1.9 s. `http_api` refuses such bodies.
        options: dict[str, Any] = {"access_log": None, "auto_decompress": False}
        super().__init__(server, loop=loop, keepalive_timeout=connections.bounds.keep_alive_s, **options)
        self._connections = connections
        self._peer: str | None = None
        self._is_admitted = False
        self._is_busy = False  # from the arrival of a head to the end of its answer
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address = transport.get_extra_info("peername")
        self._peer = self._connections.proxies.peer_at(address[0]) if isinstance(address, tuple) else None
        self._is_admitted = self._connections.admit(self._peer)
        if not self._is_admitted:
            transport.abort()  # type: ignore[attr-defined]
            return
        if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
            silence_ms = int(self._connections.bounds.silence_s * 1000)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, silence_ms)
        super().connection_made(transport)
        self._expect_within(self._connections.bounds.head_s)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._is_admitted:
            return
        self._stop_timer()
        self._connections.leave()
        if self._peer is not None:
            self._connections.forget_peer(self._peer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_busy and self._timer is None:
            self._expect_within(self._connections.bounds.head_s)  # the next head has begun

    def begin(self, request: web.Request) -> None:
        """The head of a request has arrived."""
        self._is_busy = True
        self._stop_timer()
        if not request.content.is_eof():
            self._expect_within(self._connections.bounds.body_s)
            request.content.on_eof(self._stop_timer)
        if self._peer is not None and self._connections.proxies.hides_peer(request.headers):
            self._connections.forget_peer(self._peer)
            self._peer = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        except TimeoutError:  # the kernel's: see `silence_s`; aiohttp expects other errors of a peer that is gone
            return resp, True
        finally:
            self._is_busy = False

    def _expect_within(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.transport is not None:
            self.transport.abort()


@web.middleware
async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Stands before all other middleware."""
    connection = request.protocol
    if isinstance(connection, BoundedHandler):
        connection.begin(request)
    return await handler(request)

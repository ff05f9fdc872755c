"""Sends one webhook: an HTTP request to an address that a customer chose, and that must not be one of our own network.

The address is checked where its socket is made, so neither a name that resolves anew (DNS rebinding) nor a number in
the URL goes around the check. Redirects are not followed and the answer's body is not read. On the event loop; names
are resolved in threads of their own, because a customer's name server may take as long as it likes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from server.media.webrtc import addresses

TIMEOUT_S = 15.0
MAX_URL_CHARACTERS = 2048
# Standard Webhooks: receivers tell their customers' firewalls which program sends.
_USER_AGENT = "Sceneshift-Webhooks/1"
# As many as may be sent at once, and tests: a slow name server takes nobody's place.
_NUM_RESOLVERS = 40
# aiohttp stops reading the socket when twice as much waits.
_ANSWER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """`status_code`: None if none came, and then `error` says why, in our words."""

    status_code: int | None = None
    error: str | None = None
    retry_after: str | None = None  # as the header came

    @property
    def is_success(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def is_gone(self) -> bool:
        return self.status_code == HTTPStatus.GONE


class Forbidden(OSError):
    """An address that webhooks may not be sent to. One text for all, so that aiohttp keeps the type."""

    def __init__(self) -> None:
        super().__init__("the address is not a public one")


class Sender:
    """`is_local`: the server is for this machine alone. Then it may send to this machine, and without TLS."""

    def __init__(
        self, *, is_local: bool, timeout_s: float = TIMEOUT_S, resolver: AbstractResolver | None = None
    ) -> None:
        self._is_local = is_local
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._resolver = resolver or _Resolver()
        self._http: aiohttp.ClientSession | None = None

    def fault_of(self, url: str) -> str | None:
        """What is wrong with the text of a URL."""
        if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
            return f"`url` has {MAX_URL_CHARACTERS} visible ASCII characters at most"
        try:
            parts = urlsplit(url)
            is_whole = bool(parts.hostname) and parts.port != 0  # `port` raises `ValueError`
        except ValueError:
            is_whole = False
        if not is_whole or parts.scheme not in ("http", "https"):
            return "`url` is an address like https://hooks.example/clips"
        if parts.username is not None or parts.fragment:
            return "`url` has neither a user name nor a fragment"
        if parts.scheme == "http" and not self._is_local:
            return "`url` begins with https:// because others may reach this server"
        return None

    async def check(self, url: str) -> None:
        """Whether `send` would connect, as the name resolves now. Raises `OSError`: `Forbidden`, or no such name."""
        parts = urlsplit(url)
        async with asyncio.timeout(self._timeout.total):
            found = await self._resolver.resolve(parts.hostname or "", parts.port or 0, socket.AF_UNSPEC)
        if not all(self._may_reach(one["host"]) for one in found):
            raise Forbidden

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises nothing for what a receiver or its network does."""
        headers = {"User-Agent": _USER_AGENT, "Content-Type": "application/json", **headers}
        try:
            async with self._session().post(url, data=body, headers=headers, allow_redirects=False) as response:
                return Answer(response.status, retry_after=response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError, ValueError) as error:  # `TimeoutError` is an `OSError`
            return Answer(error=_reason(error))

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
        await self._resolver.close()

    def _session(self) -> aiohttp.ClientSession:
        """Made on the event loop. It keeps no connection, no cookie and no name, and uses no proxy of the machine's."""
        if self._http is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                limit=0,  # the courier counts
                socket_factory=self._socket,
            )
            self._http = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=_ANSWER_BYTES,
            )
        return self._http

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        """For aiohttp, before it connects: `address` is of `getaddrinfo`. Raises `Forbidden`."""
        family, kind, protocol, _, (host, *_) = address
        if not self._may_reach(host):
            raise Forbidden
        return socket.socket(family, kind, protocol)

    def _may_reach(self, host: str) -> bool:
        if addresses.is_loopback(host):
            return self._is_local
        return addresses.is_public(host) and not addresses.is_never_tried(host) and not _is_own(host)


class _Resolver(AbstractResolver):
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_NUM_RESOLVERS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=0)
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _is_own(host: str) -> bool:
    """Whether it is this machine's: a firewall that keeps strangers from its other ports does not see us.

    The kernel chooses the address that we would send from. No packet leaves.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return bool(probe.getsockname()[0] == host)
    except OSError:
        return False  # no way leads there


def _reason(error: Exception) -> str:
    """Never words of the receiver's: customers read it."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, Forbidden):
        return "forbidden address"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such name"
    if isinstance(error, aiohttp.ClientSSLError):
        return "no trusted certificate"
    return "no connection"

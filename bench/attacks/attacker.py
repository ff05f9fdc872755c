"""One hostile client: its connections, what it was told of the show, and how many bytes it has sent.

Each attack (`requests.py`, `sockets.py`, `media.py`) gets one `Attacker` and returns an `Outcome`. An attack ends after
about `seconds`; those that hold something open wait for `hold_heads_s` or `hold_bodies_s` instead. Asyncio, in a
process of its own (`python -m bench.attacks`) or in a test's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

SHOW = "show"  # the name of the stage that runs beside the attack
ATTACK_S = 5.0
# Longer than the server waits for a request's head (10 s), and for a body (20 s).
HOLD_HEADS_S, HOLD_BODIES_S = 15.0, 25.0
# Longer than any attack here takes a server to answer again.
ANSWER_S = 120.0
OFFER_TYPE = {"Content-Type": "application/sdp"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`got`: what the server answered, in words. `holes`: what it should never have given; each fails the row."""

    got: str
    holes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Attacker:
    """`http` sends the token unless the attacker is a stranger. `token` is the show's, for victims of our own."""

    http: aiohttp.ClientSession
    url: str
    token: str
    is_stranger: bool = False
    seconds: float = ATTACK_S
    hold_heads_s: float = HOLD_HEADS_S
    hold_bodies_s: float = HOLD_BODIES_S
    random: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    def head(self, request_line: str, *lines: str) -> bytes:
        """The head of a request, with the token if the attacker has one, without its empty line."""
        host, port = self.address
        lines = (f"{request_line} HTTP/1.1", f"Host: {host}:{port}", *lines)
        if not self.is_stranger:
            lines = (*lines, f"Authorization: Bearer {self.token}")
        return "".join(f"{line}\r\n" for line in lines).encode()

    def until_end(self) -> Callable[[], bool]:
        """Says whether time is left."""
        end_at = time.monotonic() + self.seconds
        return lambda: time.monotonic() < end_at

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    # --- the ways to attack ---------------------------------------------------------------------------------------

    async def repeat(self, ask: Callable[[int], Awaitable[str]], *, at_once: int = 1) -> Counter[str]:
        """Asks again and again, `at_once` at a time; counts the answers. A lost connection is an answer, too."""
        has_time, answers = self.until_end(), Counter[str]()

        async def one_after_the_other(first: int) -> None:
            number = first
            while has_time():
                try:
                    answers[await ask(number)] += 1
                except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError):
                    answers["closed"] += 1
                number += at_once

        await asyncio.gather(*(one_after_the_other(first) for first in range(at_once)))
        return answers

    async def flood(
        self,
        send: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[object]],
        path: str = "/v1/realtime",
        *,
        begin: dict[str, Any] | None = None,
    ) -> Outcome:
        """Sends on one socket as fast as it takes it; when the server closes it, on the next. Reads all answers."""
        has_time, num_sent, codes = self.until_end(), 0, Counter[str]()
        while has_time():
            try:
                async with self.http.ws_connect(path, max_msg_size=0) as connection:
                    reading = asyncio.create_task(_read_all(connection))
                    with contextlib.suppress(ConnectionError):
                        if begin is not None:
                            await connection.send_json(begin)
                        while has_time() and not reading.done():
                            await send(connection)
                            num_sent += 1
                            if num_sent % 100 == 0:
                                await asyncio.sleep(0)
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                    codes[str(connection.close_code or "none")] += 1
            except (aiohttp.ClientError, ConnectionError):
                codes["refused"] += 1
        return Outcome(f"{num_sent} sent; close codes: {told(codes)}")

    async def hold(self, num_connections: int, sent: bytes, seconds: float) -> Outcome:
        """Opens so many connections, sends the same on each, and counts those that are still open later."""
        opened = []
        for _ in range(num_connections):
            with contextlib.suppress(ConnectionError):
                opened.append(await self.connect())
        for _, writer in opened:
            writer.write(sent)
        reading = [asyncio.create_task(_read_to_end(reader)) for reader, _ in opened]
        _, held = await asyncio.wait(reading, timeout=seconds)
        for task in held:
            task.cancel()
        for _, writer in opened:
            writer.transport.abort()
        got = f"{len(held)} of {num_connections} held after {seconds:.0f} s"
        return Outcome(got, [f"{len(held)} half-open requests"] if held else [])

    async def raw(self, data: bytes) -> str:
        """Sends this on a connection of its own; returns the status of the answer, or `closed`."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            line = await reader.readline()
            return line.split()[1].decode() if line else "closed"
        finally:
            writer.transport.abort()

    async def post(self, path: str, body: str | bytes, headers: dict[str, str] | None = None) -> tuple[str, str]:
        """POSTs an offer; returns the outcome and, if it was taken, our place's address."""
        async with self.http.post(path, data=body, headers=OFFER_TYPE | (headers or {})) as response:
            await response.read()
            return await answer_of(response), response.headers.get("Location", "")

    @asynccontextmanager
    async def insider(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client with the token and another address than a far attacker: its victim."""
        async with client(f"http://127.0.0.1:{self.address[1]}", self.token) as http:
            yield http


def client(url: str, token: str | None) -> aiohttp.ClientSession:
    """Without a bound on its own connections. `None`: a stranger's."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    return aiohttp.ClientSession(url, timeout=timeout, headers=headers, connector=connector)


async def until(connection: aiohttp.ClientWebSocketResponse, *kinds: str) -> dict[str, Any]:
    """The next message of these types. Raises `ConnectionError` at the connection's end."""
    async for frame in connection:
        if frame.type is aiohttp.WSMsgType.TEXT:
            message: dict[str, Any] = json.loads(frame.data)
            if message["type"] in kinds:
                return message
    raise ConnectionError("the server closed the connection")


async def answer_of(response: aiohttp.ClientResponse) -> str:
    """`taken`, or the status and the code of the error."""
    if response.status < 400:
        return "taken"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return f"{response.status} {json.loads(await response.text())['error']['code']}"
    return str(response.status)


def told(answers: Counter[str]) -> str:
    return ", ".join(f"{answer} {count} times" for answer, count in answers.most_common(4)) or "nothing"


async def fill(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, *, times: int) -> None:
    """Sends `data` so often as the server takes it, until it closes the connection. Drops what it answers."""
    reading, sending = asyncio.create_task(_read_to_end(reader)), asyncio.create_task(_write(writer, data, times))
    await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
    for task in (reading, sending):
        task.cancel()
    await asyncio.gather(reading, sending, return_exceptions=True)
    writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, data: bytes, times: int) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            writer.write(data)
            await writer.drain()


async def _read_all(connection: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in connection:
        pass


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(2**16):
            pass


# --- the bytes that were sent -------------------------------------------------------------------------------------


class Sent:
    """How many bytes this process has given to the system on sockets."""

    def __init__(self) -> None:
        self.num_bytes = 0


@contextlib.contextmanager
def counting() -> Iterator[Sent]:
    """Counts what all sockets send that are made while the block runs: asyncio makes each by `socket.socket`."""
    sent, plain = Sent(), socket.socket

    class CountingSocket(plain):  # type: ignore[misc, valid-type]
        __slots__ = ()

        def send(self, *arguments: Any) -> int:
            return self._count(super().send(*arguments))

        def sendto(self, *arguments: Any) -> int:
            return self._count(super().sendto(*arguments))

        def sendmsg(self, *arguments: Any) -> int:
            return self._count(super().sendmsg(*arguments))

        def _count(self, num_bytes: int) -> int:
            sent.num_bytes += num_bytes
            return num_bytes

    socket.socket = CountingSocket  # type: ignore[misc]
    try:
        yield sent
    finally:
        socket.socket = plain  # type: ignore[misc]

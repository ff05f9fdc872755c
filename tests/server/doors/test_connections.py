"""Bounds on connections, on a real server: their number, and the time for a request to arrive."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from typing import Any

import pytest
from serving import Serving, serving

from server.clock import FakeClock
from server.doors import connections as connections_module
from server.doors.access import peers as peers_module
from server.doors.connections import RESERVED_FILES, ConnectionBounds, Connections
from server.rarely import LOG_INTERVAL_S

TOKEN = "0123456789abcdef0123"
REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORWARDED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n"
# So short that a test ends soon, and the other bounds so long that none of them can be what ended it.
SOON_S = 0.25


class Peer:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, harness: Serving) -> Peer:
        url = harness.http._base_url
        assert url is not None
        return cls(*await asyncio.open_connection(url.host, url.port))

    def send(self, text: bytes) -> None:
        self._writer.write(text)

    async def status(self) -> int | None:
        """Of the next answer; None if the connection ends instead."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        (length,) = [int(line.split(b":")[1]) for line in head.splitlines() if b"content-length" in line.lower()]
        await self._reader.readexactly(length)
        return int(head.split()[1])

    async def is_served(self, text: bytes = REQUEST) -> bool:
        with contextlib.suppress(ConnectionError):
            self.send(text)
        return await self.status() is not None

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def bounded(**bounds: Any) -> Any:
    return serving(token=TOKEN, build={"bounds": ConnectionBounds(**bounds)})


# --- number -------------------------------------------------------------------------------------------------------


async def test_a_connection_too_many_is_closed_and_a_place_that_is_left_is_given_again() -> None:
    async with bounded(most=2) as harness:
        first, second, third = [await Peer.connect(harness) for _ in range(3)]
        assert [await first.is_served(), await second.is_served(), await third.is_served()] == [True, True, False]
        await first.leave()
        while not await (await Peer.connect(harness)).is_served():
            pass  # the server has not read the end of the first one yet


async def test_one_peer_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "peer_at", lambda address: "203.0.113.9")
    async with bounded(most_by_peer=2) as harness:
        peers = [await Peer.connect(harness) for _ in range(3)]
        assert [await peer.is_served() for peer in peers] == [True, True, False]


async def test_a_proxy_may_have_more_connections_than_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "peer_at", lambda address: "203.0.113.9")
    async with bounded(most_by_peer=2) as harness:
        for _ in range(5):
            assert await (await Peer.connect(harness)).is_served(FORWARDED)


def test_peers_are_counted_apart_and_forgotten_when_they_leave() -> None:
    connections = Connections(ConnectionBounds(most=5, most_by_peer=2), FakeClock())
    assert [connections.admit("a"), connections.admit("a"), connections.admit("a")] == [True, True, False]
    assert [connections.admit("b"), connections.admit(None), connections.admit(None)] == [True, True, True]
    assert not connections.admit("c")  # five in all
    connections.leave()
    connections.forget_peer("a")
    assert connections.admit("a") and dict(connections._by_peer) == {"a": 2, "b": 1}


def test_zero_connections_a_peer_means_any_number() -> None:
    connections = Connections(ConnectionBounds(most_by_peer=0), FakeClock())
    assert all(connections.admit("a") for _ in range(512))
    assert not connections.admit("a")


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("sent", [b"G", REQUEST[:-2]])
async def test_a_head_that_does_not_arrive_in_time_ends_the_connection(sent: bytes, is_first: bool) -> None:
    async with bounded(head_s=SOON_S) as harness:
        peer = await Peer.connect(harness)
        assert is_first or await peer.is_served()
        peer.send(sent)
        assert await peer.status() is None


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with bounded(head_s=SOON_S) as harness:
        assert await (await Peer.connect(harness)).status() is None


async def test_bytes_that_trickle_in_give_a_head_no_more_time() -> None:
    async with bounded(head_s=SOON_S) as harness:
        peer = await Peer.connect(harness)
        peer.send(REQUEST[:-2] + b"X-Long: ")
        ending = asyncio.create_task(peer.status())
        with contextlib.suppress(ConnectionError):
            while not ending.done():
                peer.send(b"a")
                await asyncio.wait({ending}, timeout=SOON_S / 5)
        assert await ending is None


LARGE = "/client/vendor/selfie_segmentation/tflite-simd-1-0-0.wasm"  # more than the kernel takes from us at once


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux measures it")
async def test_an_answer_that_its_peer_does_not_read_gives_its_place_away(caplog: pytest.LogCaptureFixture) -> None:
    async with bounded(most=1, silence_s=SOON_S) as harness:
        url = harness.http._base_url
        assert url is not None
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (url.host, url.port))
            await loop.sock_sendall(deaf, REQUEST.replace(b"/livez", LARGE.encode()))
            async with asyncio.timeout(20):
                while not await (await Peer.connect(harness)).is_served():
                    pass
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/whep/my-show", "/v1/realtime/calls", "/livez", "/nowhere"])
async def test_a_body_that_does_not_arrive_in_time_ends_the_connection(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bounded(body_s=SOON_S) as harness:
        await harness.controller(name="my-show", token=TOKEN)
        peer = await Peer.connect(harness)
        head = f"POST {path}?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
        peer.send(f"{head}Content-Length: 100\r\n\r\nv=0".encode())
        answers = [await peer.status()]
        while answers[-1] is not None:
            answers.append(await peer.status())
        assert len(answers) <= 2
    assert not caplog.records


async def test_a_kept_connection_and_a_socket_outlive_the_times_of_a_request() -> None:
    async with bounded(head_s=SOON_S, body_s=SOON_S) as harness:
        kept = await Peer.connect(harness)
        assert await kept.is_served()
        socket = await harness.http.ws_connect(f"/v1/realtime?token={TOKEN}")
        for _ in range(2):
            assert await (await Peer.connect(harness)).status() is None  # both times are over
        assert await kept.is_served()
        await socket.send_json({"type": "session.ping"})
        assert (await socket.receive_json())["type"] == "session.pong"


async def test_a_silent_kept_connection_is_closed_after_its_time() -> None:
    async with bounded(keep_alive_s=SOON_S) as harness:
        peer = await Peer.connect(harness)
        assert await peer.is_served()
        assert await peer.status() is None


# --- open files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("soft", "hard", "expected_soft", "expected_most"),
    [
        (1024, 524_288, 65_536, 512),
        (1024, resource.RLIM_INFINITY, 65_536, 512),
        (256, 256, 256, 256 - 10 - RESERVED_FILES),
        (64, 64, 64, 1),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY, 512),
    ],
)
def test_connections_leave_the_engine_its_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected_soft: int, expected_most: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(connections_module.resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(connections_module.resource, "setrlimit", lambda what, new: limits.append(new))
    monkeypatch.setattr(connections_module.Path, "iterdir", lambda path: iter(range(10)))
    connections = Connections(ConnectionBounds(), FakeClock())
    connections.reserve_files()
    assert limits[-1] == (expected_soft, hard)
    assert [connections.admit(None) for _ in range(600)].count(True) == expected_most


async def test_a_system_without_files_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock, loop = FakeClock(), asyncio.get_running_loop()
    before = loop.get_exception_handler()
    error = OSError(errno.EMFILE, "Too many open files")
    refused = {"message": "socket.accept() out of system resource", "exception": error, "socket": None}
    async with serving(build={"clock": clock}):
        for _ in range(1000):
            loop.call_exception_handler(refused)
        assert len(caplog.records) == 1 and "Too many open files" in caplog.text
        clock._now += LOG_INTERVAL_S
        loop.call_exception_handler(refused)
        assert len(caplog.records) == 2 and "1000 times" in caplog.text
        loop.call_exception_handler({"message": "something else", "exception": error})
        assert caplog.records[-1].levelno == logging.ERROR
    assert loop.get_exception_handler() is before

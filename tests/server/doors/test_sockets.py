"""Refusals and control frames of our WebSockets, on a real server: honest peers read why, others hold nothing.

Each door has its own code around them, so each is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from serving import Serving, serving

from server.clock import FakeClock
from server.doors.sockets import MAX_FRAMES_AFTER_REFUSAL

TOKEN = "0123456789abcdef0123"
PING = b"\x89\x80\0\0\0\0"  # masked with zeros, as a client must
DOORS = ("/v1/realtime", "/v1/sessions/my-show/watch")
every_door = pytest.mark.parametrize("path", DOORS)


async def upgraded(harness: Serving, path: str, then: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket whose peer sends `then` with the same packet as the upgrade."""
    url = harness.http._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    writer.write((head + key).encode() + then)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(1000):
            heard += part
    return heard


async def goodbye(socket: ClientWebSocketResponse) -> tuple[int | None, list[str]]:
    """The close code, and the codes of the errors before it."""
    texts = [json.loads(message.data) async for message in socket if message.type is WSMsgType.TEXT]
    return socket.close_code, [text["error"]["code"] for text in texts if text["type"] == "error"]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All frames that the server has taken from its sockets."""
    frames: list[Any] = []
    real = web.WebSocketResponse.receive

    async def receive(self: web.WebSocketResponse, timeout: float | None = None) -> Any:
        frames.append(await real(self, timeout))
        return frames[-1]

    monkeypatch.setattr(web.WebSocketResponse, "receive", receive)
    return frames


# --- refusals -----------------------------------------------------------------------------------------------------


@every_door
async def test_a_socket_without_a_token_that_floods_is_dropped_after_a_few_frames(
    path: str, received: list[Any]
) -> None:
    async with serving(token=TOKEN) as harness:
        reader, writer = await upgraded(harness, path, PING * 2000)
        heard = await rest_of(reader)
        writer.close()
    assert b'"unauthorized"' in heard
    assert heard.endswith(b"\x88\x0e" + struct.pack("!H", 1008) + b"unauthorized")
    assert len(received) <= MAX_FRAMES_AFTER_REFUSAL


@every_door
async def test_a_client_that_spoke_before_it_was_refused_reads_the_close_code(path: str) -> None:
    async with serving(token=TOKEN) as harness:
        socket = await harness.http.ws_connect(path)
        await socket.send_json({"type": "session.start"})
        assert await goodbye(socket) == (1008, ["unauthorized"])


@every_door
async def test_a_refused_socket_is_counted(path: str) -> None:
    async with serving(token=TOKEN) as harness:
        await goodbye(await harness.http.ws_connect(path))
        async with harness.http.get(f"/metrics?token={TOKEN}") as response:
            assert 'sceneshift_refusals_total{code="unauthorized"} 1.0' in await response.text()


async def test_a_refused_peer_that_never_answers_is_dropped(received: list[Any]) -> None:
    async with serving(token=TOKEN) as harness:
        reader, writer = await upgraded(harness, "/v1/realtime", b"")
        assert b'"unauthorized"' in await rest_of(reader)
        writer.close()
    assert received == []


# --- floods -------------------------------------------------------------------------------------------------------


async def _flood(socket: ClientWebSocketResponse, clock: FakeClock) -> tuple[int | None, list[str]]:
    """Sends pings until the server closes; its time passes meanwhile."""
    leaving = asyncio.create_task(goodbye(socket))
    while not leaving.done():
        with contextlib.suppress(ConnectionError):
            await socket.ping()
        await clock.advance(0.01)
    return await leaving


async def test_a_controller_that_floods_with_pings_is_closed_with_a_reason() -> None:
    clock = FakeClock()
    async with serving(build={"clock": clock}) as harness:
        controller = await harness.controller()
        code, errors = await _flood(controller.socket, clock)
        assert (code, set(errors)) == (1008, {"rate_limited"})


async def test_a_viewer_that_floods_with_pings_is_closed_with_a_reason() -> None:
    clock = FakeClock()
    async with serving(build={"clock": clock}) as harness:
        await harness.controller(name="my-show")
        viewer = await harness.http.ws_connect("/v1/sessions/my-show/watch")
        assert await _flood(viewer, clock) == (1008, ["rate_limited"])


# --- control frames -----------------------------------------------------------------------------------------------


@every_door
async def test_pings_are_answered_with_what_they_carry(path: str) -> None:
    async with serving() as harness:
        await harness.controller(name="my-show")
        socket = await harness.http.ws_connect(path, autoping=False)
        await socket.ping(b"mark")
        async for frame in socket:
            if frame.type is WSMsgType.PONG:
                assert frame.data == b"mark"
                break


@every_door
async def test_a_peer_that_answers_our_pings_is_kept(path: str, received: list[Any]) -> None:
    """A silent one would be given up half a second after the first ping."""
    async with serving(build={"heartbeat_s": 1.0, "watch_heartbeat_s": 1.0}) as harness:
        show = await harness.controller(name="my-show")
        async with harness.http.ws_connect(path) as socket:
            listening = asyncio.create_task(goodbye(socket))
            while not any(frame.type is WSMsgType.PONG for frame in received):
                await show.hear("stats.updated")
            await show.hear("stats.updated")
            assert not listening.done()
            listening.cancel()


@every_door
async def test_a_peers_goodbye_is_answered(path: str) -> None:
    async with serving() as harness:
        await harness.controller(name="my-show")
        socket = await harness.http.ws_connect(path)
        await socket.close(code=1001)
        assert socket.close_code == 1000

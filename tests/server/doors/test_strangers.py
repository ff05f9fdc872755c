"""What strangers may try at each door while a show runs: each attack is refused, and the show goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import http_parser, multipart, web
from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc.sdp import SessionDescription
from serving import Controller, Serving, serving
from viewer import Viewer

from server.doors.http_api import HttpApi
from server.session.viewers import MAX_CONNECTING

TOKEN = "0123456789abcdef0123"
SDP = {"Content-Type": "application/sdp"}

Door = Callable[[Serving, str], Awaitable[str]]


@pytest.fixture
async def harness() -> AsyncIterator[Serving]:
    async with serving() as harness:
        yield harness


@pytest.fixture
async def show(harness: Serving) -> Controller:
    return await harness.controller(name="my-show")


async def _by_post(harness: Serving, path: str, sdp: str) -> str:
    async with harness.http.post(path, data=sdp, headers=SDP) as response:
        return "answered" if response.status == 201 else str((await response.json())["error"]["code"])


async def by_whep(harness: Serving, sdp: str) -> str:
    return await _by_post(harness, "/whep/my-show", sdp)


async def by_call(harness: Serving, sdp: str) -> str:
    return await _by_post(harness, "/v1/realtime/calls", sdp)


async def by_viewers_call(harness: Serving, sdp: str) -> str:
    return await _by_post(harness, "/v1/realtime/calls?session=my-show", sdp)


async def by_message(harness: Serving, sdp: str) -> str:
    controller = await harness.controller()
    await controller.say("webrtc.offer", sdp=sdp)
    answer = await controller.hear("webrtc.answer", "error")
    return "answered" if answer["type"] == "webrtc.answer" else str(answer["error"]["code"])


every_door = pytest.mark.parametrize("door", [by_whep, by_call, by_viewers_call, by_message])


# --- offers -------------------------------------------------------------------------------------------------------


async def _offer(*extra: str) -> str:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video", direction="recvonly")
    for direction in extra:
        connection.addTransceiver("video", direction=direction)
    await connection.setLocalDescription(await connection.createOffer())
    await connection.close()
    return str(connection.localDescription.sdp)


@every_door
async def test_no_door_accepts_a_second_video_section(harness: Serving, show: Controller, door: Door) -> None:
    assert await door(harness, await _offer("sendonly")) == "invalid_sdp"
    assert await door(harness, await _offer()) == "answered"


@every_door
async def test_no_door_parses_an_offer_that_is_too_large(
    harness: Serving, show: Controller, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = SessionDescription.parse
    monkeypatch.setattr(SessionDescription, "parse", lambda sdp: (parsed.append(sdp), parse(sdp))[1])
    theirs = await _offer() + "a=x-mark\r\n"
    large = theirs + "a=rtpmap:96 VP8/90000\r\n" * 1500 + "a=rtcp-fb:* nack\r\n" * 1500
    assert await door(harness, large) == "invalid_sdp"
    assert not any("x-mark" in text for text in parsed)
    assert await door(harness, theirs) == "answered"
    assert sum("x-mark" in text for text in parsed) == 1, "a stranger's text is parsed once"


async def test_media_that_a_viewer_sends_is_not_received(harness: Serving, show: Controller) -> None:
    attacker = Viewer()
    attacker.peer.addTransceiver(AudioStreamTrack(), direction="sendonly")
    async with harness.http.post("/whep/my-show", data=await attacker.offer(), headers=SDP) as response:
        answer = await response.text()
    assert "a=inactive" in answer
    await attacker.answer(answer.replace("a=inactive", "a=recvonly"))
    await attacker.until(lambda frame: True)
    (session,) = harness.registry._sessions.values()
    (peer,) = session.program._peers.values()
    receivers: list[Any] = [transceiver.receiver for transceiver in peer._connection.getTransceivers()]
    assert [receiver.track for receiver in receivers] == [None, None]
    assert [receiver._RTCRtpReceiver__decoder_thread for receiver in receivers] == [None, None]
    await attacker.close()


@pytest.mark.parametrize("door", [by_whep, by_viewers_call, by_message])
async def test_nobody_but_a_caller_may_send_over_data_channels(harness: Serving, show: Controller, door: Door) -> None:
    viewer = Viewer()
    viewer.peer.createDataChannel("flood")
    assert await door(harness, await viewer.offer()) == "answered"
    peers = [peer for one in harness.registry._sessions.values() for peer in one.program._peers.values()]
    assert [peer._connection.sctp for peer in peers] == [None]
    await viewer.close()


# --- offers that never connect ------------------------------------------------------------------------------------


async def test_offers_that_never_connect_keep_nobody_out(harness: Serving, show: Controller) -> None:
    (session,) = harness.registry._sessions.values()
    offer = await _offer()

    async def flood() -> None:
        for code in await asyncio.gather(*(by_whep(harness, offer) for _ in range(40))):
            assert code in ("answered", "too_many_viewers")
        assert len(session.viewers._connecting) <= MAX_CONNECTING

    await flood()
    honest, own = Viewer(), Viewer()
    async with harness.http.post("/whep/my-show", data=await honest.offer(), headers=SDP) as response:
        assert response.status == 201
        await honest.answer(await response.text())
    await honest.until(lambda frame: True)
    await flood()
    await show.say("webrtc.offer", sdp=await own.offer())
    await own.answer((await show.hear("webrtc.answer"))["sdp"])
    await own.until(lambda frame: True)
    await show.apply("scene 5")
    for viewer in (honest, own):
        await viewer.until_number(5)
    assert session.program.num_viewers == 2
    for viewer in (honest, own):
        await viewer.close()


# --- compressed bodies --------------------------------------------------------------------------------------------


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What aiohttp began to decompress: a request, or a part of a form."""
    begun: list[str] = []

    def count(module: Any, name: str) -> None:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: (begun.append(name), real(*args, **kwargs))[1])

    count(http_parser, "ZLibDecompressor")
    count(multipart, "ZLibDecompressor")
    return begun


BODY = gzip.compress(b"0" * 2**20)
CHUNKED = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:100], BODY[100:])) + b"0\r\n\r\n"


async def _connected(harness: Serving) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = harness.http._base_url
    assert url is not None
    return await asyncio.open_connection(url.host, url.port)


async def _raw(harness: Serving, head: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Sends one request byte by byte as given; returns the answer's status and its JSON."""
    reader, writer = await _connected(harness)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in answer.splitlines() if line.lower().startswith(b"content-length")]
    text = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), json.loads(text)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "identity, gzip", "zip"])
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(
    "request_line", ["GET /livez", "GET /", "POST /whep/my-show", "POST /v1/realtime/calls", "PATCH /nowhere"]
)
async def test_a_compressed_body_is_refused_and_never_decompressed(
    harness: Serving, inflated: list[str], request_line: str, is_chunked: bool, encoding: str
) -> None:
    length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(BODY)}"
    head = f"{request_line} HTTP/1.1\nHost: localhost\nContent-Type: application/sdp\n"
    head += f"Content-Encoding: {encoding}\n{length}\n"
    status, answer = await _raw(harness, head, CHUNKED if is_chunked else BODY)
    assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
    assert encoding in answer["error"]["message"]
    assert inflated == []


async def test_a_compressed_body_without_a_token_is_never_decompressed(inflated: list[str]) -> None:
    async with serving(token=TOKEN) as harness:
        head = f"POST /whep/my-show HTTP/1.1\nHost: localhost\nContent-Encoding: gzip\nContent-Length: {len(BODY)}\n"
        status, answer = await _raw(harness, head, BODY)
    assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
    assert inflated == []


async def test_a_compressed_part_of_a_form_is_never_decompressed(harness: Serving, inflated: list[str]) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="sdp"\r\nContent-Encoding: gzip\r\n\r\n%b\r\n--x--\r\n' % BODY
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with harness.http.post("/v1/realtime/calls", data=part, headers=headers) as response:
        assert response.status == 400
    assert inflated == []


async def test_a_body_with_identity_encoding_is_accepted(harness: Serving, show: Controller) -> None:
    headers = SDP | {"Content-Encoding": "identity"}
    async with harness.http.post("/whep/my-show", data=await _offer(), headers=headers) as response:
        assert response.status == 201


async def test_no_socket_is_offered_compression(harness: Serving, show: Controller) -> None:
    for path in ("/v1/realtime", "/v1/sessions/my-show/watch"):
        async with harness.http.ws_connect(path, compress=15) as socket:
            assert socket.compress == 0


# --- requests that end early, and what is no request --------------------------------------------------------------


@pytest.mark.parametrize("path", ["/whep/my-show", "/v1/realtime/calls"])
async def test_an_upload_that_its_sender_aborts_is_no_error_of_ours(
    harness: Serving,
    show: Controller,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    guarded, begun, ended = HttpApi._guarded, asyncio.Event(), asyncio.Event()

    async def watched(self: HttpApi, request: web.Request, handler: Any) -> web.StreamResponse:
        begun.set()
        try:
            return await guarded(self, request, handler)
        finally:
            ended.set()

    monkeypatch.setattr(HttpApi, "_guarded", watched)
    _, writer = await _connected(harness)
    head = f"POST {path} HTTP/1.1\nHost: localhost\nContent-Type: application/sdp\nContent-Length: 1000\n\n"
    writer.write(head.replace("\n", "\r\n").encode() + b"v=0")
    await begun.wait()
    writer.transport.abort()
    await ended.wait()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_bad_heads_are_answered_and_cost_few_lines_of_the_log(
    harness: Serving, show: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        reader, writer = await _connected(harness)
        writer.write(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    lines = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert 0 < len(lines) <= 10
    assert not any(record.exc_info for record in lines)


# --- proxies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/livez", "/metrics", "/whep/my-show", "/v1/realtime", "/nowhere"])
async def test_a_server_without_a_token_serves_nobody_behind_a_proxy(
    harness: Serving, show: Controller, path: str
) -> None:
    method = "POST" if path.startswith("/whep") else "GET"
    headers = SDP | {"X-Forwarded-For": "203.0.113.9", "Upgrade": "websocket", "Connection": "Upgrade"}
    async with harness.http.request(method, path, headers=headers, data=await _offer()) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (403, "token_needed_behind_proxy")
    assert "X-Forwarded-For" in error["message"] and "without --no-token" in error["message"]


async def test_a_server_with_a_token_serves_its_holders_behind_a_proxy() -> None:
    async with serving(token=TOKEN, allowed_origins=("https://stage.example",)) as harness:
        await harness.controller(name="my-show", token=TOKEN)
        headers = SDP | {"X-Forwarded-For": "203.0.113.9", "Host": "stage.example"}
        for query, expected in (("", 401), (f"?token={TOKEN}", 201)):
            async with harness.http.post("/whep/my-show" + query, data=await _offer(), headers=headers) as response:
                assert response.status == expected
        holder = await harness.http.ws_connect(f"/v1/realtime?token={TOKEN}", headers={"Via": "1.1 proxy"})
        await Controller(harness.http, holder).start()

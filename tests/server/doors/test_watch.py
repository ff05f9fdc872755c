"""Viewers over WebSocket: a real client on a real server, also a slow and a lost one."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import socket
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from aiohttp import WSCloseCode, WSMsgType
from fakes import FakeProgram
from serving import Controller, number, serving

from server.clock import FakeClock
from server.media.video import marker
from server.media.video.encoder import EncodedFrame, Encoder
from server.media.video.rendition import ladder

TOKEN = "0123456789abcdef0123"
SMALL = {"width": 320, "height": 192}


async def watch(controller: Controller, query: str = "", **options: Any) -> aiohttp.ClientWebSocketResponse:
    return await controller.http.ws_connect(controller.path("watch") + query, **options)


async def film_until(viewer: aiohttp.ClientWebSocketResponse, num_fragments: int) -> tuple[dict[str, Any], bytes]:
    """The viewer's first message, and the film that it got."""
    started = await viewer.receive_json()
    return started, b"".join([await viewer.receive_bytes() for _ in range(1 + num_fragments)])


async def goodbye(viewer: aiohttp.ClientWebSocketResponse) -> tuple[int | None, list[str]]:
    """The close code, and the texts before it."""
    texts = [message.data async for message in viewer if message.type is WSMsgType.TEXT]
    return viewer.close_code, texts


async def test_a_viewer_sees_the_program_at_the_programs_time() -> None:
    async with serving() as server:
        controller = await server.controller(marker=True)
        applied = await controller.apply("scene 42")
        viewer = await watch(controller)
        started, film = await film_until(viewer, num_fragments=30)
        assert started == {
            "type": "stream.started",
            "mime": 'video/mp4; codecs="avc1.42c01f"',
            "width": 832,
            "height": 480,
            "frame_rate": 24,
        }
        with av.open(io.BytesIO(film)) as container:
            frames = list(container.decode(video=0))
        numbers = [marker.read(frame.to_ndarray(format="yuv420p")) for frame in frames]
        assert len(frames) == 30 and number(frames[-1]) == 42
        assert numbers[0] is not None and numbers[0] > applied["frame"]["frame_index"]
        ends = [round(float(frame.time) * 24) + round(frame.duration * frame.time_base * 24) for frame in frames]
        assert ends == [index + 1 for index in numbers if index is not None]
        # A second one begins with the last keyframe, at once.
        second = await watch(controller)
        _, joined = await film_until(second, num_fragments=1)
        assert len(joined) > 0
        while (stats := await controller.hear("stats.updated"))["viewers"] != 2:
            pass
        assert stats["frames_sent"] > 0 and stats["bitrate"] > 0
        await viewer.close()
        await second.close()
        while (await controller.hear("stats.updated"))["viewers"] != 0:
            pass


async def test_the_end_of_the_session_closes_the_viewer_cleanly() -> None:
    async with serving() as server:
        controller = await server.controller(**SMALL)
        viewer = await watch(controller)
        await film_until(viewer, num_fragments=1)
        await controller.say("session.close")
        assert await goodbye(viewer) == (WSCloseCode.OK, [])


async def test_a_shutdown_tells_viewers_to_come_back_later() -> None:
    async with serving() as server:
        viewer = await watch(await server.controller(**SMALL))
        await film_until(viewer, num_fragments=1)
        await server.registry.close()
        assert (await goodbye(viewer))[0] == WSCloseCode.GOING_AWAY


async def test_a_refused_viewer_is_told_why() -> None:
    async with serving(token=TOKEN, max_viewers=1) as server:
        controller = await server.controller(token=TOKEN, **SMALL)
        stranger = await goodbye(await watch(controller))
        viewer = await watch(controller, f"?token={TOKEN}")
        await film_until(viewer, num_fragments=1)
        late = await goodbye(await watch(controller, f"?token={TOKEN}"))
        controller.session_id = "s0"
        lost = await goodbye(await watch(controller, f"?token={TOKEN}"))
        told = [(code, json.loads(texts[0])["error"]["code"]) for code, texts in (stranger, late, lost)]
        assert told == [
            (WSCloseCode.POLICY_VIOLATION, "unauthorized"),
            (WSCloseCode.TRY_AGAIN_LATER, "too_many_viewers"),
            (WSCloseCode.POLICY_VIOLATION, "unknown_session"),
        ]
        await viewer.close()


async def test_pages_of_other_sites_may_not_watch() -> None:
    async with serving() as server:
        controller = await server.controller(**SMALL)
        socket = await controller.http.ws_connect(
            f"/v1/sessions/{controller.session_id}/watch", headers={"Origin": "https://elsewhere.example"}
        )
        assert json.loads((await socket.receive()).data)["error"]["code"] == "forbidden_origin"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == WSCloseCode.POLICY_VIOLATION


# --- slow, silent, and odd ----------------------------------------------------------------------------------------


class HandPlayed(FakeProgram):
    """A program whose packets the test sends."""

    made: HandPlayed

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        HandPlayed.made = self
        self.has_left = asyncio.Event()

    def send(self, frame: EncodedFrame) -> None:
        self.fanout.put({self.fanout.best: frame})

    def leave(self, subscription: Any) -> None:
        super().leave(subscription)
        self.has_left.set()


def noisy(num_frames: int, encoder: Encoder | None = None, first: int = 0) -> list[EncodedFrame]:
    """Frames of some 20 KB, a keyframe in every 24."""
    encoder = encoder or Encoder(ladder(320, 192, 20_000_000)[0], 24)
    noise = np.random.default_rng(1)
    return [
        encoder.encode(
            noise.integers(0, 255, (288, 320), dtype=np.uint8), index, is_keyframe=index in (first, index // 24 * 24)
        )
        for index in range(first, first + num_frames)
    ]


HAND_PLAYED = {"make_program": HandPlayed, "clock": FakeClock()}


async def test_a_slow_viewer_loses_frames_up_to_a_keyframe_and_costs_no_memory() -> None:
    async with serving(build=HAND_PLAYED) as server:
        controller = await server.controller(**SMALL)
        # As small as the system allows, so that the buffers between us are soon full.
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = str(server.http._base_url.host), server.http._base_url.port
        narrow.connect((host, port))
        narrow.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
        writer.write(
            f"GET {controller.path('watch')} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        subscription = HandPlayed.made.watchers[0]
        frames = noisy(240)
        for frame in frames:
            HandPlayed.made.send(frame)
            for _ in range(5):
                await asyncio.sleep(0)  # all that fits is sent
            assert subscription.num_queued <= 48
        assert subscription.frames_dropped > 0
        # It reads on: the stream is complete up to the last frame.
        film = b""
        while film.count(b"moof") + subscription.frames_dropped < len(frames):
            film += await reader.read(65536)
        spans = spans_of(film)
        assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(spans))  # no holes
        shown = {end // 1000 - 1 for _, end in spans}
        after_gap = [index for index in shown if index - 1 not in shown]
        assert len(after_gap) > 1 and all(frames[index].is_keyframe for index in after_gap)
        writer.close()
        await HandPlayed.made.has_left.wait()
        assert HandPlayed.made.num_viewers == 0


def spans_of(stream: bytes) -> list[tuple[int, int]]:
    """Begin and end of each complete fragment in a stream, in ticks. Ignores WebSocket headers in between."""
    spans, at = [], stream.find(b"tfdt")
    while at >= 0 and len(stream) >= at + 40:
        begin = int.from_bytes(stream[at + 8 : at + 16], "big")
        duration = int.from_bytes(stream[at + 36 : at + 40], "big")  # after trun's head, count and offset
        spans.append((begin, begin + duration))
        at = stream.find(b"tfdt", at + 4)
    return spans


async def test_a_viewer_that_answers_no_ping_is_noticed() -> None:
    async with serving(build={**HAND_PLAYED, "watch_heartbeat_s": 0.1}) as server:
        viewer = await watch(await server.controller(**SMALL), autoping=False)
        assert HandPlayed.made.num_viewers == 1
        await HandPlayed.made.has_left.wait()
        assert HandPlayed.made.num_viewers == 0
        await viewer.close()


async def test_a_new_encoder_brings_a_new_init_segment() -> None:
    async with serving(build=HAND_PLAYED) as server:
        viewer = await watch(await server.controller(**SMALL))
        for frame in [*noisy(2), *noisy(2, Encoder(ladder(320, 192, 20_000_000)[0], 30), first=2)]:
            HandPlayed.made.send(frame)
        await viewer.receive_json()
        kinds = [(await viewer.receive_bytes())[4:8] for _ in range(6)]
        assert kinds == [b"ftyp", b"moof", b"moof", b"ftyp", b"moof", b"moof"]
        await viewer.close()


async def test_an_internal_error_closes_the_viewer_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(build=HAND_PLAYED) as server:
        viewer = await watch(await server.controller(**SMALL))
        monkeypatch.setattr("server.doors.watch.init_segment", lambda track: 1 / 0)
        for frame in noisy(1):
            HandPlayed.made.send(frame)
        assert (await goodbye(viewer))[0] == WSCloseCode.INTERNAL_ERROR

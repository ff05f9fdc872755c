"""A small WHIP ingest (RFC 9725): aiohttp for the SDP, aiortc for the media; scripted to refuse, die and return."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from server.media.video import marker

PATIENCE_S = 15.0


class Ingest:
    """Open it with `async with`. It answers with `refusals` first, one a request; `requests` keeps all requests."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.port = 0
        self.refusals: deque[web.Response] = deque()
        self.requests: list[tuple[str, str]] = []
        self.takes_audio = True
        self.tracks: dict[str, asyncio.Queue[Any]] = {}
        self.connection: RTCPeerConnection | None = None
        self.deleted = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._num_sessions = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/whip/secret-key"

    async def __aenter__(self) -> Ingest:
        app = web.Application()
        app.router.add_post("/whip/{key}", self._offered)
        app.router.add_delete("/session/{number}", self._ended)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        await self.hang_up()

    async def hang_up(self) -> None:
        """End the connection as a peer does."""
        if self.connection is not None:
            await self.connection.close()
            self.connection = None

    async def frame(self, kind: str = "video") -> Any:
        """The next decoded frame of the push."""
        async with asyncio.timeout(PATIENCE_S):
            track = await self.tracks[kind].get()
            self.tracks[kind].put_nowait(track)
            return await track.recv()

    async def marked(self) -> int:
        """The frame index read from the next decoded picture."""
        index = marker.read((await self.frame()).to_ndarray(format="yuv420p"))
        assert index is not None, "no frame marker in the decoded picture"
        return index

    async def ask_for_keyframe(self) -> None:
        assert self.connection is not None
        receiver: Any = next(t.receiver for t in self.connection.getTransceivers() if t.kind == "video")
        await receiver._send_rtcp_pli(next(iter(receiver._RTCRtpReceiver__remote_streams)))

    async def _offered(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path))
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if self.refusals:
            return self.refusals.popleft()
        assert request.content_type == "application/sdp"
        offer = await request.text()
        await self.hang_up()
        self.tracks = {"video": asyncio.Queue(), "audio": asyncio.Queue()}
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.on("track", lambda track: self.tracks[track.kind].put_nowait(track))
        await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        answer = self.connection.localDescription.sdp
        if not self.takes_audio and "m=audio" in answer:
            head, _, rest = answer.partition("m=audio ")
            answer = f"{head}m=audio 0 {rest.partition(' ')[2]}"
        self._num_sessions += 1
        location = f"../session/{self._num_sessions}"
        return web.Response(status=201, text=answer, content_type="application/sdp", headers={"Location": location})

    async def _ended(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path))
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        await self.hang_up()
        self.deleted.set()
        return web.Response()

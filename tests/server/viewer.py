"""A real WebRTC receiver (aiortc) for tests through the whole server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from engine.synthetic import read


class Viewer:
    """A real WebRTC receiver."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peer.addTransceiver("video", direction="recvonly")
        self._tracks: asyncio.Queue[MediaStreamTrack] = asyncio.Queue()
        self.peer.on("track", self._tracks.put_nowait)

    async def close(self) -> None:
        await self.peer.close()

    async def offer(self) -> str:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def answer(self, sdp: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def until(self, sees: Callable[[Any], bool]) -> Any:
        """The first decoded frame for which `sees` holds."""
        if not hasattr(self, "track"):
            self.track = await self._tracks.get()
        while True:
            frame = await self.track.recv()
            if sees(frame):
                return frame

    async def until_number(self, number: int) -> Any:
        def shows(frame: Any) -> bool:
            painted = read(frame.to_ndarray(format="yuv420p"))
            return painted is not None and painted[0] == number

        return await self.until(shows)

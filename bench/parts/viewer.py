"""`python -m bench.parts.viewer WHEP_URL`: a plain aiortc viewer, for benches that need a viewer.

Decodes every frame. Prints one line at the first frame. On SIGTERM, prints one JSON line with its counts.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack


class Watcher:
    """Counts frames and the gaps between their arrivals."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.max_gap_s = 0.0
        self._last_at: float | None = None

    async def watch(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                await track.recv()
            except MediaStreamError:
                return
            now = time.monotonic()
            if self._last_at is None:
                print("watching", flush=True)
            else:
                self.max_gap_s = max(self.max_gap_s, now - self._last_at)
            self._last_at = now
            self.num_frames += 1


async def view(url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    watcher = Watcher()
    watching: list[asyncio.Task[None]] = []
    peer.on("track", lambda track: watching.append(asyncio.create_task(watcher.watch(track))))
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    async with aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/sdp"}
        async with http.post(url, data=peer.localDescription.sdp, headers=headers) as response:
            if response.status != 201:
                raise SystemExit(f"WHEP answered {response.status}: {await response.text()}")
            await peer.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
        await stop.wait()
    await peer.close()
    await asyncio.gather(*watching)
    print(json.dumps({"frames_decoded": watcher.num_frames, "max_gap_ms": round(watcher.max_gap_s * 1000, 1)}))


if __name__ == "__main__":
    asyncio.run(view(sys.argv[1]))

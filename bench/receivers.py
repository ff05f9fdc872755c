"""`python -m bench.receivers`: many aiortc viewers in one process, for benches of the sending side.

Speaks JSON lines with its parent: `{"open": N}` makes N offers, one line each; each answer comes back as a line; then
it receives until its input ends, and prints what arrived whenever it is asked. Packets go through DTLS, SRTP and the
statistics that receiver reports are made of, but are not decoded: 64 decoders would need more machine than what is
measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.rtcrtpreceiver import StreamStatistics


class Receiver:
    """One viewer. Counts packets, bytes and frames of its video."""

    def __init__(self, codec: str) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.num_packets = self.num_bytes = self.num_frames = 0
        self._timestamp: int | None = None
        transceiver = self.connection.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpReceiver.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in (f"video/{codec}", "video/rtx")])
        self._receiver: Any = transceiver.receiver
        self._receiver._handle_rtp_packet = self._count

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def answer(self, sdp: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def _count(self, packet: Any, arrival_time_ms: int) -> None:
        streams = self._receiver._RTCRtpReceiver__remote_streams
        if packet.ssrc not in streams:
            streams[packet.ssrc] = StreamStatistics(90_000)
        streams[packet.ssrc].add(packet)
        self.num_packets += 1
        self.num_bytes += len(packet.payload)
        if packet.timestamp != self._timestamp:
            self._timestamp = packet.timestamp
            self.num_frames += 1

    @property
    def num_lost(self) -> int:
        return sum(stream.packets_lost for stream in self._receiver._RTCRtpReceiver__remote_streams.values())


async def main() -> None:
    lines = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    wanted = json.loads(await lines.readline())
    receivers = []
    for _ in range(wanted["open"]):
        receiver = Receiver(wanted["codec"])
        receivers.append(receiver)
        print(json.dumps({"offer": await receiver.offer()}), flush=True)
        await receiver.answer(json.loads(await lines.readline())["answer"])
    while await lines.readline():
        counts = [
            {
                "packets": receiver.num_packets,
                "bytes": receiver.num_bytes,
                "frames": receiver.num_frames,
                "lost": receiver.num_lost,
            }
            for receiver in receivers
        ]
        print(json.dumps({"counts": counts}), flush=True)
    await asyncio.gather(*(receiver.connection.close() for receiver in receivers))


if __name__ == "__main__":
    asyncio.run(main())

"""`python -m bench.parts.receivers`: many aiortc viewers in one process, for benches of the sending side.

Speaks JSON lines with its parent: `{"open": N}` makes N offers, one line each; each answer comes back as a line. Then
it receives until its input ends, and prints its counts for each further line. ICE and DTLS are complete. Media packets
are counted by their headers and reported by RTCP, but neither decrypted nor decoded: otherwise a bench with 64 viewers
would measure the receivers.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.rtcrtpreceiver import StreamStatistics

_HEADER = struct.Struct("!BBHII")
_OVERHEAD = 12 + 8 + 16  # RTP header, extensions, SRTP's tag


class Receiver:
    """One viewer. Counts packets, bytes and frames of its video."""

    def __init__(self, codec: str) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.num_packets = self.num_bytes = self.num_frames = 0
        self._timestamp: int | None = None
        self._payload_type: int | None = None  # of the first packet; retransmissions have another
        transceiver = self.connection.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpReceiver.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in (f"video/{codec}", "video/rtx")])
        self._receiver: Any = transceiver.receiver
        self.connection.on("connectionstatechange", self._changed)

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def answer(self, sdp: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    def _changed(self) -> None:
        """Once connected, counts media packets where they leave the socket, by their header, which is not encrypted."""
        if self.connection.connectionState != "connected":
            return
        for protocol in self._receiver.transport.transport._connection._protocols:
            protocol.datagram_received = self._lighter(protocol.datagram_received)

    def _lighter(self, receive: Callable[[bytes, Any], None]) -> Callable[[bytes, Any], None]:
        def received(data: bytes, addr: Any) -> None:
            is_media = data[0] & 0xC0 == 0x80 and not 192 <= data[1] <= 223
            if is_media:
                self._count(data)
            else:
                receive(data, addr)

        return received

    def _count(self, data: bytes) -> None:
        _, payload_type, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
        streams = self._receiver._RTCRtpReceiver__remote_streams
        if self._payload_type is None:
            self._payload_type = payload_type & 0x7F
        if payload_type & 0x7F != self._payload_type:
            return  # a retransmission
        if ssrc not in streams:
            streams[ssrc] = StreamStatistics(90_000)
        streams[ssrc].add(SimpleNamespace(sequence_number=sequence_number, timestamp=timestamp))
        self.num_packets += 1
        self.num_bytes += len(data) - _OVERHEAD
        if timestamp != self._timestamp:
            self._timestamp = timestamp
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

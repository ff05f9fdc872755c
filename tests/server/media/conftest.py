"""A real receiver for the media tests: aiortc in this process, over loopback, decoding real pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from engine.api import Frames
from server.media.program import Program, Shown, ViewerTimeouts
from server.media.program_format import ProgramFormat
from server.media.video import marker
from server.media.video.encoder import EncodedFrame
from server.media.video.rendition import Rendition
from server.stage.picture import Clip, OnAir

SMALL = ProgramFormat(width=512, height=288, frame_rate=24, bitrate=1_000_000, marker=True)
PATIENCE_S = 15.0


class Receiver:
    """A viewer. `frames` come decoded; RTP timestamps are noted as they arrive."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.transceiver = self.connection.addTransceiver("video", direction="recvonly")
        self.viewer_id = ""
        self.answer = ""
        self.wire_timestamps: list[int] = []
        receiver: Any = self.transceiver.receiver
        handle = receiver._handle_rtp_packet

        async def note(packet: Any, arrival_time_ms: int) -> None:
            if packet.payload and (not self.wire_timestamps or self.wire_timestamps[-1] != packet.timestamp):
                self.wire_timestamps.append(packet.timestamp)
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = note

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def watch(self, program: Program) -> None:
        self.viewer_id, self.answer = await program.add_viewer(await self.offer())
        await self.connection.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))

    async def picture(self) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int]:
        """The next decoded frame: its planes, and the RTP timestamp it came with."""
        frame: Any = await asyncio.wait_for(self.transceiver.receiver.track.recv(), PATIENCE_S)
        return frame.to_ndarray(format="yuv420p"), (self.wire_timestamps[0] + frame.pts) & 0xFFFFFFFF

    async def marked(self) -> tuple[int, int]:
        """The frame index read from the next decoded picture, and its RTP timestamp."""
        planes, timestamp = await self.picture()
        index = marker.read(planes)
        assert index is not None, "no frame marker in the decoded picture"
        return index, timestamp

    async def ask_for_keyframe(self) -> None:
        receiver: Any = self.transceiver.receiver
        await receiver._send_rtcp_pli(next(iter(receiver._RTCRtpReceiver__remote_streams)))

    def vanish(self) -> None:
        """Close the sockets silently, as a killed browser or a lost network does."""
        transport: Any = self.transceiver.receiver.transport.transport
        for protocol in transport._connection._protocols:
            protocol.transport.close()

    async def close(self) -> None:
        await self.connection.close()


class Stagehand:
    """A running program, and all its reports."""

    def __init__(self, program_format: ProgramFormat = SMALL, **options: Any) -> None:
        self.shown: list[Shown] = []
        self.changed: list[tuple[OnAir, str | None]] = []
        self.lost: list[str] = []
        self.happened = asyncio.Event()
        self.program = Program(
            program_format,
            on_shown=self._note(self.shown),
            on_changed=lambda on_air, prompt_id: self._note(self.changed)((on_air, prompt_id)),
            on_viewer_lost=self._note(self.lost),
            **options,
        )
        self.sent: list[int] = []  # the frames that were sent: a busy machine may leave one out, and counts it
        put = self.program._fanout.put

        def note_sent(frames: Mapping[Rendition, EncodedFrame]) -> None:
            self.sent += {frame.frame_index for frame in frames.values()}
            put(frames)

        self.program._fanout.put = note_sent  # type: ignore[method-assign]

    def sent_from(self, frame_index: int, num_frames: int) -> list[int]:
        """The frames that were sent from this one on."""
        first = self.sent.index(frame_index)
        return self.sent[first : first + num_frames]

    def _note(self, where: list[Any]) -> Callable[[Any], None]:
        def note(what: Any) -> None:
            where.append(what)
            self.happened.set()

        return note

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the reports fulfil the condition."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.happened.clear()
                await self.happened.wait()


@pytest.fixture
async def open_program() -> AsyncIterator[Callable[..., Awaitable[Stagehand]]]:
    opened: list[Stagehand] = []

    async def open_one(program_format: ProgramFormat = SMALL, **options: Any) -> Stagehand:
        stagehand = Stagehand(program_format, **options)
        await stagehand.program.open()
        opened.append(stagehand)
        return stagehand

    yield open_one
    for stagehand in opened:
        await stagehand.program.close()


@pytest.fixture
async def new_receiver() -> AsyncIterator[Callable[[], Receiver]]:
    receivers: list[Receiver] = []

    def new() -> Receiver:
        receivers.append(Receiver())
        return receivers[-1]

    yield new
    for receiver in receivers:
        await receiver.close()


def flat_frames(luma: int, num_frames: int = 2, *, width: int = 224, height: int = 128) -> Frames:
    planes = np.full((num_frames, height * 3 // 2, width), 128, np.uint8)
    planes[:, :height] = luma
    return Frames(planes)


@pytest.fixture
def flat_clip() -> Callable[..., Clip]:
    def make(prompt_id: str, luma: int = 180) -> Clip:
        return Clip(prompt_id, flat_frames(luma, 12), frame_rate=12, closes_on_itself=False, after="loop")

    return make


@pytest.fixture
def impatient() -> ViewerTimeouts:
    """As short as can be: aiortc's receivers report every 0.5 to 1.5 s."""
    return ViewerTimeouts(connect_s=1.0, silence_s=2.5)

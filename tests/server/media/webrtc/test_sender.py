"""One viewer's RTP on a fake wire: numbers, pace, retransmission, reports, and the private names that it uses."""

from __future__ import annotations

import struct
from typing import Any

import aioice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    is_rtcp,
    pack_remb_fci,
    unwrap_rtx,
)

from server.clock import FakeClock
from server.media.video.encoder import EncodedFrame
from server.media.video.fanout import Fanout
from server.media.video.rendition import ladder
from server.media.webrtc.pacer import Pacer
from server.media.webrtc.sender import HISTORY_PACKETS, PACE, RtpSender

RENDITIONS = ladder(832, 480, 2_000_000)
H264, RTX = 102, 103
PARAMETERS = RTCRtpSendParameters(
    codecs=[
        RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000, payloadType=H264),
        RTCRtpCodecParameters(mimeType="video/rtx", clockRate=90000, payloadType=RTX, parameters={"apt": H264}),
    ],
    headerExtensions=[
        RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid"),
        RTCRtpHeaderExtensionParameters(id=2, uri="http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    ],
    muxId="0",
    rtcp=RTCRtcpParameters(cname="stage"),
)
EXTENSIONS = HeaderExtensionsMap()
EXTENSIONS.configure(PARAMETERS)


class Wire:
    """Replaces DTLS, ICE and UDP: keeps the unencrypted packets that would be sent."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.sent: list[tuple[float, RtpPacket]] = []
        self.reports: list[Any] = []
        self._tx_srtp = self.transport = self._connection = self.protocol = self
        self._nominated = {1: self}
        self.remote_addr = ("192.0.2.1", 5000)
        self.unsent_bytes = 0

    def protect(self, packet: bytes) -> bytes:
        return packet

    protect_rtcp = protect

    def sendto(self, packet: bytes, address: object) -> None:
        if is_rtcp(packet):
            self.reports += RtcpPacket.parse(packet)
        else:
            self.sent.append((self._clock.now(), RtpPacket.parse(packet, EXTENSIONS)))

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def _register_rtp_sender(self, sender: object, parameters: object) -> None:
        pass

    _unregister_rtp_sender = protect

    @property
    def media(self) -> list[RtpPacket]:
        return [packet for _, packet in self.sent if packet.payload_type == H264]

    @property
    def resent(self) -> list[RtpPacket]:
        return [packet for _, packet in self.sent if packet.payload_type == RTX]


class Stock:
    """The attributes of aiortc's sender that ours copies."""

    _ssrc, _rtx_ssrc, _stream_id, _track_id = 1111, 2222, "stream", "track"

    def __init__(self, wire: Wire) -> None:
        self.transport = wire


class Viewer:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.wire = Wire(self.clock)
        self.fanout = Fanout(RENDITIONS[0], 48)
        self.pacer = Pacer(self.clock)
        self.num_heard = 0
        self.started_at = self.clock.now()
        self.sender = RtpSender(
            Stock(self.wire),
            self.fanout,
            self.pacer,
            renditions=RENDITIONS,
            clock=self.clock,
            started_at=self.started_at,
            on_heard=self._hear,
            on_ended=lambda reason: None,
        )
        self._frame_index = 0
        self._lost = self._reported = 0
        self._first = self.sender._sequence_number

    def _hear(self) -> None:
        self.num_heard += 1

    async def connect(self) -> None:
        await self.sender.send(PARAMETERS)

    def show(self, num_packets: int = 1, *, is_keyframe: bool = False) -> None:
        payloads = tuple(bytes((k % 256,)) * 1000 for k in range(num_packets))
        frame = EncodedFrame(b"".join(payloads), payloads, self._frame_index, self._frame_index * 3750, is_keyframe)
        self._frame_index += 1
        self.fanout.put({RENDITIONS[0]: frame})
        self.pacer.round()

    async def play(self, seconds: float, num_packets: int = 1) -> None:
        """Sends frames at 24 a second while the pacer runs."""
        for _ in range(round(seconds * 24)):
            self.show(num_packets)
            await self.advance(1 / 24)

    async def advance(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        while (due := self.pacer.round()) is not None and due < end:
            await self.clock.advance(max(0.001, due - self.clock.now()))
        await self.clock.advance(max(0.0, end - self.clock.now()))

    async def hear(self, packet: Any) -> None:
        await self.sender._handle_rtcp_packet(packet)

    async def report(self, fraction_lost: float, estimate: int | None = None) -> None:
        if estimate is not None:
            await self.hear(RtcpPsfbPacket(fmt=15, ssrc=9, media_ssrc=0, fci=pack_remb_fci(estimate, [1111])))
        self._lost += round(fraction_lost * (self.sender.packets_sent - self._reported))
        self._reported = self.sender.packets_sent
        # A report's own interval is nonsense on purpose: it may cover three packets.
        highest = self._first + self._reported - 1
        info = RtcpReceiverInfo(1111, 200, self._lost, highest, 0, 0, 0)
        await self.hear(RtcpRrPacket(ssrc=9, reports=[info]))


async def connected() -> Viewer:
    viewer = Viewer()
    await viewer.connect()
    viewer.show(is_keyframe=True)
    return viewer


async def test_packets_are_numbered_without_gaps_and_the_last_of_a_frame_is_marked() -> None:
    viewer = await connected()
    viewer.show(2)
    await viewer.advance(0.1)
    packets = viewer.wire.media
    first = packets[0].sequence_number
    assert [packet.sequence_number for packet in packets] == [first, first + 1, first + 2]
    assert [packet.marker for packet in packets] == [1, 0, 1]
    assert {packet.ssrc for packet in packets} == {1111}
    assert (packets[1].timestamp - packets[0].timestamp) & 0xFFFFFFFF == 3750
    assert packets[0].timestamp == viewer.sender.rtp_timestamp(0)
    assert [packet.extensions.mid for packet in packets] == ["0"] * 3
    assert all(packet.extensions.abs_send_time is not None for packet in packets)


async def test_sequence_numbers_wrap() -> None:
    viewer = Viewer()
    viewer.sender._sequence_number = 65534
    await viewer.connect()
    viewer.show(4, is_keyframe=True)
    await viewer.advance(0.1)
    assert [packet.sequence_number for packet in viewer.wire.media] == [65534, 65535, 0, 1]
    await viewer.hear(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1111, lost=[65535, 0]))
    assert [unwrap_rtx(p, H264, 1111).sequence_number for p in viewer.wire.resent] == [65535, 0]


async def test_a_keyframe_leaves_at_the_viewers_pace_not_at_once() -> None:
    viewer = Viewer()
    await viewer.connect()
    viewer.show(100, is_keyframe=True)
    assert len(viewer.wire.sent) <= 3
    await viewer.advance(1.0)
    times = [at for at, _ in viewer.wire.sent]
    assert len(times) == 100
    seconds = 100 * 1000 * 8 / (PACE * RENDITIONS[0].bitrate)
    assert times[-1] - times[0] == pytest.approx(seconds, abs=0.006)
    assert max(sum(at <= other < at + 0.004 for other in times) for at in times) <= 5


async def test_a_viewer_that_joins_starts_at_the_last_keyframe_and_catches_up() -> None:
    viewer = Viewer()
    viewer.fanout.subscribe()
    viewer.show(20, is_keyframe=True)
    await viewer.play(0.5, num_packets=3)
    assert viewer.wire.sent == []
    await viewer.connect()
    await viewer.advance(0.2)
    assert [packet.marker for packet in viewer.wire.media].count(1) == 13
    assert len(viewer.wire.media) == 20 + 12 * 3


async def test_a_lost_packet_is_sent_again_under_its_own_ssrc_and_number() -> None:
    viewer = await connected()
    await viewer.play(1.0)
    lost = viewer.wire.media[5]
    await viewer.hear(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1111, lost=[lost.sequence_number]))
    (resent,) = viewer.wire.resent
    assert resent.ssrc == 2222
    original = unwrap_rtx(resent, H264, 1111)
    assert (original.sequence_number, original.timestamp, original.marker) == (
        lost.sequence_number,
        lost.timestamp,
        lost.marker,
    )
    assert original.payload == lost.payload


async def test_packets_that_are_not_kept_are_not_sent_again() -> None:
    viewer = await connected()
    first = viewer.wire.media[0].sequence_number
    await viewer.hear(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1111, lost=[(first + 500) & 0xFFFF]))
    viewer.show(HISTORY_PACKETS)
    await viewer.advance(10.0)
    await viewer.hear(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1111, lost=[first]))
    assert viewer.wire.resent == []


async def test_a_viewer_that_keeps_asking_for_all_packets_gets_no_flood() -> None:
    viewer = await connected()
    await viewer.play(1.0, num_packets=8)
    numbers = [packet.sequence_number for packet in viewer.wire.media]
    for _ in range(50):
        await viewer.hear(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1111, lost=numbers))
    resent_bits = sum(len(packet.payload) * 8 for packet in viewer.wire.resent)
    assert 0 < resent_bits <= RENDITIONS[0].bitrate * 0.6


async def test_pli_and_fir_ask_for_a_keyframe_of_the_viewers_own_rendition() -> None:
    viewer = await connected()
    await viewer.hear(RtcpPsfbPacket(fmt=1, ssrc=9, media_ssrc=1111))
    await viewer.hear(RtcpPsfbPacket(fmt=4, ssrc=9, media_ssrc=1111, fci=bytes(8)))
    assert viewer.fanout.statistics().keyframe_requests == 2
    assert viewer.fanout.next_is_keyframe(now=1e6, rendition=RENDITIONS[0])
    assert viewer.num_heard == 2


async def test_heavy_loss_takes_the_viewer_to_a_lower_rendition() -> None:
    viewer = await connected()
    for _ in range(4):
        await viewer.play(1.0)
        await viewer.report(fraction_lost=0.2)
    assert viewer.sender.next_rendition == RENDITIONS[1]
    assert viewer.fanout.wanted == [RENDITIONS[0], RENDITIONS[1]]


async def test_single_losses_that_are_reported_at_once_keep_the_rendition() -> None:
    viewer = await connected()
    for _ in range(40):
        await viewer.play(0.125, num_packets=8)
        for _ in range(3):
            await viewer.report(fraction_lost=0.04)
    assert viewer.sender.next_rendition is None


async def test_an_estimate_below_what_is_sent_takes_the_viewer_to_a_lower_rendition() -> None:
    viewer = await connected()
    for _ in range(8):
        await viewer.play(1.0, num_packets=8)
        await viewer.report(fraction_lost=0.0, estimate=1_200_000)
    assert viewer.sender.next_rendition == RENDITIONS[1]


@pytest.mark.parametrize("fci", [b"", b"REMB", b"REMB\x05", b"REMB\xff\x00\x00\x00", b"XXXX\x01\x00\x00\x00"])
async def test_broken_estimates_are_ignored(fci: bytes) -> None:
    viewer = await connected()
    await viewer.hear(RtcpPsfbPacket(fmt=15, ssrc=9, media_ssrc=0, fci=fci))
    assert viewer.sender.next_rendition is None


async def test_sender_reports_tie_the_rtp_clock_to_the_programs() -> None:
    viewer = await connected()
    await viewer.play(2.0)
    viewer.sender.send_report()
    report = [packet for packet in viewer.wire.reports if isinstance(packet, RtcpSrPacket)][-1]
    expected = viewer.sender.rtp_timestamp(round((viewer.clock.now() - viewer.started_at) * 90000))
    assert report.sender_info.rtp_timestamp == expected
    assert report.sender_info.packet_count == len(viewer.wire.media)


async def test_round_trips_are_measured() -> None:
    viewer = await connected()
    report = viewer.wire.reports[0]
    lsr = (report.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
    await viewer.clock.advance(0.25)
    info = RtcpReceiverInfo(1111, 0, 0, 0, 0, lsr, int(0.05 * 65536))
    await viewer.hear(RtcpRrPacket(ssrc=9, reports=[info]))
    assert viewer.sender.rtt_s == pytest.approx(0.2, abs=0.001)


async def test_a_path_that_is_stuck_costs_packets_not_memory() -> None:
    viewer = await connected()
    viewer.wire.unsent_bytes = 1_000_000
    before = len(viewer.wire.sent)
    await viewer.play(1.0, num_packets=8)
    assert len(viewer.wire.sent) == before
    assert not viewer.sender._queue
    viewer.wire.unsent_bytes = 0
    viewer.show()
    assert len(viewer.wire.sent) == before + 1


async def test_a_program_beyond_the_viewers_pace_is_dropped_to_the_next_keyframe() -> None:
    viewer = await connected()
    for _ in range(48):
        viewer.show(40)
    assert viewer.sender._queued_bytes * 8 <= 2 * PACE * RENDITIONS[0].bitrate + 40 * 8000
    assert viewer.sender.frames_dropped > 0
    await viewer.advance(10.0)
    seen = viewer.wire.media[-1].timestamp
    viewer.show()
    await viewer.advance(1.0)
    assert viewer.wire.media[-1].timestamp == seen or viewer.sender.frames_dropped == 0
    viewer.show(is_keyframe=True)
    await viewer.advance(1.0)
    assert viewer.wire.media[-1].timestamp != seen


async def test_a_stopped_sender_sends_one_bye_and_nothing_after_it() -> None:
    viewer = await connected()
    await viewer.sender.stop()
    await viewer.sender.stop()
    before = len(viewer.wire.sent)
    viewer.show()
    viewer.sender.send_report()
    await viewer.hear(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1111, lost=[viewer.wire.media[0].sequence_number]))
    assert len(viewer.wire.sent) == before
    assert viewer.fanout.num_takers == 0
    assert sum(type(packet).__name__ == "RtcpByePacket" for packet in viewer.wire.reports) == 1


async def test_the_lateness_of_packets_is_counted() -> None:
    viewer = await connected()
    await viewer.play(1.0, num_packets=2)
    assert viewer.pacer.lateness.quantile_s(0.99) <= 0.002
    await viewer.clock.advance(0.080)  # the loop was blocked while a frame was due
    await viewer.play(0.1, num_packets=2)
    assert viewer.pacer.lateness.quantile_s(1.0) >= 0.030


async def test_aiortc_and_aioice_still_have_the_private_names_that_we_use(new_receiver: Any, open_program: Any) -> None:
    assert aioice.__version__ == "0.13.0"
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    await receiver.marked()
    sender = hand.program._peers[receiver.viewer_id]._sending
    assert isinstance(sender, RtpSender)
    dtls = sender.transport
    assert callable(dtls._tx_srtp.protect)
    pair = dtls.transport._connection._nominated[1]
    assert pair.protocol.transport.get_extra_info("sockname")
    assert isinstance(pair.remote_addr, tuple)
    assert dtls._rtp_router.senders[sender._ssrc] is sender
    stock = RTCPeerConnection(RTCConfiguration(iceServers=[])).addTransceiver("video").sender
    for name in ("_ssrc", "_rtx_ssrc", "_stream_id", "_track_id", "_enabled", "send", "stop", "setTransport"):
        assert hasattr(stock, name) and hasattr(sender, name), name
    assert struct.calcsize("!BBHII") == 12

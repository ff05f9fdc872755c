"""One viewer's RTP sender: sends ready payloads with its own sequence numbers, SRTP, retransmission, reports and pace.

Replaces aiortc's `RTCRtpSender` in a transceiver (`peer.py` puts it there). aiortc negotiates, connects and keeps the
DTLS session; this sends the packets. The fan-out feeds it and the pacer times it. There is one for each viewer, without
a task of its own. Runs on the event loop.

It uses private names of aiortc 1.16.0 and aioice 0.13.0, each checked by `tests/server/media/webrtc/test_sender.py`:
`RTCDtlsTransport._tx_srtp`, `_register_rtp_sender`, `_unregister_rtp_sender`; `RTCIceTransport._connection`;
`aioice.Connection._nominated` (pairs by component, each with `protocol.transport` and `remote_addr`); what
`RTCPeerConnection` and `RTCRtpTransceiver` ask of a sender (`_ssrc`, `_rtx_ssrc`, `_stream_id`, `_track_id`,
`_enabled`).

Bounds: the queue holds `MAX_QUEUED_S` of frames at the viewer's pace. When it is full, it is emptied and goes on at the
next keyframe. A bucket limits retransmission to the rendition's own bitrate, so that a viewer cannot make us send more
than twice the program.
"""

from __future__ import annotations

import logging
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import Any

import pylibsrtp
from aiortc.codecs import is_rtx
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    unpack_remb_fci,
)

from server.clock import Clock
from server.media.video.encoder import RTP_CLOCK_RATE, EncodedFrame
from server.media.video.fanout import Fanout, Taker
from server.media.video.rendition import Rendition
from server.media.webrtc.adaptation import Adaptation, Mode, Report
from server.media.webrtc.pacer import Lateness, Pacer

_log = logging.getLogger(__name__)

# libwebrtc paces at 2.5 times the bitrate, too: a keyframe arrives in time and makes no burst.
PACE = 2.5
# How much may leave at once after a pause or a late round: 6 KB at 2 Mbit/s.
BURST_S = 0.010
MAX_QUEUED_S = 2.0
REPORT_INTERVAL_S = 1.0
# Two seconds at 5 Mbit/s. A power of two, so that a sequence number's place is the same after it wraps.
HISTORY_PACKETS = 1024
_HEADER = struct.Struct("!BBHII")
_VERSION_AND_EXTENSION = 0x90  # RFC 3550: version 2, extension follows
_ONE_BYTE_EXTENSIONS = 0xBEDE  # RFC 8285
_MARKER = 0x80
_MAX_UNSENT_BYTES = 64 * 1024
_NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
_RANDOM = SystemRandom()

_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"


class RtpSender(Taker):
    """See the module. `renditions` are those that this viewer can take, best first."""

    kind = "video"

    def __init__(
        self,
        stock: Any,
        fanout: Fanout,
        pacer: Pacer,
        *,
        renditions: Sequence[Rendition],
        clock: Clock,
        started_at: float,
        on_heard: Callable[[], None],
        on_ended: Callable[[str], None],
    ) -> None:
        super().__init__(renditions[0])
        self._ssrc, self._rtx_ssrc = stock._ssrc, stock._rtx_ssrc
        self._stream_id, self._track_id = stock._stream_id, stock._track_id
        self._enabled = True
        self.track = None
        self.transport = stock.transport
        self._renditions = renditions
        self._fanout = fanout
        self._pacer = pacer
        self._clock = clock
        self._started_at = started_at  # of the program: when its media time was 0
        self._on_heard = on_heard
        self._on_ended = on_ended
        # RFC 3550 asks for random origins; below 32768 the first wrap is far enough for SRTP's rollover counter.
        self._sequence_number = _RANDOM.randrange(1 << 15)
        self._rtx_sequence_number = _RANDOM.randrange(1 << 15)
        self._timestamp_origin = _RANDOM.randrange(1 << 32)
        self._payload_type = 0
        self._rtx_payload_type: int | None = None
        self._cname = ""
        self._extensions = _Extensions()
        self._is_started = False
        self._is_stopped = False
        self._queue: deque[tuple[EncodedFrame, int, int]] = deque()  # frame, next payload, RTP timestamp
        self._queued_bytes = 0
        self._needs_keyframe = True
        self._next_at = self._ideal_at = clock.now()
        self._history: list[tuple[int, bytes, bytes] | None] = [None] * HISTORY_PACKETS
        self._resent_until = self._next_at
        self._probe_at = self._next_at
        self._adaptation = Adaptation(len(renditions), clock.now())
        self._reported_at = float("-inf")
        self._received = (self._sequence_number - 1, 0)  # highest sequence number with its cycles, packets lost so far
        self._estimate: int | None = None
        self._counted_bytes, self._counted_at = 0, clock.now()
        self._last_report: tuple[int, float] | None = None
        self.rtt_s: float | None = None
        self.fraction_lost = 0.0
        self.packets_sent = self.bytes_sent = self.packets_resent = self.frames_dropped = 0

    # --- what aiortc asks of a sender -----------------------------------------------------------------------------

    def setTransport(self, transport: Any) -> None:
        self.transport = transport

    def replaceTrack(self, track: object) -> None:
        """There is no track: frames come from the fan-out."""

    async def send(self, parameters: Any) -> None:
        """Media can flow. Called again on each renegotiation; only the first counts."""
        if self._is_started or self._is_stopped:
            return
        self._is_started = True
        codec = parameters.codecs[0]
        self._payload_type = codec.payloadType
        for other in parameters.codecs:
            if is_rtx(other) and other.parameters.get("apt") == codec.payloadType:
                self._rtx_payload_type = other.payloadType
                break
        self._cname = parameters.rtcp.cname or ""
        self._extensions = _Extensions.of(parameters)
        self.transport._register_rtp_sender(self, parameters)
        self._next_at = self._ideal_at = self._clock.now()
        self._fanout.add(self)
        self.send_report()

    async def stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        self._leave()
        if self._is_started:
            self.transport._unregister_rtp_sender(self)
            self._send_rtcp(bytes(RtcpByePacket(sources=[self._ssrc])))

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        self._on_heard()
        match packet:
            case RtcpRrPacket() | RtcpSrPacket():
                for info in packet.reports:
                    if info.ssrc == self._ssrc:
                        self._receive_report(info)
            case RtcpRtpfbPacket(fmt=fmt) if fmt == RTCP_RTPFB_NACK:
                for sequence_number in packet.lost:
                    self._resend(sequence_number)
            case RtcpPsfbPacket(fmt=fmt) if fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
                self._fanout.request_keyframe(self.rendition)
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                self._receive_estimate(packet.fci)

    # --- from the fan-out -----------------------------------------------------------------------------------------

    def take(self, frame: EncodedFrame) -> int:
        num_dropped = 0
        if self._queued_bytes * 8 > MAX_QUEUED_S * self._pace:
            num_dropped = len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            self._needs_keyframe = True
        if self._needs_keyframe and not frame.is_keyframe:
            num_dropped += 1
        else:
            self._needs_keyframe = False
            self._queue.append((frame, 0, self.rtp_timestamp(frame.time)))
            self._queued_bytes += frame.size_bytes
            self._pacer.add(self)
        self.frames_dropped += num_dropped
        return num_dropped

    def close(self) -> None:
        self._leave()
        self._on_ended("program_closed")

    def rtp_timestamp(self, media_time: int) -> int:
        return (self._timestamp_origin + media_time) & 0xFFFFFFFF

    # --- by the pacer ---------------------------------------------------------------------------------------------

    def flush(self, now: float, lateness: Lateness) -> float | None:
        """Send what is due; see `pacer.Paced`."""
        if not self._queue or self._is_stopped:
            return None
        self._next_at = max(self._next_at, now - BURST_S)
        send, extensions = self._open_way(), self._extensions.serialized()
        seconds_a_byte = 8 / self._pace
        while self._queue:
            frame, index, timestamp = self._queue[0]
            num_payloads = len(frame.payloads)
            due = self._started_at + frame.time / RTP_CLOCK_RATE
            while index < num_payloads:
                if self._next_at > now:
                    self._queue[0] = (frame, index, timestamp)
                    return self._next_at
                payload = frame.payloads[index]
                index += 1
                # Against a pacer that is never late and never early.
                self._ideal_at = max(self._ideal_at, due)
                lateness.note(now - self._ideal_at)
                self._send_payload(send, extensions, payload, timestamp, is_last=index == num_payloads)
                duration_s = len(payload) * seconds_a_byte
                self._next_at += duration_s
                self._ideal_at += duration_s
            self._queue.popleft()
            self._queued_bytes -= frame.size_bytes
        if self._adaptation.mode is Mode.PROBING:
            self._probe(now)
        return None

    @property
    def _pace(self) -> float:
        return PACE * self.rendition.bitrate

    def _send_payload(self, send: _Way, extensions: bytes, payload: bytes, timestamp: int, *, is_last: bool) -> None:
        sequence_number = self._sequence_number
        self._sequence_number = (sequence_number + 1) & 0xFFFF
        payload_type = self._payload_type | _MARKER if is_last else self._payload_type
        header = _HEADER.pack(_VERSION_AND_EXTENSION, payload_type, sequence_number, timestamp, self._ssrc) + extensions
        self._history[sequence_number % HISTORY_PACKETS] = (sequence_number, header, payload)
        self.packets_sent += 1
        self.bytes_sent += len(payload)
        send(header + payload)

    # --- retransmission and probing -------------------------------------------------------------------------------

    def _resend(self, sequence_number: int) -> None:
        kept = self._history[sequence_number % HISTORY_PACKETS]
        now = self._clock.now()
        # The bucket: it holds half a second of resent packets and empties at the rendition's bitrate.
        self._resent_until = max(self._resent_until, now)
        if kept is None or kept[0] != sequence_number or self._resent_until - now > 0.5 or self._is_stopped:
            return
        self._resent_until += len(kept[2]) * 8 / self.rendition.bitrate
        self._send_again(kept)

    def _send_again(self, kept: tuple[int, bytes, bytes]) -> None:
        """RFC 4588: under the other SSRC, with the sequence number before the payload; without RTX, the same packet."""
        sequence_number, header, payload = kept
        self.packets_resent += 1
        if self._rtx_payload_type is None:
            self._open_way()(header + payload)
            return
        _, payload_type, _, timestamp, _ = _HEADER.unpack_from(header)
        rtx_header = _HEADER.pack(
            _VERSION_AND_EXTENSION,
            payload_type & _MARKER | self._rtx_payload_type,
            self._rtx_sequence_number,
            timestamp,
            self._rtx_ssrc,
        )
        self._rtx_sequence_number = (self._rtx_sequence_number + 1) & 0xFFFF
        extensions = self._extensions.serialized()
        self._open_way()(rtx_header + extensions + sequence_number.to_bytes(2, "big") + payload)

    def _probe(self, now: float) -> None:
        """Send again as much as the better rendition would add: newest packets first, which may repair a loss."""
        if self._rtx_payload_type is None:
            return
        better = self._renditions[self._adaptation.level - 1]
        share = better.bitrate / self.rendition.bitrate - 1
        wanted_bytes = share * self._sent_rate(now) / 8 * min(0.2, now - self._probe_at)
        self._probe_at = now
        newest = self._sequence_number
        for age in range(1, HISTORY_PACKETS):
            kept = self._history[(newest - age) % HISTORY_PACKETS]
            if wanted_bytes <= 0 or kept is None:
                return
            wanted_bytes -= len(kept[2])
            self._send_again(kept)

    # --- reports --------------------------------------------------------------------------------------------------

    def send_report(self) -> None:
        """RFC 3550 section 6.4.1: the time on both clocks. The program's tick calls it about once a second."""
        if not self._is_started or self._is_stopped:
            return
        now, ntp_time = self._clock.now(), int((time.time() + _NTP_EPOCH_S) * (1 << 32))
        media_time = round((now - self._started_at) * RTP_CLOCK_RATE)
        sender_info = RtcpSenderInfo(
            ntp_timestamp=ntp_time,
            rtp_timestamp=self.rtp_timestamp(media_time),
            packet_count=self.packets_sent & 0xFFFFFFFF,
            octet_count=self.bytes_sent & 0xFFFFFFFF,
        )
        self._last_report = ((ntp_time >> 16) & 0xFFFFFFFF, now)
        name = RtcpSdesPacket(chunks=[RtcpSourceInfo(ssrc=self._ssrc, items=[(1, self._cname.encode())])])
        self._send_rtcp(bytes(RtcpSrPacket(ssrc=self._ssrc, sender_info=sender_info)) + bytes(name))

    def _receive_report(self, info: RtcpReceiverInfo) -> None:
        now = self._clock.now()
        if self._last_report is not None and info.dlsr and info.lsr == self._last_report[0]:
            self.rtt_s = max(0.0, now - self._last_report[1] - info.dlsr / 65536)
        # Browsers also report with each NACK, but over a few packets only. Take one report a second.
        if now - self._reported_at < REPORT_INTERVAL_S:
            return
        self._reported_at = now
        before, self._received = self._received, (info.highest_sequence, info.packets_lost)
        num_expected = (info.highest_sequence - before[0]) & 0xFFFFFFFF
        if not 0 < num_expected <= HISTORY_PACKETS * 16:
            return
        self.fraction_lost = min(1.0, max(0, info.packets_lost - before[1]) / num_expected)
        report = Report(self.fraction_lost, self._estimate, self._sent_rate(now))
        self._counted_bytes, self._counted_at = self.bytes_sent, now
        self._estimate = None
        if self._adaptation.receive(report, now):
            rendition = self._renditions[self._adaptation.level]
            _log.info(
                "= a viewer changes to %s: %.0f %% lost, estimate %s, sent %.0f bit/s",
                rendition.name,
                100 * report.fraction_lost,
                report.estimate,
                report.sent_rate,
            )
            self.change_to(rendition)
        self._probe_at = now

    def _receive_estimate(self, fci: bytes) -> None:
        try:
            bitrate, ssrcs = unpack_remb_fci(fci)
        except (ValueError, struct.error, IndexError):
            return  # not a REMB, or a broken one
        if self._ssrc in ssrcs:
            self._estimate = bitrate

    def _sent_rate(self, now: float) -> float:
        """Bits per second since the last report, without packets sent again."""
        return (self.bytes_sent - self._counted_bytes) * 8 / max(0.05, now - self._counted_at)

    # --- the wire -------------------------------------------------------------------------------------------------

    def _open_way(self) -> _Way:
        """Sends through SRTP to the pair that ICE has nominated. Without one, packets are dropped as if lost."""
        path = self._path()
        if path is None:
            return _nowhere
        srtp, udp, address = path
        # The kernel's buffer is full, and asyncio would keep the packet. Drop it, as a router would.
        if hasattr(udp, "get_write_buffer_size") and udp.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            return _nowhere
        protect, sendto = srtp.protect, udp.sendto
        return lambda packet: sendto(protect(packet), address)

    def _send_rtcp(self, packet: bytes) -> None:
        path = self._path()
        if path is None:
            return
        srtp, udp, address = path
        try:
            udp.sendto(srtp.protect_rtcp(packet), address)
        except pylibsrtp.Error as error:
            _log.warning("! a report could not be protected: %s", error)

    def _path(self) -> tuple[Any, Any, Any] | None:
        """SRTP session, UDP transport and address of the nominated pair; None while there is none."""
        srtp = self.transport._tx_srtp
        pair = self.transport.transport._connection._nominated.get(1)
        udp = pair.protocol.transport if pair is not None else None
        if srtp is None or udp is None or udp.is_closing():
            return None
        return srtp, udp, pair.remote_addr

    def _leave(self) -> None:
        self._fanout.remove(self)
        self._pacer.remove(self)
        self._queue.clear()
        self._queued_bytes = 0


_Way = Callable[[bytes], None]


def _nowhere(packet: bytes) -> None:
    pass


class _Extensions:
    """RTP header extensions (RFC 8285, one-byte form): the media id, and when the packet left."""

    def __init__(self, mid: bytes = b"", abs_send_time_id: int | None = None) -> None:
        body = mid + (bytes((abs_send_time_id << 4 | 2,)) if abs_send_time_id is not None else b"")
        time_bytes = 3 if abs_send_time_id is not None else 0
        num_words = -(-(len(body) + time_bytes) // 4)
        self._before = struct.pack("!HH", _ONE_BYTE_EXTENSIONS, num_words) + body
        self._after = bytes(4 * num_words - len(body) - time_bytes)
        self._has_time = abs_send_time_id is not None

    @classmethod
    def of(cls, parameters: Any) -> _Extensions:
        ids = {extension.uri: extension.id for extension in parameters.headerExtensions}
        mid = b""
        if _MID in ids and parameters.muxId and len(parameters.muxId) <= 16:
            name = parameters.muxId.encode()
            mid = bytes((ids[_MID] << 4 | len(name) - 1,)) + name
        return cls(mid, ids.get(_ABS_SEND_TIME))

    def serialized(self) -> bytes:
        if not self._has_time:
            return self._before
        # 24 bits, 6.18 fixed-point seconds: receivers estimate the path's capacity from when packets left and arrived.
        # (The NTP epoch is a whole number of 64-second rounds away.)
        abs_send_time = int(time.time() % 64 * (1 << 18))
        return self._before + abs_send_time.to_bytes(3, "big") + self._after

"""Encodes a program in one rendition, once for all its viewers.

Takes the compositor's frames, and gives access units with the program's time, already cut into RTP payloads. Runs in
the program's worker thread only, never on the event loop.

H264 is constrained baseline, level 3.1 or what the size needs, because every browser decodes that. x264 `superfast`
with `zerolatency` gives one packet for each frame at once. The rate buffer is short, so that a keyframe is no burst
that fills a viewer's link. A hardware encoder replaces x264 where `hardware.py` has found it better. The program
(`gop_store.py`) decides where keyframes stand, not the encoder's own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy import uint8
from numpy.typing import NDArray

from server.media.video.packetizer import h264_payloads, vp8_payloads
from server.media.video.rendition import Codec, Rendition

RTP_CLOCK_RATE = 90_000
TIME_BASE = Fraction(1, RTP_CLOCK_RATE)
KEYFRAME_INTERVAL_S = 1.0
RATE_BUFFER_S = 0.4
# The program's bitrate is a ceiling: calm pictures take what this quality needs and no more.
CONSTANT_QUALITY = 21
VP8_CONSTANT_QUALITY = 12
SOFTWARE_H264 = "libx264"
# The encoder makes no keyframe by itself within this many frames, which is more than any GOP.
_NO_KEYFRAMES = 100_000
# ITU-T H.264 table A-1: level, macroblocks per second, macroblocks per frame.
_LEVELS = (("3.1", 108_000, 3_600), ("3.2", 216_000, 5_120), ("4.0", 245_760, 8_192), ("4.2", 522_240, 8_704))


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame of the program in one rendition. Shared by all viewers and never changed."""

    data: bytes  # H264: Annex B, with SPS and PPS before a keyframe; VP8: the frame
    payloads: tuple[bytes, ...]  # the same, cut for RTP
    frame_index: int
    time: int  # of the program, 90 kHz, from its first frame
    is_keyframe: bool

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    @property
    def packet(self) -> av.Packet[av.VideoStream]:
        """A new PyAV packet with this data and time, for muxers and aiortc's own sender."""
        packet: av.Packet[Any] = av.Packet(self.data)
        packet.pts = packet.dts = self.time
        packet.time_base = TIME_BASE
        packet.is_keyframe = self.is_keyframe
        return packet

    def again_at(self, frame_index: int, time: int) -> EncodedFrame:
        """The same picture at a later frame of the program."""
        return replace(self, frame_index=frame_index, time=time)


def media_time(frame_index: int, frame_rate: int) -> int:
    """The program's time at a frame, in ticks of the RTP clock, from the program's first frame."""
    return frame_index * RTP_CLOCK_RATE // frame_rate


class Encoder:
    """Encodes one rendition. After an error make a new encoder, whose first frame is a keyframe."""

    def __init__(self, rendition: Rendition, frame_rate: int, *, h264_encoder: str = SOFTWARE_H264) -> None:
        self._rendition = rendition
        self._frame_rate = frame_rate
        self._scaler = VideoReformatter()
        self._payloads: Callable[[bytes], tuple[bytes, ...]]
        match rendition.codec:
            case Codec.H264:
                self._context = h264_context(rendition, frame_rate, h264_encoder)
                self._payloads = h264_payloads
            case Codec.VP8:
                self._context = _vp8_context(rendition, frame_rate)
                self._payloads = vp8_payloads

    def encode(self, planes: NDArray[uint8], frame_index: int, *, is_keyframe: bool = False) -> EncodedFrame:
        """Encode one frame of the program, yuv420p ``[H * 3 // 2, W]`` in any size; `frame_index` only grows."""
        frame = self._sized(av.VideoFrame.from_ndarray(planes, "yuv420p"))
        time = media_time(frame_index, self._frame_rate)
        frame.pts = time
        frame.time_base = TIME_BASE
        frame.pict_type = PictureType.I if is_keyframe else PictureType.NONE
        packets = self._context.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"expected one packet from the encoder for each frame, got {len(packets)}")
        data = bytes(packets[0])
        return EncodedFrame(data, self._payloads(data), frame_index, time, bool(packets[0].is_keyframe))

    def _sized(self, frame: av.VideoFrame) -> av.VideoFrame:
        wanted = self._rendition
        if (frame.width, frame.height) == (wanted.width, wanted.height):
            return frame
        return self._scaler.reformat(
            frame, wanted.width, wanted.height, "yuv420p", interpolation=Interpolation.AREA, threads=1
        )


def h264_context(rendition: Rendition, frame_rate: int, name: str) -> av.VideoCodecContext:
    """An H264 encoder by its name in FFmpeg: constrained baseline, one packet a frame, keyframes on request only."""
    context = _context(name, rendition, frame_rate)
    context.profile = "Baseline"  # x264 writes it as constrained baseline
    bitrate = rendition.bitrate
    if name == SOFTWARE_H264:
        context.options = {
            "preset": "superfast",
            "crf": str(CONSTANT_QUALITY),
            "tune": "zerolatency",
            "level": _level(rendition.width, rendition.height, frame_rate),
            "forced-idr": "1",
            "x264-params": ":".join(
                (
                    f"keyint={_NO_KEYFRAMES}",
                    "scenecut=0",
                    "repeat-headers=1",  # SPS and PPS before each keyframe: a viewer may join at any
                    f"vbv-maxrate={bitrate // 1000}",
                    f"vbv-bufsize={max(1, int(bitrate * RATE_BUFFER_S) // 1000)}",
                    "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m:range=tv",
                )
            ),
        }
        return context
    context.bit_rate = bitrate
    context.gop_size = _NO_KEYFRAMES
    context.max_b_frames = 0
    context.options = dict(_HARDWARE_OPTIONS.get(name, {}))
    return context


# Options with which each gives one packet a frame, at once, and keyframes on request that a viewer may start from.
_HARDWARE_OPTIONS = {
    "h264_nvenc": {"preset": "p3", "tune": "ull", "zerolatency": "1", "forced-idr": "1", "delay": "0", "rc": "cbr"},
    "h264_qsv": {"preset": "veryfast", "forced_idr": "1", "async_depth": "1", "low_power": "0"},
    "h264_amf": {"usage": "ultralowlatency", "forced_idr": "1", "header_spacing": "1"},
    "h264_videotoolbox": {"realtime": "1", "prio_speed": "1"},
}


def _vp8_context(rendition: Rendition, frame_rate: int) -> av.VideoCodecContext:
    """libvpx for calls: no lookahead, no hidden frames, so that each frame gives one packet."""
    context = _context("libvpx", rendition, frame_rate)
    context.bit_rate = rendition.bitrate
    context.gop_size = _NO_KEYFRAMES
    context.options = {
        "deadline": "realtime",
        "cpu-used": "8",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "error-resilient": "1",
        "crf": str(VP8_CONSTANT_QUALITY),
        "maxrate": str(rendition.bitrate),
        "bufsize": str(max(1, int(rendition.bitrate * RATE_BUFFER_S))),
    }
    return context


def _context(name: str, rendition: Rendition, frame_rate: int) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = rendition.width, rendition.height
    context.pix_fmt = "yuv420p"
    context.framerate = Fraction(frame_rate, 1)
    context.time_base = TIME_BASE
    context.thread_count = 1
    return context


def _level(width: int, height: int, frame_rate: int) -> str:
    per_frame = -(-width // 16) * -(-height // 16)
    for level, max_per_second, max_per_frame in _LEVELS:
        if per_frame <= max_per_frame and per_frame * frame_rate <= max_per_second:
            return level
    return "5.1"

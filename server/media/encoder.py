"""One H264 encode of a program, for all its viewers.

Takes the compositor's frames, gives Annex B packets with the program's time in them. Runs in the program's worker
thread only, never on the event loop.

Constrained baseline, level 3.1 or what the size needs: what every browser decodes. x264 `superfast` with
`zerolatency` gives one packet for each frame at once; the rate buffer is short so that a keyframe is no burst that
fills a viewer's link.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.frame import PictureType
from numpy import uint8
from numpy.typing import NDArray

RTP_CLOCK_RATE = 90_000
TIME_BASE = Fraction(1, RTP_CLOCK_RATE)
KEYFRAME_INTERVAL_S = 1.0
RATE_BUFFER_S = 0.4
# The program's bitrate is a ceiling: calm pictures take what this quality needs and no more.
CONSTANT_QUALITY = 21
# ITU-T H.264 table A-1: level, macroblocks per second, macroblocks per frame.
_LEVELS = (("3.1", 108_000, 3_600), ("3.2", 216_000, 5_120), ("4.0", 245_760, 8_192), ("4.2", 522_240, 8_704))


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame of the program, encoded. `packet` is shared by all viewers and never changed."""

    packet: av.Packet[av.VideoStream]
    frame_index: int
    is_keyframe: bool
    size_bytes: int


def media_time(frame_index: int, frame_rate: int) -> int:
    """The program's time at a frame, in ticks of the RTP clock, from the program's first frame."""
    return frame_index * RTP_CLOCK_RATE // frame_rate


class Encoder:
    """Encodes one program. Not reusable after an error: make another, whose first frame is a keyframe."""

    def __init__(self, width: int, height: int, frame_rate: int, bitrate: int) -> None:
        self._frame_rate = frame_rate
        self._context = _context(width, height, frame_rate, bitrate)

    def encode(self, planes: NDArray[uint8], frame_index: int, *, is_keyframe: bool = False) -> EncodedFrame:
        """Encode one frame, yuv420p ``[H * 3 // 2, W]``; `frame_index` only grows."""
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = media_time(frame_index, self._frame_rate)
        frame.time_base = TIME_BASE
        frame.pict_type = PictureType.I if is_keyframe else PictureType.NONE
        packets = self._context.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"expected one packet from the encoder for each frame, got {len(packets)}")
        packet = packets[0]
        return EncodedFrame(packet, frame_index, bool(packet.is_keyframe), packet.size)


def _context(width: int, height: int, frame_rate: int, bitrate: int) -> av.VideoCodecContext:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.framerate = Fraction(frame_rate, 1)
    context.time_base = TIME_BASE
    context.thread_count = 1
    context.profile = "Baseline"  # x264 writes it as constrained baseline
    context.options = {
        "preset": "superfast",
        "crf": str(CONSTANT_QUALITY),
        "tune": "zerolatency",
        "level": _level(width, height, frame_rate),
        "forced-idr": "1",
        "x264-params": ":".join(
            (
                f"keyint={round(KEYFRAME_INTERVAL_S * frame_rate)}",
                "scenecut=0",  # keyframes come by the clock and on request
                "repeat-headers=1",  # SPS and PPS before each keyframe: a viewer may join at any
                f"vbv-maxrate={bitrate // 1000}",
                f"vbv-bufsize={max(1, int(bitrate * RATE_BUFFER_S) // 1000)}",
                "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m:range=tv",
            )
        ),
    }
    return context


def _level(width: int, height: int, frame_rate: int) -> str:
    per_frame = -(-width // 16) * -(-height // 16)
    for level, max_per_second, max_per_frame in _LEVELS:
        if per_frame <= max_per_frame and per_frame * frame_rate <= max_per_second:
            return level
    return "5.1"

"""Makes a program's frames: composes each picture once and encodes it once for each wanted rendition.

Used by the program's one worker thread only. Each failure is counted, and the first of a run is logged. If a picture
cannot be composed, the last one is held; a broken encoder is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from engine.api import Frames
from server.clock import MonotonicClock
from server.media.video.compositor import Compositor, Planes
from server.media.video.encoder import SOFTWARE_H264, EncodedFrame, Encoder
from server.media.video.rendition import Rendition
from server.stage.picture import Picture

logger = logging.getLogger(__name__)

JPEG_MAX_WIDTH = 256
JPEG_MIN_WIDTH = 128


@dataclass(frozen=True, slots=True)
class Made:
    """One frame of the program as far as it could be made."""

    frames: Mapping[Rendition, EncodedFrame]
    composed_s: float = 0.0
    encoded_s: float = 0.0
    num_failures: int = 0


class FrameMaker:
    """Compositor and encoders of one program."""

    def __init__(self, compositor: Compositor, frame_rate: int, *, h264_encoder: str = SOFTWARE_H264) -> None:
        self._clock = MonotonicClock()  # real time, because a test's clock cannot measure work
        self._compositor = compositor
        self._frame_rate = frame_rate
        self._h264_encoder = h264_encoder
        self._encoders: dict[Rendition, Encoder] = {}
        self._last_planes: Planes | None = None
        self._is_failing = False

    def make(self, picture: Picture, frame_index: int, wanted: Mapping[Rendition, bool]) -> Made:
        """Compose and encode; `wanted` says for each rendition whether it must be a keyframe."""
        begun_at = self._clock.now()
        num_failures = 0
        try:
            self._last_planes = self._compositor.compose(picture, frame_index)
        except Exception:  # frames that cannot be composed must not stop the program: the last picture is held
            num_failures += 1
            self._log_failure("composed", frame_index)
        composed_at = self._clock.now()
        frames = {}
        for rendition, is_keyframe in wanted.items():
            try:
                if self._last_planes is not None:
                    encoder = self._encoder(rendition)
                    frames[rendition] = encoder.encode(self._last_planes, frame_index, is_keyframe=is_keyframe)
            except Exception:  # a broken encoder is replaced; the next frame is a keyframe of the new one
                num_failures += 1
                self._encoders.pop(rendition, None)
                self._log_failure("encoded", frame_index)
        self._is_failing = num_failures > 0
        return Made(frames, composed_at - begun_at, self._clock.now() - composed_at, num_failures)

    def _encoder(self, rendition: Rendition) -> Encoder:
        if rendition not in self._encoders:
            self._encoders[rendition] = Encoder(rendition, self._frame_rate, h264_encoder=self._h264_encoder)
        return self._encoders[rendition]

    def _log_failure(self, what: str, frame_index: int) -> None:
        if not self._is_failing:
            logger.exception("! frame %d could not be %s; the last picture is held", frame_index, what)


def small_jpeg(frames: Frames) -> bytes:
    """A JPEG of the first frame, 128 to 256 pixels wide. Any thread may call it."""
    width = min(JPEG_MAX_WIDTH, max(JPEG_MIN_WIDTH, frames.width)) // 2 * 2
    height = max(2, round(width * frames.height / frames.width / 2) * 2)
    return jpeg(frames, width, height)


def jpeg(frames: Frames, width: int, height: int) -> bytes:
    """A JPEG of the first frame in this size; both sides even."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames.planes[0]), "yuv420p")
    small = frame.reformat(
        width,
        height,
        "yuvj420p",
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC,
        threads=1,
    )
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.thread_count = 1
    context.options = {"qmin": "3", "qmax": "5"}
    return b"".join(bytes(packet) for packet in [*context.encode(small), *context.encode(None)])

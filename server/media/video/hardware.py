"""Chooses this machine's H264 encoder: hardware if it is present, correct and cheaper, else x264.

`choose` is called once, at start-up, in a thread. Each candidate encodes two seconds of a moving picture. It is taken
only if it keeps the promises of `encoder.py` (one packet for each frame, keyframes on request that a viewer can start
from, constrained baseline, a correct picture) and needs less CPU than x264.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import av
import numpy as np

from server.media.video.compositor import Planes
from server.media.video.encoder import SOFTWARE_H264, EncodedFrame, Encoder
from server.media.video.packetizer import h264_units
from server.media.video.rendition import Rendition, ladder

_log = logging.getLogger(__name__)

# By their names in FFmpeg: NVIDIA, Intel, AMD, Apple. (VAAPI and V4L2 take frames in device memory only.)
HARDWARE = ("h264_nvenc", "h264_qsv", "h264_amf", "h264_videotoolbox")
AUTO = "auto"
_NUM_FRAMES = 48
_KEYFRAMES = (0, 30)
_MIN_PSNR_DB = 30.0
_FRAME_RATE = 24
_BASELINE, _SPS = 66, 7


class EncoderUnusable(Exception):
    """An H264 encoder is missing or breaks a promise of `encoder.py`; the message says which."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate on the test picture, 832x480."""

    name: str
    cpu_s_per_frame: float
    wall_s_per_frame: float


def choose(wanted: str = AUTO, *, candidates: Sequence[str] = HARDWARE) -> str:
    """The name to encode with. `wanted` other than "auto" is used or raises `EncoderUnusable`."""
    if wanted != AUTO:
        return measure(wanted).name
    best = measure(SOFTWARE_H264)
    for name in candidates:
        try:
            found = measure(name)
        except EncoderUnusable as reason:
            _log.debug("- = H264 encoder %s is not used: %s", name, reason)
            continue
        if found.cpu_s_per_frame < best.cpu_s_per_frame and found.wall_s_per_frame < 0.5 / _FRAME_RATE:
            best = found
    _log.info("- = H264 encoder %s, %.1f ms of CPU a frame", best.name, 1000 * best.cpu_s_per_frame)
    return best.name


def measure(name: str, *, open_encoder: Callable[[Rendition, str], Encoder] | None = None) -> Measured:
    """Encode the test picture with this encoder and check the result. Raises `EncoderUnusable`."""
    if name not in av.codecs_available:
        raise EncoderUnusable(f"{name} is not part of this FFmpeg")
    rendition = ladder(832, 480, 2_000_000)[0]
    pictures = [_picture(k, rendition) for k in range(_NUM_FRAMES)]
    try:
        encoder = open_encoder(rendition, name) if open_encoder else Encoder(rendition, _FRAME_RATE, h264_encoder=name)
        encoder.encode(pictures[0], 0, is_keyframe=True)  # opens the device, which may take a second
        cpu_at, wall_at = time.process_time(), time.monotonic()
        frames = [encoder.encode(planes, 1 + k, is_keyframe=k in _KEYFRAMES) for k, planes in enumerate(pictures)]
        cpu_s, wall_s = time.process_time() - cpu_at, time.monotonic() - wall_at
    except Exception as error:  # any error of a driver: this encoder is not used
        raise EncoderUnusable(f"{name}: {type(error).__name__}: {error}") from error
    _check(name, frames, pictures)
    return Measured(name, cpu_s / _NUM_FRAMES, wall_s / _NUM_FRAMES)


def _check(name: str, frames: Sequence[EncodedFrame], pictures: Sequence[Planes]) -> None:
    keyframes = tuple(k for k, frame in enumerate(frames) if frame.is_keyframe)
    if keyframes != _KEYFRAMES:
        raise EncoderUnusable(f"{name}: asked for keyframes at {_KEYFRAMES}, got them at {keyframes}")
    for k in _KEYFRAMES:
        sps = next((unit for unit in h264_units(frames[k].data) if unit[0] & 0x1F == _SPS), None)
        if sps is None:
            raise EncoderUnusable(f"{name}: a keyframe without its parameters, from which no viewer can start")
        if sps[1] != _BASELINE:
            raise EncoderUnusable(f"{name}: expected baseline (profile {_BASELINE}), got profile {sps[1]}")
    decoder = av.CodecContext.create("h264", "r")
    decoded = [frame for each in frames[_KEYFRAMES[1] :] for frame in decoder.decode(each.packet)]
    if not decoded:
        raise EncoderUnusable(f"{name}: nothing could be decoded from a keyframe on")
    error = decoded[0].to_ndarray(format="yuv420p").astype(float) - pictures[_KEYFRAMES[1]]
    psnr_db = 10 * np.log10(255**2 / max(1e-6, float(np.mean(error**2))))
    if psnr_db < _MIN_PSNR_DB:
        raise EncoderUnusable(f"{name}: a picture {psnr_db:.0f} dB from the one that went in")


def _picture(k: int, rendition: Rendition) -> Planes:
    """A drifting gradient with a moving block, yuv420p uint8 ``[H * 3 // 2, W]``."""
    width, height = rendition.width, rendition.height
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = (40 + (np.arange(width) + 4 * k) % width * 150 // width).astype(np.uint8)
    planes[100:200, 8 * k : 8 * k + 120] = 220
    return planes

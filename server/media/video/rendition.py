"""Renditions: the encodings of one program, from what the session asked for down to what fits a slow link.

Pure values, used everywhere in `server.media`. A rendition is encoded only while a viewer needs it. Viewers share them:
the best H264 one by default, a lower one on a worse network (`adaptation.py`), VP8 if an offer has no H264.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Codec(StrEnum):
    H264 = "H264"
    VP8 = "VP8"


@dataclass(frozen=True, slots=True)
class Rendition:
    """One encoding. `bitrate` is a ceiling in bits per second; calm pictures take less."""

    name: str
    codec: Codec
    width: int
    height: int
    bitrate: int


# Share of the sides and of the bitrate: the quality of a pixel stays about the same, the picture gets softer.
_STEPS = (("high", 1.0, 1.0), ("medium", 0.75, 0.45), ("low", 0.5, 0.18))
# Below this, H264 at these sizes shows only blocks. `adaptation.py` tells a slow link from a short disturbance.
MIN_BITRATE = 150_000
MIN_SIDE = 128


def ladder(width: int, height: int, bitrate: int, codec: Codec = Codec.H264) -> tuple[Rendition, ...]:
    """The renditions of a program of this size, best first. VP8 has one: it is for the few that have no H264."""
    if codec is Codec.VP8:
        return (Rendition("vp8", codec, width, height, bitrate),)
    steps = [
        Rendition(name, codec, _even(width * scale), _even(height * scale), max(MIN_BITRATE, round(bitrate * share)))
        for name, scale, share in _STEPS
        if scale == 1.0 or (bitrate * share >= MIN_BITRATE and min(width, height) * scale >= MIN_SIDE)
    ]
    return tuple(steps)


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))

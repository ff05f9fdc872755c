"""The frame marker is read back as painted, after H264 too, and nothing else is taken for one."""

from __future__ import annotations

import av
import numpy as np
import pytest

from server.media.video import marker
from server.media.video.encoder import Encoder
from server.media.video.rendition import ladder

INDICES = [0, 1, 0xAAAAAA, 0x555555, 0xFFFFFF, 123456]


def noise(width: int, height: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(16, 235, (height * 3 // 2, width), dtype=np.uint8)


@pytest.mark.parametrize("size", [(832, 480), (512, 288), (480, 854), (256, 160), (128, 128), (1918, 1078)])
@pytest.mark.parametrize("frame_index", INDICES)
def test_a_marker_is_read_as_painted_in_every_size(size: tuple[int, int], frame_index: int) -> None:
    planes = noise(*size)
    marker.paint(planes, frame_index)
    assert marker.read(planes) == frame_index


def test_the_index_wraps_after_24_bits() -> None:
    planes = noise(512, 288)
    marker.paint(planes, (1 << 24) + 7)
    assert marker.read(planes) == 7


def test_a_marker_survives_a_starved_encoder() -> None:
    encoder = Encoder(ladder(512, 288, 300_000)[0], 24)
    decoder = av.CodecContext.create("h264", "r")
    for frame_index in range(40):
        planes = noise(64, 36, seed=frame_index).repeat(8, 0).repeat(8, 1)
        marker.paint(planes, frame_index * 41_017)
        for frame in decoder.decode(encoder.encode(planes, frame_index).packet):
            assert marker.read(frame.to_ndarray()) == frame_index * 41_017


def test_pictures_without_a_marker_have_none() -> None:
    for value in (16, 128, 235):
        assert marker.read(np.full((432, 512), value, np.uint8)) is None
    assert all(marker.read(noise(512, 288, seed)) is None for seed in range(20))


def test_a_damaged_marker_is_not_misread() -> None:
    planes = noise(512, 288)
    marker.paint(planes, 1000)
    planes[270:288, 16 * 10 : 16 * 11] = 235 if planes[280, 16 * 10 + 8] < 128 else 16
    assert marker.read(planes) is None

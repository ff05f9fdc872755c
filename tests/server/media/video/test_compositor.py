"""The compositor: right size, right mixture, smooth previews, an idle scene that closes, a bounded cache."""

from __future__ import annotations

import numpy as np
import pytest

from engine.api import Frames
from server.media.video import marker
from server.media.video.compositor import CACHE_BYTES, IDLE_PERIOD_S, Compositor, Planes
from server.stage.picture import FULL_WEIGHT, Footage, Layer, Picture, Scene, Source, Still

WIDTH, HEIGHT = 832, 480


def flat(luma: int, *, num_frames: int = 1, width: int = 224, height: int = 128) -> Footage:
    planes = np.full((num_frames, height * 3 // 2, width), 128, np.uint8)
    planes[:, :height] = luma
    return Footage(Frames(planes))


def whole(source: Source, frame_number: int = 0) -> Picture:
    return Picture((Layer(source, frame_number, FULL_WEIGHT),))


def luma(planes: Planes) -> Planes:
    return planes[:HEIGHT]


@pytest.fixture
def compositor() -> Compositor:
    return Compositor(WIDTH, HEIGHT, 24)


@pytest.mark.parametrize("size", [(224, 128), (14, 8), (256, 160), (128, 224), (832, 480), (1280, 720), (8, 8), (2, 2)])
def test_sources_of_every_size_cover_the_program(compositor: Compositor, size: tuple[int, int]) -> None:
    planes = compositor.compose(whole(flat(90, width=size[0], height=size[1])), 0)
    assert planes.shape == (HEIGHT * 3 // 2, WIDTH)
    assert np.abs(luma(planes).astype(int) - 90).max() <= 1
    assert np.abs(planes[HEIGHT:].astype(int) - 128).max() <= 1


def test_the_aspect_ratio_is_kept_and_both_sides_are_cut_alike(compositor: Compositor) -> None:
    footage = flat(20, width=320, height=160)  # wider than the program: its height fits, its sides are cut
    footage.frames.planes[0, :160, 140:180] = 220
    bright = luma(compositor.compose(whole(footage), 0))[240] > 120
    columns = np.flatnonzero(bright)
    assert columns[0] + columns[-1] == pytest.approx(WIDTH - 1, abs=3)
    assert len(columns) == pytest.approx(40 * HEIGHT / 160, abs=4)


def test_a_tiny_preview_becomes_soft_not_blocky(compositor: Compositor) -> None:
    footage = flat(40, width=14, height=8)
    footage.frames.planes[0, :8, 7:] = 200
    row = luma(compositor.compose(whole(footage), 0))[240].astype(int)
    assert row.min() >= 20
    assert row.max() <= 220
    assert np.abs(np.diff(row)).max() <= 6  # a block's edge would be a step of 160


def test_a_mixture_is_the_weighted_sum(compositor: Compositor) -> None:
    picture = Picture((Layer(flat(40), 0, 64), Layer(flat(200), 0, 192)))
    assert np.abs(luma(compositor.compose(picture, 0)).astype(int) - 160).max() <= 1


def test_a_frozen_mixture_shows_the_picture_it_froze(compositor: Compositor) -> None:
    layers = (Layer(flat(40), 0, 100), Layer(flat(200), 0, 156))
    mixed = compositor.compose(Picture(layers), 0)
    assert np.array_equal(compositor.compose(whole(Still(layers)), 1), mixed)


def test_composing_changes_no_source(compositor: Compositor) -> None:
    marked = Compositor(WIDTH, HEIGHT, 24, has_marker=True)
    footage = flat(77, width=WIDTH, height=HEIGHT)
    before = footage.frames.planes.copy()
    marked.compose(whole(footage), 5)
    marked.compose(Picture((Layer(footage, 0, 128), Layer(Scene.IDLE, 0, 128))), 6)
    assert np.array_equal(footage.frames.planes, before)


def test_the_blank_is_black(compositor: Compositor) -> None:
    planes = compositor.compose(whole(Scene.BLANK), 0)
    assert (luma(planes) == 16).all()
    assert (planes[HEIGHT:] == 128).all()


def test_the_idle_scene_is_dark_alive_and_closes(compositor: Compositor) -> None:
    period = round(IDLE_PERIOD_S * 24)
    frames = [
        luma(compositor.compose(whole(Scene.IDLE, k), k)).astype(int) for k in (0, 1, period // 2, period - 1, period)
    ]
    assert 16 <= frames[0].mean() < 80
    assert frames[0].max() - frames[0].min() > 30
    assert np.array_equal(frames[0], frames[4])
    assert np.abs(frames[0] - frames[2]).mean() > 2
    steps = [np.abs(frames[0] - frames[1]).mean(), np.abs(frames[3] - frames[4]).mean()]
    assert max(steps) < 2


def test_the_marker_is_painted_over_everything() -> None:
    compositor = Compositor(WIDTH, HEIGHT, 24, has_marker=True)
    for source in (Scene.BLANK, Scene.IDLE, flat(235)):
        assert marker.read(compositor.compose(whole(source), 4321)) == 4321


def test_scaled_frames_are_kept_within_the_bound(compositor: Compositor) -> None:
    for _ in range(3):
        footage = flat(50, num_frames=30)
        first = compositor.compose(whole(footage, 0), 0)
        assert compositor.compose(whole(footage, 0), 1) is first
        for number in range(30):
            compositor.compose(whole(footage, number), number)
    assert 0 < compositor.cached_bytes <= CACHE_BYTES

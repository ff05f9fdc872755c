"""Pictures to pixels: scales sources to the program's size, mixes two layers, paints the idle scene and the marker.

The stage names the picture, the compositor makes one yuv420p frame of it, and the encoder encodes that. Runs in the
program's worker thread, which owns it; nothing here is shared between threads.

Scaled sources are kept up to `CACHE_BYTES`, and the least recently used is dropped first. A loop of 25 frames at
832 x 480 is 15 MB. A longer loop is scaled again each round, at about 0.6 ms a frame.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import assert_never, cast

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from server.media.video import marker
from server.stage.picture import FULL_WEIGHT, Footage, Layer, Picture, Scene, Source, Still

Planes = NDArray[np.uint8]  # one frame: yuv420p, BT.601 limited range, [H * 3 // 2, W]

CACHE_BYTES = 32 * 1024 * 1024
IDLE_PERIOD_S = 8.0


class Compositor:
    """Composes the frames of one program."""

    def __init__(self, width: int, height: int, frame_rate: int, *, has_marker: bool = False) -> None:
        self._width, self._height = width, height
        self._has_marker = has_marker
        self._scaler = _Scaler(width, height)
        self._idle = _IdleScene(self._scaler, width, height, round(IDLE_PERIOD_S * frame_rate))
        self._black = _black(width, height)
        self._cache: OrderedDict[tuple[Footage | Still, int], Planes] = OrderedDict()
        self._cached_bytes = 0
        self._mixer = _Mixer((height * 3 // 2, width))

    @property
    def cached_bytes(self) -> int:
        return self._cached_bytes

    def identity(self, picture: Picture) -> Hashable | None:
        """Pictures of equal identity have the same pixels; None for a unique picture. Any thread may call this.

        It holds no pixels, so keeping it keeps no clip alive.
        """
        if self._has_marker:
            return None
        return tuple((self._source_identity(layer), layer.weight) for layer in picture.layers)

    def _source_identity(self, layer: Layer) -> Hashable:
        match layer.source:
            case Scene.BLANK:
                return Scene.BLANK
            case Scene.IDLE:
                return Scene.IDLE, layer.frame_number % self._idle.num_frames
            case Footage() | Still() as source:
                return source.serial, layer.frame_number
            case _:
                assert_never(layer.source)

    def compose(self, picture: Picture, frame_index: int) -> Planes:
        """The picture's pixels. Never write to them: they may be the cache's, or the clip's own."""
        planes = self._mixed(picture.layers)
        if self._has_marker:
            planes = planes.copy()
            marker.paint(planes, frame_index)
        return planes

    def _mixed(self, layers: tuple[Layer, ...]) -> Planes:
        first = self._source(layers[0].source, layers[0].frame_number)
        if len(layers) == 1:
            return first
        second = self._source(layers[1].source, layers[1].frame_number)
        return self._mixer.mix(first, second, layers[1].weight)

    def _source(self, source: Source, frame_number: int) -> Planes:
        match source:
            case Scene.BLANK:
                return self._black
            case Scene.IDLE:
                return self._idle.paint(frame_number)
            case Footage():
                planes: Planes = source.frames.planes[frame_number]
                if planes.shape == self._black.shape:
                    return planes
                cached = self._cached(source, frame_number)
                return self._keep(source, frame_number, self._scaler.scale(planes)) if cached is None else cached
            case Still():
                cached = self._cached(source, 0)
                return self._keep(source, 0, self._mixed(source.layers)) if cached is None else cached
            case _:
                assert_never(source)

    def _cached(self, source: Footage | Still, frame_number: int) -> Planes | None:
        planes = self._cache.get((source, frame_number))
        if planes is not None:
            self._cache.move_to_end((source, frame_number))
        return planes

    def _keep(self, source: Footage | Still, frame_number: int, planes: Planes) -> Planes:
        self._cache[source, frame_number] = planes
        self._cached_bytes += planes.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= dropped.nbytes
        return planes


class _Mixer:
    """Weighted sums of two frames in 16-bit integers; 0.2 ms at 832 x 480 because it reuses its buffers."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._a, self._b = np.empty(shape, np.uint16), np.empty(shape, np.uint16)

    def mix(self, a: Planes, b: Planes, weight_of_b: int) -> Planes:
        np.multiply(a, np.uint16(FULL_WEIGHT - weight_of_b), out=self._a, dtype=np.uint16)
        np.multiply(b, np.uint16(weight_of_b), out=self._b, dtype=np.uint16)
        np.add(self._a, self._b, out=self._a)
        np.add(self._a, np.uint16(FULL_WEIGHT // 2), out=self._a)
        np.right_shift(self._a, 8, out=self._a)
        return self._a.astype(np.uint8)


class _Scaler:
    """Scales a frame of any size so that it covers the program, and crops the rest equally on both sides."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._reformatter = VideoReformatter()

    def scale(self, planes: Planes) -> Planes:
        height, width = planes.shape[0] * 2 // 3, planes.shape[1]
        factor = max(self._width / width, self._height / height)
        # Lanczos rings on very small previews; bicubic makes soft blobs of them.
        interpolation = Interpolation.BICUBIC if factor > 8 else Interpolation.LANCZOS
        return self.scale_frame(av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), "yuv420p"), interpolation)

    def scale_frame(self, frame: av.VideoFrame, interpolation: Interpolation) -> Planes:
        factor = max(self._width / frame.width, self._height / frame.height)
        width = max(self._width, 2 * round(frame.width * factor / 2))
        height = max(self._height, 2 * round(frame.height * factor / 2))
        scaled = self._reformatter.reformat(frame, width, height, "yuv420p", interpolation=interpolation, threads=1)
        return self._cropped(cast(Planes, scaled.to_ndarray()), width, height)

    def _cropped(self, planes: Planes, cover_width: int, cover_height: int) -> Planes:
        width, height = self._width, self._height
        if (cover_width, cover_height) == (width, height):
            return planes
        left, top = (cover_width - width) // 4 * 2, (cover_height - height) // 4 * 2
        cropped = np.empty((height * 3 // 2, width), np.uint8)
        cropped[:height] = planes[top : top + height, left : left + width]
        chroma = planes[cover_height:].reshape(2, cover_height // 2, cover_width // 2)
        cropped[height:].reshape(2, height // 2, width // 2)[:] = chroma[
            :, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2
        ]
        return cropped


@dataclass(frozen=True, slots=True)
class _Curtain:
    """One curtain of light. Turns per period are whole numbers, so that the scene closes on itself."""

    colour: tuple[float, float, float]  # RGB, full brightness
    height: float  # of its lower edge, from the top, in picture heights
    waves: float  # along the picture's width
    phase: float  # radians
    num_turns: int
    reach: float  # how far its light rises, in picture heights


_CURTAINS = (
    _Curtain((0.10, 0.62, 0.52), height=0.66, waves=0.8, phase=0.4, num_turns=1, reach=0.34),
    _Curtain((0.22, 0.25, 0.72), height=0.56, waves=1.1, phase=2.9, num_turns=-1, reach=0.42),
    _Curtain((0.50, 0.18, 0.55), height=0.78, waves=0.6, phase=4.6, num_turns=1, reach=0.30),
)
_ZENITH, _HORIZON = np.array([0.020, 0.026, 0.060], np.float32), np.array([0.045, 0.065, 0.130], np.float32)


class _IdleScene:
    """The program before the first prompt: slow curtains of light over a night sky, dark enough to sit behind a talk.

    Painted small and scaled up, about 1 ms a frame. The small frame has 10 bits: scaling down to 8 then dithers, which
    hides the steps that dark gradients show otherwise.
    """

    WIDTH = 104

    def __init__(self, scaler: _Scaler, width: int, height: int, num_frames: int) -> None:
        self._scaler = scaler
        self.num_frames = num_frames
        small_height = max(8, 2 * round(self.WIDTH * height / width / 2))
        self._y = np.linspace(0, 1, small_height, dtype=np.float32)[:, None]
        self._x = np.linspace(0, 1, self.WIDTH, dtype=np.float32)[None, :]

    def paint(self, frame_index: int) -> Planes:
        turn = 2 * math.pi * (frame_index % self.num_frames) / self.num_frames
        rgb = (_ZENITH + (_HORIZON - _ZENITH) * self._y[:, :, None]) * np.ones((1, self.WIDTH, 1), np.float32)
        for curtain in _CURTAINS:
            rgb += self._light(curtain, turn)[:, :, None] * np.array(curtain.colour, np.float32)
        rgb = 1 - np.exp(-1.15 * rgb)  # bright spots saturate softly where curtains cross
        return self._scaler.scale_frame(_small_frame(rgb), Interpolation.BICUBIC)

    def _light(self, curtain: _Curtain, turn: float) -> NDArray[np.float32]:
        swing = 2 * math.pi * curtain.waves * self._x + curtain.phase
        edge = curtain.height + 0.10 * np.sin(swing + curtain.num_turns * turn) + 0.04 * np.sin(2.3 * swing - turn)
        above = edge - self._y
        glow = np.where(above > 0, np.exp(-above / (0.5 * curtain.reach)), np.exp(-((above / 0.07) ** 2)))
        rays = 0.75 + 0.25 * np.sin(5.1 * swing + 2 * curtain.num_turns * turn + 3 * np.sin(swing - turn))
        breath = 0.55 + 0.35 * np.sin(1.4 * swing - curtain.num_turns * turn + 1.7 * curtain.phase)
        light: NDArray[np.float32] = (glow * rays * breath).astype(np.float32)
        return light


def _small_frame(rgb: NDArray[np.float32]) -> av.VideoFrame:
    """RGB in [0, 1], [H, W, 3], as yuv420p10 (BT.601, limited range)."""
    red, green, blue = rgb[:, :, 0], rgb[:, :, 1], rgb[:, :, 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    height, width = luma.shape
    chroma = [0.564 * (blue - luma), 0.713 * (red - luma)]
    halves = [c.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for c in chroma]
    levels = [64 + 876 * luma, *(512 + 896 * half for half in halves)]
    samples = np.concatenate([np.rint(level).astype(np.uint16).reshape(-1) for level in levels])
    return av.VideoFrame.from_ndarray(samples.reshape(height * 3 // 2, width), "yuv420p10le")


def _black(width: int, height: int) -> Planes:
    planes = np.full((height * 3 // 2, width), marker.NEUTRAL, np.uint8)
    planes[:height] = marker.BLACK
    return planes

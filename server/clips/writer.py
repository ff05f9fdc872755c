"""Writes one clip's files from frames as the engine sends them. Blocks; `queue.py` calls it in a thread of its own.

The picture is scaled until it covers the wanted size, and what hangs over is cut off evenly. The file is H.264 with its
index in front, so that players begin before they have it all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from engine.api import Frames
from server.clips.folder import LAST_FRAME, SPRITESHEET, THUMBNAIL, VIDEO

_SPRITE_COLUMNS, _SPRITE_WIDTH, _MOST_SPRITES = 5, 160, 25
_OPTIONS = {"crf": "18", "preset": "veryfast", "profile": "high"}


class ClipWriter:
    def __init__(self, folder: Path, *, width: int, height: int, frame_rate: int, num_frames: int) -> None:
        """`num_frames` of the whole clip; more are left out."""
        self._folder = folder
        self._size = width, height
        self._most = num_frames
        self.num_frames = 0
        self._every = max(1, num_frames // _MOST_SPRITES)
        self._sprites: list[Image.Image] = []
        self._sharpest: tuple[float, Image.Image | None] = (-1.0, None)
        self._last: av.VideoFrame | None = None
        self._container = av.open(str(folder / VIDEO), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=frame_rate, options=_OPTIONS)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = Fraction(1, frame_rate)
        self._stream.codec_context.thread_count = 1  # live encoders go first

    @property
    def is_full(self) -> bool:
        return self.num_frames >= self._most

    def add(self, frames: Frames, *, skip: int = 0) -> None:
        """All frames but the first `skip`, as far as there is room."""
        for planes in frames.planes[skip:]:
            if self.is_full:
                return
            self.add_picture(av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p"))

    def add_picture(self, native: av.VideoFrame) -> None:
        picture = covered(native, *self._size)
        picture.pts = self.num_frames
        self._container.mux(self._stream.encode(picture))
        if self.num_frames % self._every == 0:
            self._look(picture)
        self._last = native
        self.num_frames += 1

    def copy(self, path: Path) -> None:
        """All pictures of another clip."""
        for picture in pictures_of(path):
            self.add_picture(picture)

    def close(self) -> None:
        """Writes the rest: the file's end, the still pictures."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        best = self._sharpest[1]
        if best is not None:
            best.save(self._folder / THUMBNAIL, quality=85)
        if self._sprites:
            self._write_sprites()
        if self._last is not None:
            _image(self._last).save(self._folder / LAST_FRAME, quality=95)

    def give_up(self) -> None:
        self._container.close()

    def _look(self, picture: av.VideoFrame) -> None:
        """Keeps a small picture for the sheet, and the one with the most detail for the thumbnail."""
        image = _image(picture)
        luma = np.asarray(image.convert("L"), np.float32)
        detail = float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())
        if detail > self._sharpest[0]:
            self._sharpest = detail, image
        if len(self._sprites) < _MOST_SPRITES:
            width, height = self._size
            self._sprites.append(image.resize((_SPRITE_WIDTH, max(1, _SPRITE_WIDTH * height // width))))

    def _write_sprites(self) -> None:
        width, height = self._sprites[0].size
        columns = min(_SPRITE_COLUMNS, len(self._sprites))
        sheet = Image.new("RGB", (columns * width, -(-len(self._sprites) // columns) * height))
        for index, sprite in enumerate(self._sprites):
            sheet.paste(sprite, (index % columns * width, index // columns * height))
        sheet.save(self._folder / SPRITESHEET, quality=80)


def covered(picture: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """Scaled until it covers the size, and cut evenly. Sizes are even."""
    scale = max(width / picture.width, height / picture.height)
    wide, high = (
        max(least, round(side * scale / 2) * 2) for side, least in ((picture.width, width), (picture.height, height))
    )
    scaled = picture.reformat(width=wide, height=high, format="yuv420p", interpolation="LANCZOS", threads=1)
    if (wide, high) == (width, height):
        return scaled
    left, top = (wide - width) // 4 * 2, (high - height) // 4 * 2
    planes = scaled.to_ndarray(format="yuv420p")
    luma = planes[:high][top : top + height, left : left + width]
    chroma = planes[high:].reshape(2, high // 2, wide // 2)
    small = chroma[:, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
    cut = np.concatenate([luma.ravel(), small.ravel()]).reshape(height * 3 // 2, width)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(cut), format="yuv420p")


def pictures_of(path: Path) -> Iterator[av.VideoFrame]:
    """The frames of a clip of ours."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        yield from container.decode(video=0)


def first_frame(jpeg: bytes, width: int, height: int) -> Frames:
    """A picture of ours as the engine's first frame in this size."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    planes = covered(av.VideoFrame.from_ndarray(pixels, format="rgb24"), width, height).to_ndarray(format="yuv420p")
    return Frames(np.ascontiguousarray(planes, np.uint8)[None])


def num_pictures(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].frames


def _image(picture: av.VideoFrame) -> Image.Image:
    return Image.fromarray(picture.to_ndarray(format="rgb24"))

"""Puts a finished clip where the user wants it, as MP4, WebM, GIF or a still. Blocks; `run.py` calls it in a thread.

The maker's file is MP4; other kinds are made from its pictures. The output appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from server.clips.writer import pictures_of

ENDINGS = (".mp4", ".webm", ".gif", ".png")
_VP9 = {"crf": "24", "b": "0"}


def write(source: Path, output: Path, part: Path) -> None:
    """`part` is for what is not whole yet, on the same disk as `output`. Raises `OSError`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        _convert(source, part, output.suffix.lower())
    except av.FFmpegError as error:  # some of these are no `OSError`
        raise OSError(error.errno, error.strerror) from None
    part.replace(output)


def _convert(source: Path, part: Path, ending: str) -> None:
    match ending:
        case ".mp4":
            _copy(source, part)
        case ".webm":
            _write_webm(source, part)
        case ".gif":
            _write_gif(source, part)
        case ".png":
            *_, last = _images(source)
            last.save(part, "PNG")
        case _:
            raise ValueError(f"no kind of file ends in {ending!r}")


def _copy(source: Path, part: Path) -> None:
    try:
        os.link(source, part)
    except OSError:  # a file system without links
        shutil.copyfile(source, part)


def _write_webm(source: Path, part: Path) -> None:
    rate, pictures = _frame_rate(source), pictures_of(source)
    with av.open(str(part), "w", format="webm") as container:
        stream: av.VideoStream | None = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("libvpx-vp9", rate=rate, options=_VP9)
                stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
            picture.pts, picture.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(picture))
        assert stream is not None, "a clip has pictures"
        container.mux(stream.encode(None))


def _write_gif(source: Path, part: Path) -> None:
    first, *rest = (image.quantize(colors=128, dither=Image.Dither.NONE) for image in _images(source))
    duration_ms = round(1000 / _frame_rate(source))
    first.save(part, "GIF", save_all=True, append_images=rest, duration=duration_ms, loop=0)


def _images(source: Path) -> Iterator[Image.Image]:
    return (Image.fromarray(picture.to_ndarray(format="rgb24")) for picture in pictures_of(source))


def _frame_rate(source: Path) -> int:
    with av.open(str(source)) as container:
        return round(container.streams.video[0].average_rate or 24)

"""A maker's clip becomes a file of each kind, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from engine.synthetic import paint, read
from server.clips.folder import VIDEO
from server.clips.writer import ClipWriter
from server.generate import cli, video_file


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    writer = ClipWriter(folder, width=224, height=128, frame_rate=12, num_frames=24)
    writer.add(paint(5, list(range(24)), 224, 128))
    writer.close()
    return folder / VIDEO


def written(clip: Path, name: str) -> Path:
    output = clip.parent.parent / "out" / name
    video_file.write(clip, output, clip.parent / "part")
    assert not (clip.parent / "part").exists()
    return output


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "A.MP4"])
def test_a_video_has_the_clips_frames_at_their_pace(clip: Path, name: str) -> None:
    with av.open(str(written(clip, name))) as container:
        frames = list(container.decode(video=0))
    assert [read(np.ascontiguousarray(frame.to_ndarray(format="yuv420p"))) for frame in frames] == [
        (5, index) for index in range(24)
    ]
    assert frames[-1].time == pytest.approx(23 / 12, abs=0.01)


def test_a_gif_loops_for_ever_and_a_png_is_the_last_picture(clip: Path) -> None:
    with Image.open(written(clip, "a.gif")) as picture:
        assert (picture.n_frames, picture.info["loop"], picture.size) == (24, 0, (224, 128))
    with Image.open(written(clip, "a.png")) as picture:
        planes = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24").to_ndarray(format="yuv420p")
    assert read(np.ascontiguousarray(planes)) == (5, 23)


def test_an_earlier_file_is_replaced_and_the_makers_stays(clip: Path) -> None:
    output = clip.parent.parent / "out" / "a.mp4"
    output.parent.mkdir()
    output.write_text("earlier")
    assert written(clip, "a.mp4").read_bytes() == clip.read_bytes()


def test_a_clip_that_cannot_be_converted_leaves_the_earlier_file(clip: Path) -> None:
    earlier = written(clip, "a.gif").read_bytes()
    clip.write_bytes(b"no video")
    with pytest.raises(OSError):
        written(clip, "a.gif")
    assert (clip.parent.parent / "out" / "a.gif").read_bytes() == earlier


def test_the_command_line_knows_all_kinds_without_the_imports_of_this_module() -> None:
    assert cli.ENDINGS == video_file.ENDINGS

"""`sceneshift generate` writes a playable file of each kind with the real model."""

from pathlib import Path

import av
import pytest
from PIL import Image

from server.__main__ import main
from tests.engine.wan_folders import cached, fastwan

ALONE = "--no-server"


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_video_has_the_clips_frames_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip{ending}"
    arguments = ["a red sailboat at sunset", "-o", str(path), "--seed", "1", "--size", "416x240", ALONE]
    assert main(["generate", *arguments]) == 0
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    # The first shows the moment of the 25th, so a file that a player loops leaves it out.
    assert (len(frames), frames[0].width, frames[0].height) == (24, 416, 240)


def test_a_gif_loops_for_ever_and_a_png_is_a_still(tmp_path: Path) -> None:
    gif, png = tmp_path / "clip.gif", tmp_path / "clip.png"
    assert main(["generate", "夜晚的雪山", "-o", str(gif), "--seed", "1", "--size", "224x128", ALONE]) == 0
    assert main(["generate", "夜晚的雪山", "-o", str(png), "--seed", "1", ALONE]) == 0
    with Image.open(gif) as picture:
        assert (picture.n_frames, picture.info["loop"]) == (24, 0)
    with Image.open(png) as picture:
        assert picture.size == (832, 480)


def test_a_wan_folder_makes_a_video_in_an_engine_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    size = ["--model-size", "64x32", "--frames", "9", "--size", "128x64"]
    assert main(["generate", "the sea", "-o", str(path), "--seed", "1", "--model", str(cached(fastwan)), *size]) == 0
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 9


def test_an_unloadable_model_is_reported_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "the sea", "-o", str(tmp_path / "clip.mp4"), "--model", str(tmp_path)]) == 1
    assert "has no model_index.json" in capsys.readouterr().err

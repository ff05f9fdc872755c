"""`sceneshift generate` writes a playable file of each kind with the real model."""

from pathlib import Path

import av
import pytest
from PIL import Image
from wan_folders import cached, fastwan

from engine.tools.generate_cli import main


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_video_has_the_clips_frames_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip{ending}"
    assert main(["a red sailboat at sunset", "-o", str(path), "--seed", "1", "--size", "416x240"]) == 0
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    # The first shows the moment of the 25th, so a file that a player loops leaves it out.
    assert (len(frames), frames[0].width, frames[0].height) == (24, 416, 240)


def test_a_gif_loops_for_ever_and_a_png_is_a_still(tmp_path: Path) -> None:
    gif, png = tmp_path / "clip.gif", tmp_path / "clip.png"
    assert main(["夜晚的雪山", "-o", str(gif), "--seed", "1", "--size", "224x128"]) == 0
    assert main(["夜晚的雪山", "-o", str(png), "--seed", "1"]) == 0
    with Image.open(gif) as picture:
        assert (picture.n_frames, picture.info["loop"]) == (24, 0)
    with Image.open(png) as picture:
        assert picture.size == (832, 480)


def test_a_wan_folder_makes_a_video_in_an_engine_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    size = ["--model-size", "64x32", "--frames", "9", "--size", "64x32"]
    assert main(["the sea", "-o", str(path), "--seed", "1", "--model", str(cached(fastwan)), *size]) == 0
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 9


def test_an_unloadable_model_is_reported_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["the sea", "-o", str(tmp_path / "clip.mp4"), "--model", str(tmp_path)]) == 1
    assert "has no model_index.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["the sea", "-o", "clip.avi"], "must end in"),
        (["the sea", "-o", "no/such/folder/clip.mp4"], "does not exist"),
        (["  ", "-o", "clip.mp4"], "empty"),
        (["the sea", "-o", "clip.mp4", "--size", "33x1"], "like 832x480"),
    ],
)
def test_wrong_arguments_are_named(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err

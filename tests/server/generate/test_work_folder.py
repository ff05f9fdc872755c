"""What a run keeps: its number while something is missing, and the record of what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.generate.maker import Made
from server.generate.wanted import Wanted
from server.generate.work_folder import RECORD, WorkFolder, WorkFolderError

CAT = Wanted({"prompt": "a cat"}, "cat.mp4")


def opened(folder: Path, file_name: str | None = None) -> WorkFolder:
    work = WorkFolder(folder, file_name)
    work.open()
    return work


def made(wanted: Wanted) -> Made:
    return Made(wanted, "video_1", Path("somewhere"), seed=7, seconds=2.0, engine_s=0.5)


def test_an_unfinished_run_keeps_its_keys_and_a_new_one_has_others(tmp_path: Path) -> None:
    first = opened(tmp_path)
    key = first.key(CAT)
    first.close(is_complete=False)
    second = opened(tmp_path)
    assert second.key(CAT) == key
    second.close(is_complete=True)
    assert not second.path.exists()
    third = opened(tmp_path)
    assert third.key(CAT) != key
    third.close(is_complete=True)


def test_a_clip_is_there_if_it_was_made_from_the_same_wish(tmp_path: Path) -> None:
    work = opened(tmp_path)
    work.remember(made(CAT))
    work.close(is_complete=True)
    work = opened(tmp_path)
    assert work.earlier(CAT) is None, "its file was removed"
    work.output(CAT).touch()
    assert work.earlier(CAT) == {"seed": 7, "seconds": 2.0, "engine_s": 0.5, "wish": CAT.digest}
    assert work.earlier(Wanted({"prompt": "a dog"}, "cat.mp4")) is None
    work.close(is_complete=True)


def test_half_a_line_of_a_killed_run_spoils_no_other(tmp_path: Path) -> None:
    work = opened(tmp_path)
    work.output(CAT).touch()
    work.remember(made(CAT))
    work.close(is_complete=False)
    with (tmp_path / RECORD).open("a") as record:
        record.write('{"output": "dog.mp4", "pro')
    work = opened(tmp_path)
    assert work.earlier(CAT) is not None
    dog = Wanted({"prompt": "a dog\u2028with two lines"}, "dog.mp4")
    work.output(dog).touch()
    work.remember(made(dog))
    work.close(is_complete=False)
    work = opened(tmp_path)
    assert work.earlier(dog) is not None
    work.close(is_complete=True)


def test_one_run_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(WorkFolderError, match="another `sceneshift generate`"):
        WorkFolder(tmp_path).open()
    first.close(is_complete=False)
    opened(tmp_path).close(is_complete=True)


def test_a_single_file_has_no_record(tmp_path: Path) -> None:
    work = opened(tmp_path, "cat.mp4")
    work.remember(made(CAT))
    assert work.path == tmp_path / ".cat.mp4.sceneshift"
    work.close(is_complete=True)
    assert list(tmp_path.iterdir()) == []


def test_the_record_tells_how_each_clip_was_made(tmp_path: Path) -> None:
    work = opened(tmp_path)
    work.remember(made(CAT))
    work.close(is_complete=True)
    told = json.loads((tmp_path / RECORD).read_text())
    assert (told["output"], told["prompt"], told["seed"], told["seconds"]) == ("cat.mp4", "a cat", 7, 2.0)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkFolderError, match="cannot be written"):
        WorkFolder(tmp_path / "file").open()

"""A run brings each clip to its place, tells it, and finishes what it writes when it is stopped."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from server.clock import FakeClock
from server.generate import video_file
from server.generate.maker import Failed, Made, Outcome
from server.generate.progress import Progress
from server.generate.run import Run
from server.generate.wanted import Fault, Wanted
from server.generate.work_folder import WorkFolder

CAT, DOG = Wanted({"prompt": "a cat"}, "cat.mp4", "line 2"), Wanted({"prompt": "a dog"}, "dog.mp4", "line 3")


class ScriptedMaker:
    """Gives what it was told to give, then waits for ever if it shall."""

    done_of_unfinished = 0.0

    def __init__(self, *outcomes: Outcome, waits: bool = False) -> None:
        self._outcomes = outcomes
        self._waits = waits
        self.forgotten: list[Outcome] = []

    async def open(self) -> str:
        return "scripted"

    async def outcomes(self, wanted: Sequence[Wanted]) -> AsyncGenerator[Outcome, None]:
        for outcome in self._outcomes:
            yield outcome
        if self._waits:
            await asyncio.Event().wait()

    async def forget(self, outcome: Outcome) -> None:
        self.forgotten.append(outcome)

    async def close(self) -> None: ...


class Stage:
    def __init__(self, tmp_path: Path, *, writes_json: bool = True) -> None:
        self.work = WorkFolder(tmp_path / "out")
        self.work.open()
        self.out, self.told, clock = io.StringIO(), io.StringIO(), FakeClock()
        self.run = Run(self.work, Progress(self.told, clock.now), clock, self.out, writes_json=writes_json)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


def made(tmp_path: Path, wanted: Wanted, words: tuple[str, ...] = ()) -> Made:
    file = tmp_path / f"made-{wanted.output}"
    file.write_bytes(b"clip of " + wanted.output.encode())
    return Made(wanted, "video_1", file, 7, 2.0, 0.5, words)


async def test_a_line_of_json_for_each_clip(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    maker = ScriptedMaker(made(tmp_path, CAT, ("purple",)), Failed(DOG, "video_2", "model_error", "it broke"))
    stage.run.tell_faults([Fault("line 4", "prompt_empty", "`prompt` is empty")])
    await stage.run.make([CAT, DOG], maker)
    folder = tmp_path / "out"
    assert stage.lines == [
        {"path": None, "where": "line 4", "error": {"code": "prompt_empty", "message": "`prompt` is empty"}},
        {"path": str(folder / "cat.mp4"), "seed": 7, "seconds": 2.0, "engine_s": 0.5},
        {"path": str(folder / "dog.mp4"), "where": "line 3", "error": {"code": "model_error", "message": "it broke"}},
    ]
    assert (stage.run.num_there, stage.run.num_failed) == (1, 2)
    assert (folder / "cat.mp4").read_bytes() == b"clip of cat.mp4"
    assert "cat.mp4: not understood: purple" in stage.told.getvalue()
    assert f"line 3: {folder}/dog.mp4: it broke (model_error)" in stage.told.getvalue()
    assert len(maker.forgotten) == 2


async def test_without_json_a_path_for_each_clip(tmp_path: Path) -> None:
    stage = Stage(tmp_path, writes_json=False)
    await stage.run.make([CAT], ScriptedMaker(made(tmp_path, CAT)))
    assert stage.out.getvalue() == f"{tmp_path}/out/cat.mp4\n"


async def test_what_an_earlier_run_made_is_told_and_left(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.run.make([CAT], ScriptedMaker(made(tmp_path, CAT)))
    stage.work.close(is_complete=True)
    stage = Stage(tmp_path)
    assert stage.run.tell_earlier([CAT, DOG]) == [DOG]
    assert stage.lines == [
        {"path": f"{tmp_path}/out/cat.mp4", "seed": 7, "seconds": 2.0, "engine_s": 0.5, "was_there": True}
    ]


async def test_a_file_that_cannot_be_written_stays_with_the_maker(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    (tmp_path / "out" / "cat.mp4").mkdir()  # a folder of this name is in the way
    maker = ScriptedMaker(made(tmp_path, CAT), made(tmp_path, DOG))
    await stage.run.make([CAT, DOG], maker)
    assert (stage.run.num_there, stage.run.num_failed) == (1, 1)
    assert [outcome.wanted for outcome in maker.forgotten] == [DOG]
    assert stage.lines[0]["error"]["code"] == "storage_full"  # type: ignore[index]


async def test_a_run_that_is_stopped_finishes_the_file_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, maker = Stage(tmp_path), ScriptedMaker(made(tmp_path, CAT), waits=True)
    is_writing, may_go_on, write = threading.Event(), threading.Event(), video_file.write

    def write_slowly(source: Path, output: Path, part: Path) -> None:
        is_writing.set()
        assert may_go_on.wait(60)
        write(source, output, part)

    monkeypatch.setattr(video_file, "write", write_slowly)
    making = asyncio.create_task(stage.run.make([CAT, DOG], maker))
    assert await asyncio.to_thread(is_writing.wait, 60)
    making.cancel()
    await asyncio.sleep(0)
    assert not making.done()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert (tmp_path / "out" / "cat.mp4").is_file() and stage.run.num_there == 1
    assert [outcome.wanted for outcome in maker.forgotten] == [CAT]

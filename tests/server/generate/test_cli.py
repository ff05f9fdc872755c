"""The command in processes of its own: killed, stopped, beside a real server that is killed, and wrongly called."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from engine.synthetic import read
from server.__main__ import main
from server.clips.writer import pictures_of
from server.generate.work_folder import RECORD

NUM_CLIPS = 12
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A list of clips whose pictures have the numbers 1 to 12."""
    path = tmp_path / "list.csv"
    rows = [f"scene {number},{number}.mp4,224x128" for number in range(1, NUM_CLIPS + 1)]
    path.write_text("\n".join(["prompt,output,size", *rows]))
    return path


@asynccontextmanager
async def sceneshift(tmp_path: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def generated(tmp_path: Path, *arguments: str) -> tuple[int | None, list[str], str]:
    """Status, lines, and what it told of its progress."""
    async with sceneshift(tmp_path, "generate", *arguments) as process:
        out, errors = await process.communicate()
        return process.returncode, out.decode().splitlines(), errors.decode()


async def stopped(tmp_path: Path, number: signal.Signals, *arguments: str) -> tuple[int | None, str]:
    """Sends the signal when three clips are there. Status, and what it told."""
    async with sceneshift(tmp_path, "generate", *arguments) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert await process.stdout.readline()
        process.send_signal(number)
        _, errors = await process.communicate()
        return process.returncode, errors.decode()


def numbers(folder: Path) -> dict[str, tuple[int, int]]:
    """Of each clip: the number in its pictures, and how many there are."""
    found = {}
    for path in folder.glob("*.mp4"):
        pictures = list(pictures_of(path))
        painted = read(np.ascontiguousarray(pictures[0].to_ndarray(format="yuv420p")))
        assert painted is not None
        found[path.name] = painted[0], len(pictures)
    return found


ALL = {f"{number}.mp4": (number, 24) for number in range(1, NUM_CLIPS + 1)}


def record(folder: Path) -> list[str]:
    return sorted(json.loads(line)["output"] for line in (folder / RECORD).read_text().splitlines())


def own(prompts: Path) -> Sequence[str]:
    return "--engine", "synthetic", "--from", str(prompts), "-o", str(prompts.parent / "out")


async def test_a_killed_run_goes_on_with_the_same_command(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        status, _ = await stopped(tmp_path, signal.SIGKILL, *own(prompts))
        assert status == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    assert 3 <= len(before) < NUM_CLIPS
    status, lines, _ = await generated(tmp_path, *own(prompts))
    assert (status, len(lines)) == (0, NUM_CLIPS)
    assert numbers(out) == ALL
    # A clip whose file came to its place just before a kill is brought there again. No other is touched.
    touched = [path for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert len(touched) <= 1 and record(out) == sorted(ALL)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopped_run_leaves_no_half_file_and_says_how_to_go_on(
    tmp_path: Path, prompts: Path, number: signal.Signals
) -> None:
    status, told = await stopped(tmp_path, number, *own(prompts))
    assert status == 128 + number and "the same command makes the rest" in told and "Traceback" not in told
    there = numbers(tmp_path / "out")
    assert 3 <= len(there) < NUM_CLIPS and there.items() <= ALL.items()
    assert record(tmp_path / "out") == sorted(there)
    status, _, _ = await generated(tmp_path, *own(prompts))
    assert status == 0 and numbers(tmp_path / "out") == ALL


async def test_a_finished_run_has_nothing_to_do(tmp_path: Path, prompts: Path) -> None:
    await generated(tmp_path, *own(prompts))
    status, lines, told = await generated(tmp_path, *own(prompts), "--json")
    assert status == 0 and "loading the model" not in told
    assert [json.loads(line)["was_there"] for line in lines] == [True] * NUM_CLIPS


@asynccontextmanager
async def serve(tmp_path: Path, port: int = 0) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    flags = ("--engine", "synthetic", "--port", str(port), "--data-folder", str(tmp_path / "data"), "--token", TOKEN)
    async with sceneshift(tmp_path, "serve", *flags) as process:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().removeprefix("sceneshift: ").strip()
        assert (await process.stdout.readline()).decode().startswith("ready")
        yield process, url


async def num_videos(url: str) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"{url}v1/videos?limit=100") as response:
            return len((await response.json())["data"])


async def test_a_run_and_its_server_are_killed_and_nothing_is_made_twice(tmp_path: Path, prompts: Path) -> None:
    arguments = ("--from", str(prompts), "-o", str(tmp_path / "out"), "--token", TOKEN)
    async with serve(tmp_path) as (server, url):
        status, _ = await stopped(tmp_path, signal.SIGKILL, *arguments, "--server", url)
        assert status == -signal.SIGKILL
        port = int(url.rstrip("/").rpartition(":")[2])
        async with sceneshift(tmp_path, "generate", *arguments, "--server", url) as run:
            assert run.stdout is not None
            for _ in range(4):
                assert await run.stdout.readline()
            server.kill()
            await server.wait()
            async with serve(tmp_path, port):
                out, errors = await run.communicate()
                assert run.returncode == 0, errors
                assert len(out.splitlines()) == NUM_CLIPS - 4
                assert await num_videos(url) == NUM_CLIPS
    assert numbers(tmp_path / "out") == ALL and TOKEN not in errors.decode()


async def test_a_wrong_row_is_told_and_the_rest_is_made(tmp_path: Path, prompts: Path) -> None:
    prompts.write_text("prompt,output,seconds\nscene 1,1.mp4,2\nscene 2,2.mp4,99\nscene 3,3.webm,2\n")
    status, lines, told = await generated(tmp_path, *own(prompts), "--size", "224x128", "--json")
    assert status == 1 and "line 3: `seconds` must lie in" in told
    entries = [json.loads(line) for line in lines]
    assert [entry["where"] for entry in entries if "error" in entry] == ["line 3"]
    assert sorted(Path(entry["path"]).name for entry in entries if "seed" in entry) == ["1.mp4", "3.webm"]


async def test_several_prompts_become_files_of_a_folder(tmp_path: Path) -> None:
    arguments = ("--engine", "synthetic", "scene 4", "scene 5", "-o", f"{tmp_path}/out/", "--size", "224x128")
    status, lines, told = await generated(tmp_path, *arguments)
    assert (status, lines) == (0, [f"{tmp_path}/out/scene-4.mp4", f"{tmp_path}/out/scene-5.mp4"])
    assert told.splitlines()[0] == "sceneshift generate: starting" and "2 of 2 clips" in told


def test_the_first_line_waits_for_no_large_import() -> None:
    """The command's own modules bring neither numpy nor PyAV before it is written."""
    program = (
        "import builtins, sys\n"
        "from server import __main__\n"
        "def told(*texts, **options):\n"
        "    assert texts == ('sceneshift generate: starting',)\n"
        "    print_(sorted({'numpy', 'av', 'PIL', 'aiohttp', 'msgspec', 'torch'} & set(sys.modules)))\n"
        "    raise SystemExit\n"
        "print_, builtins.print = print, told\n"
        "__main__.main(['generate', 'a cat', '-o', 'cat.mp4'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["the sea", "-o", "clip.avi"], "must end in"),
        (["the sea", "-o", "no/such/folder/clip.mp4"], "does not exist"),
        (["the sea", "-o", "clip.mp4", "--size", "33x1"], "like 832x480"),
        (["-o", "clip.mp4"], "give prompts"),
        (["the sea", "-o", "clip.mp4", "--server", "localhost", "--model", "x"], "has its own engine"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", *arguments])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["  ", "-o", "clip.mp4"], "`prompt` is empty"),
        (["a", "b", "-o", "clip.mp4"], "name a folder with -o"),
        (["a", "-o", "clip.mp4", "--quality", "best"], "`quality` is one of fast, fine"),
        (["a", "-o", "clip.mp4", "--seconds", "99"], "`seconds` must lie in"),
        (["a", "-o", "clip.mp4", "--gpu-memory", "much"], "gpu_memory"),
        (["--from", "no.csv", "-o", "out/"], "no.csv cannot be read"),
    ],
)
def test_what_cannot_be_made_is_named_before_anything_starts(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    assert main(["generate", *arguments]) == 2
    assert logging.getLogger().handlers == handlers  # none writes to our streams any more
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.glob("*.mp4")) == []

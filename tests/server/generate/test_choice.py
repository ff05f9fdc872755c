"""What makes the clips: a named server, one that runs here, or an engine of our own with the flags of `serve`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, serving

from engine.synthetic import SyntheticEngine
from server.clock import MonotonicClock
from server.config import ConfigError, Settings
from server.generate import choice, cli
from server.generate.own_engine import OwnEngine
from server.generate.remote import RemoteMaker
from server.generate.wanted import Wanted
from server.generate.work_folder import WorkFolder
from server.run_file import Running, kept

CAT = Wanted({"prompt": "scene 5", "size": "224x128"}, "cat.mp4")


class Choosing:
    def __init__(self, tmp_path: Path) -> None:
        self.work = WorkFolder(tmp_path / "out")
        self.work.open()
        self.said: list[str] = []
        self.settings: list[Settings] = []

    def make_engine(self, settings: Settings) -> SyntheticEngine:
        self.settings.append(settings)
        return SyntheticEngine()

    async def open(self, *arguments: str, number: int = 1) -> Any:
        options = cli._parse(["a cat", "-o", "out/", *arguments])
        makers = choice.Makers(options, self.make_engine, self.work, MonotonicClock(), self.said.append)
        maker = await makers.open([CAT] * number)
        await maker.close()
        return maker


@pytest.fixture
def choosing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Choosing:
    monkeypatch.delenv("SCENESHIFT_TOKEN", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("SCENESHIFT_DATA_FOLDER", str(tmp_path))
    return Choosing(tmp_path)


def runs_here(tmp_path: Path, server: Serving, token: str | None) -> AbstractContextManager[Path]:
    """The file that `sceneshift serve` leaves."""
    url = server.http._base_url
    assert url is not None and url.port is not None
    return kept(tmp_path / "sceneshift", Running(url.port, f"{url}/", token, os.getpid()))


TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"


async def test_the_server_that_runs_here_is_found_with_its_token(choosing: Choosing, tmp_path: Path) -> None:
    async with serving(token=TOKEN, clips_folder=str(tmp_path / "clips")) as server:
        with runs_here(tmp_path, server, TOKEN):
            assert isinstance(await choosing.open(), RemoteMaker)
            assert isinstance(await choosing.open("--server", str(server.http._base_url)), RemoteMaker)
            assert isinstance(await choosing.open("--no-server"), OwnEngine)
            assert isinstance(await choosing.open("--model", "embedded"), OwnEngine)


async def test_a_server_that_makes_no_clips_is_said_and_an_engine_starts(choosing: Choosing, tmp_path: Path) -> None:
    async with serving() as server:
        with runs_here(tmp_path, server, None):
            assert isinstance(await choosing.open(), OwnEngine)
    assert "makes no clips for us" in choosing.said[0] and choosing.said[-1] == "synthetic on none makes them"


@pytest.mark.parametrize("how", ["--token", "fragment", "environment"])
async def test_a_named_server_gets_the_token(
    choosing: Choosing, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(token=TOKEN, clips_folder=str(tmp_path / "clips")) as server:
        url = str(server.http._base_url).removeprefix("http://").rstrip("/")
        arguments = {
            "--token": ("--server", url, "--token", TOKEN),
            "fragment": ("--server", f"http://{url}/#token={TOKEN}"),
            "environment": ("--server", url),
        }[how]
        if how == "environment":
            monkeypatch.setenv("SCENESHIFT_TOKEN", TOKEN)
        assert isinstance(await choosing.open(*arguments), RemoteMaker)


async def test_an_own_engine_takes_the_flags_of_serve(choosing: Choosing) -> None:
    flags = ("--model", "fastwan2.2-5b=/models/x", "--model-size", "64x32", "--frames", "9", "--device", "cpu")
    flags += ("--gpu-memory", "16GB", "--decoder", "tiny", "--lora-folder", "/loras", "--allow-pickles")
    await choosing.open(*flags, "--engine-priority", "low")
    (settings,) = choosing.settings
    assert (settings.model, settings.size, settings.frames) == ("fastwan2.2-5b=/models/x", (64, 32), 9)
    assert (settings.device, settings.gpu_memory, settings.decoder) == ("cpu", 16 * 10**9, "tiny")
    assert (settings.lora_folder, settings.allow_pickles, settings.engine_priority) == ("/loras", True, "low")
    assert (settings.cache_memory, settings.cache_disk) == (0, 0)


async def test_only_a_long_list_compiles_the_model(choosing: Choosing) -> None:
    await choosing.open()
    await choosing.open(number=20)
    await choosing.open("--no-compile", number=20)
    assert [settings.no_compile for settings in choosing.settings] == [True, False, True]


async def test_a_wrong_setting_is_named(choosing: Choosing) -> None:
    with pytest.raises(ConfigError, match="gpu_memory"):
        await choosing.open("--gpu-memory", "much")

"""The command line, as a person at a terminal uses it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from engine.clip_cache.caching_engine import CachingEngine
from engine.config import LoadSettings, default_model
from engine.process.supervisor import EngineProcess
from server import app, config
from server.__main__ import _engine, _load_settings, main

HOME = Path()  # of the servers of the running test


@asynccontextmanager
async def serving(*flags: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`sceneshift serve` with the synthetic engine on a free port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server", "serve", "--engine", "synthetic", "--port", "0", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(HOME), "XDG_RUNTIME_DIR": str(HOME), **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "HOME", tmp_path)


def kept_token(told: str) -> str:
    """The token in the file that a line of the server's names."""
    path = told.removeprefix("sceneshift: the token is in ").partition(";")[0]
    return str(json.loads(Path(path).read_text())["token"])


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def test_serve_prints_the_address_and_when_it_is_ready_and_ends_cleanly() -> None:
    async with serving("--no-token") as process:
        address = (await line(process)).removeprefix("sceneshift: ")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert (await line(process)).startswith("ready: synthetic")
        async with aiohttp.ClientSession(address) as http:
            async with http.get("/readyz") as response:
                assert response.status == 200
            async with http.ws_connect("/v1/realtime") as socket:
                await socket.send_str('{"type":"session.start"}')
                process.send_signal(signal.SIGTERM)
                reasons = [json.loads(message.data).get("reason") async for message in socket]
                assert reasons[-1] == "server_shutdown"
        assert await process.wait() == 0
        _, errors = await process.communicate()
        assert b"Traceback" not in errors


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6, or keeps it apart")
async def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    async with serving("--host", "::") as process:
        address = (await line(process)).removeprefix("sceneshift: ").partition("#")[0]
        port = address.rstrip("/").rpartition(":")[2]
        async with aiohttp.ClientSession() as http:
            for url in (address, f"http://127.0.0.1:{port}/", f"http://[::1]:{port}/"):
                async with http.get(f"{url}livez") as response:
                    assert response.status == 200, url


@pytest.mark.parametrize(
    ("host", "is_dual", "address"),
    [
        ("0.0.0.0", True, "http://localhost:8080/"),
        ("::", True, "http://localhost:8080/"),
        ("::", False, "http://[::1]:8080/"),
        ("::1", True, "http://[::1]:8080/"),
        ("127.0.0.1", True, "http://127.0.0.1:8080/"),
    ],
)
def test_the_printed_address_works_on_this_machine(
    host: str, is_dual: bool, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: is_dual)
    assert app.address(config.Settings(host=host, token="0123456789abcdef"), 8080) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_server_has_a_token_that_goes_to_a_file_and_into_no_log(host: str) -> None:
    async with serving("--host", host, "--log-level", "debug") as process:
        address = (await line(process)).removeprefix("sceneshift: ")
        token = kept_token(await line(process))
        assert len(token) == 40
        async with aiohttp.ClientSession(address) as http:
            for query, status in [("", 401), (f"?token={token}", 200)]:
                async with http.get(f"/metrics{query}") as response:
                    assert response.status == status
        process.terminate()
        output, errors = await process.communicate()
        assert token.encode() not in output + errors
    assert list(HOME.glob("sceneshift/*.json")) == []


async def test_the_token_is_the_same_after_a_restart() -> None:
    tokens = []
    for _ in range(2):
        async with serving() as process:
            await line(process)
            tokens.append(kept_token(await line(process)))
            process.terminate()
            await process.wait()
    assert tokens[0] == tokens[1]


async def test_a_terminal_gets_the_whole_link() -> None:
    mine, its = pty.openpty()
    command = (sys.executable, "-m", "server", "serve", "--engine", "synthetic", "--port", "0")
    own = {"PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(HOME)}
    process = await asyncio.create_subprocess_exec(*command, stdout=its, stderr=asyncio.subprocess.DEVNULL, env=own)
    os.close(its)
    try:
        told = await asyncio.to_thread(os.read, mine, 1000)
        link = told.decode().split()[1]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[0-9a-f]{40}", link)
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {link.partition('#token=')[2]}"}
            async with http.get(link.partition("#")[0] + "metrics", headers=headers) as response:
                assert response.status == 200
    finally:
        process.terminate()
        await process.wait()
        os.close(mine)


async def test_a_script_of_before_is_told_in_one_sentence_what_changed() -> None:
    async with serving() as process:
        address = (await line(process)).removeprefix("sceneshift: ")
        async with aiohttp.ClientSession(address) as http, http.ws_connect("/v1/realtime") as socket:
            error = (await socket.receive_json())["error"]
            assert error["code"] == "unauthorized"
            assert "since version 0.1.0" in error["message"] and "`sceneshift url`" in error["message"]
            assert (await socket.receive()).extra == "unauthorized"


async def test_a_token_that_nobody_could_learn_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with serving(XDG_RUNTIME_DIR=str(tmp_path / "file")) as process:
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"SCENESHIFT_TOKEN" in errors and b"Traceback" not in errors


async def test_a_socket_that_offers_only_its_token_leaves_none_in_the_log() -> None:
    async with serving() as process:
        address = (await line(process)).removeprefix("sceneshift: ")
        token = kept_token(await line(process))
        protocols = (f"sceneshift.token.{token}",)
        async with (
            aiohttp.ClientSession(address) as http,
            http.ws_connect("/v1/realtime", protocols=protocols) as socket,
        ):
            await socket.send_str('{"type":"session.start"}')
            assert (await socket.receive_json())["type"] == "session.created"
        process.terminate()
        _, errors = await process.communicate()
        assert token.encode() not in errors


@pytest.mark.parametrize(
    "flags", [("--allowed-origins", "https://stage.example"), ("--public-address", "203.0.113.7")], ids=lambda f: f[0]
)
async def test_a_reachable_loopback_server_gets_a_token_and_records_nothing(
    flags: tuple[str, str],
) -> None:
    async with serving(*flags) as process:
        address = (await line(process)).removeprefix("sceneshift: ")
        token = kept_token(await line(process))
        async with aiohttp.ClientSession(address) as http:
            async with http.get("/metrics") as response:
                assert response.status == 401
            async with http.ws_connect(f"/v1/realtime?token={token}") as socket:
                await socket.send_str('{"type":"session.start"}')
                await socket.send_str('{"type":"program.record","recording":true}')
                while (message := await socket.receive_json())["type"] != "error":
                    pass
                assert message["error"]["code"] == "not_supported"


async def test_a_given_token_is_not_printed() -> None:
    token = "0123456789abcdef0123456789abcdef"
    async with serving("--host", "0.0.0.0", SCENESHIFT_TOKEN=token) as process:
        assert token not in await line(process)
        process.terminate()
        output, errors = await process.communicate()
        assert token.encode() not in output + errors


def test_a_port_in_use_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--engine", "synthetic", "--port", str(port)]) == 1
    assert f"port {port} on 127.0.0.1 is in use" in capsys.readouterr().err


def test_a_host_that_is_not_ours_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--engine", "synthetic", "--host", "192.0.2.1", "--port", "0"]) == 1
    assert "cannot listen on 192.0.2.1" in capsys.readouterr().err


def test_a_wrong_setting_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--max-sessions", "many"]) == 1
    assert capsys.readouterr().err == "sceneshift: max_sessions (--max-sessions): expected a whole number, got 'many'\n"


def test_an_unknown_model_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", "nothing", "--port", "0"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_flags_reach_the_engine() -> None:
    flags = ["--model", "embedded", "--size", "160x96", "--frames", "13", "--device", "cpu", "--gpu-memory", "16GB"]
    settings = config.load([*flags, "--decoder", "tiny", "--lora-folder", "/loras", "--no-compile"], {})
    assert _load_settings(settings) == LoadSettings(
        model="embedded",
        width=160,
        height=96,
        num_frames=13,
        device="cpu",
        gpu_memory_bytes=16 * 10**9,
        decoder="tiny",
        lora_folder="/loras",
        compiles=False,
    )
    assert _load_settings(config.load([], {})).model == default_model()


def test_the_clip_cache_is_in_front_of_the_engine_unless_it_is_turned_off(tmp_path: Path) -> None:
    model = ["--model", "embedded"]
    assert isinstance(_engine(config.load(model, {})), CachingEngine)
    assert isinstance(_engine(config.load([*model, "--cache-memory", "0"], {})), EngineProcess)
    on_disk = [*model, "--cache-memory", "0", "--cache-disk", "1GB", "--cache-folder", str(tmp_path)]
    assert isinstance(_engine(config.load(on_disk, {})), CachingEngine)


def test_a_token_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token"]) == 0
    assert len(capsys.readouterr().out.strip()) == 40


@pytest.mark.model
def test_the_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    out = capsys.readouterr().out
    for name in ("python", "torch", "cpu cores", "h264 encoder", "port 8080", "chromium", "model weights"):
        assert name in out


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0), (["juggle"], 2)])
def test_usage(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert "usage: sceneshift" in captured.out + captured.err


@pytest.mark.parametrize("module", ["server.__main__", "server.app"])
def test_the_server_process_loads_no_model_code(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'diffusers', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

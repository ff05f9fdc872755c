"""A server that cannot do its work says so and ends: dead essential tasks, a missing heartbeat, a closed pipe."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes import FakeEngine, FakeProgram
from serving import serving

from engine.api import Event
from engine.synthetic import SyntheticEngine
from server.clock import FakeClock
from server.essential import EssentialTasks
from server.media.webrtc.pacer import Pacer
from server.metrics import Metrics
from server.protocol.messages import SessionStart
from server.session.registry import HEARTBEAT_TIMEOUT_S, TICK_S, Registry
from server.session.session import Neighbours

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_S = 20.0

# --- the mechanism ------------------------------------------------------------------------------------------------


async def _end() -> None: ...


async def _fail() -> None:
    raise ZeroDivisionError("scripted")


async def _last() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("work", [_end, _fail])
async def test_the_first_task_that_ends_by_itself_is_reported_once(work: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    tasks = EssentialTasks(told.append)
    tasks.start(_last(), "heart")
    tasks.start(work(), "lung")
    tasks.start(work(), "liver")
    await asyncio.sleep(0.01)
    assert (tasks.dead, told) == ("lung", ["lung"])
    assert "task lung died" in caplog.text and "task heart died" not in caplog.text
    await tasks.close()


async def test_a_task_that_somebody_else_cancelled_has_died_too() -> None:
    tasks = EssentialTasks()
    tasks.start(_last(), "heart").cancel()
    await asyncio.sleep(0.01)
    assert tasks.dead == "heart"


async def test_a_task_that_ends_while_its_owner_closes_has_not_died(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    tasks = EssentialTasks(told.append)
    heart = tasks.start(_last(), "heart")
    tasks.expect_end()
    heart.cancel()
    tasks.start(_last(), "lung")
    await tasks.close()
    await tasks.close()
    assert (tasks.dead, told, caplog.text) == (None, [], "")


# --- health -------------------------------------------------------------------------------------------------------


class StoppedClock(FakeClock):
    """A clock that goes on, but wakes no sleeper."""

    async def sleep_until(self, due: float) -> None:
        await asyncio.Event().wait()


async def _health(http: aiohttp.ClientSession, path: str) -> tuple[int, dict[str, Any]]:
    async with http.get(path) as response:
        return response.status, await response.json()


async def test_a_server_without_a_heartbeat_is_neither_live_nor_ready() -> None:
    clock = StoppedClock()
    async with serving(build={"clock": clock}) as harness:
        assert await _health(harness.http, "/livez") == (200, {"live": True})
        await clock.advance(HEARTBEAT_TIMEOUT_S + 0.6)
        assert await _health(harness.http, "/livez") == (503, {"live": False, "reason": "no heartbeat for 6 s"})
        status, body = await _health(harness.http, "/readyz")
        assert (status, body["ready"], body["engine"]) == (503, False, "ready")


async def test_a_server_with_a_heartbeat_stays_live_and_ready() -> None:
    clock = FakeClock()
    registry = Registry(Neighbours(FakeEngine(), Metrics(), clock, make_program=FakeProgram))
    await registry.open()
    await clock.advance(100 * HEARTBEAT_TIMEOUT_S)
    assert registry.complaint is None and registry.is_ready
    await registry.close()


class EndingEngine(SyntheticEngine):
    """An engine whose events end when the test says so, while it still claims to be ready."""

    def __init__(self) -> None:
        super().__init__()
        self.end = asyncio.Event()

    async def events(self) -> AsyncIterator[Event]:
        async for event in super().events():
            yield event
            await self.end.wait()
            return


async def test_a_server_with_a_dead_task_is_neither_live_nor_ready() -> None:
    engine, died = EndingEngine(), asyncio.Event()
    async with serving(engine, build={"on_task_died": lambda name: died.set()}) as harness:
        assert (await _health(harness.http, "/livez"))[0] == 200
        engine.end.set()
        await died.wait()
        assert await _health(harness.http, "/livez") == (503, {"live": False, "reason": "task engine-events died"})
        status, body = await _health(harness.http, "/readyz")
        assert (status, body["ready"], body["engine"]) == (503, False, "ready")


async def test_a_show_whose_clock_died_is_ended_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as harness:
        frozen, other = await harness.controller(), await harness.controller()
        program = harness.registry._sessions[frozen.session_id].program
        monkeypatch.setattr(Pacer, "round", lambda self: 1 / 0 if self is program._pacer else None)
        program._pacer._woken.set()
        assert (await frozen.hear("session.closed"))["reason"] == "internal_error"
        await other.apply("scene 3")
        assert (await _health(harness.http, "/livez"))[0] == 200


async def test_the_dead_task_of_a_program_is_named() -> None:
    clock = FakeClock()
    registry = Registry(Neighbours(FakeEngine(), Metrics(), clock, make_program=FakeProgram))
    await registry.open()
    session: Any = await registry.start(SessionStart(), Anybody())
    session.program.dead_task = "pacer"
    await clock.advance(TICK_S)
    assert list(registry._sessions) == []
    await registry.close()


class Anybody:
    """A controller that ignores everything."""

    def abort(self, reason: str) -> None: ...

    async def farewell(self) -> None: ...


# --- real processes -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def started(command: Sequence[str], **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, **options
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def _faulty(fault: str) -> AsyncIterator[asyncio.subprocess.Process]:
    flags = ("--port", "0", "--max-sessions", "1")
    command = (sys.executable, str(HERE / "faulty_server.py"), fault, *flags)
    async with started(command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE) as process:
        yield process


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    found = re.search(rb"http://\S+", await process.stdout.readline())
    assert found is not None
    await process.stdout.readline()  # it is ready
    return found.group().decode()


async def _say(client: aiohttp.ClientWebSocketResponse, kind: str, **fields: object) -> None:
    await client.send_str(json.dumps({"type": kind, **fields}))


async def _hear(client: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    while (message := await client.receive_json())["type"] != kind:
        pass
    found: dict[str, Any] = message
    return found


@pytest.mark.parametrize(
    ("fault", "dead"),
    [("engine-events", "engine-events"), ("session-ticks", "session-ticks"), ("engine", "engine-events")],
)
async def test_the_death_of_an_essential_task_ends_the_process_with_an_error(fault: str, dead: str) -> None:
    async with _faulty(fault) as process, asyncio.timeout(PATIENCE_S):
        async with aiohttp.ClientSession(await _address(process)) as http:
            controller, waiting = await http.ws_connect("/v1/realtime"), await http.ws_connect("/v1/realtime")
            await _say(controller, "session.start", on_preview="off")
            await _hear(controller, "session.created")
            await _say(waiting, "session.start")
            await _hear(waiting, "session.queued")
            process.send_signal(signal.SIGUSR1)
            await _say(controller, "prompt.set", text="scene 1")
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"task {dead} died".encode() in errors
    assert errors.decode().splitlines()[-1] == f"sceneshift: the task {dead} died; see the log"


async def test_one_unreadable_engine_event_does_not_stop_the_next_ones() -> None:
    async with _faulty("one-event") as process, asyncio.timeout(PATIENCE_S):
        async with aiohttp.ClientSession(await _address(process)) as http:
            controller = await http.ws_connect("/v1/realtime")
            await _say(controller, "session.start", on_preview="off")
            await _hear(controller, "session.created")
            process.send_signal(signal.SIGUSR1)
            for text in ("scene 1", "scene 2"):
                await _say(controller, "prompt.set", text=text, transition="cut")
                await _hear(controller, "prompt.applied")
            assert (await _health(http, "/livez"))[0] == 200
        process.terminate()
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert errors.count(b"an event of the engine met an internal error (NoneType)") == 1


SERVE = (sys.executable, "-m", "server", "serve", "--no-token", "--engine", "synthetic", "--port", "0")


async def _still_makes_pictures(address: str) -> None:
    async with aiohttp.ClientSession(address) as http:
        async with asyncio.timeout(PATIENCE_S):
            while (await _health(http, "/readyz"))[0] != 200:  # noqa: ASYNC110  another process's state
                await asyncio.sleep(0.02)
        controller = await http.ws_connect("/v1/realtime")
        await _say(controller, "session.start", on_preview="off")
        await _hear(controller, "session.created")
        await _say(controller, "prompt.set", text="scene 1", transition="cut")
        await _hear(controller, "prompt.applied")


async def test_a_closed_output_pipe_does_not_stop_the_show() -> None:
    """`sceneshift serve | head -1`: the server's next line goes to a closed pipe."""
    mine, its = os.pipe()
    with os.fdopen(mine) as lines:
        command = (sys.executable, str(HERE / "faulty_server.py"), "late-start", "--port", "0")
        async with started(command, stdout=its, stderr=asyncio.subprocess.PIPE) as process, asyncio.timeout(PATIENCE_S):
            os.close(its)
            address = (await asyncio.to_thread(lines.readline)).split()[-1]
            lines.close()
            process.send_signal(signal.SIGUSR1)  # it becomes ready, and says so
            await _still_makes_pictures(address)
            process.terminate()
            _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Traceback" not in errors


async def test_a_full_disk_behind_its_output_and_its_log_stops_nothing(free_port: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with started((*SERVE[:-1], str(free_port)), stdout=full, stderr=full) as process:
            async with asyncio.timeout(PATIENCE_S):
                while not await _listens(free_port):  # noqa: ASYNC110  another process's state
                    await asyncio.sleep(0.02)
                await _still_makes_pictures(f"http://127.0.0.1:{free_port}/")
                process.terminate()
                await process.wait()
    finally:
        os.close(full)
    assert process.returncode == 0


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port

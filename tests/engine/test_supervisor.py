"""The supervisor alone, with a scripted process that needs no model: what it tells it, what it foretells of it."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import supervisor, wire
from engine.api import (
    Cancel,
    EngineLost,
    EngineReady,
    Event,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationStarted,
    ModelDescription,
    Quality,
)
from engine.config import EngineSettings, Rung
from engine.supervisor import EngineProcess, patience_s


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    tmp_path: Path, clock: Clock, sleep: Callable[[float], Awaitable[None]] | None = None
) -> AsyncIterator[tuple[EngineProcess, AsyncIterator[Event]]]:
    command = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")), str(tmp_path / "has-died"))
    settings = EngineSettings(worker_command=command, keep_spare=sleep is not None)
    engine = EngineProcess(settings, monotonic=clock, sleep=sleep or asyncio.sleep)
    await engine.open()
    events = engine.events()
    await until(events, EngineReady)
    try:
        yield engine, events
    finally:
        await engine.close()


async def until(events: AsyncIterator[Event], kind: type[Event]) -> Event:
    async for event in events:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"closed before {kind.__name__}")


async def test_a_prompt_that_is_made_again_keeps_its_deadline_and_its_class(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as (engine, events):
        command = Generate("a", "die", tenant="t", is_operator=False, is_stage_empty=True, due_in_s=10.0)
        engine.send(command)
        await until(events, EngineLost)
        clock.now += 4.0
        failed = await until(events, GenerationFailed)
        assert isinstance(failed, GenerationFailed)
        assert failed.message == "6.0 t False True"


async def test_an_estimate_counts_what_is_in_flight_but_not_ones_own_stage_nor_what_is_cancelled(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, Clock()) as (engine, events):

        def picture_s() -> float:
            estimate = engine.estimate(Generate("new", "x", stage_id="mine", wants_previews=False))
            assert estimate is not None
            return round(estimate.picture_s, 2)

        assert picture_s() == 6.0  # four steps, two decoded pieces
        engine.send(Generate("a", "wait", stage_id="other", due_in_s=8.0, wants_previews=False))
        await until(events, GenerationStarted)
        assert picture_s() == 12.0
        engine.send(Generate("b", "wait", stage_id="mine", wants_previews=False))
        await until(events, GenerationStarted)
        assert picture_s() == 12.0
        engine.send(Cancel("a"))
        assert picture_s() == 6.0  # before the process has confirmed it
        await until(events, GenerationCancelled)
        assert (engine.cost_s(Quality.FAST), engine.cost_s(Quality.FINE)) == (6.5, 10.5)
        assert {entry.what for entry in engine.costs()} >= {"begin", "step 224x128 batch 1"}


async def test_the_spare_process_waits_until_nobody_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its imports beside the first prompts took the play ratio of a fresh server down to 0.989.
    spawned: list[float] = []
    waits: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
    spawn = supervisor._Process.spawn

    async def counted(settings: EngineSettings) -> supervisor._Process:
        spawned.append(0.0)
        return await spawn(settings)

    async def sleep(_seconds: float) -> None:
        ended = asyncio.get_running_loop().create_future()
        waits.put_nowait(ended)
        await ended

    monkeypatch.setattr(supervisor._Process, "spawn", counted)
    async with opened(tmp_path, Clock(), sleep) as (engine, events):
        first = await waits.get()
        engine.send(Generate("a", "wait"))
        await until(events, GenerationStarted)
        first.set_result(None)
        engine.send(Cancel("a"))
        await until(events, GenerationCancelled)
        second = await waits.get()
        assert len(spawned) == 1, "somebody prompted during the wait"
        second.set_result(None)
        await engine.settled()
        assert len(spawned) == 2


async def stopped(pid: int, is_stopped: bool) -> None:
    """Until the system says so: a signal takes effect when the process is next scheduled."""
    while (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T") is not is_stopped:  # noqa: ASYNC110 (no event of it)
        await asyncio.sleep(0.001)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only what the system kills with us may be stopped")
async def test_the_spare_gives_way_to_work_and_goes_on_after_it(tmp_path: Path) -> None:
    # Its imports beside a prompt made that clip three times as long.
    async def at_once(_seconds: float) -> None:
        return

    async with opened(tmp_path, Clock(), at_once) as (engine, events):
        await engine.settled()
        assert engine._importing is not None
        spare = engine._importing.pid
        engine.send(Generate("a", "wait"))
        await until(events, GenerationStarted)
        await stopped(spare, True)
        engine.send(Cancel("a"))
        await until(events, GenerationCancelled)
        await stopped(spare, False)
        engine.send(Generate("b", "die"))
        await until(events, EngineReady)
        assert engine.pid == spare, "a spare that was stopped takes over"


def test_a_slow_model_may_be_silent_for_longer() -> None:
    model = ModelDescription("m", "cpu", 224, 128, 25, 12, {}, True)

    def ready(slowest_s: float) -> wire.WarmedUp:
        return wire.WarmedUp(model, 1.0, (Rung({}, 224, 128),), 7, 1, slowest_s)

    settings = EngineSettings(heartbeat_timeout_s=3.0)
    assert patience_s(settings, ready(0.1)) == 3.0
    assert patience_s(settings, ready(5.0)) == 25.0

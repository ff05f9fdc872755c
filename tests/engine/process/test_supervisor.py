"""The supervisor with a scripted process that needs no model: its commands, its recoveries and its estimates."""

import asyncio
import errno
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench.parts.busy import busy
from engine.api import (
    Cancel,
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    Event,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationStarted,
    ModelDescription,
    Quality,
    StepFinished,
)
from engine.config import EngineSettings, Rung
from engine.process import supervisor, wire
from engine.process.child import Child
from engine.process.own_clock import Thread
from engine.process.spare import SPARE_AFTER_IDLE_S
from engine.process.supervisor import EngineProcess, patience_s, restart_pause_s

STEP_S = 0.5  # what the scripted worker says that a step took


@pytest.mark.parametrize(
    ("begin", "end", "understood"),
    [
        ("the sea " * 37, "at sunset with a dragon", ("sea",)),  # 296 characters, and "at s"
        ("the sea " * 36, "at sunset with a dragon", ("sea", "sunset")),  # 288, and "at sunset wi"
        ("海" * 300, "日落", ("海",)),
    ],
)
def test_only_the_beginning_of_a_long_prompt_is_read_for_its_words(
    begin: str, end: str, understood: tuple[str, ...]
) -> None:
    # 2000 Han characters held up the event loop for 6.6 ms.
    engine = EngineProcess()
    engine._model = ModelDescription("embedded", "cpu", 416, 256, 25, 12, {Quality.FAST: 4}, True)
    words = engine.words(begin + end)
    assert (words.understood, words.not_understood) == (understood, ())


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    tmp_path: Path,
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]] | None = None,
    *,
    keeps_spare: bool = False,
    heartbeat_timeout_s: float | None = None,
) -> AsyncIterator[tuple[EngineProcess, AsyncIterator[Event]]]:
    """With a `heartbeat_timeout_s`, the scripted process must send something in that time, because it never beats."""
    command = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")), str(tmp_path / "has-died"))
    settings = EngineSettings(worker_command=command, keep_spare=keeps_spare, heartbeat_timeout_s=3.0)
    if heartbeat_timeout_s is not None:
        command = (*command, "--slowest-s", "0")
        settings = replace(settings, worker_command=command, heartbeat_timeout_s=heartbeat_timeout_s)
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


async def test_an_estimate_counts_neither_its_own_stage_nor_cancelled_work(
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


async def test_the_spare_process_waits_for_an_idle_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The spare's imports beside the first prompts lowered a fresh server's play ratio to 0.989.
    spawned: list[float] = []
    waits: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
    spawn = Child.spawn

    async def counted(settings: EngineSettings) -> Child:
        spawned.append(0.0)
        return await spawn(settings)

    async def sleep(_seconds: float) -> None:
        ended = asyncio.get_running_loop().create_future()
        waits.put_nowait(ended)
        await ended

    monkeypatch.setattr(Child, "spawn", counted)
    async with opened(tmp_path, Clock(), sleep, keeps_spare=True) as (engine, events):
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
    """Waits until the system reports it: a signal takes effect when the process is next scheduled."""
    while (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T") is not is_stopped:  # noqa: ASYNC110 (no event of it)
        await asyncio.sleep(0.001)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only what the system kills with us may be stopped")
async def test_the_spare_process_pauses_while_there_is_work(tmp_path: Path) -> None:
    # The spare's imports beside a prompt made its clip take three times as long.
    async def at_once(_seconds: float) -> None:
        return

    async with opened(tmp_path, Clock(), at_once, keeps_spare=True) as (engine, events):
        await engine.settled()
        assert engine._spare.pid is not None
        spare = engine._spare.pid
        engine.send(Generate("a", "wait"))
        await until(events, GenerationStarted)
        await stopped(spare, True)
        engine.send(Cancel("a"))
        await until(events, GenerationCancelled)
        await stopped(spare, False)
        engine.send(Generate("b", "die"))
        await until(events, EngineReady)
        assert engine.pid == spare, "a spare that was stopped takes over"


# --- hung, or only without a core ---------------------------------------------------------------------------------

needs_schedstat = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells")
# Longer than one look, but short enough for a test.
PATIENCE_S = 1.6


@pytest.mark.parametrize("trouble", ["deadlock", pytest.param("device", marks=needs_schedstat), "spin", "stopped"])
async def test_a_process_that_hangs_is_replaced_and_its_work_made_again(tmp_path: Path, trouble: str) -> None:
    settings = {"heartbeat_timeout_s": PATIENCE_S}
    async with opened(tmp_path, Clock(), **settings) as (engine, events):
        engine.send(Generate("a", "wait" if trouble == "stopped" else trouble))
        await until(events, GenerationStarted)
        hung = engine.pid
        assert hung is not None
        if trouble == "stopped":
            os.kill(hung, signal.SIGSTOP)
        lost = await until(events, EngineLost)
        assert isinstance(lost, EngineLost)
        assert (lost.reason, lost.generation_ids) == ("unresponsive", ("a",))
        started = await until(events, EngineReady)
        assert started and engine.pid != hung


@needs_schedstat
async def test_a_process_that_only_waits_for_a_core_is_not_killed(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock(), heartbeat_timeout_s=PATIENCE_S) as (engine, events), busy(1) as (rival,):
        assert engine.pid is not None
        core = min(os.sched_getaffinity(0))
        for pid in (rival, engine.pid):
            for thread in Path(f"/proc/{pid}/task").iterdir():  # the rival spins in a thread of its own
                os.sched_setaffinity(int(thread.name), {core})
        os.setpriority(os.PRIO_PROCESS, engine.pid, 19)  # some seventieth of the core
        engine.send(Generate("a", "work"))
        await until(events, GenerationStarted)
        began_at = time.monotonic()
        first = await anext(events)
        assert isinstance(first, GenerationFailed), "its end, as scripted, from the same process"
        assert time.monotonic() - began_at > PATIENCE_S, "it was not silent for long enough to show anything"


async def test_a_silent_start_ends_even_if_the_system_reports_no_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "threads_of", lambda pid: None)
    command = (sys.executable, "-c", "input()")
    settings = EngineSettings(worker_command=command, keep_spare=False, startup_timeout_s=0.1, max_start_attempts=1)
    engine = EngineProcess(settings)
    await engine.open()
    stopped = await until(engine.events(), EngineStopped)
    assert isinstance(stopped, EngineStopped)
    await engine.close()


async def test_the_share_of_a_core_is_measured_while_there_is_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Thread(5.0, 5.0, is_runnable=True)
    monkeypatch.setattr(supervisor, "threads_of", lambda pid: {1: counts})
    clock = Clock()
    async with opened(tmp_path, clock) as (engine, events):
        counts = Thread(5.0, 100.0, is_runnable=True)  # before the work, which says nothing
        engine.send(Generate("a", "wait"))
        await until(events, GenerationStarted)
        clock.now += 4.0
        counts = Thread(6.0, 103.0, is_runnable=True)
        assert engine.statistics().core_share is None
        engine.send(Cancel("a"))
        await until(events, GenerationCancelled)
        counts = Thread(6.0, 200.0, is_runnable=True)  # after it
        told = engine.statistics()
        assert (told.core_share, told.is_starved) == (0.25, True)
        clock.now += 100.0
        told = engine.statistics()
        assert (told.core_share, told.is_starved) == (None, False)


# --- it always comes back -----------------------------------------------------------------------------------------


class Pauses:
    """A sleep that takes no time and remembers the requested seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def failing_spawn(monkeypatch: pytest.MonkeyPatch, failures: list[OSError]) -> None:
    """The next starts of a process fail with these, one after the other."""
    spawn = Child.spawn

    async def spawned(settings: EngineSettings) -> Child:
        if failures:
            raise failures.pop(0)
        return await spawn(settings)

    monkeypatch.setattr(Child, "spawn", spawned)


async def test_an_engine_that_was_ready_is_restarted_until_it_is_ready_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A passing lack of descriptors once ended the engine, and the server went on without one.
    pauses = Pauses()
    async with opened(tmp_path, Clock(), pauses) as (engine, events):
        failing_spawn(monkeypatch, [OSError(errno.EMFILE, "too many open files")] * 5)
        engine.send(Generate("a", "die"))
        lost = await until(events, EngineLost)
        assert isinstance(lost, EngineLost) and lost.generation_ids == ("a",)
        assert engine.state is EngineState.RECOVERING
        await until(events, EngineReady)
        assert pauses.seconds == [1.0, 2.0, 4.0, 8.0, 16.0]
        await until(events, GenerationFailed)  # its end, as scripted: it was made again
        assert engine.state is EngineState.READY


async def test_the_engine_survives_a_lack_of_descriptors(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    paused = asyncio.Event()

    async def until_there_are_some(_seconds: float) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        paused.set()

    async with opened(tmp_path, Clock(), until_there_are_some) as (engine, events):
        engine.send(Generate("a", "wait"))
        await until(events, GenerationStarted)
        assert engine.pid is not None
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
            os.kill(engine.pid, signal.SIGKILL)
            await paused.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await until(events, EngineReady)
        await until(events, GenerationStarted)


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGBUS, "SIGBUS; .*--shm-size"), (signal.SIGKILL, "SIGKILL; .*memory"), (signal.SIGTERM, "SIGTERM$")],
)
async def test_a_loss_names_the_signal_that_ended_the_engine(tmp_path: Path, number: signal.Signals, told: str) -> None:
    async with opened(tmp_path, Clock()) as (engine, events):
        assert engine.pid is not None
        os.kill(engine.pid, number)
        lost = await until(events, EngineLost)
        assert isinstance(lost, EngineLost)
        assert lost.reason == "exited" and re.search(told, lost.detail)


async def test_a_loss_names_the_status_of_an_engine_that_ended_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (engine, events):
        engine.send(Generate("a", "die"))
        lost = await until(events, EngineLost)
        assert isinstance(lost, EngineLost) and lost.detail == "the engine process ended with status 1"


async def test_an_engine_that_was_never_ready_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_spawn(monkeypatch, [OSError(errno.ENOMEM, "no memory")] * 2)
    pauses = Pauses()
    engine = EngineProcess(EngineSettings(max_start_attempts=2, keep_spare=False), sleep=pauses)
    await engine.open()
    await until(engine.events(), EngineStopped)
    assert (engine.state, pauses.seconds) == (EngineState.FAILED, [])
    await engine.close()


def test_the_pause_between_failed_starts_grows_to_a_minute() -> None:
    assert [restart_pause_s(number) for number in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]


async def test_a_message_that_cannot_be_decoded_costs_one_process(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock(), Pauses()) as (engine, events):
        engine.send(Generate("a", "garbage"))
        lost = await until(events, EngineLost)
        assert isinstance(lost, EngineLost) and lost.reason == "raised"
        await until(events, EngineReady)
        await until(events, GenerationFailed)  # its end, as scripted: it was made again


async def test_events_of_unknown_generations_are_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (engine, events):
        pid = engine.pid
        engine.send(Generate("a", "strangers"))
        seen = [await anext(events), await anext(events)]
        assert [type(event) for event in seen] == [GenerationStarted, GenerationFailed]
        assert {event.generation_id for event in seen if not isinstance(event, EngineLost)} == {"a"}  # type: ignore[union-attr]
        assert engine.pid == pid


async def test_the_engine_recovers_without_a_spare_that_could_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = Pauses()
    async with opened(tmp_path, Clock(), pauses, keeps_spare=True) as (engine, events):
        failing_spawn(monkeypatch, [OSError(errno.EMFILE, "too many open files")])
        await engine.settled()
        engine.send(Generate("a", "die"))
        await until(events, EngineReady)
        assert pauses.seconds[0] == SPARE_AFTER_IDLE_S and 1.0 not in pauses.seconds


def test_a_slow_model_may_be_silent_for_longer() -> None:
    model = ModelDescription("m", "cpu", 224, 128, 25, 12, {}, True)

    def ready(slowest_s: float) -> wire.WarmedUp:
        return wire.WarmedUp(model, 1.0, (Rung({}, 224, 128),), 7, 1, slowest_s)

    settings = EngineSettings(heartbeat_timeout_s=3.0)
    assert patience_s(settings, ready(0.1)) == 3.0
    assert patience_s(settings, ready(5.0)) == 25.0


async def test_an_end_tells_what_the_engine_spent_also_in_a_process_that_died(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (engine, events):
        engine.send(Generate("a", "die"))  # a step shared with another generation, then the process is lost
        failed = await until(events, GenerationFailed)
        assert isinstance(failed, GenerationFailed) and failed.engine_s == STEP_S
        engine.send(Generate("b", "step"))
        await until(events, StepFinished)
        engine.send(Cancel("b"))
        cancelled = await until(events, GenerationCancelled)
        assert isinstance(cancelled, GenerationCancelled) and cancelled.engine_s == STEP_S
        assert engine.statistics().busy_s == STEP_S  # as the heartbeats tell it; the process that died sent none

"""The real engine process with the real embedded model, through `engine.api` alone; trouble comes by signals."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from engine.api import (
    Cancel,
    EngineBusy,
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    EngineUnavailable,
    Estimate,
    Event,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelError,
    PreviewReady,
    Quality,
    StepFinished,
)
from engine.config import EngineSettings, LoadSettings
from engine.process.supervisor import EngineProcess

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]
ENDS = (GenerationFinished, GenerationCancelled, GenerationFailed)
FAULTY = (sys.executable, str(Path(__file__).with_name("faulty_worker.py")))


class Driver:
    """An open engine and its events, read up to a given one."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.first_estimates: list[Estimate | None] = []  # before any prompt, by quality
        self._events = engine.events()

    async def until(self, is_last: Callable[[Event], bool]) -> list[Event]:
        seen: list[Event] = []
        async for event in self._events:
            seen.append(event)
            if is_last(event):
                return seen
        raise AssertionError(f"the engine closed after {seen}")

    async def until_end(self, generation_id: str) -> list[Event]:
        return await self.until(lambda event: isinstance(event, ENDS) and event.generation_id == generation_id)

    async def until_step(self, generation_id: str) -> list[Event]:
        return await self.until(lambda event: isinstance(event, StepFinished) and event.generation_id == generation_id)


def clip(events: list[Event]) -> np.ndarray:
    """The frames since the last `GenerationStarted`; earlier ones are void."""
    start = max(index for index, event in enumerate(events) if isinstance(event, GenerationStarted))
    return np.concatenate([event.frames.planes for event in events[start:] if isinstance(event, FramesReady)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver() -> AsyncIterator[Driver]:
    # The faulty worker is the real one plus a raise on SIGUSR1.
    engine = EngineProcess(EngineSettings(worker_command=FAULTY))
    await engine.open()
    opened = Driver(engine)
    await opened.until(lambda event: isinstance(event, EngineReady))
    opened.first_estimates = [engine.estimate(Generate("e", "x", quality)) for quality in Quality]
    yield opened
    await engine.close()


async def test_the_very_first_prompt_has_an_estimate(driver: Driver) -> None:
    fast, fine = driver.first_estimates
    assert fast is not None and fine is not None
    assert 0 < fast.preview_s < fast.picture_s < fine.picture_s


async def test_a_prompt_becomes_previews_and_a_clip(driver: Driver) -> None:
    model = driver.engine.model
    assert model is not None
    # Short of time, the engine gives up previews after the first.
    driver.engine.send(Generate("one", "the sea at sunset", seed=1, due_in_s=600.0))
    events = await driver.until_end("one")
    num_steps = model.num_steps[Quality.FAST]
    assert isinstance(events[0], GenerationStarted)
    assert [event.step_index for event in events if isinstance(event, StepFinished)] == list(range(num_steps))
    previews = [event.step_index for event in events if isinstance(event, PreviewReady)]
    assert previews == list(range(num_steps - 1))
    assert clip(events).shape == (model.num_frames, model.height * 3 // 2, model.width)
    assert isinstance(events[-1], GenerationFinished)


async def test_same_prompt_and_seed_same_clip_other_seed_another(driver: Driver) -> None:
    clips = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        driver.engine.send(Generate(name, "snowy mountains by day", seed=seed, wants_previews=False))
        clips.append(clip(await driver.until_end(name)))
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


async def test_words_that_the_model_does_not_know_are_named(driver: Driver) -> None:
    driver.engine.send(Generate("words", "a quixotic beach at night", wants_previews=False))
    started = next(event for event in await driver.until_end("words") if isinstance(event, GenerationStarted))
    assert "quixotic" in started.not_understood
    assert "beach" in started.understood


async def test_cancel_takes_effect_at_the_next_step(driver: Driver) -> None:
    driver.engine.send(Generate("long", "a forest", Quality.FINE))
    await driver.until_step("long")
    driver.engine.send(Cancel("long"))
    events = await driver.until_end("long")
    end = events[-1]
    assert isinstance(end, GenerationCancelled)
    # One step may have been under way, and one more may have begun before the command came through.
    assert end.num_steps_done <= 4


async def test_cancelling_a_waiting_or_unknown_generation(driver: Driver) -> None:
    driver.engine.send(Generate("first", "a forest"))
    driver.engine.send(Generate("second", "a city"))
    driver.engine.send(Cancel("second"))
    driver.engine.send(Cancel("nobody"))
    events = await driver.until_end("first")
    ends = {event.generation_id: type(event) for event in events if isinstance(event, ENDS)}
    assert ends == {"second": GenerationCancelled, "first": GenerationFinished}


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "exited"), (signal.SIGSTOP, "unresponsive"), (signal.SIGUSR1, "raised")],
)
async def test_a_lost_engine_makes_the_prompt_again(driver: Driver, number: signal.Signals, reason: str) -> None:
    name = f"lost-{reason}"
    driver.engine.send(Generate(name, "the sea at night", Quality.FINE, seed=3))
    await driver.until_step(name)
    assert driver.engine.pid is not None
    os.kill(driver.engine.pid, number)
    events = await driver.until_end(name)
    lost = next(event for event in events if isinstance(event, EngineLost))
    assert (lost.reason, lost.generation_ids) == (reason, (name,))
    assert isinstance(events[-1], GenerationFinished)
    assert len(clip(events)) == events[-1].num_frames


async def test_a_cancel_during_the_recovery_is_kept(driver: Driver) -> None:
    driver.engine.send(Generate("gone", "the sea at night", Quality.FINE))
    await driver.until_step("gone")
    assert driver.engine.pid is not None
    os.kill(driver.engine.pid, signal.SIGKILL)
    await driver.until(lambda event: isinstance(event, EngineLost))
    assert driver.engine.state is EngineState.RECOVERING
    driver.engine.send(Cancel("gone"))
    assert isinstance((await driver.until_end("gone"))[-1], GenerationCancelled)
    await driver.until(lambda event: isinstance(event, EngineReady))


async def test_the_seconds_of_all_generations_are_the_time_in_which_the_engine_worked(driver: Driver) -> None:
    """The ends count pieces; the engine's busy time is measured around its whole loop."""
    before_s, names = driver.engine.statistics().busy_s, ["x", "y", "z"]
    for name in names:
        driver.engine.send(Generate(name, f"a forest {name}", wants_previews=name != "y"))
    await driver.until_step("x")
    driver.engine.send(Cancel("z"))
    ends: dict[str, float] = {}
    while len(ends) < len(names):
        (*_, end) = await driver.until(lambda event: isinstance(event, ENDS))
        assert isinstance(end, ENDS)
        ends[end.generation_id] = end.engine_s
    assert ends["y"] > 0.0
    # The last beat comes after the last end, and before the next generation begins.
    driver.engine.send(Generate("next", "the sea"))
    await driver.until(lambda event: isinstance(event, GenerationStarted))
    assert sum(ends.values()) == pytest.approx(driver.engine.statistics().busy_s - before_s, rel=0.02)
    driver.engine.send(Cancel("next"))
    await driver.until_end("next")


async def test_a_generation_that_loses_the_engine_again_and_again_fails() -> None:
    engine = EngineProcess(EngineSettings(max_attempts=1, keep_spare=False))
    await engine.open()
    driver = Driver(engine)
    engine.send(Generate("poison", "the sea", Quality.FINE))  # sent before the engine is ready: it waits
    await driver.until_step("poison")
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    end = (await driver.until_end("poison"))[-1]
    assert isinstance(end, GenerationFailed)
    assert (end.code, end.retryable) == ("engine_lost", True)
    await engine.close()
    assert engine.state is EngineState.CLOSED


async def test_an_engine_that_cannot_start_says_so_and_fails_its_work() -> None:
    settings = EngineSettings(worker_command=(sys.executable, "-c", "raise SystemExit(3)"), max_start_attempts=2)
    engine = EngineProcess(settings)
    await engine.open()
    engine.send(Generate("never", "the sea"))
    events = await Driver(engine).until(lambda event: isinstance(event, EngineStopped))
    assert [type(event) for event in events] == [GenerationFailed, EngineStopped]
    with pytest.raises(EngineUnavailable):
        engine.send(Generate("later", "the sea"))
    await engine.close()


async def test_a_model_that_cannot_be_loaded_ends_the_engine_at_once_and_says_why(tmp_path: Path) -> None:
    # The engine once tried the same folder four times, two minutes each, with the same error.
    worker = (sys.executable, str(Path(__file__).with_name("refusing_worker.py")), str(tmp_path / "starts"))
    engine = EngineProcess(EngineSettings(worker_command=worker, keep_spare=False))
    await engine.open()
    engine.send(Generate("never", "the sea"))
    failed, stopped = await Driver(engine).until(lambda event: isinstance(event, EngineStopped))
    assert isinstance(failed, GenerationFailed) and not failed.retryable
    assert isinstance(stopped, EngineStopped) and "the folder lacks vae" in stopped.detail
    assert (tmp_path / "starts").read_text() == "one\n"
    await engine.close()


async def test_more_than_the_bound_in_flight_is_refused() -> None:
    engine = EngineProcess(EngineSettings(max_in_flight=2))
    engine.send(Generate("a", "the sea"))
    engine.send(Generate("b", "the sea"))
    with pytest.raises(EngineBusy) as refused:
        engine.send(Generate("c", "the sea"))
    assert refused.value.retry_after_s > 0
    await engine.close()


async def test_an_unknown_model_is_refused_at_once() -> None:
    with pytest.raises(ModelError, match="unknown model 'dall-e'; expected one of embedded"):
        await EngineProcess(EngineSettings(load=LoadSettings(model="dall-e"))).open()


async def test_opening_and_closing_leaves_nothing_behind() -> None:
    async def open_and_close() -> None:
        engine = EngineProcess(EngineSettings(worker_command=(sys.executable, "-c", "input()"), keep_spare=False))
        await engine.open()
        await asyncio.sleep(0)
        await engine.close()

    await open_and_close()  # the loop's own child watcher and pipes exist after the first
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        await open_and_close()
    assert len(list(Path("/dev/fd").iterdir())) == before

"""The synthetic engine keeps the contract of `engine.api` and its pictures can be read."""

import asyncio

import numpy as np
import pytest

from engine.api import (
    Cancel,
    EngineLost,
    EngineReady,
    Event,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    PreviewReady,
)
from engine.synthetic import PREVIEW_FRAME, Fault, Script, SyntheticEngine, paint, read

ENDS = (GenerationFinished, GenerationCancelled, GenerationFailed)


async def no_time(_seconds: float) -> None:
    await asyncio.sleep(0)


async def run(engine: SyntheticEngine, commands: list[Generate | Cancel]) -> list[Event]:
    """All events until each `Generate` has ended."""
    num_ends = sum(isinstance(command, Generate) for command in commands)
    await engine.open()
    for command in commands:
        engine.send(command)
    seen: list[Event] = []
    async for event in engine.events():
        seen.append(event)
        num_ends -= isinstance(event, ENDS)
        if not num_ends:
            break
    await engine.close()
    return seen


@pytest.mark.parametrize(("number", "frame_index"), [(0, 0), (1, 24), (513, 7), (1023, PREVIEW_FRAME)])
def test_painted_numbers_can_be_read(number: int, frame_index: int) -> None:
    assert read(paint(number, [frame_index], 224, 128).planes[0]) == (number, frame_index)


def test_a_plain_picture_has_no_number() -> None:
    assert read(np.full((192, 224), 128, np.uint8)) is None


async def test_a_prompt_becomes_previews_and_a_clip() -> None:
    events = await run(SyntheticEngine(sleep=no_time), [Generate("a", "scene 7")])
    assert isinstance(events[0], EngineReady)
    assert isinstance(events[1], GenerationStarted)
    assert sum(isinstance(event, PreviewReady) for event in events) == 4
    frames = next(event.frames for event in events if isinstance(event, FramesReady))
    assert [read(picture) for picture in frames.planes] == [(7, index) for index in range(25)]


async def test_cancelled_work_ends_once_whether_waiting_or_running() -> None:
    commands = [Generate("a", "1"), Generate("b", "2"), Cancel("b"), Cancel("b"), Cancel("unknown")]
    events = await run(SyntheticEngine(sleep=no_time), commands)
    ends = [(type(event).__name__, event.generation_id) for event in events if isinstance(event, ENDS)]
    assert sorted(ends) == [("GenerationCancelled", "b"), ("GenerationFinished", "a")]


async def test_a_lost_engine_makes_the_prompt_again() -> None:
    events = await run(SyntheticEngine(Script(faults={7: Fault.LOSE}), sleep=no_time), [Generate("a", "scene 7")])
    names = [type(event).__name__ for event in events]
    assert names.count("GenerationStarted") == 2
    assert next(event for event in events if isinstance(event, EngineLost)).generation_ids == ("a",)
    assert names[-1] == "GenerationFinished"


async def test_a_scripted_failure_ends_only_its_own_generation() -> None:
    script = Script(faults={7: Fault.FAIL})
    events = await run(SyntheticEngine(script, sleep=no_time), [Generate("a", "7"), Generate("b", "8")])
    ends = [(type(event).__name__, event.generation_id) for event in events if isinstance(event, ENDS)]
    assert ends == [("GenerationFailed", "a"), ("GenerationFinished", "b")]


async def test_scripted_degradation_is_reported_at_the_start() -> None:
    script = Script(degraded={7: ("fewer_steps",)})
    events = await run(SyntheticEngine(script, sleep=no_time), [Generate("a", "7"), Generate("b", "8")])
    degraded = {event.generation_id: event.degraded for event in events if isinstance(event, GenerationStarted)}
    assert degraded == {"a": ("fewer_steps",), "b": ()}


async def test_first_frames_and_loras_are_taken_only_where_the_model_offers_them() -> None:
    commands = [Generate("a", "7", first_frame=paint(3, [0], 224, 128)), Generate("b", "8", lora="ink")]
    refused = await run(SyntheticEngine(sleep=no_time), list(commands))
    assert [type(event) for event in refused if isinstance(event, ENDS)] == [GenerationFailed] * 2
    engine = SyntheticEngine(Script(can_start_from_frame=True, loras=("ink",)), sleep=no_time)
    made = await run(engine, list(commands))
    assert [type(event) for event in made if isinstance(event, ENDS)] == [GenerationFinished] * 2
    assert engine.model is not None
    assert (engine.model.can_start_from_frame, engine.model.loras) == (True, ("ink",))


async def test_an_estimate_counts_the_work_of_other_stages_only() -> None:
    engine = SyntheticEngine(sleep=no_time)
    alone = engine.estimate(Generate("c", "3", stage_id="mine"))
    engine.send(Generate("a", "1", stage_id="mine"))
    assert engine.estimate(Generate("c", "3", stage_id="mine")) == alone
    engine.send(Generate("b", "2", stage_id="other"))
    assert engine.estimate(Generate("c", "3", stage_id="mine")).picture_s > alone.picture_s


async def test_ends_tell_what_the_engine_spent_also_on_what_was_lost_or_cancelled() -> None:
    script = Script(text_s=0.1, step_s=1.0, decode_s=0.5, faults={1: Fault.LOSE, 2: Fault.FAIL})
    engine = SyntheticEngine(script, sleep=no_time)
    commands = [Generate("lost", "1"), Generate("failed", "2"), Generate("waits", "3"), Generate("whole", "4")]
    events = await run(engine, [*commands, Cancel("waits")])
    spent = {event.generation_id: event.engine_s for event in events if isinstance(event, ENDS)}
    assert spent == pytest.approx({"lost": 3.1 + 4.6, "failed": 3.1, "waits": 0.0, "whole": 4.6})
    assert engine.statistics().busy_s == pytest.approx(sum(spent.values()))

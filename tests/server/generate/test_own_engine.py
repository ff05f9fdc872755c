"""An engine of our own: what it makes, what it refuses, and what is left for a next run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.api import Engine, EngineStopped, ModelError, Quality
from engine.synthetic import Fault, Script, SyntheticEngine
from server.clips import rows
from server.clips.writer import pictures_of
from server.clock import MonotonicClock
from server.generate.maker import MOST_AT_ONCE, Failed, Made, MakerError, Outcome
from server.generate.own_engine import OwnEngine
from server.generate.wanted import Wanted
from server.generate.work_folder import WorkFolder
from server.store.store import FILE_NAME, Store

FAST = Script(step_s=0.001, decode_s=0.001)


def wanted(number: int, **fields: Any) -> Wanted:
    return Wanted({"prompt": f"scene {number}", "size": "224x128", **fields}, f"{number}.mp4")


@asynccontextmanager
async def opened(
    tmp_path: Path, all_wanted: list[Wanted], engine: Engine | None = None, said: list[str] | None = None
) -> AsyncIterator[OwnEngine]:
    work = WorkFolder(tmp_path)
    work.open()
    keys = {work.key(one) for one in all_wanted}
    say = (said if said is not None else []).append
    maker = OwnEngine(lambda: engine or SyntheticEngine(FAST), work, keys, clock=MonotonicClock(), say=say)
    try:
        await maker.open()
        yield maker
    finally:
        await maker.close()
        work.close(is_complete=False)


async def outcomes(maker: OwnEngine, all_wanted: list[Wanted]) -> list[Outcome]:
    async with asyncio.timeout(60):
        return [outcome async for outcome in maker.outcomes(all_wanted)]


def rows_of(tmp_path: Path) -> set[str]:
    store = Store(tmp_path / ".sceneshift" / FILE_NAME)
    store.open()
    known = store.ask_now(rows.all_ids)
    store.close()
    return known


async def test_each_wish_becomes_a_clip_of_the_models_own_length(tmp_path: Path) -> None:
    many = [wanted(number) for number in range(2 * MOST_AT_ONCE)]
    async with opened(tmp_path, many) as maker:
        found = await outcomes(maker, many)
        assert sorted(outcome.wanted.output for outcome in found) == sorted(one.output for one in many)
        for made in found:
            assert isinstance(made, Made)
            # The first shows the moment of the 25th, so a file that a player loops leaves it out.
            assert len(list(pictures_of(made.file))) == 24 and made.seconds == 2.0 and made.engine_s > 0


async def test_fields_are_those_of_the_server(tmp_path: Path) -> None:
    one = wanted(5, seconds="4", seed="7", quality="fine")
    async with opened(tmp_path, [one]) as maker:
        (made,) = await outcomes(maker, [one])
        assert isinstance(made, Made) and (made.seed, made.seconds) == (7, 4.0)


async def test_a_wish_that_the_model_cannot_fulfil_fails_alone(tmp_path: Path) -> None:
    many = [wanted(1, lora="none"), wanted(2)]
    async with opened(tmp_path, many) as maker:
        failed, made = await outcomes(maker, many)
        assert isinstance(failed, Failed) and failed.code == "not_supported" and "none" in failed.message
        assert isinstance(made, Made) and made.wanted == many[1]


async def test_a_clip_that_fails_at_each_attempt_is_made_anew_by_the_next_run(tmp_path: Path) -> None:
    one = wanted(1)
    engine = SyntheticEngine(FAST)
    async with opened(tmp_path, [one], engine) as maker:
        send = engine.send

        def send_to_fail(command: Any) -> None:
            engine._faults[1] = Fault.FAIL
            send(command)

        engine.send = send_to_fail  # type: ignore[method-assign]
        (failed,) = await outcomes(maker, [one])
        assert isinstance(failed, Failed) and failed.code == "model_error"
        await maker.forget(failed)
    async with opened(tmp_path, [one]) as maker:
        (made,) = await outcomes(maker, [one])
        assert isinstance(made, Made)


async def test_a_clip_that_was_made_and_not_brought_to_its_place_is_not_made_again(tmp_path: Path) -> None:
    one = wanted(5)
    async with opened(tmp_path, [one]) as maker:
        (first,) = await outcomes(maker, [one])
    engine = SyntheticEngine(FAST)
    async with opened(tmp_path, [one], engine) as maker:
        (second,) = await outcomes(maker, [one])
        assert second == first
        assert engine.statistics().num_finished == 0
        await maker.forget(second)
    assert rows_of(tmp_path) == set()


async def test_a_run_that_is_stopped_leaves_its_clips_to_the_next(tmp_path: Path) -> None:
    many = [wanted(number) for number in range(4)]
    slow = SyntheticEngine(Script(num_steps={Quality.FAST: 1_000_000, Quality.FINE: 1}))
    async with opened(tmp_path, many, slow) as maker:
        async with aclosing(maker.outcomes(many)) as waiting:
            first = asyncio.ensure_future(anext(waiting))
            async with asyncio.timeout(60):
                while not slow.statistics().num_steps:  # noqa: ASYNC110  the engine's figure, on the same loop
                    await asyncio.sleep(0.005)
            assert maker.done_of_unfinished < 1
            first.cancel()
            await asyncio.wait([first])
    assert len(rows_of(tmp_path)) == 4
    async with opened(tmp_path, many[:2]) as maker:
        assert len(rows_of(tmp_path)) == 2, "the list became shorter"
        assert all(isinstance(one, Made) for one in await outcomes(maker, many[:2]))


async def test_a_lost_engine_comes_back_and_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    engine = SyntheticEngine(Script(step_s=0.001, faults={5: Fault.LOSE}))
    async with opened(tmp_path, [wanted(5)], engine, said) as maker:
        (made,) = await outcomes(maker, [wanted(5)])
        assert isinstance(made, Made)
    assert "engine exited (scripted loss), starting again" in said


async def test_an_engine_that_cannot_start_is_said_plainly(tmp_path: Path) -> None:
    def make() -> Engine:
        raise ModelError("the folder has no model_index.json")

    work = WorkFolder(tmp_path)
    work.open()
    maker = OwnEngine(make, work, set(), clock=MonotonicClock(), say=lambda text: None)
    with pytest.raises(MakerError, match="has no model_index"):
        await maker.open()
    await maker.close()
    work.close(is_complete=False)


async def test_an_engine_that_ends_for_good_ends_the_run(tmp_path: Path) -> None:
    slow = SyntheticEngine(Script(step_s=60.0))
    async with opened(tmp_path, [wanted(5)], slow) as maker:
        waiting = asyncio.ensure_future(anext(maker.outcomes([wanted(5)])))
        slow._put(EngineStopped("it died four times"))
        with pytest.raises(MakerError, match="died four times"):
            async with asyncio.timeout(60):
                await waiting

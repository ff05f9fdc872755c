"""The clip cache: which clips it reuses and which never, which it keeps, and how it handles a faulty disk."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.api import (
    Cancel,
    EngineReady,
    EngineUnavailable,
    Event,
    Frames,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFinished,
    GenerationStarted,
    Quality,
    Reuse,
)
from engine.clip_cache.caching_engine import CacheSettings, CachingEngine, default_folder
from engine.clip_cache.ranking import Ranking
from engine.config import EMBEDDED_FOLDER, LoadSettings
from engine.loading.checkpoint import fingerprint
from engine.synthetic import Fault, Script, SyntheticEngine, read
from tests.seeds import seeds

CLIP_BYTES = 25 * 128 * 3 // 2 * 224


class CacheHarness:
    """A caching engine in front of a synthetic one, its events in the order in which they came."""

    def __init__(self, engine: CachingEngine) -> None:
        self.engine = engine
        self._events = engine.events()
        self._num_sent = 0

    async def until(self, kind: type[Event], generation_id: str | None = None) -> list[Event]:
        seen: list[Event] = []
        async for event in self._events:
            seen.append(event)
            if isinstance(event, kind) and generation_id in (None, getattr(event, "generation_id", None)):
                return seen
        raise AssertionError(f"no {kind.__name__}")

    async def make(self, prompt: str, reuse: Reuse = Reuse.ANY_SEED, **fields: Any) -> list[Event]:
        """All events of one generation, to its end. Returns when the clip is stored, if it is to be."""
        command = self.command(prompt, reuse, **fields)
        self.engine.send(command)
        events = await self.until(GenerationFinished, command.generation_id)
        await self.engine.settled()
        return events

    def command(self, prompt: str, reuse: Reuse = Reuse.ANY_SEED, **fields: Any) -> Generate:
        self._num_sent += 1
        return Generate(f"s.{self._num_sent}", prompt, reuse=reuse, **fields)

    def count(self, name: str) -> float:
        return self.engine.statistics().extra[f"cache_{name}"]


OpenKitchen = Callable[..., Awaitable[CacheHarness]]


@pytest.fixture
async def open_kitchen() -> AsyncIterator[OpenKitchen]:
    async with AsyncExitStack() as stack:

        async def open_kitchen(script: Script | None = None, marks: str = "", **settings: Any) -> CacheHarness:
            inner = SyntheticEngine(script or Script(), sleep=lambda seconds: asyncio.sleep(0))
            engine = CachingEngine(inner, CacheSettings(**settings), fingerprint=marks)
            await engine.open()
            stack.push_async_callback(engine.close)
            harness = CacheHarness(engine)
            await harness.until(EngineReady)
            return harness

        yield open_kitchen


def started(events: list[Event]) -> GenerationStarted:
    return next(event for event in events if isinstance(event, GenerationStarted))


def is_reused(events: list[Event]) -> bool:
    return started(events).is_reused


def clip_of(events: list[Event]) -> np.ndarray:
    return np.concatenate([event.frames.planes for event in events if isinstance(event, FramesReady)])


# --- what is given again ------------------------------------------------------------------------------------------


async def test_an_exact_repeat_comes_at_once_with_the_same_events(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen()
    first = await harness.make("scene 5 by night", seed=1)
    again = await harness.make("scene 5 by night", seed=2)
    assert [type(event) for event in again] == [GenerationStarted, FramesReady, GenerationFinished]
    assert (is_reused(first), is_reused(again)) == (False, True)
    assert started(again).understood == started(first).understood == ("scene", "5", "by", "night")
    assert started(again).num_steps == 4
    assert [event.engine_s for event in again if isinstance(event, GenerationFinished)] == [0.0]
    assert np.array_equal(clip_of(first), clip_of(again))
    assert (harness.count("hits"), harness.count("misses")) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "scene 6"},
        {"quality": Quality.FINE},
        {"lora": "ink"},
        {"scene_seed": 9},
        {"first_frame": Frames(np.zeros((1, 192, 224), np.uint8))},
    ],
    ids=["prompt", "quality", "LoRA", "scene seed", "first frame"],
)
async def test_a_command_that_differs_in_anything_makes_a_new_clip(open_kitchen: OpenKitchen, other: dict) -> None:
    harness = await open_kitchen(Script(can_start_from_frame=True, loras=("ink",)))
    await harness.make("scene 5")
    assert not is_reused(await harness.make(**{"prompt": "scene 5"} | other))
    assert is_reused(await harness.make(**{"prompt": "scene 5"} | other))


async def test_two_first_frames_of_one_shape_are_two_scenes(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen(Script(can_start_from_frame=True))
    for value in (10, 11):
        frame = Frames(np.full((1, 192, 224), value, np.uint8))
        assert not is_reused(await harness.make("scene 5", first_frame=frame))


async def test_a_given_seed_gets_the_clip_of_that_seed_only(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen()
    await harness.make("scene 5", seed=1)
    assert not is_reused(await harness.make("scene 5", Reuse.SAME_SEED, seed=2))
    assert is_reused(await harness.make("scene 5", Reuse.SAME_SEED, seed=1))


async def test_fresh_work_is_never_reused_but_may_be_reused_by_others(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen()
    await harness.make("scene 5")
    assert not is_reused(await harness.make("scene 5", Reuse.NEVER))
    assert not is_reused(await harness.make("scene 6", Reuse.NEVER))
    assert is_reused(await harness.make("scene 6"))
    assert harness.count("misses") == 1  # a request for fresh work is no miss


async def test_degraded_clips_are_never_kept(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen(Script(degraded={5: ("fewer_steps",)}))
    for _ in range(2):
        assert not is_reused(await harness.make("scene 5"))


async def test_a_clip_made_again_after_a_loss_is_kept_once_and_complete(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen(Script(faults={5: Fault.LOSE}))
    first = await harness.make("scene 5")
    again = await harness.make("scene 5")
    assert is_reused(again)
    assert len(clip_of(again)) == 25
    assert read(clip_of(first)[3]) == read(clip_of(again)[3]) == (5, 3)


async def test_estimates_know_the_stored_clips(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen()
    before = harness.engine.estimate(harness.command("scene 5"))
    await harness.make("scene 5")
    after = harness.engine.estimate(harness.command("scene 5"))
    fresh = harness.engine.estimate(harness.command("scene 5", Reuse.NEVER))
    assert before is not None and after is not None and fresh is not None
    assert before.picture_s == fresh.picture_s > 0.05
    assert after.picture_s == 0.0


async def test_a_closed_engine_refuses_stored_clips_too(open_kitchen: OpenKitchen) -> None:
    harness = await open_kitchen()
    await harness.make("scene 5")
    await harness.engine.close()
    with pytest.raises(EngineUnavailable):
        harness.engine.send(harness.command("scene 5"))


@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(1))
async def test_every_generation_ends_once_whatever_is_cancelled(
    open_kitchen: OpenKitchen, tmp_path: Path, seed: int
) -> None:
    """Hits from memory and disk, misses and cancels in random order."""
    harness = await open_kitchen(memory_bytes=2 * CLIP_BYTES, disk_bytes=50 * CLIP_BYTES, folder=tmp_path)
    chance = random.Random(seed)
    ends: list[str] = []
    for _ in range(60):
        command = harness.command(f"scene {chance.randrange(5)}", chance.choice(list(Reuse)))
        harness.engine.send(command)
        if chance.random() < 0.3:
            harness.engine.send(Cancel(command.generation_id))
        async for event in harness._events:
            if isinstance(event, GenerationFinished | GenerationCancelled):
                ends.append(event.generation_id)
                if event.generation_id == command.generation_id:
                    break
    assert ends == [f"s.{number}" for number in range(1, 61)]
    assert harness.count("disk_hits") > 0


# --- what is kept -------------------------------------------------------------------------------------------------


def test_the_clip_cheapest_per_byte_is_evicted_first_and_use_keeps_a_clip() -> None:
    ranking = Ranking(100)
    assert ranking.add("dear", 50, cost_s=10.0) == []
    assert ranking.add("cheap", 50, cost_s=1.0) == []
    assert ranking.add("new", 50, cost_s=2.0) == ["cheap"]
    for _ in range(9):
        ranking.use("new")
    assert ranking.add("newer", 50, cost_s=3.0) == ["dear"]


def test_a_clip_used_often_long_ago_is_evicted_at_last() -> None:
    ranking = Ranking(100)
    ranking.add("old star", 50, cost_s=1.0)
    for _ in range(20):
        ranking.use("old star")
    gone: list[str] = []
    for number in range(60):
        gone += ranking.add(f"passing {number}", 50, cost_s=1.0) or []
    assert "old star" in gone
    assert gone.index("old star") > 10


@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(1))
def test_a_store_never_holds_more_than_its_bound(seed: int) -> None:
    chance = random.Random(seed)
    ranking = Ranking(1000)
    sizes: dict[str, int] = {}
    for number in range(500):
        name, size = f"c{chance.randrange(80)}", chance.randrange(1, 1100)
        gone = ranking.add(name, size, chance.random())
        if gone is None:
            assert size > 1000
            continue
        sizes[name] = size
        for other in gone:
            del sizes[other]
        assert ranking.num_bytes == sum(sizes.values()) <= 1000
        if number % 3 == 0:
            ranking.use(name)


async def test_memory_is_bounded_and_can_be_off(open_kitchen: OpenKitchen) -> None:
    small = await open_kitchen(memory_bytes=2 * CLIP_BYTES)
    for number in range(5):
        await small.make(f"scene {number}")
    assert small.count("memory_bytes") == 2 * CLIP_BYTES
    assert small.count("evicted") == 3
    off = await open_kitchen(memory_bytes=0)
    for _ in range(2):
        assert not is_reused(await off.make("scene 5"))


# --- the disk -----------------------------------------------------------------------------------------------------


async def test_clips_on_disk_outlive_the_server(open_kitchen: OpenKitchen, tmp_path: Path) -> None:
    disk = {"disk_bytes": 10 * CLIP_BYTES, "folder": tmp_path}
    harness = await open_kitchen(**disk)
    first = await harness.make("scene 5 by night", seed=3)
    await harness.engine.close()
    later = await open_kitchen(**disk)
    again = await later.make("scene 5 by night", Reuse.SAME_SEED, seed=3)
    assert is_reused(again)
    assert np.array_equal(clip_of(first), clip_of(again))
    assert started(again).understood == ("scene", "5", "by", "night")
    assert is_reused(await later.make("scene 5 by night"))  # from memory now
    assert later.count("disk_hits") == 1


async def test_another_model_or_way_of_loading_has_clips_of_its_own(open_kitchen: OpenKitchen, tmp_path: Path) -> None:
    disk = {"disk_bytes": 10 * CLIP_BYTES, "folder": tmp_path}
    harness = await open_kitchen(marks="tiny decoder", **disk)
    await harness.make("scene 5")
    await harness.engine.close()
    assert not is_reused(await (await open_kitchen(marks="full decoder", **disk)).make("scene 5"))
    assert not is_reused(
        await (await open_kitchen(Script(frame_rate=24), marks="tiny decoder", **disk)).make("scene 5")
    )


async def test_nothing_that_a_client_wrote_is_on_disk(open_kitchen: OpenKitchen, tmp_path: Path) -> None:
    harness = await open_kitchen(disk_bytes=10 * CLIP_BYTES, folder=tmp_path)
    await harness.make("../../etc/passwd scene 5 私密的提示词")
    (file,) = tmp_path.iterdir()
    assert file.stem.isalnum() and file.suffix == ".clip"
    content = file.read_bytes()
    assert not any(word.encode() in content for word in ("passwd", "私密的提示词", "scene 5"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(file.read_bytes()[:-100] + bytes(100)[:-1] + b"x"),
        lambda file: file.write_bytes(b"something else"),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
    ],
    ids=["cut short", "a byte flipped", "of another kind", "empty", "gone"],
)
async def test_a_damaged_file_is_dropped_and_the_clip_made_again(
    open_kitchen: OpenKitchen, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    harness = await open_kitchen(memory_bytes=0, disk_bytes=10 * CLIP_BYTES, folder=tmp_path)
    await harness.make("scene 5")
    (file,) = tmp_path.iterdir()
    damage(file)
    again = await harness.make("scene 5")
    assert not is_reused(again)
    assert len(clip_of(again)) == 25
    assert harness.count("corrupted") == 1
    await harness.engine.settled()
    assert is_reused(await harness.make("scene 5"))  # it was written again


async def test_broken_files_are_removed_at_the_start_and_others_are_left_alone(
    open_kitchen: OpenKitchen, tmp_path: Path
) -> None:
    (tmp_path / "0123.clip").write_bytes(b"junk")
    (tmp_path / "writing-1.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    await open_kitchen(disk_bytes=10 * CLIP_BYTES, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


async def test_the_disk_is_bounded_also_when_the_bound_has_shrunk(open_kitchen: OpenKitchen, tmp_path: Path) -> None:
    harness = await open_kitchen(disk_bytes=4 * CLIP_BYTES, folder=tmp_path)
    for number in range(6):
        await harness.make(f"scene {number}")
        await harness.engine.settled()
    await harness.engine.close()
    assert len(list(tmp_path.iterdir())) == 3  # four and their headers are more than the bound
    shrunk = await open_kitchen(disk_bytes=2 * CLIP_BYTES, folder=tmp_path)
    await shrunk.engine.close()
    assert len(list(tmp_path.iterdir())) == 1


async def test_an_unwritable_disk_is_no_error(
    open_kitchen: OpenKitchen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    harness = await open_kitchen(disk_bytes=4 * CLIP_BYTES, folder=tmp_path / "file")
    await harness.make("scene 5")
    await harness.engine.settled()
    assert is_reused(await harness.make("scene 5"))
    assert "could not be written" in caplog.text


async def test_closing_leaves_no_task(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    engine = CachingEngine(SyntheticEngine(), CacheSettings(disk_bytes=CLIP_BYTES, folder=tmp_path))
    await engine.open()
    reader = asyncio.create_task(anext(engine.events()))
    await asyncio.sleep(0)
    await engine.close()
    await asyncio.wait([reader])
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_other_files_or_another_way_of_loading_have_another_fingerprint(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "model")
    load = LoadSettings(model=str(tmp_path / "model"))
    before = fingerprint(load)
    assert fingerprint(load) == before
    (tmp_path / "model" / "added.txt").write_bytes(b"1")
    assert fingerprint(load) != before
    (tmp_path / "ink.safetensors").write_bytes(b"1")
    assert fingerprint(replace(load, lora_folder=str(tmp_path))) != fingerprint(load)


def test_clips_go_to_the_users_cache_folder() -> None:
    assert default_folder({"XDG_CACHE_HOME": "/var/cache/me"}) == Path("/var/cache/me/sceneshift/clips")
    assert default_folder({}) == Path.home() / ".cache" / "sceneshift" / "clips"

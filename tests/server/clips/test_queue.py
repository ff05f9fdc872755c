"""The queue of clips: nothing is lost or made twice, live stages go first, and what is cancelled stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.api import GenerationEvent, GenerationStarted, Quality
from engine.synthetic import Fault, Script, SyntheticEngine
from server.accounts.payer import NOBODY, Payer, Reservation
from server.clips import rows
from server.clips.folder import VIDEO, ClipFolder, NoRoom
from server.clips.job import MAX_ATTEMPTS, ClipError, Failure, Job, Spec
from server.clips.queue import ClipQueue
from server.clips.writer import pictures_of
from server.clock import MonotonicClock
from server.protocol.errors import Refused
from server.session.generations import Generations
from server.store.store import FILE_NAME, Store, StoreError

FAST = Script(step_s=0.001, decode_s=0.001)


class Shop:
    """A queue with a synthetic engine, on a store that may outlive it."""

    def __init__(self, tmp_path: Path, script: Script = FAST) -> None:
        self.store = Store(tmp_path / FILE_NAME)
        self.store.open()
        self.folder = ClipFolder(tmp_path / "clips", min_free_bytes=0)
        self.engine = SyntheticEngine(script)
        self.generations = Generations()
        self.now = 1000.0
        self.events: list[GenerationEvent] = []
        self.queue = ClipQueue(
            self.store,
            self.folder,
            self.engine,
            self.generations,
            clock=MonotonicClock(),
            wall_time=lambda: self.now,
            lives_s=100.0,
        )

    async def order(self, prompt: str = "scene 5", *, tenant: str = "a", **spec: Any) -> Job:
        wish = Spec(**({"prompt": prompt, "seconds": 2.0, "width": 224, "height": 128, "seed": 1} | spec))
        job = await self.store.ask(partial(rows.add, tenant=tenant, spec=wish, now=self.now))
        assert job is not None
        self.queue.wake()
        return job

    async def job(self, job: Job) -> Job:
        found = await self.store.ask(partial(rows.find, video_id=job.id, tenant=None))
        assert found is not None
        return found

    async def until(self, is_true: Callable[[], Awaitable[Any]]) -> None:
        async with asyncio.timeout(60):
            while not await is_true():  # noqa: ASYNC110  rows of the store
                await asyncio.sleep(0.005)

    async def ended(self, job: Job) -> Job:
        async def has_ended() -> bool:
            return (await self.job(job)).has_ended

        await self.until(has_ended)
        return await self.job(job)

    async def told(self) -> list[tuple[str, str]]:
        return await self.store.ask(
            lambda connection: connection.execute("SELECT type, video_id FROM events ORDER BY number").fetchall()
        )

    async def relay(self) -> None:
        async for event in self.engine.events():
            owner = self.generations.owner_of(event) if isinstance(event, GenerationEvent) else None  # type: ignore[arg-type]
            if owner is not None:
                self.events.append(event)  # type: ignore[arg-type]
                owner.on_generation_event(event)  # type: ignore[arg-type]
            self.queue.wake()


@asynccontextmanager
async def running(tmp_path: Path, script: Script = FAST, *, ends_well: bool = True) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path, script)
    await shop.engine.open()
    tasks = [asyncio.create_task(shop.relay()), asyncio.create_task(shop.queue.run())]
    try:
        yield shop
    finally:
        if ends_well:
            await shop.queue.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for making in shop.queue._making.values():  # a server that was killed has no tasks either
            assert making.task is not None
            making.is_cancelled = True
            making.task.cancel()
        await shop.engine.close()
        shop.store.close()


async def test_a_clip_is_made_once_and_told_once(tmp_path: Path) -> None:
    async with running(tmp_path) as shop:
        job = await shop.ended(await shop.order())
        assert (job.status, job.attempt) == ("completed", 1)
        assert job.made is not None and job.made.seconds == 2.0 and job.expires_at == 1100.0
        assert await shop.told() == [("video.completed", job.id)]
        assert sum(isinstance(event, GenerationStarted) for event in shop.events) == 1


async def test_what_a_killed_server_had_begun_is_made_by_the_next(tmp_path: Path) -> None:
    slow = Script(step_s=60.0)
    async with running(tmp_path, slow, ends_well=False) as shop:
        jobs = [await shop.order(seed=seed) for seed in range(3)]

        async def is_begun() -> bool:
            return (await shop.job(jobs[0])).status == "in_progress"

        await shop.until(is_begun)
    (tmp_path / "clips" / "ab" / "video_abandoned.part").mkdir(parents=True)
    async with running(tmp_path) as shop:
        ended = [await shop.ended(job) for job in jobs]
        assert [job.status for job in ended] == ["completed"] * 3
        assert sorted(await shop.told()) == sorted(("video.completed", job.id) for job in jobs)
        assert not (tmp_path / "clips" / "ab").exists() or not list((tmp_path / "clips" / "ab").glob("*.part"))


async def test_a_clip_that_ends_three_servers_is_given_up(tmp_path: Path) -> None:
    for _ in range(MAX_ATTEMPTS):
        async with running(tmp_path, Script(step_s=60.0), ends_well=False) as shop:
            known = await shop.store.ask(partial(rows.page, tenant="a", after=None, limit=1, is_ascending=True))
            job = known[0][0] if known and known[0] else await shop.order()

            async def is_begun(shop: Shop = shop, job: Job = job) -> bool:
                return (await shop.job(job)).status == "in_progress"

            await shop.until(is_begun)
    async with running(tmp_path) as shop:
        job = await shop.ended(job)
        assert job.failure is not None and job.failure.code == "engine_lost"
        assert await shop.told() == [("video.failed", job.id)]


async def test_a_server_that_stops_in_order_counts_no_attempt(tmp_path: Path) -> None:
    async with running(tmp_path, Script(step_s=60.0)) as shop:
        job = await shop.order()

        async def is_begun() -> bool:
            return (await shop.job(job)).status == "in_progress"

        await shop.until(is_begun)
    store = Store(tmp_path / FILE_NAME)
    store.open()
    stopped = store.ask_now(partial(rows.find, video_id=job.id, tenant=None))
    assert stopped is not None and (stopped.status, stopped.attempt) == ("queued", 0)
    store.close()


async def test_a_clip_that_is_claimed_while_the_server_stops_is_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_claiming, may_go, claim = threading.Event(), threading.Event(), rows.claim

    def slow(*arguments: Any, **named: Any) -> Job | None:
        job = claim(*arguments, **named)
        if job is not None:
            is_claiming.set()
            may_go.wait(60)
        return job

    monkeypatch.setattr(rows, "claim", slow)
    async with running(tmp_path, Script(step_s=60.0)) as shop:
        ordered = await shop.order()
        assert await asyncio.to_thread(is_claiming.wait, 60)
        closing = asyncio.create_task(shop.queue.close())
        await asyncio.sleep(0)
        may_go.set()
        await closing
        job = await shop.job(ordered)
        assert (job.status, job.attempt) == ("queued", 0)


async def test_a_failed_attempt_is_made_again(tmp_path: Path) -> None:
    async with running(tmp_path, Script(step_s=0.001, faults={5: Fault.FAIL})) as shop:
        once = await shop.ended(await shop.order("scene 5"))
    assert (once.status, once.attempt) == ("completed", 2)


async def test_a_cancelled_clip_stops_the_engine_at_its_step(tmp_path: Path) -> None:
    async with running(tmp_path, Script(step_s=0.05, num_steps={Quality.FAST: 1000, Quality.FINE: 1000})) as shop:
        job = await shop.order()

        async def is_under_way() -> bool:
            return any(isinstance(event, GenerationStarted) for event in shop.events)

        await shop.until(is_under_way)
        await shop.store.ask(partial(rows.delete, video_id=job.id))
        await shop.queue.cancel(job.id)

        async def is_free() -> bool:
            return shop.engine.statistics().in_flight == 0

        await shop.until(is_free)
        assert shop.engine.statistics().num_cancelled == 1 and shop.queue.num_being_made == 0


async def test_a_key_without_a_budget_makes_no_clip_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broke(Payer):
        def reserve(self, seconds: float) -> Reservation:
            raise Refused("budget_exhausted", "the key `a` has used up its 5 engine seconds")

    async with running(tmp_path) as shop:
        monkeypatch.setattr(shop.queue, "_payer_of", lambda tenant: Broke() if tenant == "a" else NOBODY)
        broke, other = await shop.order(tenant="a"), await shop.order(tenant="b")
        ended = await shop.ended(broke)
        assert ended.failure is not None and ended.failure.code == "budget_exhausted"
        assert (await shop.ended(other)).status == "completed"


async def test_equal_clips_are_made_one_after_the_other(tmp_path: Path) -> None:
    """So the second is answered by the clip cache."""
    async with running(tmp_path, Script(step_s=60.0)) as shop:
        first, equal, other = await shop.order(seed=1), await shop.order(seed=1), await shop.order(seed=2)

        async def is_begun() -> bool:
            return (await shop.job(other)).status == "in_progress"

        await shop.until(is_begun)
        assert [(await shop.job(job)).status for job in (first, equal)] == ["in_progress", "queued"]


async def test_a_busy_writer_does_not_keep_a_cancelled_clip_in_the_engine(tmp_path: Path) -> None:
    """The thread that writes files has a low priority. On a busy machine, the engine worked on for 27 s."""
    async with running(tmp_path, Script(step_s=0.05, num_steps={Quality.FAST: 1000, Quality.FINE: 1000})) as shop:
        job = await shop.order()

        async def is_under_way() -> bool:
            return any(isinstance(event, GenerationStarted) for event in shop.events)

        await shop.until(is_under_way)
        is_free = threading.Event()
        writing = asyncio.create_task(shop.queue._in_thread(is_free.wait))
        await shop.store.ask(partial(rows.delete, video_id=job.id))
        cancelling = asyncio.create_task(shop.queue.cancel(job.id))

        async def has_stopped() -> bool:
            return shop.engine.statistics().num_cancelled == 1

        try:
            await shop.until(has_stopped)
            assert not cancelling.done()
        finally:
            is_free.set()
        await asyncio.gather(writing, cancelling)


async def test_customers_take_turns(tmp_path: Path) -> None:
    """A thousand clips of one do not keep another waiting."""
    async with running(tmp_path) as shop:
        many = [await shop.order(tenant="many", seed=seed) for seed in range(10)]
        one = await shop.order(tenant="one")
        await shop.ended(one)
        assert sum([(await shop.job(job)).has_ended for job in many]) <= 4


async def test_a_full_disk_makes_clips_wait_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.clips.queue.NO_ROOM_PAUSE_S", 0.05)
    async with running(tmp_path) as shop:
        begin, refusals = shop.folder.begin, iter([True, True, False])

        def full_for_a_while(video_id: str) -> Path:
            if next(refusals, False):
                raise NoRoom("the disk of the clips is full")
            return begin(video_id)

        monkeypatch.setattr(shop.folder, "begin", full_for_a_while)
        job = await shop.ended(await shop.order())
        assert (job.status, job.attempt) == ("completed", 1)


async def test_an_end_that_a_full_disk_kept_from_the_store_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the clip's end nor its return to the queue could be written: it must not stay in progress for ever."""
    monkeypatch.setattr("server.clips.queue.NO_ROOM_PAUSE_S", 0.05)
    async with running(tmp_path) as shop:
        ask, refused = shop.store.ask, list[str]()

        async def ask_a_full_disk(work: Any) -> Any:
            name = work.func.__name__ if isinstance(work, partial) else ""
            is_full = 0 < len(refused) < 4 or (name == "complete" and not refused)
            if is_full and name in ("complete", "put_back", "claim"):
                refused.append(name)
                raise StoreError("database or disk is full")
            return await ask(work)

        monkeypatch.setattr(shop.store, "ask", ask_a_full_disk)
        job = await shop.ended(await shop.order())
        assert refused[:2] == ["complete", "put_back"]
        assert (job.status, job.attempt) == ("completed", 1)
        assert await shop.told() == [("video.completed", job.id)]


async def test_a_clip_ends_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.clips.queue.SWEEP_EVERY_S", 0.0)
    async with running(tmp_path) as shop:
        job = await shop.ended(await shop.order())
        shop.now += 100.0

        async def is_gone() -> bool:
            return await shop.store.ask(partial(rows.find, video_id=job.id, tenant=None)) is None

        await shop.until(is_gone)

        async def has_no_file() -> bool:
            return shop.folder.find(job.id, VIDEO) is None

        await shop.until(has_no_file)


@pytest.mark.parametrize("code", [ClipError.MODEL_ERROR, ClipError.CANCELLED])
async def test_the_words_of_a_clip_that_failed_have_an_end_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: ClipError
) -> None:
    monkeypatch.setattr("server.clips.queue.SWEEP_EVERY_S", 0.0)
    monkeypatch.setattr("server.clips.queue.POLL_S", 0.01)
    async with running(tmp_path, Script(step_s=60.0)) as shop:
        job = await shop.order()
        await shop.store.ask(partial(rows.fail, video_id=job.id, failure=Failure(code, "no"), now=shop.now))
        shop.now += 99.9
        for _ in range(5):
            shop.queue.wake()
            await asyncio.sleep(0.01)
        assert (await shop.job(job)).spec.prompt == "scene 5"
        shop.now += 0.1

        async def is_gone() -> bool:
            return not any(b"scene 5" in path.read_bytes() for path in tmp_path.glob(f"{FILE_NAME}*"))

        assert not await is_gone()
        await shop.until(is_gone)
        assert await shop.store.ask(partial(rows.find, video_id=job.id, tenant=None)) is None


async def test_a_long_clip_goes_on_from_its_last_frame(tmp_path: Path) -> None:
    async with running(tmp_path, Script(step_s=0.001, can_start_from_frame=True)) as shop:
        job = await shop.ended(await shop.order(seconds=8.0))
        assert job.made is not None and job.made.seconds == 8.0
        starts = [event for event in shop.events if isinstance(event, GenerationStarted)]
        assert len(starts) == 4  # 25 frames, then 24 new ones each


async def test_an_extension_has_the_clip_before_it_whole(tmp_path: Path) -> None:
    async with running(tmp_path, Script(step_s=0.001, can_start_from_frame=True)) as shop:
        first = await shop.ended(await shop.order("scene 5", seconds=2.0))
        second = await shop.ended(await shop.order("scene 9", seconds=4.0, source_id=first.id))
        assert second.made is not None and second.made.seconds == 6.0
        one, both = (
            [picture.to_ndarray(format="gray") for picture in pictures_of(path)] for path in files(shop, first, second)
        )
        assert len(both) == 3 * len(one)
        assert np.abs(one[10].astype(int) - both[10].astype(int)).mean() < 3
        assert np.abs(both[10].astype(int) - both[-1].astype(int)).mean() > 3


def files(shop: Shop, *jobs: Job) -> list[Path]:
    found = [shop.folder.find(job.id, VIDEO) for job in jobs]
    assert all(found)
    return [path for path in found if path is not None]


async def test_an_erased_user_leaves_neither_words_nor_files(tmp_path: Path) -> None:
    async with running(tmp_path) as shop:
        spec = Spec(prompt="private words", seconds=1.0, width=224, height=128, seed=1)
        add = partial(rows.add, tenant="a", spec=spec, now=shop.now, user="anna")
        job = await shop.store.ask(add)
        assert job is not None
        await shop.ended(job)
        other = await shop.ended(await shop.order())
        assert await shop.store.ask(partial(rows.erase, tenant="a", user="anna")) == [job.id]
        known = await shop.store.ask(rows.all_ids)
        shop.folder.sweep(known)
        assert known == {other.id} and shop.folder.find(job.id, VIDEO) is None

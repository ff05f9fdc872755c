"""Deliveries: each end of a clip reaches the endpoints that want it, at least once, whatever a receiver does."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hmac
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from receiver import Got, Receiver, held, receiving

from server.clips import rows as clips
from server.clips.job import ClipError, Failure, Made, Spec
from server.clock import FakeClock
from server.store.store import FILE_NAME, Store
from server.webhooks import courier as module
from server.webhooks import rows, signing
from server.webhooks.courier import JITTER, SCHEDULE_S, Courier
from server.webhooks.rows import EVENT_TYPES, Delivery, Endpoint
from server.webhooks.sender import Sender

MADE = Made("synthetic", 2.0, 12, 224, 128, 1000, 0.5)


class CourierHarness:
    """A courier with a clock of its own, and a store in which clips end."""

    def __init__(self, receiver: Receiver, path: Path) -> None:
        self.receiver = receiver
        self.store = Store(path)
        self.store.open()
        self.clock = FakeClock()
        self.now = 1_800_000_000.0
        self.revoked: set[str] = set()
        self.draw = 0.5
        self.courier = Courier(
            self.store,
            Sender(is_local=True, timeout_s=60.0),
            clock=self.clock,
            wall_time=lambda: self.now,
            link=lambda video_id: f"/signed/{video_id}",
            is_good=lambda tenant: tenant not in self.revoked,
            draw=lambda: self.draw,
        )

    async def endpoint(self, path: str, *, tenant: str = "a", types: tuple[str, ...] = EVENT_TYPES) -> Endpoint:
        add = partial(
            rows.add_endpoint,
            tenant=tenant,
            name="mine",
            url=self.receiver.url + path,
            event_types=types,
            secret=signing.new_secret(),
            now=self.now,
        )
        endpoint = await self.store.ask(add)
        assert endpoint is not None
        return endpoint

    async def clip(self, *, tenant: str = "a", fails: bool = False, **more: Any) -> str:
        """A clip that has ended. Gives its id."""
        spec = Spec(prompt="private words", seconds=2.0, width=224, height=128, seed=1)
        job = await self.store.ask(partial(clips.add, tenant=tenant, spec=spec, now=self.now, **more))
        assert job is not None

        def end(connection: sqlite3.Connection) -> None:
            clips.claim(connection, (), self.now)
            if fails:
                clips.fail(connection, job.id, Failure(ClipError.MODEL_ERROR, "no"), self.now)
            else:
                clips.complete(connection, job.id, MADE, now=self.now, expires_at=self.now + 100)

        await self.store.ask(end)
        return job.id

    async def deliveries(self, endpoint: Endpoint) -> list[Delivery]:
        return await self.store.ask(partial(rows.deliveries, endpoint_id=endpoint.id, before=None, limit=100))

    async def until(self, is_true: Callable[[], Any]) -> None:
        """Lets the courier look each second until it is so."""
        async with asyncio.timeout(60):
            while not is_true():
                await self.clock.advance(module.POLL_S)
                await asyncio.sleep(0.002)

    async def attempted(self, endpoint: Endpoint, times: int) -> Delivery:
        """The newest delivery, after so many attempts."""
        async with asyncio.timeout(60):
            while (newest := (await self.deliveries(endpoint))[0]).attempts < times:
                await self.clock.advance(module.POLL_S)
                await asyncio.sleep(0.002)
        return newest

    async def idle(self) -> None:
        """The courier has looked several times, and nothing is under way."""
        for _ in range(5):
            await self.clock.advance(module.POLL_S)
            await asyncio.sleep(0.02)
        await self.until(lambda: not self.courier._serving)


@asynccontextmanager
async def working(receiver: Receiver, path: Path) -> AsyncIterator[CourierHarness]:
    harness = CourierHarness(receiver, path)
    task = asyncio.create_task(harness.courier.run())
    try:
        yield harness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        harness.store.close()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest_asyncio.fixture
async def harness(receiver: Receiver, tmp_path: Path) -> AsyncIterator[CourierHarness]:
    async with working(receiver, tmp_path / FILE_NAME) as harness:
        yield harness


def signatures(got: Got, *secrets: str) -> str:
    """What Standard Webhooks says of the header."""
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    return " ".join(
        "v1,"
        + base64.b64encode(
            hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, "sha256").digest()
        ).decode()
        for secret in secrets
    )


async def test_an_end_is_told_to_the_endpoints_of_its_key_that_want_it(harness: CourierHarness) -> None:
    completed = await harness.endpoint("/completed", types=("video.completed",))
    await harness.endpoint("/failed", types=("video.failed",))
    await harness.endpoint("/other", tenant="b")
    video_id = await harness.clip(metadata={"order": "7"})
    await harness.until(lambda: harness.receiver.got)
    await harness.idle()
    (got,) = harness.receiver.got
    assert got.path == "/completed"
    assert got.event == {
        "id": got.headers["webhook-id"],
        "object": "event",
        "type": "video.completed",
        "created_at": int(harness.now),
        "data": {"id": video_id, "metadata": {"order": "7"}, "content_url": f"/signed/{video_id}"},
    }
    assert got.headers["webhook-signature"] == signatures(got, completed.secret)
    (delivery,) = await harness.deliveries(completed)
    assert (delivery.status, delivery.attempts, delivery.status_code) == ("delivered", 1, 200)
    assert b"private" not in got.body


async def test_a_failed_clip_is_told_without_a_link(harness: CourierHarness) -> None:
    await harness.endpoint("/hook")
    video_id = await harness.clip(fails=True)
    await harness.until(lambda: harness.receiver.got)
    event = harness.receiver.got[0].event
    assert (event["type"], event["data"]) == ("video.failed", {"id": video_id, "metadata": {}})


async def test_a_clip_that_was_deleted_meanwhile_is_told_by_its_id(harness: CourierHarness) -> None:
    await harness.endpoint("/hook")
    harness.revoked.add("a")  # holds the courier back
    video_id = await harness.clip(metadata={"order": "7"})
    await harness.store.ask(partial(clips.delete, video_id=video_id))
    harness.revoked.clear()
    await harness.until(lambda: harness.receiver.got)
    assert harness.receiver.got[0].event["data"] == {"id": video_id}


async def test_what_fails_is_sent_again_over_three_days_with_the_same_id(harness: CourierHarness) -> None:
    harness.receiver.answers["/hook"] = 500
    endpoint = await harness.endpoint("/hook")
    await harness.clip()
    for number in range(1, len(SCHEDULE_S)):
        delivery = await harness.attempted(endpoint, number)
        assert (delivery.status, delivery.status_code) == ("pending", 500)
        assert delivery.next_try_at == pytest.approx(harness.now + SCHEDULE_S[number] * (1 + JITTER / 2))
        harness.now = delivery.next_try_at - 0.1
        await harness.idle()
        assert len(harness.receiver.got) == number
        harness.now = delivery.next_try_at
    last = await harness.attempted(endpoint, len(SCHEDULE_S))
    assert (last.status, last.next_try_at) == ("failed", None)
    assert len({got.headers["webhook-id"] for got in harness.receiver.got}) == 1
    # Each attempt has a time of its own, or a receiver would refuse it as replayed.
    assert len({got.headers["webhook-timestamp"] for got in harness.receiver.got}) == len(SCHEDULE_S)


@pytest.mark.parametrize("form", ["seconds", "date", "too long", "nonsense"])
async def test_a_receiver_says_when_to_come_back(harness: CourierHarness, form: str) -> None:
    asked = {
        "seconds": "900",
        "date": email.utils.formatdate(harness.now + 900),
        "too long": "9" * 30,
        "nonsense": "soon",
    }
    harness.receiver.headers["Retry-After"] = asked[form]
    harness.receiver.answers["/hook"] = 503
    endpoint = await harness.endpoint("/hook")
    await harness.clip()
    wait_s = {"too long": 86_400.0, "nonsense": SCHEDULE_S[1] * (1 + JITTER / 2)}.get(form, 900.0)
    assert (await harness.attempted(endpoint, 1)).next_try_at == pytest.approx(harness.now + wait_s)


async def test_a_receiver_that_is_gone_gets_nothing_more_until_its_owner_changes_it(harness: CourierHarness) -> None:
    harness.receiver.answers["/hook"] = 410
    endpoint = await harness.endpoint("/hook")
    for _ in range(3):
        await harness.clip()
    await harness.until(lambda: harness.receiver.got)
    await harness.idle()
    await harness.clip()
    await harness.idle()
    assert len(harness.receiver.got) == 1
    assert [one.status for one in await harness.deliveries(endpoint)] == ["failed"] * 3  # the fourth was not for it
    harness.receiver.answers.clear()
    change = partial(
        rows.change_endpoint, endpoint_id=endpoint.id, name=None, url=None, event_types=None, now=harness.now
    )
    await harness.store.ask(change)
    last = await harness.clip()
    await harness.until(lambda: len(harness.receiver.got) == 2)
    assert harness.receiver.got[1].event["data"]["id"] == last


async def test_a_slow_receiver_holds_up_no_other(harness: CourierHarness) -> None:
    may_answer = asyncio.Event()
    harness.receiver.answers["/slow"] = held(may_answer)
    slow, fast = await harness.endpoint("/slow"), await harness.endpoint("/fast")
    ids = [await harness.clip() for _ in range(3)]
    await harness.until(lambda: len(harness.receiver.at("/fast")) == 3)
    assert [got.event["data"]["id"] for got in harness.receiver.at("/fast")] == ids
    assert len(harness.receiver.at("/slow")) == 1  # one at a time
    may_answer.set()
    await harness.until(lambda: len(harness.receiver.at("/slow")) == 3)
    await harness.idle()
    for endpoint in (slow, fast):
        assert {one.status for one in await harness.deliveries(endpoint)} == {"delivered"}


async def test_the_slow_receivers_of_one_key_leave_places_for_another(harness: CourierHarness) -> None:
    never = asyncio.Event()
    for number in range(module.MOST_OF_A_TENANT + 4):
        harness.receiver.answers[f"/slow{number}"] = held(never)
        await harness.endpoint(f"/slow{number}", tenant="many")
    await harness.endpoint("/hook", tenant="one")
    await harness.clip(tenant="many")
    await harness.until(lambda: len(harness.receiver.got) == module.MOST_OF_A_TENANT)
    await harness.clip(tenant="one")
    await harness.until(lambda: harness.receiver.at("/hook"))
    assert len(harness.receiver.got) == module.MOST_OF_A_TENANT + 1
    never.set()


async def test_endpoints_take_turns_if_there_are_more_than_places(
    harness: CourierHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose deliveries fail and are due again does not take the place of the next."""
    monkeypatch.setattr(module, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(module, "SCHEDULE_S", (0.0,) * 1000)
    for path in ("/one", "/two", "/three"):
        harness.receiver.answers[path] = 500
        await harness.endpoint(path)
    await harness.clip()
    await harness.until(lambda: len(harness.receiver.got) >= 9)
    assert {len(harness.receiver.at(path)) for path in ("/one", "/two", "/three")} <= {2, 3, 4}


async def test_a_revoked_keys_events_stay_here(harness: CourierHarness) -> None:
    await harness.endpoint("/hook")
    harness.revoked.add("a")
    await harness.clip()
    await harness.idle()
    assert harness.receiver.got == []


async def test_during_a_rotation_both_secrets_sign(harness: CourierHarness) -> None:
    endpoint = await harness.endpoint("/hook")
    new = signing.new_secret()
    rotate = partial(rows.rotate_secret, endpoint_id=endpoint.id, secret=new, keeps_old=True, now=harness.now)
    await harness.store.ask(rotate)
    await harness.clip()
    await harness.until(lambda: harness.receiver.got)
    assert harness.receiver.got[0].headers["webhook-signature"] == signatures(
        harness.receiver.got[0], new, endpoint.secret
    )
    harness.now += 86_400.0
    await harness.clip()
    await harness.until(lambda: len(harness.receiver.got) == 2)
    assert harness.receiver.got[1].headers["webhook-signature"] == signatures(harness.receiver.got[1], new)


async def test_an_answer_that_cannot_be_written_down_does_not_make_a_flood(
    harness: CourierHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await harness.endpoint("/hook")
    with monkeypatch.context() as patch:
        patch.setattr(rows, "record", full)
        await harness.clip()
        await harness.until(lambda: harness.receiver.got)
        await harness.until(lambda: not harness.courier._serving)
        for _ in range(int(module.NO_STORE_PAUSE_S) - 2):
            await harness.clock.advance(1.0)
            await asyncio.sleep(0.005)
        assert len(harness.receiver.got) == 1
    await harness.until(lambda: len(harness.receiver.got) == 2)
    assert len({got.headers["webhook-id"] for got in harness.receiver.got}) == 1


async def test_what_a_stopped_server_had_under_way_is_sent_by_the_next(receiver: Receiver, tmp_path: Path) -> None:
    never = asyncio.Event()
    receiver.answers["/hook"] = held(never)
    async with working(receiver, tmp_path / FILE_NAME) as harness:
        await harness.endpoint("/hook")
        await harness.clip()
        await harness.until(lambda: receiver.got)
    receiver.answers.clear()
    async with working(receiver, tmp_path / FILE_NAME) as harness:
        await harness.until(lambda: len(receiver.got) == 2)
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    never.set()


async def test_old_events_and_those_beyond_the_bound_of_a_key_are_forgotten(
    harness: CourierHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_EVENTS", 3)
    endpoint, other = await harness.endpoint("/hook"), await harness.endpoint("/other", tenant="b")
    await harness.clip(tenant="b")
    harness.now += rows.LIVE_S
    harness.revoked |= {"a", "b"}
    ids = [await harness.clip() for _ in range(5)]
    await harness.store.ask(partial(rows.prune, now=harness.now))
    assert [one.video_id for one in await harness.deliveries(endpoint)] == ids[:1:-1]
    assert await harness.deliveries(other) == []


async def test_the_look_each_second_does_not_read_all_that_waits(harness: CourierHarness) -> None:
    """Counted in tens of SQLite's instructions, with 20 and with 2,000 deliveries of a receiver that is down."""
    endpoint = await harness.endpoint("/hook")
    harness.revoked.add("a")
    event = (await harness.clip(), (await harness.deliveries(endpoint))[0].event_id)[1]

    def cost(connection: sqlite3.Connection) -> int:
        calls: list[None] = []
        connection.set_progress_handler(lambda: calls.append(None), 10)
        assert rows.due_endpoints(connection, harness.now) == [(endpoint.id, "a")]
        assert rows.next_due(connection, endpoint.id, harness.now) is not None
        connection.set_progress_handler(None, 0)
        return len(calls)

    def wait(connection: sqlite3.Connection, num: int) -> None:
        insert = "INSERT INTO deliveries (id, endpoint_id, event_id, next_try_at) VALUES (hex(randomblob(9)), ?, ?, ?)"
        connection.executemany(insert, [(endpoint.id, event, harness.now)] * num)

    await harness.store.ask(partial(wait, num=20))
    few = await harness.store.ask(cost)
    await harness.store.ask(partial(wait, num=2000))
    assert await harness.store.ask(cost) <= few + 5

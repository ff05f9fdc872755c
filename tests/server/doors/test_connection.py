"""A controller's connection on a transport of the test's: its pace, its end when it floods, and its time to begin."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

import pytest
from fakes import FakeEngine, FakeProgram

from server.accounts.account import Account
from server.accounts.payer import NOBODY, Payer
from server.clock import FakeClock
from server.doors.access.client_secrets import Identity
from server.doors.connection import SESSION_WITHIN_S, Connection
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail
from server.protocol.limits import Limits
from server.session.limits import FRAMES_PER_TURN, MAX_REFUSED
from server.session.registry import KEEP_DETACHED_S, Registry
from server.session.session import Neighbours, SessionState

PING = '{"type":"session.ping"}'


class FakeTransport:
    """Gives what the test wrote, without a pause while there is more; keeps what it is told."""

    is_carried_by_program = False

    def __init__(self, frames: Iterable[str | None] = ()) -> None:
        self._frames = iter(frames)
        self._more: asyncio.Queue[str | None] = asyncio.Queue()
        self.num_read = 0
        self.sent: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.is_closed = False

    def say(self, kind: str, **fields: object) -> None:
        self._more.put_nowait(json.dumps({"type": kind, **fields}))

    async def frames(self) -> AsyncGenerator[str | bytes | None, None]:
        for frame in self._frames:
            self.num_read += 1
            yield frame
        while True:
            frame = await self._more.get()
            self.num_read += 1
            yield frame

    async def send(self, text: str) -> None:
        self.sent.append(json.loads(text))

    async def close(self, *, is_going_away: bool = False) -> None:
        self.is_closed = True

    async def refuse(self, detail: ErrorDetail) -> None:
        self.refused.append(detail.code)

    def abort(self) -> None:
        self.is_closed = True

    def codes(self) -> list[str]:
        return [message["error"]["code"] for message in self.sent if message["type"] == "error"]


class Desk:
    """A registry with room for two, and connections to it."""

    def __init__(self) -> None:
        self.clock, self.metrics = FakeClock(), Metrics()
        self.registry = Registry(
            Neighbours(FakeEngine(), self.metrics, self.clock, make_program=FakeProgram), max_sessions=2, max_queued=2
        )
        self._running: list[asyncio.Task[None]] = []

    def connect(self, transport: FakeTransport, payer: Payer = NOBODY) -> asyncio.Task[None]:
        connection = Connection(
            transport,
            self.registry,
            identity=Identity(tenant=""),
            metrics=self.metrics,
            clock=self.clock,
            payer=payer,
        )
        self._running.append(asyncio.create_task(connection.run()))
        return self._running[-1]

    async def controller(self) -> tuple[FakeTransport, asyncio.Task[None]]:
        """One with a session."""
        transport = FakeTransport()
        running = self.connect(transport)
        transport.say("session.start")
        await self.clock.advance(0)
        assert transport.sent[0]["type"] == "session.created"
        return transport, running

    async def close(self) -> None:
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.registry.close()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.registry.open()
    yield desk
    await desk.close()


# --- pace ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [PING, None, "hello"], ids=["messages", "control pings", "nonsense"])
async def test_a_flood_is_read_at_the_buckets_pace_and_then_cut_off(desk: Desk, frame: str | None) -> None:
    transport = FakeTransport(itertools.repeat(frame))
    running = desk.connect(transport)
    await desk.clock.advance(0)
    assert transport.num_read == 201  # the burst, and the one that was refused
    await desk.clock.advance(1.0)
    assert 290 <= transport.num_read <= 310  # fifty pass, and each is followed by one that is refused
    assert transport.codes().count("rate_limited") == transport.num_read - 250 and not transport.refused
    await desk.clock.advance(2.0)
    assert running.done() and transport.refused == ["rate_limited"]
    assert transport.codes().count("rate_limited") == MAX_REFUSED
    assert desk.metrics.registry.get_sample_value("sceneshift_refusals_total", {"code": "rate_limited"}) == 101


async def test_a_message_too_many_now_and_then_cuts_nobody_off(desk: Desk) -> None:
    transport, running = await desk.controller()
    for _ in range(30):
        for _ in range(210):  # more than the burst, and then a pause
            transport.say("session.ping")
        await desk.clock.advance(5.0)
    assert not running.done() and not transport.refused
    assert set(transport.codes()) == {"rate_limited"}


async def test_prompts_beyond_their_bucket_are_answered_and_no_flood(desk: Desk) -> None:
    transport, running = await desk.controller()
    for number in range(150):
        transport.say("prompt.set", text=f"scene {number}")
    await desk.clock.advance(0)
    assert transport.codes() == ["rate_limited"] * 110
    assert not running.done() and not transport.refused


async def test_a_full_buffer_gives_the_other_tasks_turns(desk: Desk) -> None:
    transport, num_turns = FakeTransport([PING] * 160), 0
    desk.connect(transport)
    while transport.num_read < 160:
        await asyncio.sleep(0)
        num_turns += 1
    assert num_turns >= 160 // FRAMES_PER_TURN


async def test_a_new_connection_does_not_refill_the_sessions_bucket(desk: Desk) -> None:
    first, running = await desk.controller()
    created = first.sent[0]
    for _ in range(200):
        first.say("session.ping")
    await desk.clock.advance(0)
    running.cancel()
    again = FakeTransport()
    desk.connect(again)
    again.say("session.resume", session_id=created["session_id"], resume_token=created["resume_token"])
    again.say("session.ping")
    await desk.clock.advance(0)
    assert again.codes() == ["rate_limited"]


async def test_the_connections_of_one_payer_share_a_bucket(desk: Desk) -> None:
    payer = Payer((Account("this address", Limits(messages_per_s=0.75), clock=desk.clock, wall_time=lambda: 0.0),))
    transports = [FakeTransport([PING] * 2) for _ in range(2)]
    for transport in transports:
        desk.connect(transport, payer)
    await desk.clock.advance(0)
    assert [transport.codes() for transport in transports] == [[], ["rate_limited"]]


# --- the time to begin --------------------------------------------------------------------------------------------


async def test_a_connection_that_starts_no_session_is_closed(desk: Desk) -> None:
    transport = FakeTransport([PING])
    running = desk.connect(transport)
    await desk.clock.advance(SESSION_WITHIN_S - 1)
    transport.say("session.ping")  # does not help
    await desk.clock.advance(0)
    assert not running.done()
    await desk.clock.advance(1)
    assert running.done() and transport.refused == ["no_session"]


async def test_a_connection_with_a_session_may_be_silent(desk: Desk) -> None:
    transport, running = await desk.controller()
    await desk.clock.advance(3 * SESSION_WITHIN_S)
    assert not running.done() and not transport.refused


async def test_a_controller_in_the_queue_is_not_closed_while_it_waits(desk: Desk) -> None:
    (_, first), _ = await desk.controller(), await desk.controller()
    waiting = FakeTransport()
    running = desk.connect(waiting)
    waiting.say("session.start")
    await desk.clock.advance(3 * SESSION_WITHIN_S)
    assert {message["type"] for message in waiting.sent} == {"session.queued"}
    assert not running.done()
    first.cancel()
    await desk.clock.advance(KEEP_DETACHED_S + 1)
    assert "session.created" in {message["type"] for message in waiting.sent} and not waiting.refused


async def test_a_flooding_controller_leaves_its_session_to_be_resumed(desk: Desk) -> None:
    transport, running = await desk.controller()
    for _ in range(1000):
        transport.say("session.ping")
    await desk.clock.advance(5)
    assert running.done() and transport.refused == ["rate_limited"]
    (session,) = desk.registry._sessions.values()
    assert session.state is SessionState.DETACHED

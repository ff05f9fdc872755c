"""Which sessions exist and how many may; whose engine event is whose; what a shutdown leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes import MODEL, FakeController, FakeEngine, FakeProgram, heard, only, types

from engine.api import EngineLost, EngineReady, EngineState, EngineStopped, Event, GenerationStarted
from server.clock import FakeClock
from server.messages import PromptSet, Refused, SessionResume, SessionStart
from server.metrics import Metrics
from server.registry import Registry
from server.session import Session


class EventfulEngine(FakeEngine):
    """Its events come from the test, through a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    async def events(self) -> AsyncIterator[Event]:
        while True:
            yield await self.queue.get()
            self.queue.task_done()

    async def tell(self, event: Event) -> None:
        """Returns when the registry has handed it on."""
        self.queue.put_nowait(event)
        await self.queue.join()
        await asyncio.sleep(0)


class Hall:
    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.engine = EventfulEngine()
        self.metrics = Metrics()
        self.ready: list[EngineReady] = []
        self.registry = Registry(
            self.engine,
            metrics=self.metrics,
            clock=self.clock,
            make_program=FakeProgram,
            on_engine_ready=self.ready.append,
            **options,
        )

    async def start(self) -> Session:
        return await self.registry.create(SessionStart(), FakeController())


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall(max_sessions=2, resume_grace_s=60.0)
    await hall.registry.open()
    yield hall
    await hall.registry.close()


async def test_a_full_house_refuses_with_a_time_to_come_back(hall: Hall) -> None:
    await hall.start()
    await hall.start()
    with pytest.raises(Refused) as caught:
        await hall.start()
    detail = caught.value.detail
    assert (detail.code, detail.retryable, detail.retry_after_ms) == ("server_full", True, 5000)


async def test_concurrent_starts_do_not_slip_past_the_limit(hall: Hall) -> None:
    results = await asyncio.gather(*(hall.start() for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, Session) for result in results) == 2


async def test_a_closed_session_makes_room(hall: Hall) -> None:
    first = await hall.start()
    await hall.start()
    await hall.registry.end(first)
    await hall.start()


async def test_a_session_that_is_closing_cannot_be_found(hall: Hall) -> None:
    session = await hall.start()
    await session.close("client")
    with pytest.raises(Refused) as caught:
        hall.registry.find(session.session_id)
    assert caught.value.detail.code == "unknown_session"


async def test_the_longest_abandoned_session_makes_room(hall: Hall) -> None:
    first, second = await hall.start(), await hall.start()
    for session in (second, first):
        session.detach(session._controller)
        await hall.clock.advance(0.25)
    await hall.start()
    with pytest.raises(Refused):
        hall.registry.find(second.session_id)
    assert hall.registry.find(first.session_id) is first


async def test_an_abandoned_session_is_closed_after_its_grace(hall: Hall) -> None:
    session = await hall.start()
    program = session.program
    session.detach(session._controller)
    await hall.clock.advance(59.0)
    assert hall.registry.find(session.session_id) is session
    await hall.clock.advance(2.0)
    with pytest.raises(Refused) as caught:
        hall.registry.take_up(
            SessionResume(session_id=session.session_id, resume_token=session.resume_token), FakeController()
        )
    assert caught.value.detail.code == "unknown_session"
    assert not program.is_open


async def test_a_session_that_was_taken_up_in_time_lives_on(hall: Hall) -> None:
    session = await hall.start()
    session.detach(session._controller)
    await hall.clock.advance(59.0)
    hall.registry.take_up(
        SessionResume(session_id=session.session_id, resume_token=session.resume_token), FakeController()
    )
    await hall.clock.advance(120.0)
    assert hall.registry.find(session.session_id) is session


async def test_events_go_to_the_session_that_they_belong_to(hall: Hall) -> None:
    first, second = await hall.start(), await hall.start()
    for session in (first, second):
        await session.handle(PromptSet(text="sea", prompt_id=session.session_id))
    await hall.engine.tell(GenerationStarted(hall.engine.generated[1].generation_id, 4))
    await hall.engine.tell(GenerationStarted("nobody.1", 4))
    assert "prompt.started" not in types(await heard(first))
    assert only(await heard(second), "prompt.started")["prompt_id"] == second.session_id


async def test_every_session_is_told_once_of_a_loss_and_a_recovery(hall: Hall) -> None:
    sessions = [await hall.start(), await hall.start()]
    await hall.engine.tell(EngineReady(MODEL, 4.0))
    await hall.engine.tell(EngineLost("exited", "killed"))
    await hall.engine.tell(EngineReady(MODEL, 1.0))
    await hall.engine.tell(EngineStopped("again and again"))
    for session in sessions:
        codes = [message["code"] for message in await heard(session) if message["type"] == "session.warning"]
        assert codes == ["engine_ready", "engine_lost", "engine_recovered", "engine_failed"]
    assert len(hall.ready) == 1


async def test_a_bug_in_one_session_costs_that_session_only(hall: Hall) -> None:
    broken, sound = await hall.start(), await hall.start()
    broken.on_engine_lost = lambda event: 1 / 0  # type: ignore[assignment]
    await hall.engine.tell(EngineLost("exited", "killed"))
    await hall.clock.advance(0)
    assert only(await heard(broken), "session.closed")["reason"] == "internal_error"
    assert only(await heard(sound), "session.warning")["code"] == "engine_lost"
    await hall.clock.advance(1.0)
    assert "stats.updated" in types(await heard(sound))


async def test_ready_only_while_the_engine_is(hall: Hall) -> None:
    for state in EngineState:
        hall.engine.state = state
        assert hall.registry.is_ready is (state is EngineState.READY)
    hall.engine.state = EngineState.READY
    await hall.registry.close()
    assert not hall.registry.is_ready


async def test_a_shutdown_warns_ends_every_session_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    hall = Hall()
    await hall.registry.open()
    session = await hall.start()
    program = session.program
    await hall.registry.close()
    ending = await heard(session)
    assert only(ending, "session.warning")["code"] == "draining"
    assert only(ending, "session.closed")["reason"] == "server_shutdown"
    assert not program.is_open
    assert hall.engine.state is EngineState.CLOSED
    assert asyncio.all_tasks() == before
    with pytest.raises(Refused) as caught:
        await hall.start()
    assert caught.value.detail.code == "draining"


async def test_a_program_that_cannot_open_leaves_no_session(hall: Hall) -> None:
    async def fail(program: FakeProgram) -> None:
        raise OSError("no sockets left")

    hall.registry._make_program = type("Broken", (FakeProgram,), {"open": fail})
    with pytest.raises(OSError, match="sockets"):
        await hall.start()
    await hall.clock.advance(0)
    assert b"sceneshift_sessions 0.0" in hall.metrics.render()


async def test_metrics_count_what_is_there(hall: Hall) -> None:
    session = await hall.start()
    await session.add_viewer("v=0")
    page = hall.metrics.render().decode()
    for line in (
        "sceneshift_sessions 1.0",
        "sceneshift_viewers 1.0",
        'sceneshift_engine_state{state="ready"} 1.0',
        "sceneshift_play_ratio_worst 1.0",
        "sceneshift_engine_restarts_total 0.0",
    ):
        assert line in page

"""The registry: its sessions and their limit, the owners of engine events, the queue, and the shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fakes import MODEL, FakeController, FakeEngine, FakeProgram, heard, only, types

from engine.api import (
    EngineBusy,
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    Event,
    GenerationCancelled,
    GenerationEvent,
    GenerationFinished,
    GenerationStarted,
    Timings,
)
from server.accounts.account import Account
from server.accounts.payer import Payer
from server.clock import FakeClock
from server.metrics import Metrics
from server.protocol.errors import Refused
from server.protocol.limits import Limits
from server.protocol.messages import PromptSet, SessionResume, SessionStart
from server.session.admission import Ticket
from server.session.generations import Generations
from server.session.registry import KEEP_DETACHED_S, START_BURST, Holder, Registry
from server.session.session import Neighbours, Session, SessionState

TIMINGS = Timings(queued_s=0.0, text_s=0.0, denoised_s=1.3, previewed_s=0.0, decoded_s=0.0)


class EventfulEngine(FakeEngine):
    """Its events come from the test, through a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()  # None: there will be no more

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self.queue.get()) is not None:
            yield event
            self.queue.task_done()

    async def tell(self, event: Event) -> None:
        """Sends an event; returns when the registry has handed it on."""
        self.queue.put_nowait(event)
        await self.queue.join()
        await asyncio.sleep(0)


class RegistryHarness:
    def __init__(self, make_program: Any = FakeProgram, *, max_program: Any = None, **options: object) -> None:
        self.clock = FakeClock()
        self.engine = EventfulEngine()
        self.metrics = Metrics()
        self.ready: list[EngineReady] = []
        self.generations = Generations()
        neighbours = Neighbours(
            self.engine, self.metrics, self.clock, make_program=make_program, generations=self.generations
        )
        if max_program is not None:
            neighbours = replace(neighbours, max_program=max_program)
        self.registry = Registry(neighbours, on_engine_ready=self.ready.append, **options)

    async def start(self, **options: Any) -> Session:
        """A session that is let in at once."""
        session = await self.registry.start(SessionStart(**options), FakeController())
        assert isinstance(session, Session)
        return session

    async def ask(self, **options: Any) -> Ticket:
        """The ticket of a controller that must wait."""
        ticket = await self.registry.start(SessionStart(**options), FakeController())
        assert isinstance(ticket, Ticket)
        return ticket


@pytest.fixture
async def harness() -> AsyncIterator[RegistryHarness]:
    harness = RegistryHarness(max_sessions=2, max_queued=0, resume_grace_s=60.0)
    await harness.registry.open()
    yield harness
    await harness.registry.close()


async def test_a_full_server_refuses_with_a_retry_time(harness: RegistryHarness) -> None:
    await harness.start()
    await harness.start()
    with pytest.raises(Refused) as caught:
        await harness.start()
    detail = caught.value.detail
    assert (detail.code, detail.retryable, detail.retry_after_ms) == ("server_full", True, 5000)


async def test_concurrent_starts_do_not_slip_past_the_limit(harness: RegistryHarness) -> None:
    results = await asyncio.gather(*(harness.start() for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, Session) for result in results) == 2


async def test_a_closed_session_makes_room(harness: RegistryHarness) -> None:
    first = await harness.start()
    await harness.start()
    await harness.registry.end(first)
    await harness.start()


async def test_a_process_that_was_stopped_skips_the_ticks_that_it_missed(harness: RegistryHarness) -> None:
    """SIGSTOP, or the lid of a laptop: half a minute is gone at once."""
    session = await harness.start()
    ticks: list[float] = []
    session.tick = lambda: ticks.append(harness.clock.now())  # type: ignore[method-assign]
    await harness.clock.advance(2.0)
    harness.clock._now += 30.5
    await harness.clock.advance(0.0)
    await harness.clock.advance(2.0)
    begin = ticks[0]
    assert [round(at - begin, 3) for at in ticks] == [0.0, 1.0, 31.5, 32.5, 33.5]


# --- names --------------------------------------------------------------------------------------------------------


async def test_a_name_is_the_sessions_id(harness: RegistryHarness) -> None:
    session = await harness.start(name="my-show")
    assert session.session_id == "my-show"
    assert harness.registry.find("my-show", None) is session


async def test_a_live_session_keeps_its_name(harness: RegistryHarness) -> None:
    await harness.start(name="my-show")
    with pytest.raises(Refused) as caught:
        await harness.start(name="my-show")
    assert (caught.value.detail.code, caught.value.detail.param) == ("name_taken", "name")


async def test_a_detached_session_yields_its_name_to_its_own_tenant_only(harness: RegistryHarness) -> None:
    controller = FakeController()
    left = await harness.registry.start(SessionStart(name="my-show"), controller, Holder("a"))
    assert isinstance(left, Session)
    left.detach(controller)
    with pytest.raises(Refused) as caught:
        await harness.registry.start(SessionStart(name="my-show"), FakeController(), Holder("b"))
    assert caught.value.detail.code == "name_taken"
    session = await harness.registry.start(SessionStart(name="my-show"), FakeController(), Holder("a"))
    await harness.clock.advance(0)
    assert harness.registry.find("my-show", None) is session is not left
    assert left.state is SessionState.CLOSED


async def test_events_of_an_old_session_do_not_reach_a_new_one_of_its_name(harness: RegistryHarness) -> None:
    controller = FakeController()
    left = await harness.registry.start(SessionStart(name="my-show"), controller)
    assert isinstance(left, Session)
    await left.handle(PromptSet(text="old"))
    old_id = harness.engine.generated[-1].generation_id
    left.detach(controller)
    session = await harness.start(name="my-show")
    await session.handle(PromptSet(text="new"))
    new_id = harness.engine.generated[-1].generation_id
    await heard(session)
    await harness.engine.tell(GenerationStarted(old_id, 4, (), ()))
    assert types(await heard(session)) == []
    await harness.engine.tell(GenerationStarted(new_id, 4, (), ()))
    assert types(await heard(session)) == ["prompt.started"]


async def test_an_owner_other_than_a_session_gets_events_and_closes_on_an_error(
    harness: RegistryHarness,
) -> None:
    class Job:
        owner_id = "job_1"

        def __init__(self) -> None:
            self.seen: list[GenerationEvent] = []
            self.closed = asyncio.Event()

        def on_generation_event(self, event: GenerationEvent) -> None:
            self.seen.append(event)
            if len(self.seen) == 2:
                raise RuntimeError("a bug")

        async def close(self, reason: str) -> None:
            assert reason == "internal_error"
            self.closed.set()

    job, session = Job(), await harness.start()
    harness.generations.add("j1", job)
    await harness.engine.tell(GenerationStarted("j1", 4))
    assert job.seen == [GenerationStarted("j1", 4)]
    await harness.engine.tell(GenerationStarted("j1", 4))
    await job.closed.wait()
    await harness.engine.tell(GenerationStarted("j1", 4))
    assert len(job.seen) == 2, "later events have no owner"
    assert session.state is SessionState.OPEN


async def test_a_free_name_has_a_retry_time_and_a_generated_id_has_none(harness: RegistryHarness) -> None:
    for session_id, retry_after_ms in (("my-show", 2000), ("s0123456789abcdef", None), ("Not a name", None)):
        with pytest.raises(Refused) as caught:
            harness.registry.find(session_id, None)
        assert (caught.value.detail.code, caught.value.detail.retry_after_ms) == ("unknown_session", retry_after_ms)


async def test_a_session_that_is_closing_cannot_be_found(harness: RegistryHarness) -> None:
    session = await harness.start()
    await session.close("client")
    with pytest.raises(Refused) as caught:
        harness.registry.find(session.session_id, None)
    assert caught.value.detail.code == "unknown_session"


async def test_the_longest_abandoned_session_makes_room(harness: RegistryHarness) -> None:
    first, second = await harness.start(), await harness.start()
    for session in (second, first):
        session.detach(session._controller)
        await harness.clock.advance(0.25)
    await harness.clock.advance(KEEP_DETACHED_S)
    await harness.start()
    with pytest.raises(Refused):
        harness.registry.find(second.session_id, None)
    assert harness.registry.find(first.session_id, None) is first


async def test_a_session_whose_controller_was_just_lost_keeps_its_place(harness: RegistryHarness) -> None:
    first, second = await harness.start(), await harness.start()
    first.detach(first._controller)
    await harness.clock.advance(KEEP_DETACHED_S - 0.1)
    with pytest.raises(Refused) as caught:  # a page that starts stages on a full server ends no show
        await harness.start()
    assert caught.value.detail.code == "server_full"
    assert harness.registry.find(first.session_id, None) is first
    await harness.clock.advance(0.2)
    await harness.start()
    with pytest.raises(Refused):
        harness.registry.find(first.session_id, None)
    assert harness.registry.find(second.session_id, None) is second


async def test_an_abandoned_session_is_closed_after_its_grace(harness: RegistryHarness) -> None:
    session = await harness.start()
    program = session.program
    session.detach(session._controller)
    await harness.clock.advance(59.0)
    assert harness.registry.find(session.session_id, None) is session
    await harness.clock.advance(2.0)
    with pytest.raises(Refused) as caught:
        harness.registry.take_up(
            SessionResume(session_id=session.session_id, resume_token=session.resume_token), FakeController()
        )
    assert caught.value.detail.code == "unknown_session"
    assert not program.is_open


async def test_a_session_resumed_in_time_lives_on(harness: RegistryHarness) -> None:
    session = await harness.start()
    session.detach(session._controller)
    await harness.clock.advance(59.0)
    harness.registry.take_up(
        SessionResume(session_id=session.session_id, resume_token=session.resume_token), FakeController()
    )
    await harness.clock.advance(120.0)
    assert harness.registry.find(session.session_id, None) is session


async def test_events_go_to_the_session_that_they_belong_to(harness: RegistryHarness) -> None:
    first, second = await harness.start(), await harness.start()
    for session in (first, second):
        await session.handle(PromptSet(text="sea", prompt_id=session.session_id))
    await harness.engine.tell(GenerationStarted(harness.engine.generated[1].generation_id, 4))
    await harness.engine.tell(GenerationStarted("nobody.1", 4))
    assert "prompt.started" not in types(await heard(first))
    assert only(await heard(second), "prompt.started")["prompt_id"] == second.session_id


async def test_every_session_gets_one_warning_for_each_change_of_the_engine(harness: RegistryHarness) -> None:
    sessions = [await harness.start(), await harness.start()]
    await harness.engine.tell(EngineReady(MODEL, 4.0))
    await harness.engine.tell(EngineLost("exited", "killed"))
    await harness.engine.tell(EngineReady(MODEL, 1.0))
    await harness.engine.tell(EngineStopped("again and again"))
    for session in sessions:
        codes = [message["code"] for message in await heard(session) if message["type"] == "session.warning"]
        assert codes == ["engine_ready", "engine_lost", "engine_recovered", "engine_failed"]
    assert len(harness.ready) == 1


async def test_an_error_in_one_session_closes_that_session_only(harness: RegistryHarness) -> None:
    broken, sound = await harness.start(), await harness.start()
    broken.on_engine_lost = lambda event: 1 / 0  # type: ignore[assignment]
    await harness.engine.tell(EngineLost("exited", "killed"))
    await harness.clock.advance(0)
    assert only(await heard(broken), "session.closed")["reason"] == "internal_error"
    assert only(await heard(sound), "session.warning")["code"] == "engine_lost"
    await harness.clock.advance(1.0)
    assert "stats.updated" in types(await heard(sound))


async def test_ready_only_while_the_engine_is(harness: RegistryHarness) -> None:
    for state in EngineState:
        harness.engine.state = state
        assert harness.registry.is_ready is (state is EngineState.READY)
    harness.engine.state = EngineState.READY
    await harness.registry.close()
    assert not harness.registry.is_ready


async def test_a_shutdown_warns_ends_every_session_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    harness = RegistryHarness()
    await harness.registry.open()
    session = await harness.start()
    program = session.program
    await harness.registry.close()
    ending = await heard(session)
    assert only(ending, "session.warning")["code"] == "draining"
    assert only(ending, "session.closed")["reason"] == "server_shutdown"
    assert not program.is_open
    assert harness.engine.state is EngineState.CLOSED
    assert asyncio.all_tasks() == before
    with pytest.raises(Refused) as caught:
        await harness.start()
    assert caught.value.detail.code == "draining"


async def test_a_program_that_cannot_open_leaves_no_session() -> None:
    async def fail(program: FakeProgram) -> None:
        raise OSError("no sockets left")

    harness = RegistryHarness(make_program=type("Broken", (FakeProgram,), {"open": fail}))
    await harness.registry.open()
    with pytest.raises(OSError, match="sockets"):
        await harness.start()
    await harness.clock.advance(0)
    assert b"sceneshift_sessions 0.0" in harness.metrics.render()
    await harness.registry.close()


async def test_metrics_count_sessions_and_viewers_and_show_the_engine(harness: RegistryHarness) -> None:
    session = await harness.start()
    await session.viewers.add("v=0")
    assert "core_share" not in harness.metrics.render().decode(), "unknown before the first work"
    harness.engine.core_share = 0.25
    page = harness.metrics.render().decode()
    for line in (
        "sceneshift_sessions 1.0",
        "sceneshift_viewers 1.0",
        'sceneshift_engine_state{state="ready"} 1.0',
        "sceneshift_play_ratio_worst 1.0",
        "sceneshift_engine_restarts_total 0.0",
        "sceneshift_engine_core_share_ratio 0.25",
    ):
        assert line in page


async def test_a_session_that_is_slow_to_close_is_not_waited_for_but_finished(
    harness: RegistryHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.session.registry.CLOSE_TIMEOUT_S", 0.01)
    session, released = await harness.start(name="my-show"), asyncio.Event()
    close = session.program.close

    async def slowly() -> None:
        await released.wait()
        await close()

    session.program.close = slowly
    await harness.registry.end(session)
    assert "did not close" in caplog.text and session.program.is_open
    again = await harness.start(name="my-show")
    released.set()
    await harness.clock.advance(0)
    assert not session.program.is_open, "it was not cancelled half-way"
    assert harness.registry.find("my-show", None) is again


async def test_a_slow_ingest_delays_no_viewers_end(harness: RegistryHarness) -> None:
    session, released = await harness.start(), asyncio.Event()

    async def slowly() -> None:
        await released.wait()

    session.pushes.close = slowly  # type: ignore[method-assign]
    ending = asyncio.create_task(harness.registry.end(session))
    await harness.clock.advance(0)
    assert not session.program.is_open and not ending.done()
    released.set()
    await ending


# --- the size of a program ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "frame_rate", "param", "hint"),
    [
        (1920, 1080, 60, "frame_rate", "at 1920x1080 that is `frame_rate` 30, got 60"),
        (1920, 1080, 31, "frame_rate", "at 1920x1080 that is `frame_rate` 30, got 31"),
        (1280, 720, 60, None, ""),
        (1920, 1080, 30, None, ""),
        (832, 480, 60, None, ""),
    ],
)
async def test_no_program_has_more_pixels_a_second_than_the_operator_allows(
    harness: RegistryHarness, width: int, height: int, frame_rate: int, param: str | None, hint: str
) -> None:
    options = {"width": width, "height": height, "frame_rate": frame_rate}
    if param is None:
        await harness.start(**options)
        return
    with pytest.raises(Refused) as caught:
        await harness.start(**options)
    detail = caught.value.detail
    assert (detail.code, detail.param, detail.retryable) == ("invalid_value", param, False)
    assert "1920x1080 at 30 frames/s" in detail.message and "--max-program" in detail.message and hint in detail.message


async def test_a_program_that_is_too_large_at_any_rate_is_refused_by_its_width() -> None:
    harness = RegistryHarness(max_program=(832, 480, 24))
    await harness.registry.open()
    await harness.start()  # what old clients ask for
    with pytest.raises(Refused) as caught:
        await harness.start(width=1920, height=1080, frame_rate=5)
    assert caught.value.detail.param == "width"
    await harness.registry.close()


# --- the queue ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def lobby() -> AsyncIterator[RegistryHarness]:
    """Room for one stage, and two places to wait."""
    harness = RegistryHarness(max_sessions=1, max_queued=2)
    await harness.registry.open()
    yield harness
    await harness.registry.close()


async def test_controllers_wait_in_order_and_come_in_when_there_is_room(lobby: RegistryHarness) -> None:
    first = await lobby.start()
    second, third = await lobby.ask(), await lobby.ask()
    assert (second.position, third.position) == (1, 2)
    with pytest.raises(Refused) as caught:
        await lobby.ask()
    assert (caught.value.detail.code, caught.value.detail.retry_after_ms) == ("server_full", 5000)
    await lobby.registry.end(first)
    assert (second.is_called, third.is_called) == (True, False)
    session = await lobby.registry.come_in(second, SessionStart(), FakeController())
    assert session is not None
    await lobby.clock.advance(1.0)
    assert (third.is_called, third.position) == (False, 1)
    await lobby.registry.end(session)
    assert third.is_called


async def test_nobody_passes_the_queue(lobby: RegistryHarness) -> None:
    first = await lobby.start()
    waiting = await lobby.ask()
    await lobby.registry.end(first)
    assert waiting.is_called
    assert (await lobby.ask()).position == 2


async def test_a_controller_that_leaves_the_queue_makes_room_even_if_called(lobby: RegistryHarness) -> None:
    first = await lobby.start()
    second, third = await lobby.ask(), await lobby.ask()
    await lobby.registry.end(first)
    assert second.is_called
    lobby.registry.leave(second)
    assert third.is_called


async def test_a_detached_session_yields_to_a_waiting_controller(lobby: RegistryHarness) -> None:
    first = await lobby.start()
    waiting = await lobby.ask()
    first.detach(first._controller)
    await lobby.clock.advance(KEEP_DETACHED_S - 1.0)
    assert not waiting.is_called
    await lobby.clock.advance(1.0)
    assert waiting.is_called
    await lobby.registry.come_in(waiting, SessionStart(), FakeController())
    with pytest.raises(Refused):
        lobby.registry.find(first.session_id, None)


async def test_a_late_resume_keeps_the_room_and_the_called_one_keeps_its_place(
    lobby: RegistryHarness,
) -> None:
    first = await lobby.start()
    waiting, behind = await lobby.ask(), await lobby.ask()
    first.detach(first._controller)
    await lobby.clock.advance(KEEP_DETACHED_S)
    assert waiting.is_called
    lobby.registry.take_up(
        SessionResume(session_id=first.session_id, resume_token=first.resume_token), FakeController()
    )
    assert await lobby.registry.come_in(waiting, SessionStart(), FakeController()) is None
    assert (waiting.is_called, waiting.position, behind.position) == (False, 1, 2)
    await lobby.registry.end(first)
    assert waiting.is_called
    assert await lobby.registry.come_in(waiting, SessionStart(), FakeController()) is not None


async def test_a_slow_engine_admits_as_many_sessions_as_it_can_serve() -> None:
    harness = RegistryHarness(max_sessions=100, max_queued=2)
    await harness.registry.open()
    harness.engine.cost_s = lambda quality: 8.0 if quality == "fine" else 4.0  # type: ignore[method-assign]
    sessions = [await harness.start() for _ in range(4)]  # 4 s every 20 s each
    waiting = await harness.ask()
    assert harness.metrics.render().decode().count("sceneshift_sessions_queued 1.0") == 1
    assert "sceneshift_engine_load 0.8" in harness.metrics.render().decode()
    await harness.clock.advance(5.0)
    assert not waiting.is_called
    await harness.clock.advance(5.0)
    assert waiting.is_called  # they were quieter than expected
    assert all(session.session_id for session in sessions)
    await harness.registry.close()


async def test_a_busy_session_keeps_others_out(harness: RegistryHarness) -> None:
    session = await harness.start()
    harness.engine.cost_s = lambda quality: 4.0  # type: ignore[method-assign]
    for number in range(10):
        harness.generations.add(f"g{number}", session)
        await harness.engine.tell(GenerationStarted(f"g{number}", 4, is_reused=True))
    other = await harness.start()  # a reused clip costs the engine nothing
    await harness.registry.end(other)
    for number in range(10, 20):
        harness.generations.add(f"g{number}", session)
        await harness.engine.tell(GenerationStarted(f"g{number}", 4))
    with pytest.raises(Refused) as caught:
        await harness.start()
    assert caught.value.detail.code == "server_full"


async def test_before_the_first_measurement_nobody_is_kept_out(harness: RegistryHarness) -> None:
    harness.engine.cost_s = lambda quality: None  # type: ignore[method-assign]
    await harness.start()
    await harness.start()


async def test_waiting_controllers_are_told_of_a_shutdown(lobby: RegistryHarness) -> None:
    await lobby.start()
    waiting = await lobby.ask()
    await lobby.registry.close()
    with pytest.raises(Refused) as caught:
        await waiting.news()
    assert caught.value.detail.code == "draining"


async def test_a_start_with_unsupported_options_is_refused(harness: RegistryHarness) -> None:
    with pytest.raises(Refused) as caught:
        await harness.start(after="continue")
    assert (caught.value.detail.code, caught.value.detail.param) == ("not_supported", "after")


async def test_the_start_is_answered_with_an_estimate_for_a_prompt(harness: RegistryHarness) -> None:
    session = await harness.start()
    assert only(await heard(session), "session.created")["estimated_picture_ms"] == pytest.approx(
        1500.0 + 1000 / 24, abs=0.1
    )


# --- budgets and the length of a session ------------------------------------------------------------------------------


def payer_of(harness: RegistryHarness, **limits: Any) -> Payer:
    return Payer((Account("the key `shop`", Limits(**limits), clock=harness.clock, wall_time=lambda: 0.0),))


async def test_a_session_of_limited_length_warns_once_and_then_ends(harness: RegistryHarness) -> None:
    holder = Holder("a", payer=payer_of(harness, session_s=300))
    session = await harness.registry.start(SessionStart(), FakeController(), holder)
    assert isinstance(session, Session)
    other = await harness.start()
    await harness.clock.advance(239)
    assert "session.warning" not in types(await heard(session))
    await harness.clock.advance(30)
    assert only(await heard(session), "session.warning")["code"] == "time_ends"
    session.detach(session._controller)  # a new connection brings no new time
    await harness.clock.advance(31)
    messages = await heard(session)
    assert only(messages, "session.closed")["reason"] == "time_up"
    assert "session.warning" not in types(messages)
    assert harness.registry.sessions(None) == [other]


async def test_stages_of_one_payer_share_a_budget_with_what_is_in_the_engine(
    harness: RegistryHarness,
) -> None:
    """A clip costs 1.3 engine seconds."""
    payer = payer_of(harness, engine_s=3.0)
    session = await harness.registry.start(SessionStart(), FakeController(), Holder("a", payer=payer))
    other = await harness.registry.start(SessionStart(), FakeController(), Holder("a", payer=payer))
    assert isinstance(session, Session) and isinstance(other, Session)
    for stage, text in ((session, "one"), (other, "two"), (session, "three")):
        await stage.handle(PromptSet(text=text))
    await heard(session)
    (one, two) = harness.engine.generated
    # Prompt one is being stopped for prompt three. What the engine made of it is not free.
    await harness.engine.tell(GenerationCancelled(one.generation_id, 2, engine_s=0.9))
    failed = only(await heard(session), "prompt.failed")
    assert failed["error"]["code"] == "budget_exhausted"
    await other.handle(PromptSet(text="four"))
    assert "prompt.superseded" in types(await heard(other))  # prompt two gives its own seconds back
    await harness.engine.tell(GenerationFinished(two.generation_id, 4, TIMINGS, engine_s=1.3))
    await other.handle(PromptSet(text="five"))
    rejected = only(await heard(other), "prompt.rejected")
    assert rejected["error"]["code"] == "budget_exhausted"


async def test_a_refused_generation_gives_its_seconds_back(harness: RegistryHarness) -> None:
    payer = payer_of(harness, engine_s=1.5)
    session = await harness.registry.start(SessionStart(), FakeController(), Holder("a", payer=payer))
    assert isinstance(session, Session)
    harness.engine.refusal = EngineBusy("full", retry_after_s=1.0)
    for _ in range(2):
        await session.handle(PromptSet(text="one"))
        assert only(await heard(session), "prompt.failed")["error"]["code"] == "engine_busy"
    harness.engine.refusal = None
    await session.handle(PromptSet(text="two"))
    assert len(harness.engine.generated) == 1


async def test_a_lost_stage_of_the_same_payer_makes_room_for_a_new_one(harness: RegistryHarness) -> None:
    holder = Holder("a", payer=payer_of(harness, sessions=1))
    controller = FakeController()
    lost = await harness.registry.start(SessionStart(), controller, holder)
    assert isinstance(lost, Session)
    lost.detach(controller)
    with pytest.raises(Refused, match="1 stages at once"):
        await harness.registry.start(SessionStart(), FakeController(), holder)
    await harness.clock.advance(KEEP_DETACHED_S)
    assert isinstance(await harness.registry.start(SessionStart(), FakeController(), holder), Session)
    assert lost not in harness.registry.sessions(None)


async def test_stages_that_come_faster_than_anybody_can_use_them_are_refused() -> None:
    """One that is dropped at once leaves its memory with the C library for a while: 657 within 5 s were 205 MB."""
    harness = RegistryHarness(max_sessions=1000)
    await harness.registry.open()
    for _ in range(START_BURST):
        await harness.registry.end(await harness.start())
    with pytest.raises(Refused, match="started too fast") as caught:
        await harness.start()
    assert (caught.value.detail.code, caught.value.detail.retry_after_ms) == ("rate_limited", 500)
    other = await harness.registry.start(SessionStart(), FakeController(), Holder("another key"))
    assert isinstance(other, Session)
    await harness.clock.advance(0.5)
    await harness.start()
    await harness.registry.close()

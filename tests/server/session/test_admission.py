"""Admission with a fake clock: the expected engine load, and the queue of waiting controllers."""

from __future__ import annotations

import asyncio

import pytest

from server.clock import FakeClock
from server.protocol.errors import Refused
from server.session.admission import (
    CAPACITY,
    MAX_RETRY_S,
    MIN_RETRY_S,
    PRIOR_GAP_S,
    QUEUED_EVERY_S,
    Admission,
    Queue,
    Rate,
    Ticket,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def prompting(rate: Rate, clock: FakeClock, gap_s: float, seconds: float) -> None:
    for _ in range(round(seconds / gap_s)):
        await clock.advance(gap_s)
        rate.count()


# --- a session's load ---------------------------------------------------------------------------------------------


async def test_a_newcomer_counts_as_a_quiet_show(clock: FakeClock) -> None:
    assert Rate(clock).per_s == 1 / PRIOR_GAP_S


@pytest.mark.parametrize("gap_s", [1.0, 2.0, 5.0])
async def test_a_busy_session_counts_by_what_it_does(clock: FakeClock, gap_s: float) -> None:
    rate = Rate(clock)
    await prompting(rate, clock, gap_s, 300.0)
    # The prior still has the weight of 20 seconds, against the 60 that are remembered.
    assert rate.per_s == pytest.approx((1 + 60 / gap_s) / 80, rel=0.05)


async def test_a_burst_is_forgiven_within_two_minutes(clock: FakeClock) -> None:
    rate = Rate(clock)
    await prompting(rate, clock, 0.1, 3.0)
    assert rate.per_s > 1.0
    await clock.advance(120.0)
    assert rate.per_s < 1.5 / PRIOR_GAP_S


async def test_a_silent_session_hardly_counts(clock: FakeClock) -> None:
    rate = Rate(clock)
    await clock.advance(600.0)
    assert rate.per_s == pytest.approx(1 / 80, rel=0.01)


async def test_eight_quiet_shows_fit_and_a_slow_model_still_admits_one(clock: FakeClock) -> None:
    admission = Admission(clock)
    costs: dict[str, float] = {}
    for number in range(8):
        assert admission.has_room(costs, 1.2)
        admission.open(f"s{number}")
        costs[f"s{number}"] = 1.2
    slow = Admission(clock)
    assert slow.has_room({}, 100.0)
    slow.open("s1")
    assert not slow.has_room({"s1": 100.0}, 100.0)


async def test_a_called_controller_takes_room(clock: FakeClock) -> None:
    admission = Admission(clock)
    admission.open("s1")
    cost_s = CAPACITY * PRIOR_GAP_S / 2
    assert admission.has_room({"s1": cost_s}, cost_s, num_more=0)
    assert not admission.has_room({"s1": cost_s}, cost_s, num_more=1)


async def test_a_session_that_prompts_constantly_keeps_others_out_until_it_rests(clock: FakeClock) -> None:
    admission = Admission(clock)
    admission.open("s1")
    for _ in range(200):
        await clock.advance(1.2)
        admission.generated("s1")
    assert not admission.has_room({"s1": 1.2}, 1.2)
    await clock.advance(60.0)
    assert admission.has_room({"s1": 1.2}, 1.2)
    assert admission.load({"s1": 1.2}) < CAPACITY
    admission.close("s1")
    assert admission.load({"s1": 1.2}) == 0.0


async def test_a_session_whose_cost_is_unknown_counts_nothing(clock: FakeClock) -> None:
    admission = Admission(clock)
    admission.open("s1")
    assert admission.load({}) == 0.0


# --- how long to wait ---------------------------------------------------------------------------------------------


async def test_the_wait_is_unknown_before_a_session_has_ended(clock: FakeClock) -> None:
    admission = Admission(clock)
    admission.open("s1")
    assert admission.wait_s(1) is None
    assert admission.retry_after_s(0) == MIN_RETRY_S


async def test_the_wait_follows_the_mean_duration_of_sessions(clock: FakeClock) -> None:
    admission = Admission(clock)
    for number in range(3):
        admission.open(f"s{number}")
    await clock.advance(120.0)
    admission.close("s0")
    assert admission.wait_s(1) == 60.0  # two are open, each of which ends after 120 s on average
    assert admission.wait_s(3) == 180.0
    assert admission.retry_after_s(1) == 120.0
    assert admission.retry_after_s(1000) == MAX_RETRY_S


async def test_the_newest_session_moves_the_mean_duration_by_a_fifth(clock: FakeClock) -> None:
    admission = Admission(clock)
    for session_id, seconds in (("first", 100.0), ("second", 200.0)):
        admission.open(session_id)
        await clock.advance(seconds)
        admission.close(session_id)
    admission.open("third")
    assert admission.wait_s(1) == pytest.approx(120.0)


async def test_closing_an_unknown_session_does_nothing(clock: FakeClock) -> None:
    admission = Admission(clock)
    admission.open("s1")
    await clock.advance(10.0)
    admission.close("nobody")
    assert admission.wait_s(1) is None


# --- the queue ----------------------------------------------------------------------------------------------------


async def test_a_ticket_wakes_on_changes_and_at_intervals(clock: FakeClock) -> None:
    ticket, told = Ticket(1.0), []

    async def listen() -> None:
        while not await ticket.news():
            told.append((ticket.position, ticket.wait_s))

    listener = asyncio.create_task(listen())
    for position, wait_s, seconds in [
        (2, None, 0.0),
        (2, None, 1.0),  # no change
        (2, 100.0, 1.0),
        (2, 110.0, 1.0),  # too small a change
        (2, 125.0, 1.0),  # exactly a quarter, not more
        (2, 50.0, 1.0),
        (1, 50.0, 0.0),
        (1, 50.0, QUEUED_EVERY_S),  # repeated after the interval
    ]:
        await clock.advance(seconds)
        ticket.tell(position, wait_s, clock.now())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert told == [(2, None), (2, 100.0), (2, 50.0), (1, 50.0), (1, 50.0)]
    ticket.call()
    await listener


async def test_a_controller_refused_in_the_queue_gets_the_reason() -> None:
    ticket = Ticket(1.0)
    ticket.refuse(Refused("draining", "no more"))
    with pytest.raises(Refused, match="no more"):
        await ticket.news()


async def test_the_queue_is_bounded_and_its_positions_are_right(clock: FakeClock) -> None:
    queue, admission = Queue(3), Admission(clock)
    tickets = [Ticket(1.0) for _ in range(3)]
    for ticket in tickets:
        assert not queue.is_full
        queue.join(ticket)
    assert queue.is_full
    queue.leave(tickets[1])
    queue.leave(tickets[1])
    queue.tell_all(admission, clock.now())
    assert [ticket.position for ticket in queue] == [1, 2]
    assert [ticket.wait_s for ticket in queue] == [None, None]
    for session_id in ("ends", "stays"):
        admission.open(session_id)
    await clock.advance(60.0)
    admission.close("ends")
    queue.tell_all(admission, clock.now())
    assert [ticket.wait_s for ticket in queue] == [60.0, 120.0]
    tickets[0].call()
    assert queue.num_called == 1

"""The pacer on a fake clock: when each sender is visited, and how late packets leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from server.clock import FakeClock
from server.media.webrtc.pacer import GRANULARITY_S, MIN_ROUND_S, Lateness, Pacer


class Sender:
    """A sender with packets due at these times; it keeps the times of its visits."""

    def __init__(self, name: str, *due: float, visits: list[tuple[str, float]]) -> None:
        self.name, self._due, self._visits = name, list(due), visits
        self.on_visit: Callable[[], object] = lambda: None

    def flush(self, now: float, lateness: Lateness) -> float | None:
        self._visits.append((self.name, round(now, 6)))
        self.on_visit()
        while self._due and self._due[0] <= now + GRANULARITY_S:
            lateness.note(max(0.0, now - self._due.pop(0)))
        return self._due[0] if self._due else None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start=0.0)


@pytest.fixture
def visits() -> list[tuple[str, float]]:
    return []


@pytest.fixture
def pacer(clock: FakeClock) -> Pacer:
    return Pacer(clock)


@pytest.fixture
async def running(pacer: Pacer) -> AsyncIterator[Pacer]:
    task = asyncio.create_task(pacer.run())
    yield pacer
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- when a sender is visited -----------------------------------------------------------------------------------------


async def test_a_sender_is_visited_at_once_and_then_just_before_its_packets_are_due(
    running: Pacer, clock: FakeClock, visits: list[tuple[str, float]]
) -> None:
    await clock.advance(1.0)
    running.add(Sender("a", 1.0, 1.010, 1.030, visits=visits))
    await clock.advance(1.0)
    assert visits == [("a", 1.0), ("a", 1.010 - GRANULARITY_S / 2), ("a", 1.030 - GRANULARITY_S / 2)]


async def test_a_sender_that_has_packets_again_wakes_the_pacer_again(
    running: Pacer, clock: FakeClock, visits: list[tuple[str, float]]
) -> None:
    sender = Sender("a", visits=visits)
    for at in (1.0, 2.0):
        await clock.advance(1.0)
        running.add(sender)
        await clock.advance(0.0)
        assert visits[-1] == ("a", at)
    assert len(visits) == 2


async def test_rounds_keep_their_distance_however_dense_the_packets_are(
    running: Pacer, clock: FakeClock, visits: list[tuple[str, float]]
) -> None:
    running.add(Sender("a", *(number * 0.0015 for number in range(5)), visits=visits))
    await clock.advance(1.0)
    assert [at for _, at in visits] == pytest.approx([number * MIN_ROUND_S for number in range(len(visits))])
    assert len(visits) > 2


def test_a_round_says_when_the_first_of_all_packets_is_due(pacer: Pacer, visits: list[tuple[str, float]]) -> None:
    assert pacer.round() is None
    for name, due in (("a", 0.3), ("b", 0.1), ("c", 0.2)):
        pacer.add(Sender(name, due, visits=visits))
    assert pacer.round() == 0.1


def test_the_first_sender_is_the_last_in_the_next_round(pacer: Pacer, visits: list[tuple[str, float]]) -> None:
    for name in "ab":
        pacer.add(Sender(name, 1.0, visits=visits))
    for _ in range(3):
        pacer.round()
    assert [name for name, _ in visits] == ["a", "b", "b", "a", "a", "b"]


def test_a_sender_without_packets_is_visited_no_more(pacer: Pacer, visits: list[tuple[str, float]]) -> None:
    pacer.add(Sender("empty", visits=visits))
    pacer.add(Sender("full", 1.0, visits=visits))
    for _ in range(2):
        pacer.round()
    assert [name for name, _ in visits] == ["empty", "full", "full"]


def test_a_removed_sender_is_visited_no_more(pacer: Pacer, visits: list[tuple[str, float]]) -> None:
    sender = Sender("gone", 1.0, visits=visits)
    pacer.add(sender)
    for _ in range(2):
        pacer.remove(sender)
    assert pacer.round() is None and not visits


def test_a_sender_may_be_removed_while_it_is_visited(pacer: Pacer, visits: list[tuple[str, float]]) -> None:
    leaving = Sender("leaving", visits=visits)
    leaving.on_visit = lambda: pacer.remove(leaving)
    pacer.add(leaving)
    pacer.add(Sender("other", 1.0, visits=visits))
    assert pacer.round() == 1.0


def test_a_sender_that_fails_stops_no_other(pacer: Pacer, visits: list[tuple[str, float]]) -> None:
    failing = Sender("failing", 0.5, visits=visits)
    failing.on_visit = lambda: 1 / 0
    pacer.add(failing)
    pacer.add(Sender("other", 1.0, visits=visits))
    assert [pacer.round() for _ in range(2)] == [1.0, 1.0]
    assert [name for name, _ in visits] == ["failing", "other", "other"]


# --- how late packets leave -------------------------------------------------------------------------------------------


def test_lateness_is_zero_before_the_first_packet() -> None:
    assert Lateness().quantile_s(0.99) == 0.0


def test_a_quantile_is_the_upper_edge_of_its_quarter_millisecond() -> None:
    lateness = Lateness()
    lateness.note(-0.001)  # left early, so not late
    lateness.note(0.0011, num_packets=8)
    lateness.note(0.0101)
    assert lateness.num_packets == 10
    assert [lateness.quantile_s(share) for share in (0.1, 0.5, 0.9, 1.0)] == [0.00025, 0.00125, 0.00125, 0.01025]


def test_lateness_beyond_the_histogram_counts_in_its_last_bucket() -> None:
    lateness = Lateness()
    lateness.note(5.0)
    assert lateness.quantile_s(1.0) == 0.10025

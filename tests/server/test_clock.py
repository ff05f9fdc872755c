"""The clock that tests move by hand behaves like time."""

from __future__ import annotations

import asyncio

from server.clock import FakeClock, MonotonicClock


async def test_sleepers_wake_in_order_and_at_their_time() -> None:
    clock = FakeClock(start=10.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *dues: float) -> None:
        for due in dues:
            await clock.sleep_until(due)
            woken.append((name, clock.now()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleeper("a", 11.0, 13.0))
        tasks.create_task(sleeper("b", 12.0))
        await clock.advance(2.5)
        assert woken == [("a", 11.0), ("b", 12.0)]
        assert clock.now() == 12.5
        await clock.advance(1.0)
    assert woken[-1] == ("a", 13.0)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep_until(clock.now() + 1))
    await clock.advance(0.5)
    assert clock.num_sleepers == 1
    task.cancel()
    await clock.advance(1.0)
    assert task.cancelled()
    assert clock.num_sleepers == 0


async def test_a_due_time_that_has_passed_returns_at_once() -> None:
    for clock in (FakeClock(), MonotonicClock()):
        await clock.sleep_until(clock.now() - 1)

"""Token buckets, alone and several at once."""

from __future__ import annotations

from server.clock import FakeClock
from server.token_bucket import TokenBucket, take


async def test_a_burst_passes_and_then_the_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=2, burst=3, clock=clock)
    assert [bucket.take() for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    await clock.advance(0.5)
    assert [bucket.take() for _ in range(2)] == [0.0, 0.5]


async def test_what_one_bucket_refuses_takes_nothing_from_the_others() -> None:
    clock = FakeClock()
    full, empty = TokenBucket(rate=1, burst=1, clock=clock), TokenBucket(rate=0.1, burst=1, clock=clock)
    assert empty.take() == 0.0
    assert take((full, empty)) == 10.0
    assert full.wait_s() == 0.0
    assert take(()) == 0.0

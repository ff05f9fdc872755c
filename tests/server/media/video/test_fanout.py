"""The fan-out: where a viewer starts, what a slow one loses, and how often keyframes are forced."""

from __future__ import annotations

import asyncio

import pytest

from server.media.video.encoder import EncodedFrame
from server.media.video.fanout import Fanout, Subscription, SubscriptionClosed
from server.media.video.rendition import ladder

BEST, LOWER = ladder(832, 480, 2_000_000)[:2]


def frame(index: int, *, key: bool = False) -> EncodedFrame:
    unit = b"\x65" + bytes(16)
    return EncodedFrame(b"\x00\x00\x01" + unit, (unit,), index, index * 3750, key)


def put(fanout: Fanout, first: int, last: int, *, keys: tuple[int, ...] = ()) -> None:
    for index in range(first, last + 1):
        fanout.put({BEST: frame(index, key=index in keys)})


async def queued(subscription: Subscription) -> list[int]:
    return [(await subscription.next()).frame_index for _ in range(subscription.num_queued)]


async def test_a_new_viewer_starts_at_the_last_keyframe() -> None:
    fanout = Fanout(BEST, 48)
    put(fanout, 0, 30, keys=(0, 24))
    viewer = fanout.subscribe()
    put(fanout, 31, 32)
    assert await queued(viewer) == list(range(24, 33))


async def test_a_viewer_that_was_there_first_starts_at_the_first_keyframe() -> None:
    fanout = Fanout(BEST, 48)
    viewer = fanout.subscribe()
    put(fanout, 0, 5, keys=(3,))
    assert await queued(viewer) == [3, 4, 5]


async def test_a_viewer_that_falls_behind_goes_on_at_the_next_keyframe_and_the_others_lose_nothing() -> None:
    fanout = Fanout(BEST, 5)
    slow, quick = fanout.subscribe(), fanout.subscribe()
    seen = []
    for index in range(12):
        fanout.put({BEST: frame(index, key=index in (0, 9))})
        seen += await queued(quick)
    assert await queued(slow) == [9, 10, 11]
    assert slow.frames_dropped == fanout.statistics().frames_dropped == 9
    assert seen == list(range(12))


async def test_falling_behind_asks_for_a_keyframe_once() -> None:
    fanout = Fanout(BEST, 5)
    fanout.subscribe()
    put(fanout, 0, 8, keys=(0,))
    assert fanout.statistics().keyframe_requests == 1


async def test_keyframes_are_forced_at_most_once_a_second() -> None:
    fanout = Fanout(BEST, 48)
    assert fanout.next_is_keyframe(now=100.0)  # the first frame of all
    put(fanout, 0, 0, keys=(0,))
    assert not fanout.next_is_keyframe(100.1)
    fanout.request_keyframe()
    fanout.request_keyframe()
    assert not fanout.next_is_keyframe(100.5)
    assert fanout.next_is_keyframe(101.0)
    assert not fanout.next_is_keyframe(102.5)


async def test_a_keyframe_that_came_by_itself_answers_a_request() -> None:
    fanout = Fanout(BEST, 48)
    put(fanout, 0, 0, keys=(0,))
    fanout.request_keyframe()
    put(fanout, 1, 1, keys=(1,))
    assert not fanout.next_is_keyframe(1000.0)


async def test_after_a_break_nothing_old_is_shown_and_the_next_frame_is_a_keyframe() -> None:
    fanout = Fanout(BEST, 48)
    put(fanout, 0, 10, keys=(0,))
    assert not fanout.next_is_keyframe(5.0)
    fanout.forget()
    assert fanout.subscribe().num_queued == 0
    assert fanout.next_is_keyframe(5.1)


async def test_closing_wakes_a_waiting_viewer() -> None:
    fanout = Fanout(BEST, 48)
    viewer = fanout.subscribe()
    waiting = asyncio.create_task(viewer.next())
    await asyncio.sleep(0)
    fanout.close()
    with pytest.raises(SubscriptionClosed):
        await waiting
    assert fanout.num_takers == 0


async def test_a_cancelled_wait_loses_no_frame() -> None:
    fanout = Fanout(BEST, 48)
    viewer = fanout.subscribe()
    waiting = asyncio.create_task(viewer.next())
    await asyncio.sleep(0)
    fanout.put({BEST: frame(0, key=True)})
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if waiting.cancelled():
        assert await queued(viewer) == [0]


async def test_a_viewer_changes_rendition_at_a_keyframe_of_the_new_one_without_a_gap() -> None:
    fanout = Fanout(BEST, 48)
    viewer = fanout.subscribe()
    put(fanout, 0, 2, keys=(0,))
    viewer.change_to(LOWER)
    assert fanout.wanted == [BEST, LOWER]
    assert fanout.next_is_keyframe(now=10.0, rendition=LOWER)
    fanout.put({BEST: frame(3), LOWER: frame(3)})  # no keyframe yet: it stays
    fanout.put({BEST: frame(4), LOWER: frame(4, key=True)})
    fanout.put({LOWER: frame(5)})
    assert await queued(viewer) == [0, 1, 2, 3, 4, 5]
    assert viewer.rendition == LOWER
    assert fanout.wanted == [LOWER]


async def test_a_rendition_with_a_gap_starts_no_viewer_with_old_frames() -> None:
    fanout = Fanout(BEST, 48)
    fanout.subscribe()
    fanout.put({BEST: frame(0, key=True), LOWER: frame(0, key=True)})
    fanout.put({BEST: frame(1)})
    assert fanout.subscribe(LOWER).num_queued == 0
    assert fanout.next_is_keyframe(now=10.0, rendition=LOWER)

"""The program end to end: a real encoder, real RTP, a real decoder; frame numbers are read from decoded pictures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.api import Frames
from server.clock import FakeClock
from server.media.program import OfferError, Program, ViewerTimeouts
from server.media.program_format import ProgramFormat
from server.media.video import marker
from server.stage.picture import Clip, FirstShown, OnAir, Transition

CUT = Transition("cut", 0.0)
FADE = Transition("crossfade", 0.25)

Open = Callable[..., Awaitable[Any]]


async def test_a_viewer_sees_every_frame_of_the_program_in_order(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    indices = [(await receiver.marked())[0] for _ in range(36)]
    assert indices == hand.sent_from(indices[0], 36)


async def test_receipts_name_the_rtp_timestamp_of_the_frame_that_shows_the_prompt(
    open_program: Open, new_receiver: Any, flat_clip: Callable[..., Clip]
) -> None:
    hand = await open_program()
    receivers = [new_receiver(), new_receiver()]
    for receiver in receivers:
        await receiver.watch(hand.program)
        await receiver.marked()
        await receiver.marked()  # the second packet is requested, so the first was sent
    hand.program.stage.take(flat_clip("p1", luma=200), CUT)
    await hand.until(lambda: hand.shown)
    shown = hand.shown[0]
    assert shown.first == FirstShown("p1", "picture", None)
    assert shown.encoded_s > 0
    for receiver in receivers:
        await assert_shown_at(receiver, shown.frame_index, hand.program)


async def assert_shown_at(receiver: Any, frame_index: int, program: Any) -> None:
    """The decoded frame with this index is the first bright one, and came with the timestamp that the receipt names."""
    for _ in range(100):
        planes, timestamp = await receiver.picture()
        is_bright = planes[100:150, 100:400].mean() > 150
        if timestamp == program.rtp_timestamp(receiver.viewer_id, frame_index):
            assert is_bright
            return
        assert not is_bright
    pytest.fail("the frame of the receipt never came")


async def test_a_viewer_that_joins_between_keyframes_starts_with_the_last_one_at_once(
    open_program: Open, new_receiver: Any
) -> None:
    hand = await open_program(ProgramFormat(512, 288, 24, 1_000_000, marker=True))
    first = new_receiver()
    await first.watch(hand.program)
    for _ in range(36):  # into the middle of a group of pictures
        await first.marked()
    forced = hand.program.statistics().keyframe_requests
    second = new_receiver()
    await second.watch(hand.program)
    joined_index, _ = await second.marked()
    seen = [(await first.marked())[0] for _ in range(6)]
    assert joined_index <= seen[-1]
    assert hand.program.statistics().keyframe_requests == forced
    following = [(await second.marked())[0] for _ in range(20)]
    assert [joined_index, *following] == hand.sent_from(joined_index, 21)


async def test_a_keyframe_request_gets_a_new_keyframe_at_most_once_a_second(
    open_program: Open, new_receiver: Any
) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    indices = [(await receiver.marked())[0] for _ in range(3)]
    for _ in range(5):
        await receiver.ask_for_keyframe()
        indices.append((await receiver.marked())[0])
    indices += [(await receiver.marked())[0] for _ in range(20)]
    assert indices == sorted(set(indices))
    assert hand.program.statistics().keyframe_requests >= 5


async def test_the_program_counts_what_it_sent(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    for _ in range(32):  # two may not count as due: its first keyframe, and a frame made while it connected
        await receiver.marked()
    statistics = hand.program.statistics()
    assert statistics.frames_sent >= 30
    assert statistics.frames_due >= statistics.frames_sent
    assert 0 < statistics.continuous_play_ratio <= 1
    assert statistics.max_gap_s > 0
    assert statistics.bytes_sent > 0
    assert statistics.viewers == 1


async def test_what_is_on_air_is_reported_when_it_changes(open_program: Open, flat_clip: Callable[..., Clip]) -> None:
    clock = FakeClock()
    hand = await open_program(clock=clock)
    stage = hand.program.stage
    await clock.advance(0.5)
    assert hand.changed == []
    stage.show_preview("p1", flat_clip("p1").frames, 0)
    await clock.advance(0.1)
    stage.take(flat_clip("p1"), FADE)
    await clock.advance(0.1)
    stage.blank()
    await clock.advance(0.1)
    stage.resume()
    await clock.advance(0.1)
    assert hand.changed == [
        (OnAir.PREVIEW, "p1"),
        (OnAir.CLIP, "p1"),
        (OnAir.BLANK, None),
        (OnAir.CLIP, "p1"),
    ]


async def test_without_viewers_receipts_come_in_time_and_nothing_is_encoded(
    open_program: Open, flat_clip: Callable[..., Clip]
) -> None:
    clock = FakeClock(start=50.0)
    hand = await open_program(clock=clock)
    await clock.advance(1.0)
    hand.program.stage.take(flat_clip("p1"), CUT)
    await clock.advance(1.0)
    (shown,) = hand.shown
    assert shown.first == FirstShown("p1", "picture", None)
    assert shown.sent_at == pytest.approx(50.0 + shown.frame_index / 24)
    assert shown.frame_index in (24, 25, 26)
    assert hand.program.statistics().encoded_frames == 0
    assert hand.program.statistics().continuous_play_ratio == 1.0


async def test_frames_that_cannot_be_composed_hold_the_last_picture(
    open_program: Open, new_receiver: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    last_good = [(await receiver.marked())[0] for _ in range(5)][-1]

    def broken(*_: object) -> None:
        raise ValueError("scripted")

    monkeypatch.setattr(hand.program._frame_maker._compositor, "compose", broken)
    held = [(await receiver.marked())[0] for _ in range(30)]
    assert len(set(held[-10:])) == 1
    assert held[-1] >= last_good
    assert hand.program.statistics().frames_failed > 0
    assert caplog.text.count("could not be composed") == 1  # logged at the first failure, not for each frame


async def test_a_broken_encoder_is_replaced(
    open_program: Open, new_receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    for _ in range(5):
        await receiver.marked()
    (encoder,) = hand.program._frame_maker._encoders.values()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("scripted")

    monkeypatch.setattr(encoder, "encode", broken)
    indices = [(await receiver.marked())[0] for _ in range(30)]
    assert indices == hand.sent_from(indices[0], 30)
    assert hand.program.statistics().frames_failed == 1
    assert list(hand.program._frame_maker._encoders.values()) != [encoder]


async def test_a_callback_that_raises_does_not_stop_the_program(
    open_program: Open, flat_clip: Callable[..., Clip]
) -> None:
    clock = FakeClock()
    hand = await open_program(clock=clock)

    def broken(_: object) -> None:
        raise RuntimeError("scripted")

    hand.program._on_shown = broken
    hand.program.stage.take(flat_clip("p1"), CUT)
    await clock.advance(0.2)
    hand.program._on_shown = hand._note(hand.shown)
    hand.program.stage.take(flat_clip("p2"), CUT)
    await clock.advance(0.2)
    assert [shown.first.prompt_id for shown in hand.shown] == ["p2"]


async def test_a_program_that_is_delayed_goes_on_at_the_due_frame(open_program: Open) -> None:
    clock = FakeClock()
    hand = await open_program(clock=clock)
    await clock.advance(0.5)
    due_before = hand.program.stage._frame_index
    clock._now += 2.0  # the machine slept
    await clock.advance(0.1)
    assert hand.program.stage._frame_index == pytest.approx(due_before + 2 * 24, abs=4)


async def test_a_viewer_that_says_goodbye_is_freed(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    await receiver.marked()
    await receiver.close()
    await hand.until(lambda: hand.lost)
    assert hand.lost == [receiver.viewer_id]
    assert hand.program.num_viewers == 0


async def test_a_viewer_that_vanishes_is_noticed_by_its_silence_and_the_others_stay(
    open_program: Open, new_receiver: Any, impatient: Any
) -> None:
    hand = await open_program(timeouts=impatient)
    gone, stays = new_receiver(), new_receiver()
    for receiver in (gone, stays):
        await receiver.watch(hand.program)
        await receiver.marked()
    gone.vanish()
    await hand.until(lambda: hand.lost)
    assert hand.lost == [gone.viewer_id]
    assert hand.program.num_viewers == 1
    await stays.marked()


async def test_a_viewer_that_never_connects_is_freed(open_program: Open, new_receiver: Any, impatient: Any) -> None:
    hand = await open_program(timeouts=impatient)
    receiver = new_receiver()
    viewer_id, _ = await hand.program.add_viewer(await receiver.offer())
    receiver.vanish()
    await hand.until(lambda: hand.lost)
    assert hand.lost == [viewer_id]
    statistics = hand.program.statistics()
    assert statistics.encoded_frames == 1, "one picture opens the encoder, and no further one is made"
    assert statistics.frames_due == 0
    await hand.program.add_viewer(await new_receiver().offer())
    assert hand.program.num_viewers == 0


async def test_a_removed_viewer_is_not_reported_as_lost(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    await receiver.marked()
    await hand.program.remove_viewer(receiver.viewer_id)
    await hand.program.remove_viewer(receiver.viewer_id)
    assert hand.program.num_viewers == 0
    assert hand.program.rtp_timestamp(receiver.viewer_id, 1) is None
    assert hand.lost == []


async def test_opening_and_closing_leaves_no_task_no_socket_and_no_thread(
    open_program: Open, new_receiver: Any
) -> None:
    async def one_round(how: int) -> None:
        hand = await open_program()
        receiver = new_receiver()
        if how % 3 == 0:  # watched and closed by the program
            await receiver.watch(hand.program)
            await receiver.marked()
        elif how % 3 == 1:  # answered, never connected
            await hand.program.add_viewer(await receiver.offer())
        else:  # refused
            with pytest.raises(OfferError):
                await hand.program.add_viewer((await receiver.offer()).replace("H264", "H265").replace("VP8", "VP7"))
        await hand.program.close()
        await receiver.close()

    def held() -> tuple[int, int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()), threading.active_count()

    for how in range(3):  # libraries open files that they keep
        await one_round(how)
    await settle()
    before = held()
    for how in range(10):
        await one_round(how)
    await settle()
    assert held() == before


async def test_a_viewer_that_hangs_in_close_keeps_nothing_else_open(
    open_program: Open, new_receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    released = asyncio.Event()

    async def hang() -> None:
        while not released.is_set():  # not even a cancellation ends it
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    hand = await open_program(timeouts=ViewerTimeouts(close_s=0.5))
    hangs, breaks, lost, other = (new_receiver() for _ in range(4))
    for receiver in (hangs, breaks, lost, other):
        await receiver.watch(hand.program)
        await receiver.marked()
    peers = {
        name: hand.program._peers[one.viewer_id]
        for name, one in (("hangs", hangs), ("breaks", breaks), ("lost", lost), ("other", other))
    }
    closed = [peers[name]._connection.close for name in ("hangs", "breaks", "lost")]
    peers["hangs"]._connection.close = peers["lost"]._connection.close = hang
    peers["breaks"]._connection.close = lambda: 1 / 0
    try:
        hand.program.drop_viewer(lost.viewer_id)
        await hand.program.close()
        assert peers["other"]._connection.connectionState == "closed"
        assert hand.program.num_viewers == 0 and hand.program._fanout.num_takers == 0
        assert hand.program._pacer_task.done() and hand.program._run_task.done()
        assert not any(thread.name.startswith("program") for thread in threading.enumerate())
        assert "did not close" in caplog.text
        assert "TimeoutError" in caplog.text and "ZeroDivisionError" in caplog.text
    finally:
        released.set()
        await asyncio.gather(*(close() for close in closed))


async def settle() -> None:
    """aiortc's connecting task ends by itself, up to 20 ms after its connection was closed."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5.0)


def test_a_preview_becomes_a_small_jpeg(flat_clip: Callable[..., Clip]) -> None:
    program = Program(ProgramFormat(), on_shown=print, on_changed=print, on_viewer_lost=print)
    picture = program.jpeg(flat_clip("p1", luma=128).frames)
    assert picture[:3] == b"\xff\xd8\xff"
    assert picture[-2:] == b"\xff\xd9"
    assert len(picture) < 8000


def test_the_picture_on_air_is_the_clips_own_frame_without_marker_or_blank(flat_clip: Callable[..., Clip]) -> None:
    program = Program(
        ProgramFormat(width=512, height=288, marker=True), on_shown=print, on_changed=print, on_viewer_lost=print
    )
    clip = flat_clip("p1", luma=128)
    program.stage.take(clip, Transition("cut", 0.0))
    program.stage.picture(0)
    program.stage.blank()
    program.stage.picture(1)
    on_air = program.picture_on_air(clip.frames.width, clip.frames.height)
    assert np.array_equal(on_air.planes, clip.frames.planes[:1])
    assert not np.shares_memory(on_air.planes, clip.frames.planes)


def test_the_picture_on_air_in_mid_fade_is_the_mixture(flat_clip: Callable[..., Clip]) -> None:
    program = Program(ProgramFormat(), on_shown=print, on_changed=print, on_viewer_lost=print)
    program.stage.take(flat_clip("p1", luma=50), Transition("cut", 0.0))
    program.stage.picture(0)
    program.stage.take(flat_clip("p2", luma=150), Transition("crossfade", 1.0))
    for frame_index in range(1, 13):
        program.stage.picture(frame_index)
    on_air = program.picture_on_air(224, 128)
    assert 90 < on_air.planes[0, :128].mean() < 110


async def test_the_stock_sender_delivers_the_same_pictures(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    ours, stock = new_receiver(), new_receiver()
    await ours.watch(hand.program)
    hand.program._uses_stock_sender = True
    await stock.watch(hand.program)
    seen: list[dict[int, Any]] = []
    for receiver in (ours, stock):
        pictures = {}
        for _ in range(40):
            planes, _ = await receiver.picture()
            pictures[marker.read(planes)] = planes
        seen.append(pictures)
    common = seen[0].keys() & seen[1].keys()
    assert len(common) > 10
    for index in common:
        assert np.array_equal(seen[0][index], seen[1][index])


async def test_a_loop_is_encoded_once_and_then_replayed(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program(ProgramFormat(width=256, height=144, frame_rate=24))
    receiver = new_receiver()
    await receiver.watch(hand.program)
    planes = np.full((25, 128 * 3 // 2, 224), 128, np.uint8)
    planes[:, :128] = (60 + 6 * np.arange(25))[:, None, None]
    planes[-1] = planes[0]
    hand.program.stage.take(Clip("p1", Frames(planes), 24, closes_on_itself=True, after="loop"), CUT)
    await hand.until(lambda: hand.shown)
    start = hand.shown[0].frame_index
    lumas: dict[int, float] = {}
    for _ in range(24 * 5):
        picture, timestamp = await receiver.picture()
        index = ((timestamp - hand.program.rtp_timestamp(receiver.viewer_id, start)) & 0xFFFFFFFF) / 3750
        if index < 10_000:
            lumas[int(index)] = float(picture[40:100].mean())
    statistics = hand.program.statistics()
    assert statistics.replayed_frames > 24
    later = [lumas[k] for k in range(73, 97) if k in lumas and k - 24 in lumas]
    earlier = [lumas[k - 24] for k in range(73, 97) if k in lumas and k - 24 in lumas]
    assert later == earlier  # the very same packets
    assert len(set(later)) > 12
    assert statistics.encoded_frames < statistics.frames_due - 24


async def test_a_program_in_which_nothing_changes_encodes_nothing(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program(ProgramFormat(width=256, height=144, frame_rate=24))
    receiver = new_receiver()
    await receiver.watch(hand.program)
    hand.program.stage.blank()
    for _ in range(40):
        await receiver.picture()
    before = hand.program.statistics()
    for _ in range(48):
        await receiver.picture()
    after = hand.program.statistics()
    assert after.encoded_frames == before.encoded_frames
    assert after.replayed_frames - before.replayed_frames >= 40

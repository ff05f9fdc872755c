"""Token buckets and the outbox: its limits, dropping, numbering and replay."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.clock import FakeClock
from server.protocol.messages import FrameStamp, PromptPreview, PromptReady, StatsUpdated
from server.session.limits import MAX_PENDING, MAX_PENDING_DROPPABLE, MAX_REPLAYED, ConnectionLimits, Outbox, ReplayGap


def ready(number: int) -> PromptReady:
    return PromptReady(prompt_id=f"p{number}")


def preview(number: int, frame: FrameStamp | None = None) -> PromptPreview:
    return PromptPreview(prompt_id=f"p{number}", step_index=0, num_steps=4, frame=frame)


def stats() -> StatsUpdated:
    return StatsUpdated(
        frames_sent=0,
        frames_due=0,
        continuous_play_ratio=1.0,
        max_gap_ms=0.0,
        sent_frame_rate=0.0,
        bitrate=0.0,
        viewers=0,
        engine="ready",
    )


class Reader:
    """An outbox, and a reader in place of the writer."""

    def __init__(self) -> None:
        self.num_overflows = 0
        self.outbox = Outbox("s1", wall_time=lambda: 1.5, on_overflow=self._overflow)

    def _overflow(self) -> None:
        self.num_overflows += 1

    async def read(self) -> list[dict[str, Any]]:
        """All waiting messages."""
        messages = []
        while self.outbox.statistics().num_pending:
            text = await self.outbox.next_text()
            assert text is not None
            messages.append(json.loads(text))
        return messages


async def test_events_are_numbered_without_gaps_and_stamped() -> None:
    reader = Reader()
    for number in range(3):
        reader.outbox.put(ready(number))
    sent = await reader.read()
    assert [message["seq"] for message in sent] == [0, 1, 2]
    assert {message["session_id"] for message in sent} == {"s1"}
    assert {message["ts"] for message in sent} == {1.5}


async def test_unread_previews_and_stats_are_dropped_oldest_first_and_leave_no_gap() -> None:
    reader = Reader()
    reader.outbox.put(stats())
    for number in range(MAX_PENDING_DROPPABLE):
        reader.outbox.put(preview(number))
    reader.outbox.put(ready(99))
    sent = await reader.read()
    assert [message["type"] for message in sent] == ["prompt.preview"] * MAX_PENDING_DROPPABLE + ["prompt.ready"]
    assert [message["seq"] for message in sent] == list(range(len(sent)))
    assert reader.outbox.statistics().num_dropped == 1


async def test_a_receipt_is_never_dropped_for_previews() -> None:
    reader = Reader()
    stamp = FrameStamp(frame_index=1, rtp_timestamp=None, sent_at_ms=1.0)
    reader.outbox.put(preview(0, stamp))
    for number in range(2 * MAX_PENDING_DROPPABLE):
        reader.outbox.put(preview(number))
    sent = await reader.read()
    assert sent[0]["frame"] is not None


async def test_a_controller_that_does_not_read_overflows_once_and_can_still_resume() -> None:
    reader = Reader()
    for number in range(MAX_PENDING + 10):
        reader.outbox.put(ready(number))
    assert reader.num_overflows == 1
    reader.outbox.replay_after(-1)
    sent = await reader.read()
    assert [message["prompt_id"] for message in sent] == [f"p{number}" for number in range(MAX_PENDING + 10)]
    assert [message["seq"] for message in sent] == list(range(MAX_PENDING + 10))


async def test_replay_starts_after_the_last_seq_and_goes_on_with_what_is_new() -> None:
    reader = Reader()
    for number in range(5):
        reader.outbox.put(ready(number))
    await reader.read()
    reader.outbox.put(ready(5))
    reader.outbox.replay_after(2)
    assert [message["seq"] for message in await reader.read()] == [3, 4, 5]


async def test_a_gap_in_the_replay_raises_and_changes_nothing() -> None:
    reader = Reader()
    for number in range(MAX_REPLAYED + 50):
        reader.outbox.put(ready(number))
        await reader.read()
    with pytest.raises(ReplayGap) as caught:
        reader.outbox.replay_after(10)
    assert caught.value.oldest_seq == 50
    assert await reader.read() == []
    reader.outbox.replay_after(-1)  # all events still kept, despite the gap
    assert len(await reader.read()) == MAX_REPLAYED


async def test_a_repeated_answer_keeps_its_number() -> None:
    reader = Reader()
    answer = reader.outbox.put(ready(0))
    reader.outbox.repeat(answer)  # still waits to be sent, so it is not queued again
    assert len(await reader.read()) == 1
    reader.outbox.put(ready(1))
    reader.outbox.repeat(answer)
    assert [message["seq"] for message in await reader.read()] == [1, 0]
    reader.outbox.put(ready(2))
    assert [message["seq"] for message in await reader.read()] == [2]


async def test_a_cancelled_reader_takes_nothing() -> None:
    reader = Reader()
    waiting = asyncio.create_task(reader.outbox.next_text())
    await asyncio.sleep(0)
    reader.outbox.put(ready(0))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert [message["seq"] for message in await reader.read()] == [0]


async def test_a_closed_outbox_gives_the_waiting_messages_and_then_none() -> None:
    reader = Reader()
    reader.outbox.put(ready(0))
    reader.outbox.close()
    assert await reader.outbox.next_text() is not None
    assert await reader.outbox.next_text() is None


async def test_thirty_prompts_in_three_seconds_pass_and_a_flood_does_not() -> None:
    clock = FakeClock()
    limits = ConnectionLimits(clock)
    for _ in range(30):
        assert limits.prompts.take() == 0.0
        await clock.advance(0.1)
    waits = [limits.prompts.take() for _ in range(100)]
    assert waits[-1] > 0


async def test_a_refused_client_may_come_back_after_the_time_it_was_told() -> None:
    clock = FakeClock()
    bucket = ConnectionLimits(clock).prompts
    while (wait_s := bucket.take()) == 0.0:
        pass
    await clock.advance(wait_s)
    assert bucket.take() == 0.0

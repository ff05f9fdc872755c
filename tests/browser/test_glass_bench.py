"""`sceneshift bench glass` measures what it says: frame numbers read out of decoded pictures, matched with receipts."""

from __future__ import annotations

from typing import Any

import pytest

from bench.live import glass
from bench.live.glass import Frame

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_prompt_is_measured_at_the_glass(browser: Any, synthetic_url: str) -> None:
    plan = [{"text": "scene 5", "delayMs": 0}, {"text": "scene 9", "delayMs": 0}]
    seen = await glass._watch(browser, synthetic_url, plan, "fast")
    frames = [Frame(*record) for record in seen["frames"]]
    assert frames and all(frame.index is not None for frame in frames)
    for one in glass._measured(seen["sent"], seen["events"], frames):
        assert one.ends == ["applied"]
        assert one.picture_glass_ms is not None and one.picture_server_ms is not None
        assert one.preview_glass_ms is not None and one.preview_glass_ms <= one.picture_glass_ms
    assert seen["errors"] == []


async def test_a_frame_that_the_browser_left_out_is_measured_at_the_next_one() -> None:
    frames = [Frame(10, 1000.0, 1, 0.1), Frame(None, 1040.0, 2, 0.1), Frame(13, 1120.0, 3, 0.1)]
    assert glass._on_glass(frames, 12, sent_at_ms=900.0) == 220.0
    assert glass._on_glass(frames, 14, sent_at_ms=900.0) is None


async def test_a_second_end_of_a_prompt_is_counted() -> None:
    sent = [{"promptId": "a", "text": "x", "at": 0.0}]
    ends = [{"at": 1.0, "message": {"type": f"prompt.{end}", "prompt_id": "a"}} for end in ("failed", "cancelled")]
    assert glass._measured(sent, ends, [])[0].ends == ["failed", "cancelled"]


async def test_drops_and_stalls_are_read_from_the_numbers_and_times() -> None:
    frames = [Frame(1, 0.0, 1, 1.0), Frame(2, 42.0, 2, 1.0), Frame(5, 242.0, 4, 1.0)]
    viewer = glass._viewer(frames)
    assert (viewer["numbers_left_out"], viewer["stalls_over_150_ms"], viewer["frames_presented_unread"]) == (2, 1, 1)

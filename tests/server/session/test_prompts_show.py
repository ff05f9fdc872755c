"""A finished clip on a stage, between a shelf, an engine and a program that the test drives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import ABLE_MODEL, SessionHarness, error_code, frames, only, types

from engine.api import EngineState, EngineStopped, Frames, Quality
from server.protocol.errors import Refused
from server.protocol.messages import SessionOptions
from server.session.neighbours import FinishedClip

CLIP = FinishedClip("video_1", "sea", 7, Quality.FINE, None, 12)


@dataclass
class FakeShelf:
    """`found` opens the file that is being read, with frames or an error."""

    refusal: Refused | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    reads: list[asyncio.Future[Frames]] = field(default_factory=list)
    wanted: list[dict[str, Any]] = field(default_factory=list)

    async def find(self, clip_id: str, tenant: str) -> FinishedClip:
        self.asked.append((clip_id, tenant))
        if self.refusal is not None:
            raise self.refusal
        return CLIP

    async def read(self, clip: FinishedClip, **wanted: Any) -> tuple[Frames, Frames | None]:
        self.wanted.append(wanted)
        self.reads.append(asyncio.get_running_loop().create_future())
        read = await self.reads[-1]
        return read, Frames(read.planes[-1:]) if wanted["start_size"] else None


@pytest.fixture
def shelf() -> FakeShelf:
    return FakeShelf()


def make(shelf: FakeShelf, **options: Any) -> SessionHarness:
    return SessionHarness(SessionOptions(**{"transition": "cut"} | options), shelf=shelf, tenant="us")


async def show(harness: SessionHarness, **fields: object) -> list[dict[str, Any]]:
    said = await harness.say("program.show", **{"clip_id": "video_1"} | fields)
    await asyncio.sleep(0)  # the task that reads begins
    return said


async def open_file(shelf: FakeShelf, found: Frames | Exception) -> None:
    """Ends the newest reading."""
    if isinstance(found, Exception):
        shelf.reads[-1].set_exception(found)
    else:
        shelf.reads[-1].set_result(found)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_finished_clip_is_accepted_read_and_applied_like_a_prompt(shelf: FakeShelf) -> None:
    harness = make(shelf)
    accepted = only(await show(harness, event_id="e1"), "prompt.accepted")
    assert (accepted["event_id"], accepted["prompt_id"], accepted["clip_id"]) == ("e1", "p1", "video_1")
    assert (accepted["text"], accepted["seed"], accepted["quality"]) == ("sea", 7, "fine")
    assert shelf.asked == [("video_1", "us")]
    await harness.clock.advance(0.4)
    await open_file(shelf, frames(6))
    harness.program.send_frame()
    said = await harness.hear()
    assert only(said, "program.changed")["prompt_id"] == "p1"
    timings = only(said, "prompt.applied")["timings"]
    assert (timings["decoded_ms"], timings["queued_ms"], timings["denoised_ms"]) == (400.0, 0.0, 0.0)
    assert harness.engine.generated == []
    assert harness.ends() == {"p1": ["applied"]}


async def test_with_a_manual_take_the_clip_waits_for_it(shelf: FakeShelf) -> None:
    harness = make(shelf, take="manual")
    await show(harness)
    await open_file(shelf, frames(4))
    assert types(await harness.hear()) == ["prompt.ready"]
    await harness.say("program.take")
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"p1": ["applied"]}


async def test_a_shown_clip_supersedes_the_prompt_that_is_made_and_a_prompt_the_clip_that_is_read(
    shelf: FakeShelf,
) -> None:
    harness = make(shelf)
    await harness.say("prompt.set", text="sea", prompt_id="a")
    await show(harness, prompt_id="b")
    assert harness.engine.cancelled_ids == [harness.generation_id]
    harness.confirm_cancel()
    await harness.say("prompt.set", text="sea", prompt_id="c")
    await asyncio.sleep(0)
    assert shelf.reads[-1].cancelled()
    harness.make_clip()
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"a": ["superseded"], "b": ["superseded"], "c": ["applied"]}


async def test_the_end_of_the_session_ends_the_reading(shelf: FakeShelf) -> None:
    harness = make(shelf)
    await show(harness)
    await harness.session.close("client")
    await asyncio.sleep(0)
    assert shelf.reads[-1].cancelled()
    await harness.hear()
    assert harness.ends() == {"p1": ["cancelled"]}


async def test_a_file_that_has_gone_fails_the_prompt_and_the_show_goes_on(shelf: FakeShelf) -> None:
    harness = make(shelf)
    for fault, code in ((Refused("unknown_video", "gone"), "unknown_video"), (RuntimeError("ours"), "internal_error")):
        await show(harness)
        await open_file(shelf, fault)
        assert only(await harness.hear(), "prompt.failed")["error"]["code"] == code
    await show(harness, prompt_id="b")
    await open_file(shelf, frames(4))
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends()["b"] == ["applied"]


@pytest.mark.parametrize("code", ["unknown_video", "not_ready"])
async def test_a_clip_that_cannot_be_shown_is_refused_and_what_was_on_its_way_stays(
    shelf: FakeShelf, code: Any
) -> None:
    harness = make(shelf)
    await harness.say("prompt.set", text="sea", prompt_id="a")
    shelf.refusal = Refused(code, "no", param="clip_id")
    assert error_code(await show(harness)) == code
    harness.make_clip()
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"a": ["applied"]}


async def test_without_a_shelf_a_clip_is_not_supported(harness: SessionHarness) -> None:
    assert error_code(await harness.say("program.show", clip_id="video_1")) == "not_supported"


async def test_an_engine_that_stops_for_good_does_not_end_a_clip_that_is_read(shelf: FakeShelf) -> None:
    harness = make(shelf)
    await show(harness)
    harness.engine.state = EngineState.FAILED
    harness.session.on_engine_stopped(EngineStopped("broken"))
    await open_file(shelf, frames(4))
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"p1": ["applied"]}
    await show(harness, prompt_id="b")  # finished clips need no engine
    await open_file(shelf, frames(4))
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends()["b"] == ["applied"]


async def test_a_morph_of_the_session_is_a_crossfade_and_its_other_options_hold(shelf: FakeShelf) -> None:
    harness = make(shelf)
    harness.engine.model = ABLE_MODEL
    await harness.say("session.update", transition="morph", transition_s=2.0, after="hold")
    taken: list[Any] = []
    harness.program.stage.take = lambda clip, transition: taken.append((clip, transition))  # type: ignore[method-assign]
    for given in ({}, {"transition": "cut", "after": "loop"}):
        await show(harness, **given)
        await open_file(shelf, frames(4))
    assert [(clip.after, how.kind, how.duration_s) for clip, how in taken] == [
        ("hold", "crossfade", 2.0),
        ("loop", "cut", 2.0),
    ]
    assert [clip.frame_rate for clip, _ in taken] == [12, 12]


async def test_a_scene_goes_on_from_a_clips_last_frame_in_the_models_size(shelf: FakeShelf) -> None:
    harness = make(shelf)
    harness.engine.model = ABLE_MODEL
    await harness.say("webrtc.offer", sdp="v=0")
    await show(harness, after="continue")
    assert shelf.wanted == [{"max_pixels": 832 * 480, "start_size": (32, 16)}]
    await open_file(shelf, frames(4))
    harness.program.send_frame()
    (command,) = harness.engine.generated
    assert (command.prompt, command.quality, command.seed, command.scene_seed) == ("sea", Quality.FINE, 8, 7)
    assert command.first_frame is not None


async def test_a_scene_that_cannot_go_on_is_refused(shelf: FakeShelf) -> None:
    harness = make(shelf)
    assert error_code(await show(harness, after="continue")) == "not_supported"
    harness.engine.model = None
    assert error_code(await show(harness, after="continue")) == "server_busy"
    assert harness.ends() == {}


async def test_a_retry_shows_the_clip_once(shelf: FakeShelf) -> None:
    harness = make(shelf)
    await show(harness, event_id="e1")
    again = only(await show(harness, event_id="e1"), "prompt.accepted")
    assert again["prompt_id"] == "p1" and len(shelf.reads) == 1

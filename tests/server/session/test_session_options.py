"""Options that only some models support (morph, continued scenes, LoRA), deadlines, reuse and degradation."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from fakes import ABLE_MODEL, MODEL, SessionHarness, error_code, frames, only, types

from engine.api import (
    EngineBusy,
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    EngineUnavailable,
    FramesReady,
    Generate,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    Quality,
    Reuse,
    StepFinished,
    Timings,
)
from server.protocol.messages import SessionOptions
from server.session.prompts import PROMISE_COSTS, PROMISE_S
from tests.seeds import seeds

MakeHarness = Callable[..., SessionHarness]
NO_TIMINGS = Timings(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def able(make_harness: MakeHarness) -> SessionHarness:
    harness = make_harness()
    harness.engine.model = ABLE_MODEL
    return harness


# --- unsupported options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["session.update", "prompt.set"])
@pytest.mark.parametrize(("field", "value"), [("transition", "morph"), ("after", "continue")])
async def test_unsupported_options_are_refused_by_name(
    harness: SessionHarness, kind: str, field: str, value: str
) -> None:
    text = {"text": "sea"} if kind == "prompt.set" else {}
    said = await harness.say(kind, event_id="e1", **text, **{field: value})
    error = only(said, "error")["error"]
    assert (error["code"], error["param"], error["event_id"]) == ("not_supported", field, "e1")
    assert "fake" in error["message"] and "`cut`" in error["message"] + "`cut`" * (field == "after")
    assert harness.engine.sent == []
    assert getattr(harness.session.options, field) != value


@pytest.mark.parametrize("kind", ["session.update", "prompt.set"])
async def test_an_unknown_lora_is_refused_with_those_that_exist(able: SessionHarness, kind: str) -> None:
    text = {"text": "sea"} if kind == "prompt.set" else {}
    error = only(await able.say(kind, lora="oil", **text), "error")["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "lora")
    assert "ink, 水墨" in error["message"]


async def test_a_lora_is_the_prompts_or_the_sessions_or_none(able: SessionHarness) -> None:
    await able.say("session.update", lora="ink")
    for given, expected in [({}, "ink"), ({"lora": "水墨"}, "水墨"), ({"lora": None}, None)]:
        await able.say("prompt.set", text="sea", **given)
        if len(able.engine.generated) > 1:
            able.confirm_cancel()
        assert able.engine.generated[-1].lora == expected
        able.make_clip()
        able.program.send_frame()


async def test_a_morph_accepted_before_the_model_is_known_fails_if_unsupported(harness: SessionHarness) -> None:
    harness.engine.model = None
    said = await harness.say("prompt.set", text="sea", prompt_id="p", transition="morph")
    assert "prompt.accepted" in types(said)
    assert harness.engine.generated == []
    harness.engine.model = MODEL
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=False)
    failed = only(await harness.hear(), "prompt.failed")
    assert failed["error"]["code"] == "not_supported"
    assert harness.ends() == {"p": ["failed"]}


async def test_a_morph_accepted_before_the_model_is_known_is_generated(harness: SessionHarness) -> None:
    harness.engine.model = None
    await harness.say("prompt.set", text="sea", transition="morph")
    harness.engine.model = ABLE_MODEL
    harness.session.on_engine_ready(EngineReady(ABLE_MODEL, 1.0), is_recovery=False)
    assert [command.prompt for command in harness.engine.generated] == ["sea"]


async def test_a_session_started_before_the_model_loses_unsupported_options(make_harness: MakeHarness) -> None:
    harness = make_harness(transition="morph", after="continue", lora="ink", quality="fine")
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=False)
    said = await harness.hear()
    assert [message["code"] for message in said if message["type"] == "session.warning"] == [
        "engine_ready",
        "not_supported",
    ]
    options = only(said, "session.updated")["options"]
    assert (options["transition"], options["after"], options["lora"]) == ("crossfade", "loop", None)
    assert options["quality"] == "fine"


async def test_a_session_started_before_the_model_keeps_supported_options(make_harness: MakeHarness) -> None:
    harness = make_harness(transition="morph", after="hold")
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=False)
    said = await harness.hear()
    options = only(said, "session.updated")["options"]
    assert (options["transition"], options["after"]) == ("crossfade", "hold")
    assert "fake cannot start" in said[1]["message"] and "goes on without" in said[1]["message"]


async def test_basic_options_need_no_check_when_the_model_is_ready(harness: SessionHarness) -> None:
    harness.engine.model = None
    await harness.say("prompt.set", text="sea")
    assert len(harness.engine.generated) == 1, "basic options need no check"
    await harness.hear()
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=False)
    assert [message["code"] for message in await harness.hear()] == ["engine_ready"]
    assert len(harness.engine.generated) == 1


@pytest.mark.parametrize(
    "given", [{"after": "continue"}, {"lora": "ink"}, {"transition": "morph"}], ids=["continue", "lora", "morph"]
)
async def test_an_unsupported_prompt_fails_by_name_when_the_model_is_known(
    harness: SessionHarness, given: dict
) -> None:
    harness.engine.model = None
    await harness.say("prompt.set", text="sea", prompt_id="p", **given)
    harness.engine.model = MODEL
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=False)
    error = only(await harness.hear(), "prompt.failed")["error"]
    assert error["param"] == next(iter(given)) and harness.engine.generated == []


# --- tenant and deadline ------------------------------------------------------------------------------------------


async def test_the_engine_gets_stage_operator_and_deadline_of_a_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one")
    harness.make_clip()
    harness.program.send_frame()
    await harness.say("prompt.set", text="two", audience=True)
    first, second = harness.engine.generated
    assert (first.stage_id, first.is_operator, first.is_stage_empty) == ("s1", True, True)
    assert (second.stage_id, second.is_operator, second.is_stage_empty) == ("s1", False, False)
    assert first.due_in_s == max(PROMISE_S, PROMISE_COSTS * 1.3)


async def test_a_slow_model_gets_a_longer_deadline(harness: SessionHarness) -> None:
    harness.engine.cost_s = lambda quality: 40.0  # type: ignore[method-assign]
    await harness.say("prompt.set", text="sea")
    assert harness.engine.generated[0].due_in_s == PROMISE_COSTS * 40.0


async def test_the_estimate_is_for_the_prompts_own_command(able: SessionHarness) -> None:
    asked = []
    able.engine.estimate = asked.append  # type: ignore[method-assign]
    await able.say("prompt.set", text="sea", quality="fine", lora="ink", seed=5, audience=True)
    (command,) = asked
    assert (command.prompt, command.quality, command.seed, command.lora) == ("sea", Quality.FINE, 5, "ink")
    assert (command.stage_id, command.is_operator, command.is_stage_empty) == ("s1", False, True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Reuse.ANY_SEED),
        ({"seed": 5}, Reuse.SAME_SEED),
        ({"fresh": True}, Reuse.NEVER),
        ({"fresh": True, "seed": 5}, Reuse.NEVER),
        ({"transition": "morph"}, Reuse.NEVER),
    ],
)
async def test_a_seed_fresh_and_morph_decide_which_clips_may_be_reused(
    able: SessionHarness, given: dict, expected: Reuse
) -> None:
    await able.say("prompt.set", text="sea", **given)
    assert able.engine.generated[0].reuse is expected


async def test_a_session_that_morphs_reuses_nothing(make_harness: MakeHarness) -> None:
    harness = make_harness(transition="morph")
    harness.engine.model = ABLE_MODEL
    await harness.say("prompt.set", text="sea", seed=5)
    assert harness.engine.generated[0].reuse is Reuse.NEVER


async def test_a_session_may_always_ask_for_fresh_clips(make_harness: MakeHarness) -> None:
    harness = make_harness(fresh=True, seed=7)
    await harness.say("prompt.set", text="sea")
    assert harness.engine.generated[0].reuse is Reuse.NEVER
    harness.make_clip()
    harness.program.send_frame()
    await harness.say("prompt.set", text="sea", fresh=False)
    assert harness.engine.generated[1].reuse is Reuse.SAME_SEED


# --- degradation --------------------------------------------------------------------------------------------------


async def test_degradation_and_its_end_are_reported_once_each(harness: SessionHarness) -> None:
    told = []
    for degraded in [(), ("fewer_steps",), ("fewer_steps",), ("fewer_steps", "tiny_decoder"), (), ()]:
        await harness.say("prompt.set", text="sea")
        harness.make_clip(degraded=degraded)
        harness.program.send_frame()
        said = await harness.hear()
        assert only(said, "prompt.started")["degraded"] == list(degraded)
        told.append([(m["code"], m["degraded"]) for m in said if m["type"] == "session.warning"])
        words = {"degraded": "short of time", "recovered": "as requested again"}
        assert all(words[m["code"]] in m["message"] for m in said if m["type"] == "session.warning")
    assert told == [
        [],
        [("degraded", ["fewer_steps"])],
        [],
        [("degraded", ["fewer_steps", "tiny_decoder"])],
        [("recovered", [])],
        [],
    ]


async def test_a_reused_clip_is_reported_and_does_not_end_a_degradation(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea")
    harness.make_clip(degraded=("fewer_steps",))
    harness.program.send_frame()
    await harness.say("prompt.set", text="sky")
    harness.start(is_reused=True)
    await harness.hear()
    said = harness.all_received
    assert [m["is_reused"] for m in said if m["type"] == "prompt.started"] == [False, True]
    assert [m["code"] for m in said if m["type"] == "session.warning"] == ["degraded"]


# --- a busy machine -----------------------------------------------------------------------------------------------


async def tell(
    harness: SessionHarness, *, core_share: float | None, is_starved: bool, after_s: float = 1.0
) -> list[str]:
    """The warning codes that the session sends at its next tick."""
    harness.engine.core_share, harness.engine.is_starved = core_share, is_starved
    await harness.clock.advance(after_s)
    harness.session.tick()
    return [m["code"] for m in await harness.hear() if m["type"] == "session.warning"]


async def test_a_busy_machine_is_reported_with_its_core_share_and_its_end(harness: SessionHarness) -> None:
    assert await tell(harness, core_share=0.9, is_starved=False) == []
    assert await tell(harness, core_share=0.11846, is_starved=True) == ["machine_busy"]
    warning = next(m for m in harness.all_received if m["type"] == "session.warning")
    assert warning["core_share"] == 0.118
    assert "12% of a core" in warning["message"]
    assert await tell(harness, core_share=0.1, is_starved=True) == []
    assert await tell(harness, core_share=0.9, is_starved=False) == ["machine_free"]
    assert (
        "cores that it needs again"
        in [m for m in harness.all_received if m["type"] == "session.warning"][-1]["message"]
    )
    assert await tell(harness, core_share=None, is_starved=False) == []


async def test_a_busy_machine_is_reported_at_most_once_a_minute(harness: SessionHarness) -> None:
    told = []
    for _ in range(13):
        told += await tell(harness, core_share=0.1, is_starved=True, after_s=5.0)
        told += await tell(harness, core_share=0.9, is_starved=False, after_s=5.0)
    assert told == ["machine_busy", "machine_free"] * 3


# --- morph --------------------------------------------------------------------------------------------------------


async def test_a_morph_starts_from_the_frame_on_air_in_the_models_size(able: SessionHarness) -> None:
    await able.say("prompt.set", text="one", transition="morph")
    assert able.engine.generated[0].first_frame is None  # nothing is on air but the idle scene
    able.make_clip()
    able.program.send_frame()
    await able.say("prompt.set", text="two", transition="morph")
    first_frame = able.engine.generated[1].first_frame
    assert first_frame is not None
    assert (len(first_frame), first_frame.width, first_frame.height) == (1, ABLE_MODEL.width, ABLE_MODEL.height)
    await able.say("prompt.set", text="three")
    able.confirm_cancel()
    assert able.engine.generated[2].first_frame is None


async def test_previews_of_a_morph_go_to_the_controller_only(able: SessionHarness) -> None:
    await able.say("prompt.set", text="one", transition="morph")
    able.start()
    able.step(0)
    assert only(await able.hear(), "prompt.preview")["picture"] is not None
    assert able.program.stage.on_air[0] == "idle"


# --- continued scenes ---------------------------------------------------------------------------------------------


async def going_on(harness: SessionHarness, **fields: object) -> None:
    """A watched scene with `after: continue` is on air, and its next clip is asked for."""
    await harness.session.viewers.add("v=0")
    await harness.say("prompt.set", text="sea", prompt_id="sea", after="continue", **fields)
    harness.make_clip()
    harness.program.send_frame()


def play_out(harness: SessionHarness, num_frames: int = 12) -> None:
    for _ in range(num_frames):
        harness.program.send_frame()


async def test_a_scene_goes_on_from_its_last_frame_with_the_next_seed(able: SessionHarness) -> None:
    await going_on(able, seed=7, lora="ink", quality="fine", audience=True)
    following = able.engine.generated[1]
    assert (following.prompt, following.seed, following.quality) == ("sea", 8, Quality.FINE)
    assert (following.lora, following.is_operator, following.reuse) == ("ink", False, Reuse.NEVER)
    assert following.first_frame is not None and len(following.first_frame) == 1
    assert (following.is_stage_empty, following.wants_previews) == (False, False)
    # Four frames at 12 a second, then three a round: the first end after the 1.3 s that it takes alone.
    assert following.due_in_s == pytest.approx((8 + 5 * 6) / 24)
    able.start()
    able.deliver()
    play_out(able)
    event = only(await able.hear(), "prompt.continued")
    assert (event["prompt_id"], event["index"], event["seed"], event["is_late"]) == ("sea", 1, 8, False)
    assert [command.seed for command in able.engine.generated] == [7, 8, 9]
    # Open choices of a prompt are made once, so that the continued scene is the same one.
    assert [command.scene_seed for command in able.engine.generated] == [None, 7, 7]
    assert able.ends() == {"sea": ["applied"]}


async def test_each_continuation_is_reported_with_its_frame_and_index(able: SessionHarness) -> None:
    await going_on(able)
    followed = []
    follow = able.program.stage.follow
    able.program.stage.follow = lambda clip: followed.append(clip) or follow(clip)  # type: ignore[method-assign, func-returns-value]
    for _ in range(3):
        able.start()
        able.deliver()
        play_out(able)
    told = [message for message in await able.hear() if message["type"] == "prompt.continued"]
    assert [message["index"] for message in told] == [1, 2, 3]
    assert all(message["frame"]["frame_index"] > 0 and message["frame"]["sent_at_ms"] == 0.0 for message in told)
    assert [(clip.prompt_id, clip.after, clip.continuation) for clip in followed] == [
        ("sea", "continue", index) for index in (1, 2, 3)
    ]


async def test_a_continuation_has_the_stage_and_the_tenant() -> None:
    harness = SessionHarness(SessionOptions(), stage_id="show-2", tenant="them")
    harness.engine.model = ABLE_MODEL
    await going_on(harness)
    following = harness.engine.generated[1]
    assert (following.generation_id, following.stage_id, following.tenant) == ("show-2.2", "show-2", "them")


async def test_without_a_known_cost_the_next_clip_is_due_when_the_last_one_ends(able: SessionHarness) -> None:
    able.engine.cost_s = lambda quality: None  # type: ignore[method-assign]
    await going_on(able)
    assert able.engine.generated[1].due_in_s == pytest.approx(8 / 24)


async def test_a_continuation_that_the_stage_refuses_ends_the_scene(able: SessionHarness) -> None:
    await going_on(able)
    able.start()
    able.program.stage.follow = lambda clip: False  # type: ignore[method-assign]
    able.deliver()
    await able.clock.advance(1.0)
    able.session.tick()
    assert len(able.engine.generated) == 2


async def test_the_next_clip_is_due_at_the_end_of_the_clip_on_air_if_possible(able: SessionHarness) -> None:
    able.engine.cost_s = lambda quality: 0.2  # type: ignore[method-assign]
    await going_on(able)
    assert able.engine.generated[1].due_in_s == pytest.approx(8 / 24)


async def test_each_clip_starts_from_the_last_frame_of_the_one_before(able: SessionHarness) -> None:
    await going_on(able)
    for value in (10, 20):
        clip = frames(4)
        clip.planes[-1] = value
        able.session.on_generation_event(GenerationStarted(able.generation_id, 4))
        able.session.on_generation_event(FramesReady(able.generation_id, 0, clip))
        able.session.on_generation_event(GenerationFinished(able.generation_id, 4, NO_TIMINGS))
        play_out(able)
        first_frame = able.engine.generated[-1].first_frame
        assert first_frame is not None and np.all(first_frame.planes == value)


async def test_a_late_continuation_is_counted_and_reported(able: SessionHarness) -> None:
    await going_on(able)
    play_out(able, 12)
    able.start()
    able.deliver()
    play_out(able, 12)
    assert only(await able.hear(), "prompt.continued")["is_late"] is True
    assert 'sceneshift_continuations_total{timing="late"} 1.0' in able.metrics.render().decode()


async def test_a_newer_prompt_ends_the_continued_scene(able: SessionHarness) -> None:
    await going_on(able)
    following = able.generation_id
    await able.say("prompt.set", text="sky", after="loop")
    assert able.engine.cancelled_ids == [following]
    able.confirm_cancel(following)
    able.make_clip()
    play_out(able, 30)
    assert [command.prompt for command in able.engine.generated] == ["sea", "sea", "sky"]
    assert "prompt.continued" not in types(await able.hear())


@pytest.mark.parametrize(
    ("kind", "fields"), [("program.blank", {}), ("prompt.cancel", {"prompt_id": "sea"})], ids=["blank", "cancel"]
)
async def test_a_blank_or_a_cancel_ends_the_continued_scene(able: SessionHarness, kind: str, fields: dict) -> None:
    await going_on(able)
    following = able.generation_id
    await able.hear()
    assert only(await able.say(kind, event_id="e9", **fields), "program.changed")["event_id"] == "e9"
    able.confirm_cancel(following)
    await able.clock.advance(5.0)
    able.session.tick()
    assert len(able.engine.generated) == 2
    assert able.ends() == {"sea": ["applied"]}


async def test_no_continuation_is_generated_without_a_viewer(able: SessionHarness) -> None:
    await going_on(able)
    following = able.generation_id
    able.program.lose("v1")
    able.session.tick()
    assert able.engine.cancelled_ids == [following]
    able.confirm_cancel(following)
    await able.clock.advance(1.0)
    able.session.tick()
    assert len(able.engine.generated) == 2
    await able.session.viewers.add("v=0")  # a viewer is back
    assert [command.seed for command in able.engine.generated[1:]] == [able.engine.generated[1].seed] * 2


async def test_a_busy_engine_is_asked_again(able: SessionHarness) -> None:
    await able.session.viewers.add("v=0")
    await able.say("prompt.set", text="sea", after="continue")
    able.make_clip()
    able.engine.refusal = EngineBusy("full", retry_after_s=1.0)
    able.program.send_frame()
    assert len(able.engine.generated) == 1
    able.engine.refusal = None
    await able.clock.advance(1.0)
    able.session.tick()
    assert len(able.engine.generated) == 2


async def test_an_engine_that_is_unavailable_is_not_asked_again(able: SessionHarness) -> None:
    await able.session.viewers.add("v=0")
    await able.say("prompt.set", text="sea", after="continue")
    able.make_clip()
    able.engine.refusal = EngineUnavailable("closed")
    able.program.send_frame()
    able.engine.refusal = None
    await able.clock.advance(1.0)
    able.session.tick()
    assert len(able.engine.generated) == 1


async def test_an_incomplete_continuation_leaves_the_scene_looping(able: SessionHarness) -> None:
    await going_on(able)
    await able.hear()
    able.start()
    able.session.on_generation_event(GenerationFinished(able.generation_id, 4, NO_TIMINGS))
    warning = only(await able.hear(), "session.warning")
    assert warning["code"] == "continuation_failed" and "incomplete clip: expected 4 frames" in warning["message"]
    play_out(able)
    assert len(able.engine.generated) == 2 and able.program.stage.on_air == ("clip", "sea")


async def test_wrong_frames_stop_a_continuation(able: SessionHarness) -> None:
    await going_on(able)
    await able.hear()
    able.start()
    for _ in range(2):
        able.deliver_first_chunk()
    warning = only(await able.hear(), "session.warning")
    assert warning["code"] == "continuation_failed" and "expected frame 1 next, got 0" in warning["message"]
    assert able.engine.cancelled_ids == [able.generation_id]


async def test_a_continuation_cancelled_by_the_engine_leaves_the_scene_looping(able: SessionHarness) -> None:
    await going_on(able)
    await able.hear()
    able.confirm_cancel()
    warning = only(await able.hear(), "session.warning")
    assert warning["code"] == "continuation_failed" and "stopped without being asked" in warning["message"]


async def test_a_failed_continuation_leaves_the_scene_looping_and_is_reported(able: SessionHarness) -> None:
    await going_on(able)
    able.session.on_generation_event(GenerationFailed(able.generation_id, "model_error", "it broke", retryable=True))
    warning = only(await able.hear(), "session.warning")
    assert warning["code"] == "continuation_failed" and "it broke" in warning["message"]
    able.session.tick()
    assert len(able.engine.generated) == 2
    assert able.program.stage.on_air == ("clip", "sea")


async def test_a_degraded_continuation_is_reported(able: SessionHarness) -> None:
    await going_on(able)
    await able.hear()
    able.start(degraded=("fewer_steps",))
    assert only(await able.hear(), "session.warning")["code"] == "degraded"


async def test_a_restarted_continuation_starts_without_frames(able: SessionHarness) -> None:
    await going_on(able)
    for _ in range(2):
        able.start()
        able.deliver_first_chunk()
    able.session.on_generation_event(FramesReady(able.generation_id, 1, frames(3)))
    able.session.on_generation_event(GenerationFinished(able.generation_id, 4, NO_TIMINGS))
    play_out(able)
    assert only(await able.hear(), "prompt.continued")["index"] == 1


async def test_a_loss_of_other_generations_keeps_the_continuations_frames(
    able: SessionHarness,
) -> None:
    await going_on(able)
    able.start()
    able.deliver_first_chunk()
    able.session.on_engine_lost(EngineLost("exited", "killed", ("s2.1",)))
    able.session.on_generation_event(FramesReady(able.generation_id, 1, frames(3)))
    able.session.on_generation_event(GenerationFinished(able.generation_id, 4, NO_TIMINGS))
    play_out(able)
    assert only(await able.hear(), "prompt.continued")["index"] == 1


async def test_after_an_engine_loss_the_next_clip_is_generated_again(able: SessionHarness) -> None:
    await going_on(able)
    able.start()
    able.deliver_first_chunk()
    able.session.on_engine_lost(EngineLost("exited", "killed", (able.generation_id,)))
    able.start()
    able.deliver()
    play_out(able)
    assert only(await able.hear(), "prompt.continued")["index"] == 1


async def test_without_an_engine_the_scene_loops(able: SessionHarness) -> None:
    await going_on(able)
    able.engine.state = EngineState.FAILED
    able.session.on_engine_stopped(EngineStopped("again and again"))
    able.session.tick()
    assert len(able.engine.generated) == 2
    assert error_code(await able.say("prompt.cancel", prompt_id="sea")) == "too_late"


async def test_a_closing_session_stops_its_next_clip(able: SessionHarness) -> None:
    await going_on(able)
    following = able.generation_id
    await able.session.close("client")
    assert able.engine.cancelled_ids == [following]


# --- random actions -----------------------------------------------------------------------------------------------


@pytest.mark.random
async def test_random_actions_end_each_prompt_once_and_generate_nothing_unseen(make_harness: MakeHarness) -> None:
    """Prompts, cancels, blanks, viewers that come and go, an engine that finishes, fails, and is lost."""
    num_continued = 0
    for seed in seeds(25):
        harness = make_harness()
        harness.engine.model = ABLE_MODEL
        await play_at_random(harness, random.Random(seed))
        num_continued += types(harness.all_received).count("prompt.continued")
    assert num_continued > 25


async def play_at_random(able: SessionHarness, chance: random.Random) -> None:
    able.engine.cost_s = lambda quality: 0.3  # type: ignore[method-assign]
    live: dict[str, int] = {}  # in the engine: steps done
    num_seen = num_prompts = 0
    for _ in range(500):
        act = chance.randrange(60)
        if act == 0 or num_prompts == 0:
            after, transition = (
                chance.choice(["loop", "continue", "hold"]),
                chance.choice(["cut", "crossfade", "morph"]),
            )
            await able.say("prompt.set", text="sea", prompt_id=f"p{num_prompts}", after=after, transition=transition)
            num_prompts += 1
        elif act == 1:
            await able.say("prompt.cancel", prompt_id=f"p{chance.randrange(num_prompts)}")
        elif act == 2:
            await able.say(chance.choice(["program.blank", "program.resume", "program.resume"]))
        elif act in (3, 6) and len(able.program.viewers) < 3:
            await able.session.viewers.add("v=0")
        elif act == 4 and able.program.viewers:
            able.program.lose(able.program.viewers[0])
        elif act == 5:
            await able.clock.advance(1.0)
            able.session.tick()
        elif act > 6:
            able.program.send_frame()
        for command in able.engine.sent[num_seen:]:
            if isinstance(command, Generate):
                assert not live, "one generation of a session at a time"
                is_continuation = command.first_frame is not None and not command.wants_previews
                assert able.program.viewers or not is_continuation
                live[command.generation_id] = 0
        num_seen = len(able.engine.sent)
        for name in list(live):
            if name in able.engine.cancelled_ids and chance.random() < 0.7:
                able.confirm_cancel(name)
                del live[name]
            elif chance.random() < 0.4 and name not in able.engine.cancelled_ids:
                advance(able, name, live, chance)
        await able.hear()
    await able.session.close("client")
    await able.hear()
    assert able.ends().keys() == {f"p{number}" for number in range(num_prompts)}
    assert all(len(ends) == 1 for ends in able.ends().values())


def advance(harness: SessionHarness, name: str, live: dict[str, int], chance: random.Random) -> None:
    """The engine's next event of this generation."""
    tell = harness.session.on_generation_event
    if live[name] == 0:
        tell(GenerationStarted(name, 2))
    elif live[name] < 3 and chance.random() < 0.05:
        harness.session.on_engine_lost(EngineLost("exited", "killed", (name,)))
        live[name] = -1
    elif live[name] < 3 and chance.random() < 0.05:
        del live[name]
        tell(GenerationFailed(name, "model_error", "it broke", retryable=True))
        return
    elif live[name] < 3:
        tell(StepFinished(name, live[name] - 1, 2))
    else:
        del live[name]
        tell(FramesReady(name, 0, frames(4)))
        tell(GenerationFinished(name, 4, NO_TIMINGS))
        return
    live[name] += 1

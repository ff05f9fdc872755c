"""One session, between an engine and a program that the test drives, on a fake clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import MODEL, FakeController, FakeEngine, FakeProgram, SessionHarness, error_code, frames, only, types

from engine.api import (
    EngineBusy,
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    EngineUnavailable,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    PreviewReady,
    Quality,
    Reuse,
    StepFinished,
    Timings,
)
from server.clock import FakeClock
from server.config import WhipTarget
from server.media.program_format import ProgramFormat
from server.metrics import Metrics
from server.protocol.errors import Refused
from server.protocol.messages import IceServer, SessionOptions, SessionResume, SessionStart
from server.session.answered import MAX_REMEMBERED
from server.session.prompt import MAX_ENDED
from server.session.prompts import PROMISE_COSTS
from server.session.session import IllegalSessionMove, Neighbours, Session, SessionMove, SessionState
from server.stage.picture import OnAir, Transition

MakeHarness = Callable[..., SessionHarness]


# --- the life of a prompt -----------------------------------------------------------------------------------------


async def test_accepted_lists_words_the_model_does_not_know(harness: SessionHarness) -> None:
    accepted = only(await harness.say("prompt.set", text="sea dragon"), "prompt.accepted")
    assert (accepted["understood"], accepted["not_understood"]) == (["sea"], ["dragon"])


async def test_a_prompt_is_accepted_started_previewed_and_applied_once(harness: SessionHarness) -> None:
    said = await harness.say("prompt.set", text="sea", event_id="e1", seed=7)
    accepted = only(said, "prompt.accepted")
    assert (accepted["event_id"], accepted["seed"], accepted["quality"]) == ("e1", 7, "fast")
    assert accepted["prompt_id"] == "p1"
    assert accepted["estimated_preview_ms"] == pytest.approx(200.0 + 1000 / 24, abs=0.1)
    assert accepted["estimated_picture_ms"] == pytest.approx(1500.0 + 1000 / 24, abs=0.1)
    harness.make_clip()
    harness.program.send_frame()
    heard = await harness.hear()
    assert only(heard, "prompt.started")["not_understood"] == ["blorp"]
    assert [message["step_index"] for message in heard if message["type"] == "prompt.preview"] == [0, 1, 2, 3]
    assert harness.ends() == {accepted["prompt_id"]: ["applied"]}


async def test_the_engine_gets_all_options_of_a_prompt(make_harness: MakeHarness) -> None:
    harness = make_harness(seed=9, quality="fine")
    await harness.say("prompt.set", text="sea")
    assert harness.engine.generated == [
        Generate(
            "s1.1",
            "sea",
            Quality.FINE,
            9,
            reuse=Reuse.SAME_SEED,
            stage_id="s1",
            is_stage_empty=True,
            due_in_s=PROMISE_COSTS * 1.3,
        )
    ]


async def test_generations_are_named_after_the_stage_and_belong_to_the_tenant() -> None:
    harness = SessionHarness(SessionOptions(), stage_id="show-2", tenant="them")
    await harness.say("prompt.set", text="sea")
    (command,) = harness.engine.generated
    assert (command.generation_id, command.stage_id, command.tenant) == ("show-2.1", "show-2", "them")


async def test_accepted_has_no_estimate_if_the_engine_has_none(harness: SessionHarness) -> None:
    harness.engine.estimate = lambda command: None  # type: ignore[method-assign]
    accepted = only(await harness.say("prompt.set", text="sea"), "prompt.accepted")
    assert (accepted["estimated_preview_ms"], accepted["estimated_picture_ms"]) == (None, None)


async def test_started_lists_the_words_that_the_model_understood(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    started = only(await harness.hear(), "prompt.started")
    expected = {"prompt_id": "sea", "num_steps": 4, "attempt": 1, "understood": ["sea"], "not_understood": ["blorp"]}
    assert started.items() >= expected.items()


async def test_prompts_are_counted_by_their_end_and_timed_until_they_are_seen(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea")
    await harness.clock.advance(0.25)
    harness.start()
    harness.step(0)
    harness.program.send_frame()
    await harness.clock.advance(0.5)
    harness.deliver()
    harness.program.send_frame()
    metrics = harness.metrics.render().decode()
    assert "sceneshift_prompt_to_preview_seconds_sum 0.25" in metrics
    assert "sceneshift_prompt_to_picture_seconds_sum 0.75" in metrics
    assert 'sceneshift_prompts_total{end="applied"} 1.0' in metrics


async def test_a_take_uses_the_prompts_transition_or_the_sessions(make_harness: MakeHarness) -> None:
    harness = make_harness(transition="cut", transition_s=2.0)
    taken = []
    harness.program.stage.take = lambda clip, transition: taken.append(transition)  # type: ignore[method-assign]
    for given in ({}, {"transition": "crossfade"}, {"transition_s": 0.5}):
        await harness.say("prompt.set", text="sea", **given)
        harness.make_clip()
    assert taken == [Transition("cut", 2.0), Transition("crossfade", 2.0), Transition("cut", 0.5)]


async def test_the_receipt_says_which_frame_and_where_the_time_went(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    await harness.say("prompt.set", text="sea")
    await harness.clock.advance(1.0)
    harness.make_clip()
    await harness.clock.advance(0.5)
    harness.program.send_frame()
    applied = only(await harness.hear(), "prompt.applied")
    assert applied["frame"] == {"frame_index": 0, "rtp_timestamp": 1000, "sent_at_ms": 1500.0}
    assert applied["timings"] == {
        "queued_ms": 100.0,
        "text_ms": 200.0,
        "denoised_ms": 300.0,
        "previewed_ms": 50.0,
        "decoded_ms": 400.0,
        "composed_ms": 1.0,
        "encoded_ms": 4.0,
        "total_ms": 1500.0,
    }


async def test_without_a_peer_the_receipt_has_no_rtp_timestamp(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea")
    harness.make_clip()
    harness.program.send_frame()
    assert only(await harness.hear(), "prompt.applied")["frame"]["rtp_timestamp"] is None


async def test_the_first_preview_on_air_is_reported_with_its_frame_once(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea")
    harness.start()
    harness.step(0)
    harness.program.send_frame()
    harness.step(1)
    harness.program.send_frame()
    previews = [message for message in await harness.hear() if message["type"] == "prompt.preview"]
    assert {(preview["prompt_id"], preview["num_steps"]) for preview in previews} == {("p1", 4)}
    assert [(preview["step_index"], preview["frame"] is not None) for preview in previews] == [
        (0, False),
        (0, True),
        (1, False),
    ]
    assert previews[0]["picture"].startswith("data:image/jpeg;base64,")
    assert previews[1]["picture"] is None


async def test_a_last_step_without_a_preview_is_reported_too(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea")
    harness.start()
    for step_index in range(4):
        harness.step(step_index, with_preview=step_index < 3)
    harness.deliver_first_chunk()  # the first of its frames, not the last, says that the step is done
    previews = [message for message in await harness.hear() if message["type"] == "prompt.preview"]
    assert [(preview["step_index"], preview["picture"] is not None) for preview in previews] == [
        (0, True),
        (1, True),
        (2, True),
        (3, False),
    ]


async def test_previews_for_the_controller_are_not_on_air(make_harness: MakeHarness) -> None:
    harness = make_harness(on_preview="controller")
    await harness.say("prompt.set", text="sea")
    harness.start()
    harness.step(0)
    preview = only(await harness.hear(), "prompt.preview")
    assert preview["picture"] is not None
    assert harness.program.stage.on_air == (OnAir.IDLE, None)


async def test_a_preview_that_was_made_before_they_were_turned_off_is_not_shown(make_harness: MakeHarness) -> None:
    harness = make_harness(on_preview="off")
    asked: list[Generate] = []
    harness.engine.estimate = asked.append  # type: ignore[method-assign, assignment]
    await harness.say("prompt.set", text="sea")
    assert [command.wants_previews for command in asked] == [False]
    harness.start()
    harness.session.on_generation_event(PreviewReady(harness.generation_id, 0, 4, frames(1)))
    preview = only(await harness.hear(), "prompt.preview")
    assert (preview["picture"], preview["num_steps"]) == (None, 4)
    assert harness.program.stage.on_air == (OnAir.IDLE, None)


async def test_without_previews_none_are_made_and_steps_are_still_reported(make_harness: MakeHarness) -> None:
    harness = make_harness(on_preview="off")
    await harness.say("prompt.set", text="sea")
    assert harness.engine.generated[0].wants_previews is False
    harness.start()
    harness.step(0, with_preview=False)
    assert only(await harness.hear(), "prompt.preview")["picture"] is None


async def test_turning_previews_off_takes_the_running_one_off_air(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea")
    harness.start()
    harness.step(0)
    assert harness.program.stage.on_air[0] is OnAir.PREVIEW
    said = await harness.say("session.update", on_preview="controller")
    assert harness.program.stage.on_air[0] is OnAir.IDLE
    assert only(said, "session.updated")["options"]["on_preview"] == "controller"


async def test_the_program_says_what_is_on_air(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.make_clip()
    harness.program.send_frame()
    changes = [
        (message["on_air"], message["prompt_id"])
        for message in await harness.hear()
        if message["type"] == "program.changed"
    ]
    assert changes == [("preview", "sea"), ("clip", "sea")]


@pytest.mark.parametrize(("given", "expected"), [({"seed": 5}, 5), ({}, 9)], ids=["its own", "the session's"])
async def test_the_seed_is_the_prompts_or_the_sessions(make_harness: MakeHarness, given: dict, expected: int) -> None:
    harness = make_harness(seed=9)
    assert only(await harness.say("prompt.set", text="sea", **given), "prompt.accepted")["seed"] == expected


async def test_a_random_seed_is_reported_and_used(make_harness: MakeHarness) -> None:
    harness = make_harness(seed=9)
    reported = only(await harness.say("prompt.set", text="sea", seed=None), "prompt.accepted")["seed"]
    assert harness.engine.generated[0].seed == reported != 9


# --- the newest wins ----------------------------------------------------------------------------------------------


async def test_a_newer_prompt_supersedes_at_once_and_waits_for_the_engine(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="one")
    harness.start()
    said = await harness.say("prompt.set", text="two", prompt_id="two")
    assert types(said)[-2:] == ["prompt.superseded", "prompt.accepted"]
    assert only(said, "prompt.superseded")["by_prompt_id"] == "two"
    assert harness.engine.cancelled_ids == ["s1.1"]
    assert len(harness.engine.generated) == 1  # one at a time
    harness.confirm_cancel("s1.1")
    assert [command.prompt for command in harness.engine.generated] == ["one", "two"]


async def test_thirty_prompts_in_three_seconds(harness: SessionHarness) -> None:
    """The newest is applied, the others are superseded, and few of those are generated."""
    for number in range(30):
        await harness.say("prompt.set", text=f"prompt {number}", prompt_id=f"p{number}")
        await harness.clock.advance(0.1)
        if number % 3 == 2:  # the engine comes to a step's end from time to time
            harness.confirm_cancel()
    harness.make_clip()
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {f"p{number}": ["superseded"] for number in range(29)} | {"p29": ["applied"]}
    assert harness.engine.generated[-1].prompt == "prompt 29"
    unfinished = {command.generation_id for command in harness.engine.generated[:-1]}
    assert unfinished == set(harness.engine.cancelled_ids)


async def test_a_burst_costs_one_generation_beyond_the_one_that_ran(harness: SessionHarness) -> None:
    for number in range(30):
        await harness.say("prompt.set", text=f"prompt {number}")
    harness.confirm_cancel()
    assert [command.prompt for command in harness.engine.generated] == ["prompt 0", "prompt 29"]


async def test_a_clip_that_is_finished_too_late_does_not_go_on_air(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="one")
    harness.start()
    await harness.say("prompt.set", text="two", prompt_id="two")
    harness.deliver()  # the cancel came too late for the engine
    assert harness.program.stage.on_air[1] != "one"
    assert harness.engine.generated[-1].prompt == "two"


async def test_a_superseded_preview_stays_until_the_newer_one_replaces_it(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="one")
    harness.start()
    harness.step(0)
    await harness.say("prompt.set", text="two", prompt_id="two")
    assert harness.program.stage.on_air == (OnAir.PREVIEW, "one")
    await harness.say("prompt.cancel", prompt_id="two")
    assert harness.program.stage.on_air == (OnAir.IDLE, None)


async def test_a_clip_that_was_taken_before_the_next_prompt_is_applied(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="one")
    harness.make_clip()
    await harness.say("prompt.set", text="two", prompt_id="two")
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"one": ["applied"]}


async def test_below_a_blank_the_newer_clip_supersedes_the_unseen_one(harness: SessionHarness) -> None:
    await harness.say("program.blank")
    for name in ("one", "two"):
        await harness.say("prompt.set", text=name, prompt_id=name)
        harness.make_clip()
        harness.program.send_frame()
    await harness.say("program.resume")
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"one": ["superseded"], "two": ["applied"]}


# --- cancel -------------------------------------------------------------------------------------------------------


async def test_cancelling_a_generating_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    harness.step(0)
    cancelled = only(await harness.say("prompt.cancel", prompt_id="sea", event_id="e2"), "prompt.cancelled")
    assert (cancelled["event_id"], cancelled["num_steps_done"]) == ("e2", 1)
    assert harness.engine.cancelled_ids == ["s1.1"]
    assert harness.program.stage.on_air == (OnAir.IDLE, None)
    harness.deliver()  # even if the engine had finished
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"sea": ["cancelled"]}


async def test_cancelling_a_waiting_prompt_never_reaches_the_engine(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one")
    await harness.say("prompt.set", text="two", prompt_id="two")
    await harness.say("prompt.cancel", prompt_id="two")
    harness.confirm_cancel()
    assert [command.prompt for command in harness.engine.generated] == ["one"]


async def test_cancelling_an_unknown_prompt_is_refused(harness: SessionHarness) -> None:
    error = only(await harness.say("prompt.cancel", prompt_id="nothing", event_id="e1"), "error")["error"]
    assert (error["code"], error["param"], error["event_id"]) == ("unknown_prompt", "prompt_id", "e1")
    assert "`nothing`" in error["message"]
    assert 'sceneshift_refusals_total{code="unknown_prompt"} 1.0' in harness.metrics.render().decode()


async def test_cancelling_an_ended_prompt_is_too_late(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.make_clip()
    harness.program.send_frame()
    error = only(await harness.say("prompt.cancel", prompt_id="sea"), "error")["error"]
    assert (error["code"], error["param"]) == ("too_late", "prompt_id")
    assert error["message"] == "`sea` is applied already"


async def test_cancelling_a_taken_prompt_is_too_late_before_it_is_shown(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.make_clip()
    assert "`sea` is taken" in only(await harness.say("prompt.cancel", prompt_id="sea"), "error")["error"]["message"]
    error = only(await harness.say("prompt.set", text="sky", prompt_id="sea"), "error")["error"]
    assert (error["code"], error["param"]) == ("prompt_id_taken", "prompt_id")
    assert "`sea`" in error["message"]


async def test_a_prompt_id_is_used_once(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="p1")
    assert error_code(await harness.say("prompt.set", text="two", prompt_id="p1")) == "prompt_id_taken"
    accepted = only(await harness.say("prompt.set", text="three"), "prompt.accepted")
    assert accepted["prompt_id"] != "p1"  # our own ids avoid the client's


async def test_a_repeated_cancel_gets_the_same_answer(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    said = [await harness.say("prompt.cancel", prompt_id="sea", event_id="e2") for _ in range(2)]
    assert only(said[0], "prompt.cancelled") == only(said[1], "prompt.cancelled")
    assert harness.engine.cancelled_ids == ["s1.1"]


# --- manual take, blank -------------------------------------------------------------------------------------------


async def test_with_manual_take_the_clip_waits_and_nothing_unfinished_is_on_air(make_harness: MakeHarness) -> None:
    harness = make_harness(take="manual")
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.make_clip()
    heard = await harness.hear()
    assert only(heard, "prompt.ready")["prompt_id"] == "sea"
    assert harness.program.stage.on_air == (OnAir.IDLE, None)
    changed = only(await harness.say("program.take", transition="cut", event_id="e9"), "program.changed")
    assert (changed["on_air"], changed["prompt_id"], changed["event_id"]) == ("clip", "sea", "e9")
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"sea": ["applied"]}


async def test_a_newer_prompt_supersedes_a_waiting_clip(make_harness: MakeHarness) -> None:
    harness = make_harness(take="manual")
    await harness.say("prompt.set", text="one", prompt_id="one")
    harness.make_clip()
    assert "prompt.superseded" in types(await harness.say("prompt.set", text="two"))
    assert error_code(await harness.say("program.take")) == "nothing_to_take"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Transition("crossfade", 2.0)),
        ({"transition": "cut"}, Transition("cut", 2.0)),
        ({"transition_s": 0.25}, Transition("crossfade", 0.25)),
    ],
    ids=["the prompt's", "another kind", "another length"],
)
async def test_a_manual_take_may_have_a_transition_of_its_own(
    make_harness: MakeHarness, given: dict, expected: Transition
) -> None:
    harness = make_harness(take="manual", transition_s=2.0)
    taken = []
    harness.program.stage.take = lambda clip, transition: taken.append((clip.prompt_id, transition))  # type: ignore[method-assign]
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.make_clip()
    await harness.say("program.take", **given)
    assert taken == [("sea", expected)]


async def test_a_take_without_a_waiting_clip_is_refused(harness: SessionHarness) -> None:
    assert error_code(await harness.say("program.take")) == "nothing_to_take"


async def test_blank_and_resume_are_answered_even_if_nothing_changes(harness: SessionHarness) -> None:
    for kind, on_air in [
        ("program.blank", "blank"),
        ("program.blank", "blank"),
        ("program.resume", "idle"),
        ("program.resume", "idle"),
    ]:
        assert only(await harness.say(kind), "program.changed")["on_air"] == on_air


# --- trouble in the engine ----------------------------------------------------------------------------------------


async def test_a_lost_engine_costs_an_attempt_and_not_the_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    harness.step(0)
    harness.session.on_engine_lost(EngineLost("exited", "killed", (harness.generation_id,)))
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=True)
    harness.make_clip()
    harness.program.send_frame()
    heard = await harness.hear()
    warnings = [message["code"] for message in heard if message["type"] == "session.warning"]
    assert warnings == ["engine_lost", "engine_recovered"]
    assert [message["attempt"] for message in heard if message["type"] == "prompt.started"] == [1, 2]
    assert harness.ends() == {"sea": ["applied"]}


async def test_frames_from_before_the_loss_are_discarded(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    harness.deliver_first_chunk()
    harness.session.on_engine_lost(EngineLost("exited", "killed", (harness.generation_id,)))
    harness.make_clip()
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"sea": ["applied"]}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("engine_lost", "engine_lost"),
        ("out_of_memory", "out_of_memory"),
        ("model_error", "model_error"),
        ("a code of tomorrow", "model_error"),
    ],
)
async def test_the_engines_codes_reach_the_controller(harness: SessionHarness, given: str, told: str) -> None:
    await harness.say("prompt.set", text="sea")
    harness.session.on_generation_event(GenerationFailed(harness.generation_id, given, "no clip", False))
    failed = only(await harness.hear(), "prompt.failed")
    assert (failed["error"]["type"], failed["error"]["code"]) == ("engine", told)


async def test_a_failed_generation_fails_the_prompt_and_the_next_one_works(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="one")
    harness.start()
    harness.step(0)
    harness.session.on_generation_event(GenerationFailed(harness.generation_id, "out_of_memory", "no memory", True))
    failed = only(await harness.hear(), "prompt.failed")
    assert (failed["error"]["type"], failed["error"]["code"]) == ("engine", "out_of_memory")
    assert failed["error"]["retryable"] is True
    assert harness.program.stage.on_air == (OnAir.IDLE, None)
    await harness.say("prompt.set", text="two", prompt_id="two")
    harness.make_clip()
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"one": ["failed"], "two": ["applied"]}


async def test_an_incomplete_clip_fails_the_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    timings = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
    harness.session.on_generation_event(GenerationFinished(harness.generation_id, 4, timings))
    error = only(await harness.hear(), "prompt.failed")["error"]
    assert (error["code"], error["retryable"]) == ("model_error", True)
    assert "incomplete clip: expected 4 frames, got 0" in error["message"]


async def test_a_generation_cancelled_by_the_engine_fails_the_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    harness.confirm_cancel()
    error = only(await harness.hear(), "prompt.failed")["error"]
    assert (error["code"], error["retryable"]) == ("model_error", True)
    assert "stopped" in error["message"]


async def test_frames_without_a_known_model_fail_the_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    harness.engine.model = None
    harness.deliver_first_chunk()
    assert "no model" in only(await harness.hear(), "prompt.failed")["error"]["message"]


async def test_warnings_of_an_engine_loss_and_return_name_reason_and_model(harness: SessionHarness) -> None:
    harness.session.on_engine_lost(EngineLost("exited", "killed", ()))
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=True)
    harness.session.on_engine_ready(EngineReady(MODEL, 1.0), is_recovery=False)
    lost, recovered, ready = await harness.hear()
    assert [message["code"] for message in (lost, recovered, ready)] == [
        "engine_lost",
        "engine_recovered",
        "engine_ready",
    ]
    assert "(exited)" in lost["message"] and "back" in recovered["message"] and "model fake" in ready["message"]


async def test_a_busy_engine_fails_the_prompt_with_a_retry_time(harness: SessionHarness) -> None:
    harness.engine.refusal = EngineBusy("64 wait", retry_after_s=2.0)
    failed = only(await harness.say("prompt.set", text="sea"), "prompt.failed")
    assert (failed["error"]["code"], failed["error"]["retry_after_ms"]) == ("engine_busy", 2000)


async def test_an_engine_that_refuses_fails_the_prompt(harness: SessionHarness) -> None:
    harness.engine.refusal = EngineUnavailable("closed")
    assert only(await harness.say("prompt.set", text="sea"), "prompt.failed")["error"]["code"] == "engine_unavailable"


async def test_with_a_dead_engine_prompts_are_rejected_and_the_session_lives(harness: SessionHarness) -> None:
    harness.engine.state = EngineState.FAILED
    rejected = only(await harness.say("prompt.set", text="sea", event_id="e1"), "prompt.rejected")
    assert (rejected["error"]["code"], rejected["event_id"]) == ("engine_unavailable", "e1")
    assert types(await harness.say("session.ping")) == ["session.pong"]


@pytest.mark.parametrize("state", [EngineState.FAILED, EngineState.CLOSED])
async def test_a_rejected_prompt_has_its_end_and_a_retry_gets_it_again(
    harness: SessionHarness, state: EngineState
) -> None:
    harness.engine.state = state
    said = [await harness.say("prompt.set", text="sea", prompt_id="sea", event_id="e1") for _ in range(2)]
    rejected = only(said[0], "prompt.rejected")
    assert rejected == only(said[1], "prompt.rejected") and rejected["prompt_id"] == "sea"
    assert rejected["error"]["type"] == "engine" and rejected["error"]["message"]
    assert 'sceneshift_prompts_total{end="rejected"} 1.0' in harness.metrics.render().decode()
    assert error_code(await harness.say("prompt.set", text="sea", prompt_id="sea")) == "prompt_id_taken"


async def test_a_loss_of_other_generations_keeps_the_prompts_frames(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    harness.deliver_first_chunk()
    harness.session.on_engine_lost(EngineLost("exited", "killed", ("s2.1",)))
    harness.session.on_generation_event(FramesReady(harness.generation_id, 1, frames(3)))
    timings = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
    harness.session.on_generation_event(GenerationFinished(harness.generation_id, 4, timings))
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"sea": ["applied"]}


async def test_the_place_in_the_engine_is_free_only_when_its_generation_ends(
    harness: SessionHarness,
) -> None:
    slot = harness.session.slot
    for _ in range(2):
        slot.send(Generate("s1.7", "sea"))
        assert not slot.hear(StepFinished("s1.7", 0, 4)) and not slot.hear(GenerationCancelled("s1.6", 0))
        assert not slot.is_free
        assert slot.hear(GenerationCancelled("s1.7", 1)) and slot.is_free
    slot.send(Generate("s1.8", "sea"))
    slot.on_engine_stopped()
    assert slot.is_free and slot.num_steps == 2


async def test_a_waiting_clip_outlives_the_engine(make_harness: MakeHarness) -> None:
    harness = make_harness(take="manual")
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.make_clip()
    harness.session.on_engine_stopped(EngineStopped("would not start"))
    await harness.say("program.take")
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"sea": ["applied"]}


async def test_an_engine_that_stops_for_good_fails_the_waiting_prompt(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="one", prompt_id="one")
    await harness.say("prompt.set", text="two", prompt_id="two")
    harness.session.on_engine_stopped(EngineStopped("would not start"))
    heard = await harness.hear()
    warning = only(heard, "session.warning")
    assert warning["code"] == "engine_failed" and "could not be brought back" in warning["message"]
    assert harness.ends() == {"one": ["superseded"], "two": ["failed"]}


async def test_prompts_wait_while_the_engine_starts(harness: SessionHarness) -> None:
    harness.engine.state = EngineState.STARTING
    assert "prompt.accepted" in types(await harness.say("prompt.set", text="sea"))
    assert len(harness.engine.generated) == 1


# --- retries ------------------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_same_answer_and_is_applied_once(harness: SessionHarness) -> None:
    first = only(await harness.say("prompt.set", text="sea", event_id="e1"), "prompt.accepted")
    again = only(await harness.say("prompt.set", text="sea", event_id="e1"), "prompt.accepted")
    assert again == first
    assert len(harness.engine.generated) == 1


async def test_another_message_under_the_same_id_is_a_conflict(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", event_id="e1")
    said = await harness.say("prompt.set", text="land", event_id="e1")
    assert error_code(said) == "event_id_conflict"
    assert only(said, "error")["error"]["event_id"] == "e1"


async def test_a_refused_message_may_be_sent_again(make_harness: MakeHarness) -> None:
    harness = make_harness(take="manual")
    assert error_code(await harness.say("program.take", event_id="e1")) == "nothing_to_take"
    await harness.say("prompt.set", text="sea")
    harness.make_clip()
    assert only(await harness.say("program.take", event_id="e1"), "program.changed")["on_air"] == "clip"


async def test_only_the_newest_ended_prompts_are_remembered(harness: SessionHarness) -> None:
    for number in range(MAX_ENDED + 1):
        await harness.say("prompt.set", text="sea", prompt_id=f"p{number}")
        await harness.say("prompt.cancel", prompt_id=f"p{number}")
    codes = [error_code(await harness.say("prompt.cancel", prompt_id=f"p{number}")) for number in (0, 1, MAX_ENDED)]
    assert codes == ["unknown_prompt", "too_late", "too_late"]


async def test_the_memory_of_ids_is_bounded(harness: SessionHarness) -> None:
    for number in range(3 * MAX_REMEMBERED):
        await harness.say("prompt.set", text="sea", event_id=f"e{number}")
    assert len(harness.session.receipts.answered) == MAX_REMEMBERED
    assert len(harness.session.prompts._ids._ended) == MAX_ENDED


# --- viewers ------------------------------------------------------------------------------------------------------


async def test_a_second_offer_replaces_the_first_peer(harness: SessionHarness) -> None:
    assert only(await harness.say("webrtc.offer", sdp="v=0", event_id="e1"), "webrtc.answer")["sdp"] == "v=0 answer"
    assert types(await harness.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]
    assert harness.program.viewers == ["v2"]


async def test_a_second_offer_needs_no_second_place(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    for _ in range(2):
        await harness.session.viewers.add("v=0")
    assert types(await harness.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]
    assert harness.program.viewers == ["v2", "v3", "v4"]


async def test_a_second_offer_gets_the_udp_port_of_the_first_peer(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    harness.program.num_ports = 1
    assert types(await harness.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]
    assert harness.program.viewers == ["v2"]
    with pytest.raises(Refused) as caught:
        await harness.session.viewers.add("v=0")
    assert (caught.value.detail.code, caught.value.detail.retry_after_ms) == ("too_many_viewers", 5000)


async def test_a_second_offer_that_is_bad_leaves_the_first_peer(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    assert error_code(await harness.say("webrtc.offer", sdp="hello")) == "invalid_sdp"
    assert harness.program.viewers == ["v1"]


async def test_a_peer_that_carries_the_messages_is_not_replaced(harness: SessionHarness) -> None:
    await harness.session.viewers.connect("v=0", on_channel=lambda channel: None)
    assert types(await harness.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]
    assert harness.program.viewers == ["v1", "v2"]


async def test_on_gone_is_called_once_for_each_viewer_that_is_gone(harness: SessionHarness) -> None:
    gone: list[str] = []
    for _ in range(3):
        await harness.session.viewers.add("v=0", on_gone=gone.append)
    harness.program.lose("v2")
    await harness.session.viewers.remove("v1")
    await harness.session.close("client")
    assert gone == ["v2", "v1", "v3"]


async def test_a_bad_offer_has_its_code_and_a_good_one_passes_after_it(harness: SessionHarness) -> None:
    said = await harness.say("webrtc.offer", sdp="hello")
    assert error_code(said) == "invalid_sdp"
    assert only(said, "error")["error"]["param"] == "sdp"
    assert types(await harness.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]


async def test_another_offer_is_accepted_after_a_lost_peer(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    harness.program.lose("v1")
    warning = only(await harness.hear(), "session.warning")
    assert warning["code"] == "viewer_lost" and "another offer" in warning["message"]
    assert types(await harness.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]


async def test_changes_by_the_program_are_reported_while_the_session_is_open(
    harness: SessionHarness,
) -> None:
    harness.program.stage.blank()
    harness.program.on_changed(OnAir.BLANK, None)
    assert only(await harness.hear(), "program.changed")["on_air"] == "blank"
    await harness.session.close("client")
    await harness.hear()
    harness.program.stage.resume()
    harness.program.on_changed(OnAir.IDLE, None)
    assert await harness.hear() == []


async def test_a_session_of_a_server_without_a_folder_records_nothing(harness: SessionHarness) -> None:
    assert error_code(await harness.say("program.record", recording=True)) == "not_supported"


async def test_the_controller_gets_no_warning_for_another_viewers_loss(harness: SessionHarness) -> None:
    await harness.session.viewers.add("v=0")
    harness.program.lose("v1")
    assert await harness.hear() == []


async def test_an_answer_to_an_offer_names_its_event(harness: SessionHarness) -> None:
    assert only(await harness.say("webrtc.offer", sdp="v=0", event_id="e1"), "webrtc.answer")["event_id"] == "e1"
    assert only(await harness.say("session.ping", event_id="e2"), "session.pong")["event_id"] == "e2"


async def test_a_candidate_needs_a_peer(harness: SessionHarness) -> None:
    assert error_code(await harness.say("webrtc.candidate", candidate="candidate:1")) == "not_connected"
    await harness.say("webrtc.offer", sdp="v=0")
    assert await harness.say("webrtc.candidate", candidate="candidate:1", sdp_mid="0") == []
    assert harness.program.candidates == ["candidate:1"]


async def test_viewers_are_bounded(harness: SessionHarness) -> None:
    for _ in range(3):
        await harness.session.viewers.add("v=0")
    with pytest.raises(Refused) as caught:
        await harness.session.viewers.add("v=0")
    assert caught.value.detail.code == "too_many_viewers"
    await harness.session.viewers.remove("v2")
    await harness.session.viewers.add("v=0")


async def test_a_goodbye_after_the_connections_end_is_accepted_once(harness: SessionHarness) -> None:
    viewer_id, _ = await harness.session.viewers.add("v=0")
    harness.session.viewers.lose(viewer_id)
    await harness.session.viewers.remove(viewer_id)
    with pytest.raises(Refused):
        await harness.session.viewers.remove(viewer_id)


async def test_removing_an_unknown_viewer_is_refused(harness: SessionHarness) -> None:
    with pytest.raises(Refused) as caught:
        await harness.session.viewers.remove("v9")
    assert caught.value.detail.code == "unknown_viewer"


# --- its life -----------------------------------------------------------------------------------------------------


def resume(harness: SessionHarness, last_seq: int = -1, token: str | None = None) -> SessionResume:
    token = harness.session.resume_token if token is None else token
    return SessionResume(session_id="s1", resume_token=token, last_seq=last_seq, event_id="r1")


async def test_a_resumed_controller_gets_the_events_that_it_missed(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    last_seq = harness.all_received[-1]["seq"]
    harness.session.detach(harness.controller)
    assert harness.session.state is SessionState.DETACHED
    harness.make_clip()
    harness.program.send_frame()
    harness.session.take_up(FakeController(), resume(harness, last_seq))
    heard = await harness.hear()
    assert [message["seq"] for message in heard] == list(range(last_seq + 1, last_seq + 1 + len(heard)))
    assert (heard[-1]["type"], heard[-1]["event_id"]) == ("session.created", "r1")
    assert harness.ends() == {"sea": ["applied"]}


async def test_a_resume_aborts_a_connection_that_still_looks_alive(harness: SessionHarness) -> None:
    harness.session.take_up(FakeController(), resume(harness))
    assert harness.controller.aborted == "taken up by another connection"
    harness.session.detach(harness.controller)  # its handler ends later, and must not detach the new one
    assert harness.session.state is SessionState.OPEN


async def test_after_a_resume_a_new_offer_replaces_the_old_peer(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    harness.session.detach(harness.controller)
    harness.session.take_up(FakeController(), resume(harness))
    await harness.say("webrtc.offer", sdp="v=0")
    assert harness.program.viewers == ["v2"]


async def test_the_picture_goes_on_while_the_controller_is_away(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    harness.session.detach(harness.controller)
    assert harness.program.viewers == ["v1"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"token": "wrong"}, "wrong_token"), ({"token": "falsch-ü"}, "wrong_token"), ({"last_seq": 99}, "invalid_value")],
)
async def test_a_wrong_resume_changes_nothing(harness: SessionHarness, changes: dict, code: str) -> None:
    with pytest.raises(Refused) as caught:
        harness.session.take_up(FakeController(), resume(harness, **changes))
    assert (caught.value.detail.code, caught.value.detail.param) == (
        code,
        "last_seq" if "last_seq" in changes else "resume_token",
    )
    assert caught.value.detail.message
    assert harness.controller.aborted is None


async def test_a_resume_after_too_long_is_told_of_the_gap(harness: SessionHarness) -> None:
    for _ in range(300):
        await harness.say("session.ping")
    with pytest.raises(Refused) as caught:
        harness.session.take_up(FakeController(), resume(harness, last_seq=3))
    assert (caught.value.detail.code, caught.value.detail.param) == ("resume_gap", "last_seq")
    assert "resume with -1" in caught.value.detail.message


async def test_a_session_may_be_resumed_after_its_very_last_event(harness: SessionHarness) -> None:
    await harness.say("session.ping")
    last_seq = harness.all_received[-1]["seq"]
    harness.session.take_up(FakeController(), resume(harness, last_seq))
    assert types(await harness.hear()) == ["session.created"]


async def test_a_detached_session_knows_when_it_was_detached(harness: SessionHarness) -> None:
    assert harness.session.detached_at == 0.0
    await harness.clock.advance(5.0)
    harness.session.detach(FakeController())  # another connection
    assert harness.session.state is SessionState.OPEN
    harness.session.detach(harness.controller)
    assert (harness.session.state, harness.session.detached_at) == (SessionState.DETACHED, harness.clock.now())


async def test_a_resume_does_not_abort_a_connection_that_was_detached(harness: SessionHarness) -> None:
    harness.session.detach(harness.controller)
    harness.session.take_up(FakeController(), resume(harness))
    assert harness.controller.aborted is None


@pytest.mark.parametrize("move", [SessionMove.LOSE, SessionMove.TAKE_UP])
async def test_a_closed_session_cannot_be_moved(harness: SessionHarness, move: SessionMove) -> None:
    await harness.session.close("client")
    with pytest.raises(IllegalSessionMove, match=f"s1: `{move}` while closed"):
        harness.session._move(move)
    assert harness.session.state is SessionState.CLOSED


async def test_a_controller_that_does_not_read_is_dropped(harness: SessionHarness) -> None:
    for _ in range(300):
        harness.session.receipts.warn("draining", "again")
    assert harness.controller.aborted == "too many unread messages"


async def test_closing_ends_every_prompt_and_frees_the_program(make_harness: MakeHarness) -> None:
    harness = make_harness()
    await harness.session.open()
    await harness.say("prompt.set", text="sea", prompt_id="sea")
    harness.start()
    said = await harness.say("session.close", event_id="e1")
    assert types(said)[-1] == "session.closed"
    closed = said[-1]
    assert (closed["reason"], closed["event_id"], closed["usage"]["generations"]) == ("client", "e1", 1)
    assert harness.ends() == {"sea": ["cancelled"]}
    assert harness.engine.cancelled_ids == ["s1.1"]
    assert harness.program.is_open is False
    await harness.session.close("again")
    assert await harness.session.outbox.next_text() is None


async def test_session_closed_reports_the_usage(harness: SessionHarness) -> None:
    await harness.clock.advance(2.0)
    for name in ("one", "two"):
        await harness.say("prompt.set", text=name, prompt_id=name)
        harness.make_clip()
        harness.program.send_frame()
    await harness.say("prompt.set", text="three")
    harness.start()
    harness.step(0)
    await harness.say("prompt.cancel", prompt_id="p1")
    harness.step(1)  # the engine was in this step when the cancel came
    await harness.clock.advance(0.1234567)
    closed = only(await harness.say("session.close"), "session.closed")
    assert closed["usage"] == {
        "duration_s": 2.123,
        "generations": 3,
        "denoising_steps": 10,
        "engine_s": 0.0,
        "prompts_applied": 2,
    }
    assert harness.controller.num_farewells == 1


async def test_a_session_without_a_controller_closes() -> None:
    neighbours = Neighbours(FakeEngine(), Metrics(), FakeClock(), make_program=FakeProgram, max_viewers=1)
    session = Session("s2", SessionOptions(), neighbours)
    await session.close("client")
    assert session.state is SessionState.CLOSED


async def test_on_closed_is_called_once() -> None:
    closed: list[Session] = []
    harness = SessionHarness(SessionOptions(), on_closed=closed.append)
    for _ in range(2):
        await harness.session.close("client")
    assert closed == [harness.session]


async def test_nothing_is_sent_after_the_end(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    await harness.session.close("client")
    await harness.hear()
    harness.program.lose_music("the player died")
    harness.session.tick()
    assert await harness.hear() == []


async def test_a_second_start_is_refused(harness: SessionHarness) -> None:
    error = only(await harness.say("session.start"), "error")["error"]
    assert error["code"] == "session_exists" and "has a session" in error["message"]
    created = await harness.say("session.resume", session_id="s1", resume_token="t")
    assert error_code(created) == "session_exists"


async def test_the_program_is_made_as_the_options_say(make_harness: MakeHarness) -> None:
    harness = make_harness(
        width=640, height=360, frame_rate=12, bitrate=900_000, marker=True, music="calm", music_volume=0.2
    )
    assert harness.program.format == ProgramFormat(width=640, height=360, frame_rate=12, bitrate=900_000, marker=True)
    await harness.session.open()
    assert harness.program.is_open and harness.program.played == [("calm", 0.2)]


async def test_session_created_has_all_that_a_controller_needs() -> None:
    harness = SessionHarness(
        SessionOptions(quality="fine"),
        ice_servers=lambda session_id: (IceServer(urls=(f"stun:{session_id}",)),),
        push_targets={"stream": WhipTarget("stream", "https://ingest.example/whip", None)},
    )
    harness.session.answer_start(SessionStart(event_id="e1"))
    created = only(await harness.hear(), "session.created")
    assert created["event_id"] == "e1"
    assert created["resume_token"] == harness.session.resume_token
    assert len(harness.session.resume_token) == 32  # 192 bits
    assert created["options"]["quality"] == "fine"
    assert (created["model"]["name"], created["engine"]) == ("fake", "ready")
    assert created["estimated_picture_ms"] == pytest.approx(1500.0 + 1000 / 24, abs=0.1)
    assert created["ice_servers"] == [{"urls": ["stun:s1"]}]
    assert (created["music"], created["push_targets"]) == (["calm", "waves"], ["stream"])


async def test_the_estimate_of_a_new_session_is_for_its_quality_and_stage() -> None:
    harness = SessionHarness(SessionOptions(quality="fine"), tenant="them")
    asked: list[Generate] = []
    harness.engine.estimate = asked.append  # type: ignore[method-assign, assignment]
    harness.session.answer_start(SessionStart())
    (command,) = asked
    assert command == Generate("", "", Quality.FINE, stage_id="s1", tenant="them")
    assert only(await harness.hear(), "session.created")["estimated_picture_ms"] is None


async def test_stats_are_sent_once_a_second(harness: SessionHarness) -> None:
    await harness.clock.advance(1.0)
    harness.session.tick()
    stats = only(await harness.hear(), "stats.updated")
    assert (stats["viewers"], stats["engine"], stats["continuous_play_ratio"]) == (0, "ready", 1.0)


async def test_rates_are_over_the_time_since_the_last_statistics(harness: SessionHarness) -> None:
    await harness.say("webrtc.offer", sdp="v=0")
    for seconds, sent in ((1.0, 24), (3.0, 44)):
        harness.program.counted = {
            "frames_due": sent + 1,
            "frames_sent": sent,
            "bytes_sent": sent * 1000,
            "max_gap_s": 0.0417,
            "continuous_play_ratio": 0.987654321,
        }
        await harness.clock.advance(seconds)
        harness.session.tick()
    stats = (await harness.hear())[-1]
    expected = {
        "type": "stats.updated",
        "frames_sent": 44,
        "frames_due": 45,
        "continuous_play_ratio": 0.987654,
        "max_gap_ms": 41.7,
        "sent_frame_rate": 6.67,
        "bitrate": 53_333,
        "viewers": 1,
    }
    assert stats.items() >= expected.items()
    assert "sceneshift_frames_sent_total 44.0" in harness.metrics.render().decode()


async def test_no_stats_are_sent_without_a_controller_or_elapsed_time(harness: SessionHarness) -> None:
    harness.session.tick()  # no time has passed
    harness.session.detach(harness.controller)
    await harness.clock.advance(1.0)
    harness.session.tick()
    assert await harness.hear() == []


async def test_the_log_names_prompts_but_never_their_text(
    harness: SessionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await harness.say("prompt.set", text="my secret wish", prompt_id="p7")
    harness.make_clip()
    harness.program.send_frame()
    assert "s1 < prompt.set p7" in caplog.messages
    assert "s1 > prompt.applied p7" in caplog.messages
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("is_error", "line"), [(False, "s1 = to the ingest"), (True, "s1 ! to the ingest")])
async def test_pushes_log_under_the_sessions_name(
    harness: SessionHarness, caplog: pytest.LogCaptureFixture, is_error: bool, line: str
) -> None:
    caplog.set_level("INFO")
    harness.session.pushes._log("to the ingest", is_error)
    assert caplog.messages == [line]
    assert caplog.records[0].levelname == ("WARNING" if is_error else "INFO")


async def test_wrong_frames_fail_the_prompt_and_stop_the_engine(harness: SessionHarness) -> None:
    await harness.say("prompt.set", text="sea", prompt_id="p")
    harness.start()
    harness.deliver_first_chunk()
    harness.deliver_first_chunk()
    failed = only(await harness.hear(), "prompt.failed")
    assert "incomplete" in failed["error"]["message"]
    assert harness.engine.cancelled_ids == [harness.generation_id]
    harness.confirm_cancel()
    await harness.say("prompt.set", text="sky", prompt_id="q")
    harness.make_clip()
    harness.program.send_frame()
    await harness.hear()
    assert harness.ends() == {"p": ["failed"], "q": ["applied"]}

"""Parts of a session's messages: each figure has its own name, and log lines never have a user's text."""

from __future__ import annotations

import logging

import pytest
from fakes import ABLE_MODEL, SessionHarness

from engine.api import EngineBusy, GenerationFailed
from server.metrics import ProgramCounts
from server.protocol.codes import EngineErrorCode
from server.protocol.errors import error_detail
from server.protocol.messages import (
    AnyClientMessage,
    Error,
    ProgramChanged,
    PromptCancel,
    PromptSet,
    PromptSuperseded,
    ServerMessage,
    SessionClosed,
    SessionPing,
    SessionWarning,
    StatsUpdated,
    WebrtcCandidate,
)
from server.session import receipts


def test_a_model_is_described_by_its_capabilities() -> None:
    assert receipts.model(ABLE_MODEL) == {
        "name": "fake",
        "device": "none",
        "width": 32,
        "height": 16,
        "num_frames": 4,
        "frame_rate": 12,
        "num_steps": {"fast": 4, "fine": 8},
        "can_start_from_frame": True,
        "loras": ["ink", "水墨"],
    }
    assert receipts.model(None) is None


def test_each_count_of_a_program_keeps_its_name(harness: SessionHarness) -> None:
    names = ("frames_due", "frames_sent", "frames_late", "encoded_frames", "bytes_sent", "encode_s", "compose_s")
    harness.program.counted = {name: index + 1 for index, name in enumerate(names)}
    assert receipts.counts(harness.program.statistics()) == ProgramCounts(
        frames_due=1, frames_sent=2, frames_late=3, frames_encoded=4, bytes_sent=5, encode_s=6, compose_s=7
    )


def test_degradation_is_described_in_words() -> None:
    assert receipts.degradation(("fewer_steps", "tiny_decoder")) == "fewer steps, tiny decoder"


def test_times_are_milliseconds_with_one_digit() -> None:
    assert receipts.ms(0.0123456) == 12.3


@pytest.mark.parametrize("code", [*EngineErrorCode.__args__, "a code of tomorrow"])
def test_a_failed_generation_has_the_engines_code_and_message(code: str) -> None:
    detail = receipts.failed(GenerationFailed("g", code, "it broke", retryable=True))
    told = code if code in EngineErrorCode.__args__ else "model_error"
    assert (detail.code, detail.message, detail.retryable) == (told, "it broke", True)


def test_a_busy_engine_gives_a_retry_time() -> None:
    detail = receipts.busy(EngineBusy("64 wait", retry_after_s=1.25))
    assert (detail.code, detail.message, detail.retry_after_ms) == ("engine_busy", "64 wait", 1250)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (PromptSet(text="my secret", prompt_id="p1", event_id="e1"), "prompt.set e1 p1"),
        (PromptCancel(prompt_id="p1"), "prompt.cancel p1"),
        (ProgramChanged(on_air="clip", prompt_id="p1"), "program.changed clip p1"),
        (PromptSuperseded(prompt_id="p1", by_prompt_id="p2"), "prompt.superseded p1 p2"),
        (SessionWarning(code="degraded", message="in many words"), "session.warning degraded"),
        (SessionClosed(reason="client", usage={}), "session.closed client"),
        (Error(error=error_detail("no_session", "in many words")), "error no_session"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_log_line_has_ids_and_codes_of_a_message_but_no_text(
    message: AnyClientMessage | ServerMessage, line: str
) -> None:
    assert receipts.describe(message) == line


def test_frequent_messages_are_logged_at_debug_level(harness: SessionHarness, caplog: pytest.LogCaptureFixture) -> None:
    assert receipts.level(SessionPing()) == receipts.level(WebrtcCandidate(candidate="")) == logging.DEBUG
    assert receipts.level(PromptSet(text="sea")) == logging.INFO
    caplog.set_level("INFO")
    harness.session.tick()
    harness.session.receipts.emit(
        StatsUpdated(
            frames_sent=0,
            frames_due=0,
            continuous_play_ratio=1.0,
            max_gap_ms=0.0,
            sent_frame_rate=0.0,
            bitrate=0.0,
            viewers=0,
            engine="ready",
        )
    )
    assert caplog.messages == []
    harness.session.receipts.warn("degraded", "in many words")
    assert caplog.messages == ["s1 > session.warning degraded"]

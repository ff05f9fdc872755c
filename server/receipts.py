"""What a session tells: server messages, or parts of them, made from what it knows. Pure.

Used by `session.py`; one function each, in the words of docs/protocol.md.
"""

from __future__ import annotations

import logging
from typing import Any, cast, get_args

from engine.api import EngineBusy, GenerationFailed, ModelDescription
from server.media.program import ProgramStatistics, Shown
from server.messages import (
    AnyClientMessage,
    EngineErrorCode,
    Error,
    ErrorCode,
    ErrorDetail,
    FrameStamp,
    PromptFailed,
    PromptPreview,
    PromptRejected,
    PromptTimings,
    ServerMessage,
    SessionPing,
    SessionPong,
    StatsUpdated,
    WebrtcCandidate,
    error_detail,
)
from server.metrics import ProgramCounts
from server.prompt import Prompt


def failed(event: GenerationFailed) -> ErrorDetail:
    code: ErrorCode = cast(EngineErrorCode, event.code) if event.code in get_args(EngineErrorCode) else "model_error"
    return error_detail(code, event.message, retryable=event.retryable)


def unavailable() -> ErrorDetail:
    return error_detail("engine_unavailable", "the engine has failed and could not be restarted")


def busy(refusal: EngineBusy) -> ErrorDetail:
    return error_detail("engine_busy", str(refusal), retry_after_ms=round(refusal.retry_after_s * 1000))


def degradation(degraded: tuple[str, ...]) -> str:
    """What a user reads of `degraded`."""
    return ", ".join(part.replace("_", " ") for part in degraded)


def preview(
    prompt: Prompt, step_index: int, *, picture: str | None = None, frame: FrameStamp | None = None
) -> PromptPreview:
    return PromptPreview(
        prompt_id=prompt.prompt_id, step_index=step_index, num_steps=prompt.num_steps, picture=picture, frame=frame
    )


def timings(prompt: Prompt, shown: Shown) -> PromptTimings:
    spent = prompt.timings
    assert spent is not None, "only a finished prompt is shown"
    return PromptTimings(
        queued_ms=ms(prompt.generated_at - prompt.received_at + spent.queued_s),
        text_ms=ms(spent.text_s),
        denoised_ms=ms(spent.denoised_s),
        previewed_ms=ms(spent.previewed_s),
        decoded_ms=ms(spent.decoded_s),
        composed_ms=ms(shown.composed_s),
        encoded_ms=ms(shown.encoded_s),
        total_ms=ms(shown.sent_at - prompt.received_at),
    )


def counts(statistics: ProgramStatistics) -> ProgramCounts:
    return ProgramCounts(
        frames_due=statistics.frames_due,
        frames_sent=statistics.frames_sent,
        frames_late=statistics.frames_late,
        frames_encoded=statistics.encoded_frames,
        bytes_sent=statistics.bytes_sent,
        encode_s=statistics.encode_s,
        compose_s=statistics.compose_s,
    )


def model(description: ModelDescription | None) -> dict[str, Any] | None:
    if description is None:
        return None
    return {
        "name": description.name,
        "device": description.device,
        "width": description.width,
        "height": description.height,
        "num_frames": description.num_frames,
        "frame_rate": description.frame_rate,
        "num_steps": {quality.value: num_steps for quality, num_steps in description.num_steps.items()},
        "can_start_from_frame": description.can_start_from_frame,
        "loras": list(description.loras),
    }


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def describe(message: AnyClientMessage | ServerMessage) -> str:
    """A message in a log line: its type and ids. Never its text, which is the user's."""
    words = [str(message.__struct_config__.tag)]
    names = ("event_id", "on_air", "prompt_id", "by_prompt_id", "code", "reason")
    words += [value for name in names if (value := getattr(message, name, None))]
    if isinstance(message, Error | PromptFailed | PromptRejected):
        words.append(message.error.code)
    return " ".join(words)


def level(message: AnyClientMessage | ServerMessage) -> int:
    is_frequent = isinstance(message, StatsUpdated | PromptPreview | SessionPing | SessionPong | WebrtcCandidate)
    return logging.DEBUG if is_frequent else logging.INFO

"""Sends a session's messages to its controller (`Receipts`, `Air`), and builds parts of them.

`session.py`, `prompts.py`, `continuation.py` and `slot.py` use it. The functions are pure, one for each part of a
message; docs/protocol.md defines the messages. On the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

from engine.api import EngineBusy, Estimate, GenerationFailed, ModelDescription, PreviewReady, PromptWords
from server.media.program import ProgramStatistics, Shown
from server.metrics import Metrics, ProgramCounts
from server.protocol.codes import EngineErrorCode, ErrorCode, ErrorDetail, error_detail
from server.protocol.messages import (
    AnyClientMessage,
    Error,
    FrameStamp,
    ProgramChanged,
    ProgramTake,
    PromptAccepted,
    PromptFailed,
    PromptPreview,
    PromptRejected,
    PromptTimings,
    ServerMessage,
    SessionPing,
    SessionPong,
    SessionWarning,
    StatsUpdated,
    WebrtcCandidate,
)
from server.session.answered import AnsweredMessages
from server.session.limits import Outbox, Outgoing
from server.session.prompt import Prompt
from server.stage.picture import Clip, OnAir, Transition
from server.stage.stage import Stage

_log = logging.getLogger(__name__)


class Receipts:
    """Numbers, logs and remembers one session's messages. `rtp_timestamp`: of a frame, at the controller's own peer."""

    def __init__(
        self,
        session_id: str,
        metrics: Metrics,
        *,
        wall_time: Callable[[], float],
        on_overflow: Callable[[], None],
        rtp_timestamp: Callable[[int], int | None],
    ) -> None:
        self.outbox = Outbox(session_id, wall_time=wall_time, on_overflow=on_overflow)
        self.answered = AnsweredMessages()
        self._session_id = session_id
        self._metrics = metrics
        self._rtp_timestamp = rtp_timestamp

    def emit(self, message: ServerMessage) -> Outgoing:
        """Queues a message for the controller; never blocks."""
        self.log(">", describe(message), level=level(message))
        return self.outbox.put(message)

    def answer(self, message: AnyClientMessage, answer: ServerMessage) -> None:
        """Emits the answer to `message`. A retry of `message` gets the same answer again."""
        self.answered.remember(message, self.emit(answer))

    def is_repeated(self, message: AnyClientMessage) -> bool:
        """True for a retry, which is answered here. Raises `Refused` for a different message with the same id."""
        if not self.answered.knows(message):
            return False
        answer = self.answered.answer_to(message)
        if answer is not None:
            self.outbox.repeat(answer)
        return True

    def refuse(self, detail: ErrorDetail) -> None:
        """Tells the controller what it did wrong."""
        self._metrics.refused(detail.code)
        self.emit(Error(error=detail))

    def warn(self, code: str, message: str, *, degraded: tuple[str, ...] = (), core_share: float | None = None) -> None:
        self.emit(SessionWarning(code=code, message=message, degraded=degraded, core_share=core_share))

    def stamp(self, received_at: float, shown: Shown) -> FrameStamp:
        """The stamp of the frame that first shows a prompt's preview or clip; the prompt came at `received_at`."""
        return FrameStamp(
            frame_index=shown.frame_index,
            rtp_timestamp=self._rtp_timestamp(shown.frame_index),
            sent_at_ms=ms(shown.sent_at - received_at),
        )

    def log(self, mark: Literal["<", ">", "=", "x", "!"], text: str, level: int = logging.INFO) -> None:
        _log.log(logging.WARNING if mark == "!" else level, "%s %s %s", self._session_id, mark, text)


class Air:
    """What the prompts put on air, and what the controller was told of it."""

    def __init__(self, stage: Stage, says: Receipts) -> None:
        self._stage = stage
        self._says = says
        self._previewed_prompt_id: str | None = None
        self._reported: tuple[OnAir, str | None] = (OnAir.IDLE, None)

    def show_preview(self, prompt_id: str, preview: PreviewReady) -> None:
        self._stage.show_preview(prompt_id, preview.frames, preview.step_index)
        self._previewed_prompt_id = prompt_id
        self.report()

    def drop_preview(self) -> None:
        """Goes back to what ran below the preview, if one is on air."""
        if self._previewed_prompt_id is not None:
            self._stage.drop_preview(self._previewed_prompt_id)
            self._previewed_prompt_id = None
            self.report()

    def take(self, clip: Clip, transition: Transition, message: ProgramTake | None) -> None:
        self._stage.take(clip, transition)
        self._previewed_prompt_id = None
        self.report(message)

    def report(self, message: AnyClientMessage | None = None) -> None:
        """Sends `program.changed` if what is on air has changed, and always as the answer to `message`."""
        on_air = self._stage.on_air
        if message is None and on_air == self._reported:
            return
        self._reported = on_air
        kind, prompt_id = on_air
        if message is None:
            self._says.emit(ProgramChanged(on_air=kind.value, prompt_id=prompt_id))
        else:
            changed = ProgramChanged(on_air=kind.value, prompt_id=prompt_id, event_id=message.event_id)
            self._says.answer(message, changed)


def accepted(
    prompt: Prompt,
    event_id: str | None,
    estimate: Estimate | None = None,
    words: PromptWords | None = None,
    *,
    clip_id: str | None = None,
) -> PromptAccepted:
    """`clip_id`: of a finished clip, which has neither estimate nor words."""
    return PromptAccepted(
        event_id=event_id,
        prompt_id=prompt.prompt_id,
        seed=prompt.seed,
        quality=prompt.quality.value,
        estimated_preview_ms=ms(estimate.preview_s) if estimate else None,
        estimated_picture_ms=ms(estimate.picture_s) if estimate else None,
        understood=words.understood if words else (),
        not_understood=words.not_understood if words else (),
        clip_id=clip_id,
        text=prompt.text if clip_id is not None else None,
    )


def failed(event: GenerationFailed) -> ErrorDetail:
    code: ErrorCode = cast(EngineErrorCode, event.code) if event.code in get_args(EngineErrorCode) else "model_error"
    return error_detail(code, event.message, retryable=event.retryable)


def unavailable() -> ErrorDetail:
    return error_detail("engine_unavailable", "the engine has failed and could not be restarted")


def busy(refusal: EngineBusy) -> ErrorDetail:
    return error_detail("engine_busy", str(refusal), retry_after_ms=round(refusal.retry_after_s * 1000))


def degradation(degraded: tuple[str, ...]) -> str:
    """`degraded` as words for a user."""
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
    """A message as a log line: its type and ids, never the user's text."""
    words = [str(message.__struct_config__.tag)]
    names = ("event_id", "on_air", "prompt_id", "by_prompt_id", "code", "reason")
    words += [value for name in names if (value := getattr(message, name, None))]
    if isinstance(message, Error | PromptFailed | PromptRejected):
        words.append(message.error.code)
    return " ".join(words)


def level(message: AnyClientMessage | ServerMessage) -> int:
    is_frequent = isinstance(message, StatsUpdated | PromptPreview | SessionPing | SessionPong | WebrtcCandidate)
    return logging.DEBUG if is_frequent else logging.INFO

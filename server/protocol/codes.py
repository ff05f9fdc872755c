"""The error codes, and the error object that holds them, for the WebSocket and HTTP alike. Pure."""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

# The codes are stable: clients may branch on them. docs/protocol.md says when each is sent; a test checks that.
RequestErrorCode = Literal[
    "invalid_json",
    "message_too_large",
    "binary_not_supported",
    "missing_field",
    "unknown_field",
    "unknown_event",
    "wrong_type",
    "invalid_value",
    "invalid_text",
    "not_supported",
    "unsupported_parameter",
    "prompt_empty",
    "prompt_too_long",
    "prompt_id_taken",
    "event_id_conflict",
    "rate_limited",
    "budget_exhausted",
    "invalid_sdp",
    "no_video",
    "no_video_codec",
    "unsupported_media_type",
    "method_not_allowed",
    "etag_mismatch",
    "ice_restart_not_supported",
    "too_many_webhooks",
    "webhook_unreachable",
    "unauthorized",
    "missing_scope",
    "forbidden_host",
    "forbidden_origin",
    "token_needed_behind_proxy",
]
SessionErrorCode = Literal[
    "no_session",
    "session_exists",
    "name_taken",
    "unknown_session",
    "wrong_token",
    "resume_gap",
    "unknown_prompt",
    "too_late",
    "nothing_to_take",
    "not_connected",
    "unknown_viewer",
    "unknown_call",
    "unknown_recording",
    "unknown_key",
    "unknown_video",
    "unknown_webhook",
    "unknown_model",
    "not_ready",
    "not_offered",
]
EngineErrorCode = Literal["engine_busy", "engine_unavailable", "engine_lost", "out_of_memory", "model_error"]
ServerErrorCode = Literal[
    "server_full", "server_busy", "too_many_viewers", "recording_failed", "draining", "storage_full", "internal_error"
]
ErrorCode = RequestErrorCode | SessionErrorCode | EngineErrorCode | ServerErrorCode
ErrorType = Literal["invalid_request", "session", "engine", "server"]

ERROR_TYPES: dict[str, ErrorType] = {
    **dict.fromkeys(get_args(RequestErrorCode), "invalid_request"),
    **dict.fromkeys(get_args(SessionErrorCode), "session"),
    **dict.fromkeys(get_args(EngineErrorCode), "engine"),
    **dict.fromkeys(get_args(ServerErrorCode), "server"),
}


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """The one error object, on the WebSocket and in HTTP answers alike: made by `error_detail`."""

    type: ErrorType
    code: ErrorCode
    message: str
    param: str | None = None
    event_id: str | None = None
    retryable: bool = False
    retry_after_ms: int | None = None


def error_detail(
    code: ErrorCode,
    message: str,
    *,
    param: str | None = None,
    event_id: str | None = None,
    retryable: bool = False,
    retry_after_ms: int | None = None,
) -> ErrorDetail:
    """The error object. Its type follows from the code, and `retry_after_ms` makes it retryable."""
    return ErrorDetail(
        type=ERROR_TYPES[code],
        code=code,
        message=message,
        param=param,
        event_id=event_id,
        retryable=retryable or retry_after_ms is not None,
        retry_after_ms=retry_after_ms,
    )

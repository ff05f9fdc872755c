"""The table of all routes and messages: their scopes, answers and errors.

Contracts, access tests and clients are made from it. A route of the server or a message without a row fails a test.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from server.protocol import messages as m
from server.protocol.codes import ErrorCode

# The scope that a secret must have. None: everybody may, strangers included.
Scope = Literal["view", "prompt", "record", "push", "admin"]

# Errors that any message may get, beside its own.
COMMON_ERRORS: tuple[ErrorCode, ...] = (
    *("invalid_json", "message_too_large", "missing_field", "unknown_field", "unknown_event", "wrong_type"),
    *("invalid_value", "invalid_text", "event_id_conflict", "rate_limited", "missing_scope", "internal_error"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A message from a client. `errors` are its own, beside `COMMON_ERRORS`; `answers` are the server's."""

    example: Struct  # of the type that the row is about
    scope: Scope | None
    answers: tuple[type[m.ServerMessage], ...] = ()
    errors: tuple[ErrorCode, ...] = ()

    @property
    def kind(self) -> type[Struct]:
        return type(self.example)


@dataclass(frozen=True, slots=True)
class Told:
    """A message from the server. `ends_prompt`: a prompt gets exactly one of these."""

    kind: type[m.ServerMessage]
    ends_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """An address. `request` and `answer` are media types, "" for none; `errors` are its own."""

    method: str
    path: str
    scope: Scope | None
    request: str = ""
    answer: str = ""
    errors: tuple[ErrorCode, ...] = ()
    # Pages of other sites may use it if their origin is allowed by name (CORS).
    is_open_to_origins: bool = False
    # A client secret does not do, whatever its scopes.
    needs_key: bool = False


_ON_ABILITIES: tuple[ErrorCode, ...] = ("not_supported",)

ASKED: tuple[Asked, ...] = (
    Asked(
        m.SessionStart(name="my-show", quality="fast"),
        "prompt",
        (m.SessionCreated, m.SessionQueued),
        ("session_exists", "server_full", "draining", "name_taken", *_ON_ABILITIES),
    ),
    Asked(m.SessionUpdate(music="calm"), "prompt", (m.SessionUpdated,), ("no_session", *_ON_ABILITIES)),
    Asked(
        m.SessionResume(session_id="my-show", resume_token="a-resume-token", last_seq=41),
        "prompt",
        (m.SessionCreated,),
        ("unknown_session", "wrong_token", "resume_gap", "draining", "session_exists"),
    ),
    Asked(m.SessionClose(), "prompt", (m.SessionClosed,), ("no_session",)),
    Asked(m.SessionPing(), "view", (m.SessionPong,)),
    Asked(
        m.PromptSet(text="日落时的海边", seed=7),
        "prompt",
        (m.PromptAccepted, m.PromptRejected),
        ("no_session", "prompt_empty", "prompt_too_long", "prompt_id_taken", "budget_exhausted", *_ON_ABILITIES),
    ),
    Asked(
        m.PromptCancel(prompt_id="p7"),
        "prompt",
        (m.PromptCancelled, m.ProgramChanged),
        ("no_session", "unknown_prompt", "too_late"),
    ),
    Asked(m.ProgramTake(transition="cut"), "prompt", (m.ProgramChanged,), ("no_session", "nothing_to_take")),
    Asked(
        m.ProgramShow(clip_id="video_0a1b2c3d", after="hold"),
        "prompt",
        (m.PromptAccepted,),
        ("no_session", "unknown_video", "not_ready", "server_busy", "prompt_id_taken", *_ON_ABILITIES),
    ),
    Asked(m.ProgramBlank(), "prompt", (m.ProgramChanged,), ("no_session",)),
    Asked(m.ProgramResume(), "prompt", (m.ProgramChanged,), ("no_session",)),
    Asked(m.ProgramPush(target="twitch", push=True), "push", (m.PushChanged,), ("no_session",)),
    Asked(
        m.ProgramRecord(recording=True),
        "record",
        (m.RecordingChanged,),
        ("no_session", "not_supported", "recording_failed"),
    ),
    Asked(
        m.WebrtcOffer(sdp="v=0\r\n"),
        "view",
        (m.WebrtcAnswer,),
        ("no_session", "invalid_sdp", "no_video", "no_video_codec", "too_many_viewers"),
    ),
    Asked(m.WebrtcCandidate(candidate="", sdp_mid="0"), "view", (), ("no_session", "not_connected", "invalid_sdp")),
)

TOLD: tuple[Told, ...] = (
    Told(m.SessionCreated),
    Told(m.SessionQueued),
    Told(m.SessionUpdated),
    Told(m.SessionWarning),
    Told(m.SessionClosed),
    Told(m.SessionPong),
    Told(m.PromptAccepted),
    Told(m.PromptStarted),
    Told(m.PromptPreview),
    Told(m.PromptApplied, ends_prompt=True),
    Told(m.PromptContinued),
    Told(m.PromptReady),
    Told(m.PromptSuperseded, ends_prompt=True),
    Told(m.PromptCancelled, ends_prompt=True),
    Told(m.PromptRejected, ends_prompt=True),
    Told(m.PromptFailed, ends_prompt=True),
    Told(m.ProgramChanged),
    Told(m.PushChanged),
    Told(m.RecordingChanged),
    Told(m.WebrtcAnswer),
    Told(m.StatsUpdated),
    Told(m.Error),
)

_SDP, _FRAGMENT, _JSON, _HTML = "application/sdp", "application/trickle-ice-sdpfrag", "application/json", "text/html"
# Of each door that asks for a scope.
_DOOR: tuple[ErrorCode, ...] = ("unauthorized", "missing_scope", "rate_limited")
_OFFER_ERRORS: tuple[ErrorCode, ...] = (
    *_DOOR,
    *("unsupported_media_type", "message_too_large"),
    *("invalid_sdp", "no_video", "no_video_codec", "too_many_viewers"),
)
_VIEWER_ERRORS: tuple[ErrorCode, ...] = (
    "unauthorized",
    "missing_scope",
    "rate_limited",
    "unknown_session",
    "unknown_viewer",
)

_CLIP_ERRORS: tuple[ErrorCode, ...] = (*_DOOR, "not_supported")
_ORDER_ERRORS: tuple[ErrorCode, ...] = (
    *_CLIP_ERRORS,
    *("invalid_json", "unsupported_media_type", "message_too_large", "missing_field", "unknown_field", "wrong_type"),
    *("invalid_value", "invalid_text", "unsupported_parameter", "prompt_empty", "prompt_too_long", "unknown_model"),
    *("server_busy", "server_full", "storage_full", "budget_exhausted"),
)
_HOOK = "/v1/webhook_endpoints/{endpoint_id}"
_HOOK_ERRORS: tuple[ErrorCode, ...] = (*_DOOR, "unknown_webhook")
_HOOK_BODY_ERRORS: tuple[ErrorCode, ...] = (
    *_DOOR,
    *("invalid_json", "message_too_large", "missing_field", "unknown_field", "wrong_type", "invalid_value"),
)

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", None, answer=_HTML),
    Route("GET", "/client/{path}", None, answer="text/javascript"),
    Route("GET", "/client", None),
    Route("GET", "/obs/{session_id}", None, answer=_HTML),
    Route("GET", "/widget", None, answer=_HTML),
    Route("GET", "/studio", None, answer=_HTML),
    Route("GET", "/operator", None, answer=_HTML),
    Route("GET", "/clips", None, answer=_HTML),
    Route("GET", "/livez", None, answer=_JSON),
    Route("GET", "/readyz", None, answer=_JSON),
    Route("GET", "/metrics", "admin", answer="text/plain", errors=_DOOR),
    Route(
        "GET",
        "/v1/realtime",
        "prompt",
        errors=(*_DOOR, "forbidden_host", "forbidden_origin"),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}/watch",
        "view",
        errors=(*_DOOR, "unknown_session"),
    ),
    Route(
        *("GET", "/v1/sessions/{session_id}/snapshot.jpg", "view"),
        answer="image/jpeg",
        errors=(*_DOOR, "unknown_session", "invalid_value"),
    ),
    Route(
        *("GET", "/v1/sessions/{session_id}/recordings/{name}", "record"),
        answer="video/mp4",
        errors=(*_DOOR, "unknown_recording"),
    ),
    Route(
        # For a viewer of `?session=`. A caller with a stage of its own needs `prompt`.
        *("POST", "/v1/realtime/calls", "view", _SDP, _SDP),
        errors=(*_OFFER_ERRORS, "server_full", "draining", "name_taken", "not_supported", "invalid_value"),
        is_open_to_origins=True,
    ),
    Route(
        *("POST", "/v1/realtime/client_secrets", "view", _JSON, _JSON),
        errors=(*_DOOR, "not_supported", "invalid_json", "invalid_value"),
        needs_key=True,
    ),
    Route("GET", "/v1/realtime/client_secrets", "view", answer=_JSON, errors=_DOOR, needs_key=True),
    Route("DELETE", "/v1/realtime/client_secrets/{secret_id}", "view", errors=_DOOR, needs_key=True),
    Route("POST", "/v1/videos", "prompt", _JSON, _JSON, errors=_ORDER_ERRORS),
    Route("GET", "/v1/videos", "prompt", answer=_JSON, errors=(*_CLIP_ERRORS, "invalid_value")),
    Route("POST", "/v1/videos/extensions", "prompt", _JSON, _JSON, errors=(*_ORDER_ERRORS, "unknown_video")),
    Route("POST", "/v1/videos/edits", "prompt", _JSON, errors=(*_CLIP_ERRORS, "not_offered")),
    Route("POST", "/v1/videos/characters", "prompt", _JSON, errors=(*_CLIP_ERRORS, "not_offered")),
    Route("GET", "/v1/videos/characters/{character_id}", "prompt", errors=(*_CLIP_ERRORS, "not_offered")),
    Route(
        *("DELETE", "/v1/videos", "prompt"),
        answer=_JSON,
        errors=(*_CLIP_ERRORS, "missing_field", "invalid_value"),
        needs_key=True,
    ),
    Route("GET", "/v1/videos/{video_id}", "prompt", answer=_JSON, errors=(*_CLIP_ERRORS, "unknown_video")),
    Route("DELETE", "/v1/videos/{video_id}", "prompt", answer=_JSON, errors=(*_CLIP_ERRORS, "unknown_video")),
    Route("POST", "/v1/videos/{video_id}/cancel", "prompt", answer=_JSON, errors=(*_CLIP_ERRORS, "unknown_video")),
    Route("POST", "/v1/videos/{video_id}/remix", "prompt", _JSON, _JSON, errors=(*_ORDER_ERRORS, "unknown_video")),
    Route(
        # A signed link needs no key.
        *("GET", "/v1/videos/{video_id}/content", "prompt"),
        answer="video/mp4",
        errors=(*_CLIP_ERRORS, "unknown_video", "not_ready", "invalid_value"),
    ),
    Route(
        *("POST", "/v1/sessions/{session_id}/show", "prompt", _JSON, _JSON),
        errors=(
            *_DOOR,
            *("unknown_session", "unknown_video", "not_ready", "server_busy", "prompt_id_taken", "not_supported"),
            *("invalid_json", "missing_field", "unknown_field", "wrong_type", "invalid_value"),
        ),
    ),
    Route("GET", "/v1/webhook_event_types", "prompt", answer=_JSON, errors=_DOOR, needs_key=True),
    Route(
        *("POST", "/v1/webhook_endpoints", "prompt", _JSON, _JSON),
        errors=(*_HOOK_BODY_ERRORS, "too_many_webhooks"),
        needs_key=True,
    ),
    Route(
        *("GET", "/v1/webhook_endpoints", "prompt"),
        answer=_JSON,
        errors=(*_HOOK_ERRORS, "invalid_value"),
        needs_key=True,
    ),
    Route("GET", _HOOK, "prompt", answer=_JSON, errors=_HOOK_ERRORS, needs_key=True),
    Route("POST", _HOOK, "prompt", _JSON, _JSON, errors=(*_HOOK_BODY_ERRORS, "unknown_webhook"), needs_key=True),
    Route("DELETE", _HOOK, "prompt", answer=_JSON, errors=_HOOK_ERRORS, needs_key=True),
    Route(
        *("POST", _HOOK + "/rotate_secret", "prompt", _JSON, _JSON),
        errors=(*_HOOK_BODY_ERRORS, "unknown_webhook"),
        needs_key=True,
    ),
    Route(
        *("POST", _HOOK + "/test", "prompt", _JSON, _JSON),
        errors=(*_HOOK_BODY_ERRORS, "unknown_webhook", "webhook_unreachable"),
        needs_key=True,
    ),
    Route(
        *("GET", _HOOK + "/deliveries", "prompt"),
        answer=_JSON,
        errors=(*_HOOK_ERRORS, "invalid_value"),
        needs_key=True,
    ),
    Route(
        *("POST", _HOOK + "/deliveries/{delivery_id}/retry", "prompt"),
        answer=_JSON,
        errors=(*_HOOK_ERRORS, "not_ready"),
        needs_key=True,
    ),
    Route("GET", "/v1/keys", "admin", answer=_JSON, errors=_DOOR, needs_key=True),
    Route(
        *("POST", "/v1/keys", "admin", _JSON, _JSON),
        errors=(*_DOOR, "invalid_json", "invalid_value", "name_taken"),
        needs_key=True,
    ),
    Route("DELETE", "/v1/keys/{key_id}", "admin", errors=(*_DOOR, "invalid_value", "unknown_key"), needs_key=True),
    Route("GET", "/v1/sessions", "view", answer=_JSON, errors=_DOOR, needs_key=True),
    Route("GET", "/v1/usage", "view", answer=_JSON, errors=(*_DOOR, "invalid_value"), needs_key=True),
    Route("GET", "/v1/audit", "admin", answer=_JSON, errors=(*_DOOR, "invalid_value"), needs_key=True),
    Route("OPTIONS", "/v1/realtime/calls", None, is_open_to_origins=True),
    Route(
        # Of a viewer's call. The call that holds a stage needs `prompt`.
        *("DELETE", "/v1/realtime/calls/{call_id}", "view"),
        errors=(*_DOOR, "unknown_call"),
        is_open_to_origins=True,
    ),
    Route("OPTIONS", "/v1/realtime/calls/{call_id}", None, is_open_to_origins=True),
    Route(
        *("POST", "/whep/{session_id}", "view", _SDP, _SDP),
        errors=(*_OFFER_ERRORS, "unknown_session"),
        is_open_to_origins=True,
    ),
    Route("OPTIONS", "/whep/{session_id}", None, is_open_to_origins=True),
    Route(
        *("PATCH", "/whep/{session_id}/{viewer_id}", "view", _FRAGMENT),
        errors=(
            *_VIEWER_ERRORS,
            *("unsupported_media_type", "etag_mismatch", "ice_restart_not_supported", "invalid_sdp"),
        ),
        is_open_to_origins=True,
    ),
    Route("DELETE", "/whep/{session_id}/{viewer_id}", "view", errors=_VIEWER_ERRORS, is_open_to_origins=True),
    Route("OPTIONS", "/whep/{session_id}/{viewer_id}", None, is_open_to_origins=True),
)

"""The wire protocol of `WS /v1/realtime`, version 1, and nothing else: what may be said, and its decoding.

Flat JSON. Client verbs are imperative, server verbs past tense; `type` is dotted lower case. Unknown fields from a
client are refused with the field's name; clients ignore unknown events. The browser's twin is
`client_web/sdk/messages.js`; a test holds the two together.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 256 * 1024
MAX_PROMPT_CHARACTERS = 2000
MAX_ID_CHARACTERS = 64
MAX_NAME_CHARACTERS = 128

QualityName = Literal["fast", "fine"]
OnPreview = Literal["on_air", "controller", "off"]
TakeMode = Literal["auto", "manual"]
Transition = Literal["cut", "crossfade", "morph"]
# A clip that waits was made already, so a take can no longer have it start from the frame on air.
TakeTransition = Literal["cut", "crossfade"]
After = Literal["loop", "continue", "hold"]
Seed = int | None


class SessionOptions(Struct, frozen=True, kw_only=True):
    """What a session is made with. `session.updated` and `session.created` repeat all of it."""

    width: int = 832
    height: int = 480
    frame_rate: int = 24
    bitrate: int = 2_000_000
    quality: QualityName = "fast"
    on_preview: OnPreview = "on_air"
    take: TakeMode = "auto"
    transition: Transition = "crossfade"
    transition_s: float = 0.5
    after: After = "loop"
    seed: Seed = None
    lora: str | None = None
    fresh: bool = False  # never a clip that was made before
    music: str | None = None  # a name out of `session.created`; None is silence
    music_volume: float = 0.5  # factor of amplitude
    # Paint the frame's number as black and white bars into the picture, for measuring at the viewer's glass.
    marker: bool = False


# --- client to server ---------------------------------------------------------------------------------------------


class ClientMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    event_id: str | None = None


class SessionStart(ClientMessage, frozen=True, kw_only=True, tag="session.start"):
    """`name` becomes the session's id, so that the addresses of its viewers outlive a restart of the server."""

    name: str | None = None
    width: int = 832
    height: int = 480
    frame_rate: int = 24
    bitrate: int = 2_000_000
    quality: QualityName = "fast"
    on_preview: OnPreview = "on_air"
    take: TakeMode = "auto"
    transition: Transition = "crossfade"
    transition_s: float = 0.5
    after: After = "loop"
    seed: Seed = None
    lora: str | None = None
    fresh: bool = False
    music: str | None = None
    music_volume: float = 0.5
    marker: bool = False


class SessionUpdate(ClientMessage, frozen=True, kw_only=True, tag="session.update"):
    """Changes what may change while the show is on; size and frame rate may not."""

    quality: QualityName | UnsetType = UNSET
    on_preview: OnPreview | UnsetType = UNSET
    take: TakeMode | UnsetType = UNSET
    transition: Transition | UnsetType = UNSET
    transition_s: float | UnsetType = UNSET
    after: After | UnsetType = UNSET
    seed: Seed | UnsetType = UNSET
    lora: str | UnsetType | None = UNSET
    fresh: bool | UnsetType = UNSET
    music: str | UnsetType | None = UNSET
    music_volume: float | UnsetType = UNSET


class SessionResume(ClientMessage, frozen=True, kw_only=True, tag="session.resume"):
    """Takes up a session whose connection was lost; the events after `last_seq` are sent again.

    Answered by those events and then `session.created`. With -1 all that is still kept is sent, gap or not.
    """

    session_id: str
    resume_token: str
    last_seq: int = -1


class SessionClose(ClientMessage, frozen=True, kw_only=True, tag="session.close"):
    pass


class SessionPing(ClientMessage, frozen=True, kw_only=True, tag="session.ping"):
    pass


class PromptSet(ClientMessage, frozen=True, kw_only=True, tag="prompt.set"):
    """A prompt for the stage. Options left out are the session's. `prompt_id` is the server's unless given.

    `audience`: a viewer's wish that a bot hands on. Under load the engine serves the operator's own prompts first.
    """

    text: str
    prompt_id: str | None = None
    quality: QualityName | UnsetType = UNSET
    seed: Seed | UnsetType = UNSET
    transition: Transition | UnsetType = UNSET
    transition_s: float | UnsetType = UNSET
    after: After | UnsetType = UNSET
    lora: str | UnsetType | None = UNSET
    fresh: bool | UnsetType = UNSET
    audience: bool = False


class PromptCancel(ClientMessage, frozen=True, kw_only=True, tag="prompt.cancel"):
    prompt_id: str


class ProgramTake(ClientMessage, frozen=True, kw_only=True, tag="program.take"):
    """Puts the clip that waits (``take: manual``) on air."""

    transition: TakeTransition | UnsetType = UNSET
    transition_s: float | UnsetType = UNSET


class ProgramBlank(ClientMessage, frozen=True, kw_only=True, tag="program.blank"):
    """The panic button: black at once."""


class ProgramResume(ClientMessage, frozen=True, kw_only=True, tag="program.resume"):
    """Ends the blank; what ran below it is on air again."""


class ProgramPush(ClientMessage, frozen=True, kw_only=True, tag="program.push"):
    """Sends the program to an ingest (WHIP) that the operator has named, or ends that."""

    target: str
    push: bool


class ProgramRecord(ClientMessage, frozen=True, kw_only=True, tag="program.record"):
    """Begins or ends a recording of the program, into a file at the server."""

    recording: bool


class WebrtcOffer(ClientMessage, frozen=True, kw_only=True, tag="webrtc.offer"):
    sdp: str


class WebrtcCandidate(ClientMessage, frozen=True, kw_only=True, tag="webrtc.candidate"):
    """A trickled ICE candidate; an empty one ends them."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


AnyClientMessage = (
    SessionStart
    | SessionUpdate
    | SessionResume
    | SessionClose
    | SessionPing
    | PromptSet
    | PromptCancel
    | ProgramTake
    | ProgramBlank
    | ProgramResume
    | ProgramPush
    | ProgramRecord
    | WebrtcOffer
    | WebrtcCandidate
)

# --- server to client ---------------------------------------------------------------------------------------------


# The codes are stable: clients may branch on them. docs/protocol.md says when each is sent, and a test that it does.
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
    "prompt_empty",
    "prompt_too_long",
    "prompt_id_taken",
    "event_id_conflict",
    "rate_limited",
    "invalid_sdp",
    "no_video",
    "no_video_codec",
    "unsupported_media_type",
    "method_not_allowed",
    "etag_mismatch",
    "ice_restart_not_supported",
    "unauthorized",
    "forbidden_host",
    "forbidden_origin",
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
]
EngineErrorCode = Literal["engine_busy", "engine_unavailable", "engine_lost", "out_of_memory", "model_error"]
ServerErrorCode = Literal["server_full", "too_many_viewers", "recording_failed", "draining", "internal_error"]
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


class IceServer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As `RTCIceServer` of browsers, which would take a null for the text "null": what there is none of is left out."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


class FrameStamp(Struct, frozen=True, kw_only=True):
    """Which frame first shows something, by its number in the program and its RTP timestamp."""

    frame_index: int
    rtp_timestamp: int | None  # 90 kHz, as in the packets to the peer of this connection; None without a peer
    sent_at_ms: float  # since the prompt was received, at the server


class PromptTimings(Struct, frozen=True, kw_only=True):
    """Where a prompt's time went, in milliseconds; `total_ms` runs from its receipt to the sending of the frame."""

    queued_ms: float
    text_ms: float
    denoised_ms: float
    previewed_ms: float
    decoded_ms: float
    composed_ms: float
    encoded_ms: float
    total_ms: float


class ServerMessage(Struct, frozen=True, kw_only=True, tag_field="type"):
    """`seq` counts without gaps within the session; `ts` is Unix time in seconds. Both are set on sending."""

    session_id: str | None = None
    seq: int = -1
    ts: float = 0.0


class SessionCreated(ServerMessage, frozen=True, kw_only=True, tag="session.created"):
    event_id: str | None = None
    resume_token: str
    options: SessionOptions
    model: dict[str, Any] | None  # as in `receipts.model`; None while it loads
    engine: str  # engine.api.EngineState
    estimated_picture_ms: float | None = None  # of a prompt set now; None before the first measurement
    ice_servers: tuple[IceServer, ...] = ()  # for the controller's own peer connection
    music: tuple[str, ...] = ()  # what the option `music` may be
    push_targets: tuple[str, ...] = ()  # what `program.push` may name
    protocol: int = PROTOCOL_VERSION


class SessionQueued(ServerMessage, frozen=True, kw_only=True, tag="session.queued"):
    """There is no room yet; `session.created` follows on this connection. Outside of a session: `seq` is -1."""

    event_id: str | None = None
    position: int  # 1 is next
    estimated_wait_ms: float | None  # None before a session has ended here


class SessionUpdated(ServerMessage, frozen=True, kw_only=True, tag="session.updated"):
    event_id: str | None = None
    options: SessionOptions


class SessionWarning(ServerMessage, frozen=True, kw_only=True, tag="session.warning"):
    """The codes are in docs/protocol.md. `degraded` says what clips are made without, with the code of that name.

    `core_share`, with `machine_busy`: of the time in which the engine wanted a core, the share in which it had one.
    """

    code: str
    message: str
    degraded: tuple[str, ...] = ()
    core_share: float | None = None


class SessionClosed(ServerMessage, frozen=True, kw_only=True, tag="session.closed"):
    event_id: str | None = None
    reason: str
    usage: dict[str, float]


class SessionPong(ServerMessage, frozen=True, kw_only=True, tag="session.pong"):
    event_id: str | None = None


class PromptAccepted(ServerMessage, frozen=True, kw_only=True, tag="prompt.accepted"):
    event_id: str | None = None
    prompt_id: str
    seed: int
    quality: QualityName
    estimated_preview_ms: float | None
    estimated_picture_ms: float | None
    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class PromptStarted(ServerMessage, frozen=True, kw_only=True, tag="prompt.started"):
    """Sent again, with a higher `attempt`, when the engine was lost and the prompt is generated anew.

    `degraded`: what the engine gave up to be in time. `is_reused`: the clip was made before, and comes at once.
    """

    prompt_id: str
    num_steps: int
    attempt: int
    understood: tuple[str, ...]
    not_understood: tuple[str, ...]
    degraded: tuple[str, ...] = ()
    is_reused: bool = False


class PromptPreview(ServerMessage, frozen=True, kw_only=True, tag="prompt.preview"):
    """After each denoising step, with `picture` (a JPEG data URI) and without `frame`.

    Without a picture for the last step, after which the clip itself is decoded, and with ``on_preview: off``. Sent once
    more for the step whose preview was the first on air, with `frame` and without `picture`.
    """

    prompt_id: str
    step_index: int
    num_steps: int
    picture: str | None = None
    frame: FrameStamp | None = None


class PromptApplied(ServerMessage, frozen=True, kw_only=True, tag="prompt.applied"):
    prompt_id: str
    frame: FrameStamp
    timings: PromptTimings


class PromptContinued(ServerMessage, frozen=True, kw_only=True, tag="prompt.continued"):
    """With ``after: continue``: the scene of an applied prompt goes on with its next clip. Not an end.

    `is_late`: the clip before was shown again until this one was there.
    """

    prompt_id: str
    index: int  # from 1
    seed: int
    is_late: bool
    frame: FrameStamp


class PromptReady(ServerMessage, frozen=True, kw_only=True, tag="prompt.ready"):
    """With ``take: manual``: the clip waits for `program.take`. Not an end."""

    prompt_id: str


class PromptSuperseded(ServerMessage, frozen=True, kw_only=True, tag="prompt.superseded"):
    prompt_id: str
    by_prompt_id: str


class PromptCancelled(ServerMessage, frozen=True, kw_only=True, tag="prompt.cancelled"):
    prompt_id: str
    event_id: str | None = None
    num_steps_done: int


class PromptRejected(ServerMessage, frozen=True, kw_only=True, tag="prompt.rejected"):
    prompt_id: str
    event_id: str | None = None
    error: ErrorDetail


class PromptFailed(ServerMessage, frozen=True, kw_only=True, tag="prompt.failed"):
    prompt_id: str
    error: ErrorDetail


class ProgramChanged(ServerMessage, frozen=True, kw_only=True, tag="program.changed"):
    """What is on air: ``idle``, ``preview``, ``clip`` or ``blank``, and of which prompt."""

    on_air: Literal["idle", "preview", "clip", "blank"]
    prompt_id: str | None = None
    event_id: str | None = None


class PushChanged(ServerMessage, frozen=True, kw_only=True, tag="push.changed"):
    """How a push stands. `failed` and `stopped` are ends; `detail` says why it is not live, for a person."""

    target: str
    state: Literal["connecting", "live", "failed", "stopped"]
    detail: str | None = None
    event_id: str | None = None


class RecordingChanged(ServerMessage, frozen=True, kw_only=True, tag="recording.changed"):
    """A recording began or ended, by `program.record` or by itself: then `error` says why.

    The other fields are of the recording that runs, or of the one that just ended; all null if there was none.
    """

    event_id: str | None = None
    recording: bool
    name: str | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    url: str | None = None  # path at this server
    error: ErrorDetail | None = None


class WebrtcAnswer(ServerMessage, frozen=True, kw_only=True, tag="webrtc.answer"):
    event_id: str | None = None
    sdp: str


class StatsUpdated(ServerMessage, frozen=True, kw_only=True, tag="stats.updated"):
    """Once a second. Rates are over the last second, the play ratio and the gap over the whole session."""

    frames_sent: int
    frames_due: int
    continuous_play_ratio: float
    max_gap_ms: float
    sent_frame_rate: float
    bitrate: float
    viewers: int
    engine: str


class Error(ServerMessage, frozen=True, kw_only=True, tag="error"):
    error: ErrorDetail


class StreamStarted(Struct, frozen=True, kw_only=True, tag_field="type", tag="stream.started"):
    """The first word of `WS /v1/sessions/{session_id}/watch`; after it comes fragmented MP4, in binary frames."""

    mime: str  # for `MediaSource.addSourceBuffer`
    width: int
    height: int
    frame_rate: int


# --- decoding -----------------------------------------------------------------------------------------------------


def error_detail(
    code: ErrorCode,
    message: str,
    *,
    param: str | None = None,
    event_id: str | None = None,
    retryable: bool = False,
    retry_after_ms: int | None = None,
) -> ErrorDetail:
    """The error object; its type follows from the code, and who is told when to come back may come back."""
    return ErrorDetail(
        type=ERROR_TYPES[code],
        code=code,
        message=message,
        param=param,
        event_id=event_id,
        retryable=retryable or retry_after_ms is not None,
        retry_after_ms=retry_after_ms,
    )


class Refused(Exception):
    """What a client asked for and does not get; `detail` is what it is told."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        event_id: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.detail = error_detail(code, message, param=param, event_id=event_id, retry_after_ms=retry_after_ms)

    def answer_to(self, message: ClientMessage) -> ErrorDetail:
        """The detail with the message's `event_id`."""
        return msgspec.structs.replace(self.detail, event_id=message.event_id)


class MessageError(Refused):
    """A client's message that cannot be taken."""


_decoder: msgspec.json.Decoder[AnyClientMessage] = msgspec.json.Decoder(AnyClientMessage)
_encoder = msgspec.json.Encoder()
CLIENT_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in AnyClientMessage.__args__)
# Identifiers go into log lines: nothing in them may end a line or hide a word.
_ID = re.compile(rf"[!-~]{{1,{MAX_ID_CHARACTERS}}}")
# What an address of a stage may be made of. Ids that we make up cannot be taken as names: they are not guessable.
_NAME = re.compile(r"[a-z0-9-]{3,40}")
_MADE_UP = re.compile(r"s[0-9a-f]{16}")
_AT_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED_FIELD = re.compile(r"field `(?P<field>[^`]*)`")


def decode(text: str | bytes) -> AnyClientMessage:
    """The message in `text`. Raises `MessageError` whose detail names code and field; never anything else.

    Of a key that stands twice the last counts, as in every browser.
    """
    if len(text) > MAX_MESSAGE_BYTES or (isinstance(text, str) and _utf8_length(text) > MAX_MESSAGE_BYTES):
        raise MessageError("message_too_large", f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    try:
        message = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _explain(text, str(error)) from None
    _check_values(message)
    return message


def session_start(options: Mapping[str, object]) -> SessionStart:
    """The message with these options, whose values may be texts, as in a query. Raises `MessageError`."""
    culprit = next(_impossible_values(dict(options)), None)
    if culprit is not None:
        raise MessageError(culprit.code, culprit.message, param=culprit.param)
    try:
        loose = msgspec.convert(dict(options), SessionStart, strict=False)
    except msgspec.ValidationError as error:
        raise _explain_shape("session.start", str(error), None) from None
    message = decode(msgspec.json.encode(loose))
    assert isinstance(message, SessionStart)
    return message


def is_name(session_id: str) -> bool:
    """Whether somebody may have chosen this id, and may choose it again."""
    return _NAME.fullmatch(session_id) is not None and _MADE_UP.fullmatch(session_id) is None


def encode(message: ServerMessage | StreamStarted) -> str:
    return _encoder.encode(message).decode()


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _explain(text: str | bytes, reason: str) -> MessageError:
    """Which rule was broken, in our codes.

    The message is read once more by the standard library, which takes what msgspec does not: NaN, numbers beyond a
    float, and escapes that are half a surrogate pair. So their senders are told the field instead of a byte offset.
    """
    try:
        loose = json.loads(text)
    except (ValueError, RecursionError):
        loose = None
    if not isinstance(loose, dict):
        return MessageError("invalid_json", f"expected one JSON object: {reason}")
    event_id = loose.get("event_id")
    if not isinstance(event_id, str) or len(event_id) > MAX_ID_CHARACTERS or not _is_text(event_id):
        event_id = None
    kind = loose.get("type")
    if "type" not in loose:
        return MessageError("missing_field", "the field `type` is missing", param="type", event_id=event_id)
    if not isinstance(kind, str) or kind not in CLIENT_TYPES:
        known = ", ".join(sorted(CLIENT_TYPES))
        return MessageError("unknown_event", f"`type` must be one of: {known}", param="type", event_id=event_id)
    culprit = next(_impossible_values(loose), None)
    if culprit is not None:
        return MessageError(culprit.code, culprit.message, param=culprit.param, event_id=event_id)
    return _explain_shape(kind, reason, event_id)


def _explain_shape(kind: str, reason: str, event_id: str | None) -> MessageError:
    path = _AT_PATH.search(reason)
    named = _NAMED_FIELD.search(reason)
    param = (named and named["field"]) or (path and path["path"]) or None
    if "unknown field" in reason:
        return MessageError("unknown_field", f"`{kind}` has no field `{param}`", param=param, event_id=event_id)
    if "missing required field" in reason:
        return MessageError("missing_field", f"`{kind}` needs the field `{param}`", param=param, event_id=event_id)
    if path is None:
        return MessageError("invalid_json", f"expected one JSON object: {reason}", event_id=event_id)
    message = _AT_PATH.sub("", reason)
    code: ErrorCode = "invalid_value" if "enum value" in reason or "out of range" in reason else "wrong_type"
    return MessageError(code, f"`{param}`: {message}", param=param, event_id=event_id)


class _Culprit(NamedTuple):
    code: ErrorCode
    message: str
    param: str | None


def _impossible_values(loose: dict[str, Any]) -> Iterator[_Culprit]:
    """Fields that hold what JSON allows or browsers never send, and no field here can take."""
    for name, value in loose.items():
        if not _is_text(name):
            yield _Culprit("invalid_text", "a field's name holds a lone surrogate, which is not Unicode text", None)
        elif isinstance(value, float) and not math.isfinite(value):
            yield _Culprit("invalid_value", f"`{name}` must be a finite number, got {value}", name)
        elif isinstance(value, str) and not _is_text(value):
            yield _Culprit("invalid_text", f"`{name}` holds a lone surrogate, which is not Unicode text", name)


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


_RANGES: dict[str, tuple[float, float]] = {
    "width": (128, 1920),
    "height": (128, 1080),
    "frame_rate": (5, 60),
    "bitrate": (150_000, 20_000_000),
    "transition_s": (0.0, 5.0),
    "music_volume": (0.0, 1.0),
    "seed": (0, 2**63 - 1),
    "last_seq": (-1, 2**53),
    "sdp_mline_index": (0, 255),
}


def _check_values(message: AnyClientMessage) -> None:
    """What types cannot say: ranges and lengths."""
    event_id = message.event_id
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if value is None or value is UNSET or isinstance(value, bool):
            continue
        if isinstance(value, str):
            _check_length(name, value, event_id if name != "event_id" else None)
        elif name in _RANGES:
            low, high = _RANGES[name]
            if not low <= value <= high:
                reason = f"`{name}` must lie in {low:g}..{high:g}, got {value}"
                raise MessageError("invalid_value", reason, param=name, event_id=event_id)
        if name in ("width", "height") and value % 2:
            raise MessageError("invalid_value", f"`{name}` must be even, got {value}", param=name, event_id=event_id)


def _check_length(name: str, value: str, event_id: str | None) -> None:
    if name == "text":
        if not value.strip():
            raise MessageError("prompt_empty", "`text` is empty", param=name, event_id=event_id)
        if len(value) > MAX_PROMPT_CHARACTERS:
            reason = f"`text` has {len(value)} characters, at most {MAX_PROMPT_CHARACTERS} are taken"
            raise MessageError("prompt_too_long", reason, param=name, event_id=event_id)
    elif name in ("lora", "music"):
        if not value or len(value) > MAX_NAME_CHARACTERS:
            reason = f"`{name}` must have 1 to {MAX_NAME_CHARACTERS} characters, or be null"
            raise MessageError("invalid_value", reason, param=name, event_id=event_id)
    elif name == "name":
        if not is_name(value):
            reason = "`name` must have 3 to 40 of a-z, 0-9 and -, and not look like an id of ours"
            raise MessageError("invalid_value", reason, param=name, event_id=event_id)
    elif name not in ("sdp", "candidate") and not _ID.fullmatch(value):
        reason = f"`{name}` must have 1 to {MAX_ID_CHARACTERS} visible ASCII characters"
        raise MessageError("invalid_value", reason, param=name, event_id=event_id)

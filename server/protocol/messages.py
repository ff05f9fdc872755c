"""The messages of `WS /v1/realtime`, version 1, in both directions: their types, and nothing else. Pure.

Flat JSON. Client verbs are imperative, server verbs past tense; `type` is dotted lower case. Unknown fields from a
client are refused with the field's name; clients ignore unknown events. `clients.py` makes the SDKs' copies of this
file.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from server.protocol.codes import ErrorDetail
from server.protocol.fields import (
    Bitrate,
    FileName,
    FrameRate,
    Height,
    Id,
    LastSeq,
    LineIndex,
    PromptText,
    Seed,
    StageName,
    TransitionSeconds,
    Volume,
    Width,
)

PROTOCOL_VERSION = 1

QualityName = Literal["fast", "fine"]
OnPreview = Literal["on_air", "controller", "off"]
TakeMode = Literal["auto", "manual"]
TransitionName = Literal["cut", "crossfade", "morph"]
# A clip that waits is finished, so a take can no longer make it start from the frame on air.
TakeTransition = Literal["cut", "crossfade"]
After = Literal["loop", "continue", "hold"]


class SessionOptions(Struct, frozen=True, kw_only=True):
    """The options of a session. `session.created` and `session.updated` repeat all of them."""

    width: Width = 832
    height: Height = 480
    frame_rate: FrameRate = 24
    bitrate: Bitrate = 2_000_000
    quality: QualityName = "fast"
    on_preview: OnPreview = "on_air"
    take: TakeMode = "auto"
    transition: TransitionName = "crossfade"
    transition_s: TransitionSeconds = 0.5
    after: After = "loop"
    seed: Seed | None = None
    lora: FileName | None = None
    fresh: bool = False  # never a clip that was made before
    music: FileName | None = None  # a name from `session.created`; None is silence
    music_volume: Volume = 0.5
    # Paint the frame's number as black and white bars into the picture, for measuring at the viewer's glass.
    marker: bool = False


# --- client to server ---------------------------------------------------------------------------------------------


class ClientMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    event_id: Id | None = None


class SessionStart(
    SessionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="session.start"
):
    """The options of a new session. `name` becomes its id, so that the addresses of its viewers outlive a restart of
    the server. Not a subclass of `ClientMessage`, because msgspec allows a struct one base."""

    event_id: Id | None = None
    name: StageName | None = None


class SessionUpdate(ClientMessage, frozen=True, kw_only=True, tag="session.update"):
    """Changes options while the show is on. Size and frame rate cannot change."""

    quality: QualityName | UnsetType = UNSET
    on_preview: OnPreview | UnsetType = UNSET
    take: TakeMode | UnsetType = UNSET
    transition: TransitionName | UnsetType = UNSET
    transition_s: TransitionSeconds | UnsetType = UNSET
    after: After | UnsetType = UNSET
    seed: Seed | UnsetType | None = UNSET
    lora: FileName | UnsetType | None = UNSET
    fresh: bool | UnsetType = UNSET
    music: FileName | UnsetType | None = UNSET
    music_volume: Volume | UnsetType = UNSET


class SessionResume(ClientMessage, frozen=True, kw_only=True, tag="session.resume"):
    """Resumes a session whose connection was lost.

    The server sends the events after `last_seq` again, then `session.created`. With -1 it sends all events that it
    still has, even if some are missing.
    """

    session_id: Id
    resume_token: Id
    last_seq: LastSeq = -1


class SessionClose(ClientMessage, frozen=True, kw_only=True, tag="session.close"):
    pass


class SessionPing(ClientMessage, frozen=True, kw_only=True, tag="session.ping"):
    pass


class PromptSet(ClientMessage, frozen=True, kw_only=True, tag="prompt.set"):
    """A prompt for the stage. Missing options are the session's. The server chooses a missing `prompt_id`.

    `audience`: a viewer's prompt that a bot forwards. Under load the engine serves the operator's own prompts first.
    """

    text: PromptText
    prompt_id: Id | None = None
    quality: QualityName | UnsetType = UNSET
    seed: Seed | UnsetType | None = UNSET
    transition: TransitionName | UnsetType = UNSET
    transition_s: TransitionSeconds | UnsetType = UNSET
    after: After | UnsetType = UNSET
    lora: FileName | UnsetType | None = UNSET
    fresh: bool | UnsetType = UNSET
    audience: bool = False


class PromptCancel(ClientMessage, frozen=True, kw_only=True, tag="prompt.cancel"):
    prompt_id: Id


class ProgramTake(ClientMessage, frozen=True, kw_only=True, tag="program.take"):
    """Puts the waiting clip (``take: manual``) on air."""

    transition: TakeTransition | UnsetType = UNSET
    transition_s: TransitionSeconds | UnsetType = UNSET


class ProgramShow(ClientMessage, frozen=True, kw_only=True, tag="program.show"):
    """Puts a finished clip of `/v1/videos` on the stage, as a prompt with receipts. Missing options are the session's.

    The clip is not made again, so it cannot start from the picture on air: a `morph` of the session is a crossfade.
    """

    clip_id: Id
    prompt_id: Id | None = None
    transition: TakeTransition | UnsetType = UNSET
    transition_s: TransitionSeconds | UnsetType = UNSET
    after: After | UnsetType = UNSET


class ProgramBlank(ClientMessage, frozen=True, kw_only=True, tag="program.blank"):
    """The panic button: black at once."""


class ProgramResume(ClientMessage, frozen=True, kw_only=True, tag="program.resume"):
    """Ends the blank; what ran below it is on air again."""


class ProgramPush(ClientMessage, frozen=True, kw_only=True, tag="program.push"):
    """Begins or ends a push of the program to an ingest (WHIP) that the operator has named."""

    target: Id
    push: bool


class ProgramRecord(ClientMessage, frozen=True, kw_only=True, tag="program.record"):
    """Begins or ends a recording of the program, into a file at the server."""

    recording: bool


class WebrtcOffer(ClientMessage, frozen=True, kw_only=True, tag="webrtc.offer"):
    sdp: str


class WebrtcCandidate(ClientMessage, frozen=True, kw_only=True, tag="webrtc.candidate"):
    """A trickled ICE candidate; an empty one ends them."""

    candidate: str
    sdp_mid: Id | None = None
    sdp_mline_index: LineIndex | None = None


AnyClientMessage = (
    SessionStart
    | SessionUpdate
    | SessionResume
    | SessionClose
    | SessionPing
    | PromptSet
    | PromptCancel
    | ProgramTake
    | ProgramShow
    | ProgramBlank
    | ProgramResume
    | ProgramPush
    | ProgramRecord
    | WebrtcOffer
    | WebrtcCandidate
)

# --- server to client ---------------------------------------------------------------------------------------------


class IceServer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Like a browser's `RTCIceServer`. Missing fields are left out: a browser would take null for the text "null"."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


class FrameStamp(Struct, frozen=True, kw_only=True):
    """The frame that first shows something, by its number in the program and its RTP timestamp."""

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
    music: tuple[str, ...] = ()  # the names for the option `music`
    push_targets: tuple[str, ...] = ()  # the names for `program.push`
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
    """docs/protocol.md has the codes. `degraded` comes with the code of that name, and says what clips lack.

    `core_share` comes with `machine_busy`: the share of the wanted core time that the engine got.
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
    """`clip_id` and `text` are those of a clip that was put on the stage, perhaps by somebody else."""

    event_id: str | None = None
    prompt_id: str
    seed: int
    quality: QualityName
    estimated_preview_ms: float | None
    estimated_picture_ms: float | None
    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()
    clip_id: str | None = None
    text: str | None = None


class PromptStarted(ServerMessage, frozen=True, kw_only=True, tag="prompt.started"):
    """Sent again, with a higher `attempt`, when the engine was lost and the prompt is generated again.

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
    """Sent after each denoising step, with `picture` (a JPEG data URI) and without `frame`.

    There is no picture for the last step, after which the clip itself is decoded, or with ``on_preview: off``. Sent
    once more for the step whose preview was the first on air, with `frame` and without `picture`.
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

    `is_late`: the clip before was shown again until this one was ready.
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
    """The state of a push. `failed` and `stopped` are ends; `detail` tells a person why it is not live."""

    target: str
    state: Literal["connecting", "live", "failed", "stopped"]
    detail: str | None = None
    event_id: str | None = None


class RecordingChanged(ServerMessage, frozen=True, kw_only=True, tag="recording.changed"):
    """A recording began or ended, by `program.record` or by itself. In the last case `error` says why.

    The other fields belong to the running recording, or to the one that just ended; all are null if there was none.
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
    """The first message of `WS /v1/sessions/{session_id}/watch`; fragmented MP4 follows, in binary frames."""

    mime: str  # for `MediaSource.addSourceBuffer`
    width: int
    height: int
    frame_rate: int

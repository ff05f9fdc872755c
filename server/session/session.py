"""One stage's session: its life, its options, and the dispatch of its controller's messages.

`connection.py` (the controller's connection) and `registry.py` (the engine's events) call it. The session owns its
program (`server.media`), which owns the stage. Everything runs on the event loop; a method that is not `async` runs
without interruption. The table below is the life of a session. `prompts.py` keeps the prompts, `continuation.py`
continues scenes, `slot.py` is the stage's place in the engine, and `receipts.py` sends to the controller.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from msgspec import UNSET

from engine.api import Engine, EngineLost, EngineReady, EngineStopped, GenerationEvent, Quality
from server.accounts.payer import NOBODY, Place
from server.clock import Clock
from server.config import ProgramSize, WhipTarget
from server.media.program import Program
from server.media.program_format import ProgramFormat
from server.metrics import Metrics, ProgramCounts
from server.protocol.errors import Refused
from server.protocol.messages import (
    AnyClientMessage,
    IceServer,
    ProgramBlank,
    ProgramPush,
    ProgramRecord,
    ProgramResume,
    ProgramShow,
    ProgramTake,
    PromptCancel,
    PromptSet,
    PushChanged,
    RecordingChanged,
    SessionClose,
    SessionClosed,
    SessionCreated,
    SessionOptions,
    SessionPing,
    SessionPong,
    SessionResume,
    SessionStart,
    SessionUpdate,
    SessionUpdated,
    StatsUpdated,
    WebrtcAnswer,
    WebrtcCandidate,
    WebrtcOffer,
)
from server.session import capabilities, receipts
from server.session.generations import Generations
from server.session.limits import ConnectionLimits, Outbox, ReplayGap
from server.session.neighbours import Controller, ProgramFactory, SessionProgram, Shelf
from server.session.prompts import Prompts
from server.session.pushes import Pushes
from server.session.receipts import Receipts
from server.session.recordings import Recorder, Recordings
from server.session.slot import Slot
from server.session.viewers import Viewers
from server.stage.picture import OnAir

# Before the end of a session whose length is limited; half of a short one.
WARN_BEFORE_S = 60.0


class SessionState(StrEnum):
    OPEN = "open"
    DETACHED = "detached"  # the controller's connection is lost; the program goes on, and a controller may resume it
    CLOSED = "closed"


class SessionMove(StrEnum):
    LOSE = "lose"
    TAKE_UP = "take_up"
    CLOSE = "close"


NEXT_SESSION_STATE: dict[tuple[SessionState, SessionMove], SessionState] = {
    (SessionState.OPEN, SessionMove.LOSE): SessionState.DETACHED,
    # The old connection may look alive for seconds after the network died.
    (SessionState.OPEN, SessionMove.TAKE_UP): SessionState.OPEN,
    (SessionState.DETACHED, SessionMove.TAKE_UP): SessionState.OPEN,
    (SessionState.OPEN, SessionMove.CLOSE): SessionState.CLOSED,
    (SessionState.DETACHED, SessionMove.CLOSE): SessionState.CLOSED,
}


class IllegalSessionMove(Exception):
    """A bug of ours: a move that the session's state does not allow. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What all sessions of a server share; made once, by `app.build`."""

    engine: Engine
    metrics: Metrics
    clock: Clock
    make_program: ProgramFactory = Program
    recordings: Recordings = field(default_factory=Recordings)
    max_viewers: int = 32  # of one session, beside the controller's own
    max_program: ProgramSize = (1920, 1080, 30)
    ice_servers: Callable[[str], tuple[IceServer, ...]] = lambda session_id: ()
    music: tuple[str, ...] = ()
    push_targets: Mapping[str, WhipTarget] = field(default_factory=dict)
    generations: Generations = field(default_factory=Generations)
    shelf: Shelf | None = None  # None: this server makes no clips on demand
    wall_time: Callable[[], float] = time.time


class Length:
    """The time that a session may last, and the one warning before its end."""

    def __init__(self, began_at: float, session_s: float | None) -> None:
        self.ends_at = began_at + session_s if session_s is not None else math.inf
        self._warns_at = self.ends_at - min(WARN_BEFORE_S, (session_s or 0.0) / 2)

    def is_over(self, now: float) -> bool:
        return now >= self.ends_at

    def left_s(self, now: float) -> float | None:
        """Once, shortly before the end: the seconds until then."""
        if now < self._warns_at:
            return None
        self._warns_at = math.inf
        return max(0.0, self.ends_at - now)


class Session:
    """See the module. Create it, `open` it, `attach` a controller; `close` frees everything."""

    def __init__(
        self,
        session_id: str,
        options: SessionOptions,
        neighbours: Neighbours,
        *,
        stage_id: str | None = None,
        tenant: str = "",
        place: Place | None = None,
        on_closed: Callable[[Session], None] = lambda session: None,
    ) -> None:
        """`stage_id` is the prefix of generation ids. It is not the session's name, because the engine may still work
        for an older session of that name. `place`: in the accounts of who pays; whoever took it gives it back."""
        self.session_id, self.tenant, self.options = session_id, tenant, options
        self.place = place or Place(NOBODY)
        self.resume_token = secrets.token_urlsafe(24)
        self.state, self.detached_at = SessionState.OPEN, 0.0
        self._neighbours, self._on_closed = neighbours, on_closed
        self._engine, self._metrics, self._clock = neighbours.engine, neighbours.metrics, neighbours.clock
        self._controller: Controller | None = None
        self.limits = ConnectionLimits(self._clock)  # a new connection does not refill them
        self.receipts = Receipts(
            session_id,
            self._metrics,
            wall_time=neighbours.wall_time,
            on_overflow=self._on_overflow,
            rtp_timestamp=self._rtp_timestamp,
        )
        self.program_format = _format(options)
        self.program = self._make_program()
        self.slot = self._make_slot(stage_id or session_id)
        self.prompts = Prompts(
            self.program,
            self.slot,
            self.receipts,
            engine=self._engine,
            metrics=self._metrics,
            clock=self._clock,
            options=lambda: self.options,
            is_seen=self._is_seen,
            shelf=neighbours.shelf,
        )
        self._scene = self.prompts.scene
        self.viewers = Viewers(
            self.program,
            max_viewers=neighbours.max_viewers,
            on_joined=self._scene.go_on,
            log=lambda text: self.receipts.log("=", text),
        )
        self.pushes = Pushes(
            self.program,
            neighbours.push_targets,
            clock=self._clock,
            on_changed=self._tell,
            log=lambda text, is_error: self.receipts.log("!" if is_error else "=", text),
        )
        self._recorder = self._make_recorder()
        self._opened_at = self._ticked_at = self._clock.now()
        self.length = Length(self._opened_at, self.place.payer.session_s)
        self._ticked_counts = ProgramCounts()

    def _make_program(self) -> SessionProgram:
        return self._neighbours.make_program(
            self.program_format,
            clock=self._clock,
            on_shown=lambda shown: self.prompts.on_shown(shown),  # noqa: PLW0108  they are made later
            on_changed=self._on_changed,
            on_viewer_lost=self._on_viewer_lost,
            on_music_failed=self._on_music_failed,
        )

    def _make_slot(self, stage_id: str) -> Slot:
        return Slot(
            self._engine,
            self.receipts,
            self._metrics,
            stage_id=stage_id,
            tenant=self.tenant,
            frame_rate=self.options.frame_rate,
            claim=lambda generation_id, reservation: self._neighbours.generations.add(generation_id, self, reservation),
            payer=self.place.payer,
        )

    def _make_recorder(self) -> Recorder:
        return Recorder(
            self.session_id,
            self.tenant,
            self.program,
            self.program_format,
            self._neighbours.recordings,
            self._metrics,
            max_stored_bytes=self.place.payer.stored_bytes,
            on_ended=self._tell,
        )

    @property
    def owner_id(self) -> str:
        return self.session_id

    @property
    def outbox(self) -> Outbox:
        return self.receipts.outbox

    # --- its life -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self.program.open()
        self.program.play(self.options.music, self.options.music_volume)
        self.receipts.log("=", f"open {self.options.width}x{self.options.height} at {self.options.frame_rate}")

    def attach(self, controller: Controller) -> None:
        """The first controller's connection."""
        self._controller = controller

    def answer_start(self, message: SessionStart) -> None:
        """Answers the message that made this session with `session.created`."""
        self.receipts.answer(message, self._created(message.event_id))

    def take_up(self, controller: Controller, message: SessionResume) -> None:
        """Moves the session to another connection. An old connection that still looks alive is aborted.

        Raises `Refused` (`wrong_token`, `resume_gap`, `invalid_value`) and changes nothing.
        """
        if not secrets.compare_digest(message.resume_token.encode(), self.resume_token.encode()):
            raise Refused("wrong_token", "this is not the session's resume token", param="resume_token")
        if message.last_seq > self.outbox.last_seq:
            reason = f"`last_seq` is at most {self.outbox.last_seq}, got {message.last_seq}"
            raise Refused("invalid_value", reason, param="last_seq")
        try:
            self.outbox.replay_after(message.last_seq)
        except ReplayGap as gap:
            raise Refused("resume_gap", f"{gap}; resume with -1 to skip them", param="last_seq") from None
        self._move(SessionMove.TAKE_UP)
        displaced, self._controller = self._controller, controller
        if displaced is not None:
            displaced.abort("taken up by another connection")
        self.receipts.log("=", "resumed")
        self.receipts.emit(self._created(message.event_id))
        if self._recorder.is_recording:
            self.receipts.emit(self._recorder.status())
        for push in self.pushes.running():
            self.receipts.emit(push)

    def detach(self, controller: Controller) -> None:
        """The connection is lost. Does nothing if it is not (or no longer) this session's."""
        if self._controller is not controller or self.state is not SessionState.OPEN:
            return
        self._controller = None
        self._move(SessionMove.LOSE)
        self.detached_at = self._clock.now()
        self.receipts.log("=", "detached")

    async def close(self, reason: str, event_id: str | None = None) -> None:
        """Ends all prompts, sends `session.closed`, frees program and viewers. Idempotent.

        If cancelled, the program may be left open: call it again.
        """
        if (recorded := await self._recorder.close()) is not None:
            self.receipts.emit(recorded)
        if self.state is not SessionState.CLOSED:
            self.prompts.close()
            self.tick()
            self.receipts.emit(SessionClosed(event_id=event_id, reason=reason, usage=self._usage()))
            self._move(SessionMove.CLOSE)
            self._on_closed(self)
            self.outbox.close()
            self.receipts.log("x", reason)
            if self._controller is not None:
                await self._controller.farewell()
        self.viewers.close()
        # Together: an ingest that is slow to say goodbye keeps no viewer's socket open.
        await asyncio.gather(self.pushes.close(), self.program.close())

    def tick(self) -> None:
        """Once a second: counters to the metrics, `stats.updated` to the controller."""
        now = self._clock.now()
        statistics = self.program.statistics()
        counts = receipts.counts(statistics)
        span, span_s = counts.since(self._ticked_counts), now - self._ticked_at
        self._ticked_counts, self._ticked_at = counts, now
        self._metrics.program_ran(span)
        self._scene.go_on()
        self.viewers.tick()
        if (left_s := self.length.left_s(now)) is not None:
            self.receipts.warn("time_ends", f"this stage ends in {left_s:.0f} s: its time is limited")
        if self.state is not SessionState.OPEN or span_s <= 0:
            return
        self.slot.tell_busy(now)
        self.receipts.emit(
            StatsUpdated(
                frames_sent=counts.frames_sent,
                frames_due=counts.frames_due,
                continuous_play_ratio=round(statistics.continuous_play_ratio, 6),
                max_gap_ms=receipts.ms(statistics.max_gap_s),
                sent_frame_rate=round(span.frames_sent / span_s, 2),
                bitrate=round(span.bytes_sent * 8 / span_s),
                viewers=self.program.num_viewers,
                engine=self._engine.state,
            )
        )

    # --- from the controller --------------------------------------------------------------------------------------

    async def handle(self, message: AnyClientMessage) -> None:
        """Carries out a message. If it is refused, answers with `error`, and the session goes on."""
        self.receipts.log("<", receipts.describe(message), level=receipts.level(message))
        try:
            if not self.receipts.is_repeated(message):
                await self._dispatch(message)
                self.receipts.answered.remember(message, None)
        except Refused as refusal:
            self.receipts.refuse(refusal.answer_to(message.event_id))

    async def _dispatch(self, message: AnyClientMessage) -> None:
        match message:
            case PromptSet():
                self.prompts.set(message)
            case PromptCancel():
                self.prompts.cancel(message)
            case ProgramTake():
                self.prompts.take(message)
            case ProgramShow():
                await self.prompts.show(message)
            case ProgramBlank():
                self._scene.end()
                self.program.stage.blank()
                self.prompts.air.report(message)
            case ProgramResume():
                self.program.stage.resume()
                self.prompts.air.report(message)
            case ProgramPush():
                self.receipts.answer(message, self.pushes.set(message))
            case ProgramRecord():
                await self._record(message)
            case WebrtcOffer():
                await self._connect(message)
            case WebrtcCandidate():
                await self.viewers.add_own_candidate(message)
            case SessionUpdate():
                self._update(message)
            case SessionPing():
                self.receipts.answer(message, SessionPong(event_id=message.event_id))
            case SessionClose():
                await self.close("client", message.event_id)
            case SessionStart() | SessionResume():
                raise Refused("session_exists", "this connection has a session already")

    def _update(self, message: SessionUpdate) -> None:
        changed = {
            name: getattr(message, name)
            for name in message.__struct_fields__
            if name != "event_id" and getattr(message, name) is not UNSET
        }
        options = msgspec.structs.replace(self.options, **changed)
        self._check_capabilities(options)
        capabilities.check_music(self._neighbours.music, options.music)
        self.options = options
        self.program.play(options.music, options.music_volume)
        self.prompts.on_options_changed()
        self.receipts.answer(message, SessionUpdated(event_id=message.event_id, options=self.options))

    def _check_capabilities(self, options: SessionOptions) -> None:
        """Raises `Refused`, before anything has changed."""
        capabilities.check(self._engine.model, transition=options.transition, after=options.after, lora=options.lora)

    # --- from the engine ------------------------------------------------------------------------------------------

    def on_generation_event(self, event: GenerationEvent) -> None:
        self.prompts.on_generation_event(event)

    def on_engine_lost(self, event: EngineLost) -> None:
        self.prompts.on_engine_lost(event.generation_ids)
        self.receipts.warn(
            "engine_lost", f"the engine was lost ({event.reason}) and is being replaced; the program goes on"
        )

    def on_engine_ready(self, event: EngineReady, *, is_recovery: bool) -> None:
        if is_recovery:
            self.receipts.warn("engine_recovered", "the engine is back; what was lost is generated again")
        else:
            self.receipts.warn("engine_ready", f"the model {event.model.name} is loaded and warm")
            self._check_what_waited()

    def on_engine_stopped(self, event: EngineStopped) -> None:
        reason = "the engine could not be brought back; the program goes on without new scenes"
        self.receipts.warn("engine_failed", reason)
        self.prompts.on_engine_stopped()

    def _check_what_waited(self) -> None:
        """The model is known now: drops options that were accepted before and that it does not support."""
        try:
            self._check_capabilities(self.options)
        except Refused as refusal:
            self.options = msgspec.structs.replace(
                self.options,
                transition="crossfade",
                after="loop" if self.options.after == "continue" else self.options.after,
                lora=None,
            )
            self.receipts.warn("not_supported", f"{refusal.detail.message}; the session goes on without it")
            self.receipts.emit(SessionUpdated(options=self.options))
        self.prompts.on_model_known()

    # --- the program ----------------------------------------------------------------------------------------------

    def _on_changed(self, on_air: OnAir, prompt_id: str | None) -> None:
        if self.state is not SessionState.CLOSED:
            self.prompts.air.report()

    def _on_music_failed(self, reason: str) -> None:
        self.options = msgspec.structs.replace(self.options, music=None)
        if self.state is not SessionState.CLOSED:
            self.receipts.warn("music_failed", f"the music has stopped: {reason}")

    def _tell(self, changed: PushChanged | RecordingChanged) -> None:
        """A push or a recording changed by itself."""
        if self.state is not SessionState.CLOSED:
            self.receipts.emit(changed)

    # --- recording ------------------------------------------------------------------------------------------------

    @property
    def is_recording(self) -> bool:
        return self._recorder.is_recording

    def _is_seen(self) -> bool:
        """Whether anybody watches or records, so that a further clip is worth making."""
        return self.program.num_viewers > 0 or self.is_recording

    async def _record(self, message: ProgramRecord) -> None:
        changed = await (self._recorder.start() if message.recording else self._recorder.stop())
        self.receipts.answer(message, msgspec.structs.replace(changed, event_id=message.event_id))
        self._scene.go_on()

    # --- viewers --------------------------------------------------------------------------------------------------

    async def _connect(self, message: WebrtcOffer) -> None:
        _, answer_sdp = await self.viewers.connect(message.sdp)
        self.receipts.answer(message, WebrtcAnswer(event_id=message.event_id, sdp=answer_sdp))

    def _rtp_timestamp(self, frame_index: int) -> int | None:
        return self.viewers.rtp_timestamp(frame_index)

    def _on_viewer_lost(self, viewer_id: str) -> None:
        was_controllers = self.viewers.lose(viewer_id)
        if was_controllers and self.state is not SessionState.CLOSED:
            self.receipts.warn("viewer_lost", "the video connection was lost; send another offer")

    # --- to the controller ----------------------------------------------------------------------------------------

    def _created(self, event_id: str | None) -> SessionCreated:
        return SessionCreated(
            event_id=event_id,
            resume_token=self.resume_token,
            options=self.options,
            model=receipts.model(self._engine.model),
            engine=self._engine.state,
            estimated_picture_ms=self.slot.estimated_picture_ms(Quality(self.options.quality)),
            ice_servers=self._neighbours.ice_servers(self.session_id),
            music=self._neighbours.music,
            push_targets=self.pushes.targets,
        )

    def _usage(self) -> dict[str, float]:
        return {
            "duration_s": round(self._clock.now() - self._opened_at, 3),
            "generations": self.slot.num_generations,
            "denoising_steps": self.slot.num_steps,
            "engine_s": round(self.slot.engine_s, 3),
            "prompts_applied": self.prompts.num_applied,
        }

    def _on_overflow(self) -> None:
        self.receipts.log("!", "the controller does not read; closing its connection")
        if self._controller is not None:
            self._controller.abort("too many unread messages")

    def _move(self, move: SessionMove) -> None:
        try:
            self.state = NEXT_SESSION_STATE[self.state, move]
        except KeyError:
            raise IllegalSessionMove(f"{self.session_id}: `{move}` while {self.state}") from None


def _format(options: SessionOptions) -> ProgramFormat:
    return ProgramFormat(
        width=options.width,
        height=options.height,
        frame_rate=options.frame_rate,
        bitrate=options.bitrate,
        marker=options.marker,
    )

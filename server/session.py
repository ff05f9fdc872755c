"""One stage's session: client messages become commands, engine events and sent frames become receipts.

Between `websocket.py` (one controller's connection), `registry.py` (which hands on the engine's events) and the
program (`server.media`), which owns the stage. Everything runs on the event loop; what is not `async` here happens at
once and whole. The life of a prompt is the table in `prompt.py`, the life of a session the table below.

The newest prompt wins: at most one prompt waits or is generated (`_current`), at most one generation of the session is
in the engine (`_in_engine`, which may belong to a prompt that has ended: it stops at its next step, and the newest
starts then), and at most one clip is taken and not yet seen (`_taken`). While no prompt waits, a scene that goes on has
its next clip made (`_continuation`).
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET

from engine.api import (
    Cancel,
    Engine,
    EngineBusy,
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    EngineUnavailable,
    Estimate,
    Frames,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationEvent,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    PreviewReady,
    Quality,
    Reuse,
    StepFinished,
)
from server import abilities, receipts
from server.answered import Answered
from server.clock import Clock
from server.config import WhipTarget
from server.continuation import Continuation
from server.limits import Outbox, Outgoing, ReplayGap
from server.media.program import ProgramFormat, Shown
from server.messages import (
    After,
    AnyClientMessage,
    Error,
    ErrorDetail,
    FrameStamp,
    IceServer,
    ProgramBlank,
    ProgramChanged,
    ProgramPush,
    ProgramRecord,
    ProgramResume,
    ProgramTake,
    PromptAccepted,
    PromptApplied,
    PromptCancel,
    PromptCancelled,
    PromptContinued,
    PromptFailed,
    PromptReady,
    PromptRejected,
    PromptSet,
    PromptStarted,
    PromptSuperseded,
    PushChanged,
    RecordingChanged,
    Refused,
    ServerMessage,
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
    SessionWarning,
    StatsUpdated,
    WebrtcAnswer,
    WebrtcCandidate,
    WebrtcOffer,
    error_detail,
)
from server.metrics import Metrics, ProgramCounts
from server.neighbours import Controller, ProgramFactory
from server.prompt import Prompt, PromptEvent, PromptState
from server.pushes import Pushes
from server.recordings import Recorder, Recordings
from server.stage import Clip, OnAir, Transition
from server.viewers import Viewers

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Ended prompts that are remembered, to know a latecomer and a repeated id for what they are.
MAX_ENDED = 256
# Seeds stay exact in every client's number type.
_NUM_RANDOM_SEEDS = 2**32
# What the engine is told of a prompt's haste. Three seconds are the promise that this project began with (prompt to
# picture on two cores). Three times what the clip takes alone is the least that a shared engine can promise: at the use
# that admission allows (`admission.CAPACITY`), two clips' time is the mean wait before the own one. A promise below
# that would be broken as a rule, and every clip made with less for it.
PROMISE_S = 3.0
PROMISE_COSTS = 3.0
# That the machine is busy is news once; then for so long not again, however it comes and goes.
BUSY_AGAIN_S = 60.0


class SessionState(StrEnum):
    OPEN = "open"
    DETACHED = "detached"  # the controller's connection is lost; the program goes on, and may be taken up again
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


class Session:
    """See the module. Create it, `open` it, `attach` a controller; `close` frees everything."""

    def __init__(
        self,
        session_id: str,
        options: SessionOptions,
        *,
        stage_id: str | None = None,
        engine: Engine,
        make_program: ProgramFactory,
        metrics: Metrics,
        clock: Clock,
        max_viewers: int,
        recordings: Recordings | None = None,
        tenant: str = "",
        ice_servers: Callable[[str], tuple[IceServer, ...]] = lambda session_id: (),
        music: tuple[str, ...] = (),
        push_targets: Mapping[str, WhipTarget] | None = None,
        on_closed: Callable[[Session], None] = lambda session: None,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        self.session_id = session_id
        # A name may be taken up by a new session while the engine still works for the old one: generations are named
        # after this.
        self.stage_id = stage_id or session_id
        self.tenant = tenant
        self.options = options
        self.resume_token = secrets.token_urlsafe(24)
        self.state = SessionState.OPEN
        self.detached_at = 0.0
        self.program_format = ProgramFormat(
            width=options.width,
            height=options.height,
            frame_rate=options.frame_rate,
            bitrate=options.bitrate,
            marker=options.marker,
        )
        self.program = make_program(
            self.program_format,
            clock=clock,
            on_shown=self._on_shown,
            on_changed=self._on_changed,
            on_viewer_lost=self._on_viewer_lost,
            on_music_failed=self._on_music_failed,
        )
        self.viewers = Viewers(
            self.program, max_viewers=max_viewers, on_joined=self._continue, log=lambda text: self._log("=", text)
        )
        self.pushes = Pushes(
            self.program,
            push_targets or {},
            clock=clock,
            on_changed=self._on_push_changed,
            log=lambda text, is_error: self._log("!" if is_error else "=", text),
        )
        self.outbox = Outbox(session_id, wall_time=wall_time, on_overflow=self._on_overflow)
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._ice_servers = ice_servers
        self._music = music
        self._on_closed = on_closed
        self._controller: Controller | None = None
        self._opened_at = clock.now()
        # Prompts.
        self._current: Prompt | None = None
        self._taken: Prompt | None = None
        self._in_engine: str | None = None
        self._ended: OrderedDict[str, PromptState] = OrderedDict()
        self._num_prompts = 0
        self._num_generations = 0
        self._num_applied = 0
        self._num_steps = 0
        self._answered = Answered()
        self._continuation: Continuation | None = None
        self._degraded: tuple[str, ...] = ()
        self._is_told_busy = False
        self._told_busy_at = float("-inf")
        # The program.
        self._previewed_prompt_id: str | None = None
        self._reported_on_air: tuple[OnAir, str | None] = (OnAir.IDLE, None)
        self._recorder = Recorder(
            session_id,
            self.program,
            self.program_format,
            recordings or Recordings(),
            metrics,
            on_ended=self._on_recorded,
        )
        self._ticked_at = self._opened_at
        self._ticked_counts = ProgramCounts()

    # --- its life -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self.program.open()
        self.program.play(self.options.music, self.options.music_volume)
        self._log("=", f"open {self.options.width}x{self.options.height} at {self.options.frame_rate}")

    def attach(self, controller: Controller) -> None:
        """The first controller's connection."""
        self._controller = controller

    def answer_start(self, message: SessionStart) -> None:
        """`session.created` for the message that made this session."""
        self._answer(message, self._created(message.event_id))

    def take_up(self, controller: Controller, message: SessionResume) -> None:
        """Another connection goes on with this session; one that still looks alive is given up.

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
            raise Refused("resume_gap", f"{gap}; resume with -1 to do without", param="last_seq") from None
        self._move(SessionMove.TAKE_UP)
        displaced, self._controller = self._controller, controller
        if displaced is not None:
            displaced.abort("taken up by another connection")
        self._log("=", "resumed")
        self._emit(self._created(message.event_id))
        if self._recorder.is_recording:
            self._emit(self._recorder.status())
        for push in self.pushes.running():
            self._emit(push)

    def detach(self, controller: Controller) -> None:
        """The connection is gone. Nothing happens if it is not (or no longer) this session's."""
        if self._controller is not controller or self.state is not SessionState.OPEN:
            return
        self._controller = None
        self._move(SessionMove.LOSE)
        self.detached_at = self._clock.now()
        self._log("=", "detached")

    async def close(self, reason: str, event_id: str | None = None) -> None:
        """Ends all prompts, says `session.closed`, frees program and viewers. Idempotent.

        If cancelled, the program may be left open: call it again.
        """
        if (recorded := await self._recorder.close()) is not None:
            self._emit(recorded)
        if self.state is not SessionState.CLOSED:
            for prompt in (self._taken, self._current):
                if prompt is not None:
                    self._cancel(prompt, None)
            self._end_continuation()
            self.tick()
            self._emit(SessionClosed(event_id=event_id, reason=reason, usage=self._usage()))
            self._move(SessionMove.CLOSE)
            self._on_closed(self)
            self.outbox.close()
            self._log("x", reason)
            if self._controller is not None:
                await self._controller.farewell()
        self.viewers.close()
        await self.pushes.close()
        await self.program.close()

    def tick(self) -> None:
        """Once a second: counters to the metrics, `stats.updated` to the controller."""
        now = self._clock.now()
        statistics = self.program.statistics()
        counts = receipts.counts(statistics)
        span, span_s = counts.since(self._ticked_counts), now - self._ticked_at
        self._ticked_counts, self._ticked_at = counts, now
        self._metrics.program_ran(span)
        self._continue()
        if self.state is not SessionState.OPEN or span_s <= 0:
            return
        self._tell_busy(now)
        self._emit(
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

    def warn(self, code: str, message: str, *, degraded: tuple[str, ...] = (), core_share: float | None = None) -> None:
        self._emit(SessionWarning(code=code, message=message, degraded=degraded, core_share=core_share))

    def _tell_busy(self, now: float) -> None:
        """That other programs keep the engine from its cores, and that this is over."""
        engine = self._engine.statistics()
        if engine.is_starved is self._is_told_busy:
            return
        if not engine.is_starved:
            self._is_told_busy = False
            self.warn("machine_free", "the engine gets the cores that it needs again")
        elif now - self._told_busy_at >= BUSY_AGAIN_S and engine.core_share is not None:
            self._is_told_busy, self._told_busy_at = True, now
            reason = f"this machine is busy: the engine got {engine.core_share:.0%} of a core; scenes take longer"
            self.warn("machine_busy", reason, core_share=round(engine.core_share, 3))

    # --- from the controller --------------------------------------------------------------------------------------

    async def handle(self, message: AnyClientMessage) -> None:
        """Does what the controller says. Whatever is refused is answered with `error`; the session lives on."""
        self._log("<", receipts.describe(message), level=receipts.level(message))
        try:
            if not self._is_repeated(message):
                await self._dispatch(message)
                self._answered.remember(message, None)
        except Refused as refusal:
            self.refuse(refusal.answer_to(message))

    def refuse(self, detail: ErrorDetail) -> None:
        """Tells the controller what it did wrong."""
        self._metrics.refused(detail.code)
        self._emit(Error(error=detail))

    async def _dispatch(self, message: AnyClientMessage) -> None:
        match message:
            case PromptSet():
                self._set_prompt(message)
            case PromptCancel():
                self._cancel_prompt(message)
            case ProgramTake():
                self._take_waiting(message)
            case ProgramBlank():
                self._end_continuation()
                self.program.stage.blank()
                self._report_program(message)
            case ProgramResume():
                self.program.stage.resume()
                self._report_program(message)
            case ProgramPush():
                self._answer(message, self.pushes.set(message))
            case ProgramRecord():
                await self._record(message)
            case WebrtcOffer():
                await self._connect(message)
            case WebrtcCandidate():
                await self.viewers.add_own_candidate(message)
            case SessionUpdate():
                self._update(message)
            case SessionPing():
                self._answer(message, SessionPong(event_id=message.event_id))
            case SessionClose():
                await self.close("client", message.event_id)
            case SessionStart() | SessionResume():
                raise Refused("session_exists", "this connection has a session already")

    def _is_repeated(self, message: AnyClientMessage) -> bool:
        """True for a retry, which gets the same answer again. Raises `Refused` for another message of the same id."""
        if not self._answered.knows(message):
            return False
        answer = self._answered.answer_to(message)
        if answer is not None:
            self.outbox.repeat(answer)
        return True

    def _answer(self, message: AnyClientMessage, answer: ServerMessage) -> None:
        self._answered.remember(message, self._emit(answer))

    def _update(self, message: SessionUpdate) -> None:
        changed = {
            name: getattr(message, name)
            for name in message.__struct_fields__
            if name != "event_id" and getattr(message, name) is not UNSET
        }
        options = msgspec.structs.replace(self.options, **changed)
        self._check_abilities(options)
        abilities.check_music(self._music, options.music)
        self.options = options
        self.program.play(options.music, options.music_volume)
        if not self._previews_go_on_air:
            self._drop_preview()
        self._answer(message, SessionUpdated(event_id=message.event_id, options=self.options))

    def _check_abilities(self, options: SessionOptions) -> None:
        """Raises `Refused`, before anything has changed."""
        abilities.check(self._engine.model, transition=options.transition, after=options.after, lora=options.lora)

    # --- prompts --------------------------------------------------------------------------------------------------

    def _set_prompt(self, message: PromptSet) -> None:
        options = self.options
        abilities.check(
            self._engine.model,
            transition=_or(message.transition, options.transition),
            after=_or(message.after, options.after),
            lora=_or(message.lora, options.lora),
        )
        prompt = self._receive(message)
        if self._engine.state in (EngineState.FAILED, EngineState.CLOSED):
            rejected = PromptRejected(
                prompt_id=prompt.prompt_id, event_id=message.event_id, error=receipts.unavailable()
            )
            self._answered.remember(message, self._end(prompt, PromptEvent.REJECT, rejected))
            return
        if self._current is not None:
            self._supersede(self._current, prompt)
        self._end_continuation()
        prompt.move(PromptEvent.ACCEPT)
        self._current = prompt
        estimate = self._estimate(self._command(prompt, ""))
        words = self._engine.words(prompt.text)
        accepted = PromptAccepted(
            event_id=message.event_id,
            prompt_id=prompt.prompt_id,
            seed=prompt.seed,
            quality=prompt.quality.value,
            estimated_preview_ms=receipts.ms(estimate.preview_s) if estimate else None,
            estimated_picture_ms=receipts.ms(estimate.picture_s) if estimate else None,
            understood=words.understood,
            not_understood=words.not_understood,
        )
        self._answer(message, accepted)
        self._generate_if_free()

    def _receive(self, message: PromptSet) -> Prompt:
        """The prompt with the session's options where it has none of its own."""
        options = self.options
        seed = options.seed if message.seed is UNSET else message.seed
        return Prompt(
            prompt_id=self._new_prompt_id(message.prompt_id),
            text=message.text,
            quality=Quality(_or(message.quality, options.quality)),
            seed=secrets.randbelow(_NUM_RANDOM_SEEDS) if seed is None else seed,
            transition=Transition(
                _or(message.transition, options.transition), _or(message.transition_s, options.transition_s)
            ),
            after=_or(message.after, options.after),
            received_at=self._clock.now(),
            lora=_or(message.lora, options.lora),
            reuse=_reuse(message, options),
            is_operator=not message.audience,
            wants_previews=options.on_preview != "off",
        )

    def _new_prompt_id(self, wanted: str | None) -> str:
        if wanted is not None:
            if self._is_known(wanted):
                raise Refused("prompt_id_taken", f"`{wanted}` exists already", param="prompt_id")
            return wanted
        while True:
            self._num_prompts += 1
            prompt_id = f"p{self._num_prompts}"
            if not self._is_known(prompt_id):
                return prompt_id

    def _is_known(self, prompt_id: str) -> bool:
        live = [prompt.prompt_id for prompt in (self._current, self._taken) if prompt is not None]
        return prompt_id in live or prompt_id in self._ended

    def _generate_if_free(self) -> None:
        """Hands the newest prompt to the engine once nothing of this session is in there."""
        prompt = self._current
        if self._in_engine is not None or prompt is None or prompt.state is not PromptState.ACCEPTED:
            return
        model = self._engine.model
        if model is None and prompt.asks_much:
            return  # `on_engine_ready` decides
        generation_id = self._new_generation_id()
        prompt.wants_previews = self.options.on_preview != "off"
        command = self._command(prompt, generation_id)
        # From the idle scene a morph is a crossfade: there is no scene of the show's to start from.
        if model is not None and prompt.transition.kind == "morph" and self.program.stage.has_clip:
            on_air = self.program.picture_on_air(model.width, model.height)
            command = dataclasses.replace(command, first_frame=on_air)
        try:
            self._engine.send(command)
        except EngineBusy as busy:
            self._fail(prompt, receipts.busy(busy))
        except EngineUnavailable:
            self._fail(prompt, receipts.unavailable())
        else:
            prompt.move(PromptEvent.GENERATE)
            prompt.generation_id = self._in_engine = generation_id
            prompt.generated_at = self._clock.now()

    def _new_generation_id(self) -> str:
        self._num_generations += 1
        return f"{self.stage_id}.{self._num_generations}"

    def _command(self, prompt: Prompt, generation_id: str) -> Generate:
        return prompt.command(
            generation_id,
            stage_id=self.stage_id,
            tenant=self.tenant,
            is_stage_empty=not self.program.stage.has_clip,
            due_in_s=max(PROMISE_S, PROMISE_COSTS * (self._engine.cost_s(prompt.quality) or 0.0)),
        )

    def _cancel_prompt(self, message: PromptCancel) -> None:
        prompt_id = message.prompt_id
        if self._continuation is not None and self._continuation.prompt_id == prompt_id:
            # The prompt has had its end; what is cancelled is that its scene goes on.
            self._end_continuation()
            self._report_program(message)
            return
        if self._current is not None and self._current.prompt_id == prompt_id:
            self._cancel(self._current, message)
            self._drop_preview()
            return
        if self._is_known(prompt_id):
            ended = self._ended.get(prompt_id, PromptState.TAKEN)
            raise Refused("too_late", f"`{prompt_id}` is {ended} already", param="prompt_id")
        raise Refused("unknown_prompt", f"there is no prompt `{prompt_id}`", param="prompt_id")

    def _cancel(self, prompt: Prompt, message: PromptCancel | None) -> None:
        self._stop_generation(prompt)
        cancelled = PromptCancelled(
            prompt_id=prompt.prompt_id,
            event_id=message.event_id if message else None,
            num_steps_done=prompt.num_steps_done,
        )
        outgoing = self._end(prompt, PromptEvent.CANCEL, cancelled)
        if message is not None:
            self._answered.remember(message, outgoing)

    def _supersede(self, prompt: Prompt, by: Prompt) -> None:
        # Its preview stays on air until the newer one's replaces it: going back to the loop in between would flicker.
        self._stop_generation(prompt)
        superseded = PromptSuperseded(prompt_id=prompt.prompt_id, by_prompt_id=by.prompt_id)
        self._end(prompt, PromptEvent.SUPERSEDE, superseded)

    def _fail(self, prompt: Prompt, detail: ErrorDetail) -> None:
        self._end(prompt, PromptEvent.FAIL, PromptFailed(prompt_id=prompt.prompt_id, error=detail))
        self._drop_preview()

    def _stop_generation(self, prompt: Prompt) -> None:
        if prompt.state is PromptState.GENERATING and prompt.generation_id is not None:
            self._engine.send(Cancel(prompt.generation_id))

    def _end(self, prompt: Prompt, event: PromptEvent, receipt: ServerMessage) -> Outgoing:
        """The one place where prompts end."""
        prompt.move(event)
        prompt.assembly.clear()
        prompt.clip = None
        if self._current is prompt:
            self._current = None
        if self._taken is prompt:
            self._taken = None
        self._ended[prompt.prompt_id] = prompt.state
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)
        self._metrics.prompt_ended(prompt.state)
        return self._emit(receipt)

    # --- from the engine ------------------------------------------------------------------------------------------

    def on_generation_event(self, event: GenerationEvent) -> None:
        """An event of a generation of this session, even of one whose prompt has ended."""
        prompt = self._current
        if prompt is not None and prompt.generation_id == event.generation_id:
            self._on_current(prompt, event)
        elif self._continuation is not None and self._continuation.generation_id == event.generation_id:
            self._on_continuation(self._continuation, event)
        elif isinstance(event, StepFinished):
            self._num_steps += 1
        is_end = isinstance(event, GenerationFinished | GenerationCancelled | GenerationFailed)
        if is_end and event.generation_id == self._in_engine:
            self._in_engine = None
            self._generate_if_free()
            self._continue()

    def _on_current(self, prompt: Prompt, event: GenerationEvent) -> None:
        match event:
            case GenerationStarted():
                self._on_started(prompt, event)
            case StepFinished():
                self._on_step(prompt, event)
            case PreviewReady():
                self._on_preview(prompt, event)
            case FramesReady():
                self._on_frames(prompt, event)
            case GenerationFinished():
                self._on_finished(prompt, event)
            case GenerationFailed():
                self._fail(prompt, receipts.failed(event))
            case GenerationCancelled():
                self._fail(
                    prompt, error_detail("model_error", "the engine stopped without being asked to", retryable=True)
                )

    def _on_started(self, prompt: Prompt, event: GenerationStarted) -> None:
        prompt.begin_attempt(event.num_steps)
        self._note_degraded(event)
        self._emit(
            PromptStarted(
                prompt_id=prompt.prompt_id,
                num_steps=event.num_steps,
                attempt=prompt.attempt,
                understood=event.understood,
                not_understood=event.not_understood,
                degraded=event.degraded,
                is_reused=event.is_reused,
            )
        )

    def _note_degraded(self, event: GenerationStarted) -> None:
        """Tells once when clips begin to be made with less, and once when they are whole again."""
        if event.is_reused:
            return  # made before, and whole: it says nothing about now
        if event.degraded:
            self._metrics.generation_degraded()
        if event.degraded == self._degraded:
            return
        self._degraded = event.degraded
        if event.degraded:
            reason = f"the engine is short of time; clips are made with {receipts.degradation(event.degraded)}"
            self.warn("degraded", reason, degraded=event.degraded)
        else:
            self.warn("recovered", "clips are made as they were asked for again")

    def _on_step(self, prompt: Prompt, event: StepFinished) -> None:
        self._num_steps += 1
        prompt.num_steps_done = event.step_index + 1
        # With previews the receipt of a step is sent with its picture.
        if not prompt.wants_previews:
            self._report_step(prompt, event.step_index)

    def _on_frames(self, prompt: Prompt, event: FramesReady) -> None:
        # The last step has a clip in place of a preview: its receipt still goes out, so that progress is complete.
        if not len(prompt.assembly) and prompt.num_steps_reported < prompt.num_steps_done:
            self._report_step(prompt, prompt.num_steps_done - 1)
        try:
            prompt.assembly.add(event, self._num_frames())
        except ValueError as error:
            self._stop_generation(prompt)
            self._fail_incomplete(prompt, error)

    def _report_step(self, prompt: Prompt, step_index: int, picture: str | None = None) -> None:
        prompt.num_steps_reported = step_index + 1
        self._emit(receipts.preview(prompt, step_index, picture=picture))

    def _on_preview(self, prompt: Prompt, event: PreviewReady) -> None:
        picture = None
        if self.options.on_preview != "off":
            picture = "data:image/jpeg;base64," + base64.b64encode(self.program.jpeg(event.frames)).decode()
        self._report_step(prompt, event.step_index, picture)
        # A morph goes from picture to picture; previews in between would be what it is there to avoid.
        if self._previews_go_on_air and prompt.transition.kind != "morph":
            self.program.stage.show_preview(prompt.prompt_id, event.frames, event.step_index)
            self._previewed_prompt_id = prompt.prompt_id
            self._report_program()

    @property
    def _previews_go_on_air(self) -> bool:
        # With a manual take the operator decides what goes on air, so an unfinished clip must not.
        return self.options.on_preview == "on_air" and self.options.take == "auto"

    def _on_finished(self, prompt: Prompt, event: GenerationFinished) -> None:
        prompt.timings = event.timings
        try:
            frames = prompt.assembly.finished(event.num_frames)
            prompt.clip = self._clip(prompt.prompt_id, frames, prompt.after)
        except ValueError as error:
            self._fail_incomplete(prompt, error)
            return
        prompt.last_frame = Frames(frames.planes[-1:])
        if self.options.take == "auto":
            self._take(prompt, prompt.transition)
            return
        prompt.move(PromptEvent.KEEP)
        self._drop_preview()
        self._emit(PromptReady(prompt_id=prompt.prompt_id))

    def _fail_incomplete(self, prompt: Prompt, error: ValueError) -> None:
        reason = f"the engine sent an incomplete clip: {error}"
        self._fail(prompt, error_detail("model_error", reason, retryable=True))

    def _num_frames(self) -> int:
        """Of a clip. Raises `ValueError` if no model is known."""
        if self._engine.model is None:
            raise ValueError("no model is known")
        return self._engine.model.num_frames

    def _clip(self, prompt_id: str, frames: Frames, after: After, continuation: int = 0) -> Clip:
        model = self._engine.model
        if model is None:
            raise ValueError("no model is known")
        return Clip(prompt_id, frames, model.frame_rate, model.closes_on_itself, after, continuation)

    def on_engine_lost(self, event: EngineLost) -> None:
        prompt = self._current
        if prompt is not None and prompt.generation_id in event.generation_ids:
            prompt.assembly.clear()
        if self._continuation is not None and self._continuation.generation_id in event.generation_ids:
            self._continuation.assembly.clear()
        self.warn("engine_lost", f"the engine was lost ({event.reason}) and is being replaced; the program goes on")

    def on_engine_ready(self, event: EngineReady, *, is_recovery: bool) -> None:
        if is_recovery:
            self.warn("engine_recovered", "the engine is back; what was lost is generated again")
        else:
            self.warn("engine_ready", f"the model {event.model.name} is loaded and warm")
            self._check_what_waited()

    def _check_what_waited(self) -> None:
        """The model is known now: what was taken on trust, and it cannot do, ends here."""
        try:
            self._check_abilities(self.options)
        except Refused as refusal:
            self.options = msgspec.structs.replace(
                self.options,
                transition="crossfade",
                after="loop" if self.options.after == "continue" else self.options.after,
                lora=None,
            )
            self.warn("not_supported", f"{refusal.detail.message}; the session goes on without")
            self._emit(SessionUpdated(options=self.options))
        prompt = self._current
        if prompt is None or prompt.state is not PromptState.ACCEPTED:
            return
        try:
            abilities.check(self._engine.model, transition=prompt.transition.kind, after=prompt.after, lora=prompt.lora)
        except Refused as refusal:
            self._fail(prompt, refusal.detail)
        else:
            self._generate_if_free()

    def on_engine_stopped(self, event: EngineStopped) -> None:
        """The engine is gone for good; what it had in work, and what waited for it, has failed."""
        self.warn("engine_failed", "the engine could not be brought back; the program goes on without new scenes")
        self._in_engine = None
        self._continuation = None
        prompt = self._current
        if prompt is not None and prompt.state in (PromptState.ACCEPTED, PromptState.GENERATING):
            self._fail(prompt, receipts.unavailable())

    # --- a scene that goes on -------------------------------------------------------------------------------------

    def _continue(self) -> None:
        """Asks for the scene's next clip, if one is needed, the engine is free and somebody watches or records."""
        continuation = self._continuation
        if continuation is None:
            return
        if self.program.num_viewers == 0 and not self.is_recording:
            self._stop_continuation_in_engine(continuation)
            return
        if not continuation.needs_clip or self._in_engine is not None or self._current is not None:
            return
        generation_id = self._new_generation_id()
        command = continuation.command(
            generation_id,
            stage_id=self.stage_id,
            tenant=self.tenant,
            # Not sooner than it can be made alone: what the engine cannot keep anyway must not have it make the clips
            # of every stage with less. The scene is then shown for another round, and the clip is whole.
            due_in_s=self.program.stage.seconds_to_join(self._engine.cost_s(continuation.quality) or 0.0),
        )
        try:
            self._engine.send(command)
        except EngineBusy:
            return  # the scene is shown for another round; the next tick asks again
        except EngineUnavailable:
            self._continuation = None
            return
        continuation.generation_id = self._in_engine = generation_id

    def _end_continuation(self) -> None:
        """No further clips. One that the stage has already is still played: it costs nothing and looks better."""
        if self._continuation is not None:
            self._stop_continuation_in_engine(self._continuation)
            self._continuation = None

    def _stop_continuation_in_engine(self, continuation: Continuation) -> None:
        if continuation.generation_id is not None:
            self._engine.send(Cancel(continuation.generation_id))
            continuation.generation_id = None
            continuation.assembly.clear()

    def _on_continuation(self, continuation: Continuation, event: GenerationEvent) -> None:
        match event:
            case GenerationStarted():
                continuation.assembly.clear()
                self._note_degraded(event)
            case StepFinished():
                self._num_steps += 1
            case PreviewReady():
                pass
            case FramesReady():
                self._take_in(continuation, event)
            case GenerationFinished():
                self._follow(continuation, event)
            case GenerationFailed() | GenerationCancelled():
                reason = (
                    event.message if isinstance(event, GenerationFailed) else "the engine stopped without being asked"
                )
                self._give_up_continuation(reason)

    def _take_in(self, continuation: Continuation, event: FramesReady) -> None:
        try:
            continuation.assembly.add(event, self._num_frames())
        except ValueError as error:
            self._stop_continuation_in_engine(continuation)
            self._give_up_continuation(f"the engine sent an incomplete clip: {error}")

    def _follow(self, continuation: Continuation, event: GenerationFinished) -> None:
        """The next clip is finished: the stage plays it when the one on air has ended."""
        try:
            frames = continuation.assembly.finished(event.num_frames)
            clip = self._clip(continuation.prompt_id, frames, "continue", continuation.index + 1)
        except ValueError as error:
            self._give_up_continuation(f"the engine sent an incomplete clip: {error}")
            return
        continuation.generation_id = None
        if self.program.stage.follow(clip):
            continuation.next_last_frame = Frames(frames.planes[-1:])
        else:
            self._continuation = None

    def _give_up_continuation(self, reason: str) -> None:
        self._continuation = None
        self.warn("continuation_failed", f"the scene is looped from here on: {reason}")

    def _on_continued(self, shown: Shown) -> None:
        """A frame went out that is the first of a clip that its scene goes on with."""
        continuation, first = self._continuation, shown.first
        is_late = first.num_rounds > 1
        self._metrics.scene_continued(is_late=is_late)
        if continuation is None or continuation.prompt_id != first.prompt_id:
            return  # ended meanwhile; this one was the last
        continuation.be_shown()
        self._emit(
            PromptContinued(
                prompt_id=first.prompt_id,
                index=continuation.index,
                seed=continuation.seed,
                is_late=is_late,
                frame=self._stamp(continuation.received_at, shown),
            )
        )
        self._continue()

    # --- the program ----------------------------------------------------------------------------------------------

    def _take_waiting(self, message: ProgramTake) -> None:
        prompt = self._current
        if prompt is None or prompt.state is not PromptState.READY:
            raise Refused("nothing_to_take", "no finished clip waits to be taken")
        transition = Transition(
            _or(message.transition, prompt.transition.kind), _or(message.transition_s, prompt.transition.duration_s)
        )
        self._take(prompt, transition, message)

    def _take(self, prompt: Prompt, transition: Transition, message: ProgramTake | None = None) -> None:
        if self._taken is not None:
            self._supersede(self._taken, prompt)
        assert prompt.clip is not None, "only a finished prompt is taken"
        prompt.move(PromptEvent.TAKE)
        self.program.stage.take(prompt.clip, transition)
        prompt.clip = None
        self._current, self._taken = None, prompt
        self._previewed_prompt_id = None
        self._report_program(message)

    def _drop_preview(self) -> None:
        if self._previewed_prompt_id is not None:
            self.program.stage.drop_preview(self._previewed_prompt_id)
            self._previewed_prompt_id = None
            self._report_program()

    def _report_program(self, message: ProgramTake | ProgramBlank | ProgramResume | PromptCancel | None = None) -> None:
        """`program.changed`, when it has, and always as the answer to `message`."""
        on_air = self.program.stage.on_air
        if message is None and on_air == self._reported_on_air:
            return
        self._reported_on_air = on_air
        kind, prompt_id = on_air
        if message is None:
            self._emit(ProgramChanged(on_air=kind.value, prompt_id=prompt_id))
        else:
            self._answer(message, ProgramChanged(on_air=kind.value, prompt_id=prompt_id, event_id=message.event_id))

    def _on_changed(self, on_air: OnAir, prompt_id: str | None) -> None:
        if self.state is not SessionState.CLOSED:
            self._report_program()

    def _on_shown(self, shown: Shown) -> None:
        """A frame went out that is the first to show a preview or a clip."""
        if shown.first.continuation:
            self._on_continued(shown)
            return
        for prompt in (self._current, self._taken):
            if prompt is None or prompt.prompt_id != shown.first.prompt_id:
                continue
            if shown.first.kind == "preview":
                self._on_preview_shown(prompt, shown)
            elif prompt is self._taken:
                self._on_clip_shown(prompt, shown)

    def _on_preview_shown(self, prompt: Prompt, shown: Shown) -> None:
        if prompt.is_preview_reported:
            return
        prompt.is_preview_reported = True
        self._metrics.preview_shown(shown.sent_at - prompt.received_at)
        self._emit(receipts.preview(prompt, shown.first.step_index or 0, frame=self._stamp(prompt.received_at, shown)))

    def _on_clip_shown(self, prompt: Prompt, shown: Shown) -> None:
        self._num_applied += 1
        self._metrics.picture_shown(shown.sent_at - prompt.received_at)
        applied = PromptApplied(
            prompt_id=prompt.prompt_id,
            frame=self._stamp(prompt.received_at, shown),
            timings=receipts.timings(prompt, shown),
        )
        self._end(prompt, PromptEvent.SHOW, applied)
        if prompt.after == "continue" and self._current is None:
            self._continuation = Continuation.of(prompt)
            self._continue()

    def _stamp(self, received_at: float, shown: Shown) -> FrameStamp:
        return FrameStamp(
            frame_index=shown.frame_index,
            rtp_timestamp=self.viewers.rtp_timestamp(shown.frame_index),
            sent_at_ms=receipts.ms(shown.sent_at - received_at),
        )

    def _on_music_failed(self, reason: str) -> None:
        self.options = msgspec.structs.replace(self.options, music=None)
        if self.state is not SessionState.CLOSED:
            self.warn("music_failed", f"the music has stopped: {reason}")

    # --- pushes to an ingest --------------------------------------------------------------------------------------

    def _on_push_changed(self, changed: PushChanged) -> None:
        if self.state is not SessionState.CLOSED:
            self._emit(changed)

    # --- recording ------------------------------------------------------------------------------------------------

    @property
    def is_recording(self) -> bool:
        return self._recorder.is_recording

    async def _record(self, message: ProgramRecord) -> None:
        changed = await (self._recorder.start() if message.recording else self._recorder.stop())
        self._answer(message, msgspec.structs.replace(changed, event_id=message.event_id))
        self._continue()

    def _on_recorded(self, changed: RecordingChanged) -> None:
        """A recording ended by itself."""
        if self.state is not SessionState.CLOSED:
            self._emit(changed)

    # --- viewers --------------------------------------------------------------------------------------------------

    async def _connect(self, message: WebrtcOffer) -> None:
        _, answer_sdp = await self.viewers.connect(message.sdp)
        self._answer(message, WebrtcAnswer(event_id=message.event_id, sdp=answer_sdp))

    def _on_viewer_lost(self, viewer_id: str) -> None:
        was_controllers = self.viewers.lose(viewer_id)
        if was_controllers and self.state is not SessionState.CLOSED:
            self.warn("viewer_lost", "the video connection was lost; send another offer")

    # --- to the controller ----------------------------------------------------------------------------------------

    def _emit(self, message: ServerMessage) -> Outgoing:
        self._log(">", receipts.describe(message), level=receipts.level(message))
        return self.outbox.put(message)

    def _created(self, event_id: str | None) -> SessionCreated:
        return SessionCreated(
            event_id=event_id,
            resume_token=self.resume_token,
            options=self.options,
            model=receipts.model(self._engine.model),
            engine=self._engine.state,
            estimated_picture_ms=self._estimated_picture_ms(),
            ice_servers=self._ice_servers(self.session_id),
            music=self._music,
            push_targets=self.pushes.targets,
        )

    def _estimated_picture_ms(self) -> float | None:
        """Of a prompt set now."""
        command = Generate("", "", Quality(self.options.quality), stage_id=self.stage_id, tenant=self.tenant)
        estimate = self._estimate(command)
        return receipts.ms(estimate.picture_s) if estimate else None

    def _estimate(self, command: Generate) -> Estimate | None:
        """Until the frames are sent: what is ready waits half a frame, in the mean, for the next one to be fixed, which
        is half a frame before that is due (`media.program`)."""
        of_engine = self._engine.estimate(command)
        if of_engine is None:
            return None
        to_air_s = 1.0 / self.options.frame_rate
        return Estimate(of_engine.preview_s + to_air_s, of_engine.picture_s + to_air_s)

    def _usage(self) -> dict[str, float]:
        return {
            "duration_s": round(self._clock.now() - self._opened_at, 3),
            "generations": self._num_generations,
            "denoising_steps": self._num_steps,
            "prompts_applied": self._num_applied,
        }

    def _on_overflow(self) -> None:
        self._log("!", "the controller does not read; its connection is given up")
        if self._controller is not None:
            self._controller.abort("too many unread messages")

    def _move(self, move: SessionMove) -> None:
        try:
            self.state = NEXT_SESSION_STATE[self.state, move]
        except KeyError:
            raise IllegalSessionMove(f"{self.session_id}: `{move}` while {self.state}") from None

    def _log(self, mark: Literal["<", ">", "=", "x", "!"], text: str, level: int = logging.INFO) -> None:
        _log.log(logging.WARNING if mark == "!" else level, "%s %s %s", self.session_id, mark, text)


def _or(value: _T | msgspec.UnsetType, otherwise: _T) -> _T:
    return otherwise if isinstance(value, msgspec.UnsetType) else value


def _reuse(message: PromptSet, options: SessionOptions) -> Reuse:
    if _or(message.fresh, options.fresh) or _or(message.transition, options.transition) == "morph":
        return Reuse.NEVER  # no two morphs begin with the same frame
    seed = options.seed if message.seed is UNSET else message.seed
    return Reuse.ANY_SEED if seed is None else Reuse.SAME_SEED

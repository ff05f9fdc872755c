"""One session's prompts, from receipt to end, and what they put on air.

Owned by `session.py`. Sends to the engine through `slot.py` and continues scenes through `continuation.py`. The table
in `prompt.py` is the life of a prompt. Runs on the event loop; no method awaits, so each runs without interruption.

The newest prompt wins: at most one prompt waits or is generated (`_current`), and at most one clip is taken and not yet
shown (`_taken`). A prompt that has ended may still hold the stage's place in the engine. Its generation stops at the
next step, and the newest prompt starts then.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import secrets
from collections.abc import Callable
from typing import TypeVar

from msgspec import UNSET, UnsetType

from engine.api import (
    Engine,
    EngineBusy,
    EngineState,
    EngineUnavailable,
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
    Timings,
)
from server.clock import Clock
from server.media.program import Shown
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail, error_detail
from server.protocol.errors import Refused
from server.protocol.messages import (
    ProgramShow,
    ProgramTake,
    PromptApplied,
    PromptCancel,
    PromptCancelled,
    PromptFailed,
    PromptReady,
    PromptRejected,
    PromptSet,
    PromptStarted,
    PromptSuperseded,
    ServerMessage,
    SessionOptions,
)
from server.session import capabilities, receipts
from server.session.continuation import Continuations
from server.session.limits import Outgoing
from server.session.neighbours import FinishedClip, SessionProgram, Shelf
from server.session.prompt import Prompt, PromptEvent, PromptIds, PromptState
from server.session.receipts import Air, Receipts
from server.session.slot import Slot
from server.stage.picture import Clip, Transition

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Seeds stay exact in every client's number type.
_NUM_RANDOM_SEEDS = 2**32
# The deadline of each prompt is the longer of two times. Three seconds are the promise that this project began with
# (prompt to picture on two cores). Three times the cost of the clip alone is the least that a shared engine can
# promise: at the load that admission allows (`admission.CAPACITY`), the mean wait is the time of two clips. A shorter
# deadline would usually be missed, and the engine would degrade every clip for it.
PROMISE_S = 3.0
PROMISE_COSTS = 3.0


class Prompts:
    """See the module. `options` gives the session's options as they are now. `shelf`: None if there are no clips."""

    def __init__(
        self,
        program: SessionProgram,
        slot: Slot,
        says: Receipts,
        *,
        engine: Engine,
        metrics: Metrics,
        clock: Clock,
        options: Callable[[], SessionOptions],
        is_seen: Callable[[], bool],
        shelf: Shelf | None = None,
    ) -> None:
        self.num_applied = 0
        self.air = Air(program.stage, says)
        self.scene = Continuations(slot, program.stage, says, metrics, is_seen=is_seen)
        self._program = program
        self._slot = slot
        self._says = says
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._options = options
        self._current: Prompt | None = None
        self._taken: Prompt | None = None
        self._shelf = shelf
        self._reading: asyncio.Task[None] | None = None  # of a finished clip, for the current prompt
        self._ids = PromptIds()
        self._is_closed = False

    # --- from the controller --------------------------------------------------------------------------------------

    def set(self, message: PromptSet) -> None:
        """Accepts a prompt, which supersedes the one that waits. Raises `Refused`."""
        options = self._options()
        capabilities.check(
            self._slot.model,
            transition=_or(message.transition, options.transition),
            after=_or(message.after, options.after),
            lora=_or(message.lora, options.lora),
        )
        prompt = _received(message, options, self._ids.choose(message.prompt_id), self._clock.now())
        if (error := self._reason_to_reject(prompt)) is not None:
            rejected = PromptRejected(prompt_id=prompt.prompt_id, event_id=message.event_id, error=error)
            self._says.answered.remember(message, self._end(prompt, PromptEvent.REJECT, rejected))
            return
        self._accept(prompt)
        estimate, words = self._slot.estimate(self._command(prompt, "")), self._engine.words(prompt.text)
        self._says.answer(message, receipts.accepted(prompt, message.event_id, estimate, words))
        self._generate_if_free()

    async def show(self, message: ProgramShow) -> str:
        """Accepts a finished clip of this tenant in place of a prompt, and reads it. The prompt's id.

        Raises `Refused`.
        """
        if self._shelf is None:
            raise Refused("not_supported", "this server makes no clips on demand; its operator may name --clips-folder")
        clip = await self._shelf.find(message.clip_id, self._slot.tenant)
        if self._is_closed:
            raise Refused("unknown_session", "the session has ended")
        options = self._options()
        after = _or(message.after, options.after)
        if after == "continue" and self._slot.model is None:
            raise Refused("server_busy", "the engine still loads its model", param="after", retry_after_ms=2000)
        capabilities.check(self._slot.model, transition="cut", after=after, lora=None)
        prompt = _shown(message, options, self._ids.choose(message.prompt_id), clip, self._clock.now())
        self._accept(prompt)
        self._says.answer(message, receipts.accepted(prompt, message.event_id, clip_id=clip.clip_id))
        prompt.move(PromptEvent.GENERATE)
        self._reading = asyncio.create_task(self._read(prompt, clip, self._shelf), name=f"show-{prompt.prompt_id}")
        return prompt.prompt_id

    def _accept(self, prompt: Prompt) -> None:
        """It is the newest now."""
        if self._current is not None:
            self._supersede(self._current, prompt)
        self.scene.end()
        prompt.move(PromptEvent.ACCEPT)
        self._current = prompt

    async def _read(self, prompt: Prompt, clip: FinishedClip, shelf: Shelf) -> None:
        """Cancelled if the prompt ends meanwhile (`_stop_generation`)."""
        options, model = self._options(), self._slot.model
        start_size = (model.width, model.height) if model is not None and prompt.after == "continue" else None
        fault: ErrorDetail | None = None
        try:
            frames, last = await shelf.read(clip, max_pixels=options.width * options.height, start_size=start_size)
        except Refused as refusal:
            fault = refusal.detail
        except Exception:
            # Boundary of the task: the show goes on.
            _log.exception("- ! internal error in reading a clip")
            fault = error_detail("internal_error", "internal server error")
        self._reading = None
        if fault is not None:
            self._fail(prompt, fault)
            return
        prompt.timings = Timings(0.0, 0.0, 0.0, 0.0, self._clock.now() - prompt.generated_at)
        prompt.clip = Clip(prompt.prompt_id, frames, clip.frame_rate, closes_on_itself=False, after=prompt.after)
        prompt.last_frame = last
        self._take_or_keep(prompt)

    def cancel(self, message: PromptCancel) -> None:
        """Raises `Refused` (`too_late`, `unknown_prompt`)."""
        prompt_id = message.prompt_id
        if self.scene.is_of(prompt_id):
            # The prompt has ended already: this cancels the continuation of its scene.
            self.scene.end()
            self.air.report(message)
            return
        if self._current is not None and self._current.prompt_id == prompt_id:
            self._cancel(self._current, message)
            self.air.drop_preview()
            return
        if (ended := self._ids.state_of(prompt_id)) is not None:
            raise Refused("too_late", f"`{prompt_id}` is {ended} already", param="prompt_id")
        raise Refused("unknown_prompt", f"there is no prompt `{prompt_id}`", param="prompt_id")

    def take(self, message: ProgramTake) -> None:
        """Puts the clip that waits on air. Raises `Refused` (`nothing_to_take`)."""
        prompt = self._current
        if prompt is None or prompt.state is not PromptState.READY:
            raise Refused("nothing_to_take", "no finished clip waits to be taken")
        transition = Transition(
            _or(message.transition, prompt.transition.kind), _or(message.transition_s, prompt.transition.duration_s)
        )
        self._take(prompt, transition, message)

    def close(self) -> None:
        """Ends all prompts, and the scene."""
        self._is_closed = True
        for prompt in (self._taken, self._current):
            if prompt is not None:
                self._cancel(prompt, None)
        self.scene.end()

    def on_options_changed(self) -> None:
        if not self._previews_go_on_air:
            self.air.drop_preview()

    def _reason_to_reject(self, prompt: Prompt) -> ErrorDetail | None:
        if self._engine.state in (EngineState.FAILED, EngineState.CLOSED):
            return receipts.unavailable()
        try:
            self._slot.check_budget(prompt.quality)
        except Refused as refusal:
            return refusal.detail
        return None

    # --- to the engine --------------------------------------------------------------------------------------------

    def _generate_if_free(self) -> None:
        """Sends the newest prompt to the engine if the stage's place there is free."""
        prompt = self._current
        if not self._slot.is_free or prompt is None or prompt.state is not PromptState.ACCEPTED:
            return
        model = self._slot.model
        if model is None and prompt.asks_much:
            return  # `on_model_known` decides
        prompt.wants_previews = self._options().on_preview != "off"
        command = self._command(prompt, self._slot.new_generation_id())
        # From the idle scene a morph is a crossfade, because there is no clip to start from.
        if model is not None and prompt.transition.kind == "morph" and self._program.stage.has_clip:
            on_air = self._program.picture_on_air(model.width, model.height)
            command = dataclasses.replace(command, first_frame=on_air)
        try:
            self._slot.send(command)
        except EngineBusy as busy:
            self._fail(prompt, receipts.busy(busy))
        except EngineUnavailable:
            self._fail(prompt, receipts.unavailable())
        except Refused as refusal:  # another stage has spent the rest of the budget meanwhile
            self._fail(prompt, refusal.detail)
        else:
            prompt.move(PromptEvent.GENERATE)
            prompt.generation_id = command.generation_id
            prompt.generated_at = self._clock.now()

    def _command(self, prompt: Prompt, generation_id: str) -> Generate:
        return prompt.command(
            generation_id,
            stage_id=self._slot.stage_id,
            tenant=self._slot.tenant,
            is_stage_empty=not self._program.stage.has_clip,
            due_in_s=max(PROMISE_S, PROMISE_COSTS * self._slot.cost_s(prompt.quality)),
        )

    # --- from the engine ------------------------------------------------------------------------------------------

    def on_generation_event(self, event: GenerationEvent) -> None:
        """An event of a generation of this session, even of one whose prompt has ended."""
        prompt = self._current
        if prompt is not None and prompt.generation_id == event.generation_id:
            self._on_current(prompt, event)
        else:
            self.scene.on_generation_event(event)
        if self._slot.hear(event):
            self._generate_if_free()
            self.scene.go_on()

    def on_engine_lost(self, generation_ids: tuple[str, ...]) -> None:
        """Discards the frames received of these generations: the engine makes them again."""
        prompt = self._current
        if prompt is not None and prompt.generation_id in generation_ids:
            prompt.assembly.clear()
        self.scene.on_engine_lost(generation_ids)

    def on_engine_stopped(self) -> None:
        """The engine will not come back: a prompt that it was generating, or that waited for it, fails."""
        self._slot.on_engine_stopped()
        self.scene.on_engine_stopped()
        prompt = self._current
        needs_engine = self._reading is None
        if prompt is not None and prompt.state in (PromptState.ACCEPTED, PromptState.GENERATING) and needs_engine:
            self._fail(prompt, receipts.unavailable())

    def on_model_known(self) -> None:
        """Fails a prompt accepted before the model was known if the model cannot do it, else generates it."""
        prompt = self._current
        if prompt is None or prompt.state is not PromptState.ACCEPTED:
            return
        try:
            capabilities.check(
                self._slot.model, transition=prompt.transition.kind, after=prompt.after, lora=prompt.lora
            )
        except Refused as refusal:
            self._fail(prompt, refusal.detail)
        else:
            self._generate_if_free()

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
        self._slot.note_started(event)
        self._says.emit(
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

    def _on_step(self, prompt: Prompt, event: StepFinished) -> None:
        prompt.num_steps_done = event.step_index + 1
        # With previews the receipt of a step is sent with its picture.
        if not prompt.wants_previews:
            self._report_step(prompt, event.step_index)

    def _on_frames(self, prompt: Prompt, event: FramesReady) -> None:
        # The last step makes a clip instead of a preview. Its receipt is sent here, so that progress is complete.
        if not len(prompt.assembly) and prompt.num_steps_reported < prompt.num_steps_done:
            self._report_step(prompt, prompt.num_steps_done - 1)
        try:
            prompt.assembly.add(event, self._slot.num_frames())
        except ValueError as error:
            self._stop_generation(prompt)
            self._fail_incomplete(prompt, error)

    def _report_step(self, prompt: Prompt, step_index: int, picture: str | None = None) -> None:
        prompt.num_steps_reported = step_index + 1
        self._says.emit(receipts.preview(prompt, step_index, picture=picture))

    def _on_preview(self, prompt: Prompt, event: PreviewReady) -> None:
        picture = None
        if self._options().on_preview != "off":
            picture = "data:image/jpeg;base64," + base64.b64encode(self._program.jpeg(event.frames)).decode()
        self._report_step(prompt, event.step_index, picture)
        # A morph leads smoothly from one picture to the next; previews in between would break that.
        if self._previews_go_on_air and prompt.transition.kind != "morph":
            self.air.show_preview(prompt.prompt_id, event)

    @property
    def _previews_go_on_air(self) -> bool:
        # With a manual take the operator decides what goes on air, so an unfinished clip must not.
        options = self._options()
        return options.on_preview == "on_air" and options.take == "auto"

    def _on_finished(self, prompt: Prompt, event: GenerationFinished) -> None:
        prompt.timings = event.timings
        try:
            frames = prompt.assembly.finished(event.num_frames)
            prompt.clip = self._slot.clip(prompt.prompt_id, frames, prompt.after)
        except ValueError as error:
            self._fail_incomplete(prompt, error)
            return
        prompt.last_frame = Frames(frames.planes[-1:])
        self._take_or_keep(prompt)

    def _take_or_keep(self, prompt: Prompt) -> None:
        """Its clip is finished."""
        if self._options().take == "auto":
            self._take(prompt, prompt.transition)
            return
        prompt.move(PromptEvent.KEEP)
        self.air.drop_preview()
        self._says.emit(PromptReady(prompt_id=prompt.prompt_id))

    # --- how prompts end ------------------------------------------------------------------------------------------

    def _cancel(self, prompt: Prompt, message: PromptCancel | None) -> None:
        self._stop_generation(prompt)
        cancelled = PromptCancelled(
            prompt_id=prompt.prompt_id,
            event_id=message.event_id if message else None,
            num_steps_done=prompt.num_steps_done,
        )
        outgoing = self._end(prompt, PromptEvent.CANCEL, cancelled)
        if message is not None:
            self._says.answered.remember(message, outgoing)

    def _supersede(self, prompt: Prompt, by: Prompt) -> None:
        # Its preview stays on air until the newer one's replaces it: going back to the loop in between would flicker.
        self._stop_generation(prompt)
        superseded = PromptSuperseded(prompt_id=prompt.prompt_id, by_prompt_id=by.prompt_id)
        self._end(prompt, PromptEvent.SUPERSEDE, superseded)

    def _fail(self, prompt: Prompt, detail: ErrorDetail) -> None:
        self._end(prompt, PromptEvent.FAIL, PromptFailed(prompt_id=prompt.prompt_id, error=detail))
        self.air.drop_preview()

    def _fail_incomplete(self, prompt: Prompt, error: ValueError) -> None:
        reason = f"the engine sent an incomplete clip: {error}"
        self._fail(prompt, error_detail("model_error", reason, retryable=True))

    def _stop_generation(self, prompt: Prompt) -> None:
        if prompt.state is not PromptState.GENERATING:
            return
        if prompt.generation_id is not None:
            self._slot.cancel(prompt.generation_id)
        elif self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _end(self, prompt: Prompt, event: PromptEvent, receipt: ServerMessage) -> Outgoing:
        """The one place where prompts end."""
        prompt.move(event)
        prompt.assembly.clear()
        prompt.clip = None
        if self._current is prompt:
            self._current = None
        if self._taken is prompt:
            self._taken = None
        self._ids.end(prompt)
        self._metrics.prompt_ended(prompt.state)
        return self._says.emit(receipt)

    # --- on air ---------------------------------------------------------------------------------------------------

    def on_shown(self, shown: Shown) -> None:
        """The program has sent the first frame that shows a preview or a clip."""
        if shown.first.continuation:
            self.scene.on_shown(shown)
            return
        for prompt in (self._current, self._taken):
            if prompt is None or prompt.prompt_id != shown.first.prompt_id:
                continue
            if shown.first.kind == "preview":
                self._on_preview_shown(prompt, shown)
            elif prompt is self._taken:
                self._on_clip_shown(prompt, shown)

    def _take(self, prompt: Prompt, transition: Transition, message: ProgramTake | None = None) -> None:
        if self._taken is not None:
            self._supersede(self._taken, prompt)
        assert prompt.clip is not None, "only a finished prompt is taken"
        prompt.move(PromptEvent.TAKE)
        clip, prompt.clip = prompt.clip, None
        self._current, self._taken = None, prompt
        self.air.take(clip, transition, message)

    def _on_preview_shown(self, prompt: Prompt, shown: Shown) -> None:
        if prompt.is_preview_reported:
            return
        prompt.is_preview_reported = True
        self._metrics.preview_shown(shown.sent_at - prompt.received_at)
        stamp = self._says.stamp(prompt.received_at, shown)
        self._says.emit(receipts.preview(prompt, shown.first.step_index or 0, frame=stamp))

    def _on_clip_shown(self, prompt: Prompt, shown: Shown) -> None:
        self.num_applied += 1
        self._metrics.picture_shown(shown.sent_at - prompt.received_at)
        applied = PromptApplied(
            prompt_id=prompt.prompt_id,
            frame=self._says.stamp(prompt.received_at, shown),
            timings=receipts.timings(prompt, shown),
        )
        self._end(prompt, PromptEvent.SHOW, applied)
        if prompt.after == "continue" and self._current is None:
            self.scene.begin(prompt)


def _received(message: PromptSet, options: SessionOptions, prompt_id: str, now: float) -> Prompt:
    """The prompt, with the session's options as defaults."""
    seed = options.seed if message.seed is UNSET else message.seed
    return Prompt(
        prompt_id=prompt_id,
        text=message.text,
        quality=Quality(_or(message.quality, options.quality)),
        seed=secrets.randbelow(_NUM_RANDOM_SEEDS) if seed is None else seed,
        transition=Transition(
            _or(message.transition, options.transition), _or(message.transition_s, options.transition_s)
        ),
        after=_or(message.after, options.after),
        received_at=now,
        lora=_or(message.lora, options.lora),
        reuse=_reuse(message, options),
        is_operator=not message.audience,
        wants_previews=options.on_preview != "off",
    )


def _shown(message: ProgramShow, options: SessionOptions, prompt_id: str, clip: FinishedClip, now: float) -> Prompt:
    """A prompt whose clip is finished. It cannot start from the picture on air, so a morph is a crossfade."""
    transition = _or(message.transition, options.transition)
    return Prompt(
        prompt_id=prompt_id,
        text=clip.text,
        quality=clip.quality,
        seed=clip.seed,
        transition=Transition(
            "crossfade" if transition == "morph" else transition, _or(message.transition_s, options.transition_s)
        ),
        after=_or(message.after, options.after),
        received_at=now,
        lora=clip.lora,
        generated_at=now,
    )


def _or(value: _T | UnsetType, otherwise: _T) -> _T:
    return otherwise if isinstance(value, UnsetType) else value


def _reuse(message: PromptSet, options: SessionOptions) -> Reuse:
    if _or(message.fresh, options.fresh) or _or(message.transition, options.transition) == "morph":
        return Reuse.NEVER  # no two morphs begin with the same frame
    seed = options.seed if message.seed is UNSET else message.seed
    return Reuse.ANY_SEED if seed is None else Reuse.SAME_SEED

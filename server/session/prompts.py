"""One session's prompts, from receipt to end, and what they put on air.

Owned by `session.py`. Sends to the engine through `slot.py` and continues scenes through `continuation.py`. The table
in `prompt.py` is the life of a prompt. Runs on the event loop; no method awaits, so each runs without interruption.

The newest prompt wins: at most one prompt waits or is generated (`_current`), and at most one clip is taken and not yet
shown (`_taken`). A prompt that has ended may still hold the stage's place in the engine. Its generation stops at the
next step, and the newest prompt starts then.
"""

from __future__ import annotations

import base64
import dataclasses
import secrets
from collections import OrderedDict
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
)
from server.clock import Clock
from server.media.program import Shown
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail, error_detail
from server.protocol.errors import Refused
from server.protocol.messages import (
    AnyClientMessage,
    ProgramChanged,
    ProgramTake,
    PromptAccepted,
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
from server.session.neighbours import SessionProgram
from server.session.prompt import Prompt, PromptEvent, PromptState
from server.session.receipts import Receipts
from server.session.slot import Slot
from server.stage.picture import Clip, OnAir, Transition
from server.stage.stage import Stage

_T = TypeVar("_T")

# How many ended prompts are remembered, to recognise late events and reused ids.
MAX_ENDED = 256
# Seeds stay exact in every client's number type.
_NUM_RANDOM_SEEDS = 2**32
# The deadline of each prompt is the longer of two times. Three seconds are the promise that this project began with
# (prompt to picture on two cores). Three times the cost of the clip alone is the least that a shared engine can
# promise: at the load that admission allows (`admission.CAPACITY`), the mean wait is the time of two clips. A shorter
# deadline would usually be missed, and the engine would degrade every clip for it.
PROMISE_S = 3.0
PROMISE_COSTS = 3.0


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


class Prompts:
    """See the module. `options` gives the session's options as they are now."""

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
        self._ended: OrderedDict[str, PromptState] = OrderedDict()
        self._num_prompts = 0

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
        prompt = self._receive(message)
        if (error := self._reason_to_reject(prompt)) is not None:
            rejected = PromptRejected(prompt_id=prompt.prompt_id, event_id=message.event_id, error=error)
            self._says.answered.remember(message, self._end(prompt, PromptEvent.REJECT, rejected))
            return
        if self._current is not None:
            self._supersede(self._current, prompt)
        self.scene.end()
        prompt.move(PromptEvent.ACCEPT)
        self._current = prompt
        self._says.answer(message, self._accepted(prompt, message))
        self._generate_if_free()

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
        if self._is_known(prompt_id):
            ended = self._ended.get(prompt_id, PromptState.TAKEN)
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

    def _accepted(self, prompt: Prompt, message: PromptSet) -> PromptAccepted:
        estimate = self._slot.estimate(self._command(prompt, ""))
        words = self._engine.words(prompt.text)
        return PromptAccepted(
            event_id=message.event_id,
            prompt_id=prompt.prompt_id,
            seed=prompt.seed,
            quality=prompt.quality.value,
            estimated_preview_ms=receipts.ms(estimate.preview_s) if estimate else None,
            estimated_picture_ms=receipts.ms(estimate.picture_s) if estimate else None,
            understood=words.understood,
            not_understood=words.not_understood,
        )

    def _receive(self, message: PromptSet) -> Prompt:
        """The prompt, with the session's options as defaults."""
        options = self._options()
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
        if prompt is not None and prompt.state in (PromptState.ACCEPTED, PromptState.GENERATING):
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
        if prompt.state is PromptState.GENERATING and prompt.generation_id is not None:
            self._slot.cancel(prompt.generation_id)

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


def _or(value: _T | UnsetType, otherwise: _T) -> _T:
    return otherwise if isinstance(value, UnsetType) else value


def _reuse(message: PromptSet, options: SessionOptions) -> Reuse:
    if _or(message.fresh, options.fresh) or _or(message.transition, options.transition) == "morph":
        return Reuse.NEVER  # no two morphs begin with the same frame
    seed = options.seed if message.seed is UNSET else message.seed
    return Reuse.ANY_SEED if seed is None else Reuse.SAME_SEED

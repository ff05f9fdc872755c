"""Continues a scene (`after: continue`): has its next clip generated while the present one plays.

`prompts.py` begins and ends it; it sends through `slot.py`. On the event loop. It asks for the next clip as soon as
the one before is on air, due when that one ends, so that the arbiter has the whole clip's time to fit it in. At most
one clip is made ahead. `Stage.follow` says how the two are joined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.api import (
    EngineBusy,
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
    StepFinished,
)
from server.media.program import Shown
from server.metrics import Metrics
from server.protocol.errors import Refused
from server.protocol.messages import PromptContinued
from server.session.prompt import Assembly, Prompt
from server.session.receipts import Receipts
from server.session.slot import Slot
from server.stage.stage import Stage

# A continuation's seed is its prompt's plus its index, so that a scene can be made again.
_NUM_SEEDS = 2**63


@dataclass(eq=False, slots=True)
class Continuation:
    """`index` and `last_frame` belong to the clip on air; index 0 is the prompt's own clip."""

    prompt_id: str
    text: str
    quality: Quality
    first_seed: int
    lora: str | None
    is_operator: bool
    received_at: float
    last_frame: Frames
    index: int = 0
    generation_id: str | None = None  # of the next clip, while it is in the engine
    next_last_frame: Frames | None = None  # of the next clip, when the stage has it
    assembly: Assembly = field(default_factory=Assembly)

    @classmethod
    def of(cls, prompt: Prompt) -> Continuation:
        assert prompt.last_frame is not None, "only a finished prompt goes on"
        return cls(
            prompt_id=prompt.prompt_id,
            text=prompt.text,
            quality=prompt.quality,
            first_seed=prompt.seed,
            lora=prompt.lora,
            is_operator=prompt.is_operator,
            received_at=prompt.received_at,
            last_frame=prompt.last_frame,
        )

    @property
    def needs_clip(self) -> bool:
        return self.generation_id is None and self.next_last_frame is None

    @property
    def seed(self) -> int:
        """Of the clip on air."""
        return (self.first_seed + self.index) % _NUM_SEEDS

    def command(self, generation_id: str, *, stage_id: str, tenant: str, due_in_s: float) -> Generate:
        """For the next clip, without previews: they would interrupt the scene."""
        return Generate(
            generation_id,
            self.text,
            self.quality,
            (self.seed + 1) % _NUM_SEEDS,
            scene_seed=self.first_seed,
            wants_previews=False,
            first_frame=self.last_frame,
            lora=self.lora,
            stage_id=stage_id,
            tenant=tenant,
            is_operator=self.is_operator,
            due_in_s=due_in_s,
        )

    def advance(self) -> None:
        """The next clip is on air."""
        assert self.next_last_frame is not None
        self.index += 1
        self.last_frame, self.next_last_frame = self.next_last_frame, None


class Continuations:
    """Has the clips of at most one continued scene generated. `is_seen`: whether anybody watches or records."""

    def __init__(
        self, slot: Slot, stage: Stage, says: Receipts, metrics: Metrics, *, is_seen: Callable[[], bool]
    ) -> None:
        self._slot = slot
        self._stage = stage
        self._says = says
        self._metrics = metrics
        self._is_seen = is_seen
        self._current: Continuation | None = None

    def is_of(self, prompt_id: str) -> bool:
        return self._current is not None and self._current.prompt_id == prompt_id

    def begin(self, prompt: Prompt) -> None:
        """The prompt's own clip is on air: continues its scene from here."""
        self._current = Continuation.of(prompt)
        self.go_on()

    def go_on(self) -> None:
        """Asks for the next clip if one is needed, the engine's place is free, and somebody watches or records."""
        current = self._current
        if current is None:
            return
        if not self._is_seen():
            self._stop_in_engine(current)
            return
        if not current.needs_clip or not self._slot.is_free:
            return
        command = current.command(
            self._slot.new_generation_id(),
            stage_id=self._slot.stage_id,
            tenant=self._slot.tenant,
            # Never sooner than the clip takes alone: a deadline that the engine cannot meet would make it degrade the
            # clips of every stage. Instead the running clip is shown for another round, and the next one is whole.
            due_in_s=self._stage.seconds_to_join(self._slot.cost_s(current.quality)),
        )
        try:
            self._slot.send(command)
        except EngineBusy:
            return  # the scene is shown for another round; the next tick asks again
        except EngineUnavailable:
            self._current = None
            return
        except Refused as refusal:  # the budget; with no scene to go on, it is said once
            self._current = None
            self._says.warn("budget_exhausted", f"the scene is looped from here on: {refusal.detail.message}")
            return
        current.generation_id = command.generation_id

    def end(self) -> None:
        """Asks for no more clips. A clip that the stage has already still plays: it costs nothing and looks better."""
        if self._current is not None:
            self._stop_in_engine(self._current)
            self._current = None

    def on_generation_event(self, event: GenerationEvent) -> None:
        """Does nothing for an event that is not of the scene's next clip."""
        current = self._current
        if current is None or current.generation_id != event.generation_id:
            return
        match event:
            case GenerationStarted():
                current.assembly.clear()
                self._slot.note_started(event)
            case StepFinished() | PreviewReady():
                pass
            case FramesReady():
                self._take_in(current, event)
            case GenerationFinished():
                self._follow(current, event)
            case GenerationFailed():
                self._give_up(event.message)
            case GenerationCancelled():
                self._give_up("the engine stopped without being asked")

    def on_engine_lost(self, generation_ids: tuple[str, ...]) -> None:
        """Discards the frames received of the next clip: the engine makes it again."""
        if self._current is not None and self._current.generation_id in generation_ids:
            self._current.assembly.clear()

    def on_engine_stopped(self) -> None:
        self._current = None

    def on_shown(self, shown: Shown) -> None:
        """The program has sent the first frame of a continuation's clip."""
        current, first = self._current, shown.first
        is_late = first.num_rounds > 1
        self._metrics.scene_continued(is_late=is_late)
        if current is None or current.prompt_id != first.prompt_id:
            return  # the scene has ended meanwhile; this was its last clip
        current.advance()
        self._says.emit(
            PromptContinued(
                prompt_id=first.prompt_id,
                index=current.index,
                seed=current.seed,
                is_late=is_late,
                frame=self._says.stamp(current.received_at, shown),
            )
        )
        self.go_on()

    def _stop_in_engine(self, current: Continuation) -> None:
        if current.generation_id is not None:
            self._slot.cancel(current.generation_id)
            current.generation_id = None
            current.assembly.clear()

    def _take_in(self, current: Continuation, event: FramesReady) -> None:
        try:
            current.assembly.add(event, self._slot.num_frames())
        except ValueError as error:
            self._stop_in_engine(current)
            self._give_up(f"the engine sent an incomplete clip: {error}")

    def _follow(self, current: Continuation, event: GenerationFinished) -> None:
        """The next clip is finished: the stage plays it when the one on air has ended."""
        try:
            frames = current.assembly.finished(event.num_frames)
            clip = self._slot.clip(current.prompt_id, frames, "continue", current.index + 1)
        except ValueError as error:
            self._give_up(f"the engine sent an incomplete clip: {error}")
            return
        current.generation_id = None
        if self._stage.follow(clip):
            current.next_last_frame = Frames(frames.planes[-1:])
        else:
            self._current = None

    def _give_up(self, reason: str) -> None:
        self._current = None
        self._says.warn("continuation_failed", f"the scene is looped from here on: {reason}")

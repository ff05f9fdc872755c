"""A stage's one place in the engine: a session has at most one generation there, for a prompt or a continuation.

`prompts.py` and `continuation.py` send through it. A generation whose prompt has ended keeps the place until the engine
confirms its end, at its next step. Only then does the next one start. On the event loop.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.api import (
    Cancel,
    Engine,
    Estimate,
    Frames,
    Generate,
    GenerationEnd,
    GenerationEvent,
    GenerationStarted,
    ModelDescription,
    Quality,
    StepFinished,
)
from server.accounts.payer import NOBODY, Payer, Reservation
from server.metrics import Metrics
from server.protocol.messages import After
from server.session import receipts
from server.session.receipts import Receipts
from server.stage.picture import Clip

# The least time between two warnings that the machine is busy, even if the load comes and goes.
BUSY_AGAIN_S = 60.0


class Slot:
    """`claim` gets each generation sent and its engine seconds, so that the registry knows whose its events are, and
    who pays."""

    def __init__(
        self,
        engine: Engine,
        says: Receipts,
        metrics: Metrics,
        *,
        stage_id: str,
        tenant: str,
        frame_rate: int,
        claim: Callable[[str, Reservation], None],
        payer: Payer = NOBODY,
    ) -> None:
        self.stage_id = stage_id
        self.tenant = tenant
        self.num_generations = 0
        self.num_steps = 0
        self.engine_s = 0.0
        self._engine = engine
        self._says = says
        self._metrics = metrics
        self._frame_rate = frame_rate
        self._claim = claim
        self._payer = payer
        self._generation_id: str | None = None
        self._reservation: Reservation | None = None  # of that generation
        self._degraded: tuple[str, ...] = ()
        self._is_told_busy = False
        self._told_busy_at = float("-inf")

    @property
    def is_free(self) -> bool:
        return self._generation_id is None

    @property
    def model(self) -> ModelDescription | None:
        return self._engine.model

    def new_generation_id(self) -> str:
        self.num_generations += 1
        return f"{self.stage_id}.{self.num_generations}"

    def check_budget(self, quality: Quality) -> None:
        """Whether a new prompt could pay for its clip, once the generation that holds the place is stopped for it.

        Raises `Refused` (`budget_exhausted`).
        """
        self._payer.check(self.cost_s(quality), returning=self._reservation)

    def send(self, command: Generate) -> None:
        """Takes the place, and reserves the clip's engine seconds.

        Raises `Refused` (`budget_exhausted`), `EngineBusy` or `EngineUnavailable`; then the place is still free.
        """
        reservation = self._payer.reserve(self.cost_s(command.quality))
        try:
            self._engine.send(command)
        except BaseException:
            reservation.settle(0.0)
            raise
        self._generation_id, self._reservation = command.generation_id, reservation
        self._claim(command.generation_id, reservation)

    def cancel(self, generation_id: str) -> None:
        """The place becomes free when the engine confirms the end."""
        self._engine.send(Cancel(generation_id))

    def hear(self, event: GenerationEvent) -> bool:
        """Counts steps. True if the event ends the generation that holds the place, which is then free."""
        self.num_steps += isinstance(event, StepFinished)
        if not isinstance(event, GenerationEnd) or event.generation_id != self._generation_id:
            return False
        self._generation_id = self._reservation = None
        self.engine_s += event.engine_s
        return True

    def on_engine_stopped(self) -> None:
        """The engine will not come back: frees the place."""
        self._generation_id = self._reservation = None

    def cost_s(self, quality: Quality) -> float:
        """Engine time of one clip made alone; 0 before the first measurement."""
        return self._engine.cost_s(quality) or 0.0

    def estimate(self, command: Generate) -> Estimate | None:
        """Time until the frames are sent. Adds one frame: on average half a frame until the next picture is chosen, and
        half until it is sent (`media.program`)."""
        of_engine = self._engine.estimate(command)
        if of_engine is None:
            return None
        to_air_s = 1.0 / self._frame_rate
        return Estimate(of_engine.preview_s + to_air_s, of_engine.picture_s + to_air_s)

    def estimated_picture_ms(self, quality: Quality) -> float | None:
        """For a prompt set now; None before the first measurement."""
        estimate = self.estimate(Generate("", "", quality, stage_id=self.stage_id, tenant=self.tenant))
        return receipts.ms(estimate.picture_s) if estimate else None

    def note_started(self, event: GenerationStarted) -> None:
        """Warns once when the engine begins to degrade clips, and once when it stops."""
        if event.is_reused:
            return  # a whole clip made earlier: it says nothing about the engine now
        if event.degraded:
            self._metrics.generation_degraded()
        if event.degraded == self._degraded:
            return
        self._degraded = event.degraded
        if event.degraded:
            reason = f"the engine is short of time; clips are made with {receipts.degradation(event.degraded)}"
            self._says.warn("degraded", reason, degraded=event.degraded)
        else:
            self._says.warn("recovered", "clips are made as requested again")

    def tell_busy(self, now: float) -> None:
        """Warns when other programs take the engine's cores, and when this is over. Called once a second."""
        engine = self._engine.statistics()
        if engine.is_starved is self._is_told_busy:
            return
        if not engine.is_starved:
            self._is_told_busy = False
            self._says.warn("machine_free", "the engine gets the cores that it needs again")
        elif now - self._told_busy_at >= BUSY_AGAIN_S and engine.core_share is not None:
            self._is_told_busy, self._told_busy_at = True, now
            reason = f"this machine is busy: the engine got {engine.core_share:.0%} of a core; scenes take longer"
            self._says.warn("machine_busy", reason, core_share=round(engine.core_share, 3))

    def num_frames(self) -> int:
        """Frames in a clip. Raises `ValueError` if no model is known."""
        return self._known_model().num_frames

    def clip(self, prompt_id: str, frames: Frames, after: After, continuation: int = 0) -> Clip:
        """Raises `ValueError` if no model is known, or for frames that make no clip."""
        model = self._known_model()
        return Clip(prompt_id, frames, model.frame_rate, model.closes_on_itself, after, continuation)

    def _known_model(self) -> ModelDescription:
        if self._engine.model is None:
            raise ValueError("no model is known")
        return self._engine.model

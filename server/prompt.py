"""One prompt from its receipt to its one end: the state table, and everything the session remembers of it.

Owned by `session.py`; pure, on the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from engine.api import Frames, FramesReady, Generate, Quality, Reuse, Timings
from server.stage import Clip, Transition


class PromptState(StrEnum):
    RECEIVED = "received"
    ACCEPTED = "accepted"  # waits until the session's generation before it has stopped
    GENERATING = "generating"
    READY = "ready"  # the clip waits for `program.take`
    TAKEN = "taken"  # the stage has the clip, no frame of it was sent yet (one frame's time; longer below a blank)
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    FAILED = "failed"


class PromptEvent(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    GENERATE = "generate"
    KEEP = "keep"
    TAKE = "take"
    SHOW = "show"
    SUPERSEDE = "supersede"
    CANCEL = "cancel"
    FAIL = "fail"


ENDS = frozenset(
    {
        PromptState.APPLIED,
        PromptState.SUPERSEDED,
        PromptState.CANCELLED,
        PromptState.REJECTED,
        PromptState.FAILED,
    }
)

NEXT_STATE: dict[tuple[PromptState, PromptEvent], PromptState] = {
    (PromptState.RECEIVED, PromptEvent.ACCEPT): PromptState.ACCEPTED,
    (PromptState.RECEIVED, PromptEvent.REJECT): PromptState.REJECTED,
    (PromptState.ACCEPTED, PromptEvent.GENERATE): PromptState.GENERATING,
    (PromptState.ACCEPTED, PromptEvent.SUPERSEDE): PromptState.SUPERSEDED,
    (PromptState.ACCEPTED, PromptEvent.CANCEL): PromptState.CANCELLED,
    (PromptState.ACCEPTED, PromptEvent.FAIL): PromptState.FAILED,
    (PromptState.GENERATING, PromptEvent.KEEP): PromptState.READY,
    (PromptState.GENERATING, PromptEvent.TAKE): PromptState.TAKEN,
    (PromptState.GENERATING, PromptEvent.SUPERSEDE): PromptState.SUPERSEDED,
    (PromptState.GENERATING, PromptEvent.CANCEL): PromptState.CANCELLED,
    (PromptState.GENERATING, PromptEvent.FAIL): PromptState.FAILED,
    (PromptState.READY, PromptEvent.TAKE): PromptState.TAKEN,
    (PromptState.READY, PromptEvent.SUPERSEDE): PromptState.SUPERSEDED,
    (PromptState.READY, PromptEvent.CANCEL): PromptState.CANCELLED,
    (PromptState.TAKEN, PromptEvent.SHOW): PromptState.APPLIED,
    # Only by a newer clip that was taken before a frame of this one was sent (below a blank), or a closing session.
    (PromptState.TAKEN, PromptEvent.SUPERSEDE): PromptState.SUPERSEDED,
    (PromptState.TAKEN, PromptEvent.CANCEL): PromptState.CANCELLED,
}


class IllegalMove(Exception):
    """A bug of ours: an event that the state does not allow. Nothing was changed."""


@dataclass(eq=False, slots=True)
class Prompt:
    """`received_at` and `generated_at` (handed to the engine) are on the session's clock."""

    prompt_id: str
    text: str
    quality: Quality
    seed: int
    transition: Transition
    after: Literal["loop", "continue", "hold"]
    received_at: float
    lora: str | None = None
    reuse: Reuse = Reuse.NEVER
    is_operator: bool = True
    state: PromptState = PromptState.RECEIVED
    generated_at: float = 0.0
    generation_id: str | None = None
    wants_previews: bool = True
    attempt: int = 0
    num_steps: int = 0
    num_steps_done: int = 0
    num_steps_reported: int = 0
    is_preview_reported: bool = False
    timings: Timings | None = None
    chunks: list[FramesReady] = field(default_factory=list)
    clip: Clip | None = None  # finished and not yet taken
    last_frame: Frames | None = None  # of the finished clip, where its scene goes on from

    def move(self, event: PromptEvent) -> None:
        """Raises `IllegalMove` for what is not in the table."""
        try:
            self.state = NEXT_STATE[self.state, event]
        except KeyError:
            raise IllegalMove(f"{self.prompt_id}: `{event}` while {self.state}") from None

    @property
    def asks_much(self) -> bool:
        """Whether it asks for what not every model can, so that it must wait until the model is known."""
        return self.transition.kind == "morph" or self.after == "continue" or self.lora is not None

    def command(
        self, generation_id: str, *, stage_id: str, tenant: str, is_stage_empty: bool, due_in_s: float
    ) -> Generate:
        """What the engine is told; a first frame is put in by whoever has one."""
        return Generate(
            generation_id,
            self.text,
            self.quality,
            self.seed,
            self.wants_previews,
            lora=self.lora,
            reuse=self.reuse,
            stage_id=stage_id,
            tenant=tenant,
            is_operator=self.is_operator,
            is_stage_empty=is_stage_empty,
            due_in_s=due_in_s,
        )

    def begin_attempt(self, num_steps: int) -> None:
        """The engine starts, or starts again: what came before is void."""
        self.attempt += 1
        self.num_steps = num_steps
        self.num_steps_done = 0
        self.num_steps_reported = 0
        self.chunks.clear()


def assembled(chunks: list[FramesReady], num_frames: int) -> Frames:
    """The finished clip. Raises `ValueError` when the chunks are not the `num_frames` frames, in order."""
    expected_index = 0
    for chunk in chunks:
        if chunk.first_index != expected_index:
            raise ValueError(f"expected frame {expected_index} next, got {chunk.first_index}")
        expected_index += len(chunk.frames)
    if expected_index != num_frames or num_frames < 1:
        raise ValueError(f"expected {num_frames} frames, got {expected_index}")
    if len(chunks) == 1:
        return chunks[0].frames
    return Frames(np.concatenate([chunk.frames.planes for chunk in chunks]))

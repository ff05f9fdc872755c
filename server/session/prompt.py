"""One prompt from receipt to end: its state table, its frames and what else the session remembers of it.

Owned by `prompts.py`; pure, on the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.api import Frames, FramesReady, Generate, Quality, Reuse, Timings
from server.protocol.errors import Refused
from server.stage.picture import Clip, Transition

# How many ended prompts are remembered, to recognise late events and reused ids.
MAX_ENDED = 256


class PromptState(StrEnum):
    RECEIVED = "received"
    ACCEPTED = "accepted"  # waits until the session's previous generation has stopped
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


class Assembly:
    """Puts a clip together as its frames arrive.

    Each chunk is copied when it arrives. One copy at the end (29 MB for 49 frames of 832x480) blocked the event loop,
    and so the clock of every program, for 56 ms; a frame is due every 42 ms.
    """

    def __init__(self) -> None:
        self._planes: NDArray[np.uint8] | None = None
        self._num_frames = 0

    def __len__(self) -> int:
        return self._num_frames

    def add(self, chunk: FramesReady, num_expected: int) -> None:
        """Adds the next frames of `num_expected` in all. Raises `ValueError` for a wrong index, number or size."""
        planes = chunk.frames.planes
        if chunk.first_index != self._num_frames:
            raise ValueError(f"expected frame {self._num_frames} next, got {chunk.first_index}")
        end = self._num_frames + len(planes)
        if end > num_expected:
            raise ValueError(f"expected {num_expected} frames, got {end}")
        if len(planes) == num_expected:
            self._planes = planes  # a whole clip, as the clip cache sends it
        else:
            if self._planes is None:
                self._planes = np.empty((num_expected, *planes.shape[1:]), np.uint8)
            if planes.shape[1:] != self._planes.shape[1:]:
                raise ValueError(f"expected frames of {self._planes.shape[1:]}, got {planes.shape[1:]}")
            self._planes[self._num_frames : end] = planes
        self._num_frames = end

    def finished(self, num_frames: int) -> Frames:
        """Returns the clip and clears the assembly. Raises `ValueError` unless it has `num_frames` frames."""
        planes, num_here = self._planes, self._num_frames
        self.clear()
        if planes is None or num_here != num_frames or len(planes) != num_frames:
            raise ValueError(f"expected {num_frames} frames, got {num_here}")
        return Frames(planes)

    def clear(self) -> None:
        self._planes, self._num_frames = None, 0


class PromptIds:
    """The ids of a session's prompts: those that live, and the last `MAX_ENDED` that have ended."""

    def __init__(self) -> None:
        self._live: set[str] = set()
        self._ended: OrderedDict[str, PromptState] = OrderedDict()
        self._num_made = 0

    def choose(self, wanted: str | None) -> str:
        """For a new prompt. Raises `Refused` (`prompt_id_taken`)."""
        if wanted is not None and self.state_of(wanted) is not None:
            raise Refused("prompt_id_taken", f"`{wanted}` exists already", param="prompt_id")
        prompt_id = wanted
        while prompt_id is None:
            self._num_made += 1
            made = f"p{self._num_made}"
            prompt_id = made if self.state_of(made) is None else None
        self._live.add(prompt_id)
        return prompt_id

    def state_of(self, prompt_id: str) -> PromptState | None:
        """How it ended; `taken` if it lives; None: there is none, or it ended long ago."""
        return PromptState.TAKEN if prompt_id in self._live else self._ended.get(prompt_id)

    def end(self, prompt: Prompt) -> None:
        self._live.discard(prompt.prompt_id)
        self._ended[prompt.prompt_id] = prompt.state
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)


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
    assembly: Assembly = field(default_factory=Assembly)
    clip: Clip | None = None  # finished and not yet taken
    last_frame: Frames | None = None  # of the finished clip; a continuation starts from it

    def move(self, event: PromptEvent) -> None:
        """Raises `IllegalMove` for a move that is not in the table."""
        try:
            self.state = NEXT_STATE[self.state, event]
        except KeyError:
            raise IllegalMove(f"{self.prompt_id}: `{event}` while {self.state}") from None

    @property
    def asks_much(self) -> bool:
        """Whether it needs what only some models can do, so that it must wait until the model is known."""
        return self.transition.kind == "morph" or self.after == "continue" or self.lora is not None

    def command(
        self, generation_id: str, *, stage_id: str, tenant: str, is_stage_empty: bool, due_in_s: float
    ) -> Generate:
        """The command for the engine, to which the caller may add a first frame."""
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
        """The engine starts, or starts again: discards what an earlier attempt has sent."""
        self.attempt += 1
        self.num_steps = num_steps
        self.num_steps_done = 0
        self.num_steps_reported = 0
        self.assembly.clear()

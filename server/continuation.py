"""A scene that goes on (``after: continue``): which prompt's, and how far its next clip is.

Owned by `session.py`; pure, on the event loop. Each next clip is asked for as soon as the one before is on air, due
when that one ends: the arbiter then has the whole clip's time to fit it in, and no more is made than in the last
moment, since one clip is on air and at most one in the making. `Stage.follow` says how the two are joined.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.api import Frames, Generate, Quality
from server.prompt import Assembly, Prompt

# A continuation's seed is its prompt's plus its index, so that a scene can be made again.
_NUM_SEEDS = 2**63


@dataclass(eq=False, slots=True)
class Continuation:
    """`index` and `last_frame` are those of the clip on air; 0 is the prompt's own."""

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
        """For the next clip. No previews: they would break the picture that goes on."""
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

    def be_shown(self) -> None:
        """The next clip is on air."""
        assert self.next_last_frame is not None
        self.index += 1
        self.last_frame, self.next_last_frame = self.next_last_frame, None

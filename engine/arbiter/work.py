"""What a policy knows of each generation, and how it advances piece by piece. Pure; see `engine.arbiter.arbiter`.

`Policy` is the base of all policies: `Arbiter`, and the simpler ones that `bench.sim.arbiter_sim` compares it with.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

from engine.api import Generate, Quality
from engine.arbiter.cost import Cost, Piece

# Decodes under way at once: each holds a cache of its own, 1.4 GiB for the 5B model's VAE.
MAX_DECODING = 2


@dataclass(eq=False, slots=True)
class Work:
    """One generation as the arbiter sees it: whose it is, when it is due and how far it is. Times in seconds."""

    work_id: str
    arrived_at: float
    due_at: float
    quality: Quality = Quality.FAST
    stage_id: str = ""
    tenant: str = ""
    is_operator: bool = True
    is_stage_empty: bool = False
    wants_previews: bool = True
    is_background: bool = False
    background_share: float = 0.0
    # How far it is; `ended` advances these.
    rung_index: int = 0
    num_steps: int = 0  # known when it begins
    is_begun: bool = False
    step_index: int = 0
    owes_preview: bool = False
    has_preview: bool = False
    num_decoded: int = 0
    min_rung: int = 0  # the rungs above this one ran out of memory
    is_second_try: bool = False
    # Works with equal keys may share a step; None may not. The caller that begins the work sets it.
    shape_key: Hashable = None
    # When the stage began to wait. Prompts that were superseded before they were served count for the newest one.
    waits_since: float = 0.0
    was_aged_turn: bool = False
    is_late: bool = False  # the last plan does not promise it
    could_be_met: bool = True  # the deadline, when the work arrived

    @classmethod
    def of(cls, command: Generate, now: float) -> Work:
        return cls(
            work_id=command.generation_id,
            arrived_at=now,
            due_at=now + command.due_in_s,
            quality=command.quality,
            stage_id=command.stage_id,
            tenant=command.tenant,
            is_operator=command.is_operator,
            is_stage_empty=command.is_stage_empty,
            wants_previews=command.wants_previews,
            is_background=command.is_background,
            background_share=command.background_share,
            waits_since=now,
        )

    def anew(self) -> Work:
        """The same work from its beginning; its previews so far are void."""
        return replace(self, is_begun=False, step_index=0, owes_preview=False, has_preview=False, num_decoded=0)

    def restarted_one_rung_lower(self, floor: int) -> Work:
        """The same work from its beginning, one rung lower, because memory ran out."""
        return replace(self.anew(), min_rung=min(self.rung_index + 1, floor), is_second_try=True)

    @property
    def is_denoised(self) -> bool:
        return self.is_begun and self.step_index >= self.num_steps

    @property
    def is_under_way(self) -> bool:
        """More than the first preview was spent on it, so dropping it would be a waste."""
        return self.step_index > 1

    @property
    def is_unseen(self) -> bool:
        return self.wants_previews and not self.has_preview and not self.is_denoised

    def is_decoded(self, num_pieces: int) -> bool:
        return self.is_denoised and self.num_decoded >= num_pieces

    @property
    def rank(self) -> int:
        """Lower is more urgent."""
        return 2 * (not self.is_stage_empty) + (not self.is_operator)


@dataclass(frozen=True, slots=True)
class Turn:
    """The next piece of work. Several works may share a denoising step; any other piece belongs to one work."""

    piece: Piece
    works: tuple[Work, ...]


class Policy:
    """What all policies share: the works, how they advance, what they still need. Subclasses choose (`_choose`)."""

    uses_ladder = False

    def __init__(self, cost: Cost, *, max_batch: int = 1) -> None:
        self.cost = cost
        self._max_batch = max_batch
        self._works: dict[str, Work] = {}
        self.level = 0  # of the fidelity ladder, at which work begins now

    def __len__(self) -> int:
        return len(self._works)

    def __iter__(self) -> Iterator[Work]:
        return iter(self._works.values())

    def get(self, work_id: str) -> Work | None:
        return self._works.get(work_id)

    def add(self, work: Work) -> None:
        """Raises ValueError if that id is here already."""
        if work.work_id in self._works:
            raise ValueError(f"{work.work_id} is here already")
        self._works[work.work_id] = work

    def remove(self, work_id: str) -> Work | None:
        """Takes work out, ended or cancelled; None if it is not here."""
        return self._works.pop(work_id, None)

    def limit_batches(self) -> None:
        """Joint steps did not fit into memory: from now on, each work steps alone."""
        self._max_batch = 1

    def next(self, now: float) -> Turn | None:
        """The next piece of work, None when there is nothing to do."""
        if not self._works:
            return None
        work = self._choose(now)
        if not work.is_begun:
            return self._begin(work)
        if work.owes_preview:
            if not work.has_preview or self._has_time_to_refine(work):
                return Turn(Piece.PREVIEW, (work,))
            work.owes_preview = False
        if work.is_denoised:
            return Turn(Piece.DECODE, (self._may_decode(work),))
        together = self._companions(work)
        for other in together:
            if not other.is_begun:
                return self._begin(other)
        return Turn(Piece.STEP, together)

    def _may_decode(self, work: Work) -> Work:
        """This work, or one that holds a decoder's cache already, if `MAX_DECODING` works hold one."""
        if work.num_decoded:
            return work
        decoding = [other for other in self if other.num_decoded]
        return max(decoding, key=lambda other: other.num_decoded) if len(decoding) >= MAX_DECODING else work

    def _begin(self, work: Work) -> Turn:
        work.num_steps = self.cost.ladder[work.rung_index].num_steps[work.quality]
        return Turn(Piece.BEGIN, (work,))

    def ended(self, turn: Turn, seconds: float) -> None:
        """The turn was run and took `seconds`. A work whose last frames were decoded stays until `remove`."""
        for work in turn.works:
            match turn.piece:
                case Piece.BEGIN:
                    work.is_begun = True
                case Piece.STEP:
                    work.step_index += 1
                    work.owes_preview = work.wants_previews and work.step_index < work.num_steps
                case Piece.PREVIEW:
                    work.owes_preview, work.has_preview = False, True
                case Piece.DECODE:
                    work.num_decoded += 1

    def remaining_s(self, work: Work, level: int | None = None) -> float:
        """Predicted engine time until its clip is whole. `level` is the rung for work that has not begun."""
        unseen_s, rest_s = self.needs(work, work.rung_index if work.is_begun or level is None else level)
        return unseen_s + rest_s

    def needs(self, work: Work, rung_index: int) -> tuple[float, float]:
        """Seconds until its first preview, and from there until its clip is whole."""
        cost = self.cost
        if not work.is_begun:
            whole_s = cost.clip_s(rung_index, work.quality)
            preview_s = cost.preview_s(rung_index)
            if work.wants_previews:
                return preview_s, whole_s - preview_s
            return 0.0, whole_s - cost.seconds(Piece.PREVIEW, rung_index)
        steps_left = work.num_steps - work.step_index
        pieces_left = max(0, cost.num_pieces - work.num_decoded)
        rest_s = pieces_left * cost.seconds(Piece.DECODE, rung_index)
        step_s = cost.seconds(Piece.STEP, rung_index)
        if not work.is_unseen:
            return 0.0, rest_s + steps_left * step_s
        first = work.step_index == 0
        return first * step_s + cost.seconds(Piece.PREVIEW, rung_index), rest_s + (steps_left - first) * step_s

    def _choose(self, now: float) -> Work:
        raise NotImplementedError

    def _has_time_to_refine(self, work: Work) -> bool:
        """Whether the work may have another preview after its first: only if that delays no other work."""
        return len(self._works) == 1

    def _companions(self, work: Work) -> tuple[Work, ...]:
        """The work and those that share its step. `next` first begins those that have not begun."""
        return (work,)


def run_ahead(policy: Policy, now: float, work_id: str) -> tuple[float, float]:
    """(first preview, clip) of that work in seconds from now: runs the policy on a virtual clock, without new work."""
    began_at, preview_at = now, None
    while (turn := policy.next(now)) is not None:
        first = turn.works[0]
        seconds = policy.cost.seconds(turn.piece, first.rung_index, batch=len(turn.works))
        now += seconds
        policy.ended(turn, seconds)
        if turn.piece is Piece.PREVIEW and first.work_id == work_id and preview_at is None:
            preview_at = now
        if first.is_decoded(policy.cost.num_pieces):
            policy.remove(first.work_id)
            if first.work_id == work_id:
                break
    return (preview_at or now) - began_at, now - began_at

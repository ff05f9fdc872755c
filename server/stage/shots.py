"""Shots (idle scene, preview, clip) with their place in time, and the fade between two of them.

Only the stage makes them. A clip's shot plays it in rounds, with a seam if it does not close on itself. Pure.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.api import Frames
from server.stage.picture import FULL_WEIGHT, Clip, FirstShown, Footage, OnAir, Scene, Source, Still

# How long the tail of a clip that does not close on itself dissolves into its head.
SEAM_S = 0.35
# How long a preview dissolves from one of its few frames to the next, back and forth.
PREVIEW_FRAME_S = 0.25

# A preview whose in-between frames would be larger steps without dissolving.
MAX_PREVIEW_BYTES = 4 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Shot:
    """Something on air, with its place in time: `started_at` is the program's frame index of its first picture."""

    on_air: OnAir
    prompt_id: str | None
    started_at: int | None = field(default=None, init=False)
    _is_announced: bool = field(default=False, init=False)

    def at(self, frame_index: int) -> tuple[Source, int]:
        """Source and frame number due at a frame of the program."""
        raise NotImplementedError

    def announcement(self) -> FirstShown | None:
        """Says, once, that this shot is visible now."""
        if self.prompt_id is None or self._is_announced:
            return None
        self._is_announced = True
        return self._first_shown(self.prompt_id)

    def _first_shown(self, prompt_id: str) -> FirstShown:
        raise NotImplementedError

    def _age(self, frame_index: int) -> int:
        assert self.started_at is not None
        return frame_index - self.started_at


class IdleShot(Shot):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(OnAir.IDLE, None)

    def at(self, frame_index: int) -> tuple[Source, int]:
        return Scene.IDLE, frame_index


class PreviewShot(Shot):
    __slots__ = ("_footage", "_frames_per_step", "_step_index")

    def __init__(self, prompt_id: str, step_index: int, frames: Frames, frame_rate: int) -> None:
        super().__init__(OnAir.PREVIEW, prompt_id)
        self._step_index = step_index
        per_step = max(1, round(PREVIEW_FRAME_S * frame_rate))
        fits = frames.planes.nbytes * per_step <= MAX_PREVIEW_BYTES
        self._footage = Footage(_dissolved(frames, per_step) if fits else frames)
        self._frames_per_step = 1 if fits else per_step

    def at(self, frame_index: int) -> tuple[Source, int]:
        last = len(self._footage.frames) - 1
        if last < 1:
            return self._footage, 0
        position = self._age(frame_index) // self._frames_per_step % (2 * last)
        return self._footage, position if position <= last else 2 * last - position

    def _first_shown(self, prompt_id: str) -> FirstShown:
        return FirstShown(prompt_id, "preview", self._step_index)


@dataclass(frozen=True, slots=True)
class _Join:
    """Where a clip ends: its tail plays from `decided_at`, the following clip's second frame at `joined_at`.

    In frames of the program. The two differ only if the clip does not close on itself: its seam would begin there.
    """

    decided_at: int
    joined_at: int
    tail_position: int  # the position of `decided_at` in the clip's own time, counted over its rounds
    num_rounds: int
    following: ClipShot | None = None


class ClipShot(Shot):
    """A clip in its rounds. A position counts the clip's frames over all rounds, in the clip's own frame rate."""

    __slots__ = (
        "_after",
        "_clip_frame_rate",
        "_continuation",
        "_first_position",
        "_footage",
        "_frame_rate",
        "_num_mixed",
        "_num_once",
        "_num_rounds_before",
        "_seam",
        "join",
    )

    def __init__(self, clip: Clip, frame_rate: int, *, first_position: int = 0) -> None:
        super().__init__(OnAir.CLIP, clip.prompt_id)
        self.join: _Join | None = None
        self._after = clip.after
        self._clip_frame_rate = clip.frame_rate
        self._continuation = clip.continuation
        self._first_position = first_position
        self._frame_rate = frame_rate
        self._footage = Footage(clip.frames)
        self._num_rounds_before = 1
        num_frames = len(clip.frames)
        loops_openly = clip.after != "hold" and not clip.closes_on_itself
        # At most a third of the clip, so that most of a round is the clip itself.
        num_seam = min(round(SEAM_S * clip.frame_rate), num_frames // 3) if loops_openly else 0
        self._seam = Footage(Frames(np.empty_like(clip.frames.planes[:num_seam]))) if num_seam else None
        self._num_mixed = 0
        self._num_once = num_frames - num_seam

    def at(self, frame_index: int) -> tuple[Source, int]:
        position = self._position(frame_index)
        last = len(self._footage.frames) - 1
        if self._after == "hold":
            return self._footage, min(position, last)
        if self.join is not None and frame_index >= self.join.decided_at:
            return self._footage, min(self._num_once + position - self.join.tail_position, last)
        if self._seam is None:
            return self._footage, _closed_loop(position, self._num_once)
        return self._at_open_loop(position, self._seam)

    def set_next(self, following: ClipShot, frame_index: int) -> None:
        """Plays `following` after the round that is shown at `frame_index`."""
        join = self.next_join(frame_index)
        following._num_rounds_before = join.num_rounds
        self.join = replace(join, following=following)

    def next_join(self, frame_index: int) -> _Join:
        """The first join that is decided after `frame_index`."""
        # A closed loop restarts at its second frame, so all rounds but the first are a frame shorter. An open loop
        # skips the frames that its seam has shown; its join is decided where the seam would begin.
        num_seam = len(self._seam.frames) if self._seam is not None else 0
        first = self._num_once
        period = self._num_once if self._seam is not None else max(1, self._num_once - 1)
        num_rounds = max(0, (self._position(frame_index) - first) // period + 1)
        decided = first + num_rounds * period
        return _Join(self._frame_of(decided), self._frame_of(decided + num_seam), decided, num_rounds + 1)

    def _position(self, frame_index: int) -> int:
        return self._age(frame_index) * self._clip_frame_rate // self._frame_rate + self._first_position

    def _frame_of(self, position: int) -> int:
        """The program's frame index at which the position is shown first."""
        assert self.started_at is not None
        return self.started_at - (self._first_position - position) * self._frame_rate // self._clip_frame_rate

    def _at_open_loop(self, position: int, seam: Footage) -> tuple[Source, int]:
        # First round 0 .. once-1, seam; every later one starts after the frames that the seam has shown already.
        num_seam = len(seam.frames)
        if position >= self._num_once + num_seam:
            position = num_seam + (position - num_seam) % self._num_once
        if position >= self._num_once:
            self._mix_seam(seam, position - self._num_once)
            return seam, position - self._num_once
        return self._footage, position

    def _mix_seam(self, seam: Footage, frame_number: int) -> None:
        """Mixes the seam up to this frame: one a picture, 1 ms. All at the take would block the clock for 10 ms."""
        tail, head = self._footage.frames.planes[self._num_once :], self._footage.frames.planes
        for i in range(self._num_mixed, frame_number + 1):
            seam.frames.planes[i] = _mix(tail[i], head[i], (i + 1) / (len(seam.frames) + 1))
        self._num_mixed = max(self._num_mixed, frame_number + 1)

    def _first_shown(self, prompt_id: str) -> FirstShown:
        return FirstShown(prompt_id, "picture", None, self._continuation, self._num_rounds_before)


@dataclass(eq=False, slots=True)
class Fade:
    outgoing: Shot | Still
    started_at: int
    num_frames: int

    def weight_at(self, frame_index: int) -> int:
        """Weight of the incoming shot: above 0 in the first frame, full after `num_frames`."""
        weight = FULL_WEIGHT * (frame_index - self.started_at + 1) // (self.num_frames + 1)
        return min(FULL_WEIGHT, max(1, weight))

    def outgoing_at(self, frame_index: int) -> tuple[Source, int]:
        return (self.outgoing, 0) if isinstance(self.outgoing, Still) else self.outgoing.at(frame_index)


def _closed_loop(position: int, num_frames: int) -> int:
    """0 .. n-1, then 1 .. n-1 for ever: the last frame and the first show the same moment.

    The first is left out, because a decoder makes it from one latent frame alone, so it differs most.
    """
    num_rounds = max(1, num_frames - 1)
    return position if position < num_frames else min(1, num_frames - 1) + (position - 1) % num_rounds


def _dissolved(frames: Frames, num_steps: int) -> Frames:
    """The same frames with `num_steps - 1` mixtures between each two."""
    planes = frames.planes
    mixed = [
        _mix(before, after, step / num_steps)
        for before, after in itertools.pairwise(planes)
        for step in range(num_steps)
    ]
    return Frames(np.stack([*mixed, planes[-1]]))


def _mix(a: NDArray[np.uint8], b: NDArray[np.uint8], share_of_b: float) -> NDArray[np.uint8]:
    weight = round(share_of_b * FULL_WEIGHT)
    mixed = a.astype(np.uint16) * (FULL_WEIGHT - weight) + b.astype(np.uint16) * weight
    return ((mixed + FULL_WEIGHT // 2) // FULL_WEIGHT).astype(np.uint8)

"""What is on air at which frame of the program: idle scene, previews, clips, crossfades, loops, blank.

Pure and clocked: no I/O, no tasks, no time but the program's frame index. Commands (`show_preview`, `take`, ...) take
effect at the next `picture`. The session commands it, `server.media.program` asks it for pictures; both on the event
loop. The pixels are the compositor's business: a picture only names at most two layers and their weights.

A shot is one thing that is or was on air: the idle scene, one preview, one clip. The running shot is the idle scene or
the last clip taken; it goes on in time below a preview and below the blank.

    on air    show_preview   drop_preview   take   blank   resume
    idle      preview        -              clip   blank   -
    preview   preview        idle | clip    clip   blank   -
    clip      preview        -              clip   blank   -
    blank     (below)        (below)        (below) -      what ran below

A morph is a crossfade whose clip was generated from the picture that was on air when its generation was handed to the
engine. Meanwhile the stage moved on, so that a cut would jump; holding that picture until the clip is there would
freeze the program for as long as the engine takes. The dissolve starts from the picture that runs and leads into one
that was on air moments ago: the two share their scene, and differ by what moved since. Measured on a scene that drifts
by 2 levels of luma a frame and a clip that took a second: the cut steps by 48 levels, the dissolve of half a second by
at most 2 between two frames, which is the drift itself.

A scene that continues is joined where a round of the running clip ends (`follow`): the next clip was generated from
that last frame, so it plays on from there without a seam. If the next clip is late, the running one is shown for
another round, as a loop, and is joined at the end of that one: nothing freezes, and no join is ever anywhere else.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.api import Frames

# Layer weights are integers of this sum, so that the compositor's arithmetic is exact.
FULL_WEIGHT = 256
# Between previews, and from a preview back to the running shot.
PREVIEW_FADE_S = 0.2
# The tail of a clip that does not close on itself dissolves into its head for so long.
SEAM_S = 0.35
# A preview's few frames dissolve from one to the next in so long, back and forth.
PREVIEW_FRAME_S = 0.25
_serials = itertools.count()
# In-between frames of a preview are made while they fit; larger previews step without dissolving.
MAX_PREVIEW_BYTES = 4 * 1024 * 1024
# Interrupted crossfades freeze what they showed and fade from there; deeper nesting keeps the stronger layer only.
MAX_STILL_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Transition:
    """How a clip replaces what is on air. A crossfade or morph shorter than a frame is a cut."""

    kind: Literal["cut", "crossfade", "morph"]
    duration_s: float


@dataclass(eq=False, slots=True)
class Clip:
    """A finished clip. Its frames play at `frame_rate`, whatever the program's is."""

    prompt_id: str
    frames: Frames
    frame_rate: int
    closes_on_itself: bool
    after: Literal["loop", "continue", "hold"]
    continuation: int = 0  # 0 for the clip of a prompt, 1, 2, ... for those that its scene goes on with


class OnAir(StrEnum):
    IDLE = "idle"
    PREVIEW = "preview"
    CLIP = "clip"
    BLANK = "blank"


@dataclass(frozen=True, slots=True)
class FirstShown:
    """This picture is the first that shows a preview, or a finished clip (`picture`), of a prompt."""

    prompt_id: str
    kind: Literal["preview", "picture"]
    step_index: int | None
    continuation: int = 0  # which of the scene's clips, as in `Clip`
    num_rounds: int = 1  # rounds that the clip before it was shown; 1 in time, more if this one was late


class Scene(StrEnum):
    """Sources that the compositor paints itself. The idle scene's frame number is the program's frame index."""

    IDLE = "idle"
    BLANK = "blank"


@dataclass(eq=False, slots=True)
class Footage:
    """Frames as a source. Its identity is the compositor's cache key; `serial` names it to those who outlive it."""

    frames: Frames
    serial: int = field(default_factory=_serials.__next__, init=False)


@dataclass(eq=False, slots=True)
class Still:
    """A mixture frozen in mid-crossfade, as a source with one frame."""

    layers: tuple[Layer, ...]
    serial: int = field(default_factory=_serials.__next__, init=False)

    @property
    def depth(self) -> int:
        return 1 + max(layer.source.depth if isinstance(layer.source, Still) else 0 for layer in self.layers)


Source = Scene | Footage | Still


@dataclass(frozen=True, slots=True)
class Layer:
    source: Source
    frame_number: int
    weight: int  # of FULL_WEIGHT, above 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What one frame of the program shows: one or two layers whose weights sum to FULL_WEIGHT."""

    layers: tuple[Layer, ...]
    first_shown: tuple[FirstShown, ...] = ()
    is_cut: bool = False  # nothing in common with the picture before: a good place for a keyframe


class Stage:
    """One session's stage. See the module's table for what each command does."""

    def __init__(self, frame_rate: int) -> None:
        if frame_rate < 1:
            raise ValueError(f"expected a frame rate of at least 1, got {frame_rate}")
        self._frame_rate = frame_rate
        self._running: _Shot = _IdleShot()
        self._preview: _PreviewShot | None = None
        self._is_blank = False
        self._current: _Shot = self._running  # of the last picture; the others become current in `picture`
        self._next_fade_frames = 0
        self._fade: _Fade | None = None
        self._frame_index = -1
        self._layers: tuple[Layer, ...] = ()
        self._was_blank = False

    # --- commands -------------------------------------------------------------------------------------------------

    def show_preview(self, prompt_id: str, frames: Frames, step_index: int) -> None:
        """Put a preview on air, by a short crossfade. Ignored when that prompt's clip is on air already."""
        if isinstance(self._running, _ClipShot) and self._running.prompt_id == prompt_id:
            return
        before = self._preview
        self._preview = _PreviewShot(prompt_id, step_index, frames, self._frame_rate)
        if before is not None and before.prompt_id == prompt_id:
            self._preview.started_at = before.started_at  # the next preview goes on where the last one was
        self._next_fade_frames = self._num_frames(PREVIEW_FADE_S)

    def drop_preview(self, prompt_id: str) -> None:
        """Go back to the running shot if a preview of this prompt is on air."""
        if self._preview is not None and self._preview.prompt_id == prompt_id:
            self._preview = None
            self._next_fade_frames = self._num_frames(PREVIEW_FADE_S)

    def take(self, clip: Clip, transition: Transition) -> None:
        """Make the clip the running shot; it starts at its first frame in the next picture."""
        if len(clip.frames) < 1 or clip.frame_rate < 1:
            raise ValueError(f"expected frames and a frame rate, got {len(clip.frames)} frames at {clip.frame_rate}")
        self._running = _ClipShot(clip, self._frame_rate)
        self._preview = None
        self._next_fade_frames = 0 if transition.kind == "cut" else self._num_frames(transition.duration_s)

    def follow(self, clip: Clip) -> bool:
        """Go on with `clip` where the running clip's round ends; its first frame, which equals the last, is left out.

        False, and nothing happens, if no clip of this prompt runs or has been seen: it was replaced meanwhile.
        """
        running = self._running
        if not isinstance(running, _ClipShot) or running.prompt_id != clip.prompt_id or running.started_at is None:
            return False
        running.be_followed_by(_ClipShot(clip, self._frame_rate, first_position=1), self._frame_index)
        return True

    def blank(self) -> None:
        """Black at once; what is on air goes on below it."""
        self._is_blank = True

    def resume(self) -> None:
        """Show at once what runs below the blank."""
        self._is_blank = False

    # --- what is on air -------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What the last picture showed, or would have but for a blank."""
        return self._layers or (Layer(Scene.IDLE, 0, FULL_WEIGHT),)

    @property
    def last_picture(self) -> Picture:
        """What the last picture showed, a blank included."""
        return Picture((Layer(Scene.BLANK, 0, FULL_WEIGHT),) if self._was_blank else self.layers)

    @property
    def has_clip(self) -> bool:
        """Whether a clip was taken, be it on air or below a preview or the blank."""
        return isinstance(self._running, _ClipShot)

    def seconds_to_join(self, at_least_s: float = 0.0) -> float:
        """Until the first moment, after so long, by which `follow` is in time; `at_least_s` without a clip."""
        if not isinstance(self._running, _ClipShot) or self._running.started_at is None:
            return at_least_s
        earliest = self._frame_index + math.ceil(at_least_s * self._frame_rate)
        return (self._running.next_join(earliest).decided_at - self._frame_index) / self._frame_rate

    @property
    def on_air(self) -> tuple[OnAir, str | None]:
        """What the next picture shows, and of which prompt."""
        if self._is_blank:
            return OnAir.BLANK, None
        return self._target.on_air, self._target.prompt_id

    def picture(self, frame_index: int) -> Picture:
        """What is due at a frame of the program. Indices only grow; gaps are frames that were never shown."""
        if frame_index <= self._frame_index:
            raise ValueError(f"expected a frame index above {self._frame_index}, got {frame_index}")
        self._join(frame_index)
        is_cut = self._begin_target(frame_index)
        self._frame_index = frame_index
        if self._fade is not None and self._fade.weight_at(frame_index) >= FULL_WEIGHT:
            self._fade = None
        self._layers = self._layers_at(frame_index)
        was_blank, self._was_blank = self._was_blank, self._is_blank
        if self._is_blank:
            return Picture((Layer(Scene.BLANK, 0, FULL_WEIGHT),), is_cut=not was_blank)
        return Picture(self._layers, self._announced(), is_cut=is_cut or was_blank)

    # --- how it gets there ----------------------------------------------------------------------------------------

    @property
    def _target(self) -> _Shot:
        return self._preview or self._running

    def _num_frames(self, duration_s: float) -> int:
        return max(0, round(duration_s * self._frame_rate))

    def _join(self, frame_index: int) -> None:
        """The clip that follows takes the running one's place everywhere, even within a fade: they share a picture."""
        running = self._running
        if not isinstance(running, _ClipShot) or running.join is None or frame_index < running.join.joined_at:
            return
        following = running.join.following
        assert following is not None
        following.started_at = running.join.joined_at
        self._running = following
        if self._current is running:
            self._current = following
        if self._fade is not None and self._fade.outgoing is running:
            self._fade.outgoing = following

    def _begin_target(self, frame_index: int) -> bool:
        """Start what was commanded since the last picture. True if the picture changes at once."""
        target = self._target
        if target is self._current:
            return False
        if target.started_at is None:
            target.started_at = frame_index
        outgoing = self._outgoing()
        self._current = target
        # Nobody sees a fade below the blank: what is resumed is the shot itself.
        is_cut = self._next_fade_frames == 0 or self._is_blank or not self._layers
        self._fade = None if is_cut else _Fade(outgoing, frame_index, self._next_fade_frames)
        return is_cut

    def _outgoing(self) -> _Shot | Still:
        """What a crossfade that begins now leaves: the current shot, or the mixture that an unfinished one showed.

        Mixing three things would break the two-layer rule, and starting from one of the two would jump. Frozen, the
        mixture fades out from exactly the picture that was last on air.
        """
        if self._fade is None:
            return self._current
        still = Still(self._layers)
        if still.depth <= MAX_STILL_DEPTH:
            return still
        strongest = max(self._layers, key=lambda layer: layer.weight)
        if isinstance(strongest.source, Still):
            return strongest.source
        return Still((Layer(strongest.source, strongest.frame_number, FULL_WEIGHT),))

    def _layers_at(self, frame_index: int) -> tuple[Layer, ...]:
        source, frame_number = self._current.at(frame_index)
        if self._fade is None:
            return (Layer(source, frame_number, FULL_WEIGHT),)
        weight = self._fade.weight_at(frame_index)
        out_source, out_number = self._fade.outgoing_at(frame_index)
        return (Layer(out_source, out_number, FULL_WEIGHT - weight), Layer(source, frame_number, weight))

    def _announced(self) -> tuple[FirstShown, ...]:
        outgoing = self._fade.outgoing if self._fade is not None else None
        visible = [shot for shot in (outgoing, self._current) if isinstance(shot, _Shot)]
        events = [shot.announcement() for shot in visible]
        return tuple(event for event in events if event is not None)


# --- shots --------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Shot:
    """Something on air, with its place in time: `started_at` is the program's frame index of its first picture."""

    on_air: OnAir
    prompt_id: str | None
    started_at: int | None = field(default=None, init=False)
    _is_announced: bool = field(default=False, init=False)

    def at(self, frame_index: int) -> tuple[Source, int]:
        """Source and frame number due at a frame of the program."""
        raise NotImplementedError

    def announcement(self) -> FirstShown | None:
        """Once: that this shot is visible now."""
        if self.prompt_id is None or self._is_announced:
            return None
        self._is_announced = True
        return self._first_shown(self.prompt_id)

    def _first_shown(self, prompt_id: str) -> FirstShown:
        raise NotImplementedError

    def _age(self, frame_index: int) -> int:
        assert self.started_at is not None
        return frame_index - self.started_at


class _IdleShot(_Shot):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(OnAir.IDLE, None)

    def at(self, frame_index: int) -> tuple[Source, int]:
        return Scene.IDLE, frame_index


class _PreviewShot(_Shot):
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
    """Where a clip ends: from `decided_at` on its tail is shown, and at `joined_at` the following clip's second frame.

    In frames of the program. The two differ only if the clip does not close on itself, where the seam would begin.
    """

    decided_at: int
    joined_at: int
    tail_position: int  # what position `decided_at` is in the clip's own time, counted over its rounds
    num_rounds: int
    following: _ClipShot | None = None


class _ClipShot(_Shot):
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

    def be_followed_by(self, following: _ClipShot, frame_index: int) -> None:
        """From the end of the round that is shown at `frame_index` on."""
        join = self.next_join(frame_index)
        following._num_rounds_before = join.num_rounds
        self.join = replace(join, following=following)

    def next_join(self, frame_index: int) -> _Join:
        """The first join that is decided after `frame_index`."""
        # A closed loop goes on at its second frame: all rounds but the first are a frame shorter. An open one leaves
        # out what its seam has shown, and is decided where the seam would begin.
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
        # First round 0 .. once-1, seam; every later one starts behind the frames that the seam has shown already.
        num_seam = len(seam.frames)
        if position >= self._num_once + num_seam:
            position = num_seam + (position - num_seam) % self._num_once
        if position >= self._num_once:
            self._mix_seam(seam, position - self._num_once)
            return seam, position - self._num_once
        return self._footage, position

    def _mix_seam(self, seam: Footage, frame_number: int) -> None:
        """Up to this frame: one a picture, 1 ms, since all at the take would hold up the clock for ten times that."""
        tail, head = self._footage.frames.planes[self._num_once :], self._footage.frames.planes
        for i in range(self._num_mixed, frame_number + 1):
            seam.frames.planes[i] = _mix(tail[i], head[i], (i + 1) / (len(seam.frames) + 1))
        self._num_mixed = max(self._num_mixed, frame_number + 1)

    def _first_shown(self, prompt_id: str) -> FirstShown:
        return FirstShown(prompt_id, "picture", None, self._continuation, self._num_rounds_before)


@dataclass(eq=False, slots=True)
class _Fade:
    outgoing: _Shot | Still
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

    The first is the one left out, because a decoder makes it from a latent frame alone, and it differs the most.
    """
    num_rounds = max(1, num_frames - 1)
    return position if position < num_frames else min(1, num_frames - 1) + (position - 1) % num_rounds


# --- frames made here (small ones: a clip in the model's size, a preview) -----------------------------------------


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

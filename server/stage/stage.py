"""Decides what is on air at each frame of the program: idle scene, previews, clips, crossfades, loops, blank.

Pure: no I/O, no tasks, and no clock but the program's frame index. Commands (`show_preview`, `take`, ...) take effect
at the next `picture`. The session sends commands and `server.media.program` asks for pictures, both on the event loop.
A picture names at most two layers and their weights; the compositor makes the pixels.

A shot is one thing that is or was on air: the idle scene, one preview, one clip. The running shot is the idle scene or
the last clip taken; it goes on in time below a preview and below the blank.

    on air    show_preview   drop_preview   take   blank   resume
    idle      preview        -              clip   blank   -
    preview   preview        idle | clip    clip   blank   -
    clip      preview        -              clip   blank   -
    blank     (below)        (below)        (below) -      what ran below

A morph is a crossfade to a clip that was generated from the picture on air when the engine got the command. The stage
has moved on since then, so a cut would jump. To hold that picture until the clip is finished would freeze the program
for as long as the engine takes. The dissolve leads from the running picture into one that was on air moments ago: both
show the same scene and differ only by what has moved. Measured on a scene that drifts by 2 levels of luma a frame and a
clip that took a second: the cut steps by 48 levels, the dissolve of half a second by at most 2 between two frames,
which is the drift itself.

`follow` joins a scene's next clip where a round of the running clip ends. The next clip was generated from that last
frame, so it plays on without a seam. If it is late, the running clip loops for another round and is joined at the end
of that one. So nothing freezes, and clips are joined nowhere else.
"""

from __future__ import annotations

import math

from engine.api import Frames
from server.stage.picture import FULL_WEIGHT, Clip, FirstShown, Layer, OnAir, Picture, Scene, Still, Transition
from server.stage.shots import ClipShot, Fade, IdleShot, PreviewShot, Shot

# The fade between previews, and from a preview back to the running shot.
PREVIEW_FADE_S = 0.2
# Interrupted crossfades freeze what they showed and fade from there; deeper nesting keeps the stronger layer only.
MAX_STILL_DEPTH = 3


class Stage:
    """One session's stage. See the module's table for what each command does."""

    def __init__(self, frame_rate: int) -> None:
        if frame_rate < 1:
            raise ValueError(f"expected a frame rate of at least 1, got {frame_rate}")
        self._frame_rate = frame_rate
        self._running: Shot = IdleShot()
        self._preview: PreviewShot | None = None
        self._is_blank = False
        self._current: Shot = self._running  # of the last picture; the others become current in `picture`
        self._next_fade_frames = 0
        self._fade: Fade | None = None
        self._frame_index = -1
        self._layers: tuple[Layer, ...] = ()
        self._was_blank = False

    # --- commands -------------------------------------------------------------------------------------------------

    def show_preview(self, prompt_id: str, frames: Frames, step_index: int) -> None:
        """Put a preview on air, by a short crossfade. Ignored when that prompt's clip is on air already."""
        if isinstance(self._running, ClipShot) and self._running.prompt_id == prompt_id:
            return
        before = self._preview
        self._preview = PreviewShot(prompt_id, step_index, frames, self._frame_rate)
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
        self._running = ClipShot(clip, self._frame_rate)
        self._preview = None
        self._next_fade_frames = 0 if transition.kind == "cut" else self._num_frames(transition.duration_s)

    def follow(self, clip: Clip) -> bool:
        """Play `clip` after the running clip's round, without its first frame, which equals the last one shown.

        Returns False and does nothing if the running shot is not a clip of this prompt, or was not shown yet.
        """
        running = self._running
        if not isinstance(running, ClipShot) or running.prompt_id != clip.prompt_id or running.started_at is None:
            return False
        running.set_next(ClipShot(clip, self._frame_rate, first_position=1), self._frame_index)
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
        """What the last picture showed, or would have shown without a blank."""
        return self._layers or (Layer(Scene.IDLE, 0, FULL_WEIGHT),)

    @property
    def last_picture(self) -> Picture:
        """What the last picture showed, a blank included."""
        return Picture((Layer(Scene.BLANK, 0, FULL_WEIGHT),) if self._was_blank else self.layers)

    @property
    def has_clip(self) -> bool:
        """Whether a clip was taken, even if it runs below a preview or the blank."""
        return isinstance(self._running, ClipShot)

    def seconds_to_join(self, at_least_s: float = 0.0) -> float:
        """Time until the first join that is at least `at_least_s` away; `at_least_s` without a clip."""
        if not isinstance(self._running, ClipShot) or self._running.started_at is None:
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
        """The picture due at a frame of the program. Indices only grow; gaps are frames that were never shown."""
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
    def _target(self) -> Shot:
        return self._preview or self._running

    def _num_frames(self, duration_s: float) -> int:
        return max(0, round(duration_s * self._frame_rate))

    def _join(self, frame_index: int) -> None:
        """Replaces the running clip by the next one everywhere, even within a fade, since they share a picture."""
        running = self._running
        if not isinstance(running, ClipShot) or running.join is None or frame_index < running.join.joined_at:
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
        # A fade below the blank is invisible, so `resume` shows the shot itself.
        is_cut = self._next_fade_frames == 0 or self._is_blank or not self._layers
        self._fade = None if is_cut else Fade(outgoing, frame_index, self._next_fade_frames)
        return is_cut

    def _outgoing(self) -> Shot | Still:
        """What a crossfade that begins now fades out: the current shot, or the frozen mixture of an unfinished fade.

        Mixing three sources would break the two-layer rule, and starting from one of the two would jump. The frozen
        mixture is exactly the picture that was last on air.
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
        visible = [shot for shot in (outgoing, self._current) if isinstance(shot, Shot)]
        events = [shot.announcement() for shot in visible]
        return tuple(event for event in events if event is not None)

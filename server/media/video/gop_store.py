"""Keeps encoded GOPs and replays them when a loop shows the same pictures again, without encoding.

A GOP is the frames from one keyframe to before the next. The store keeps each encoded GOP by the `identity` of its
pictures, and decides where keyframes stand. When a keyframe is due and a kept GOP begins with the due picture, that GOP
is replayed with new timestamps. A picture that it does not hold (a take, a caption, the blank) ends the replay, and the
encoder goes on with a keyframe. A replay also begins when the first picture of a kept GOP is due after the same picture
as before (a clip of 12 frames a second shows each one twice). So only changed pictures are encoded, and up to a GOP
around them. The store knows no loops: the second round of any repetition finds the GOPs of the first, if whole GOPs
fill the round, else a later round does.

Owned by the program, one for each rendition, on the event loop. Bound: `max_bytes` of payloads; the GOP that was not
used for the longest is dropped first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from server.media.video.encoder import EncodedFrame

# Half a minute of a program at its ceiling of 2 Mbit/s, four times that at what calm scenes take.
MAX_BYTES = 8 * 1024 * 1024


@dataclass(eq=False, slots=True)
class _Gop:
    before: Hashable  # what was shown before its first frame
    identities: list[Hashable] = field(default_factory=list)
    frames: list[EncodedFrame] = field(default_factory=list)
    num_bytes: int = 0

    def append(self, identity: Hashable, frame: EncodedFrame) -> None:
        self.identities.append(identity)
        self.frames.append(frame)
        self.num_bytes += frame.size_bytes


class GopStore:
    """See the module. For each frame of the program call `replay`; if that gives None, encode and `record`."""

    def __init__(self, gop_frames: int, *, max_bytes: int = MAX_BYTES) -> None:
        self._gop_frames = gop_frames
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, _Gop] = OrderedDict()
        self._kept_bytes = 0
        self._recording: _Gop | None = None  # None: the encoder is not in the middle of a GOP
        self._playing: _Gop | None = None
        self._position = 0
        self._shown: Hashable = None  # the last picture
        self._before: Hashable = None  # the one before it

    @property
    def kept_bytes(self) -> int:
        return self._kept_bytes

    @property
    def next_is_keyframe(self) -> bool:
        """Whether the frame that is encoded next must be a keyframe. Valid after `replay` gave None."""
        return self._recording is None or len(self._recording.frames) >= self._gop_frames

    def replay(self, identity: Hashable | None, *, wants_keyframe: bool = False) -> EncodedFrame | None:
        """The kept frame to send now for a picture, or None if it has to be encoded.

        `identity` is None for a unique picture. `wants_keyframe`: a viewer cannot go on without a keyframe.
        """
        self._before, self._shown = self._shown, identity
        playing, self._playing = self._playing, None
        if identity is None:
            return None
        is_inside = playing is not None and self._position < len(playing.frames)
        if playing is not None and is_inside and not wants_keyframe and playing.identities[self._position] == identity:
            return self._play_next(playing)
        is_due = wants_keyframe or playing is not None or self.next_is_keyframe
        if is_due:
            self._keep_recording()  # a still picture repeats the GOP recorded just now
        kept = self._kept.get(identity)
        if kept is None or not (is_due or kept.before == self._before):
            return None
        self._kept.move_to_end(identity)
        self._keep_recording()
        self._recording = None  # this ends the encoder's own GOP: after the replay it needs a keyframe
        self._position = 0
        return self._play_next(kept)

    def record(self, identity: Hashable | None, frame: EncodedFrame) -> None:
        """Keep an encoded frame. Call it in the order of the program."""
        if frame.is_keyframe:
            self._keep_recording()
            self._recording = _Gop(self._before)
        if self._recording is not None:
            self._recording.append(identity, frame)

    def skip(self) -> None:
        """A frame of the program was left out. The encoder never saw it, but a replayed GOP would refer to it."""
        self._playing = None

    def interrupt(self) -> None:
        """Frames were or will be lost: the next one must be a keyframe, replayed or encoded."""
        self._recording = None
        self._playing = None

    # --- inside ---------------------------------------------------------------------------------------------------

    def _play_next(self, gop: _Gop) -> EncodedFrame:
        self._playing = gop
        frame = gop.frames[self._position]
        self._position += 1
        return frame

    def _keep_recording(self) -> None:
        gop = self._recording
        if gop is None or not gop.frames or gop.identities[0] is None:
            return
        first = gop.identities[0]
        replaced = self._kept.get(first)
        if replaced is not None and len(replaced.frames) > len(gop.frames):
            return  # the longer one costs fewer keyframes
        if replaced is not None:
            self._kept_bytes -= replaced.num_bytes
        self._kept[first] = gop
        self._kept.move_to_end(first)
        self._kept_bytes += gop.num_bytes
        while self._kept_bytes > self._max_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.num_bytes

"""Hands one program's frames to all takers: viewers, recordings and other subscribers.

`server.media.program` puts in the frames of each rendition; each taker gets those of its own rendition. Runs on the
event loop.

A new taker gets the frames since its rendition's last keyframe at once, with their own timestamps, so that it has a
picture without waiting. It changes to another rendition at a keyframe of that one. If a viewer asks for a keyframe
(PLI, FIR), all viewers of its rendition get a new one, at most one a second. The program is never rewound, because some
receivers ask every two seconds for no reason.

Drop rule: when a taker's queue is full, it is emptied, the following frames are dropped up to the next keyframe, and
the taker asks for that keyframe.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.media.video.encoder import EncodedFrame
from server.media.video.rendition import Rendition

MIN_KEYFRAME_REQUEST_INTERVAL_S = 1.0


class SubscriptionClosed(Exception):
    """The viewer is gone, or the program is."""


@dataclass(frozen=True, slots=True)
class FanoutStatistics:
    frames_dropped: int  # all takers together, also those that are gone
    keyframe_requests: int
    keyframes_forced: int
    bytes_queued_for_viewers: int  # handed to the viewers' queues


class Taker(ABC):
    """Takes frames, in one rendition at a time. Subclasses define how they queue and what they drop."""

    def __init__(self, rendition: Rendition, *, is_viewer: bool = True) -> None:
        self.rendition = rendition
        self.is_viewer = is_viewer
        self.next_rendition: Rendition | None = None  # from its next keyframe on

    @abstractmethod
    def take(self, frame: EncodedFrame) -> int:
        """Queue a frame, or not; returns how many frames this drops."""

    @abstractmethod
    def close(self) -> None:
        """The program is closed and gives no more frames. Idempotent."""

    def change_to(self, rendition: Rendition) -> None:
        """Take the frames of another rendition as soon as it has a keyframe; until then those of the present one."""
        self.next_rendition = rendition if rendition != self.rendition else None

    def pick(self, frames: Mapping[Rendition, EncodedFrame]) -> EncodedFrame | None:
        """This taker's rendition of one frame of the program."""
        if self.next_rendition is not None:
            frame = frames.get(self.next_rendition)
            if frame is not None and frame.is_keyframe:
                self.rendition, self.next_rendition = self.next_rendition, None
        return frames.get(self.rendition)


@dataclass(slots=True)
class _Line:
    """The state of one rendition's stream of frames."""

    since_keyframe: list[EncodedFrame] = field(default_factory=list)
    wants_keyframe: bool = True
    last_forced_at: float = float("-inf")


class Fanout:
    """Hands every frame to every taker, and keeps the frames that a new one starts with. Takers begin with `best`."""

    def __init__(self, best: Rendition, max_queued_frames: int) -> None:
        self.best = best
        self._max_queued_frames = max_queued_frames
        self._takers: dict[Taker, None] = {}  # in order, so that no run differs from another
        self._lines: dict[Rendition, _Line] = {}
        self._frames_dropped = self._keyframe_requests = self._keyframes_forced = self._bytes_queued = 0

    @property
    def num_takers(self) -> int:
        return len(self._takers)

    @property
    def wanted(self) -> list[Rendition]:
        """The renditions that a taker uses or is about to change to."""
        renditions = dict.fromkeys(taker.rendition for taker in self._takers)
        renditions |= dict.fromkeys(taker.next_rendition for taker in self._takers if taker.next_rendition is not None)
        return list(renditions)

    def subscribe(self, rendition: Rendition | None = None, *, is_viewer: bool = True) -> Subscription:
        """A queue to take frames from, which already holds those since the last keyframe."""
        subscription = Subscription(self, rendition or self.best, self._max_queued_frames, is_viewer=is_viewer)
        self.add(subscription)
        return subscription

    def add(self, taker: Taker) -> None:
        for frame in self._line(taker.rendition).since_keyframe:
            self._hand_over(taker, frame)
        self._takers[taker] = None

    def remove(self, taker: Taker) -> None:
        self._takers.pop(taker, None)

    def put(self, frames: Mapping[Rendition, EncodedFrame]) -> None:
        """Hand one frame of the program, in its renditions, to all takers. A missing rendition has a gap."""
        for rendition, frame in frames.items():
            line = self._line(rendition)
            if frame.is_keyframe:
                line.since_keyframe.clear()
                line.wants_keyframe = False
            if frame.is_keyframe or line.since_keyframe:
                line.since_keyframe.append(frame)
        for rendition in self._lines.keys() - frames.keys():
            del self._lines[rendition]  # nothing to start with until its next keyframe
        for taker in list(self._takers):
            if (picked := taker.pick(frames)) is not None:
                self._hand_over(taker, picked)

    def request_keyframe(self, rendition: Rendition | None = None) -> None:
        """A taker of this rendition cannot go on without a keyframe."""
        self._keyframe_requests += 1
        self._line(rendition or self.best).wants_keyframe = True

    def next_is_keyframe(self, now: float, rendition: Rendition | None = None) -> bool:
        """Whether the rendition's next frame must be a keyframe. True settles all pending requests."""
        line = self._line(rendition or self.best)
        if not line.wants_keyframe:
            return False
        if line.since_keyframe and now - line.last_forced_at < MIN_KEYFRAME_REQUEST_INTERVAL_S:
            return False
        line.wants_keyframe = False
        line.last_forced_at = now
        self._keyframes_forced += 1
        return True

    def forget(self) -> None:
        """Frames were or will be lost, so no viewer can start before the next keyframe."""
        self._lines.clear()

    def close(self) -> None:
        for taker in list(self._takers):
            taker.close()

    def statistics(self) -> FanoutStatistics:
        return FanoutStatistics(
            self._frames_dropped, self._keyframe_requests, self._keyframes_forced, self._bytes_queued
        )

    def _line(self, rendition: Rendition) -> _Line:
        return self._lines.setdefault(rendition, _Line())

    def _hand_over(self, taker: Taker, frame: EncodedFrame) -> None:
        num_dropped = taker.take(frame)
        self._frames_dropped += num_dropped
        if num_dropped > 1:  # its queue was emptied just now
            self.request_keyframe(taker.rendition)
        if num_dropped == 0 and taker.is_viewer:
            self._bytes_queued += frame.size_bytes


class Subscription(Taker):
    """A queue that one task takes frames from; see the module for its drop rule. Bound: `max_frames`."""

    def __init__(self, fanout: Fanout, rendition: Rendition, max_frames: int, *, is_viewer: bool = True) -> None:
        super().__init__(rendition, is_viewer=is_viewer)
        self._fanout = fanout
        self._max_frames = max_frames
        self._frames: deque[EncodedFrame] = deque()
        self._needs_keyframe = True
        self._is_closed = False
        self._changed = asyncio.Event()
        self.frames_dropped = 0

    @property
    def num_queued(self) -> int:
        return len(self._frames)

    async def next(self) -> EncodedFrame:
        """The next frame for this viewer. Raises `SubscriptionClosed`. Cancelling it loses nothing."""
        while not self._frames:
            if self._is_closed:
                raise SubscriptionClosed
            self._changed.clear()
            await self._changed.wait()
        return self._frames.popleft()

    def close(self) -> None:
        self._is_closed = True
        self._frames.clear()
        self._changed.set()
        self._fanout.remove(self)

    def take(self, frame: EncodedFrame) -> int:
        num_dropped = 0
        if len(self._frames) >= self._max_frames:
            num_dropped = len(self._frames)
            self._frames.clear()
            self._needs_keyframe = True
        if self._needs_keyframe and not frame.is_keyframe:
            num_dropped += 1
        else:
            self._needs_keyframe = False
            self._frames.append(frame)
            self._changed.set()
        self.frames_dropped += num_dropped
        return num_dropped

"""One program's packets to all its viewers: the packets since the last keyframe, and one bounded queue a viewer.

`server.media.program` puts encoded frames in; each viewer's track takes them out of its `Subscription`. Runs on the
event loop.

A viewer that joins gets the packets since the last keyframe at once, with their own timestamps, and has a picture
without waiting. Drop rule: when a viewer's queue is full it is emptied, and what follows is dropped up to the next
keyframe, which is asked for. A viewer that asks for a keyframe (PLI, FIR) gets a new one, as everyone does, at most
one a second: the program is never rewound, because some receivers ask every two seconds for no reason.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from server.media.encoder import EncodedFrame

MIN_KEYFRAME_REQUEST_INTERVAL_S = 1.0


class SubscriptionClosed(Exception):
    """The viewer is gone, or the program is."""


@dataclass(frozen=True, slots=True)
class FanoutStatistics:
    frames_dropped: int  # all viewers together, also those that are gone
    keyframe_requests: int
    keyframes_forced: int
    bytes_queued_for_viewers: int  # handed to the viewers' queues


class Fanout:
    """Hands every frame to every subscription; remembers what a new one starts with."""

    def __init__(self, max_queued_frames: int) -> None:
        self._max_queued_frames = max_queued_frames
        self._subscriptions: set[Subscription] = set()
        self._since_keyframe: list[EncodedFrame] = []
        self._wants_keyframe = True
        self._last_forced_at = float("-inf")
        self._frames_dropped = self._keyframe_requests = self._keyframes_forced = self._bytes_queued = 0

    @property
    def num_subscriptions(self) -> int:
        return len(self._subscriptions)

    def subscribe(self) -> Subscription:
        """A new viewer's queue, holding the packets since the last keyframe."""
        subscription = Subscription(self, self._max_queued_frames)
        for frame in self._since_keyframe:
            self._hand_over(subscription, frame)
        self._subscriptions.add(subscription)
        return subscription

    def put(self, frame: EncodedFrame) -> None:
        """Hand an encoded frame to everyone."""
        if frame.is_keyframe:
            self._since_keyframe.clear()
            self._wants_keyframe = False
        if frame.is_keyframe or self._since_keyframe:
            self._since_keyframe.append(frame)
        for subscription in self._subscriptions:
            self._hand_over(subscription, frame)

    def request_keyframe(self) -> None:
        """A viewer cannot go on without a keyframe."""
        self._keyframe_requests += 1
        self._wants_keyframe = True

    def next_is_keyframe(self, now: float) -> bool:
        """Whether the frame encoded next must be a keyframe. True answers all the requests there are."""
        if not self._wants_keyframe:
            return False
        if self._since_keyframe and now - self._last_forced_at < MIN_KEYFRAME_REQUEST_INTERVAL_S:
            return False
        self._wants_keyframe = False
        self._last_forced_at = now
        self._keyframes_forced += 1
        return True

    def forget(self) -> None:
        """The frames in between were or will be lost: nothing to start a viewer with until the next keyframe."""
        self._since_keyframe.clear()
        self._wants_keyframe = True

    def close(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.close()

    def statistics(self) -> FanoutStatistics:
        return FanoutStatistics(
            self._frames_dropped, self._keyframe_requests, self._keyframes_forced, self._bytes_queued
        )

    def _hand_over(self, subscription: Subscription, frame: EncodedFrame) -> None:
        num_dropped = subscription._put(frame)
        self._frames_dropped += num_dropped
        if num_dropped > 1:  # its queue was emptied just now
            self.request_keyframe()
        if num_dropped == 0:
            self._bytes_queued += frame.size_bytes

    def _remove(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)


class Subscription:
    """One viewer's queue. One task takes from it; see the module for its bound and drop rule."""

    def __init__(self, fanout: Fanout, max_frames: int) -> None:
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
        self._fanout._remove(self)

    def _put(self, frame: EncodedFrame) -> int:
        """Queue a frame, or not; returns how many frames this drops."""
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

"""What protects the server from one controller: token buckets inbound, a bounded numbered queue outbound.

Bookkeeping on the event loop. The doors' readers ask the buckets through an `Intake`. A connection's writer empties the
`Outbox`, which `receipts.py` owns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from server.clock import Clock
from server.protocol.decoding import encode
from server.protocol.messages import PromptPreview, ServerMessage, StatsUpdated
from server.token_bucket import TokenBucket, take

# Replayed to a controller that comes back: 256 events are some 20 prompts with all their previews.
MAX_REPLAYED = 256
# A connection with more unread messages is aborted: 256 receipts are minutes of normal use.
MAX_PENDING = 256
# How many of these may be previews and stats; the oldest are dropped first.
MAX_PENDING_DROPPABLE = 32
# A peer of which so many messages were refused within so long is cut off. Only a script gone wild gets there, because
# each refusal already makes it wait.
MAX_REFUSED = 100
REFUSED_WITHIN_S = 10.0
# A reader of a full buffer never suspends by itself; after so many frames, some milliseconds, the other tasks are next.
FRAMES_PER_TURN = 32


class ConnectionLimits:
    """The buckets of one controller: of a session over all its connections, and of a connection without one.

    Thirty prompts in three seconds pass; a script gone wild does not.
    """

    def __init__(self, clock: Clock) -> None:
        self.messages = TokenBucket(rate=50, burst=200, clock=clock)
        self.prompts = TokenBucket(rate=10, burst=40, clock=clock)


class Intake:
    """The pace at which one connection is read. While it waits, the kernel's buffers fill, and TCP slows the sender.

    `shared`: buckets that other connections of the same key, client secret or address share.
    """

    def __init__(self, clock: Clock, *, shared: Sequence[TokenBucket] = ()) -> None:
        self._clock = clock
        self._shared = shared
        self._refused_at: deque[float] = deque(maxlen=MAX_REFUSED)
        self._num_frames = 0

    def take(self, bucket: TokenBucket) -> float:
        """0.0 if the frame that was read may pass, else the seconds to `rest` after its refusal."""
        wait_s = take((bucket, *self._shared))
        if wait_s > 0:
            self._refused_at.append(self._clock.now())
        return wait_s

    @property
    def is_flooded(self) -> bool:
        """Whether the peer should be cut off."""
        refused_at = self._refused_at
        return len(refused_at) == MAX_REFUSED and refused_at[-1] - refused_at[0] <= REFUSED_WITHIN_S

    async def rest(self, wait_s: float) -> None:
        """Call it before the next frame is read."""
        self._num_frames += 1
        if wait_s > 0:
            await self._clock.sleep_until(self._clock.now() + wait_s)
        elif self._num_frames % FRAMES_PER_TURN == 0:
            await asyncio.sleep(0)


class ReplayGap(Exception):
    """Some events after the controller's last one are no longer kept."""

    def __init__(self, oldest_seq: int) -> None:
        super().__init__(f"events before {oldest_seq} are no longer kept")
        self.oldest_seq = oldest_seq


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message on its way: numbered (`seq` >= 0) when the writer takes it."""

    message: ServerMessage
    can_drop: bool
    seq: int = -1


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    num_pending: int
    num_sent: int
    num_dropped: int


class Outbox:
    """A session's events in order, numbered without gaps, kept for replay.

    A message is numbered when it leaves, not when it is put, so a dropped message leaves no gap. Bound: at most
    `MAX_PENDING_DROPPABLE` unread previews and stats (oldest dropped first) and `MAX_PENDING` unread messages in all.
    Beyond that, `on_overflow` is called once per connection, and the oldest messages go to the replay buffer.
    """

    def __init__(self, session_id: str, *, wall_time: Callable[[], float], on_overflow: Callable[[], None]) -> None:
        self._session_id = session_id
        self._wall_time = wall_time
        self._on_overflow = on_overflow
        self._pending: deque[Outgoing] = deque()
        self._sent: deque[Outgoing] = deque(maxlen=MAX_REPLAYED)
        self._next_seq = 0
        self._num_dropped = 0
        self._is_closed = False
        self._has_overflowed = False
        self._changed = asyncio.Event()

    @property
    def last_seq(self) -> int:
        return self._next_seq - 1

    def put(self, message: ServerMessage) -> Outgoing:
        """Queues `message`; never blocks. `ts` is the time of this call."""
        stamped = msgspec.structs.replace(message, session_id=self._session_id, ts=self._wall_time())
        outgoing = Outgoing(stamped, can_drop=_can_drop(message))
        self._pending.append(outgoing)
        self._keep_bounds()
        self._changed.set()
        return outgoing

    def repeat(self, outgoing: Outgoing) -> None:
        """Sends a message again under its old number. Does nothing if it still waits to be sent."""
        if outgoing.seq >= 0:
            self._pending.append(outgoing)
            self._keep_bounds()
            self._changed.set()

    def replay_after(self, last_seq: int) -> None:
        """Puts the events after `last_seq` in front again. `ReplayGap` if some are missing; -1 accepts any gap."""
        oldest_seq = self._sent[0].seq if self._sent else self._next_seq
        if last_seq != -1 and last_seq + 1 < oldest_seq:
            raise ReplayGap(oldest_seq)
        unnumbered = [outgoing for outgoing in self._pending if outgoing.seq < 0]
        missed = [outgoing for outgoing in self._sent if outgoing.seq > last_seq]
        self._pending = deque([*missed, *unnumbered])
        self._has_overflowed = False
        self._changed.set()

    def close(self) -> None:
        """No more will be put. The writer sends the waiting messages and then gets None."""
        self._is_closed = True
        self._changed.set()

    async def next_text(self) -> str | None:
        """The next message as JSON, numbered; None at the end. One reader at a time; a cancelled call takes nothing."""
        while not self._pending:
            if self._is_closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        outgoing = self._pending.popleft()
        self._number(outgoing)
        return encode(outgoing.message)

    def statistics(self) -> OutboxStatistics:
        return OutboxStatistics(len(self._pending), self._next_seq, self._num_dropped)

    def _number(self, outgoing: Outgoing) -> None:
        if outgoing.seq >= 0:
            return
        outgoing.seq = self._next_seq
        outgoing.message = msgspec.structs.replace(outgoing.message, seq=outgoing.seq)
        self._next_seq += 1
        self._sent.append(outgoing)

    def _keep_bounds(self) -> None:
        droppable = [outgoing for outgoing in self._pending if outgoing.can_drop and outgoing.seq < 0]
        if len(droppable) > MAX_PENDING_DROPPABLE:
            self._pending.remove(droppable[0])
            self._num_dropped += 1
        # A replay of MAX_REPLAYED right after a resume is normal, so the first bound leaves it out.
        if sum(outgoing.seq < 0 for outgoing in self._pending) > MAX_PENDING or len(self._pending) > 2 * MAX_PENDING:
            self._number(self._pending.popleft())
            if not self._has_overflowed:
                self._has_overflowed = True
                self._on_overflow()


def _can_drop(message: ServerMessage) -> bool:
    return isinstance(message, StatsUpdated) or (isinstance(message, PromptPreview) and message.frame is None)

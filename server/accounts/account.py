"""One account: what a key, a client secret or an address takes, against its limits. Pure, with injected clocks.

`payer.py` asks several accounts at once. On the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from server.clock import Clock
from server.protocol.limits import Limits
from server.token_bucket import TokenBucket

DAY_S = 86_400
# Of windows kept in memory. Two suffice for a clock that is set back over midnight.
MAX_WINDOWS = 3
# So many seconds' worth of messages may come at once, as on a connection of its own.
_MESSAGES_AT_ONCE_S = 4.0
# Of engine seconds. Sums of floats are not exact.
_ROUNDING_S = 1e-6


def day_of(wall_time_s: float) -> int:
    """Days since 1970-01-01, in UTC."""
    return int(wall_time_s // DAY_S)


class Account:
    """Engine seconds count in windows: a day in UTC, or (`ends_at`) the one life of a client secret."""

    def __init__(
        self,
        title: str,
        limits: Limits,
        *,
        clock: Clock,
        wall_time: Callable[[], float],
        ends_at: float | None = None,
        spent_s: dict[int, float] | None = None,
        note: Callable[[int, float, int], None] = lambda window, seconds, generations: None,
    ) -> None:
        """`title`: how a refusal names it, as "the key `shop`". `spent_s`: by window, of earlier processes. `note` gets
        each change of what was spent: its window, seconds (also negative) and generations."""
        self.title = title
        self.limits = limits
        self.num_sessions = 0
        self.num_viewers = 0
        self.pixels_per_s = 0
        self.settled_s = 0.0  # by this process, for the metrics
        self._wall_time = wall_time
        self._ends_at = ends_at
        self._spent_s = spent_s if spent_s is not None else {}
        self._note = note
        self.connects = _bucket(limits.connects_per_min, clock, per_s=60.0)
        self.prompts = _bucket(limits.prompts_per_min, clock, per_s=60.0)
        self.messages = _bucket(limits.messages_per_s, clock, at_once_s=_MESSAGES_AT_ONCE_S)

    # --- engine seconds -------------------------------------------------------------------------------------------

    @property
    def window(self) -> int:
        """A clock that is set back over midnight finds the day before as it was left, and refills nothing."""
        return 0 if self._ends_at is not None else day_of(self._wall_time())

    @property
    def spent_s(self) -> float:
        """In this window, with what is reserved."""
        return self._spent_s.get(self.window, 0.0)

    def can_spend(self, seconds: float, *, returned_s: float = 0.0) -> bool:
        """`returned_s` of what is reserved will not be spent. A cost that is not known yet is 0."""
        most, spent_s = self.limits.engine_s, self.spent_s - returned_s
        return most is None or (spent_s < most and spent_s + seconds <= most + _ROUNDING_S)

    def spend(self, window: int, seconds: float, num_generations: int = 0) -> None:
        """Negative seconds give back what was reserved in vain."""
        self._spent_s[window] = max(0.0, self._spent_s.get(window, 0.0) + seconds)
        for oldest in sorted(self._spent_s)[:-MAX_WINDOWS]:
            del self._spent_s[oldest]
        self._note(window, seconds, num_generations)

    def ms_to_next_window(self) -> int | None:
        """None if there is none: the client secret has ended."""
        now = self._wall_time()
        ends_at = self._ends_at if self._ends_at is not None else (day_of(now) + 1) * DAY_S
        return math.ceil((ends_at - now) * 1000) if ends_at > now else None

    # --- at once --------------------------------------------------------------------------------------------------

    def full(self, *, sessions: int = 0, viewers: int = 0, pixels_per_s: int = 0) -> tuple[str, int] | None:
        """The first limit that so much more would exceed: its name and its value."""
        wanted = (
            ("sessions", sessions, self.num_sessions),
            ("viewers", viewers, self.num_viewers),
            ("pixels_per_s", pixels_per_s, self.pixels_per_s),
        )
        for name, more, now in wanted:
            most = getattr(self.limits, name)
            if more > 0 and most is not None and now + more > most:
                return name, most
        return None

    def take(self, *, sessions: int = 0, viewers: int = 0, pixels_per_s: int = 0) -> None:
        """Negative numbers give back."""
        self.num_sessions += sessions
        self.num_viewers += viewers
        self.pixels_per_s += pixels_per_s


def _bucket(
    rate: float | None, clock: Clock, *, per_s: float = 1.0, at_once_s: float | None = None
) -> TokenBucket | None:
    """Of `rate` events in `per_s` seconds. All of them may come at once, or those of `at_once_s`; at least one."""
    if rate is None:
        return None
    return TokenBucket(rate / per_s, max(1.0, rate / per_s * (at_once_s or per_s)), clock)

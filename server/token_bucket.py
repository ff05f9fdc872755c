"""A token bucket: so many at once, then so many a second. Bookkeeping with an injected clock."""

from __future__ import annotations

from collections.abc import Sequence

from server.clock import Clock

_ROUNDING = 1e-9


class TokenBucket:
    """`burst` at once, then `rate` per second."""

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._tokens = burst
        self._filled_at = clock.now()

    def wait_s(self) -> float:
        """Seconds until there is a token; 0.0 if there is one now."""
        now = self._clock.now()
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        # Who waited as long as we said gets one.
        return 0.0 if self._tokens >= 1 - _ROUNDING else (1 - self._tokens) / self.rate

    def take(self) -> float:
        """0.0 if one token was taken, else the seconds until there will be one."""
        return take((self,))

    def _take(self) -> None:
        self._tokens -= 1


def take(buckets: Sequence[TokenBucket]) -> float:
    """0.0 if one token of each was taken. Else none was, and the result is the seconds until all have one."""
    wait_s = max((bucket.wait_s() for bucket in buckets), default=0.0)
    if wait_s == 0.0:
        for bucket in buckets:
            bucket._take()
    return wait_s

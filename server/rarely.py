"""Log lines about what strangers or a full disk may repeat without end: one a minute, with their number."""

from __future__ import annotations

import logging
from collections.abc import Callable

from server.clock import Clock

_log = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0


class Rarely:
    """Logs a warning at most once in `LOG_INTERVAL_S`, with the number of those that it stands for."""

    def __init__(self, clock: Clock, log: Callable[..., None] = _log.warning) -> None:
        self._clock = clock
        self._log = log
        self._num_unlogged = 0
        self._next_at = clock.now()

    def __call__(self, text: str, *arguments: object) -> None:
        self._num_unlogged += 1
        now = self._clock.now()
        if now < self._next_at:
            return
        self._log(f"{text} (%s times since the last such line)", *arguments, self._num_unlogged)
        self._num_unlogged = 0
        self._next_at = now + LOG_INTERVAL_S

"""The log of requests that are not HTTP: one line each instead of a traceback, and at most ten a minute.

aiohttp logs a traceback of ten lines for each, before any check of ours, and any stranger may send thousands. `app.py`
adds this filter to aiohttp's log of a server. On the event loop.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

from server.clock import Clock
from server.token_bucket import TokenBucket

# Five at once and five a minute: at most ten in any minute.
_BURST = 5
_PER_S = 5 / 60


class BadRequestFilter(logging.Filter):
    """See the module. Other records pass as they are."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._lines = TokenBucket(_PER_S, _BURST, clock)
        self._num_left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        if self._lines.take() > 0:
            self._num_left_out += 1
            return False
        # Not the error's text, because that repeats the request, which may hold a token.
        told = f"{record.getMessage()}: no valid HTTP request ({type(error).__name__})"
        if self._num_left_out:
            told += f"; {self._num_left_out} more since the last line"
        self._num_left_out = 0
        record.msg, record.args, record.exc_info = f"- ! {told}", None, None
        return True

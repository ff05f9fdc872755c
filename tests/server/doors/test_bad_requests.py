"""Requests that are not HTTP cost a line of the log, not a traceback, and not a line each."""

from __future__ import annotations

import logging

import pytest
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from server.clock import FakeClock
from server.doors.bad_requests import BadRequestFilter


def _record(error: BaseException | None) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    text = "Error handling request from %s"
    return logging.LogRecord("aiohttp.server", logging.ERROR, __file__, 1, text, ("203.0.113.9",), info)


def test_a_bad_request_is_one_line_without_the_bytes_of_its_sender() -> None:
    record = _record(LineTooLong(b"GET /v1/realtime?token=0123456789abcdef", 8190))
    assert BadRequestFilter(FakeClock()).filter(record)
    told = logging.Formatter("%(message)s").format(record)
    assert told == "- ! Error handling request from 203.0.113.9: no valid HTTP request (LineTooLong)"


async def test_at_most_ten_bad_requests_a_minute_are_logged_and_the_others_counted() -> None:
    clock = FakeClock()
    only = BadRequestFilter(clock)
    passed = []
    for _ in range(600):
        record = _record(BadHttpMessage("x"))
        if only.filter(record):
            passed.append(record.getMessage())
        await clock.advance(0.1)
    assert 5 < len(passed) <= 10
    assert passed[-1].endswith("more since the last line")


@pytest.mark.parametrize("error", [RuntimeError("ours"), None])
def test_other_records_keep_their_traceback(error: BaseException | None) -> None:
    only = BadRequestFilter(FakeClock())
    for _ in range(20):
        record = _record(error)
        assert only.filter(record) and (record.exc_info is None) is (error is None)

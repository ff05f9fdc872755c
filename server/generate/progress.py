"""How far a long command is: a bar on a terminal, lines elsewhere. Writes to standard error, in the loop's thread."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

_BAR = "{percentage:3.0f}% {bar} {n:.1f} of {total} clips, {rate_fmt}, {elapsed} gone, {remaining} left"
_LINE = "{n:.0f} of {total} clips, {rate_fmt}, {elapsed} gone, {remaining} left"


class Progress:
    """Rate and time left count from `begin`; what was there before does not make them better."""

    def __init__(self, stream: TextIO, now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        self._is_terminal = stream.isatty()
        self._bar: tqdm[Any] | None = None
        self._total = self._initial = self._told = 0
        self._began_at = now()

    def say(self, text: str) -> None:
        with self.aside():
            self._stream.write(f"{text}\n")
            self._stream.flush()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the bar away while others write to the same terminal."""
        if self._bar is not None:
            self._bar.clear()
        yield
        if self._bar is not None:
            self._bar.refresh()

    def begin(self, total: int, initial: int) -> None:
        self._total, self._initial, self._told, self._began_at = total, initial, initial, self._now()
        if self._is_terminal:
            ncols, nrows = _size(self._stream)
            self._bar = tqdm(
                total=total,
                initial=initial,
                file=self._stream,
                unit="clip",
                bar_format=_BAR,
                ncols=ncols,
                nrows=nrows,
            )

    def show(self, done: float) -> None:
        """`done` of `total`, with parts of clips. A line is written for whole clips only."""
        if self._bar is not None:
            self._bar.n = done
            self._bar.ncols, self._bar.nrows = _size(self._stream)
            self._bar.refresh()
        elif int(done) > self._told:
            self._told = int(done)
            elapsed = self._now() - self._began_at
            self.say(
                tqdm.format_meter(
                    self._told, self._total, elapsed, unit="clip", bar_format=_LINE, initial=self._initial
                )
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _size(terminal: TextIO) -> tuple[int, int]:
    """Columns and lines now. A terminal that does not know them tells 0, and tqdm would then paint nothing."""
    try:
        told = os.get_terminal_size(terminal.fileno())
    except OSError:
        return 80, 24
    return told.columns or 80, told.lines or 24


class ProgressHandler(logging.Handler):
    """Log lines above the bar."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._progress.say(self.format(record))
        except Exception:  # as all handlers do: a log line must not end what it tells of
            self.handleError(record)

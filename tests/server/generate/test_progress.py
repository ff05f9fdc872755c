"""Progress on a terminal and elsewhere, and the rate that it tells."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import struct
import termios
from collections.abc import Iterator

import pytest

from server.generate.progress import Progress


class Now:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_elsewhere_each_whole_clip_is_a_line_with_rate_and_time_left() -> None:
    stream, now = io.StringIO(), Now()
    progress = Progress(stream, now)
    progress.say("loading the model")
    now.seconds += 60
    progress.begin(total=12, initial=2)
    for done in (2.0, 2.9, 3.0, 3.4, 4.1):
        now.seconds += 4
        progress.show(done)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "loading the model"
    assert [line.split(",")[0] for line in lines[1:]] == ["3 of 12 clips", "4 of 12 clips"]
    # Two clips in 20 s, eight are missing. Neither the model's loading nor earlier clips count.
    assert "10.00s/clip" in lines[2] and "00:20 gone" in lines[2] and "01:20 left" in lines[2]
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize("columns", [0, 100], ids=["a terminal that does not tell its size", "100 columns"])
def test_on_a_terminal_one_bar_is_painted_again_and_words_stand_above_it(columns: int) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30 if columns else 0, columns, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        progress = Progress(terminal, Now())
        progress.begin(total=4, initial=0)
        progress.show(1.5)
        progress.say("engine exited, starting again")
        progress.show(4)
        progress.close()
    painted = "".join(_chunks(ours))
    os.close(ours)
    assert "1.5 of 4 clips" in painted and "engine exited, starting again\r\n" in painted
    last = painted.rpartition("100%")[2]
    assert "4.0 of 4 clips" in last and last.endswith("\r\n")
    assert max(map(len, painted.replace("\n", "\r").split("\r"))) <= (columns or 80)


def _chunks(terminal: int) -> Iterator[str]:
    """What was painted, until the other end is closed, which Linux tells as an error."""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 1 << 16):
            yield chunk.decode("utf-8", "replace")

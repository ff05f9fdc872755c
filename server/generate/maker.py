"""What makes the clips: a server that runs (`remote.py`) or an engine of our own (`own_engine.py`). Values only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.generate.wanted import Wanted

# Clips that a maker holds at once, in the making or waiting. More would gain nothing, and fill a server's queue.
MOST_AT_ONCE = 16


class MakerError(Exception):
    """Nothing more can be made now. The message is for the user."""


@dataclass(frozen=True, slots=True)
class Made:
    """A finished clip: `file` is the maker's own, until `forget`."""

    wanted: Wanted
    video_id: str
    file: Path
    seed: int
    seconds: float
    engine_s: float
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A clip that will not come. `video_id` is empty if the maker did not take it."""

    wanted: Wanted
    video_id: str
    code: str
    message: str


Outcome = Made | Failed


class Maker(Protocol):
    """On the event loop. `open` it first; `close` in any case."""

    async def open(self) -> str:
        """Who makes the clips, for the user. Returns when it can. Raises `MakerError`."""
        ...

    def outcomes(self, wanted: Sequence[Wanted]) -> AsyncGenerator[Outcome, None]:
        """One for each clip, as they come. Closing it leaves what is begun for the next run. Raises `MakerError`."""
        ...

    async def forget(self, outcome: Outcome) -> None:
        """The clip is where the user wants it, or has failed: a next run then makes it anew."""
        ...

    @property
    def done_of_unfinished(self) -> float:
        """How much of the clips in the making is done, in clips."""
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...

"""The table of generations and their owners."""

from __future__ import annotations

import pytest

from engine.api import (
    GenerationCancelled,
    GenerationEnd,
    GenerationEvent,
    GenerationFailed,
    GenerationFinished,
    StepFinished,
    Timings,
)
from server.session.generations import Generations


class Job:
    """An owner that is no session."""

    owner_id = "job_1"

    def on_generation_event(self, event: GenerationEvent) -> None: ...

    async def close(self, reason: str) -> None: ...


def test_an_event_finds_the_owner_of_its_generation() -> None:
    generations, first, second = Generations(), Job(), Job()
    generations.add("a", first)
    generations.add("b", second)
    assert generations.owner_of(StepFinished("a", 0, 4)) is first
    assert generations.owner_of(StepFinished("b", 0, 4)) is second
    assert generations.owner_of(StepFinished("c", 0, 4)) is None


@pytest.mark.parametrize(
    "end",
    [
        GenerationFinished("a", 4, Timings(0, 0, 0, 0, 0)),
        GenerationCancelled("a", 1),
        GenerationFailed("a", "model_error", "x", retryable=False),
    ],
    ids=lambda end: type(end).__name__,
)
def test_an_end_reaches_its_owner_and_removes_the_generation(end: GenerationEnd) -> None:
    generations, owner = Generations(), Job()
    generations.add("a", owner)
    assert generations.owner_of(end) is owner
    assert len(generations) == 0
    assert generations.owner_of(end) is None


def test_events_of_an_owner_that_has_gone_have_no_owner() -> None:
    generations, gone, here = Generations(), Job(), Job()
    for name, owner in (("a", gone), ("b", here), ("c", gone)):
        generations.add(name, owner)
    generations.forget(gone)
    assert generations.owner_of(StepFinished("a", 0, 4)) is None
    assert generations.owner_of(StepFinished("b", 0, 4)) is here
    assert len(generations) == 1

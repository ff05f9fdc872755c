"""`sceneshift bench faults --injected` on real servers: one fault that ends it, one that it survives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.live import injected
from bench.live.injected import Health


async def test_the_death_of_an_essential_task_ends_with_a_status() -> None:
    row = await injected.row_of("x", injected._faulty("engine-events"), injected.essential_task_dies)
    assert (row.outcome, row.is_good) == ("exit status 1", True)


async def test_a_step_of_the_wall_clock_stops_neither_prompts_nor_viewers() -> None:
    row = await injected.row_of("x", injected._faulty("clock-back"), injected.clock_steps)
    assert row.outcome == "healed" and row.lost.startswith("nothing; a WebRTC viewer saw ")
    assert " saw 0 pictures" not in row.lost


@pytest.mark.parametrize(
    ("polls", "pictures", "false_s"),
    [
        ([(0, True)], [0, 1, 2, 3], 0.0),
        ([(0, True)], [0, 1], 8.0),
        ([(0, True), (3, False)], [0, 1], 1.0),
        ([(0, False)], [0], 0.0),
        ([(0, True), (3, False), (6, True)], [0, 8], 2.0),
    ],
)
def test_readiness_is_false_while_no_picture_comes(polls: Any, pictures: list[float], false_s: float) -> None:
    """A prompt usually takes 0.9 s, and the next one comes 0.1 s later."""
    show: Any = SimpleNamespace()
    health = Health("http://127.0.0.1:9", show, usual_s=0.9)
    health._ready_at, health._pictures_at = polls, pictures
    assert health.false_s(10.0 if pictures[-1] < 3 else pictures[-1]) == pytest.approx(false_s)

"""Order of work and estimates: pure, so each case is a line."""

import pytest

from engine.api import Generate, Quality
from engine.arbiter import Arbiter
from engine.cost import Cost
from engine.generation import Generation


def generation(name: str) -> Generation:
    return Generation(Generate(name, "the sea"), queued_at=0.0)


def test_work_is_done_in_order_of_arrival_and_what_is_removed_is_never_next() -> None:
    arbiter = Arbiter()
    for name in "abc":
        arbiter.add(generation(name))
    first = arbiter.next()
    assert first is not None and first.generation_id == "a"
    assert arbiter.next() is first
    arbiter.remove("b")
    arbiter.remove("a")
    last = arbiter.next()
    assert last is not None and last.generation_id == "c"
    arbiter.remove("c")
    assert arbiter.next() is None and len(arbiter) == 0


def test_removing_the_unknown_and_adding_twice() -> None:
    arbiter = Arbiter()
    assert arbiter.remove("nobody") is None
    arbiter.add(generation("a"))
    with pytest.raises(ValueError, match="here already"):
        arbiter.add(generation("a"))


def test_no_estimate_before_a_measurement() -> None:
    assert Cost().estimate(Quality.FAST, ahead_s=0) is None


def test_estimates_follow_the_measurements_and_add_what_is_ahead() -> None:
    cost = Cost()
    cost.measure_preview(Quality.FAST, 0.2)
    cost.measure_picture(Quality.FAST, 1.0)
    first = cost.estimate(Quality.FAST, ahead_s=2.0)
    assert first is not None and (first.preview_s, first.picture_s) == (2.2, 3.0)
    for _ in range(20):
        cost.measure_picture(Quality.FAST, 2.0)
    later = cost.estimate(Quality.FAST, ahead_s=0.0)
    assert later is not None and later.picture_s == pytest.approx(2.0, abs=0.01)
    assert cost.estimate(Quality.FINE, ahead_s=0.0) is None

"""The costs of pieces: measured ones are followed, others predicted. Pure, so each case is a few lines."""

import pytest

from engine.api import Quality
from engine.arbiter.cost import Cost, Piece
from engine.config import Rung

STEPS = {Quality.FAST: 4, Quality.FINE: 8}
LADDER = (
    Rung(STEPS, 832, 480),
    Rung({Quality.FAST: 2, Quality.FINE: 4}, 832, 480, degraded=("fewer_steps",)),
    Rung({Quality.FAST: 2, Quality.FINE: 4}, 416, 480, "tiny", ("fewer_steps", "tiny_decoder", "smaller_size")),
)


def measured() -> Cost:
    cost = Cost(LADDER, num_pieces=7)
    for piece, seconds in ((Piece.BEGIN, 0.1), (Piece.STEP, 1.0), (Piece.PREVIEW, 0.2), (Piece.DECODE, 0.5)):
        cost.measure(piece, 0, seconds)
    return cost


def test_nothing_is_known_before_a_measurement() -> None:
    cost = Cost(LADDER, 7)
    assert not cost.is_measured
    assert cost.clip_s(0, Quality.FAST) == 0.0


def test_a_clip_costs_its_pieces_and_fewer_steps_cost_less() -> None:
    cost = measured()
    assert cost.clip_s(0, Quality.FAST) == pytest.approx(0.1 + 4 * 1.0 + 0.2 + 7 * 0.5)
    assert cost.clip_s(1, Quality.FAST) == pytest.approx(0.1 + 2 * 1.0 + 0.2 + 7 * 0.5)
    assert cost.preview_s(0) == pytest.approx(0.1 + 1.0 + 0.2)


def test_rungs_of_one_size_share_costs_and_smaller_ones_scale_by_pixels() -> None:
    cost = measured()
    cost.measure(Piece.STEP, 1, 2.0)
    assert cost.seconds(Piece.STEP, 0) == cost.seconds(Piece.STEP, 1) > 1.0
    assert cost.seconds(Piece.STEP, 2) == pytest.approx(cost.seconds(Piece.STEP, 0) / 2)
    cost.measure(Piece.STEP, 2, 0.3)
    assert cost.seconds(Piece.STEP, 2) == 0.3


def test_an_unmeasured_size_is_predicted_from_the_same_decoder() -> None:
    # Predicted from the full decoder, the smallest rung once seemed more expensive than the one above it.
    ladder = (*LADDER[:1], Rung(STEPS, 832, 480, "tiny", ("tiny_decoder",)), LADDER[2])
    cost = Cost(ladder, num_pieces=7)
    cost.measure(Piece.DECODE, 0, 1.0)
    cost.measure(Piece.DECODE, 1, 0.01)
    assert cost.seconds(Piece.DECODE, 2) == pytest.approx(0.005)


def test_the_mean_follows_a_machine_that_slows_down() -> None:
    cost = measured()
    for _ in range(20):
        cost.measure(Piece.STEP, 0, 2.0)
    assert cost.seconds(Piece.STEP) == pytest.approx(2.0, rel=0.02)


def test_a_batch_is_predicted_to_gain_only_after_a_measured_gain() -> None:
    cost = measured()
    assert cost.seconds(Piece.STEP, batch=2) == 2.0
    cost.measure(Piece.STEP, 0, 2.5, batch=4)
    assert cost.seconds(Piece.STEP, batch=2) == pytest.approx(1.5)
    assert cost.seconds(Piece.STEP, batch=8) == pytest.approx(5.0)


def test_each_row_has_the_error_of_its_predictions() -> None:
    cost = measured()
    for seconds in (1.0, 1.0, 2.0):
        cost.measure(Piece.STEP, 0, seconds)
    entry = next(entry for entry in cost.entries() if entry.what.startswith("step"))
    assert entry.what == "step 832x480 batch 1"
    assert entry.num_measured == 4
    assert entry.error == pytest.approx(0.5)  # 1 s was predicted, 2 s measured


def test_the_supervisors_copy_predicts_the_same() -> None:
    cost, copy = measured(), Cost(LADDER, 7)
    cost.measure(Piece.STEP, 0, 2.5, batch=4)
    copy.take(cost.rows())
    assert copy.entries() == cost.entries()
    assert all(copy.clip_s(rung, quality) == cost.clip_s(rung, quality) for rung in range(3) for quality in Quality)

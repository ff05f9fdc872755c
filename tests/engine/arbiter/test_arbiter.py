"""Whose turn it is, case by case, on a clock of numbers. Random schedules are in `test_arbiter_properties`."""

from collections.abc import Sequence

import pytest

from engine.api import Generate, Quality
from engine.arbiter.arbiter import AGED_AFTER_S, CLIMB_AFTER_S, Arbiter
from engine.arbiter.cost import Cost, Piece
from engine.arbiter.work import Turn, Work, run_ahead
from engine.config import Rung

# A clip is 6 steps of 0.1 s and 7 decoded pieces of 0.03 s: 0.85 s with its first preview, 0.54 s on the floor.
LADDER = tuple(
    Rung({Quality.FAST: fast, Quality.FINE: fine}, 224, 128, degraded=degraded)
    for fast, fine, degraded in ((6, 12, ()), (4, 8, ("fewer_steps",)), (3, 6, ("fewer_steps",)))
)


def arbiter(*, max_batch: int = 1, batch_s: float | None = None) -> Arbiter:
    cost = Cost(LADDER, num_pieces=7)
    for piece, seconds in ((Piece.BEGIN, 0.01), (Piece.STEP, 0.1), (Piece.PREVIEW, 0.03), (Piece.DECODE, 0.03)):
        cost.measure(piece, 0, seconds)
    if batch_s is not None:
        cost.measure(Piece.STEP, 0, batch_s, batch=max_batch)
    return Arbiter(cost, max_batch=max_batch)


def work(name: str, at: float = 0.0, **fields: object) -> Work:
    return Work.of(Generate(name, "x", stage_id=f"stage of {name}", tenant=f"tenant of {name}", **fields), at)  # type: ignore[arg-type]


def run(policy: Arbiter, until: float, now: float = 0.0) -> tuple[list[tuple[str, Piece]], float]:
    """Turns until that time, or until nothing is left, with exactly the predicted times."""
    turns: list[tuple[str, Piece]] = []
    while now < until and (turn := policy.next(now)) is not None:
        turns += [(each.work_id, turn.piece) for each in turn.works]
        now += one(policy, turn)
    return turns, now


def one(policy: Arbiter, turn: Turn) -> float:
    seconds = policy.cost.seconds(turn.piece, turn.works[0].rung_index, batch=len(turn.works))
    policy.ended(turn, seconds)
    for each in turn.works:
        if turn.piece is Piece.BEGIN:
            each.shape_key = "one shape"
        if each.is_decoded(policy.cost.num_pieces):
            policy.remove(each.work_id)
    return seconds


def ends(turns: Sequence[tuple[str, Piece]]) -> list[str]:
    """Names in the order of their last pieces."""
    last = {name: index for index, (name, _) in enumerate(turns)}
    return sorted(last, key=lambda name: last[name])


def test_one_alone_gets_a_preview_after_each_step_and_all_its_pieces() -> None:
    policy = arbiter()
    policy.add(work("a"))
    turns, _ = run(policy, 10.0)
    pieces = [piece for _, piece in turns]
    assert pieces == [Piece.BEGIN, *[Piece.STEP, Piece.PREVIEW] * 5, Piece.STEP, *[Piece.DECODE] * 7]
    assert len(policy) == 0 and policy.next(10.0) is None


def test_everybodys_first_preview_comes_before_anybodys_second_step() -> None:
    policy = arbiter()
    for name in "abc":
        policy.add(work(name))
    turns, _ = run(policy, 10.0)
    first = [turns.index((name, Piece.PREVIEW)) for name in "abc"]
    begun = [name for name, piece in turns[: max(first)] if piece is Piece.STEP]
    assert sorted(begun) == ["a", "b", "c"]


def test_then_the_clip_that_is_due_first() -> None:
    policy = arbiter()
    policy.add(work("late", due_in_s=10.0))
    policy.add(work("soon", due_in_s=4.0))
    assert ends(run(policy, 10.0)[0]) == ["soon", "late"]


def test_a_deadline_that_cannot_be_kept_takes_no_other_down() -> None:
    policy = arbiter()
    policy.add(work("hopeless", due_in_s=0.2, quality=Quality.FINE))
    policy.add(work("kept", due_in_s=1.2))
    turns, _ = run(policy, 10.0)
    assert ends(turns) == ["kept", "hopeless"]  # and yet it ends


def test_an_empty_stage_goes_before_one_that_loops_and_an_operator_before_the_audience() -> None:
    policy = arbiter()
    # Room for one until the deadline, even on the floor of the ladder.
    policy.add(work("audience", due_in_s=0.9, is_operator=False))
    policy.add(work("operator", due_in_s=0.9))
    policy.add(work("empty", due_in_s=0.9, is_stage_empty=True, is_operator=False))
    turns, _ = run(policy, 10.0)
    assert ends(turns) == ["empty", "operator", "audience"]


def test_a_tenant_that_had_more_waits_for_one_that_had_less() -> None:
    policy = arbiter()
    for number in range(8):
        each = work(f"loud-{number}", due_in_s=2.0)
        each.tenant = "loud"
        policy.add(each)
    policy.add(work("quiet", due_in_s=2.0))
    turns, _ = run(policy, 10.0)
    assert "quiet" in ends(turns)[:4]


def test_under_pressure_work_begins_on_a_lower_rung_and_later_on_the_topmost_again() -> None:
    policy = arbiter()
    for number in range(12):
        policy.add(work(f"many-{number}"))
    turns, now = run(policy, 2.0)
    assert all(each.num_steps < 6 for each in policy)
    for each in list(policy):
        policy.remove(each.work_id)
    policy.add(work("soon after", now))
    turns, soon = run(policy, now + 5, now)
    assert turns.count(("soon after", Piece.STEP)) < 6, "quality shall not flicker"
    later = soon + CLIMB_AFTER_S
    policy.add(work("later", later))
    turns, _ = run(policy, later + 5, later)
    assert turns.count(("later", Piece.STEP)) == 6


def test_a_deadline_that_never_could_be_kept_lowers_nobodys_quality() -> None:
    policy = arbiter()
    policy.add(work("impossible", due_in_s=0.1))
    policy.add(work("other"))
    turns, _ = run(policy, 10.0)
    assert turns.count(("other", Piece.STEP)) == turns.count(("impossible", Piece.STEP)) == 6


def test_what_was_cancelled_is_never_next() -> None:
    policy = arbiter()
    for name in "ab":
        policy.add(work(name))
    run(policy, 0.5)
    policy.remove("a")
    assert policy.remove("nobody") is None
    turns, _ = run(policy, 10.0)
    assert {name for name, _ in turns} == {"b"}
    with pytest.raises(ValueError, match="here already"):
        for _ in range(2):
            policy.add(work("c"))


def test_steps_are_shared_only_where_that_was_measured_to_gain() -> None:
    for batch_s, sizes in ((0.2, {1}), (0.12, {1, 2})):
        policy = arbiter(max_batch=2, batch_s=batch_s)
        for name in "ab":
            policy.add(work(name))
        seen: set[int] = set()
        now = 0.0
        while (turn := policy.next(now)) is not None:
            seen.add(len(turn.works))
            now += one(policy, turn)
        assert seen == sizes


def test_different_shapes_never_share_a_step() -> None:
    policy = arbiter(max_batch=2, batch_s=0.12)
    works = [work("a"), work("b")]
    for each in works:
        policy.add(each)
    now = 0.0
    while (turn := policy.next(now)) is not None:
        assert len(turn.works) == 1
        now += one(policy, turn)
        for each in works:
            each.shape_key = each.work_id


def test_whoever_waited_long_is_served_while_others_keep_coming() -> None:
    """Rule 1. The others take all of the time and each is more urgent."""
    policy = arbiter()
    policy.add(work("old", is_operator=False))
    policy.add(work("other"))
    bound_s = policy.latest_end_s(next(iter(policy)))
    now, number, done = 0.0, 0, False
    while not done:
        while len(policy) < 40:
            number += 1
            policy.add(work(f"new-{number}", now, is_stage_empty=True))
        turn = policy.next(now)
        assert turn is not None
        done = turn.piece is Piece.DECODE and turn.works[0].work_id == "old" and turn.works[0].num_decoded == 6
        now += one(policy, turn)
    assert AGED_AFTER_S < now <= bound_s


def test_who_prompts_again_before_being_served_keeps_waiting_since_the_first_prompt() -> None:
    policy = arbiter()
    for name in ("first", "again"):
        again = work(name, 0.0 if name == "first" else 15.0)
        again.stage_id = "impatient"
        policy.remove("first")
        policy.add(again)
    assert again.waits_since == 0.0
    again.was_aged_turn = True  # it was served then, and thrown away by its own stage
    policy.remove("again")
    third = work("third", 21.0)
    third.stage_id = "impatient"
    policy.add(third)
    assert third.waits_since == 21.0


def test_a_prompt_that_is_added_to_a_copy_takes_no_place_from_the_original() -> None:
    policy = arbiter()
    policy.add(work("old"))
    policy.remove("old")  # its stage waits since 0
    for each in (policy.copy(), policy):
        again = work("again", 5.0)
        again.stage_id = "stage of old"
        each.add(again)
        assert again.waits_since == 0.0


def test_run_ahead_foretells_what_then_happens_and_touches_nothing() -> None:
    policy = arbiter()
    for number in range(6):
        policy.add(work(f"w{number}", quality=list(Quality)[number % 2]))
    _, now = run(policy, 0.7)
    preview_s, picture_s = run_ahead(policy.copy(), now, "w3")
    turns, _ = run(policy, 20.0, now)
    seconds = {piece: policy.cost.seconds(piece) for piece in Piece}
    real_s = sum(seconds[piece] for _, piece in turns[: len(turns) - turns[::-1].index(("w3", Piece.DECODE))])
    assert picture_s == pytest.approx(real_s, rel=0.05)
    assert preview_s < picture_s

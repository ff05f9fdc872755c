"""The arbiter's choices, case by case, on a clock of numbers. Random schedules are in `test_arbiter_properties`."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine.api import Generate, Quality
from engine.arbiter.arbiter import (
    AGED_AFTER_S,
    AGED_SHARE,
    CLIMB_AFTER_S,
    LOWEST_RANK,
    MAX_REMEMBERED,
    Arbiter,
    Standing,
)
from engine.arbiter.cost import Cost, Piece
from engine.arbiter.promise import HEADROOM, PREVIEW_SHARE
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
    """Runs turns until that time, or until no work is left, with exactly the predicted times."""
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


def test_a_single_work_gets_all_its_pieces_and_a_preview_after_each_step() -> None:
    policy = arbiter()
    policy.add(work("a"))
    turns, _ = run(policy, 10.0)
    pieces = [piece for _, piece in turns]
    assert pieces == [Piece.BEGIN, *[Piece.STEP, Piece.PREVIEW] * 5, Piece.STEP, *[Piece.DECODE] * 7]
    assert len(policy) == 0 and policy.next(10.0) is None


def test_all_first_previews_come_before_any_second_step() -> None:
    policy = arbiter()
    for name in "abc":
        policy.add(work(name))
    turns, _ = run(policy, 10.0)
    first = [turns.index((name, Piece.PREVIEW)) for name in "abc"]
    begun = [name for name, piece in turns[: max(first)] if piece is Piece.STEP]
    assert sorted(begun) == ["a", "b", "c"]


def test_after_the_previews_the_clip_that_is_due_first_runs() -> None:
    policy = arbiter()
    policy.add(work("late", due_in_s=10.0))
    policy.add(work("soon", due_in_s=4.0))
    assert ends(run(policy, 10.0)[0]) == ["soon", "late"]


def test_a_hopeless_deadline_makes_no_other_work_late() -> None:
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


def test_work_that_waited_long_is_served_while_others_keep_coming() -> None:
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


def test_a_stage_that_prompts_again_unserved_keeps_its_waiting_time() -> None:
    policy = arbiter()
    for name in ("first", "again"):
        again = work(name, 0.0 if name == "first" else 15.0)
        again.stage_id = "impatient"
        policy.remove("first")
        policy.add(again)
    assert again.waits_since == 0.0
    again.was_aged_turn = True  # it was served then, and its own stage dropped it
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


def test_run_ahead_predicts_what_happens_and_changes_nothing() -> None:
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


# --- what it remembers ------------------------------------------------------------------------------------------------


def test_busyness_decays_with_a_time_constant_of_five_seconds() -> None:
    standing = Standing()
    standing.worked(5.0, is_first_preview=False)
    assert standing.busyness == pytest.approx(1 - math.exp(-1)) and standing.ended_at == 5.0
    standing.was_idle_until(10.0)
    assert standing.busyness == pytest.approx((1 - math.exp(-1)) * math.exp(-1)) and standing.ended_at == 10.0
    standing.worked(0.0, is_first_preview=False)
    standing.was_idle_until(9.0)  # a clock that stood still adds nothing
    assert standing.busyness == pytest.approx((1 - math.exp(-1)) * math.exp(-1))


def test_preview_load_rises_with_first_previews_up_to_their_share_and_falls() -> None:
    standing = Standing()
    standing.worked(5.0, is_first_preview=True)
    loaded = PREVIEW_SHARE * (1 - math.exp(-1))
    assert standing.preview_load == pytest.approx(loaded)
    standing.worked(5.0, is_first_preview=False)
    assert standing.preview_load == pytest.approx(loaded * math.exp(-1))


def test_the_time_of_a_joint_step_is_split_among_its_tenants() -> None:
    policy = arbiter(max_batch=2, batch_s=0.12)
    for name in "ab":
        policy.add(work(name))
    policy.ended(Turn(Piece.STEP, tuple(policy)), 0.12)
    assert policy._standing.served_s == pytest.approx({"tenant of a": 0.06, "tenant of b": 0.06})


def test_old_work_earns_a_tenth_of_the_time_and_pays_for_its_turns() -> None:
    policy = arbiter(max_batch=2, batch_s=0.12)
    old, young = work("old"), work("young")
    for each in (old, young):
        policy.add(each)
    policy.ended(Turn(Piece.DECODE, (young,)), 1.0)
    assert policy._standing.aged_credit_s == pytest.approx(0.1)
    policy._standing.aged_turn = old
    policy.ended(Turn(Piece.STEP, (young, old)), 0.12)
    assert policy._standing.aged_credit_s == pytest.approx(0.1 + 0.012 - 0.06)


def test_preview_credit_grows_by_its_share_up_to_two_previews() -> None:
    policy = arbiter()
    policy.add(one := work("one"))
    policy.ended(Turn(Piece.BEGIN, (one,)), 0.01)  # the way to a first preview
    assert policy._standing.preview_credit_s == pytest.approx(-0.01)
    one.step_index = 2
    policy.ended(Turn(Piece.STEP, (one,)), 0.1)
    assert policy._standing.preview_credit_s == pytest.approx(0.09)
    policy.ended(Turn(Piece.STEP, (one,)), 9.0)
    assert policy._standing.preview_credit_s == pytest.approx(0.28)
    one.step_index = 0
    policy.ended(Turn(Piece.STEP, (one,)), 9.0)
    assert policy._standing.preview_credit_s == pytest.approx(-0.28)


def test_the_time_of_each_stages_last_first_preview_is_remembered() -> None:
    policy = arbiter()
    policy.add(each := work("one"))
    turns, now = [], 0.0
    while not each.has_preview:
        turn = policy.next(now)
        assert turn is not None
        now += one(policy, turn)
        turns.append(turn.piece)
    assert turns == [Piece.BEGIN, Piece.STEP, Piece.PREVIEW]
    assert policy._standing.previewed_at == {"stage of one": pytest.approx(0.14)}
    run(policy, 10.0, now)
    assert policy._standing.previewed_at == {"stage of one": pytest.approx(0.14)}, "a later preview is no first one"


def test_the_newest_stages_are_remembered_and_the_oldest_forgotten() -> None:
    policy = arbiter()
    for number in [*range(MAX_REMEMBERED), 0, MAX_REMEMBERED]:
        each = work(f"w{number}", float(number))
        policy.add(each)
        policy.remove(each.work_id)
    remembered = list(policy._standing.unserved)
    assert len(remembered) == MAX_REMEMBERED
    assert remembered[0] == "stage of w2" and remembered[-2:] == ["stage of w0", f"stage of w{MAX_REMEMBERED}"]


@pytest.mark.parametrize(
    ("fields", "is_remembered"),
    [
        ({}, True),
        ({"step_index": 1}, True),
        ({"step_index": 2}, False),
        ({"was_aged_turn": True}, False),
        ({"stage_id": ""}, False),
    ],
    ids=["unserved", "a preview was made", "under way", "served for its age", "of no stage"],
)
def test_work_replaced_unserved_keeps_its_stages_place(fields: dict, is_remembered: bool) -> None:
    policy = arbiter()
    policy.add(gone := replace(work("gone", 3.0), **fields))
    policy.remove("gone")
    assert policy._standing.unserved == ({gone.stage_id: 3.0} if is_remembered else {})


def test_a_finished_work_leaves_the_plan_as_it_is() -> None:
    policy = arbiter()
    for name in "ab":
        policy.add(work(name))
    policy.next(0.0)
    plan = policy._standing.plan
    done = replace(work("a"), is_begun=True, num_steps=6, step_index=6, num_decoded=7)
    policy._works["a"] = done
    assert policy.remove("a") is done and policy._standing.plan is plan and not policy._standing.unserved
    policy.remove("b")
    assert policy._standing.plan is None


# --- bounds and shares ------------------------------------------------------------------------------------------------


def test_the_bound_counts_a_whole_fine_clip_for_each_older_work() -> None:
    policy = arbiter()
    for name, at in (("elder", 0.0), ("twin", 1.0), ("me", 1.0), ("younger", 2.0)):
        policy.add(work(name, at))
    me = policy.get("me")
    assert me is not None
    me.rung_index = 1  # it may still be made whole
    assert policy.latest_end_s(me) == pytest.approx(AGED_AFTER_S + (2 * 1.45 + 0.85) / AGED_SHARE + 0.1)


def test_the_bound_waits_for_the_longest_piece_which_may_be_a_joint_step() -> None:
    policy = arbiter(max_batch=2, batch_s=0.15)
    policy.add(me := work("me"))
    assert policy.latest_end_s(me) == pytest.approx(AGED_AFTER_S + 0.85 / AGED_SHARE + 0.15)


@pytest.mark.parametrize(("due_in_s", "could_be_met"), [(0.5, False), (0.5501, True), (3.0, True)])
def test_whether_a_deadline_could_be_met_is_judged_on_the_lowest_rung(due_in_s: float, could_be_met: bool) -> None:
    policy = arbiter()
    policy.add(each := work("a", due_in_s=due_in_s))
    assert each.could_be_met is could_be_met


def test_a_deadline_that_is_just_met_could_be_kept() -> None:
    policy = arbiter()
    each = work("a")
    each.due_at = policy.remaining_s(each, 2)
    policy.add(each)
    assert each.could_be_met


def test_a_tenant_that_comes_back_starts_level_with_those_here() -> None:
    policy = arbiter()
    standing = policy._standing
    standing.served_s = {"tenant of idle": 1.0, "tenant of rich": 9.0, "tenant of gone": 2.0, "tenant of owes": 7.0}
    for name in ("idle", "rich"):
        policy.add(work(name))
    standing.served_s |= {"tenant of idle": 4.0, "tenant of rich": 9.0}
    policy.add(work("new"))
    assert standing.served_s == {
        "tenant of idle": 4.0,
        "tenant of rich": 9.0,
        "tenant of owes": 7.0,
        "tenant of new": 4.0,
    }
    policy.add(work("owes"))
    assert standing.served_s["tenant of owes"] == 7.0, "who had more does not start level"
    again = work("again")
    again.tenant = "tenant of idle"
    standing.served_s["tenant of idle"] = 0.5
    policy.add(again)
    assert standing.served_s["tenant of idle"] == 0.5, "who is here already is not lifted"


def test_a_tenant_alone_starts_from_nothing() -> None:
    policy = arbiter()
    policy._standing.served_s = {"tenant of a": 9.0}
    policy.add(work("a"))
    assert policy._standing.served_s == {"tenant of a": 0.0}


def test_age_counts_from_twenty_seconds_on_and_only_while_its_share_is_due() -> None:
    policy = arbiter()
    policy.add(old := work("old"))
    policy.add(work("urgent", is_stage_empty=True))
    policy._standing.aged_credit_s = -1.0
    assert policy._aged(AGED_AFTER_S - 0.001) is None and policy._standing.aged_credit_s == 0.0
    assert policy._aged(AGED_AFTER_S) is old and old.was_aged_turn
    policy._standing.aged_credit_s = -0.001
    assert policy._aged(AGED_AFTER_S + 5.0) is None and policy._standing.aged_credit_s == -0.001


def test_a_tenant_with_clearly_more_than_the_mean_has_the_lowest_rank() -> None:
    policy = arbiter()
    for name in ("greedy", "modest"):
        policy.add(work(name, is_stage_empty=True))
    bound_s = 2 * 8 * 0.85  # of the mean of the two, and eight clips beyond it
    policy._standing.served_s = {"tenant of greedy": bound_s, "tenant of modest": 0.0}
    policy._make_plan(0.0)
    assert [policy._rank(each) for each in policy] == [0, 0]
    policy._standing.served_s["tenant of greedy"] = bound_s + 0.01
    policy._make_plan(0.0)
    assert [policy._rank(each) for each in policy] == [LOWEST_RANK, 0]


# --- first previews without slack -------------------------------------------------------------------------------------


def crowded(policy: Arbiter, *, due_in_s: float) -> Work:
    """Adds and returns a promised clip under way that needs 0.51 s and has no slack, so that no time is spare."""
    busy = replace(work("busy", due_in_s=due_in_s), is_begun=True, num_steps=6, step_index=3, has_preview=True)
    policy.add(busy)
    return busy


def test_without_slack_first_previews_come_only_while_their_share_is_due() -> None:
    policy = arbiter()
    busy = crowded(policy, due_in_s=0.7)
    policy.add(new := work("new", due_in_s=30.0))
    plan = policy._plan(0.0)
    assert plan.spare_s < 0 and plan.promised == [busy, new] and plan.unseen == [new]
    policy._standing.ended_at = 5.0
    assert policy._preview_first(plan) is new
    policy._standing.preview_credit_s = -0.001
    assert policy._preview_first(plan) is None
    plan.spare_s = 0.0
    assert policy._preview_first(plan) is new, "with slack the credit does not matter"


def test_without_slack_a_stage_gets_one_first_preview_a_second() -> None:
    policy = arbiter()
    crowded(policy, due_in_s=0.85)
    policy.add(restless := work("restless", due_in_s=30.0))
    policy.add(patient := work("patient", due_in_s=40.0))
    policy._standing.previewed_at[restless.stage_id] = 4.5
    plan = policy._plan(0.0)
    policy._standing.ended_at = 5.0
    assert policy._preview_first(plan) is patient
    patient.has_preview = True
    assert policy._preview_first(plan) is None
    policy._standing.ended_at = 5.5
    assert policy._preview_first(plan) is None
    policy._standing.ended_at = 5.501
    assert policy._preview_first(plan) is restless


def test_previews_and_late_work_use_up_the_spare_time() -> None:
    policy = arbiter()
    policy.add(late := work("late", due_in_s=10.0))
    policy.add(work("other", due_in_s=10.0))
    plan = policy._plan(0.0)
    late.step_index = 2
    spare_s = plan.spare_s
    policy.ended(Turn(Piece.DECODE, (late,)), 0.03)
    assert plan.spare_s == spare_s, "promised work was counted already"
    policy.ended(Turn(Piece.PREVIEW, (late,)), 0.03)
    assert plan.spare_s == pytest.approx(spare_s - 0.03)
    late.is_late = True
    policy.ended(Turn(Piece.DECODE, (late,)), 0.05)
    assert plan.spare_s == pytest.approx(spare_s - 0.08)


# --- joint steps ------------------------------------------------------------------------------------------------------


def ready(name: str, **fields: object) -> Work:
    """Work that may take its third step."""
    settings = {"is_begun": True, "num_steps": 6, "step_index": 2, "has_preview": True, "shape_key": "one shape"}
    return replace(work(name, due_in_s=30.0), **settings | fields)


def joined(*works: Work, max_batch: int = 3, batch_s: float = 0.15) -> tuple[str, ...]:
    policy = arbiter(max_batch=max_batch, batch_s=batch_s)
    for each in works:
        policy.add(each)
    policy._plan(0.0)
    return tuple(each.work_id for each in policy._companions(works[0]))


def test_as_many_works_share_a_step_as_are_ready_and_fit() -> None:
    assert joined(ready("a"), ready("b"), ready("c"), ready("d")) == ("a", "b", "c")
    assert joined(ready("a"), ready("b"), max_batch=2, batch_s=0.12) == ("a", "b")
    assert joined(ready("a")) == ("a",)


@pytest.mark.parametrize(
    ("other", "may_join"),
    [
        ({}, True),
        ({"shape_key": "another"}, False),
        ({"step_index": 6}, False),
        ({"owes_preview": True, "has_preview": False}, False),
        ({"owes_preview": True}, True),
        ({"is_begun": False, "step_index": 0}, True),
    ],
    ids=["ready", "of another shape", "denoised", "owes a first preview", "owes a later preview", "not begun yet"],
)
def test_which_works_may_share_a_step(other: dict, may_join: bool) -> None:
    assert joined(ready("a"), ready("b", **other), max_batch=2, batch_s=0.12) == (("a", "b") if may_join else ("a",))


def test_work_without_a_shape_shares_no_step() -> None:
    assert joined(ready("a", shape_key=None), ready("b", shape_key=None), max_batch=2, batch_s=0.12) == ("a",)


def test_a_joint_step_must_take_less_than_95_percent_of_single_steps() -> None:
    assert joined(ready("a"), ready("b"), max_batch=2, batch_s=0.189) == ("a", "b")
    assert joined(ready("a"), ready("b"), max_batch=2, batch_s=0.191) == ("a",)


def test_a_joint_step_is_weighed_against_single_ones_of_its_own_rung() -> None:
    small = Rung({Quality.FAST: 6, Quality.FINE: 12}, 112, 64, degraded=("smaller",))
    for batch_s, is_shared in ((0.075, True), (0.077, False)):
        cost = Cost((LADDER[0], small), num_pieces=7)
        for rung_index, step_s in ((0, 0.1), (1, 0.04)):
            cost.measure(Piece.STEP, rung_index, step_s)
        cost.measure(Piece.STEP, 1, batch_s, batch=2)
        policy = Arbiter(cost, max_batch=2)
        works = [ready("a", rung_index=1), ready("b", rung_index=1)]
        for each in works:
            policy.add(each)
        policy._plan(0.0)
        assert (policy._companions(works[0]) == tuple(works)) is is_shared


def test_a_joint_step_breaks_no_promise() -> None:
    policy = arbiter(max_batch=2, batch_s=0.15)
    works = [ready("a"), ready("b")]
    for each in works:
        policy.add(each)
    plan = policy._plan(0.0)
    plan.spare_s = 0.15 - 0.1  # just what it takes
    assert policy._companions(works[0]) == tuple(works)
    plan.spare_s = 0.0499
    assert policy._companions(works[0]) == (works[0],)


def test_work_that_joins_a_step_gives_up_its_owed_preview() -> None:
    policy = arbiter(max_batch=2, batch_s=0.12)
    works = [ready("a"), ready("b", owes_preview=True)]
    for each in works:
        policy.add(each)
    policy._plan(0.0)
    assert policy._companions(works[0]) == tuple(works) and not works[1].owes_preview


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_valid_for_a_second() -> None:
    policy = arbiter()
    policy.add(work("a", due_in_s=30.0))
    plan = policy._plan(0.0)
    assert policy._plan(1.0) is plan
    assert policy._plan(1.001) is not plan


def test_late_work_is_ordered_by_rank_then_under_way_then_tenant_time() -> None:
    policy = arbiter()
    settings = {
        "audience": {"is_operator": False},
        "new of who had more": {},
        "new": {},
        "under way": {"is_begun": True, "num_steps": 6, "step_index": 2},
        "empty": {"is_stage_empty": True},
    }
    for number, (name, fields) in enumerate(settings.items()):
        policy.add(replace(work(name, due_in_s=0.0), arrived_at=float(-number), **fields))
    policy._standing.served_s["tenant of new of who had more"] = 1.0
    plan = policy._plan(0.0)
    assert [each.work_id for each in plan.late] == ["empty", "under way", "new", "new of who had more", "audience"]
    assert all(each.is_late for each in policy) and plan.promised == []
    unseen = ["empty", "under way", "new", "new of who had more", "audience"]
    assert [each.work_id for each in plan.unseen] == unseen


def test_promised_work_is_no_longer_late() -> None:
    policy = arbiter()
    policy.add(each := replace(work("a", due_in_s=30.0), is_late=True, could_be_met=False))
    policy._plan(0.0)
    assert not each.is_late


def test_of_equal_rank_the_tenant_that_had_less_is_promised_first() -> None:
    policy = arbiter()
    for name in ("rich", "poor"):
        policy.add(work(name, due_in_s=0.75))
    policy._standing.served_s = {"tenant of rich": 1.0, "tenant of poor": 0.0}
    plan = policy._make_plan(0.0)
    assert [each.work_id for each in plan.promised] == ["poor"]
    assert [each.work_id for each in plan.late] == ["rich"]


def test_of_one_tenants_works_the_one_that_is_due_first_is_promised_first() -> None:
    """On the lowest rung each needs 0.52 s: both within 1.0 s do not fit, and the later one would leave no room."""
    policy = arbiter()
    for name, due_in_s in (("later", 1.0), ("first", 0.7)):
        each = work(name, due_in_s=due_in_s, wants_previews=False)
        each.tenant = "one tenant"
        policy.add(each)
    plan = policy._plan(0.0)
    assert [each.work_id for each in plan.promised] == ["first"]


def test_a_tenants_promised_time_counts_before_its_next_work() -> None:
    policy = arbiter()
    for name, tenant in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        each = work(name, due_in_s=1.5)  # room for two of three
        each.tenant = tenant
        policy.add(each)
    plan = policy._plan(0.0)
    assert sorted(each.tenant for each in plan.promised) == ["a", "b"]


@pytest.mark.parametrize(("waited_s", "share"), [(AGED_AFTER_S - 0.001, 1.0), (AGED_AFTER_S, 1 - AGED_SHARE)])
def test_while_work_is_old_promises_count_on_nine_tenths_of_the_time(waited_s: float, share: float) -> None:
    policy = arbiter()
    policy.add(work("a", due_in_s=60.0))
    spare_s = policy._make_plan(waited_s).spare_s
    assert spare_s == pytest.approx(60.0 - waited_s - 0.85 * HEADROOM / share)


def test_a_second_preview_needs_a_clips_spare_time_unless_alone() -> None:
    policy = arbiter()
    policy.add(first := ready("first", owes_preview=True))
    plan = policy._plan(0.0)
    plan.spare_s = 0.0
    assert policy._has_time_to_refine(first), "it is alone"
    policy.add(ready("second"))
    plan = policy._plan(0.0)
    plan.spare_s = 0.8499
    assert not policy._has_time_to_refine(first)
    plan.spare_s = 0.8501
    assert policy._has_time_to_refine(first)


def test_nothing_is_refined_while_late_work_waits() -> None:
    policy = arbiter()
    policy.add(first := ready("first", owes_preview=True))
    policy.add(late := ready("late"))
    plan = policy._plan(0.0)
    plan.promised.remove(late)
    plan.late.append(late)
    assert not policy._has_time_to_refine(first)
    policy._works.pop("late")  # it has gone since the plan was made
    assert policy._has_time_to_refine(first)


def test_nothing_is_refined_while_another_waits_for_its_first_preview() -> None:
    policy = arbiter()
    policy.add(first := ready("first", owes_preview=True))
    policy.add(work("unseen", due_in_s=30.0))
    policy._plan(0.0)
    assert not policy._has_time_to_refine(first)


# --- the ladder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("busyness", "due_in_s", "level"), [(0.0, 0.86, 0), (0.0, 0.84, 1), (1.0, 1.46, 0), (1.0, 1.43, 1)]
)
def test_a_rung_needs_room_in_proportion_to_recent_load(busyness: float, due_in_s: float, level: int) -> None:
    """A single work needs 0.85 s on the topmost rung, 0.65 s on the next; after recent load 1.7 times that."""
    policy = arbiter()
    policy.add(work("a", due_in_s=due_in_s))
    policy._standing.busyness = busyness
    assert policy._choose_level(0.0) == level
    assert policy._standing.pressed_at == (0.0 if level else -math.inf)


def test_a_broken_promise_takes_new_work_to_the_lowest_rung() -> None:
    policy = arbiter()
    policy.add(replace(work("late", due_in_s=30.0), is_late=True))
    assert policy._choose_level(7.0) == 2 and policy._standing.pressed_at == 7.0


def test_quality_climbs_after_five_seconds_without_pressure_and_only_with_more_room() -> None:
    policy = arbiter()
    policy.add(work("a", due_in_s=30.0))
    policy.level, policy._standing.pressed_at = 1, 0.0
    assert policy._choose_level(CLIMB_AFTER_S - 0.001) == 1
    assert policy._choose_level(CLIMB_AFTER_S) == 0
    policy._standing.busyness = 0.62  # at the topmost rung 0.85 / 0.65 times that, which is more than 0.8
    assert policy._choose_level(CLIMB_AFTER_S) == 1
    policy._standing.busyness = 0.61
    assert policy._choose_level(CLIMB_AFTER_S) == 0


def test_climbing_needs_twice_the_room_of_staying() -> None:
    """At a busyness of 0.5, staying needs room for 1.35 times the known work, climbing for 1.7 times."""
    policy = arbiter()
    policy.add(work("a", due_in_s=1.3))  # 0.85 s and 1.35 times that fit, 1.7 times do not
    policy._standing.busyness = 0.5
    for level, expected in ((0, 0), (1, 1)):
        policy.level, policy._standing.pressed_at = level, -math.inf
        assert policy._choose_level(0.0) == expected


def test_unbegun_work_follows_the_level_but_not_above_its_memory_limit() -> None:
    policy = arbiter()
    works = [work("free", due_in_s=30.0), replace(work("bound", due_in_s=30.0), min_rung=1), ready("begun")]
    for each in works:
        policy.add(each)
    policy._make_plan(0.0)
    assert [each.rung_index for each in works] == [0, 1, 0]


# --- clips for files ------------------------------------------------------------------------------------------------


def served_s(policy: Arbiter, seconds: float) -> dict[str, float]:
    """Engine time by work while live prompts keep coming."""
    now, served, number = 0.0, {"live": 0.0, "clip": 0.0}, 0
    policy.add(clip("clip 0", now, share=policy.share))  # type: ignore[attr-defined]
    while now < seconds:
        if not any(not each.is_background for each in policy):
            policy.add(work(f"live {number}", now, due_in_s=1.0))
        if not any(each.is_background for each in policy):
            policy.add(clip(f"clip {number}", now, share=policy.share))  # type: ignore[attr-defined]
        number += 1
        turn = policy.next(now)
        assert turn is not None
        name = turn.works[0].work_id.split()[0]
        took_s = one(policy, turn)
        served[name] += took_s
        now += took_s
    return served


def clip(name: str, at: float, *, share: float = 0.0) -> Work:
    fields = {"is_background": True, "background_share": share, "wants_previews": False, "is_operator": False}
    return work(name, at, due_in_s=3600.0, **fields)


def test_a_clip_for_a_file_gets_only_the_share_of_old_work_while_live_prompts_keep_coming() -> None:
    policy = arbiter()
    policy.share = 0.0  # type: ignore[attr-defined]
    served = served_s(policy, 200.0)
    assert 0 < served["clip"] / 200.0 <= AGED_SHARE


def test_a_clip_for_a_file_gets_the_share_that_the_operator_keeps_for_it() -> None:
    policy = arbiter()
    policy.share = 0.3  # type: ignore[attr-defined]
    served = served_s(policy, 200.0)
    assert served["clip"] / 200.0 == pytest.approx(0.3, abs=0.05)


def test_a_live_prompt_waits_for_one_piece_of_a_clip_at_most() -> None:
    policy = arbiter()
    policy.add(clip("clip", 0.0))
    _, now = run(policy, 0.05)
    policy.add(work("live", now))
    turns, _ = run(policy, now + 0.5, now)
    assert [name for name, _ in turns[:3]] == ["live"] * 3


def test_a_clip_for_a_file_is_whole_also_while_live_prompts_are_made_smaller() -> None:
    policy = arbiter()
    for number in range(6):
        policy.add(work(f"live {number}", due_in_s=2.5))
    policy.add(clip("clip", 0.0))
    policy.next(0.0)
    assert policy.level > 0
    found = policy.get("clip")
    assert found is not None and found.rung_index == 0

"""Invariants of every schedule: hundreds of random ones on a virtual clock, in the bench's simulator."""

import copy
import random
from collections.abc import Iterator

import pytest

from bench.sim.arbiter_sim import Run, Simulation
from bench.sim.traces import Trace, TracePrompt
from engine.api import Quality
from engine.arbiter.arbiter import Arbiter
from engine.arbiter.cost import Cost, Piece
from engine.arbiter.work import MAX_DECODING, Policy, Turn, Work, run_ahead
from engine.config import Rung
from tests.seeds import seeds


def random_cost(rng: random.Random) -> Cost:
    fast, fine = rng.randint(2, 6), rng.randint(6, 14)
    ladder = [Rung({Quality.FAST: fast, Quality.FINE: fine}, 224, 128)]
    for _ in range(rng.randrange(3)):
        fast, fine = max(1, fast - 1), max(1, fine - 2)
        ladder.append(Rung({Quality.FAST: fast, Quality.FINE: fine}, 224, 128, degraded=("fewer_steps",)))
    cost = Cost(ladder, num_pieces=rng.randint(1, 7))
    step_s = rng.choice([0.02, 0.1, 0.4])
    cost.measure(Piece.BEGIN, 0, step_s * rng.random())
    cost.measure(Piece.STEP, 0, step_s)
    cost.measure(Piece.PREVIEW, 0, step_s * rng.random())
    cost.measure(Piece.DECODE, 0, step_s * rng.random())
    cost.measure(Piece.STEP, 0, step_s * rng.uniform(1.2, 4.0), batch=4)
    return cost


def random_trace(rng: random.Random, *, has_losses: bool) -> Trace:
    duration_s = rng.uniform(5.0, 60.0)
    num_stages = rng.choice([1, 3, 12, 40])
    prompts = [
        TracePrompt(
            at=rng.uniform(0.0, duration_s),
            stage=f"stage-{(stage := rng.randrange(num_stages))}",
            tenant=f"tenant-{stage % 3}",
            quality=rng.choice(list(Quality)),
            is_operator=rng.random() < 0.5,
            due_in_s=rng.choice([0.0, 1.0, 10.0, 30.0]),
        )
        for _ in range(rng.randrange(1, 60))
    ]
    losses = sorted(rng.uniform(0.0, duration_s) for _ in range(rng.randrange(3))) if has_losses else ()
    prompts.sort(key=lambda prompt: prompt.at)
    return Trace("random", "", duration_s, prompts, losses=tuple(losses), recovery_s=2.0)


def played(seed: int, *, has_losses: bool = True) -> tuple[Run, Cost, list[tuple[float, Turn]]]:
    rng = random.Random(seed)
    cost = random_cost(rng)
    mine = Cost(cost.ladder, cost.num_pieces)
    mine.take(cost.rows())
    turns: list[tuple[float, Turn]] = []
    arbiter = Arbiter(mine, max_batch=4)
    simulation = Simulation(
        arbiter,
        random_trace(rng, has_losses=has_losses),
        cost,
        seed=seed,
        observe=lambda now, turn: turns.append((now, turn)),
    )

    def check(now: float, turn: Turn) -> None:
        turns.append((now, turn))
        assert turn.works and len(set(turn.works)) == len(turn.works)
        assert all(arbiter.get(work.work_id) is work for work in turn.works), "dead work"
        assert len({work.shape_key for work in turn.works}) == 1, "unlike shapes"
        assert all(work.is_begun is not (turn.piece is Piece.BEGIN) for work in turn.works)
        assert all((work.step_index < work.num_steps) for work in turn.works if turn.piece is Piece.STEP)
        assert all(work.is_denoised for work in turn.works if turn.piece is Piece.DECODE)
        assert sum(work.num_decoded > 0 for work in arbiter) <= MAX_DECODING

    simulation._observe = check
    return simulation.run(), cost, turns


@pytest.mark.random
@pytest.mark.parametrize("first_seed", seeds(300)[::30])
def test_each_prompt_ends_once_and_no_time_is_lost(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 30):
        run, cost, turns = played(seed)
        assert all(outcome.num_ends == 1 for outcome in run.outcomes), seed
        assert len(run.policy) == 0
        assert run.busy_s == pytest.approx(sum(outcome.engine_s for outcome in run.outcomes))
        assert all(0 <= outcome.rung_index < len(cost.ladder) for outcome in run.outcomes)
        times = [now for now, _ in turns]
        assert times == sorted(times)


@pytest.mark.random
@pytest.mark.parametrize("first_seed", seeds(300)[::30])
def test_no_prompt_waits_longer_than_the_stated_bound(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 30):
        run, _, _ = played(seed, has_losses=False)
        for outcome in run.outcomes:
            if outcome.finished_at is not None:
                assert outcome.finished_at - outcome.prompt.at <= outcome.latest_end_s, seed


class Mirrored(Policy):
    """An arbiter with a copy that gets the same calls and must give the same answers. Now and then it copies again."""

    def __init__(self, arbiter: Arbiter, rng: random.Random) -> None:
        super().__init__(arbiter.cost)
        self.arbiter, self._copied, self._rng = arbiter, arbiter.copy(), rng
        self.num_aged_turns = 0

    def __len__(self) -> int:
        return len(self.arbiter)

    def __iter__(self) -> Iterator[Work]:
        return iter(self.arbiter)

    def add(self, work: Work) -> None:
        self._copied.add(copy.copy(work))
        self.arbiter.add(work)

    def remove(self, work_id: str) -> Work | None:
        self._copied.remove(work_id)
        return self.arbiter.remove(work_id)

    def next(self, now: float) -> Turn | None:
        for work in self.arbiter:
            self._of_copy(work).shape_key = work.shape_key  # the caller that runs the turns sets it
        self._copy_sometimes()
        turn, copied_turn = self.arbiter.next(now), self._copied.next(now)
        assert _told(turn) == _told(copied_turn)
        self._copy_sometimes()
        self.num_aged_turns += turn is not None and any(work.was_aged_turn for work in turn.works)
        return turn

    def ended(self, turn: Turn, seconds: float) -> None:
        self._copied.ended(Turn(turn.piece, tuple(map(self._of_copy, turn.works))), seconds)
        self.arbiter.ended(turn, seconds)

    def _copy_sometimes(self) -> None:
        if self._rng.random() < 0.2:
            self._copied = self.arbiter.copy()

    def _of_copy(self, work: Work) -> Work:
        copied = self._copied.get(work.work_id)
        assert copied is not None and copied is not work
        return copied


def _told(turn: Turn | None) -> tuple[Piece, list[str]] | None:
    return None if turn is None else (turn.piece, [work.work_id for work in turn.works])


@pytest.mark.parametrize("first_seed", range(2000, 2200, 20))
def test_a_copy_of_any_state_takes_the_same_turns(first_seed: int) -> None:
    num_aged_turns = 0
    for seed in range(first_seed, first_seed + 20):
        rng = random.Random(seed)
        cost = random_cost(rng)
        mirrored = Mirrored(Arbiter(cost, max_batch=4), rng)
        Simulation(mirrored, random_trace(rng, has_losses=True), cost, seed=seed).run()
        num_aged_turns += mirrored.num_aged_turns
    assert num_aged_turns > 0, "no schedule was overloaded"


def test_a_copy_run_ahead_changes_nothing_in_the_original() -> None:
    for seed in range(2000, 2025):
        assert turns_of(seed, is_run_ahead=True) == turns_of(seed, is_run_ahead=False), seed


def turns_of(seed: int, *, is_run_ahead: bool) -> list[tuple[float, object]]:
    """The turns and their times. On request, runs copies ahead before every tenth turn, as it is and with new work."""
    rng = random.Random(seed)
    cost = random_cost(rng)
    arbiter = Arbiter(cost, max_batch=4)
    turns: list[tuple[float, object]] = []

    def observe(now: float, turn: Turn) -> None:
        turns.append((now, _told(turn)))
        if is_run_ahead and len(turns) % 10 == 0:
            run_ahead(arbiter.copy(), now, turn.works[0].work_id)
            ahead = arbiter.copy()
            ahead.add(Work("new", now, now + 3.0, stage_id="stage-0", tenant="tenant-0", waits_since=now))
            run_ahead(ahead, now, "new")

    Simulation(arbiter, random_trace(rng, has_losses=True), cost, seed=seed, observe=observe).run()
    return turns


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (played(7)[0] for _ in range(2))
    assert [outcome.finished_at for outcome in first.outcomes] == [outcome.finished_at for outcome in second.outcomes]
    assert first.num_turns == second.num_turns > 0

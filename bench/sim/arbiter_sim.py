"""`sceneshift bench arbiter`: the arbiter of the engine on a virtual clock, side by side with simpler policies.

It runs the same code as the engine process (`engine.arbiter.arbiter`), with measured costs and made-up arrivals. For
every policy, the newest prompt of a stage supersedes the one before, and the same prompts count: a prompt counts unless
its own stage replaced it before its deadline. A prompt that was replaced later without a picture broke its promise.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.sim import traces
from bench.sim.plot import plot
from bench.sim.policies import EarliestDeadline, FirstComeFirstServed, FullFidelity, RoundRobin
from bench.sim.traces import Trace, TracePrompt
from engine.arbiter.arbiter import Arbiter
from engine.arbiter.cost import Cost, CostRow, percentile
from engine.arbiter.work import Policy, Turn, Work
from engine.config import Rung

POLICIES: dict[str, type[Policy]] = {
    "fcfs": FirstComeFirstServed,
    "round robin": RoundRobin,
    "edf": EarliestDeadline,
    "ours, no ladder": FullFidelity,
    "ours": Arbiter,
}
_TABLES = Path(__file__).parent / "costs"
# A piece takes its mean times a lognormal number: measured p90 of |predicted - measured| / measured is some 10 %.
_JITTER = 0.06


@dataclass(eq=False, slots=True)
class Outcome:
    """The outcome of one prompt. Times of the virtual clock; None if it never happened."""

    prompt: TracePrompt
    counts: bool  # its own stage did not replace it before its deadline
    latest_end_s: float = float("inf")  # the bound stated when it came
    preview_at: float | None = None
    finished_at: float | None = None
    superseded_at: float | None = None
    engine_s: float = 0.0
    rung_index: int = 0
    num_ends: int = 0


@dataclass(eq=False, slots=True)
class Playback:
    """A stage that continues its scene: plays clip after clip, stalls when the next is late."""

    stage: str
    plays_until: float | None = None
    played_s: float = 0.0
    stalled_s: float = 0.0


@dataclass(slots=True)
class Run:
    policy: Policy
    outcomes: list[Outcome] = field(default_factory=list)
    playbacks: dict[str, Playback] = field(default_factory=dict)
    busy_s: float = 0.0
    ended_at: float = 0.0
    num_turns: int = 0


class Simulation:
    """One policy, one trace. `observe` sees every turn before it runs, with the time."""

    def __init__(
        self,
        policy: Policy,
        trace: Trace,
        true_cost: Cost,
        *,
        seed: int = 0,
        clip_length_s: float = 2.0,
        observe: Callable[[float, Turn], None] | None = None,
    ) -> None:
        self._policy = policy
        self._trace = trace
        self._true_cost = true_cost
        self._rng = random.Random(seed)
        self._clip_length_s = clip_length_s
        self._observe = observe
        self._now = 0.0
        self._names = itertools.count()
        self._arrivals: list[tuple[float, int, TracePrompt]] = []
        self._losses = list(trace.losses)
        self._replaced_at = _replaced_at(trace.prompts)
        self._newest: dict[str, str] = {}  # stage: its work in flight
        self._shows_clip: set[str] = set()
        self._by_work: dict[str, Outcome] = {}
        self.run_ = Run(policy)

    def run(self) -> Run:
        for prompt in self._trace.prompts:
            self._push(prompt)
        for number, begins_at in enumerate(self._trace.streams):
            self.run_.playbacks[f"stream-{number}"] = Playback(f"stream-{number}")
            self._push(TracePrompt(begins_at, f"stream-{number}", f"tenant-{number}"))
        while True:
            self._lose()
            self._take_arrivals()
            turn = self._policy.next(self._now)
            if turn is not None:
                self._work(turn)
            elif self._arrivals:
                self._now = self._arrivals[0][0]
            else:
                break
        self.run_.ended_at = self._now
        return self.run_

    def _push(self, prompt: TracePrompt) -> None:
        heapq.heappush(self._arrivals, (prompt.at, next(self._names), prompt))

    def _lose(self) -> None:
        """The engine process dies: all work in flight begins again after the recovery."""
        while self._losses and self._losses[0] <= self._now:
            self._losses.pop(0)
            self._now += self._trace.recovery_s
            for work in list(self._policy):
                self._policy.remove(work.work_id)
                self._policy.add(work.anew())

    def _take_arrivals(self) -> None:
        while self._arrivals and self._arrivals[0][0] <= self._now:
            at, number, prompt = heapq.heappop(self._arrivals)
            self._supersede(prompt.stage, at)
            work = Work(
                work_id=str(number),
                arrived_at=at,
                due_at=at + prompt.due_in_s,
                quality=prompt.quality,
                stage_id=prompt.stage,
                tenant=prompt.tenant,
                is_operator=prompt.is_operator,
                is_stage_empty=prompt.stage not in self._shows_clip,
                waits_since=at,
            )
            self._policy.add(work)
            outcome = Outcome(prompt, counts=at + prompt.due_in_s <= self._replaced_at.get(prompt, float("inf")))
            if isinstance(self._policy, Arbiter):
                outcome.latest_end_s = self._policy.latest_end_s(work)
            self._by_work[work.work_id] = outcome
            self._newest[prompt.stage] = work.work_id
            self.run_.outcomes.append(outcome)

    def _supersede(self, stage: str, at: float) -> None:
        old = self._newest.pop(stage, None)
        if old is not None:
            self._policy.remove(old)
            self._by_work[old].superseded_at = at
            self._by_work[old].num_ends += 1

    def _work(self, turn: Turn) -> None:
        if self._observe is not None:
            self._observe(self._now, turn)
        first = turn.works[0]
        mean_s = self._true_cost.seconds(turn.piece, first.rung_index, batch=len(turn.works))
        seconds = mean_s * self._rng.lognormvariate(0.0, _JITTER) * self._trace.slowness(self._now)
        self._now += seconds
        self.run_.busy_s += seconds
        self.run_.num_turns += 1
        self._policy.cost.measure(turn.piece, first.rung_index, seconds, batch=len(turn.works))
        self._policy.ended(turn, seconds)
        for work in turn.works:
            work.shape_key = work.rung_index
            outcome = self._by_work[work.work_id]
            outcome.engine_s += seconds / len(turn.works)
            outcome.rung_index = work.rung_index
            if work.has_preview and outcome.preview_at is None:
                outcome.preview_at = self._now
            if work.is_decoded(self._policy.cost.num_pieces):
                self._finish(work, outcome)

    def _finish(self, work: Work, outcome: Outcome) -> None:
        self._policy.remove(work.work_id)
        del self._newest[work.stage_id]
        outcome.finished_at = self._now
        outcome.num_ends += 1
        self._shows_clip.add(work.stage_id)
        playback = self.run_.playbacks.get(work.stage_id)
        if playback is not None:
            self._continue(playback)

    def _continue(self, playback: Playback) -> None:
        """The clip plays as soon as the one before has ended, and the next starts from its last frame."""
        begins_at = max(self._now, playback.plays_until or self._now)
        if playback.plays_until is not None:
            playback.stalled_s += begins_at - playback.plays_until
        playback.played_s += self._clip_length_s
        playback.plays_until = begins_at + self._clip_length_s
        if begins_at < self._trace.duration_s:
            # Not before this clip is on air: at most one clip is made ahead.
            due_in_s = playback.plays_until - begins_at
            tenant = f"tenant-{playback.stage}"
            self._push(TracePrompt(begins_at, playback.stage, tenant, due_in_s=due_in_s))


def _replaced_at(prompts: Sequence[TracePrompt]) -> dict[TracePrompt, float]:
    """When each prompt's own stage sends the next prompt. Depends only on the trace, so equal for all policies."""
    newer: dict[str, TracePrompt] = {}
    replaced_at: dict[TracePrompt, float] = {}
    for prompt in reversed(prompts):
        if prompt.stage in newer:
            replaced_at[prompt] = newer[prompt.stage].at
        newer[prompt.stage] = prompt
    return replaced_at


# --- measures ---------------------------------------------------------------------------------------------------------


def measures(run: Run) -> dict[str, Any]:
    counted = [outcome for outcome in run.outcomes if outcome.counts]
    equals = [outcome for outcome in counted if outcome.prompt.tenant != "flooder"]
    previews = [_preview_s(outcome) for outcome in counted]
    on_time = [outcome for outcome in counted if _is_on_time(outcome)]
    wasted_s = sum(outcome.engine_s for outcome in run.outcomes if outcome.finished_at is None)
    finished = [outcome for outcome in run.outcomes if outcome.finished_at is not None]
    result: dict[str, Any] = {
        "prompts": len(run.outcomes),
        "counted": len(counted),
        "preview_p50_s": round(percentile(previews, 50), 3),
        "preview_p95_s": round(percentile(previews, 95), 3),
        "on_time_share": round(len(on_time) / len(counted), 4) if counted else 1.0,
        "picture_p95_s": round(percentile([_lived_s(outcome) for outcome in counted], 95), 2),
        "equals_on_time_share": round(sum(map(_is_on_time, equals)) / len(equals), 4) if equals else 1.0,
        "fairness": round(jain(shares_on_time(equals)), 4),
        "degraded_share": round(sum(outcome.rung_index > 0 for outcome in finished) / max(1, len(finished)), 3),
        "wasted_share": round(wasted_s / max(run.busy_s, 1e-9), 3),
        "utilisation": round(run.busy_s / max(run.ended_at, 1e-9), 3),
        "over_bound": sum(_lived_s(outcome) > outcome.latest_end_s for outcome in run.outcomes),
    }
    if run.playbacks:
        played_s = sum(playback.played_s for playback in run.playbacks.values())
        stalled_s = sum(playback.stalled_s for playback in run.playbacks.values())
        ratios = [
            playback.played_s / max(1e-9, playback.played_s + playback.stalled_s) for playback in run.playbacks.values()
        ]
        result["play_ratio"] = round(played_s / max(1e-9, played_s + stalled_s), 4)
        result["play_ratio_worst"] = round(min(ratios), 4)
    return result


def _is_on_time(outcome: Outcome) -> bool:
    return outcome.finished_at is not None and outcome.finished_at <= outcome.prompt.at + outcome.prompt.due_in_s


def _preview_s(outcome: Outcome) -> float:
    """Time to its first preview; without one, its whole wait (which flatters a policy that never shows any)."""
    shown_at = outcome.preview_at if outcome.preview_at is not None else outcome.superseded_at
    assert shown_at is not None
    return shown_at - outcome.prompt.at


def _lived_s(outcome: Outcome) -> float:
    ended_at = outcome.finished_at if outcome.finished_at is not None else outcome.superseded_at
    assert ended_at is not None
    return ended_at - outcome.prompt.at


def shares_on_time(counted: Sequence[Outcome]) -> list[float]:
    """For each tenant, the share of its prompts that were applied in time."""
    by_tenant: dict[str, list[bool]] = defaultdict(list)
    for outcome in counted:
        by_tenant[outcome.prompt.tenant].append(_is_on_time(outcome))
    return [statistics.fmean(hits) for hits in by_tenant.values()]


def jain(shares: Sequence[float]) -> float:
    """Jain, Chiu and Hawe 1984: 1 when all are equal, 1/n when one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


# --- the bench --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CostTable:
    """One file of `bench/sim/costs`: the ladder, the costs of its pieces, and the source of the numbers."""

    name: str
    source: str
    ladder: tuple[Rung, ...]
    num_pieces: int
    rows: tuple[CostRow, ...]
    clip_length_s: float
    max_batch: int = 1

    @classmethod
    def read(cls, path: Path) -> CostTable:
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def cost(self) -> Cost:
        cost = Cost(self.ladder, self.num_pieces)
        cost.take(self.rows)
        return cost


def run_all(table: CostTable, *, load: float, seed: int, num_clips: int) -> dict[str, Any]:
    cost = table.cost()
    makers = (traces.steady, traces.crowd, traces.bursty, traces.campaign, traces.flood, traces.slow, traces.lossy)
    made = [make(cost, seed, load, num_clips=num_clips) for make in makers]
    for make in (traces.streams, traces.mixed):
        made.append(make(cost, seed, load, clip_length_s=table.clip_length_s, num_clips=num_clips))
    results: dict[str, Any] = {}
    for trace in made:
        results[trace.name] = {"what": trace.what, "duration_s": round(trace.duration_s, 1)}
        for name, policy in POLICIES.items():
            simulation = Simulation(
                policy(table.cost(), max_batch=table.max_batch),
                trace,
                cost,
                seed=seed,
                clip_length_s=table.clip_length_s,
            )
            results[trace.name][name] = measures(simulation.run())
    return results


def goals(results: dict[str, Any]) -> list[str]:
    """The project's goals for the arbiter at 1.5 times overload, trace by trace, met or not."""
    lines = []
    for name, row in results.items():
        ours, fcfs, edf = row["ours"], row["fcfs"], row["edf"]
        if "play_ratio" in ours:
            gain, alone = (row[policy]["play_ratio"] / fcfs["play_ratio"] for policy in ("ours", "ours, no ladder"))
            told = f"{gain:.2f} times that of fcfs, {alone:.2f} without the ladder (SlackServe: 1.64-3.29)"
            lines.append(f"       {name}: continuous play ratio {told}")
        if name == "streams":
            continue
        preview = ours["preview_p95_s"] / max(1e-9, fcfs["preview_p95_s"])
        lines.append(_goal(name, "preview p95", preview, "of fcfs", preview <= 1 / 3, "at most 0.33"))
        gain = ours["on_time_share"] / max(1e-9, fcfs["on_time_share"])
        if fcfs["on_time_share"] < 1 / 1.7:
            lines.append(_goal(name, "applied in time", gain, "times fcfs", gain >= 1.7, "at least 1.7"))
        else:
            lines.append(
                f"       {name}: applied in time {gain:.2f} times fcfs; 1.7 times would be more than all prompts"
            )
        above = ours["on_time_share"] - edf["on_time_share"]
        lines.append(_goal(name, "applied in time", above, "above edf", above >= 0, "at least 0"))
        if name == "flood":
            fair = ours["fairness"]
            lines.append(_goal(name, "Jain's index of the equal tenants", fair, "", fair >= 0.95, "at least 0.95"))
        lines.append(_goal(name, "older than the bound", ours["over_bound"], "", ours["over_bound"] == 0, "none"))
    return lines


def _goal(trace: str, what: str, value: float, unit: str, is_met: bool, goal: str) -> str:
    return f"{'met   ' if is_met else 'NOT met'} {trace}: {what} {value:.3g} {unit} (goal: {goal})"


_COLUMNS = {
    "preview_p50_s": "preview p50",
    "preview_p95_s": "p95 s",
    "on_time_share": "in time",
    "equals_on_time_share": "of equals",
    "fairness": "Jain",
    "picture_p95_s": "picture p95",
    "degraded_share": "degraded",
    "wasted_share": "wasted",
    "over_bound": "over bound",
    "play_ratio": "play ratio",
}


def text(results: dict[str, Any]) -> str:
    lines = []
    for name, row in results.items():
        lines.append(f"\n{name}: {row['what']}")
        columns = [key for key in _COLUMNS if key in row["ours"]]
        lines.append(" " * 18 + "".join(f"{_COLUMNS[key]:>13}" for key in columns))
        for policy in POLICIES:
            lines.append(f"  {policy:<16}" + "".join(f"{row[policy][key]:>13}" for key in columns))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench arbiter", description=__doc__)
    parser.add_argument(
        "--costs", type=Path, default=_TABLES / "embedded-2-cores.json", help="a table of bench/sim/costs"
    )
    parser.add_argument("--load", type=float, default=1.5, help="work asked for by work that can be made")
    parser.add_argument("--clips", type=int, default=800, help="length of each trace, in clips that can be made")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="an SVG file to write")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args(argv)
    table = CostTable.read(arguments.costs)
    began_at = time.monotonic()
    results = run_all(table, load=arguments.load, seed=arguments.seed, num_clips=arguments.clips)
    took_s = round(time.monotonic() - began_at, 1)
    if arguments.plot:
        arguments.plot.write_text(plot(results, title=f"{table.name} at {arguments.load:g} times the load"))
    if arguments.json:
        about = {"bench": "arbiter", "costs": table.name, "source": table.source, "load": arguments.load}
        print(
            json.dumps(
                {**about, "seed": arguments.seed, "took_s": took_s, "goals": goals(results), **results}, indent=2
            )
        )
    else:
        print(f"{table.name} ({table.source}), load {arguments.load:g}, seed {arguments.seed}, {took_s} s")
        print(text(results))
        print("\n" + "\n".join(goals(results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

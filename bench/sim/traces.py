"""Arrivals for `bench.sim.arbiter_sim`: which stage prompts when. Made from a seed, independent of the policy.

`load` is the engine time that all prompts would need if each became a clip at full fidelity, divided by the available
time. Prompts of one stage supersede each other, so the work that is really wanted is less.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.api import Quality
from engine.arbiter.cost import Cost

# The product's promise for a prompt (`server.session.session`): three seconds, or three times its clip's cost.
PROMISE_S, PROMISE_COSTS = 3.0, 3.0
FINE_SHARE = 0.2
AUDIENCE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class TracePrompt:
    at: float
    stage: str
    tenant: str
    quality: Quality = Quality.FAST
    is_operator: bool = True
    due_in_s: float = PROMISE_S


@dataclass(frozen=True, slots=True)
class Trace:
    """`losses`: the engine process dies at these times and is back `recovery_s` later. `slowness`: the factor on all
    pieces' times at time t. `streams`: start times of stages that continue their scene; each wants its next clip by the
    end of the running one."""

    name: str
    what: str
    duration_s: float
    prompts: Sequence[TracePrompt]
    losses: Sequence[float] = ()
    recovery_s: float = 5.0
    slowness: Callable[[float], float] = lambda _: 1.0
    streams: Sequence[float] = ()


def mean_clip_s(cost: Cost) -> float:
    return (1 - FINE_SHARE) * cost.clip_s(0, Quality.FAST) + FINE_SHARE * cost.clip_s(0, Quality.FINE)


def steady(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """Forty stages of ten tenants, prompts at random."""
    duration_s = num_clips * mean_clip_s(cost)
    prompts = _poisson(random.Random(seed), cost, load, duration_s, num_stages=40, num_tenants=10)
    return Trace("steady", "40 stages of 10 tenants, prompts at random", duration_s, prompts)


def crowd(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """Two thousand sessions that each prompt rarely: hardly any of them supersedes its own prompt."""
    duration_s = num_clips * mean_clip_s(cost)
    prompts = _poisson(random.Random(seed), cost, load, duration_s, num_stages=2000, num_tenants=50)
    return Trace("crowd", "2000 sessions of 50 tenants that prompt rarely", duration_s, prompts)


def bursty(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """Chat bots: bursts of three to ten audience prompts within seconds, each superseding the one before."""
    rng = random.Random(seed)
    duration_s = num_clips * mean_clip_s(cost)
    rate = load / mean_clip_s(cost) / 2
    prompts: list[TracePrompt] = []
    at = 0.0
    while (at := at + rng.expovariate(rate / 6.5)) < duration_s:
        stage = rng.randrange(60)
        for _ in range(rng.randint(3, 10)):
            when = at + rng.uniform(0.0, 4.0)
            prompts.append(_prompt(rng, cost, when, stage, 15, is_operator=False))
    prompts += _poisson(rng, cost, load / 2, duration_s, num_stages=60, num_tenants=15)
    what = "60 stages, half of the prompts in bursts of 3-10 from chat"
    return Trace("bursty chat", what, duration_s, _sorted(prompts))


def campaign(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """Three hundred sessions open within twenty clip times, and prompt again after a while."""
    rng = random.Random(seed)
    clip_s = mean_clip_s(cost)
    prompts = [_prompt(rng, cost, rng.uniform(0, 20 * clip_s), stage, 30) for stage in range(300)]
    prompts += _poisson(rng, cost, load / 3, num_clips * clip_s, num_stages=300, num_tenants=30)
    what = "300 sessions open at once, then prompt now and then"
    return Trace("campaign", what, num_clips * clip_s, _sorted(prompts))


def flood(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """Ten tenants with four stages each want three quarters of the engine; an eleventh with sixty stages the rest."""
    rng = random.Random(seed)
    duration_s = num_clips * mean_clip_s(cost)
    quiet = _poisson(rng, cost, 0.75, duration_s, num_stages=40, num_tenants=10)
    loud = _poisson(rng, cost, max(0.25, load - 0.75) * 2, duration_s, num_stages=60, num_tenants=1, name="flooder")
    what = f"10 equal tenants at 0.75 of the engine, one floods with {max(0.25, load - 0.75) * 2:g} more"
    return Trace("flood", what, duration_s, _sorted([*quiet, *loud]))


def slow(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """Two thirds of the load, but in the middle third of the time everything takes twice as long."""
    trace = steady(cost, seed, load * 2 / 3, num_clips=num_clips)
    middle = (trace.duration_s / 3, trace.duration_s * 2 / 3)
    what = "steady at two thirds of the load; in the middle third all takes twice as long"
    return Trace(
        "slow engine", what, trace.duration_s, trace.prompts, slowness=lambda at: 2 if middle[0] < at < middle[1] else 1
    )


def lossy(cost: Cost, seed: int, load: float, *, num_clips: int = 800) -> Trace:
    """The engine process dies three times and is back after five seconds; work in flight begins again."""
    trace = steady(cost, seed, load, num_clips=num_clips)
    losses = tuple(trace.duration_s * share for share in (0.2, 0.5, 0.8))
    what = "steady, and the engine is lost three times for 5 s"
    return Trace("worker loss", what, trace.duration_s, trace.prompts, losses=losses)


def streams(cost: Cost, seed: int, load: float, *, clip_length_s: float, num_clips: int = 800) -> Trace:
    """Stages that continue their scene: each needs a new clip every clip length, or it stalls."""
    rng = random.Random(seed)
    num_streams = max(2, round(load * clip_length_s / cost.clip_s(0, Quality.FAST)))
    duration_s = num_clips * cost.clip_s(0, Quality.FAST)
    what = f"{num_streams} stages continue their scene, a clip of {clip_length_s:.3g} s each time"
    begins = tuple(rng.uniform(0, clip_length_s) for _ in range(num_streams))
    return Trace("streams", what, duration_s, (), streams=begins)


def mixed(cost: Cost, seed: int, load: float, *, clip_length_s: float, num_clips: int = 800) -> Trace:
    """Half of the load are prompts, half stages that continue their scene: deadlines differ."""
    trace = streams(cost, seed, load / 2, clip_length_s=clip_length_s, num_clips=num_clips)
    prompts = _poisson(random.Random(seed), cost, load / 2, trace.duration_s, num_stages=40, num_tenants=10)
    what = f"{len(trace.streams)} stages continue their scene, 40 others are prompted at random"
    return Trace("mixed", what, trace.duration_s, prompts, streams=trace.streams)


def _poisson(
    rng: random.Random, cost: Cost, load: float, duration_s: float, *, num_stages: int, num_tenants: int, name: str = ""
) -> list[TracePrompt]:
    rate = load / mean_clip_s(cost)
    prompts: list[TracePrompt] = []
    at = 0.0
    while (at := at + rng.expovariate(rate)) < duration_s:
        is_operator = rng.random() >= AUDIENCE_SHARE
        stage = rng.randrange(num_stages)
        prompts.append(_prompt(rng, cost, at, stage, num_tenants, is_operator=is_operator, name=name))
    return prompts


def _prompt(
    rng: random.Random, cost: Cost, at: float, stage: int, num_tenants: int, *, is_operator: bool = True, name: str = ""
) -> TracePrompt:
    quality = Quality.FINE if rng.random() < FINE_SHARE else Quality.FAST
    tenant = name or f"tenant-{stage % num_tenants}"
    due_in_s = max(PROMISE_S, PROMISE_COSTS * cost.clip_s(0, quality))
    return TracePrompt(at, f"{name}stage-{stage}", tenant, quality, is_operator, due_in_s)


def _sorted(prompts: list[TracePrompt]) -> list[TracePrompt]:
    return sorted(prompts, key=lambda prompt: prompt.at)

"""The policies that `bench.sim.arbiter_sim` compares with `Arbiter`.

They have the same interface, the same superseding and the same first previews. None of them uses the fidelity ladder
(`FullFidelity` is `Arbiter` without it). Like `Arbiter`, they refine a preview only when that delays no other work. So
only the order differs.
"""

from __future__ import annotations

from engine.arbiter.arbiter import Arbiter
from engine.arbiter.work import Policy, Turn, Work


class FirstComeFirstServed(Policy):
    """One generation after the other, as servers of this kind work today."""

    def _choose(self, now: float) -> Work:
        return next(iter(self._works.values()))


class RoundRobin(Policy):
    """One piece for each in turn."""

    def _choose(self, now: float) -> Work:
        return next(iter(self._works.values()))

    def ended(self, turn: Turn, seconds: float) -> None:
        super().ended(turn, seconds)
        for work in turn.works:
            if work.work_id in self._works:
                self._works[work.work_id] = self._works.pop(work.work_id)


class EarliestDeadline(Policy):
    """Earliest deadline first, preemptive at every boundary."""

    def _choose(self, now: float) -> Work:
        return min(self._works.values(), key=lambda work: work.due_at)


class FullFidelity(Arbiter):
    """`Arbiter` without the ladder: shows the gain from the order alone."""

    def _choose_level(self, now: float) -> int:
        return 0

"""Which deadlines can be kept together: the sums behind the arbiter's promises. Pure; see `engine.arbiter.arbiter`."""

from __future__ import annotations

import bisect
import copy
from collections.abc import Iterator, Sequence

from engine.arbiter.work import Policy, Work

# First previews get at most this share of the engine's time when there is no slack for them.
PREVIEW_SHARE = 0.5
# Predictions are off by some 10 % (p90 on a quiet machine), and later work may outrank promised work.
HEADROOM = 1.2


class Promise:
    """Whether works that run one after the other, by deadline, all end in time.

    First previews of all other works run in between. They take the time that they need before a work's end, but not
    more than their share of that time.
    """

    def __init__(
        self, policy: Policy, now: float, *, level: int, slowness: float = 1.0, preview_load: float = 0.0
    ) -> None:
        """`slowness` multiplies all times; `preview_load` is the share of the time that future previews will take."""
        self._now = now
        self.needs = {
            work.work_id: policy.needs(work, work.rung_index if work.is_begun else max(level, work.min_rung))
            for work in policy
        }
        self._all_unseen_s = sum(unseen_s for unseen_s, _ in self.needs.values())
        self._arriving_ratio = preview_load / (1 - preview_load)
        self._slowness = slowness * HEADROOM

    def hopeful(self) -> Promise:
        """The same without headroom."""
        hopeful = copy.copy(self)
        hopeful._slowness /= HEADROOM
        hopeful._arriving_ratio = 0.0
        return hopeful

    def fits(self, works: Sequence[Work]) -> bool:
        return all(end <= work.due_at for work, end in self._ends(works, PREVIEW_SHARE / (1 - PREVIEW_SHARE)))

    def add(self, works: list[Work], work: Work) -> bool:
        """Puts `work` where its deadline belongs, if they all fit then."""
        if self._now + sum(self.needs[work.work_id]) * self._slowness > work.due_at:
            return False
        place = bisect.bisect_right(works, work.due_at, key=due)
        works.insert(place, work)
        if self.fits(works):
            return True
        del works[place]
        return False

    def spare_s(self, works: Sequence[Work]) -> float:
        """The least slack of all when all first previews go first."""
        return min((work.due_at - end for work, end in self._ends(works, float("inf"))), default=float("inf"))

    def _ends(self, works: Sequence[Work], preview_ratio: float) -> Iterator[tuple[Work, float]]:
        own_s, others_unseen_s = 0.0, self._all_unseen_s
        for work in works:
            unseen_s, rest_s = self.needs[work.work_id]
            own_s += unseen_s + rest_s
            others_unseen_s -= unseen_s
            between_s = max(own_s * self._arriving_ratio, min(others_unseen_s, own_s * preview_ratio))
            yield work, self._now + (own_s + between_s) * self._slowness


def due(work: Work) -> float:
    return work.due_at

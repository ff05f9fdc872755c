"""Decides which piece of work runs next, and which works share a step. Pure: no clock, no model, no I/O.

Three callers run this code: the worker with real pieces, the supervisor on a virtual clock to estimate how long a new
prompt would take, and the simulator (`bench.sim.arbiter_sim`) with thousands of sessions. Each reports arrivals and
departures (`add`, `remove`), asks for the next `Turn` at every boundary, runs it, and reports its time (`ended`).

The policy, in the order in which `Arbiter.next` applies it:

1. **No work starves.** Work that has waited for `AGED_AFTER_S` gets a tenth of the engine's time, the oldest first. So
   a prompt ends at most `AGED_AFTER_S + (time that it and all older work need) / AGED_SHARE` and one piece after its
   arrival, whatever else arrives (`latest_end_s`). Old work does not get all of the time: in lasting overload all work
   gets old, and an arbiter that serves only old work is first come, first served again. Background work (clips for
   files) may have a share of its own, which the operator sets.
2. **First previews, out of slack.** A prompt that shows nothing yet gets its first step and preview at once, if that
   makes no promised clip late. Otherwise first previews get up to half of the engine's time: a preview costs a tenth
   of a clip and is most of what the user waits for.
3. **Promised clips by slack.** `_choose_promised` decides for all works together which deadlines to keep. It promises
   works in order of rank as long as every promised work stays on time. Promised works run earliest deadline first,
   which is optimal for a set that fits (Liu and Layland 1973). A work that does not fit would only make others late
   (Moore 1968 drops work for that reason).
4. **Late work** gets the rest. Work under way comes first, so that it ends instead of many works being half done.

Rank: an empty stage before one that loops, then an operator before the audience, then tenants by the engine time that
they have had (start-time fair queueing, Goyal et al. 1996: an idle tenant saves up nothing). A tenant that has had
clearly more than the mean gets the lowest rank. Otherwise it could take the engine by opening empty stages.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from engine.api import Quality
from engine.arbiter.cost import Cost, Piece
from engine.arbiter.promise import HEADROOM, PREVIEW_SHARE, Promise, due
from engine.arbiter.work import Policy, Turn, Work

# Later than any promised deadline: until then, promises decide.
AGED_AFTER_S = 20.0
AGED_SHARE = 0.1
# Choose a rung only if it leaves this much room, scaled by the recent load, because more work will arrive. A climb
# needs more room, and some time since the last pressure: otherwise viewers would see quality flicker.
_LEVEL_ROOM = 0.7
_CLIMB_ROOM = 1.4
CLIMB_AFTER_S = 5.0
_CLIMB_BUSYNESS = 0.8
# A joint step must take less than this share of the single steps, because all its works wait for it.
_BATCH_GAIN = 0.95
# A stage that prompts faster than this gets its first previews out of slack only.
_PREVIEW_EVERY_S = 1.0
# The time constant of recent load (`busyness`, `preview_load`): after five times this, less than a hundredth is left.
_LOAD_MEMORY_S = 5.0
LOWEST_RANK = 3
# A tenant may be this many clips ahead of the mean before it gets the lowest rank.
_CLIPS_BEYOND = 8
# How many stages `unserved` and `previewed_at` remember, the newest.
MAX_REMEMBERED = 512


@dataclass(slots=True)
class _Plan:
    """The promised and the late works, in the order in which they run. Valid until a work arrives or leaves."""

    made_at: float
    promised: list[Work]
    late: list[Work]
    unseen: list[Work]  # of both
    spare_s: float  # time for other work before the first promise breaks, with all first previews counted

    def copy(self, copies: Mapping[Work, Work]) -> _Plan:
        """The same plan for copies of its works. Leaves out works that are gone; the arbiter skips those anyway."""
        promised, late, unseen = (
            [copies[work] for work in works if work in copies] for works in (self.promised, self.late, self.unseen)
        )
        return replace(self, promised=promised, late=late, unseen=unseen)


@dataclass(slots=True)
class Standing:
    """All that the arbiter remembers besides the works, in one value, so that a copy is complete."""

    plan: _Plan | None = None
    served_s: dict[str, float] = field(default_factory=dict)  # tenant: engine time had (SFQ's virtual time)
    unserved: OrderedDict[str, float] = field(default_factory=OrderedDict)  # stage: since when it waits
    previewed_at: OrderedDict[str, float] = field(default_factory=OrderedDict)  # stage: time of its last first preview
    preview_credit_s: float = 0.0
    aged_credit_s: float = 0.0
    aged_turn: Work | None = None  # the work that runs by rule 1
    background_credit_s: float = 0.0
    busyness: float = 0.0  # recent share of the time in which the engine worked
    preview_load: float = 0.0  # recent share of the engine's time that first previews took
    ended_at: float = 0.0
    fair_s: float = 0.0  # a tenant that has had more gets the lowest rank
    pressed_at: float = -math.inf  # when a better level last could not keep every promise

    def copy(self, copies: Mapping[Work, Work]) -> Standing:
        """The same, where each work is replaced by its copy."""
        return replace(
            self,
            plan=self.plan and self.plan.copy(copies),
            served_s=self.served_s.copy(),
            unserved=self.unserved.copy(),
            previewed_at=self.previewed_at.copy(),
            aged_turn=self.aged_turn and copies.get(self.aged_turn),
        )

    def was_idle_until(self, now: float) -> None:
        self.busyness *= math.exp(min(0.0, self.ended_at - now) / _LOAD_MEMORY_S)
        self.ended_at = now

    def worked(self, seconds: float, *, is_first_preview: bool) -> None:
        weight = 1 - math.exp(-seconds / _LOAD_MEMORY_S)
        self.preview_load += weight * (min(is_first_preview, PREVIEW_SHARE) - self.preview_load)
        self.busyness += weight * (1.0 - self.busyness)
        self.ended_at += seconds

    def has_more_than_its_share(self, tenant: str) -> bool:
        return self.served_s[tenant] > self.fair_s


class Arbiter(Policy):
    """The product's policy; the module's docstring describes it."""

    uses_ladder = True

    def __init__(self, cost: Cost, *, max_batch: int = 1, replan_after_s: float = 1.0) -> None:
        super().__init__(cost, max_batch=max_batch)
        # Measured times drift away from predicted ones, so a plan is not valid for longer than this.
        self._replan_after_s = replan_after_s
        self._standing = Standing()

    def copy(self) -> Self:
        """A copy to run ahead: it takes the same turns and leaves this one unchanged. Both share the costs."""
        copies = {work: copy.copy(work) for work in self}
        ahead = copy.copy(self)
        ahead._works = {work.work_id: work for work in copies.values()}
        ahead._standing = self._standing.copy(copies)
        return ahead

    # --- arrivals and departures ----------------------------------------------------------------------------------

    def add(self, work: Work) -> None:
        super().add(work)
        work.waits_since = min(work.waits_since, self._standing.unserved.pop(work.stage_id, work.waits_since))
        floor = len(self.cost.ladder) - 1
        work.could_be_met = work.arrived_at + self.remaining_s(work, floor) <= work.due_at
        self._lift(work.tenant)
        self._standing.plan = None

    def remove(self, work_id: str) -> Work | None:
        work = super().remove(work_id)
        if work is None or work.is_decoded(self.cost.num_pieces):
            return work
        self._standing.plan = None
        # A stage that prompts again before it was served keeps its place in the queue. If it drops work that was
        # served, it keeps none: otherwise one restless stage could take the whole share of old work.
        if work.stage_id and not work.is_under_way and not work.was_aged_turn:
            _put(self._standing.unserved, work.stage_id, work.waits_since)
        return work

    def ended(self, turn: Turn, seconds: float) -> None:
        super().ended(turn, seconds)
        standing = self._standing
        for work in turn.works:
            standing.served_s[work.tenant] += seconds / len(turn.works)
        first = turn.works[0]
        is_first_preview = first.wants_previews and first.step_index <= 1
        for_aged_s = seconds / len(turn.works) if standing.aged_turn in turn.works else 0.0
        standing.aged_credit_s += seconds * AGED_SHARE - for_aged_s
        share = max((work.background_share for work in self), default=0.0)
        for_background_s = seconds * sum(work.is_background for work in turn.works) / len(turn.works)
        credit_s = standing.background_credit_s + seconds * share - for_background_s
        standing.background_credit_s = max(-seconds, min(seconds, credit_s)) if share > 0 else 0.0
        standing.worked(seconds, is_first_preview=is_first_preview)
        if turn.piece is Piece.PREVIEW and first.stage_id and is_first_preview:
            _put(standing.previewed_at, first.stage_id, standing.ended_at)
        gained_s = -seconds if is_first_preview else seconds * PREVIEW_SHARE / (1 - PREVIEW_SHARE)
        cap_s = 2 * self.cost.preview_s(0)
        standing.preview_credit_s = max(-cap_s, min(cap_s, standing.preview_credit_s + gained_s))
        if standing.plan is not None and (first.is_late or turn.piece is Piece.PREVIEW) and not is_first_preview:
            standing.plan.spare_s -= seconds

    def latest_end_s(self, work: Work) -> float:
        """The latest end that rule 1 guarantees, in seconds from the work's arrival.

        Each older work counts as a whole clip of the finest quality, because its stage may still replace it by one.
        """
        finest_s = max(self.cost.clip_s(0, quality) for quality in Quality)
        num_elders = sum(other.waits_since <= work.waits_since for other in self if other is not work)
        longest_s = max(self.cost.seconds(piece, 0, batch=self._max_batch) for piece in Piece)
        return AGED_AFTER_S + (num_elders * finest_s + self.remaining_s(work, 0)) / AGED_SHARE + longest_s

    def _lift(self, tenant: str) -> None:
        """A tenant that comes back starts level with those that are here. Absent tenants are forgotten in time."""
        here = {work.tenant for work in self}
        served_s = self._standing.served_s
        others = [served_s.get(other, 0.0) for other in here - {tenant}]
        level_s = min(others, default=0.0)
        was_here = sum(work.tenant == tenant for work in self) > 1
        own_s = served_s.get(tenant, 0.0)
        remembered = {name: had_s for name, had_s in served_s.items() if name in here or had_s > level_s}
        remembered[tenant] = own_s if was_here else max(own_s, level_s) if others else 0.0
        self._standing.served_s = remembered

    # --- the policy: what runs next -------------------------------------------------------------------------------

    def _choose(self, now: float) -> Work:
        self._standing.was_idle_until(now)
        plan = self._plan(now)
        aged = self._standing.aged_turn = self._aged(now)
        chosen = (
            aged
            or self._background()
            or self._preview_first(plan)
            or self._head(plan.promised)
            or self._head(plan.late)
        )
        assert chosen is not None, "every work is promised or late"
        return chosen

    def _aged(self, now: float) -> Work | None:
        """Rule 1: the oldest work, if it is old enough and the share of old work is due."""
        eldest = min(self, key=_age)
        if now - eldest.waits_since < AGED_AFTER_S:
            self._standing.aged_credit_s = 0.0
            return None
        if self._standing.aged_credit_s < 0:
            return None
        eldest.was_aged_turn = True
        return eldest

    def _background(self) -> Work | None:
        """Rule 1: the oldest background work, if its share of the time is due."""
        waiting = [work for work in self if work.background_share > 0]
        if not waiting or self._standing.background_credit_s < 0:
            return None
        return min(waiting, key=_age)

    def _preview_first(self, plan: _Plan) -> Work | None:
        """Rule 2: a work without a preview yet, if there is slack for one or the previews' share is due."""
        while plan.unseen and not (self._is_here(plan.unseen[0]) and plan.unseen[0].is_unseen):
            plan.unseen.pop(0)
        if not plan.unseen or plan.spare_s >= 0 or not self._head(plan.promised):
            return plan.unseen[0] if plan.unseen else None
        if self._standing.preview_credit_s < 0:
            return None
        # Here a preview costs other works their promises, so its stage must have seen nothing new for a while.
        # Otherwise a chat with three prompts a second would get three previews a second, each void at once.
        long_ago = self._standing.ended_at - _PREVIEW_EVERY_S
        return next((work for work in plan.unseen if self._is_waiting(work, long_ago)), None)

    def _is_waiting(self, work: Work, long_ago: float) -> bool:
        seen_at = self._standing.previewed_at.get(work.stage_id, -math.inf)
        return work.is_unseen and self._is_here(work) and seen_at < long_ago

    def _head(self, works: list[Work]) -> Work | None:
        while works and not self._is_here(works[0]):
            works.pop(0)
        return works[0] if works else None

    def _is_here(self, work: Work) -> bool:
        return self._works.get(work.work_id) is work

    def _has_time_to_refine(self, work: Work) -> bool:
        plan = self._standing.plan
        assert plan is not None
        is_ample = len(self) == 1 or plan.spare_s >= self.cost.clip_s(0, work.quality)
        return is_ample and not self._head(plan.late) and self._preview_first(plan) in (None, work)

    def _companions(self, work: Work) -> tuple[Work, ...]:
        """The works that share its step, if the measured cost says that a joint step gains and breaks no promise."""
        plan = self._standing.plan
        assert plan is not None
        if self._max_batch == 1 or work.shape_key is None:
            return (work,)
        ready = [other for other in (*plan.promised, *plan.late) if other is not work and self._may_join(other, work)]
        alone_s = self.cost.seconds(Piece.STEP, work.rung_index)
        for size in range(min(self._max_batch, len(ready) + 1), 1, -1):
            together_s = self.cost.seconds(Piece.STEP, work.rung_index, batch=size)
            if together_s < _BATCH_GAIN * size * alone_s and together_s - alone_s <= plan.spare_s:
                for other in ready[: size - 1]:
                    other.owes_preview = False
                return (work, *ready[: size - 1])
        return (work,)

    def _may_join(self, other: Work, work: Work) -> bool:
        if not self._is_here(other):
            return False
        if not other.is_begun:  # its shape is known when it begins
            return other.rung_index == work.rung_index
        is_free = not other.is_denoised and (not other.owes_preview or other.has_preview)
        return is_free and other.shape_key == work.shape_key

    # --- the policy: what is promised -----------------------------------------------------------------------------

    def _plan(self, now: float) -> _Plan:
        plan = self._standing.plan
        if plan is None or now - plan.made_at > self._replan_after_s:
            plan = self._standing.plan = self._make_plan(now)
        return plan

    def _make_plan(self, now: float) -> _Plan:
        self.level = self._choose_level(now)
        served_s = self._standing.served_s
        here_s = [served_s[tenant] for tenant in {work.tenant for work in self}]
        tolerance_s = _CLIPS_BEYOND * self.cost.clip_s(0, Quality.FAST)
        self._standing.fair_s = sum(here_s) / len(here_s) + tolerance_s
        for work in self:
            if not work.is_begun:
                work.rung_index = work.min_rung if work.is_background else max(self.level, work.min_rung)
        fit = self._promise(now, self.level)
        promised, late = self._choose_promised(fit)
        for work in self:
            work.is_late = False
        for work in late:
            work.is_late = True
        late.sort(key=lambda work: (*self._group(work), served_s[work.tenant], work.arrived_at))
        unseen = [work for work in self if work.is_unseen]
        unseen.sort(key=lambda work: (self._rank(work), not work.is_begun, served_s[work.tenant], work.arrived_at))
        return _Plan(now, promised, late, unseen, fit.spare_s(promised))

    def _promise(self, now: float, level: int, *, room: float = 1.0) -> Promise:
        has_aged = any(now - work.waits_since >= AGED_AFTER_S for work in self)
        share = max((work.background_share for work in self), default=0.0)
        slowness = room / (1 - AGED_SHARE * has_aged) / (1 - share)
        return Promise(self, now, level=level, slowness=slowness, preview_load=self._standing.preview_load)

    def _choose_level(self, now: float) -> int:
        """The highest level of the ladder on which every promise can be kept; the lowest while one is broken.

        It goes down at once. It goes up again only with room to spare and after a while, or quality would flicker.
        """
        floor = len(self.cost.ladder) - 1
        keepable = sorted((work for work in self if work.could_be_met), key=due)
        if any(work.is_late for work in keepable):
            self._standing.pressed_at = now
            return floor
        for level in range(floor + 1):
            is_climb = level < self.level
            if is_climb and not self._may_climb(now, level):
                continue
            room = (1.0 + self._standing.busyness * (_CLIMB_ROOM if is_climb else _LEVEL_ROOM)) / HEADROOM
            if self._promise(now, level, room=room).fits(keepable):
                break
            self._standing.pressed_at = now
        return level

    def _rank(self, work: Work) -> int:
        return LOWEST_RANK if self._standing.has_more_than_its_share(work.tenant) else work.rank

    def _group(self, work: Work) -> tuple[int, bool]:
        """Work under way is promised before new work of its rank, because dropping it would be a waste."""
        return self._rank(work), not work.is_under_way

    def _may_climb(self, now: float, level: int) -> bool:
        """False soon after pressure, or if the current load would be too much at the higher level."""
        dearer = self.cost.clip_s(level, Quality.FAST) / max(1e-9, self.cost.clip_s(self.level, Quality.FAST))
        was_pressed = now - self._standing.pressed_at < CLIMB_AFTER_S
        return not was_pressed and self._standing.busyness * dearer <= _CLIMB_BUSYNESS

    def _choose_promised(self, fit: Promise) -> tuple[list[Work], list[Work]]:
        """Rule 3: the promised works by deadline, and the others. By rank, while all promised works stay on time."""
        everything = sorted(self, key=due)
        if fit.fits(everything):
            return everything, []
        promised: list[Work] = []
        late: list[Work] = []
        served_s = dict(self._standing.served_s)
        for _, rivals in itertools.groupby(sorted(self, key=self._group), key=self._group):
            queues: dict[str, list[Work]] = {}
            for work in sorted(rivals, key=due, reverse=True):
                queues.setdefault(work.tenant, []).append(work)
            turns = [(served_s[tenant], tenant) for tenant in queues]
            heapq.heapify(turns)
            while turns:
                had_s, tenant = heapq.heappop(turns)
                work = queues[tenant].pop()
                if fit.add(promised, work):
                    had_s += sum(fit.needs[work.work_id])
                else:
                    late.append(work)
                served_s[tenant] = had_s
                if queues[tenant]:
                    heapq.heappush(turns, (had_s, tenant))
        # Works that do not fit with headroom are tried without it. If that was too hopeful, they are lost first.
        hopeful = fit.hopeful()
        had_more = self._standing.has_more_than_its_share
        late = [work for work in late if had_more(work.tenant) or not hopeful.add(promised, work)]
        return promised, late


def _put(times: OrderedDict[str, float], stage_id: str, at: float) -> None:
    times[stage_id] = at
    times.move_to_end(stage_id)
    if len(times) > MAX_REMEMBERED:
        times.popitem(last=False)


def _age(work: Work) -> float:
    return work.waits_since

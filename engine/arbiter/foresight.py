"""Estimates how long a prompt sent now would take: runs the arbiter ahead on a virtual clock. Pure; server process.

A second arbiter follows the engine process's arbiter by its reports (begun, step finished, frames). For an estimate, a
copy of it gets the new prompt and runs to that prompt's end with predicted times, as if no other prompt came. The
errors of past estimates are recorded and reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.api import Estimate, Generate
from engine.arbiter.arbiter import Arbiter
from engine.arbiter.cost import Cost, CostRow, Piece, percentile
from engine.arbiter.work import Turn, Work, run_ahead
from engine.config import Rung

_NUM_ERRORS = 256


class Foresight:
    """All times are seconds of the caller's clock."""

    def __init__(self, ladder: Sequence[Rung], num_pieces: int, rows: Sequence[CostRow], *, max_batch: int = 1) -> None:
        self.cost = Cost(ladder, num_pieces)
        self.cost.take(rows)
        self._arbiter = Arbiter(self.cost, max_batch=max_batch)
        self._errors: deque[float] = deque(maxlen=_NUM_ERRORS)
        self._last_seen_at = 0.0

    @property
    def error_p90(self) -> float | None:
        """90th percentile of |estimated - real| / real for the time to the picture; None before the first picture."""
        return percentile(self._errors, 90) if self._errors else None

    def record_outcome(self, foretold_s: float, real_s: float) -> None:
        """A prompt was finished `real_s` after it was sent."""
        self._errors.append(abs(foretold_s - real_s) / max(real_s, 1e-6))

    def inherit(self, before: Foresight) -> None:
        """Takes over the record of the engine process that was lost."""
        self._errors.extend(before._errors)

    # --- what happens in the engine process -----------------------------------------------------------------------

    def add(self, command: Generate, now: float) -> None:
        self._arbiter.add(Work.of(command, now))

    def remove(self, generation_id: str) -> None:
        """Ended or cancelled. A second call does nothing."""
        self._arbiter.remove(generation_id)

    def begun(self, generation_id: str, num_steps: int, degraded: tuple[str, ...], now: float) -> None:
        work = self._arbiter.get(generation_id)
        if work is None:
            return
        if work.is_begun:  # made again on a lower rung
            self._arbiter.remove(generation_id)
            work = work.anew()
            self._arbiter.add(work)
        work.rung_index = self._arbiter.level = self._rung_of(work, num_steps, degraded)
        work.num_steps = num_steps
        self.advanced(generation_id, Piece.BEGIN, now)

    def advanced(self, generation_id: str, piece: Piece, now: float) -> None:
        work = self._arbiter.get(generation_id)
        self._last_seen_at = now
        if work is not None:
            self._arbiter.ended(Turn(piece, (work,)), self.cost.seconds(piece, work.rung_index))

    def start_again(self, generation_id: str) -> None:
        """The engine was lost: the generation starts from the beginning."""
        work = self._arbiter.remove(generation_id)
        if work is not None:
            self._arbiter.add(work.anew())

    def _rung_of(self, work: Work, num_steps: int, degraded: tuple[str, ...]) -> int:
        for index, rung in enumerate(self.cost.ladder):
            if rung.num_steps[work.quality] == num_steps and rung.degraded == degraded:
                return index
        return 0

    # --- what would happen ----------------------------------------------------------------------------------------

    def estimate(self, command: Generate, now: float, until_ready_s: float = 0.0) -> Estimate | None:
        """Time from now to the first preview and the clip of `command`, which supersedes its stage's other work."""
        if not self.cost.is_measured:
            return None
        ahead = self._arbiter.copy()
        for work in list(ahead):
            if work.work_id == command.generation_id or (command.stage_id and work.stage_id == command.stage_id):
                ahead.remove(work.work_id)
        # The piece that runs now has been running since the last one ended.
        is_busy = any(work.is_begun for work in ahead)
        under_way_s = min(now - self._last_seen_at, self.cost.seconds(Piece.STEP)) if is_busy else 0.0
        work = Work.of(command, now)
        ahead.add(work)
        preview_s, picture_s = run_ahead(ahead, now, work.work_id)
        wait_s = until_ready_s - under_way_s
        return Estimate(max(0.0, preview_s + wait_s), max(0.0, picture_s + wait_s))

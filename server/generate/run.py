"""A run: takes each clip from its maker, puts it in its place, writes it down, and tells. On the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TextIO

from server.clock import Clock
from server.generate import video_file
from server.generate.maker import Failed, Made, Maker, Outcome
from server.generate.progress import Progress
from server.generate.wanted import Fault, Wanted
from server.generate.work_folder import WorkFolder

SHOW_EVERY_S = 0.5


class Run:
    """`make` may be cancelled: a clip that is being written is finished first. The rest waits for a next run."""

    def __init__(self, work: WorkFolder, progress: Progress, clock: Clock, out: TextIO, *, writes_json: bool) -> None:
        self._work = work
        self._progress = progress
        self._clock = clock
        self._out = out
        self._writes_json = writes_json
        self.num_there = 0
        self._num_ended = 0  # those there, and those that failed in this run
        self.num_failed = 0

    def tell_faults(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._tell_failure(None, fault.where, fault.code, fault.message)

    def tell_earlier(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Tells those that an earlier run made, and gives the others."""
        rest = []
        for one in wanted:
            entry = self._work.earlier(one)
            if entry is None:
                rest.append(one)
                continue
            self.num_there += 1
            self._tell(one, seed=entry["seed"], seconds=entry["seconds"], engine_s=entry["engine_s"], was_there=True)
        return rest

    async def make(self, wanted: Sequence[Wanted], maker: Maker) -> None:
        """Raises `MakerError`."""
        self._num_ended = self.num_there
        self._progress.begin(self.num_there + len(wanted), self.num_there)
        showing = asyncio.create_task(self._show_for_ever(maker), name="progress")
        try:
            async with aclosing(maker.outcomes(wanted)) as outcomes:
                async for outcome in outcomes:
                    await _finished(self._take(outcome, maker))
                    self._num_ended += 1
                    self._show(maker)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            self._progress.close()

    async def _take(self, outcome: Outcome, maker: Maker) -> None:
        wanted = outcome.wanted
        if isinstance(outcome, Failed):
            self._tell_failure(wanted, wanted.where, outcome.code, outcome.message)
            await maker.forget(outcome)
            return
        try:
            await asyncio.to_thread(video_file.write, outcome.file, self._work.output(wanted), self._work.part(wanted))
            await asyncio.to_thread(self._work.remember, outcome)
        except OSError as error:  # a next run tries again: the maker still has the clip
            message = f"{self._work.output(wanted)} cannot be written: {error.strerror or error}"
            self._tell_failure(wanted, wanted.where, "storage_full", message)
            return
        await maker.forget(outcome)
        self.num_there += 1
        self._tell_made(outcome)

    def _tell_made(self, made: Made) -> None:
        self._tell(made.wanted, seed=made.seed, seconds=made.seconds, engine_s=made.engine_s)
        if made.not_understood:
            self._progress.say(f"{made.wanted.output}: not understood: {', '.join(made.not_understood)}")

    def _tell(self, wanted: Wanted, **facts: Any) -> None:
        path = str(self._work.output(wanted))
        self._print(json.dumps({"path": path, **facts}, ensure_ascii=False) if self._writes_json else path)

    def _tell_failure(self, wanted: Wanted | None, where: str, code: str, message: str) -> None:
        self.num_failed += 1
        path = str(self._work.output(wanted)) if wanted is not None else None
        if self._writes_json:
            error = {"code": code, "message": message}
            self._print(json.dumps({"path": path, "where": where or None, "error": error}, ensure_ascii=False))
        self._progress.say(": ".join(filter(None, (where, path, f"{message} ({code})"))))

    def _print(self, text: str) -> None:
        with self._progress.aside():
            print(text, file=self._out, flush=True)

    async def _show_for_ever(self, maker: Maker) -> None:
        due = self._clock.now()
        while True:
            due += SHOW_EVERY_S
            await self._clock.sleep_until(due)
            self._show(maker)

    def _show(self, maker: Maker) -> None:
        self._progress.show(self._num_ended + maker.done_of_unfinished)


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Waits for `work` also if the waiting task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise

"""Makes the clips that were ordered, beside the live stages: claims a job, sends it to the engine, writes its files.

Jobs live in the store; here are only the few that are being made. To the arbiter each tenant's clips are an audience
of their own, due in an hour: live work goes first at every step, and old clips get the tenth of the time that all old
work gets. A clip that is longer than the model's goes on from its last frame. Runs on the event loop, with one thread
of low priority that encodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from engine.api import (
    Cancel,
    Engine,
    EngineBusy,
    EngineState,
    EngineUnavailable,
    Frames,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationEvent,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    Reuse,
    StepFinished,
)
from server.accounts.payer import NOBODY, Payer
from server.clips import rows
from server.clips.folder import LAST_FRAME, VIDEO, ClipFolder, NoRoom
from server.clips.job import ClipError, Failure, Job, Made
from server.clips.writer import ClipWriter, first_frame, num_pictures
from server.clock import Clock
from server.protocol.errors import Refused
from server.rarely import Rarely
from server.session.generations import Generations
from server.session.prompt import Assembly
from server.store.store import Store, StoreError

_log = logging.getLogger(__name__)

# One is being made while the next is claimed and the one before is written.
MOST_AT_ONCE = 2
# When nothing wakes the queue: a clip that another process ordered, a disk that has room again.
POLL_S = 1.0
NO_ROOM_PAUSE_S = 10.0
SWEEP_EVERY_S = 60.0
# Later than any live prompt.
DUE_IN_S = 3600.0
NICENESS = 10
_NUM_SEEDS = 2**63


@dataclass(eq=False, slots=True)
class Making:
    """A job in the engine. `done` counts its steps over all its parts."""

    job: Job
    num_parts: int = 1
    num_steps: int = 0  # of a part
    num_done: int = 0
    generation_id: str | None = None
    is_cancelled: bool = False
    task: asyncio.Task[None] | None = None
    events: asyncio.Queue[GenerationEvent] = field(default_factory=asyncio.Queue)

    @property
    def progress(self) -> int:
        """Steps done of all steps, in percent; 99 until the file is there."""
        return min(99, 100 * self.num_done // max(1, self.num_steps * self.num_parts))


class _Failed(Exception):
    def __init__(self, code: str, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)
        self.is_final = is_final


class ClipQueue:
    """Implements `generations.Owner`. `run` is an essential task."""

    owner_id = "clips"

    def __init__(
        self,
        store: Store,
        folder: ClipFolder,
        engine: Engine,
        generations: Generations,
        *,
        clock: Clock,
        wall_time: Callable[[], float],
        lives_s: float,
        share: float = 0.0,
        payer_of: Callable[[str], Payer] = lambda tenant: NOBODY,
        on_ended: Callable[[str], None] = lambda video_id: None,
        niceness: int = NICENESS,
    ) -> None:
        """`lives_s`: how long a clip is kept after its end. `share`: of the engine's time, which live stages then lack.
        `payer_of`: who pays for a tenant's clips. `on_ended` is called with the id after each attempt.
        `niceness`: of the thread that encodes."""
        self._store = store
        self.folder = folder
        self._engine = engine
        self._generations = generations
        self._clock = clock
        self._wall_time = wall_time
        self._lives_s = lives_s
        self._share = share
        self._payer_of = payer_of
        self._on_ended = on_ended
        self._making: dict[str, Making] = {}
        self._unwritten: deque[Callable[[Any], Any]] = deque()
        self._served: list[str] = []  # tenants, the newest last
        self._num_sent = 0
        self._wake = asyncio.Event()
        self._rests_until = clock.now()
        self._sweeps_at = clock.now()
        self._is_closing = False
        self._claiming = asyncio.Lock()
        self._complain = Rarely(clock, _log.error)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clips", initializer=_be_nice, initargs=(niceness,))

    async def run(self) -> None:
        """For ever. First queues again what an earlier process had begun, and removes its leftovers."""
        await self._store.ask(partial(rows.recover, now=self._wall_time()))
        known = await self._store.ask(rows.all_ids)
        if not self._is_closing:
            await self._in_thread(self.folder.sweep, known)
        while True:
            try:
                async with self._claiming:
                    if not self._is_closing:
                        await self._write_rest()
                        await self._claim_all()
                        await self._sweep()
            except StoreError as error:
                self._complain("- ! clips wait for the store: %s", error)
                self._rests_until = self._clock.now() + NO_ROOM_PAUSE_S
            self._wake.clear()
            waiting = asyncio.create_task(self._wake.wait(), name="clips-wake")
            ticking = asyncio.create_task(self._clock.sleep_until(self._clock.now() + POLL_S), name="clips-tick")
            try:
                await asyncio.wait((waiting, ticking), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                ticking.cancel()

    def wake(self) -> None:
        """A job was added, or the engine is ready."""
        self._wake.set()

    def progress(self, video_id: str) -> int:
        making = self._making.get(video_id)
        return making.progress if making is not None else 0

    @property
    def num_being_made(self) -> int:
        return len(self._making)

    async def cancel(self, video_id: str) -> None:
        """Stops the engine's work on it, if there is any; it stops at its next step."""
        making = self._making.get(video_id)
        if making is None or making.task is None:
            return
        making.is_cancelled = True
        self._stop_engine(making)  # at once: the thread that writes may be busy for seconds
        making.task.cancel()
        await asyncio.wait([making.task])

    async def erase(self, tenant: str, user: str) -> int:
        """Removes all clips of a tenant's user, with their words and files. Gives their number. Raises `StoreError`."""
        ids = await self._store.ask(partial(rows.erase, tenant=tenant, user=user))
        for video_id in ids:
            await self.cancel(video_id)
            await self._in_thread(self.folder.remove, video_id)
        await self._store.wipe()
        return len(ids)

    async def close(self, reason: str = "") -> None:
        """What is being made is queued again. Idempotent."""
        self._is_closing = True
        async with self._claiming:  # a job that is claimed just now gets its task first
            pass
        tasks = [making.task for making in self._making.values() if making.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.to_thread(self._thread.shutdown)

    def on_generation_event(self, event: GenerationEvent) -> None:
        for making in self._making.values():
            if making.generation_id == event.generation_id:
                making.events.put_nowait(event)
                return

    # --- claiming -------------------------------------------------------------------------------------------------

    async def _claim_all(self) -> None:
        while (
            len(self._making) < MOST_AT_ONCE
            and self._engine.state is EngineState.READY
            and self._clock.now() >= self._rests_until
            and not self._is_closing
        ):
            job = await self._store.ask(partial(rows.claim, served=tuple(self._served), now=self._wall_time()))
            if job is None:
                return
            self._served = [*(one for one in self._served if one != job.tenant), job.tenant][-100:]
            making = self._making[job.id] = Making(job)
            making.task = asyncio.create_task(self._make(making), name=f"clip-{job.id}")

    async def _sweep(self) -> None:
        if self._clock.now() < self._sweeps_at:
            return
        self._sweeps_at = self._clock.now() + SWEEP_EVERY_S
        expired = await self._store.ask(partial(rows.expired, now=self._wall_time(), lives_s=self._lives_s))
        for video_id in expired:
            await self._store.ask(partial(rows.delete, video_id=video_id))
            await self._in_thread(self.folder.remove, video_id)
        if expired:
            await self._store.wipe()  # their prompts go now, too
        for video_id in await self._store.ask(partial(rows.missing, ids=list(self._making))):
            await self.cancel(video_id)  # another process has erased it
            await self._in_thread(self.folder.remove, video_id)

    # --- making ---------------------------------------------------------------------------------------------------

    async def _make(self, making: Making) -> None:
        job = making.job
        try:
            made = await self._made(making)
            now = self._wall_time()
            complete = partial(rows.complete, video_id=job.id, made=made, now=now, expires_at=now + self._lives_s)
            if not await self._store.ask(complete):
                await self._in_thread(self.folder.remove, job.id)  # it was deleted meanwhile
        except asyncio.CancelledError:
            await self._stop(making)
        except _Failed as failed:
            end = rows.fail if failed.is_final else rows.try_again
            await self._write_down(partial(end, video_id=job.id, failure=failed.failure, now=self._wall_time()))
        except (NoRoom, OSError, StoreError) as error:
            self._complain("- ! clips wait: %s", error)
            self._rests_until = self._clock.now() + NO_ROOM_PAUSE_S
            await self._write_down(partial(rows.put_back, video_id=job.id))
        except Exception:
            # Boundary of a job: the others go on.
            _log.exception("%s ! internal error", job.id)
            failure = Failure(ClipError.MODEL_ERROR, "internal server error")
            await self._write_down(partial(rows.fail, video_id=job.id, failure=failure, now=self._wall_time()))
        finally:
            self._making.pop(job.id, None)
            self.wake()
            self._on_ended(job.id)

    async def _write_down(self, work: Callable[[Any], Any]) -> None:
        """If the disk is full, `_write_rest` does it later, or `recover` at the next start."""
        try:
            await self._store.ask(work)
        except StoreError as error:
            self._complain("- ! the end of a clip is not written down: %s", error)
            self._unwritten.append(work)

    async def _write_rest(self) -> None:
        """Raises `StoreError`, and then no job is claimed: so at most `MOST_AT_ONCE` ends are unwritten."""
        while self._unwritten and self._clock.now() >= self._rests_until:
            await self._store.ask(self._unwritten[0])
            self._unwritten.popleft()

    async def _stop(self, making: Making) -> None:
        self._stop_engine(making)
        if not making.is_cancelled:
            await self._write_down(partial(rows.put_back, video_id=making.job.id))

    def _stop_engine(self, making: Making) -> None:
        if making.generation_id is not None:
            with contextlib.suppress(EngineUnavailable):
                self._engine.send(Cancel(making.generation_id))
            making.generation_id = None

    async def _made(self, making: Making) -> Made:
        """Raises `_Failed`, `NoRoom`, `OSError`."""
        job, model = making.job, self._engine.model
        if model is None:
            raise _Failed(ClipError.ENGINE_LOST, "the engine has no model")
        spec = job.spec
        path = await self._in_thread(self.folder.begin, job.id)
        source = await self._source(job)
        num_shown = await self._in_thread(num_pictures, source) if source is not None else 0
        num_frames = max(1, round(spec.seconds * model.frame_rate)) + num_shown
        make_writer = partial(
            ClipWriter, path, width=spec.width, height=spec.height, frame_rate=model.frame_rate, num_frames=num_frames
        )
        writer = await self._in_thread(make_writer)
        try:
            if source is not None:
                await self._in_thread(writer.copy, source)
            facts = await self._make_parts(making, model, writer)
        except BaseException:
            await asyncio.shield(self._in_thread(writer.give_up))
            raise
        await self._in_thread(writer.close)
        num_bytes = await self._in_thread(self.folder.finish, job.id)
        seconds = round(writer.num_frames / model.frame_rate, 3)
        return Made(model.name, seconds, model.frame_rate, model.width, model.height, num_bytes, **facts)

    async def _source(self, job: Job) -> Path | None:
        """The clip that this one goes on from. Raises `_Failed`."""
        if job.spec.source_id is None:
            return None
        path = self.folder.find(job.spec.source_id, VIDEO)
        if path is None:
            raise _Failed(ClipError.MODEL_ERROR, "the clip that this one goes on from was deleted", is_final=True)
        return path

    async def _first_frame(self, job: Job, model: ModelDescription) -> Frames | None:
        jpeg = job.spec.reference
        if job.spec.source_id is not None and (path := self.folder.find(job.spec.source_id, LAST_FRAME)) is not None:
            jpeg = path.read_bytes()
        if jpeg is None:
            return None
        start: Frames = await self._in_thread(first_frame, jpeg, model.width, model.height)
        return start

    async def _make_parts(self, making: Making, model: ModelDescription, writer: ClipWriter) -> dict[str, Any]:
        """As many clips of the model as it takes, each from the last frame of the one before."""
        job = making.job
        start = await self._first_frame(job, model)
        missing = job.spec.seconds * model.frame_rate
        # A clip that starts from a frame shows that frame again.
        fresh = model.num_frames - 1 if model.can_start_from_frame else model.num_frames
        making.num_parts = max(1, -(-round(missing - (0 if start else 1)) // max(1, fresh)))
        engine_s, first = 0.0, None
        for index in range(making.num_parts):
            started, frames, seconds = await self._make_part(making, model, index, start)
            first, engine_s = first or started, engine_s + seconds
            await self._in_thread(partial(writer.add, frames, skip=int(start is not None)))
            start = Frames(frames.planes[-1:]) if model.can_start_from_frame else None
        while not writer.is_full:  # a model that cannot go on: its clip closes on itself, or is shown again
            await self._in_thread(partial(writer.add, frames, skip=int(model.closes_on_itself)))
        assert first is not None
        return {
            "engine_s": round(engine_s, 3),
            "is_reused": first.is_reused,
            "understood": first.understood,
            "not_understood": first.not_understood,
        }

    async def _make_part(
        self, making: Making, model: ModelDescription, index: int, start: Frames | None
    ) -> tuple[GenerationStarted, Frames, float]:
        """Raises `_Failed`."""
        spec, self._num_sent = making.job.spec, self._num_sent + 1
        generation_id = f"{making.job.id}.{self._num_sent}"
        command = Generate(
            generation_id,
            spec.prompt,
            spec.quality,
            (spec.seed + index) % _NUM_SEEDS,
            wants_previews=False,
            scene_seed=spec.seed,
            first_frame=start,
            lora=spec.lora,
            reuse=Reuse.SAME_SEED if start is None else Reuse.NEVER,
            stage_id=making.job.id,
            tenant=f"{making.job.tenant}/clips",
            is_operator=False,
            due_in_s=DUE_IN_S,
            is_background=True,
            background_share=self._share,
        )
        making.generation_id = generation_id
        try:
            reservation = self._payer_of(making.job.tenant).reserve(self._engine.cost_s(spec.quality) or 0.0)
        except Refused as refused:
            raise _Failed(ClipError.BUDGET_EXHAUSTED, refused.detail.message, is_final=True) from None
        try:
            await self._send(command)
        except BaseException:
            reservation.settle(0.0)
            raise
        self._generations.add(generation_id, self, reservation)
        part = await self._collect(making, model, index)
        making.generation_id = None  # nothing is left to cancel
        return part

    async def _send(self, command: Generate) -> None:
        while True:
            try:
                self._engine.send(command)
                return
            except EngineBusy as busy:
                await self._clock.sleep_until(self._clock.now() + max(0.1, busy.retry_after_s))
            except EngineUnavailable as error:
                raise _Failed(ClipError.ENGINE_LOST, str(error)) from None

    async def _collect(
        self, making: Making, model: ModelDescription, index: int
    ) -> tuple[GenerationStarted, Frames, float]:
        assembly, done_before = Assembly(), making.num_steps * index
        started: GenerationStarted | None = None
        while True:
            match await making.events.get():
                case GenerationStarted() as begun:
                    started = begun
                    making.num_steps, making.num_done = begun.num_steps, done_before
                    assembly.clear()
                case StepFinished():
                    making.num_done += 1
                case FramesReady() as chunk:
                    assembly.add(chunk, model.num_frames)
                case GenerationFinished(num_frames=num_frames, engine_s=engine_s):
                    assert started is not None
                    return started, assembly.finished(num_frames), engine_s
                case GenerationFailed(code=code, message=message, retryable=retryable):
                    raise _Failed(code, message, is_final=not retryable)
                case GenerationCancelled():
                    raise _Failed(ClipError.CANCELLED, "the engine stopped this clip")
                case _:
                    pass

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _be_nice(niceness: int) -> None:
    """Encoding for a file gives way to live encoding. On Linux a thread has a priority of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)

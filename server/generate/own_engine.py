"""Clips by an engine of our own: the server's queue of clips on a store in the work folder, without a server.

The store has each clip from its beginning, so a run that was killed goes on with the same command. On the event loop,
with the store's thread, the queue's thread, and the engine's process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from functools import partial

import msgspec

from engine.api import (
    Engine,
    EngineLost,
    EngineReady,
    EngineStopped,
    ModelDescription,
    ModelError,
)
from server.clips import rows
from server.clips.folder import VIDEO, ClipFolder
from server.clips.job import Job
from server.clips.queue import ClipQueue
from server.clock import Clock
from server.doors.videos import wishes
from server.essential import EssentialTasks
from server.generate.maker import MOST_AT_ONCE, Failed, Made, MakerError, Outcome
from server.generate.wanted import Wanted
from server.generate.work_folder import WorkFolder
from server.protocol.errors import Refused
from server.session.generations import Generations
from server.store.store import FILE_NAME, Store, StoreError

# Until the run forgets them.
_LIVES_S = 10 * 366 * 86_400.0
_TENANT = "generate"


class OwnEngine:
    """Implements `maker.Maker`."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        work: WorkFolder,
        keys: Collection[str],
        *,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """`make_engine` may download a model, in a thread. `keys`: of all clips of this run; others are dropped."""
        self._make_engine = make_engine
        self._work = work
        self._keys = keys
        self._clock = clock
        self._say = say
        self._store = Store(work.path / FILE_NAME, clock)
        self._folder = ClipFolder(work.path / "clips")
        self._generations = Generations()
        self._engine: Engine | None = None
        self._queue: ClipQueue | None = None
        self._essential = EssentialTasks(self._die)
        self._ready: asyncio.Future[ModelDescription] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Queue[str | MakerError] = asyncio.Queue()  # ids; as many as `MOST_AT_ONCE`
        self._pending: dict[str, Wanted] = {}

    async def open(self) -> str:
        try:
            await asyncio.to_thread(self._store.open)
            await self._store.ask(partial(rows.keep_only, keys=self._keys))
            self._say("loading the model")
            engine = self._engine = await asyncio.to_thread(self._make_engine)
            await engine.open()
        except (StoreError, ModelError) as error:
            raise MakerError(str(error)) from None
        self._queue = ClipQueue(
            self._store,
            self._folder,
            engine,
            self._generations,
            clock=self._clock,
            wall_time=time.time,
            lives_s=_LIVES_S,
            on_ended=self._ended.put_nowait,
            niceness=0,  # no live stage is here that encoding should give way to
        )
        self._essential.start(self._read_events(engine), "engine-events")
        model = await self._ready
        self._essential.start(self._queue.run(), "clips")
        return f"{model.name} on {model.device} makes them"

    async def outcomes(self, wanted: Sequence[Wanted]) -> AsyncGenerator[Outcome, None]:
        model, waiting = self._ready.result(), iter(wanted)
        while True:
            while len(self._pending) < MOST_AT_ONCE and (one := next(waiting, None)) is not None:
                if (refused := await self._order(one, model)) is not None:
                    yield refused
            if not self._pending:
                return
            ended = await self._ended.get()
            if isinstance(ended, MakerError):
                raise ended
            if ended in self._pending and (outcome := await self._outcome(ended)) is not None:
                del self._pending[ended]
                yield outcome

    async def forget(self, outcome: Outcome) -> None:
        if outcome.video_id:
            await self._store.ask(partial(rows.delete, video_id=outcome.video_id))
            await asyncio.to_thread(self._folder.remove, outcome.video_id)

    @property
    def done_of_unfinished(self) -> float:
        return sum(map(self._queue.progress, self._pending)) / 100 if self._queue is not None else 0.0

    async def close(self) -> None:
        self._essential.expect_end()
        if self._queue is not None:
            await self._queue.close()
        await self._essential.close()
        if self._engine is not None:
            await self._engine.close()
        await asyncio.to_thread(self._store.close)

    # --- one clip -------------------------------------------------------------------------------------------------

    async def _order(self, wanted: Wanted, model: ModelDescription) -> Failed | None:
        try:
            spec = wishes.read(wanted.fields, model).spec
        except Refused as refused:
            return Failed(wanted, "", refused.detail.code, refused.detail.message)
        if "seconds" not in wanted.fields:
            spec = msgspec.structs.replace(spec, seconds=model.loop_s)
        add = partial(rows.add, tenant=_TENANT, spec=spec, now=time.time(), idempotency_key=self._work.key(wanted))
        job: Job | None = await self._store.ask(add)
        assert job is not None and self._queue is not None, "few wait at once"
        self._pending[job.id] = wanted
        if job.has_ended:  # made by an earlier run, which did not bring it to its place
            self._ended.put_nowait(job.id)
        self._queue.wake()
        return None

    async def _outcome(self, video_id: str) -> Outcome | None:
        """None: another attempt comes."""
        job: Job | None = await self._store.ask(partial(rows.find, video_id=video_id, tenant=None))
        wanted = self._pending[video_id]
        if job is None:
            return Failed(wanted, "", "unknown_video", "the work folder has lost this clip")
        if not job.has_ended:
            return None
        if job.failure is not None:
            return Failed(wanted, job.id, job.failure.code, job.failure.message)
        file = self._folder.find(job.id, VIDEO)
        if file is None or job.made is None:
            return Failed(wanted, job.id, "unknown_video", "the work folder has lost this clip's file")
        made = job.made
        return Made(wanted, job.id, file, job.spec.seed, made.seconds, made.engine_s, made.not_understood)

    # --- the engine -----------------------------------------------------------------------------------------------

    async def _read_events(self, engine: Engine) -> None:
        async for event in engine.events():
            match event:
                case EngineReady(model=model):
                    if not self._ready.done():
                        self._ready.set_result(model)
                    elif self._queue is not None:
                        self._queue.wake()
                case EngineLost(reason=reason, detail=detail):
                    self._say(f"engine {reason} ({detail}), starting again")
                case EngineStopped(detail=detail):
                    self._fail(MakerError(detail))
                case _:
                    owner = self._generations.owner_of(event)
                    if owner is not None:
                        owner.on_generation_event(event)

    def _die(self, name: str) -> None:
        self._fail(MakerError(f"an internal error ended {name}; see the lines above"))

    def _fail(self, error: MakerError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
        self._ended.put_nowait(error)

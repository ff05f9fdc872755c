"""Cache of clips in front of an engine: an exact repeat of a prompt goes on air at once. Server process, event loop.

`CachingEngine` is an `engine.api.Engine` around another one; one thread of its own reads and writes the files. Two
commands are the same if everything that the picture depends on is equal: the model (its description, and a fingerprint
of how and from which files it is loaded), text, quality, LoRA, first frame and, if the client chose one, the seed. A
clip that was made on a lower rung than asked for is never kept.

There are two stores, memory before disk, each bounded in bytes. The least valuable clip is evicted first. Its value is
the engine seconds that it saves, times its uses, divided by its bytes, and it ages (GreedyDual-Size-Frequency:
Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HPL-98-69R1, 1998).
`ranking.py` keeps that order, `clip_file.py` the files.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from engine.api import (
    Cancel,
    Command,
    CostEntry,
    Engine,
    EngineBusy,
    EngineReport,
    EngineState,
    EngineStatistics,
    EngineUnavailable,
    Estimate,
    Event,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    PromptWords,
    Quality,
    Reuse,
    Timings,
)
from engine.clip_cache.clip_file import DIGEST_BYTES, SUFFIX, Key, StoredClip, joined, listed, loaded, removed, written
from engine.clip_cache.ranking import Ranking

logger = logging.getLogger(__name__)

# At most this many clips wait to be stored. If the disk is slower than the engine, clips are dropped, not held.
MAX_WRITES_WAITING = 4
# Estimates use a moving average of the reading time: the weight of the newest read, and the initial value.
_NEWEST = 0.3
_FIRST_READ_S = 0.05


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The size of the two stores; 0 turns one off. The cache owns the folder: it may remove other `.clip` files."""

    memory_bytes: int = 256 * 2**20
    disk_bytes: int = 0
    folder: Path | None = None  # needed if `disk_bytes` is above 0


@dataclass(eq=False, slots=True)
class _Making:
    """A generation in the engine whose clip will be kept."""

    command: Generate
    started: GenerationStarted | None = None
    chunks: list[FramesReady] = field(default_factory=list)


class CachingEngine:
    """See `engine.api.Engine` for the contract of each method, and the module's docstring for what the cache adds."""

    def __init__(
        self,
        engine: Engine,
        settings: CacheSettings,
        *,
        fingerprint: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if settings.disk_bytes and settings.folder is None:
            raise ValueError("expected a folder for the clips on disk")
        self._engine = engine
        self._settings = settings
        self._fingerprint = fingerprint
        self._monotonic = monotonic
        self._memory: dict[str, StoredClip] = {}
        self._memory_ranking = Ranking(settings.memory_bytes)
        self._disk_ranking = Ranking(settings.disk_bytes)
        # scene -> {name of a clip: its seed}, the most recently used last.
        self._scenes: dict[str, OrderedDict[str, int]] = {}
        self._making: dict[str, _Making] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._ours: deque[Event] = deque()  # at most three events a hit, and a hit per session
        self._has_ours = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clip-cache")
        self._read_s = _FIRST_READ_S
        self._counts = dict.fromkeys(("hits", "misses", "disk_hits", "evicted", "corrupted", "writes_dropped"), 0)

    @property
    def state(self) -> EngineState:
        return self._engine.state

    @property
    def model(self) -> ModelDescription | None:
        return self._engine.model

    async def open(self) -> None:
        await self._engine.open()
        if self._settings.disk_bytes:
            loop = asyncio.get_running_loop()
            for key, num_bytes, cost_s in await loop.run_in_executor(self._thread, listed, self._folder):
                self._add_to_disk(key, num_bytes, cost_s)

    async def close(self) -> None:
        await self._engine.close()
        waiting = [*self._reading.values(), *self._writing]
        if waiting:
            await asyncio.wait(waiting)  # a read and a few writes of some megabytes each
        self._thread.shutdown(wait=True)
        self._has_ours.set()

    def send(self, command: Command) -> None:
        if isinstance(command, Cancel):
            self._cancel(command)
            return
        if self._engine.state in (EngineState.CLOSED, EngineState.FAILED):
            self._engine.send(command)  # raises `EngineUnavailable`
        found = self._find(command)
        if found is None:
            self._make(command)
            self._counts["misses"] += command.reuse is not Reuse.NEVER
        elif found in self._memory:
            self._give(command, self._memory[found])
        else:
            task = asyncio.create_task(self._read(command, found), name=f"read-{command.generation_id}")
            self._reading[command.generation_id] = task

    async def events(self) -> AsyncIterator[Event]:
        """The engine's events and our own. Reads only one engine event ahead, so its bound on unread previews holds."""
        theirs = self._engine.events()
        next_event: asyncio.Task[Event | None] | None = None
        try:
            while True:
                while self._ours:
                    yield self._ours.popleft()
                self._has_ours.clear()
                next_event = next_event or asyncio.create_task(_next(theirs), name="cached-engine-event")
                has_ours = asyncio.create_task(self._has_ours.wait(), name="cached-engine-own-event")
                try:
                    await asyncio.wait([next_event, has_ours], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    has_ours.cancel()
                if next_event.done():
                    event, next_event = next_event.result(), None
                    if event is None:
                        break
                    self._observe(event)
                    yield event
            while self._ours:
                yield self._ours.popleft()
        finally:
            if next_event is not None:
                next_event.cancel()

    def estimate(self, command: Generate) -> Estimate | None:
        found = self._find(command)
        if found is None:
            return self._engine.estimate(command)
        wait_s = 0.0 if found in self._memory else self._read_s
        return Estimate(wait_s, wait_s)

    def words(self, prompt: str) -> PromptWords:
        return self._engine.words(prompt)

    def cost_s(self, quality: Quality) -> float | None:
        return self._engine.cost_s(quality)

    def costs(self) -> tuple[CostEntry, ...]:
        return self._engine.costs()

    def report(self) -> EngineReport | None:
        return self._engine.report()

    def statistics(self) -> EngineStatistics:
        theirs = self._engine.statistics()
        ours = {
            **self._counts,
            "memory_bytes": self._memory_ranking.num_bytes,
            "disk_bytes": self._disk_ranking.num_bytes,
            "memory_clips": len(self._memory_ranking),
            "disk_clips": len(self._disk_ranking),
        }
        extra = theirs.extra | {f"cache_{name}": float(value) for name, value in ours.items()}
        return dataclasses.replace(theirs, in_flight=theirs.in_flight + len(self._reading), extra=extra)

    async def settled(self) -> None:
        """Returns when all clips that wait to be stored are in memory and on disk."""
        if self._writing:
            await asyncio.wait(self._writing)

    # --- hits: clips that were made before ------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        assert self._settings.folder is not None
        return self._settings.folder

    def _find(self, command: Generate) -> str | None:
        """The name of a stored clip that answers this command."""
        if command.reuse is Reuse.NEVER or self._engine.model is None:
            return None
        key = self._key(command)
        clips = self._scenes.get(key.scene, OrderedDict())
        if command.reuse is Reuse.SAME_SEED:
            return key.name if key.name in clips else None
        in_memory = [name for name in clips if name in self._memory]
        return next(reversed(in_memory or list(clips)), None)

    def _key(self, command: Generate) -> Key:
        model = self._engine.model
        assert model is not None
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        first = command.first_frame
        parts = (
            repr(dataclasses.astuple(model)),
            self._fingerprint,
            command.prompt,
            command.quality.value,
            "" if command.lora is None else f"lora {command.lora}",
            "" if command.scene_seed is None else f"scene {command.scene_seed}",
            "" if first is None else f"{first.planes.shape} {hashlib.blake2b(first.planes.tobytes()).hexdigest()}",
        )
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return Key(digest.hexdigest(), command.seed)

    def _give(self, command: Generate, clip: StoredClip) -> None:
        """Queues the events of a clip in order, as if it had just been made: each generation gets exactly one end."""
        self._counts["hits"] += 1
        self._use(clip.key)
        name = command.generation_id
        self._put(
            GenerationStarted(
                name,
                clip.num_steps,
                tuple(command.prompt[start:end] for start, end in clip.understood),
                tuple(command.prompt[start:end] for start, end in clip.not_understood),
                is_reused=True,
            )
        )
        self._put(FramesReady(name, 0, clip.frames))
        self._put(GenerationFinished(name, len(clip.frames), Timings(0.0, 0.0, 0.0, 0.0, 0.0)))

    async def _read(self, command: Generate, name: str) -> None:
        """Answers with a clip from disk; if the clip cannot be read, the engine makes it."""
        began_at = self._monotonic()
        loop = asyncio.get_running_loop()
        clip = await loop.run_in_executor(self._thread, loaded, self._folder / (name + SUFFIX))
        self._read_s += _NEWEST * (self._monotonic() - began_at - self._read_s)
        is_cancelled = self._reading.pop(command.generation_id, None) is None
        if clip is None:
            self._counts["corrupted"] += 1
            self._forget_on_disk(name)
        else:
            self._keep_in_memory(clip)
        if is_cancelled:
            self._put(GenerationCancelled(command.generation_id, 0))
        elif clip is not None:
            self._counts["disk_hits"] += 1
            self._give(command, clip)
        else:
            self._make_late(command)

    def _make_late(self, command: Generate) -> None:
        """`send` has already accepted the command, so a refusal now becomes an event."""
        try:
            self._make(command)
        except EngineBusy as busy:
            self._put(GenerationFailed(command.generation_id, "engine_busy", str(busy), retryable=True))
        except EngineUnavailable as refusal:
            self._put(GenerationFailed(command.generation_id, "engine_lost", str(refusal), retryable=False))

    def _cancel(self, command: Cancel) -> None:
        # A clip that is being read is cancelled when the read ends. One that was given has ended already.
        if self._reading.pop(command.generation_id, None) is None:
            self._engine.send(command)

    def _put(self, event: Event) -> None:
        self._ours.append(event)
        self._has_ours.set()

    # --- misses: clips that the engine makes ----------------------------------------------------------------------

    def _make(self, command: Generate) -> None:
        self._engine.send(command)
        # Only a caller that has the very same first frame can ask for such a clip again.
        if command.first_frame is None or command.reuse is not Reuse.NEVER:
            self._making[command.generation_id] = _Making(command)

    def _observe(self, event: Event) -> None:
        match event:
            case GenerationStarted(generation_id=name) if name in self._making:
                making = self._making[name]
                making.started = event
                making.chunks.clear()
                if event.degraded:
                    del self._making[name]
            case FramesReady(generation_id=name) if name in self._making:
                self._making[name].chunks.append(event)
            case GenerationFinished(generation_id=name) if name in self._making:
                self._store(self._making.pop(name), event)
            case GenerationCancelled(generation_id=name) | GenerationFailed(generation_id=name):
                self._making.pop(name, None)
            case _:
                pass

    def _store(self, making: _Making, finished: GenerationFinished) -> None:
        planes = [chunk.frames.planes for chunk in making.chunks]
        if making.started is None or sum(map(len, planes)) != finished.num_frames or not planes:
            return  # the session finds the same fault and reports it
        if len(self._writing) >= MAX_WRITES_WAITING:
            self._counts["writes_dropped"] += 1
            return
        task = asyncio.create_task(self._join_and_keep(making, making.started, finished), name="clip-cache-keep")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _join_and_keep(self, making: _Making, started: GenerationStarted, finished: GenerationFinished) -> None:
        """Joins the frames in the thread: 29 MB (832x480) held up the event loop for 56 ms."""
        loop = asyncio.get_running_loop()
        frames = await loop.run_in_executor(self._thread, joined, making.chunks)
        spent, prompt = finished.timings, making.command.prompt
        clip = StoredClip(
            self._key(making.command),
            frames,
            started.num_steps,
            cost_s=spent.text_s + spent.denoised_s + spent.previewed_s + spent.decoded_s,
            understood=_places(prompt, started.understood),
            not_understood=_places(prompt, started.not_understood),
        )
        self._keep_in_memory(clip)
        if 0 < clip.num_bytes <= self._settings.disk_bytes and clip.key.name not in self._disk_ranking:
            await self._write(clip)

    # --- the two stores -------------------------------------------------------------------------------------------

    def _use(self, key: Key) -> None:
        name = key.name
        if name in self._scenes.get(key.scene, ()):
            self._scenes[key.scene].move_to_end(name)
        if name in self._memory_ranking:
            self._memory_ranking.use(name)
        if name in self._disk_ranking:
            self._disk_ranking.use(name)

    def _keep_in_memory(self, clip: StoredClip) -> None:
        name = clip.key.name
        gone = self._memory_ranking.add(name, clip.num_bytes, clip.cost_s)
        if gone is None:
            return
        self._memory[name] = clip
        self._scenes.setdefault(clip.key.scene, OrderedDict())[name] = clip.key.seed
        for other in gone:
            self._counts["evicted"] += 1
            dropped = self._memory.pop(other)
            if other not in self._disk_ranking:
                self._forget_name(dropped.key.scene, other)

    async def _write(self, clip: StoredClip) -> None:
        loop = asyncio.get_running_loop()
        try:
            num_bytes = await loop.run_in_executor(self._thread, written, self._folder, clip)
        except OSError as error:
            # A full or missing disk costs only this clip.
            logger.warning("! a clip could not be written to the cache: %s", error)
            return
        self._add_to_disk(clip.key, num_bytes, clip.cost_s)

    def _add_to_disk(self, key: Key, num_bytes: int, cost_s: float) -> None:
        gone = self._disk_ranking.add(key.name, num_bytes, cost_s)
        if gone is None:
            gone = [key.name]  # the bound is smaller than when this clip was written
        else:
            self._scenes.setdefault(key.scene, OrderedDict())[key.name] = key.seed
        for other in gone:
            self._counts["evicted"] += 1
            self._thread.submit(removed, self._folder / (other + SUFFIX))
            if other not in self._memory:
                self._forget_everywhere(other)

    def _forget_on_disk(self, name: str) -> None:
        self._disk_ranking.remove(name)
        if name not in self._memory:
            self._forget_everywhere(name)

    def _forget_everywhere(self, name: str) -> None:
        scene = next((scene for scene, clips in self._scenes.items() if name in clips), None)
        if scene is not None:
            self._forget_name(scene, name)

    def _forget_name(self, scene: str, name: str) -> None:
        clips = self._scenes[scene]
        clips.pop(name, None)
        if not clips:
            del self._scenes[scene]


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


def _places(prompt: str, words: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """The offsets [start, end) of the words in the prompt. A word that the model spells differently is left out."""
    lowered = prompt.lower()
    if len(lowered) != len(prompt):
        lowered = prompt
    places = []
    for word in words:
        start = lowered.find(word.lower())
        if start >= 0:
            places.append((start, start + len(word)))
    return tuple(places)


def default_folder(environment: Mapping[str, str]) -> Path:
    """The folder of this user's clips, in the XDG cache directory."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sceneshift" / "clips"

"""One recording: writes the program's packets, as they come, into one fragmented MP4 file.

Made by `server.session.recordings`; takes its frames from a `Subscription`, a bounded queue. If the disk falls behind
by more than that holds, frames are left out up to a keyframe, and the last one before them is shown for longer. Sound
is collected beside the frames. Where the program has none, silence is written, because players and editors want a track
without holes. A task on the event loop collects; a thread of the recording makes and writes the boxes.

A fragment is given to the system once a second, so a killed server loses at most a second. Each write also updates the
film's duration at the head of the file, for players that do not compute it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import shutil
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from server.media.mp4.fmp4 import (
    MOVIE_TIMESCALE,
    SOUND_TRACK_ID,
    TICKS_PER_FRAME,
    VIDEO_TRACK_ID,
    Run,
    Sample,
    SoundTrack,
    VideoTrack,
    duration_offset,
    fragment,
    init_segment,
    parameter_sets,
    sample,
)
from server.media.sound.audio import PACKET_SAMPLES
from server.media.sound.audio_track import AudioFanout, AudioQueue
from server.media.sound.tunes import SAMPLE_RATE
from server.media.video.encoder import EncodedFrame
from server.media.video.fanout import Subscription, SubscriptionClosed

_log = logging.getLogger(__name__)

FRAGMENT_S = 1.0
# Sound is written this much later than the picture: by then all packets have come (`audio.MAX_LATENESS_S`).
SOUND_LAG_S = 0.2
# 20 ms of silence: Opus, CELT in stereo (RFC 6716, section 3.1).
SILENCE = b"\xfc\xff\xfe"
# The bound while the disk takes nothing; the oldest are dropped first and become silence.
MAX_SOUND_PACKETS = 500
# The time for the last fragment on a slow disk; a session's end waits no longer.
STOP_TIMEOUT_S = 1.0
# Of all recordings together, unless the operator says otherwise: 22 hours at 2 Mbit/s, and never most of a small disk.
MAX_TOTAL_BYTES = 20 * 10**9
MAX_TOTAL_SHARE = 0.1
SUFFIX = ".mp4"


class RecordingFailed(Exception):
    """The file cannot be written or may not grow any further; the message is for the user and names no path."""


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """`max_bytes` of one file, `max_total_bytes` of all together (None: 20 GB, or a tenth of the disk if that is less).

    The disk keeps `min_free_bytes` and `min_free_share` free: a full one would harm more than the recording.
    """

    max_bytes: int
    max_total_bytes: int | None = None
    min_free_bytes: int = 512 * 2**20
    min_free_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Share:
    """One tenant's part of the folder: the files with this suffix. `max_bytes` of them together; None: any."""

    suffix: str = SUFFIX
    max_bytes: int | None = None


class RecordingsFolder:
    """The folder of all recordings: what they take together, and what is left. From the recordings' threads.

    Recordings of earlier servers count, too. When there is no more room we refuse, and delete nothing.
    """

    def __init__(self, path: Path, limits: RecordingLimits) -> None:
        self.path = path
        self.limits = limits
        self._lock = threading.Lock()
        self._num_bytes: dict[str, int] = {}  # by suffix, once they were counted; of all files: `SUFFIX`

    def take(self, num_bytes: int = 0, share: Share = Share()) -> None:
        """Room for so many more bytes of this share, or for a file that begins. Raises `RecordingFailed`."""
        try:
            disk = shutil.disk_usage(self.path)
            if disk.free < max(self.limits.min_free_bytes, self.limits.min_free_share * disk.total):
                raise RecordingFailed(f"the disk of the recordings has only {disk.free / 1e6:.0f} MB left")
            most = self.limits.max_total_bytes
            if most is None:
                most = min(MAX_TOTAL_BYTES, round(MAX_TOTAL_SHARE * disk.total))
            with self._lock:
                if not self._has_room(SUFFIX, num_bytes, most):
                    reason = f"all recordings together have their largest size, {most / 1e9:.1f} GB"
                    raise RecordingFailed(f"{reason} (--max-recordings-size); delete some to record again")
                if share.max_bytes is not None and not self._has_room(share.suffix, num_bytes, share.max_bytes):
                    reason = f"all recordings of this key have their largest size, {share.max_bytes / 1e9:g} GB"
                    raise RecordingFailed(f"{reason} (its limit `stored_bytes`)")
                for suffix in {SUFFIX, share.suffix} & self._num_bytes.keys():
                    self._num_bytes[suffix] += num_bytes
        except OSError as error:
            raise _failed(self.path, error) from error

    def count(self, suffix: str) -> int:
        """The bytes of all files with this suffix; 0 without a folder. Blocks."""
        try:
            with os.scandir(self.path) as files:
                return sum(file.stat().st_size for file in files if file.name.endswith(suffix) and file.is_file())
        except FileNotFoundError:
            return 0

    def _has_room(self, suffix: str, num_bytes: int, most: int) -> bool:
        if self._num_bytes.get(suffix, most) + num_bytes >= most:
            self._num_bytes[suffix] = self.count(suffix)  # somebody may have deleted files
        return self._num_bytes[suffix] + num_bytes < most


class Recording:
    """One file from its first frame to its last. `open` it; it ends by `stop`, with its program, or by a failure,
    which `on_ended` gets."""

    def __init__(
        self,
        path: Path,
        subscription: Subscription,
        sound: AudioFanout,
        *,
        size: tuple[int, int],
        frame_rate: int,
        folder: RecordingsFolder,
        share: Share = Share(),
        on_ended: Callable[[RecordingFailed], None],
    ) -> None:
        self.path = path
        self.subscription = subscription
        self._frame_rate = frame_rate
        self._on_ended = on_ended
        self._file = _File(path, size, frame_rate, folder, share)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recording")
        self._task: asyncio.Task[None] | None = None
        self._sound = _Sound(sound)
        self._batch: list[EncodedFrame] = []
        self._origin: int | None = None  # the first frame's number
        self._remaining: list[EncodedFrame] = []  # frames that waited in the queue at `stop`

    @property
    def duration_s(self) -> float:
        """Of the part that is written."""
        return self._file.num_frames / self._frame_rate

    @property
    def size_bytes(self) -> int:
        return self._file.num_bytes

    async def open(self) -> None:
        """Creates the file. Raises `RecordingFailed`, or `FileExistsError`; then nothing is left of it."""
        try:
            await self._in_thread(self._file.open)
        except BaseException:
            self.subscription.close()
            self._thread.shutdown(wait=False)
            raise
        self._sound.open()
        self._task = asyncio.create_task(self._run(), name=f"recording-{self.path.stem}")

    async def stop(self) -> None:
        """Writes the remaining frames and closes the file. Idempotent; `on_ended` is not called any more."""
        self._remaining += [await self.subscription.next() for _ in range(self.subscription.num_queued)]
        self.subscription.close()
        if self._task is not None:
            _, pending = await asyncio.wait((self._task,), timeout=STOP_TIMEOUT_S)
            for task in pending:
                _log.error("! the end of %s could not be written in time", self.path)
                task.cancel()

    async def _run(self) -> None:
        failure: RecordingFailed | None = None
        try:
            await self._collect()
        except RecordingFailed as error:
            failure = error
        except Exception:
            # Task boundary: the show goes on without the recording, and its controller is told.
            _log.exception("! internal error while recording %s", self.path)
            failure = RecordingFailed("internal server error")
        finally:
            # Not awaited here: if the disk hangs and `stop` has given up, this must not wait for it again.
            self.subscription.close()
            self._sound.close()
            closing = self._thread.submit(self._file.close)
            self._thread.shutdown(wait=False)
        await asyncio.wrap_future(closing)
        if failure is not None:
            self._on_ended(failure)

    async def _collect(self) -> None:
        """Collects until the subscription is closed, by us or with the program. Raises `RecordingFailed`."""
        try:
            while True:
                await self._take(await self.subscription.next())
        except SubscriptionClosed:
            for frame in self._remaining:
                await self._take(frame)
            if self._batch:
                await self._write(self._batch[-1].frame_index + 1, lag_s=0.0)

    async def _take(self, frame: EncodedFrame) -> None:
        if self._batch and self._is_full(frame):
            await self._write(frame.frame_index)
        self._batch.append(frame)

    def _is_full(self, following: EncodedFrame) -> bool:
        num_frames = following.frame_index - self._batch[0].frame_index
        return following.is_keyframe or num_frames >= FRAGMENT_S * self._frame_rate

    async def _write(self, end: int, lag_s: float = SOUND_LAG_S) -> None:
        batch, self._batch = self._batch, []
        if self._origin is None:
            self._origin = batch[0].frame_index
        begin_s, end_s = self._origin / self._frame_rate, end / self._frame_rate
        sound = self._sound.take(begin_s, end_s - lag_s)
        await self._in_thread(partial(self._file.write, batch, end, sound))

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _Sound:
    """The program's sound since the recording's first frame, in places of 20 ms without a hole. On the event loop.

    A run of packets begins at any sample; moved to the nearest place, it is at most 10 ms off the picture.
    """

    def __init__(self, fanout: AudioFanout) -> None:
        self._fanout = fanout
        self._queue: AudioQueue | None = None
        self._task: asyncio.Task[None] | None = None
        self._packets: dict[int, bytes] = {}  # by the program's sample
        self._next_place = 0

    def open(self) -> None:
        self._queue = self._fanout.subscribe()
        self._task = asyncio.create_task(self._collect(self._queue), name="recording-sound")

    def close(self) -> None:
        """Idempotent. The task ends by itself, at once."""
        if self._queue is not None:
            self._fanout.unsubscribe(self._queue)

    def take(self, begin_s: float, end_s: float) -> Run:
        """The packets to write next, up to `end_s`; both in seconds of the program."""
        first = self._next_place
        self._next_place = max(first, int((end_s - begin_s) * SAMPLE_RATE / PACKET_SAMPLES))
        found = {round((at - begin_s * SAMPLE_RATE) / PACKET_SAMPLES): at for at in self._packets}
        places = range(first, self._next_place)
        samples = [Sample(self._packets[found[p]] if p in found else SILENCE, PACKET_SAMPLES, True) for p in places]
        for place, at in found.items():
            if place < self._next_place:
                del self._packets[at]
        return Run(SOUND_TRACK_ID, first * PACKET_SAMPLES, samples)

    async def _collect(self, queue: AudioQueue) -> None:
        while (packet := await queue.next()) is not None:
            if packet.pts is not None:
                self._packets[packet.pts] = bytes(packet)
            if len(self._packets) > MAX_SOUND_PACKETS:
                del self._packets[next(iter(self._packets))]


class _File:
    """The file itself. In the recording's thread; the counts may be read from anywhere.

    A fragment that was written only in part is cut off again, so that a full disk leaves a file that plays.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], frame_rate: int, folder: RecordingsFolder, share: Share
    ) -> None:
        self.num_frames = 0
        self.num_bytes = 0
        self._path = path
        self._size = size
        self._frame_rate = frame_rate
        self._folder, self._share = folder, share
        self._file: io.FileIO | None = None
        self._track: VideoTrack | None = None
        self._duration_at = 0
        self._origin = 0
        self._num_fragments = 0

    def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(self._path, error) from error
        self._folder.take(share=self._share)
        try:
            self._file = self._path.open("xb", buffering=0)
        except FileExistsError:
            raise
        except OSError as error:
            raise _failed(self._path, error) from error

    def write(self, batch: list[EncodedFrame], end: int, sound: Run) -> None:
        """A fragment; its last frame is shown until frame number `end`. Raises `RecordingFailed`."""
        boxes = b""
        if self._track is None:
            boxes = self._begin(batch[0])
        boxes += self._fragment(batch, end, sound)
        most = self._folder.limits.max_bytes
        if self.num_bytes + len(boxes) > most:
            raise RecordingFailed(f"the recording has reached its largest size, {most / 1e9:.1f} GB")
        self._folder.take(len(boxes), self._share)
        self._append(boxes, end - self._origin)

    def close(self) -> None:
        """Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
            if not self.num_bytes:  # no frame came, or the disk was full from the start: an empty file is useless
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def _begin(self, keyframe: EncodedFrame) -> bytes:
        found = parameter_sets(keyframe.data)
        if found is None:
            raise RecordingFailed("the program's encoder gave no parameter sets")
        self._track = VideoTrack(*self._size, self._frame_rate, found)
        self._origin = keyframe.frame_index
        init = init_segment(self._track, SoundTrack())
        self._duration_at = duration_offset(init)
        return init

    def _fragment(self, batch: list[EncodedFrame], end: int, sound: Run) -> bytes:
        assert self._track is not None
        ends = [*(frame.frame_index for frame in batch[1:]), end]
        samples = [
            sample(frame, self._track.parameter_sets, end - frame.frame_index)
            for frame, end in zip(batch, ends, strict=True)
        ]
        self._num_fragments += 1
        decode_time = (batch[0].frame_index - self._origin) * TICKS_PER_FRAME
        runs = [Run(VIDEO_TRACK_ID, decode_time, samples), *([sound] if sound.samples else [])]
        return fragment(self._num_fragments, runs)

    def _append(self, boxes: bytes, num_frames: int) -> None:
        assert self._file is not None
        try:
            self._write_all(boxes)
            self.num_bytes += len(boxes)
            self.num_frames = num_frames
            self._file.seek(self._duration_at)
            self._file.write(struct.pack(">Q", num_frames * MOVIE_TIMESCALE // self._frame_rate))
            self._file.seek(self.num_bytes)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self.num_bytes)
            raise _failed(self._path, error) from error

    def _write_all(self, boxes: bytes) -> None:
        """Writes in a loop, because an unbuffered file may take only a part."""
        assert self._file is not None
        left = memoryview(boxes)
        while left:
            left = left[self._file.write(left) :]


def _failed(path: Path, error: OSError) -> RecordingFailed:
    _log.error("! %s cannot be written: %s", path, error.strerror)
    return RecordingFailed(f"the recording cannot be written ({error.strerror or type(error).__name__})")

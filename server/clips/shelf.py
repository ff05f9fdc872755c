"""Finished clips for stages: finds them in the store and reads their files. Implements `session.neighbours.Shelf`.

On the event loop; a thread reads, one clip at a time. A stage has all frames of a clip in memory, also of a generated
one. So a long clip is read smaller: 14 seconds of 832x480 at 24 frames a second are whole, 20 seconds become 696x400.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from engine.api import Frames
from server.clips import rows
from server.clips.folder import VIDEO, ClipFolder
from server.clips.job import Job
from server.clips.writer import covered, num_pictures, pictures_of
from server.protocol.errors import Refused
from server.session.neighbours import FinishedClip
from server.store.store import Store

MAX_SECONDS = 20.0
MAX_CLIP_BYTES = 192 * 2**20
_BYTES_PER_PIXEL = 1.5  # yuv420p


class ClipShelf:
    def __init__(self, store: Store, folder: ClipFolder) -> None:
        self._store = store
        self._folder = folder
        self._is_reading = asyncio.Semaphore(1)  # of several stages: they wait, each for its newest clip

    async def find(self, clip_id: str, tenant: str) -> FinishedClip:
        """Raises `Refused` (`unknown_video`, `not_ready`, `not_supported`), `StoreError`."""
        job: Job | None = await self._store.ask(partial(rows.find, video_id=clip_id, tenant=tenant))
        if job is None:
            raise Refused("unknown_video", "there is no clip with this id; it may have been deleted", param="clip_id")
        if job.made is None:
            retry_after_ms = None if job.has_ended else 1000
            raise Refused("not_ready", f"this clip is `{job.status}`", param="clip_id", retry_after_ms=retry_after_ms)
        if job.made.seconds > MAX_SECONDS:
            reason = f"a stage shows clips of {MAX_SECONDS:.0f} s at most; this one has {job.made.seconds:g} s"
            raise Refused("not_supported", reason, param="clip_id")
        spec = job.spec
        return FinishedClip(job.id, spec.prompt, spec.seed, spec.quality, spec.lora, job.made.frame_rate)

    async def read(
        self, clip: FinishedClip, *, max_pixels: int, start_size: tuple[int, int] | None
    ) -> tuple[Frames, Frames | None]:
        """See `Shelf.read`."""
        path = self._folder.find(clip.clip_id, VIDEO)
        is_unwanted = threading.Event()
        try:
            if path is None:
                raise FileNotFoundError(clip.clip_id)
            async with self._is_reading:
                return await asyncio.to_thread(_read, path, max_pixels, start_size, is_unwanted.is_set)
        except (OSError, av.FFmpegError, ValueError):
            raise Refused("unknown_video", "the file of this clip has gone, or cannot be read") from None
        finally:
            is_unwanted.set()


def _read(
    path: Path, max_pixels: int, start_size: tuple[int, int] | None, is_unwanted: Callable[[], bool]
) -> tuple[Frames, Frames | None]:
    """Blocks. Raises `OSError`, `av.FFmpegError` or `ValueError` for a file that is no clip of ours."""
    num_frames = num_pictures(path)
    scaler = VideoReformatter()  # one: its tables are made once, and not for each frame
    planes = np.empty(0, np.uint8)
    count, last = 0, None
    for picture in pictures_of(path):
        if is_unwanted() or count == num_frames:
            break
        if count == 0:
            width, height = _size(picture.width, picture.height, max_pixels, num_frames)
            planes = np.empty((num_frames, height * 3 // 2, width), np.uint8)
        scaled = scaler.reformat(picture, width, height, "yuv420p", interpolation=Interpolation.AREA, threads=1)
        planes[count] = scaled.to_ndarray()
        count, last = count + 1, picture
    if last is None or count < num_frames:
        raise ValueError(f"expected {num_frames} frames, got {count}")
    if start_size is None:
        return Frames(planes), None
    start = np.asarray(covered(last, *start_size).to_ndarray(format="yuv420p"), np.uint8)
    return Frames(planes), Frames(start[None])


def _size(width: int, height: int, max_pixels: int, num_frames: int) -> tuple[int, int]:
    """The even size, of the same shape, in which the whole clip has at most `MAX_CLIP_BYTES`. Never larger."""
    most = min(max_pixels, MAX_CLIP_BYTES / (_BYTES_PER_PIXEL * num_frames))
    scale = min(1.0, math.sqrt(most / (width * height)))
    return max(2, int(width * scale / 2) * 2), max(2, int(height * scale / 2) * 2)

"""The shelf: finished clips of the store, read from real files into a stage's frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from engine.api import Frames, Quality
from engine.synthetic import paint, read
from server.clips import rows, shelf
from server.clips.folder import VIDEO, ClipFolder
from server.clips.job import Failure, Made, Spec
from server.clips.shelf import ClipShelf
from server.clips.writer import ClipWriter
from server.protocol.errors import Refused
from server.session.neighbours import FinishedClip
from server.store.store import Store

NUM_FRAMES, RATE = 24, 12


class Clips:
    def __init__(self, root: Path) -> None:
        self.store = Store()
        self.folder = ClipFolder(root, min_free_bytes=0)
        self.shelf = ClipShelf(self.store, self.folder)

    async def add(self, *, seconds: float = 2.0, is_made: bool = True, width: int = 448, height: int = 256) -> str:
        spec = Spec("scene 5", seconds, width, height, 7, Quality.FINE)
        job = await self.store.ask(partial(rows.add, tenant="us", spec=spec, now=0))
        await self.store.ask(partial(rows.claim, served=(), now=0))
        if is_made:
            writer = ClipWriter(
                self.folder.begin(job.id), width=width, height=height, frame_rate=RATE, num_frames=NUM_FRAMES
            )
            writer.add(paint(5, list(range(NUM_FRAMES)), 224, 128))
            writer.close()
            made = Made("synthetic", seconds, RATE, 224, 128, self.folder.finish(job.id), 0.1)
            await self.store.ask(partial(rows.complete, video_id=job.id, made=made, now=1, expires_at=1000))
        return str(job.id)

    async def read(self, clip: FinishedClip, max_pixels: int = 10**6) -> Frames:
        frames, _ = await self.shelf.read(clip, max_pixels=max_pixels, start_size=None)
        return frames


@pytest_asyncio.fixture
async def clips(tmp_path: Path) -> AsyncIterator[Clips]:
    clips = Clips(tmp_path)
    clips.store.open()
    yield clips
    clips.store.close()


async def refused(clips: Clips, clip_id: str, tenant: str = "us") -> str:
    with pytest.raises(Refused) as refusal:
        await clips.shelf.find(clip_id, tenant)
    assert refusal.value.detail.param == "clip_id"
    return refusal.value.detail.code


async def test_a_finished_clip_is_found_with_its_prompt_and_read_whole(clips: Clips) -> None:
    clip = await clips.shelf.find(await clips.add(), "us")
    assert (clip.text, clip.seed, clip.quality, clip.frame_rate) == ("scene 5", 7, Quality.FINE, RATE)
    frames = await clips.read(clip)
    assert frames.planes.shape == (NUM_FRAMES, 256 * 3 // 2, 448)
    assert [read(planes) for planes in frames.planes] == [(5, index) for index in range(NUM_FRAMES)]


async def test_a_clip_is_read_no_larger_than_the_program_and_in_its_own_shape(clips: Clips) -> None:
    frames = await clips.read(await clips.shelf.find(await clips.add(), "us"), max_pixels=224 * 128)
    assert frames.planes.shape == (NUM_FRAMES, 128 * 3 // 2, 224)
    assert read(frames.planes[3]) == (5, 3)


async def test_a_clip_takes_no_more_memory_than_its_bound(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MAX_CLIP_BYTES", 2**20)
    frames = await clips.read(await clips.shelf.find(await clips.add(), "us"))
    assert 0.9 * 2**20 < frames.planes.nbytes <= 2**20
    assert read(frames.planes[-1]) == (5, NUM_FRAMES - 1)


async def test_the_last_frame_comes_in_the_size_that_the_model_starts_from(clips: Clips) -> None:
    clip = await clips.shelf.find(await clips.add(), "us")
    _, last = await clips.shelf.read(clip, max_pixels=10**6, start_size=(224, 128))
    assert last is not None and last.planes.shape == (1, 192, 224)
    assert read(np.ascontiguousarray(last.planes[0])) == (5, NUM_FRAMES - 1)


async def test_what_is_no_finished_clip_of_ours_is_refused(clips: Clips) -> None:
    assert await refused(clips, "video_0") == "unknown_video"
    assert await refused(clips, await clips.add(), "them") == "unknown_video"
    assert await refused(clips, await clips.add(seconds=20.5)) == "not_supported"
    waiting = await clips.add(is_made=False)
    assert await refused(clips, waiting) == "not_ready"
    await clips.store.ask(partial(rows.fail, video_id=waiting, failure=Failure("model_error", "x"), now=2))
    assert await refused(clips, waiting) == "not_ready"


@pytest.mark.parametrize("fault", ["gone", "torn", "empty", "text"])
async def test_a_file_that_has_gone_or_is_broken_is_told_as_such(clips: Clips, fault: str) -> None:
    clip = await clips.shelf.find(await clips.add(), "us")
    path = clips.folder.find(clip.clip_id, VIDEO)
    assert path is not None
    if fault == "gone":
        clips.folder.remove(clip.clip_id)
    else:
        whole = path.read_bytes()
        path.write_bytes({"torn": whole[: len(whole) // 2], "empty": b"", "text": b"no film"}[fault])
    with pytest.raises(Refused) as refusal:
        await clips.read(clip)
    assert refusal.value.detail.code == "unknown_video"


async def test_one_clip_is_read_at_a_time_and_an_unwanted_one_makes_room(clips: Clips) -> None:
    clip = await clips.shelf.find(await clips.add(), "us")
    first, second, third = (asyncio.create_task(clips.read(clip)) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    assert len((await third).planes) == NUM_FRAMES
    assert first.cancelled() and second.cancelled()

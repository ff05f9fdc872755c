"""A recording on a real disk: the file's content, and failures to write it."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from server.media.mp4.recording import Recording, RecordingFailed, RecordingLimits, RecordingsFolder
from server.media.sound.audio import PACKET_SAMPLES, OpusEncoder
from server.media.sound.audio_track import AudioFanout
from server.media.video import marker
from server.media.video.encoder import Encoder
from server.media.video.fanout import Fanout
from server.media.video.rendition import ladder

WIDTH, HEIGHT, RATE = 256, 144, 12
RENDITION = ladder(WIDTH, HEIGHT, 500_000)[0]
LIMITS = RecordingLimits(max_bytes=10**9, max_total_bytes=10**9, min_free_bytes=0, min_free_share=0.0)


class Stage:
    """A program that the test drives: numbered frames, really encoded, into a real fan-out."""

    def __init__(self) -> None:
        self.fanout = Fanout(RENDITION, 10_000)
        self.sound = AudioFanout(lambda: None)
        self.failures: asyncio.Queue[RecordingFailed] = asyncio.Queue()
        self._encoder = Encoder(RENDITION, RATE)
        self._noise = np.random.default_rng(1)

    def play(self, *indices: int) -> None:
        for index in indices:
            planes = self._noise.integers(0, 255, (HEIGHT * 3 // 2, WIDTH), dtype=np.uint8)
            marker.paint(planes, index)
            is_keyframe = index % RATE == 0
            self.fanout.put({RENDITION: self._encoder.encode(planes, index, is_keyframe=is_keyframe)})

    def recording(self, path: Path, limits: RecordingLimits = LIMITS) -> Recording:
        return Recording(
            path,
            self.fanout.subscribe(is_viewer=False),
            self.sound,
            size=(WIDTH, HEIGHT),
            frame_rate=RATE,
            folder=RecordingsFolder(path.parent, limits),
            on_ended=self.failures.put_nowait,
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def film(path: Path) -> tuple[list[int | None], list[float], float]:
    """The frames' numbers and times, and the duration, all in seconds."""
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        numbers = [marker.read(frame.to_ndarray(format="yuv420p")) for frame in frames]
        return numbers, [float(frame.time or 0) for frame in frames], (container.duration or 0) / 1e6


async def written(is_enough: Callable[[], bool]) -> None:
    """Waits for the writing thread, which sends no signal."""
    while not is_enough():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_every_frame_is_in_the_file_from_the_last_keyframe_on(stage: Stage, tmp_path: Path) -> None:
    stage.play(*range(504, 522))  # keyframes at 504 and 516
    recording = stage.recording(tmp_path / "new" / "folder" / "show.mp4")
    await recording.open()
    stage.play(*range(522, 554))
    await recording.stop()
    numbers, times, duration_s = film(recording.path)
    assert numbers == list(range(516, 554))
    assert times == pytest.approx([index / RATE for index in range(38)])
    assert duration_s == pytest.approx(38 / RATE, abs=0.001)
    assert recording.duration_s == pytest.approx(38 / RATE)
    assert recording.size_bytes == recording.path.stat().st_size
    assert not stage.fanout.num_takers and stage.failures.empty()


async def test_missing_frames_are_bridged_by_the_frame_before_them(stage: Stage, tmp_path: Path) -> None:
    recording = stage.recording(tmp_path / "show.mp4")
    await recording.open()
    stage.play(0, 1, 2, 6, 7, 8, 9, 10, 11, 12)
    await recording.stop()
    numbers, times, duration_s = film(recording.path)
    assert numbers == [0, 1, 2, 6, 7, 8, 9, 10, 11, 12]
    assert times == pytest.approx([index / RATE for index in numbers if index is not None])
    assert duration_s == pytest.approx(13 / RATE, abs=0.001)


def heard(path: Path) -> tuple[np.ndarray[Any, Any], list[int]]:
    """The decoded sound, one channel at 48 kHz, and the times of its packets in samples."""
    with av.open(path) as container:
        times = [packet.pts for packet in container.demux(audio=0) if packet.pts is not None and packet.size]
    with av.open(path) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate([frame[0] for frame in frames]), times


async def test_sound_is_where_it_was_on_air_and_silence_elsewhere(stage: Stage, tmp_path: Path) -> None:
    stage.play(24)  # second 2 of the program
    recording = stage.recording(tmp_path / "show.mp4")
    await recording.open()
    tone = 0.5 * np.sin(np.arange(PACKET_SAMPLES * 50) * 2 * np.pi * 440 / 48_000)
    for packet in OpusEncoder(3 * 48_000 + 100).encode(np.stack([tone, tone], axis=1).astype(np.float32)):
        stage.sound.put(packet)  # a second of it, from second 3 on
        await asyncio.sleep(0)
    stage.play(*range(25, 72))
    await recording.stop()
    samples, times = heard(recording.path)
    assert times == [index * PACKET_SAMPLES for index in range(200)]  # the four seconds, without a gap
    loud = [float(np.abs(samples[begin : begin + 480]).max()) > 0.1 for begin in range(0, 4 * 48_000, 480)]
    first, last = loud.index(True), len(loud) - loud[::-1].index(True)
    assert abs(first - 100) <= 2 and abs(last - 200) <= 3  # of 10 ms
    assert not samples[: 48_000 - 960].any()
    assert stage.sound.num_listeners == 0


async def test_a_recording_ends_with_its_program(stage: Stage, tmp_path: Path) -> None:
    recording = stage.recording(tmp_path / "show.mp4")
    await recording.open()
    stage.play(*range(30))
    await written(lambda: recording.duration_s == 2.0)
    stage.fanout.close()
    await recording.stop()
    assert film(recording.path)[0][:24] == list(range(24))


async def test_a_recording_ends_at_its_largest_size_and_the_file_plays(stage: Stage, tmp_path: Path) -> None:
    recording = stage.recording(tmp_path / "show.mp4", replace(LIMITS, max_bytes=150_000))
    await recording.open()
    stage.play(*range(60))
    failure = await stage.failures.get()
    assert "largest size" in str(failure)
    assert recording.path.stat().st_size <= 150_000
    numbers, _, duration_s = film(recording.path)
    assert numbers == list(range(len(numbers))) and len(numbers) >= RATE
    assert duration_s == pytest.approx(len(numbers) / RATE, abs=0.001)


async def test_a_disk_that_fills_in_mid_fragment_leaves_a_file_that_plays(stage: Stage, tmp_path: Path) -> None:
    recording = stage.recording(tmp_path / "show.mp4")
    await recording.open()
    stage.play(*range(13))
    await written(lambda: recording.duration_s == 1.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (recording.size_bytes + 5000, limits[1]))
    try:
        stage.play(*range(13, 40))
        failure = await stage.failures.get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in str(failure) and str(tmp_path) not in str(failure)
    assert recording.path.stat().st_size == recording.size_bytes
    assert film(recording.path)[0] == list(range(12))


async def test_a_nearly_full_disk_and_a_bad_folder_are_refused_without_a_file(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(RecordingFailed, match="MB left"):
        await stage.recording(tmp_path / "show.mp4", replace(LIMITS, min_free_bytes=2**62)).open()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(RecordingFailed, match="cannot be written"):
        await stage.recording(tmp_path / "file" / "show.mp4").open()
    assert not stage.fanout.num_takers


async def test_all_recordings_together_are_bounded_and_the_file_plays(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "yesterday.mp4").write_bytes(bytes(100_000))  # of another server, which has ended
    (tmp_path / "notes.txt").write_bytes(bytes(100_000))
    recording = stage.recording(tmp_path / "show.mp4", replace(LIMITS, max_total_bytes=250_000))
    await recording.open()
    stage.play(*range(60))
    failure = await stage.failures.get()
    assert "all recordings together" in str(failure) and "--max-recordings-size" in str(failure)
    assert 0 < recording.path.stat().st_size <= 150_000
    assert film(recording.path)[0][:RATE] == list(range(RATE))
    assert (tmp_path / "yesterday.mp4").stat().st_size == 100_000, "nothing is deleted"


def test_recordings_that_run_at_once_share_the_room(tmp_path: Path) -> None:
    folder = RecordingsFolder(tmp_path, replace(LIMITS, max_total_bytes=1000))
    for turn in range(9):
        folder.take(110)
        with (tmp_path / f"show-{turn % 2}.mp4").open("ab") as file:
            file.write(bytes(110))
    with pytest.raises(RecordingFailed, match="all recordings together"):
        folder.take(110)


def test_a_deleted_recording_makes_room(tmp_path: Path) -> None:
    folder = RecordingsFolder(tmp_path, replace(LIMITS, max_total_bytes=1000))
    old = tmp_path / "old.mp4"
    old.write_bytes(bytes(1000))
    with pytest.raises(RecordingFailed, match="all recordings together"):
        folder.take()
    old.unlink()
    folder.take(900)


@pytest.mark.parametrize(
    ("total", "free", "most"),
    [(4000 * 10**9, 300 * 10**9, 20 * 10**9), (50 * 10**9, 10 * 10**9, 5 * 10**9)],
)
def test_by_default_recordings_take_20_gb_or_a_tenth_of_a_smaller_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, most: int
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=total, free=free))
    with pytest.raises(RecordingFailed, match=f"{most / 1e9:.1f} GB"):
        RecordingsFolder(tmp_path, RecordingLimits(10**12)).take(most)
    RecordingsFolder(tmp_path, RecordingLimits(10**12)).take(most - 1)


def test_recordings_leave_a_twentieth_of_the_disk_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(total=1000 * 10**9, free=51 * 10**9)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    folder = RecordingsFolder(tmp_path, RecordingLimits(10**12))
    folder.take(1)
    disk.free = 49 * 10**9
    with pytest.raises(RecordingFailed, match="49000 MB left"):
        folder.take(1)


async def test_another_file_is_never_written_over(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "show.mp4").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        await stage.recording(tmp_path / "show.mp4").open()
    assert (tmp_path / "show.mp4").read_bytes() == b"precious"


async def test_a_recording_without_a_frame_leaves_no_file(stage: Stage, tmp_path: Path) -> None:
    recording = stage.recording(tmp_path / "show.mp4")
    await recording.open()
    await recording.stop()
    assert list(tmp_path.iterdir()) == []

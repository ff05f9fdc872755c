"""The wire between the processes: messages come out as they went in, frames never overwrite unread ones."""

import errno
import logging
import os
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

from engine.api import Cancel, Frames, Generate, GenerationFinished, ModelDescription, Quality, Timings
from engine.arbiter.cost import CostRow, Piece
from engine.config import LoadSettings, Rung
from engine.process import wire

MODEL = ModelDescription("m", "cpu", 224, 128, 25, 12, {Quality.FAST: 4, Quality.FINE: 8}, True)


@pytest.mark.parametrize(
    "message",
    [
        wire.Load(LoadSettings(), 2),
        Generate("g", "日落 🌅", Quality.FINE, 2**62, False),
        Cancel("g"),
        wire.WarmedUp(MODEL, 1.5, (Rung({Quality.FAST: 3}, 224, 128, "tiny", ("fewer_steps",)),), 7, 1, 0.3),
        wire.Costs((CostRow(Piece.STEP, 0, 2, 0.1, 0.05, 12),)),
        wire.FramesAt("g", 0, (1, 192, 224), 43008, step_index=2, num_steps=4),
        GenerationFinished("g", 25, Timings(0.0, 0.1, 0.2, 0.3, 0.4)),
        wire.Heartbeat(),
        wire.LoadRefused("no such folder"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_out_as_it_went_in(message: wire.Message) -> None:
    encoded = wire.encode(message)
    header, body = encoded[: wire.HEADER_BYTES], encoded[wire.HEADER_BYTES :]
    assert wire.body_length(header) == len(body)
    assert wire.decode(body) == message


def test_every_message_type_is_known_to_the_wire() -> None:
    assert set(typing.get_args(wire.Message)) == set(wire._TYPES.values())


def test_an_absurd_length_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        wire.body_length(b"\xff\xff\xff\xff")


@pytest.fixture
def ring() -> typing.Iterator[wire.FrameRing]:
    descriptor = wire.open_shared_file(1000)
    opened = wire.FrameRing(descriptor, 1000)
    os.close(descriptor)
    yield opened
    opened.close()


@pytest.mark.skipif(sys.platform == "darwin", reason="it lacks the call")
def test_the_memory_of_the_ring_is_reserved() -> None:
    descriptor = wire.open_shared_file(100_000)
    assert os.fstat(descriptor).st_blocks * 512 >= 100_000
    os.close(descriptor)


class Disks:
    """`os.posix_fallocate` of a system in which only these folders have room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *with_room: Path) -> None:
        self._reserve, self._with_room = os.posix_fallocate, with_room
        monkeypatch.setattr(os, "posix_fallocate", self.reserve)

    def reserve(self, descriptor: int, offset: int, length: int) -> None:
        folder = Path(f"/proc/self/fd/{descriptor}").readlink().parent
        if folder not in self._with_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._reserve(descriptor, offset, length)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder of shared memory and that of temporary files."""
    memory, temporary = tmp_path / "shm", tmp_path / "tmp"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return memory, temporary


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_small_shared_memory_is_told_and_a_file_takes_its_place(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory, temporary = folders
    Disks(monkeypatch, temporary)
    with caplog.at_level(logging.WARNING):
        descriptor = wire.open_shared_file(1000, memory)
    assert Path(f"/proc/self/fd/{descriptor}").readlink().parent == temporary
    assert os.fstat(descriptor).st_size == 1000
    assert str(memory) in caplog.text and "--shm-size" in caplog.text
    os.close(descriptor)
    assert list(memory.iterdir()) == list(temporary.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_system_without_any_room_for_frames_says_what_to_give(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Disks(monkeypatch)
    with pytest.raises(OSError, match="--shm-size"):
        wire.open_shared_file(1000, folders[0])


def block(value: int) -> np.ndarray:
    return np.full((5, 6, 10), value, np.uint8)  # 300 bytes


def test_frames_come_out_as_they_went_in_round_after_round(ring: wire.FrameRing) -> None:
    for value in range(20):
        place = ring.put(block(value), wait_s=0)
        assert place is not None
        frames = ring.get(place[0], (5, 6, 10))
        assert (frames.planes == value).all()
        ring.consume(place[1])


def test_unread_frames_are_never_overwritten(ring: wire.FrameRing) -> None:
    first, second, third = (ring.put(block(value), wait_s=0) for value in (1, 2, 3))
    assert first and second and third
    assert ring.put(block(4), wait_s=0) is None
    ring.consume(first[1])
    # 100 bytes are left at the end: the block goes to the start, where the first one was.
    fourth = ring.put(block(4), wait_s=0)
    assert fourth is not None and fourth[0] == 0
    assert ring.put(block(5), wait_s=0) is None


def test_a_place_outside_the_ring_is_refused(ring: wire.FrameRing) -> None:
    with pytest.raises(ValueError, match="outside"):
        ring.get(900, (5, 6, 10))


def test_frames_larger_than_half_the_ring_are_an_error(ring: wire.FrameRing) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        ring.put(np.zeros((1, 600, 1), np.uint8), wait_s=0)


def test_a_first_frame_crosses_with_its_command() -> None:
    planes = np.arange(192 * 224, dtype=np.uint8).reshape(1, 192, 224)
    body = wire.encode(Generate("g", "a", first_frame=Frames(planes)))[wire.HEADER_BYTES :]
    decoded = wire.decode(body)
    assert isinstance(decoded, Generate) and decoded.first_frame is not None
    assert np.array_equal(decoded.first_frame.planes, planes)

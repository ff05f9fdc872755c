"""The wire between supervisor and engine process: typed messages over a socket, frames through shared memory.

Both processes use this module. A message is a length-prefixed msgpack pair [name, fields]; no pickles. Frames do not
pass through the socket: the engine writes them into a ring in shared memory and sends their place (`FramesAt`). The
ring is an unlinked file that both processes map, so nothing stays behind, however a process dies.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.api import (
    Cancel,
    EngineReport,
    Frames,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    StepFinished,
)
from engine.arbiter.cost import CostRow
from engine.config import LoadSettings, Rung

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # a folder of files in memory, on Linux  # nosec B108
HEADER_BYTES = 4
# The largest is a `Generate` with its first frame: 1280x704 pixels are 1.3 MiB.
MAX_MESSAGE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Load:
    """To the engine: load this model and warm up. Before it, a process has only its imports done."""

    settings: LoadSettings
    num_threads: int


@dataclass(frozen=True, slots=True)
class Consumed:
    """To the engine: all frames up to this ring position have been copied out."""

    position: int


@dataclass(frozen=True, slots=True)
class Imported:
    """From the engine: ready for `Load`."""


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """From the engine: it has made one real generation. Carries what the supervisor needs to predict the arbiter."""

    model: ModelDescription
    startup_s: float
    ladder: tuple[Rung, ...]
    num_pieces: int  # a clip is decoded in so many pieces
    max_batch: int
    slowest_s: float  # of the warm-up's pieces: how long this model may be silent


@dataclass(frozen=True, slots=True)
class Costs:
    """From the engine: all measured costs. Sent after the warm-up and with each generation's end."""

    rows: tuple[CostRow, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """From inside the loop: between denoising steps, decoded latent frames, and twice a second when idle.

    `busy_s`: the loop has worked for so long since the last one.
    """

    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """From the engine, after each piece of work, also one that failed: whose it was, and its seconds."""

    generation_ids: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Raised:
    """The loop met an error that belongs to no single generation; the process exits after this."""

    detail: str


@dataclass(frozen=True, slots=True)
class LoadRefused:
    """The model cannot be loaded, and another attempt would fail too; the process exits after this."""

    detail: str


@dataclass(frozen=True, slots=True)
class FramesAt:
    """Frames lie in the ring at `offset`, shape ``[N, H*3//2, W]``; they end at ring position `position`."""

    generation_id: str
    offset: int
    shape: tuple[int, int, int]
    position: int
    # A preview after this step, or else (-1) clip frames that begin at `first_index`.
    step_index: int = -1
    num_steps: int = 0
    first_index: int = 0


ToEngine = Load | Consumed | Generate | Cancel
FromEngine = (
    Imported
    | EngineReport
    | WarmedUp
    | Costs
    | Heartbeat
    | Spent
    | Raised
    | LoadRefused
    | FramesAt
    | GenerationStarted
    | StepFinished
    | GenerationFinished
    | GenerationCancelled
    | GenerationFailed
)
Message = ToEngine | FromEngine

_TYPES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        *(Load, Consumed, Generate, Cancel, Imported, EngineReport, WarmedUp, Costs, Heartbeat, Spent),
        *(Raised, LoadRefused),
        *(FramesAt, GenerationStarted, StepFinished, GenerationFinished, GenerationCancelled, GenerationFailed),
    )
}


def encode(message: Message) -> bytes:
    body = _encoder.encode((type(message).__name__, message))
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_length(header: bytes) -> int:
    length = int.from_bytes(header, "big")
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {length} bytes, at most {MAX_MESSAGE_BYTES} are taken")
    return length


def decode(body: bytes) -> Message:
    name, fields = msgspec.msgpack.decode(body, type=tuple[str, msgspec.Raw])
    message: Message = msgspec.msgpack.decode(fields, type=_TYPES[name], dec_hook=_from_wire)
    return message


def _to_wire(value: object) -> object:
    """Encodes the planes of a first frame, the only value in a message that msgpack cannot encode."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    raise NotImplementedError(f"{type(value).__name__} does not cross the wire")


def _from_wire(kind: type, value: tuple[list[int], bytes]) -> object:
    shape, pixels = value
    return np.frombuffer(pixels, np.uint8).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_wire)


def open_shared_file(num_bytes: int, memory: Path = SHARED_MEMORY) -> int:
    """A descriptor of an unlinked file of `num_bytes`, all of them reserved; in memory if the system has such a folder.

    If that folder is too small, the file is in the folder of temporary files. Raises `OSError` if that is full, too.
    """
    if memory.is_dir():
        try:
            return _reserved(num_bytes, memory)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    else:
        return _reserved(num_bytes, None)
    size = f"{num_bytes / 2**20:.0f} MiB"
    logger.warning("! %s has no room for %s of frames; they take the slower way through a file", memory, size)
    logger.warning("! give the container more, as with --shm-size=256m")
    try:
        return _reserved(num_bytes, None)
    except OSError as error:
        where = f"neither in {memory} (give the container --shm-size=256m) nor in {tempfile.gettempdir()}"
        raise OSError(error.errno, f"there is no room for {size} of frames, {where}") from error


def _reserved(num_bytes: int, folder: Path | None) -> int:
    """Takes 15 ms for 64 MiB of memory. `truncate` reserves nothing: on a small /dev/shm, SIGBUS ended the engine
    while it made a clip."""
    with tempfile.TemporaryFile(dir=folder) as file:
        if sys.platform == "darwin":  # it lacks the call
            file.truncate(num_bytes)
        else:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        return os.dup(file.fileno())


class FrameRing:
    """The shared ring. Positions count bytes since the start and only grow; a block never wraps around the end.

    The engine's loop thread calls `put`, its reader thread `consume`; the server calls `get` only.
    """

    def __init__(self, descriptor: int, num_bytes: int) -> None:
        self._memory = mmap.mmap(descriptor, num_bytes)
        self._capacity = num_bytes
        self._written = 0
        self._consumed = 0
        self._room = threading.Condition()

    def put(self, planes: NDArray[np.uint8], *, wait_s: float) -> tuple[int, int] | None:
        """Copies frames in and returns (offset, position after), or None if there was no room for `wait_s`."""
        size = planes.nbytes
        if size > self._capacity // 2:
            raise ValueError(f"{size} bytes of frames do not fit a ring of {self._capacity}")
        start = self._written
        if start % self._capacity + size > self._capacity:
            start += self._capacity - start % self._capacity
        with self._room:
            if not self._room.wait_for(lambda: start + size - self._consumed <= self._capacity, wait_s):
                return None
        offset = start % self._capacity
        self._memory[offset : offset + size] = np.ascontiguousarray(planes).tobytes()
        self._written = start + size
        return offset, self._written

    def consume(self, position: int) -> None:
        with self._room:
            self._consumed = position
            self._room.notify_all()

    def get(self, offset: int, shape: tuple[int, int, int]) -> Frames:
        """A copy, so that the engine may write there again. Raises ValueError for a place outside the ring."""
        size = shape[0] * shape[1] * shape[2]
        if not 0 <= offset <= self._capacity - size:
            raise ValueError(f"frames {shape} at {offset} lie outside a ring of {self._capacity}")
        planes = np.frombuffer(self._memory[offset : offset + size], np.uint8).reshape(shape)
        return Frames(planes)

    def close(self) -> None:
        self._memory.close()

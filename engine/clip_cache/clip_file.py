"""Stored clips and their files: a header with a checksum, then the raw frames.

A file's name is a digest of everything that its clip was made from. Words are stored as offsets into the prompt, so the
prompt itself is not on disk. The functions block, so `caching_engine` calls them in the cache's thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.api import Frames, FramesReady

logger = logging.getLogger(__name__)

_MAGIC = b"sceneshift clip 1\n"
SUFFIX = ".clip"
DIGEST_BYTES = 20


@dataclass(frozen=True, slots=True)
class Key:
    """`scene` is a digest of everything but the seed."""

    scene: str
    seed: int

    @property
    def name(self) -> str:
        return hashlib.blake2b(f"{self.scene} {self.seed}".encode(), digest_size=DIGEST_BYTES).hexdigest()


@dataclass(eq=False, slots=True)
class StoredClip:
    """A clip and what its receipts say. `understood` and `not_understood` are offsets [start, end) into the prompt."""

    key: Key
    frames: Frames
    num_steps: int
    cost_s: float
    understood: tuple[tuple[int, int], ...]
    not_understood: tuple[tuple[int, int], ...]

    @property
    def num_bytes(self) -> int:
        return self.frames.planes.nbytes


def joined(chunks: list[FramesReady]) -> Frames:
    return chunks[0].frames if len(chunks) == 1 else Frames(np.concatenate([chunk.frames.planes for chunk in chunks]))


def written(folder: Path, clip: StoredClip) -> int:
    """Writes a clip under its name, atomically; returns its size in bytes. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    raw = np.ascontiguousarray(clip.frames.planes).data
    header = {
        "scene": clip.key.scene,
        "seed": clip.key.seed,
        "shape": list(clip.frames.planes.shape),
        "num_steps": clip.num_steps,
        "cost_s": clip.cost_s,
        "understood": clip.understood,
        "not_understood": clip.not_understood,
        "checksum": hashlib.blake2b(raw, digest_size=DIGEST_BYTES).hexdigest(),
    }
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix="writing-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + json.dumps(header).encode() + b"\n")
            file.write(raw)
            num_bytes = file.tell()
        Path(temporary).replace(folder / (clip.key.name + SUFFIX))
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return num_bytes


def loaded(path: Path) -> StoredClip | None:
    """The clip in a file. A damaged file is logged and removed, and gives None."""
    try:
        with path.open("rb") as file:
            header = _header(file.readline(), file.readline())
            planes = np.empty(header["shape"], np.uint8)
            if path.stat().st_size != file.tell() + planes.nbytes or file.readinto(planes.data) != planes.nbytes:
                raise ValueError("it is incomplete")
        if hashlib.blake2b(planes.data, digest_size=DIGEST_BYTES).hexdigest() != header["checksum"]:
            raise ValueError("its checksum does not match")
        key = Key(header["scene"], header["seed"])
        if key.name != path.stem:
            raise ValueError("it holds another clip")
        os.utime(path)  # at the next start, the most recently used clips are evicted last
        return StoredClip(
            key,
            Frames(planes),
            int(header["num_steps"]),
            float(header["cost_s"]),
            tuple((int(start), int(end)) for start, end in header["understood"]),
            tuple((int(start), int(end)) for start, end in header["not_understood"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("! the cached clip %s is dropped: %s", path.name, error)
        removed(path)
        return None


def listed(folder: Path) -> list[tuple[Key, int, float]]:
    """(key, bytes, engine seconds) of every clip in the folder, the most recently used last. Removes broken files."""
    found: list[tuple[float, Key, int, float]] = []
    for path in folder.glob("writing-*.tmp"):
        removed(path)  # a process died while it wrote this
    for path in folder.glob("*" + SUFFIX):
        try:
            with path.open("rb") as file:
                header = _header(file.readline(), file.readline())
            status = path.stat()
            key = Key(str(header["scene"]), int(header["seed"]))
            if key.name != path.stem:
                raise ValueError("it holds another clip")
            found.append((status.st_mtime, key, status.st_size, float(header["cost_s"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("! the cached clip %s is dropped: %s", path.name, error)
            removed(path)
    found.sort(key=lambda entry: entry[0])
    return [(key, num_bytes, cost_s) for _, key, num_bytes, cost_s in found]


def _header(magic: bytes, line: bytes) -> dict[str, Any]:
    if magic != _MAGIC:
        raise ValueError("it is not a clip of this version")
    header = json.loads(line)
    if not isinstance(header, dict):
        raise ValueError("its header cannot be read")
    return header


def removed(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)

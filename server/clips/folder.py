"""The clips' files: a folder for each clip, which appears whole or not at all. From the writer's thread.

`ROOT/ab/video_ab…/` has `video.mp4`, `thumbnail.webp`, `spritesheet.jpg` and `last.jpg`, the last frame in the model's
own size. A clip is written into `….part` and then renamed. Another store (S3) needs these five methods.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

VIDEO, THUMBNAIL, SPRITESHEET, LAST_FRAME = "video.mp4", "thumbnail.webp", "spritesheet.jpg", "last.jpg"
_PART = ".part"
# A full disk would harm more than a clip that waits.
MIN_FREE_BYTES = 512 * 2**20


class NoRoom(Exception):
    """The disk is full, or keeps only its reserve free. What waits may be written later."""


class ClipFolder:
    def __init__(self, root: Path, *, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self.root = root
        self._min_free_bytes = min_free_bytes

    def begin(self, video_id: str) -> Path:
        """An empty folder for the clip's files. Raises `NoRoom` or `OSError`."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(self.root).free < self._min_free_bytes:
            raise NoRoom("the disk of the clips is full")
        part = self._path(video_id, _PART)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        return part

    def finish(self, video_id: str) -> int:
        """What was begun is there now, whole. Returns its bytes."""
        part, path = self._path(video_id, _PART), self._path(video_id)
        for file in part.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(path, ignore_errors=True)  # of an attempt whose end was not written down
        part.rename(path)
        return sum(file.stat().st_size for file in path.iterdir())

    def find(self, video_id: str, name: str) -> Path | None:
        path = self._path(video_id) / name
        return path if path.is_file() else None

    def remove(self, video_id: str) -> None:
        for ending in ("", _PART):
            shutil.rmtree(self._path(video_id, ending), ignore_errors=True)

    def remove_finished(self, video_id: str) -> None:
        """Leaves what another process writes just now; that process removes it."""
        shutil.rmtree(self._path(video_id), ignore_errors=True)

    def sweep(self, known: set[str]) -> None:
        """Removes what no job owns: leftovers of killed servers, and clips that were erased."""
        for path in self.root.glob("??/video_*"):
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def _path(self, video_id: str, ending: str = "") -> Path:
        return self.root / video_id.removeprefix("video_")[:2] / f"{video_id}{ending}"

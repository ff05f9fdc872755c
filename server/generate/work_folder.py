"""What a run keeps beside its output until all is there, so that the same command goes on after any end. Reads, writes.

`.sceneshift` in the folder of the clips, or `.NAME.sceneshift` beside a single file, has the run's own number and the
maker's files. `clips.jsonl` in the folder of the clips stays: it tells how each clip was made. One run at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from server.generate.maker import Made
from server.generate.wanted import Wanted

RECORD = "clips.jsonl"
_NAME, _RUN, _LOCK = ".sceneshift", "run", "lock"


class WorkFolderError(Exception):
    """The folder cannot be used. The message is for the user."""


class WorkFolder:
    def __init__(self, folder: Path, file_name: str | None = None) -> None:
        """`folder` has the clips; `file_name` is the only one of them."""
        self.folder = folder
        self.path = folder / (_NAME if file_name is None else f".{file_name}{_NAME}")
        self._record = folder / RECORD if file_name is None else None
        self._lock: int | None = None
        self._run = ""
        self._made: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Raises `WorkFolderError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._run = self._number_of_run()
            self._made = self._read_record()
        except BlockingIOError:
            raise WorkFolderError(f"another `sceneshift generate` writes to {self.folder}") from None
        except OSError as error:
            raise WorkFolderError(f"{self.path} cannot be written: {error.strerror}") from None

    def key(self, wanted: Wanted) -> str:
        """Names this wish of this run to the maker, which makes nothing twice for one key."""
        return hashlib.blake2b(f"{self._run} {wanted.digest}".encode(), digest_size=16).hexdigest()

    def part(self, wanted: Wanted) -> Path:
        """For a file that is not whole yet."""
        return self.path / f"{wanted.digest}.part"

    def output(self, wanted: Wanted) -> Path:
        return self.folder / wanted.output

    def earlier(self, wanted: Wanted) -> dict[str, Any] | None:
        """What an earlier run told of this clip, if it is there."""
        entry = self._made.get(wanted.output)
        is_there = entry is not None and entry["wish"] == wanted.digest and self.output(wanted).is_file()
        return entry if is_there else None

    def remember(self, made: Made) -> None:
        """The clip is where the user wants it. Raises `OSError`."""
        if self._record is None:
            return
        wanted = made.wanted
        entry = {"output": wanted.output, "prompt": wanted.fields["prompt"], "seed": made.seed}
        entry |= {"seconds": made.seconds, "engine_s": made.engine_s, "wish": wanted.digest}
        with self._record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def close(self, *, is_complete: bool) -> None:
        """`is_complete`: nothing is left for a next run."""
        if self._lock is None:
            return
        if is_complete:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _number_of_run(self) -> str:
        path = self.path / _RUN
        if path.is_file() and (known := path.read_text(encoding="ascii", errors="replace").strip()):
            return known
        number = secrets.token_hex(16)
        new = self.path / f"{_RUN}.new"
        new.write_text(number, encoding="ascii")
        new.replace(path)
        return number

    def _read_record(self) -> dict[str, dict[str, Any]]:
        """The last line of each output. A killed run may leave half a line."""
        if self._record is None or not self._record.is_file():
            return {}
        found: dict[str, dict[str, Any]] = {}
        text = self._record.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):
            with self._record.open("a", encoding="utf-8") as file:
                file.write("\n")
        for line in text.split("\n"):
            try:
                entry = json.loads(line)
                found[entry["output"]] = {name: entry[name] for name in ("seed", "seconds", "engine_s", "wish")}
            except (ValueError, TypeError, KeyError):
                continue
        return found

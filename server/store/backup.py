"""A copy of the store while a server uses it. Blocks; `sceneshift backup` calls it, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from server.store.store import BUSY_TIMEOUT_S, StoreError


def back_up(source: Path, target: Path) -> int:
    """Writes the store as it is at one moment, and gives the copy's bytes. `target` is replaced, or stays as it was.

    It holds keys, so only its owner may read it. The server reads and writes meanwhile. Raises `StoreError`.
    """
    part = target.with_name(f"{target.name}.part")
    if not source.is_file():
        raise StoreError(f"there is no store {source}; --data-folder names the server's folder")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        num_bytes = part.stat().st_size
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the backup {target} failed: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return num_bytes


def _copy(source: Path, part: Path) -> None:
    """Raises `sqlite3.Error`."""
    with (
        contextlib.closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S)) as store,
        contextlib.closing(sqlite3.connect(part)) as copy,
    ):
        # All at once: a read of one moment. In WAL mode nobody waits for it.
        store.backup(copy)
        # One file, without the `-wal` beside it that a store has.
        copy.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"its integrity check says: {verdict}")

"""The store: one SQLite file (WAL) and one thread, which reads and writes it.

Other processes, such as `sceneshift token`, may write the same file; `has_changed` tells. The file holds keys, so only
its owner may read it. `ask` waits for its work. `tell` does not; its work is dropped when `MAX_WAITING` others wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from server.clock import Clock, MonotonicClock
from server.rarely import Rarely
from server.store.migrations import migrate

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]

FILE_NAME = "store.db"
# Seconds of writing on a slow disk.
MAX_WAITING = 4096
# For another process that writes.
BUSY_TIMEOUT_S = 5.0


class StoreError(Exception):
    """The file cannot be opened, read or written."""


class Store:
    """Without a path it lives in memory, and ends with the process. `open` it first; `close` waits for what waits."""

    def __init__(self, path: Path | None = None, clock: Clock | None = None) -> None:
        self.path = path
        self.num_dropped = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._places = threading.Semaphore(MAX_WAITING)
        self._complain = Rarely(clock or MonotonicClock(), _log.error)
        self._connection: sqlite3.Connection | None = None
        self._version = 0

    def open(self) -> None:
        """Makes the file if there is none, and brings its schema up to date. Blocks. Raises `StoreError`."""
        try:
            self._thread.submit(self._open).result()
        except (OSError, sqlite3.Error, ValueError) as error:
            self._thread.shutdown()
            raise StoreError(f"the store {self.path} cannot be opened: {error}") from None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def ask(self, work: Work[_T]) -> _T:
        """The result of `work`, which runs in one transaction on the store's thread. Raises `StoreError`."""
        return await asyncio.wrap_future(self._thread.submit(self._run, work))

    def ask_now(self, work: Work[_T]) -> _T:
        """`ask`, for callers without an event loop."""
        return self._thread.submit(self._run, work).result()

    def tell(self, work: Work[object]) -> None:
        """Runs `work` later, in order. Errors are logged, at most one a minute."""
        if not self._places.acquire(blocking=False):
            self.num_dropped += 1
            return
        self._thread.submit(self._run, work).add_done_callback(self._told)

    async def has_changed(self) -> bool:
        """Whether another process has written since the last call."""
        version = await self.ask(lambda connection: int(connection.execute("PRAGMA data_version").fetchone()[0]))
        has_changed, self._version = version != self._version, version
        return has_changed

    async def wipe(self) -> None:
        """Empties the log of writes (WAL), so that what was deleted before is in no file. Raises `StoreError`."""
        await asyncio.wrap_future(self._thread.submit(self._wipe))

    def wipe_now(self) -> None:
        """`wipe`, for callers without an event loop."""
        self._thread.submit(self._wipe).result()

    def close(self) -> None:
        """Blocks until all work is done. Idempotent."""
        if self._connection is not None:
            self._thread.submit(self._connection.close).result()
            self._connection = None
        self._thread.shutdown()

    # --- on the store's thread ------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its `-wal` and `-shm` files the mode of this one.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.path.chmod(0o600)
        connection = sqlite3.connect(
            self.path or ":memory:", timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        # NORMAL: a power cut may take the last moments, a killed process takes nothing.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten: prompts must be gone
        migrate(connection)
        self._connection = connection

    def _run(self, work: Work[_T]) -> _T:
        connection = self._connection
        if connection is None:
            raise StoreError("the store is closed")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
            except BaseException:
                if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"the store failed: {error}") from error
        return result

    def _wipe(self) -> None:
        if self._connection is None:
            raise StoreError("the store is closed")
        try:
            (is_busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"the store failed: {error}") from error
        if is_busy:
            raise StoreError(
                "what was deleted is still in the store's log, because another process reads it; try again"
            )

    def _told(self, done: Future[object]) -> None:
        self._places.release()
        if (error := done.exception()) is not None:
            self._complain("- ! %s", error)

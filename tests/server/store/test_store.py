"""The store: one file that only its owner reads, kept over restarts, shared with other processes."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from server.store import store as module
from server.store.migrations import MIGRATIONS
from server.store.store import Store, StoreError


def put(name: str) -> module.Work[None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO keys (id, name, text, scopes, made_at) VALUES (?, ?, 'x', '', 0)", (name, name))

    return work


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM keys ORDER BY name")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


def opened(path: Path | None) -> Store:
    store = Store(path)
    store.open()
    return store


def test_what_was_told_is_there_after_a_restart(path: Path) -> None:
    store = opened(path)
    store.tell(put("a"))
    store.tell(put("b"))
    store.close()
    store.close()
    store = opened(path)
    assert store.ask_now(names) == ["a", "b"]
    store.close()


def test_only_its_owner_may_read_the_keys(path: Path) -> None:
    store = opened(path)
    store.ask_now(put("a"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_what_is_deleted_is_overwritten(path: Path) -> None:
    """Some builds of SQLite leave deleted rows, with their words, in the file."""
    store = opened(path)
    assert store.ask_now(lambda connection: connection.execute("PRAGMA secure_delete").fetchone()) == (1,)
    store.close()


def test_a_readable_file_of_an_older_umask_is_closed_to_others(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_killed_process_loses_nothing_that_was_done(path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from server.store.store import Store
store = Store(Path({str(path)!r}))
store.open()
for number in range(20):
    row = (str(number),) * 2
    sql = "INSERT INTO keys (id, name, text, scopes, made_at) VALUES (?, ?, '', '', 0)"
    store.ask_now(lambda connection: connection.execute(sql, row))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    store = opened(path)
    assert len(store.ask_now(names)) == 20
    store.close()


def test_work_that_fails_changes_nothing() -> None:
    store = opened(None)

    def half(connection: sqlite3.Connection) -> None:
        put("a")(connection)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        store.ask_now(half)
    with pytest.raises(StoreError, match="no such table"):
        store.ask_now(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert store.ask_now(names) == []
    store.close()
    with pytest.raises((StoreError, RuntimeError)):
        store.ask_now(names)


async def test_another_process_is_noticed_and_we_are_not(path: Path) -> None:
    store, other = opened(path), opened(path)
    assert await store.has_changed()
    store.tell(put("ours"))
    assert not await store.has_changed()
    other.ask_now(put("theirs"))
    assert await store.has_changed()
    assert not await store.has_changed()
    assert await store.ask(names) == ["ours", "theirs"]
    store.close()
    other.close()


def test_when_too_much_waits_the_newest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    store = opened(None)
    may_go = threading.Event()
    store.tell(lambda connection: may_go.wait(60))
    for name in ("a", "b", "c", "d"):
        store.tell(put(name))
    may_go.set()
    assert store.ask_now(names) == ["a", "b"]
    assert store.num_dropped == 2
    store.tell(put("e"))  # there is room again
    assert store.ask_now(names) == ["a", "b", "e"]
    store.close()


@pytest.mark.parametrize("spoil", ["folder is a file", "no database", "newer schema"])
def test_a_file_that_cannot_be_used_is_named(path: Path, spoil: str) -> None:
    if spoil == "folder is a file":
        path.parent.touch()
    elif spoil == "no database":
        path.parent.mkdir()
        path.write_bytes(b"not a database, but long enough to look at" * 10)
    else:
        opened(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match=r"store\.db"):
        Store(path).open()


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_each_older_schema_becomes_the_newest(path: Path, version: int) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        for script in MIGRATIONS[:version]:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {version}")
    schema = "SELECT sql FROM sqlite_master ORDER BY name"
    old, new = opened(path), opened(None)
    assert old.ask_now(lambda c: c.execute(schema).fetchall()) == new.ask_now(lambda c: c.execute(schema).fetchall())
    old.close()
    new.close()


def test_a_full_disk_is_an_error_and_what_was_there_stays(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(path)
    store.ask_now(put("a"))
    store.ask_now(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
    for number in range(100):
        store.tell(put(f"{number:05d}" * 1000))
    assert "a" in store.ask_now(names)
    assert len([record for record in caplog.records if "full" in record.getMessage()]) == 1
    store.close()

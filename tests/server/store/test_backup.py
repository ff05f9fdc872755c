"""A backup while the store is written: whole, of one moment, and only its owner's."""

from __future__ import annotations

import itertools
import sqlite3
import stat
import threading
from functools import partial
from pathlib import Path

import pytest

from server.doors.access import backup_cli
from server.store.backup import back_up
from server.store.store import FILE_NAME, Store, StoreError


def opened(path: Path) -> Store:
    store = Store(path)
    store.open()
    return store


def pair(connection: sqlite3.Connection, number: int) -> None:
    """Two rows in one transaction: a copy has both or none."""
    for name in (f"{number}-one", f"{number}-two"):
        row = (name, name, "x" * 2000)
        connection.execute("INSERT INTO keys (id, name, text, scopes, made_at) VALUES (?, ?, ?, '', 0)", row)


def test_a_backup_under_load_is_whole_and_can_be_restored(tmp_path: Path) -> None:
    store = opened(tmp_path / FILE_NAME)
    is_over, writes = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        for number in itertools.count():
            store.ask_now(partial(pair, number=number))
            writes.release()
            if is_over.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = []
        for number in range(10):
            for _ in range(20):
                assert writes.acquire(timeout=60)
            copies.append(tmp_path / f"{number}.db")
            back_up(tmp_path / FILE_NAME, copies[-1])
    finally:
        is_over.set()
        writer.join()
        store.close()
    counts = []
    for copy in copies:
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        restored = opened(copy)
        assert restored.ask_now(lambda c: c.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
        counts.append(restored.ask_now(lambda c: c.execute("SELECT count(*) FROM keys").fetchone()[0]))
        restored.close()
    assert counts == sorted(counts) and counts[0] >= 40 and all(count % 2 == 0 for count in counts)


def test_a_backup_replaces_the_one_before_and_leaves_no_other_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, target = tmp_path / "data", tmp_path / "copies" / "store.db"
    target.parent.mkdir()
    store = opened(data / FILE_NAME)
    for number in range(2):
        store.ask_now(partial(pair, number=number))
        assert backup_cli.main([str(target), "--data-folder", str(data)]) == 0
    assert [path.name for path in target.parent.iterdir()] == ["store.db"]
    with sqlite3.connect(target) as copy:
        assert copy.execute("SELECT count(*) FROM keys").fetchone() == (4,)
    assert str(target) in capsys.readouterr().out
    store.close()


def test_a_backup_that_fails_says_why_and_leaves_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        back_up(tmp_path / FILE_NAME, tmp_path / "copy.db")
    opened(tmp_path / FILE_NAME).close()
    assert backup_cli.main([str(tmp_path / "nowhere" / "copy.db"), "--data-folder", str(tmp_path)]) == 1
    assert "nowhere" in capsys.readouterr().err
    (tmp_path / "kept.db").write_bytes(b"the one before")
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(StoreError, match=r"kept\.db"):
        back_up(tmp_path / FILE_NAME, tmp_path / "kept.db")
    assert (tmp_path / "kept.db").read_bytes() == b"the one before"
    assert not (tmp_path / "kept.db.part").exists()

"""The table of engine seconds that were spent, by account and window. The functions run on the store's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpentRow:
    """`owner`: of what kind and which one, as "key 3f2a1b2c". `window`: the day since 1970-01-01 in UTC, or 0 for a
    client secret, whose window is its life."""

    owner: str
    window: int
    engine_s: float
    generations: int
    forget_at: float = 0.0  # Unix time


def add(connection: sqlite3.Connection, changes: Iterable[SpentRow]) -> None:
    """Adds what was spent since the last call."""
    connection.executemany(
        "INSERT INTO spent (owner, window, engine_s, generations, forget_at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (owner, window) DO UPDATE SET engine_s = max(0.0, engine_s + excluded.engine_s), "
        "generations = generations + excluded.generations, forget_at = excluded.forget_at",
        [(row.owner, row.window, row.engine_s, row.generations, row.forget_at) for row in changes],
    )


def since(connection: sqlite3.Connection, window: int, *, prefix: str = "") -> list[SpentRow]:
    """The rows of this window and of later ones, in order. `prefix`: of their owners."""
    rows = connection.execute(
        "SELECT owner, window, engine_s, generations, forget_at FROM spent "
        "WHERE window >= ? AND substr(owner, 1, ?) = ? ORDER BY owner, window",
        (window, len(prefix), prefix),
    )
    return [SpentRow(*row) for row in rows]


def forget(connection: sqlite3.Connection, now: float) -> None:
    connection.execute("DELETE FROM spent WHERE forget_at <= ?", (now,))

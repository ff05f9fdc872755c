"""The audit log: who, from where, which door, what, and its outcome. No prompts, no keys.

Only the newest rows stay. Refusals of one peer that repeat within a minute become one row, so that a stranger writes
10 rows a minute at most, however often they knock. On the event loop; the statements run on the store's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from server.store.store import Store

MAX_ROWS = 100_000
ROWS_BETWEEN_CUTS = 1000
# Kinds of refusal: who, what and why.
MAX_REFUSALS_PER_PEER = 10
REFUSALS_WITHIN_S = 60.0
MAX_PEERS = 1000
OK = "ok"


class Entry(Struct, frozen=True):
    """`who`: a key's name, a client secret's `jti`, or a digest of a wrong token. `outcome`: "ok" or an error code."""

    at: float  # Unix time, in seconds
    tenant: str
    who: str
    peer: str
    action: str
    session: str
    outcome: str
    times: int = 1


_COLUMNS = "at, tenant, who, peer, action, session, outcome, times"


class Audit:
    def __init__(self, store: Store, wall_time: Callable[[], float]) -> None:
        self._store = store
        self._wall_time = wall_time
        self._num_rows = 0
        # By peer: the refusals that have a row in this minute, and those that have none yet.
        self._refusals: dict[str, _Refusals] = {}

    def note(self, action: str, *, tenant: str = "", who: str = "", peer: str | None = None, session: str = "") -> None:
        """Something that was done."""
        self._write(Entry(self._wall_time(), tenant, who, peer or "", action, session, OK))

    def note_refusal(
        self, action: str, outcome: str, *, tenant: str = "", who: str = "", peer: str | None = None, session: str = ""
    ) -> None:
        now = self._wall_time()
        refusals = self._refusals.get(peer or "")
        if refusals is None or now - refusals.begun_at >= REFUSALS_WITHIN_S or now < refusals.begun_at:
            if refusals is not None:
                self._flush(peer or "", refusals)
            refusals = self._refusals.setdefault(peer or "", _Refusals(now))
            if len(self._refusals) > MAX_PEERS:
                oldest = next(iter(self._refusals))
                self._flush(oldest, self._refusals[oldest])
        if len(refusals.written) < MAX_REFUSALS_PER_PEER and (action, who, outcome) not in refusals.written:
            refusals.written.add((action, who, outcome))
            self._write(Entry(now, tenant, who, peer or "", action, session, outcome))
        else:
            refusals.num_unwritten += 1

    def flush(self) -> None:
        """Writes what was only counted. Call it before the store closes."""
        for peer, refusals in list(self._refusals.items()):
            self._flush(peer, refusals)

    def _flush(self, peer: str, refusals: _Refusals) -> None:
        del self._refusals[peer]
        if refusals.num_unwritten:
            row = Entry(self._wall_time(), "", "", peer, "more refusals", "", "rate_limited", refusals.num_unwritten)
            self._write(row)

    def _write(self, entry: Entry) -> None:
        self._num_rows += 1
        cuts = self._num_rows % ROWS_BETWEEN_CUTS == 1
        self._store.tell(lambda connection: insert(connection, entry, cuts=cuts))


@dataclass(slots=True)
class _Refusals:
    begun_at: float
    written: set[tuple[str, str, str]] = field(default_factory=set)
    num_unwritten: int = 0


def insert(connection: sqlite3.Connection, entry: Entry, *, cuts: bool = False) -> None:
    row = tuple(getattr(entry, name) for name in Entry.__struct_fields__)
    connection.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    if cuts:
        connection.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (MAX_ROWS,))


def newest(
    connection: sqlite3.Connection, most: int, *, before: int | None = None, refused_only: bool = False
) -> list[tuple[int, Entry]]:
    """The newest entries first, each with its number; `before`: those with smaller numbers."""
    rows = connection.execute(
        f"SELECT id, {_COLUMNS} FROM audit WHERE (? IS NULL OR id < ?) AND (NOT ? OR outcome != ?) "
        "ORDER BY id DESC LIMIT ?",
        (before, before, refused_only, OK, most),
    )
    return [(row[0], Entry(*row[1:])) for row in rows]

"""The audit log: what was done is there, a stranger who knocks fills nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.store import audit as module
from server.store.audit import MAX_REFUSALS_PER_PEER, Audit, newest
from server.store.store import Store


class Log(Audit):
    def __init__(self) -> None:
        self.store = Store()
        self.store.open()
        self.now = 1000.0
        super().__init__(self.store, lambda: self.now)

    def rows(self, most: int = 1000) -> list[module.Entry]:
        return [entry for _, entry in self.store.ask_now(lambda connection: newest(connection, most))]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.store.close()


def test_who_from_where_which_door_what_and_the_outcome(log: Log) -> None:
    log.note("program.record", tenant="shop", who="shop", peer="192.0.2.7", session="show")
    log.note_refusal("GET /metrics", "missing_scope", tenant="shop", who="shop/1", peer=None)
    refused, done = log.rows()
    assert (done.at, done.tenant, done.who, done.peer) == (1000.0, "shop", "shop", "192.0.2.7")
    assert (done.action, done.session, done.outcome, done.times) == ("program.record", "show", "ok", 1)
    assert (refused.action, refused.who, refused.outcome, refused.peer) == (
        "GET /metrics",
        "shop/1",
        "missing_scope",
        "",
    )


def test_a_stranger_who_knocks_fills_nothing(log: Log) -> None:
    for _ in range(10_000):
        log.note_refusal("GET /v1/realtime", "unauthorized", who="one", peer="192.0.2.7")
    for number in range(1000):
        log.note_refusal("GET /v1/realtime", "unauthorized", who=str(number), peer="192.0.2.7")
    log.note_refusal("GET /v1/realtime", "unauthorized", who="one", peer="192.0.2.8")
    assert len(log.rows()) == MAX_REFUSALS_PER_PEER + 1
    log.now += 60
    log.note_refusal("GET /v1/realtime", "unauthorized", who="one", peer="192.0.2.7")
    newest_one, rest = log.rows()[:2]
    assert (newest_one.who, rest.action, rest.times) == ("one", "more refusals", 11_000 - MAX_REFUSALS_PER_PEER)


def test_what_was_only_counted_is_written_at_the_end(log: Log) -> None:
    for _ in range(3):
        log.note_refusal("GET /metrics", "unauthorized", peer="192.0.2.7")
    log.flush()
    assert [(row.action, row.times) for row in log.rows()] == [("more refusals", 2), ("GET /metrics", 1)]


def test_many_strangers_leave_a_bounded_trace_in_memory(log: Log) -> None:
    for number in range(3 * module.MAX_PEERS):
        log.note_refusal("GET /metrics", "unauthorized", peer=f"2001:db8:0:{number:x}::")
    assert len(log._refusals) <= module.MAX_PEERS


def test_only_the_newest_rows_stay(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 100)
    monkeypatch.setattr(module, "ROWS_BETWEEN_CUTS", 10)
    for number in range(500):
        log.note("session.start", session=str(number))
    rows = log.rows()
    assert 100 <= len(rows) <= 110 and rows[0].session == "499"


def test_older_pages_and_refusals_alone(log: Log) -> None:
    for number in range(5):
        log.note("session.start", session=str(number))
    log.note_refusal("GET /metrics", "unauthorized")
    pages = log.store.ask_now(lambda connection: newest(connection, 2))
    older = log.store.ask_now(lambda connection: newest(connection, 2, before=pages[-1][0]))
    assert [entry.session for _, entry in [*pages, *older]] == ["", "4", "3", "2"]
    (refused,) = log.store.ask_now(lambda connection: newest(connection, 10, refused_only=True))
    assert refused[1].outcome == "unauthorized"

"""The table of clips. Each function takes the connection of a `Store`, on the store's thread.

What ends a clip and the event that tells of it are one transaction, so a killed server tells of each end once.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Collection, Sequence

import msgspec

from server.clips.job import MAX_ATTEMPTS, ClipError, Failure, Job, Made, Spec, to_json
from server.webhooks import rows as outbox

_COLUMNS = (
    "number, id, tenant, status, spec, created_at, attempt, started_at, finished_at, expires_at, made, failure, "
    "remixed_from, user, metadata"
)
# A retry of an SDK that has no key of its own counts as the same wish for so long.
RETRY_WITHIN_S = 600.0
KEY_LIVES_S = 86_400.0


def new_id() -> str:
    return f"video_{secrets.token_hex(16)}"


def add(
    connection: sqlite3.Connection,
    *,
    tenant: str,
    spec: Spec,
    now: float,
    user: str | None = None,
    metadata: dict[str, str] | None = None,
    remixed_from: str | None = None,
    idempotency_key: str | None = None,
    digest: str = "",
    is_retry: bool = False,
    most_queued: int = 10_000,
) -> Job | None:
    """The new job, or the one that the same wish has made already. None: `most_queued` of this tenant wait."""
    if idempotency_key is not None:
        earlier = _one(
            connection,
            "tenant = ? AND idempotency_key = ? AND created_at > ?",
            tenant,
            idempotency_key,
            now - KEY_LIVES_S,
        )
    elif is_retry:
        earlier = _one(connection, "tenant = ? AND digest = ? AND created_at > ?", tenant, digest, now - RETRY_WITHIN_S)
    else:
        earlier = None
    if earlier is not None:
        return earlier
    (num_queued,) = connection.execute(
        "SELECT count(*) FROM videos WHERE tenant = ? AND status = 'queued'", (tenant,)
    ).fetchone()
    if num_queued >= most_queued:
        return None
    video_id = new_id()
    connection.execute(
        "INSERT INTO videos (id, tenant, status, spec, created_at, user, metadata, remixed_from, idempotency_key, "
        "digest) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
        (video_id, tenant, to_json(spec), now, user, json.dumps(metadata or {}), remixed_from, idempotency_key, digest),
    )
    return find(connection, video_id, tenant)


def find(connection: sqlite3.Connection, video_id: str, tenant: str | None) -> Job | None:
    """A tenant's; None: anybody's."""
    if tenant is None:
        return _one(connection, "id = ?", video_id)
    return _one(connection, "id = ? AND tenant = ?", video_id, tenant)


def page(
    connection: sqlite3.Connection,
    tenant: str,
    *,
    after: str | None,
    limit: int,
    is_ascending: bool,
    search: str | None = None,
) -> tuple[list[Job], bool] | None:
    """Jobs of a tenant after the one with the id `after`, and whether there are more. None: `after` is unknown.

    `search`: only those whose prompt has this text; large and small letters of ASCII are the same.
    """
    number: int | None = None
    if after is not None:
        row = connection.execute("SELECT number FROM videos WHERE id = ? AND tenant = ?", (after, tenant)).fetchone()
        if row is None:
            return None
        number = row[0]
    sign, order = (">", "ASC") if is_ascending else ("<", "DESC")
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM videos WHERE tenant = ? AND (? IS NULL OR number {sign} ?) "
        "AND (? IS NULL OR instr(lower(json_extract(CAST(spec AS TEXT), '$.prompt')), lower(?))) "
        f"ORDER BY number {order} LIMIT ?",
        (tenant, number, number, search, search, limit + 1),
    ).fetchall()
    return [_job(row) for row in rows[:limit]], len(rows) > limit


def positions(connection: sqlite3.Connection, jobs: Sequence[Job]) -> dict[str, int]:
    """By id of those that are queued: how many queued jobs came before. Two statements, however many jobs."""
    numbers = [job.number for job in jobs if job.status == "queued"]
    if not numbers:
        return {}
    first, last = min(numbers), max(numbers)
    (num_before,) = connection.execute(
        "SELECT count(*) FROM videos WHERE status = 'queued' AND number < ?", (first,)
    ).fetchone()
    queued = connection.execute(
        "SELECT id FROM videos WHERE status = 'queued' AND number BETWEEN ? AND ? ORDER BY number", (first, last)
    )
    known = {job.id for job in jobs}
    return {row[0]: num_before + index for index, row in enumerate(queued) if row[0] in known}


def claim(connection: sqlite3.Connection, served: Sequence[str], now: float) -> Job | None:
    """The next job, now in progress. Tenants take turns: those in `served`, the newest last, come after all others.

    A clip that is equal to one in progress waits for it, because the clip cache then has it.
    """
    rows = connection.execute(
        "SELECT tenant, min(number) FROM videos WHERE status = 'queued' "
        "AND spec NOT IN (SELECT spec FROM videos WHERE status = 'in_progress') GROUP BY tenant"
    ).fetchall()
    if not rows:
        return None
    turns = {tenant: index for index, tenant in enumerate(served)}
    _, number = min(rows, key=lambda row: (turns.get(row[0], -1), row[1]))
    connection.execute(
        "UPDATE videos SET status = 'in_progress', attempt = attempt + 1, started_at = ? WHERE number = ?",
        (now, number),
    )
    return _one(connection, "number = ?", number)


def put_back(connection: sqlite3.Connection, video_id: str) -> None:
    """The server stops, or has no room now: this attempt does not count."""
    connection.execute(
        "UPDATE videos SET status = 'queued', attempt = attempt - 1, started_at = NULL "
        "WHERE id = ? AND status = 'in_progress'",
        (video_id,),
    )


def complete(connection: sqlite3.Connection, video_id: str, made: Made, *, now: float, expires_at: float) -> bool:
    """False: it was deleted or cancelled meanwhile."""
    changed = connection.execute(
        "UPDATE videos SET status = 'completed', made = ?, finished_at = ?, expires_at = ? "
        "WHERE id = ? AND status = 'in_progress'",
        (to_json(made), now, expires_at, video_id),
    ).rowcount
    if changed:
        outbox.tell(connection, video_id, "video.completed", now)
    return bool(changed)


def fail(connection: sqlite3.Connection, video_id: str, failure: Failure, now: float) -> bool:
    """Ends a job that has not ended."""
    changed = connection.execute(
        "UPDATE videos SET status = 'failed', failure = ?, finished_at = ? "
        "WHERE id = ? AND status IN ('queued', 'in_progress')",
        (to_json(failure), now, video_id),
    ).rowcount
    if changed:
        outbox.tell(connection, video_id, "video.failed", now)
    return bool(changed)


def try_again(connection: sqlite3.Connection, video_id: str, failure: Failure, now: float) -> None:
    """Queues a job whose attempt failed, or ends it after the last attempt."""
    again = connection.execute(
        "UPDATE videos SET status = 'queued', started_at = NULL "
        "WHERE id = ? AND status = 'in_progress' AND attempt < ?",
        (video_id, MAX_ATTEMPTS),
    ).rowcount
    if not again:
        fail(connection, video_id, failure, now)


def recover(connection: sqlite3.Connection, now: float) -> None:
    """At the start: what an earlier process had in progress is queued again, three times at most."""
    failure = Failure(ClipError.ENGINE_LOST, f"the server ended {MAX_ATTEMPTS} times while it made this clip")
    for (video_id,) in connection.execute("SELECT id FROM videos WHERE status = 'in_progress'").fetchall():
        try_again(connection, video_id, failure, now)


def delete(connection: sqlite3.Connection, video_id: str) -> None:
    connection.execute("DELETE FROM videos WHERE id = ?", (video_id,))


def expired(connection: sqlite3.Connection, now: float, lives_s: float) -> list[str]:
    """Ids of clips whose time is over. One that failed or was cancelled has as long a life, because it has words."""
    rows = connection.execute(
        "SELECT id FROM videos WHERE expires_at <= ? OR (status = 'failed' AND finished_at <= ?)", (now, now - lives_s)
    )
    return [row[0] for row in rows]


def erase(connection: sqlite3.Connection, tenant: str, user: str | None = None) -> list[str]:
    """Deletes all jobs of a tenant, or of one of its users, with their prompts and events. Gives their ids.

    Without a user, the tenant's webhooks go, too.
    """
    rows = connection.execute(
        "DELETE FROM videos WHERE tenant = ? AND (? IS NULL OR user = ?) RETURNING id", (tenant, user, user)
    ).fetchall()
    ids = [row[0] for row in rows]
    outbox.erase(connection, tenant, ids if user is not None else None)
    return ids


def missing(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that have no row."""
    asked = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM videos)"
    return [row[0] for row in connection.execute(asked, (json.dumps(ids),))]


def all_ids(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT id FROM videos")}


def keep_only(connection: sqlite3.Connection, keys: Collection[str]) -> None:
    """Deletes the jobs whose idempotency key is none of these."""
    for video_id, key in connection.execute("SELECT id, idempotency_key FROM videos").fetchall():
        if key not in keys:
            delete(connection, video_id)


def num_bytes(connection: sqlite3.Connection, tenant: str) -> int:
    """Of the tenant's finished clips."""
    (total,) = connection.execute(
        "SELECT coalesce(sum(json_extract(made, '$.num_bytes')), 0) FROM videos WHERE tenant = ?", (tenant,)
    ).fetchone()
    return int(total)


def _one(connection: sqlite3.Connection, where: str, *values: object) -> Job | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM videos WHERE {where}", values).fetchone()
    return _job(row) if row is not None else None


def _job(row: tuple) -> Job:  # type: ignore[type-arg]
    return Job(
        number=row[0],
        id=row[1],
        tenant=row[2],
        status=row[3],
        spec=msgspec.json.decode(row[4], type=Spec),
        created_at=row[5],
        attempt=row[6],
        started_at=row[7],
        finished_at=row[8],
        expires_at=row[9],
        made=msgspec.json.decode(row[10], type=Made) if row[10] is not None else None,
        failure=msgspec.json.decode(row[11], type=Failure) if row[11] is not None else None,
        remixed_from=row[12],
        user=row[13],
        metadata=json.loads(row[14]),
    )

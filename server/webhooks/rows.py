"""The tables of webhooks: endpoints, events (the outbox) and deliveries. Each function runs on the store's thread.

`tell` writes an event and its deliveries in the transaction that ends a clip, so a killed server loses none. Rows stay
for a week. Of each key the newest `MAX_EVENTS` stay; older ones go, delivered or not. An event holds ids and no words.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

EventType = Literal["video.completed", "video.failed"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
DeliveryStatus = Literal["pending", "delivered", "failed"]

MAX_ENDPOINTS = 20
MAX_EVENTS = 10_000
LIVE_S = 7 * 86_400.0
OLD_SECRET_LIVES_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of a tenant. Times are Unix times, in seconds. `disabled_at`: it has answered 410."""

    number: int
    id: str
    tenant: str
    name: str
    url: str  # may hold a secret of its owner's
    event_types: tuple[str, ...]
    secret: str
    created_at: float
    updated_at: float
    old_secret: str | None = None
    old_secret_ends_at: float | None = None
    disabled_at: float | None = None

    def secrets(self, now: float) -> tuple[str, ...]:
        """What signs now: during a rotation both."""
        if self.old_secret is None or self.old_secret_ends_at is None or now >= self.old_secret_ends_at:
            return (self.secret,)
        return self.secret, self.old_secret


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint. `attempts` of the schedule; `error` is one of the sender's own words."""

    number: int
    id: str
    endpoint_id: str
    status: DeliveryStatus
    attempts: int
    next_try_at: float | None
    last_try_at: float | None
    status_code: int | None
    error: str | None
    event_id: str
    event_type: str
    event_at: float
    video_id: str
    metadata: dict[str, str] | None  # of the clip; None: it is gone


_ENDPOINT = (
    "number, id, tenant, name, url, event_types, secret, created_at, updated_at, old_secret, old_secret_ends_at, "
    "disabled_at"
)
_DELIVERY = (
    "deliveries.number, deliveries.id, endpoint_id, deliveries.status, attempts, next_try_at, last_try_at, "
    "status_code, error, event_id, events.type, events.at, events.video_id, videos.metadata"
)
_DELIVERIES = "deliveries JOIN events ON events.id = event_id LEFT JOIN videos ON videos.id = events.video_id"


# --- endpoints --------------------------------------------------------------------------------------------------------


def add_endpoint(
    connection: sqlite3.Connection,
    *,
    tenant: str,
    name: str,
    url: str,
    event_types: Iterable[str],
    secret: str,
    now: float,
) -> Endpoint | None:
    """None: the tenant has `MAX_ENDPOINTS` already."""
    (count,) = connection.execute("SELECT count(*) FROM webhook_endpoints WHERE tenant = ?", (tenant,)).fetchone()
    if count >= MAX_ENDPOINTS:
        return None
    endpoint_id = f"we_{secrets.token_hex(16)}"
    connection.execute(
        "INSERT INTO webhook_endpoints (id, tenant, name, url, event_types, secret, created_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (endpoint_id, tenant, name, url, " ".join(event_types), secret, now, now),
    )
    return find_endpoint(connection, endpoint_id, tenant)


def find_endpoint(connection: sqlite3.Connection, endpoint_id: str, tenant: str) -> Endpoint | None:
    row = connection.execute(
        f"SELECT {_ENDPOINT} FROM webhook_endpoints WHERE id = ? AND tenant = ?", (endpoint_id, tenant)
    ).fetchone()
    return _endpoint(row) if row is not None else None


def endpoints(connection: sqlite3.Connection, tenant: str, *, before: int | None, limit: int) -> list[Endpoint]:
    """Newest first. `before`: those with smaller numbers."""
    rows = connection.execute(
        f"SELECT {_ENDPOINT} FROM webhook_endpoints WHERE tenant = ? AND (? IS NULL OR number < ?) "
        "ORDER BY number DESC LIMIT ?",
        (tenant, before, before, limit),
    )
    return [_endpoint(row) for row in rows]


def change_endpoint(
    connection: sqlite3.Connection,
    endpoint_id: str,
    *,
    name: str | None,
    url: str | None,
    event_types: Iterable[str] | None,
    now: float,
) -> None:
    """None leaves a field as it is. A disabled endpoint gets new events again."""
    types = " ".join(event_types) if event_types is not None else None
    connection.execute(
        "UPDATE webhook_endpoints SET name = coalesce(?, name), url = coalesce(?, url), "
        "event_types = coalesce(?, event_types), disabled_at = NULL, updated_at = ? WHERE id = ?",
        (name, url, types, now, endpoint_id),
    )


def rotate_secret(
    connection: sqlite3.Connection, endpoint_id: str, secret: str, *, keeps_old: bool, now: float
) -> None:
    """`keeps_old`: the present secret signs, too, for a day."""
    connection.execute(
        "UPDATE webhook_endpoints SET old_secret = CASE WHEN ? THEN secret END, "
        "old_secret_ends_at = CASE WHEN ? THEN ? END, secret = ?, updated_at = ? WHERE id = ?",
        (keeps_old, keeps_old, now + OLD_SECRET_LIVES_S, secret, now, endpoint_id),
    )


def delete_endpoint(connection: sqlite3.Connection, endpoint_id: str) -> None:
    connection.execute("DELETE FROM deliveries WHERE endpoint_id = ?", (endpoint_id,))
    connection.execute("DELETE FROM webhook_endpoints WHERE id = ?", (endpoint_id,))


# --- events -----------------------------------------------------------------------------------------------------------


def tell(connection: sqlite3.Connection, video_id: str, kind: EventType, now: float) -> None:
    """Writes the event of a clip that ends, and a delivery for each endpoint of its tenant that wants it."""
    event_id = f"evt_{secrets.token_hex(16)}"
    connection.execute(
        "INSERT INTO events (id, tenant, type, video_id, at) SELECT ?, tenant, ?, id, ? FROM videos WHERE id = ?",
        (event_id, kind, now, video_id),
    )
    connection.execute(
        "INSERT INTO deliveries (id, endpoint_id, event_id, next_try_at) "
        "SELECT 'wd_' || lower(hex(randomblob(16))), webhook_endpoints.id, events.id, events.at "
        "FROM events JOIN webhook_endpoints USING (tenant) WHERE events.id = ? AND disabled_at IS NULL "
        "AND instr(' ' || event_types || ' ', ' ' || type || ' ')",
        (event_id,),
    )


def prune(connection: sqlite3.Connection, now: float) -> None:
    """Forgets old events and their deliveries."""
    connection.execute(
        "DELETE FROM events WHERE at <= ? OR number IN (SELECT number FROM (SELECT number, "
        "row_number() OVER (PARTITION BY tenant ORDER BY number DESC) AS place FROM events) WHERE place > ?)",
        (now - LIVE_S, MAX_EVENTS),
    )
    _forget_deliveries_without_event(connection)


def erase(connection: sqlite3.Connection, tenant: str, video_ids: Iterable[str] | None = None) -> None:
    """Deletes the events of these clips. None: all that is the tenant's, its endpoints too."""
    if video_ids is None:
        connection.execute("DELETE FROM events WHERE tenant = ?", (tenant,))
        connection.execute("DELETE FROM webhook_endpoints WHERE tenant = ?", (tenant,))
    else:
        connection.execute(
            "DELETE FROM events WHERE tenant = ? AND video_id IN (SELECT value FROM json_each(?))",
            (tenant, json.dumps(list(video_ids))),
        )
    _forget_deliveries_without_event(connection)


def _forget_deliveries_without_event(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM deliveries WHERE event_id NOT IN (SELECT id FROM events)")


# --- deliveries -------------------------------------------------------------------------------------------------------


def due_endpoints(connection: sqlite3.Connection, now: float) -> list[tuple[str, str]]:
    """Endpoints with a delivery that is due, each with its tenant."""
    return connection.execute(
        "SELECT id, tenant FROM webhook_endpoints WHERE EXISTS (SELECT 1 FROM deliveries "
        "WHERE endpoint_id = webhook_endpoints.id AND status = 'pending' AND next_try_at <= ?)",
        (now,),
    ).fetchall()


def next_due(connection: sqlite3.Connection, endpoint_id: str, now: float) -> tuple[Endpoint, Delivery] | None:
    endpoint = connection.execute(f"SELECT {_ENDPOINT} FROM webhook_endpoints WHERE id = ?", (endpoint_id,)).fetchone()
    row = connection.execute(
        f"SELECT {_DELIVERY} FROM {_DELIVERIES} WHERE endpoint_id = ? AND deliveries.status = 'pending' "
        "AND next_try_at <= ? ORDER BY next_try_at, deliveries.number LIMIT 1",
        (endpoint_id, now),
    ).fetchone()
    return (_endpoint(endpoint), _delivery(row)) if endpoint is not None and row is not None else None


def record(
    connection: sqlite3.Connection,
    delivery: Delivery,
    *,
    status: DeliveryStatus,
    next_try_at: float | None,
    status_code: int | None,
    error: str | None,
    is_gone: bool,
    now: float,
) -> None:
    """After an attempt. `is_gone`: the endpoint wants nothing any more, so what waits for it has failed."""
    connection.execute(
        "UPDATE deliveries SET status = ?, next_try_at = ?, status_code = ?, error = ?, last_try_at = ?, "
        "attempts = attempts + 1 WHERE id = ?",
        (status, next_try_at, status_code, error, now, delivery.id),
    )
    if is_gone:
        connection.execute("UPDATE webhook_endpoints SET disabled_at = ? WHERE id = ?", (now, delivery.endpoint_id))
        connection.execute(
            "UPDATE deliveries SET status = 'failed', next_try_at = NULL, error = coalesce(error, 'endpoint disabled') "
            "WHERE endpoint_id = ? AND status = 'pending'",
            (delivery.endpoint_id,),
        )


def deliveries(connection: sqlite3.Connection, endpoint_id: str, *, before: int | None, limit: int) -> list[Delivery]:
    """Newest first. `before`: those with smaller numbers."""
    rows = connection.execute(
        f"SELECT {_DELIVERY} FROM {_DELIVERIES} WHERE endpoint_id = ? AND (? IS NULL OR deliveries.number < ?) "
        "ORDER BY deliveries.number DESC LIMIT ?",
        (endpoint_id, before, before, limit),
    )
    return [_delivery(row) for row in rows]


def find_delivery(connection: sqlite3.Connection, endpoint_id: str, delivery_id: str) -> Delivery | None:
    row = connection.execute(
        f"SELECT {_DELIVERY} FROM {_DELIVERIES} WHERE endpoint_id = ? AND deliveries.id = ?", (endpoint_id, delivery_id)
    ).fetchone()
    return _delivery(row) if row is not None else None


def send_again(connection: sqlite3.Connection, delivery_id: str, now: float) -> None:
    """At once, and with the whole schedule before it."""
    connection.execute(
        "UPDATE deliveries SET status = 'pending', attempts = 0, next_try_at = ? WHERE id = ?", (now, delivery_id)
    )


def _endpoint(row: tuple) -> Endpoint:  # type: ignore[type-arg]
    values = list(row)
    values[5] = tuple(values[5].split())
    return Endpoint(*values)


def _delivery(row: tuple) -> Delivery:  # type: ignore[type-arg]
    values = list(row)
    values[-1] = json.loads(values[-1]) if values[-1] is not None else None
    return Delivery(*values)

"""The tables of keys and client secrets: their rows, and the statements that read and write them.

A key is `sk_ID_SECRET`, except the server's own token. It is kept as it is, because HS256 checks a client secret with
the key itself. Each function takes the connection of a `Store`, and runs on the store's thread. Times are Unix times.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from server.protocol.limits import NONE, Limits

PREFIX = "sk_"
# The key of `--token`, or the one that the server made for itself. Client secrets that name no key are signed with it.
MAIN = "main"


class KeyRefused(Exception):
    """A name that is taken or unknown. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    name: str
    text: str  # the secret itself
    scopes: frozenset[str]
    made_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    limits: Limits = NONE

    def is_good(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A client secret that must be remembered: a link that lives long, one that was used up, one that was revoked."""

    id: str  # `jti`
    tenant: str
    expires_at: float
    scopes: frozenset[str] = frozenset()
    session: str | None = None
    made_at: float | None = None
    used_at: float | None = None
    revoked_at: float | None = None


_KEY = "id, name, text, scopes, made_at, expires_at, revoked_at, limits"
_SECRET = "id, tenant, expires_at, scopes, session, made_at, used_at, revoked_at"


# --- keys -------------------------------------------------------------------------------------------------------------


def new_token() -> str:
    """160 random bits that need no quoting in a URL or a shell."""
    return secrets.token_hex(20)


def make_key(
    connection: sqlite3.Connection,
    name: str,
    scopes: Iterable[str],
    *,
    now: float,
    expires_at: float | None = None,
    limits: Limits = NONE,
) -> Key:
    """Raises `KeyRefused`."""
    key_id = secrets.token_hex(4)
    text = f"{PREFIX}{key_id}_{new_token()}"
    key = Key(key_id, name, text, frozenset(scopes), now, expires_at, limits=limits)
    _insert_key(connection, key)
    return key


def main_key(connection: sqlite3.Connection, scopes: Iterable[str], *, now: float) -> Key:
    """The token that the server made for itself; made now if there is none, or if it was revoked."""
    for key in all_keys(connection):
        if key.id == MAIN and key.is_good(now):
            return key
    connection.execute("DELETE FROM keys WHERE id = ?", (MAIN,))
    key = Key(MAIN, MAIN, new_token(), frozenset(scopes), now)
    _insert_key(connection, key)
    return key


def all_keys(connection: sqlite3.Connection) -> list[Key]:
    rows = connection.execute(f"SELECT {_KEY} FROM keys ORDER BY made_at, name")
    return [Key(row[0], row[1], row[2], _split(row[3]), row[4], row[5], row[6], _limits(row[7])) for row in rows]


def revoke_key(connection: sqlite3.Connection, name: str, *, now: float) -> Key:
    """By its name or id. Its name is free again. Raises `KeyRefused`."""
    for key in all_keys(connection):
        if name in (key.name, key.id) and key.revoked_at is None:
            freed = f"{key.name} (revoked {key.id})"
            connection.execute("UPDATE keys SET revoked_at = ?, name = ? WHERE id = ?", (now, freed, key.id))
            return key
    raise KeyRefused(f"there is no key `{name}`; `sceneshift token list` shows all")


def _insert_key(connection: sqlite3.Connection, key: Key) -> None:
    limits = msgspec.json.encode(key.limits).decode()
    row = (key.id, key.name, key.text, " ".join(sorted(key.scopes)), key.made_at, key.expires_at, limits)
    try:
        connection.execute(f"INSERT INTO keys ({_KEY}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?)", row)
    except sqlite3.IntegrityError:
        raise KeyRefused(f"there is a key `{key.name}` already; revoke it first, or choose another name") from None


# --- client secrets ---------------------------------------------------------------------------------------------------


def remembered_secrets(connection: sqlite3.Connection) -> list[SecretRow]:
    rows = connection.execute(f"SELECT {_SECRET} FROM client_secrets ORDER BY made_at")
    return [SecretRow(row[0], row[1], row[2], _split(row[3]), row[4], row[5], row[6], row[7]) for row in rows]


def remember_secret(connection: sqlite3.Connection, secret: SecretRow) -> None:
    """Adds it, or adds what is new about it."""
    row = (*(getattr(secret, name) for name in ("id", "tenant", "expires_at")), " ".join(sorted(secret.scopes)))
    row += (secret.session, secret.made_at, secret.used_at, secret.revoked_at)
    connection.execute(
        f"INSERT INTO client_secrets ({_SECRET}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (tenant, id) DO UPDATE SET used_at = coalesce(excluded.used_at, used_at), "
        "revoked_at = coalesce(excluded.revoked_at, revoked_at)",
        row,
    )


def forget_ended_secrets(connection: sqlite3.Connection, now: float) -> None:
    connection.execute("DELETE FROM client_secrets WHERE expires_at <= ?", (now,))


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _limits(text: str) -> Limits:
    """Raises `sqlite3.DataError`: a limit that this version does not know must not be ignored."""
    try:
        return msgspec.json.decode(text, type=Limits)
    except msgspec.DecodeError as error:
        raise sqlite3.DataError(f"the limits of a key cannot be read: {error}") from None

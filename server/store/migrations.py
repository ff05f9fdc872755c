"""The schema of the store, as the steps that made it. A step that has shipped never changes; new ones come last."""

from __future__ import annotations

import sqlite3

MIGRATIONS: tuple[str, ...] = (
    # 1: keys, client secrets, the audit log. Times are Unix times, in seconds.
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        text TEXT NOT NULL,               -- the key itself: HS256 needs it to check a signature
        scopes TEXT NOT NULL,             -- with spaces between
        made_at REAL NOT NULL,
        expires_at REAL,
        revoked_at REAL
    );
    CREATE TABLE client_secrets (         -- those that must be remembered until they end
        id TEXT NOT NULL,                 -- `jti`
        tenant TEXT NOT NULL,
        scopes TEXT NOT NULL DEFAULT '',
        session TEXT,
        made_at REAL,                     -- links that live for longer than a few hours
        used_at REAL,                     -- those for one use
        revoked_at REAL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (tenant, id)
    );
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        tenant TEXT NOT NULL,             -- "" for strangers
        who TEXT NOT NULL,                -- a key's name, the `jti` of a secret, or a digest of a wrong token
        peer TEXT NOT NULL,               -- an address, "" if it cannot be told apart
        action TEXT NOT NULL,
        session TEXT NOT NULL,
        outcome TEXT NOT NULL,            -- "ok" or an error code
        times INTEGER NOT NULL            -- how many this row stands for
    );
    """,
    # 2: limits of keys, and the engine seconds that were spent.
    """
    ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';  -- JSON
    CREATE TABLE spent (
        owner TEXT NOT NULL,              -- "key ID", "secret TENANT/JTI" or "address PEER"
        window INTEGER NOT NULL,          -- the day since 1970-01-01 in UTC; 0 for a client secret
        engine_s REAL NOT NULL,
        generations INTEGER NOT NULL,
        forget_at REAL NOT NULL,
        PRIMARY KEY (owner, window)
    ) WITHOUT ROWID;
    """,
    # 3: clips on demand, and the events that tell of their ends.
    """
    CREATE TABLE videos (
        number INTEGER PRIMARY KEY,       -- the order in which they came
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        user TEXT,                        -- a name that the tenant gave, for erasure
        status TEXT NOT NULL,
        spec BLOB NOT NULL,               -- JSON, with the prompt
        created_at REAL NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        started_at REAL,
        finished_at REAL,
        expires_at REAL,
        made BLOB,                        -- JSON
        failure BLOB,                     -- JSON
        remixed_from TEXT,
        metadata TEXT NOT NULL DEFAULT '{}',
        idempotency_key TEXT,
        digest TEXT NOT NULL DEFAULT ''   -- of the request's body
    );
    CREATE INDEX videos_by_tenant ON videos (tenant, number);
    CREATE INDEX videos_queued ON videos (tenant, number) WHERE status = 'queued';
    CREATE INDEX videos_queued_by_number ON videos (number) WHERE status = 'queued';
    CREATE INDEX videos_in_progress ON videos (number) WHERE status = 'in_progress';
    CREATE INDEX videos_ending ON videos (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX videos_by_key ON videos (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE TABLE events (                 -- the outbox
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        type TEXT NOT NULL,
        video_id TEXT NOT NULL,
        at REAL NOT NULL
    );
    """,
    # 4: webhooks; clips that failed end, too.
    """
    CREATE TABLE webhook_endpoints (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        url TEXT NOT NULL,
        event_types TEXT NOT NULL,        -- with spaces between
        secret TEXT NOT NULL,             -- it signs, so it is kept as it is
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        old_secret TEXT,                  -- signs, too, until its end
        old_secret_ends_at REAL,
        disabled_at REAL                  -- it answered 410
    );
    CREATE INDEX webhook_endpoints_by_tenant ON webhook_endpoints (tenant, number);
    CREATE TABLE deliveries (             -- an event on its way to an endpoint
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        endpoint_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        attempts INTEGER NOT NULL DEFAULT 0,
        next_try_at REAL,
        last_try_at REAL,
        status_code INTEGER,
        error TEXT
    );
    CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, number);
    CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_try_at) WHERE status = 'pending';
    CREATE INDEX deliveries_by_event ON deliveries (event_id);
    CREATE INDEX events_by_tenant ON events (tenant, number);
    CREATE INDEX events_by_age ON events (at);
    CREATE INDEX videos_failed ON videos (finished_at) WHERE status = 'failed';
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the schema up to date, one transaction a step. Raises `sqlite3.Error`; `ValueError` for a newer schema."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ValueError(f"a newer version of Sceneshift made it (schema {version}, this one knows {len(MIGRATIONS)})")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")

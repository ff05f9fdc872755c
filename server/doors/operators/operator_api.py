"""What a key's holder reads over HTTP: stages, what they have used, and who did what (`/v1/sessions`, `/v1/usage`,
`/v1/audit`). On the event loop."""

from __future__ import annotations

import asyncio
import datetime

import msgspec
from aiohttp import web
from msgspec import Struct

from server.accounts.accounts import KEEP_KEYS_DAYS
from server.doors import json_http
from server.doors.access.gate import Gate
from server.protocol.limits import NONE, Limits
from server.session.recordings import Recordings
from server.session.registry import Registry
from server.store import audit
from server.store.store import Store

MAX_ENTRIES = 1000
DEFAULT_ENTRIES = 100
DEFAULT_DAYS = 7


class StageListed(Struct, frozen=True):
    id: str
    key: str  # the name of the key that made it
    state: str
    viewers: int
    recording: bool
    own: bool  # of this very key: it may show its clips there; an operator's key sees the stages of others, too


class Day(Struct, frozen=True):
    day: str  # in UTC
    engine_s: float  # with what is reserved for clips in the making
    generations: int  # that took engine time


class Used(Struct, frozen=True):
    tenant: str
    name: str
    limits: Limits
    sessions: int
    viewers: int
    stored_bytes: int
    days: list[Day]  # with use, the oldest first


class OperatorApi:
    def __init__(self, registry: Registry, gate: Gate, store: Store, recordings: Recordings) -> None:
        self._registry = registry
        self._gate = gate
        self._store = store
        self._recordings = recordings

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/sessions", self._sessions)
        router.add_get("/v1/usage", self._usage)
        router.add_get("/v1/audit", self._audit)

    async def _sessions(self, request: web.Request) -> web.StreamResponse:
        """The stages of this key; an operator's key sees all."""
        identity = self._gate.admit_key(request)
        stages = [
            StageListed(
                session.session_id,
                self._gate.keyring.name_of(session.tenant),
                session.state.value,
                session.program.num_viewers,
                session.is_recording,
                session.tenant == identity.tenant,
            )
            for session in self._registry.sessions(identity.sees)
        ]
        return json_http.answer({"data": stages})

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        """Of this key; an operator's key sees all. `?days=N`: of the newest N days."""
        identity = self._gate.admit_key(request)
        num_days = json_http.number(request, "days", DEFAULT_DAYS, KEEP_KEYS_DAYS)
        keyring, accounts = self._gate.keyring, self._gate.accounts
        tenants = keyring.tenants if identity.sees is None else [identity.tenant]
        by_tenant = await accounts.days(tenants, num_days)
        used = []
        for tenant, rows in by_tenant.items():
            key, account = keyring.key(tenant), accounts.now(tenant)
            used.append(
                Used(
                    tenant,
                    keyring.name_of(tenant),
                    key.limits if key is not None else NONE,
                    account.num_sessions if account is not None else 0,
                    account.num_viewers if account is not None else 0,
                    await asyncio.to_thread(self._recordings.stored_bytes, tenant),
                    [Day(_date(row.window), round(row.engine_s, 3), row.generations) for row in rows],
                )
            )
        return json_http.answer({"today": _date(accounts.today), "data": used})

    async def _audit(self, request: web.Request) -> web.StreamResponse:
        """`?limit=N`, `?before=ID` for older ones, `?refused=1` for refusals only. The newest come first."""
        self._gate.admit_key(request, "admin")
        limit = json_http.number(request, "limit", DEFAULT_ENTRIES, MAX_ENTRIES)
        before = json_http.number(request, "before", 2**62, 2**62)
        is_refused_only = request.query.get("refused") == "1"
        rows = await self._store.ask(
            lambda connection: audit.newest(connection, limit, before=before, refused_only=is_refused_only)
        )
        return json_http.answer({"data": [{"id": number, **msgspec.structs.asdict(entry)} for number, entry in rows]})


def _date(day: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()

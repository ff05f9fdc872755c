"""What a key's holder reads over HTTP: `/v1/sessions`, the stages; `/v1/audit`, who did what. On the event loop."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from server.doors.access.gate import Gate
from server.protocol.errors import Refused
from server.session.registry import Registry
from server.store import audit
from server.store.store import Store

MAX_ENTRIES = 1000
DEFAULT_ENTRIES = 100


class StageListed(Struct, frozen=True):
    id: str
    key: str  # the name of the key that made it
    state: str
    viewers: int
    recording: bool


class OperatorApi:
    def __init__(self, registry: Registry, gate: Gate, store: Store) -> None:
        self._registry = registry
        self._gate = gate
        self._store = store

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/sessions", self._sessions)
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
            )
            for session in self._registry.sessions(identity.sees)
        ]
        return _json({"data": stages})

    async def _audit(self, request: web.Request) -> web.StreamResponse:
        """`?limit=N`, `?before=ID` for older ones, `?refused=1` for refusals only. The newest come first."""
        self._gate.admit(request, "admin")
        self._gate.admit_key(request)
        limit = _number(request, "limit", DEFAULT_ENTRIES, MAX_ENTRIES)
        before = _number(request, "before", 2**62, 2**62)
        is_refused_only = request.query.get("refused") == "1"
        rows = await self._store.ask(
            lambda connection: audit.newest(connection, limit, before=before, refused_only=is_refused_only)
        )
        return _json({"data": [{"id": number, **msgspec.structs.asdict(entry)} for number, entry in rows]})


def _json(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


def _number(request: web.Request, name: str, otherwise: int, most: int) -> int:
    """Raises `Refused` (`invalid_value`)."""
    text = request.query.get(name)
    if text is None:
        return otherwise
    if not text.isascii() or not text.isdigit() or len(text) > 20 or not 1 <= int(text) <= most:
        raise Refused("invalid_value", f"`{name}` must lie in 1..{most}", param=name)
    return int(text)

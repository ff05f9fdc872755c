"""`/v1/keys`: an operator makes, lists and revokes keys over HTTP, as `sceneshift token` does. On the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from server.doors import json_http
from server.doors.access.gate import Gate, door_of
from server.protocol.errors import Refused
from server.protocol.limits import NONE, Limits
from server.protocol.table import Scope
from server.store import keys
from server.store.keys import MAIN, Key, KeyRefused
from server.store.store import Store

PATH = "/v1/keys"
MAX_LIVES_S = 10 * 366 * 86_400


class KeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`lives_s`: None for a key without an end."""

    name: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[\w. -]+\Z")]
    scope: Annotated[tuple[Scope, ...], Meta(min_length=1)] = ("view", "prompt", "record", "push")
    lives_s: Annotated[int, Meta(ge=60, le=MAX_LIVES_S)] | None = None
    limits: Limits = NONE


class KeyListed(Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    scope: list[str]
    made_at: float
    expires_at: float | None
    is_good: bool
    limits: Limits = NONE
    value: str | None = None  # once, in the answer that made it


class KeysApi:
    def __init__(self, gate: Gate, store: Store, wall_time: Callable[[], float]) -> None:
        self._gate = gate
        self._store = store
        self._wall_time = wall_time

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(PATH, self._list)
        router.add_post(PATH, self._make)
        router.add_delete(PATH + "/{key_id}", self._revoke)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self._gate.admit_key(request, "admin")
        listed = [self._listed(key) for key in await self._store.ask(keys.all_keys) if key.revoked_at is None]
        return json_http.answer({"data": listed})

    async def _make(self, request: web.Request) -> web.StreamResponse:
        identity = self._gate.admit_key(request, "admin")
        asked = await json_http.decoded(request, KeyRequest, empty=b"")
        now = self._wall_time()
        expires_at = now + asked.lives_s if asked.lives_s is not None else None
        make = partial(
            keys.make_key, name=asked.name, scopes=asked.scope, now=now, expires_at=expires_at, limits=asked.limits
        )
        try:
            key = await self._store.ask(make)
        except KeyRefused as refusal:
            raise Refused("name_taken", str(refusal), param="name") from None
        await self._gate.keyring.load()
        self._gate.note(request, identity, f"{door_of(request)} {key.name}")
        return json_http.answer(msgspec.structs.replace(self._listed(key), value=key.text))

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        """Ends its client secrets, too, and what both hold open."""
        identity = self._gate.admit_key(request, "admin")
        key_id = request.match_info["key_id"]
        if key_id in (MAIN, identity.tenant):
            raise Refused("invalid_value", "the server's own token, or the key in use, cannot be revoked here")
        try:
            key = await self._store.ask(partial(keys.revoke_key, name=key_id, now=self._wall_time()))
        except KeyRefused as refusal:
            raise Refused("unknown_key", str(refusal)) from None
        await self._gate.keyring.load()
        self._gate.note(request, identity, f"{door_of(request)} {key.name}")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _listed(self, key: Key) -> KeyListed:
        is_good = key.is_good(self._wall_time())
        return KeyListed(key.id, key.name, sorted(key.scopes), key.made_at, key.expires_at, is_good, key.limits)

"""`/v1/realtime/client_secrets`: makes client secrets from a key, lists the long-lived ones, revokes them.

On the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from server.doors import json_http
from server.doors.access import client_secrets
from server.doors.access.gate import Gate, door_of
from server.protocol.errors import Refused
from server.protocol.limits import NONE, Limits
from server.protocol.table import Scope
from server.store.keys import SecretRow

PATH = "/v1/realtime/client_secrets"
DEFAULT_LIVES_S = 60
MIN_LIVES_S = 10
# As in OpenAI's API. A link that only shows a stage stays in a streamer's OBS for longer.
MAX_LIVES_S = 7_200
MAX_VIEW_LIVES_S = 366 * 86_400


class ExpiresAfter(Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[int, Meta(ge=MIN_LIVES_S, le=MAX_VIEW_LIVES_S)] = DEFAULT_LIVES_S


class SecretRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`session`: the name or id of the one stage; without it the secret is for any of the key's. `uses`: 1 for a secret
    that connects once; 0: any number of times until it ends."""

    scope: tuple[Scope, ...] = ("prompt",)
    session: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    origins: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=16)] = ()
    expires_after: ExpiresAfter = ExpiresAfter()
    uses: Literal[0, 1] = 0
    limits: Limits = NONE


class SecretMade(Struct, frozen=True):
    value: str
    expires_at: int  # Unix time, in seconds
    scope: list[Scope]
    session: str | None
    id: str  # revokes it
    limits: Limits


class Link(Struct, frozen=True):
    """A secret that lives long, and was not revoked. Its value is not kept."""

    id: str
    scope: list[str]
    session: str | None
    made_at: float | None
    expires_at: float


class SecretsApi:
    def __init__(self, gate: Gate, wall_time: Callable[[], float]) -> None:
        self._gate = gate
        self._wall_time = wall_time

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post(PATH, self._make)
        router.add_get(PATH, self._list)
        router.add_delete(PATH + "/{secret_id}", self._revoke)

    async def _make(self, request: web.Request) -> web.StreamResponse:
        identity = self._gate.admit(request)
        asked = await json_http.decoded(request, SecretRequest)
        lives_s = asked.expires_after.seconds
        if lives_s > MAX_LIVES_S and set(asked.scope) != {"view"}:
            reason = f"a secret that may do more than `view` lives for {MAX_LIVES_S} s at most"
            raise Refused("invalid_value", reason, param="expires_after")
        if asked.limits.stored_bytes is not None:
            raise Refused(
                "invalid_value", "recordings are counted by key: a secret has no `stored_bytes`", param="limits"
            )
        secret_id = client_secrets.new_id()
        value, expires_at = self._gate.access.make_secret(
            identity,
            asked.scope,
            secret_id=secret_id,
            lives_s=lives_s,
            session=asked.session,
            origins=asked.origins,
            is_for_one_use=asked.uses == 1,
            limits=asked.limits,
        )
        if lives_s > MAX_LIVES_S:
            scopes, now = frozenset(asked.scope), self._wall_time()
            self._gate.keyring.keep_link(
                SecretRow(secret_id, identity.tenant, expires_at, scopes, asked.session, made_at=now)
            )
        self._gate.note(request, identity, door_of(request), session=asked.session or "")
        return json_http.answer(
            SecretMade(value, expires_at, sorted(asked.scope), asked.session, secret_id, asked.limits)
        )

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """The links of this key that still open something."""
        identity = self._gate.admit_key(request)
        links = [
            Link(row.id, sorted(row.scopes), row.session, row.made_at, row.expires_at)
            for row in self._gate.keyring.links(identity.tenant)
        ]
        return json_http.answer({"data": links})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        """Ends what the secret holds open. A secret that we did not make, or that lives shortly, is not known to us."""
        identity = self._gate.admit_key(request)
        secret_id = request.match_info["secret_id"]
        # One that is not remembered ends by itself within this time, or was made by the key's holder elsewhere.
        self._gate.keyring.revoke_secret(identity.tenant, secret_id, self._wall_time() + MAX_VIEW_LIVES_S)
        self._gate.note(request, identity, door_of(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)

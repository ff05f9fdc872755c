"""`POST /v1/realtime/client_secrets`: makes a client secret from the server's token. On the event loop."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from server.doors.access.auth import Access
from server.protocol.errors import Refused
from server.protocol.table import Scope

PATH = "/v1/realtime/client_secrets"
DEFAULT_LIVES_S = 60
MIN_LIVES_S = 10
# As in OpenAI's API. A link that only shows a stage stays in a streamer's OBS for longer.
MAX_LIVES_S = 7_200
MAX_VIEW_LIVES_S = 366 * 86_400


class ExpiresAfter(Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[int, Meta(ge=MIN_LIVES_S, le=MAX_VIEW_LIVES_S)] = DEFAULT_LIVES_S


class SecretRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`session`: the name or id of the one stage; without it the secret is for any of the tenant's."""

    scope: tuple[Scope, ...] = ("prompt",)
    session: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    origins: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=16)] = ()
    expires_after: ExpiresAfter = ExpiresAfter()


class SecretMade(Struct, frozen=True):
    value: str
    expires_at: int  # Unix time, in seconds
    scope: list[Scope]
    session: str | None


class SecretsApi:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._decoder = msgspec.json.Decoder(SecretRequest)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post(PATH, self._make)

    async def _make(self, request: web.Request) -> web.StreamResponse:
        identity = self._access.admit(request.headers, request.query)
        try:
            asked = self._decoder.decode(await request.read() or b"{}")
        except msgspec.ValidationError as error:
            raise Refused("invalid_value", str(error)) from None
        except msgspec.DecodeError as error:
            raise Refused("invalid_json", f"the body is no JSON: {error}") from None
        lives_s = asked.expires_after.seconds
        if lives_s > MAX_LIVES_S and set(asked.scope) != {"view"}:
            reason = f"a secret that may do more than `view` lives for {MAX_LIVES_S} s at most"
            raise Refused("invalid_value", reason, param="expires_after")
        value, expires_at = self._access.make_secret(
            identity, asked.scope, lives_s=lives_s, session=asked.session, origins=asked.origins
        )
        made = SecretMade(value, expires_at, sorted(asked.scope), asked.session)
        return web.Response(body=msgspec.json.encode(made), status=HTTPStatus.OK, content_type="application/json")

"""Client secrets: what they allow, and what never passes for one. Entrances and messages are those of the table."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import AsyncIterator
from typing import Any, get_args

import aiohttp
import jwt
import msgspec
import pytest
import pytest_asyncio
from serving import Controller, Serving, serving

from server.doors.access import client_secrets
from server.doors.connection import checked
from server.protocol.errors import Refused
from server.protocol.table import ASKED, ROUTES, Asked, Route, Scope
from server.store.keys import MAIN, Key

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
NOW = 1_800_000_000.0
SCOPES: tuple[Scope, ...] = get_args(Scope)
GUARDED = [route for route in ROUTES if route.scope is not None]
MAKER = "/v1/realtime/client_secrets"


def secret(*scopes: Scope, lives_s: float = 60, **more: Any) -> str:
    return client_secrets.make(TOKEN, scopes, now=NOW, lives_s=lives_s, **more)


def read(value: str, *, origin: str | None = None) -> client_secrets.Identity:
    key = Key(MAIN, MAIN, TOKEN, client_secrets.ALL_SCOPES)
    return client_secrets.read(value, lambda key_id: key if key_id is None else None, origin=origin)


def test_a_secret_has_its_scopes_its_stage_and_the_tenant_of_its_token() -> None:
    identity = read(secret("view", session="my-show"))
    assert (identity.scopes, identity.session, identity.is_key) == (frozenset({"view"}), "my-show", False)
    assert (identity.tenant, identity.expires_at) == (MAIN, NOW + 60)


def test_who_may_prompt_may_watch() -> None:
    assert read(secret("prompt")).scopes == {"prompt", "view"}


def test_any_language_makes_a_secret_with_the_token() -> None:
    claims = {"aud": "sceneshift", "iat": NOW, "exp": NOW + 5, "jti": "1", "scope": "prompt record"}
    value = "ek_" + jwt.encode(claims, TOKEN, algorithm="HS256")
    assert read(value).scopes == {"prompt", "view", "record"}


def forged(change: dict[str, Any], *, key: str = TOKEN, algorithm: str = "HS256", kid: Any = None) -> str:
    claims = {"aud": "sceneshift", "iat": NOW, "exp": NOW + 60, "jti": "1", "scope": "view"} | change
    claims = {name: value for name, value in claims.items() if value is not None}
    if isinstance(kid, str) or kid is None:
        headers = {"kid": kid} if kid else None
        return "ek_" + jwt.encode(claims, key if algorithm != "none" else "", algorithm=algorithm, headers=headers)
    # PyJWT makes no such header itself.
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "kid": kid}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(key.encode(), signed, "sha256")).rstrip(b"=")
    return f"ek_{(signed + b'.' + signature).decode()}"


FORGED = {
    "another key": forged({}, key="another-token-that-has-more-than-forty-eight-letters"),
    "no algorithm": forged({}, algorithm="none"),
    "another algorithm": forged({}, algorithm="HS384"),
    "another audience": forged({"aud": "another"}),
    "no end": forged({"exp": None}),
    "no name": forged({"jti": None}),
    "no scope": forged({"scope": None}),
    "an unknown scope": forged({"scope": "view everything"}),
    "a stage that is no text": forged({"session": 7}),
    "origins that are no list": forged({"origins": "https://a.example"}),
    "nothing": "ek_",
    "half a surrogate pair": forged({"origins": ["https://a.\ud800"]}),
    "an end that never comes": forged({"exp": float("inf")}),
    "an end that is no time": forged({"exp": 10**400}),
    "a name without end": forged({"jti": "j" * 65}),
    "seven uses": forged({"uses": 7}),
    "another key's name": forged({}, kid="other"),
    "a key's name that is no text": forged({}, kid=["main"]),
    "no JSON": "ek_a.b.c",
    "Chinese": "ek_" + "日" * 40,
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED.keys())
def test_what_the_token_did_not_sign_is_refused(value: str) -> None:
    with pytest.raises(Refused, match="not one of this server") as refused:
        read(value)
    assert refused.value.detail.code == "unauthorized"
    assert TOKEN not in refused.value.detail.message


@pytest.mark.parametrize("origin", [None, "https://other.example"])
def test_a_secret_for_a_page_is_for_that_page_only(origin: str | None) -> None:
    value = secret("prompt", origins=["https://shop.example"])
    read(value, origin="https://shop.example")
    with pytest.raises(Refused, match=r"shop\.example"):
        read(value, origin=origin)


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.kind.__name__)
def test_each_message_needs_the_scope_of_its_row(row: Asked) -> None:
    for scope in SCOPES:
        identity = read(secret(scope))
        if row.scope is None or row.scope in identity.scopes:
            assert checked(identity, row.example) == row.example
        else:
            with pytest.raises(Refused, match=f"needs the scope `{row.scope}`"):
                checked(identity, row.example)


START = next(row.example for row in ASKED if row.kind.__name__ == "SessionStart")


def test_a_secret_for_one_stage_starts_no_other() -> None:
    identity = read(secret("prompt", session="my-show"))
    assert checked(identity, msgspec.structs.replace(START, name="my-show")).name == "my-show"
    with pytest.raises(Refused, match="`my-show` only"):
        checked(identity, msgspec.structs.replace(START, name="other-show"))


def test_a_start_without_a_name_gets_the_stage_of_its_secret() -> None:
    """So a widget, which knows no names, has the stage that its page's server chose."""
    assert checked(read(secret("prompt", session="shop-1")), msgspec.structs.replace(START, name=None)).name == "shop-1"
    with pytest.raises(Refused, match="starts none"):
        checked(read(secret("prompt", session="No Name!")), msgspec.structs.replace(START, name=None))


# --- a real server ----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Serving]:
    async with serving(token=TOKEN, build={"access_time": lambda: NOW}) as server:
        yield server


@pytest_asyncio.fixture
async def show(server: Serving) -> Controller:
    return await server.controller(name="my-show", token=TOKEN)


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


async def ask(server: Serving, route: Route, token: str | None) -> str:
    """The code of the refusal; "" if there was none."""
    path = re.sub(r"{\w+}", "none", route.path.replace("{session_id}", "my-show"))
    headers = {} if token is None else bearer(token)
    if route.path in ("/v1/realtime", "/v1/sessions/{session_id}/watch"):
        async with server.http.ws_connect(path, headers=headers) as socket:
            if route.path == "/v1/realtime":
                await socket.send_str('{"type":"session.ping"}')
            message = await socket.receive()
            told = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}
            return str(told.get("error", {}).get("code", ""))
    if route.path == "/v1/realtime/calls":
        path += "?session=my-show"
    async with server.http.request(route.method, path, headers=headers, data=b"") as response:
        return "" if response.status < 400 else str((await response.json())["error"]["code"])


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_each_entrance_needs_the_scope_of_its_row(server: Serving, show: Controller, route: Route) -> None:
    """The matrix: a stranger, an expired secret, each scope, the token. Any other refusal means: the door let it in."""
    closed = ("unauthorized", "missing_scope")
    assert await ask(server, route, None) == "unauthorized"
    assert await ask(server, route, secret(*SCOPES, lives_s=-1)) == "unauthorized"
    assert await ask(server, route, TOKEN) not in closed
    for scope in SCOPES:
        may = route.scope in read(secret(scope)).scopes and not route.needs_key
        assert (await ask(server, route, secret(scope)) not in closed) is may, scope


async def test_a_viewers_link_shows_one_stage_and_nothing_else(server: Serving, show: Controller) -> None:
    link = bearer(secret("view", session="my-show"))
    async with server.http.get("/v1/sessions/my-show/snapshot.jpg", headers=link) as response:
        assert response.status == 200
    await server.controller(name="other-show", token=TOKEN)
    async with server.http.get("/v1/sessions/other-show/snapshot.jpg", headers=link) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (403, "missing_scope")
    async with server.http.post("/whep/other-show", headers=link, data="v=0") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"scope": ["everything"]}, "everything"),
        ({"expires_after": {"seconds": 5}}, "seconds"),
        ({"scope": ["prompt"], "expires_after": {"seconds": 7201}}, "7200 s at most"),
        ({"origin": "https://a.example"}, "origin"),
    ],
)
async def test_a_wrong_wish_for_a_secret_is_named(server: Serving, asked: dict[str, Any], told: str) -> None:
    async with server.http.post(MAKER, json=asked, headers=bearer(TOKEN)) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (400, "invalid_value") and told in error["message"]


async def test_a_secret_is_made_by_the_token_alone(server: Serving) -> None:
    asked = {"scope": ["view"], "session": "my-show", "expires_after": {"seconds": 600}}
    async with server.http.post(MAKER, json=asked, headers=bearer(TOKEN)) as response:
        made = await response.json()
        assert (response.status, made["expires_at"], made["session"]) == (200, NOW + 600, "my-show")
    assert read(made["value"]).scopes == {"view"}
    async with server.http.post(MAKER, json=asked, headers=bearer(made["value"])) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (403, "missing_scope")


async def test_a_server_without_a_token_needs_no_secrets() -> None:
    async with serving() as server, server.http.post(MAKER, json={}) as response:
        assert (await response.json())["error"]["code"] == "not_supported"

"""Each role at each entrance of the table: what it may enter, and that all else is refused and counted.

A stage of one customer, with a recording. Roles: a stranger, a viewer with a link, a controller with a secret, the
customer, another customer, the operator. `test_table.py` fails for a route or message
without a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from serving import Controller, Serving, serving

from server.doors.access import client_secrets
from server.doors.access.gate import AUDITED
from server.protocol.table import ASKED, ROUTES, Asked, Route, Scope
from server.store import keys
from server.store.keys import Key
from server.store.store import Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
NOW = 1_800_000_000.0
CUSTOMER: tuple[Scope, ...] = ("view", "prompt", "record", "push")
ROLES = ("stranger", "viewer", "controller", "customer", "other", "operator")
# What the stage's own parties may do with it, by the scope of a row.
_OWN: dict[str, tuple[str, ...]] = {
    "view": ("viewer", "controller", "customer"),
    "prompt": ("controller", "customer"),
    "record": ("customer",),
    "push": ("customer",),
    "admin": (),
}
# Codes of a closed door. Any other answer came from behind it.
CLOSED = ("unauthorized", "missing_scope", "unknown_session", "unknown_recording")


def may_enter(role: str, route: Route) -> bool:
    """The expected answer of a row."""
    if route.scope is None:
        return True
    if role == "stranger":
        return False
    if route.path.startswith("/v1/videos") and role == "controller":
        return False  # its secret is for one stage
    if route.needs_key:  # about one's own stages, secrets and keys
        return role == "operator" or (role in ("customer", "other") and route.scope != "admin")
    if route.scope == "admin":
        return role == "operator"
    is_about_the_stage = "{session_id}" in route.path or route.path == "/v1/realtime/calls"
    if is_about_the_stage and role == "other":
        return False
    if is_about_the_stage and role == "operator":
        return route.scope == "view"  # somebody must see what is on air
    return role in (*_OWN[route.scope], "other", "operator")


@dataclass
class House:
    server: Serving
    stage: Controller
    recording: str
    tokens: dict[str, str | None]

    async def enter(self, role: str, route: Route, **more: Any) -> str:
        """The code of the answer; "" if there was no error."""
        path = route.path.replace("{session_id}", "show").replace("{name}", self.recording)
        path = re.sub(r"{\w+}", "none", path)
        if route.path == "/v1/realtime/calls":
            path += "?session=show"
        token = self.tokens[role]
        headers = ({"Authorization": f"Bearer {token}"} if token else {}) | more.pop("headers", {})
        if route.request:
            headers["Content-Type"] = route.request
        if route.path in ("/v1/realtime", "/v1/sessions/{session_id}/watch"):
            async with self.server.http.ws_connect(path, headers=headers) as socket:
                if route.path == "/v1/realtime":
                    await socket.send_str('{"type":"session.ping"}')
                message = await socket.receive()
                told = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}
                return str(told.get("error", {}).get("code", ""))
        async with self.server.http.request(route.method, path, headers=headers, data=b"", **more) as response:
            if response.status < 400:
                return ""
            text = await response.text()
            return str(json.loads(text)["error"]["code"]) if text.startswith("{") else f"status {response.status}"

    async def refused(self, code: str) -> float:
        """How many refusals of this code the server has counted."""
        async with self.server.http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
            text = await response.text()
        found = re.search(rf'^sceneshift_refusals_total{{code="{code}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = Store()
    store.open()
    ours, other = (
        store.ask_now(partial(keys.make_key, name=name, scopes=CUSTOMER, now=NOW)) for name in ("ours", "other")
    )
    build = {"store": store, "access_time": lambda: NOW}
    async with serving(token=TOKEN, build=build, recordings_folder=str(tmp_path)) as server:
        stage = await server.controller(name="show", token=ours.text)
        await stage.say("program.record", recording=True)
        recording = (await stage.hear("recording.changed"))["name"]
        tokens = {
            "stranger": None,
            "viewer": secret(ours, "view", session="show"),
            "controller": secret(ours, "prompt", session="show"),
            "customer": ours.text,
            "other": other.text,
            "operator": TOKEN,
        }
        yield House(server, stage, recording, tokens)


def secret(key: Key, *scopes: Scope, **more: Any) -> str:
    return client_secrets.make(key.text, scopes, now=NOW, lives_s=600, **more)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_each_role_enters_where_it_may_and_nowhere_else(house: House, route: Route) -> None:
    for role in ROLES:
        code = await house.enter(role, route)
        assert (code not in CLOSED) is may_enter(role, route), (role, code)


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.kind.__name__)
async def test_a_controller_with_a_secret_drives_and_does_no_more(house: House, row: Asked) -> None:
    """Each message on a connection of its own: the scope is asked for before anything else."""
    message = json.loads(json.dumps({"type": row.kind.__struct_config__.tag}))
    for field in row.example.__struct_fields__:
        if (value := getattr(row.example, field)) is not None and isinstance(value, str | int | bool):
            message[field] = value
    headers = {"Authorization": f"Bearer {house.tokens['controller']}"}
    async with house.server.http.ws_connect("/v1/realtime", headers=headers) as socket:
        await socket.send_json(message | ({"name": "show"} if row.kind.__name__ == "SessionStart" else {}))
        answer = await socket.receive_json()
    is_refused = answer.get("error", {}).get("code") == "missing_scope"
    # A resume names a stage, and this secret is for another one.
    is_of_others = row.kind.__name__ == "SessionResume"
    assert is_refused is (row.scope in ("record", "push", "admin") or is_of_others), answer


# --- what is forged -------------------------------------------------------------------------------------------------

CLAIMS = {"aud": "sceneshift", "iat": NOW, "exp": NOW + 60, "jti": "1", "scope": "view"}
FORGED = {
    "expired": lambda: "ek_" + jwt.encode(CLAIMS | {"exp": NOW - 1}, TOKEN, algorithm="HS256"),
    "alg:none": lambda: "ek_" + jwt.encode(CLAIMS, "", algorithm="none"),
    "wrong key": lambda: "ek_" + jwt.encode(CLAIMS, TOKEN[::-1], algorithm="HS256"),
    "wrong audience": lambda: "ek_" + jwt.encode(CLAIMS | {"aud": "other"}, TOKEN, algorithm="HS256"),
    "another page's": lambda: (
        "ek_" + jwt.encode(CLAIMS | {"origins": ["https://shop.example"]}, TOKEN, algorithm="HS256")
    ),
}
SNAPSHOT = next(route for route in ROUTES if route.path.endswith("snapshot.jpg"))
WHEP = next(route for route in ROUTES if (route.method, route.path) == ("POST", "/whep/{session_id}"))


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_secret_is_refused_and_counted(house: House, make: Any) -> None:
    house.tokens["stranger"] = make()
    before = await house.refused("unauthorized")
    assert await house.enter("stranger", SNAPSHOT) == "unauthorized"
    assert await house.refused("unauthorized") == before + 1


async def test_a_replayed_secret_is_refused_and_counted(house: House) -> None:
    claims = CLAIMS | {"uses": 1, "jti": "replayed"}
    house.tokens["stranger"] = "ek_" + jwt.encode(claims, TOKEN, algorithm="HS256")
    assert await house.enter("stranger", WHEP) not in CLOSED[:2]
    before = await house.refused("unauthorized")
    assert await house.enter("stranger", WHEP) == "unauthorized"
    assert await house.refused("unauthorized") == before + 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"Origin": "https://evil.example"}, "forbidden_origin"), ({"Host": "evil.example"}, "forbidden_host")],
    ids=["foreign origin", "rebinding host"],
)
async def test_a_foreign_page_is_refused_and_counted_even_with_the_token(
    house: House, headers: dict[str, str], code: str
) -> None:
    before = await house.refused(code)
    assert await house.enter("operator", SNAPSHOT, headers=headers) == code
    assert await house.refused(code) == before + 1


async def test_forwarded_headers_of_a_stranger_are_refused_and_counted_without_a_token() -> None:
    async with serving() as server:
        async with server.http.get("/readyz", headers={"X-Forwarded-For": "127.0.0.1"}) as response:
            assert (await response.json())["error"]["code"] == "token_needed_behind_proxy"
        async with server.http.get("/metrics") as response:
            assert 'token_needed_behind_proxy"} 1.0' in await response.text()


def test_every_refusal_of_a_role_is_written_down() -> None:
    assert {"unauthorized", "missing_scope", "forbidden_host", "forbidden_origin"} <= AUDITED

"""Several customers on one server: their stages are apart, and a revoked key or secret holds nothing open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from serving import Controller, Serving, serving

from server.doors.access import client_secrets, token_cli
from server.doors.access.keyring import POLL_S
from server.protocol.table import ASKED
from server.store import audit, keys
from server.store.keys import Key
from server.store.store import FILE_NAME, Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
MAKER = "/v1/realtime/client_secrets"
CUSTOMER = ("view", "prompt", "record", "push")
NOW = 1_800_000_000.0


class Shop:
    """A server with two customers, beside its operator."""

    def __init__(self, server: Serving, store: Store, folder: Path) -> None:
        self.server, self.store, self.folder = server, store, folder
        self.http = server.http
        self.now = NOW
        self.ours, self.theirs = self.key("ours"), self.key("theirs")

    def key(self, name: str, scopes: tuple[str, ...] = CUSTOMER) -> Key:
        return self.store.ask_now(partial(keys.make_key, name=name, scopes=scopes, now=NOW))

    def secret(self, key: Key, *scopes: Any, lives_s: float = 60, **more: Any) -> str:
        return client_secrets.make(key.text, scopes, now=self.now, lives_s=lives_s, **more)

    async def status(self, method: str, path: str, token: str, **more: Any) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.request(method, path, headers=headers, **more) as response:
            return response.status

    async def told(self, token: str, message: dict[str, Any]) -> dict[str, Any]:
        """The first answer to a message on a connection of its own."""
        async with self.http.ws_connect("/v1/realtime", params={"token": token}) as socket:
            await socket.send_json(message)
            answer: dict[str, Any] = json.loads((await socket.receive()).data)
            return answer

    async def start(self, token: str, name: str) -> Controller:
        return await self.server.controller(name=name, token=token)

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_true():  # noqa: ASYNC110  the server's state, on the same loop
                await asyncio.sleep(0)

    async def audited(self) -> list[audit.Entry]:
        rows = await self.store.ask(lambda connection: audit.newest(connection, 100))
        return [entry for _, entry in rows]


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    store = Store(tmp_path / FILE_NAME)
    store.open()
    made: list[Shop] = []
    build = {"store": store, "access_time": lambda: made[0].now if made else NOW}
    async with serving(token=TOKEN, build=build, recordings_folder=str(tmp_path)) as server:
        made.append(Shop(server, store, tmp_path))
        await server.keyring.load()  # the keys that were made just now
        yield made[0]


# --- customers apart --------------------------------------------------------------------------------------------------


async def test_another_customers_stage_looks_like_none(shop: Shop) -> None:
    ours = await shop.start(shop.ours.text, "show")
    await ours.say("program.record", recording=True)
    recording = await ours.hear("recording.changed")
    for path in ("snapshot.jpg", f"recordings/{recording['name']}"):
        assert await shop.status("GET", ours.path(path), shop.ours.text) == 200, path
        assert await shop.status("GET", ours.path(path), shop.theirs.text) == 404, path
    assert await shop.status("POST", "/whep/show", shop.theirs.text, data="v=0") == 404
    async with shop.http.ws_connect(ours.path("watch"), params={"token": shop.theirs.text}) as watching:
        assert (await watching.receive_json())["error"]["code"] == "unknown_session"


async def test_another_customer_can_neither_resume_nor_replace_a_stage(shop: Shop) -> None:
    ours = await shop.start(shop.ours.text, "show")
    session = shop.server.registry.find("show", None)
    resume = {"type": "session.resume", "session_id": "show", "resume_token": session.resume_token}
    assert (await shop.told(shop.theirs.text, resume))["error"]["code"] == "unknown_session"
    await ours.socket.close()
    await shop.until(lambda: session.state.value == "detached")
    start = {"type": "session.start", "name": "show"}
    assert (await shop.told(shop.theirs.text, start))["error"]["code"] == "name_taken"
    assert (await shop.told(shop.theirs.text, resume))["error"]["code"] == "unknown_session"
    assert (await shop.told(shop.ours.text, resume))["type"] == "session.created"


async def test_a_visitor_of_the_same_page_cannot_replace_a_detached_stage(shop: Shop) -> None:
    """Their secrets are of one key; the key itself may, because a console that crashed must get its name back."""
    ours = await shop.start(shop.secret(shop.ours, "prompt"), "show")
    session = shop.server.registry.find("show", None)
    await ours.socket.close()
    await shop.until(lambda: session.state.value == "detached")
    start = {"type": "session.start", "name": "show"}
    assert (await shop.told(shop.secret(shop.ours, "prompt"), start))["error"]["code"] == "name_taken"
    assert (await shop.told(shop.ours.text, start))["type"] == "session.created"


async def test_each_lists_its_own_stages_and_the_operator_sees_all(shop: Shop) -> None:
    await shop.start(shop.ours.text, "show")
    await shop.start(shop.theirs.text, "other")

    async def listed(token: str) -> set[str]:
        async with shop.http.get("/v1/sessions", headers={"Authorization": f"Bearer {token}"}) as response:
            return {stage["id"] for stage in (await response.json())["data"]}

    assert await listed(shop.ours.text) == {"show"}
    assert await listed(shop.theirs.text) == {"other"}
    assert await listed(TOKEN) == {"show", "other"}
    assert await shop.status("GET", "/v1/sessions/show/snapshot.jpg", TOKEN) == 200


async def test_a_call_is_ended_by_its_own_customer_only(shop: Shop) -> None:
    assert await shop.status("DELETE", "/v1/realtime/calls/call_1", shop.theirs.text) == 404


async def test_a_customers_key_is_no_operators(shop: Shop) -> None:
    for path in ("/metrics", "/v1/audit"):
        assert await shop.status("GET", path, shop.ours.text) == 403
        assert await shop.status("GET", path, TOKEN) == 200


async def test_a_customers_key_makes_secrets_that_can_do_no_more_than_it(shop: Shop) -> None:
    viewer = shop.key("viewer", ("view",))
    await shop.server.keyring.load()
    assert await shop.status("POST", MAKER, shop.ours.text, json={"scope": ["record"]}) == 200
    assert await shop.status("POST", MAKER, viewer.text, json={"scope": ["prompt"]}) == 403
    by_hand = shop.secret(viewer, "prompt", "admin")
    assert await shop.status("GET", "/metrics", by_hand) == 403
    assert (await shop.told(by_hand, {"type": "session.ping"}))["error"]["code"] == "missing_scope"


# --- one use, and the end -------------------------------------------------------------------------------------------


async def test_a_secret_for_one_use_connects_once_and_then_only_resumes(shop: Shop) -> None:
    value = shop.secret(shop.ours, "prompt", is_for_one_use=True)
    first = await shop.start(value, "show")
    session = shop.server.registry.find("show", None)
    assert (await shop.told(value, {"type": "session.start"}))["error"]["code"] == "unauthorized"
    await first.socket.close()
    resume = {"type": "session.resume", "session_id": "show"}
    wrong = await shop.told(value, {**resume, "resume_token": "wrong"})
    assert wrong["error"]["code"] == "wrong_token"
    again = await shop.told(value, {**resume, "resume_token": session.resume_token})
    assert again["type"] == "session.created"


async def test_a_used_secret_stays_used_over_a_restart(tmp_path: Path) -> None:
    build = {"access_time": lambda: NOW}
    value = client_secrets.make(TOKEN, ["view"], now=NOW, lives_s=60, is_for_one_use=True)
    statuses = []
    for _ in range(2):
        store = Store(tmp_path / FILE_NAME)
        async with serving(token=TOKEN, build={**build, "store": store}) as server:
            async with server.http.post("/whep/none", data="v=0", params={"token": value}) as response:
                statuses.append(response.status)
    assert statuses == [404, 401]


async def test_an_ended_secret_resumes_its_stage_and_does_nothing_else(shop: Shop) -> None:
    value = shop.secret(shop.ours, "prompt", "record")
    await shop.start(value, "show")
    session = shop.server.registry.find("show", None)
    shop.now = NOW + 61
    for row in ASKED:
        message = json.loads(json.dumps({"type": row.kind.__struct_config__.tag}))
        if row.kind.__name__ != "SessionResume":
            assert (await shop.told(value, message))["error"]["code"] in (
                "unauthorized",
                "missing_field",
                "missing_scope",
            )
    assert await shop.status("GET", "/v1/sessions/show/snapshot.jpg", value) == 401
    resume = {"type": "session.resume", "session_id": "show", "resume_token": session.resume_token}
    assert (await shop.told(value, resume))["type"] == "session.created"


async def test_an_ended_secret_is_no_guess_of_the_token(shop: Shop) -> None:
    """A page that asks again with its old secrets must not lock out its own network."""
    request = {"Authorization": f"Bearer {shop.secret(shop.ours, 'view', lives_s=-1)}"}
    assert not shop.server.access.is_guess(request, {})
    assert shop.server.access.is_guess({"Authorization": "Bearer wrong"}, {})


# --- revocation -----------------------------------------------------------------------------------------------------


async def ended(socket: aiohttp.ClientWebSocketResponse) -> list[str]:
    """The codes of the errors until the server closes."""
    codes = []
    async for frame in socket:
        if frame.type is aiohttp.WSMsgType.TEXT:
            codes.append(json.loads(frame.data).get("error", {}).get("code"))
    return [code for code in codes if code]


async def test_revoking_a_key_ends_its_stages_and_viewers_and_nobody_elses(shop: Shop) -> None:
    ours, theirs = await shop.start(shop.ours.text, "show"), await shop.start(shop.theirs.text, "other")
    link = shop.secret(shop.ours, "view", session="show")
    async with shop.http.ws_connect(ours.path("watch"), params={"token": link}) as watching:
        await watching.receive()
        assert token_cli.main(["revoke", "ours", "--data-folder", str(shop.folder)]) == 0
        assert await asyncio.wait_for(ended(ours.socket), 10 * POLL_S) == ["unauthorized"]
        await asyncio.wait_for(ended(watching), 10 * POLL_S)
    await shop.until(lambda: not shop.server.registry.sessions(shop.ours.id))
    for token in (shop.ours.text, link):
        assert await shop.status("GET", "/v1/sessions/show/snapshot.jpg", token) == 401
    await theirs.say("session.ping")
    assert (await theirs.hear("session.pong"))["type"] == "session.pong"


async def test_the_servers_own_token_ends_at_once_when_it_is_revoked(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE_NAME)
    store.open()
    own = store.ask_now(lambda connection: keys.main_key(connection, client_secrets.ALL_SCOPES, now=NOW))
    async with serving(token=own.text, build={"store": store, "access_time": lambda: NOW}) as server:
        controller = await server.controller(token=own.text)
        assert token_cli.main(["revoke", "main", "--data-folder", str(tmp_path)]) == 0
        assert await asyncio.wait_for(ended(controller.socket), 10 * POLL_S) == ["unauthorized"]
        async with server.http.get("/metrics", headers={"Authorization": f"Bearer {own.text}"}) as response:
            assert response.status == 401


async def test_a_key_made_while_the_server_runs_is_good_within_a_second(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token_cli.main(["make", "new", "--data-folder", str(shop.folder)]) == 0
    key = capsys.readouterr().out.strip()
    async with asyncio.timeout(10 * POLL_S):
        while await shop.status("GET", "/v1/sessions", key) != 200:
            pass
    assert token_cli.main(["make", "new", "--data-folder", str(shop.folder)]) == 1
    assert "there is a key `new`" in capsys.readouterr().err
    assert token_cli.main(["list", "--data-folder", str(shop.folder)]) == 0
    out = capsys.readouterr().out
    assert "new" in out and "ours" in out and key not in out and shop.ours.text not in out
    assert token_cli.main(["revoke", "nobody", "--data-folder", str(shop.folder)]) == 1


async def test_a_key_ends_at_its_time_with_what_it_holds_open(shop: Shop) -> None:
    short = shop.store.ask_now(partial(keys.make_key, name="short", scopes=CUSTOMER, now=NOW, expires_at=NOW + 10))
    await shop.server.keyring.load()
    controller = await shop.start(short.text, "show")
    shop.now = NOW + 10
    assert await asyncio.wait_for(ended(controller.socket), 10 * POLL_S) == ["unauthorized"]
    assert await shop.status("GET", "/v1/sessions", short.text) == 401


async def test_a_long_link_is_listed_and_revoked_by_its_key(shop: Shop) -> None:
    ours = await shop.start(shop.ours.text, "show")
    bearer = {"Authorization": f"Bearer {shop.ours.text}"}
    asked = {"scope": ["view"], "session": "show", "expires_after": {"seconds": 30 * 86_400}}
    async with shop.http.post(MAKER, headers=bearer, json=asked) as response:
        made = await response.json()
    assert await shop.status("GET", MAKER, shop.theirs.text) == 200
    async with shop.http.get(MAKER, headers=bearer) as response:
        (link,) = (await response.json())["data"]
    assert (link["id"], link["session"], link["scope"]) == (made["id"], "show", ["view"])
    async with shop.http.ws_connect(ours.path("watch"), params={"token": made["value"]}) as watching:
        await watching.receive()
        # Another customer's revocation of the same id is about their own secrets.
        assert await shop.status("DELETE", f"{MAKER}/{link['id']}", shop.theirs.text) == 204
        assert await shop.status("GET", ours.path("snapshot.jpg"), made["value"]) == 200
        assert await shop.status("DELETE", f"{MAKER}/{link['id']}", shop.ours.text) == 204
        await ended(watching)
    assert await shop.status("GET", ours.path("snapshot.jpg"), made["value"]) == 401
    async with shop.http.get(MAKER, headers=bearer) as response:
        assert (await response.json())["data"] == []


async def test_a_secret_neither_lists_nor_revokes(shop: Shop) -> None:
    value = shop.secret(shop.ours, "view", "prompt", "admin")
    for method, path in (("GET", MAKER), ("DELETE", f"{MAKER}/1"), ("GET", "/v1/sessions"), ("GET", "/v1/audit")):
        assert await shop.status(method, path, value) == 403, (method, path)


# --- keys over HTTP ---------------------------------------------------------------------------------------------------


async def test_an_operator_makes_lists_and_revokes_keys(shop: Shop) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with shop.http.post("/v1/keys", json={"name": "new", "lives_s": 60}, headers=bearer) as response:
        made = await response.json()
    assert (made["scope"], made["expires_at"]) == (sorted(CUSTOMER), NOW + 60)
    assert await shop.status("GET", "/v1/sessions", made["value"]) == 200
    async with shop.http.get("/v1/keys", headers=bearer) as response:
        text = await response.text()
    assert {key["name"] for key in json.loads(text)["data"]} == {"ours", "theirs", "new"}
    assert made["value"] not in text and shop.ours.text not in text
    assert await shop.status("DELETE", f"/v1/keys/{made['id']}", TOKEN) == 204
    assert await shop.status("GET", "/v1/sessions", made["value"]) == 401
    async with shop.http.delete(f"/v1/keys/{made['id']}", headers=bearer) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_key")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"name": "a", "scope": []}, "scope"),
        ({"name": "a", "scope": ["all"]}, "scope"),
        ({"name": "a", "lives_s": 1}, "lives_s"),
        ({"name": "a", "text": "sk_mine"}, "text"),
    ],
)
async def test_a_wrong_wish_for_a_key_is_named(shop: Shop, body: dict[str, Any], told: str) -> None:
    async with shop.http.post("/v1/keys", json=body, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (400, "invalid_value") and told in error["message"]


async def test_nobody_locks_themselves_out(shop: Shop) -> None:
    admin = shop.key("second admin", (*CUSTOMER, "admin"))
    await shop.server.keyring.load()
    assert await shop.status("DELETE", "/v1/keys/main", admin.text) == 400
    assert await shop.status("DELETE", f"/v1/keys/{admin.id}", admin.text) == 400
    assert await shop.status("DELETE", f"/v1/keys/{admin.id}", TOKEN) == 204


# --- where the key comes from, and what is written down -----------------------------------------------------------


async def test_a_page_gives_its_secret_as_a_subprotocol_which_no_proxy_logs(shop: Shop) -> None:
    value = shop.secret(shop.ours, "prompt")
    protocols = ("sceneshift.v1", f"sceneshift.token.{value}")
    async with shop.http.ws_connect("/v1/realtime", protocols=protocols) as socket:
        assert socket.protocol == "sceneshift.v1"
        await socket.send_json({"type": "session.start", "name": "show"})
        assert (await socket.receive_json())["type"] == "session.created"
    async with shop.http.ws_connect("/v1/sessions/show/watch", protocols=protocols) as socket:
        assert (await socket.receive_json())["type"] == "stream.started"


async def test_the_log_says_who_did_what_and_holds_no_key(shop: Shop) -> None:
    ours = await shop.start(shop.secret(shop.ours, "prompt", "record"), "show")
    await ours.say("prompt.set", text="a secret wish")
    await ours.say("program.record", recording=True)
    await ours.hear("recording.changed")
    await shop.status("GET", "/metrics", shop.ours.text)
    await shop.status("GET", "/metrics", "wrong-token")
    await shop.told(shop.theirs.text, {"type": "session.resume", "session_id": "show", "resume_token": "x"})
    entries = [entry for entry in await shop.audited() if entry.action != "session.close"]
    told = [(entry.action, entry.session, entry.outcome) for entry in reversed(entries)]
    assert told[:4] == [
        ("session.start", "show", "ok"),
        ("program.record", "show", "ok"),
        ("GET /metrics", "", "missing_scope"),
        ("GET /metrics", "", "unauthorized"),
    ]
    assert entries[-1].tenant == shop.ours.id and entries[-1].who.startswith(f"{shop.ours.id}/")
    async with shop.http.get("/v1/audit?limit=3", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        body = await response.text()
    assert len(json.loads(body)["data"]) == 3
    everything = body + str(await shop.audited())
    assert not any(text in everything for text in (TOKEN, shop.ours.text, "wrong-token", "secret wish", "ek_"))


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=-1", f"before={'9' * 30}"])
async def test_a_wrong_page_of_the_log_is_named(shop: Shop, query: str) -> None:
    assert await shop.status("GET", f"/v1/audit?{query}", TOKEN) == 400

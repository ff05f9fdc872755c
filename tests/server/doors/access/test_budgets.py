"""Budgets and limits at the doors of a real server: over reconnects, restarts, cancels, crashes; and who sees them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from serving import Controller, Serving, serving

from engine.synthetic import Fault, Script, SyntheticEngine
from server.accounts.account import DAY_S
from server.app import ACCOUNTS
from server.doors.access import client_secrets, peers, secrets_cli, token_cli
from server.protocol.limits import Limits
from server.store import keys
from server.store.keys import Key
from server.store.store import FILE_NAME, Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
MAKER = "/v1/realtime/client_secrets"
NOON = 20_000 * DAY_S + DAY_S / 2
CLIP_S = 0.06  # four steps and the decoding, in the script below
SCRIPT = Script(step_s=0.01, decode_s=0.02, can_start_from_frame=True, faults={666: Fault.LOSE, 13: Fault.FAIL})
MADE = ("prompt.applied", "prompt.rejected", "prompt.failed", "prompt.cancelled")


class Shop:
    """A server whose store outlives it. Each customer has a key with limits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOON
        self._numbers = itertools.count(100)

    async def open(self, stack: AsyncExitStack, **settings: Any) -> None:
        self.store = Store(self.folder / FILE_NAME)
        self.store.open()
        build = {"store": self.store, "access_time": lambda: self.now}
        folders = {"recordings_folder": str(self.folder / "films"), "clips_folder": str(self.folder / "clips")}
        running = serving(SyntheticEngine(SCRIPT), token=TOKEN, build=build, **folders, **settings)
        self.server: Serving = await stack.enter_async_context(running)
        self.http = self.server.http

    async def key(self, name: str, **limits: Any) -> Key:
        made = partial(keys.make_key, name=name, scopes=("view", "prompt", "record"), now=NOON, limits=Limits(**limits))
        key = await self.store.ask(made)
        await self.server.keyring.load()
        return key

    def secret(self, key: Key, *scopes: Any, **limits: Any) -> str:
        return client_secrets.make(key.text, scopes, now=self.now, lives_s=600, limits=Limits(**limits))

    async def stage(self, token: str, **options: Any) -> Controller:
        return await self.server.controller(token=token, **options)

    async def prompt(self, controller: Controller, number: int | None = None) -> dict[str, Any]:
        """Sends a prompt; the message with which it ended."""
        await controller.say("prompt.set", text=f"scene {number or next(self._numbers)}", transition="cut")
        return await controller.hear(*MADE)

    async def error(self, token: str, **message: Any) -> dict[str, Any]:
        """The first error on a new connection, with its close code."""
        async with self.http.ws_connect("/v1/realtime", params={"token": token}) as socket:
            await socket.send_json(message)
            while (answer := json.loads((await socket.receive()).data))["type"] != "error":
                pass
            return dict(answer["error"])

    async def get(self, path: str, token: str) -> tuple[int, Any]:
        async with self.http.get(path, headers={"Authorization": f"Bearer {token}"}) as response:
            return response.status, await response.json() if response.content_type == "application/json" else None

    async def usage(self, token: str) -> dict[str, Any]:
        """Of one key."""
        status, body = await self.get("/v1/usage", token)
        assert status == 200
        (used,) = body["data"]
        return dict(used)

    async def spent_s(self, token: str) -> float:
        return sum(day["engine_s"] for day in (await self.usage(token))["days"])

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_true():  # noqa: ASYNC110  the server's state, on the same loop
                await asyncio.sleep(0)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    async with AsyncExitStack() as stack:
        await shop.open(stack)
        yield shop


# --- engine seconds ---------------------------------------------------------------------------------------------------


async def test_who_has_used_up_a_budget_gets_no_clip_by_reconnecting_and_the_program_plays_on(shop: Shop) -> None:
    ours, theirs = await shop.key("ours", engine_s=3.5 * CLIP_S), await shop.key("theirs", engine_s=3.5 * CLIP_S)
    first = await shop.stage(ours.text, name="show")
    for _ in range(3):
        assert (await shop.prompt(first))["type"] == "prompt.applied"
    on_air = await shop.prompt(first)
    assert (on_air["type"], on_air["error"]["code"]) == ("prompt.rejected", "budget_exhausted")
    assert on_air["error"]["retry_after_ms"] == DAY_S / 2 * 1000
    assert "the key `ours`" in on_air["error"]["message"]
    for token in (ours.text, shop.secret(ours, "prompt", engine_s=1000)):
        again = await shop.stage(token)
        assert (await shop.prompt(again))["error"]["code"] == "budget_exhausted"
    assert (await shop.get(first.path("snapshot.jpg"), ours.text))[0] == 200
    assert (await shop.prompt(await shop.stage(theirs.text)))["type"] == "prompt.applied"
    assert await shop.spent_s(ours.text) == pytest.approx(3 * CLIP_S, abs=1e-3)
    shop.now += DAY_S
    assert (await shop.prompt(first))["type"] == "prompt.applied"


async def test_a_budget_outlives_a_restart(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with AsyncExitStack() as stack:
        await shop.open(stack)
        key = await shop.key("ours", engine_s=1.5 * CLIP_S)
        secret = shop.secret(key, "prompt", engine_s=0.5 * CLIP_S)
        assert (await shop.prompt(await shop.stage(key.text)))["type"] == "prompt.applied"
        assert (await shop.prompt(await shop.stage(secret)))["error"]["code"] == "budget_exhausted"
    async with AsyncExitStack() as stack:
        await shop.open(stack)
        assert (await shop.prompt(await shop.stage(key.text)))["error"]["code"] == "budget_exhausted"
        assert await shop.spent_s(key.text) == pytest.approx(CLIP_S, abs=1e-3)


@pytest.mark.parametrize(
    ("number", "end", "spent_s"),
    [(666, "prompt.applied", 0.03 + CLIP_S), (13, "prompt.failed", 0.03)],
    ids=["the engine crashed", "the model failed"],
)
async def test_what_the_engine_spent_in_vain_is_charged(shop: Shop, number: int, end: str, spent_s: float) -> None:
    key = await shop.key("ours")
    assert (await shop.prompt(await shop.stage(key.text), number))["type"] == end
    assert await shop.spent_s(key.text) == pytest.approx(spent_s, abs=1e-3)


async def test_a_stage_that_is_closed_in_mid_clip_pays_for_what_was_made(shop: Shop) -> None:
    key = await shop.key("ours")
    stage = await shop.stage(key.text)
    await stage.say("prompt.set", text="scene 3")
    await stage.hear("prompt.started")
    await stage.say("session.close")
    closed = await stage.hear("session.closed")
    assert closed["usage"]["engine_s"] < CLIP_S
    await shop.until(lambda: not shop.server.registry.engine.statistics().in_flight)
    await shop.until(lambda: 0 < shop.server.app[ACCOUNTS].settled_s()[key.id] < CLIP_S)
    assert 0 < await shop.spent_s(key.text) < CLIP_S


async def test_the_charges_of_all_keys_are_the_time_in_which_the_engine_worked(shop: Shop) -> None:
    tokens = [(await shop.key(name)).text for name in ("a", "b", "c")]
    stages = [await shop.stage(token) for token in tokens for _ in range(2)]

    async def play(stage: Controller) -> None:
        for _ in range(4):
            await shop.prompt(stage)
            await stage.say("prompt.set", text=f"scene {next(shop._numbers)}")
            await stage.hear("prompt.started")
            await stage.say("prompt.set", text="scene 5")
            await stage.hear("prompt.superseded")
            await stage.hear("prompt.applied")

    await asyncio.gather(*map(play, stages))
    await shop.until(lambda: not shop.server.registry.engine.statistics().in_flight)
    await shop.until(lambda: shop.server.registry._neighbours.generations._reservations == {})
    spent_s = sum([await shop.spent_s(token) for token in tokens])
    assert spent_s == pytest.approx(shop.server.registry.engine.statistics().busy_s, rel=0.001)


async def test_stages_at_once_do_not_spend_more_than_their_keys_budget(shop: Shop) -> None:
    key = await shop.key("ours", engine_s=2.5 * CLIP_S)
    stages = [await shop.stage(key.text) for _ in range(5)]
    ends = await asyncio.gather(*map(shop.prompt, stages))
    kinds = sorted(end["type"] for end in ends)
    assert kinds == ["prompt.applied"] * 2 + ["prompt.rejected"] * 3
    assert await shop.spent_s(key.text) <= 2.5 * CLIP_S


async def test_a_scene_that_goes_on_loops_when_the_budget_ends_and_says_so_once(shop: Shop) -> None:
    key = await shop.key("ours", engine_s=2.5 * CLIP_S)
    stage = await shop.stage(key.text, after="continue", take="auto")
    async with shop.http.ws_connect(stage.path("watch"), params={"token": key.text}) as watching:
        await watching.receive()
        assert (await shop.prompt(stage))["type"] == "prompt.applied"
        warned = await stage.hear("session.warning")
        assert warned["code"] == "budget_exhausted" and "the key `ours`" in warned["message"]
        assert (await stage.hear("stats.updated", "session.warning", "prompt.continued"))["type"] == "stats.updated"
        assert (await watching.receive()).type is aiohttp.WSMsgType.BINARY


async def test_clips_on_demand_take_their_keys_budget(shop: Shop) -> None:
    key, rich = await shop.key("ours", engine_s=1.5 * CLIP_S), await shop.key("rich", engine_s=100)

    async def order(token: str) -> tuple[int, dict[str, Any]]:
        wish = {"prompt": f"scene {next(shop._numbers)}", "seconds": 1}
        async with shop.http.post("/v1/videos", headers={"Authorization": f"Bearer {token}"}, json=wish) as response:
            return response.status, await response.json()

    async def ended(token: str, video: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while video["status"] in ("queued", "in_progress"):
                _, video = await shop.get(f"/v1/videos/{video['id']}", token)
        return video

    # Two at once, and only one can be paid. The other is refused, or fails if it was ordered before the first was paid.
    (_, first), (status, second) = [await order(key.text) for _ in range(2)]
    assert (await ended(key.text, first))["status"] == "completed"
    other = second if status == 429 else await ended(key.text, second)
    assert other["error"]["code"] == "budget_exhausted"
    status, body = await order(key.text)
    assert (status, body["error"]["code"]) == (429, "budget_exhausted")
    assert await shop.spent_s(key.text) == pytest.approx(CLIP_S, abs=1e-3)
    assert (await order(shop.secret(rich, "prompt", engine_s=5)))[0] == 403
    assert (await order(rich.text))[0] == 200


async def test_an_operator_makes_keys_with_limits_over_http(shop: Shop) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    wish = {"name": "new", "limits": {"engine_s": 60, "sessions": 1}}
    async with shop.http.post("/v1/keys", headers=bearer, json=wish) as response:
        made = await response.json()
    assert made["limits"] == {"engine_s": 60.0, "sessions": 1}
    assert (await shop.usage(made["value"]))["limits"] == made["limits"]
    async with shop.http.post("/v1/keys", headers=bearer, json={"name": "x", "limits": {"gold": 1}}) as response:
        assert (await response.json())["error"]["code"] == "invalid_value"


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_new_connections_of_all_kinds_are_counted_over_reconnects(shop: Shop) -> None:
    key = await shop.key("ours", connects_per_min=3)
    for _ in range(2):
        async with shop.http.ws_connect("/v1/realtime", params={"token": key.text}):
            pass
    async with shop.http.ws_connect("/v1/sessions/none/watch", params={"token": key.text}) as socket:
        assert (await socket.receive_json())["error"]["code"] == "unknown_session"
    bearer = {"Authorization": f"Bearer {key.text}"}
    for path in ("/whep/none", "/v1/realtime/calls"):
        async with shop.http.post(path, data="v=0", headers=bearer) as response:
            assert response.status == 429 and 1 <= int(response.headers["Retry-After"]) <= 20
    refused = await shop.error(key.text, type="session.ping")
    assert refused["code"] == "rate_limited" and refused["retry_after_ms"] <= 20_000
    assert "the key `ours`" in refused["message"] and key.text not in refused["message"]
    assert (await shop.get("/v1/sessions", key.text))[0] == 200  # what holds nothing open is no connection


async def test_prompts_a_minute_are_counted_over_reconnects_and_secrets(shop: Shop) -> None:
    key = await shop.key("ours", prompts_per_min=2)
    for token in (key.text, shop.secret(key, "prompt")):
        assert (await shop.prompt(await shop.stage(token)))["type"] == "prompt.applied"
    third = await shop.stage(key.text)
    await third.say("prompt.set", text="scene 1")
    refused = await third.hear("error")
    assert refused["error"]["code"] == "rate_limited" and refused["error"]["retry_after_ms"] <= 30_000


async def test_messages_are_counted_over_all_connections_of_a_key(shop: Shop) -> None:
    key = await shop.key("ours", messages_per_s=0.01)  # one at once
    await shop.stage(key.text)
    for token in (key.text, shop.secret(key, "prompt")):
        assert (await shop.error(token, type="session.ping"))["code"] == "rate_limited"


async def test_a_key_has_so_many_stages_and_pixels_at_once(shop: Shop) -> None:
    key = await shop.key("ours", sessions=1, pixels_per_s=10_000_000)
    stage = await shop.stage(key.text, name="show")
    refused = await shop.error(key.text, type="session.start")
    assert (refused["code"], refused["retryable"]) == ("server_full", True)
    assert "the key `ours` may have 1 stages at once" in refused["message"]
    await stage.socket.close()
    session = shop.server.registry.find("show", None)
    await shop.until(lambda: session.state.value == "detached")
    # A console that crashed gets its name and its place back.
    again = await shop.stage(key.text, name="show")
    await again.say("session.close")
    await again.hear("session.closed")
    await shop.until(lambda: not shop.server.registry.sessions(key.id))
    refused = await shop.error(key.text, type="session.start", width=1280, height=720, frame_rate=24)
    assert (refused["code"], refused["param"]) == ("invalid_value", "frame_rate")
    await shop.stage(key.text)


async def test_a_key_has_so_many_viewers_at_once(shop: Shop) -> None:
    key = await shop.key("ours", viewers=1)
    stage = await shop.stage(key.text)
    async with shop.http.ws_connect(stage.path("watch"), params={"token": key.text}) as first:
        assert (await first.receive_json())["type"] == "stream.started"
        assert (await shop.usage(key.text))["viewers"] == 1
        async with shop.http.ws_connect(stage.path("watch"), params={"token": shop.secret(key, "view")}) as second:
            error = (await second.receive_json())["error"]
            assert (error["code"], error["retry_after_ms"]) == ("too_many_viewers", 5000)
            await second.receive()
            assert second.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
    account = shop.server.app[ACCOUNTS].now(key.id)
    assert account is not None
    await shop.until(lambda: account.num_viewers == 0)


async def test_a_viewers_offer_that_is_refused_leaves_its_place(shop: Shop) -> None:
    key = await shop.key("ours", viewers=1)
    stage = await shop.stage(key.text, name="show")
    bearer = {"Authorization": f"Bearer {key.text}", "Content-Type": "application/sdp"}
    for _ in range(3):
        async with shop.http.post("/whep/show", data="nonsense", headers=bearer) as response:
            assert (await response.json())["error"]["code"] == "invalid_sdp"
    assert (await shop.usage(key.text))["viewers"] == 0
    assert stage.session_id == "show"


async def test_recordings_of_a_key_have_a_size_together(shop: Shop) -> None:
    key = await shop.key("ours", stored_bytes=1)
    stage = await shop.stage(key.text)
    (shop.folder / "films").mkdir()
    (shop.folder / "films" / f"old-1.{key.id}.mp4").write_bytes(b"12")
    await stage.say("program.record", recording=True)
    changed = await stage.hear("recording.changed")
    assert (changed["recording"], changed["error"]["code"]) == (False, "recording_failed")
    assert "stored_bytes" in changed["error"]["message"]
    assert (await shop.usage(key.text))["stored_bytes"] == 2
    other = await shop.stage((await shop.key("theirs")).text)
    await other.say("program.record", recording=True)
    assert (await other.hear("recording.changed"))["recording"]


async def test_an_address_that_is_told_apart_connects_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "peer_at", lambda address: "203.0.113.9")
    shop = Shop(tmp_path)
    async with AsyncExitStack() as stack:
        await shop.open(stack, max_connects_per_peer=2, max_engine_s_per_peer=1)
        assert (await shop.prompt(await shop.stage(TOKEN)))["type"] == "prompt.applied"
        async with shop.http.ws_connect("/v1/realtime", params={"token": (await shop.key("ours")).text}):
            pass
        refused = await shop.error(TOKEN, type="session.ping")
        assert refused["code"] == "rate_limited" and "this address" in refused["message"]
        shop.server.app[ACCOUNTS].payer("", None, address="203.0.113.9").accounts[1].spend(20_000, 1.0)
        behind_proxy = {"X-Forwarded-For": "203.0.113.10"}
        async with shop.http.ws_connect("/v1/realtime", params={"token": TOKEN}, headers=behind_proxy) as socket:
            await socket.send_json({"type": "session.ping"})
            assert (await socket.receive_json())["type"] == "session.pong"


# --- client secrets ---------------------------------------------------------------------------------------------------


async def test_a_key_makes_secrets_with_limits(shop: Shop) -> None:
    key = await shop.key("ours")
    bearer = {"Authorization": f"Bearer {key.text}"}
    limits = {"engine_s": 0.5 * CLIP_S, "prompts_per_min": 1}
    async with shop.http.post(MAKER, headers=bearer, json={"limits": limits}) as response:
        made = await response.json()
    assert made["limits"] == limits
    stage = await shop.stage(made["value"])
    rejected = await shop.prompt(stage)
    assert rejected["error"]["code"] == "budget_exhausted" and "client secret" in rejected["error"]["message"]
    await stage.say("prompt.set", text="scene 2")
    assert (await stage.hear("error"))["error"]["code"] == "rate_limited"
    assert (await shop.prompt(await shop.stage(key.text)))["type"] == "prompt.applied"
    for wrong in ({"gold": 1}, {"engine_s": -1}, {"sessions": "many"}, {"stored_bytes": 5}):
        async with shop.http.post(MAKER, headers=bearer, json={"limits": wrong}) as response:
            error = (await response.json())["error"]
        assert error["code"] == "invalid_value" and ("limits" in error["message"] or error["param"] == "limits")


@pytest.mark.parametrize("limits", [{"gold": 1}, {"sessions": "x"}, [], {"stored_bytes": 1}])
async def test_a_secret_with_limits_that_we_do_not_know_opens_nothing(shop: Shop, limits: Any) -> None:
    key = await shop.key("ours")
    claims = jwt.decode(shop.secret(key, "view")[3:], options={"verify_signature": False}, audience="sceneshift")
    text = jwt.encode({**claims, "limits": limits}, key.text, algorithm="HS256", headers={"kid": key.id})
    assert (await shop.get("/v1/sessions/none/snapshot.jpg", f"ek_{text}"))[0] == 401


async def test_the_command_line_gives_limits_to_keys_and_secrets(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--data-folder", str(shop.folder)]
    assert token_cli.main(["make", "ours", "--limit", "engine_s=600", "--limit", "sessions=2", *folder]) == 0
    text = capsys.readouterr().out.strip()
    assert token_cli.main(["list", *folder]) == 0
    assert "engine_s=600 sessions=2" in capsys.readouterr().out
    await shop.server.keyring.load()
    assert (await shop.usage(text))["limits"] == {"engine_s": 600.0, "sessions": 2}
    assert secrets_cli.main(["--token", text, "--limit", "session_s=60"]) == 0
    identity = client_secrets.read(capsys.readouterr().out.strip(), shop.server.keyring.signer, origin=None)
    assert identity.limits == Limits(session_s=60)
    for command in ([token_cli.main, ["make", "x", *folder]], [secrets_cli.main, ["--token", text]]):
        main, arguments = command
        assert main([*arguments, "--limit", "gold=1"]) == 1  # type: ignore[operator]
        assert "prompts_per_min" in capsys.readouterr().err


# --- who sees what was used -------------------------------------------------------------------------------------------


async def test_a_key_sees_its_own_use_and_an_operator_all(shop: Shop) -> None:
    ours, theirs = await shop.key("ours", engine_s=600), await shop.key("theirs")
    await shop.prompt(await shop.stage(ours.text))
    shop.now += DAY_S
    stage = await shop.stage(shop.secret(ours, "prompt"))
    await shop.prompt(stage)
    used = await shop.usage(ours.text)
    days = [(day["day"], day["engine_s"], day["generations"]) for day in used["days"]]
    assert days == [("2024-10-04", pytest.approx(CLIP_S), 1), ("2024-10-05", pytest.approx(CLIP_S), 1)]
    assert (used["name"], used["sessions"], used["limits"]) == ("ours", 2, {"engine_s": 600.0})
    assert (await shop.usage(theirs.text))["days"] == []
    status, body = await shop.get("/v1/usage?days=1", TOKEN)
    assert (status, body["today"]) == (200, "2024-10-05")
    assert {used["name"]: len(used["days"]) for used in body["data"]} == {"main": 0, "ours": 1, "theirs": 0}
    assert not any(text in json.dumps(body) for text in (ours.text, theirs.text, TOKEN))
    assert (await shop.get("/v1/usage", shop.secret(ours, "view")))[0] == 403
    assert (await shop.get("/v1/usage?days=0", ours.text))[0] == 400
    async with shop.http.get("/metrics", params={"token": TOKEN}) as response:
        lines = (await response.text()).splitlines()
    (line,) = [line for line in lines if line.startswith('sceneshift_key_engine_seconds_total{key="ours"}')]
    assert float(line.split()[1]) == pytest.approx(2 * CLIP_S)


async def test_an_open_server_counts_for_everybody_together(tmp_path: Path) -> None:
    async with serving(SyntheticEngine(SCRIPT)) as server:
        stage = await server.controller()
        await stage.apply("scene 4")
        async with server.http.get("/v1/usage") as response:
            (used,) = (await response.json())["data"]
    assert (used["tenant"], used["days"][0]["generations"]) == ("", 1)

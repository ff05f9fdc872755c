"""`/v1/webhook_endpoints` on a real server: a key's holder is told of each end, and nobody else's matters come near."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from receiver import Receiver, held, receiving
from serving import Serving, serving
from yarl import URL

from server.doors.access import client_secrets
from server.store import keys
from server.store.keys import Key
from server.store.store import Store
from server.webhooks.rows import EVENT_TYPES, MAX_ENDPOINTS

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
PATH = "/v1/webhook_endpoints"


class WebhooksHarness:
    def __init__(self, server: Serving, receiver: Receiver, ours: Key, theirs: Key) -> None:
        self.http, self.receiver, self.server = server.http, receiver, server
        self.ours, self.theirs = ours, theirs

    async def ask(
        self, method: str, path: str = PATH, status: int = 200, *, token: str | None = None, **more: Any
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token or self.ours.text}"}
        async with self.http.request(method, path, headers=headers, **more) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == status, body
            return body

    async def make(self, path: str = "/hook", **fields: Any) -> dict[str, Any]:
        body = {"name": "mine", "url": self.receiver.url + path, "event_types": list(EVENT_TYPES)} | fields
        return await self.ask("POST", json=body)

    async def delivery(self, endpoint: dict[str, Any], status: str) -> dict[str, Any]:
        """The newest delivery, when it has the status."""
        async with asyncio.timeout(30):
            while True:
                data = (await self.ask("GET", f"{PATH}/{endpoint['id']}/deliveries"))["data"]
                if data and data[0]["status"] == status and data[0]["attempts"]:
                    return dict(data[0])
                await asyncio.sleep(0.02)

    async def clip(self) -> dict[str, Any]:
        wish = {"prompt": "private words", "seconds": 2, "metadata": {"order": "7"}}
        return await self.ask("POST", "/v1/videos", json=wish)


@pytest_asyncio.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WebhooksHarness]:
    monkeypatch.setattr("server.webhooks.courier.POLL_S", 0.02)
    store = Store()
    store.open()
    ours, theirs = (
        store.ask_now(partial(keys.make_key, name=name, scopes=("view", "prompt"), now=0)) for name in ("a", "b")
    )
    async with receiving() as receiver:
        async with serving(token=TOKEN, build={"store": store}, clips_folder=str(tmp_path / "clips")) as server:
            async with asyncio.timeout(30):
                while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
                    await asyncio.sleep(0.01)
            yield WebhooksHarness(server, receiver, ours, theirs)


async def test_a_finished_clip_is_told_with_a_link_that_opens_it(harness: WebhooksHarness) -> None:
    endpoint = await harness.make()
    video = await harness.clip()
    delivery = await harness.delivery(endpoint, "delivered")
    (got,) = harness.receiver.got
    assert (delivery["event_id"], delivery["video_id"]) == (got.headers["webhook-id"], video["id"])
    assert (got.event["type"], got.event["data"]["id"]) == ("video.completed", video["id"])
    assert got.event["data"]["metadata"] == {"order": "7"} and b"private" not in got.body
    async with harness.http.get(got.event["data"]["content_url"]) as response:
        assert response.status == 200 and response.content_type == "video/mp4"


async def test_an_endpoint_is_made_shown_changed_and_deleted(harness: WebhooksHarness) -> None:
    made = await harness.make()
    assert made["object"] == "webhook_endpoint" and made["signing_secret"].startswith("whsec_")
    shown = await harness.ask("GET", f"{PATH}/{made['id']}")
    assert "signing_secret" not in shown and shown | {"signing_secret": made["signing_secret"]} == made
    changed = await harness.ask("POST", f"{PATH}/{made['id']}", json={"name": "other"})
    assert changed == shown | {"name": "other", "updated_at": changed["updated_at"]}
    gone = await harness.ask("DELETE", f"{PATH}/{made['id']}")
    assert gone == {"id": made["id"], "object": "webhook_endpoint.deleted", "deleted": True}
    assert (await harness.ask("GET"))["data"] == []


async def test_lists_are_pages_with_the_newest_first(harness: WebhooksHarness) -> None:
    ids = [(await harness.make(f"/{number}"))["id"] for number in range(3)][::-1]
    first = await harness.ask("GET", f"{PATH}?limit=2")
    assert [one["id"] for one in first["data"]] == ids[:2] and first["has_more"] and first["last_id"] == ids[1]
    second = await harness.ask("GET", f"{PATH}?limit=2&after={ids[1]}")
    assert [one["id"] for one in second["data"]] == ids[2:] and not second["has_more"]
    assert (await harness.ask("GET", "/v1/webhook_event_types"))["data"] == list(EVENT_TYPES)


async def test_a_rotated_secret_is_told_once_and_differs(harness: WebhooksHarness) -> None:
    made = await harness.make()
    body = {"keep_old_secret_active_for_24_hours": True}
    rotated = await harness.ask("POST", f"{PATH}/{made['id']}/rotate_secret", json=body)
    assert rotated["signing_secret"] != made["signing_secret"]
    assert (await harness.ask("GET", f"{PATH}/{made['id']}"))["signing_secret_hint"] == rotated["signing_secret_hint"]
    assert await harness.ask("POST", f"{PATH}/{made['id']}/test", json={"event_type": "video.failed"})
    assert harness.receiver.got[0].headers["webhook-signature"].count("v1,") == 2
    await harness.ask("POST", f"{PATH}/{made['id']}/rotate_secret")  # the body may be left out
    await harness.ask("POST", f"{PATH}/{made['id']}/test", json={"event_type": "video.failed"})
    assert harness.receiver.got[1].headers["webhook-signature"].count("v1,") == 1


async def test_a_test_sends_a_sample_and_tells_the_answer(harness: WebhooksHarness) -> None:
    made = await harness.make()
    harness.receiver.answers["/hook"] = 503
    result = await harness.ask("POST", f"{PATH}/{made['id']}/test", json={"event_type": "video.completed"})
    assert (result["object"], result["status_code"], result["success"]) == ("webhook_endpoint.test", 503, True)
    assert harness.receiver.got[0].event["data"] == {"id": "video_test"}
    await harness.ask("POST", f"{PATH}/{made['id']}", json={"url": "http://127.0.0.1:9/"})
    refused = await harness.ask("POST", f"{PATH}/{made['id']}/test", status=424, json={"event_type": "video.completed"})
    assert refused["error"]["code"] == "webhook_unreachable"


async def test_a_key_asks_one_receiver_or_name_server_at_a_time(harness: WebhooksHarness) -> None:
    """Each makes this server ask another one: it is no means for a flood."""
    made, may_answer = await harness.make(), asyncio.Event()
    harness.receiver.answers["/hook"] = held(may_answer)
    body = {"event_type": "video.completed"}
    first = asyncio.create_task(harness.ask("POST", f"{PATH}/{made['id']}/test", json=body))
    async with asyncio.timeout(30):
        while not harness.receiver.got:  # noqa: ASYNC110  the receiver's list, on the same loop
            await asyncio.sleep(0.01)
    refused = await harness.ask("POST", f"{PATH}/{made['id']}/test", status=429, json=body)
    assert refused["error"]["code"] == "rate_limited"
    wish = {"name": "a", "url": harness.receiver.url, "event_types": ["video.failed"]}
    assert (await harness.ask("POST", status=429, json=wish))["error"]["code"] == "rate_limited"
    may_answer.set()
    assert (await first)["status_code"] == 200


async def test_a_delivery_is_sent_again_by_hand(harness: WebhooksHarness) -> None:
    endpoint = await harness.make()
    harness.receiver.answers["/hook"] = 500
    await harness.clip()
    failed = await harness.delivery(endpoint, "pending")
    assert (failed["status_code"], failed["attempts"]) == (500, 1) and failed["next_try_at"] > time.time()
    harness.receiver.answers.clear()
    await harness.ask("POST", f"{PATH}/{endpoint['id']}/deliveries/{failed['id']}/retry")
    delivered = await harness.delivery(endpoint, "delivered")
    assert delivered["id"] == failed["id"]
    assert len({got.headers["webhook-id"] for got in harness.receiver.got}) == 1
    async with harness.http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        counts = [line for line in (await response.text()).splitlines() if "webhook_attempts_total{" in line]
    assert sorted(line.partition("{")[2] for line in counts) == ['status="delivered"} 1.0', 'status="pending"} 1.0']
    again = await harness.ask("POST", f"{PATH}/{endpoint['id']}/deliveries/{failed['id']}/retry")
    assert again["status"] == "pending"  # a receiver may have lost what it took


async def test_a_disabled_endpoint_says_so_until_it_is_changed(harness: WebhooksHarness) -> None:
    endpoint = await harness.make()
    harness.receiver.answers["/hook"] = 410
    await harness.clip()
    delivery = await harness.delivery(endpoint, "failed")
    assert (await harness.ask("GET", f"{PATH}/{endpoint['id']}"))["disabled_at"] is not None
    retry = f"{PATH}/{endpoint['id']}/deliveries/{delivery['id']}/retry"
    assert (await harness.ask("POST", retry, status=404))["error"]["code"] == "not_ready"
    changed = await harness.ask("POST", f"{PATH}/{endpoint['id']}", json={"url": harness.receiver.url + "/new"})
    assert changed["disabled_at"] is None
    await harness.ask("POST", retry)
    await harness.delivery(endpoint, "delivered")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[]", "wrong_type", None),
        (b'{"name": "a", "event_types": ["video.completed"]}', "missing_field", "url"),
        (b'{"name": "", "url": "https://a.example", "event_types": ["video.completed"]}', "invalid_value", "name"),
        (b'{"name": 7, "url": "https://a.example", "event_types": ["video.completed"]}', "wrong_type", "name"),
        (b'{"name": "a", "url": "https://a.example", "event_types": []}', "invalid_value", "event_types"),
        (b'{"name": "a", "url": "https://a.example", "event_types": ["batch.failed"]}', "invalid_value", "event_types"),
        (
            b'{"name": "a", "url": "https://a.example", "event_types": ["video.failed"], "x": 1}',
            "unknown_field",
            "x",
        ),
        (b'{"name": "a", "url": "gopher://a.example", "event_types": ["video.failed"]}', "invalid_value", "url"),
        (b'{"name": "a", "url": "https://10.0.0.1/", "event_types": ["video.failed"]}', "invalid_value", "url"),
        (b'{"name": "a", "url": "https://no-such.invalid/", "event_types": ["video.failed"]}', "invalid_value", "url"),
    ],
)
async def test_a_wrong_wish_is_named_and_nothing_is_made(
    harness: WebhooksHarness, body: bytes, code: str, param: str | None
) -> None:
    error = (await harness.ask("POST", status=400, data=body))["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert (await harness.ask("GET"))["data"] == []


async def test_a_key_has_a_bounded_number_of_endpoints(harness: WebhooksHarness) -> None:
    for number in range(MAX_ENDPOINTS):
        await harness.make(f"/{number}")
    body = {"name": "one more", "url": harness.receiver.url, "event_types": ["video.failed"]}
    assert (await harness.ask("POST", status=403, json=body))["error"]["code"] == "too_many_webhooks"


async def test_another_customers_endpoints_look_like_none(harness: WebhooksHarness) -> None:
    made = await harness.make()
    other = harness.theirs.text
    for method, path in (
        *(("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/rotate_secret"), ("POST", "/test")),
        *(("GET", "/deliveries"), ("POST", "/deliveries/none/retry")),
    ):
        refused = await harness.ask(method, f"{PATH}/{made['id']}{path}", status=404, token=other)
        assert refused["error"]["code"] == "unknown_webhook"
    assert (await harness.ask("GET", token=other))["data"] == []
    assert (await harness.ask("GET", f"{PATH}?after={made['id']}", status=404, token=other))["error"][
        "param"
    ] == "after"


async def test_a_secret_in_a_page_makes_no_endpoints(harness: WebhooksHarness) -> None:
    secret = client_secrets.make(harness.ours.text, ["prompt"], now=time.time(), lives_s=60)
    body = {"name": "mine", "url": harness.receiver.url, "event_types": ["video.failed"]}
    assert (await harness.ask("POST", status=403, token=secret, json=body))["error"]["code"] == "missing_scope"


async def test_what_was_done_with_endpoints_is_written_down_without_their_addresses(harness: WebhooksHarness) -> None:
    made = await harness.make()
    await harness.ask("DELETE", f"{PATH}/{made['id']}")
    entries = (await harness.ask("GET", "/v1/audit", token=TOKEN))["data"]
    assert [one["action"] for one in entries[:2]] == [
        f"DELETE {PATH}/{{endpoint_id}} {made['id']}",
        f"POST {PATH} {made['id']}",
    ]
    assert not any(harness.receiver.url in str(one) or "whsec" in str(one) for one in entries)


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000"])
async def test_odd_characters_of_a_name_break_nothing(harness: WebhooksHarness, text: str) -> None:
    body = f'{{"name": "{text}", "url": "{harness.receiver.url}", "event_types": ["video.failed"]}}'.encode()
    headers = {"Authorization": f"Bearer {harness.ours.text}"}
    async with harness.http.post(PATH, data=body, headers=headers) as response:
        assert response.status in (200, 400)
    for path in (f"{PATH}?after=%ED%A0%80", f"{PATH}/%ED%A0%80", f"{PATH}/%00", f"{PATH}?after=%00"):
        async with harness.http.get(URL(path, encoded=True), headers=headers) as response:
            assert response.status == 404
    async with harness.http.delete(URL("/v1/videos?user=%ED%A0%80", encoded=True), headers=headers) as response:
        assert response.status in (200, 400)

"""A clip of `/v1/videos` on a stage: by the stage's controller, and by HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from serving import Controller, Serving, serving

from server.store import keys
from server.store.store import Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"


class Show:
    """Two customers; the first has a stage."""

    def __init__(self, server: Serving, ours: str, theirs: str) -> None:
        self.server, self.http = server, server.http
        self.ours, self.theirs = ({"Authorization": f"Bearer {key}"} for key in (ours, theirs))
        self.key = ours

    async def stage(self, **options: Any) -> Controller:
        return await self.server.controller(token=self.key, name="my-show", transition="cut", **options)

    async def clip(self, *, waits: bool = True, **fields: Any) -> str:
        order = {"prompt": "scene 5", "seconds": 1, "seed": 5} | fields
        async with self.http.post("/v1/videos", json=order, headers=self.ours) as answer:
            video = await answer.json()
        async with asyncio.timeout(60):
            while waits and video["status"] != "completed":
                async with self.http.get(f"/v1/videos/{video['id']}", headers=self.ours) as answer:
                    video = await answer.json()
        return str(video["id"])

    async def post(self, clip_id: Any, *, status: int = 200, stage: str = "my-show", **more: Any) -> dict[str, Any]:
        headers = more.pop("headers", self.ours)
        body = {"json": {"clip_id": clip_id, **more}} if clip_id is not None else more
        async with self.http.post(f"/v1/sessions/{stage}/show", headers=headers, **body) as answer:
            told: dict[str, Any] = await answer.json()
            assert answer.status == status, told
            return told


@pytest_asyncio.fixture
async def show(tmp_path: Path) -> AsyncIterator[Show]:
    store = Store()
    store.open()
    ours, theirs = (
        store.ask_now(partial(keys.make_key, name=name, scopes=("view", "prompt"), now=0)) for name in ("a", "b")
    )
    async with serving(token=TOKEN, build={"store": store}, clips_folder=str(tmp_path)) as server:
        async with asyncio.timeout(30):
            while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
                await asyncio.sleep(0.01)
        yield Show(server, ours.text, theirs.text)


async def test_a_controller_puts_its_clip_on_its_stage(show: Show) -> None:
    controller = await show.stage()
    clip_id = await show.clip()
    await controller.say("program.show", clip_id=clip_id, after="hold", event_id="e1")
    accepted = await controller.hear("prompt.accepted", "error")
    assert (accepted["event_id"], accepted["clip_id"], accepted["text"]) == ("e1", clip_id, "scene 5")
    applied = await controller.hear("prompt.applied", "prompt.failed")
    assert applied["prompt_id"] == accepted["prompt_id"] and applied["frame"]["frame_index"] > 0


async def test_a_page_puts_a_clip_on_the_stage_and_its_controller_gets_the_receipts(show: Show) -> None:
    controller = await show.stage(take="manual")
    answer = await show.post(await show.clip(), after="loop", transition="crossfade", transition_s=1.0)
    assert answer == {"prompt_id": "p1"}
    assert (await controller.hear("prompt.accepted"))["prompt_id"] == "p1"
    assert (await controller.hear("prompt.ready"))["prompt_id"] == "p1"
    await controller.say("program.take")
    assert (await controller.hear("prompt.applied"))["prompt_id"] == "p1"


async def test_another_customers_stage_and_clip_look_like_none(show: Show) -> None:
    await show.stage()
    clip_id = await show.clip()
    for headers in (show.theirs, {"Authorization": f"Bearer {TOKEN}"}):
        told = await show.post(clip_id, status=404, headers=headers)
        assert told["error"]["code"] == "unknown_session"
    other = await show.server.controller(token=show.theirs["Authorization"].split()[1], name="their-show")
    told = await show.post(clip_id, status=404, stage="their-show", headers=show.theirs)
    assert told["error"]["code"] == "unknown_video"
    await other.say("program.show", clip_id=clip_id)
    assert (await other.hear("error"))["error"]["code"] == "unknown_video"


async def test_a_clip_that_is_not_finished_is_not_ready(show: Show) -> None:
    await show.stage()
    clip_id = await show.clip(waits=False, seconds=20)
    told = await show.post(clip_id, status=404)
    assert told["error"]["code"] == "not_ready" and told["error"]["retry_after_ms"] == 1000


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"clip_id": None, "data": b"{"}, "invalid_json", None),
        ({"clip_id": None, "json": [1]}, "invalid_json", None),
        ({"clip_id": None, "json": {}}, "missing_field", "clip_id"),
        ({"clip_id": 7}, "wrong_type", "clip_id"),
        ({"clip_id": "a", "colour": "red"}, "unknown_field", "colour"),
        ({"clip_id": "a", "transition": "morph"}, "invalid_value", "transition"),
        ({"clip_id": "a", "transition_s": 9}, "invalid_value", "transition_s"),
        ({"clip_id": "a", "after": "stop"}, "invalid_value", "after"),
    ],
)
async def test_a_wrong_body_is_named(show: Show, fields: dict[str, Any], code: str, param: str | None) -> None:
    await show.stage()
    clip_id = fields.pop("clip_id")
    error = (await show.post(clip_id, status=400, **fields))["error"]
    assert (error["code"], error["param"]) == (code, param)


async def test_too_many_clips_at_once_are_limited_like_prompts(show: Show) -> None:
    await show.stage()
    codes = []
    for _ in range(60):
        async with show.http.post("/v1/sessions/my-show/show", json={"clip_id": "a"}, headers=show.ours) as answer:
            codes.append((await answer.json())["error"]["code"])
    assert codes[0] == "unknown_video" and "rate_limited" in codes

"""`/v1/videos` on a real server: what a client orders is made, told truly, served, and gone when it is deleted."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import av
import pytest
import pytest_asyncio
from PIL import Image
from serving import Serving, serving

from engine.synthetic import Script, SyntheticEngine
from server.clips import rows
from server.doors.access import client_secrets
from server.store import keys
from server.store.store import Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Clips:
    def __init__(self, server: Serving, folder: Path) -> None:
        self.http, self.folder, self.server = server.http, folder, server

    async def ask(self, method: str, path: str = "", status: int = 200, **more: Any) -> dict[str, Any]:
        headers = more.pop("headers", BEARER)
        async with self.http.request(method, f"/v1/videos{path}", headers=headers, **more) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == status, body
            return body

    async def order(self, **fields: Any) -> dict[str, Any]:
        return await self.ask("POST", json={"prompt": "scene 5", "seconds": 2, "seed": 5} | fields)

    async def ended(self, video: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while video["status"] in ("queued", "in_progress"):
                video = await self.ask("GET", f"/{video['id']}")
        return video

    async def content(self, video: dict[str, Any], variant: str = "video") -> bytes:
        path = f"/v1/videos/{video['id']}/content?variant={variant}"
        async with self.http.get(path, headers=BEARER) as response:
            assert response.status == 200, await response.text()
            return await response.read()


@pytest_asyncio.fixture
async def clips(tmp_path: Path) -> AsyncIterator[Clips]:
    async with serving(token=TOKEN, clips_folder=str(tmp_path / "clips")) as server:
        await ready(server)
        yield Clips(server, tmp_path / "clips")


async def ready(server: Serving) -> None:
    async with asyncio.timeout(30):
        while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
            await asyncio.sleep(0.01)


async def test_a_prompt_becomes_a_file(clips: Clips) -> None:
    video = await clips.order(size="640x360")
    assert (video["object"], video["progress"], video["seconds"], video["size"]) == ("video", 0, "2", "640x360")
    video = await clips.ended(video)
    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
    with av.open(io.BytesIO(await clips.content(video))) as container:
        frames = list(container.decode(video=0))
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (640, 360, "h264")
    assert len(frames) == 2 * video["fps"]
    for variant, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        assert Image.open(io.BytesIO(await clips.content(video, variant))).format == kind


async def test_a_clip_is_as_long_as_was_asked_whatever_the_model_makes(clips: Clips) -> None:
    for seconds in (0.5, 4, 8):
        video = await clips.ended(await clips.order(seconds=seconds))
        assert video["seconds"] == f"{seconds:g}"
        with av.open(io.BytesIO(await clips.content(video))) as container:
            assert len(list(container.decode(video=0))) == seconds * video["fps"]


async def test_a_form_as_openais_clients_send_it(clips: Clips) -> None:
    form = aiohttp.FormData({"prompt": "scene 7", "seconds": "4", "size": "1280x720", "model": "sora-2"})
    form.add_field("metadata[shop]", "7", content_type="text/plain")
    video = await clips.ask("POST", data=form)
    assert (video["seconds"], video["size"], video["metadata"]) == ("4", "1280x720", {"shop": "7"})
    assert video["model"] == "synthetic"  # what makes it, not what was asked for


async def test_the_same_seed_is_the_same_clip_and_no_seed_another(clips: Clips) -> None:
    first, second = [await clips.ended(await clips.order(seed=9)) for _ in range(2)]
    assert await clips.content(first) == await clips.content(second)
    assert first["id"] != second["id"]
    seeds = {(await clips.ask("POST", json={"prompt": "a"}))["seed"] for _ in range(3)}
    assert len(seeds) == 3


async def test_a_range_of_a_clip_and_its_etag(clips: Clips) -> None:
    video = await clips.ended(await clips.order())
    whole = await clips.content(video)
    path = f"/v1/videos/{video['id']}/content"
    async with clips.http.get(path, headers=BEARER | {"Range": "bytes=10-19"}) as response:
        assert (response.status, await response.read()) == (206, whole[10:20])
        etag = response.headers["ETag"]
    async with clips.http.get(path, headers=BEARER | {"If-None-Match": etag}) as response:
        assert response.status == 304


async def test_a_signed_link_needs_no_key_and_ends(clips: Clips) -> None:
    video = await clips.ended(await clips.order())
    async with clips.http.get(video["content_url"]) as response:
        assert response.status == 200
    for forged in (
        video["content_url"].replace("variant=video", "variant=thumbnail"),
        video["content_url"].replace("expires=1", "expires=2"),
        video["content_url"][:-1] + ("0" if video["content_url"][-1] != "0" else "1"),
        f"/v1/videos/{video['id']}/content",
    ):
        async with clips.http.get(forged) as response:
            assert response.status == 401, forged


async def test_a_browser_saves_a_clip_under_a_name_that_cannot_break_its_header(clips: Clips) -> None:
    video = await clips.ended(await clips.order())
    query = urlencode({"download": '海边"; x=\r\n../a.mp4'})
    async with clips.http.get(f"{video['content_url']}&{query}") as response:
        assert response.headers["Content-Disposition"] == (
            "attachment; filename*=UTF-8''%E6%B5%B7%E8%BE%B9%22%3B%20x%3D%0D%0A..%2Fa.mp4"
        )


async def test_pages_of_a_list_both_ways(clips: Clips) -> None:
    ids = [(await clips.order(seed=seed))["id"] for seed in range(5)]
    first = await clips.ask("GET", "?limit=2&order=asc")
    assert [video["id"] for video in first["data"]] == ids[:2]
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == ("list", *ids[:2], True)
    rest = await clips.ask("GET", f"?limit=100&order=asc&after={ids[1]}")
    assert [video["id"] for video in rest["data"]] == ids[2:] and rest["has_more"] is False
    newest = await clips.ask("GET", "?limit=1")
    assert [video["id"] for video in newest["data"]] == ids[-1:]
    empty = await clips.ask("GET", f"?order=asc&after={ids[-1]}")
    assert (empty["data"], empty["last_id"], empty["has_more"]) == ([], None, False)


async def test_a_list_is_searched_for_words_of_the_prompts(clips: Clips) -> None:
    await clips.order(prompt="A red Sailboat at dawn")
    await clips.order(prompt="日落时的海边")
    for search, found in (("sailBOAT", 1), ("海边", 1), ("a% b", 0), ("dragon", 0)):
        listed = await clips.ask("GET", "?" + urlencode({"search": search}))
        assert len(listed["data"]) == found, search
    refused = await clips.ask("GET", "?search=" + "a" * 201, status=400)
    assert refused["error"]["param"] == "search"


async def test_a_list_tells_each_clips_place_and_asks_the_store_a_fixed_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count for each of a hundred clips made a page of 10,000 take 200 ms."""
    store = Store()
    store.open()
    slow = SyntheticEngine(Script(step_s=60.0))
    async with serving(slow, token=TOKEN, build={"store": store}, clips_folder=str(tmp_path)) as server:
        await ready(server)
        clips = Clips(server, tmp_path)
        ids = [(await clips.order(seed=seed))["id"] for seed in range(8)]
        while (await clips.ask("GET", f"/{ids[1]}"))["status"] == "queued":
            pass
        ask, asked = store.ask, list[object]()

        async def counted(work: Any) -> Any:
            asked.append(work)
            return await ask(work)

        monkeypatch.setattr(store, "ask", counted)
        listed = (await clips.ask("GET", "?order=asc"))["data"]
        assert [video["id"] for video in listed] == ids
        assert [video["queue_position"] for video in listed[2:]] == list(range(6))
        assert len(asked) <= 4
        later = (await clips.ask("GET", f"?order=asc&after={ids[4]}"))["data"]
        assert [video["queue_position"] for video in later] == [3, 4, 5]


async def test_a_deleted_clip_is_gone_with_its_files(clips: Clips) -> None:
    video = await clips.ended(await clips.order())
    assert list(clips.folder.glob("??/video_*"))
    gone = await clips.ask("DELETE", f"/{video['id']}")
    assert gone == {"id": video["id"], "object": "video.deleted", "deleted": True}
    assert not list(clips.folder.glob("??/video_*"))
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/remix")):
        error = await clips.ask(
            method, f"/{video['id']}{path}", status=404, json={"prompt": "a"} if path == "/remix" else None
        )
        assert error["error"]["code"] == "unknown_video"


async def test_the_content_of_an_unfinished_clip_is_not_ready(tmp_path: Path) -> None:
    slow = SyntheticEngine(Script(step_s=60.0))
    async with serving(slow, token=TOKEN, clips_folder=str(tmp_path)) as server:
        await ready(server)
        clips = Clips(server, tmp_path)
        video = await clips.order()
        error = (await clips.ask("GET", f"/{video['id']}/content", status=404))["error"]
        assert (error["code"], error["retryable"], error["retry_after_ms"]) == ("not_ready", True, 1000)
        await clips.ask("POST", f"/{video['id']}/cancel")
        error = (await clips.ask("GET", f"/{video['id']}/content", status=404))["error"]
        assert (error["code"], error["retryable"]) == ("not_ready", False)


async def test_a_remix_has_other_words_and_all_else_the_same(clips: Clips) -> None:
    source = await clips.order(size="640x360", seconds=1)
    remix = await clips.ask("POST", f"/{source['id']}/remix", json={"prompt": "scene 8"})
    assert (remix["remixed_from_video_id"], remix["prompt"]) == (source["id"], "scene 8")
    assert (remix["seed"], remix["size"], remix["seconds"]) == (source["seed"], "640x360", "1")


async def test_what_is_not_offered_says_so(clips: Clips) -> None:
    for method, path in (("POST", "/edits"), ("POST", "/characters"), ("GET", "/characters/c1")):
        assert (await clips.ask(method, path, status=404))["error"]["code"] == "not_offered"


async def test_a_key_of_idempotency_makes_one_clip(clips: Clips) -> None:
    headers = BEARER | {"Idempotency-Key": "order-7"}
    first, second = [await clips.ask("POST", json={"prompt": "a"}, headers=headers) for _ in range(2)]
    other = await clips.ask("POST", json={"prompt": "a"}, headers=BEARER | {"Idempotency-Key": "order-8"})
    assert first["id"] == second["id"] != other["id"]


async def test_an_sdk_that_sends_again_makes_no_second_clip(clips: Clips) -> None:
    """OpenAI's clients send a request again after a timeout, without a key."""
    first = await clips.ask("POST", json={"prompt": "a"})
    again = await clips.ask("POST", json={"prompt": "a"}, headers=BEARER | {"x-stainless-retry-count": "1"})
    other = await clips.ask("POST", json={"prompt": "b"}, headers=BEARER | {"x-stainless-retry-count": "1"})
    asked_anew = await clips.ask("POST", json={"prompt": "a"}, headers=BEARER | {"x-stainless-retry-count": "0"})
    assert again["id"] == first["id"] and len({first["id"], other["id"], asked_anew["id"]}) == 3


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": None}, "wrong_type", "prompt"),
        ({"prompt": "  "}, "prompt_empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt_too_long", "prompt"),
        ({"prompt": "\ud800"}, "invalid_text", "prompt"),
        ({"seconds": 0}, "invalid_value", "seconds"),
        ({"seconds": 20.1}, "invalid_value", "seconds"),
        ({"seconds": "long"}, "wrong_type", "seconds"),
        ({"seconds": float("nan")}, "invalid_value", "seconds"),
        ({"size": "1281x720"}, "invalid_value", "size"),
        ({"size": "100000x720"}, "invalid_value", "size"),
        ({"size": "big"}, "invalid_value", "size"),
        ({"width": 640}, "missing_field", "height"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"quality": "best"}, "invalid_value", "quality"),
        ({"num_inference_steps": 0}, "invalid_value", "num_inference_steps"),
        ({"model": "other"}, "unknown_model", "model"),
        ({"lora": "none"}, "not_supported", "lora"),
        ({"negative_prompt": "a"}, "unsupported_parameter", "negative_prompt"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"colour": "red"}, "unknown_field", "colour"),
        ({"user": ""}, "invalid_value", "user"),
        ({"metadata": {str(i): "" for i in range(17)}}, "invalid_value", "metadata"),
        ({"input_reference": "https://a.example/a.png"}, None, "input_reference"),
    ],
)
async def test_a_wrong_wish_is_named_and_nothing_is_made(
    clips: Clips, fields: dict[str, Any], code: str | None, param: str
) -> None:
    status = {"unknown_model": 404}.get(code or "", 400)
    error = (await clips.ask("POST", status=status, json={"prompt": "a"} | fields))["error"]
    assert error["param"] == param and error["code"] in (code, "invalid_value", "not_supported")
    assert code is None or error["code"] == code
    assert (await clips.ask("GET"))["data"] == []


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{", "application/json", "invalid_json"),
        (b"[]", "application/json", "invalid_json"),
        (b"[" * 100_000, "application/json", "invalid_json"),
        (b"{" + b" " * 300_000 + b"}", "application/json", "message_too_large"),
        (b"prompt", "text/plain", "unsupported_media_type"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "invalid_value"),
        (b"no form", "multipart/form-data", "invalid_value"),
    ],
)
async def test_a_body_that_is_none_is_refused(clips: Clips, body: bytes, kind: str, code: str) -> None:
    async with clips.http.post("/v1/videos", data=body, headers=BEARER | {"Content-Type": kind}) as response:
        assert (await response.json())["error"]["code"] == code


async def test_another_customers_clips_look_like_none(tmp_path: Path) -> None:
    store = Store()
    store.open()
    ours, theirs = (
        store.ask_now(partial(keys.make_key, name=name, scopes=("view", "prompt"), now=0)) for name in ("a", "b")
    )
    async with serving(token=TOKEN, build={"store": store}, clips_folder=str(tmp_path / "clips")) as server:
        await ready(server)
        clips = Clips(server, tmp_path)
        mine, other = ({"Authorization": f"Bearer {key.text}"} for key in (ours, theirs))
        video = await clips.ask("POST", json={"prompt": "a"}, headers=mine)
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content")):
            assert (await clips.ask(method, f"/{video['id']}{path}", status=404, headers=other))["error"]["code"] == (
                "unknown_video"
            )
        assert (await clips.ask("GET", headers=other))["data"] == []
        widget = client_secrets.make(ours.text, ["prompt"], now=time.time(), lives_s=60, session="shop-1")
        refused = await clips.ask(
            "POST", status=403, json={"prompt": "a"}, headers={"Authorization": f"Bearer {widget}"}
        )
        assert refused["error"]["code"] == "missing_scope"


async def test_a_server_without_a_folder_makes_no_clips() -> None:
    async with serving() as server, server.http.post("/v1/videos", json={"prompt": "a"}) as response:
        assert (await response.json())["error"]["code"] == "not_supported"


async def test_an_order_that_cannot_be_written_down_may_be_sent_again(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's disk is full. OpenAI's clients send a 503 again by themselves."""

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "add", full)
        error = (await clips.ask("POST", status=503, json={"prompt": "a"}))["error"]
        assert (error["code"], error["retryable"]) == ("server_busy", True)
    assert (await clips.ask("GET"))["data"] == []
    await clips.order()


async def test_a_full_store_of_a_key_is_told(tmp_path: Path) -> None:
    async with serving(token=TOKEN, clips_folder=str(tmp_path), max_clips_size=1000, max_clips_queued=2) as server:
        await ready(server)
        clips = Clips(server, tmp_path)
        await clips.ended(await clips.order())
        assert (await clips.ask("POST", status=403, json={"prompt": "a"}))["error"]["code"] == "storage_full"

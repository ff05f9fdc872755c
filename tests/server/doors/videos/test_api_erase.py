"""Erasure over HTTP and by the command line: a user's words are in no file afterwards, and others' stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from receiver import receiving
from serving import Serving, serving

from engine.synthetic import Script, SyntheticEngine
from server.doors.access import client_secrets, erase_cli
from server.store import keys
from server.store.keys import Key
from server.store.store import FILE_NAME, Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
WORDS = "the-private-words-of-anna"


class ErasureHarness:
    def __init__(self, server: Serving, folder: Path, key: Key, other: Key) -> None:
        self.http, self.server, self.folder = server.http, server, folder
        self.key, self.other = key, other

    async def ask(
        self, method: str, path: str, status: int = 200, *, token: str | None = None, **more: Any
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token or self.key.text}"}
        async with self.http.request(method, path, headers=headers, **more) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == status, body
            return body

    async def order(self, **more: Any) -> dict[str, Any]:
        token = more.pop("token", None)
        wish = {"prompt": WORDS, "seconds": 2, "metadata": {"note": WORDS}} | more
        return await self.ask("POST", "/v1/videos", json=wish, token=token)

    async def ended(self, video: dict[str, Any], token: str | None = None) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while video["status"] in ("queued", "in_progress"):
                video = await self.ask("GET", f"/v1/videos/{video['id']}", token=token)
        return video

    async def begun(self, video: dict[str, Any]) -> None:
        async with asyncio.timeout(60):
            while (await self.ask("GET", f"/v1/videos/{video['id']}"))["status"] != "in_progress":  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def ids(self, token: str | None = None) -> list[str]:
        return [video["id"] for video in (await self.ask("GET", "/v1/videos", token=token))["data"]]

    def files_with(self, words: str) -> list[str]:
        """Names of files in which these words are."""
        return [path.name for path in self.folder.rglob("*") if path.is_file() and words.encode() in path.read_bytes()]

    def folders_of(self, video_id: str) -> list[Path]:
        return list(self.folder.rglob(f"{video_id}*"))


@asynccontextmanager
async def erasing(tmp_path: Path, script: Script | None = None) -> AsyncIterator[ErasureHarness]:
    store = Store(tmp_path / FILE_NAME)
    store.open()
    key, other = (
        store.ask_now(partial(keys.make_key, name=name, scopes=("view", "prompt"), now=0)) for name in ("ours", "other")
    )
    engine = SyntheticEngine(script) if script is not None else None
    clips_folder = str(tmp_path / "clips")
    async with serving(engine, token=TOKEN, build={"store": store}, clips_folder=clips_folder) as server:
        async with asyncio.timeout(30):
            while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
                await asyncio.sleep(0.01)
        yield ErasureHarness(server, tmp_path, key, other)


async def test_an_erased_users_words_are_in_no_file(tmp_path: Path) -> None:
    async with receiving() as receiver, erasing(tmp_path) as here:
        hook = {"name": "a", "url": receiver.url, "event_types": ["video.completed"]}
        endpoint = await here.ask("POST", "/v1/webhook_endpoints", json=hook)
        videos = [await here.ended(await here.order(user="anna", seed=seed)) for seed in range(2)]
        kept = await here.ended(await here.order(user="bert", prompt="others", metadata={}))
        theirs = await here.ended(
            await here.order(user="anna", prompt="of another key", metadata={}, token=here.other.text),
            token=here.other.text,
        )
        assert here.files_with(WORDS)
        answer = await here.ask("DELETE", "/v1/videos?user=anna")
        assert answer == {"object": "video.erased", "user": "anna", "deleted": True, "num_deleted": 2}
        assert here.files_with(WORDS) == []
        assert await here.ids() == [kept["id"]] and await here.ids(here.other.text) == [theirs["id"]]
        for video in videos:
            assert here.folders_of(video["id"]) == []
        told = (await here.ask("GET", f"/v1/webhook_endpoints/{endpoint['id']}/deliveries"))["data"]
        assert {one["video_id"] for one in told} == {kept["id"]}
        audited = (await here.ask("GET", "/v1/audit", token=TOKEN))["data"]
        assert audited[0]["action"] == "DELETE /v1/videos" and "anna" not in str(audited)


async def test_what_is_made_for_an_erased_user_stops(tmp_path: Path) -> None:
    async with erasing(tmp_path, Script(step_s=60.0)) as here:
        video = await here.order(user="anna")
        await here.begun(video)
        assert (await here.ask("DELETE", "/v1/videos?user=anna"))["num_deleted"] == 1
        assert here.folders_of(video["id"]) == [] and await here.ids() == []


async def test_an_erasure_names_a_user_and_needs_a_key(tmp_path: Path) -> None:
    """Without a name it would be everything, by a slip. A page's secret is in the hands of one user among others."""
    async with erasing(tmp_path) as here:
        await here.order(user="anna")
        assert (await here.ask("DELETE", "/v1/videos", status=400))["error"]["code"] == "missing_field"
        for user in ("", "x" * 65):
            assert (await here.ask("DELETE", f"/v1/videos?user={user}", status=400))["error"]["param"] == "user"
        secret = client_secrets.make(here.key.text, ["prompt"], now=time.time(), lives_s=60)
        refused = await here.ask("DELETE", "/v1/videos?user=anna", status=403, token=secret)
        assert refused["error"]["code"] == "missing_scope"
        assert len(await here.ids()) == 1


@pytest.mark.parametrize("user", ["anna", None])
async def test_the_command_line_erases_while_the_server_runs(
    tmp_path: Path, user: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCENESHIFT_CLIPS_FOLDER", raising=False)
    async with receiving() as receiver, erasing(tmp_path) as here:
        hook = {"name": "a", "url": receiver.url, "event_types": ["video.completed"]}
        await here.ask("POST", "/v1/webhook_endpoints", json=hook)
        video = await here.ended(await here.order(user="anna"))
        kept = await here.ended(await here.order(user="bert", prompt="others", metadata={}))
        arguments = ["--key", "ours", "--data-folder", str(tmp_path), *(["--user", user] if user else [])]
        assert await asyncio.to_thread(erase_cli.main, arguments) == 0
        assert capsys.readouterr().out.startswith(f"erased {1 if user else 2} clips")
        assert here.files_with(WORDS) == [] and here.folders_of(video["id"]) == []
        assert await here.ids() == ([kept["id"]] if user else [])
        assert len((await here.ask("GET", "/v1/webhook_endpoints"))["data"]) == (1 if user else 0)
        audited = (await here.ask("GET", "/v1/audit", token=TOKEN))["data"]
        assert (audited[0]["action"], audited[0]["tenant"]) == ("erase", here.key.id)


async def test_what_another_process_has_erased_is_no_longer_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.clips.queue.SWEEP_EVERY_S", 0.0)
    async with erasing(tmp_path, Script(step_s=60.0)) as here:
        video = await here.order()
        await here.begun(video)
        assert await asyncio.to_thread(erase_cli.main, ["--key", here.key.id, "--data-folder", str(tmp_path)]) == 0
        async with asyncio.timeout(30):
            while here.folders_of(video["id"]):  # noqa: ASYNC110  files
                await asyncio.sleep(0.02)


def test_the_command_line_names_a_key_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert erase_cli.main(["--key", "nobody", "--data-folder", str(tmp_path)]) == 1
    assert "there is no key `nobody`" in capsys.readouterr().err

"""Clips by a real server: nothing is made twice, downloads go on, and what the server refuses is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image
from serving import SCRIPT, Serving, serving

from engine.synthetic import Script, SyntheticEngine
from server.clips.writer import pictures_of
from server.clock import MonotonicClock
from server.generate.maker import MOST_AT_ONCE, Failed, Made, MakerError, Outcome
from server.generate.remote import RemoteMaker
from server.generate.wanted import Wanted
from server.generate.work_folder import WorkFolder

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
SLOW = Script(step_s=60.0)


def wanted(number: int, **fields: Any) -> Wanted:
    return Wanted({"prompt": f"scene {number}", "size": "224x128", **fields}, f"{number}.mp4")


@asynccontextmanager
async def server_of(tmp_path: Path, script: Script = SCRIPT, **settings: Any) -> AsyncIterator[Serving]:
    folder = str(tmp_path / "clips")
    async with serving(SyntheticEngine(script), token=TOKEN, clips_folder=folder, **settings) as server:
        async with asyncio.timeout(30):
            while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
                await asyncio.sleep(0.01)
        yield server


@asynccontextmanager
async def opened(
    tmp_path: Path, url: str, token: str | None = TOKEN, said: list[str] | None = None
) -> AsyncIterator[RemoteMaker]:
    work = WorkFolder(tmp_path / "out")
    work.open()
    say = (said if said is not None else []).append
    maker = RemoteMaker(url, token, work, clock=MonotonicClock(), say=say)
    try:
        say(await maker.open())
        yield maker
    finally:
        await maker.close()
        work.close(is_complete=False)


def address(server: Serving) -> str:
    return str(server.http._base_url)


async def outcomes(maker: RemoteMaker, all_wanted: list[Wanted]) -> list[Outcome]:
    async with asyncio.timeout(60):
        return [outcome async for outcome in maker.outcomes(all_wanted)]


async def videos(server: Serving) -> list[dict[str, Any]]:
    async with server.http.get("/v1/videos?limit=100", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        return list((await response.json())["data"])


async def begun(maker: RemoteMaker, all_wanted: list[Wanted], server: Serving, number: int) -> None:
    """Orders them, and stops when the server has `number` of them, as a killed run would."""
    async with aclosing(maker.outcomes(all_wanted)) as waiting:
        first = asyncio.ensure_future(anext(waiting))
        async with asyncio.timeout(60):
            while len(await videos(server)) < number:  # noqa: ASYNC110  rows of the server's store
                await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])


async def test_each_wish_is_made_once_and_fetched(tmp_path: Path) -> None:
    many = [wanted(number) for number in range(2 * MOST_AT_ONCE)]
    said: list[str] = []
    async with server_of(tmp_path) as server, opened(tmp_path, address(server), said=said) as maker:
        found = await outcomes(maker, many)
        assert sorted(one.wanted.output for one in found) == sorted(one.output for one in many)
        for made in found:
            assert isinstance(made, Made) and len(list(pictures_of(made.file))) == 24 and made.engine_s > 0
        told = await videos(server)
        # Both in the order of the list, the newest first.
        assert [video["prompt"] for video in told] == [one.fields["prompt"] for one in reversed(many)]
        assert {video["id"]: video["seed"] for video in told} == {one.video_id: one.seed for one in found}  # type: ignore[union-attr]
        await maker.forget(found[0])
        assert not found[0].file.exists() and len(await videos(server)) == len(many)  # type: ignore[union-attr]
    assert said == [f"the server {address(server).rstrip('/')} makes them, with the model synthetic"]


async def test_a_picture_to_start_from_is_sent(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "first.png")
    one = wanted(5, input_reference=(tmp_path / "first.png").read_bytes(), seed="7")
    script = Script(step_s=0.001, can_start_from_frame=True)
    async with server_of(tmp_path, script) as server, opened(tmp_path, address(server)) as maker:
        (made,) = await outcomes(maker, [one])
        assert isinstance(made, Made) and made.seed == 7


async def test_a_run_that_was_stopped_makes_nothing_twice(tmp_path: Path) -> None:
    many = [wanted(number) for number in range(6)]
    async with server_of(tmp_path, Script(step_s=0.05)) as server:
        async with opened(tmp_path, address(server)) as maker:
            await begun(maker, many, server, 6)
        async with opened(tmp_path, address(server)) as maker:
            found = await outcomes(maker, many)
        assert len(found) == 6 and len(await videos(server)) == 6


async def test_a_refusal_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    many = [wanted(1, lora="none"), wanted(2)]
    async with server_of(tmp_path) as server, opened(tmp_path, address(server)) as maker:
        failed, made = sorted(await outcomes(maker, many), key=lambda one: one.wanted.output)
        assert isinstance(failed, Failed) and failed.code == "not_supported" and "none" in failed.message
        assert isinstance(made, Made)
        await maker.forget(failed)


async def test_a_clip_that_failed_is_made_anew_by_the_next_run(tmp_path: Path) -> None:
    one = wanted(5)
    async with server_of(tmp_path, Script(step_s=0.05)) as server:
        async with opened(tmp_path, address(server)) as maker:
            await begun(maker, [one], server, 1)
            (video,) = await videos(server)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with server.http.post(f"/v1/videos/{video['id']}/cancel", headers=headers) as response:
                assert response.status == 200
            (failed,) = await outcomes(maker, [one])
            assert isinstance(failed, Failed) and failed.code == "cancelled"
            await maker.forget(failed)
        async with opened(tmp_path, address(server)) as maker:
            (made,) = await outcomes(maker, [one])
            assert isinstance(made, Made) and made.video_id != video["id"]


async def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.generate.remote._retry_after_s", lambda response: 0.05)
    many = [wanted(number) for number in range(5)]
    async with server_of(tmp_path, max_clips_queued=1) as server, opened(tmp_path, address(server)) as maker:
        assert len(await outcomes(maker, many)) == 5


async def test_a_wrong_token_and_a_server_without_clips_are_said_plainly(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server:
        with pytest.raises(MakerError, match="unauthorized"):
            async with opened(tmp_path, address(server), token="wrong"):
                pass
    async with serving(token=TOKEN) as server:
        with pytest.raises(MakerError, match=r"names? --clips-folder"):
            async with opened(tmp_path, address(server)):
                pass


async def test_an_address_without_a_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.generate.remote.FIRST_ANSWER_S", 0.0)
    with pytest.raises(MakerError, match="has not answered"):
        async with opened(tmp_path, "http://127.0.0.1:9"):
            pass


@asynccontextmanager
async def cutting(server: Serving, num_bytes: int, most: int, folder: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """A way to the server that breaks after each `num_bytes` of a clip's content, `most` times.

    It breaks when they lie in `folder`, because what only came to the socket is lost.
    """
    ranges: list[str] = []
    cuts = itertools.count()

    async def relay(request: web.Request) -> web.StreamResponse:
        data = await request.read()
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with server.http.request(request.method, request.path_qs, headers=headers, data=data) as answer:
            body = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name != "Transfer-Encoding"}
            is_content = request.path.endswith("/content")
            if is_content:
                ranges.append(request.headers.get("Range", ""))
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if is_content and len(body) > num_bytes and next(cuts) < most:
                await response.write(body[:num_bytes])
                while _num_bytes(folder) < len(ranges) * num_bytes:  # noqa: ASYNC110  a file's size
                    await asyncio.sleep(0.01)
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(body)
            return response

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", relay)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/", ranges
    finally:
        await runner.cleanup()


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("video_*.mp4"))


async def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.generate.remote.PAUSE_S", 0.01)
    folder = tmp_path / "out" / ".sceneshift"
    async with server_of(tmp_path) as server, cutting(server, 1000, 3, folder) as (url, ranges):
        async with opened(tmp_path, url) as maker:
            (made,) = await outcomes(maker, [wanted(5, seconds="4")])
            assert isinstance(made, Made) and len(list(pictures_of(made.file))) == 48
            assert ranges == ["", "bytes=1000-", "bytes=2000-", "bytes=3000-"]
            async with server.http.get(
                f"/v1/videos/{made.video_id}/content", headers={"Authorization": f"Bearer {TOKEN}"}
            ) as response:
                assert await response.read() == made.file.read_bytes()
        # The next run finds the whole file of a run that was killed before it brought it to its place.
        async with opened(tmp_path, url) as maker:
            (again,) = await outcomes(maker, [wanted(5, seconds="4")])
            assert again == made and ranges[-1].startswith("bytes=") and len(ranges) == 5

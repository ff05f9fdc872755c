"""The Python SDK on the real server with the synthetic engine, over real sockets that the tests cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.synthetic import Fault, Script, SyntheticEngine
from sceneshift import NotShown, Pace, Refused, SessionLost, State, Unreachable, connect, connect_sync
from sceneshift.events import PromptApplied, PromptSuperseded, SessionClosed, SessionCreated, StatsUpdated
from server import app as server_app
from server.config import Settings

TOKEN = "0123456789abcdef0123"
AT_ONCE = Pace(sleep=lambda delay_s: asyncio.sleep(0), random=lambda: 0.0)


class Server:
    """A server that can be stopped, and started again on its port."""

    def __init__(self, **settings: Any) -> None:
        self._settings = Settings(**settings)
        self._stack = AsyncExitStack()
        self.port = 0

    async def start(self, script: Script) -> None:
        app = server_app.build(self._settings, SyntheticEngine(script))
        listener = server_app.listen("127.0.0.1", self.port)
        self.port = await self._stack.enter_async_context(server_app.running(app, listener))

    async def stop(self) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


SCRIPT = Script(step_s=0.01, decode_s=0.01, faults={13: Fault.FAIL})


@pytest.fixture
async def make_server() -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Server:
            server = Server(**settings)
            await server.start(SCRIPT)
            stack.push_async_callback(server.stop)
            return server

        yield make


@pytest.fixture
async def server(make_server: Callable[..., Any]) -> Server:
    made: Server = await make_server()
    return made


async def test_a_prompt_from_its_acceptance_to_its_picture(server: Server) -> None:
    async with connect(server.url, width=416, height=240) as session:
        assert session.created.options.width == 416
        handle = await session.prompt("scene 7", quality="fine", seed=5)
        accepted = await handle.accepted
        assert (accepted.prompt_id, accepted.quality, accepted.seed) == (handle.prompt_id, "fine", 5)
        started = await handle.started
        assert started is not None and "7" in started.understood
        assert await handle.preview is not None
        picture = await handle.picture
        assert picture.timings.total_ms > 0
        assert await handle.ended == picture and handle.is_ended
        assert session.whep_url == f"{server.url}/whep/{session.session_id}"


async def test_the_ends_without_a_picture_say_why(server: Server) -> None:
    async with connect(server.url) as session:
        older, newer = await session.prompt("1"), await session.prompt("2")
        end = await older.ended
        assert isinstance(end, PromptSuperseded) and end.by_prompt_id == newer.prompt_id
        with pytest.raises(NotShown) as not_shown:
            await older.picture
        assert not_shown.value.end == end
        failed = await session.prompt("13")
        with pytest.raises(NotShown, match=r"prompt\.failed: scripted failure"):
            await failed.picture
        await session.update(take="manual")
        cancelled = await session.prompt("3")
        await cancelled.accepted
        await session.cancel(cancelled)
        with pytest.raises(NotShown, match=r"prompt\.cancelled"):
            await cancelled.picture


async def test_each_request_of_a_controller_gets_its_answer(server: Server) -> None:
    async with connect(server.url, take="manual") as session:
        with pytest.raises(Refused) as refused:
            await session.take()
        assert (refused.value.code, refused.value.retryable) == ("nothing_to_take", False)
        handle = await session.prompt("5")
        async for event in session.events():
            if type(event).__name__ == "PromptReady":
                break
        assert (await session.take(transition="cut")).on_air == "clip"
        await handle.picture
        assert (await session.blank()).on_air == "blank"
        assert (await session.resume()).on_air == "clip"
        assert (await session.update(quality="fine")).quality == "fine"


async def test_a_finished_clip_is_put_on_the_stage(make_server: Callable[..., Any], tmp_path: Path) -> None:
    server = await make_server(clips_folder=str(tmp_path))
    async with connect(server.url, transition="cut") as session, aiohttp.ClientSession(server.url) as http:
        await (await session.prompt("4")).picture  # the engine is ready
        async with http.post("/v1/videos", json={"prompt": "scene 5", "seconds": 1}) as answer:
            video = await answer.json()
        with pytest.raises(Refused) as refused:
            await session.show("video_0", after="hold")
        assert (refused.value.code, refused.value.param) == ("unknown_video", "clip_id")
        while video["status"] != "completed":
            async with http.get(f"/v1/videos/{video['id']}") as answer:
                video = await answer.json()
        accepted = await session.show(video["id"], after="hold")
        assert (accepted.clip_id, accepted.text) == (video["id"], "scene 5")
        async for event in session.events():
            if isinstance(event, PromptApplied) and event.prompt_id == accepted.prompt_id:
                break


async def test_a_refusal_names_code_and_field_and_the_session_goes_on(server: Server) -> None:
    async with connect(server.url) as session:
        for fields in ({"text": "x", "colour": "red"}, {"text": "x", "quality": "best"}, {"text": " "}):
            handle = await session.prompt(**fields)
            with pytest.raises(Refused) as refused:
                await handle.accepted
            assert refused.value.param == list(fields)[-1]
            with pytest.raises(Refused):
                await handle.picture
        await (await session.prompt("4")).picture
    with pytest.raises(Refused, match="unknown_field"):
        async with connect(server.url, colour="red"):
            pass


async def test_a_cut_in_mid_prompt_loses_nothing(server: Server) -> None:
    async with connect(server.url, pace=AT_ONCE) as session:
        session_id = session.session_id
        handle = await session.prompt("6")
        await handle.accepted
        session._socket.transport.abort()
        picture = await handle.picture
        session._socket.transport.abort()
        again = await session.prompt("8")  # sent when the session is resumed
        await again.picture
        assert session.session_id == session_id
        numbers = []
        await session.blank()
        async for event in session.events():
            numbers.append(event.seq)
            if getattr(event, "on_air", None) == "blank":
                break
    assert picture.prompt_id == handle.prompt_id
    assert numbers == list(range(len(numbers))), "each event once, in order, over three connections"


async def test_a_server_that_comes_back_gets_a_new_stage_with_the_same_options(server: Server) -> None:
    pace = Pace(sleep=lambda delay_s: asyncio.sleep(0.01))
    async with connect(server.url, quality="fine", pace=pace) as session:
        first_id = session.session_id
        accepted = await session.prompt("1", quality="fast")
        await accepted.picture
        await server.stop()
        waiting = await session.prompt("9")
        await server.start(SCRIPT)
        picture = await waiting.picture
        assert picture.session_id == session.session_id != first_id
        assert session.created.options.quality == "fine"


async def test_events_are_complete_to_the_last(server: Server) -> None:
    async with connect(server.url) as session:
        await (await session.prompt("2")).picture
    kinds = [type(event) async for event in session.events()]
    assert kinds[0] is SessionCreated and kinds[-1] is SessionClosed and PromptApplied in kinds
    assert session.state is State.CLOSED
    with pytest.raises(SessionLost):
        await session.prompt("3")


async def test_a_full_server_refuses_as_retryable(make_server: Callable[..., Any]) -> None:
    server = await make_server(max_sessions=1, max_queued=0)
    async with connect(server.url):
        with pytest.raises(Refused) as refused:
            async with connect(server.url):
                pass
        assert refused.value.code == "server_full" and refused.value.retryable


async def test_a_server_with_a_token_refuses_none_and_accepts_the_right_one(make_server: Callable[..., Any]) -> None:
    server = await make_server(token=TOKEN)
    for wrong in (None, "not-the-token-at-all"):
        with pytest.raises(Refused, match="unauthorized"):
            async with connect(server.url, wrong):
                pass
    async with connect(f"{server.url}/#token={TOKEN}") as session:
        await (await session.prompt("1")).accepted


async def test_an_unreachable_server_fails_at_once_or_is_waited_for(server: Server) -> None:
    await server.stop()
    with pytest.raises(Unreachable, match=server.url):
        async with connect(server.url):
            pass
    arrivals = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        arrivals.set()
        await asyncio.sleep(0.01)

    async def open_patiently() -> str:
        async with connect(server.url, patience_s=60.0, pace=Pace(sleep=sleep)) as session:
            return session.session_id

    opening = asyncio.create_task(open_patiently())
    await arrivals.wait()
    await server.start(SCRIPT)
    assert await opening


async def test_stats_are_the_newest_event_of_their_kind(server: Server) -> None:
    async with connect(server.url) as session:
        async for event in session.events():
            if isinstance(event, StatsUpdated):
                assert session.stats == event
                break


async def test_the_blocking_twin_does_the_same_without_asyncio(server: Server) -> None:
    def program() -> None:
        with connect_sync(server.url) as session:
            handle = session.prompt("7")
            assert handle.accepted(10).prompt_id == handle.prompt_id
            assert handle.picture(10) == handle.ended()
            with pytest.raises(Refused):
                session.take()
            assert session.update(quality="fine").quality == "fine"
            with pytest.raises(TimeoutError):
                session.update(take="manual")
                session.prompt("8").picture(0.05)

    await asyncio.to_thread(program)
    assert not any(thread.name == "sceneshift" for thread in threading.enumerate())


async def test_the_blocking_twin_hears_events(server: Server) -> None:
    def program() -> list[type]:
        kinds = []
        with connect_sync(server.url) as session:
            session.prompt("7")
            for event in session.events():
                kinds.append(type(event))
                if isinstance(event, PromptApplied):
                    return kinds
        raise AssertionError("the events ended before the picture")

    kinds = await asyncio.to_thread(program)
    assert kinds[0] is SessionCreated and kinds[-1] is PromptApplied

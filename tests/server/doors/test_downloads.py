"""The picture that is on air, over plain HTTP."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import av
import pytest
from serving import Controller, number, serving

from server.doors import downloads


async def snapshot(controller: Controller, query: str = "") -> Any:
    """The decoded picture."""
    async with controller.http.get(controller.path("snapshot.jpg") + query) as response:
        assert (response.status, response.content_type) == (200, "image/jpeg")
        assert response.headers["Cache-Control"] == "no-store"
        with av.open(io.BytesIO(await response.read()), format="mjpeg") as container:
            return next(container.decode(video=0))


async def test_a_snapshot_shows_what_is_on_air_without_any_viewer() -> None:
    async with serving() as server:
        controller = await server.controller()
        idle = await snapshot(controller)
        assert (idle.width, idle.height) == (832, 480) and number(idle) is None
        await controller.apply("scene 42")
        assert number(await snapshot(controller)) == 42
        small = await snapshot(controller, "?width=416")
        assert (small.width, small.height, number(small)) == (416, 240, 42)
        large = await snapshot(controller, "?width=1920")  # no larger than the program
        assert large.width == 832


async def test_a_blank_program_gives_a_black_picture() -> None:
    async with serving() as server:
        controller = await server.controller(width=320, height=192)
        await controller.apply("scene 42")
        await controller.say("program.blank")
        await controller.hear("program.changed")
        while number(picture := await snapshot(controller)) == 42:
            pass  # from the next frame on
        assert picture.to_ndarray(format="gray").max() < 20


class Drawing:
    """The thread's work, which the test lets go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[int] = []
        self.may_end = threading.Event()
        self.may_end.set()
        draw = downloads.snapshot

        def draw_when_allowed(picture: Any, program_format: Any, width: int) -> bytes:
            self.drawn.append(width)
            assert self.may_end.wait(15.0)
            return draw(picture, program_format, width)

        monkeypatch.setattr(downloads, "snapshot", draw_when_allowed)


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Drawing:
    return Drawing(monkeypatch)


async def test_a_picture_is_drawn_once_for_all_who_ask_for_it(drawing: Drawing) -> None:
    async with serving() as server:
        controller = await server.controller(width=320, height=192)
        await controller.say("program.blank")
        await controller.hear("program.changed")
        while (await snapshot(controller)).to_ndarray(format="gray").max() >= 20:
            pass  # from the next frame on
        drawing.drawn.clear()
        for width in (320, 128, 320, 128):
            assert (await snapshot(controller, f"?width={width}")).width == width
        assert drawing.drawn == [128]
        for width in range(130, 130 + 2 * downloads.MAX_KEPT, 2):
            await snapshot(controller, f"?width={width}")
        await snapshot(controller, "?width=320")
        assert drawing.drawn[-1] == 320, "it had to make room"


async def test_pictures_that_differ_are_drawn_each(drawing: Drawing) -> None:
    async with serving() as server:
        controller = await server.controller(width=320, height=192)
        for number_on_air in (41, 42):
            await controller.apply(f"scene {number_on_air}")
            assert number(await snapshot(controller)) == number_on_air


async def test_only_some_wait_for_a_snapshot_and_the_others_are_told_to_come_back(drawing: Drawing) -> None:
    async with serving() as server:
        controller = await server.controller(width=320, height=192)
        drawing.may_end.clear()
        urls = [controller.path(f"snapshot.jpg?width={128 + 2 * index}") for index in range(downloads.MAX_WAITING + 3)]
        asking = [asyncio.create_task(server.http.get(url)) for url in urls]
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 2:
            done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
        for task in done:
            refused = task.result()
            error = (await refused.json())["error"]
            assert (refused.status, error["code"], error["retryable"]) == (503, "server_busy", True)
            assert refused.headers["Retry-After"] == "1"
        assert len(waiting) == 1 + downloads.MAX_WAITING
        drawing.may_end.set()
        assert {(await task).status for task in waiting} == {200}


@pytest.mark.parametrize("width", ["63", "1921", "-100", "1e2", "wide", "", "٣٠٠", "9" * 5000])
async def test_an_invalid_width_is_refused_by_name(width: str) -> None:
    async with serving() as server:
        controller = await server.controller(width=320, height=192)
        async with server.http.get(controller.path("snapshot.jpg"), params={"width": width}) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["param"]) == (400, "invalid_value", "width")


async def test_strangers_get_no_snapshot() -> None:
    async with serving(token="0123456789abcdef0123") as server:
        controller = await server.controller(token="0123456789abcdef0123", width=320, height=192)
        async with server.http.get(controller.path("snapshot.jpg")) as response:
            assert response.status == 401
        async with server.http.get("/v1/sessions/s0/snapshot.jpg?token=0123456789abcdef0123") as response:
            assert response.status == 404

"""The picture that is on air, over plain HTTP."""

from __future__ import annotations

import io
from typing import Any

import av
import pytest
from serving import Controller, number, serving


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

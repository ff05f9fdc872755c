"""The whole way in reality: page, server, engine process, trained weights, WebRTC, pixels on the glass."""

from __future__ import annotations

from typing import Any

import pytest

from bench.parts.served import served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_beach_at_sunset_is_warm_in_colour_and_the_night_is_dark(open_console: Any) -> None:
    async with served(["--engine", "embedded"]) as server:
        console = await open_console(server.url)
        await console.choose("transition", "cut")
        await console.send("beach at sunset")
        await console.newest_is("on_air")
        red, _, blue = await _colour_of_clip(console)
        assert red > blue + 15, "a sunset has more red than blue in it"
        sunset = await console.page.evaluate("Math.max(...window.programColour())")

        await console.send("夜晚的雪山")
        await console.newest_is("on_air")
        red, _, blue = await _colour_of_clip(console)
        assert blue > red, "a night is blue"
        assert await console.page.evaluate("Math.max(...window.programColour())") < sunset
        assert await console.page.locator("#steps img:not([hidden])").count() >= 2

        # Reused: on air at once, without a strip of steps.
        await console.send("beach at sunset")
        await console.newest_is("on_air")
        assert await console.page.locator("#steps li").count() == 0
        assert console.errors == []


async def _colour_of_clip(console: Any) -> list[float]:
    """The mean colour once the clip itself, and not its preview, is what the glass shows."""
    await console.until("() => /on this screen/.test(document.querySelector('#time-picture').innerText)")
    colour: list[float] = await console.page.evaluate("window.programColour()")
    return colour

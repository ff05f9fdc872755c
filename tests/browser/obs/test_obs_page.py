"""The page for OBS: only the picture, without end, and no viewer while OBS does not show the source."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from stages import PATIENCE_MS, PATIENCE_S, number_in, operator, picture, until

from bench.parts.served import served
from engine.synthetic import Script, SyntheticEngine
from server import app as server_app
from server.config import Settings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-for-this-test-of-forty-characters"
HAS_ASKED = "() => performance.getEntriesByType('resource').some((one) => one.name.includes('/whep/'))"
IS_HELD = "() => !document.querySelector('#held').hidden"
IS_LIVE = "() => document.querySelector('#picture').dataset.shown === 'true' && document.querySelector('#held').hidden"

OpenSource = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_source(browser: Any) -> AsyncIterator[OpenSource]:
    """Opens a page as OBS does, in a browser of its own with the size of the source."""
    async with AsyncExitStack() as stack:

        async def open_source(url: str, width: int = 416, height: int = 240, script: str = "") -> Any:
            context = await browser.new_context(viewport={"width": width, "height": height})
            stack.push_async_callback(context.close)
            # A tenth of the longest wait between two attempts.
            await context.add_init_script("Math.random = () => 0.1;" + script)
            page = await context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.log = []
            page.on("console", lambda message: page.log.append(message.text))
            await page.goto(url)
            return page

        yield open_source


async def seen(page: Any) -> Any:
    return picture(await page.screenshot(omit_background=True))


async def comes_to_show(page: Any, number: int) -> None:
    """Waits for the number: after `prompt.applied`, the browser still shows earlier frames for a moment."""
    await page.wait_for_function(IS_LIVE)
    async with asyncio.timeout(PATIENCE_S):
        while number_in(await seen(page)) != number:
            pass


async def test_transparent_before_and_held_while_the_server_is_away(open_source: OpenSource) -> None:
    async with AsyncExitStack() as show:
        server = await show.enter_async_context(served(["--engine", "synthetic"]))
        page = await open_source(f"{server.url}/obs/my-show")
        await page.wait_for_function(HAS_ASKED)
        assert not (await seen(page))[..., 3].any(), "no show yet: every pixel is transparent"

        async with operator(server.url, name="my-show") as one:
            await one.show("scene 5")
            await comes_to_show(page, 5)
            os.kill(server.pid, signal.SIGKILL)
            await page.wait_for_function(IS_HELD)
            assert number_in(await seen(page)) == 5, "the last good frame"

    port = server.url.rpartition(":")[2]
    async with served(["--engine", "synthetic", "--port", port]):
        async with operator(server.url, name="my-show") as one:
            await one.show("scene 9")
            await comes_to_show(page, 9)
    assert await page.inner_text("body") == "", "whatever happened, no word on the picture"
    assert any("unknown_session" in line for line in page.log), "but in the log"


async def test_a_source_off_air_is_no_viewer_and_causes_no_clips(open_source: OpenSource) -> None:
    engine = SyntheticEngine(Script(can_start_from_frame=True, num_frames=9))
    app = server_app.build(Settings(), engine)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{port}"
        one = await stack.enter_async_context(operator(url, after="continue"))
        program = app[server_app.REGISTRY].find(one.session_id, None).program
        page = await open_source(f"{url}/obs/{one.session_id}?grace=0")
        await page.wait_for_function(IS_LIVE)
        await one.show("scene 5")
        await one.hear("prompt.continued")

        await fire(page, "obsSourceVisibleChanged", visible=False)
        await until(lambda: program.num_viewers == 0)
        assert number_in(await seen(page)) == 5, "the picture stays"
        await one.hear("stats.updated")  # at this tick, the server stops a clip that it began
        made, encoded = engine.statistics(), program.statistics().encoded_frames
        for _ in range(2):  # seconds: a continued scene would have needed a clip
            assert (await one.hear("stats.updated"))["viewers"] == 0
        assert engine.statistics() == made
        assert program.statistics().encoded_frames == encoded

        await fire(page, "obsSourceActiveChanged", active=True)
        assert number_in(await seen(page)) == 5, "the held frame first"
        await page.wait_for_function(IS_LIVE)
        assert program.num_viewers == 1
        await one.hear("prompt.continued")


async def fire(page: Any, kind: str, **detail: bool) -> None:
    """As OBS's browser source does."""
    await page.evaluate("([kind, detail]) => window.dispatchEvent(new CustomEvent(kind, { detail }))", [kind, detail])


async def test_without_udp_the_picture_comes_over_the_websocket(open_source: OpenSource, synthetic_url: str) -> None:
    async with operator(synthetic_url) as one:
        await one.show("scene 5")
        page = await open_source(f"{synthetic_url}/obs/{one.session_id}", script="delete window.RTCPeerConnection")
        await page.wait_for_function(IS_LIVE)
        assert number_in(await seen(page)) == 5


async def test_the_preview_of_studio_mode_still_watches(open_source: OpenSource, synthetic_url: str) -> None:
    """Visible, but not active. And a source that is off for less than the grace time stays connected."""
    page = await open_source(f"{synthetic_url}/livez")
    changes = await page.evaluate(
        """async () => {
          const { Air } = await import("/client/obs/air.js");
          const changes = [], timers = [], realSet = window.setTimeout, realClear = window.clearTimeout;
          window.setTimeout = (call, delay) => timers.push({ call, delay });
          window.clearTimeout = (id) => id && timers.splice(id - 1, 1);
          const air = new Air(5000, (isOnAir) => changes.push(isOnAir)), target = new EventTarget();
          air.listen(target);
          const fire = (kind, detail) => target.dispatchEvent(new CustomEvent(kind, { detail }));
          fire("obsSourceActiveChanged", { active: false });
          fire("obsSourceVisibleChanged", { visible: false });
          const waiting = timers.map(({ delay }) => delay);
          fire("obsSourceVisibleChanged", { visible: true });
          const back = timers.length;
          fire("obsSourceVisibleChanged", { visible: false });
          timers[0].call();
          fire("obsSourceVisibleChanged", { visible: true });
          Object.assign(window, { setTimeout: realSet, clearTimeout: realClear });
          return { waiting, back, changes };
        }"""
    )
    assert changes == {"waiting": [5000], "back": 0, "changes": [False, True]}


async def test_the_address_sets_how_the_picture_is_shown(open_source: OpenSource, synthetic_url: str) -> None:
    page = await open_source(f"{synthetic_url}/livez")
    read = """async (address) => {
      const { readAddress } = await import("/client/obs/address.js");
      return readAddress(new URL(address, location.href));
    }"""
    plain = await page.evaluate(read, "/obs/my-show")
    assert plain == {
        "session": "my-show", "token": None, "fit": "contain", "isMirrored": False, "fadeMs": 0, "graceMs": 5000,
        "wantsAudio": False, "wantsDebug": False, "complaints": [],
    }  # fmt: skip
    full = await page.evaluate(read, "/obs/a?fit=cover&mirror=1&fade=300&grace=100&audio=1&debug=1#token=secret")
    assert full == plain | {
        "session": "a", "token": "secret", "fit": "cover", "isMirrored": True, "fadeMs": 300, "graceMs": 100,
        "wantsAudio": True, "wantsDebug": True,
    }  # fmt: skip
    wrong = await page.evaluate(read, "/obs/a?fit=big&fade=-1&token=secret")
    assert (wrong["fit"], wrong["fadeMs"], wrong["token"], len(wrong["complaints"])) == ("contain", 0, None, 3)


async def test_the_token_stays_in_the_fragment_and_mirrors_and_fit_are_applied(open_source: OpenSource) -> None:
    async with served(["--engine", "synthetic", "--token", TOKEN]) as server:
        async with operator(server.url, token=TOKEN) as one:
            await one.show("scene 5")
            page = await open_source(
                f"{server.url}/obs/{one.session_id}?fit=fill&mirror=1&audio=1#token={TOKEN}", 300, 300
            )
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.reload()
            await page.wait_for_function(IS_LIVE)
            pixels = await seen(page)
            assert number_in(pixels[:, ::-1]) == 5
            assert pixels[..., 3].all(), "filled to the edges"
            await page.add_style_tag(content="body { outline: 3px solid red }")  # as OBS adds its custom CSS
            assert await page.evaluate("() => getComputedStyle(document.body).outlineWidth") == "3px"
    assert asked and not any(TOKEN in url for url in asked)

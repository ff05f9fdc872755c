"""What a page of another site gets of a server on this machine, in its visitor's own browser: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from stages import PATIENCE_MS, operator, synthetic_server

from server import app as server_app
from server.clock import MonotonicClock
from server.doors.connections import ConnectionBounds, Connections

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# Draws a picture of the address given; tells whether there was one.
_LOADS = """(url) => new Promise((told) => {
  const image = new Image();
  image.onload = () => told(true);
  image.onerror = () => told(false);
  image.src = url;
})"""


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(browser: Any) -> AsyncIterator[Any]:
    """A page on `localhost`; our server's address has 127.0.0.1, so for the browser it is another site."""

    async def serve(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>a stranger</title><body></body>", content_type="text/html")

    app = web.Application()
    app[server_app.CONNECTIONS] = Connections(ConnectionBounds(), MonotonicClock())
    app.router.add_get("/", serve)
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        context = await browser.new_context(locale="en-US")
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        await page.goto(f"http://localhost:{port}/")
        yield page
        await context.close()


async def test_a_page_of_another_site_draws_no_picture_of_a_show(stranger: Any) -> None:
    async with synthetic_server() as url, operator(url, name="my-show"):
        snapshot = f"{url}/v1/sessions/my-show/snapshot.jpg"
        async with aiohttp.ClientSession() as http, http.get(snapshot) as response:
            assert response.status == 200, "the show is there"
        assert not await stranger.evaluate(_LOADS, snapshot)
        assert await stranger.evaluate(_LOADS, f"{url}/client/favicon.svg"), "what is for everybody still loads"


async def test_a_link_on_another_site_opens_the_console_and_gives_no_hold_on_it(stranger: Any) -> None:
    async with synthetic_server() as url:
        async with stranger.context.expect_page() as opened:
            await stranger.evaluate("(url) => { window.held = open(url); }", f"{url}/")
        console = await opened.value
        await console.wait_for_selector("#prompt-text")
        assert await console.evaluate("() => window.opener") is None
        await stranger.wait_for_function("() => window.held.closed")  # as far as the stranger can see

"""The console of a server that wants an access token, and of one that is gone."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from stages import synthetic_server

from bench.parts.served import served
from server.doors.access import client_secrets
from server.protocol.limits import Limits
from server.store import keys
from server.store.store import FILE_NAME, Store

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-for-this-test-of-forty-characters"


@pytest_asyncio.fixture(loop_scope="session")
async def guarded_url() -> AsyncIterator[str]:
    async with synthetic_server(token=TOKEN) as url:
        yield url


async def test_the_token_in_the_address_opens_the_session_and_disappears(open_console: Any, guarded_url: str) -> None:
    console = await open_console(f"{guarded_url}/#token={TOKEN}")
    assert TOKEN not in console.page.url
    await console.page.reload()
    await console.is_live()


@pytest.mark.parametrize(
    ("path", "is_up"), [("", "#connection[data-state=live]"), ("studio", "#scene-state:not(:empty)")]
)
async def test_a_page_whose_storage_is_blocked_works_and_only_forgets(
    browser: Any, guarded_url: str, path: str, is_up: str
) -> None:
    context = await browser.new_context(locale="en-US")
    await context.add_init_script(
        """for (const kind of ["localStorage", "sessionStorage"]) {
          Object.defineProperty(window, kind, { get() { throw new DOMException("blocked", "SecurityError"); } });
        }"""
    )
    page = await context.new_page()
    await page.goto(f"{guarded_url}/{path}#token={TOKEN}")
    await page.wait_for_selector(is_up, state="attached")
    await context.close()


async def test_what_the_console_shares_only_shows_the_stage(open_console: Any, guarded_url: str, browser: Any) -> None:
    console = await open_console(f"{guarded_url}/#token={TOKEN}")
    await console.send("scene 5")
    await console.newest_is("on_air")
    await console.page.click("#share")
    await console.until("() => document.querySelector('.snippet')?.textContent.includes('#token=ek_')")
    link = await console.text(".snippet")
    assert TOKEN not in await console.page.inner_text("#sheet")
    assert "for 30 days" in await console.text(".snippet-note")
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(link)
    await page.wait_for_selector("#picture[data-shown=true]", state="attached")
    refused = await page.evaluate(
        "async (token) => (await fetch('/metrics', { headers: { Authorization: `Bearer ${token}` } })).status",
        link.partition("#token=")[2],
    )
    assert refused == 403
    await console.page.keyboard.press("Escape")
    await console.page.click("#share")
    await console.until("() => document.querySelector('.snippet')?.textContent.includes('#token=ek_')")
    assert await console.text(".snippet") == link, "a sheet that opens again makes no second link"
    await console.page.click(".links summary")
    await console.page.click(".links button")
    await console.until(f"() => !document.querySelector('.snippet').textContent.includes({link!r})")
    assert "#token=ek_" in await console.text(".snippet")
    await page.goto("about:blank")
    async with page.expect_console_message(lambda message: "unauthorized" in message.text):
        await page.goto(link)
    await context.close()


async def test_a_console_that_was_opened_with_a_secret_gives_away_none(open_console: Any, guarded_url: str) -> None:
    """Its own secret drives the stage, and a link must only show it."""
    secret = client_secrets.make(TOKEN, ["prompt"], now=time.time(), lives_s=600)
    console = await open_console(f"{guarded_url}/#token={secret}")
    await console.page.click("#share")
    await console.until("() => document.querySelector('.snippet-note')?.textContent.includes('makes no links')")
    assert "ek_" not in await console.page.inner_text("#sheet")


async def test_when_the_server_is_gone_nothing_is_claimed_to_be_on_air(open_console: Any) -> None:
    async with served(["--engine", "synthetic"]) as server:
        console = await open_console(server.url)
        await console.send("scene 5")
        await console.newest_is("on_air")
    await console.until("() => document.querySelector('#connection').dataset.state === 'reconnecting'")
    await console.send("scene 9")
    await console.until("() => document.querySelector('#toasts').innerText.includes('nothing was sent')")
    assert await console.page.input_value("#prompt-text") == "scene 9", "what could not be sent is not lost"
    await console.until("() => document.querySelector('#tally').innerText === 'No signal'")


async def test_a_prompt_without_an_end_is_asked_for_again_after_the_server_was_killed(open_console: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        arguments = ["--engine", "synthetic", "--port", str(probe.getsockname()[1])]
    async with served(arguments) as server:
        console = await open_console(server.url)
        await console.choose("take", "manual")
        await console.send("scene 7")
        await console.newest_is("ready")
        os.kill(server.pid, signal.SIGKILL)
    await console.until("() => document.querySelector('#connection').dataset.state === 'reconnecting'")
    async with served(arguments):
        await console.is_live()
        await console.newest_is("ready")
        await console.page.click("#take")
        await console.shows_number(7)
        assert await console.states() == ["on_air"]


async def test_the_console_tells_what_its_key_has_spent_today(open_console: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / FILE_NAME)
    store.open()
    shops, unlimited = (
        store.ask_now(partial(keys.make_key, name=name, scopes=("view", "prompt"), now=0.0, limits=limits))
        for name, limits in (("shop", Limits(engine_s=0.15)), ("guest", Limits()))
    )
    async with synthetic_server(token=TOKEN, store=store) as url:
        console = await open_console(f"{url}/#token={shops.text}")
        await console.until("() => document.querySelector('#stats').innerText.includes('0 s of 0.15 s')")
        await console.send("scene 5")
        await console.newest_is("on_air")
        await console.send("scene 6")
        await console.until("() => document.querySelector('#toasts').innerText.includes('budget of engine time')")
        await console.shows_number(5)
        console = await open_console(f"{url}/#token={unlimited.text}")
        await console.until("() => /Engine today\\s+0 s/.test(document.querySelector('#stats').innerText)")
        console = await open_console(f"{url}/#token={TOKEN}")
        assert "Engine today" not in await console.text("#stats")


async def test_a_console_whose_time_was_up_starts_no_other_stage(browser: Any, guarded_url: str) -> None:
    secret = client_secrets.make(TOKEN, ["prompt"], now=time.time(), lives_s=600, limits=Limits(session_s=0.5))
    context = await browser.new_context(locale="en-US")
    page = await context.new_page()
    closed: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: closed.extend(time_up_in(text))))
    await page.goto(f"{guarded_url}/#token={secret}")
    await page.wait_for_function("() => document.querySelector('#connection').dataset.state === 'refused'")
    assert closed == ["time_up"]
    assert await page.is_visible("#retry")
    await context.close()


def time_up_in(frame: str | bytes) -> list[str]:
    return ["time_up"] if isinstance(frame, str) and '"reason":"time_up"' in frame else []

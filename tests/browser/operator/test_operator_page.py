"""The operator's page in a real browser: it shows what is on air, makes and revokes keys, and tells who did what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from stages import PATIENCE_MS, PATIENCE_S, number_in, operator, picture, synthetic_server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-for-this-test-of-forty-characters"


@pytest_asyncio.fixture(loop_scope="session")
async def url() -> AsyncIterator[str]:
    async with synthetic_server(token=TOKEN) as url:
        yield url


@asynccontextmanager
async def opened(browser: Any, url: str, *, token: str = TOKEN, **context: Any) -> AsyncIterator[Any]:
    context = await browser.new_context(**({"locale": "en-US"} | context))
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    await page.goto(f"{url}/operator#token={token}")
    await page.wait_for_selector("body[data-ready]")
    yield page
    await context.close()
    assert faults == []


async def make_key(page: Any, name: str) -> str:
    await page.fill("#name", name)
    await page.click("#make button")
    await page.wait_for_selector("#made code")
    return str(await page.inner_text("#made code"))


async def test_it_shows_every_stage_with_its_picture(browser: Any, url: str) -> None:
    async with opened(browser, url) as page, operator(url, token=TOKEN, name="my-show") as stage:
        assert "No stage is open" in await page.inner_text("#stages")
        await stage.show("scene 5")
        card = page.locator("#stages li", has_text="my-show")
        await card.wait_for()
        assert "main" in await card.inner_text()
        async with asyncio.timeout(PATIENCE_S):
            while number_in(picture(await card.locator("canvas").screenshot())) != 5:
                pass
        await stage.say("session.close")
        await card.wait_for(state="detached")


async def test_a_key_made_here_opens_the_server_until_it_is_revoked_here(browser: Any, url: str) -> None:
    async with opened(browser, url) as page, aiohttp.ClientSession(url) as http:
        key = await make_key(page, "Flower shop")
        bearer = {"Authorization": f"Bearer {key}"}
        async with http.get("/v1/sessions", headers=bearer) as answer:
            assert answer.status == 200
        async with http.get("/v1/keys", headers=bearer) as answer:
            assert answer.status == 403
        row = page.locator("#keys tr", has_text="Flower shop")
        await row.locator("button").click()
        async with http.get("/v1/sessions", headers=bearer) as answer:
            assert answer.status == 200  # the first click only asks
        await row.locator("button").click()
        await row.wait_for(state="detached")
        async with http.get("/v1/sessions", headers=bearer) as answer:
            assert answer.status == 401
        audit = page.locator("#audit tr", has_text="DELETE /v1/keys/{key_id} Flower shop")
        await audit.wait_for()
        assert "main" in await audit.inner_text()
        assert key not in await page.content() or await page.is_visible("#made")


async def test_a_key_with_a_budget_shows_what_it_has_spent(browser: Any, url: str) -> None:
    async with opened(browser, url) as page:
        await page.fill("#budget", "600")
        key = await make_key(page, "School")
        async with operator(url, token=key) as stage:
            await stage.show("scene 5")
        await page.reload()
        row = page.locator("#keys tr", has_text="School")
        await row.wait_for()
        assert "of 600 s" in await row.inner_text()


async def test_a_name_that_is_taken_is_told_and_nothing_is_lost(browser: Any, url: str) -> None:
    async with opened(browser, url) as page:
        await make_key(page, "shop")
        await page.fill("#name", "shop")
        await page.click("#make button")
        await page.wait_for_selector("#problem:not([hidden])")
        assert "there is a key `shop`" in await page.inner_text("#problem")
        assert await page.input_value("#name") == "shop"


async def test_refusals_alone_can_be_looked_at(browser: Any, url: str) -> None:
    async with (
        aiohttp.ClientSession(url) as http,
        http.get("/metrics", headers={"Authorization": "Bearer x"}) as answer,
    ):
        assert answer.status == 401
    async with opened(browser, url) as page:
        await make_key(page, "shop")
        await page.check("#refused")
        await page.wait_for_function("() => !document.querySelector('#audit').innerText.includes('POST /v1/keys')")
        assert "unauthorized" in await page.inner_text("#audit")


@pytest.mark.parametrize(("token", "told"), [("wrong", "asks for its token"), ("key", "lacks the scope")])
async def test_who_is_no_operator_is_told_so(browser: Any, url: str, token: str, told: str) -> None:
    if token == "key":
        async with opened(browser, url) as page:
            token = await make_key(page, "shop")
    async with opened(browser, url, token=token) as page:
        assert told in await page.inner_text("#problem")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_nothing_is_wider_than_a_phone(browser: Any, url: str, locale: str) -> None:
    viewport = {"width": 360, "height": 740}
    async with opened(browser, url, viewport=viewport, locale=locale, has_touch=True) as page:
        await make_key(page, "A customer with quite a long name")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360

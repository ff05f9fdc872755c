"""The education bot's page in a real Chromium: a child asks, and sees the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from examples.education_bot.app import Bot
from sceneshift.address import Address

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def bot_url(synthetic_url: str) -> AsyncIterator[str]:
    runner = web.AppRunner(Bot(Address(synthetic_url)).application(), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, bot_url: str, request: Any) -> AsyncIterator[Page]:
    context = await browser.new_context(
        **{"viewport": {"width": 1100, "height": 700}, "locale": "en-US"} | request.param
    )
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(bot_url)
    yield page
    await context.close()
    assert errors == []


@pytest.mark.parametrize("page", [{}], indirect=True)
async def test_a_question_by_keyboard_is_answered_in_words_and_in_the_picture(page: Page) -> None:
    await page.wait_for_selector("#connection[data-state=live]")
    await page.keyboard.press("Tab")  # to the link that skips
    await page.keyboard.press("Enter")
    await page.keyboard.type("How does a volcano erupt?")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#log .bot")
    assert await page.inner_text("#log .child") == "How does a volcano erupt?"
    assert "lava" in await page.inner_text("#log .bot")
    assert (await page.inner_text("#caption")).startswith("Deep under a volcano")
    await page.wait_for_selector("#monitor[data-on-air=clip][data-video=playing]")
    await page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
    await page.wait_for_function("() => document.querySelector('#progress').textContent.includes('volcano')")
    assert await page.is_visible(".ai-label") and not await page.is_visible("#hint")


@pytest.mark.parametrize("page", [{"locale": "zh-CN", "viewport": {"width": 390, "height": 800}}], indirect=True)
async def test_a_phone_in_chinese(page: Page) -> None:
    await page.wait_for_selector("#connection[data-state=live]")
    await page.click("#suggestions button:has-text('火箭')")
    await page.wait_for_selector("#log .bot:has-text('热气')")
    await page.wait_for_selector("#monitor[data-on-air=clip]")
    assert await page.inner_text(".ai-label") == "AI 生成画面"
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing to the side"
    unnamed = await page.evaluate(
        """[...document.querySelectorAll("button, input")]
             .filter((each) => !(each.textContent.trim() || each.labels?.length || each.ariaLabel)).length"""
    )
    assert unnamed == 0
    await page.click("#language")
    assert await page.inner_text("h1") == "Ask and see"

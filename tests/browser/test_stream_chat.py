"""The moderation page of the stream chat in a real Chromium: a wish waits, is approved by keyboard, is on air."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from examples.stream_chat.hook import Hook
from examples.stream_chat.show import Rules, Show
from examples.stream_chat.stage import ChatStage
from sceneshift import connect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SECRET = "a-secret-of-this-test"


async def test_a_moderator_approves_a_wish_by_keyboard(browser: Any, synthetic_url: str) -> None:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(connect(synthetic_url))
        stage = ChatStage(Show(Rules(needs_approval=True, user_cooldown_s=0, cooldown_s=0)), session)
        hook = Hook(SECRET, hear=stage.hear, moderate=stage.moderate, state=stage.state)
        stage.on_change = hook.changed
        runner = web.AppRunner(hook.application(), shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        running = asyncio.create_task(stage.run())
        stack.callback(running.cancel)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        context = await browser.new_context(locale="en-US")
        stack.push_async_callback(context.close)
        page = await context.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))

        await page.goto(f"{url}/#secret={SECRET}")
        await page.wait_for_selector("#asked-empty", state="visible")
        wish = {"user": "ana", "text": "!scene 7"}
        async with http.post(f"{url}/chat", json=wish, headers={"Authorization": f"Bearer {SECRET}"}) as answer:
            assert answer.status == 200
        await page.wait_for_selector("#asked li:has-text('@ana')")
        await page.focus("#asked button:has-text('Approve')")
        await page.keyboard.press("Enter")
        await page.wait_for_function(
            "() => document.querySelector('#on-stage').textContent.startsWith('On the stage: #1')"
        )
        assert await page.is_visible("#asked-empty")
        assert errors == []

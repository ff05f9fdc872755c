"""The page of clips in a real browser: orders, true progress, a grid that plays, and a clip on a stage."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest
import pytest_asyncio
from stages import PATIENCE_MS, PATIENCE_S, number_in, operator, picture, synthetic_server
from test_pages import _FAULTS, AXE

from engine.synthetic import Script, SyntheticEngine
from server import app as server_app
from server.config import Settings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
_PLAYS = """() => { const video = document.querySelector("#grid [data-playing] video");
  return video !== null && !video.paused && video.currentTime > 0; }"""


@pytest_asyncio.fixture(loop_scope="session")
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with synthetic_server(token=TOKEN, clips_folder=str(tmp_path)) as url:
        yield url


@asynccontextmanager
async def opened(browser: Any, url: str, *, token: str = TOKEN, **context: Any) -> AsyncIterator[Any]:
    """The page; nothing in it may have failed, nor have been against its policy."""
    context = await browser.new_context(**({"locale": "en-US"} | context))
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: "Content Security Policy" in line.text and faults.append(line.text))
    await page.goto(f"{url}/clips#token={token}")
    await page.wait_for_selector("body[data-ready]")
    yield page
    await context.close()
    assert faults == []


async def order(url: str, *prompts: str, **fields: Any) -> list[str]:
    """Finished clips, by another program of the same key: their ids."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    ids = []
    async with aiohttp.ClientSession(url, headers=headers) as http, asyncio.timeout(PATIENCE_S):
        for prompt in prompts:
            body = {"prompt": prompt, "seconds": 0.5, "seed": 7} | fields
            while True:  # the engine may still load
                async with http.post("/v1/videos", json=body) as answer:
                    video = await answer.json()
                if "id" in video:
                    break
            ids.append(video["id"])
        for video_id in ids:
            status = ""
            while status != "completed":
                async with http.get(f"/v1/videos/{video_id}") as answer:
                    status = (await answer.json())["status"]
    return ids


def card(page: Any, text: str) -> Any:
    return page.locator(".clip", has_text=text)


async def test_an_example_becomes_a_clip_that_plays_where_the_mouse_points(browser: Any, url: str) -> None:
    async with opened(browser, url) as page:
        await page.click(".empty-examples button >> nth=1")
        assert await page.input_value("#prompt") == "a red sailboat on the sea at dawn"
        await page.select_option("#seconds", "2")
        await page.fill("#seed", "5")
        await page.keyboard.press("Tab")
        await page.click("#make")
        made = card(page, "a red sailboat")
        await made.locator("progress").wait_for()
        assert await page.input_value("#prompt") == ""
        await made.locator("img").wait_for()
        assert "2 s" in await made.inner_text() and "seed 5" in await made.inner_text()
        await made.locator(".clip-media").hover()
        await page.wait_for_function(_PLAYS)
        await page.mouse.move(0, 0)
        await made.locator("video").wait_for(state="detached")
        assert "Finished" in await page.inner_text("#told")


async def test_progress_and_the_place_in_the_queue_are_the_servers(browser: Any, tmp_path: Path) -> None:
    engine = SyntheticEngine(Script(step_s=0.5))
    app = server_app.build(Settings(token=TOKEN, clips_folder=str(tmp_path)), engine)
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        async with opened(browser, f"http://127.0.0.1:{port}") as page:
            for number in range(4):
                await page.fill("#prompt", f"scene {number}")
                await page.keyboard.press("Enter")
                await card(page, f"scene {number}").wait_for()
            assert "Next in the queue" in await card(page, "scene 2").inner_text()
            assert "clips before it: 1" in await card(page, "scene 3").inner_text()
            bar = card(page, "scene 0").locator("progress")
            await page.wait_for_function("(bar) => bar.value > 0 && bar.value < 100", arg=await bar.element_handle())
            assert "Being made" in await card(page, "scene 0").inner_text()


async def test_a_clip_plays_at_the_focus_and_at_a_tap(browser: Any, url: str) -> None:
    await order(url, "scene 5")
    async with opened(browser, url) as page:
        await page.focus("#search")
        await page.keyboard.press("Tab")
        await page.wait_for_function(_PLAYS)
        await page.keyboard.press("Enter")  # stops it, for those whom it disturbs
        await page.wait_for_selector("#grid video", state="detached")
    async with opened(browser, url, **PHONE) as page:
        await page.tap(".clip-media")
        await page.wait_for_function(_PLAYS)
        await page.tap(".clip-media")
        await page.wait_for_selector("#grid video", state="detached")


async def test_nothing_plays_by_itself_for_those_who_want_it_calm(browser: Any, url: str) -> None:
    await order(url, "scene 5")
    async with opened(browser, url, reduced_motion="reduce") as page:
        await page.hover(".clip-media")
        assert await page.locator("#grid video").count() == 0
        await page.click(".clip-media")
        await page.wait_for_function(_PLAYS)


async def test_older_clips_come_while_scrolling_and_the_search_looks_at_all_of_them(browser: Any, url: str) -> None:
    await order(url, "the first of all", *(f"scene {number}" for number in range(40)))
    async with opened(browser, url, viewport={"width": 900, "height": 700}) as page:
        assert await page.locator(".clip").count() < 41
        assert await page.locator(".clip", has_text="the first of all").count() == 0
        await page.fill("#search", "FIRST of")
        await page.wait_for_function("() => document.querySelectorAll('.clip').length === 1")
        assert "the first of all" in await page.inner_text("#grid")
        await page.fill("#search", "a dragon")
        await page.wait_for_selector("#empty:has-text('No clip has these words')")
        await page.fill("#search", "")
        await page.wait_for_function("() => document.querySelectorAll('.clip').length > 1")
        async with asyncio.timeout(PATIENCE_S):
            while await page.locator(".clip").count() < 41:
                await page.mouse.wheel(0, 2000)
        assert not await page.is_visible("#more")
        texts = await page.eval_on_selector_all(".clip-words", "(words) => words.map((one) => one.textContent)")
        assert texts == [*(f"scene {number}" for number in reversed(range(40))), "the first of all"]


async def test_a_second_press_deletes(browser: Any, url: str) -> None:
    await order(url, "scene 5", "scene 6")
    async with opened(browser, url) as page:
        remove = card(page, "scene 5").locator(".icon-button").last
        await remove.click()
        assert "Press again to delete" in await card(page, "scene 5").inner_text()
        await page.focus("#search")  # second thoughts
        assert "Press again" not in await card(page, "scene 5").inner_text()
        await remove.click()
        await remove.click()
        await card(page, "scene 5").wait_for(state="detached")
        await page.reload()
        await card(page, "scene 6").wait_for()
        assert await card(page, "scene 5").count() == 0


async def test_a_clip_is_downloaded_under_its_words(browser: Any, url: str) -> None:
    await order(url, "日落时的海边")
    async with opened(browser, url, accept_downloads=True) as page:
        async with page.expect_download() as started:
            await card(page, "日落时的海边").get_by_label("Download").click()
        download = await started.value
        assert download.suggested_filename == "日落时的海边-7.mp4"
        with av.open(str(await download.path())) as container:
            assert container.streams.video[0].frames > 0
        assert TOKEN not in download.url


async def test_again_with_another_seed_and_with_other_words(browser: Any, url: str) -> None:
    await order(url, "scene 5", size="320x240")
    async with opened(browser, url) as page:
        await page.get_by_label("Again with another seed").click()
        await page.wait_for_function("() => document.querySelectorAll('.clip img').length === 2")
        facts = await page.eval_on_selector_all(".clip-facts", "(facts) => facts.map((one) => one.textContent)")
        assert all("320×240" in one and "0.5 s" in one for one in facts)
        assert "seed 7" in facts[1] and "seed 7 " not in facts[0]
        await page.get_by_label("The same with other words").last.click()
        await page.fill("#sheet textarea", "scene 8")
        await page.click("#sheet .primary")
        await card(page, "scene 8").locator("img").wait_for()
        assert "seed 7 " in await card(page, "scene 8").inner_text()
        assert await page.get_by_label("Four seconds longer").count() == 0  # this model cannot go on


async def test_a_clip_is_put_on_a_stage_of_this_key_and_its_console_knows_it(
    browser: Any, url: str, open_console: Any
) -> None:
    await order(url, "scene 5", seconds=2)
    console = await open_console(f"{url}/#token={TOKEN}")
    await console.choose("transition", "cut")
    async with opened(browser, url) as page:
        await card(page, "scene 5").get_by_label("Put on stage").click()
        await page.click("#sheet .stage-choices button")
        await page.wait_for_selector(".toast:has-text('gets the clip')")
    await console.until("() => document.querySelector('.history-row')?.dataset.state === 'on_air'")
    assert "scene 5" in await console.text(".history-row")
    assert console.errors == []


async def test_a_stage_shows_the_clip_that_the_page_gives_it(browser: Any, url: str) -> None:
    await order(url, "scene 5", seconds=2)
    async with opened(browser, url) as page, operator(url, token=TOKEN, name="my-show") as stage:
        await page.get_by_label("Put on stage").click()
        await page.click("#sheet button:has-text('my-show')")
        await stage.hear("prompt.applied")
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            async with asyncio.timeout(PATIENCE_S):
                number = None
                while number != 5:
                    async with http.get("/v1/sessions/my-show/snapshot.jpg") as answer:
                        number = number_in(picture(await answer.read()))


async def test_without_a_stage_the_page_says_where_to_open_one(browser: Any, url: str) -> None:
    await order(url, "scene 5")
    async with opened(browser, url) as page:
        await page.get_by_label("Put on stage").click()
        await page.wait_for_selector("#sheet a[href='/']")
        await page.keyboard.press("Escape")
        assert not await page.is_visible("#sheet")


@pytest.mark.parametrize(
    ("token", "settings", "told"),
    [
        ("wrong", {"clips_folder": "."}, "asks for its token"),
        (TOKEN, {}, "makes no clips on demand"),
    ],
)
async def test_a_page_that_cannot_work_says_why(
    browser: Any, tmp_path: Path, token: str, settings: dict[str, Any], told: str
) -> None:
    folder = {"clips_folder": str(tmp_path)} if settings else {}
    async with synthetic_server(token=TOKEN, **folder) as url, opened(browser, url, token=token) as page:
        assert told in await page.inner_text("#problem")


async def test_a_refused_order_is_told_in_plain_words_and_its_words_stay(browser: Any, tmp_path: Path) -> None:
    async with synthetic_server(token=TOKEN, clips_folder=str(tmp_path), max_clips_size=1) as url:
        await order(url, "scene 5")
        async with opened(browser, url) as page:
            await page.fill("#prompt", "scene 6")
            await page.click("#make")
            await page.wait_for_selector(".toast[data-kind=error]:has-text('Delete some first')")
            assert await page.input_value("#prompt") == "scene 6"


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_a_full_page_has_no_serious_fault_and_is_no_wider_than_a_phone(
    browser: Any, url: str, locale: str, theme: str
) -> None:
    if not AXE.is_file():
        assert os.environ.get("CI") != "true", "axe-core is not installed"
        pytest.skip("axe-core is not installed")
    await order(url, "scene 5", "a_word_that_is_far_too_long_for_any_line_of_a_phone_and_must_be_broken_somewhere" * 2)
    async with opened(browser, url, **PHONE, locale=locale, color_scheme=theme, bypass_csp=True) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await page.evaluate(AXE.read_text(encoding="utf-8"))
        assert await page.evaluate(_FAULTS) == []
        await page.locator(".clip .plain").first.click()
        await page.wait_for_selector("#sheet a")
        assert await page.evaluate(_FAULTS) == []

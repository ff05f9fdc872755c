"""Where our pages find the server's token, what they say without one, and that no address of a request holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from stages import PATIENCE_MS, operator, synthetic_server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-for-this-test-of-forty-characters"
ENGLISH, CHINESE = "en-US", "zh-CN"


@pytest_asyncio.fixture(loop_scope="session")
async def guarded_url(tmp_path: Path) -> AsyncIterator[str]:
    async with synthetic_server(token=TOKEN, recordings_folder=str(tmp_path)) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Any, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A browser of its own: what it stores is there for all its pages."""
    context = await browser.new_context(locale=getattr(request, "param", ENGLISH))
    context.set_default_timeout(PATIENCE_MS)
    yield context
    await context.close()


async def opened(context: Any, url: str) -> Any:
    page = await context.new_page()
    page.log = []
    page.on("console", lambda message: page.log.append(f"{message.type}: {message.text}"))
    await page.goto(url)
    return page


async def is_live(page: Any) -> None:
    await page.wait_for_selector("#connection[data-state=live]")


# --- without a token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "path", "note", "said"),
    [
        (ENGLISH, "/", "#sheet", "Open the link that the terminal printed, or that `sceneshift url` prints"),
        (CHINESE, "/", "#sheet", "请打开终端显示的链接"),
        (ENGLISH, "/studio?session=my-show", "#problems", "copy the studio's address from the console again"),
        (CHINESE, "/studio?session=my-show", "#problems", "请从控制台重新复制演播间地址"),
        (ENGLISH, "/operator", "#problem", "open the link that the terminal printed"),
        (CHINESE, "/operator", "#problem", "请先在此浏览器中打开终端显示的链接"),
        (ENGLISH, "/obs/my-show", "#note", "copy the address for OBS from the console again"),
        (CHINESE, "/obs/my-show", "#note", "请从控制台重新复制 OBS 地址"),
        (ENGLISH, "/widget?presets=sunset", "#note", "add #token= and a client secret to this address"),
        (CHINESE, "/widget?presets=sunset", "#note", "请在地址末尾加上 #token= 和客户端密钥"),
    ],
    indirect=["context"],
)
async def test_each_page_without_a_token_says_what_to_do(
    context: Any, path: str, note: str, said: str, guarded_url: str
) -> None:
    page = await opened(context, guarded_url + path)
    if path.startswith("/widget"):
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
    await page.wait_for_function(
        "([note, said]) => document.querySelector(note).checkVisibility() && "
        "document.querySelector(note).innerText.includes(said)",
        arg=[note, said],
    )


async def test_the_widget_tells_its_pages_developer_which_setting_is_missing(context: Any, guarded_url: str) -> None:
    page = await opened(context, f"{guarded_url}/widget?presets=sunset")
    async with page.expect_console_message(lambda message: message.text.startswith("live-scene:")) as told:
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
    message = await told.value
    assert message.type == "error"
    assert "`sceneshift url`" in message.text and 'attribute token="…"' in message.text


async def test_the_obs_page_says_nothing_while_the_program_shows_it(context: Any, guarded_url: str) -> None:
    page = await opened(context, f"{guarded_url}/obs/my-show")
    await page.wait_for_selector("#note:not(:empty)")
    active = "(active) => dispatchEvent(new CustomEvent('obsSourceActiveChanged', { detail: { active } }))"
    await page.evaluate(active, True)
    assert not await page.is_visible("#note")
    await page.evaluate(active, False)
    assert await page.is_visible("#note")


# --- where the token is found -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pasted", [TOKEN, f" http://127.0.0.1:8080/#token={TOKEN}\n"])
async def test_a_pasted_token_or_link_opens_the_console(context: Any, guarded_url: str, pasted: str) -> None:
    page = await opened(context, guarded_url)
    await page.fill("#sheet input[name=token]", pasted)
    await page.press("#sheet input[name=token]", "Enter")
    await is_live(page)
    assert not await page.is_visible("#sheet")
    await page.reload()
    await is_live(page)


async def test_a_wrong_token_is_asked_for_again(context: Any, guarded_url: str) -> None:
    page = await opened(context, f"{guarded_url}/#token=the-token-of-another-server")
    for wrong in ("wrong", "wrong again"):
        await page.fill("#sheet input[name=token]", wrong)
        await page.press("#sheet input[name=token]", "Enter")
        await page.wait_for_selector("#sheet input[name=token]:placeholder-shown, #sheet input[name=token]:focus")
    await page.fill("#sheet input[name=token]", TOKEN)
    await page.press("#sheet input[name=token]", "Enter")
    await is_live(page)


async def test_another_tab_and_a_bookmark_find_the_token(context: Any, guarded_url: str) -> None:
    first = await opened(context, f"{guarded_url}/#token={TOKEN}")
    await is_live(first)
    second = await opened(context, guarded_url)
    await is_live(second)
    await first.close()
    await second.close()  # as if the browser had been closed: nothing of a tab is left
    await is_live(await opened(context, guarded_url))


async def test_pages_that_wait_for_a_token_take_the_one_of_another_tab(context: Any, guarded_url: str) -> None:
    async with operator(guarded_url, token=TOKEN, name="my-show"):
        console = await opened(context, guarded_url)
        await console.wait_for_selector("#sheet input[name=token]")
        studio = await opened(context, f"{guarded_url}/studio?session=my-show")
        await studio.wait_for_selector("#problems:not(:empty)")
        desk = await opened(context, f"{guarded_url}/operator")
        await desk.wait_for_selector("#problem:not([hidden])")
        await opened(context, f"{guarded_url}/#token={TOKEN}")
        await is_live(console)
        await desk.wait_for_selector("#stages li")
        await studio.wait_for_selector("#scene-state[data-state=playing]")


async def test_a_link_that_only_shows_a_stage_leaves_the_console_its_token(context: Any, guarded_url: str) -> None:
    await is_live(await opened(context, f"{guarded_url}/#token={TOKEN}"))
    async with operator(guarded_url, token=TOKEN, name="my-show"):
        secret = await context.request.post(
            f"{guarded_url}/v1/realtime/client_secrets",
            headers={"Authorization": f"Bearer {TOKEN}"},
            data={"scope": ["view"], "session": "my-show"},
        )
        link = f"{guarded_url}/studio?session=my-show#token={(await secret.json())['value']}"
        studio = await opened(context, link)
        await studio.wait_for_selector("#scene-state[data-state=playing]")
        await is_live(await opened(context, guarded_url))


async def test_pages_of_other_ports_cannot_read_the_token(context: Any, guarded_url: str) -> None:
    await is_live(await opened(context, f"{guarded_url}/#token={TOKEN}"))
    async with synthetic_server() as other_url:
        other = await opened(context, f"{other_url}/livez")
        assert (
            await other.evaluate("() => JSON.stringify({ ...localStorage, cookie: document.cookie })")
            == '{"cookie":""}'
        )


# --- addresses of requests --------------------------------------------------------------------------------------------


async def test_a_recording_is_fetched_with_a_secret_that_opens_it_once(context: Any, guarded_url: str) -> None:
    page = await opened(context, f"{guarded_url}/#token={TOKEN}")
    await is_live(page)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    await page.click("#record")
    await page.wait_for_function("() => document.querySelector('#record-text').textContent === '0:01'")
    await page.click("#record")
    await page.wait_for_selector("#record-link:not([hidden])")
    async with page.expect_download() as downloading:
        await page.click("#record-link")
    download = await downloading.value
    assert (await context.request.get(download.url)).status == 401, "a log that has the address opens nothing"
    assert Path(await download.path()).read_bytes()[4:8] == b"ftyp"
    assert download.suggested_filename.endswith(".mp4")
    assert not any(TOKEN in url for url in [*asked, download.url])

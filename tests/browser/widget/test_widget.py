"""The widget on pages that are not ours: served from another origin, with their own style sheets and scripts."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from stages import PATIENCE_MS, PATIENCE_S, number_in, operator, picture, until

from engine.synthetic import SyntheticEngine
from server import app as server_app
from server.clock import MonotonicClock
from server.config import Settings
from server.doors.connections import ConnectionBounds, Connections

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

EXAMPLE = Path(__file__).parents[3] / "examples" / "ad_widget"
BUDGET_BYTES = 20 * 1024
# In the page before its scripts: what the widget says, and, for tests that look inside, a shadow root that can be seen.
_LISTEN = """
window.heard = [];
for (const type of ["state-change", "scene-change", "prompt", "error"]) {
  addEventListener(type, (event) => event.detail && heard.push([type, event.detail]), true);
}
window.newest = (type) => heard.filter(([kind]) => kind === type).at(-1)?.[1];
"""
_OPEN_ROOTS = """
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function (init) { return attach.call(this, { ...init, mode: "open" }); };
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Somebody else's web site, and our server, which allows it."""

    url: str
    server_url: str
    registry: Any
    pages: dict[str, str]

    def program_of(self, session_id: str) -> Any:
        return self.registry.find(session_id, None).program

    @property
    def num_sessions(self) -> int:
        return len(self.registry._sessions)

    @property
    def num_viewers(self) -> int:
        return sum(session.program.num_viewers for session in self.registry._sessions.values())


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    pages: dict[str, str] = {}

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=pages[request.path], content_type="text/html")

    host = web.Application()
    host.router.add_get("/page", page)
    host[server_app.CONNECTIONS] = Connections(ConnectionBounds(), MonotonicClock())
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server_app.running(host, server_app.listen("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{port}"
        app = server_app.build(Settings(allowed_origins=(url,)), SyntheticEngine())
        own_port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
        yield Site(url, f"http://127.0.0.1:{own_port}", app[server_app.REGISTRY], pages)


OpenPage = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Any, site: Site) -> AsyncIterator[OpenPage]:
    """Opens a page of the other site, which has `body`, and the widget's script."""
    async with AsyncExitStack() as stack:

        async def open_page(body: str, *, is_open: bool = True, script: str = "", **options: Any) -> Any:
            context = await browser.new_context(
                **{"viewport": {"width": 416, "height": 400}, "locale": "en-US"} | options
            )
            stack.push_async_callback(context.close)
            await context.add_init_script(_LISTEN + (_OPEN_ROOTS if is_open else "") + script)
            page = await context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.sockets, page.responses, page.problems = [], [], []
            page.on("websocket", lambda socket: page.sockets.append(socket.url))
            responses = page.responses
            page.on("response", lambda response: responses.append(response))  # noqa: PLW0108  the library marks it
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            site.pages["/page"] = (
                f'<!doctype html><html lang="en"><body style="margin: 0">{body}'
                f'<script type="module" src="{site.server_url}/client/widget/live-scene.js"></script></body></html>'
            )
            await page.goto(f"{site.url}/page")
            await page.wait_for_function("() => customElements.get('live-scene')")
            return page

        yield open_page


async def state_is(page: Any, state: str) -> None:
    await page.wait_for_function("(state) => document.querySelector('live-scene').state === state", arg=state)


async def stage_number(page: Any) -> int | None:
    return number_in(picture(await page.locator(".stage video").screenshot()))


async def sees(page: Any, number: int) -> None:
    """A screenshot shows it, once the fades are over. The label covers no cell that is read."""
    async with asyncio.timeout(PATIENCE_S):
        while await stage_number(page) != number:
            pass


async def shows(page: Any, number: int) -> None:
    """The widget says that the scene is on, and so it is."""
    await page.wait_for_function("(text) => newest('scene-change')?.prompt === text", arg=f"scene {number}")
    await state_is(page, "live")
    await sees(page, number)


async def test_a_preset_starts_it_on_a_page_of_another_origin(open_page: OpenPage, site: Site) -> None:
    page = await open_page('<live-scene presets="scene 5 | scene 9"></live-scene>')
    assert page.sockets == [], "nothing runs before somebody asks"
    await page.click("text=scene 5")
    await shows(page, 5)
    assert [kind for kind, _ in await page.evaluate("heard") if kind != "state-change"] == ["prompt", "scene-change"]
    await page.fill("input", "scene 12")
    await page.press("input", "Enter")
    await shows(page, 12)
    assert await page.get_attribute(".preset >> nth=0", "aria-pressed") == "false"
    await page.click("[part=pause]")
    await state_is(page, "paused")
    await until(lambda: site.num_viewers == 0)
    assert await stage_number(page) == 12, "the last frame is held"
    await page.keyboard.press("Enter")  # the focus went to the button that starts it again
    await shows(page, 12)
    assert page.problems == []


async def test_it_runs_only_while_it_is_visible(open_page: OpenPage, site: Site) -> None:
    page = await open_page(
        "<style>live-scene { margin: 2000px 0 }</style>"  # far below what one sees
        '<live-scene autostart prompt="scene 7"></live-scene>'
    )
    assert await page.evaluate("() => document.querySelector('live-scene').state") == "connecting"
    assert page.sockets == [], "nobody has scrolled there"
    await page.evaluate("() => document.querySelector('live-scene').scrollIntoView({ block: 'center' })")
    await shows(page, 7)
    await page.evaluate("() => scrollTo(0, 0)")
    await state_is(page, "paused")
    await until(lambda: site.num_viewers == 0)
    await page.evaluate("() => document.querySelector('live-scene').scrollIntoView({ block: 'center' })")
    assert await stage_number(page) == 7, "the held frame first"
    await state_is(page, "live")
    assert len(page.sockets) == 1, "the same stage"


async def test_a_stage_that_nobody_watches_is_given_back_and_made_again(open_page: OpenPage, site: Site) -> None:
    page = await open_page('<live-scene autostart prompt="scene 7"></live-scene>')
    await shows(page, 7)
    num_sessions = site.num_sessions
    await page.evaluate(
        """() => {
          customElements.get("live-scene").keepStageMs = 0;
          heard.length = 0;
          document.querySelector("live-scene").pause();
        }"""
    )
    await until(lambda: site.num_sessions == num_sessions - 1)
    await page.evaluate("() => document.querySelector('live-scene').start()")
    await sees(page, 7)  # the held frame, which fades in
    await shows(page, 7)  # stated again: the new stage has made the scene again


HOSTILE = """<style>
  * { display: none !important; visibility: hidden !important; opacity: 0 !important; }
  html, body, live-scene { display: block !important; visibility: visible !important; opacity: 1 !important; }
  live-scene { font-size: 0 !important; color: transparent !important; overflow: hidden !important; line-height: 0;
    text-indent: -9999px; clip-path: inset(90% 0 0 0) !important; letter-spacing: 99px;
    -webkit-text-fill-color: transparent; }
  .label, live-scene .label, live-scene p { display: none !important; }
  live-scene::part(label), live-scene::part(stage), live-scene::part(picture) { display: none !important; }
  live-scene::part(poster), live-scene::part(start) { z-index: 999999; }
</style>"""


async def test_no_style_sheet_of_the_page_hides_the_label(open_page: OpenPage) -> None:
    async def label(style: str) -> bytes:
        page = await open_page(f"{style}<live-scene controls=none></live-scene>", is_open=False)
        assert await page.evaluate("() => document.querySelector('live-scene').shadowRoot") is None
        pixels = picture(await page.screenshot(clip={"x": 416 - 8 - 86, "y": 8, "width": 86, "height": 22}))
        assert pixels[..., :3].max() > 200, "white letters"
        assert pixels[2:5, 4:-4, :3].max() < 60, "on a dark plate"
        return bytes(pixels[3:-3, 6:-6].tobytes())

    assert await label(HOSTILE) == await label("")


async def test_it_watches_another_stage_and_hands_prompts_to_the_page(open_page: OpenPage, site: Site) -> None:
    async with operator(site.server_url) as one:
        await one.show("scene 3")
        page = await open_page(f'<live-scene session="{one.session_id}" presets="scene 5" autostart></live-scene>')
        await state_is(page, "live")
        await sees(page, 3)
        assert not await page.is_visible(".controls"), "only to watch"
        await page.evaluate("() => document.querySelector('live-scene').setAttribute('allow-prompts', '')")
        await page.click("text=scene 5")
        await page.wait_for_function("() => newest('prompt')?.text === 'scene 5'")
        await one.show("scene 5")  # as the page's bot would
        await sees(page, 5)
        assert site.program_of(one.session_id).num_viewers == 1


async def test_the_page_may_forbid_a_prompt_and_is_told_of_errors(open_page: OpenPage, site: Site) -> None:
    page = await open_page('<live-scene presets="scene 5"></live-scene>')
    await page.evaluate("() => addEventListener('prompt', (event) => event.preventDefault())")
    await page.click("text=scene 5")
    assert await page.evaluate("() => document.querySelector('live-scene').state") == "idle"
    await page.evaluate(
        """() => {
          const scene = document.querySelector("live-scene");
          scene.setAttribute("session", "no-such-show");
          scene.start();
        }"""
    )
    await page.wait_for_function("() => newest('error')?.code === 'unknown_session'")
    await page.wait_for_selector("text=Waiting for the show to begin")


async def test_the_queue_is_shown_and_a_failure_offers_a_retry(open_page: OpenPage) -> None:
    """Scripted: the test is the server on the socket, so that each state stays as long as the test looks at it."""
    fake = """
      window.WebSocket = class extends EventTarget {
        constructor() { super(); window.socket = this; setTimeout(() => this.dispatchEvent(new Event("open"))); }
        send(text) { const message = JSON.parse(text); sent.push(message); this.last = message; }
        close() {}
        say(message) { this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) })); }
      };
      window.sent = [];
    """
    page = await open_page('<live-scene presets="日落时的海边" lang="zh"></live-scene>', script=fake)

    async def said(kind: str, count: int = 1) -> Any:
        """What the widget has said for the `count`th time."""
        of_kind = "(sent.filter(({ type }) => type === kind))"
        await page.wait_for_function(f"([kind, count]) => {of_kind}.length === count", arg=[kind, count])
        return await page.evaluate(f"(kind) => {of_kind}.at(-1)", kind)

    async def say(kind: str, **fields: object) -> None:
        await page.evaluate("(message) => socket.say(message)", {"type": kind, **fields})

    await page.click("text=日落时的海边")
    event_id = (await said("session.start"))["event_id"]
    await say("session.queued", event_id=event_id, position=2, estimated_wait_ms=None)
    await page.wait_for_selector("text=排队中：第 2 位")
    assert await page.inner_text(".label") == "AI 生成"
    await say("session.created", event_id=event_id, session_id="s", resume_token="t", seq=0)
    prompt = await said("prompt.set")
    assert prompt["text"] == "日落时的海边"
    assert prompt["audience"] is True, "a visitor's wish comes after the operator's"
    await say("prompt.started", prompt_id=prompt["prompt_id"], num_steps=4, seq=1)
    await say("prompt.preview", prompt_id=prompt["prompt_id"], step_index=2, num_steps=4, seq=2)
    await page.wait_for_selector("text=正在生成场景")
    assert await page.eval_on_selector("progress", "(bar) => bar.value") == 0.75
    failed = {"code": "model_error", "type": "engine", "message": "no"}
    await say("prompt.failed", prompt_id=prompt["prompt_id"], error=failed, seq=3)
    await page.click("text=重试")
    await said("prompt.set", 2)


async def test_its_files_fit_the_budget(open_page: OpenPage, site: Site) -> None:
    page = await open_page('<live-scene autostart prompt="scene 5"></live-scene>')
    await shows(page, 5)
    loaded: dict[str, int] = {}
    for response in page.responses:
        if response.url.startswith(site.server_url):
            num_bytes = len(gzip.compress(await response.body(), 9))
            sizes = await response.request.sizes()
            assert abs(sizes["responseBodySize"] - num_bytes) < 64, "it comes as gzip"
            loaded[response.url.removeprefix(site.server_url)] = num_bytes
    assert "/client/widget/live-scene.js" in loaded
    print(f"{sum(loaded.values())} bytes in {len(loaded)} files")
    assert sum(loaded.values()) <= BUDGET_BYTES, loaded


async def test_the_iframe_form_works_for_allowed_pages_and_for_no_others(open_page: OpenPage, site: Site) -> None:
    page = await open_page(
        """<script>
          addEventListener("message", ({ data: { source, type, detail } }) => {
            if (source === "live-scene") heard.push([type, detail]);
          });
        </script>"""
        f'<iframe src="{site.server_url}/widget?presets=scene%205|scene%209&controls=presets" height="300"></iframe>'
    )
    await page.frame_locator("iframe").locator("text=scene 5").click()
    await page.wait_for_function("() => newest('scene-change')?.prompt === 'scene 5'")
    await page.wait_for_function("() => newest('state-change')?.state === 'live'")
    await page.goto(site.url.replace("127.0.0.1", "localhost") + "/page")  # an origin that nobody has allowed
    assert page.frames[1].url == "chrome-error://chromewebdata/"


_ADDRESS = "/widget?autostart&prompt=scene%205&controls=none"


async def test_an_allowed_page_may_start_the_iframe_form_without_a_click(open_page: OpenPage, site: Site) -> None:
    page = await open_page(f'<iframe src="{site.server_url}{_ADDRESS}" height="300"></iframe>')
    await until(lambda: site.num_viewers == 1)
    assert site.num_sessions == 1 and page.problems == []


async def test_a_link_to_the_iframe_form_starts_nothing_before_a_click(open_page: OpenPage, site: Site) -> None:
    page = await open_page(f'<a href="{site.server_url}{_ADDRESS}">a prize</a>')
    await page.click("text=a prize")
    await page.wait_for_function("() => customElements.get('live-scene')")
    assert await page.evaluate("() => document.querySelector('live-scene').state") == "idle"
    await page.wait_for_selector("[part=start]")
    assert (page.sockets, site.num_sessions) == ([], 0)
    await page.click("[part=start]")
    await shows(page, 5)


async def test_the_product_page_of_the_examples_works_as_it_stands(open_page: OpenPage, site: Site) -> None:
    page = await open_page("")
    html = (EXAMPLE / "index.html").read_text()
    assert "http://localhost:8080" in html
    site.pages["/page"] = html.replace("http://localhost:8080", site.server_url)
    await page.set_viewport_size({"width": 1000, "height": 900})
    await page.goto(f"{site.url}/page")
    presets = await page.locator(".preset").all_inner_texts()
    assert presets == ["a girl in a red dress dancing", "日落时的海边"]
    await page.click("text=日落时的海边")
    await page.wait_for_function("() => newest('scene-change')?.prompt === '日落时的海边'")
    assert page.problems == []
    assert re.search(r"<live-scene[^>]*>", html)

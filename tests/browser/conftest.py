"""A real Chromium on a real server: `console` opens the page and says what a person at it would say and see.

One Chromium for all tests of a process, a server and a context for each test.

Puts this folder on the path, so that tests can import `stages`.

Async Playwright on one event loop for the whole session, because a browser belongs to the loop that started it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from bench.parts.browser import NoBrowser, chromium, find_chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, WebSocketRoute

sys.path.insert(0, str(Path(__file__).parent))

from stages import PATIENCE_MS, synthetic_server

# Small, because every pixel is painted by the CPU here.
DESKTOP = {"width": 1024, "height": 640}

# In the page, before its own scripts: what tests look at besides the DOM.
_PROBE = """
window.peersMade = 0;
const Peer = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Peer {
  constructor(...args) { super(...args); window.peersMade += 1; }
};
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const pixels = (x, y, width, height) => {
  const video = document.querySelector("video");
  if (!video || !video.videoWidth) return null;
  Object.assign(canvas.canvas, { width: 208, height: 120 });
  canvas.drawImage(video, 0, 0, 208, 120);
  return canvas.getImageData(x, y, width, height).data;
};
const mean = (data, channel) => {
  let sum = 0;
  for (let i = channel; i < data.length; i += 4) sum += data[i];
  return sum / (data.length / 4);
};
window.programColour = () => {
  const data = pixels(0, 0, 208, 120);
  return data && [0, 1, 2].map((channel) => mean(data, channel));
};
// The prompt's number as the synthetic engine paints it: the first ten of 6 x 3 cells (see engine/synthetic.py).
window.programNumber = () => {
  if (!pixels(0, 0, 1, 1)) return null;
  let number = 0;
  for (let cell = 0; cell < 10; cell += 1) {
    const x = Math.round(((cell % 6) + 0.5) * 208 / 6), y = Math.round((Math.floor(cell / 6) + 0.5) * 30);
    const brightness = mean(canvas.getImageData(x - 2, y - 2, 4, 4).data, 1);
    number = number * 2 + (brightness > 125 ? 1 : 0);
  }
  return number;
};
"""


class Console:
    """The page, through the eyes and hands of a streamer."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.sockets: list[WebSocketRoute] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def open(self, url: str) -> None:
        """Loads the page and waits until the program is seen and the engine can work."""
        await self.page.route_web_socket("**/v1/realtime*", self._pass_on)
        await self.page.goto(url)
        await self.is_live()

    async def is_live(self) -> None:
        await self.until(
            """() => document.querySelector("#connection").dataset.state === "live"
                && document.querySelector("#engine").dataset.state === "ready"
                && document.querySelector("#monitor").dataset.video === "playing" """
        )

    async def cut(self) -> None:
        """The network drops the WebSocket."""
        await self.sockets[-1].close(code=3001, reason="cut by the test")

    async def write(self, text: str) -> None:
        await self.page.fill("#prompt-text", text)

    async def send(self, text: str) -> None:
        await self.write(text)
        await self.page.press("#prompt-text", "Enter")

    async def choose(self, option: str, value: str) -> None:
        """Sets an option and waits until the server has confirmed it, which it stores."""
        await self.page.check(f"input[name={option}][value={value}]", force=True)

    async def newest_is(self, state: str) -> None:
        await self.until("(state) => document.querySelector('.history-row')?.dataset.state === state", state)

    async def shows_number(self, number: int) -> None:
        await self.until("(number) => window.programNumber() === number", number)

    async def states(self) -> list[str]:
        """The states of all prompts, newest first."""
        states: list[str] = await self.page.eval_on_selector_all(
            ".history-row", "(rows) => rows.map((row) => row.dataset.state)"
        )
        return states

    async def until(self, expression: str, argument: Any = None) -> None:
        await self.page.wait_for_function(expression, arg=argument, timeout=PATIENCE_MS)

    async def text(self, selector: str) -> str:
        return (await self.page.inner_text(selector)).strip()

    def _pass_on(self, socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        self.sockets.append(socket)


OpenConsole = Callable[..., Awaitable[Console]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    try:
        find_chromium()
    except NoBrowser as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def synthetic_url(tmp_path: Path) -> AsyncIterator[str]:
    """A server for one test: stages of other tests would be seen and counted, and cost time."""
    async with synthetic_server(recordings_folder=str(tmp_path / "recordings")) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def open_console(browser: Browser, synthetic_url: str) -> AsyncIterator[OpenConsole]:
    """Opens the console in a context of its own; context options (viewport, locale) may be given."""
    async with AsyncExitStack() as stack:

        async def open_console(url: str = synthetic_url, **options: Any) -> Console:
            context = await browser.new_context(**{"viewport": DESKTOP, "locale": "en-US"} | options)
            stack.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(_PROBE)
            console = Console(await context.new_page())
            await console.open(url)
            return console

        yield open_console


@pytest_asyncio.fixture(loop_scope="session")
async def console(open_console: OpenConsole) -> AsyncIterator[Console]:
    """An English desktop console with hard cuts; at the end the page must not have logged an error."""
    console = await open_console()
    await console.choose("transition", "cut")
    yield console
    assert console.errors == []


class Bare(Console):
    """A page of the server's with nothing but a `<video>`, for modules of the SDK. `run` gives it their exports."""

    async def open(self, url: str) -> None:
        await self.page.goto(f"{url}/livez")
        await self.page.evaluate("() => { document.body.innerHTML = '<video muted playsinline></video>'; }")

    async def run(self, function: str, argument: Any = None) -> Any:
        """Calls an async function of the exports of both doors of the SDK and of an argument."""
        return await self.page.evaluate(
            f"""async (argument) => {{
              const doors = await Promise.all(["sceneshift", "watch"].map((one) => import(`/client/sdk/${{one}}.js`)));
              const sdk = Object.assign({{}}, ...doors);
              return ({function})({{ ...sdk, video: document.querySelector("video") }}, argument);
            }}""",
            argument,
        )


@pytest_asyncio.fixture(loop_scope="session")
async def open_bare(browser: Browser, synthetic_url: str) -> AsyncIterator[Callable[..., Awaitable[Bare]]]:
    """Opens a bare page in a context of its own, after a script; nobody may have left a rejection unhandled in it."""
    async with AsyncExitStack() as stack:
        pages: list[Bare] = []

        async def open_bare(url: str = synthetic_url, script: str = "") -> Bare:
            context = await browser.new_context(viewport=DESKTOP)
            stack.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(_PROBE)
            await context.add_init_script(script)
            pages.append(Bare(await context.new_page()))
            await pages[-1].open(url)
            return pages[-1]

        yield open_bare
        for bare in pages:
            # The browser notes each request that failed, which is what these tests are about.
            assert [error for error in bare.errors if not error.startswith(("WebSocket conn", "Failed to load"))] == []


@pytest_asyncio.fixture(loop_scope="session")
async def bare(open_bare: Callable[..., Awaitable[Bare]]) -> Bare:
    return await open_bare()

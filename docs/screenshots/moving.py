"""Makes the README's moving picture: `sceneshift serve`, then `python docs/screenshots/moving.py`.

Types two prompts into the console and takes pictures of the page meanwhile. Each is shown for as long as it was true:
the picture is as fast as the product was on the machine that made it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Page, ViewportSize

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from make import IS_LIVE, TIMEOUT_MS
from PIL import Image

from bench.parts.browser import NoBrowser, chromium
from sceneshift.address import Address

VIEWPORT: ViewportSize = {"width": 1180, "height": 560}
WIDTH = 760
QUALITY = 62
# Chromium on two cores that also make the clips takes about so many.
FRAMES_PER_S = 8
STAYS_S = 2.0
_IS_ON_AIR = """(text) => document.querySelector(".history-row")?.dataset.state === "on_air"
    && document.querySelector(".history-text").textContent === text"""


class Camera:
    """Takes pictures of a page until it is stopped, each with its time in seconds."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.taken: list[tuple[float, bytes]] = []

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            self.taken.append((began, await self._page.screenshot(type="jpeg", quality=92)))
            await asyncio.sleep(max(0.0, 1 / FRAMES_PER_S - (time.monotonic() - began)))

    def store(self, path: Path) -> None:
        times = [taken_at for taken_at, _ in self.taken]
        shown_ms = [*(round(1000 * (later - earlier)) for earlier, later in itertools.pairwise(times)), 1000]
        height = round(WIDTH * VIEWPORT["height"] / VIEWPORT["width"])
        frames = [
            Image.open(io.BytesIO(picture)).resize((WIDTH, height), Image.Resampling.LANCZOS)
            for _, picture in self.taken
        ]
        first, *others = frames
        first.save(
            path, "WEBP", save_all=True, append_images=others, duration=shown_ms, loop=0, quality=QUALITY, method=6
        )
        print(f"{path}: {len(frames)} frames, {path.stat().st_size:,} bytes")


async def _play(page: Page, texts: list[str]) -> None:
    for text in texts:
        await page.type("#prompt-text", text, delay=35)
        await page.press("#prompt-text", "Enter")
        await page.wait_for_function(_IS_ON_AIR, arg=text, timeout=TIMEOUT_MS)
        await asyncio.sleep(STAYS_S)


async def _make(url: str, texts: list[str], path: Path) -> None:
    async with chromium() as browser:
        context = await browser.new_context(viewport=VIEWPORT, locale="en-US", color_scheme="dark")
        page = await context.new_page()
        await page.goto(url)
        await page.wait_for_function(IS_LIVE, timeout=TIMEOUT_MS)
        # What was on air before the picture begins.
        await _play(page, ["beach at sunset"])
        camera = Camera(page)
        filming = asyncio.create_task(camera.run())
        await _play(page, texts)
        filming.cancel()
        await asyncio.gather(filming, return_exceptions=True)
        camera.store(path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the README's moving picture.")
    parser.add_argument("--url", help="as the server printed it (default: your server on this machine)")
    parser.add_argument("--path", type=Path, default=Path(__file__).parent / "moving.webp")
    parser.add_argument("texts", nargs="*", default=["how does a volcano erupt?", "a red sailboat on the sea at dawn"])
    options = parser.parse_args()
    try:
        address = Address.of(options.url, None, os.environ)
        asyncio.run(_make(f"{address.base}/{address.fragment}", options.texts, options.path))
    except NoBrowser as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

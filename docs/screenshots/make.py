"""Makes the README's screenshots from a running server: `sceneshift serve`, then `python docs/screenshots/make.py`.

Drives the page as a person would and takes each picture at the moment that it is about; nothing is retouched.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, ViewportSize

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from stored_picture import store

from bench.parts.browser import NoBrowser, chromium
from sceneshift.address import Address

FOLDER = Path(__file__).parent
TIMEOUT_MS = 60_000
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}

IS_LIVE = """() => document.querySelector("#engine").dataset.state === "ready"
    && document.querySelector("#monitor").dataset.video === "playing" """
_IS_MEASURED = """(text) => document.querySelector(".history-row")?.dataset.state === "on_air"
    && document.querySelector(".history-text").textContent === text
    && document.querySelector(".where-legend") !== null"""
_HAS_PREVIEWS = "(count) => document.querySelectorAll('#steps img:not([hidden])').length === count"
# The picture of a clip that has just been taken is still half the one before.
_NUM_FRAMES_AFTER_TAKE = 30
_FRAMES_PASS = """(count) => new Promise((resolve) => {
  const video = document.querySelector("video");
  const next = () => (count-- > 0 ? video.requestVideoFrameCallback(next) : resolve());
  next();
})"""


@dataclass(frozen=True, slots=True)
class Shot:
    name: str
    viewport: ViewportSize
    locale: str
    scale: float
    play: Callable[[Page], Awaitable[None]]
    theme: Literal["dark", "light"] = "dark"


# A rundown as a streamer would have it before the show: what, for how long, and a word to oneself.
_RUNDOWN = {
    "en": [
        ("beach at sunset", "opening music", 45),
        ("a red sailboat on the sea at dawn", "", None),
        ("how does a volcano erupt?", "question of the day", 60),
        ("snowy mountains at night", "guest comes in", None),
        ("a rocket in space", "", None),
    ],
    "zh": [
        ("海边日落", "开场音乐", 45),
        ("黎明海上的红色帆船", "", None),
        ("火山是怎么喷发的？", "今日问题", 60),
        ("夜晚的雪山", "嘉宾上场", None),
    ],
}


async def _has_a_rundown(page: Page, language: str) -> None:
    items = [{"text": text, "note": note, "hold_s": hold_s} for text, note, hold_s in _RUNDOWN[language]]
    file = json.dumps({"sceneshift_rundown": 1, "items": items}).encode()
    await page.set_input_files(
        "#rundown-file", {"name": "rundown.json", "mimeType": "application/json", "buffer": file}
    )
    await page.wait_for_selector(f".rundown-row:nth-child({len(items)})")
    await page.click(".toast:has(.plain) .toast-close")


async def _shows_one_scene_after_another(page: Page) -> None:
    await _has_a_rundown(page, "en")
    for text in ("snowy mountains at night", "a yellow fish under water", "beach at sunset"):
        await _fire(page, text)
        await page.wait_for_function(_IS_MEASURED, arg=text, timeout=TIMEOUT_MS)
    await page.evaluate(_FRAMES_PASS, _NUM_FRAMES_AFTER_TAKE)


async def _is_in_the_making(page: Page) -> None:
    await _has_a_rundown(page, "en")
    await page.check("#options input[name=on_preview][value=controller]", force=True)
    await _fire(page, "a red sailboat on the sea at dawn")
    await page.wait_for_function(_IS_MEASURED, arg="a red sailboat on the sea at dawn", timeout=TIMEOUT_MS)
    await page.evaluate(_FRAMES_PASS, _NUM_FRAMES_AFTER_TAKE)
    await _fire(page, "how does a volcano erupt?")
    await page.wait_for_function("() => document.querySelector('#next').dataset.state === 'started'")
    await page.wait_for_function(_HAS_PREVIEWS, arg=2, timeout=TIMEOUT_MS)


async def _shows_chinese(page: Page) -> None:
    await _has_a_rundown(page, "zh")
    for text in ("黎明海上的红色帆船", "夜晚的雪山"):
        await _fire(page, text)
        await page.wait_for_function(_IS_MEASURED, arg=text, timeout=TIMEOUT_MS)
    await page.evaluate(_FRAMES_PASS, _NUM_FRAMES_AFTER_TAKE)


SHOTS = (
    Shot("console", DESKTOP, "en-US", 1.5, _shows_one_scene_after_another),
    Shot("console-light", DESKTOP, "en-US", 1.5, _shows_one_scene_after_another, theme="light"),
    Shot("making", DESKTOP, "en-US", 1.5, _is_in_the_making),
    Shot("console-zh", DESKTOP, "zh-CN", 1.5, _shows_chinese),
    Shot("phone", PHONE, "en-US", 2, _shows_one_scene_after_another),
)


async def _fire(page: Page, text: str) -> None:
    await page.fill("#prompt-text", text)
    await page.press("#prompt-text", "Enter")


async def _take(browser: Browser, url: str, shot: Shot, folder: Path) -> None:
    context = await browser.new_context(
        viewport=shot.viewport,
        locale=shot.locale,
        device_scale_factor=shot.scale,
        reduced_motion="reduce",
        color_scheme=shot.theme,
    )
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_function(IS_LIVE, timeout=TIMEOUT_MS)
    await shot.play(page)
    await page.evaluate("document.activeElement.blur()")
    store(await page.screenshot(), folder / f"{shot.name}.webp")
    await context.close()


async def _make(url: str, names: list[str], folder: Path) -> None:
    async with chromium() as browser:
        for shot in SHOTS:
            if not names or shot.name in names:
                await _take(browser, url, shot, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="as the server printed it (default: your server on this machine)")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(shot.name for shot in SHOTS)} (default: all)")
    options = parser.parse_args()
    try:
        address = Address.of(options.url, None, os.environ)
        asyncio.run(_make(f"{address.base}/{address.fragment}", options.names, options.folder))
    except NoBrowser as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

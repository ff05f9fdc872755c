"""The real browser of measurements and tests: the system's Chromium, headless, driven through Playwright."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Playwright runs each browser in a fresh profile of its own. QUIC and the background services need networks that a test
# does not have. Without a display, a GPU is useless.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a camera of the browser's own; a page still needs the permission
)


class NoBrowser(Exception):
    """No Chromium, or no Playwright to drive it; the message says what to install."""


def find_chromium() -> str:
    """The path of the system's Chromium. Raises `NoBrowser`."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise NoBrowser(f"found none of {', '.join(_NAMES)} in PATH: install the system's chromium package")
    return path


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """A headless Chromium, with `flags` besides our own, while the block runs. Raises `NoBrowser`."""
    executable = find_chromium()
    try:
        from playwright.async_api import async_playwright  # noqa: PLC0415
    except ImportError:
        raise NoBrowser("Playwright is not installed: pip install 'sceneshift[test]'") from None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, headless=True, args=[*_FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()

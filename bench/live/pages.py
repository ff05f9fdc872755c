"""Each page in a real browser, measured with the browser's own tools: first paint, layout shift, bytes of script.

The server runs the synthetic engine on loopback. A page is a name, a path and a selector that shows that the page is
up. Times of a loaded machine say little; bytes and shifts are the same everywhere. `--against CHECKOUT` compares what
the pages of two checkouts look like, pixel by pixel.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from bench.parts.browser import NoBrowser, chromium
from bench.parts.busy import add_flag, beside_busy
from bench.parts.machine import machine_facts
from bench.parts.served import served

if TYPE_CHECKING:
    from playwright.async_api import Browser, ViewportSize

TIMEOUT_MS = 30_000
DESKTOP: ViewportSize = {"width": 1440, "height": 900}

# Buffered: the observer also gets earlier entries.
_MEASURE = """() => new Promise((resolve) => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const scripts = performance.getEntriesByType("resource").filter((one) => new URL(one.name).pathname.endsWith(".js"));
  let shift = 0;
  const moved = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.hadRecentInput) continue;
      shift += entry.value;
      moved.push(...entry.sources.map((source) => source.node?.id || source.node?.className || String(source.node)));
    }
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve({
    first_paint_ms: paint?.startTime ?? null,
    layout_shift: shift,
    moved,
    script_bytes: scripts.reduce((sum, one) => sum + one.decodedBodySize, 0),
    num_scripts: scripts.length,
  }));
})"""


PHONE: ViewportSize = {"width": 390, "height": 844}
# What differs from one second to the next, and a name that each browser makes up.
_UNSTEADY = "#stats, #plot, #hint, video, .standby { visibility: hidden !important; }"
_SAME_NAME = "localStorage.setItem('sceneshift.stage', 'calm-river-42')"
# Of 255: less is the smoothing of a letter's edge.
_SEEN = 16


@dataclass(frozen=True, slots=True)
class Page:
    name: str
    path: str
    is_up: str  # a CSS selector
    paints: bool = True  # without a session's picture; the page for OBS is transparent until it has one


# Every page that people see. Add a new page here: the tests check each of them.
PAGES = (
    Page("console", "/", "#monitor[data-video=playing]"),
    Page("obs", "/obs/nobody", "#picture[data-shown=false]", paints=False),
    Page("widget", "/widget?presets=a+girl+in+a+red+dress+dancing|日落时的海边", "live-scene"),
    Page("studio", "/studio", "#scene-state:not(:empty)"),
    Page("operator", "/operator", "body[data-ready]"),
    Page("clips", "/clips", "body[data-ready]"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    first_paint_ms: float | None
    layout_shift: float
    moved: list[str]  # ids or classes of the elements that moved
    script_bytes: int
    num_scripts: int


async def measure(browser: Browser, url: str, page: Page, *, viewport: ViewportSize = DESKTOP) -> Measured:
    """Opens the page in a fresh context, waits until it is up, and reads what the browser noted."""
    context = await browser.new_context(viewport=viewport, locale="en-US")
    try:
        tab = await context.new_page()
        await tab.goto(url + page.path)
        await tab.wait_for_selector(page.is_up, timeout=TIMEOUT_MS, state="attached")
        if page.paints:
            await tab.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
        return Measured(**await tab.evaluate(_MEASURE))
    finally:
        await context.close()


async def _run(rounds: int) -> dict[str, Any]:
    async with served(["--engine", "synthetic", "--max-sessions", "20"]) as server, chromium() as browser:
        results = {}
        for page in PAGES:
            seen = [await measure(browser, server.url, page) for _ in range(rounds)]
            paints = [one.first_paint_ms for one in seen if one.first_paint_ms is not None]
            results[page.name] = asdict(seen[-1]) | {
                "first_paint_ms": statistics.median(paints) if paints else None,
                "layout_shift": max(one.layout_shift for one in seen),
            }
        return {"machine": machine_facts(), "rounds": rounds, "pages": results}


async def look(browser: Browser, url: str, page: Page, *, viewport: ViewportSize, locale: str) -> Image.Image:
    """The page's picture when it is up, without what moves."""
    context = await browser.new_context(
        viewport=viewport, locale=locale, reduced_motion="reduce", color_scheme="dark", bypass_csp=True
    )
    try:
        tab = await context.new_page()
        await tab.add_init_script(_SAME_NAME)
        await tab.goto(url + page.path)
        await tab.wait_for_selector(page.is_up, timeout=TIMEOUT_MS, state="attached")
        await tab.add_style_tag(content=_UNSTEADY)
        await tab.mouse.move(0, 0)
        await tab.evaluate("document.fonts.ready")
        return Image.open(io.BytesIO(await tab.screenshot(animations="disabled"))).convert("RGB")
    finally:
        await context.close()


def share_that_differs(one: Image.Image, other: Image.Image) -> float:
    """Of the pixels of two pictures of one size, 0 to 1."""
    differs = ImageChops.difference(one, other).convert("L").point(lambda level: 255 * (level >= _SEEN))
    return differs.histogram()[255] / (one.width * one.height)


async def _compare(source: Path, folder: Path | None) -> dict[str, Any]:
    arguments = ["--engine", "synthetic", "--max-sessions", "40"]
    differing = {}
    async with served(arguments) as ours, served(arguments, source=source) as theirs, chromium() as browser:
        for page in PAGES:
            for where, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
                for locale in ("en-US", "zh-CN"):
                    name = f"{page.name}-{where}-{locale[:2]}"
                    pictures = [
                        await look(browser, server.url, page, viewport=viewport, locale=locale)
                        for server in (ours, theirs)
                    ]
                    differing[name] = round(share_that_differs(*pictures), 5)
                    for picture, whose in zip(pictures, ("ours", "theirs"), strict=True):
                        if folder is not None:
                            picture.save(folder / f"{name}-{whose}.png")
    return {"machine": machine_facts(), "share_of_pixels_that_differ": differing}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench pages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often to open each page (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--against", type=Path, help="compare the pictures of the pages with another checkout's")
    parser.add_argument("--pictures", type=Path, help="with --against: store the pictures in this folder")
    add_flag(parser)
    options = parser.parse_args(argv)
    try:
        if options.against is not None:
            print(json.dumps(asyncio.run(_compare(options.against.resolve(), options.pictures)), indent=2))
            return 0
        results = {"busy": options.busy} | asyncio.run(beside_busy(options.busy, _run(options.rounds)))
    except NoBrowser as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(results, indent=2))
        return 0
    for name, page in results["pages"].items():
        paint = "no paint" if page["first_paint_ms"] is None else f"{page['first_paint_ms']:.0f} ms to the first paint"
        print(
            f"{name:<10}{paint}, layout shift {page['layout_shift']:.4f}, "
            f"{page['script_bytes'] / 1000:.1f} kB of script in {page['num_scripts']} files"
        )
    return 0

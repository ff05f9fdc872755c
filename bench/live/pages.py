"""Each page in a real browser, measured with the browser's own tools: first paint, layout shift, bytes of script.

The server runs the synthetic engine on loopback. A page is a name, a path and a selector that shows that the page is
up. Times of a loaded machine say little; bytes and shifts are the same everywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

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


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench pages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often to open each page (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flag(parser)
    options = parser.parse_args(argv)
    try:
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

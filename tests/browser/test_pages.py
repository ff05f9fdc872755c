"""Every page that people see: no serious accessibility fault, nothing moves while it loads, and it stays light.

A new page is registered in `bench/live/pages.py`. Times are printed by `sceneshift bench pages`, not asserted.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bench.live.pages import PAGES, Page, measure
from server.doors.pages import CLIENT_FOLDER

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
MAX_SCRIPT_BYTES = 150_000
_FAULTS = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).join(", ")}`);
}"""
_PAINTS_WITHIN_HALF_A_SECOND = """() => new Promise((resolve) => {
  new PerformanceObserver(() => resolve(true)).observe({ type: "paint", buffered: true });
  setTimeout(() => resolve(false), 500);
})"""


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.is_file():
        missing = "axe-core is not installed: npm install --no-package-lock --prefix tests/browser"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return AXE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("theme", "locale"), [("dark", "en-US"), ("light", "en-US"), ("dark", "zh-CN")])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_axe_finds_no_serious_fault(
    browser: Any, synthetic_url: str, axe: str, page: Page, theme: str, locale: str
) -> None:
    context = await browser.new_context(color_scheme=theme, locale=locale, reduced_motion="reduce")
    tab = await context.new_page()
    await tab.goto(synthetic_url + page.path)
    await tab.wait_for_selector(page.is_up, state="attached")
    await tab.evaluate(axe)
    assert await tab.evaluate(_FAULTS) == []
    await context.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_nothing_moves_while_it_loads_and_it_stays_light(browser: Any, synthetic_url: str, page: Page) -> None:
    seen = await measure(browser, synthetic_url, page)
    assert (seen.layout_shift, seen.moved) == (0, [])
    assert seen.script_bytes <= MAX_SCRIPT_BYTES
    assert (seen.first_paint_ms is not None) is page.paints


@pytest.mark.parametrize("document", ["console/index.html", "studio/index.html"])
async def test_a_page_that_arrives_in_two_pieces_is_painted_once_and_whole(browser: Any, document: str) -> None:
    """As on a busy machine, where the browser paints while it parses: buttons jumped when their neighbours came."""
    text = (CLIENT_FOLDER / document).read_text(encoding="utf-8")
    cut = text.index("</button>", len(text) // 2)
    whole = asyncio.Event()

    async def arrive(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        await response.write(text[:cut].encode())
        await whole.wait()
        await response.write(text[cut:].encode())
        return response

    app = web.Application()
    app.router.add_get("/", arrive)
    app.router.add_static("/client", CLIENT_FOLDER)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    context = await browser.new_context(locale="en-US")
    try:
        tab = await context.new_page()
        await tab.goto(site.name, wait_until="commit")
        await tab.wait_for_function("() => document.styleSheets.length >= 2", polling=20)
        assert not await tab.evaluate(_PAINTS_WITHIN_HALF_A_SECOND)
        whole.set()
        await tab.wait_for_function("() => performance.getEntriesByType('paint').length > 0", polling=20)
    finally:
        whole.set()
        await context.close()
        await runner.cleanup()

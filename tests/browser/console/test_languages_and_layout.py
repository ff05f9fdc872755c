"""The console in Chinese, on phones, and for people who do not use a mouse."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_chinese_browser_gets_a_chinese_page(open_console: Any) -> None:
    console = await open_console(locale="zh-CN")
    assert await console.page.get_attribute("html", "lang") == "zh-Hans"
    assert await console.text("#tally") == "待机"
    await console.page.click("#favourites button")
    await console.newest_is("on_air")
    assert await console.text("#caption") == "海边日落"
    assert console.errors == []


async def test_the_language_can_be_switched_and_is_remembered(open_console: Any) -> None:
    console = await open_console()
    await console.page.click("#language")
    await console.until("() => document.querySelector('#send').innerText === '发送'")
    await console.page.reload()
    await console.is_live()
    assert await console.text("#send") == "发送"


async def test_enter_that_ends_a_composition_does_not_send(open_console: Any) -> None:
    console = await open_console(locale="zh-CN")
    await console.write("海边")
    for composing in ({"isComposing": True, "keyCode": 13}, {"isComposing": False, "keyCode": 229}):
        await console.page.dispatch_event("#prompt-text", "keydown", {"key": "Enter", **composing})
    assert await console.states() == []
    assert await console.page.input_value("#prompt-text") == "海边"


@pytest.mark.parametrize(("width", "height", "locale"), [(390, 844, "en-US"), (360, 640, "zh-CN")])
async def test_nothing_scrolls_sideways_on_a_phone(open_console: Any, width: int, height: int, locale: str) -> None:
    console = await open_console(viewport={"width": width, "height": height}, locale=locale)
    await console.send("a very long prompt about scene 5 " * 8)
    await console.newest_is("on_air")
    assert await console.page.evaluate("document.documentElement.scrollWidth") <= width
    panic = await console.page.locator("#blank").bounding_box()
    assert panic["y"] + panic["height"] <= height, "the panic button is always within reach"


_SCREENS = ((1920, 1080), (1440, 900), (1366, 820), (1366, 768), (1280, 720), (1024, 768))
# How many items of the legend are seen whole, cut, and not at all; with its usual items or as wide as it can be.
_LEGEND = """(isWidest) => {
  const legend = document.querySelector(".where-legend");
  if (isWidest) {
    while (legend.children.length < 8) legend.prepend(legend.lastElementChild.cloneNode(true));
    for (const value of legend.querySelectorAll("b")) value.textContent = "59.99 s";
  }
  const [box, outer] = [".where", ".times"].map((one) => document.querySelector(one).getBoundingClientRect());
  const [end, foot] = [Math.min(box.right, outer.right) + 0.5, Math.min(box.bottom, outer.bottom) + 0.5];
  const seen = { whole: 0, cut: 0, none: 0 };
  for (const { left, right, top, bottom, width } of [...legend.children].map((item) => item.getBoundingClientRect())) {
    const isOut = width === 0 || left >= box.right || top >= box.bottom;
    seen[isOut ? "none" : right > end || bottom > foot ? "cut" : "whole"] += 1;
  }
  return seen;
}"""


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("is_widest", [False, True], ids=["usual", "widest"])
async def test_the_timing_legend_is_shown_complete_or_not_at_all(
    open_console: Any, locale: str, *, is_widest: bool
) -> None:
    console = await open_console(locale=locale)
    await console.send("scene 5")
    await console.newest_is("on_air")
    for width, height in _SCREENS:
        await console.page.set_viewport_size({"width": width, "height": height})
        seen = await console.page.evaluate(_LEGEND, is_widest)
        assert seen["cut"] == 0 and not (seen["whole"] and seen["none"]), (width, height, seen)
        assert seen["whole"] or width < 1920, "a large screen has room for it"


async def test_every_control_has_a_name_and_can_be_reached_with_the_keyboard(open_console: Any) -> None:
    console = await open_console()
    nameless = await console.page.eval_on_selector_all(
        "button, textarea, input",
        """(all) => all.filter((one) => !(one.ariaLabel || one.labels?.length || one.innerText.trim()))
                       .map((one) => one.outerHTML)""",
    )
    assert nameless == []
    unreachable = await console.page.eval_on_selector_all(
        "button:not([disabled]), textarea, input", "(all) => all.filter((one) => one.tabIndex < 0).length"
    )
    assert unreachable == 0


async def test_reduced_motion_is_respected(open_console: Any) -> None:
    console = await open_console(reduced_motion="reduce")
    moving = await console.page.evaluate(
        """() => [...document.querySelectorAll("*")]
                 .filter((one) => getComputedStyle(one).animationName !== "none").length"""
    )
    assert moving == 0

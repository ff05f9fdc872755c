"""What a streamer can do at the console and see there, with the synthetic engine: numbers painted into the picture."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_the_page_loads_and_stands_by(console: Any) -> None:
    assert await console.text("#tally") == "Standing by"
    assert await console.text("#connection") == "Connected"
    assert await console.text("#engine") == "Engine ready"
    assert await console.page.is_disabled("#take")


async def test_a_prompt_takes_shape_step_by_step_and_goes_on_air(console: Any) -> None:
    await console.send("scene 5")
    await console.newest_is("on_air")
    await console.shows_number(5)
    assert await console.text("#caption") == "scene 5"
    assert await console.text("#tally") == "On air"
    assert await console.text(".ai-label") == "AI-generated"
    pictures = await console.page.eval_on_selector_all(
        "#steps img", "(all) => all.map((one) => one.src.startsWith('data:image/jpeg') && one.naturalWidth > 0)"
    )
    assert pictures == [True] * 4
    assert await console.page.input_value("#prompt-text") == ""
    assert await console.text("#announcer") == "On air: scene 5"


async def test_the_last_step_and_the_log_show_the_clip_itself(console: Any) -> None:
    await console.send("scene 5")
    await console.until(
        """() => {
          const row = document.querySelector(".history-row img");
          return row?.naturalWidth === 416 && !document.querySelector("#steps li:last-child img").hidden;
        }"""
    )


async def test_the_latency_is_measured_at_this_screen_and_at_the_server(console: Any) -> None:
    await console.send("scene 6")
    await console.until(
        "() => /on this screen · server [0-9.]+ m?s/.test(document.querySelector('#time-picture').innerText)"
    )
    assert await console.page.locator(".where-part").count() > 1
    assert "picture" in await console.text(".history-meta")


async def test_the_next_prompt_switches_the_scene(console: Any) -> None:
    await console.send("scene 5")
    await console.shows_number(5)
    await console.send("scene 9")
    await console.shows_number(9)
    await console.until("() => document.querySelectorAll('.history-row').length === 2")
    await console.newest_is("on_air")
    assert await console.states() == ["on_air", "applied"]


async def test_a_prompt_that_was_played_fires_again(console: Any) -> None:
    await console.send("scene 5")
    await console.shows_number(5)
    await console.send("scene 9")
    await console.shows_number(9)
    await console.page.click(".history-row:last-child button")
    await console.shows_number(5)


async def test_of_a_burst_the_newest_wins_and_each_has_its_end(console: Any) -> None:
    await console.page.evaluate(
        "() => [0, 1, 2].forEach((index) => document.querySelectorAll('#favourites button')[index].click())"
    )
    await console.newest_is("on_air")
    newest, between, first = await console.states()
    assert (newest, between) == ("on_air", "superseded")
    assert first in ("superseded", "applied"), "it went out at once, and may have been made before the newest was sent"


async def test_digits_fire_favourites_unless_one_writes(console: Any) -> None:
    await console.page.press("#prompt-text", "2")
    assert await console.page.input_value("#prompt-text") == "2"
    await console.page.evaluate("() => document.activeElement.blur()")
    await console.page.keyboard.press("2")
    await console.newest_is("on_air")
    assert await console.text(".history-text") == "how does a volcano erupt?"


async def test_a_manual_take_waits_for_the_space_bar(console: Any) -> None:
    await console.send("scene 5")
    await console.shows_number(5)
    await console.choose("take", "manual")
    await console.send("scene 9")
    await console.newest_is("ready")
    await console.page.evaluate("() => document.activeElement.blur()")
    await console.page.keyboard.press("Space")
    await console.shows_number(9)
    await console.newest_is("on_air")


async def test_a_cancelled_prompt_leaves_the_program_alone(console: Any) -> None:
    await console.choose("on_preview", "controller")
    await console.send("scene 5")
    await console.shows_number(5)
    await console.choose("take", "manual")
    await console.send("scene 9")
    await console.newest_is("ready")
    await console.page.click("#cancel")
    await console.newest_is("cancelled")
    await console.shows_number(5)
    assert await console.page.is_disabled("#take")


async def test_escape_blanks_at_once_and_resume_brings_the_clip_back(console: Any) -> None:
    await console.send("scene 5")
    await console.shows_number(5)
    await console.page.press("#prompt-text", "Escape")
    await console.until("() => Math.max(...window.programColour()) < 12")
    assert await console.text("#tally") == "Blanked"
    await console.page.click("text=Resume")
    await console.shows_number(5)
    assert await console.text("#tally") == "On air"


async def test_a_prompt_that_is_too_long_is_refused_and_the_session_lives_on(console: Any) -> None:
    await console.send("9" * 10_000)
    await console.until("() => /too long/.test(document.querySelector('#toasts').innerText)")
    await console.newest_is("rejected")
    await console.send("scene 5")
    await console.shows_number(5)


async def test_an_empty_prompt_is_not_sent(console: Any) -> None:
    await console.send("   ")
    await console.until("() => document.querySelector('#toasts').innerText.includes('Write something')")
    assert await console.states() == []


async def test_after_a_cut_the_session_is_taken_up_and_the_video_never_stopped(console: Any) -> None:
    await console.send("scene 5")
    await console.shows_number(5)
    await console.cut()
    await console.until("() => document.querySelector('#connection').dataset.state !== 'live'")
    await console.is_live()
    await console.send("scene 9")
    await console.shows_number(9)
    assert await console.states() == ["on_air", "applied"]
    assert await console.page.evaluate("window.peersMade") == 1


async def test_the_show_goes_on_over_a_reload_of_the_console(console: Any) -> None:
    await console.send("scene 5")
    await console.shows_number(5)
    await console.page.reload()
    await console.is_live()
    await console.shows_number(5)
    assert await console.text("#tally") == "On air"
    await console.send("scene 9")
    await console.shows_number(9)


async def test_statistics_are_shown_plainly(console: Any) -> None:
    await console.until("() => /Continuous play\\s*[\\d.]+ %/.test(document.querySelector('#stats').innerText)")
    assert "Viewers" in await console.text("#stats")


async def test_choices_outlive_a_visit(console: Any, open_console: Any) -> None:
    await console.choose("quality", "fine")
    await console.send("scene 5")
    await console.newest_is("on_air")
    assert await console.page.locator("#steps li").count() == 8
    await console.page.reload()
    await console.is_live()
    assert await console.page.is_checked("#options input[name=quality][value=fine]")


async def test_a_new_name_keeps_the_prompt_that_has_no_end_yet(console: Any) -> None:
    await console.choose("take", "manual")
    await console.send("scene 7")
    await console.newest_is("ready")
    await console.page.click("#share")
    await console.page.fill("#sheet input[name=stage-name]", f"other-stage-{os.getpid()}")
    await console.page.click("#sheet button[type=submit]")
    await console.until("() => document.querySelectorAll('.history-row').length === 2")
    await console.newest_is("ready")
    await console.page.click("#take")
    await console.shows_number(7)

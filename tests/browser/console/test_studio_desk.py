"""What a streamer prepares and sees at the console's desk: favourites, rundown, the lives of prompts, seed, looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.parts.served import served
from tests.server.ingest import Ingest

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def _rundown(console: Any) -> list[str]:
    texts: list[str] = await console.page.eval_on_selector_all(
        ".rundown-text", "(all) => all.map((one) => one.innerText)"
    )
    return texts


async def test_arrows_call_back_what_was_sent_and_give_the_draft_back(console: Any) -> None:
    for text in ("scene 5", "scene 9"):
        await console.send(text)
    await console.write("a draft")
    for key, shown in [
        ("Up", "scene 9"),
        ("Up", "scene 5"),
        ("Up", "scene 5"),
        ("Down", "scene 9"),
        ("Down", "a draft"),
    ]:
        await console.page.press("#prompt-text", f"Arrow{key}")
        assert await console.page.input_value("#prompt-text") == shown


async def test_a_starred_prompt_is_a_favourite_that_can_be_moved_to_a_number_key(console: Any) -> None:
    page = console.page
    await console.write("scene 21")
    await page.click("#star")
    assert await page.get_attribute("#star", "aria-pressed") == "true"
    await page.click("#favourites-edit")
    for _ in range(10):
        await page.click("#favourites li:has-text('scene 21') [aria-label^='Move earlier']")
    await page.click("#favourites-edit")
    await page.reload()
    await console.is_live()
    await page.keyboard.press("1")
    await console.shows_number(21)
    await page.click("#favourites-edit")
    await page.click("#favourites-reset")
    assert "scene 21" not in await console.text("#favourites")


async def test_a_rundown_is_prepared_put_in_order_and_fired_with_the_keyboard(console: Any) -> None:
    page = console.page
    for text in ("scene 5", "scene 9"):
        await console.write(text)
        await page.press("#prompt-text", "Control+Enter")
    await page.click("#rundown-add")
    await page.fill("#sheet textarea", "scene 3")
    await page.fill("#sheet input:not([type=number])", "guest comes in")
    await page.fill("#sheet input[type=number]", "45")
    await page.press("#sheet input[type=number]", "Enter")
    assert await _rundown(console) == ["scene 5", "scene 9", "scene 3"]
    assert await console.text(".rundown-row:last-child") == "3\nscene 3\nguest comes in\n45 s"
    await page.focus(".rundown-row:last-child .rundown-fire")
    await page.keyboard.press("Alt+ArrowUp")
    assert await _rundown(console) == ["scene 5", "scene 3", "scene 9"]
    await page.keyboard.press("n")
    await console.shows_number(5)
    await page.keyboard.press("n")
    await console.shows_number(3)
    await page.focus(".rundown-row:first-child .rundown-fire")
    await page.keyboard.press("Delete")
    assert await _rundown(console) == ["scene 3", "scene 9"]
    await page.click("#toasts button:text-is('Undo')")
    assert await _rundown(console) == ["scene 5", "scene 3", "scene 9"]
    assert await console.text(".rundown-row[data-state=current] .rundown-text") == "scene 3"


async def test_the_timer_fires_one_after_the_other_and_stops_at_the_end(console: Any) -> None:
    page = console.page
    for text in ("scene 5", "scene 9"):
        await console.write(text)
        await page.press("#prompt-text", "Control+Enter")
    await page.fill("#rundown-hold", "1")
    await page.press("#rundown-hold", "Enter")
    await page.click("#rundown-timer")
    await console.until("() => document.querySelector('#rundown-clock').textContent === 'Next in 1 s'")
    await console.shows_number(9)
    await console.until("() => document.querySelector('#toasts').innerText.includes('last one of the rundown')")
    assert await console.text("#rundown-timer") == "Start timer"
    assert await console.states() == ["on_air", "applied"]


async def test_the_timer_counts_from_the_firing_of_each_and_not_while_it_is_paused(console: Any) -> None:
    told = await console.page.evaluate(
        """async () => {
          const { Rundown } = await import("/client/console/rundown/rundown.js");
          const rundown = new Rundown(), told = [];
          const [a, b] = [rundown.add({ text: "a", holdS: 10 }), rundown.add({ text: "b" })];
          rundown.start(0);
          told.push(rundown.isDue(0), rundown.next.text);
          rundown.fired(a, 0);
          rundown.pause(4000);
          told.push(rundown.isDue(60000), rundown.leftMs(60000));
          rundown.resume(60000);
          told.push(rundown.isDue(65999), rundown.isDue(66000), rundown.next.text);
          rundown.fired(b, 66000);
          told.push(rundown.leftMs(66000), rundown.next);
          rundown.isRepeated = true;
          return [...told, rundown.next.text];
        }"""
    )
    assert told == [True, "a", False, 6000, False, True, "b", 30000, None, "a"]


async def test_a_rundown_goes_out_and_in_as_a_file_and_a_bad_file_is_named(console: Any, tmp_path: Path) -> None:
    page = console.page
    await console.write("scene 5")
    await page.press("#prompt-text", "Control+Enter")
    async with page.expect_download() as download:
        await page.click("#rundown-export")
    saved = Path(await (await download.value).path())
    file = json.loads(saved.read_text())
    assert file["items"] == [{"text": "scene 5", "note": "", "hold_s": None}]
    file["items"] += [{"text": "海边日落", "note": "结尾", "hold_s": 5}]
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(file))
    file["items"][1]["text"] = " "
    bad.write_text(json.dumps(file))
    await page.set_input_files("#rundown-file", good)
    await console.until("() => document.querySelectorAll('.rundown-row').length === 2")
    await page.set_input_files("#rundown-file", bad)
    await console.until("() => document.querySelector('#toasts').innerText.includes('items[1].text')")
    assert await _rundown(console) == ["scene 5", "海边日落"]


async def test_every_fault_of_a_rundown_file_has_a_name(console: Any) -> None:
    good = {"sceneshift_rundown": 1, "items": [{"text": "a"}]}
    files = {
        "{": "not_json ",
        "[]": "not_a_rundown ",
        json.dumps(good | {"sceneshift_rundown": 2}): "unsupported_version 2",
        json.dumps(good | {"colour": 1}): "unknown_field colour",
        json.dumps({"sceneshift_rundown": 1}): "missing_field items",
        json.dumps(good | {"items": [{"note": "a"}]}): "missing_field items[0].text",
        json.dumps(good | {"items": [{"text": 3}]}): "wrong_type items[0].text",
        json.dumps(good | {"items": [{"text": "a", "hold_s": 0}]}): "out_of_range items[0].hold_s",
        json.dumps(good | {"items": [{"text": "9" * 2001}]}): "out_of_range items[0].text",
    }
    refused = await console.page.evaluate(
        """async (files) => {
          const { Rundown } = await import("/client/console/rundown/rundown.js");
          const rundown = new Rundown();
          rundown.add({ text: "kept" });
          return files.map((file) => {
            try { rundown.fromJson(file); }
            catch (error) { return `${error.code} ${error.at}|${rundown.items.length}`; }
          });
        }""",
        list(files),
    )
    assert refused == [f"{code}|1" for code in files.values()]


async def test_the_life_of_a_prompt_is_told_and_its_seed_can_be_locked(console: Any) -> None:
    page = console.page
    await console.choose("take", "manual")
    await console.send("scene 5")
    await console.newest_is("ready")
    await console.send("scene 9")
    await console.newest_is("ready")
    older, newer = page.locator(".history-row").nth(1), page.locator(".history-row").nth(0)
    for row in (older, newer):
        await row.locator("[aria-expanded]").click()
    told = (await older.locator(".life").inner_text()).split("\n")
    assert [line for line in told if line[0].isalpha()][-1] == "Superseded by “scene 9”"
    assert {"Sent", "Started, 4 steps", "Step 4 of 4", "Ready to take"} <= set(told)
    seed = (await newer.locator(".life-seed").inner_text()).removeprefix("lock seed ")
    await newer.locator(".life-seed").click()
    assert await page.input_value("input[name=seed]") == seed
    await console.send("scene 9")
    await console.newest_is("ready")
    await page.locator(".history-row").nth(0).locator("[aria-expanded]").click()
    assert f"lock seed {seed}" in await page.locator(".history-row").nth(0).locator(".life").inner_text()
    await page.fill("input[name=seed]", "no number")
    await page.press("input[name=seed]", "Tab")
    assert await page.get_attribute("input[name=seed]", "aria-invalid") == "true"


async def test_a_waiting_clip_is_taken_as_the_desk_says_at_that_moment(console: Any) -> None:
    sent: list[str] = []
    await console.choose("take", "manual")
    await console.send("scene 5")
    await console.newest_is("ready")
    await console.choose("transition", "crossfade")
    await console.page.fill("input[name=transition_s]", "2")
    console.page.on("websocket", lambda socket: socket.on("framesent", sent.append))
    said = await console.page.evaluate(
        """() => new Promise((resolve) => {
          const send = WebSocket.prototype.send;
          WebSocket.prototype.send = function (text) { send.call(this, text); resolve(JSON.parse(text)); };
          document.querySelector("#take").click();
        })"""
    )
    assert said.pop("event_id")
    assert said == {"type": "program.take", "transition": "crossfade", "transition_s": 2}


async def test_after_a_restart_of_the_server_the_last_picture_is_held_and_the_scene_comes_back(
    open_console: Any,
) -> None:
    async with served(["--engine", "synthetic"]) as server:
        port = server.url.rsplit(":", 1)[1].strip("/")
        console = await open_console(server.url)
        await console.choose("transition", "cut")
        await console.send("scene 5")
        await console.shows_number(5)
    await console.until("() => document.querySelector('#monitor').dataset.video === 'held'")
    assert "last picture" in await console.text("#hint")
    assert await console.page.evaluate("document.querySelector('#held').naturalWidth") == 832
    async with served(["--engine", "synthetic", "--port", port]):
        # Unless it has come back by itself meanwhile.
        await console.page.eval_on_selector("#retry", "(retry) => retry.hidden || retry.click()")
        await console.is_live()
        await console.shows_number(5)
        assert await console.text("#caption") == "scene 5"
        assert await console.states() == ["on_air", "applied"]


async def test_the_stage_keeps_its_name_and_may_be_given_another(open_console: Any) -> None:
    async with served(["--engine", "synthetic"]) as server:
        console = await open_console(server.url)
        await console.choose("transition", "cut")
        await console.send("scene 5")
        await console.shows_number(5)
        await console.page.click("#share")
        made_up = await console.text("#sheet pre")
        await console.page.fill("[name=stage-name]", "No Name")
        await console.page.press("[name=stage-name]", "Enter")
        assert await console.page.get_attribute("[name=stage-name]", "aria-invalid") == "true"
        await console.page.fill("[name=stage-name]", "my-show")
        await console.page.press("[name=stage-name]", "Enter")
        await console.until("() => document.querySelectorAll('.history-row').length === 2")
        await console.is_live()
        await console.shows_number(5)
        await console.page.click("#share")
        await console.page.wait_for_selector("#sheet pre")
        assert await console.text("#sheet pre") == server.url.rstrip("/") + "/obs/my-show" != made_up


async def test_a_console_that_was_closed_takes_its_stage_up_when_it_is_opened_again(open_console: Any) -> None:
    async with served(["--engine", "synthetic"]) as server:
        console = await open_console(server.url)
        await console.send("scene 5")
        await console.newest_is("on_air")
        again = await console.page.context.new_page()
        await console.page.close()
        await again.goto(server.url)
        await again.wait_for_selector("#monitor[data-on-air=clip][data-video=playing]")


async def test_a_recording_can_be_fetched(console: Any) -> None:
    page = console.page
    await console.send("scene 5")
    await console.shows_number(5)
    await page.click("#record")
    await console.until("() => document.querySelector('#record-text').textContent === '0:01'")
    await page.click("#record")
    await page.wait_for_selector("#record-link:not([hidden])")
    fetched = await page.evaluate(
        """async () => {
          const answer = await fetch(document.querySelector("#record-link").href);
          return [answer.status, new TextDecoder().decode((await answer.arrayBuffer()).slice(4, 8))];
        }"""
    )
    assert fetched == [200, "ftyp"]


async def test_the_program_goes_live_to_a_named_target_and_over_a_reload(open_console: Any, tmp_path: Path) -> None:
    async with Ingest("secret") as ingest:
        targets = tmp_path / "targets.toml"
        targets.write_text(
            f'[platform]\nurl = "{ingest.url}"\ntoken = "secret"\n[closed]\nurl = "{ingest.url}"\ntoken = "wrong"\n'
        )
        async with served(["--engine", "synthetic", "--whip-targets", str(targets)]) as server:
            console = await open_console(server.url)
            page = console.page
            assert await console.text("#pushes") == "Go live"
            await page.click("#pushes")
            await page.click("#sheet button[aria-label='Start: closed']")
            await page.wait_for_selector(".push-state[data-state=failed]")
            assert "401" in await console.text(".push-row:has-text('closed')")
            await page.click("#sheet button[aria-label='Start: platform']")
            await page.wait_for_selector("#pushes[data-state=live]")
            assert await console.text("#pushes") == "Live: platform"
            assert (await ingest.frame()).width > 0
            await page.reload()
            await console.until("() => document.querySelector('#pushes').innerText === 'Live: platform'")
            await page.click("#language")
            await console.until("() => document.querySelector('#pushes').innerText === '直播中：platform'")
            await page.click("#pushes")
            await page.click("#sheet button[aria-label='停止: platform']")
            await ingest.deleted.wait()
            await page.wait_for_selector("#pushes[data-state=stopped]")


async def test_music_is_chosen_from_what_the_server_has_and_heard_only_when_asked_for(console: Any) -> None:
    page = console.page
    name = await page.locator("select[name=music] option").nth(1).get_attribute("value")
    await page.select_option("select[name=music]", name)
    await console.until("() => !document.querySelector('[name=music_volume]').disabled")
    assert await page.evaluate("document.querySelector('#program').muted") is True
    await page.click("#mute")
    assert await page.evaluate("document.querySelector('#program').muted") is False
    assert await page.get_attribute("#mute", "aria-pressed") == "true"


async def test_keys_are_explained_and_an_open_sheet_takes_escape(console: Any) -> None:
    page = console.page
    await console.send("scene 5")
    await console.shows_number(5)
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("?")
    assert "Fire a favourite" in await console.text("#sheet")
    await page.keyboard.press("Escape")
    assert await page.locator("#sheet[open]").count() == 0
    assert await console.text("#tally") == "On air"
    await page.keyboard.press("p")
    assert await page.evaluate("document.activeElement.id") == "prompt-text"


async def test_the_stage_is_shown_to_others_by_address_and_code(console: Any) -> None:
    page = console.page
    await page.click("#share")
    address = await console.text("#sheet pre")
    assert address.startswith(page.url.rstrip("/") + "/obs/")
    for kind, part in [("curl", "/snapshot.jpg"), ("python", "prompt.set"), ("javascript", "/whep/")]:
        await page.check(f"#sheet input[value={kind}]", force=True)
        assert part in await console.text("#sheet pre")


async def test_the_plot_shows_the_last_prompts(console: Any) -> None:
    await console.send("scene 5")
    await console.until("() => document.querySelector('#plot .dot-picture') && document.querySelector('#plot .played')")
    label = await console.page.get_attribute("#plot svg", "aria-label")
    assert "Prompts: 1." in label


async def test_the_theme_is_the_systems_until_one_is_chosen(open_console: Any) -> None:
    console = await open_console(color_scheme="light")
    assert await console.page.get_attribute("html", "data-theme") == "light"
    await console.page.click("#theme")
    await console.page.reload()
    assert await console.page.get_attribute("html", "data-theme") == "dark"

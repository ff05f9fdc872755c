"""The console's options that only some models have, the queue for a stage, and how a clip was made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.parts.served import served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ABLE = {"can_start_from_frame": True, "loras": ["ink", "水墨"]}


async def test_unsupported_options_are_disabled_with_the_reason(console: Any) -> None:
    for option, value in [("transition", "morph"), ("after", "continue")]:
        choice = f"input[name={option}][value={value}]"
        assert await console.page.is_disabled(choice)
        assert "can start from a frame" in await console.page.locator(f"label:has({choice})").get_attribute("title")
    assert await console.page.is_enabled("#options input[name=after][value=hold]")
    assert await console.page.locator("select[name=lora]").count() == 0


async def test_supported_options_can_be_chosen(console: Any) -> None:
    chosen = await console.page.evaluate(
        """async (abilities) => {
          const { Options } = await import("/client/console/options.js");
          const changes = [], root = document.createElement("div");
          document.body.append(root);  // a click on what is in no page changes nothing
          const [settings, mix] = [0, 1].map(() => root.appendChild(document.createElement("div")));
          const options = new Options(settings, mix, (change) => changes.push(change));
          options.setCapabilities(abilities);
          root.querySelector("[value=morph]").click();
          root.querySelector("[value=continue]").click();
          root.querySelector("[name=fresh]").click();
          const list = root.querySelector("select");
          list.value = "水墨";
          list.dispatchEvent(new Event("change"));
          return [changes, options.values.lora, options.values.fresh];
        }""",
        ABLE,
    )
    assert chosen == [[{"transition": "morph"}, {"after": "continue"}, {"fresh": True}, {"lora": "水墨"}], "水墨", True]


async def test_settings_of_another_model_do_not_keep_the_console_out(open_console: Any) -> None:
    console = await open_console()
    kept = {"transition": "morph", "after": "continue", "quality": "fine"}
    await console.page.evaluate("(kept) => localStorage.setItem('sceneshift.options', kept)", json.dumps(kept))
    await console.page.goto("about:blank")
    await console.page.go_back()
    await console.is_live()
    await console.page.context.new_page()  # the session of the first page is not what is measured
    fresh = console.page
    await fresh.evaluate("sessionStorage.clear()")
    await fresh.goto(fresh.url)
    await console.is_live()
    assert await fresh.is_checked("input[name=transition][value=crossfade]")
    assert await fresh.is_checked("#options input[name=after][value=loop]")


async def test_fresh_work_is_requested_from_the_server(console: Any) -> None:
    await console.page.check("#options input[name=fresh]")
    await console.send("scene 5")
    await console.newest_is("on_air")
    assert await console.page.is_checked("#options input[name=fresh]")


async def test_a_waiting_console_shows_its_place_and_goes_live_by_itself(open_console: Any) -> None:
    async with served(["--engine", "synthetic", "--max-sessions", "1"]) as server:
        first = await open_console(server.url)
        page = await first.page.context.new_page()
        await page.goto(server.url)
        await page.wait_for_selector("#connection[data-state=queued]")
        assert "place 1" in await page.inner_text("#connection")
        await first.page.close()
        await page.wait_for_selector("#connection[data-state=live]")
        await page.wait_for_selector("#monitor[data-video=playing]")


async def test_a_reused_and_a_simplified_clip_are_marked(console: Any) -> None:
    marks = await console.page.evaluate(
        """async () => {
          const { PromptHandle } = await import("/client/sdk/handle.js");
          const { PromptLog } = await import("/client/console/prompts/prompts.js");
          const { History } = await import("/client/console/prompts/history.js");
          const list = document.createElement("ol");
          const history = new History(list, { isFavourite: () => false });
          const log = new PromptLog(() => history.show(log.newestFirst, null));
          const started = { type: "prompt.started", num_steps: 4, attempt: 1, understood: [], not_understood: [] };
          const handles = ["whole", "reused", "simple"].map((text) => new PromptHandle(text, {}, () => {}));
          for (const handle of handles) log.follow(handle, "fast");
          const [whole, reused, simple] = handles.map(({ promptId }) => ({ ...started, prompt_id: promptId }));
          log.receive({ ...whole, degraded: [], is_reused: false });
          log.receive({ ...reused, degraded: [], is_reused: true });
          log.receive({ ...simple, degraded: ["fewer_steps"], is_reused: false });
          const marks = (row) => [...row.querySelectorAll(".mark")].map((one) => [one.innerText, one.title]);
          return [...list.children].map(marks);
        }"""
    )
    assert [[text for text, _ in row] for row in marks] == [["simplified"], ["reused"], []]
    assert marks[0][0][1] == "fewer steps"


async def test_the_console_says_that_clips_are_simplified(console: Any) -> None:
    warning = {"type": "session.warning", "seq": 10**6, "code": "degraded", "message": "short of time"}
    console.sockets[-1].send(json.dumps(warning | {"degraded": ["fewer_steps"]}))
    await console.until("() => /made simpler/.test(document.querySelector('#toasts').innerText)")


async def test_the_console_says_how_busy_the_machine_is(console: Any) -> None:
    warning = {"type": "session.warning", "seq": 10**6, "code": "machine_busy", "message": "busy", "core_share": 0.118}
    console.sockets[-1].send(json.dumps(warning))
    await console.until("() => /the engine got 12 % of a core/.test(document.querySelector('#toasts').innerText)")

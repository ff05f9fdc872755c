"""The pure modules of the page, imported in the browser that they are written for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Any, synthetic_url: str) -> AsyncIterator[Any]:
    """A page of the server's, without the console."""
    page = await browser.new_page()
    await page.goto(f"{synthetic_url}/livez")
    yield page
    await page.close()


async def test_a_frame_is_matched_whether_its_receipt_comes_before_or_after_it(page: Any) -> None:
    shown = await page.evaluate(
        """async () => {
          const { Glass } = await import("/client/sdk/glass.js");
          const glass = new Glass(), shown = [];
          glass.frameShown(3000, 10);
          glass.expect(9000, (at) => shown.push(["before", at]));
          glass.frameShown(6000, 20);
          glass.frameShown(9000, 30);
          glass.expect(6000, (at) => shown.push(["after", at]));
          glass.expect(7000, (at) => shown.push(["left out by the browser", at]));
          glass.expect(null, (at) => shown.push(["no peer", at]));
          return shown;
        }"""
    )
    assert shown == [["before", 30], ["after", 20], ["left out by the browser", 30]]


async def test_rtp_timestamps_wrap_at_32_bits(page: Any) -> None:
    order = await page.evaluate(
        """async () => {
          const { isAtOrAfter } = await import("/client/sdk/glass.js");
          return [isAtOrAfter(10, 4294967290), isAtOrAfter(4294967290, 10), isAtOrAfter(7, 7)];
        }"""
    )
    assert order == [True, False, True]


async def test_a_receipt_from_before_the_memory_gives_no_time(page: Any) -> None:
    shown = await page.evaluate(
        """async () => {
          const { Glass } = await import("/client/sdk/glass.js");
          const glass = new Glass(), shown = [];
          glass.frameShown(90000, 10);
          glass.expect(3000, (at) => shown.push(at));
          return shown;
        }"""
    )
    assert shown == []


async def test_a_prompt_that_has_ended_stays_ended(page: Any) -> None:
    outcome = await page.evaluate(
        """async () => {
          const { PromptHandle, finish, receive } = await import("/client/sdk/handle.js");
          const { PromptLog } = await import("/client/console/prompts/prompts.js");
          const log = new PromptLog(() => {});
          const handle = new PromptHandle("x", {}, () => {});
          log.follow(handle, "fast");
          handle[finish]("cancelled");
          try {
            handle[receive]({ type: "prompt.superseded", prompt_id: handle.promptId, by_prompt_id: "q" });
          } catch (error) {
            return [log.get(handle.promptId).state, error.message];
          }
        }"""
    )
    assert outcome == ["cancelled", "prompt: cancelled → superseded is not a move"]


async def test_the_waits_between_attempts_grow_and_are_random(page: Any) -> None:
    """Full jitter: with the largest random number the waits double up to the longest one."""
    delays = await page.evaluate(
        """async () => {
          const { Connection } = await import("/client/sdk/connection.js");
          const timers = [], RealSocket = window.WebSocket, realTimeout = window.setTimeout;
          class DeadSocket extends EventTarget { constructor() { super(); sockets.push(this); } close() {} }
          const sockets = [];
          window.WebSocket = DeadSocket;
          window.setTimeout = (call, delay) => timers.push({ call, delay });
          try {
            const handlers = { onState() {}, onSession() {}, onMessage() {}, onError() {} };
            new Connection(() => new WebSocket("ws://nowhere"), () => ({}), handlers, { random: () => 1 }).open();
            const delays = [];
            for (let attempt = 0; attempt < 7; attempt += 1) {
              sockets.at(-1).dispatchEvent(new CloseEvent("close", { code: 1006 }));
              delays.push(timers.at(-1).delay);
              timers.at(-1).call();
            }
            return delays;
          } finally {
            window.WebSocket = RealSocket;
            window.setTimeout = realTimeout;
          }
        }"""
    )
    assert delays == [250, 500, 1000, 2000, 4000, 8000, 8000]


@pytest.mark.parametrize(
    "damaged", ["{", "", "5", "[]", '"text"', '{"sessionId": 3, "resumeToken": "t"}', '{"sessionId": "s"}']
)
async def test_a_damaged_kept_session_is_no_session(page: Any, damaged: str) -> None:
    kept = await page.evaluate(
        """async (damaged) => {
          const { keptSession } = await import("/client/console/kept_session.js");
          const key = "sceneshift.session", good = '{"sessionId": "s1", "resumeToken": "t"}', kept = [];
          for (const [own, last] of [[damaged, good], [damaged, damaged], [good, damaged]]) {
            sessionStorage.setItem(key, own);
            localStorage.setItem(key, last);
            kept.push(keptSession()?.sessionId ?? null);
          }
          return kept;
        }""",
        damaged,
    )
    assert kept == ["s1", None, "s1"]

"""Watching through the SDK: WHEP, and fMP4 where UDP is blocked; away and back."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# No candidate but relayed ones, and no relay: nothing gets through, as behind a firewall that drops UDP. Waits of half
# a minute and more are a hundred times shorter.
_NO_UDP = """
window.isBlocked = true;
const RealPeer = window.RTCPeerConnection;
window.RTCPeerConnection = class extends RealPeer {
  constructor(settings) { super({ ...settings, iceTransportPolicy: window.isBlocked ? "relay" : "all" }); }
};
const realTimeout = window.setTimeout;
window.setTimeout = (act, delay) => realTimeout(act, delay >= 30000 ? delay / 100 : delay === 3000 ? 600 : delay);
"""
_START = """async ({ connect, watch, video }, { transport, withSession }) => {
  const how = { options: { transition: "cut" }, random: () => 0 };
  const session = await connect(null, { ...how, video: withSession ? video : null });
  window.viewer = withSession ? session.viewer : watch(video, { session: session.id, transport, graceMs: 0, ...how });
  window.session = session;
  window.states = [viewer.state];
  viewer.on("state", (state) => states.push(state));
  window.frames = [];
  viewer.on("frame", (frame) => frames.push(frame));
  session.on("stats.updated", ({ viewers }) => { window.numViewers = viewers; });
}"""
_PROMPT = "async (sdk, text) => (await session.prompt(text).picture).glassMs"


async def test_a_viewer_watches_by_whep_and_leaves_while_nobody_looks(bare: Any) -> None:
    await bare.run(_START, {"withSession": False})
    await bare.run(_PROMPT, "scene 5")
    await bare.shows_number(5)
    assert await bare.page.evaluate("() => [viewer.transport, typeof frames[0].rtpTimestamp]") == ["webrtc", "number"]
    await bare.until("() => window.numViewers === 1")
    await bare.page.evaluate("() => viewer.pause()")
    await bare.until("() => viewer.state === 'paused' && window.numViewers === 0")
    shown = Image.open(io.BytesIO(await bare.page.locator("video").screenshot()))
    assert shown.getextrema()[1][1] > 150, "the last picture stays"
    await bare.run(_PROMPT, "scene 9")
    await bare.page.evaluate("() => viewer.resume()")
    await bare.shows_number(9)


async def test_a_paused_viewer_that_is_resumed_within_the_grace_never_left(bare: Any) -> None:
    states = await bare.run(
        """async ({ connect, video }) => {
          const session = await connect(null, { video, graceMs: 60000 });
          const states = [];
          session.viewer.on("state", (state) => states.push(state));
          await new Promise((resolve) => session.viewer.on("frame", resolve));
          session.viewer.pause();
          session.viewer.resume();
          session.viewer.close();
          return states;
        }"""
    )
    assert states[-2:] == ["playing", "closed"]


async def test_where_udp_is_blocked_the_picture_comes_over_the_websocket(open_bare: Any) -> None:
    bare = await open_bare(script=_NO_UDP)
    await bare.run(_START, {"withSession": True})
    await bare.until("() => viewer.transport === 'mse' && viewer.state === 'playing'")
    assert await bare.run(_PROMPT, "scene 5") > 0, "seen at the glass by its number in the film"
    await bare.shows_number(5)
    await bare.page.evaluate("() => { frames.length = 0; }")
    await bare.until("() => frames.length > 30")
    numbers = await bare.page.evaluate("() => frames.map(({ frameIndex }) => frameIndex)")
    assert numbers == sorted(numbers) and numbers[-1] - numbers[0] >= 28, "it moves"
    behind = await bare.page.evaluate(
        """() => {
          const { buffered, currentTime } = document.querySelector("video");
          return buffered.end(buffered.length - 1) - currentTime;
        }"""
    )
    assert behind < 2


async def test_webrtc_takes_over_when_udp_gets_through_again(open_bare: Any) -> None:
    bare = await open_bare(script=_NO_UDP)
    await bare.run(_START, {"withSession": False, "transport": "auto"})
    await bare.until("() => viewer.transport === 'mse' && viewer.state === 'playing'")
    await bare.page.evaluate("() => { window.isBlocked = false; }")
    await bare.until("() => viewer.transport === 'webrtc' && viewer.state === 'playing'")
    await bare.run(_PROMPT, "scene 9")
    await bare.shows_number(9)


async def test_a_stream_that_is_cut_comes_back(bare: Any) -> None:
    sockets: list[Any] = []

    def pass_on(route: Any) -> None:
        route.connect_to_server()
        sockets.append(route)

    await bare.page.route_web_socket("**/watch*", pass_on)
    await bare.run(_START, {"transport": "mse", "withSession": False})
    await bare.run(_PROMPT, "scene 5")
    await bare.shows_number(5)
    await sockets[0].close(code=3001, reason="cut by the test")
    await bare.until("() => window.states.join().endsWith('playing,failed,negotiating,playing')")
    await bare.run(_PROMPT, "scene 9")
    await bare.shows_number(9)


async def test_a_viewer_of_no_session_reports_it_and_keeps_asking(bare: Any) -> None:
    codes = await bare.run(
        """async ({ watch, video }) => {
          const codes = [];
          const on = { error: ({ code }) => codes.push(code) };
          const viewer = watch(video, { session: "nobody", random: () => 0, on });
          await new Promise((resolve) => viewer.on("error", () => codes.length === 3 && resolve()));
          viewer.close();
          return [...codes, viewer.transport];
        }"""
    )
    assert codes == ["unknown_session"] * 3 + ["webrtc"], "a missing session says nothing about UDP"

"""Chromium as a player that knows nothing of us: plain pages of another origin, by WHEP and by a call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from stages import synthetic_server

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-for-this-test"
# A WHEP player out of a tutorial: offers at once, trickles, leaves.
WHEP = """async ([url, token]) => {
  const video = document.querySelector("video");
  const peer = window.peer = new RTCPeerConnection();
  const waiting = [];
  let trickle = (candidate) => waiting.push(candidate);
  window.trickled = [];
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.play(); };
  peer.onicecandidate = ({ candidate }) => candidate && trickle(candidate);
  await peer.setLocalDescription();
  const bare = peer.localDescription.sdp.replace(/a=candidate.*\\r\\n/g, "");
  const authorization = { Authorization: `Bearer ${token}` };
  const sdp = { ...authorization, "Content-Type": "application/sdp" };
  const response = await fetch(url, { method: "POST", body: bare, headers: sdp });
  if (response.status !== 201) return (await response.json()).error.code;
  window.location_ = new URL(response.headers.get("Location"), url).href;
  const etag = response.headers.get("ETag");
  trickle = async (candidate) => {
    const section = `m=video 9 X 0\\r\\na=mid:${candidate.sdpMid}`;
    const body = `a=ice-ufrag:${candidate.usernameFragment}\\r\\n${section}\\r\\na=${candidate.candidate}\\r\\n`;
    const fragment = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag };
    const headers = { ...authorization, ...fragment };
    window.trickled.push((await fetch(window.location_, { method: "PATCH", body, headers })).status);
  };
  await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  await Promise.all(waiting.map(trickle));
  return "";
}"""
# A viewer that asks for a data channel, which the answer rejects.
WITH_CHANNEL = """async ([url, token, channelFirst]) => {
  const video = document.querySelector("video");
  const peer = window.peer = new RTCPeerConnection();
  const before = channelFirst && peer.createDataChannel("chat");
  if (channelFirst) await peer.setLocalDescription();  // so that its section is the first
  peer.addTransceiver("video", { direction: "recvonly" });
  const channel = before || peer.createDataChannel("chat");
  peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.play(); };
  const isClosed = new Promise((resolve) => { channel.onclose = resolve; });
  await peer.setLocalDescription();
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/sdp" };
  const answer = await fetch(url, { method: "POST", body: peer.localDescription.sdp, headers });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await isClosed;
  return [answer.status, channel.readyState];
}"""
# The snippet of docs/protocol.md, with an address and a token.
CALL = """async ([url, token]) => {
  window.events = [];
  const video = document.querySelector("video");
  const peer = new RTCPeerConnection();
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.play(); };
  const events = peer.createDataChannel("events");
  events.onopen = () => events.send(JSON.stringify({ type: "prompt.set", text: "scene 5" }));
  events.onmessage = ({ data }) => window.events.push(JSON.parse(data).type);
  await peer.setLocalDescription();
  const headers = { "Content-Type": "application/sdp" };
  const body = peer.localDescription.sdp;
  const answer = await fetch(`${url}?token=${token}`, { method: "POST", body, headers });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}"""


@asynccontextmanager
async def plain_site() -> AsyncIterator[str]:
    """A page of an origin of its own, which is not ours."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><video muted playsinline></video>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def sites() -> AsyncIterator[tuple[str, str, str]]:
    """Our server, a site whose pages may use it, and one whose pages may not."""
    async with plain_site() as friend, plain_site() as stranger:
        async with synthetic_server(token=TOKEN, allowed_origins=(friend,)) as url:
            yield url, friend, stranger


@asynccontextmanager
async def page_of(browser: Browser, site: str) -> AsyncIterator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(site)
    yield page
    await context.close()


@asynccontextmanager
async def stage(url: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/v1/realtime?token={TOKEN}") as socket:
        await socket.send_str(json.dumps({"type": "session.start", "name": "my-show"}))
        await socket.receive()
        yield socket


async def plays(page: Page) -> None:
    await page.wait_for_function("() => document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames > 5")


@pytest.mark.parametrize("channel_first", [False, True])
async def test_a_viewer_that_wants_a_data_channel_gets_the_picture_without_it(
    browser: Browser, sites: Any, channel_first: bool
) -> None:
    url, friend, _ = sites
    async with stage(url), page_of(browser, friend) as page:
        arguments = [f"{url}/whep/my-show", TOKEN, channel_first]
        assert await page.evaluate(WITH_CHANNEL, arguments) == [201, "closed"]
        await plays(page)


async def test_a_page_of_an_allowed_origin_watches_by_whep_and_leaves(browser: Browser, sites: Any) -> None:
    url, friend, _ = sites
    async with stage(url), page_of(browser, friend) as page:
        assert await page.evaluate(WHEP, [f"{url}/whep/my-show", TOKEN]) == ""
        await plays(page)
        assert set(await page.evaluate("window.trickled")) == {204}
        leave = (
            "(token) => fetch(window.location_, { method: 'DELETE', headers: { Authorization: `Bearer ${token}` } })"
        )
        assert await page.evaluate(f"async (token) => (await ({leave})(token)).status", TOKEN) == 200


async def test_a_page_of_a_foreign_origin_gets_nothing(browser: Browser, sites: Any) -> None:
    url, _, stranger = sites
    async with stage(url), page_of(browser, stranger) as page:
        attempt = (
            f"async (given) => {{ try {{ return await ({WHEP})(given); }} catch (error) {{ return error.name; }} }}"
        )
        assert await page.evaluate(attempt, [f"{url}/whep/my-show", TOKEN]) == "TypeError"


async def test_a_page_prompts_and_watches_over_webrtc_alone(browser: Browser, sites: Any) -> None:
    url, friend, _ = sites
    async with page_of(browser, friend) as page:
        await page.evaluate(CALL, [f"{url}/v1/realtime/calls", TOKEN])
        await page.wait_for_function("() => window.events.includes('prompt.applied')")
        await plays(page)
        assert (await page.evaluate("window.events"))[0] == "session.created"

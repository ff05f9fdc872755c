"""The program by fragmented MP4 in a real browser: what Media Source Extensions make of it, read off the glass."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from stages import PATIENCE_S

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# In the page: a whole viewer, as a page that is not ours might write it. It seeks once, at the start, to the end of the
# buffered media. `frames` are the frames on the glass, by the browser's own time and by the marker.
_VIEWER = """
(path) => new Promise((resolve, reject) => {
  const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true });
  document.body.replaceChildren(video);
  const view = { video, started: null, frames: [], closed: null };
  window.view = view;
  video.onerror = () => reject(new Error(video.error.message));
  const source = new MediaSource(), waiting = [];
  let buffer = null;
  const append = () => { if (buffer && !buffer.updating && waiting.length) buffer.appendBuffer(waiting.shift()); };
  video.src = URL.createObjectURL(source);
  source.onsourceopen = () => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + path);
    socket.binaryType = "arraybuffer";
    socket.onclose = ({ code }) => { view.closed = code; reject(new Error(`closed with ${code}`)); };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        view.started = JSON.parse(data);
        if (!MediaSource.isTypeSupported(view.started.mime)) reject(new Error(view.started.mime));
        buffer = source.addSourceBuffer(view.started.mime);
        buffer.onupdateend = () => {
          const { buffered } = video;
          if (buffered.length && video.currentTime < buffered.start(0)) {
            video.currentTime = buffered.end(0) - 0.1;
            video.play().catch(() => undefined);
          }
          append();
        };
      } else waiting.push(data);
      append();
    };
  };
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const marker = () => {
    const { videoWidth: width, videoHeight: height } = video;
    Object.assign(canvas.canvas, { width, height });
    canvas.drawImage(video, 0, 0);
    const y = height - Math.max(16, 2 * Math.floor(height / 40)) / 2;
    let index = 0;
    for (let cell = 4; cell < 28; cell += 1) {  // server/media/video/marker.py: one row of 32 cells at 512 and wider
      const { data } = canvas.getImageData(Math.round((cell + 0.5) * width / 32) - 2, Math.round(y) - 2, 4, 4);
      index = index * 2 + (data[1] > 127 ? 1 : 0);
    }
    return index;
  };
  const onFrame = (_, { mediaTime }) => {
    view.frames.push([mediaTime, marker()]);
    if (view.frames.length > 24) view.frames.shift();
    // A busy browser may draw a frame later than it names it: a second without that is waited for.
    const ahead = view.frames.map(([time, index]) => index - Math.round(time * 24));
    const isExact = ahead.every((by) => 0 <= by && by <= 2) && ahead.filter((by) => by === 0).length > 20;
    if (ahead.length === 24 && isExact) resolve();
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
})
"""


@pytest_asyncio.fixture(loop_scope="session")
async def stage(synthetic_url: str) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, str]]:
    """A controller's connection, and its session's id."""
    async with aiohttp.ClientSession(synthetic_url) as http, http.ws_connect("/v1/realtime") as socket:
        await socket.send_json({"type": "session.start", "marker": True, "width": 512, "height": 288})
        while (created := await socket.receive_json())["type"] != "session.created":
            pass
        yield socket, created["session_id"]


async def test_a_browser_plays_the_program_from_the_middle(browser: Any, synthetic_url: str, stage: Any) -> None:
    controller, session_id = stage
    page = await browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(f"{synthetic_url}/livez")  # an empty page, under our own content security policy
    # Viewers begin at the last keyframe, and there is one a second: two seconds gone put it behind the first.
    for _ in range(2):
        while (await controller.receive_json())["type"] != "stats.updated":
            pass
    with contextlib.suppress(TimeoutError):  # what was seen then is judged below
        async with asyncio.timeout(PATIENCE_S):
            await page.evaluate(_VIEWER, f"/v1/sessions/{session_id}/watch")
    started, frames = await page.evaluate("() => [view.started, view.frames]")
    assert (started["width"], started["height"], started["frame_rate"]) == (512, 288, 24)
    assert frames[0][0] > 0.5  # the program's time, not the viewer's
    assert len({index for _, index in frames}) > 20 and frames == sorted(frames)
    # The browser's time names the frame that is seen; one frame that the server left out is bridged by the next.
    assert all(0 <= index - round(time * 24) <= 2 for time, index in frames)
    assert sum(index == round(time * 24) for time, index in frames) >= len(frames) - 3
    assert await page.evaluate("() => view.video.buffered.length") == 1
    await controller.send_json({"type": "session.close"})
    await page.wait_for_function("() => view.closed === 1000")
    assert not [text for text in complaints if "favicon" not in text and "404" not in text]
    await page.close()

"""Music in a real Chromium: it is heard, it is in step with the picture, and without it nothing is slower."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stages import PATIENCE_S

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# A viewer of a few lines: a session of its own, its picture and sound in one <video> (Playwright mutes the machine).
_VIEWER = """
async ({ options, wantsAudio }) => {
  const socket = new WebSocket(`ws://${location.host}/v1/realtime`);
  const heard = [], waiting = [];
  socket.onmessage = (event) => {
    heard.push(JSON.parse(event.data));
    waiting.splice(0).forEach((wake) => wake());
  };
  const hear = async (type) => {
    for (;;) {
      const found = heard.find((message) => message.type === type);
      if (found) return found;
      await new Promise((wake) => waiting.push(wake));
    }
  };
  window.say = (message) => socket.send(JSON.stringify(message));
  await new Promise((opened) => { socket.onopen = opened; });
  say({ type: "session.start", ...options });
  await hear("session.created");
  const peer = new RTCPeerConnection({ iceServers: [] });
  window.peer = peer;
  const video = document.createElement("video");
  Object.assign(video, { autoplay: true, playsInline: true });
  document.body.append(video);
  peer.ontrack = (event) => { video.srcObject = event.streams[0]; };
  peer.addTransceiver("video", { direction: "recvonly" });
  if (wantsAudio) peer.addTransceiver("audio", { direction: "recvonly" });
  await peer.setLocalDescription();
  say({ type: "webrtc.offer", sdp: peer.localDescription.sdp });
  await peer.setRemoteDescription({ type: "answer", sdp: (await hear("webrtc.answer")).sdp });
  window.inbound = async (kind) => {
    for (const entry of (await peer.getStats()).values()) {
      if (entry.type === "inbound-rtp" && entry.kind === kind) return entry;
    }
    return null;
  };
}
"""


async def viewer(browser: Any, url: str, *, wants_audio: bool = True, **options: object) -> Any:
    page = await (await browser.new_context()).new_page()
    await page.goto(f"{url}/livez")
    await page.evaluate(_VIEWER, {"options": {"width": 416, "height": 240} | options, "wantsAudio": wants_audio})
    await until(page, "video.framesDecoded >= 12")
    return page


async def until(page: Any, condition: str) -> dict[str, Any]:
    """Wait until both tracks' statistics fulfil it; there is no event for that. Gives those of the picture."""
    look = f"""async () => {{
        const audio = (await inbound("audio")) ?? {{ bytesReceived: 0 }}, video = (await inbound("video")) ?? {{}};
        return {{ audio, video, isSo: Boolean({condition}) }};
    }}"""
    async with asyncio.timeout(PATIENCE_S):
        while not (seen := await page.evaluate(look))["isSo"]:
            await page.wait_for_timeout(100)
    return seen["video"]


async def test_music_is_heard_and_belongs_to_the_picture(browser: Any, synthetic_url: str) -> None:
    page = await viewer(browser, synthetic_url, music="bright", music_volume=1.0)
    await until(page, "audio.bytesReceived > 5000 && audio.audioLevel > 0.01")
    # What both tracks play now was sent at the same time, by Chromium's own reckoning from the sender reports.
    await until(page, "Math.abs(audio.estimatedPlayoutTimestamp - video.estimatedPlayoutTimestamp) < 80")
    await page.evaluate("() => say({ type: 'session.update', music: null })")
    await until(page, "audio.audioLevel < 0.001")
    await page.context.close()


async def test_without_music_the_sound_track_is_silent_and_delays_no_picture(browser: Any, synthetic_url: str) -> None:
    """Measures both side by side, so that other load hits both; tries again with new viewers if it hits only one.

    A sound track that held the picture back would do so each time.
    """
    async with asyncio.timeout(3 * PATIENCE_S):
        while True:
            pages = [await viewer(browser, synthetic_url, wants_audio=wants_audio) for wants_audio in (True, False)]
            played = "video.framesDecoded >= 60 && audio.bytesReceived === 0"
            videos = await asyncio.gather(*(until(page, played) for page in pages))
            for page in pages:
                await page.context.close()
            held_ms = [1000 * video["jitterBufferDelay"] / video["jitterBufferEmittedCount"] for video in videos]
            if abs(held_ms[0] - held_ms[1]) < 40 and not any(video["freezeCount"] for video in videos):
                break

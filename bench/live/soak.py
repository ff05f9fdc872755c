"""`sceneshift bench soak`: a long show in a real Chromium: joins in mid-loop, hundreds of switches, every frame seen.

A real server with the synthetic engine (numbered pictures, to measure the media path and not the model), one controller
over WebSocket, one page that watches by WHEP all the time and one that joins again and again. The page sees each
encoded frame as it arrives (encoded transform). So the RTP timestamps show a repeated or lost frame of the program
wherever it happens: at a loop's seam, at a take, at a change from kept packets to encoded ones.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from bench.parts.browser import chromium
from bench.parts.busy import add_flag, beside_busy
from bench.parts.machine import machine_facts
from bench.parts.served import served

TICKS_PER_FRAME = 90_000 // 24
TRANSITIONS = (
    {"transition": "cut"},
    {"transition": "crossfade", "transition_s": 0.5},
    {"transition": "crossfade", "transition_s": 2.0},
    {"transition": "cut", "after": "hold"},
)

_WATCH = """async (whep) => {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, autoplay: true, playsInline: true });
  document.body.replaceChildren(video);
  const peer = new RTCPeerConnection({ iceServers: [], encodedInsertableStreams: true });
  const transceiver = peer.addTransceiver("video", { direction: "recvonly" });
  const seen = { frames: 0, keyframes: 0, again: 0, lost: 0, last: null };
  const streams = transceiver.receiver.createEncodedStreams();
  const look = new TransformStream({
    transform(frame, controller) {
      const timestamp = frame.getMetadata().rtpTimestamp ?? frame.timestamp;
      const step = seen.last === null ? 1 : ((timestamp - seen.last) >>> 0) / TICKS;
      controller.enqueue(frame);
      if (step === 0 || step > 1e6) {
        seen.again += 1; // a frame that was there: packets sent again by a probe, which the browser throws away
        return;
      }
      seen.lost += Math.round(step) - 1;
      seen.last = timestamp;
      seen.frames += 1;
      seen.keyframes += frame.type === "key" ? 1 : 0;
    },
  });
  void streams.readable.pipeThrough(look).pipeTo(streams.writable);
  peer.ontrack = (event) => { video.srcObject = new MediaStream([event.track]); };
  await peer.setLocalDescription();
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(whep, { method: "POST", headers, body: peer.localDescription.sdp });
  const sdp = await answer.text(), answeredAt = performance.now();
  const shown = new Promise((resolve) => video.requestVideoFrameCallback((now) => resolve(performance.now())));
  await peer.setRemoteDescription({ type: "answer", sdp });
  const joinedMs = (await shown) - answeredAt;
  window.leave = async () => {
    peer.close();
    await fetch(answer.headers.get("Location"), { method: "DELETE" });
  };
  window.report = async () => {
    let found = {};
    (await peer.getStats()).forEach((one) => { if (one.type === "inbound-rtp") found = one; });
    return {
      ...seen, freezes: found.freezeCount, dropped: found.framesDropped, decoded: found.framesDecoded,
      plis: found.pliCount, nacks: found.nackCount, packets_lost: found.packetsLost,
      buffer_delay_s: found.jitterBufferDelay, emitted: found.jitterBufferEmittedCount,
    };
  };
  return joinedMs;
}""".replace("TICKS", str(TICKS_PER_FRAME))


class Controller:
    """The show's operator. Counts how prompts end."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self.session_id = ""
        self.ends: dict[str, int] = {}
        self.stats: dict[str, Any] = {}

    async def start(self) -> None:
        await self.say({"type": "session.start"})
        while not self.session_id:
            event = json.loads(await self._socket.recv())
            self.session_id = event["session_id"] if event["type"] == "session.created" else ""

    async def say(self, message: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(message))

    async def listen(self) -> None:
        async for text in self._socket:
            event = json.loads(text)
            if event["type"] in ("prompt.applied", "prompt.superseded", "prompt.failed", "prompt.rejected"):
                self.ends[event["type"]] = self.ends.get(event["type"], 0) + 1
            if event["type"] == "stats.updated":
                self.stats = event


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGESIZE") / 2**20, 1)


async def run(duration_s: float, switches: int, joins: int) -> dict[str, Any]:
    async with served(["--engine", "synthetic"]) as server, chromium() as browser:
        async with connect(server.url.replace("http", "ws") + "/v1/realtime") as socket:
            controller = Controller(socket)
            await controller.start()
            listening = asyncio.create_task(controller.listen())
            try:
                return await _show(browser, server, controller, duration_s, switches, joins)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


async def _show(
    browser: Any, server: Any, controller: Controller, duration_s: float, switches: int, joins: int
) -> dict[str, Any]:
    whep = f"/whep/{controller.session_id}"
    stays, comes = await browser.new_page(), await browser.new_page()
    for page in (stays, comes):
        await page.goto(f"{server.url}/livez")
    await controller.say({"type": "prompt.set", "text": "scene 1"})
    await stays.evaluate(_WATCH, whep)
    joined_ms: list[float] = []
    samples: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    join_every = max(1, switches // max(1, joins))
    transitions = itertools.cycle(TRANSITIONS)
    for switch in range(switches):
        await asyncio.sleep(max(0.0, started_at + (switch + 1) * duration_s / switches - loop.time()))
        if switch % join_every == 0 and len(joined_ms) < joins:  # in the middle of a loop: the last take is long over
            joined_ms.append(await comes.evaluate(_WATCH, whep))
            await comes.evaluate("() => window.leave()")
        if switch % 20 == 19:
            await controller.say({"type": "program.blank"})
            await asyncio.sleep(0.5)
            await controller.say({"type": "program.resume"})
        await controller.say({"type": "prompt.set", "text": f"scene {switch % 900 + 2}"} | next(transitions))
        if switch % max(1, switches // 10) == 0:
            samples.append(await stays.evaluate("() => window.report()") | {"server_mib": resident_mib(server.pid)})
            print(json.dumps({"switch": switch} | samples[-1]), file=sys.stderr, flush=True)
    await asyncio.sleep(5)
    samples.append(await stays.evaluate("() => window.report()") | {"server_mib": resident_mib(server.pid)})
    last, middle = samples[-1], samples[len(samples) // 2]
    first = samples[1] if len(samples) > 2 else samples[0]
    return {
        "machine": machine_facts(),
        "duration_s": round(loop.time() - started_at, 1),
        "switches": switches,
        "prompts_ended": controller.ends,
        "join_ms": {
            "median": round(statistics.median(joined_ms), 1),
            "worst": round(max(joined_ms), 1),
            "num": len(joined_ms),
        },
        "frames": last["frames"],
        "keyframes": last["keyframes"],
        "frames_decoded": last["decoded"],  # more than `frames`: one was shown twice
        "frames_that_came_again": last["again"],
        "frames_lost": last["lost"],
        "freezes": last["freezes"],
        "frames_dropped_by_browser": last["dropped"],
        "plis": last["plis"],
        "buffer_ms_first_half": _buffer_ms(first, middle),
        "buffer_ms_second_half": _buffer_ms(middle, last),
        "server_mib": [sample["server_mib"] for sample in samples],
        "continuous_play_ratio": controller.stats.get("continuous_play_ratio"),
        "max_gap_ms": controller.stats.get("max_gap_ms"),
    }


def _buffer_ms(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """Mean time in the browser's jitter buffer between two samples."""
    emitted = after["emitted"] - before["emitted"]
    return round(1000 * (after["buffer_delay_s"] - before["buffer_delay_s"]) / emitted, 1) if emitted else None


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench soak", description=__doc__)
    parser.add_argument("--duration", type=float, default=1800.0, help="seconds (default 1800)")
    parser.add_argument("--switches", type=int, default=200)
    parser.add_argument("--joins", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    add_flag(parser)
    options = parser.parse_args(list(arguments))
    work = run(options.duration, options.switches, options.joins)
    result = {"busy": options.busy} | asyncio.run(beside_busy(options.busy, work))
    print(json.dumps(result, indent=2 if options.json else None))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

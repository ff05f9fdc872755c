"""`sceneshift bench networks`: what a viewer in a real Chromium sees through a bad network, and whether others notice.

One program of 832x480 at 24 frames/s and 2 Mbit/s of moving grain, two viewers: one through `lossy_relay`, one without.
Each scenario runs for a minute; the table has the browser's own statistics of both viewers. The page handles an outage
as our pages do: it makes a new offer when its path has been dead for some seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from bench.live.viewers import BITRATE, FRAME_RATE, HEIGHT, WIDTH, busy_clip
from bench.parts.browser import chromium
from bench.parts.busy import add_flag, beside_busy
from bench.parts.lossy_relay import LossyRelay, Path
from bench.parts.machine import machine_facts
from server.media.program import Program
from server.media.program_format import ProgramFormat
from server.stage.picture import Transition

HOST = "127.0.0.1"
_CANDIDATE = re.compile(r"^a=candidate:(\S+ \d+ udp \d+) (\S+) (\d+) typ host.*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    down: Path
    outage: tuple[float, float] | None = None  # begins, ends: seconds after the start


SCENARIOS = (
    Scenario("no trouble", Path()),
    Scenario("5 % loss", Path(loss=0.05, delay_s=0.01)),
    Scenario("200 ms round trip", Path(delay_s=0.1)),
    Scenario("200 ms round trip, 5 % loss", Path(loss=0.05, delay_s=0.1)),
    Scenario("1 Mbit/s, queue 32 KB", Path(rate=1_000_000, delay_s=0.01)),
    Scenario("4 Mbit/s, queue 32 KB", Path(rate=4_000_000, delay_s=0.01)),
    Scenario("10 s outage", Path(delay_s=0.01), outage=(20.0, 30.0)),
)

# A page that plays by WHEP and makes a new offer when its path is dead, as our pages do.
_PAGE = """<!doctype html><video id="v" autoplay muted playsinline></video><script type="module">
let peer;
window.connects = 0;
const open = async () => {
  peer?.close();
  peer = new RTCPeerConnection({ iceServers: [] });
  window.peer = peer;
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.ontrack = (event) => { v.srcObject = new MediaStream([event.track]); };
  const mine = peer;
  peer.onconnectionstatechange = () => {
    if (peer !== mine || !["disconnected", "failed"].includes(mine.connectionState)) return;
    setTimeout(() => { if (peer === mine && mine.connectionState !== "connected") open(); }, 2000);
  };
  try {
    await peer.setLocalDescription();
    const answer = await fetch("/offer/" + location.hash.slice(1), { method: "POST", body: peer.localDescription.sdp });
    await mine.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    window.connects += 1;
  } catch (error) { setTimeout(open, 1000); }
};
window.gaps = [];
let last = 0;
const frame = (now) => {
  if (last && now - last > 200) window.gaps.push(Math.round(now - last));
  last = now;
  v.requestVideoFrameCallback(frame);
};
v.requestVideoFrameCallback(frame);
window.report = async () => {
  let found = {};
  (await peer.getStats()).forEach((one) => { if (one.type === "inbound-rtp") found = one; });
  return {
    frames_decoded: found.framesDecoded ?? 0,
    freezes: found.freezeCount ?? 0, freeze_s: found.totalFreezesDuration ?? 0,
    dropped: found.framesDropped ?? 0, plis: found.pliCount ?? 0, nacks: found.nackCount ?? 0,
    lost: found.packetsLost ?? 0, resent: found.retransmittedPacketsReceived ?? 0, width: found.frameWidth ?? 0,
    buffer_ms: found.jitterBufferEmittedCount
      ? Math.round(1000 * found.jitterBufferDelay / found.jitterBufferEmittedCount) : 0,
    gaps_over_200_ms: window.gaps.length, longest_gap_ms: Math.max(0, ...window.gaps), connects: window.connects,
  };
};
open();
</script>"""


@dataclass(frozen=True, slots=True)
class Result:
    scenario: str
    bad: dict[str, Any]  # the viewer behind the relay
    good: dict[str, Any]  # the other one
    widths: list[int]  # of the bad viewer's picture, each time it changed
    dropped_by_network: int
    play_ratio: float


class WatchedStage:
    """The program and its two endpoints: `/offer/good` directly, `/offer/bad` through a relay."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.relays: list[LossyRelay] = []
        self.program = Program(
            ProgramFormat(WIDTH, HEIGHT, FRAME_RATE, BITRATE, marker=True),
            on_shown=lambda shown: None,
            on_changed=lambda on_air, prompt_id: None,
            on_viewer_lost=lambda viewer_id: None,
        )
        self.is_out = False

    async def offer(self, request: web.Request) -> web.Response:
        sdp = await request.text()
        is_bad = request.match_info["who"] == "bad"
        if is_bad and self.is_out:
            raise web.HTTPServiceUnavailable  # the network is out for HTTP, too
        if is_bad:
            sdp = re.sub(r"a=candidate:.*\r?\n", "", sdp)
        _, answer = await self.program.add_viewer(sdp)
        if is_bad:
            answer = await self._through_relay(answer)
        return web.Response(text=answer)

    async def _through_relay(self, answer: str) -> str:
        found = _CANDIDATE.search(answer)
        assert found is not None, "no candidate in the answer"
        host = found[2]
        relay = LossyRelay((host, int(found[3])), self._scenario.down)
        self.relays.append(relay)
        relay.cut(self.is_out)
        _, port = await relay.open(host)
        lines = [line for line in answer.splitlines() if not line.startswith("a=candidate:")]
        at = next(k for k, line in enumerate(lines) if line.startswith("a=ice-ufrag"))
        lines.insert(at, f"a=candidate:{found[1]} {host} {port} typ host")
        return "\r\n".join(lines) + "\r\n"

    def cut(self, is_out: bool) -> None:
        self.is_out = is_out
        for relay in self.relays:
            relay.cut(is_out)


async def play(browser: Any, scenario: Scenario, duration_s: float) -> Result:
    stage = WatchedStage(scenario)
    app = web.Application()
    app.router.add_post("/offer/{who}", stage.offer)
    app.router.add_get("/", lambda request: _page())
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    url = f"http://{HOST}:{runner.addresses[0][1]}/"
    await stage.program.open()
    stage.program.stage.take(busy_clip(), Transition("cut", 0.0))
    pages = {}
    try:
        for who in ("good", "bad"):
            pages[who] = await browser.new_page()
            await pages[who].goto(f"{url}#{who}")
            await pages[who].wait_for_function("() => v.videoWidth > 0")
        widths: list[int] = []
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        while (elapsed := loop.time() - started_at) < duration_s:
            if scenario.outage is not None:
                is_out = scenario.outage[0] <= elapsed < scenario.outage[1]
                if is_out != stage.is_out:
                    stage.cut(is_out)
            width = await pages["bad"].evaluate("() => v.videoWidth")
            if not widths or widths[-1] != width:
                widths.append(width)
            await asyncio.sleep(0.25)
        reports = {who: await page.evaluate("() => window.report()") for who, page in pages.items()}
        return Result(
            scenario.name,
            reports["bad"],
            reports["good"],
            widths,
            sum(relay.num_dropped for relay in stage.relays),
            round(stage.program.statistics().continuous_play_ratio, 5),
        )
    finally:
        for page in pages.values():
            await page.close()
        await stage.program.close()
        for relay in stage.relays:
            relay.close()
        await runner.cleanup()


async def _page() -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html")


async def run(names: Sequence[str], duration_s: float) -> list[Result]:
    results = []
    async with chromium() as browser:
        for scenario in SCENARIOS:
            if names and scenario.name not in names:
                continue
            results.append(await play(browser, scenario, duration_s))
            print(_line(results[-1]), file=sys.stderr, flush=True)
    return results


def _line(result: Result) -> str:
    bad, good = result.bad, result.good
    return (
        f"{result.scenario:28s} bad: {bad['frames_decoded']} frames, {bad['freezes']} freezes {bad['freeze_s']:.1f} s, "
        f"gap {bad['longest_gap_ms']} ms, buffer {bad['buffer_ms']} ms, lost {bad['lost']}, pli {bad['plis']}, "
        f"widths {result.widths}, connects {bad['connects']}; "
        f"good: {good['frames_decoded']} frames, {good['freezes']} freezes, gap {good['longest_gap_ms']} ms"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench networks", description=__doc__)
    parser.add_argument("--scenario", action="append", default=[], help="by name; may be repeated (default: all)")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds for each (default 60)")
    parser.add_argument("--json", action="store_true")
    add_flag(parser)
    options = parser.parse_args(list(arguments))
    results = asyncio.run(beside_busy(options.busy, run(options.scenario, options.duration)))
    if options.json:
        facts = {"machine": machine_facts(), "busy": options.busy}
        print(json.dumps(facts | {"results": [asdict(one) for one in results]}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

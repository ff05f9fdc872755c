"""`sceneshift bench viewers`: what a viewer costs the sending process, and how late its packets leave.

One program of 832x480 at 24 frames/s and 2 Mbit/s; its viewers are in another process, over loopback. One run measures
the same for our fan-out, for ready packets through aiortc's own sender, and for stock aiortc, which encodes once for
each viewer. CPU is that of the whole sending process, with encoding but without handshakes.

Lateness is measured where a packet goes to the kernel: the first packet of each frame of each viewer, against the frame
rate's own clock (the earliest frame of that viewer counts as on time). The pacer's own figure compares all packets with
their due times.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from asyncio import selector_events
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from bench.parts.busy import add_flag, beside_busy
from bench.parts.machine import machine_facts
from engine.api import Frames
from server.media.program import Program
from server.media.program_format import MediaSettings, ProgramFormat
from server.media.webrtc.pacer import Lateness
from server.stage.picture import Clip, Transition

FRAME_RATE = 24
WIDTH, HEIGHT = 832, 480
BITRATE = 2_000_000
WARM_UP_S = 4.0
CONNECT_TIMEOUT_S = 60.0
MODES = ("ours", "ours, looping", "ready packets, aiortc's sender", "stock H264", "stock VP8")


@dataclass(frozen=True, slots=True)
class Row:
    mode: str
    viewers: int
    cpu_s_per_viewer_s: float  # of viewer-seconds that were delivered in full
    share_delivered: float  # of the frames that were due
    lateness_p50_ms: float
    lateness_p99_ms: float
    packet_lateness_p99_ms: float | None
    kbit_s_per_viewer: float
    encoded_frames: int
    replayed_frames: int
    lost_packets: int


class Taps:
    """Notes when the first packet of each frame of each stream goes to the kernel."""

    def __init__(self) -> None:
        self.is_on = False
        self._streams: dict[bytes, tuple[bytes, list[tuple[float, int]]]] = {}
        self._send = selector_events._SelectorDatagramTransport.sendto

    def __enter__(self) -> Taps:
        taps, send = self, self._send

        def sendto(transport: Any, data: bytes, addr: Any = None) -> None:
            # SRTP does not encrypt the header (RFC 3711). RTCP has 200 to 207 in the second byte, STUN and DTLS less.
            if taps.is_on and data[0] & 0xC0 == 0x80 and not 192 <= data[1] <= 223:
                taps.note(bytes(data[8:12]), bytes(data[4:8]))
            send(transport, data, addr)

        selector_events._SelectorDatagramTransport.sendto = sendto  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        selector_events._SelectorDatagramTransport.sendto = self._send  # type: ignore[method-assign]

    def note(self, ssrc: bytes, timestamp: bytes) -> None:
        last, frames = self._streams.get(ssrc, (b"", []))
        if timestamp > last or not last:  # later: no retransmission; a wrap within a run is rare
            frames.append((time.monotonic(), int.from_bytes(timestamp, "big")))
            self._streams[ssrc] = (timestamp, frames)

    def lateness_s(self) -> list[float]:
        late: list[float] = []
        longest = max((len(frames) for _, frames in self._streams.values()), default=0)
        for _, frames in self._streams.values():
            if len(frames) < longest / 2:  # a stream of retransmissions
                continue
            first = frames[0][1]
            offsets = [at - ((timestamp - first) & 0xFFFFFFFF) / 90_000 for at, timestamp in frames]
            late += [offset - min(offsets) for offset in offsets]
        return late


class Receivers:
    """The viewers, in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), CONNECT_TIMEOUT_S)
        message: dict[str, Any] = json.loads(line)
        return message

    async def counts(self) -> dict[str, int]:
        await self.say({"count": True})
        counts = (await self.hear())["counts"]
        return {name: sum(count[name] for count in counts) for name in counts[0]}


@asynccontextmanager
async def receivers(num: int, codec: str, answer: Callable[[str], Awaitable[str]]) -> AsyncIterator[Receivers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.parts.receivers",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
        limit=2**20,
    )
    viewers = Receivers(process)
    try:
        await viewers.say({"open": num, "codec": codec})
        for _ in range(num):
            await viewers.say({"answer": await answer((await viewers.hear())["offer"])})
        yield viewers
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


# --- ours ---------------------------------------------------------------------------------------------------------


def busy_clip() -> Clip:
    """Two seconds that need all of 2 Mbit/s: drifting noise of middling grain."""
    rng = np.random.default_rng(0)
    grain = rng.integers(60, 190, (HEIGHT // 4, WIDTH // 4 + 48), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    planes = np.full((49, HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    for k in range(49):
        planes[k, :HEIGHT] = grain[:, 4 * (k % 48) : 4 * (k % 48) + WIDTH]
    return Clip("p1", Frames(planes), FRAME_RATE, closes_on_itself=True, after="loop")


async def run_ours(num: int, duration_s: float, *, mode: str) -> Row:
    """The marker makes each picture unique, so that the program encodes it live; without the marker the clip loops."""
    is_live = mode != "ours, looping"
    program = Program(
        ProgramFormat(WIDTH, HEIGHT, FRAME_RATE, BITRATE, marker=is_live),
        on_shown=lambda shown: None,
        on_changed=lambda on_air, prompt_id: None,
        on_viewer_lost=lambda viewer_id: None,
        media=MediaSettings(uses_stock_sender=mode == "ready packets, aiortc's sender"),
    )
    await program.open()
    try:
        program.stage.take(busy_clip(), Transition("cut", 0.0))

        async def answer(offer: str) -> str:
            return (await program.add_viewer(offer))[1]

        async with receivers(num, "h264", answer) as viewers:
            gc.collect()  # garbage of the handshakes; now, because it would hold up the loop later
            await asyncio.sleep(WARM_UP_S)
            program._pacer.lateness = Lateness()
            before = program.statistics()
            measured = await measure(viewers, num, duration_s)
            after = program.statistics()
    finally:
        await program.close()
    return row(
        mode,
        num,
        measured,
        encoded_frames=after.encoded_frames - before.encoded_frames,
        replayed_frames=after.replayed_frames - before.replayed_frames,
        packet_lateness_p99_ms=round(after.packet_lateness_p99_s * 1000, 2) if "aiortc" not in mode else None,
    )


# --- stock aiortc -------------------------------------------------------------------------------------------------


class PictureTrack(MediaStreamTrack):
    """The same pictures for a stock sender, which encodes them for its one viewer."""

    kind = "video"

    def __init__(self, frames: Sequence[np.ndarray[Any, np.dtype[np.uint8]]], started_at: float) -> None:
        super().__init__()
        self._frames = frames
        self._started_at = started_at
        self._index = 0

    async def recv(self) -> av.VideoFrame:
        self._index = max(self._index + 1, int((time.monotonic() - self._started_at) * FRAME_RATE))
        await asyncio.sleep(max(0.0, self._started_at + self._index / FRAME_RATE - time.monotonic()))
        frame = av.VideoFrame.from_ndarray(self._frames[self._index % len(self._frames)], "yuv420p")
        frame.pts, frame.time_base = self._index * 90_000 // FRAME_RATE, Fraction(1, 90_000)
        return frame


async def run_stock(num: int, duration_s: float, *, mode: str) -> Row:
    codec = mode.removeprefix("stock ").lower()
    planes = list(busy_clip().frames.planes[:48])
    started_at = time.monotonic()
    connections: list[RTCPeerConnection] = []

    async def answer(offer: str) -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connections.append(connection)
        transceiver = connection.addTransceiver(PictureTrack(planes, started_at), direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in (f"video/{codec}", "video/rtx")])
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription()
        return connection.localDescription.sdp

    try:
        async with receivers(num, codec, answer) as viewers:
            gc.collect()
            await asyncio.sleep(WARM_UP_S)
            measured = await measure(viewers, num, duration_s)
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))
    return row(mode, num, measured, encoded_frames=measured.counts["frames"], replayed_frames=0)


# --- measuring ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    cpu_s: float
    wall_s: float
    counts: dict[str, int]
    lateness_s: list[float]


async def measure(viewers: Receivers, num: int, duration_s: float) -> Measured:
    with Taps() as taps:
        before = await viewers.counts()
        taps.is_on = True
        cpu_at, wall_at = time.process_time(), time.monotonic()
        await asyncio.sleep(duration_s)
        cpu_s, wall_s = time.process_time() - cpu_at, time.monotonic() - wall_at
        taps.is_on = False
        after = await viewers.counts()
    return Measured(cpu_s, wall_s, {name: after[name] - before[name] for name in after}, taps.lateness_s())


def row(
    mode: str,
    num: int,
    measured: Measured,
    *,
    encoded_frames: int,
    replayed_frames: int,
    packet_lateness_p99_ms: float | None = None,
) -> Row:
    due = num * measured.wall_s * FRAME_RATE
    delivered = measured.counts["frames"] / due
    p50, p99 = np.quantile(measured.lateness_s, [0.5, 0.99]) * 1000 if measured.lateness_s else (float("nan"),) * 2
    return Row(
        mode=mode,
        viewers=num,
        cpu_s_per_viewer_s=round(measured.cpu_s / (num * measured.wall_s * max(delivered, 1e-9)), 5),
        share_delivered=round(delivered, 4),
        lateness_p50_ms=round(float(p50), 2),
        lateness_p99_ms=round(float(p99), 2),
        packet_lateness_p99_ms=packet_lateness_p99_ms,
        kbit_s_per_viewer=round(measured.counts["bytes"] * 8 / 1000 / (num * measured.wall_s), 1),
        encoded_frames=encoded_frames,
        replayed_frames=replayed_frames,
        lost_packets=measured.counts["lost"],
    )


async def run(viewer_counts: Sequence[int], modes: Sequence[str], duration_s: float) -> list[Row]:
    rows = []
    for num in viewer_counts:
        for mode in modes:
            run_one = run_stock if mode.startswith("stock") else run_ours
            rows.append(await run_one(num, duration_s, mode=mode))
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench viewers", description=__doc__)
    parser.add_argument("--viewers", default="1,4,16,64", help="how many, with commas (default 1,4,16,64)")
    parser.add_argument("--modes", default=";".join(MODES), help="with semicolons between (default: all)")
    parser.add_argument("--duration", type=float, default=15.0, help="seconds measured for each (default 15)")
    parser.add_argument("--json", action="store_true")
    add_flag(parser)
    options = parser.parse_args(list(arguments))
    counts = [int(number) for number in options.viewers.split(",")]
    rows = asyncio.run(beside_busy(options.busy, run(counts, options.modes.split(";"), options.duration)))
    ratios = [
        {"viewers": num, "mode": other.mode, "times_ours": round(other.cpu_s_per_viewer_s / mine.cpu_s_per_viewer_s, 1)}
        for num in counts
        for mine in [one for one in rows if one.viewers == num and one.mode == "ours"]
        for other in rows
        if other.viewers == num and other.mode != "ours"
    ]
    if options.json:
        facts = {"machine": machine_facts(), "busy": options.busy}
        print(json.dumps(facts | {"rows": [asdict(one) for one in rows], "ratios": ratios}, indent=2))
    else:
        for ratio in ratios:
            print(f"{ratio['viewers']:3d} viewers, {ratio['mode']}: {ratio['times_ours']} times ours")
    return 0


def _line(one: Row) -> str:
    return (
        f"{one.viewers:3d} {one.mode:32s} {one.cpu_s_per_viewer_s:.5f} CPU s a viewer-second, "
        f"{100 * one.share_delivered:5.1f} % delivered, late p50 {one.lateness_p50_ms} p99 {one.lateness_p99_ms} ms "
        f"(packets {one.packet_lateness_p99_ms}), {one.kbit_s_per_viewer} kbit/s, "
        f"{one.encoded_frames} encoded, {one.replayed_frames} kept, {one.lost_packets} lost"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

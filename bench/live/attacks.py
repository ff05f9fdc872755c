"""`sceneshift bench faults --attacks`: one hostile client beside a running show, and faults that once were permanent.

Each row has a server of its own (`sceneshift serve --engine synthetic`, a process), one stage with a controller and
one viewer over WebSocket, and the attacker in a third process. An attack sends for `ATTACK_S` at most; the row ends
when the server answers again. A row says what the attacker got, the longest time between two frames at the show's
viewer, the longest time for an answer of /livez, and the largest growth of the server's memory. For a fault, it says
when the fault was over.

`--source FOLDER` tries the server of another checkout: the same attacks before a change and after it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.parts.machine import machine_facts
from bench.parts.served import SOURCE, Served, served

ATTACK_S = 5.0
# By then, encoders have allocated their memory.
WARM_S = 2.0
# How long we wait for a server to answer again after an attack: 120 s is longer than any attack here took.
RECOVERY_S = 120.0
# A prompt of the synthetic engine is on air within a second; after so many seconds it never will be.
PATIENCE_S = 10.0
FAULTY_SERVER = SOURCE / "tests" / "server" / "faulty_server.py"
_SDP = {"Content-Type": "application/sdp"}


@dataclass(slots=True)
class Row:
    attack: str
    outcome: str
    viewer_gap_ms: float | None = None
    livez_ms: float | None = None
    growth_mb: float | None = None
    over_after_s: float | None = None


# --- the show -----------------------------------------------------------------------------------------------------


class Show:
    """A show that has nothing to do with the attack, and what its viewer sees. Times in seconds."""

    def __init__(self, server: Served, http: aiohttp.ClientSession) -> None:
        self.longest_gap_s = 0.0
        self.longest_livez_s = 0.0
        self.peak_mb = self.first_mb = _resident_mb(server.pid)
        self._server = server
        self._http = http
        self.session_id = ""

    @asynccontextmanager
    async def on(self) -> AsyncIterator[Show]:
        async with self._http.ws_connect("/v1/realtime") as controller:
            await controller.send_json({"type": "session.start", "name": "show", "on_preview": "off"})
            await until(controller, "session.created")
            await controller.send_json({"type": "prompt.set", "text": "scene 1", "transition": "cut"})
            await until(controller, "prompt.applied")
            async with self._http.ws_connect("/v1/sessions/show/watch", max_msg_size=0) as viewer:
                await viewer.receive_str()  # `stream.started`
                await viewer.receive_bytes()
                await asyncio.sleep(WARM_S)
                self.peak_mb = self.first_mb = _resident_mb(self._server.pid)
                tasks = [
                    asyncio.create_task(work)
                    for work in (self._read(controller), self._watch(viewer), self._ask(), self._weigh())
                ]
                try:
                    yield self
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        """Waits until the server answers again, and a second more for delayed frames."""
        async with asyncio.timeout(RECOVERY_S):
            async with self._http.get("/livez"):
                pass
        await asyncio.sleep(1.0)

    async def _read(self, controller: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in controller:
            pass

    async def _watch(self, viewer: aiohttp.ClientWebSocketResponse) -> None:
        last_at = time.monotonic()
        async for _ in viewer:
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - last_at)
            last_at = now

    async def _ask(self) -> None:
        while True:
            asked_at = time.monotonic()
            async with self._http.get("/livez"):
                self.longest_livez_s = max(self.longest_livez_s, time.monotonic() - asked_at)
            await asyncio.sleep(0.01)

    async def _weigh(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, _resident_mb(self._server.pid))
            await asyncio.sleep(0.05)


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """The next message of this type. Raises `ConnectionError` at the connection's end."""
    async for frame in socket:
        message: dict[str, Any] = json.loads(frame.data)
        if message["type"] == kind:
            return message
    raise ConnectionError("the server closed the connection")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def beside_a_show(attack: str, source: Path) -> Row:
    async with served(("--engine", "synthetic", "--max-sessions", "4"), source=source) as server:
        timeout = aiohttp.ClientTimeout(total=RECOVERY_S)
        async with aiohttp.ClientSession(server.url, timeout=timeout) as http, Show(server, http).on() as show:
            outcome = await _in_its_own_process(attack, server.url)
            await show.settle()
            return Row(
                attack,
                outcome,
                round(show.longest_gap_s * 1000),
                round(show.longest_livez_s * 1000),
                round(show.peak_mb - show.first_mb),
            )


async def _in_its_own_process(attack: str, url: str) -> str:
    command = (sys.executable, "-m", "bench.live.attacks", attack, url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=SOURCE)
    output, _ = await process.communicate()
    return output.decode().strip()


# --- attacks, in a process of their own ---------------------------------------------------------------------------


async def nobody(http: aiohttp.ClientSession) -> str:
    """The control, without an attack: the machine's own effect on the figures."""
    await asyncio.sleep(ATTACK_S)
    return "-"


async def sending_viewer(http: aiohttp.ClientSession) -> str:
    """C1: a viewer whose offer has a second video track, which sends one still picture again and again."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack  # noqa: PLC0415
    from av import VideoFrame  # noqa: PLC0415

    class Still(VideoStreamTrack):
        async def recv(self) -> VideoFrame:
            frame = VideoFrame(1280, 720, "yuv420p")
            frame.pts, frame.time_base = await self.next_timestamp()
            return frame

    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", direction="recvonly")
    peer.addTransceiver(Still(), direction="sendonly")
    await peer.setLocalDescription(await peer.createOffer())
    try:
        async with http.post("/whep/show", data=peer.localDescription.sdp, headers=_SDP) as response:
            if response.status != 201:
                return await _refusal(response)
            await peer.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
        await asyncio.sleep(ATTACK_S)
        return "taken, and decoded"
    finally:
        await peer.close()


async def quadratic_offer(http: aiohttp.ClientSession) -> str:
    """C2: one offer of 41 KB in which each feedback line applies to each codec."""
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:0", "a=recvonly"]
    lines += ["a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuv", "a=fingerprint:sha-256 AB:CD", "a=setup:active"]
    lines += ["a=rtcp-mux", *["a=rtpmap:96 VP8/90000"] * 1000, *["a=rtcp-fb:* nack"] * 1000]
    offer = "".join(f"{line}\r\n" for line in lines)
    async with http.post("/whep/show", data=offer, headers=_SDP) as response:
        return "taken" if response.status == 201 else await _refusal(response)


async def inflated_bodies(http: aiohttp.ClientSession) -> str:
    """C3: bodies of 200 MiB, compressed to 204 KB, one after the other, from a client without a token."""
    body, until_s = gzip.compress(bytes(200 * 2**20), 6), time.monotonic() + ATTACK_S
    num_bodies, answer = 0, ""
    while time.monotonic() < until_s:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/sdp"}
        # `compress=False`: otherwise aiohttp would compress once more because of the header.
        async with http.post("/whep/nobody", data=body, headers=headers, compress=False) as response:
            num_bodies += 1
            answer = await _refusal(response)
    return f"{answer}, {num_bodies} times"


async def _refusal(response: aiohttp.ClientResponse) -> str:
    text = await response.text()
    with contextlib.suppress(ValueError):
        return f"{response.status} {json.loads(text)['error']['code']}"
    return str(response.status)


ATTACKS: dict[str, Callable[[aiohttp.ClientSession], Awaitable[str]]] = {
    "nobody": nobody,
    "sending-viewer": sending_viewer,
    "quadratic-offer": quadratic_offer,
    "inflated-bodies": inflated_bodies,
}


# --- strangers behind a proxy -------------------------------------------------------------------------------------


async def behind_a_proxy(name: str, flags: tuple[str, ...], headers: dict[str, str], source: Path) -> Row:
    """C4: a client on the internet, without a token, through the documented proxy set-up: may it start a stage?"""
    async with served(("--engine", "synthetic", *flags), source=source) as server:
        async with aiohttp.ClientSession(server.url) as http:
            try:
                async with http.ws_connect("/v1/realtime", headers=headers) as socket, asyncio.timeout(PATIENCE_S):
                    await socket.send_json({"type": "session.start"})
                    answer = await socket.receive_json()
                outcome = answer["error"]["code"] if answer["type"] == "error" else answer["type"]
            except aiohttp.WSServerHandshakeError as refusal:
                outcome = f"HTTP {refusal.status}"
    return Row(name, outcome)


# --- faults -------------------------------------------------------------------------------------------------------


async def closed_output(source: Path) -> Row:
    """H3: `sceneshift serve | head -1`. The server prints once more when the engine is ready."""
    mine, its = os.pipe()
    process = await _faulty_server("late-start", its, source)
    os.close(its)
    with os.fdopen(mine) as lines:
        url = (await asyncio.to_thread(lines.readline)).split()[-1]
    process.send_signal(signal.SIGUSR1)
    try:
        return await _after_the_fault("closed output", url, process)
    finally:
        await _end(process)


async def dead_task(fault: str, source: Path) -> Row:
    """H3: the task dies while a show is on and another client waits for a stage."""
    process = await _faulty_server(fault, asyncio.subprocess.PIPE, source)
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().split()[-1]
        await process.stdout.readline()
        wait_s = 1.5 if fault == "session-ticks" else 0.0  # it dies with the next tick
        return await _after_the_fault(f"death of {fault}", url, process, is_struck=True, wait_s=wait_s)
    finally:
        await _end(process)


async def _faulty_server(fault: str, output: int, source: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(FAULTY_SERVER), fault, "--port", "0", "--max-sessions", "1"),
        stdout=output,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source)},
    )


async def _after_the_fault(
    name: str, url: str, process: asyncio.subprocess.Process, *, is_struck: bool = False, wait_s: float = 0.0
) -> Row:
    """Whether the show goes on or the server has ended, and after what time."""
    async with aiohttp.ClientSession(url) as http:
        controller, waiting = await http.ws_connect("/v1/realtime"), await http.ws_connect("/v1/realtime")
        await controller.send_json({"type": "session.start", "on_preview": "off"})
        await until(controller, "session.created")
        await waiting.send_json({"type": "session.start"})
        if is_struck:
            await until(waiting, "session.queued")
            process.send_signal(signal.SIGUSR1)
        struck_at = time.monotonic()
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({ended}, timeout=wait_s)
        going_on = asyncio.create_task(_goes_on(controller))
        await asyncio.wait({ended, going_on}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if going_on.done() and not going_on.result():
            await asyncio.wait({ended}, timeout=PATIENCE_S)  # it closes its connections before it ends
        seconds = round(time.monotonic() - struck_at, 1)
        if process.returncode is not None:
            row = Row(name, f"exit status {process.returncode}", over_after_s=seconds)
        elif going_on.done() and going_on.result():
            row = Row(name, "the show goes on", over_after_s=seconds)
        else:
            async with http.get("/livez") as live, http.get("/readyz") as ready:
                row = Row(name, f"nothing for {PATIENCE_S:.0f} s; /livez {live.status}, /readyz {ready.status}")
        for task in (ended, going_on):
            task.cancel()
        await asyncio.gather(ended, going_on, return_exceptions=True)
    return row


async def _goes_on(controller: aiohttp.ClientWebSocketResponse) -> bool:
    """True if a prompt becomes a picture and figures follow; False if the connection ends."""
    try:
        await controller.send_json({"type": "prompt.set", "text": "scene 1", "transition": "cut"})
        await until(controller, "prompt.applied")
        await until(controller, "stats.updated")
    except ConnectionError:
        return False
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


# --- the table ----------------------------------------------------------------------------------------------------


async def run(source: Path) -> list[Row]:
    rows = [await beside_a_show(attack, source) for attack in ATTACKS]
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    origins = ("--allowed-origins", "https://stage.example")
    rows.append(await behind_a_proxy("proxy, its name", origins, forwarded | {"Host": "stage.example"}, source))
    rows.append(await behind_a_proxy("proxy, no name", (), forwarded, source))
    rows.append(await closed_output(source))
    rows += [await dead_task(fault, source) for fault in ("engine-events", "session-ticks")]
    return rows


def main(source: Path, *, as_json: bool) -> int:
    rows = asyncio.run(run(source.resolve()))
    if as_json:
        print(
            json.dumps(
                {"bench": "attacks", "machine": machine_facts(), "rows": [asdict(row) for row in rows]}, indent=2
            )
        )
        return 0
    names = list(asdict(rows[0]))
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join("" if value is None else str(value) for value in asdict(row).values()) + " |")
    return 0


async def _attack(name: str, url: str) -> str:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=RECOVERY_S)) as http:
        return await ATTACKS[name](http)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One attack on a server of yours; `bench faults --attacks` runs all.")
    parser.add_argument("attack", choices=list(ATTACKS))
    parser.add_argument("url")
    given = parser.parse_args()
    print(asyncio.run(_attack(given.attack, given.url)))

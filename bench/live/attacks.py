"""`sceneshift bench faults --attacks`: one hostile client beside a running show, and faults that once were permanent.

Each row has a server of its own (`sceneshift serve --engine synthetic`, a process), one stage with a controller and
one viewer over WebSocket, and the attacker in a third process. An attack sends for `ATTACK_S` at most, or holds what it
has opened for some seconds more than the server allows; the row ends when the server answers again. A row says what the
attacker got, the longest time between two frames at the show's viewer, the show's play ratio, the longest time for an
answer of /livez, and the largest growth of the server's memory and of its open files. For a fault, it says when the
fault was over. Strangers attack without a token. All come from this machine, so that bounds by address do not help.

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
from collections import Counter
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
# Longer than the server waits for a request's head, and for a body.
HOLD_HEADS_S, HOLD_BODIES_S = 15.0, 25.0
TOKEN = "0123456789abcdef0123"  # of a server that lives for a row
FAULTY_SERVER = SOURCE / "tests" / "server" / "faulty_server.py"
_SDP = {"Content-Type": "application/sdp"}


@dataclass(slots=True)
class Row:
    attack: str
    outcome: str
    viewer_gap_ms: float | None = None
    livez_ms: float | None = None
    growth_mb: float | None = None
    play_ratio: float | None = None
    files_held: int | None = None
    over_after_s: float | None = None


# --- the show -----------------------------------------------------------------------------------------------------


class Show:
    """A show that has nothing to do with the attack, and what its viewer sees. Times in seconds."""

    def __init__(self, server: Served, http: aiohttp.ClientSession) -> None:
        self.longest_gap_s = 0.0
        self.longest_livez_s = 0.0
        self.peak_mb = self.first_mb = _resident_mb(server.pid)
        self.most_files = self.first_files = _num_files(server.pid)
        self.play_ratio = 1.0
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
                self.most_files = self.first_files = _num_files(self._server.pid)
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
        async for frame in controller:
            message = json.loads(frame.data)
            if message["type"] == "stats.updated":
                self.play_ratio = message["continuous_play_ratio"]

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
            self.most_files = max(self.most_files, _num_files(self._server.pid))
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


def _num_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _client(url: str, token: str | None) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=RECOVERY_S), headers=headers)


async def beside_a_show(attack: str, source: Path) -> Row:
    flags = ("--engine", "synthetic", "--max-sessions", "4", "--token", TOKEN)
    async with served(flags, source=source) as server:
        async with _client(server.url, TOKEN) as http, Show(server, http).on() as show:
            outcome = await _in_its_own_process(attack, server.url)
            await show.settle()
            return Row(
                attack,
                outcome,
                round(show.longest_gap_s * 1000),
                round(show.longest_livez_s * 1000),
                round(show.peak_mb - show.first_mb),
                round(show.play_ratio, 3),
                show.most_files - show.first_files,
            )


async def _in_its_own_process(attack: str, url: str) -> str:
    token = () if attack in STRANGERS else ("--token", TOKEN)
    command = (sys.executable, "-m", "bench.live.attacks", attack, url, *token)
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


async def message_flood(http: aiohttp.ClientSession) -> str:
    """H1: `session.ping` as fast as a socket takes them; when it is closed, the next socket."""
    return await _flood(http, lambda socket: socket.send_str('{"type":"session.ping"}'))


async def ping_flood(http: aiohttp.ClientSession) -> str:
    """H1: the same with WebSocket's own pings."""
    return await _flood(http, lambda socket: socket.ping())


async def _flood(
    http: aiohttp.ClientSession, send: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]]
) -> str:
    until_s, num_sent, codes = time.monotonic() + ATTACK_S, 0, Counter[str]()
    while time.monotonic() < until_s:
        async with http.ws_connect("/v1/realtime", max_msg_size=0) as socket:
            reading = asyncio.create_task(_read_all(socket))
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < until_s and not reading.done():
                    await send(socket)
                    num_sent += 1
                    if num_sent % 100 == 0:
                        await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            codes[str(socket.close_code or "none")] += 1
    closed = ", ".join(f"{code} {count} times" for code, count in codes.items())
    return f"{num_sent} sent; close codes: {closed}"


async def _read_all(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


async def reconnecting(http: aiohttp.ClientSession) -> str:
    """H1: two strangers, each with one socket after the other, full of pings from the first packet on."""
    host, port = await _address(http)
    until_s, num_sockets = time.monotonic() + ATTACK_S, 0
    head = f"GET /v1/realtime HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    pings = b"\x89\x80\0\0\0\0" * 10_000

    async def one_after_the_other() -> None:
        nonlocal num_sockets
        while time.monotonic() < until_s:
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(head.encode())
                reading = asyncio.create_task(_ends(reader))
                while not reading.done() and time.monotonic() < until_s:
                    writer.write(pings)
                    await asyncio.wait({asyncio.create_task(writer.drain()), reading}, return_when="FIRST_COMPLETED")
                num_sockets += 1
                reading.cancel()
                writer.transport.abort()

    await asyncio.gather(one_after_the_other(), one_after_the_other())
    return f"{num_sockets} sockets in {ATTACK_S:.0f} s"


async def half_heads(http: aiohttp.ClientSession) -> str:
    """H5: 200 requests whose head never ends."""
    return await _hold(http, 200, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", HOLD_HEADS_S)


async def half_bodies(http: aiohttp.ClientSession) -> str:
    """H5: 50 offers whose body never ends."""
    head = f"POST /whep/show?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
    return await _hold(http, 50, f"{head}Content-Length: 5000\r\n\r\nv=0".encode(), HOLD_BODIES_S)


async def silent(http: aiohttp.ClientSession) -> str:
    """H5: 900 connections that send nothing. A usual limit of open files is 1,024."""
    return await _hold(http, 900, b"", HOLD_HEADS_S)


async def _hold(http: aiohttp.ClientSession, num_connections: int, sent: bytes, seconds: float) -> str:
    host, port = await _address(http)
    opened = [await asyncio.open_connection(host, port) for _ in range(num_connections)]
    for _, writer in opened:
        writer.write(sent)
    reading = [asyncio.create_task(_ends(reader)) for reader, _ in opened]
    _, held = await asyncio.wait(reading, timeout=seconds)
    for task in held:
        task.cancel()
    for _, writer in opened:
        writer.transport.abort()
    return f"{len(held)} of {num_connections} held after {seconds:.0f} s"


async def _ends(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(2**16):
            pass


async def _address(http: aiohttp.ClientSession) -> tuple[str, int]:
    async with http.get("/livez") as response:
        return str(response.url.host), int(response.url.port or 80)


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
    "message-flood": message_flood,
    "ping-flood": ping_flood,
    "reconnecting": reconnecting,
    "half-heads": half_heads,
    "half-bodies": half_bodies,
    "silent": silent,
}
STRANGERS = {"inflated-bodies", "reconnecting", "half-heads", "silent"}


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


async def _attack(name: str, url: str, token: str | None) -> str:
    async with _client(url, token) as http:
        return await ATTACKS[name](http)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One attack on a server of yours; `bench faults --attacks` runs all.")
    parser.add_argument("attack", choices=list(ATTACKS))
    parser.add_argument("url")
    parser.add_argument("--token")
    given = parser.parse_args()
    print(asyncio.run(_attack(given.attack, given.url, given.token)))

"""slowhttptest (Debian) against a real server process: others are served meanwhile, and no slow request stays open.

Three attacks run at once: heads by halves (Slowloris), bodies by halves (R-U-Dead-Yet), answers that are hardly read.
Bounds end them after 10, 20 and 30 s, so this waits as long. The test is skipped without the program.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

LARGE = "/client/vendor/selfie_segmentation/tflite-simd-1-0-0.wasm"  # more than the kernel takes from us at once
NUM_CONNECTIONS = 20  # of each attack
LONGEST_S = 60  # that any of them may stay open
ATTACKS = {
    "heads": ("-H", "-i", "2", "-u", "/livez"),
    "bodies": ("-B", "-i", "2", "-s", "8192", "-u", "/v1/realtime/calls"),
    "answers": ("-X", "-i", "1", "-u", LARGE),
}


def _num_open(port: int) -> int:
    """The server's connections on this port, by the kernel."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


async def _attack(port: int, options: tuple[str, ...]) -> asyncio.subprocess.Process:
    *how, path = options
    return await asyncio.create_subprocess_exec(
        *("slowhttptest", "-c", str(NUM_CONNECTIONS), "-r", str(NUM_CONNECTIONS), "-l", str(2 * LONGEST_S), "-p", "30"),
        *(*how, f"http://127.0.0.1:{port}{path}"),
        stdout=asyncio.subprocess.DEVNULL,
    )


@pytest.mark.timeout(3 * LONGEST_S)
async def test_slow_requests_end_and_keep_nobody_from_the_service() -> None:
    if shutil.which("slowhttptest") is None:
        pytest.skip("slowhttptest is not installed")
    command = (sys.executable, "-m", "server", "serve", "--engine", "synthetic", "--port", "0")
    server = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    attacks: list[asyncio.subprocess.Process] = []
    try:
        assert server.stdout is not None
        address = (await server.stdout.readline()).decode().split()[-1]
        port = int(address.rstrip("/").rpartition(":")[2])
        attacks = [await _attack(port, options) for options in ATTACKS.values()]
        most_open, num_served = 0, 0
        async with asyncio.timeout(LONGEST_S), aiohttp.ClientSession() as http:
            while (num_open := _num_open(port)) > 1 or most_open < len(ATTACKS) * NUM_CONNECTIONS // 2:
                most_open = max(most_open, num_open)
                async with http.get(f"{address}livez") as answer:  # one connection, kept
                    assert answer.status == 200
                num_served += 1
                await asyncio.sleep(0.2)  # the pace of the others' requests
        print(f"{most_open} connections at most; {num_served} requests of others were served meanwhile")
    finally:
        for process in attacks:
            if process.returncode is None:
                process.kill()
            await process.wait()
        server.send_signal(signal.SIGTERM)
        _, log = await server.communicate()
    assert b"Traceback" not in log, log.decode()

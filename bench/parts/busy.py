"""`--busy N`: that many processes that spin beside the server, for every bench that serves.

They are plain children of the bench, in its session and process group: Linux's autogroup shares the cores between
sessions, so busy processes of another session would hide what they do to ours. Each ends when its standard input
closes, so none outlives the bench however that ends. Asyncio; whoever opens them closes them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

_T = TypeVar("_T")
START_TIMEOUT_S = 30.0
_SPIN = """
import os, sys, threading

def spin():
    while True:
        pass

threading.Thread(target=spin, daemon=True).start()
print("spinning", flush=True)
sys.stdin.read()
os._exit(0)
"""


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="so many spinning processes beside the server")


@asynccontextmanager
async def busy(num: int) -> AsyncIterator[list[int]]:
    """`num` processes spin while the block runs, which is given their ids and begins when all of them do."""
    processes: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(num):
            command = (sys.executable, "-c", _SPIN)
            processes.append(
                await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        async with asyncio.timeout(START_TIMEOUT_S):
            for process in processes:
                assert process.stdout is not None
                await process.stdout.readline()
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
        for process in processes:
            await process.wait()


async def beside_busy(num: int, work: Awaitable[_T]) -> _T:
    """What `work` gives, made while `num` processes spin."""
    async with busy(num):
        return await work


def fair_share(num_busy: int, *, num_cores: int, num_threads: int) -> float:
    """How much of what an engine of `num_threads` computes with alone is left to it beside `num_busy` processes.

    Fair means that each thread that wants a core gets as much as every other: of `num_cores` the engine's threads get
    ``num_cores * num_threads / (num_threads + num_busy)``. Alone they get ``min(num_cores, num_threads)``. The server
    and a browser are not counted, though they want cores, too: the share is what would be there without them.
    """
    alone = min(num_cores, num_threads)
    return min(1.0, num_cores * num_threads / (num_threads + num_busy) / alone)

"""`--busy N`: N processes that spin beside the server, for every bench that serves.

They are plain children of the bench, in its session and process group: Linux's autogroup shares the cores between
sessions, so busy processes in another session would hide their effect on ours. Each ends when its standard input
closes, so none outlives the bench, however the bench ends. Asyncio; the caller that opens them closes them.
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
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="run N spinning processes beside the server")


@asynccontextmanager
async def busy(num: int) -> AsyncIterator[list[int]]:
    """`num` processes spin while the block runs. The block starts when all of them spin, and gets their ids."""
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
    """The result of `work`, which runs while `num` processes spin."""
    async with busy(num):
        return await work


def fair_share(num_busy: int, *, num_cores: int, num_threads: int) -> float:
    """The share of its core time that an engine of `num_threads` keeps beside `num_busy` processes.

    Fair means that each thread that wants a core gets as much as every other thread: of `num_cores` the engine's
    threads get ``num_cores * num_threads / (num_threads + num_busy)``. Alone they get ``min(num_cores, num_threads)``.
    The server and a browser want cores too, but are not counted: the share is that without them.
    """
    alone = min(num_cores, num_threads)
    return min(1.0, num_cores * num_threads / (num_threads + num_busy) / alone)

"""`bench clips --kill`: a real server is killed at random moments, and later its disk is full, while clips are made."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.parts import clip_shop
from bench.parts.served import Served, served

# Fewer, and a clip could be in the works at three kills, after which the server gives it up.
LEAST_ENDED_IN_A_LIFE = 2
MOST_EXTRA_S = 1.5
# The server keeps half a GiB free. Beyond that there is room for the clips, and for the store.
DISK_MIB = 600
FULL_FOR_S = 12.0
_NOTHING = ("lost", "made_twice", "not_completed", "events_missing", "events_twice", "folders_missing")


async def run(options: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="clips-") as name:
        killed = await _killed(Path(name), options, chance)
    met = _met(killed, "")
    full: dict[str, Any] | None = None
    if not options.without_full_disk:
        with _small_disk() as folder:
            full = await _disk_full(folder, options) if folder is not None else None
        met |= _met(full, "disk_full_") if full is not None else {}
    return {"clips": options.clips, "killed": killed, "disk_full": full, "met": met}


def _met(found: dict[str, Any], prefix: str) -> dict[str, bool]:
    return {
        f"{prefix}none_lost_or_twice": not any(found[name] for name in _NOTHING),
        f"{prefix}no_half_file": found["not_whole"] == 0 and found["folders_left_over"] == 0,
        f"{prefix}integrity": found["integrity"] == "ok",
    }


async def _killed(folder: Path, options: argparse.Namespace, chance: random.Random) -> dict[str, Any]:
    ids: dict[int, str] = {}
    num_ended, began_at = 0, time.monotonic()
    for life in range(options.kill):
        # Even shares of what is left, at least two; the moment within a clip is random.
        share = max(LEAST_ENDED_IN_A_LIFE, (options.clips - num_ended) // (options.kill - life + 1))
        async with _life(folder, options.engine) as (server, http):
            ordering = asyncio.create_task(clip_shop.order_all(http, range(options.clips), ids))
            with contextlib.suppress(aiohttp.ClientError):
                num_ended = await clip_shop.until_ended(http, min(options.clips, num_ended + share))
            await asyncio.sleep(chance.uniform(0.0, MOST_EXTRA_S))
            os.kill(server.pid, signal.SIGKILL)
            ordering.cancel()
            await asyncio.gather(ordering, return_exceptions=True)
        print(f"killed {life + 1}: {num_ended} clips had ended, {len(ids)} were ordered", file=sys.stderr, flush=True)
    return await _finish(folder, options, ids) | {"kills": options.kill, "seconds": round(time.monotonic() - began_at)}


async def _finish(folder: Path, options: argparse.Namespace, ids: dict[int, str]) -> dict[str, Any]:
    """A last server makes the rest. Then all is counted."""
    async with _life(folder, options.engine) as (_, http):
        await clip_shop.order_all(http, range(options.clips), ids)
        await clip_shop.until_ended(http, options.clips)
        videos = await clip_shop.all_videos(http)
        whole = [await clip_shop.is_whole(http, video) for video in videos]
    return clip_shop.look_into(folder, ids.values()) | {"not_whole": whole.count(False)}


@asynccontextmanager
async def _life(folder: Path, engine: str) -> AsyncIterator[tuple[Served, aiohttp.ClientSession]]:
    async with served(clip_shop.serve_arguments(folder, engine)) as server, clip_shop.session(server.url) as http:
        yield server, http


# --- the full disk ------------------------------------------------------------------------------------------------


async def _disk_full(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The disk has no byte left while clips are made, and room again later. Orders go on all the time."""
    ids: dict[int, str] = {}
    async with _life(folder, options.engine) as (_, http):
        await clip_shop.order_all(http, range(options.clips // 2), ids)
        await clip_shop.until_ended(http, 2)
        num_refused, filler = 0, folder / "filler"
        await asyncio.to_thread(_fill, filler)
        before = await clip_shop.num_ended(http)
        until = time.monotonic() + FULL_FOR_S
        while time.monotonic() < until:
            try:
                number = len(ids)
                if number < options.clips:
                    ids[number] = (await clip_shop.order(http, number, f"order-{number}"))["id"]
            except aiohttp.ClientResponseError as refusal:
                if refusal.status != 503:
                    raise
                num_refused += 1
            await asyncio.sleep(0.25)
        during = await clip_shop.num_ended(http) - before
        filler.unlink()
        await clip_shop.order_all(http, range(options.clips), ids)
        await clip_shop.until_ended(http, options.clips)
    found = await _finish(folder, options, ids)
    return found | {"orders_refused": num_refused, "ended_meanwhile": during, "full_s": FULL_FOR_S}


def _fill(path: Path) -> None:
    """Until not a byte is left."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)


@contextmanager
def _small_disk() -> Iterator[Path | None]:
    """A tmpfs; None where we may not mount one."""
    with tempfile.TemporaryDirectory(prefix="disk-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", name]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            print("the full disk is left out: a small disk cannot be mounted here", file=sys.stderr)
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)

"""`bench clips --cancel`, `--queue` and `--door`: what ends early, what waits, and what comes from the cache."""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from bench.parts import clip_shop
from bench.parts.served import served
from server.clips import rows
from server.clips.job import Spec
from server.store.store import Store

MOST_MEMORY_MIB, MOST_LIST_MS, MOST_START_S = 50.0, 50.0, 2.0
NUM_PAGES = 200
NUM_AT_ONCE = 8
# Beside one denoising step: the request itself, and the supervisor's word to the engine.
SLACK_S = 0.1
_IN_FLIGHT = re.compile(r"^sceneshift_engine_in_flight (\S+)$", re.MULTILINE)


# --- cancel -------------------------------------------------------------------------------------------------------


async def run_cancel(options: argparse.Namespace) -> dict[str, Any]:
    """From the sent DELETE to its answer, and to an engine without work."""
    answered, freed, steps = [], [], []
    with tempfile.TemporaryDirectory(prefix="clips-") as name:
        async with served(clip_shop.serve_arguments(Path(name), options.engine)) as server:
            async with clip_shop.session(server.url) as http:
                for number in range(options.cancel):
                    video = await clip_shop.order(http, number)
                    began_at = await _until_progress(http, video["id"])
                    sent_at = time.monotonic()
                    async with http.delete(f"{clip_shop.PATH}/{video['id']}") as answer:
                        answer.raise_for_status()
                    answered.append(time.monotonic() - sent_at)
                    await _until_free(http)
                    freed.append(time.monotonic() - sent_at)
                    steps.append(began_at)
    step_s = statistics.median(steps)
    return {
        "cancelled": len(freed),
        "answered_ms": _summary(answered),
        "free_ms": _summary(freed),
        "step_ms": round(1000 * step_s, 1),
        "met": {"free_within_a_step": max(freed) <= step_s + SLACK_S},
    }


async def _until_progress(http: aiohttp.ClientSession, video_id: str) -> float:
    """Waits for the first finished step; gives the time of the longest step of this clip that was seen."""
    seen_at, progress, longest_s = time.monotonic(), 0, 0.0
    while True:
        async with http.get(f"{clip_shop.PATH}/{video_id}") as answer:
            video = await answer.json()
        if video["progress"] > progress or video["status"] == "completed":
            longest_s = max(longest_s, time.monotonic() - seen_at)
            return longest_s
        await asyncio.sleep(0.002)


async def _until_free(http: aiohttp.ClientSession) -> None:
    while await _in_flight(http) > 0:  # noqa: ASYNC110  it happens in another process
        await asyncio.sleep(0.002)


async def _in_flight(http: aiohttp.ClientSession) -> float:
    async with http.get("/metrics") as answer:
        text = await answer.text()
    found = _IN_FLIGHT.search(text)
    assert found is not None, "the server has no such metric"
    return float(found[1])


# --- queue --------------------------------------------------------------------------------------------------------


async def run_queue(options: argparse.Namespace) -> dict[str, Any]:
    """The engine never becomes ready for them: the rows are written before the server starts."""
    with tempfile.TemporaryDirectory(prefix="clips-") as name:
        folder = Path(name)
        empty = await _looked(folder / "empty", options)
        await asyncio.to_thread(_fill_queue, folder / "full", options.queue)
        full = await _looked(folder / "full", options)
    met = {
        "memory": full["memory_mib"] - empty["memory_mib"] <= MOST_MEMORY_MIB,
        "lists": max(full["list_ms"]["p95"], full["pages_ms"]["p95"], full["order_ms"]["p95"]) <= MOST_LIST_MS,
        "start": full["start_s"] - empty["start_s"] <= MOST_START_S,
    }
    return {"queued": options.queue, "empty": empty, "full": full, "met": met}


def _fill_queue(folder: Path, count: int) -> None:
    store = Store(folder / "store.db")
    store.open()

    def fill(connection: Any) -> None:
        for number in range(count):
            spec = Spec(prompt=f"scene {number}", seconds=clip_shop.SECONDS, width=416, height=256, seed=number)
            rows.add(connection, tenant="main", spec=spec, now=time.time(), most_queued=count)

    store.ask_now(fill)
    store.close()


async def _looked(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    began_at = time.monotonic()
    async with served(clip_shop.serve_arguments(folder, options.engine)) as server:
        start_s = time.monotonic() - began_at
        async with clip_shop.session(server.url) as http:
            listed = [await _timed(_page, http, {"limit": "100"}) for _ in range(100)]
            pages, query = [], {"limit": "100", "order": "asc"}
            for _ in range(NUM_PAGES):
                pages.append(await _timed(_page, http, query))
                if not query.get("after"):
                    break
            ordered = [await _timed(clip_shop.order, http, number) for number in range(100)]
        memory = _memory_mib(server.pid)
    return {
        "start_s": round(start_s, 2),
        "memory_mib": memory,
        "list_ms": _summary(listed),
        "pages_ms": _summary(pages) | {"pages": len(pages)},
        "order_ms": _summary(ordered),
    }


async def _page(http: aiohttp.ClientSession, query: dict[str, str]) -> None:
    """Leaves in `query` where the next page begins; without it after the last."""
    async with http.get(clip_shop.PATH, params=query) as answer:
        answer.raise_for_status()
        page = await answer.json()
    query.pop("after", None)
    if page["has_more"]:
        query["after"] = page["last_id"]


def _memory_mib(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return round(int(found[1]) / 1024, 1)


# --- door ---------------------------------------------------------------------------------------------------------


async def run_door(options: argparse.Namespace) -> dict[str, Any]:
    """Each round orders a clip that is in the engine's cache, waits for it and fetches it."""
    with tempfile.TemporaryDirectory(prefix="clips-") as name:
        async with served(clip_shop.serve_arguments(Path(name), options.engine)) as server:
            async with clip_shop.session(server.url) as http:
                first = await clip_shop.order(http, 0)
                await clip_shop.until_ended(http, 1)
                film = await clip_shop.content(http, first["id"])
                fetched = await _rounds(options.door, partial(clip_shop.content, http, first["id"]))
                ordered = await _rounds(options.door, partial(clip_shop.order, http, 0))
                began_at = time.monotonic()
                await _until_newest_ended(http)
                made_s = time.monotonic() - began_at + ordered["seconds"]
        path = Path(name) / "clip.mp4"
        path.write_bytes(film)
        async with _bare(path) as http:
            bare = await _rounds(options.door, partial(_fetch, http))
    return {
        "file_bytes": len(film),
        "fetch": fetched,
        "order": ordered,
        "ordered_and_made_a_second": round(options.door / made_s, 1),
        "bare_aiohttp": bare,
        "met": {"half_of_bare": fetched["requests_a_second"] >= bare["requests_a_second"] / 2},
    }


async def _until_newest_ended(http: aiohttp.ClientSession) -> None:
    """Clips are made in the order in which they came, two at once."""
    query = {"limit": "2"}
    while True:
        async with http.get(clip_shop.PATH, params=query) as answer:
            videos = (await answer.json())["data"]
        if all(video["status"] == "completed" for video in videos):
            return
        await asyncio.sleep(clip_shop.POLL_S)


@asynccontextmanager
async def _bare(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """aiohttp alone, in a process of its own, as our server is."""
    program = (
        "import sys; from aiohttp import web; app = web.Application()\n"
        "async def get(request): return web.FileResponse(sys.argv[1])\n"
        "app.router.add_get('/', get); web.run_app(app, host='127.0.0.1', port=int(sys.argv[2]), print=None)\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path), str(port))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            while True:
                try:
                    await _fetch(http)
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.1)
            yield http
    finally:
        process.terminate()
        await process.wait()


async def _fetch(http: aiohttp.ClientSession) -> bytes:
    async with http.get("/") as answer:
        return await answer.read()


async def _rounds(count: int, ask: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """`NUM_AT_ONCE` clients, `count` requests in all."""
    times: list[float] = []
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            times.append(await _timed(ask))

    began_at = time.monotonic()
    await asyncio.gather(*(client() for _ in range(NUM_AT_ONCE)))
    seconds = time.monotonic() - began_at
    return {"requests_a_second": round(count / seconds, 1), "seconds": round(seconds, 2)} | _summary(times)


async def _timed(ask: Callable[..., Awaitable[Any]], *arguments: Any) -> float:
    began_at = time.monotonic()
    await ask(*arguments)
    return time.monotonic() - began_at


def _summary(times_s: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * one for one in times_s)
    ends = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in SHARES.items()}
    return {name: round(value, 1) for name, value in (ends | {"max": ordered[-1]}).items()}


SHARES = {"median": 0.5, "p95": 0.95, "p99": 0.99}

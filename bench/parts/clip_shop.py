"""A customer of `/v1/videos` for benches: orders clips, waits for their ends, and looks at every file that it gets.

Asyncio; the caller opens and closes the HTTP session. `orders` outlive a killed server: an order that got no answer is
sent again under its own `Idempotency-Key`.
"""

from __future__ import annotations

import asyncio
import io
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import av

TOKEN = "a-token-of-the-bench-that-has-more-than-forty-eight-letters"
PATH = "/v1/videos"
SECONDS = 2
POLL_S = 0.1


def serve_arguments(folder: Path, engine: str, *more: str) -> list[str]:
    """For `bench.parts.served`: a server whose store and clips lie in `folder`."""
    bounds = ["--max-clips-queued", "100000", "--max-sessions", "8"]
    return ["--engine", engine, "--token", TOKEN, "--data-folder", str(folder), *bounds, *more]


def session(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"})


async def order(http: aiohttp.ClientSession, number: int, key: str | None = None) -> dict[str, Any]:
    """Raises `aiohttp.ClientError`, also for an answer that is an error."""
    wish = {"prompt": f"the sea, scene {number}", "seconds": SECONDS, "size": "416x256", "seed": number}
    headers = {"Idempotency-Key": key} if key is not None else {}
    async with http.post(PATH, json=wish, headers=headers) as answer:
        answer.raise_for_status()
        return dict(await answer.json())


async def order_all(http: aiohttp.ClientSession, numbers: Iterable[int], ids: dict[int, str]) -> None:
    """Adds each order's id to `ids`. Orders that are there already are left out. Goes on after a 503."""
    for number in numbers:
        while number not in ids:
            try:
                ids[number] = (await order(http, number, f"order-{number}"))["id"]
            except aiohttp.ClientResponseError as refusal:
                if refusal.status != 503:
                    raise
                await asyncio.sleep(1.0)


async def all_videos(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """Page by page, the oldest first."""
    videos: list[dict[str, Any]] = []
    query = {"limit": "100", "order": "asc"}
    while True:
        async with http.get(PATH, params=query) as answer:
            answer.raise_for_status()
            page = await answer.json()
        videos += page["data"]
        if not page["has_more"]:
            return videos
        query["after"] = page["last_id"]


async def num_ended(http: aiohttp.ClientSession) -> int:
    return sum(video["status"] in ("completed", "failed") for video in await all_videos(http))


async def until_ended(http: aiohttp.ClientSession, count: int) -> int:
    """Until as many have ended; gives how many."""
    while (ended := await num_ended(http)) < count:  # noqa: ASYNC110  it happens in another process
        await asyncio.sleep(POLL_S)
    return ended


async def content(http: aiohttp.ClientSession, video_id: str, variant: str = "video") -> bytes:
    async with http.get(f"{PATH}/{video_id}/content", params={"variant": variant}) as answer:
        answer.raise_for_status()
        return await answer.read()


async def is_whole(http: aiohttp.ClientSession, video: dict[str, Any]) -> bool:
    """Whether the clip has each of its frames, and both of its pictures."""
    try:
        film = await content(http, video["id"])
        for variant in ("thumbnail", "spritesheet"):
            if not await content(http, video["id"], variant):
                return False
        return await asyncio.to_thread(_num_frames, film) == round(float(video["seconds"]) * video["fps"])
    except (aiohttp.ClientError, av.FFmpegError):
        return False


def _num_frames(film: bytes) -> int:
    with av.open(io.BytesIO(film)) as container:
        return sum(1 for _ in container.decode(video=0))


def look_into(folder: Path, ids: Iterable[str]) -> dict[str, Any]:
    """What the store and the clips' folder of a server hold that has ended, against the orders."""
    ordered = set(ids)
    with sqlite3.connect(folder / "store.db") as connection:
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        status = dict(connection.execute("SELECT id, status FROM videos"))
        attempts = [row[0] for row in connection.execute("SELECT attempt FROM videos")]
        events = Counter(row[0] for row in connection.execute("SELECT video_id FROM events"))
    connection.close()
    files = {path.name for path in (folder / "clips").glob("??/*")}
    return {
        "integrity": integrity,
        "lost": len(ordered - set(status)),
        "made_twice": len(set(status) - ordered),
        "not_completed": sum(one != "completed" for one in status.values()),
        "events_missing": len(ordered - set(events)),
        "events_twice": sum(count > 1 for count in events.values()),
        "folders_missing": len(ordered - files),
        "folders_left_over": len(files - ordered),
        "begun_again": sum(attempt > 1 for attempt in attempts),
        "most_attempts": max(attempts, default=0),
    }

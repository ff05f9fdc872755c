"""A server that is killed loses no event, and what it sends again has the same `webhook-id`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from receiver import Receiver, held, receiving

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ROOT = Path(__file__).parents[3]


class Process:
    """`sceneshift serve` with the synthetic engine, on a store that outlives it."""

    def __init__(self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        self.process, self.http = process, http

    async def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        async with self.http.request(method, path, headers=BEARER, **more) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == 200, body
            return body

    async def order(self, seed: int) -> str:
        wish = {"prompt": "scene 5", "seconds": 0.5, "size": "224x128", "seed": seed}
        return str((await self.ask("POST", "/v1/videos", json=wish))["id"])

    async def num_unfinished(self) -> int:
        return sum(one["status"] != "completed" for one in (await self.ask("GET", "/v1/videos"))["data"])

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server", "serve", "--engine", "synthetic", "--port", "0", "--data-folder", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SCENESHIFT_TOKEN": TOKEN}
        | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
    )
    assert started.stdout is not None
    try:
        address = (await started.stdout.readline()).decode().split()[-1].partition("#")[0]
        while not (await started.stdout.readline()).startswith(b"ready"):
            pass
        async with aiohttp.ClientSession(address) as http:
            yield Process(started, http)
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def until(receiver: Receiver, num: int) -> None:
    async with asyncio.timeout(60):
        while len(receiver.got) < num:  # noqa: ASYNC110  the receiver's list, on the same loop
            await asyncio.sleep(0.02)


async def test_a_server_killed_between_the_end_and_the_delivery_loses_no_event(
    receiver: Receiver, tmp_path: Path
) -> None:
    never = asyncio.Event()
    receiver.answers["/hook"] = held(never)
    hook = {"name": "a", "url": f"{receiver.url}/hook", "event_types": ["video.completed"]}
    async with process(tmp_path) as server:
        endpoint = await server.ask("POST", "/v1/webhook_endpoints", json=hook)
        ids = [await server.order(seed) for seed in range(3)]
        async with asyncio.timeout(60):
            while await server.num_unfinished():  # noqa: ASYNC110  of another process
                await asyncio.sleep(0.02)
        await until(receiver, 1)  # the first is under way, the others wait for it
        await server.kill()
    never.set()
    receiver.answers.clear()
    async with process(tmp_path) as server:
        await until(receiver, 4)
        async with asyncio.timeout(60):
            while True:
                told = (await server.ask("GET", f"/v1/webhook_endpoints/{endpoint['id']}/deliveries"))["data"]
                if all(one["status"] == "delivered" for one in told):
                    break
                await asyncio.sleep(0.02)
    by_id = {got.headers["webhook-id"]: got.event["data"]["id"] for got in receiver.got}
    assert len(receiver.got) == 4 and sorted(by_id.values()) == sorted(ids)
    assert receiver.got[0].headers["webhook-id"] == receiver.got[1].headers["webhook-id"]

"""Stages for tests of pages that only watch: a controller on a socket, and what a screenshot shows of its pictures."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

from engine.synthetic import SyntheticEngine, read
from server import app as server_app
from server.config import Settings
from server.store.store import Store

# A generous limit: these tests do not measure time, and the machine may be busy.
PATIENCE_S = 60.0
PATIENCE_MS = 1000 * PATIENCE_S


class Operator:
    """Holds a stage, as a streamer's console would."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.session_id = ""

    async def say(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next event of this type; an error is a failure."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message: dict[str, Any] = json.loads(await self._socket.recv())
                assert message["type"] != "error", message
                if message["type"] == kind:
                    return message

    async def show(self, text: str) -> None:
        await self.say("prompt.set", text=text)
        await self.hear("prompt.applied")


@asynccontextmanager
async def operator(url: str, *, token: str | None = None, **options: object) -> AsyncIterator[Operator]:
    """A stage with hard cuts on the server at `url` while the block runs."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    address = f"{url.replace('http', 'ws', 1)}/v1/realtime"
    async with connect(address, max_size=None, additional_headers=headers) as socket:
        one = Operator(socket)
        await one.say("session.start", transition="cut", on_preview="off", **options)
        one.session_id = (await one.hear("session.created"))["session_id"]
        yield one


def picture(png: bytes) -> NDArray[np.uint8]:
    """A screenshot as height x width x RGBA."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def number_in(pixels: NDArray[np.uint8]) -> int | None:
    """The prompt's number in a screenshot (the program, edge to edge); None if it shows none."""
    luma = np.asarray(Image.fromarray(pixels).convert("L").resize((224, 128)))
    found = read(np.concatenate([luma, np.zeros((64, 224), np.uint8)]))  # a frame has its chroma below
    return None if found is None else found[0]


@asynccontextmanager
async def synthetic_server(*, store: Store | None = None, **settings: Any) -> AsyncIterator[str]:
    """A server in this process with the synthetic engine, while the block runs: its address."""
    app = server_app.build(Settings(**settings), SyntheticEngine(), store=store)
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        yield f"http://127.0.0.1:{port}"


async def until(is_true: Callable[[], bool]) -> None:
    """Polls a value that gives no event when it changes."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

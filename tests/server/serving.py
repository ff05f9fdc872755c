"""A running server with the synthetic engine, and a controller over a real socket, for tests of its doors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web

from engine.synthetic import Script, SyntheticEngine, read
from server import app as server_app
from server.config import Settings

SCRIPT = Script(step_s=0.01, decode_s=0.01)


class Controller:
    """A stage, through its own connection."""

    def __init__(self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.http = http
        self.socket = socket
        self.session_id = ""

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self.socket.receive_json()
            if message["type"] in kinds:
                return message

    async def start(self, **options: object) -> dict[str, Any]:
        await self.say("session.start", **options)
        created = await self.hear("session.created")
        self.session_id = created["session_id"]
        return created

    async def apply(self, text: str) -> dict[str, Any]:
        """Sends a prompt and waits until it is applied, by a cut."""
        await self.say("prompt.set", text=text, transition="cut")
        return await self.hear("prompt.applied")

    def path(self, rest: str) -> str:
        return f"/v1/sessions/{self.session_id}/{rest}"


class Serving:
    def __init__(self, http: aiohttp.ClientSession, app: web.Application) -> None:
        self.http = http
        self.app = app
        self.registry = app[server_app.REGISTRY]
        self.access = app[server_app.ACCESS]
        self.keyring = self.access.keyring

    async def controller(self, **options: object) -> Controller:
        """The controller of a new stage."""
        query = {"token": str(token)} if (token := options.pop("token", None)) else {}
        controller = Controller(self.http, await self.http.ws_connect("/v1/realtime", params=query))
        await controller.start(on_preview="off", **options)
        return controller


@asynccontextmanager
async def serving(
    engine: Any = None, *, build: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Serving]:
    app = server_app.build(Settings(**settings), engine or SyntheticEngine(SCRIPT), **(build or {}))
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            yield Serving(http, app)


def number(frame: Any) -> int | None:
    """The prompt's number that the synthetic engine painted into a decoded frame (of PyAV)."""
    painted = read(np.ascontiguousarray(frame.to_ndarray(format="yuv420p")))
    return painted[0] if painted is not None else None

"""A receiver of webhooks with a script: a real HTTP server that answers as each test says."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


class Receiver:
    """`answers`: by path, a status, or a function; a path without one gets 200."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: dict[str, int | Answers] = {}
        self.headers: dict[str, str] = {}  # of each answer
        self.url = ""

    def at(self, path: str) -> list[Got]:
        return [one for one in self.got if one.path == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Got(request.path, headers, await request.read()))
        answer = self.answers.get(request.path, 200)
        return web.Response(status=answer, headers=self.headers) if isinstance(answer, int) else await answer(request)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    receiver.url = "{}://{}:{}".format("https" if tls else "http", *runner.addresses[0])
    try:
        yield receiver
    finally:
        await runner.cleanup()


def held(event: asyncio.Event) -> Answers:
    """An answer that comes when the event is set."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await event.wait()
        return web.Response()

    return answer

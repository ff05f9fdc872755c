"""Autobahn's cases for WebSocket servers, run by kosoku: our endpoint fails none that bare aiohttp passes.

The endpoint is the real one of a real server, with its options, frames and connections. Behind it an echo stands in for
the protocol, because the cases need one. Compression (12, 13) is left out: we offer none. kosoku has an environment of
its own, which `deploy/audit.py` makes; the test is skipped where that is impossible.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

sys.path.insert(0, str(Path(__file__).parent.parent / "server"))

from serving import serving

from server.doors import websocket

ROOT = Path(__file__).parent.parent.parent
# A worse verdict has a higher number. What the RFC leaves open is as good as what it asks.
BEHAVIOUR = {"OK": 0, "INFORMATIONAL": 0, "NON-STRICT": 1, "UNIMPLEMENTED": 2, "FAILED": 3, "ERROR": 3}
CLOSE = {"OK": 0, "INFORMATIONAL": 0}


class Echo:
    """In place of a `connection.Connection`: sends each message back."""

    def __init__(self, transport: websocket.WebSocketTransport, *_: object, **__: object) -> None:
        self._transport = transport

    async def run(self) -> None:
        async for frame in self._transport.frames():
            if isinstance(frame, str):
                await self._transport.send(frame)
            elif isinstance(frame, bytes):
                await self._transport._socket.send_bytes(frame)

    def revoke(self, *_: object) -> None: ...


async def _echo(request: web.Request) -> web.WebSocketResponse:
    """As aiohttp's documentation has it."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@asynccontextmanager
async def _bare_aiohttp() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/", _echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "ws://{}:{}/".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def kosoku() -> Path:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
    assert spec is not None and spec.loader is not None
    audit: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    try:
        return Path(audit.tools() / "kosoku")
    except audit.Unusable as unusable:
        pytest.skip(f"kosoku cannot be installed: {unusable}")


async def _verdicts(kosoku: Path, url: str, folder: Path) -> dict[str, tuple[str, str]]:
    """By case: what it says of the messages, and of the close."""
    left_out = ("--exclude", "12.*", "--exclude", "13.*")
    process = await asyncio.create_subprocess_exec(
        *(kosoku, *left_out, "--parallelism", "4", "--outdir", folder, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert (folder / "index.json").exists(), out.decode()[-2000:]
    ((_, cases),) = json.loads((folder / "index.json").read_text()).items()
    return {case: (one["behavior"], one["behaviorClose"]) for case, one in cases.items()}


def _rank(verdict: tuple[str, str]) -> tuple[int, int]:
    return BEHAVIOUR[verdict[0]], CLOSE.get(verdict[1], 1)


async def test_our_endpoint_fails_no_case_that_bare_aiohttp_passes(
    kosoku: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "Connection", Echo)
    async with _bare_aiohttp() as url:
        theirs = await _verdicts(kosoku, url, tmp_path / "aiohttp")
    async with serving() as harness:
        url = f"{harness.http._base_url}/v1/realtime".replace("http:", "ws:")
        ours = await _verdicts(kosoku, url, tmp_path / "ours")
    assert len(theirs) > 240 and set(ours) == set(theirs)
    assert sum(_rank(verdict) == (0, 0) for verdict in theirs.values()) > 240, "kosoku or aiohttp does not work here"
    worse = {case: (ours[case], theirs[case]) for case in ours if _rank(ours[case]) > _rank(theirs[case])}
    assert worse == {}

"""The running server with a real engine process and a Wan folder of random weights, in the published layout of the 5B.

The pictures are noise. The test checks that they come, from which input, and when.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole
from websockets.asyncio.client import ClientConnection, connect

from engine.clip_cache.caching_engine import CacheSettings, CachingEngine
from engine.config import EngineSettings, LoadSettings
from engine.process.supervisor import EngineProcess
from server import app as server_app
from server.config import Settings
from tests.engine.wan_folders import SIZE, ti2v_5b

PATIENCE_S = 60.0


class Desk:
    """A controller that keeps all that it hears, and a viewer beside it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.heard: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def hear(self, kind: str, **fields: object) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = json.loads(await self._socket.recv())
                self.heard.append(message)
                assert message["type"] not in ("error", "prompt.failed"), message
                if message["type"] == kind and fields.items() <= message.items():
                    return message

    def of(self, kind: str, prompt_id: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["type"] == kind and message["prompt_id"] == prompt_id]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk on a server that is ready, with a viewer of the program."""
    load = LoadSettings(model=str(ti2v_5b(tmp_path)), device="cpu", **SIZE)
    process = EngineProcess(EngineSettings(load=load, num_threads=1, keep_spare=False))
    app = server_app.build(Settings(), CachingEngine(process, CacheSettings()))
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
        desk = Desk(await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/v1/realtime", max_size=None)))
        await desk.say("session.start", width=128, height=128)
        created = await desk.hear("session.created")
        await desk.hear("session.warning", code="engine_ready")
        peer, sink = RTCPeerConnection(RTCConfiguration(iceServers=[])), MediaBlackhole()
        stack.push_async_callback(peer.close)
        peer.on("track", sink.addTrack)
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        http = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        headers = {"Content-Type": "application/sdp"}
        async with http.post(
            f"/whep/{created['session_id']}", data=peer.localDescription.sdp, headers=headers
        ) as answer:
            await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
        await sink.start()
        stack.push_async_callback(sink.stop)
        yield desk


async def test_wan_previews_two_qualities_cancel_morph_scenes_that_go_on_and_repeats(desk: Desk) -> None:
    await desk.say("prompt.set", text="a sea", prompt_id="fine", quality="fine")
    await desk.hear("prompt.applied", prompt_id="fine")
    await desk.say("prompt.set", text="a sea", prompt_id="fast")
    await desk.hear("prompt.applied", prompt_id="fast")
    for prompt_id, num_steps in [("fine", 50), ("fast", 30)]:
        started = desk.of("prompt.started", prompt_id)[0]
        assert started["num_steps"] == num_steps or started["degraded"], "on a machine that is busy with other things"
    pictures = [preview["picture"] for preview in desk.of("prompt.preview", "fine") if preview["picture"]]
    assert len(set(pictures)) > 5, "the previews get sharper"

    await desk.say("prompt.set", text="a sea", prompt_id="again")
    await desk.hear("prompt.applied", prompt_id="again")
    assert desk.of("prompt.started", "again")[0]["is_reused"] is not bool(started["degraded"])

    await desk.say("prompt.set", text="a city", prompt_id="cancelled", quality="fine")
    await desk.hear("prompt.preview", prompt_id="cancelled")
    await desk.say("prompt.cancel", prompt_id="cancelled")
    cancelled = await desk.hear("prompt.cancelled", prompt_id="cancelled")
    assert cancelled["num_steps_done"] < 50

    await desk.say("prompt.set", text="a forest", prompt_id="morph", transition="morph", after="continue")
    await desk.hear("prompt.applied", prompt_id="morph")
    continued = [await desk.hear("prompt.continued", prompt_id="morph") for _ in range(2)]
    assert [event["index"] for event in continued] == [1, 2]
    assert [event["seed"] - desk.of("prompt.accepted", "morph")[0]["seed"] for event in continued] == [1, 2]

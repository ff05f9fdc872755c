"""`sceneshift serve --model FOLDER` with the published layout of the 5B: everything is real but the weights.

The server's process, the engine's, diffusers' classes, a WebSocket controller, a WebRTC viewer. The folder is tiny and
random, so the pictures mean nothing; these tests check the way of a prompt.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from websockets.asyncio.client import ClientConnection, connect

from bench.parts.served import ServeError, served
from tests.engine.wan_folders import ti2v_5b

# The base model's profile makes 30 and 50 steps: many enough that a cancel meets one in the middle.
FAST_STEPS, FINE_STEPS = 30, 50


class Controller:
    """A stage over a real socket; keeps all messages."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.heard: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(await self._socket.recv())
            self.heard.append(message)
            assert message["type"] not in ("error", "prompt.failed", "prompt.rejected"), message
            if message["type"] in kinds:
                return message

    async def apply(self, text: str, **options: object) -> dict[str, Any]:
        """Sends a prompt and waits until it is on air. `heard` then has all messages since."""
        del self.heard[:]
        await self.say("prompt.set", text=text, **options)
        return await self.hear("prompt.applied")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["type"] == kind]


@asynccontextmanager
async def watching(url: str, session_id: str) -> AsyncIterator[None]:
    """A viewer by WHEP: a scene goes on only while somebody watches."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    body = peer.localDescription.sdp.encode()
    request = urllib.request.Request(f"{url}/whep/{session_id}", body, {"Content-Type": "application/sdp"})

    def answer() -> str:
        with urllib.request.urlopen(request) as response:
            sdp: bytes = response.read()
            return sdp.decode()

    try:
        await peer.setRemoteDescription(RTCSessionDescription(await asyncio.to_thread(answer), "answer"))
        yield
    finally:
        await peer.close()


async def test_a_wan_folder_is_served_with_previews_cancel_morph_continue_and_two_qualities(tmp_path: Path) -> None:
    folder = ti2v_5b(tmp_path / "ti2v")
    flags = ["--model", str(folder), "--size", "64x32", "--frames", "9", "--device", "cpu"]
    async with served(flags) as server, connect(server.url.replace("http", "ws") + "/v1/realtime") as socket:
        stage = Controller(socket)
        await stage.say("session.start", width=256, height=128, on_preview="on_air", transition="cut", fresh=True)
        created = await stage.hear("session.created")
        assert created["model"]["can_start_from_frame"] is True

        # Two qualities, with a preview of every step but the last.
        await stage.apply("日落时的海边", seed=1)
        assert stage.of("prompt.started")[0]["num_steps"] == FAST_STEPS
        pictures = [preview for preview in stage.of("prompt.preview") if preview["picture"]]
        assert pictures and pictures[0]["step_index"] == 0
        assert any(preview["frame"] for preview in stage.of("prompt.preview")), "a preview went on air"
        await stage.apply("a rocket at night", quality="fine")
        assert stage.of("prompt.started")[0]["num_steps"] == FINE_STEPS

        # A cancel in the middle of the denoising stops within a step.
        await stage.say("prompt.set", text="a long one", quality="fine")
        first = await stage.hear("prompt.preview")
        await stage.say("prompt.cancel", prompt_id=first["prompt_id"])
        cancelled = await stage.hear("prompt.cancelled")
        assert 1 <= cancelled["num_steps_done"] < FINE_STEPS

        # From the frame on air: a morph, then a scene that goes on by itself while somebody watches.
        await stage.apply("the sea turns to snow", transition="morph")
        async with watching(server.url, created["session_id"]):
            applied = await stage.apply("a walk that never ends", after="continue")
            going_on = [await stage.hear("prompt.continued") for _ in range(2)]
        assert {event["prompt_id"] for event in going_on} == {applied["prompt_id"]}
        assert [event["index"] for event in going_on] == [1, 2]
        assert going_on[0]["frame"]["frame_index"] < going_on[1]["frame"]["frame_index"]

        await stage.say("session.close")
        closed = await stage.hear("session.closed")
        assert closed["reason"] == "client"


@pytest.mark.parametrize("missing", ["vae", "text_encoder/model.safetensors"])
async def test_an_incomplete_folder_is_refused_at_once_by_what_it_lacks(tmp_path: Path, missing: str) -> None:
    folder = ti2v_5b(tmp_path / "ti2v")
    lost = folder / missing
    if lost.is_dir():
        for file in lost.iterdir():
            file.unlink()
        lost.rmdir()
    else:
        lost.unlink()
    with pytest.raises(ServeError, match=missing.split("/", maxsplit=1)[0]):
        async with served(["--model", str(folder), "--size", "64x32", "--frames", "9"]):
            pass


async def test_a_server_whose_engine_never_starts_ends_and_says_why(tmp_path: Path) -> None:
    folder = ti2v_5b(tmp_path / "ti2v")
    flags = ["--model", str(folder), "--size", "64x32", "--frames", "9", "--lora-folder", str(tmp_path / "nowhere")]
    with pytest.raises(ServeError, match="nowhere"):
        async with served(flags):
            pass

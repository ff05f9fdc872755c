"""`POST /v1/realtime/calls`: the whole protocol over WebRTC alone, with a real aiortc caller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from serving import Controller, Serving, serving
from viewer import Viewer

from server.doors.calls import MAX_UNHANDLED, ChannelTransport
from server.protocol.codes import error_detail
from server.session.session import SessionState

SDP = {"Content-Type": "application/sdp"}
PATH = "/v1/realtime/calls"


class Caller(Viewer):
    """A viewer with a data channel, over which it is the controller, too."""

    def __init__(self, label: str | None = "events") -> None:
        super().__init__()
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.is_open, self.is_closed = asyncio.Event(), asyncio.Event()
        if label is not None:
            self.channel = self.peer.createDataChannel(label)
            self.channel.on("message", lambda text: self.heard.put_nowait(json.loads(text)))
            self.channel.on("open", self.is_open.set)
            self.channel.on("close", self.is_closed.set)

    async def call(self, harness: Serving, query: str = "") -> aiohttp.ClientResponse:
        response = await harness.http.post(PATH + query, data=await self.offer(), headers=SDP)
        assert response.status == 201, await response.text()
        await self.answer(await response.text())
        return response

    async def say(self, kind: str, **fields: object) -> None:
        await self.is_open.wait()
        self.channel.send(json.dumps({"type": kind, **fields}))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        while True:
            message = await self.heard.get()
            if message["type"] in kinds:
                return message


@pytest.fixture
async def harness() -> AsyncIterator[Serving]:
    async with serving() as harness:
        yield harness


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    caller = Caller()
    yield caller
    await caller.close()


@pytest.fixture
async def mute() -> AsyncIterator[Caller]:
    """A caller without a data channel."""
    mute = Caller(label=None)
    yield mute
    await mute.close()


def sessions(harness: Serving) -> list[Any]:
    return list(harness.registry._sessions.values())


async def code_of(response: aiohttp.ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json())["error"]["code"]


# --- a session over a data channel --------------------------------------------------------------------------------


async def test_a_call_is_a_session_whose_messages_go_over_its_data_channel(harness: Serving, caller: Caller) -> None:
    response = await caller.call(harness, "?name=my-show&on_preview=off&transition=cut&frame_rate=12")
    assert response.headers["Sceneshift-Session"] == "my-show"
    created = await caller.hear("session.created")
    assert (created["seq"], created["session_id"]) == (0, "my-show")
    assert (created["options"]["transition"], created["options"]["frame_rate"]) == ("cut", 12)
    await caller.say("prompt.set", text="scene 7")
    assert (await caller.hear("prompt.applied"))["frame"]["rtp_timestamp"] is not None
    await caller.until_number(7)
    await caller.say("prompt.set", text="")
    assert (await caller.hear("error"))["error"]["code"] == "prompt_empty"
    caller.channel.send(b"binary")
    assert (await caller.hear("error"))["error"]["code"] == "binary_not_supported"


async def test_session_closed_reaches_the_caller(harness: Serving, caller: Caller) -> None:
    """The program's own peer carries the message, and ends with the program."""
    await caller.call(harness)
    await caller.hear("session.created")
    await caller.say("session.close", event_id="e1")
    closed = await caller.hear("session.closed")
    assert (closed["reason"], closed["event_id"]) == ("client", "e1")
    await caller.is_closed.wait()
    assert not [session for session in sessions(harness) if session.state is not SessionState.CLOSED]


async def test_deleting_a_call_ends_its_session(harness: Serving, caller: Caller) -> None:
    location = (await caller.call(harness)).headers["Location"]
    assert location.startswith(PATH + "/call_")
    await caller.hear("session.created")
    async with harness.http.delete(location) as response:
        assert response.status == 200
    assert (await caller.hear("session.closed"))["reason"] == "client"
    assert sessions(harness) == []
    async with harness.http.delete(location) as response:
        assert await code_of(response) == (404, "unknown_call")


async def test_a_session_whose_caller_is_lost_can_be_resumed(harness: Serving, caller: Caller) -> None:
    await caller.call(harness, "?name=my-show")
    created = await caller.hear("session.created")
    (session,) = sessions(harness)
    await session.viewers.remove(next(iter(session.viewers._on_gone)))  # as when RTCP has been silent for 5 s
    controller = Controller(harness.http, await harness.http.ws_connect("/v1/realtime"))
    token = created["resume_token"]
    await controller.say("session.resume", session_id="my-show", resume_token=token)
    assert (await controller.hear("session.created"))["session_id"] == "my-show"
    assert session.state is SessionState.OPEN
    assert (await controller.apply("scene 3"))["prompt_id"] == "p1"


async def test_a_caller_that_vanishes_leaves_its_session_detached(harness: Serving, caller: Caller) -> None:
    await caller.call(harness)
    await caller.hear("session.created")
    (session,) = sessions(harness)
    (reading,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("call-")]
    await caller.close()
    await asyncio.wait([reading])
    assert session.state is SessionState.DETACHED


async def test_a_session_without_a_channel_is_controlled_over_a_websocket(harness: Serving, mute: Caller) -> None:
    response = await mute.call(harness, "?on_preview=off")
    (session,) = sessions(harness)
    assert session.state is SessionState.OPEN
    controller = Controller(harness.http, await harness.http.ws_connect("/v1/realtime"))
    await controller.say(
        "session.resume",
        session_id=response.headers["Sceneshift-Session"],
        resume_token=response.headers["Sceneshift-Resume-Token"],
    )
    await controller.hear("session.created")
    await controller.apply("scene 6")
    await mute.until_number(6)


async def test_channels_with_other_labels_are_ignored(harness: Serving, caller: Caller) -> None:
    chat = caller.peer.createDataChannel("chat")
    said: list[str] = []
    chat.on("message", said.append)
    is_open = asyncio.Event()
    chat.on("open", is_open.set)
    await caller.call(harness)
    await caller.hear("session.created")
    await is_open.wait()
    chat.send(json.dumps({"type": "session.close"}))
    await caller.say("session.ping")
    await caller.hear("session.pong")
    assert said == [] and sessions(harness)[0].state is SessionState.OPEN


# --- a viewer -----------------------------------------------------------------------------------------------------


async def test_a_call_may_be_a_viewer_of_a_session(harness: Serving, mute: Caller) -> None:
    controller = await harness.controller(name="my-show")
    location = (await mute.call(harness, "?session=my-show")).headers["Location"]
    await controller.apply("scene 9")
    await mute.until_number(9)
    async with harness.http.delete(location) as response:
        assert response.status == 200
    (session,) = sessions(harness)
    assert (session.program.num_viewers, session.state) == (0, SessionState.OPEN)


# --- bad requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "code", "param"),
    [
        ("?frame_rate=1000", 400, "invalid_value", "frame_rate"),
        ("?frame_rate=fast", 400, "wrong_type", "frame_rate"),
        ("?quality=best", 400, "invalid_value", "quality"),
        ("?colour=red", 400, "unknown_field", "colour"),
        ("?name=NO", 400, "invalid_value", "name"),
        ("?name=taken", 409, "name_taken", "name"),
        ("?session=nobody", 404, "unknown_session", None),
        ("?session=taken&quality=fine", 400, "unknown_field", "quality"),
    ],
)
async def test_wrong_options_are_named(
    harness: Serving, mute: Caller, query: str, status: int, code: str, param: str | None
) -> None:
    other = await harness.controller(name="taken")
    async with harness.http.post(PATH + query, data=await mute.offer(), headers=SDP) as response:
        assert await code_of(response) == (status, code)
        assert (await response.json())["error"]["param"] == param
    assert [session.session_id for session in sessions(harness)] == [other.session_id]


FORM = "multipart/form-data; boundary=x"


def form(**parts: str) -> bytes:
    fields = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{part}\r\n' for name, part in parts.items()]
    return "".join([*fields, "--x--\r\n"]).encode()


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 415, "unsupported_media_type"),
        ("application/sdp", b"hello", 400, "invalid_sdp"),
        (FORM, form(name="1"), 400, "missing_field"),
        (FORM, form(**{'sdp"; filename="f': "1"}), 400, "wrong_type"),
        (FORM, form(sdp="v=0", session="[]"), 400, "invalid_json"),
        ("application/sdp", b"v" * 2**20, 413, "message_too_large"),
    ],
)
async def test_a_bad_body_makes_no_session(
    harness: Serving, content_type: str, body: bytes, status: int, code: str
) -> None:
    async with harness.http.post(PATH, data=body, headers={"Content-Type": content_type}) as response:
        assert await code_of(response) == (status, code)
    assert sessions(harness) == []


async def test_a_form_of_openais_clients_starts_a_session(harness: Serving, mute: Caller) -> None:
    body = form(sdp=await mute.offer(), session='{"type":"realtime","name":"my-show","seed":5}')
    async with harness.http.post(PATH, data=body, headers={"Content-Type": FORM}) as response:
        assert response.status == 201
    assert (sessions(harness)[0].session_id, sessions(harness)[0].options.seed) == ("my-show", 5)


async def test_a_call_does_not_queue(mute: Caller) -> None:
    async with serving(max_sessions=1) as harness:
        other = await harness.controller()
        async with harness.http.post(PATH, data=await mute.offer(), headers=SDP) as response:
            assert await code_of(response) == (503, "server_full")
            assert int(response.headers["Retry-After"]) > 0
        assert len(harness.registry._queue) == 0
        await other.apply("scene 1")


async def test_a_server_with_a_token_refuses_calls_without_it(mute: Caller) -> None:
    async with serving(token="0123456789abcdef0123") as harness:
        for method, path in (("POST", PATH), ("DELETE", PATH + "/call_1")):
            async with harness.http.request(method, path, data="v=0", headers=SDP) as response:
                assert await code_of(response) == (401, "unauthorized")


# --- the transport alone ------------------------------------------------------------------------------------------


class FakeChannel:
    label = "events"

    def __init__(self) -> None:
        self.bufferedAmount = 0
        self.bufferedAmountLowThreshold = 0
        self.sent: list[str] = []
        self.handlers: dict[str, Any] = {}
        self.is_closed = False

    def on(self, event: str, handler: Any) -> None:
        self.handlers[event] = handler

    def send(self, text: str) -> None:
        self.sent.append(text)
        self.bufferedAmount += len(text)

    def close(self) -> None:
        self.is_closed = True


async def test_a_caller_that_does_not_read_delays_only_itself() -> None:
    transport, channel = ChannelTransport(has_channel=True), FakeChannel()
    first = asyncio.create_task(transport.send("early"))
    await asyncio.sleep(0)
    assert not first.done()  # the channel is still to come
    transport.use(channel)  # type: ignore[arg-type]
    await first
    await transport.send("x" * 300_000)
    waiting = asyncio.create_task(transport.send("late"))
    await asyncio.sleep(0)
    assert not waiting.done() and len(channel.sent) == 2
    channel.bufferedAmount = 0
    channel.handlers["bufferedamountlow"]()
    await waiting
    assert channel.sent[-1] == "late"


async def test_a_caller_that_floods_is_cut_off() -> None:
    transport, channel = ChannelTransport(has_channel=True), FakeChannel()
    transport.use(channel)  # type: ignore[arg-type]
    for _ in range(MAX_UNHANDLED + 50):
        channel.handlers["message"]("{}")
    assert channel.is_closed
    assert len([frame async for frame in transport.frames()]) == MAX_UNHANDLED
    with pytest.raises(ConnectionError):
        await transport.send("anybody there?")


async def test_a_caller_that_is_cut_off_reads_why() -> None:
    transport, channel = ChannelTransport(has_channel=True), FakeChannel()
    transport.use(channel)  # type: ignore[arg-type]
    refusing = asyncio.create_task(transport.refuse(error_detail("rate_limited", "too many messages")))
    await asyncio.sleep(0)
    channel.handlers["close"]()
    await refusing
    assert json.loads(channel.sent[-1])["error"]["code"] == "rate_limited" and channel.is_closed
    assert [frame async for frame in transport.frames()] == []

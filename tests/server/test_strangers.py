"""What a stranger may try at every door, with a show beside it that must not notice: each attack, and its refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc.sdp import SessionDescription
from serving import Controller, Serving, serving
from viewer import Viewer

SDP = {"Content-Type": "application/sdp"}

Door = Callable[[Serving, str], Awaitable[str]]


@pytest.fixture
async def house() -> AsyncIterator[Serving]:
    async with serving() as house:
        yield house


@pytest.fixture
async def show(house: Serving) -> Controller:
    return await house.controller(name="my-show")


async def _by_post(house: Serving, path: str, sdp: str) -> str:
    async with house.http.post(path, data=sdp, headers=SDP) as response:
        return "answered" if response.status == 201 else str((await response.json())["error"]["code"])


async def by_whep(house: Serving, sdp: str) -> str:
    return await _by_post(house, "/whep/my-show", sdp)


async def by_call(house: Serving, sdp: str) -> str:
    return await _by_post(house, "/v1/realtime/calls", sdp)


async def by_viewers_call(house: Serving, sdp: str) -> str:
    return await _by_post(house, "/v1/realtime/calls?session=my-show", sdp)


async def by_message(house: Serving, sdp: str) -> str:
    controller = await house.controller()
    await controller.say("webrtc.offer", sdp=sdp)
    answer = await controller.hear("webrtc.answer", "error")
    return "answered" if answer["type"] == "webrtc.answer" else str(answer["error"]["code"])


every_door = pytest.mark.parametrize("door", [by_whep, by_call, by_viewers_call, by_message])


# --- offers -------------------------------------------------------------------------------------------------------


async def _offer(*extra: str) -> str:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video", direction="recvonly")
    for direction in extra:
        connection.addTransceiver("video", direction=direction)
    await connection.setLocalDescription(await connection.createOffer())
    await connection.close()
    return str(connection.localDescription.sdp)


@every_door
async def test_no_door_takes_a_second_video(house: Serving, show: Controller, door: Door) -> None:
    assert await door(house, await _offer("sendonly")) == "invalid_sdp"
    assert await door(house, await _offer()) == "answered"


@every_door
async def test_no_door_hands_an_offer_that_is_too_large_to_the_parser(
    house: Serving, show: Controller, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = SessionDescription.parse
    monkeypatch.setattr(SessionDescription, "parse", lambda sdp: (parsed.append(sdp), parse(sdp))[1])
    theirs = await _offer() + "a=x-mark\r\n"
    large = theirs + "a=rtpmap:96 VP8/90000\r\n" * 1500 + "a=rtcp-fb:* nack\r\n" * 1500
    assert await door(house, large) == "invalid_sdp"
    assert not any("x-mark" in text for text in parsed)
    assert await door(house, theirs) == "answered"
    assert sum("x-mark" in text for text in parsed) == 1, "what a stranger wrote is read once"


async def test_of_a_viewer_that_sends_all_the_same_nothing_is_received(house: Serving, show: Controller) -> None:
    attacker = Viewer()
    attacker.peer.addTransceiver(AudioStreamTrack(), direction="sendonly")
    async with house.http.post("/whep/my-show", data=await attacker.offer(), headers=SDP) as response:
        answer = await response.text()
    assert "a=inactive" in answer
    await attacker.answer(answer.replace("a=inactive", "a=recvonly"))
    await attacker.until(lambda frame: True)
    (session,) = house.registry._sessions.values()
    (peer,) = session.program._peers.values()
    receivers: list[Any] = [transceiver.receiver for transceiver in peer._connection.getTransceivers()]
    assert [receiver.track for receiver in receivers] == [None, None]
    assert [receiver._RTCRtpReceiver__decoder_thread for receiver in receivers] == [None, None]
    await attacker.close()

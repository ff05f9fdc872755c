"""What a caller sends over its data channel is bounded before it is a message: real aiortc on both sides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiortc import RTCSessionDescription
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, DataChunk

from server.media.webrtc.data_channels import MAX_STREAMS, MAX_WAITING

Open = Callable[..., Awaitable[Any]]
PATIENCE_S = 15.0


class Caller:
    """A viewer with a data channel, whose fragments the test writes."""

    def __init__(self, receiver: Any, hand: Any) -> None:
        self.receiver = receiver
        self.hand = hand
        self.said: list[str | bytes] = []
        self.channel = receiver.connection.createDataChannel("events")

    async def call(self) -> None:
        is_open = asyncio.Event()
        self.channel.on("open", is_open.set)
        viewer_id, answer = await self.hand.program.add_viewer(
            await self.receiver.offer(), on_channel=lambda channel: channel.on("message", self.said.append)
        )
        self.ours = self.hand.program._peers[viewer_id]._connection
        await self.receiver.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(PATIENCE_S):
            await is_open.wait()

    async def send(self, user_data: bytes, *, flags: int = 0, stream_id: int = 1, gap: int = 0) -> None:
        sctp = self.receiver.connection.sctp
        chunk = DataChunk(flags)
        chunk.tsn, chunk.stream_id, chunk.protocol, chunk.user_data = sctp._local_tsn + gap, stream_id, 51, user_data
        sctp._local_tsn += 1 + gap
        await sctp._send_chunk(chunk)

    @property
    def num_waiting(self) -> int:
        return sum(len(stream.reassembly) for stream in self.ours.sctp._inbound_streams.values())


@pytest.fixture
async def caller(open_program: Open, new_receiver: Any) -> Caller:
    caller = Caller(new_receiver(), await open_program())
    await caller.call()
    return caller


async def _endless(caller: Caller, index: int) -> None:
    await caller.send(b"x" * 20, flags=SCTP_DATA_FIRST_FRAG if index == 0 else 0)


async def _large(caller: Caller, index: int) -> None:
    await caller.send(b"x" * 1100, flags=SCTP_DATA_FIRST_FRAG if index == 0 else 0)


async def _after_a_gap(caller: Caller, index: int) -> None:
    await caller.send(b"x", flags=SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG, gap=1 if index == 0 else 0)


async def _many_streams(caller: Caller, index: int) -> None:
    await caller.send(b"x", flags=SCTP_DATA_FIRST_FRAG, stream_id=2 * index)


@pytest.mark.parametrize("flood", [_endless, _large, _after_a_gap, _many_streams])
async def test_a_caller_that_floods_us_with_fragments_is_lost(caller: Caller, flood: Any) -> None:
    with contextlib.suppress(ConnectionError):  # we have hung up
        for index in range(4 * MAX_WAITING):
            await flood(caller, index)
            await asyncio.sleep(0)
    await caller.hand.until(lambda: caller.hand.lost)
    assert caller.num_waiting <= MAX_WAITING + 1
    assert len(caller.ours.sctp._inbound_streams) <= MAX_STREAMS + 1
    assert caller.said == []


class _Raw:
    """A chunk of SCTP as its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data


MALFORMED = {
    "parameter of length 0": b"\4\0\0\x08\0\1\0\0",  # a heartbeat, for which aiortc's parser never came back
    "parameter behind another": b"\x82\0\0\x10\0\x11\0\x06ab\0\0\0\x0d\0\3",
    "parameter of an init": b"\1\0\0\x18" + b"\0" * 16 + b"\x80\x08\0\0",
    "half a head of data": b"\0\3\0\x0a" + b"\0" * 8,  # struct.error
    "half a reset": b"\x82\0\0\x0a\0\x0d\0\x06ab\0\0",
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_chunk_ends_the_call_and_stops_nobody_else(
    what: str, caller: Caller, new_receiver: Any
) -> None:
    other = new_receiver()
    await other.watch(caller.hand.program)
    await caller.receiver.connection.sctp._send_chunk(_Raw(MALFORMED[what]))
    await caller.hand.until(lambda: caller.hand.lost)
    assert len(caller.hand.lost) == 1
    await other.marked()


async def test_our_largest_message_passes(caller: Caller) -> None:
    for _ in range(3):
        caller.channel.send("x" * 256 * 1024)
    async with asyncio.timeout(PATIENCE_S):
        while len(caller.said) < 3:
            await caller.receiver.marked()
    assert not caller.hand.lost

"""What strangers' bytes reach, each as an attempt with one input: only the errors that its caller expects are caught.

`test_fuzz.py` runs them. Everything is in this process and nothing is sent: sockets that attempts answer to are stubs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import aioice
from aiortc.codecs import HEADER_EXTENSIONS
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtcsctptransport import RTCSctpTransport
from aiortc.rtp import is_rtcp
from aiortc.sdp import SessionDescription
from google_crc32c import value as crc32c

from server.clock import FakeClock
from server.config import Settings
from server.doors.access.auth import Access
from server.doors.access.keyring import Keyring
from server.media.video.encoder import EncodedFrame
from server.media.video.fanout import Fanout
from server.media.video.rendition import Codec, ladder
from server.media.webrtc import sdpfrag
from server.media.webrtc.data_channels import bound_received
from server.media.webrtc.ice import Ice
from server.media.webrtc.pacer import Lateness, Pacer
from server.media.webrtc.peer import Peer, Source, ViewerTimeouts
from server.media.webrtc.sender import RtpSender
from server.media.webrtc.signalling import OfferError, checked_answer, checked_offer, parsed_candidate
from server.protocol.decoding import decode, encode, session_start
from server.protocol.errors import MessageError, Refused
from server.protocol.messages import Error
from server.store.store import Store

Attempt = Callable[[bytes], Awaitable[None]]

VIEWER = ("127.0.0.1", 9)  # named in the offer; nothing is sent to it
STRANGER = ("127.0.0.2", 9)
PASSWORD = "fuzzfuzzfuzzfuzzfuzzfuzz"
SSRC, RTX_SSRC = 1111, 2222
NOW = 2_000_000_000.0  # seconds of Unix time
H264, RTX = 102, 103
PARAMETERS = RTCRtpSendParameters(
    codecs=[
        RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000, payloadType=H264),
        RTCRtpCodecParameters(mimeType="video/rtx", clockRate=90000, payloadType=RTX, parameters={"apt": H264}),
    ],
    headerExtensions=HEADER_EXTENSIONS["video"],
    muxId="0",
    rtcp=RTCRtcpParameters(cname="stage"),
)
TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"


class Target(NamedTuple):
    open: Callable[[], AbstractAsyncContextManager[Attempt]]
    num_inputs: int  # of one round, some 3 s on one core
    is_text: bool


# --- packets ------------------------------------------------------------------------------------------------------


class _Nowhere:
    """In place of a UDP socket: what is sent is dropped."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def sendto(self, data: bytes, address: object) -> None:
        pass

    def close(self) -> None:
        self._transport.close()


@asynccontextmanager
async def stun() -> AsyncIterator[Attempt]:
    """Datagrams at one of our sockets: from a stranger, from the viewer, and signed as only the viewer can."""
    peer = Ice().connection()
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    connection = peer.getTransceivers()[0].receiver.transport.transport._connection
    connection._local_username, connection._local_password = "ours", PASSWORD
    connection.remote_username, connection.remote_password = "viewer", PASSWORD
    await connection.add_remote_candidate(aioice.Candidate.from_sdp(f"1 1 udp 1 {VIEWER[0]} {VIEWER[1]} typ host"))
    connection._early_checks_done = True  # as once both descriptions are known
    socket = connection._protocols[0]
    for protocol in connection._protocols:
        protocol.transport = _Nowhere(protocol.transport)

    async def attempt(data: bytes) -> None:
        for address in (STRANGER, VIEWER):
            socket.datagram_received(data, address)
            socket.datagram_received(_signed(data), address)
        while not connection._queue.empty():
            connection._queue.get_nowait()
        await asyncio.sleep(0)

    yield attempt
    await peer.close()


def _signed(data: bytes) -> bytes:
    """The packet as a viewer signs it: with its length, and MESSAGE-INTEGRITY (RFC 8489 section 14.5)."""
    attributes = data[20:] + bytes(-len(data[20:]) % 4)
    head = data[:2] + ((len(attributes) + 24) & 0xFFFF).to_bytes(2, "big") + data[4:20].ljust(16, b"t")
    digest = hmac.digest(PASSWORD.encode(), head + attributes, hashlib.sha1)
    return head + attributes + b"\x00\x08\x00\x14" + digest


@asynccontextmanager
async def rtp() -> AsyncIterator[Attempt]:
    """RTP and RTCP of a connected viewer, after SRTP, at the transport with our sender behind it."""
    peer = Ice().connection()
    stock: Any = peer.addTransceiver("video", direction="sendonly").sender
    stock._ssrc, stock._rtx_ssrc = SSRC, RTX_SSRC
    clock, renditions = FakeClock(), ladder(832, 480, 2_000_000)
    fanout, pacer = Fanout(renditions[0], 48), Pacer(clock)
    sender = RtpSender(
        stock,
        fanout,
        pacer,
        renditions=renditions,
        clock=clock,
        started_at=clock.now(),
        on_heard=lambda: None,
        on_ended=lambda reason: None,
    )
    sender._sequence_number = 0
    await sender.send(PARAMETERS)
    fanout.put({renditions[0]: EncodedFrame(b"", (b"x" * 1000,) * 20, 0, 0, is_keyframe=True)})
    await clock.advance(1.0)
    sender.flush(clock.now(), Lateness())
    transport: Any = stock.transport

    async def attempt(data: bytes) -> None:
        if is_rtcp(data):
            await transport._handle_rtcp_data(data)
        else:
            await transport._handle_rtp_data(data, arrival_time_ms=0)
        await clock.advance(0.1)

    yield attempt
    await sender.stop()
    await peer.close()


@asynccontextmanager
async def sctp() -> AsyncIterator[Attempt]:
    """What a caller sends inside DTLS, at an open association: as it came, and with the tag and checksum it needs."""
    peer = Ice().connection()
    peer.createDataChannel("prompts")
    dtls: Any = peer.sctp.transport

    async def send_nowhere(data: bytes) -> None:
        pass

    dtls._send_data = send_nowhere

    async def attempt(data: bytes) -> None:
        transport: Any = RTCSctpTransport(dtls)
        bound_received(transport, on_end=lambda reason: None)
        transport._association_state = transport.State.ESTABLISHED
        transport._last_received_tsn = 0
        transport._remote_verification_tag, transport._remote_port = 1, 5000
        tag = 0 if data[12:13] == b"\x01" else transport._local_verification_tag  # INIT has none yet
        packet = data[:4].ljust(4) + tag.to_bytes(4, "big") + bytes(4) + data[12:]
        for one in (data, packet[:8] + crc32c(packet).to_bytes(4, "little") + packet[12:]):
            await transport._handle_data(one)
        transport._set_state(transport.State.CLOSED)  # ends its timers

    yield attempt
    await peer.close()


# --- texts --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sdp() -> AsyncIterator[Attempt]:
    """Offers and answers. What we write for aiortc can be read again, and lets nobody send."""
    takes = Ice().takes

    async def attempt(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for check in (lambda: checked_offer(text, takes), lambda: checked_answer(text)):
            try:
                ours = check().sdp
            except OfferError:
                continue
            directions = {media.direction for media in SessionDescription.parse(ours).media}
            assert not directions & {"sendrecv", "sendonly"}

    yield attempt


@asynccontextmanager
async def offer() -> AsyncIterator[Attempt]:
    """Offers that we accept, up to the answer and the end of the viewer. No candidate is tried."""
    renditions = {codec: ladder(128, 128, 100_000, codec) for codec in Codec}
    ice = Ice()
    ice.takes = lambda address: False  # type: ignore[method-assign]

    async def attempt(data: bytes) -> None:
        clock = FakeClock()
        source = Source(Fanout(renditions[Codec.H264][0], 48), Pacer(clock), renditions, clock.now())
        peer = Peer(
            "viewer",
            source,
            clock=clock,
            timeouts=ViewerTimeouts(),
            on_lost=lambda peer, reason: None,
            on_channel=lambda channel: None,
            ice=ice,
        )
        try:
            await peer.open(data.decode("utf-8", "replace"))
        except OfferError:
            return
        await asyncio.sleep(0)
        await peer.close()

    yield attempt


@asynccontextmanager
async def fragment() -> AsyncIterator[Attempt]:
    """Trickled candidates of a WHEP viewer."""
    takes = Ice().takes

    async def attempt(data: bytes) -> None:
        try:
            for candidate in sdpfrag.parsed(data.decode("utf-8", "replace")).candidates:
                parsed_candidate(candidate.text, candidate.mid, candidate.mline_index, takes)
        except OfferError:
            pass

    yield attempt


@asynccontextmanager
async def message() -> AsyncIterator[Attempt]:
    """Control messages, and the options of a start in a query. Each refusal can be told to the client."""

    async def attempt(data: bytes) -> None:
        text = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
        for read in (lambda: decode(data), lambda: decode(text), lambda: session_start(dict(parse_qsl(text)))):
            try:
                read()
            except MessageError as fault:
                encode(Error(error=fault.detail))

    yield attempt


@asynccontextmanager
async def secret() -> AsyncIterator[Attempt]:
    """Client secrets at the door: a stranger's, and ones that the token signed. An input: a head, then claims."""
    clock = FakeClock()
    keyring = Keyring(Store(), clock, lambda: NOW, token=TOKEN)
    access = Access(Settings(token=TOKEN), keyring, lambda: NOW)

    async def attempt(data: bytes) -> None:
        head, _, claims = data.partition(b"\n")
        signed = b".".join(map(_base64url, (head, claims)))
        for given in (data, signed + b"." + _base64url(hmac.digest(TOKEN.encode(), signed, hashlib.sha256))):
            headers = {"Authorization": f"Bearer ek_{given.decode('utf-8', 'surrogateescape')}"}
            try:
                identity = access.admit(headers, {}, "view")
            except Refused as refusal:
                encode(Error(error=refusal.detail))
            else:
                assert "view" in identity.scopes and identity.secret_id is not None

    yield attempt


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


TARGETS = {
    "stun": Target(stun, 40000, is_text=False),
    "rtp": Target(rtp, 20000, is_text=False),
    "sctp": Target(sctp, 35000, is_text=False),
    "sdp": Target(sdp, 6000, is_text=True),
    "offer": Target(offer, 800, is_text=True),
    "sdpfrag": Target(fragment, 30000, is_text=True),
    "message": Target(message, 30000, is_text=True),
    "secret": Target(secret, 25000, is_text=True),
}

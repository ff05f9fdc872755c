"""ICE: ports, addresses, STUN and TURN servers, and the private names of aioice that we use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import inspect
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aioice
import aiortc
import pytest
from aioice import stun
from aioice.ice import get_host_addresses
from aiortc import RTCPeerConnection, RTCSessionDescription

from server.clock import FakeClock
from server.config import Settings
from server.media.webrtc.ice import (
    MAX_PACKET_BYTES,
    MAX_WAITING_PACKETS,
    SILENCE_S,
    TURN_TTL_S,
    Ice,
    IceSettings,
    IceUrl,
    bind_udp,
)
from server.media.webrtc.signalling import OfferError, checked_offer, parsed_candidate
from server.protocol.messages import IceServer

Open = Callable[..., Awaitable[Any]]
METADATA = "169.254.169.254"
SECRET = "north-wind-and-sun"


def ours() -> str:
    """An address of this machine that is not loopback."""
    return get_host_addresses(use_ipv4=True, use_ipv6=False)[0]


def candidates(sdp: str) -> list[list[str]]:
    return [line.split() for line in sdp.splitlines() if line.startswith("a=candidate:")]


async def offer_of(connection: RTCPeerConnection) -> str:
    connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    return connection.localDescription.sdp


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A STUN server that receives requests and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((ours(), 0))
        silent.setblocking(False)
        yield silent


def questions(silent: socket.socket) -> list[bytes]:
    asked = []
    while True:
        try:
            asked.append(silent.recv(2048))
        except BlockingIOError:
            return asked


# --- ports --------------------------------------------------------------------------------------------------------


async def test_media_keeps_to_the_range_of_ports(open_program: Open, new_receiver: Any) -> None:
    first = _free_range(3)
    hand = await open_program(ice=Ice(IceSettings(udp_ports=(first, first + 2))))
    receiver = new_receiver()
    await receiver.watch(hand.program)
    ports = {int(fields[5]) for fields in candidates(receiver.answer)}
    assert ports and ports <= set(range(first, first + 3))
    await receiver.marked()


async def test_a_range_that_is_used_up_refuses_and_serves_again_when_one_leaves(
    open_program: Open, new_receiver: Any
) -> None:
    first = _free_range(1)
    hand = await open_program(ice=Ice(IceSettings(udp_ports=(first, first))))
    one, other = new_receiver(), new_receiver()
    await one.watch(hand.program)
    with pytest.raises(OfferError) as caught:
        await hand.program.add_viewer(await other.offer())
    assert caught.value.code == "too_many_viewers" and str(first) in caught.value.message
    assert list(hand.program._peers) == [one.viewer_id]
    await hand.program.remove_viewer(one.viewer_id)
    await other.watch(hand.program)
    await other.marked()


async def test_a_stranger_cannot_break_a_viewers_handshake(open_program: Open, new_receiver: Any) -> None:
    """Neither on purpose nor as the port's previous viewer: DTLS from an unchecked address is ignored."""
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    ports = {(fields[4], int(fields[5])) for fields in candidates(receiver.answer) if ":" not in fields[4]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((ours(), 0))
        for _ in range(20):
            for address in ports:
                stranger.sendto(b"\x15\xfe\xfd\0\0\0\0\0\0\0\0\0\x02\x02\x28", address)  # alert: handshake failure
                stranger.sendto(b"", address)
            await asyncio.sleep(0)
        await receiver.marked()


COOKIE = stun.COOKIE.to_bytes(4, "big")
REQUEST = b"\0\x01"
# Attributes that aioice's parser fails on in three ways, and packets that it takes for media.
MALFORMED = {
    "no bytes": b"",
    "too short": b"\0\x01\0\0",
    "no cookie": REQUEST + b"\0\0" + b"\0" * 16,
    "short number": REQUEST + b"\0\x04" + COOKIE + b"t" * 12 + b"\0\x24\0\0",  # struct.error
    "short address": REQUEST + b"\0\x08" + COOKIE + b"t" * 12 + b"\0\x20\0\x02\0\x01\0\0",
    "wrong length": REQUEST + b"\0\x40" + COOKIE + b"t" * 12,
    "unknown method": b"\x03\xff\0\0" + COOKIE + b"t" * 12,
    "byte 3": b"\x03" * 200,
    "large": b"\x16" * (MAX_PACKET_BYTES + 1),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_packet_is_counted_and_dropped(what: str, dropped: Dropped) -> None:
    await dropped.receive(MALFORMED[what], from_known=True)
    await dropped.receive(MALFORMED[what], from_known=False)
    assert dropped.reasons == ["malformed"] * 2
    assert dropped.num_waiting == 0


async def test_a_packet_that_only_looks_like_stun_is_not_parsed(dropped: Dropped) -> None:
    """Its first byte says that it is none. aioice's parser raised errors for it."""
    await dropped.receive(b"\x10" + MALFORMED["short number"][1:], from_known=True)
    assert dropped.reasons == [] and dropped.num_waiting == 1


SHORT_SEND_TIME = b"\x90\x66\0\1" + b"\0" * 8 + b"\xbe\xde\0\1\x31ab\0"  # RTP: two bytes, not three
SHORT_ESTIMATE = b"\x8f\xce\0\5" + b"\0" * 8 + b"REMB\x03\x0f\xd0\x90" + b"\0" * 4  # RTCP: one SSRC of three


async def test_media_packets_that_aiortc_fails_on_do_not_end_the_viewer(open_program: Open, new_receiver: Any) -> None:
    reasons: asyncio.Queue[str] = asyncio.Queue()
    hand = await open_program(ice=Ice(on_dropped=reasons.put_nowait))
    receiver = new_receiver()
    await receiver.watch(hand.program)
    await receiver.marked()
    for packet in (SHORT_SEND_TIME, SHORT_ESTIMATE):
        await receiver.transceiver.receiver.transport._send_rtp(packet)
    async with asyncio.timeout(15):
        assert await reasons.get() == "malformed"
    await receiver.ask_for_keyframe()
    await receiver.marked()
    assert hand.lost == []


async def test_a_check_of_the_viewer_itself_without_a_priority_raises_nothing(dropped: Dropped) -> None:
    check = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    connection = dropped.connection
    connection._early_checks_done = True
    check.attributes["USERNAME"] = f"{connection.local_username}:viewer"
    check.add_message_integrity(connection.local_password.encode())
    await dropped.receive(bytes(check), from_known=False)
    assert dropped.reasons == ["malformed"]


async def test_packets_that_wait_for_dtls_are_bounded(dropped: Dropped) -> None:
    for _ in range(MAX_WAITING_PACKETS + 50):
        await dropped.receive(b"\x16" * 100, from_known=True)
    assert dropped.num_waiting == MAX_WAITING_PACKETS
    assert dropped.reasons == ["overflow"] * 50
    await dropped.receive(b"\x16" * 100, from_known=False)
    assert dropped.reasons[-1] == "stranger"


class Dropped:
    """One of our sockets, whose connection has not begun, and why it dropped packets."""

    def __init__(self, connection: aioice.Connection, reasons: list[str]) -> None:
        self.connection = connection
        self.reasons = reasons

    async def receive(self, data: bytes, *, from_known: bool) -> None:
        address = ("192.0.2.1", 5000) if from_known else ("192.0.2.2", 5000)
        self.connection._protocols[0].datagram_received(data, address)

    @property
    def num_waiting(self) -> int:
        return self.connection._queue.qsize()


@pytest.fixture
async def dropped() -> AsyncIterator[Dropped]:
    reasons: list[str] = []
    peer = Ice(on_dropped=reasons.append).connection()
    await offer_of(peer)
    connection = peer.getTransceivers()[0].receiver.transport.transport._connection
    await connection.add_remote_candidate(aioice.Candidate.from_sdp("1 1 udp 1 192.0.2.1 5000 typ host"))
    yield Dropped(connection, reasons)
    await peer.close()


def _free_range(count: int) -> int:
    """The first of `count` neighbouring ports that are free on all our addresses."""
    for first in range(42000, 60000, 7):
        bound = []
        try:
            for address in get_host_addresses(use_ipv4=True, use_ipv6=True):
                bound += [bind_udp(address, (port, port)) for port in range(first, first + count)]
        except OSError:
            continue
        else:
            return first
        finally:
            for one in bound:
                one.close()
    raise AssertionError("no free ports")


# --- STUN ---------------------------------------------------------------------------------------------------------


async def test_without_configured_servers_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("server.media.webrtc.ice.server_reflexive_candidate", lambda *question: asked.append(question))
    connection = Ice().connection()
    await offer_of(connection)
    assert asked == []
    assert connection._RTCPeerConnection__configuration.iceServers == []  # type: ignore[attr-defined]
    await connection.close()


async def test_a_silent_stun_server_is_given_up_soon_and_then_left_alone(silent_server: socket.socket) -> None:
    host, port = silent_server.getsockname()
    clock = FakeClock()
    # aioice would wait for 5 s, and repeat its question after 0.5, 1.5 and 3.5 s.
    ice = Ice(IceSettings(servers=(IceUrl.of(f"stun:{host}:{port}"),)), clock=clock, gather_timeout_s=0.3)
    await _gather(ice)
    assert questions(silent_server)
    sdp = await _gather(ice)
    assert questions(silent_server) == []
    assert {fields[7] for fields in candidates(sdp)} == {"host"}
    await clock.advance(SILENCE_S + 1)
    await _gather(ice)
    assert questions(silent_server)


async def test_the_address_that_a_stun_server_sees_is_a_candidate() -> None:
    class StunServer(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            question = stun.parse_message(data)
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, question.transaction_id)
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.7", 4000)
            self.transport.sendto(bytes(answer), address)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(StunServer, local_addr=(ours(), 0))
    host, port = transport.get_extra_info("sockname")
    sdp = await _gather(Ice(IceSettings(servers=(IceUrl.of(f"stun:{host}:{port}"),))))
    transport.close()
    assert ["203.0.113.7", "4000", "typ", "srflx"] in [fields[4:8] for fields in candidates(sdp)]


async def test_with_a_public_address_no_server_is_asked(silent_server: socket.socket) -> None:
    host, port = silent_server.getsockname()
    servers = (IceUrl.of(f"stun:{host}:{port}"), IceUrl.of(f"turn:{host}:{port}"))
    await _gather(Ice(IceSettings(servers=servers, public_address="203.0.113.7", turn_secret=SECRET)))
    assert questions(silent_server) == []


async def _gather(ice: Ice) -> str:
    connection = ice.connection()
    try:
        return await offer_of(connection)
    finally:
        await connection.close()


# --- TURN ---------------------------------------------------------------------------------------------------------


async def test_our_own_relay_is_asked_for_with_credentials_of_the_hour(silent_server: socket.socket) -> None:
    asked: list[dict[str, Any]] = []

    async def relayed(**question: Any) -> Any:
        asked.append(question)
        raise ConnectionError("no relay today")

    host, port = silent_server.getsockname()
    ice = Ice(IceSettings((IceUrl.of(f"turn:{host}:{port}?transport=tcp"),), turn_secret=SECRET), wall_time=lambda: 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.media.webrtc.ice.relayed_candidate", relayed)
        await _gather(ice)
    (question,) = asked
    assert (question["turn_server"], question["turn_transport"]) == ((host, port), "tcp")
    assert question["turn_username"] == f"{TURN_TTL_S}:server"


def test_credentials_are_what_a_turn_server_with_the_secret_computes() -> None:
    urls = ("stun:stun.example:3478", "turn:turn.example", "turns:turn.example?transport=tcp")
    ice = Ice(IceSettings(tuple(IceUrl.of(url) for url in urls), turn_secret=SECRET), wall_time=lambda: 1_000.9)
    stun_server, turn_server = ice.client_servers("my-show")
    assert stun_server == IceServer(urls=("stun:stun.example:3478",))
    assert turn_server.urls == urls[1:]
    assert TURN_TTL_S == 3600
    assert turn_server.username == f"{1_000 + TURN_TTL_S}:my-show"
    expected = hmac.new(SECRET.encode(), str(turn_server.username).encode(), hashlib.sha1).digest()
    assert turn_server.credential == base64.b64encode(expected).decode()
    assert SECRET not in repr(ice.settings)


@pytest.mark.parametrize(
    ("address", "is_denied"),
    [
        *(
            (address, True)
            for address in ("0.0.0.1", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", METADATA)
        ),
        *(
            (address, True)
            for address in ("172.31.255.255", "192.168.1.1", "198.18.0.1", "224.0.0.1", "255.255.255.255")
        ),
        *((address, True) for address in ("::", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1")),
        *((address, True) for address in ("fc00::1", "fd00:ec2::254", "fe80::1", "ff02::1")),
        *((address, False) for address in ("8.8.8.8", "100.128.0.1", "172.32.0.1", "203.0.113.7", "2606:4700::1111")),
    ],
)
def test_the_documents_turn_server_relays_nobody_into_a_private_network(address: str, is_denied: bool) -> None:
    document = (Path(__file__).parents[4] / "docs" / "media.md").read_text(encoding="utf-8")
    ranges = [
        tuple(map(ipaddress.ip_address, line.partition("=")[2].split("-")))
        for line in document.splitlines()
        if line.startswith("denied-peer-ip=")
    ]
    parsed = ipaddress.ip_address(address)
    assert any(first.version == parsed.version and first <= parsed <= last for first, last in ranges) is is_denied


def test_without_servers_clients_are_told_none() -> None:
    assert Ice().client_servers("my-show") == ()


@pytest.mark.parametrize(
    ("text", "address", "transport"),
    [
        ("stun:stun.example", ("stun.example", 3478), "udp"),
        ("turn:turn.example:80?transport=tcp", ("turn.example", 80), "tcp"),
        ("turns:turn.example", ("turn.example", 5349), "tcp"),
        ("turn:[2001:db8::1]:3479", ("2001:db8::1", 3479), "udp"),
    ],
)
def test_server_addresses_are_parsed(text: str, address: tuple[str, int], transport: str) -> None:
    url = IceUrl.of(text)
    assert (url.address, url.transport) == (address, transport)


def test_an_invalid_server_address_is_refused() -> None:
    with pytest.raises(ValueError, match="stun:HOST"):
        IceUrl.of("http://stun.example")


# --- the public address -------------------------------------------------------------------------------------------

ANSWER = (
    "v=0\r\nm=video 50001 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 172.17.0.2\r\na=rtcp:9 IN IP4 0.0.0.0\r\n"
    "a=candidate:abc 1 udp 2130706431 172.17.0.2 50001 typ host\r\n"
    "a=candidate:abd 1 udp 2130706431 fd00::2 50001 typ host\r\n"
    "a=candidate:abe 1 udp 2130706431 2606:4700::2 50002 typ host\r\n"
)


def test_the_public_address_takes_the_place_of_our_own() -> None:
    sdp = Ice(IceSettings(public_address="203.0.113.7")).advertised(ANSWER)
    assert [fields[4:6] for fields in candidates(sdp)] == [["203.0.113.7", "50001"], ["2606:4700::2", "50002"]]
    assert "172.17" not in sdp and "fd00" not in sdp
    assert "c=IN IP4 203.0.113.7\r\n" in sdp and "a=rtcp:9 IN IP4 0.0.0.0\r\n" in sdp


def test_the_public_address_comes_before_allowed_private_ones() -> None:
    sdp = Ice(IceSettings(public_address="203.0.113.7", private_candidates="allow")).advertised(ANSWER)
    told = candidates(sdp)
    assert [fields[4] for fields in told] == ["203.0.113.7", "172.17.0.2", "fd00::2", "2606:4700::2"]
    assert int(told[0][3]) > int(told[1][3])


def test_without_a_public_address_answers_are_as_they_were() -> None:
    assert Ice().advertised(ANSWER) == ANSWER


async def test_a_viewer_reaches_the_public_address_though_its_own_are_refused(
    open_program: Open, new_receiver: Any
) -> None:
    """Its checks reach us, so we know its address. We sent no check to an address that it only claimed."""
    hand = await open_program(ice=Ice(IceSettings(public_address=ours())))
    receiver = new_receiver()
    await receiver.watch(hand.program)
    assert {fields[4] for fields in candidates(receiver.answer) if ":" not in fields[4]} == {ours()}
    await receiver.marked()
    (peer,) = hand.program._peers.values()
    remote = peer._connection.getTransceivers()[0].receiver.transport.transport.getRemoteCandidates()
    assert {candidate.type for candidate in remote} == {"prflx"}


# --- whose addresses we try ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (IceSettings(), True),
        (IceSettings(private_candidates="refuse"), False),
        (IceSettings(public_address="203.0.113.7"), False),
        (IceSettings(public_address="203.0.113.7", private_candidates="allow"), True),
    ],
)
def test_a_public_server_sends_nothing_to_private_addresses(settings: IceSettings, expected: bool) -> None:
    assert _is_tried("10.0.0.1", settings) is expected
    assert _is_tried("8.8.8.8", settings)


@pytest.mark.parametrize("address", [METADATA, "100.100.100.200", "fe80::1", "224.0.0.1", "0.0.0.0", "::"])
def test_no_setting_makes_us_send_where_no_viewer_can_be(address: str) -> None:
    assert not _is_tried(address, IceSettings(private_candidates="allow", is_for_this_machine=True))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_tried_only_by_a_server_that_nobody_else_reaches(address: str) -> None:
    assert _is_tried(address, IceSettings.of(Settings()))
    for others in (
        Settings(host="0.0.0.0"),
        Settings(allowed_origins=("https://stage.example",)),
        Settings(public_address="203.0.113.7", private_candidates="allow"),
    ):
        assert not _is_tried(address, IceSettings.of(others))


def _is_tried(address: str, settings: IceSettings) -> bool:
    """In an offer and trickled alike."""
    takes = Ice(settings).takes
    is_offered = f" {address} 80 typ " in checked_offer(_offer_with(address), takes).sdp
    is_trickled = parsed_candidate(f"candidate:1 1 udp 1 {address} 80 typ host", "0", 0, takes) is not None
    assert is_offered is is_trickled
    return is_offered


def _offer_with(*addresses: str) -> str:
    lines = [f"a=candidate:1 1 udp 1 {address} 80 typ host\r\n" for address in addresses]
    return (
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n"
        "a=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 "
        + ":".join(["00"] * 32)
        + "\r\na=setup:actpass\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 H264/90000\r\n"
        "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n" + "".join(lines)
    )


# --- private names ------------------------------------------------------------------------------------------------


async def test_the_private_names_that_we_use_exist() -> None:
    assert (aiortc.__version__, aioice.__version__) == ("1.16.0", "0.13.0"), (
        "aioice has changed: check `server/media/webrtc/ice.py`"
    )
    assert hasattr(RTCPeerConnection, "_RTCPeerConnection__createDtlsTransport")
    parameters = inspect.signature(aioice.Connection.get_component_candidates).parameters
    assert list(parameters) == ["self", "component", "addresses", "timeout"]
    assert hasattr(RTCPeerConnection(), "_RTCPeerConnection__dtlsTransports")
    connection = aioice.Connection(ice_controlling=True)
    assert connection._queue.empty()
    assert (connection._protocols, connection._remote_candidates) == ([], [])
    await connection.add_remote_candidate(aioice.Candidate.from_sdp("1 1 udp 1 192.0.2.1 5000 typ host"))
    assert connection._remote_candidates[0]._network_host == "192.0.2.1"


async def test_every_transport_of_a_connection_uses_our_port_range() -> None:
    """Also the transports that come from an offer."""
    first = _free_range(2)
    viewer, connection = RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[])), None
    viewer.createDataChannel("events")
    offer = await offer_of(viewer)
    connection = Ice(IceSettings(udp_ports=(first, first + 1))).connection()
    await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await connection.setLocalDescription()
    ports = {int(fields[5]) for fields in candidates(connection.localDescription.sdp)}
    assert ports and ports <= {first, first + 1}
    await connection.close()
    await viewer.close()

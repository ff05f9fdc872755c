"""ICE: ports, addresses, STUN and TURN servers, and the private names of aioice that we use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import inspect
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aioice
import aiortc
import pytest
from aioice import stun
from aioice.ice import get_host_addresses
from aiortc import RTCPeerConnection, RTCSessionDescription

from server.clock import FakeClock
from server.media.webrtc.ice import SILENCE_S, TURN_TTL_S, Ice, IceSettings, IceUrl, bind_udp, is_public
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
    assert hand.program.num_viewers == 1
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


async def test_our_own_relay_is_asked_for_with_credentials_of_the_day(silent_server: socket.socket) -> None:
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
    assert turn_server.username == f"{1_000 + TURN_TTL_S}:my-show"
    expected = hmac.new(SECRET.encode(), str(turn_server.username).encode(), hashlib.sha1).digest()
    assert turn_server.credential == base64.b64encode(expected).decode()
    assert SECRET not in repr(ice.settings)


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
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        (METADATA, False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("stage.example", False),
    ],
)
def test_only_globally_routable_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


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
    takes = Ice(settings).takes
    offer = _offer_with(METADATA, "8.8.8.8")
    assert (METADATA in checked_offer(offer, takes).sdp) is expected
    assert "8.8.8.8" in checked_offer(offer, takes).sdp
    trickled = f"candidate:1 1 udp 1 {METADATA} 80 typ host"
    assert (parsed_candidate(trickled, "0", 0, takes) is not None) is expected


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
    connection = aioice.Connection(ice_controlling=True)
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

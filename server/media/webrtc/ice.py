"""ICE: STUN and TURN servers, our addresses and ports, and which addresses of viewers we try.

`peer.py` takes its connections from here and passes answers through here; `session.py` and `whep.py` tell clients the
ICE servers. Runs on the event loop.

aiortc (pinned to 1.16.0) leaves ICE to aioice (pinned to 0.13.0). By default aioice binds to any port, waits up to 5 s
for a dead STUN server, and asks a public one. To change that, this file uses private names, each with a test in
`tests/server/media/webrtc/test_ice.py`:

* `RTCPeerConnection.__createDtlsTransport` is wrapped, to get the aioice connection of each transport, and
  `__dtlsTransports` lists them;
* `aioice.Connection.get_component_candidates` (public, undocumented) is replaced by `_Gathering.candidates`, which uses
  `Connection._protocols`, `StunProtocol`, `server_reflexive_candidate` and `relayed_candidate` of `aioice.ice`;
* `_Host` reads `Connection._remote_candidates`, `Connection._queue` and `Candidate._network_host`;
* `RTCPeerConnection.__connect`, a task that nobody awaits, is wrapped: it may find the connection closed;
* `RTCDtlsTransport._handle_rtcp_data` is wrapped and `_handle_rtp_data` replaced by `_guard_media`;
* `abandon` closes the sockets of `Connection._protocols`.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import hmac
import ipaddress
import logging
import random
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aioice import stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, relayed_candidate, server_reflexive_candidate
from aiortc import InvalidStateError, RTCConfiguration, RTCPeerConnection

from server.clock import Clock, MonotonicClock
from server.config import ICE_URL, PortRange, PrivateCandidates, Settings
from server.media.webrtc.addresses import is_loopback, is_never_tried, is_public
from server.media.webrtc.signalling import OfferError
from server.protocol.messages import IceServer

_log = logging.getLogger(__name__)

_CREATE_TRANSPORT = "_RTCPeerConnection__createDtlsTransport"
_CONNECT = "_RTCPeerConnection__connect"
_TRANSPORTS = "_RTCPeerConnection__dtlsTransports"

# A STUN server on another continent answers in 0.3 s; TURN over TLS takes four round trips.
GATHER_TIMEOUT_S = 1.0
# How long a silent server is not asked again: it delays one viewer in a minute, not each.
SILENCE_S = 60.0
# A TURN server checks them when a relay begins, not while it lasts. A `session.resume` brings new ones.
TURN_TTL_S = 3600
# So that bursts of a keyframe's packets are not lost in the kernel (aioice's value).
_RECEIVE_BUFFER_BYTES = 256 * 1024
# What browsers send fits into 1500 bytes, a usual link's packet.
MAX_PACKET_BYTES = 2048
# Packets of one viewer that wait for DTLS: until it starts they are a handshake's first, afterwards one or two.
MAX_WAITING_PACKETS = 128
_MAGIC_COOKIE = stun.COOKIE.to_bytes(4, "big")  # bytes 4 to 7 of each STUN message (RFC 8489 section 5)

_FIRST_OTHER = 4  # lower first bytes are STUN's (RFC 7983)

_Asked = tuple[str, str]  # a server, and our address that asks it ("" for a relay)


@dataclass(frozen=True, slots=True)
class IceUrl:
    """One `stun:` or `turn:` address (RFC 7064, RFC 7065)."""

    text: str
    scheme: str
    host: str
    port: int
    transport: str  # udp or tcp

    @classmethod
    def of(cls, text: str) -> IceUrl:
        found = ICE_URL.fullmatch(text)
        if found is None:
            raise ValueError(f"expected stun:HOST[:PORT] or turn:HOST[:PORT][?transport=tcp], got {text!r}")
        is_secure = found["scheme"] in ("stuns", "turns")
        return cls(
            text=text,
            scheme=found["scheme"],
            host=found["host"].strip("[]"),
            port=int(found["port"] or (5349 if is_secure else 3478)),
            transport=found["transport"] or ("tcp" if is_secure else "udp"),
        )

    @property
    def is_turn(self) -> bool:
        return self.scheme.startswith("turn")

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


@dataclass(frozen=True, slots=True)
class IceSettings:
    """See `server.config.Settings` for what each is."""

    servers: tuple[IceUrl, ...] = ()
    turn_secret: str | None = field(default=None, repr=False)
    public_address: str | None = None
    udp_ports: PortRange | None = None
    private_candidates: PrivateCandidates = "auto"
    is_for_this_machine: bool = False  # only its user can reach the server

    @classmethod
    def of(cls, settings: Settings) -> IceSettings:
        return cls(
            servers=tuple(IceUrl.of(url) for url in settings.ice_servers),
            turn_secret=settings.turn_secret,
            public_address=settings.public_address,
            udp_ports=settings.udp_ports,
            private_candidates=settings.private_candidates,
            is_for_this_machine=not settings.is_reachable,
        )

    @property
    def takes_private(self) -> bool:
        """By default, a server with a public address uses no private addresses, not even its own."""
        if self.private_candidates == "auto":
            return self.public_address is None
        return self.private_candidates == "allow"


class Ice:
    """See the module. One for the whole server. `on_dropped` gets the reason for each packet that was dropped."""

    def __init__(
        self,
        settings: IceSettings | None = None,
        *,
        clock: Clock | None = None,
        wall_time: Callable[[], float] = time.time,
        gather_timeout_s: float = GATHER_TIMEOUT_S,
        on_dropped: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.settings = settings or IceSettings()
        self.on_dropped = on_dropped
        self._wall_time = wall_time
        self._gathering = _Gathering(self, clock or MonotonicClock(), gather_timeout_s)

    def connection(self) -> RTCPeerConnection:
        """A connection that gathers its candidates as the settings say.

        If the UDP ports are used up, `setLocalDescription` raises `OfferError` (`too_many_viewers`).
        """
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        create = getattr(connection, _CREATE_TRANSPORT)

        def create_ours() -> Any:
            transport = create()
            of_aioice = transport.transport._connection
            of_aioice.get_component_candidates = partial(self._gathering.candidates, of_aioice)
            _guard_media(transport, self.on_dropped)
            return transport

        connect = getattr(connection, _CONNECT)

        async def connect_ours() -> None:
            try:
                await connect()
            except InvalidStateError:  # closed meanwhile; nobody awaits this task
                if connection.signalingState != "closed":
                    raise

        setattr(connection, _CREATE_TRANSPORT, create_ours)
        setattr(connection, _CONNECT, connect_ours)
        return connection

    def takes(self, address: str) -> bool:
        """Whether we send checks to an address that a client names as its candidate.

        Otherwise a client could make us probe hosts behind our firewall: 169.254.169.254 is every cloud's metadata. A
        viewer that reaches us from such an address is still answered (peer-reflexive): that check is not blind.
        """
        if is_never_tried(address) or (is_loopback(address) and not self.settings.is_for_this_machine):
            return False
        return self.settings.takes_private or is_public(address)

    def advertised(self, sdp: str) -> str:
        """Our answer with the public address in place of our own, or before it if private addresses are allowed."""
        if self.settings.public_address is None:
            return sdp
        return "".join(f"{line}\r\n" for line in self._advertised_lines(sdp.splitlines()))

    def client_servers(self, name: str) -> tuple[IceServer, ...]:
        """The ICE servers for a client, as `RTCIceServer`. `name` only appears in the TURN server's log."""
        stun = tuple(server.text for server in self.settings.servers if not server.is_turn)
        turn = tuple(server.text for server in self.settings.servers if server.is_turn)
        servers = [IceServer(urls=stun)] if stun else []
        if turn:
            username, credential = self.turn_credentials(name)
            servers.append(IceServer(urls=turn, username=username, credential=credential))
        return tuple(servers)

    def turn_credentials(self, name: str) -> tuple[str, str]:
        """Valid for an hour; only the TURN server checks them (draft-uberti-behave-turn-rest, section 2.2)."""
        username = f"{int(self._wall_time()) + TURN_TTL_S}:{name}"
        secret = (self.settings.turn_secret or "").encode()
        return username, base64.b64encode(hmac.digest(secret, username.encode(), hashlib.sha1)).decode()

    # --- our answer -----------------------------------------------------------------------------------------------

    def _advertised_lines(self, lines: list[str]) -> Iterator[str]:
        public = str(self.settings.public_address)
        seen: set[str] = set()  # in this media section
        for line in lines:
            if line.startswith("a=candidate:"):
                candidates = [one for one in self._advertised_candidates(line, public) if one not in seen]
                seen.update(candidates)
                yield from candidates
                continue
            if line.startswith("m="):
                seen.clear()
            yield _with_address(line, public)

    def _advertised_candidates(self, line: str, public: str) -> Iterator[str]:
        """All are host candidates, because with a public address no server is asked."""
        fields = line.split()
        address = fields[4]
        is_same_family = ipaddress.ip_address(address).version == ipaddress.ip_address(public).version
        if is_same_family:
            foundation = candidate_foundation("host", "udp", public)
            yield " ".join([f"a=candidate:{foundation}", *fields[1:4], public, *fields[5:]])
        if address != public and (self.settings.takes_private or (not is_same_family and is_public(address))):
            # One less than the public one's: priorities must differ.
            yield " ".join([*fields[:3], str(int(fields[3]) - 1), *fields[4:]])


class _Gathering:
    """Our own candidates: one socket for each address of this machine, and what STUN and TURN servers see of them.

    Waits `timeout_s` at most, and does not ask a server that was silent within the last `SILENCE_S`.
    """

    def __init__(self, ice: Ice, clock: Clock, timeout_s: float) -> None:
        self._ice = ice
        self._clock = clock
        self._timeout_s = timeout_s
        self._silent_until: dict[_Asked, float] = {}  # one for each server and address at most

    async def candidates(
        self, connection: Any, component: int, addresses: list[str], timeout: float = 0.0
    ) -> list[Candidate]:
        """Replaces `aioice.Connection.get_component_candidates`. Raises `OfferError` without a free port."""
        hosts = await self._hosts(connection, component, addresses)
        found = [protocol.local_candidate for protocol in hosts]
        # With a configured public address no server is asked, and no relay is needed.
        if self._ice.settings.public_address is None:
            found += await self._asked(connection, component, hosts)
        return found

    async def _hosts(self, connection: Any, component: int, addresses: list[str]) -> list[StunProtocol]:
        loop = asyncio.get_running_loop()
        hosts: list[StunProtocol] = []
        is_exhausted = False
        for address in addresses:
            try:
                bound = bind_udp(address, self._ice.settings.udp_ports)
            except OSError as error:
                is_exhausted = is_exhausted or error.errno == errno.EADDRINUSE
                _log.debug("- ! cannot bind to %s: %s", address, error)
                continue
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            _, protocol = await loop.create_datagram_endpoint(partial(_Host, self._ice, connection), sock=bound)
            connection._protocols.append(protocol)  # closed with the connection in any case
            host, port = bound.getsockname()[:2]
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=host,
                port=port,
                type="host",
            )
            hosts.append(protocol)
        if is_exhausted and not hosts:
            first, last = self._ice.settings.udp_ports or (0, 0)
            raise OfferError("too_many_viewers", f"no UDP port from {first} to {last} is free (--udp-ports)")
        return hosts

    async def _asked(self, connection: Any, component: int, hosts: list[StunProtocol]) -> list[Candidate]:
        """Server-reflexive and relayed candidates that come in time."""
        tasks = {
            asyncio.create_task(question): whom for whom, question in self._questions(connection, component, hosts)
        }
        if not tasks:
            return []
        try:
            await asyncio.wait(tasks, timeout=self._timeout_s)
        finally:
            pending = [task for task in tasks if not task.done()]
            for task in pending:
                task.cancel()
            # Their sockets are closed when they have ended.
            await asyncio.gather(*pending, return_exceptions=True)
        answers = [self._answer(task, whom) for task, whom in tasks.items()]
        return [candidate for candidate in answers if candidate is not None]

    def _questions(
        self, connection: Any, component: int, hosts: list[StunProtocol]
    ) -> Iterator[tuple[_Asked, Coroutine[Any, Any, Candidate]]]:
        """The servers to ask, each with its question. aioice does not support `stuns`."""
        for server in self._ice.settings.servers:
            if server.is_turn and self._is_worth_asking(whom := (server.text, "")):
                yield whom, self._relayed(connection, component, server)
            for protocol in hosts if server.scheme == "stun" else ():
                whom = (server.text, protocol.local_candidate.host)
                if ":" not in whom[1] and self._is_worth_asking(whom):
                    yield whom, _reflexive(protocol, server)

    async def _relayed(self, connection: Any, component: int, server: IceUrl) -> Candidate:
        username, password = self._ice.turn_credentials("server")
        candidate, protocol = await relayed_candidate(
            component=component,
            hide_related_address=False,
            protocol_factory=partial(_Host, self._ice, connection),
            turn_server=server.address,
            turn_username=username,
            turn_password=password,
            turn_ssl=server.scheme == "turns",
            turn_transport=server.transport,
        )
        connection._protocols.append(protocol)
        return candidate

    def _is_worth_asking(self, whom: _Asked) -> bool:
        return self._silent_until.get(whom, 0.0) <= self._clock.now()

    def _answer(self, task: asyncio.Task[Candidate], whom: _Asked) -> Candidate | None:
        if not task.cancelled() and task.exception() is None:
            return task.result()
        reason = "did not answer in time" if task.cancelled() else f"gave no candidate ({task.exception()})"
        _log.warning("- ! %s %s; not asked again for %.0f s", whom[0], reason, SILENCE_S)
        self._silent_until[whom] = self._clock.now() + SILENCE_S
        return None


class _Host(StunProtocol):
    """One of our sockets, or of our relays, which ignores strangers and bounds what waits.

    aioice passes every packet on. A ClientHello from the port's previous viewer or from an attacker would end the
    handshake of the present viewer. Its parser raises errors that it does not catch, and its queue has no bound.

    Bound: `MAX_WAITING_PACKETS`; the newest are dropped.
    """

    def __init__(self, ice: Ice, connection: Any) -> None:
        super().__init__(connection)
        self._ice = ice

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        reason = self._refusal(data, addr)
        if reason is None:
            reason = self._handle(data, addr)
        if reason is not None:
            self._ice.on_dropped(reason)

    def _handle(self, data: bytes, addr: tuple[Any, ...]) -> str | None:
        """Gives aioice a packet, or says why that failed."""
        if data[0] >= _FIRST_OTHER:  # not through aioice's parser, which checks neither this byte nor the magic cookie
            self.receiver.data_received(data, self.local_candidate.component)
            return None
        try:
            super().datagram_received(data, addr)
        except KeyError:  # an authenticated check without PRIORITY
            return "malformed"
        return None

    def _refusal(self, data: bytes, addr: tuple[Any, ...]) -> str | None:
        """Why this packet is dropped; None if aioice may have it."""
        if not 0 < len(data) <= MAX_PACKET_BYTES:
            return "malformed"
        if data[0] < _FIRST_OTHER:  # STUN, and nothing else; authenticated by aioice
            return None if _is_stun(data) else "malformed"
        if not self._is_known(addr):
            return "stranger"
        return "overflow" if self.receiver._queue.qsize() >= MAX_WAITING_PACKETS else None

    def _is_known(self, address: tuple[Any, ...]) -> bool:
        """Named in an offer, or learned from an authenticated check."""
        return any(
            candidate._network_host == address[0] and candidate.port == address[1]
            for candidate in self.receiver._remote_candidates
        )


def _is_stun(data: bytes) -> bool:
    """Whether aioice can parse it. What it cannot parse it would take for media."""
    if data[4:8] != _MAGIC_COOKIE:
        return False
    try:
        stun.parse_message(data)
    except (ValueError, IndexError, struct.error):
        return False
    return True


def _guard_media(transport: Any, on_dropped: Callable[[str], None]) -> None:
    """Drops RTP, which we never receive, and RTCP that aiortc fails on: it would end the viewer's connection."""
    handle_rtcp = transport._handle_rtcp_data

    async def handle_guarded(data: bytes) -> None:
        try:
            await handle_rtcp(data)
        except (struct.error, IndexError):
            on_dropped("malformed")

    async def ignore(data: bytes, arrival_time_ms: int) -> None:
        pass

    transport._handle_rtcp_data = handle_guarded
    transport._handle_rtp_data = ignore


async def _reflexive(protocol: StunProtocol, server: IceUrl) -> Candidate:
    candidate, _ = await server_reflexive_candidate(protocol, server.address)
    return candidate


def bind_udp(address: str, ports: PortRange | None) -> socket.socket:
    """A UDP socket on this address, at a free port of the range, or at any. Raises `OSError` (EADDRINUSE: none)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in _shuffled(ports) if ports is not None else [0]:
        candidate = socket.socket(family, socket.SOCK_DGRAM)
        try:
            candidate.setblocking(False)
            candidate.bind((address, port))
        except OSError as error:
            candidate.close()
            if error.errno != errno.EADDRINUSE or ports is None:
                raise
        else:
            return candidate
    raise OSError(errno.EADDRINUSE, f"all ports from {ports} are in use")


def _shuffled(ports: PortRange) -> Iterator[int]:
    """All ports once, from a random start, because a port that was just used still gets the old viewer's packets."""
    first, last = ports
    count = last - first + 1
    start = random.randrange(count)  # against chance, not against an attacker  # nosec B311
    return (first + (start + offset) % count for offset in range(count))


def abandon(connection: RTCPeerConnection) -> None:
    """Closes the sockets of a connection that did not close in time."""
    for transport in getattr(connection, _TRANSPORTS):
        for protocol in transport.transport._connection._protocols:
            protocol.transport.close()


def _with_address(line: str, public: str) -> str:
    """`c=` and `a=rtcp:` name the default candidate, for peers without ICE."""
    if not line.startswith(("c=IN IP", "a=rtcp:")) or line.endswith((" 0.0.0.0", " ::")):
        return line
    head, _, _ = line.rpartition(" ")
    return f"{head[:-1]}{ipaddress.ip_address(public).version} {public}"

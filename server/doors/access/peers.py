"""Who a request comes from, as far as its address tells, and what each such peer may still do.

A peer is an IPv4 address or an IPv6 network of 64 bits, because a home has all addresses of one. Where strangers share
an address, a bound by peer would let one of them lock out the others. So None stands for a peer that we cannot tell
from others: on loopback, or behind a proxy that the operator did not name. Bookkeeping on the event loop.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

from server.clock import Clock
from server.doors.access.auth import PROXY_HEADERS
from server.protocol.errors import Refused

# Of each kind; the one that was not seen for longest goes. Some 10 MB at the worst.
MAX_PEERS = 10_000
# Wrong tokens of a peer. The same one again is a page that was not told of the new token, not a guess.
MAX_GUESSES = 10
GUESSES_WITHIN_S = 60.0
_NETWORK_BITS = 64

_Entry = TypeVar("_Entry")


def peer_at(address: str | None) -> str | None:
    """The peer with this address of its own."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(ip) >> _NETWORK_BITS << _NETWORK_BITS))
    return str(ip)


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy handed this request on. Everybody may say so; then the bounds on the whole server remain."""
    return any(name in headers for name in PROXY_HEADERS)


class Proxies:
    """The proxies whose `X-Forwarded-For` we believe. Once there are some, nobody else's header counts."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(one) for one in trusted]

    def peer_at(self, address: str | None) -> str | None:
        """The peer that connects from this address; None for a trusted proxy."""
        return None if self._is_trusted(address) else peer_at(address)

    def peer_of(self, address: str | None, headers: Mapping[str, str]) -> str | None:
        """The peer that a request comes from: the last one in the chain that is no trusted proxy."""
        if not self._trusted:
            return None if is_forwarded(headers) else peer_at(address)
        if not self._is_trusted(address):
            return peer_at(address)
        chain = [one.strip() for one in headers.get("X-Forwarded-For", "").split(",")]
        return next((peer_at(one) for one in reversed(chain) if not self._is_trusted(one)), None)

    def hides_peer(self, headers: Mapping[str, str]) -> bool:
        """Whether a connection turns out to be a proxy's, which carries the requests of many."""
        return not self._trusted and is_forwarded(headers)

    def _is_trusted(self, address: str | None) -> bool:
        try:
            ip = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        return any(ip in network for network in self._trusted)


@dataclass(slots=True)
class _Guesses:
    begun_at: float
    tokens: set[str] = field(default_factory=set)  # digests


class Peers:
    """See the module. `tells_apart`: False in a network that gives all clients one address."""

    def __init__(self, clock: Clock, proxies: Proxies | None = None, *, tells_apart: bool = True) -> None:
        self._clock = clock
        self._proxies = proxies or Proxies()
        self._tells_apart = tells_apart
        self._guesses: dict[str, _Guesses] = {}

    def of(self, request: web.Request) -> str | None:
        return self._proxies.peer_of(request.remote, request.headers) if self._tells_apart else None

    def check_token(self, request: web.Request, digest: str, *, is_right: bool) -> None:
        """Counts a wrong token. Refuses all tokens of a peer that has tried too many, also the right one."""
        peer = self.of(request)
        if peer is None:
            return
        now = self._clock.now()
        guesses = self._guesses.get(peer)
        if guesses is None or now - guesses.begun_at >= GUESSES_WITHIN_S:
            if is_right:
                return
            guesses = _Guesses(now)
        if len(guesses.tokens) >= MAX_GUESSES:
            retry_after_ms = math.ceil((guesses.begun_at + GUESSES_WITHIN_S - now) * 1000)
            reason = f"{MAX_GUESSES} different wrong tokens came from this address within {GUESSES_WITHIN_S:.0f} s"
            raise Refused("rate_limited", reason, retry_after_ms=retry_after_ms)
        if not is_right:
            guesses.tokens.add(digest)
            _keep(self._guesses, peer, guesses)


def _keep(entries: dict[str, _Entry], peer: str, entry: _Entry) -> None:
    """As the newest one."""
    entries.pop(peer, None)
    entries[peer] = entry
    if len(entries) > MAX_PEERS:
        del entries[next(iter(entries))]

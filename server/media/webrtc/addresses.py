"""Which IP addresses are public, and to which ones we never send. Pure.

`ice.py` asks for each candidate that a client names, `signalling.py` and `peer.py` count the private ones, the doctor
judges this machine's own, webhooks ask before they connect.
"""

from __future__ import annotations

import ipaddress

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Metadata of cloud machines outside of the link-local range: Alibaba's, Amazon's over IPv6, Azure's, Oracle's.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254", "168.63.129.16", "192.0.0.192")))


def is_public(address: str) -> bool:
    """Whether it is public: not private, link-local, loopback or multicast, and not an IPv6 form of such an address."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def is_loopback(address: str) -> bool:
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def is_never_tried(address: str) -> bool:
    """Whether no viewer can be there: at many hosts at once, at none, or at a service of the network itself."""
    parsed = _parsed(address)
    return (
        parsed is None
        or parsed.is_link_local  # holds 169.254.169.254, the metadata of most clouds
        or parsed.is_multicast
        or parsed.is_unspecified
        or (parsed.is_reserved and not parsed.is_loopback)  # Python counts ::1 among the reserved
        or parsed in _METADATA
    )


def _parsed(address: str) -> _IpAddress | None:
    """The address; of an IPv6 form of an IPv4 address, the latter. None for anything else."""
    try:
        parsed: _IpAddress = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if embedded is None and parsed in _NAT64:
            embedded = ipaddress.IPv4Address(parsed.packed[-4:])
        if embedded is not None:
            return embedded
    return parsed

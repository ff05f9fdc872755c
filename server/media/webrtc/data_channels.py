"""Bounds what a caller sends over its data channels, before `calls.py` gets whole messages. Runs on the event loop.

One parameter of length 0 kept aiortc's parser, and with it the event loop, in an endless loop that takes memory. Other
malformed chunks raise errors of many kinds. Both end the call.

aiortc (pinned to 1.16.0) announces a window of 1 MiB and holds no sender to it. For each fragment it walks through all
fragments of the stream that wait, and for each gap through all packets after it. A message without an end thus took
memory, and more time with each fragment.

Private names: `RTCSctpTransport._handle_data`, `_advertised_rwnd`, `_inbound_streams` and `_sack_misordered`. A test
with a real caller fails if they change.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

# One for our messages, and some that pages open beside it.
MAX_STREAMS = 16
# In all streams, and after a gap. The largest message (256 KiB) has some 220.
MAX_WAITING = 1024
_CHUNK = struct.Struct("!BBH")  # RFC 9260 section 3.2
_PARAMETER = struct.Struct("!HH")  # section 3.2.1
_CHUNKS_AT = 12  # behind the packet's head
# Where the parameters begin behind a chunk's head, by its type: INIT, INIT ACK, HEARTBEAT, HEARTBEAT ACK, ABORT, ERROR,
# RE-CONFIG.
_PARAMETERS_AT = {1: 16, 2: 16, 4: 0, 5: 0, 6: 0, 9: 0, 130: 0}


def bound_received(sctp: Any, on_end: Callable[[str], None]) -> None:
    """Calls `on_end` with a reason when more waits than a client of ours ever sends, or when aiortc fails on a packet.

    Takes nothing more from then on.
    """
    handle = sctp._handle_data
    is_ended = False

    async def handle_bounded(data: bytes) -> None:
        nonlocal is_ended
        if is_ended:
            return
        reason = "data_malformed" if _has_short_parameter(data) else None
        try:
            if reason is None:
                await handle(data)
                reason = "data_flood" if _is_flooded(sctp) else None
        except ConnectionError:
            raise
        except Exception:  # any fault of a caller's packet; the association may be half changed
            _log.info("! a caller's packet could not be handled", exc_info=True)
            reason = "data_malformed"
        if reason is not None:
            is_ended = True
            on_end(reason)

    sctp._handle_data = handle_bounded


def _is_flooded(sctp: Any) -> bool:
    streams = sctp._inbound_streams
    return (
        len(streams) > MAX_STREAMS
        or sum(len(stream.reassembly) for stream in streams.values()) > MAX_WAITING
        or len(sctp._sack_misordered) > MAX_WAITING
        or sctp._advertised_rwnd <= 0  # more bytes than the window that the caller was told
    )


def _has_short_parameter(packet: bytes) -> bool:
    """Whether a parameter is shorter than its own head. Of what else is wrong, aiortc's parser raises errors."""
    at = _CHUNKS_AT
    while at + _CHUNK.size <= len(packet):
        kind, _, length = _CHUNK.unpack_from(packet, at)
        if length < _CHUNK.size:
            return False
        end = min(at + length, len(packet))
        parameter = at + _CHUNK.size + _PARAMETERS_AT.get(kind, length)
        while parameter + _PARAMETER.size <= end:
            _, size = _PARAMETER.unpack_from(packet, parameter)
            if size < _PARAMETER.size:
                return True
            parameter += size + -size % 4
        at += length + -length % 4
    return False

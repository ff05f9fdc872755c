"""Bounds what a caller sends over its data channels, before `calls.py` gets whole messages. Runs on the event loop.

aiortc (pinned to 1.16.0) announces a window of 1 MiB and holds no sender to it. For each fragment it walks through all
fragments of the stream that wait, and for each gap through all packets after it. A message without an end thus took
memory, and more time with each fragment.

Private names: `RTCSctpTransport._handle_data`, `_advertised_rwnd`, `_inbound_streams` and `_sack_misordered`. A test
with a real caller fails if they change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# One for our messages, and some that pages open beside it.
MAX_STREAMS = 16
# In all streams, and after a gap. The largest message (256 KiB) has some 220.
MAX_WAITING = 1024


def bound_received(sctp: Any, on_flood: Callable[[], None]) -> None:
    """Calls `on_flood` when more waits than a client of ours ever sends, and takes nothing more from then on."""
    handle = sctp._handle_data
    is_flooded = False

    async def handle_bounded(data: bytes) -> None:
        nonlocal is_flooded
        if is_flooded:
            return
        await handle(data)
        if _is_flooded(sctp):
            is_flooded = True
            on_flood()

    sctp._handle_data = handle_bounded


def _is_flooded(sctp: Any) -> bool:
    streams = sctp._inbound_streams
    return (
        len(streams) > MAX_STREAMS
        or sum(len(stream.reassembly) for stream in streams.values()) > MAX_WAITING
        or len(sctp._sack_misordered) > MAX_WAITING
        or sctp._advertised_rwnd <= 0  # more bytes than the window that the caller was told
    )

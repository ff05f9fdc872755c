"""Cuts encoded pictures into RTP payloads, once for all viewers: H264 by RFC 6184, VP8 by RFC 7741.

Pure. Called in the program's worker thread right after a frame was encoded; `sender.py` puts the headers before the
payloads, which it never copies.
"""

from __future__ import annotations

from collections.abc import Iterator

# With the headers of RTP, SRTP, UDP and IPv6 some 1290 bytes, which a VPN tunnel (1420, some 1300) carries without
# fragmentation. aiortc's own are 1300 before headers.
MAX_PAYLOAD_BYTES = 1200

_STAP_A, _FU_A = 24, 28
_START, _END = 0x80, 0x40  # of a fragmented unit
_FNRI, _TYPE = 0xE0, 0x1F
# RFC 7741 section 4.2: first packet of partition 0, and all that follow.
_VP8_FIRST, _VP8_LATER = b"\x10", b"\x00"


def h264_payloads(annex_b: bytes, max_bytes: int = MAX_PAYLOAD_BYTES) -> tuple[bytes, ...]:
    """The payloads of one access unit. Small units in a row share one (STAP-A), large ones are cut (FU-A)."""
    payloads: list[bytes] = []
    together: list[bytes] = []
    for unit in h264_units(annex_b):
        if 1 + sum(2 + len(small) for small in [*together, unit]) <= max_bytes:
            together.append(unit)
            continue
        payloads += _aggregated(together)
        together = []
        if len(unit) <= max_bytes:
            together = [unit]
        else:
            payloads += _fragmented(unit, max_bytes)
    return (*payloads, *_aggregated(together))


def vp8_payloads(frame: bytes, max_bytes: int = MAX_PAYLOAD_BYTES) -> tuple[bytes, ...]:
    """The payloads of one frame. Without picture ids: frames are never decoded out of order, and kept loops repeat."""
    parts = list(_parts(frame, max_bytes - 1))
    return tuple((_VP8_LATER if k else _VP8_FIRST) + part for k, part in enumerate(parts))


def h264_units(annex_b: bytes) -> Iterator[bytes]:
    """NAL units without their start codes, which have three or four bytes."""
    start = annex_b.find(b"\x00\x00\x01")
    while start >= 0:
        begin = start + 3
        start = annex_b.find(b"\x00\x00\x01", begin)
        end = len(annex_b) if start < 0 else start
        unit = annex_b[begin:end]
        # A unit never ends in zeros (trailing bits end in a one), so these belong to the next start code.
        yield unit.rstrip(b"\x00") if start >= 0 else unit


def _aggregated(units: list[bytes]) -> list[bytes]:
    if len(units) <= 1:
        return units
    header = _STAP_A | max(unit[0] & 0x60 for unit in units)
    return [bytes((header,)) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)]


def _fragmented(unit: bytes, max_bytes: int) -> Iterator[bytes]:
    indicator, unit_type = unit[0] & _FNRI | _FU_A, unit[0] & _TYPE
    parts = list(_parts(unit[1:], max_bytes - 2))
    for k, part in enumerate(parts):
        position = (_START if k == 0 else 0) | (_END if k == len(parts) - 1 else 0)
        yield bytes((indicator, position | unit_type)) + part


def _parts(data: bytes, max_bytes: int) -> Iterator[bytes]:
    """Parts of nearly equal size: a last packet of a few bytes would cost as much as a full one."""
    num_parts = max(1, -(-len(data) // max_bytes))
    for k in range(num_parts):
        yield data[len(data) * k // num_parts : len(data) * (k + 1) // num_parts]

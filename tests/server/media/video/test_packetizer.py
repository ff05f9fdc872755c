"""Payloads: a standard depacketizer reads them, and none is too long for a VPN."""

from __future__ import annotations

import pytest
from aiortc.codecs import depayload
from aiortc.codecs.h264 import H264Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from server.media.video.packetizer import MAX_PAYLOAD_BYTES, h264_payloads, h264_units, vp8_payloads

H264 = RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000)
VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000)


def unit(unit_type: int, num_bytes: int) -> bytes:
    return bytes((0x60 | unit_type,)) + bytes(1 + k % 250 for k in range(num_bytes - 1))


UNITS = {
    "keyframe": [unit(7, 20), unit(8, 6), unit(5, 40_000)],
    "keyframe that fits": [unit(7, 20), unit(8, 6), unit(5, 300)],
    "one small picture": [unit(1, 80)],
    "exactly one payload": [unit(1, MAX_PAYLOAD_BYTES)],
    "one byte too many": [unit(1, MAX_PAYLOAD_BYTES + 1)],
    "many small units": [unit(6, 700), unit(1, 700), unit(1, 400), unit(1, 90)],
    "large between small": [unit(6, 30), unit(1, 5000), unit(1, 30)],
}


@pytest.mark.parametrize("oddity", UNITS)
def test_a_depacketizer_restores_an_access_unit(oddity: str) -> None:
    annex_b = b"".join(b"\x00\x00\x00\x01" + each for each in UNITS[oddity])
    payloads = h264_payloads(annex_b)
    received = b"".join(depayload(H264, payload) for payload in payloads)
    assert received == annex_b
    assert max(map(len, payloads)) <= MAX_PAYLOAD_BYTES


def test_parameter_sets_and_a_small_keyframe_travel_together() -> None:
    annex_b = b"".join(b"\x00\x00\x00\x01" + each for each in UNITS["keyframe that fits"])
    assert len(h264_payloads(annex_b)) == 1


def test_fragments_are_of_nearly_equal_size() -> None:
    sizes = [len(payload) for payload in h264_payloads(b"\x00\x00\x01" + unit(5, 3000))]
    assert max(sizes) - min(sizes) <= 1


def test_units_are_split_as_aiortc_splits_them() -> None:
    mixed = b"\x00\x00\x00\x01\x67ab\x00\x00\x01\x68c\x00\x00\x00\x01\x65def"
    assert list(h264_units(mixed)) == list(H264Encoder._split_bitstream(mixed)) == [b"\x67ab", b"\x68c", b"\x65def"]


@pytest.mark.parametrize("num_bytes", [1, MAX_PAYLOAD_BYTES - 1, MAX_PAYLOAD_BYTES, 20_000])
def test_a_depacketizer_restores_a_vp8_frame(num_bytes: int) -> None:
    frame = bytes(k % 251 for k in range(num_bytes))
    payloads = vp8_payloads(frame)
    assert b"".join(depayload(VP8, payload) for payload in payloads) == frame
    assert max(map(len, payloads)) <= MAX_PAYLOAD_BYTES
    assert [payload[0] & 0x10 for payload in payloads] == [0x10] + [0] * (len(payloads) - 1)

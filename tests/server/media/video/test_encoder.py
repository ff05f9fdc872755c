"""What the encoder promises to viewers: profile, level, colours, keyframes, time."""

from __future__ import annotations

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import H264Encoder

from server.media.video.encoder import EncodedFrame, Encoder, media_time
from server.media.video.rendition import Codec, Rendition, ladder

WIDTH, HEIGHT = 512, 288
SPS, PPS, IDR, SEI = 7, 8, 5, 6


def rendition(bitrate: int, codec: Codec = Codec.H264) -> Rendition:
    return ladder(WIDTH, HEIGHT, bitrate, codec)[0]


def picture(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = np.linspace(30, 200, WIDTH)[None, :].astype(np.uint8) + seed % 20
    return planes


def encoded(num_frames: int, **keyframes: bool) -> list[EncodedFrame]:
    encoder = Encoder(rendition(1_000_000), 24)
    return [encoder.encode(picture(k), k, is_keyframe=keyframes.get(f"k{k}", False)) for k in range(num_frames)]


def nal_types(frame: EncodedFrame) -> list[int]:
    types = [nal[0] & 0x1F for nal in H264Encoder._split_bitstream(bytes(frame.packet))]
    return [nal_type for nal_type in types if nal_type != SEI]


def test_keyframes_come_on_request_with_parameter_sets_and_an_idr() -> None:
    frames = encoded(60, k7=True)
    assert [frame.frame_index for frame in frames if frame.is_keyframe] == [0, 7]
    assert nal_types(frames[0]) == nal_types(frames[7]) == [SPS, PPS, IDR]


@pytest.mark.parametrize("codec", list(Codec))
def test_each_rendition_of_the_ladder_gives_one_decodable_frame_for_each_of_the_programs(codec: Codec) -> None:
    for wanted in ladder(WIDTH, HEIGHT, 2_000_000, codec):
        encoder = Encoder(wanted, 24)
        decoder = av.CodecContext.create("h264" if codec is Codec.H264 else "vp8", "r")
        sizes = []
        for k in range(6):
            frame = encoder.encode(picture(k), k, is_keyframe=k in (0, 4))
            assert frame.is_keyframe == (k in (0, 4))
            sizes += [(decoded.width, decoded.height) for decoded in decoder.decode(frame.packet)]
        assert sizes == [(wanted.width, wanted.height)] * 6


def test_h264_is_constrained_baseline_level_3_1_as_the_answer_says() -> None:
    sps = next(nal for nal in H264Encoder._split_bitstream(bytes(encoded(1)[0].packet)) if nal[0] & 0x1F == SPS)
    assert sps[1] == 0x42
    assert sps[2] & 0xC0 == 0xC0  # constraint sets 0 and 1: constrained baseline
    assert sps[3] == 31


def test_h264_declares_its_colours_as_bt601_limited() -> None:
    decoder = av.CodecContext.create("h264", "r")
    for frame in encoded(2):
        decoder.decode(frame.packet)
    assert (decoder.colorspace, decoder.color_primaries, decoder.color_trc, decoder.color_range) == (6, 6, 6, 1)


@pytest.mark.parametrize("frame_rate", [24, 25, 30, 7])
def test_packets_carry_the_programs_time(frame_rate: int) -> None:
    encoder = Encoder(rendition(1_000_000), frame_rate)
    for frame_index in (0, 1, 5, 1000):  # with gaps
        packet = encoder.encode(picture(frame_index), frame_index).packet
        assert packet.pts == media_time(frame_index, frame_rate) == frame_index * 90000 // frame_rate
        assert packet.time_base == 1 / 90000 or packet.time_base.denominator == 90000


def test_noise_stays_below_the_ceiling() -> None:
    encoder = Encoder(rendition(600_000), 24)
    rng = np.random.default_rng(0)
    sizes = [
        encoder.encode(rng.integers(0, 255, (HEIGHT * 3 // 2, WIDTH), dtype=np.uint8), k).size_bytes for k in range(72)
    ]
    assert sum(sizes[24:]) * 8 / 2 < 600_000 * 1.5

"""Fragmented MP4 made of encoded packets, read and decoded by PyAV, which did not write it."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from server.media.mp4.fmp4 import (
    VIDEO_TRACK_ID,
    Fragments,
    ParameterSets,
    Run,
    duration_offset,
    fragment,
    init_segment,
    nal_units,
    parameter_sets,
    sample,
)
from server.media.video import marker
from server.media.video.encoder import EncodedFrame, Encoder
from server.media.video.rendition import ladder

WIDTH, HEIGHT, RATE = 512, 288, 24


@pytest.fixture(scope="module")
def frames() -> list[EncodedFrame]:
    """Three seconds of a program that is in its second hour; each frame shows its number."""
    encoder = Encoder(ladder(WIDTH, HEIGHT, 1_000_000)[0], RATE)
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    encoded = []
    for index in range(100_000, 100_072):
        marker.paint(planes, index)
        encoded.append(encoder.encode(planes, index, is_keyframe=index % 24 == 16))
    return encoded


def decoded(film: bytes) -> list[tuple[float, int | None]]:
    """Time in seconds and number of every frame of a film."""
    with av.open(io.BytesIO(film)) as container:
        return [
            (float(frame.time or 0), marker.read(frame.to_ndarray(format="yuv420p")))
            for frame in container.decode(video=0)
        ]


def test_a_viewer_that_joins_in_the_middle_sees_every_frame_at_the_programs_time(frames: list[EncodedFrame]) -> None:
    fragments = Fragments(WIDTH, HEIGHT, RATE)
    joined = frames[24:]
    track = fragments.track(joined[0])
    assert track is not None
    film = init_segment(track) + b"".join(fragments.fragment(frame, track, frame.frame_index) for frame in joined)
    seen = decoded(film)
    assert [number for _, number in seen] == list(range(100_024, 100_072))
    assert [time for time, _ in seen] == pytest.approx([index / RATE for index in range(100_024, 100_072)])


def test_the_codec_is_the_one_of_the_stream(frames: list[EncodedFrame]) -> None:
    found = parameter_sets(frames[0].data)
    assert found is not None
    assert found.codec == "avc1.42c01f"  # constrained baseline, level 3.1
    assert parameter_sets(frames[1].data) is None


def test_fragments_are_made_once_for_all_viewers(frames: list[EncodedFrame]) -> None:
    fragments = Fragments(WIDTH, HEIGHT, RATE)
    track = fragments.track(frames[0])
    assert track is not None and fragments.track(frames[24]) is track
    made = [fragments.fragment(frame, track, frame.frame_index) for frame in frames]
    again = [fragments.fragment(frame, track, frame.frame_index) for frame in frames]
    assert all(one is other for one, other in zip(made, again, strict=True))
    assert fragments.num_made == len(frames)


def test_a_gap_is_bridged_by_the_frame_after_it(frames: list[EncodedFrame]) -> None:
    fragments = Fragments(WIDTH, HEIGHT, RATE)
    track = fragments.track(frames[0])
    assert track is not None
    film = init_segment(track) + fragments.fragment(frames[0], track, 100_000)
    film += fragments.fragment(frames[24], track, 100_001) + fragments.fragment(frames[25], track, 100_025)
    with av.open(io.BytesIO(film)) as container:
        spans = [(packet.pts, packet.duration) for packet in container.demux(video=0) if packet.pts is not None]
    assert spans == [(100_000_000, 1000), (100_001_000, 24_000), (100_025_000, 1000)]


def test_a_film_of_long_fragments_knows_its_duration(frames: list[EncodedFrame]) -> None:
    fragments = Fragments(WIDTH, HEIGHT, RATE)
    track = fragments.track(frames[0])
    assert track is not None
    film = bytearray(init_segment(track))
    offset = duration_offset(bytes(film))
    film[offset : offset + 8] = (3000).to_bytes(8, "big")
    for number in range(3):
        samples = [sample(frame, track.parameter_sets) for frame in frames[number * 24 : number * 24 + 24]]
        film += fragment(number + 1, [Run(VIDEO_TRACK_ID, number * 24_000, samples)])
    assert [number for _, number in decoded(bytes(film))] == list(range(100_000, 100_072))
    with av.open(io.BytesIO(film)) as container:
        assert container.duration == 3_000_000  # microseconds
        assert container.streams.video[0].average_rate == RATE


def test_other_parameter_sets_stay_in_the_stream(frames: list[EncodedFrame]) -> None:
    known = parameter_sets(frames[0].data)
    assert known is not None
    without = sample(frames[0], known).payload
    other = sample(frames[0], ParameterSets(b"\x67other", b"\x68other")).payload
    assert len(other) == len(without) + len(known.sps) + len(known.pps) + 8
    assert known.sps in other and known.sps not in without


def test_nal_units_are_found_between_start_codes_of_either_length() -> None:
    stream = b"\x00\x00\x00\x01\x67a\x00\x00\x01\x68b\x00\x00\x00\x00\x01\x65c\x00d\x00\x00"
    assert list(nal_units(stream)) == [b"\x67a", b"\x68b", b"\x65c\x00d"]
    assert list(nal_units(b"")) == []
    assert list(nal_units(b"no start code")) == []

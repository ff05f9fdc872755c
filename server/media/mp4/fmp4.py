"""The program's H264 and Opus packets as fragmented MP4 (ISO/IEC 14496-12, -15): an init segment, then moof and mdat.

For the viewers of `server.doors.watch`, a fragment a frame, and for the files of `server.media.mp4.recording`, a
fragment a second. Takes packets that are encoded already; nothing is decoded or encoded. Pure; any thread.

This module writes its own boxes, in 0.02 ms for a frame of 10 KB. PyAV's muxer is quicker (0.01 ms a frame), but it
writes a fragment only when the next frame has come, which would cost every viewer one frame of latency. It also begins
every file at time 0, so that a viewer who joins in the middle would not know the program's time.

Time runs in `TICKS_PER_FRAME` ticks a frame, so that every frame rate has exact decode times.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from server.media.video.encoder import EncodedFrame

TICKS_PER_FRAME = 1000
# Of `mvhd` and `mehd`: milliseconds.
MOVIE_TIMESCALE = 1000
VIDEO_TRACK_ID, SOUND_TRACK_ID = 1, 2

# ITU-T H.264 table 7-1.
_SPS, _PPS, _DELIMITER = 7, 8, 9
# 14496-12, 8.8.3.1: depends on no other; depends on others and is no sync sample.
_KEYFRAME_FLAGS, _OTHER_FLAGS = 0x0200_0000, 0x0101_0000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)
# The tables of samples outside fragments, which are empty. The number is the size after version and flags.
_EMPTY_TABLES = (("stts", 4), ("stsc", 4), ("stsz", 8), ("stco", 4))
# For viewers that are a little behind: as many frames as the longest queue of a viewer holds.
MAX_KEPT_FRAGMENTS = 128


@dataclass(frozen=True, slots=True)
class ParameterSets:
    """SPS and PPS of one encoding, without start codes. A decoder is set up with them."""

    sps: bytes
    pps: bytes

    @property
    def codec(self) -> str:
        """As RFC 6381 and browsers write it: profile, constraints and level out of the SPS."""
        return f"avc1.{self.sps[1:4].hex()}"


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The picture's track: all that the init segment says."""

    width: int
    height: int
    frame_rate: int
    parameter_sets: ParameterSets

    @property
    def mime(self) -> str:
        return f'video/mp4; codecs="{self.parameter_sets.codec}"'

    @property
    def timescale(self) -> int:
        """Ticks a second."""
        return self.frame_rate * TICKS_PER_FRAME


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """Opus in stereo (Encapsulation of Opus in ISO Base Media File Format, opus-codec.org)."""

    @property
    def timescale(self) -> int:
        """Ticks a second: Opus always decodes to this rate."""
        return 48_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One packet in a fragment; a frame is its NAL units, each after its length. The duration is in ticks."""

    payload: bytes
    duration: int
    is_keyframe: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One track's samples in a fragment, one after the other from `decode_time` on."""

    track_id: int
    decode_time: int
    samples: Sequence[Sample]


def nal_units(annex_b: bytes) -> Iterator[bytes]:
    """The NAL units between the start codes (ITU-T H.264 annex B), without the zeros around them."""
    begin = annex_b.find(b"\x00\x00\x01")
    while begin >= 0:
        end = annex_b.find(b"\x00\x00\x01", begin + 3)
        unit = annex_b[begin + 3 : end if end >= 0 else len(annex_b)].rstrip(b"\x00")
        if unit:
            yield unit
        begin = end


def parameter_sets(annex_b: bytes) -> ParameterSets | None:
    """SPS and PPS of a keyframe; None if it does not have both."""
    found = {unit[0] & 0x1F: unit for unit in nal_units(annex_b) if unit[0] & 0x1F in (_SPS, _PPS)}
    return ParameterSets(found[_SPS], found[_PPS]) if len(found) == 2 else None


def sample(frame: EncodedFrame, known: ParameterSets, num_frames: int = 1) -> Sample:
    """A frame as a sample that is shown for `num_frames` frames.

    Parameter sets that the init segment has are left out. Others stay, for decoders that read them from the stream.
    """
    payload = b"".join(
        struct.pack(">I", len(unit)) + unit
        for unit in nal_units(frame.data)
        if unit[0] & 0x1F != _DELIMITER and unit not in (known.sps, known.pps)
    )
    return Sample(payload, num_frames * TICKS_PER_FRAME, frame.is_keyframe)


# --- segments -----------------------------------------------------------------------------------------------------


def init_segment(video: VideoTrack, sound: SoundTrack | None = None) -> bytes:
    """`ftyp` and `moov`. The film's duration, 0 at first, is at `duration_offset`."""
    header = _full_box("mvhd", 0, 0, struct.pack(">4I", 0, 0, MOVIE_TIMESCALE, 0), _mvhd_rest(SOUND_TRACK_ID + 1))
    tracks = [_video_trak(video)] if sound is None else [_video_trak(video), _sound_trak(sound)]
    defaults = [
        _full_box("trex", 0, 0, struct.pack(">5I", track_id, 1, 0, 0, 0))
        for track_id in (VIDEO_TRACK_ID, SOUND_TRACK_ID)[: len(tracks)]
    ]
    extends = _box("mvex", _full_box("mehd", 1, 0, struct.pack(">Q", 0)), *defaults)
    return _file_type() + _box("moov", header, *tracks, extends)


def duration_offset(init: bytes) -> int:
    """The offset of the film's duration in the file, 64 bits in milliseconds, which is known only at the end."""
    return init.index(b"mehd") + 8


def fragment(sequence_number: int, runs: Sequence[Run]) -> bytes:
    """`moof` and `mdat` with the samples of each track."""
    header = _full_box("mfhd", 0, 0, struct.pack(">I", sequence_number & 0xFFFF_FFFF))
    # The offsets of the samples count from the start of `moof`, whose size does not depend on them.
    moof_size = len(_moof(header, runs, [0] * len(runs)))
    payloads = [b"".join(sample.payload for sample in run.samples) for run in runs]
    offsets, offset = [], moof_size + 8
    for payload in payloads:
        offsets.append(offset)
        offset += len(payload)
    return _moof(header, runs, offsets) + _box("mdat", *payloads)


class Fragments:
    """One program's fragments of one frame each, made once for all its viewers.

    Bound: the last `MAX_KEPT_FRAGMENTS`; a viewer that is further behind has its fragments made again.
    """

    def __init__(self, width: int, height: int, frame_rate: int) -> None:
        self._size = width, height
        self._frame_rate = frame_rate
        self._kept: OrderedDict[tuple[int, int, int], tuple[EncodedFrame, bytes]] = OrderedDict()
        self._track: VideoTrack | None = None
        self.num_made = 0

    def track(self, keyframe: EncodedFrame) -> VideoTrack | None:
        """The track that a keyframe begins or continues; None if it has no parameter sets."""
        found = parameter_sets(keyframe.data)
        if found is None:
            return None
        if self._track is None or self._track.parameter_sets != found:
            self._track = VideoTrack(*self._size, self._frame_rate, found)
        return self._track

    def fragment(self, frame: EncodedFrame, track: VideoTrack, begin: int) -> bytes:
        """The frame, on air from frame number `begin` (its own, or an earlier one after a gap) to its own end."""
        key = (id(frame.data), frame.frame_index, begin)
        if (kept := self._kept.get(key)) is not None:
            return kept[1]
        one = sample(frame, track.parameter_sets, frame.frame_index + 1 - begin)
        made = fragment(frame.frame_index + 1, [Run(VIDEO_TRACK_ID, begin * TICKS_PER_FRAME, [one])])
        self.num_made += 1
        self._kept[key] = frame, made  # with the frame, so that its data's id is not reused
        if len(self._kept) > MAX_KEPT_FRAGMENTS:
            self._kept.popitem(last=False)
        return made


# --- boxes --------------------------------------------------------------------------------------------------------


def _box(kind: str, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind.encode()) + b"".join(parts)


def _full_box(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _file_type() -> bytes:
    return _box("ftyp", b"iso6", struct.pack(">I", 1), b"isomiso6avc1mp41")


def _mvhd_rest(next_track_id: int) -> bytes:
    return struct.pack(">IH10x", 0x10000, 0x100) + _MATRIX + bytes(24) + struct.pack(">I", next_track_id)


def _video_trak(track: VideoTrack) -> bytes:
    size = struct.pack(">2I", track.width << 16, track.height << 16)
    media_header = _full_box("vmhd", 0, 1, bytes(8))
    return _trak(VIDEO_TRACK_ID, 0, size, track.timescale, b"vide", media_header, _video_entry(track))


def _sound_trak(track: SoundTrack) -> bytes:
    media_header = _full_box("smhd", 0, 0, bytes(4))
    return _trak(SOUND_TRACK_ID, 0x100, bytes(8), track.timescale, b"soun", media_header, _sound_entry(track))


def _trak(
    track_id: int, volume: int, size: bytes, timescale: int, handler: bytes, media_header: bytes, entry: bytes
) -> bytes:
    # 7: enabled, in the film, in the preview.
    fields = struct.pack(">5I8x4H", 0, 0, track_id, 0, 0, 0, 0, volume, 0)
    header = _full_box("tkhd", 0, 7, fields, _MATRIX, size)
    undetermined = 0x55C4  # "und", three letters of 5 bits
    time = _full_box("mdhd", 0, 0, struct.pack(">4I2H", 0, 0, timescale, 0, undetermined, 0))
    kind = _full_box("hdlr", 0, 0, bytes(4), handler, bytes(12), b"program\x00")
    here = _full_box("url ", 0, 1)  # the samples are in this file
    data = _box("dinf", _full_box("dref", 0, 0, struct.pack(">I", 1), here))
    description = _full_box("stsd", 0, 0, struct.pack(">I", 1), entry)
    no_samples = [_full_box(name, 0, 0, bytes(num_bytes)) for name, num_bytes in _EMPTY_TABLES]
    information = _box("minf", media_header, data, _box("stbl", description, *no_samples))
    return _box("trak", header, _box("mdia", time, kind, information))


def _sound_entry(track: SoundTrack) -> bytes:
    """`Opus` with its `dOps`: two channels, nothing to skip at the start, no gain, one stream."""
    configuration = _box("dOps", struct.pack(">2BHIhB", 0, 2, 0, track.timescale, 0, 0))
    return _box("Opus", struct.pack(">6xH8x2H4xI", 1, 2, 16, track.timescale << 16), configuration)


def _video_entry(track: VideoTrack) -> bytes:
    """`avc1` (14496-12, 12.1.3) with its `avcC` (14496-15, 5.3.3)."""
    sps, pps = track.parameter_sets.sps, track.parameter_sets.pps
    configuration = _box(
        "avcC",
        bytes((1, *sps[1:4], 0xFF, 0xE1)),  # lengths of 4 bytes; one SPS
        struct.pack(">H", len(sps)),
        sps,
        struct.pack(">BH", 1, len(pps)),
        pps,
    )
    resolution = 0x48_0000  # 72 dpi
    picture = struct.pack(">6xH16x2H2I4xH32xHh", 1, track.width, track.height, resolution, resolution, 1, 0x18, -1)
    return _box("avc1", picture, configuration)


def _moof(header: bytes, runs: Sequence[Run], offsets: Iterable[int]) -> bytes:
    return _box("moof", header, *(_traf(run, offset) for run, offset in zip(runs, offsets, strict=True)))


def _traf(run: Run, data_offset: int) -> bytes:
    header = _full_box("tfhd", 0, 0x020000, struct.pack(">I", run.track_id))  # offsets count from `moof`
    time = _full_box("tfdt", 1, 0, struct.pack(">Q", run.decode_time))
    table = b"".join(
        struct.pack(">3I", one.duration, len(one.payload), _KEYFRAME_FLAGS if one.is_keyframe else _OTHER_FLAGS)
        for one in run.samples
    )
    # 1: data offset; 0x100, 0x200, 0x400: each sample's duration, size and flags.
    return _box(
        "traf", header, time, _full_box("trun", 0, 0x701, struct.pack(">Ii", len(run.samples), data_offset), table)
    )

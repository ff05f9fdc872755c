"""The choice of an H264 encoder: candidates are real encoders of this FFmpeg, some with a broken promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.media.video import hardware
from server.media.video.encoder import SOFTWARE_H264, EncodedFrame, Encoder
from server.media.video.hardware import EncoderUnusable, Measured
from server.media.video.rendition import Rendition


def test_x264_keeps_the_promises_and_is_what_a_machine_without_hardware_uses() -> None:
    assert hardware.measure(SOFTWARE_H264).cpu_s_per_frame > 0
    assert hardware.choose(candidates=("h264_nvenc", "no_such_encoder")) == SOFTWARE_H264


def test_a_candidate_that_needs_less_cpu_wins_and_one_that_is_too_slow_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = {SOFTWARE_H264: (0.004, 0.004), "dear": (0.005, 0.005), "late": (0.001, 0.050), "good": (0.001, 0.008)}
    monkeypatch.setattr(hardware, "measure", lambda name: Measured(name, *costs[name]))
    assert hardware.choose(candidates=("dear", "late")) == SOFTWARE_H264
    assert hardware.choose(candidates=("dear", "late", "good")) == "good"


@pytest.mark.parametrize("name", ["h264_nvenc", "no_such_encoder", "libvpx"])
def test_a_named_encoder_that_cannot_be_used_is_an_error_with_the_reason(name: str) -> None:
    with pytest.raises(EncoderUnusable, match=name):
        hardware.choose(name)


class Misbehaving(Encoder):
    """x264, with one promise broken."""

    def __init__(self, rendition: Rendition, how: str) -> None:
        super().__init__(rendition, 24)
        self._how = how
        self._first: EncodedFrame | None = None

    def encode(self, planes: object, frame_index: int, *, is_keyframe: bool = False) -> EncodedFrame:
        match self._how:
            case "ignores requests":
                return super().encode(planes, frame_index, is_keyframe=frame_index == 0)  # type: ignore[arg-type]
            case "loses parameters":
                frame = super().encode(planes, frame_index, is_keyframe=is_keyframe)  # type: ignore[arg-type]
                start = frame.data.find(b"\x00\x00\x01\x65")
                return replace(frame, data=frame.data[start:]) if frame.is_keyframe else frame
            case "shows another picture":
                return super().encode(255 - planes, frame_index, is_keyframe=is_keyframe)  # type: ignore[operator]
            case _:
                raise RuntimeError("no device")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("ignores requests", "keyframes"),
        ("loses parameters", "start"),
        ("shows another picture", "dB"),
        ("raises", "no device"),
    ],
)
def test_an_encoder_that_breaks_a_promise_is_not_used(how: str, reason: str) -> None:
    with pytest.raises(EncoderUnusable, match=reason):
        hardware.measure(SOFTWARE_H264, open_encoder=lambda rendition, _: Misbehaving(rendition, how))

"""RGB to yuv420p agrees with FFmpeg's own conversion, and values that are not finite never become a frame."""

import av
import numpy as np
import pytest
import torch

from engine.api import Frames, ModelError
from engine.parts.pixels import to_frames


def test_agrees_with_ffmpeg() -> None:
    colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.2, 0.5, 0.9]])
    rgb = colours.repeat_interleave(8, 0).T.reshape(1, 3, 1, 48).expand(1, 3, 16, 48).contiguous()
    ours = to_frames(rgb).planes[0]
    picture = (rgb[0].permute(1, 2, 0) * 255).round().byte().numpy()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    theirs = frame.reformat(format="yuv420p").to_ndarray()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_are_not_finite_are_a_model_error(value: float) -> None:
    with pytest.raises(ModelError, match="not numbers"):
        to_frames(torch.full((1, 3, 4, 4), value))


def test_values_beyond_the_range_are_clamped() -> None:
    assert to_frames(torch.full((1, 3, 4, 4), 7.0)).planes[0, 0, 0] == 235


def test_frames_refuse_another_layout() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Frames(np.zeros((1, 4, 4), np.uint8))

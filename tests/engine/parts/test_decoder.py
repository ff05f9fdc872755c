"""The engine's embedded decoder streams, with a calm picture at the borders of latent frames."""

import pytest
import torch

from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import Decoder
from engine.parts.decoder import EmbeddedDecoder


@pytest.fixture(scope="module")
def decoder() -> EmbeddedDecoder:
    return EmbeddedDecoder(Decoder.from_pretrained(EMBEDDED_FOLDER / "decoder"))


def noisy_still(num_latent_frames: int = 7) -> torch.Tensor:
    """One still picture whose latent frames differ a little, as a sampled clip's do."""
    random = torch.Generator().manual_seed(0)
    still = torch.randn(1, 24, 1, 8, 14, generator=random)
    return still + 0.1 * torch.randn(1, 24, num_latent_frames, 8, 14, generator=random)


def test_it_streams_one_frame_and_then_four_a_latent_frame(decoder: EmbeddedDecoder) -> None:
    assert [len(part) for part in decoder.decode(noisy_still())] == [1, 4, 4, 4, 4, 4, 4]
    assert [len(part) for part in decoder.decode(noisy_still(1))] == [1]


def test_no_step_at_a_border_or_at_the_loops_seam(decoder: EmbeddedDecoder) -> None:
    frames = torch.cat(list(decoder.decode(noisy_still())))
    looped = torch.cat([frames[1:], frames[1:2]])
    steps = (looped[1:] - looped[:-1]).abs().mean((1, 2, 3))
    assert steps.max() <= 2 * steps.mean()


def test_frames_stay_in_range(decoder: EmbeddedDecoder) -> None:
    frames = torch.cat(list(decoder.decode(noisy_still())))
    assert frames.min() >= 0 and frames.max() <= 1

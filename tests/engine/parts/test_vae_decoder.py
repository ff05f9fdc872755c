"""The streamed VAE decode gives exactly the frames of `WanPipeline`, for both forms, also beside another decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.video_processor import VideoProcessor
from wan_folders import cached, t2v_1_3b, ti2v_5b

from engine.parts.vae_decoder import VaeDecoder, denormalised, normalised

FORMS = pytest.mark.parametrize("folder", [ti2v_5b, t2v_1_3b], ids=["2.2", "2.1"])


def vae_of(folder: Callable[[Path], Path]) -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(cached(folder) / "vae", torch_dtype=torch.float32).eval()


def latents_for(vae: AutoencoderKLWan, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, vae.config.z_dim, 3, 2, 4, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def as_the_pipeline_does(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The last lines of `WanPipeline.__call__`: ``[N, 3, H, W]`` in [0, 1]."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    reciprocal = 1.0 / torch.tensor(vae.config.latents_std).view(shape)
    video = vae.decode(latents / reciprocal + mean, return_dict=False)[0]
    return VideoProcessor(vae_scale_factor=16).postprocess_video(video, output_type="pt")[0]


@FORMS
def test_streamed_frames_are_the_pipelines_bitwise(folder: Callable[[Path], Path]) -> None:
    vae = vae_of(folder)
    latents = latents_for(vae)
    parts = list(VaeDecoder(vae).decode(latents))
    assert [len(part) for part in parts] == [1, 4, 4]
    assert torch.equal(torch.cat(parts), as_the_pipeline_does(vae, latents))


@FORMS
def test_two_decodes_interleaved_do_not_disturb_each_other(folder: Callable[[Path], Path]) -> None:
    vae = vae_of(folder)
    decoder = VaeDecoder(vae)
    first, second = latents_for(vae, 1), latents_for(vae, 2)
    pairs = list(zip(decoder.decode(first), decoder.decode(second), strict=True))
    assert torch.equal(torch.cat([pair[0] for pair in pairs]), as_the_pipeline_does(vae, first))
    assert torch.equal(torch.cat([pair[1] for pair in pairs]), as_the_pipeline_does(vae, second))


def test_a_preview_is_the_picture_of_one_latent_frame() -> None:
    vae = vae_of(ti2v_5b)
    latents = latents_for(vae)
    assert torch.equal(VaeDecoder(vae).decode_around(latents, 1), as_the_pipeline_does(vae, latents[:, :, 1:2]))


def test_an_abandoned_decode_releases_the_device() -> None:
    held: list[str] = []

    @contextmanager
    def in_use() -> Iterator[None]:
        held.append("taken")
        try:
            yield
        finally:
            held.append("let go")

    vae = vae_of(ti2v_5b)
    frames = VaeDecoder(vae, in_use=in_use).decode(latents_for(vae))
    next(frames)
    assert held == ["taken"]
    frames.close()  # type: ignore[attr-defined]
    assert held == ["taken", "let go"]


def test_normalising_undoes_denormalising() -> None:
    vae = vae_of(ti2v_5b)
    latents = latents_for(vae)
    assert torch.allclose(normalised(vae, denormalised(vae, latents)), latents, atol=1e-5)

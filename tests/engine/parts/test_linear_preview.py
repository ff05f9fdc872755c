"""Preview factors: found for any VAE, stored in a file, refused for another VAE."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional
from wan_folders import cached, ti2v_5b

from engine.api import ModelError
from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import Decoder
from engine.parts import linear_preview
from engine.parts.decoder import EmbeddedDecoder
from engine.parts.preview import FirstLinear, LinearPreviewer, Previewer, build
from engine.tools import fit_preview


def mixed(pictures: torch.Tensor) -> torch.Tensor:
    """An encoder whose colours a matrix can undo: patch means, mixed into five channels."""
    mixing = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    return torch.einsum("nrhw,rc->nchw", functional.avg_pool2d(pictures, 16) - 0.5, mixing)


def test_a_linear_encoder_is_undone() -> None:
    factors = linear_preview.fit(mixed, spatial_factor=16, num_pictures=8, side=64)
    pictures = linear_preview.dead_leaves(2, 64, seed=7)
    assert torch.allclose(factors.colours(mixed(pictures)), functional.avg_pool2d(pictures, 16), atol=0.02)
    assert factors.psnr_db > 35


def test_the_command_writes_what_the_engine_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "preview.json"
    assert fit_preview.main([str(cached(ti2v_5b)), "--output", str(file), "--pictures", "4", "--device", "cpu"]) == 0
    assert "dB on pictures not fitted" in capsys.readouterr().out
    factors = linear_preview.read(file, latent_channels=48)
    assert torch.isfinite(factors.matrix).all()
    with pytest.raises(ModelError, match="for 48 latent channels, this model's VAE has 16"):
        linear_preview.read(file, latent_channels=16)


def test_a_folder_without_a_vae_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit_preview.main([str(tmp_path)]) == 1
    assert "no Wan VAE can be loaded" in capsys.readouterr().err


def test_a_broken_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "preview.json"
    file.write_text(json.dumps({"matrix": "none"}))
    with pytest.raises(ModelError, match="cannot be read"):
        linear_preview.read(file, latent_channels=48)


def test_a_wan_vae_encodes_pictures_one_at_a_time() -> None:
    vae = AutoencoderKLWan.from_pretrained(cached(ti2v_5b) / "vae").eval()
    pictures = linear_preview.dead_leaves(2, 32)
    encode = linear_preview.vae_encode(vae)
    assert encode(pictures).shape == (2, 48, 2, 2)
    assert torch.allclose(encode(pictures)[1:], encode(pictures[1:]), atol=1e-5)


X0 = torch.randn(1, 24, 3, 2, 4, generator=torch.Generator().manual_seed(0))


def test_a_linear_preview_has_a_quarter_of_the_clips_size_and_none_follows_the_last_step() -> None:
    factors = linear_preview.LinearFactors(torch.randn(24, 3), torch.full((3,), 0.5), 20.0)
    previewer = LinearPreviewer(factors, spatial_factor=16)
    frames = previewer.preview(X0, 0, 3)
    assert frames is not None and frames.shape == (1, 3, 8, 16)
    assert frames.min() >= 0 and frames.max() <= 1
    assert previewer.preview(X0, 2, 3) is None


def test_the_first_preview_is_the_cheapest_and_later_ones_sharper() -> None:
    decoder = EmbeddedDecoder(Decoder.from_pretrained(EMBEDDED_FOLDER / "decoder"))
    factors = linear_preview.LinearFactors(torch.randn(24, 3), torch.full((3,), 0.5), 20.0)
    previews = build({"full": decoder, "tiny": decoder}, factors, spatial_factor=16)
    assert isinstance(previews, FirstLinear) and previews.name == "linear, then tiny"
    first, second = previews.preview(X0, 0, 3), previews.preview(X0, 1, 3)
    assert first is not None and second is not None and first.shape[-1] < second.shape[-1]
    assert isinstance(build({"full": decoder}, factors, spatial_factor=16), LinearPreviewer)
    only_full = build({"full": decoder}, None, spatial_factor=16)
    assert isinstance(only_full, Previewer) and only_full.name == "full"

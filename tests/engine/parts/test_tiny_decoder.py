"""The TAEHV layout: streaming equals one pass, the weights' names, and the errors for files that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from engine.api import ModelError
from engine.parts.tiny_decoder import TinyDecoder, TinyDecoderModule, load_tiny_decoder

NARROW = (16, 8, 8, 8)


def module(latent_channels: int = 48, patch_size: int = 2) -> TinyDecoderModule:
    torch.manual_seed(0)
    made = TinyDecoderModule(latent_channels, patch_size, NARROW).eval()
    # Drawn pictures, not the mid-grey that default weights give.
    torch.nn.init.normal_(made.decoder[-1].bias, 0.5, 0.3)  # type: ignore[arg-type]
    return made


def latents(num_latent_frames: int = 3, channels: int = 48) -> torch.Tensor:
    return torch.randn(1, channels, num_latent_frames, 2, 3, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def all_at_once(made: TinyDecoderModule, noise: torch.Tensor) -> torch.Tensor:
    """The published way for whole clips: each layer over all frames, a memory block sees them shifted by one."""
    features = noise[0].transpose(0, 1)
    for layer in made.decoder:
        if type(layer).__name__ == "_MemoryBlock":
            features = layer(features, functional.pad(features, (0, 0, 0, 0, 0, 0, 1, 0))[:-1])
        else:
            features = layer(features)
    return functional.pixel_shuffle(features, made.patch_size).clamp(0, 1)[3:]


def test_streaming_equals_the_whole_pass() -> None:
    """Up to float32's rounding: one convolution over all frames sums in another order than four over their parts."""
    made = module()
    parts = list(TinyDecoder(made).decode(latents()))
    assert [tuple(part.shape) for part in parts] == [(1, 3, 32, 48), (4, 3, 32, 48), (4, 3, 32, 48)]
    assert torch.allclose(torch.cat(parts), all_at_once(made, latents()), atol=1e-6)


def test_two_streams_interleaved_are_bitwise_their_own() -> None:
    decoder = TinyDecoder(module())
    first, second = latents(), latents() + 1
    pairs = list(zip(decoder.decode(first), decoder.decode(second), strict=True))
    for index, noise in enumerate((first, second)):
        assert torch.equal(torch.cat([pair[index] for pair in pairs]), torch.cat(list(decoder.decode(noise))))


def test_a_preview_is_one_frame_that_knows_the_latent_frame_before_it() -> None:
    decoder = TinyDecoder(module())
    whole = torch.cat(list(decoder.decode(latents(2))))
    assert torch.equal(decoder.decode_around(latents(2), 1), whole[-1:])
    assert decoder.decode_around(latents(2), 0).shape == (1, 3, 32, 48)


def test_the_published_names_and_size() -> None:
    """`taew2_2`: 48 channels, patches of 2. With its encoder the whole has 11.4 million weights, this half 9.9."""
    with torch.device("meta"):
        published = TinyDecoderModule(48, 2).state_dict()
    assert round(sum(weight.numel() for weight in published.values()) / 1e6, 1) == 9.9
    assert published["decoder.1.weight"].shape == (256, 48, 3, 3)
    assert published["decoder.3.conv.0.weight"].shape == (256, 512, 3, 3)
    assert published["decoder.13.conv.weight"].shape == (256, 128, 1, 1)
    assert published["decoder.22.weight"].shape == (12, 64, 3, 3)


def saved(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    file = folder / "tiny.safetensors"
    save_file(weights, file)
    return file


def test_a_file_with_its_encoder_is_read(tmp_path: Path) -> None:
    made = module()
    file = saved(tmp_path, {**made.state_dict(), "encoder.0.weight": torch.zeros(1)})
    decoder = load_tiny_decoder(file, latent_channels=48, spatial_factor=16)
    assert torch.equal(torch.cat(list(decoder.decode(latents()))), torch.cat(list(TinyDecoder(made).decode(latents()))))


def test_a_layer_that_grows_more_frames_than_asked_gives_its_last_ones(tmp_path: Path) -> None:
    made = module()
    weights = made.state_dict()
    own = weights["decoder.7.conv.weight"]
    more = {**weights, "decoder.7.conv.weight": torch.cat([torch.ones_like(own), own])}
    decoder = load_tiny_decoder(saved(tmp_path, more), latent_channels=48, spatial_factor=16)
    assert torch.equal(torch.cat(list(decoder.decode(latents()))), torch.cat(list(TinyDecoder(made).decode(latents()))))


def test_a_file_that_does_not_fit_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    weights = module().state_dict()
    with pytest.raises(ModelError, match=r"latents of 48 channels, this model's have 16"):
        load_tiny_decoder(saved(tmp_path, weights), latent_channels=16, spatial_factor=8)
    lacking = {name: weight for name, weight in weights.items() if name != "decoder.13.conv.weight"}
    with pytest.raises(ModelError, match=r"lacks decoder\.13\.conv\.weight"):
        load_tiny_decoder(saved(tmp_path, lacking), latent_channels=48, spatial_factor=16)
    odd = {**weights, "decoder.22.bias": torch.zeros(3)}
    with pytest.raises(ModelError, match=r"decoder\.22\.bias is \[3\], expected \[12\]"):
        load_tiny_decoder(saved(tmp_path, odd), latent_channels=48, spatial_factor=16)
    with pytest.raises(ModelError, match=r"has decoder\.23\.weight, which the TAEHV layout does not"):
        load_tiny_decoder(
            saved(tmp_path, {**weights, "decoder.23.weight": torch.zeros(1)}), latent_channels=48, spatial_factor=16
        )


def test_a_pickle_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a safetensors file.*save_file\(torch\.load\('taew2_2\.pth'"):
        load_tiny_decoder(tmp_path / "taew2_2.pth", latent_channels=48, spatial_factor=16)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    file.write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tiny_decoder(file, latent_channels=48, spatial_factor=16)
    with pytest.raises(ModelError, match="cannot be read"):
        load_tiny_decoder(tmp_path / "absent.safetensors", latent_channels=48, spatial_factor=16)

"""The networks: input and output shapes, streaming equals the whole, folders round-trip, shipped weights generate."""

from pathlib import Path

import pytest
import torch

from engine.config import EMBEDDED_FOLDER
from engine.embedded.lexicon import VOCABULARY_SIZE
from engine.embedded.modules import AutoencoderConfig, Decoder, Encoder, TextEncoder, TextEncoderConfig, group_frames
from engine.embedded.reading import complete, read
from training.evaluation.sampling import EmbeddedModel, SamplingSettings, initial_noise, sample_latents

TINY = AutoencoderConfig(channels=(8, 16, 16), num_blocks=(1, 1, 1))


def test_encoder_groups_frames_as_wan_does() -> None:
    encoder = Encoder(TINY).eval()
    frames = torch.rand(2, 9, 3, 32, 48)
    latents = encoder.encode(frames)
    assert latents.shape == (2, 24, 3, 2, 3)
    assert torch.equal(group_frames(frames)[:, 0, 3], frames[:, 0])
    first_alone = encoder.encode(frames[:, :1])
    torch.testing.assert_close(first_alone[:, :, 0], latents[:, :, 0])
    with pytest.raises(ValueError, match="4n\\+1"):
        encoder.encode(frames[:, :8])


def test_streamed_decoding_equals_the_whole() -> None:
    decoder = Decoder(TINY).eval()
    latents = torch.randn(2, 24, 3, 2, 3)
    with torch.inference_mode():
        for closes in (True, False):
            whole = decoder.decode(latents, closes=closes)
            streamed = list(decoder.stream(latents, closes=closes))
            assert whole.shape == (2, 9, 3, 32, 48)
            assert [part.shape[1] for part in streamed] == [1, 4, 4]
            assert torch.equal(torch.cat(streamed, 1), whole)
            assert 0 <= whole.min() <= whole.max() <= 1
        assert decoder.decode(latents[:, :, :1]).shape[1] == 1


def test_a_clip_that_closes_is_a_ring_after_its_first_frame() -> None:
    """If the latents rotate by one latent frame, the frames rotate by four: the seam is a border like any other."""
    decoder = Decoder(TINY).eval()
    latents = torch.randn(1, 24, 7, 2, 3)
    turned = torch.cat([latents[:, :, :1], latents[:, :, 1:].roll(1, 2)], 2)
    with torch.inference_mode():
        frames, later = decoder.decode(latents), decoder.decode(turned)
        torch.testing.assert_close(later[:, 1:], frames[:, 1:].roll(4, 1))
        opened = decoder.decode(latents, closes=False)
    # A clip that starts from another clip's picture follows that picture.
    assert not torch.allclose(opened[:, 1:5], frames[:, 1:5], atol=1e-3)


@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_folders_round_trip_in_half_precision(kind: type[Encoder] | type[Decoder], tmp_path: Path) -> None:
    module = kind(TINY)
    module.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.config == module.config
    for saved, kept in zip(module.state_dict().values(), loaded.state_dict().values(), strict=True):
        torch.testing.assert_close(kept, saved, rtol=1e-3, atol=1e-3)


def test_latent_statistics_beyond_half_precision_survive_the_folder(tmp_path: Path) -> None:
    encoder = Encoder(TINY)
    encoder.standardise.running_var = torch.full((24,), 1e6)
    encoder.save_pretrained(tmp_path)
    kept = Encoder.from_pretrained(tmp_path).standardise.running_var
    assert kept is not None
    torch.testing.assert_close(kept, torch.full((24,), 1e6))


def test_a_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    Encoder(TINY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a Encoder, not a Decoder"):
        Decoder.from_pretrained(tmp_path)


def test_text_encoder_takes_no_tokens_and_too_many() -> None:
    encoder = TextEncoder(TextEncoderConfig(vocab_size=VOCABULARY_SIZE, text_dim=16, max_tokens=16)).eval()
    with torch.inference_mode():
        encoded = encoder.encode([(), (2, 3), tuple(range(2, 42))])
    assert encoded.shape == (3, 16, 16)
    assert not torch.equal(encoded[0], encoded[1])


@pytest.fixture(scope="module")
def shipped() -> EmbeddedModel:
    return EmbeddedModel.from_pretrained(EMBEDDED_FOLDER)


def test_a_shipped_generation_depends_on_seed_and_text_alone(shipped: EmbeddedModel) -> None:
    settings = SamplingSettings(num_steps=2, guidance_scale=1.0, shift=3.0)

    def sample(texts: tuple[str, ...], seeds: tuple[int, ...]) -> torch.Tensor:
        token_ids = [complete(read(text), seed)[1] for text, seed in zip(texts, seeds, strict=True)]
        noise = torch.cat([initial_noise(seed) for seed in seeds])
        return sample_latents(shipped.transformer, shipped.text_encoder, token_ids, noise=noise, settings=settings)

    once = sample(("the beach",), (1,))
    assert once.shape == (1, 24, 7, 16, 26)
    assert torch.equal(once, sample(("the beach",), (1,)))
    batched = sample(("the beach", "a city at night"), (1, 2))
    torch.testing.assert_close(batched[:1], once, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(once, sample(("the beach",), (3,)), atol=0.1)
    assert not torch.allclose(once, sample(("a city at night",), (1,)), atol=0.1)


def test_bf16_draws_the_same_picture_in_steps_finer_than_eight_bits(shipped: EmbeddedModel) -> None:
    settings = SamplingSettings(num_steps=4, guidance_scale=1.0, shift=3.0)
    token_ids = [complete(read("a red sailboat on the sea at sunset"), 1)[1]]
    pictures = []
    for model in (shipped, EmbeddedModel.from_pretrained(EMBEDDED_FOLDER, dtype=torch.bfloat16)):
        noise = initial_noise(1, num_latent_frames=1)
        latents = sample_latents(model.transformer, model.text_encoder, token_ids, noise=noise, settings=settings)
        with torch.inference_mode():
            pictures.append(model.decoder.decode(latents))
    whole, halved = pictures
    assert halved.dtype == torch.float32
    assert (whole - halved).square().mean() < 10**-3.5  # 35 dB: no eye tells them apart
    assert len(halved[halved > 0.5].unique()) > 150

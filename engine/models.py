"""The only file that loads weights: a profile's folder becomes the parts that the worker runs. Engine process."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from engine.api import ModelDescription, ModelError
from engine.config import ModelProfile
from engine.decoder import Decoder, EmbeddedDecoder
from engine.denoiser import Denoiser
from engine.embedded.modules import Decoder as EmbeddedDecoderModule
from engine.embedded.modules import TextEncoder as EmbeddedTextModule
from engine.noise_schedule import NoiseSchedule
from engine.preview import Previewer
from engine.text_encoder import CachedTextEncoder, EmbeddedTextEncoder, TextEncoder

_PARTS = ("transformer", "text_encoder", "decoder", "scheduler")


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. `latent_shape` is ``(C, T, H, W)`` of one clip."""

    profile: ModelProfile
    device: torch.device
    latent_shape: tuple[int, int, int, int]
    text_encoder: TextEncoder
    noise_schedule: NoiseSchedule
    denoiser: Denoiser
    decoder: Decoder
    previewer: Previewer

    @property
    def description(self) -> ModelDescription:
        return ModelDescription(
            name=self.profile.name,
            device=str(self.device),
            width=self.profile.width,
            height=self.profile.height,
            num_frames=self.profile.num_frames,
            frame_rate=self.profile.frame_rate,
            num_steps=dict(self.profile.num_steps),
            closes_on_itself=self.profile.closes_on_itself,
        )


def load(profile: ModelProfile) -> Model:
    """Loads a diffusers-style folder. Raises `ModelError` that says which part is missing or broken."""
    folder = profile.folder
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    if not (folder / "model_index.json").is_file():
        missing.append("model_index.json")
    if missing:
        raise ModelError(
            f"the model folder {folder} lacks {', '.join(missing)}; expected a folder like the embedded one"
        )
    device = torch.device("cpu")
    try:
        # Safetensors only: a pickle could run code of its author's choice.
        transformer = WanTransformer3DModel.from_pretrained(
            folder / "transformer", torch_dtype=torch.float32, use_safetensors=True
        ).eval()
        text_encoder = EmbeddedTextEncoder(EmbeddedTextModule.from_pretrained(folder / "text_encoder"))
        decoder = EmbeddedDecoder(EmbeddedDecoderModule.from_pretrained(folder / "decoder"))
        noise_schedule = NoiseSchedule(folder)
    except (OSError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ModelError(f"the model in {folder} cannot be loaded: {error}") from error
    return Model(
        profile=profile,
        device=device,
        latent_shape=(
            int(transformer.config.in_channels),
            profile.num_latent_frames,
            profile.height // 16,
            profile.width // 16,
        ),
        text_encoder=CachedTextEncoder(text_encoder),
        noise_schedule=noise_schedule,
        denoiser=Denoiser(transformer, rows_per_forward=profile.rows_per_forward),
        decoder=decoder,
        previewer=Previewer(decoder),
    )

"""The only file that loads weights: a profile's folder becomes the parts that the worker runs. Engine process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from engine.api import EngineReport, ModelDescription, ModelError
from engine.config import ModelProfile
from engine.decoder import Decoder, EmbeddedDecoder
from engine.denoiser import Denoiser
from engine.embedded.modules import Decoder as EmbeddedDecoderModule
from engine.embedded.modules import TextEncoder as EmbeddedTextModule
from engine.generation import Generation
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
    _report: EngineReport = EngineReport(dtype="float32", attention="native", decoder="embedded", preview="decoder")

    def begin(self, generation: Generation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Text, noise and solver. Returns the words of the prompt that are understood, and those that are not."""
        command = generation.command
        encoding = self.text_encoder.encode(command.prompt)
        generation.prompt_embeds = encoding.embeds
        generation.guidance_scale = self.profile.guidance_scale
        if generation.guidance_scale != 1.0:
            generation.negative_embeds = self.text_encoder.encode("").embeds
        generation.generator.manual_seed(command.seed)
        generation.latents = torch.randn(1, *self.latent_shape, generator=generation.generator).to(self.device)
        generation.solver = self.noise_schedule.solver(self.profile.num_steps[command.quality], self.device)
        return encoding.understood, encoding.not_understood

    def decode(self, generation: Generation) -> Iterator[torch.Tensor]:
        """The finished clip, ``[N, 3, H, W]`` in [0, 1], as the decoder of the generation's rung gives it."""
        assert generation.latents is not None
        return self.decoder.decode(generation.latents)

    def preview(self, generation: Generation) -> torch.Tensor | None:
        """Frames ``[N, 3, H, W]`` in [0, 1] to show after the last step done, None after the last of all."""
        assert generation.x0 is not None
        return self.previewer.preview(generation.x0, generation.step_index - 1, generation.num_steps)

    def report(self) -> EngineReport:
        """How it runs now; the same object while nothing has changed."""
        return self._report

    def free_memory(self) -> None:
        """After an out-of-memory error: lets go of whatever can be made again."""

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

"""The only file that loads weights: what was asked for becomes the parts that the worker runs. Engine process.

`load` finds the folder (`engine.checkpoint` checks it first), loads each part where the memory plan wants it, and puts
the pieces together: text encoder, noise schedule, denoiser, decoders, previewer, first frames, LoRAs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from engine import checkpoint
from engine.api import EngineReport, ModelDescription, ModelError
from engine.config import Family, LoadSettings, ModelProfile
from engine.decoder import Decoder, EmbeddedDecoder
from engine.denoiser import Denoiser
from engine.embedded.modules import Decoder as EmbeddedDecoderModule
from engine.embedded.modules import TextEncoder as EmbeddedTextModule
from engine.first_frame import FirstFrameEncoder
from engine.generation import Generation
from engine.noise_schedule import NoiseSchedule
from engine.preview import Previewer
from engine.text_encoder import CachedTextEncoder, EmbeddedTextEncoder, TextEncoder
from engine.umt5 import Umt5TextEncoder, ZeroPaddedTextEncoder
from engine.vae_decoder import VaeDecoder


@dataclass(slots=True)
class Model:
    """A loaded model. `decoders` by the name that a rung calls them by; `latent_scale`: pixels a latent, one side."""

    profile: ModelProfile
    device: torch.device
    latent_channels: int
    latent_scale: int
    text_encoder: TextEncoder
    noise_schedule: NoiseSchedule
    denoiser: Denoiser
    decoders: Mapping[str, Decoder]
    previewer: Previewer
    first_frames: FirstFrameEncoder | None = None
    _report: EngineReport = field(default_factory=EngineReport)

    def begin(self, generation: Generation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Text, noise, solver, first frame. Returns the words of the prompt that are understood, and the others.

        Raises `ModelError` for what this model cannot do. `generation.rung_index` was set before.
        """
        command, rung = generation.command, self.profile.ladder[generation.rung_index]
        if command.first_frame is not None:
            if self.first_frames is None:
                raise ModelError(f"{self.profile.name} cannot start from a frame")
            generation.condition = self.first_frames.encode(
                command.first_frame, width=rung.width, height=rung.height
            ).to(self.device)
        encoding = self.text_encoder.encode(command.prompt)
        generation.prompt_embeds = encoding.embeds.to(self.device)
        self._guide(generation)
        shape = (self.profile.num_latent_frames, rung.height // self.latent_scale, rung.width // self.latent_scale)
        # On the device: a solver that adds noise at each step must not wait for the host to make it.
        generation.generator = torch.Generator(self.device).manual_seed(command.seed)
        generation.latents = torch.randn(
            1, self.latent_channels, *shape, generator=generation.generator, device=self.device
        )
        generation.solver = self.noise_schedule.solver(rung.num_steps[command.quality], self.device)
        return encoding.understood, encoding.not_understood

    def _guide(self, generation: Generation) -> None:
        profile = self.profile
        generation.guidance_scale = generation.low_noise_guidance_scale = profile.guidance_scale
        if profile.guidance_scale != 1.0:
            generation.negative_embeds = self.text_encoder.encode(profile.negative_prompt).embeds.to(self.device)
        if profile.boundary_ratio is not None:
            generation.boundary_timestep = profile.boundary_ratio * self.noise_schedule.num_train_timesteps
            generation.low_noise_guidance_scale = profile.low_noise_guidance_scale or profile.guidance_scale

    def decode(self, generation: Generation) -> Iterator[torch.Tensor]:
        """The finished clip, ``[N, 3, H, W]`` in [0, 1], as the decoder of the generation's rung gives it."""
        assert generation.latents is not None
        return self.decoders[self.profile.ladder[generation.rung_index].decoder].decode(generation.latents)

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
            can_start_from_frame=self.first_frames is not None,
        )


def _ignore(_: str) -> None:
    pass


def load(settings: LoadSettings, *, on_part: Callable[[str], None] = _ignore) -> Model:
    """Loads what `settings` ask for; offline. `on_part` is called with the name of each part before it is loaded.

    Raises `ModelError` that says which part is missing or broken.
    """
    profile = checkpoint.resolve(settings)
    load_family = {Family.EMBEDDED: _load_embedded, Family.WAN: _load_wan}[profile.family]
    try:
        return load_family(profile, settings, on_part)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the model in {profile.folder} cannot be loaded: {error}") from error


def _load_embedded(profile: ModelProfile, settings: LoadSettings, on_part: Callable[[str], None]) -> Model:
    assert profile.folder is not None
    folder, device = profile.folder, torch.device(settings.device or "cpu")
    on_part("embedded")
    transformer = _load_part(WanTransformer3DModel, folder / "transformer", settings, torch_dtype=torch.float32)
    text_encoder = EmbeddedTextEncoder(EmbeddedTextModule.from_pretrained(folder / "text_encoder"))
    decoder = EmbeddedDecoder(EmbeddedDecoderModule.from_pretrained(folder / "decoder").to(device))
    return Model(
        profile=profile.with_decoders({"full"}),
        device=device,
        latent_channels=int(transformer.config.in_channels),
        latent_scale=16,
        text_encoder=CachedTextEncoder(text_encoder),
        noise_schedule=NoiseSchedule(folder),
        denoiser=Denoiser(transformer.to(device), rows_per_forward=profile.rows_per_forward),
        decoders={"full": decoder},
        previewer=Previewer(decoder),
        _report=EngineReport(dtype="float32", attention="native", decoder="embedded", preview="decoder"),
    )


def _load_wan(profile: ModelProfile, settings: LoadSettings, on_part: Callable[[str], None]) -> Model:
    # Seconds of imports that the embedded model does not need.
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan  # noqa: PLC0415
    from transformers import AutoTokenizer, UMT5EncoderModel  # noqa: PLC0415

    assert profile.folder is not None
    folder = profile.folder
    device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    on_part("text_encoder")
    text_module = _load_part(UMT5EncoderModel, folder / "text_encoder", settings, dtype=dtype).to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    on_part("vae")
    vae = _load_part(AutoencoderKLWan, folder / "vae", settings, torch_dtype=dtype).to(device)
    experts = []
    for name in ("transformer", "transformer_2")[: 1 if profile.boundary_ratio is None else 2]:
        on_part(name)
        experts.append(_load_part(WanTransformer3DModel, folder / name, settings, torch_dtype=dtype).to(device))
    decoders: dict[str, Decoder] = {"full": VaeDecoder(vae)}
    return Model(
        profile=profile.with_decoders(decoders),
        device=device,
        latent_channels=int(experts[0].config.in_channels),
        latent_scale=int(vae.config.scale_factor_spatial),
        text_encoder=ZeroPaddedTextEncoder(CachedTextEncoder(Umt5TextEncoder(text_module, tokenizer))),
        noise_schedule=NoiseSchedule(folder, distilled_timesteps=profile.distilled_timesteps),
        denoiser=Denoiser(*experts, rows_per_forward=profile.rows_per_forward),
        decoders=decoders,
        previewer=Previewer(decoders["full"]),
        first_frames=FirstFrameEncoder(vae) if profile.can_start_from_frame else None,
        _report=EngineReport(dtype=str(dtype).removeprefix("torch."), attention="native", decoder="full"),
    )


def _load_part(kind: Any, folder: Path, settings: LoadSettings, **options: Any) -> Any:
    """A module from safetensors, ready to run. A tensor that is missing there would stay random: `ModelError`."""
    # None: a pickle is taken where there is nothing else. It could run code of its author's choice.
    use_safetensors = None if settings.allows_pickles else True
    module, found = kind.from_pretrained(folder, use_safetensors=use_safetensors, output_loading_info=True, **options)
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} tensors of a {kind.__name__}, among them {missing[0]}")
    return module.eval()

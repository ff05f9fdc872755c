"""Loads a model's weights and builds the parts that the worker runs. The only file that loads weights; engine process.

`load` finds the folder (`engine.loading.checkpoint` checks it first), loads each part where the memory plan wants it,
and assembles the model: text encoder, noise schedule, denoiser, decoders, previewer, first frames, LoRAs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from engine.api import EngineReport, ModelDescription, ModelError
from engine.config import Family, LoadSettings, ModelProfile
from engine.embedded.modules import Decoder as EmbeddedDecoderModule
from engine.embedded.modules import Encoder as EmbeddedEncoderModule
from engine.embedded.modules import TextEncoder as EmbeddedTextModule
from engine.embedded.modules import fastest_dtype
from engine.loading import attention, checkpoint, device_memory
from engine.loading.compiling import CompiledBehind
from engine.loading.device_residency import DECODER_NAMES, DeviceResidency, planned
from engine.loading.lora import Loras
from engine.parts import linear_preview, preview
from engine.parts.decoder import Decoder, EmbeddedDecoder, SideStreamDecoder
from engine.parts.denoiser import Denoiser
from engine.parts.first_frame import EmbeddedFirstFrameEncoder, FirstFrameEncoder, FirstFrames
from engine.parts.generation import Generation
from engine.parts.noise_schedule import NoiseSchedule
from engine.parts.text_encoder import CachedTextEncoder, EmbeddedTextEncoder, TextEncoder
from engine.parts.tiny_decoder import load_tiny_decoder
from engine.parts.umt5 import Umt5TextEncoder, ZeroPaddedTextEncoder
from engine.parts.vae_decoder import VaeDecoder

_NEWS_BYTES = 2**28


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Model:
    """A loaded model. The keys of `decoders` are the rungs' names; `latent_scale` is pixels per latent, on one side."""

    profile: ModelProfile
    device: torch.device
    latent_channels: int
    latent_scale: int
    text_encoder: TextEncoder
    noise_schedule: NoiseSchedule
    denoiser: Denoiser
    decoders: Mapping[str, Decoder]
    previewer: preview.Previews
    first_frames: FirstFrames | None = None
    loras: Loras | None = None
    load_notes: tuple[str, ...] = ()  # each fallback at load, and why
    _report: EngineReport = field(default_factory=EngineReport)
    _forget: Callable[[], None] = _nothing  # drops caches
    _make_room: Callable[[], None] = _nothing  # sends visiting parts off the device

    def begin(self, generation: Generation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Prepares text, noise, solver and first frame. Returns the understood words of the prompt, and the others.

        Raises `ModelError` for a command that this model cannot run. The caller has set `generation.rung_index`.
        """
        command, rung = generation.command, self.profile.ladder[generation.rung_index]
        if command.first_frame is not None:
            if self.first_frames is None:
                raise ModelError(f"{self.profile.name} cannot start from a frame")
            generation.condition = self.first_frames.encode(
                command.first_frame, width=rung.width, height=rung.height
            ).to(self.device)
        if command.lora is not None and command.lora not in self.lora_names:
            raise ModelError(f"there is no LoRA {command.lora!r}; there are: {', '.join(self.lora_names) or 'none'}")
        scene_seed = command.seed if command.scene_seed is None else command.scene_seed
        encoding = self.text_encoder.encode(command.prompt, seed=scene_seed)
        generation.prompt_embeds = encoding.embeds.to(self.device)
        self._guide(generation)
        shape = (self.profile.num_latent_frames, rung.height // self.latent_scale, rung.width // self.latent_scale)
        # On the device: a solver that adds noise at each step must not wait for the host to make it.
        generation.generator = torch.Generator(self.device).manual_seed(command.seed)
        generation.latents = torch.randn(
            1, self.latent_channels, *shape, generator=generation.generator, device=self.device
        )
        if generation.condition is None:  # a clip that starts from a frame must begin with it
            generation.loop_shift = self.profile.loop_shift
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
        decoder = self.decoders[self.profile.ladder[generation.rung_index].decoder]
        return decoder.decode(generation.latents, closes=generation.condition is None)

    def preview(self, generation: Generation) -> torch.Tensor | None:
        """Frames ``[N, 3, H, W]`` in [0, 1] to show after the step just done; None after the clip's last step."""
        assert generation.x0 is not None
        return self.previewer.preview(generation.x0, generation.step_index - 1, generation.num_steps)

    def report(self) -> EngineReport:
        """How the model runs now; the same object while nothing has changed."""
        compiled = [expert for expert in self.denoiser.experts if isinstance(expert, CompiledBehind)]
        now = replace(
            self._report,
            compiled=tuple(shape for expert in compiled for shape in expert.compiled),
            compiling=tuple(shape for expert in compiled for shape in expert.compiling),
            # Rounded, so that not every allocation changes the report.
            peak_memory_bytes=device_memory.peak_bytes(self.device) // _NEWS_BYTES * _NEWS_BYTES,
            notes=self.load_notes + tuple(note for expert in compiled for note in expert.notes),
        )
        if now != self._report:
            self._report = now
        return self._report

    def free_memory(self) -> None:
        """After an out-of-memory error: drops caches and sends visiting parts off the device."""
        self._forget()
        self._make_room()
        device_memory.free(self.device)

    @property
    def lora_names(self) -> tuple[str, ...]:
        return self.loras.names if self.loras is not None else ()

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
            loras=self.lora_names,
        )


def load(settings: LoadSettings, *, on_part: Callable[[str], None] = lambda _: None) -> Model:
    """Loads what `settings` ask for; offline. `on_part` is called with the name of each part before it is loaded.

    Raises `ModelError` that says which part is missing or broken.
    """
    profile = checkpoint.resolve(settings)
    _check_device(settings.device)
    load_family = {Family.EMBEDDED: _load_embedded, Family.WAN: _load_wan}[profile.family]
    loading = ""

    def note_part(name: str) -> None:
        nonlocal loading
        loading = f", {name},"
        on_part(name)

    try:
        return load_family(profile, settings, note_part)
    except ModelError:
        raise
    except Exception as error:
        # A broken file makes the libraries raise all kinds of errors, and would do so at each restart. A lack of memory
        # is not the folder's fault: the next process may have enough.
        if device_memory.is_out_of_memory(error):
            raise
        what = f"{type(error).__name__}: {error}"
        raise ModelError(f"the model in {profile.folder}{loading} cannot be loaded: {what}") from error


def _check_device(name: str | None) -> None:
    """Raises `ModelError` for a missing device: torch reports it only with the first tensor, in odd words."""
    if name is None:
        return
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"unknown device {name!r}; expected cpu, cuda, cuda:1, ...") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"there is no device {name}: torch {torch.__version__} finds {torch.cuda.device_count()} GPUs")


def _load_embedded(profile: ModelProfile, settings: LoadSettings, on_part: Callable[[str], None]) -> Model:
    assert profile.folder is not None
    folder, device = profile.folder, torch.device(settings.device or "cpu")
    dtype = fastest_dtype(device)
    on_part("embedded")
    transformer = _load_part(WanTransformer3DModel, folder / "transformer", settings, torch_dtype=dtype)
    text_encoder = EmbeddedTextEncoder(EmbeddedTextModule.from_pretrained(folder / "text_encoder"))
    decoder = EmbeddedDecoder(EmbeddedDecoderModule.from_pretrained(folder / "decoder").to(device, dtype))
    if settings.lora_folder:
        raise ModelError("the embedded model takes no LoRA files")
    return Model(
        profile=profile.with_decoders({"full"}),
        device=device,
        latent_channels=int(transformer.config.in_channels),
        latent_scale=16,
        text_encoder=text_encoder,
        noise_schedule=NoiseSchedule(folder),
        denoiser=Denoiser(transformer.to(device), rows_per_forward=profile.rows_per_forward),
        decoders={"full": decoder},
        previewer=preview.Previewer(decoder),
        first_frames=EmbeddedFirstFrameEncoder(EmbeddedEncoderModule.from_pretrained(folder / "encoder").to(device)),
        load_notes=_unheeded(settings, device),
        _report=EngineReport(
            dtype=str(dtype).removeprefix("torch."), attention="native", decoder="embedded", preview="decoder"
        ),
    )


def _load_wan(profile: ModelProfile, settings: LoadSettings, on_part: Callable[[str], None]) -> Model:
    # A second of imports that the embedded model does not need.
    from transformers import AutoTokenizer, UMT5EncoderModel  # noqa: PLC0415

    assert profile.folder is not None
    folder = profile.folder
    device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = _dtype_on(device)
    profile, plan = planned(profile, settings, device)
    residency = DeviceResidency(device, dtype, plan)

    on_part("text_encoder")
    text_module = _load_part(UMT5EncoderModel, folder / "text_encoder", settings, dtype=dtype)
    text_part = residency.place("text_encoder", text_module)
    on_part("tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    text_cache = CachedTextEncoder(
        Umt5TextEncoder(text_module, tokenizer, device=device, in_use=lambda: residency.call(text_part))
    )
    on_part("vae")
    vae = _load_part(AutoencoderKLWan, folder / "vae", settings, torch_dtype=dtype)
    vae_part = residency.place("vae", vae)
    latent_scale = int(vae.config.scale_factor_spatial)
    decoders: dict[str, Decoder] = {"full": VaeDecoder(vae, in_use=vae_part.in_use)}
    topmost = _add_decoders(decoders, profile, settings, vae, residency)
    profile = profile.with_decoders(decoders, topmost=topmost)
    # A VAE that comes and goes would be copied on one stream and used on the other.
    if residency.plan is not None and residency.plan.overlaps and residency.is_plain("vae"):
        decoders = {name: SideStreamDecoder(decoder, device) for name, decoder in decoders.items()}

    experts = _load_experts(profile, settings, residency, on_part)
    with vae_part.in_use():
        previewer = preview.build(decoders, _linear_factors(folder, vae), spatial_factor=latent_scale)
    report = EngineReport(
        dtype=str(dtype).removeprefix("torch."),
        attention=str(experts.attention),
        decoder=topmost,
        preview=previewer.name,
        memory_plan=residency.plan.lines if residency.plan is not None else (),
    )
    return Model(
        profile=profile,
        device=device,
        latent_channels=int(vae.config.z_dim),
        latent_scale=latent_scale,
        text_encoder=ZeroPaddedTextEncoder(text_cache),
        noise_schedule=NoiseSchedule(folder, distilled_timesteps=profile.distilled_timesteps),
        denoiser=Denoiser(*experts.called, rows_per_forward=profile.rows_per_forward, prepare=experts.prepare),
        decoders=decoders,
        previewer=previewer,
        first_frames=FirstFrameEncoder(vae, in_use=vae_part.in_use) if profile.can_start_from_frame else None,
        loras=experts.loras,
        load_notes=experts.notes + _unheeded(settings, device),
        _report=report,
        _forget=text_cache.clear,
        _make_room=residency.empty,
    )


def _unheeded(settings: LoadSettings, device: torch.device) -> tuple[str, ...]:
    """The options that have no effect here, for the report."""
    if settings.gpu_memory_bytes is None or (device.type == "cuda" and settings.model != "embedded"):
        return ()
    return (f"--gpu-memory has no effect: nothing is planned for {settings.model} on {device.type}",)


def _dtype_on(device: torch.device) -> torch.dtype:
    """bf16 is up to twice as slow as float32 on a CPU (measured)."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


@dataclass(frozen=True, slots=True)
class _Experts:
    """The transformers, as the denoiser calls them, and what was chosen for them."""

    called: tuple[Any, ...]
    prepare: Callable[[int, str | None], None]
    loras: Loras | None
    attention: attention.AttentionChoice
    notes: tuple[str, ...]


def _load_experts(
    profile: ModelProfile, settings: LoadSettings, residency: DeviceResidency, on_part: Callable[[str], None]
) -> _Experts:
    assert profile.folder is not None
    choice = attention.choose(residency.device, residency.dtype)
    names = ("transformer", "transformer_2")[: 1 if profile.boundary_ratio is None else 2]
    modules = []
    for name in names:
        on_part(name)
        modules.append(_load_part(WanTransformer3DModel, profile.folder / name, settings, torch_dtype=residency.dtype))
        attention.use(modules[-1], choice)
    loras = Loras(Path(settings.lora_folder), modules) if settings.lora_folder else None
    is_gpu = residency.device.type == "cuda"
    if is_gpu and loras is None:
        for module in modules:
            attention.fuse_projections(module)
    placed = [residency.place(name, module) for name, module in zip(names, modules, strict=True)]
    is_compilable = residency.has_room_to_compile and all(residency.is_plain(name) for name in names)
    compiles = is_gpu and settings.compiles and loras is None and is_compilable
    notes = []
    if is_gpu and loras is not None:
        notes.append("LoRA: the transformer runs with separate projections, and is not compiled")
    elif is_gpu and settings.compiles and not compiles:
        notes.append("the memory plan hooks into the transformer, or has no room for compiling: it is not compiled")

    def prepare(expert_index: int, lora: str | None) -> None:
        residency.visit(placed[expert_index])
        if loras is not None:
            loras.select(lora)

    called = tuple(CompiledBehind(module) if compiles else module for module in modules)
    return _Experts(called, prepare, loras, choice, tuple(notes))


def _add_decoders(
    decoders: dict[str, Decoder], profile: ModelProfile, settings: LoadSettings, vae: Any, residency: DeviceResidency
) -> str:
    """Adds the decoders besides the full VAE; returns the name of the topmost rung's. Raises `ModelError`.

    `settings.decoder` may name a tiny decoder's file or a pruned VAE's folder. A tiny decoder in the model's folder,
    under its published name, serves lower rungs and previews.
    """
    assert profile.folder is not None
    asked = settings.decoder or profile.decoder
    published = profile.folder / f"taew2_{2 if vae.config.z_dim == 48 else 1}.safetensors"
    if asked not in DECODER_NAMES and Path(asked).is_dir():
        pruned = _load_part(AutoencoderKLWan, Path(asked), settings, torch_dtype=residency.dtype).to(residency.device)
        if pruned.config.z_dim != vae.config.z_dim:
            raise ModelError(
                f"{asked} takes {pruned.config.z_dim} latent channels, this model makes {vae.config.z_dim}"
            )
        decoders["pruned"] = VaeDecoder(pruned)
        asked = "pruned"
    is_file = asked not in DECODER_NAMES and Path(asked).is_file()
    file = Path(asked) if is_file else published
    if file.is_file():
        decoders["tiny"] = load_tiny_decoder(
            file,
            latent_channels=vae.config.z_dim,
            spatial_factor=vae.config.scale_factor_spatial,
            device=residency.device,
            dtype=residency.dtype,
        )
        asked = "tiny" if is_file else asked
    if asked not in decoders:
        raise ModelError(
            f"there is no decoder {asked!r}: expected full, tiny (with {published.name} in {profile.folder}), a tiny "
            "decoder's safetensors file, or the folder of a pruned VAE"
        )
    return asked


def _linear_factors(folder: Path, vae: Any) -> linear_preview.LinearFactors:
    """Reads the factors from the model's folder, or fits them now, which takes about a second."""
    file = folder / linear_preview.FILE_NAME
    if file.is_file():
        return linear_preview.read(file, latent_channels=vae.config.z_dim)
    return linear_preview.fit(linear_preview.vae_encode(vae), spatial_factor=vae.config.scale_factor_spatial)


def _load_part(kind: Any, folder: Path, settings: LoadSettings, **options: Any) -> Any:
    """A module from safetensors, ready to run. Raises `ModelError` for a missing tensor, which would stay random."""
    # None: diffusers takes a pickle if there is nothing else. A pickle can run code of its author's choice.
    use_safetensors = None if settings.allows_pickles else True
    module, found = kind.from_pretrained(folder, use_safetensors=use_safetensors, output_loading_info=True, **options)
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} tensors of a {kind.__name__}, among them {missing[0]}")
    return module.eval()

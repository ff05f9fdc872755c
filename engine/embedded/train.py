"""Trains the embedded model: `python -m engine.embedded.train STAGE --recipe small [--minutes M] [--resume]`.

The stages, in order: `autoencoder`, `encode` (clips to latents), `images` (single latent frames), `clips`, `export`;
`all` runs them one after another. Each training stage runs for a wall-clock budget, so a busy machine gives a model
that saw less, not a later one. Everything is written under runs/ (checkpoints, a CSV curve per stage) but `export`.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from engine.embedded.captions import draw_token_ids
from engine.embedded.dataset import draw_specs, load_specs, rendered_clips, save_specs, stored_latents
from engine.embedded.export import export_folder, fit_preview
from engine.embedded.lexicon import MAX_TOKENS, VOCABULARY_SIZE
from engine.embedded.modules import (
    LATENT_CHANNELS,
    PIXELS_PER_LATENT,
    Autoencoder,
    AutoencoderConfig,
    TextEncoder,
    TextEncoderConfig,
    pad_token_ids,
)
from engine.embedded.optim import Average, Muon, lr_factor
from engine.embedded.sampling import WEIGHTS_FOLDER, SamplingSettings
from engine.embedded.spec import SceneSpec
from engine.embedded.world import HEIGHT, PERIOD_FRAMES, WIDTH, render, subject_position

MODEL_CARD = Path(__file__).with_name("model_card.md")
CHECKPOINT_EVERY_S = 100.0
SUBJECT_WEIGHT = 2.5
LOG_EVERY_S = 20.0


@dataclass(frozen=True)
class Recipe:
    """Sizes and budgets. `small` suits two CPU cores and about two hours; a wider one is another value of this type."""

    folder: Path
    seed: int = 7
    num_threads: int = 2
    num_autoencoder_clips: int = 2000
    num_clips: int = 3600
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    autoencoder_batch: int = 6
    autoencoder_minutes: float = 36.0
    latent_noise: float = 0.12
    autoencoder_lr: float = 0.01
    autoencoder_adamw_lr: float = 1e-3
    autoencoder_average_decay: float = 0.99
    text_dim: int = 128
    num_layers: int = 6
    num_heads: int = 4
    ffn_dim: int = 1024
    transformer_lr: float = 0.02
    transformer_adamw_lr: float = 2e-3
    images_batch: int = 64
    images_minutes: float = 22.0
    images_shift: float = 1.3
    clips_batch: int = 16
    clips_minutes: float = 34.0
    clips_shift: float = 2.5
    # Clips start from what the images taught, and should not unlearn it.
    clips_lr_share: float = 0.6
    average_decay: float = 0.998


FAST = SamplingSettings(num_steps=6, guidance_scale=3.0, shift=3.0)
FINE = SamplingSettings(num_steps=12, guidance_scale=3.0, shift=3.0)

RECIPES = {"small": Recipe(folder=Path("runs/embedded-small"))}


class Clock:
    """A stage's wall-clock budget, across interruptions: `spent_s` is kept in its checkpoints."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._before_s = 0.0
        self._started_s = time.monotonic()

    @property
    def spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._started_s

    @property
    def progress(self) -> float:
        return min(1.0, self.spent_s / self.budget_s)

    def resume_at(self, spent_s: float) -> None:
        self._before_s, self._started_s = spent_s, time.monotonic()


class Curve:
    """A CSV of a stage's progress, appended to when a stage resumes; each line is also printed."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._path, self._columns = path, columns
        self._last_s = time.monotonic()
        if not path.exists():
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(columns)

    def is_due(self) -> bool:
        return time.monotonic() - self._last_s > LOG_EVERY_S

    def add(self, *values: float) -> None:
        self._last_s = time.monotonic()
        row = [f"{value:.5g}" for value in values]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(row)
        print(" ".join(f"{name}={value}" for name, value in zip(self._columns, row, strict=True)), flush=True)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replaces the file in one move, so that an interruption leaves the last one whole."""
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.rename(path)


def train_autoencoder(recipe: Recipe, minutes: float | None, *, resume: bool) -> None:
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    specs = draw_specs(recipe.num_autoencoder_clips, recipe.seed)
    clips = rendered_clips(recipe.folder / "autoencoder_clips.u8", specs, num_workers=recipe.num_threads)
    model = Autoencoder(recipe.autoencoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = Muon(
        model.named_parameters(),
        lr=recipe.autoencoder_lr,
        adamw_lr=recipe.autoencoder_adamw_lr,
        outer=("encoder.layers.1.",),
    )
    average = Average(model, recipe.autoencoder_average_decay)
    clock, step = Clock((minutes or recipe.autoencoder_minutes) * 60), 0
    path = recipe.folder / "autoencoder.pt"
    if resume and path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        clock.resume_at(state["spent_s"])
        step = state["step"]
    curve = Curve(recipe.folder / "autoencoder.csv", ("step", "seconds", "loss", "psnr", "average_psnr"))
    held_back = 40
    saved_s = time.monotonic()
    while clock.progress < 1:
        groups, previous, has_previous, weight = sample_groups(
            clips, specs, rng.integers(held_back, len(clips), size=recipe.autoencoder_batch), rng
        )
        model.train()
        decoded = model(groups, previous, has_previous, recipe.latent_noise)
        loss = reconstruction_loss(decoded, groups, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(lr_factor(clock.progress, decay_share=0.85))
        model.zero_grad(set_to_none=True)
        step += 1
        average.update(model, step)
        if curve.is_due():
            psnr = _psnr(decoded.detach(), groups)
            recalibrate(average.module, clips, specs, rng, num_batches=2)
            curve.add(step, clock.spent_s, loss.item(), psnr, validation_psnr(average.module, clips, specs))
        if time.monotonic() - saved_s > CHECKPOINT_EVERY_S or clock.progress >= 1:
            saved_s = time.monotonic()
            recalibrate(average.module, clips, specs, rng, num_batches=4 if clock.progress < 1 else 40)
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "average": average.module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "spent_s": clock.spent_s,
                },
            )


def sample_groups(
    clips: Any, specs: list[SceneSpec], chosen: Any, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A latent frame's worth of pixels at a random time of each `chosen` clip.

    Returns groups and the groups before them [B, 4, 3, H, W], who has one [B], and weights [B, 1, 1, H, W] of the loss.
    Periodic clips can start anywhere: group g of a clip rolled by r frames.
    """
    groups, before, has_previous = [], [], []
    for clip in chosen:
        start = int(rng.integers(PERIOD_FRAMES))
        is_first = rng.random() < 1 / 7
        offsets = [0, 0, 0, 0] if is_first else [1, 2, 3, 4]
        earlier = [0, 0, 0, 0] if is_first or rng.random() < 1 / 6 else [-3, -2, -1, 0]
        groups.append(clips[clip, [(start + offset) % PERIOD_FRAMES for offset in offsets]])
        before.append(clips[clip, [(start + offset) % PERIOD_FRAMES for offset in earlier]])
        has_previous.append(0.0 if is_first else 1.0)
    to_float = [torch.from_numpy(np.stack(part)).float().div_(255) for part in (groups, before)]
    weight = torch.stack([subject_weight(specs[clip]) for clip in chosen])
    return to_float[0], to_float[1], torch.tensor(has_previous), weight


def subject_weight(spec: SceneSpec) -> Tensor:
    """[1, 1, H, W]: subjects cover a tenth of the picture and draw all the looks, so they weigh more."""
    weight = torch.ones(1, 1, HEIGHT, WIDTH)
    if spec.subject is not None:
        x, y = (round(value) for value in subject_position(spec))
        weight[..., max(0, y - 36) : y + 36, max(0, x - 38) : x + 38] = SUBJECT_WEIGHT
    return weight / weight.mean()


def reconstruction_loss(decoded: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1, plus L1 of spatial gradients for edges, of temporal differences for calm, and a little square error."""
    error = decoded - target
    across = ((error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]).mean()
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
    temporal = ((error[:, 1:] - error[:, :-1]).abs() * weight).mean()
    return (error.abs() * weight).mean() + across + down + 0.5 * temporal + 2.0 * (error.square() * weight).mean()


@torch.no_grad()
def recalibrate(
    model: Autoencoder, clips: Any, specs: list[SceneSpec], rng: np.random.Generator, *, num_batches: int
) -> None:
    """Measures the latent statistics of averaged weights: those of the weights that were averaged do not fit them."""
    standardise = model.encoder.standardise
    momentum, standardise.momentum = standardise.momentum, None
    standardise.reset_running_stats()
    standardise.train()
    for _ in range(num_batches):
        model.encoder(sample_groups(clips, specs, rng.integers(len(clips), size=24), rng)[0])
    standardise.eval()
    standardise.momentum = momentum


@torch.no_grad()
def validation_psnr(model: Autoencoder, clips: Any, specs: list[SceneSpec]) -> float:
    rng = np.random.default_rng(0)
    groups, previous, has_previous, _ = sample_groups(clips, specs, range(16), rng)
    return _psnr(model.eval()(groups, previous, has_previous, 0.0).clamp(0, 1), groups)


def _psnr(decoded: Tensor, target: Tensor) -> float:
    return float(-10 * torch.log10((decoded - target).square().mean()))


def encode_clips(recipe: Recipe) -> None:
    """Renders `num_clips` and keeps their latents, fp16 [N, C, 7, 8, 14], with their specs beside them."""
    specs = draw_specs(recipe.num_clips, recipe.seed + 1)
    save_specs(recipe.folder / "specs.json", specs)
    stored_latents(
        recipe.folder / "latents.npy", specs, load_autoencoder(recipe).encoder, num_workers=recipe.num_threads
    )


def load_autoencoder(recipe: Recipe) -> Autoencoder:
    """The averaged weights of the autoencoder stage."""
    autoencoder = Autoencoder(recipe.autoencoder)
    state = torch.load(recipe.folder / "autoencoder.pt", weights_only=True)
    autoencoder.load_state_dict(state["average"])
    return autoencoder.eval()


class Generator(nn.Module):
    """What the `images` and `clips` stages train: the text encoder and diffusers' Wan transformer, unmodified."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        from diffusers import WanTransformer3DModel  # noqa: PLC0415

        self.text_encoder = TextEncoder(TextEncoderConfig(vocab_size=VOCABULARY_SIZE, text_dim=recipe.text_dim))
        wan: Any = WanTransformer3DModel
        self.transformer: nn.Module = wan(
            patch_size=(1, 2, 2),
            num_attention_heads=recipe.num_heads,
            attention_head_dim=64,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            text_dim=recipe.text_dim,
            freq_dim=256,
            ffn_dim=recipe.ffn_dim,
            num_layers=recipe.num_layers,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=64,
        )

    def forward(self, latents: Tensor, sigmas: Tensor, token_ids: Tensor) -> Tensor:
        """Velocity of latents [B, C, T, H, W] at `sigmas` [B]."""
        velocity: Tensor = self.transformer(latents, sigmas * 1000, self.text_encoder(token_ids), return_dict=False)[0]
        return velocity


def train_generator(recipe: Recipe, stage: str, minutes: float | None, *, resume: bool) -> None:
    """Flow matching on single latent frames (`images`) or on whole clips (`clips`, which starts from `images`)."""
    is_clips = stage == "clips"
    torch.manual_seed(recipe.seed + is_clips)
    rng, caption_rng = np.random.default_rng(recipe.seed + is_clips), random.Random(recipe.seed + is_clips)
    latents = np.load(recipe.folder / "latents.npy")
    specs = load_specs(recipe.folder / "specs.json")
    model = Generator(recipe)
    outer = ("tokens", "positions", "patch_embedding", "proj_out", "condition_embedder.time", "scale_shift_table")
    lr_share = recipe.clips_lr_share if is_clips else 1.0
    optimiser = Muon(
        model.named_parameters(),
        lr=recipe.transformer_lr * lr_share,
        adamw_lr=recipe.transformer_adamw_lr * lr_share,
        outer=outer,
    )
    average = Average(model, recipe.average_decay)
    clock, step = Clock((minutes or (recipe.clips_minutes if is_clips else recipe.images_minutes)) * 60), 0
    path = recipe.folder / f"{stage}.pt"
    if resume and path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        clock.resume_at(state["spent_s"])
        step = state["step"]
    elif is_clips:
        start = torch.load(recipe.folder / "images.pt", weights_only=True)["average"]
        model.load_state_dict(start)
        average.module.load_state_dict(start)
    curve = Curve(recipe.folder / f"{stage}.csv", ("step", "seconds", "samples", "loss"))
    batch, shift = (recipe.clips_batch, recipe.clips_shift) if is_clips else (recipe.images_batch, recipe.images_shift)
    recent: list[float] = []
    saved_s = time.monotonic()
    while clock.progress < 1:
        x0, token_ids, weight = _sample_latents(latents, specs, batch, rng, caption_rng, is_clips=is_clips)
        loss = flow_matching_loss(model, x0, token_ids, weight, shift=shift)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(lr_factor(clock.progress, decay_share=0.6 if is_clips else 0.3))
        model.zero_grad(set_to_none=True)
        step += 1
        average.update(model, step)
        recent.append(loss.item())
        if curve.is_due():
            curve.add(step, clock.spent_s, step * batch, sum(recent) / len(recent))
            recent.clear()
        if time.monotonic() - saved_s > CHECKPOINT_EVERY_S or clock.progress >= 1:
            saved_s = time.monotonic()
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "average": average.module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "spent_s": clock.spent_s,
                },
            )


def _sample_latents(
    latents: Any,
    specs: list[SceneSpec],
    count: int,
    rng: np.random.Generator,
    caption_rng: random.Random,
    *,
    is_clips: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [B, C, 7 or 1, H, W], freshly captioned token ids [B, max_tokens], loss weights [B, 1, 1, H, W]."""
    chosen = rng.integers(len(specs), size=count)
    if is_clips:
        x0 = latents[chosen]
    else:
        # The first latent frame twice as often as another: it alone is a still, and the first thing that is seen.
        frame = np.maximum(rng.integers(-1, latents.shape[2], size=count), 0)
        x0 = latents[chosen, :, frame][:, :, None]
    token_ids = [draw_token_ids(specs[index], caption_rng) for index in chosen]
    weight = torch.stack([avg_pool2d(subject_weight(specs[index]), PIXELS_PER_LATENT) for index in chosen])
    return torch.from_numpy(x0).float(), pad_token_ids(token_ids, MAX_TOKENS), weight


def flow_matching_loss(model: Generator, x0: Tensor, token_ids: Tensor, weight: Tensor, *, shift: float) -> Tensor:
    """Weighted square error of the velocity at logit-normal sigmas, shifted towards noise as long clips need."""
    sigmas = torch.sigmoid(torch.randn(len(x0)))
    sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    noise = torch.randn_like(x0)
    velocity = model(torch.lerp(x0, noise, sigmas.view(-1, 1, 1, 1, 1)), sigmas, token_ids)
    loss: Tensor = ((velocity - (noise - x0)).square() * weight).mean()
    return loss


def export(recipe: Recipe, folder: Path = WEIGHTS_FOLDER) -> None:
    """Exports the averages of the newest stages there are; a stage that never ran is exported with random weights."""
    torch.manual_seed(recipe.seed)
    autoencoder = (
        load_autoencoder(recipe) if (recipe.folder / "autoencoder.pt").exists() else Autoencoder(recipe.autoencoder)
    )
    generator = Generator(recipe)
    newest = next((path for stage in ("clips", "images") if (path := recipe.folder / f"{stage}.pt").exists()), None)
    if newest is not None:
        generator.load_state_dict(torch.load(newest, weights_only=True)["average"])
    frames = torch.stack([render(spec) for spec in draw_specs(24, recipe.seed + 2)])
    with torch.no_grad():
        latents = autoencoder.eval().encoder.encode(frames)
    export_folder(
        folder,
        transformer=generator.transformer,
        text_encoder=generator.text_encoder,
        autoencoder=autoencoder,
        preview=fit_preview(latents, frames),
        settings={"fast": FAST, "fine": FINE},
        model_card=MODEL_CARD.read_text(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("autoencoder", "encode", "images", "clips", "export", "all"))
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="small")
    parser.add_argument("--minutes", type=float, help="the stage's budget, instead of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the stage's checkpoint")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.recipe]
    recipe.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.num_threads)
    stages = ("autoencoder", "encode", "images", "clips", "export") if arguments.stage == "all" else (arguments.stage,)
    for stage in stages:
        _run_stage(recipe, stage, arguments.minutes, resume=arguments.resume)


def _run_stage(recipe: Recipe, stage: str, minutes: float | None, *, resume: bool) -> None:
    if stage == "autoencoder":
        train_autoencoder(recipe, minutes, resume=resume)
    elif stage == "encode":
        encode_clips(recipe)
    elif stage == "export":
        export(recipe)
    else:
        train_generator(recipe, stage, minutes, resume=resume)


if __name__ == "__main__":
    main()

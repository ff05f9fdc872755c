"""The later stages of training: text encoder and transformer, on stills and then on clips, with flow matching.

Each visit of an example draws a new caption and completes the slots that it leaves open (`reading`). So the model is
always told all that can be seen, on stage as in training, and its first step from pure noise has one answer, not an
average of many.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from engine.embedded.lexicon import MAX_TOKENS, VOCABULARY_SIZE
from engine.embedded.modules import LATENT_CHANNELS, PIXELS_PER_LATENT, TextEncoder, TextEncoderConfig, pad_token_ids
from engine.embedded.reading import unconditional_tokens
from training.data.captions import draw_token_ids
from training.data.dataset import CLIPS, NUM_LATENT_FRAMES, Examples, load_examples, load_stills
from training.optim import Average, Muon, lr_factor
from training.train_autoencoder import NO_BOX, box_weights
from training.training import (
    Clock,
    Curve,
    Recipe,
    TrainingStage,
    compiled_if_worth_it,
    mixed_precision,
    optimiser_dtype,
)
from training.world.world import HEIGHT, WIDTH, subject_box

_OUTER = ("tokens", "positions", "patch_embedding", "proj_out", "condition_embedder.time", "scale_shift_table")
# A clip of four seconds is two rounds of one of two: latent frame 7 looks like 1, 8 like 2, and so on.
_ROUND = NUM_LATENT_FRAMES - 1
_LONG_SHARE = 0.2
# The share of the previous picture in each latent frame: a morph takes a second.
_MORPH_SHARES = (1.0, 0.84, 0.5, 0.16, 0.0, 0.0, 0.0)


class Generator(nn.Module):
    """The trained modules: the text encoder and diffusers' Wan transformer, unmodified."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        from diffusers import WanTransformer3DModel  # noqa: PLC0415

        self.text_encoder = TextEncoder(
            TextEncoderConfig(vocab_size=VOCABULARY_SIZE, text_dim=recipe.text_dim, max_tokens=MAX_TOKENS)
        )
        wan: Any = WanTransformer3DModel
        self.transformer: Any = wan(
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

    def load_folder(self, folder: Path) -> None:
        """Takes over an exported folder's weights; tokens that its vocabulary lacks start at random.

        Of a deeper transformer, it keeps blocks that are evenly spaced from the first to the last.
        """
        wan: Any = type(self.transformer)
        kept = wan.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
        kept.blocks = nn.ModuleList(
            kept.blocks[index] for index in spaced(len(kept.blocks), len(self.transformer.blocks))
        )
        self.transformer.load_state_dict(kept.state_dict())
        text = TextEncoder.from_pretrained(folder / "text_encoder").state_dict()
        tokens = self.text_encoder.tokens.weight.detach().clone()
        tokens[: len(text["tokens.weight"])] = text["tokens.weight"]
        self.text_encoder.load_state_dict({**text, "tokens.weight": tokens})

    def forward(self, latents: Tensor, timesteps: Tensor, token_ids: Tensor) -> Tensor:
        """Velocity of latents [B, C, T, H, W]; `timesteps` [B] or, per token, [B, T*H*W/4], in 0..1000."""
        velocity: Tensor = self.transformer(latents, timesteps, self.text_encoder(token_ids), return_dict=False)[0]
        return velocity


def spaced(count: int, kept: int) -> list[int]:
    """`kept` of `count` indices, evenly spaced, including the first and the last."""
    return [round(index * (count - 1) / max(1, kept - 1)) for index in range(kept)]


class FrameRope(nn.Module):
    """Rotary positions of single latent frames that are not the first of their clip. Holds no weights.

    So the images stage can learn each latent frame of a clip at a seventh of a clip's cost, in its own place in time.
    """

    def __init__(self, rope: Any) -> None:
        super().__init__()
        self._rope = rope
        self.frames: Tensor | None = None

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        frames, rope = self.frames, self._rope
        if frames is None:
            answer: tuple[Tensor, Tensor] = rope(latents)
            return answer
        height, width = latents.shape[3] // 2, latents.shape[4] // 2
        sizes = [rope.t_dim, rope.h_dim, rope.w_dim]

        def at(table: Tensor) -> Tensor:
            time, down, across = torch.split(table, sizes, dim=1)
            parts = (
                time[frames].view(-1, 1, 1, sizes[0]).expand(-1, height, width, -1),
                down[:height].view(1, height, 1, -1).expand(len(frames), -1, width, -1),
                across[:width].view(1, 1, width, -1).expand(len(frames), height, -1, -1),
            )
            return torch.cat(parts, -1).reshape(len(frames), height * width, 1, -1)

        return at(rope.freqs_cos), at(rope.freqs_sin)


@cache
def latent_weight(box: tuple[int, int, int, int] | None, subject_weight: float) -> Tensor:
    """[1, 1, h, w], mean 1: `box_weights` on the latent grid."""
    rows, columns = torch.arange(HEIGHT)[None], torch.arange(WIDTH)[None]
    return avg_pool2d(box_weights(torch.tensor([box or NO_BOX]), rows, columns, subject_weight)[0], PIXELS_PER_LATENT)


def motion_of(clips: Tensor) -> Tensor:
    """The change of each place of latents [B, C, T, h, w] over its clip: [B, 1, 1, h, w], mean 1."""
    change = clips.std(2, keepdim=True).mean(1, keepdim=True)
    return change / change.mean((3, 4), keepdim=True).clamp_min(1e-6)


class Batches:
    """Draws training batches from examples: latents, freshly drawn captions, loss weights."""

    def __init__(
        self, examples: Examples, seed: int, device: str, *, subject_weight: float, motion_weight: float = 0.0
    ) -> None:
        self._examples, self._device = examples, device
        self._rng = random.Random(seed)
        self._weights = torch.stack([latent_weight(subject_box(spec), subject_weight) for spec in examples.specs])
        self._motion_weight = motion_weight

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Latents [B, C, T, h, w], token ids [B, MAX_TOKENS], weights [B, 1, 1, h, w], and the stills' frames [B]."""
        chosen = [self._rng.randrange(len(self._examples)) for _ in range(count)]
        index = torch.tensor(chosen, device=self._examples.latents.device)
        x0 = self._examples.latents[index].to(self._device).float()
        specs = [self._examples.specs[row] for row in chosen]
        token_ids = pad_token_ids([draw_token_ids(spec, self._rng) for spec in specs], MAX_TOKENS)
        weight = self._weights[torch.tensor(chosen)].to(self._device)
        if self._motion_weight:
            weight = weight * (1 + self._motion_weight * motion_of(x0))
            weight = weight / weight.mean((3, 4), keepdim=True)
        frames = None
        if self._examples.frames is not None:
            frames = self._examples.frames[torch.tensor(chosen)]
            is_later = (torch.rand(count) < _LONG_SHARE) & (frames > 0)
            frames = frames + _ROUND * is_later
        return x0, token_ids.to(self._device), weight, frames

    def with_another_before(self, x0: Tensor) -> Tensor:
        """The clips as they follow another clip: they start from its first picture and dissolve into themselves.

        Two of five follow themselves, as `continue` needs it.
        """
        others = [self._rng.randrange(len(self._examples)) for _ in range(len(x0))]
        before = self._examples.latents[torch.tensor(others, device=self._examples.latents.device)]
        shares = x0.new_tensor(_MORPH_SHARES).view(1, 1, -1, 1, 1).repeat(len(x0), 1, 1, 1, 1)
        shares[torch.tensor([self._rng.random() < 0.4 for _ in range(len(x0))])] = 0.0
        return torch.lerp(x0, before.to(x0), shares)


def train_images(
    recipe: Recipe, *, minutes: float | None, slice_minutes: float | None, resume: bool, start_from: Path | None = None
) -> None:
    """Single latent frames, each at its own place in time. `start_from`: a weights folder to begin with."""
    examples = load_stills(recipe)
    model = Generator(recipe).to(recipe.device)
    if start_from is not None:
        model.load_folder(start_from)
    rope = FrameRope(model.transformer.rope)
    model.transformer.rope = rope
    clock = Clock.of_minutes(minutes or recipe.images_minutes, slice_minutes)
    lr_share = 1.0 if start_from is None else recipe.restart_lr_share
    stage, optimiser = prepare(recipe, "images", model, clock, lr_share=lr_share, resume=resume)
    batches = Batches(
        examples, recipe.seed + 10 + stage.step, recipe.device, subject_weight=recipe.images_subject_weight
    )
    compiled = _compiled(recipe, model)
    curve = Curve(recipe.folder / "images.csv", ("step", "seconds", "samples", "loss"))
    recent: list[Tensor] = []
    for step in stage.steps():
        x0, token_ids, weight, frames = batches.draw(recipe.images_batch)
        assert frames is not None
        rope.frames = frames.to(recipe.device)
        sigmas = draw_sigmas(len(x0), recipe.images_shift, recipe.device)
        sigmas[: round(recipe.images_noise_share * len(x0))] = 1.0
        noise = torch.randn_like(x0)
        with mixed_precision(recipe):
            velocity = compiled(_noisy(x0, noise, sigmas), sigmas * 1000, token_ids)
        loss = ((velocity.float() - (noise - x0)).square() * weight).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(lr_factor(clock.progress, decay_share=0.6))
        model.zero_grad(set_to_none=True)
        log_loss(curve, recent, loss, step, clock, recipe.images_batch)


def train_clips(
    recipe: Recipe, *, minutes: float | None, slice_minutes: float | None, resume: bool, start_from: Path | None = None
) -> None:
    """Whole clips; every other batch follows another picture, given as a clean first latent frame at timestep 0.

    It folds in guidance of `clips_guidance`: on stage, one forward a step then gives the result of two. `start_from`:
    the weights folder to begin with, if the run has no images stage.
    """
    examples = load_examples(recipe.folder / CLIPS, recipe.device)
    model = Generator(recipe)
    after_images = (recipe.folder / "images.pt").exists()
    if start_from is not None and not after_images:
        model.load_folder(start_from)
    model = model.to(recipe.device)
    clock = Clock.of_minutes(minutes or recipe.clips_minutes, slice_minutes)
    stage, optimiser = prepare(
        recipe,
        "clips",
        model,
        clock,
        lr_share=recipe.clips_lr_share,
        resume=resume,
        after="images" if after_images or start_from is None else None,
    )
    batches = Batches(
        examples,
        recipe.seed + 20 + stage.step,
        recipe.device,
        subject_weight=recipe.clips_subject_weight,
        motion_weight=recipe.clips_motion_weight,
    )
    nothing = pad_token_ids([unconditional_tokens()], MAX_TOKENS).to(recipe.device)
    compiled = _compiled(recipe, model)
    curve = Curve(recipe.folder / "clips.csv", ("step", "seconds", "samples", "loss"))
    recent: list[Tensor] = []
    for step in stage.steps():
        x0, token_ids, weight, is_given = draw_clips(batches, recipe.clips_batch, step)
        sigmas = draw_sigmas(len(x0), recipe.clips_shift, recipe.device)
        sigmas[: round(recipe.clips_noise_share * len(x0))] = 1.0
        noise = torch.randn_like(x0)
        noisy = _noisy(x0, noise, sigmas)
        if is_given:
            noisy = with_first_given(noisy, x0)
        timesteps = timesteps_of(noisy, sigmas, is_given=is_given)
        # Compiling takes a minute for each shape, so only the common shape is compiled.
        is_common = not is_given and x0.shape[2] == NUM_LATENT_FRAMES
        run = compiled if is_common else model
        with mixed_precision(recipe):
            velocity = run(noisy, timesteps, token_ids)
        target = noise - x0
        if recipe.clips_guidance != 1:
            with torch.no_grad(), mixed_precision(recipe):
                without_text = run(noisy, timesteps, nothing.expand_as(token_ids))
            target = guided_target(target, velocity, without_text, recipe.clips_guidance)
        loss = ((velocity.float() - target).square() * weight).mean()
        loss.backward()
        optimiser.step(lr_factor(clock.progress, decay_share=0.7))
        model.zero_grad(set_to_none=True)
        log_loss(curve, recent, loss, step, clock, recipe.clips_batch)


def draw_clips(batches: Batches, count: int, step: int) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Clips [B, C, T, h, w], token ids, loss weights, and whether another clip gives their first latent frame.

    Every other batch follows another picture. One batch of eight, half as large, has clips of four seconds.
    """
    is_long, is_given = step % 8 == 4, step % 2 == 1
    x0, token_ids, weight, _ = batches.draw(count // (2 if is_long else 1))
    if is_long:
        x0 = torch.cat([x0, x0[:, :, 1:]], 2)
    if is_given:
        x0 = batches.with_another_before(x0)
        weight = weight.expand(-1, -1, x0.shape[2], -1, -1).clone()
        weight[:, :, 0] = 0
    return x0, token_ids, weight, is_given


def with_first_given(noisy: Tensor, x0: Tensor) -> Tensor:
    """Latents [B, C, T, h, w] with the clean first latent frame of `x0`."""
    return torch.cat([x0[:, :, :1], noisy[:, :, 1:]], 2)


def timesteps_of(latents: Tensor, sigmas: Tensor, *, is_given: bool) -> Tensor:
    """Timesteps of `sigmas` [B]: [B], or [B, T*h*w/4] per token if the first latent frame is given: 0 for that one."""
    if not is_given:
        return sigmas * 1000
    timesteps = (sigmas * 1000).view(-1, 1, 1).repeat(1, latents.shape[2], latents.shape[3] * latents.shape[4] // 4)
    timesteps[:, 0] = 0
    return timesteps.flatten(1)


def guided_target(target: Tensor, conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """The target that teaches the model to answer as guidance of `scale` would (all [B, ...]).

    From the model's own two answers (Tang et al. 2025, "Diffusion models without classifier-free guidance"). Where
    conditional = target + w (conditional - unconditional), it is unconditional + (target - unconditional) / (1 - w).
    """
    return target + (1 - 1 / scale) * (conditional.detach().float() - unconditional.detach().float())


def draw_sigmas(count: int, shift: float, device: str) -> Tensor:
    """Uniform, shifted towards noise: a short schedule cannot repair what the first steps decide."""
    uniform = torch.rand(count, device=device)
    return shift * uniform / (1 + (shift - 1) * uniform)


def _compiled(recipe: Recipe, model: Generator) -> Callable[..., Tensor]:
    return compiled_if_worth_it(recipe, model) if recipe.compiles_transformer else model


def _noisy(x0: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    return torch.lerp(x0, noise, sigmas.view(-1, 1, 1, 1, 1))


def prepare(
    recipe: Recipe,
    name: str,
    model: Generator,
    clock: Clock,
    *,
    lr_share: float,
    resume: bool,
    after: str | None = None,
) -> tuple[TrainingStage, Muon]:
    """The stage with its optimiser. A new stage starts from the averaged weights of stage `after`."""
    optimiser = Muon(
        model.named_parameters(),
        lr=recipe.transformer_lr * lr_share,
        adamw_lr=recipe.transformer_adamw_lr * lr_share,
        outer=_OUTER,
        dtype=optimiser_dtype(recipe),
    )
    average = Average(model, recipe.average_decay)
    stage = TrainingStage(recipe.folder / f"{name}.pt", model, average, optimiser, clock, resume=resume)
    if after is not None and not stage.was_resumed:
        start = torch.load(recipe.folder / f"{after}.pt", weights_only=True, map_location=recipe.device)["average"]
        model.load_state_dict(start)
        average.module.load_state_dict(start)
    return stage, optimiser


def log_loss(curve: Curve, recent: list[Tensor], loss: Tensor, step: int, clock: Clock, batch: int) -> None:
    """Keeps the loss until a reading is due, then adds their mean to the curve."""
    recent.append(loss.detach())
    if curve.is_due():
        curve.add(step, clock.spent_s, step * batch, float(torch.stack(recent).mean()))
        recent.clear()


def load_generator(recipe: Recipe, stage: str) -> Generator:
    """The averaged weights of a stage, on the CPU."""
    model = Generator(recipe)
    state = torch.load(recipe.folder / f"{stage}.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(state["average"])
    return model.eval()

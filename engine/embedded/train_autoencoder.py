"""The first stage of training: the autoencoder, on pictures that are rendered while it learns."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor

from engine.embedded.modules import FRAMES_PER_LATENT, Autoencoder, Decoder, Encoder
from engine.embedded.optim import Average, Muon, lr_factor
from engine.embedded.spec import SceneSpec, draw_spec
from engine.embedded.training import Clock, Curve, Recipe, Stage, compiled_if_worth_it, mixed_precision, optimiser_dtype
from engine.embedded.world import HEIGHT, PERIOD_FRAMES, WIDTH, render, subject_box

SUBJECT_WEIGHT = 2.5
_CROP_HEIGHT, _CROP_WIDTH = HEIGHT // 2, WIDTH // 2


class RenderPool:
    """Groups of frames out of fresh clips, the oldest replaced first: endless data without waiting for the renderer.

    An entry is eight consecutive frames, uint8 [8, 3, H, W], from a random time of a random clip, and the box of its
    subject.
    """

    def __init__(self, size: int, seed: int, device: str) -> None:
        self._rng = random.Random(seed)
        self._size, self._device = size, device
        self._entries: list[tuple[Tensor, tuple[int, int, int, int] | None]] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, count: int) -> None:
        for _ in range(count):
            entry = self._rendered(draw_spec(self._rng))
            if len(self._entries) < self._size:
                self._entries.append(entry)
            else:
                self._entries[self._next % self._size] = entry
                self._next += 1

    def _rendered(self, spec: SceneSpec) -> tuple[Tensor, tuple[int, int, int, int] | None]:
        start = self._rng.randrange(PERIOD_FRAMES)
        frames = render(spec, range(start, start + 2 * FRAMES_PER_LATENT), device=self._device)
        return (frames * 255 + 0.5).to(torch.uint8), subject_box(spec)

    def crops(self, count: int, *, height: int = _CROP_HEIGHT, width: int = _CROP_WIDTH) -> tuple[Tensor, ...]:
        """Groups and the groups before them [B, 4, 3, h, w], who has one [B], loss weights [B, 1, 1, h, w]."""
        groups, before, has_previous, weights = [], [], [], []
        for _ in range(count):
            frames, box = self._rng.choice(self._entries)
            top, left = self._corner(box, height, width)
            cut = frames[:, :, top : top + height, left : left + width].float().div_(255)
            earlier, group = torch.split(cut, FRAMES_PER_LATENT)
            is_first = self._rng.random() < 1 / 7
            if is_first:
                group = group[:1].expand_as(group)
            elif self._rng.random() < 1 / 6:
                earlier = earlier[-1:].expand_as(earlier)  # the group after the first one
            groups.append(group)
            before.append(earlier)
            has_previous.append(0.0 if is_first else 1.0)
            weights.append(box_weight(box, self._device)[..., top : top + height, left : left + width])
        return (
            torch.stack(groups),
            torch.stack(before),
            torch.tensor(has_previous, device=self._device),
            torch.stack(weights),
        )

    def _corner(self, box: tuple[int, int, int, int] | None, height: int, width: int) -> tuple[int, int]:
        """A crop's corner on the latent grid; two of three crops look at the subject, if there is one."""
        top_range, left_range = (HEIGHT - height) // 16, (WIDTH - width) // 16
        if box is None or self._rng.random() < 1 / 3:
            return 16 * self._rng.randint(0, top_range), 16 * self._rng.randint(0, left_range)
        x0, y0, x1, y1 = box
        top = round(((y0 + y1) / 2 - height / 2) / 16) + self._rng.randint(-2, 2)
        left = round(((x0 + x1) / 2 - width / 2) / 16) + self._rng.randint(-3, 3)
        return 16 * min(top_range, max(0, top)), 16 * min(left_range, max(0, left))


def box_weight(
    box: tuple[int, int, int, int] | None, device: str = "cpu", *, subject_weight: float = SUBJECT_WEIGHT
) -> Tensor:
    """[1, 1, H, W], mean 1: subjects cover a tenth of the picture and draw all the looks, so they weigh more."""
    weight = torch.ones(1, 1, HEIGHT, WIDTH, device=device)
    if box is not None:
        x0, y0, x1, y1 = box
        weight[..., y0:y1, x0:x1] = subject_weight
    return weight / weight.mean()


def train_autoencoder(
    recipe: Recipe, *, minutes: float | None, slice_minutes: float | None, resume: bool, start_from: Path | None
) -> None:
    """`start_from`: a weights folder to begin with instead of random numbers."""
    model = Autoencoder(recipe.autoencoder)
    if start_from is not None:
        load_folder(model, start_from)
    model = model.to(recipe.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = Muon(
        model.named_parameters(),
        lr=recipe.autoencoder_lr,
        adamw_lr=recipe.autoencoder_adamw_lr,
        outer=("encoder.layers.1.",),
        dtype=optimiser_dtype(recipe),
    )
    average = Average(model, recipe.autoencoder_average_decay)
    clock = Clock.of_minutes(minutes or recipe.autoencoder_minutes, slice_minutes)
    stage = Stage(recipe.folder / "autoencoder.pt", model, average, optimiser, clock, resume=resume)
    pool = RenderPool(recipe.render_pool, recipe.seed + stage.step, recipe.device)
    pool.add(min(recipe.render_pool, 120))
    held_back = RenderPool(24, 99, recipe.device)
    held_back.add(24)
    validation = held_back.crops(24, height=HEIGHT, width=WIDTH)
    if not stage.was_resumed:
        calibrate(model, pool, num_batches=recipe.calibration_batches)
    compiled = compiled_if_worth_it(recipe, model)
    curve = Curve(recipe.folder / "autoencoder.csv", ("step", "seconds", "loss", "psnr", "average_psnr"))
    for _ in stage.steps():
        pool.add(recipe.renders_per_step if len(pool) == recipe.render_pool else 2 * recipe.renders_per_step)
        groups, previous, has_previous, weight = pool.crops(recipe.autoencoder_batch)
        model.train()
        with mixed_precision(recipe):
            decoded = compiled(groups, previous, has_previous, recipe.latent_noise)
        loss = reconstruction_loss(decoded.float(), groups, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(lr_factor(clock.progress, decay_share=0.8))
        model.zero_grad(set_to_none=True)
        if curve.is_due():
            psnr = _psnr(decoded.detach().float(), groups)
            curve.add(stage.step, clock.spent_s, loss.item(), psnr, _validation_psnr(average.module, validation))


def reconstruction_loss(decoded: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1, plus L1 of spatial gradients for edges, of temporal differences for calm, and a little square error."""
    error = decoded - target
    across = ((error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]).mean()
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
    temporal = ((error[:, 1:] - error[:, :-1]).abs() * weight).mean()
    return (error.abs() * weight).mean() + across + down + 0.5 * temporal + 2.0 * (error.square() * weight).mean()


@torch.no_grad()
def calibrate(model: Autoencoder, pool: RenderPool, *, num_batches: int) -> None:
    """Where the running statistics of the latents begin. Later they run along, and the averaged weights share them."""
    standardise = model.encoder.standardise
    momentum, standardise.momentum = standardise.momentum, None
    standardise.reset_running_stats()
    standardise.train()
    for _ in range(num_batches):
        model.encoder(pool.crops(4, height=HEIGHT, width=WIDTH)[0])
    standardise.eval()
    standardise.momentum = momentum


@torch.no_grad()
def _validation_psnr(model: Autoencoder, validation: tuple[Tensor, ...]) -> float:
    groups, previous, has_previous, _ = validation
    return _psnr(model.eval()(groups, previous, has_previous, 0.0).clamp(0, 1), groups)


def _psnr(decoded: Tensor, target: Tensor) -> float:
    return float(-10 * torch.log10((decoded - target).square().mean()))


def load_folder(model: Autoencoder, folder: Path) -> None:
    """Takes over an exported folder's weights."""
    model.encoder.load_state_dict(Encoder.from_pretrained(folder / "encoder").state_dict())
    model.decoder.load_state_dict(Decoder.from_pretrained(folder / "decoder").state_dict())


def load_autoencoder(recipe: Recipe, start_from: Path | None = None) -> Autoencoder:
    """The averaged weights of the run's autoencoder stage; an exported folder's where the run has none of its own."""
    autoencoder = Autoencoder(recipe.autoencoder)
    path = recipe.folder / "autoencoder.pt"
    if start_from is not None and not path.exists():
        load_folder(autoencoder, start_from)
    else:
        autoencoder.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    return autoencoder.eval()

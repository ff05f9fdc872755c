"""The first stage of training: the autoencoder, on pictures that are rendered while it learns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread

import torch
from torch import Tensor

from engine.embedded.modules import FRAMES_PER_LATENT, Autoencoder, Decoder, Encoder
from engine.embedded.spec import SceneSpec, draw_spec
from training.data import clip_files
from training.data.clip_files import to_uint8
from training.data.dataset import RENDERS
from training.optim import Average, Muon, lr_factor
from training.training import (
    Clock,
    Curve,
    Recipe,
    TrainingStage,
    compiled_if_worth_it,
    mixed_precision,
    optimiser_dtype,
)
from training.world.world import HEIGHT, PERIOD_FRAMES, WIDTH, render, subject_box

SUBJECT_WEIGHT = 2.5
NO_BOX = (0, 0, 0, 0)
_CROP_HEIGHT, _CROP_WIDTH = HEIGHT // 2, WIDTH // 2


class RenderPool:
    """Frames of fresh clips, the oldest replaced first: endless data without waiting for the renderer.

    An entry is `num_frames` frames, uint8 [F, 3, H, W], and the box of its subject. A crop needs eight consecutive
    frames from a random time of a clip, so eight are the cheapest to render. 24 are a whole clip, which is a ring.
    """

    def __init__(self, size: int, seed: int, device: str, *, num_frames: int = 2 * FRAMES_PER_LATENT) -> None:
        self._rng = random.Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self.size = size
        self._device, self._num_frames = device, num_frames
        self._frames = torch.empty(size, num_frames, 3, HEIGHT, WIDTH, dtype=torch.uint8, device=device)
        self._boxes = torch.zeros(size, 4, dtype=torch.int64)
        self._num_put = 0

    def __len__(self) -> int:
        return min(self._num_put, self.size)

    def add(self, count: int) -> None:
        """Renders and puts `count` entries."""
        for _ in range(count):
            spec = draw_spec(self._rng)
            start = self._rng.randrange(PERIOD_FRAMES)
            self.put(to_uint8(render(spec, range(start, start + self._num_frames)))[None], [spec])

    def put(self, frames: Tensor, specs: list[SceneSpec]) -> None:
        """Frames [N, F, 3, H, W] of `specs`."""
        for entry, spec in zip(frames, specs, strict=True):
            row = self._num_put % self.size
            self._frames[row] = entry.to(self._device)
            self._boxes[row] = torch.tensor(subject_box(spec) or NO_BOX)
            self._num_put += 1

    def crops(self, count: int, *, height: int = _CROP_HEIGHT, width: int = _CROP_WIDTH) -> tuple[Tensor, ...]:
        """Groups and the groups before them [B, 4, 3, h, w], which have one [B], loss weights [B, 1, 1, h, w]."""
        chosen = self._integers(0, len(self), count)
        boxes = self._boxes[chosen]
        tops, lefts = self._corners(boxes, height, width)
        is_ring = self._num_frames == PERIOD_FRAMES
        start = self._integers(0, PERIOD_FRAMES if is_ring else self._num_frames - 2 * FRAMES_PER_LATENT + 1, count)
        indices = (start[:, None] + torch.arange(2 * FRAMES_PER_LATENT)) % self._num_frames
        before, group = torch.split(indices, FRAMES_PER_LATENT, 1)
        is_first = self._chances(1 / 7, count)
        follows_first = ~is_first & self._chances(1 / 6, count)  # the group after the first one
        group = torch.where(is_first[:, None], group[:, :1], group)
        before = torch.where(follows_first[:, None], before[:, -1:], before)
        rows, columns = tops[:, None] + torch.arange(height), lefts[:, None] + torch.arange(width)
        where = (
            chosen.view(-1, 1, 1, 1, 1),
            torch.cat([before, group], 1).view(count, -1, 1, 1, 1),
            torch.arange(3).view(1, 1, -1, 1, 1),
            rows.view(count, 1, 1, -1, 1),
            columns.view(count, 1, 1, 1, -1),
        )
        cut = self._frames[tuple(index.to(self._device) for index in where)].float().div_(255)
        earlier, now = torch.split(cut, FRAMES_PER_LATENT, 1)
        weights = box_weights(boxes.to(self._device), rows.to(self._device), columns.to(self._device), SUBJECT_WEIGHT)
        return now, earlier, (~is_first).float().to(self._device), weights

    def _corners(self, boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Corners of the crops on the latent grid, [B] each. Two of three crops show the subject, if there is one."""
        count = len(boxes)
        top_range, left_range = (HEIGHT - height) // 16, (WIDTH - width) // 16
        anywhere_top, anywhere_left = self._integers(0, top_range + 1, count), self._integers(0, left_range + 1, count)
        x0, y0, x1, y1 = boxes.T
        around_top = ((y0 + y1 - height) / 32).round().long() + self._integers(-2, 3, count)
        around_left = ((x0 + x1 - width) / 32).round().long() + self._integers(-3, 4, count)
        looks = (x1 > x0) & self._chances(2 / 3, count)
        top = torch.where(looks, around_top, anywhere_top).clamp(0, top_range)
        left = torch.where(looks, around_left, anywhere_left).clamp(0, left_range)
        return 16 * top, 16 * left

    def _integers(self, low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=self._generator)

    def _chances(self, chance: float, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator) < chance


def box_weights(boxes: Tensor, rows: Tensor, columns: Tensor, subject_weight: float) -> Tensor:
    """Loss weights of crops, [B, 1, 1, h, w], mean 1 over the whole picture. Boxes [B, 4], rows [B, h], columns [B, w].

    Subjects cover a tenth of the picture and draw all the looks, so they weigh more.
    """
    x0, y0, x1, y1 = (edge.view(-1, 1) for edge in boxes.T)
    inside = ((rows >= y0) & (rows < y1))[:, :, None] & ((columns >= x0) & (columns < x1))[:, None, :]
    mean = 1 + (subject_weight - 1) * (x1 - x0) * (y1 - y0) / (HEIGHT * WIDTH)
    weights: Tensor = (1 + (subject_weight - 1) * inside) / mean[:, :, None]
    return weights[:, None, None]


def train_autoencoder(
    recipe: Recipe, *, minutes: float | None, slice_minutes: float | None, resume: bool, start_from: Path | None
) -> None:
    """`start_from`: a weights folder to begin with instead of random numbers."""
    model = new_autoencoder(recipe)
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
    stage = TrainingStage(recipe.folder / "autoencoder.pt", model, average, optimiser, clock, resume=resume)
    seed = recipe.seed + stage.step
    if recipe.renders_ahead:
        pool = RenderPool(recipe.render_pool, seed, recipe.device, num_frames=PERIOD_FRAMES)
    else:
        pool = RenderPool(recipe.render_pool, seed, recipe.device)
        pool.add(min(recipe.render_pool, 120))
    held_back = RenderPool(24, 99, recipe.device)
    held_back.add(24)
    validation = held_back.crops(24, height=HEIGHT, width=WIDTH)
    with filled_from(recipe.folder / RENDERS, pool) if recipe.renders_ahead else nullcontext():
        if not stage.was_resumed:
            calibrate(model, pool, num_batches=recipe.calibration_batches)
        compiled = compiled_if_worth_it(recipe, model)
        curve = Curve(recipe.folder / "autoencoder.csv", ("step", "seconds", "loss", "psnr", "average_psnr"))
        for _ in stage.steps():
            if not recipe.renders_ahead:
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


@contextmanager
def filled_from(folder: Path, pool: RenderPool) -> Iterator[Thread]:
    """Fills the pool with the clips in `folder`, also with clips that arrive meanwhile. Waits for the first file.

    A file that cannot be read raises here: at once if it is the first, otherwise at the end.
    """
    stopped, has_begun = Event(), Event()
    errors: list[Exception] = []

    def fill() -> None:
        index = 0
        try:
            while not stopped.is_set() and len(pool) < pool.size:
                path = clip_files.path_of(folder, index)
                if path.exists():
                    pool.put(*clip_files.read(path))
                    has_begun.set()
                    index += 1
                else:
                    stopped.wait(0.2)
        except Exception as error:
            errors.append(error)
        finally:
            has_begun.set()

    thread = Thread(target=fill, name="clip files")
    thread.start()
    try:
        if not clip_files.path_of(folder, 0).exists():
            print(f"waiting for clips in {folder}: the stage `renders` makes them", flush=True)
        has_begun.wait()
        if len(pool):
            yield thread
    finally:
        stopped.set()
        thread.join()
    if errors:
        raise errors[0]


def reconstruction_loss(decoded: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1, plus L1 of spatial gradients for edges and of temporal differences against flicker, plus a square error."""
    error = decoded - target
    across = ((error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]).mean()
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
    temporal = ((error[:, 1:] - error[:, :-1]).abs() * weight).mean()
    return (error.abs() * weight).mean() + across + down + 0.5 * temporal + 4.0 * (error.square() * weight).mean()


@torch.no_grad()
def calibrate(model: Autoencoder, pool: RenderPool, *, num_batches: int) -> None:
    """Sets the first running statistics of the latents. Training updates them later; the averaged weights copy them."""
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
    """Takes over an exported folder's weights; a decoder of another shape is left as it is."""
    model.encoder.load_state_dict(Encoder.from_pretrained(folder / "encoder").state_dict())
    decoder = Decoder.from_pretrained(folder / "decoder")
    if decoder.config == model.decoder.config:
        model.decoder.load_state_dict(decoder.state_dict())


def new_autoencoder(recipe: Recipe) -> Autoencoder:
    return Autoencoder(recipe.autoencoder, recipe.decoder)


def load_autoencoder(recipe: Recipe, start_from: Path | None = None) -> Autoencoder:
    """The averaged weights of the run's autoencoder stage; without that stage, those of the folder, in its shape."""
    path = recipe.folder / "autoencoder.pt"
    if start_from is not None and not path.exists():
        encoder = Encoder.from_pretrained(start_from / "encoder")
        decoder = Decoder.from_pretrained(start_from / "decoder")
        autoencoder = Autoencoder(encoder.config, decoder.config)
        autoencoder.encoder, autoencoder.decoder = encoder, decoder
    else:
        autoencoder = new_autoencoder(recipe)
        autoencoder.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    return autoencoder.eval()

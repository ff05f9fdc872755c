"""The common part of all training stages: recipes, wall-clock budgets, curves, checkpoints, use of the machine."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from engine.embedded.modules import AutoencoderConfig
from training.optim import Average, Muon

CHECKPOINT_EVERY_S = 100.0
LOG_EVERY_S = 20.0


@dataclass(frozen=True)
class Recipe:
    """Sizes and budgets. Budgets are wall-clock time: on a busy machine the model sees less data, but is not later."""

    folder: Path
    seed: int = 7
    device: str = "cpu"
    num_threads: int = 2
    # Only if the processor has bf16 products: they halve the time; without them bf16 is emulated and slower.
    uses_bf16: bool = True
    compiles: bool = True
    compiles_transformer: bool = True
    # A GPU would wait for a renderer in its own process, so `num_renderers` processes fill files beside the training.
    renders_ahead: bool = False
    num_renderers: int = 2
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    # Smaller than the encoder, because only the decoder runs while a viewer waits.
    decoder: AutoencoderConfig = field(
        default_factory=lambda: AutoencoderConfig(channels=(48, 96, 224), output_kernel=1)
    )
    autoencoder_batch: int = 10
    autoencoder_minutes: float = 60.0
    # Fresh renders per step, which replace the oldest pictures in the pool.
    renders_per_step: int = 1
    render_pool: int = 500
    calibration_batches: int = 24
    latent_noise: float = 0.06
    autoencoder_lr: float = 0.004
    autoencoder_adamw_lr: float = 8e-4
    autoencoder_average_decay: float = 0.99
    num_stills: int = 8000
    # The model learns scenes early; their subjects need more samples.
    stills_subject_share: float = 0.9
    num_clips: int = 1000
    text_dim: int = 128
    num_layers: int = 6
    num_heads: int = 4
    ffn_dim: int = 1024
    transformer_lr: float = 0.02
    transformer_adamw_lr: float = 2e-3
    images_batch: int = 24
    images_minutes: float = 240.0
    images_shift: float = 3.0
    # In pure noise the words alone decide: nothing teaches them faster, and every clip begins there.
    images_noise_share: float = 0.3
    images_subject_weight: float = 6.0
    clips_batch: int = 8
    # The model learns scenes first; after that, most errors are in the subject.
    clips_subject_weight: float = 6.0
    clips_minutes: float = 40.0
    clips_shift: float = 3.0
    clips_noise_share: float = 0.0
    # Folded in by the clips stage: without guidance clips look soft, at 1.5 sharper than the autoencoder draws.
    clips_guidance: float = 1.25
    # Extra loss weight of moving places: sails and tails are only a few cells, and smear.
    clips_motion_weight: float = 0.0
    # Later stages, and those that start from a weights folder, must not unlearn what they start with.
    restart_lr_share: float = 0.6
    clips_lr_share: float = 0.5
    few_steps_minutes: float = 5.0
    few_steps_lr_share: float = 0.15
    few_steps_batch: int = 8
    few_steps_method: str = "progressive"
    few_steps_guidance: float = 1.0
    average_decay: float = 0.998


# The recipe of the shipped model: small enough for two cores to draw while the show is on. It takes a quarter of an
# hour of one large GPU, from the weights before (`--start-from`), without the images stage. The budgets fit the time
# for which we had an H100.
_SHIPPED = Recipe(
    folder=Path("runs/embedded-shipped"),
    device="cuda",
    num_threads=14,
    compiles_transformer=False,
    renders_ahead=True,
    num_renderers=14,
    autoencoder_batch=64,
    autoencoder_minutes=2.4,
    render_pool=4000,
    num_clips=16_000,
    images_batch=512,
    images_minutes=3.0,
    clips_batch=96,
    clips_minutes=2.7,
    clips_noise_share=0.25,
    clips_lr_share=0.75,
    few_steps_batch=64,
)

RECIPES = {
    "small": Recipe(folder=Path("runs/embedded-small")),
    "shipped": _SHIPPED,
    # The largest model that fits a package of 48 MiB, too large for two cores: about an hour of one large GPU in slices
    # of ten minutes, each resumed from the one before.
    "full": replace(
        _SHIPPED,
        folder=Path("runs/embedded-full"),
        autoencoder_minutes=12.0,
        num_clips=40_000,
        num_layers=8,
        num_heads=6,
        ffn_dim=1216,
        images_minutes=12.0,
        clips_minutes=25.0,
        clips_lr_share=0.5,
        few_steps_minutes=8.0,
        average_decay=0.9995,
        clips_motion_weight=2.0,
    ),
    # `full` at a size that two cores finish in minutes. It only shows that the recipe runs to the end.
    "full-rehearsal": Recipe(
        folder=Path("runs/embedded-full-rehearsal"),
        renders_ahead=True,
        autoencoder=AutoencoderConfig(channels=(32, 48, 64), num_blocks=(1, 1, 1)),
        decoder=AutoencoderConfig(channels=(24, 32, 64), num_blocks=(1, 1, 1), output_kernel=1),
        autoencoder_batch=4,
        autoencoder_minutes=0.5,
        render_pool=40,
        calibration_batches=4,
        num_clips=16,
        num_layers=2,
        num_heads=6,
        ffn_dim=256,
        compiles=False,
        images_batch=16,
        images_minutes=0.5,
        clips_batch=4,
        clips_minutes=0.5,
        few_steps_minutes=0.5,
        few_steps_batch=4,
        clips_motion_weight=2.0,
    ),
}


class Clock:
    """A stage's wall-clock budget, across interruptions: `spent_s` is kept in its checkpoints."""

    def __init__(self, budget_s: float, *, slice_s: float | None = None) -> None:
        """`slice_s`: this run stops after so many seconds even if the budget is not spent; a later run continues."""
        self.budget_s = budget_s
        self._slice_s = slice_s
        self._before_s = 0.0
        self._started_s = time.monotonic()

    @classmethod
    def of_minutes(cls, budget: float, slice_minutes: float | None) -> Clock:
        return cls(budget * 60, slice_s=None if slice_minutes is None else slice_minutes * 60)

    @property
    def spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._started_s

    @property
    def progress(self) -> float:
        return min(1.0, self.spent_s / self.budget_s)

    @property
    def is_over(self) -> bool:
        slice_is_over = self._slice_s is not None and time.monotonic() - self._started_s > self._slice_s
        return self.progress >= 1 or slice_is_over

    def start(self) -> None:
        """Starts the clock; a stage's preparations before this do not count."""
        self._started_s = time.monotonic()

    def resume_at(self, spent_s: float) -> None:
        self._before_s = spent_s
        self.start()


class Curve:
    """A CSV of a stage's progress. A resumed stage appends to it; each line is also printed."""

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
    """Replaces the file in one move, so that an interruption leaves the last file intact."""
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.rename(path)


ModuleT = TypeVar("ModuleT", bound=nn.Module)


class TrainingStage:
    """One stage's loop: counts steps, saves and resumes model, average, optimiser and time spent."""

    def __init__(
        self, path: Path, model: nn.Module, average: Average[Any], optimiser: Muon, clock: Clock, *, resume: bool
    ) -> None:
        self._path = path
        self._model, self._average, self._optimiser, self._clock = model, average, optimiser, clock
        self.step = 0
        self.was_resumed = resume and path.exists()
        self._saved_s = time.monotonic()
        if self.was_resumed:
            state = torch.load(path, weights_only=True)
            model.load_state_dict(state["model"])
            average.module.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            clock.resume_at(state["spent_s"])
            self.step = state["step"]

    def steps(self) -> Iterator[int]:
        """Yields until the clock is over; the body is one training step. Saves every `CHECKPOINT_EVERY_S`, and last.

        The shortest slice is one step, so that slices of any length reach the end.
        """
        self._clock.start()
        was_here = False
        while self._clock.progress < 1 and not (was_here and self._clock.is_over):
            yield self.step
            was_here = True
            self.step += 1
            self._average.update(self._model, self.step)
            if time.monotonic() - self._saved_s > CHECKPOINT_EVERY_S or self._clock.is_over:
                self.save()

    def save(self) -> None:
        self._saved_s = time.monotonic()
        save_checkpoint(
            self._path,
            {
                "model": self._model.state_dict(),
                "average": self._average.module.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
                "spent_s": self._clock.spent_s,
            },
        )


def computes_in_bf16(recipe: Recipe) -> bool:
    """Whether the recipe wants bf16 and the processor has it."""
    has_it = recipe.device != "cpu" or bool(torch.cpu._is_avx512_bf16_supported())
    return recipe.uses_bf16 and has_it


def mixed_precision(recipe: Recipe) -> AbstractContextManager[Any]:
    return torch.autocast(recipe.device, torch.bfloat16) if computes_in_bf16(recipe) else nullcontext()


def optimiser_dtype(recipe: Recipe) -> torch.dtype:
    return torch.bfloat16 if computes_in_bf16(recipe) else torch.float32


def compiled_if_worth_it(recipe: Recipe, model: nn.Module) -> Callable[..., Tensor]:
    """Compiles for bf16, whose products are short. In fp32 on AVX2 compiling was measured to be no faster."""
    return torch.compile(model) if recipe.compiles and computes_in_bf16(recipe) else model


def use_machine(recipe: Recipe) -> None:
    torch.set_num_threads(recipe.num_threads)
    torch.manual_seed(recipe.seed)

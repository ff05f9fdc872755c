"""The last stage of training: distils the clips stage, the teacher, into a student that needs only a few steps.

There are two methods, to compare on the machine at hand (`recipe.few_steps_method`). Either can fold in guidance.

* "progressive" (Salimans and Ho 2022): from a noisy clip of the data, one step of the student must end where several
  steps of the teacher end. No clip is sampled whole, so a batch costs little more than one of flow matching.
* "reflow" (Liu et al. 2023): straight lines between noise and the clips that the teacher makes of that noise.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from engine.embedded.lexicon import MAX_TOKENS
from engine.embedded.modules import pad_token_ids
from engine.embedded.reading import unconditional_tokens
from training.data.dataset import CLIPS, load_examples
from training.optim import lr_factor
from training.train_generator import (
    Batches,
    Generator,
    draw_clips,
    load_generator,
    log_loss,
    prepare,
    timesteps_of,
    with_first_given,
)
from training.training import Clock, Curve, Recipe, mixed_precision

NUM_STEPS = 4
SHIFT = 3.0


def schedule(num_steps: int, shift: float = SHIFT) -> Tensor:
    """Sigmas [num_steps + 1] from 1 to 0, as `FlowMatchEulerDiscreteScheduler` shifts them."""
    uniform = torch.linspace(1, 0, num_steps + 1)
    return shift * uniform / (1 + (shift - 1) * uniform)


class Teacher:
    """The frozen clips stage with its guidance: velocities and Euler walks."""

    def __init__(self, model: Generator, guidance_scale: float, recipe: Recipe) -> None:
        self._model = model.to(recipe.device).eval().requires_grad_(requires_grad=False)
        self._guidance_scale, self._recipe = guidance_scale, recipe
        self._nothing = pad_token_ids([unconditional_tokens()], MAX_TOKENS).to(recipe.device)

    @torch.no_grad()
    def walk(self, latents: Tensor, sigmas: Tensor, token_ids: Tensor, *, is_given: bool) -> Tensor:
        """Latents [B, C, T, h, w] from `sigmas` [K + 1, B] to the last of them, in K steps.

        `is_given`: the first latent frame is clean and stays.
        """
        for sigma, following in pairwise(sigmas):
            step = (following - sigma).view(-1, 1, 1, 1, 1)
            walked = latents + step * self._velocity(latents, sigma, token_ids, is_given=is_given)
            latents = with_first_given(walked, latents) if is_given else walked
        return latents

    def _velocity(self, latents: Tensor, sigma: Tensor, token_ids: Tensor, *, is_given: bool) -> Tensor:
        timesteps = timesteps_of(latents, sigma, is_given=is_given)
        with mixed_precision(self._recipe):
            conditional: Tensor = self._model(latents, timesteps, token_ids).float()
            if self._guidance_scale == 1.0:
                return conditional
            nothing = self._nothing.expand_as(token_ids)
            unconditional: Tensor = self._model(latents, timesteps, nothing).float()
        return unconditional + self._guidance_scale * (conditional - unconditional)


def train_few_steps(recipe: Recipe, *, minutes: float | None, slice_minutes: float | None, resume: bool) -> None:
    examples = load_examples(recipe.folder / CLIPS, recipe.device)
    model = Generator(recipe).to(recipe.device)
    clock = Clock.of_minutes(minutes or recipe.few_steps_minutes, slice_minutes)
    stage, optimiser = prepare(
        recipe, "few_steps", model, clock, lr_share=recipe.few_steps_lr_share, resume=resume, after="clips"
    )
    teacher = Teacher(load_generator(recipe, "clips"), recipe.few_steps_guidance, recipe)
    batches = Batches(
        examples, recipe.seed + 30 + stage.step, recipe.device, subject_weight=recipe.clips_subject_weight
    )
    draw_target = {"progressive": _progressive, "reflow": _reflow}[recipe.few_steps_method]
    curve = Curve(recipe.folder / "few_steps.csv", ("step", "seconds", "samples", "loss"))
    recent: list[Tensor] = []
    for step in stage.steps():
        x0, token_ids, weight, is_given = draw_clips(batches, recipe.few_steps_batch, step)
        noisy, sigma, target = draw_target(teacher, x0, token_ids, is_given=is_given)
        timesteps = timesteps_of(noisy, sigma, is_given=is_given)
        with mixed_precision(recipe):
            velocity = model(noisy, timesteps, token_ids)
        loss = ((velocity.float() - target).square() * weight).mean()
        loss.backward()
        optimiser.step(lr_factor(clock.progress, decay_share=0.9))
        model.zero_grad(set_to_none=True)
        log_loss(curve, recent, loss, step, clock, recipe.few_steps_batch)


def _progressive(teacher: Teacher, x0: Tensor, token_ids: Tensor, *, is_given: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their sigmas [B], and the velocity that reaches the next sigma of the schedule in one step."""
    grid = schedule(NUM_STEPS).to(x0)
    index = torch.randint(NUM_STEPS, (len(x0),), device=x0.device)
    start, end = grid[index], grid[index + 1]
    noisy = torch.lerp(x0, torch.randn_like(x0), start.view(-1, 1, 1, 1, 1))
    if is_given:
        noisy = with_first_given(noisy, x0)
    sigmas = torch.stack([torch.lerp(start, end, share) for share in (0.0, 1 / 3, 2 / 3, 1.0)])
    reached = teacher.walk(noisy, sigmas, token_ids, is_given=is_given)
    return noisy, start, (reached - noisy) / (end - start).view(-1, 1, 1, 1, 1)


def _reflow(teacher: Teacher, x0: Tensor, token_ids: Tensor, *, is_given: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same triple, on the straight line from noise to the teacher's clip of it, at a sigma of the schedule."""
    noise = torch.randn_like(x0)
    start = with_first_given(noise, x0) if is_given else noise
    grid = schedule(4 * NUM_STEPS).to(x0)
    made = teacher.walk(start, grid[:, None].expand(-1, len(x0)), token_ids, is_given=is_given)
    sigma = schedule(NUM_STEPS).to(x0)[torch.randint(NUM_STEPS, (len(x0),), device=x0.device)]
    noisy = torch.lerp(made, noise, sigma.view(-1, 1, 1, 1, 1))
    return with_first_given(noisy, x0) if is_given else noisy, sigma, noise - made

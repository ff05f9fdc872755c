"""The training set on disk: latents of rendered clips, made once from seeds, with their specs beside them.

Stills are single latent frames of very many clips: the images stage learns from them what everything looks like. Clips
are whole ones, fewer: the clips stage learns from them how it moves. On a CPU one worker process per core renders while
this one encodes; on a GPU everything happens there.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.embedded.modules import FRAMES_PER_LATENT, Encoder
from engine.embedded.spec import SceneSpec, draw_spec
from engine.embedded.training import Recipe, mixed_precision
from engine.embedded.world import NUM_FRAMES, render

NUM_LATENT_FRAMES = 1 + (NUM_FRAMES - 1) // FRAMES_PER_LATENT
_SLICE = 8
STILLS, CLIPS = "examples-stills.pt", "examples-clips.pt"


@dataclass(frozen=True)
class Examples:
    """Latents fp16 [N, C, T, h, w]; of stills T is 1 and `frames[i]` says which latent frame of its clip it is."""

    latents: Tensor
    specs: list[SceneSpec]
    frames: Tensor | None = None

    def __len__(self) -> int:
        return len(self.specs)


def draw_specs(count: int, seed: int, **settings: Any) -> list[SceneSpec]:
    rng = random.Random(seed)
    return [draw_spec(rng, **settings) for _ in range(count)]


def make_examples(recipe: Recipe, encoder: Encoder, on_progress: Callable[[str], None] = print) -> None:
    """Writes `STILLS` and `CLIPS` into the recipe's folder; what is there already is kept."""
    rng = random.Random(recipe.seed + 1)
    stills, clips = (recipe.folder / name for name in (STILLS, CLIPS))
    if not stills.exists():
        specs = [draw_spec(rng, subject_share=recipe.stills_subject_share) for _ in range(recipe.num_stills)]
        # The first latent frame twice as often as another: it alone is a still, and the first thing that is seen.
        frames = [max(0, rng.randrange(-1, NUM_LATENT_FRAMES)) for _ in specs]
        latents = _encoded(recipe, encoder, [(spec, frame) for spec, frame in zip(specs, frames, strict=True)])
        _save(stills, latents, specs, torch.tensor(frames))
        on_progress(f"{len(specs)} stills")
    if not clips.exists():
        specs = draw_specs(recipe.num_clips, recipe.seed + 2)
        _save(clips, _encoded(recipe, encoder, [(spec, None) for spec in specs]), specs, None)
        on_progress(f"{len(specs)} clips")


def _save(path: Path, latents: Tensor, specs: list[SceneSpec], frames: Tensor | None) -> None:
    unfinished = path.with_suffix(".unfinished")
    rows = json.dumps([asdict(spec) for spec in specs])
    torch.save({"latents": latents, "specs": rows, "frames": frames}, unfinished)
    unfinished.rename(path)


def load_examples(path: Path, device: str = "cpu") -> Examples:
    state = torch.load(path, weights_only=True)
    specs = [SceneSpec(**row) for row in json.loads(state["specs"])]
    return Examples(state["latents"].to(device), specs, state["frames"])


Wanted = tuple[SceneSpec, int | None]


@torch.no_grad()
def _encoded(recipe: Recipe, encoder: Encoder, wanted: list[Wanted]) -> Tensor:
    """fp16 [N, C, T, h, w] on the CPU; what is wanted is all of a clip (None) or one latent frame of it."""
    encoder = encoder.to(recipe.device)
    parts = []
    for groups in _rendered(recipe, wanted):
        batch, num_latent_frames = groups.shape[:2]
        with mixed_precision(recipe):
            latents = encoder(groups.to(recipe.device).float().div_(255).flatten(0, 1))
        parts.append(latents.float().half().view(batch, num_latent_frames, *latents.shape[1:]).transpose(1, 2).cpu())
    return torch.cat(parts)


def _rendered(recipe: Recipe, wanted: list[Wanted]) -> Iterator[Tensor]:
    """uint8 [B, T, 4, 3, H, W], in order."""
    slices = [wanted[start : start + _SLICE] for start in range(0, len(wanted), _SLICE)]
    if recipe.device != "cpu" or len(slices) <= recipe.num_threads:  # too few to be worth starting processes
        for part in slices:
            yield _render_slice((part, recipe.device))
        return
    tasks = [(part, "cpu") for part in slices]
    context = get_context("spawn")
    with ProcessPoolExecutor(recipe.num_threads, mp_context=context, initializer=start_worker) as pool:
        # A bounded lead over the encoder: a whole set of pixels would not fit into memory.
        pending = [pool.submit(_render_slice_to_numpy, task) for task in tasks[:6]]
        for index in range(len(tasks)):
            groups = pending.pop(0).result()
            if index + 6 < len(tasks):
                pending.append(pool.submit(_render_slice_to_numpy, tasks[index + 6]))
            yield torch.from_numpy(groups)


def start_worker() -> None:
    torch.set_num_threads(1)
    os.nice(5)


def _render_slice_to_numpy(task: tuple[list[Wanted], str]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return _render_slice(task).numpy()


def _render_slice(task: tuple[list[Wanted], str]) -> Tensor:
    part, device = task
    rendered = []
    for spec, frame in part:
        indices = group_indices(range(NUM_LATENT_FRAMES) if frame is None else (frame,))
        needed = sorted(set(indices))
        frames = to_uint8(render(spec, needed, device=device))
        rendered.append(frames[[needed.index(index) for index in indices]].unflatten(0, (-1, FRAMES_PER_LATENT)))  # type: ignore[no-untyped-call]
    return torch.stack(rendered)


def group_indices(latent_frames: range | tuple[int, ...]) -> list[int]:
    """The frames of each latent frame: the first one four times, then fours."""
    indices: list[int] = []
    for latent_frame in latent_frames:
        indices += [0] * 4 if latent_frame == 0 else range(4 * latent_frame - 3, 4 * latent_frame + 1)
    return indices


def to_uint8(frames: Tensor) -> Tensor:
    return (frames * 255 + 0.5).to(torch.uint8)

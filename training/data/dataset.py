"""The training set on disk: latents of rendered clips, made once from seeds, with their specs beside them.

Stills are single latent frames of very many clips; from them the images stage learns what everything looks like. Clips
are whole but fewer; from them the clips stage learns how everything moves. One worker process per core renders while
this process encodes. Clips that were rendered ahead (`clip_files`) are encoded, and the stills are their latent frames.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.embedded.modules import FRAMES_PER_LATENT, Encoder, group_frames
from engine.embedded.spec import SceneSpec, draw_spec, specs_from_json, specs_to_json
from training.data import clip_files
from training.data.clip_files import map_ahead, start_worker, to_uint8
from training.training import Recipe, mixed_precision, save_checkpoint
from training.world.world import NUM_FRAMES, render

NUM_LATENT_FRAMES = 1 + (NUM_FRAMES - 1) // FRAMES_PER_LATENT
_SLICE = 8
STILLS, CLIPS, RENDERS = "examples-stills.pt", "examples-clips.pt", "renders"


@dataclass(frozen=True)
class Examples:
    """Latents fp16 [N, C, T, h, w]. For stills, T is 1 and `frames[i]` is the index of the latent frame in its clip."""

    latents: Tensor
    specs: list[SceneSpec]
    frames: Tensor | None = None

    def __len__(self) -> int:
        return len(self.specs)


def draw_specs(count: int, seed: int, **settings: Any) -> list[SceneSpec]:
    rng = random.Random(seed)
    return [draw_spec(rng, **settings) for _ in range(count)]


def make_examples(recipe: Recipe, encoder: Encoder, on_progress: Callable[[str], None] = print) -> None:
    """Writes `STILLS` and `CLIPS` into the recipe's folder; keeps files that exist already."""
    rng = random.Random(recipe.seed + 1)
    stills, clips = (recipe.folder / name for name in (STILLS, CLIPS))
    if recipe.renders_ahead:
        if not clips.exists():
            latents, specs = _encoded_files(recipe, encoder)
            _save(clips, latents, specs, None)
            on_progress(f"{len(specs)} clips")
        return
    if not stills.exists():
        specs = [draw_spec(rng, subject_share=recipe.stills_subject_share) for _ in range(recipe.num_stills)]
        # The first latent frame comes twice as often as any other: it alone is a still, and viewers see it first.
        frames = [max(0, rng.randrange(-1, NUM_LATENT_FRAMES)) for _ in specs]
        latents = _encoded(recipe, encoder, _rendered(recipe, list(zip(specs, frames, strict=True))))
        _save(stills, latents, specs, torch.tensor(frames))
        on_progress(f"{len(specs)} stills")
    if not clips.exists():
        specs = draw_specs(recipe.num_clips, recipe.seed + 2)
        _save(clips, _encoded(recipe, encoder, _rendered(recipe, [(spec, None) for spec in specs])), specs, None)
        on_progress(f"{len(specs)} clips")


def _save(path: Path, latents: Tensor, specs: list[SceneSpec], frames: Tensor | None) -> None:
    save_checkpoint(path, {"latents": latents, "specs": specs_to_json(specs), "frames": frames})


def load_examples(path: Path, device: str = "cpu") -> Examples:
    state = torch.load(path, weights_only=True)
    return Examples(state["latents"].to(device), specs_from_json(state["specs"]), state["frames"])


def load_stills(recipe: Recipe) -> Examples:
    """The stills, or every latent frame of the clips, if they were rendered ahead."""
    if not recipe.renders_ahead:
        return load_examples(recipe.folder / STILLS, recipe.device)
    clips = load_examples(recipe.folder / CLIPS, recipe.device)
    latents = clips.latents.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    specs = [spec for spec in clips.specs for _ in range(NUM_LATENT_FRAMES)]
    return Examples(latents, specs, torch.arange(NUM_LATENT_FRAMES).repeat(len(clips)))


Wanted = tuple[SceneSpec, int | None]


@torch.no_grad()
def _encoded(recipe: Recipe, encoder: Encoder, batches: Iterator[Tensor]) -> Tensor:
    """fp16 latents [N, C, T, h, w] on the CPU from groups of frames, uint8 [B, T, 4, 3, H, W]."""
    encoder = encoder.to(recipe.device)
    parts = []
    for groups in batches:
        batch, num_latent_frames = groups.shape[:2]
        with mixed_precision(recipe):
            latents = encoder(groups.to(recipe.device).float().div_(255).flatten(0, 1))
        parts.append(latents.float().half().view(batch, num_latent_frames, *latents.shape[1:]).transpose(1, 2).cpu())
    return torch.cat(parts)


def _encoded_files(recipe: Recipe, encoder: Encoder) -> tuple[Tensor, list[SceneSpec]]:
    """fp16 latents [N, C, T, h, w] on the CPU of the clips that were rendered ahead, and their specs."""
    folder = recipe.folder / RENDERS
    specs: list[SceneSpec] = []
    if not clip_files.path_of(folder, 0).exists():
        raise FileNotFoundError(f"no clips in {folder}: the stage `renders` makes them")

    def groups() -> Iterator[Tensor]:
        for clips, their_specs in clip_files.read_all(clip_files.finished(folder), recipe.num_threads):
            specs.extend(their_specs)
            on_device = clips.to(recipe.device)
            yield group_frames(torch.cat([on_device, on_device[:, :1]], 1))

    return _encoded(recipe, encoder, groups()), specs


def _rendered(recipe: Recipe, wanted: list[Wanted]) -> Iterator[Tensor]:
    """uint8 [B, T, 4, 3, H, W], in order."""
    slices = [wanted[start : start + _SLICE] for start in range(0, len(wanted), _SLICE)]
    if len(slices) <= recipe.num_threads:  # too few to be worth starting processes
        yield from map(_render_slice, slices)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(recipe.num_threads, mp_context=context, initializer=start_worker) as pool:
        yield from map(torch.from_numpy, map_ahead(pool, _render_slice_to_numpy, slices, lead=6))


def _render_slice_to_numpy(part: list[Wanted]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return _render_slice(part).numpy()


def _render_slice(part: list[Wanted]) -> Tensor:
    rendered = []
    for spec, frame in part:
        indices = group_indices(range(NUM_LATENT_FRAMES) if frame is None else (frame,))
        needed = sorted(set(indices))
        frames = to_uint8(render(spec, needed))
        rendered.append(frames[[needed.index(index) for index in indices]].unflatten(0, (-1, FRAMES_PER_LATENT)))  # type: ignore[no-untyped-call]
    return torch.stack(rendered)


def group_indices(latent_frames: range | tuple[int, ...]) -> list[int]:
    """The frames of each latent frame: the first one four times, then fours."""
    indices: list[int] = []
    for latent_frame in latent_frames:
        indices += [0] * 4 if latent_frame == 0 else range(4 * latent_frame - 3, 4 * latent_frame + 1)
    return indices

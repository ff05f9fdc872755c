"""The training set on disk: rendered clips and their latents, made once from seeds by one worker process per core."""

from __future__ import annotations

import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.embedded.classifier import judged_picture
from engine.embedded.modules import Encoder
from engine.embedded.spec import SceneSpec, draw_spec
from engine.embedded.world import HEIGHT, PERIOD_FRAMES, WIDTH, render

_CLIP_SHAPE = (PERIOD_FRAMES, 3, HEIGHT, WIDTH)


def draw_specs(count: int, seed: int) -> list[SceneSpec]:
    rng = random.Random(seed)
    return [draw_spec(rng) for _ in range(count)]


def save_specs(path: Path, specs: list[SceneSpec]) -> None:
    path.write_text(json.dumps([asdict(spec) for spec in specs]))


def load_specs(path: Path) -> list[SceneSpec]:
    rows = json.loads(path.read_text())
    return [SceneSpec(**{**row, "jitter": tuple(row["jitter"])}) for row in rows]


def rendered_clips(
    path: Path, specs: list[SceneSpec], *, num_workers: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Clips of `specs` as a file mapped into memory, uint8 [N, 24, 3, H, W] (frame 24 is frame 0); made if missing."""
    shape = (len(specs), *_CLIP_SHAPE)
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        np.memmap(unfinished, np.uint8, "w+", shape=shape).flush()
        starts = range(0, len(specs), 50)
        tasks = [(unfinished, shape, start, specs[start : start + 50]) for start in starts]
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
            for _ in pool.map(_render_slice, tasks):
                pass
        unfinished.rename(path)
    return np.memmap(path, np.uint8, "r", shape=shape)


def _start_worker() -> None:
    torch.set_num_threads(1)
    os.nice(5)


def _render_slice(task: tuple[Path, tuple[int, ...], int, list[SceneSpec]]) -> None:
    path, shape, start, specs = task
    clips = np.memmap(path, np.uint8, "r+", shape=shape)
    for index, spec in enumerate(specs):
        clips[start + index] = to_uint8(render(spec, range(PERIOD_FRAMES))).numpy()
    clips.flush()


@torch.no_grad()
def stored_latents(path: Path, specs: list[SceneSpec], encoder: Encoder, *, num_workers: int) -> None:
    """Encodes the clips of `specs` to fp16 [N, C, 7, 8, 14]; workers render while this process encodes.

    Beside them `pictures.npy`, uint8 [N, 9, 64, 112]: what the evaluation's classifier learns from.
    """
    parts: list[Tensor] = []
    pictures: list[Tensor] = []
    slices = [specs[start : start + 8] for start in range(0, len(specs), 8)]
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        for clips in pool.map(_render_batch, slices, chunksize=2):
            frames = torch.from_numpy(clips).float().div_(255)
            parts.append(encoder.encode(frames).half())
            pictures.append(to_uint8(judged_picture(frames)))
    np.save(path, torch.cat(parts).numpy())
    np.save(path.with_name("pictures.npy"), torch.cat(pictures).numpy())


def _render_batch(specs: list[SceneSpec]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return torch.stack([to_uint8(render(spec)) for spec in specs]).numpy()


def to_uint8(frames: Tensor) -> Tensor:
    return (frames * 255 + 0.5).to(torch.uint8)

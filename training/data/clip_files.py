"""Clips rendered ahead into files, by the processor's cores: a GPU in training would wait for the renderer otherwise.

A render is two thousand small operations, which a GPU starts hardly faster than a core computes them. A file holds the
same clips whichever run rendered it, so a folder may be filled in several runs. The stages use the existing files; the
autoencoder's stage also uses files that arrive while it learns.
"""

from __future__ import annotations

import math
import os
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from engine.embedded.spec import SceneSpec, draw_spec, specs_from_json, specs_to_json
from training.world.world import HEIGHT, PERIOD_FRAMES, WIDTH, render

CLIPS_PER_FILE = 8
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def path_of(folder: Path, index: int) -> Path:
    return folder / f"clips-{index:05d}.npz"


def render_ahead(
    folder: Path, *, num_clips: int, seed: int, num_workers: int, on_progress: Callable[[str], None] = print
) -> None:
    """Renders the files that `folder` lacks, in order, with a process per core; about 1.5 MB a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(-(-num_clips // CLIPS_PER_FILE)) if not path_of(folder, index).exists()]
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        for _ in pool.map(_render_file, ((folder, index, seed) for index in missing)):
            pass
    on_progress(f"{num_clips} clips")


def start_worker() -> None:
    torch.set_num_threads(1)
    os.nice(5)


def to_uint8(frames: Tensor) -> Tensor:
    return (frames * 255 + 0.5).to(torch.uint8)


def _render_file(task: tuple[Path, int, int]) -> None:
    folder, index, seed = task
    rng = random.Random(f"{seed} {index}")
    specs = [draw_spec(rng) for _ in range(CLIPS_PER_FILE)]
    clips = [to_uint8(render(spec, range(PERIOD_FRAMES))) for spec in specs]
    write(path_of(folder, index), torch.stack(clips), specs)


def write(path: Path, clips: Tensor, specs: list[SceneSpec]) -> None:
    """`clips`: uint8 [N, 24, 3, H, W], the frames after which a clip begins again."""
    packed = zlib.compress(clips.numpy().tobytes(), 1)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, clips=np.frombuffer(packed, np.uint8), specs=np.array(specs_to_json(specs)))
    unfinished.rename(path)


def read(path: Path) -> tuple[Tensor, list[SceneSpec]]:
    with np.load(path, allow_pickle=False) as file:
        specs = specs_from_json(str(file["specs"]))
        shape = (len(specs), PERIOD_FRAMES, 3, HEIGHT, WIDTH)
        unpacked = bytearray(zlib.decompress(file["clips"], bufsize=math.prod(shape)))
    return torch.frombuffer(unpacked, dtype=torch.uint8).view(shape), specs


def read_all(paths: Iterator[Path], num_threads: int) -> Iterator[tuple[Tensor, list[SceneSpec]]]:
    """Reads in order: unpacking keeps a core busy for as long as a GPU encodes forty clips."""
    with ThreadPoolExecutor(num_threads) as pool:
        yield from map_ahead(pool, read, paths, lead=2 * num_threads)


def map_ahead(
    pool: Executor, work: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], *, lead: int
) -> Iterator[ResultT]:
    """Results in order, at most `lead` tasks ahead of the caller: all at once would not fit into memory."""
    waiting = iter(tasks)
    pending = deque(pool.submit(work, task) for task in islice(waiting, lead))
    while pending:
        result = pending.popleft().result()
        pending.extend(pool.submit(work, task) for task in islice(waiting, 1))
        yield result


def finished(folder: Path) -> Iterator[Path]:
    """The existing files, in order, up to the first missing one."""
    index = 0
    while path_of(folder, index).exists():
        yield path_of(folder, index)
        index += 1

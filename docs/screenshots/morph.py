"""Makes `morph.webp`: a picture on air, and what a clip of another scene makes of it (frames 2 to 20); seeds 0 to 3.

`python docs/screenshots/morph.py`. The real engine process; no picture is chosen among several.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from stored_picture import store

from engine.api import Frames, FramesReady, Generate, GenerationFinished
from engine.config import EngineSettings
from engine.process.supervisor import EngineProcess

PICTURE = Path(__file__).with_name("morph.webp")
PAIRS = (
    ("the sea by day", "a volcano erupting at night"),
    ("a cosy room at night", "underwater, a yellow fish"),
    ("the forest at sunset", "a red car in the city by day"),
    ("snowy mountains by day", "the desert at sunset"),
)
LEAVES_AT = 12
SHOWN = (2, 4, 6, 8, 12, 20)


async def main() -> None:
    engine = EngineProcess(EngineSettings(keep_spare=False))
    await engine.open()
    rows = []
    for seed, (before, after) in enumerate(PAIRS):
        on_air = (await _clip(engine, Generate(f"before {seed}", before, seed=seed, wants_previews=False)))[LEAVES_AT]
        first = Frames(on_air[None])
        clip = await _clip(engine, Generate(f"after {seed}", after, seed=seed, wants_previews=False, first_frame=first))
        rows.append(np.concatenate([_rgb(on_air), *(_rgb(clip[index]) for index in SHOWN)], 1))
    await engine.close()
    store(Image.fromarray(np.concatenate(rows)[::2, ::2]), PICTURE)


async def _clip(engine: EngineProcess, wanted: Generate) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """All frames, planar."""
    engine.send(wanted)
    parts = []
    async for event in engine.events():
        if isinstance(event, FramesReady) and event.generation_id == wanted.generation_id:
            parts.append(np.array(event.frames.planes))
        if isinstance(event, GenerationFinished) and event.generation_id == wanted.generation_id:
            break
    return np.concatenate(parts)


def _rgb(planes: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p").to_ndarray(format="rgb24")


if __name__ == "__main__":
    asyncio.run(main())

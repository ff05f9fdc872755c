"""`python -m bench.model.rungs -o sheet.png`: the same prompts and seeds on each rung of a fidelity ladder, side by
side.

For judging by eye: the floor of a ladder must still show the scene of the prompt. Loads the model in this process.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from bench.model.engine import PROMPTS
from engine.api import Generate, Quality
from engine.config import LoadSettings
from engine.loading.models import Model, load
from engine.parts.generation import Generation

_MARGIN, _LABEL = 4, 16


def frames(model: Model, prompt: str, quality: Quality, seed: int, rung_index: int) -> torch.Tensor:
    """``[N, 3, H, W]`` in [0, 1]."""
    generation = Generation(Generate("sheet", prompt, quality, seed), 0.0, rung_index=rung_index)
    model.begin(generation)
    while not generation.is_denoised:
        model.denoiser.step([generation])
    return torch.cat(list(model.decode(generation)))


def sheet(model: Model, quality: Quality) -> tuple[Image.Image, list[str]]:
    """The sheet (a row for each prompt, for each rung its middle and last-but-one frames), and each rung's PSNR."""
    ladder = model.profile.ladder
    width, height = model.profile.width + _MARGIN, model.profile.height + _MARGIN
    picture = Image.new("RGB", (width * 2 * len(ladder), (height + _LABEL) * len(PROMPTS)), "white")
    draw = ImageDraw.Draw(picture)
    differences: list[list[float]] = [[] for _ in ladder]
    for row, prompt in enumerate(PROMPTS):
        top: torch.Tensor | None = None
        for rung_index, rung in enumerate(ladder):
            clip = frames(model, prompt, quality, row, rung_index)
            top = clip if top is None else top
            if clip.shape == top.shape:
                differences[rung_index].append(float((clip - top).pow(2).mean()))
            x, y = rung_index * 2 * width, row * (height + _LABEL)
            draw.text(
                (x, y + 2), f"{prompt.encode('ascii', 'replace').decode()}: {rung.num_steps[quality]} steps", "black"
            )
            for place, index in enumerate((len(clip) // 2, len(clip) - 2)):
                pixels = (clip[index].permute(1, 2, 0).float().cpu().numpy() * 255).astype(np.uint8)
                picture.paste(Image.fromarray(pixels), (x + place * width, y + _LABEL))
    lines = [
        f"{rung.num_steps[quality]} steps: PSNR against the topmost {_psnr(errors)}"
        for rung, errors in zip(ladder[1:], differences[1:], strict=True)
    ]
    return picture, lines


def _psnr(errors: list[float]) -> str:
    return f"{-10 * np.log10(np.mean(errors)):.1f} dB" if errors else "of another size"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--quality", type=Quality, choices=list(Quality), default=Quality.FAST)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    picture, lines = sheet(load(LoadSettings(model=arguments.model)), arguments.quality)
    picture.save(arguments.output)
    print("\n".join([str(arguments.output), *lines]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Measures which words the model follows: `python -m training.evaluation.word_sensitivity [--weights FOLDER]`.

In pure noise the words alone decide. For each slot, this prints the error of the first step when the model is told the
truth, and when it is told another value. If the wrong value costs nothing, the model has not learned the word yet. The
model learns left and right one subject after another, so these are also printed for each subject. It needs no sampling
and no judge, so it checks a training run within a minute.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import PIXELS_PER_LATENT, Encoder
from engine.embedded.reading import Reading, completed_tokens
from engine.embedded.spec import (
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    NUM_LAYOUTS,
    PALETTES,
    SCENES,
    SUBJECTS_OF_SCENE,
    TIMES,
    WEATHERS_OF_SCENE,
    SceneSpec,
)
from training.data.dataset import draw_specs
from training.evaluation.sampling import EmbeddedModel
from training.world.world import render, subject_box

_OF_THE_SUBJECT = ("subject", "colour", "direction")
SLOTS = ("scene", "time", "weather", *_OF_THE_SUBJECT, "camera", "palette", "layout")


@dataclass(frozen=True)
class Swap:
    """Mean square errors of the first step's velocity, in the subject's box or, for the other slots, in the picture."""

    slot: str
    subject: str | None  # None: of all pictures
    told_right: float
    told_wrong: float
    num_pictures: int


def swapped(spec: SceneSpec, slot: str) -> SceneSpec | None:
    """The spec with another value in `slot`, or None if its scene allows no other."""
    choices: dict[str, tuple[Any, ...]] = {
        "scene": SCENES,
        "time": TIMES if spec.time else (None,),
        "weather": WEATHERS_OF_SCENE[spec.scene],
        "subject": SUBJECTS_OF_SCENE[spec.scene],
        "colour": COLOURS,
        "direction": DIRECTIONS,
        "camera": CAMERAS,
        "palette": PALETTES,
        "layout": tuple(range(NUM_LAYOUTS)),
    }
    values, value = choices[slot], getattr(spec, slot)
    for offset in range(1, len(values)):
        other = values[(values.index(value) + offset) % len(values)]
        try:
            return replace(spec, **{slot: other})
        except ValueError:  # a time in a scene that has none
            continue
    return None


@torch.inference_mode()
def measure_swaps(model: EmbeddedModel, encoder: Encoder, specs: list[SceneSpec], *, seed: int = 0) -> list[Swap]:
    """`specs` all have a subject."""
    x0 = torch.cat([encoder.encode(render(spec, [0])[None]) for spec in specs])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    boxes = torch.stack([_box_mask(spec, x0.shape[-2:]) for spec in specs])

    def errors(told: list[SceneSpec]) -> Tensor:
        texts = [completed_tokens(Reading(), spec) for spec in told]
        timesteps = torch.full((len(told),), 1000.0)
        velocity = model.transformer(noise, timesteps, model.text_encoder.encode(texts), return_dict=False)[0]
        square: Tensor = (velocity - (noise - x0)).square().mean((1, 2))
        return square

    def share(square: Tensor, slot: str) -> Tensor:
        weight = boxes if slot in _OF_THE_SUBJECT else torch.ones_like(boxes)
        return (square * weight).sum((1, 2)) / weight.sum((1, 2))

    right = errors(specs)
    swaps = []
    for slot in SLOTS:
        others = [swapped(spec, slot) for spec in specs]
        kept = [row for row, other in enumerate(others) if other is not None]
        wrong = errors([other or spec for spec, other in zip(specs, others, strict=True)])
        groups: dict[str | None, list[int]] = {None: kept}
        if slot == "direction":
            for row in kept:
                groups.setdefault(specs[row].subject, []).append(row)
        for subject, rows in groups.items():
            told_right, told_wrong = (float(share(square, slot)[rows].mean()) for square in (right, wrong))
            swaps.append(Swap(slot, subject, told_right, told_wrong, len(rows)))
    return swaps


def _box_mask(spec: SceneSpec, size: torch.Size) -> Tensor:
    mask = torch.zeros(size)
    box = subject_box(spec)
    assert box is not None, "a spec without a subject"
    x0, y0, x1, y1 = (value / PIXELS_PER_LATENT for value in box)
    mask[int(y0) : -int(-y1 // 1), int(x0) : -int(-x1 // 1)] = 1
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=EMBEDDED_FOLDER)
    parser.add_argument("--num-pictures", type=int, default=72)
    parser.add_argument("--seed", type=int, default=777)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = EmbeddedModel.from_pretrained(arguments.weights)
    encoder = Encoder.from_pretrained(arguments.weights / "encoder")
    specs = draw_specs(arguments.num_pictures, arguments.seed, subject_share=1.0)
    print(f"{'slot':20} {'told right':>10} {'told wrong':>10} {'ratio':>6} pictures")
    for swap in measure_swaps(model, encoder, specs):
        name = swap.slot if swap.subject is None else f"  {swap.slot}, {swap.subject}"
        ratio = swap.told_wrong / swap.told_right
        print(f"{name:20} {swap.told_right:10.3f} {swap.told_wrong:10.3f} {ratio:6.2f} {swap.num_pictures}")


if __name__ == "__main__":
    main()

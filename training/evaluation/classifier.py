"""A small network that names what a clip shows: the judge of `evaluate`, trained on renders alone.

It sees three frames of a clip at a quarter of its size and answers for each slot of a spec. The last answer of a slot
that may be empty is "none". Training blurs and roughens the renders, so that a soft decoder is not marked down.
"""

from __future__ import annotations

import math
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.embedded.spec import (
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    PALETTES,
    SCENES,
    SUBJECTS,
    SYMMETRIC_SUBJECTS,
    TIMES,
    WEATHERS,
    SceneSpec,
    draw_spec,
)
from training.data.clip_files import start_worker, to_uint8
from training.world.world import HEIGHT, WIDTH, render

HEADS: dict[str, tuple[str, ...]] = {
    "scene": SCENES,
    "time": (*TIMES, "none"),
    "weather": WEATHERS,
    "subject": (*SUBJECTS, "none"),
    "colour": (*COLOURS, "none"),
    "direction": (*DIRECTIONS, "none"),
    "camera": CAMERAS,
    "palette": PALETTES,
}
JUDGED_FRAMES = (0, 8, 16)
_SHRINK = 4
NUM_HELD_BACK = 1000


class Classifier(nn.Module):
    def __init__(self, width: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3 * len(JUDGED_FRAMES)
        for out in (width, width * 2, width * 3, width * 4):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.SiLU()]
            channels = out
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.SiLU()
        )
        # The subject may be anywhere: its heads read the strongest answer over the picture, the others the mean.
        self.heads = nn.ModuleDict({name: nn.Linear(2 * channels, len(answers)) for name, answers in HEADS.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """[B, 9, 64, 104] in [0, 1] (`judged_picture`) to logits by head."""
        x = self.layers(pictures * 2 - 1)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.no_grad()
    def names(self, frames: Tensor) -> list[dict[str, str]]:
        """What each clip of [B, 25, 3, H, W] shows, by head."""
        logits = self.eval()(judged_picture(frames))
        best = {name: values.argmax(1).tolist() for name, values in logits.items()}
        return [{name: HEADS[name][best[name][row]] for name in HEADS} for row in range(len(frames))]


def judged_picture(frames: Tensor) -> Tensor:
    """[B, 25, 3, H, W] to [B, 9, H/4, W/4]."""
    return F.avg_pool2d(frames[:, list(JUDGED_FRAMES)].flatten(1, 2), _SHRINK)


def true_names(spec: SceneSpec) -> dict[str, str]:
    """The visible values of a spec, by head: a balloon has no direction, because it has no front."""
    names = {name: getattr(spec, name) or "none" for name in HEADS}
    return names | {"direction": "none"} if spec.subject in SYMMETRIC_SUBJECTS else names


def rendered_pictures(count: int, seed: int, *, num_workers: int) -> tuple[Tensor, list[SceneSpec]]:
    """uint8 [N, 9, 64, 104] of random specs, including the held-out pairs."""
    rng = random.Random(seed)
    specs = [draw_spec(rng, with_held_out=True) for _ in range(count)]
    slices = [specs[start : start + 50] for start in range(0, count, 50)]
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        parts = [torch.from_numpy(part) for part in pool.map(_render_pictures, slices)]
    return torch.cat(parts), specs


def _render_pictures(specs: list[SceneSpec]) -> object:
    # At twice the size: shrinking then softens the edges, as it does with a clip.
    height, width = HEIGHT // 2, WIDTH // 2
    frames = torch.stack([render(spec, JUDGED_FRAMES, height=height, width=width).flatten(0, 1) for spec in specs])
    return to_uint8(F.avg_pool2d(frames, _SHRINK // 2)).numpy()


def train_classifier(
    pictures: Tensor, specs: list[SceneSpec], *, num_steps: int, seed: int = 0
) -> tuple[Classifier, dict[str, float]]:
    """Returns the classifier and each head's accuracy on the first `NUM_HELD_BACK` pictures, which it never sees."""
    torch.manual_seed(seed)
    model, truth = Classifier(), _labels(specs)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    for step in range(num_steps):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        chosen = torch.randint(NUM_HELD_BACK, len(specs), (64,))
        logits = model.train()(_roughened(pictures[chosen].float().div_(255)))
        loss = torch.stack([F.cross_entropy(logits[name], truth[name][chosen]) for name in HEADS]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    model.eval()
    with torch.no_grad():
        logits = model(pictures[:NUM_HELD_BACK].float().div_(255))
    return model, {
        name: float((logits[name].argmax(1) == truth[name][:NUM_HELD_BACK]).float().mean()) for name in HEADS
    }


def _labels(specs: list[SceneSpec]) -> dict[str, Tensor]:
    return {
        name: torch.tensor([answers.index(true_names(spec)[name]) for spec in specs]) for name, answers in HEADS.items()
    }


def _roughened(pictures: Tensor) -> Tensor:
    """Blur, noise and a little brightness, one draw per batch."""
    kind, level, gain = torch.rand(3).tolist()
    if kind < 0.25:
        pictures = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    elif kind < 0.5:
        pictures = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear")
    roughened: Tensor = pictures * (0.95 + 0.1 * gain) + 0.05 * level * torch.randn_like(pictures)
    return roughened


def save_classifier(path: Path, model: Classifier, accuracy: dict[str, float]) -> None:
    torch.save({"weights": model.state_dict(), "accuracy": accuracy}, path)


def load_classifier(path: Path) -> tuple[Classifier, dict[str, float]]:
    """The judge, and each head's accuracy on renders that it never saw."""
    state = torch.load(path, weights_only=True)
    model = Classifier()
    model.load_state_dict(state["weights"])
    return model.eval(), state["accuracy"]

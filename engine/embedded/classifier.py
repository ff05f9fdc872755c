"""A small network that names what a clip shows: the judge of the evaluation, trained on renders alone.

It sees three frames of a clip at half size and answers for scene, time of day, subject, colour and direction; the
last answer of each but the scene is "none". Training blurs and roughens the renders, so that a soft decoder is not
marked down.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.embedded.spec import COLOURS, DIRECTIONS, SCENES, SUBJECTS, TIMES, SceneSpec

HEADS: dict[str, tuple[str, ...]] = {
    "scene": SCENES,
    "time": (*TIMES, "none"),
    "subject": (*SUBJECTS, "none"),
    "colour": (*COLOURS, "none"),
    "direction": (*DIRECTIONS, "none"),
}
JUDGED_FRAMES = (0, 8, 16)


class Classifier(nn.Module):
    def __init__(self, width: int = 32) -> None:
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
        """[B, 9, 64, 112] in [0, 1] (`judged_picture`) to logits by head."""
        x = self.layers(pictures * 2 - 1)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.no_grad()
    def names(self, frames: Tensor) -> list[dict[str, str]]:
        """What each clip of [B, 25, 3, 128, 224] shows, by head."""
        logits = self.eval()(judged_picture(frames))
        best = {name: values.argmax(1).tolist() for name, values in logits.items()}
        return [{name: HEADS[name][best[name][row]] for name in HEADS} for row in range(len(frames))]


def judged_picture(frames: Tensor) -> Tensor:
    """[B, 25, 3, H, W] to [B, 9, H/2, W/2]."""
    return F.avg_pool2d(frames[:, list(JUDGED_FRAMES)].flatten(1, 2), 2)


def labels(specs: list[SceneSpec]) -> dict[str, Tensor]:
    return {
        name: torch.tensor([answers.index(getattr(spec, name) or "none") for spec in specs])
        for name, answers in HEADS.items()
    }


def train_classifier(
    pictures: Any, specs: list[SceneSpec], *, num_steps: int, seed: int = 0
) -> tuple[Classifier, float]:
    """From uint8 `pictures` [N, 9, 64, 112]; returns it with its worst head's accuracy on 300 that it never saw."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, truth = Classifier(), labels(specs)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    held_back = 300
    for step in range(num_steps):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        chosen = rng.integers(held_back, len(specs), size=48)
        logits = model.train()(_roughened(torch.from_numpy(pictures[chosen]).float().div_(255), rng))
        loss = torch.stack(
            [F.cross_entropy(logits[name], truth[name][torch.from_numpy(chosen)]) for name in HEADS]
        ).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(np.array(pictures[:held_back])).float().div_(255))
    accuracy = {name: float((logits[name].argmax(1) == truth[name][:held_back]).float().mean()) for name in HEADS}
    return model, min(accuracy.values())


def _roughened(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, noise and a little brightness, one draw per batch."""
    kind = rng.integers(4)
    if kind == 1:
        pictures = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    elif kind == 2:
        pictures = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear")
    elif kind == 3:
        pictures = F.interpolate(F.avg_pool2d(pictures, 4), scale_factor=4.0, mode="bilinear")
    noise = torch.randn_like(pictures) * float(rng.uniform(0, 0.05))
    return pictures * float(rng.uniform(0.94, 1.06)) + noise


def save_classifier(path: Path, model: Classifier) -> None:
    torch.save(model.state_dict(), path)


def load_classifier(path: Path) -> Classifier:
    model = Classifier()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()

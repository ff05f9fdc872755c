"""Renders a `SceneSpec`: the procedural flat-art world that the embedded model learns. Its data set is this file.

`render` returns any frames of a clip, so that training reads two groups of four as cheaply as a whole clip. Every clip
closes on itself: frame 24 equals frame 0. Torch on any device, no state, no randomness beyond the spec.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.embedded.drawing import DESIGN_HEIGHT, DESIGN_WIDTH, Canvas, multiply
from engine.embedded.scenes import DAYLIGHTS, SCENE_PAINTERS, SPACE_LIGHT, paint_road_marks, paint_space
from engine.embedded.spec import SceneSpec
from engine.embedded.subjects import PAINTS, paint_subject

WIDTH, HEIGHT = DESIGN_WIDTH, DESIGN_HEIGHT
NUM_FRAMES, FPS = 25, 12
PERIOD_FRAMES = NUM_FRAMES - 1

_GROUND = {"dog": 96.0, "dancer": 86.0, "car": 96.0, "sailboat": 78.0, "fish": 62.0, "rocket": 64.0}
_SKY = {"bird": 44.0, "balloon": 42.0}
# x of the subject for each layout, clear of the layout's trees, sun and planets.
_STAGE_X: dict[str, tuple[float, float, float]] = {
    "beach": (112, 112, 112),
    "sea": (150, 92, 104),
    "mountains": (104, 124, 112),
    "forest": (124, 100, 112),
    "city": (124, 100, 112),
    "volcano": (44, 172, 52),
    "underwater": (112, 100, 122),
    "space": (144, 76, 88),
}
_STAGE_Y: dict[tuple[str, str], float] = {
    ("beach", "sailboat"): 62.0,
    ("beach", "dog"): 98.0,
    ("beach", "dancer"): 88.0,
    ("beach", "bird"): 40.0,
    ("sea", "bird"): 40.0,
    ("forest", "bird"): 46.0,
    ("city", "dancer"): 82.0,
    ("city", "car"): 98.0,
    ("city", "rocket"): 48.0,
    ("volcano", "car"): 102.0,
    ("space", "rocket"): 74.0,
}


def render(
    spec: SceneSpec,
    frame_indices: Sequence[int] = range(NUM_FRAMES),
    *,
    height: int = HEIGHT,
    width: int = WIDTH,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The frames asked for, [T, 3, height, width] float32 in [0, 1]; the same spec gives the same pixels."""
    indices = torch.tensor([index % PERIOD_FRAMES for index in frame_indices], dtype=torch.float32, device=device)
    canvas = Canvas(indices / PERIOD_FRAMES, height=height, width=width)
    if spec.time is None:
        paint_space(canvas, None, spec.layout)
    else:
        SCENE_PAINTERS[spec.scene](canvas, spec.time, spec.layout)
    if spec.scene == "city" and spec.time is not None:
        paint_road_marks(canvas, spec.time, is_driving=spec.subject == "car", mirrored=spec.direction == "left")
    if spec.subject is not None and spec.colour is not None:
        x, y = subject_position(spec)
        light = SPACE_LIGHT if spec.time is None else DAYLIGHTS[spec.time].light
        if spec.scene == "underwater":
            light = multiply(light, (0.95, 1.0, 1.0))
        mirrored = spec.direction == "left"
        paint_subject(canvas, spec.subject, PAINTS[spec.colour], x, y, mirrored=mirrored, light=light)
    return canvas.pixels.clamp_(0, 1)


def subject_position(spec: SceneSpec) -> tuple[float, float]:
    """The middle of the spec's subject in design units (224 x 128); asking for one that is not there raises."""
    if spec.subject is None:
        raise ValueError("this spec has no subject")
    default = _GROUND.get(spec.subject, _SKY.get(spec.subject, 60.0))
    y = _STAGE_Y.get((spec.scene, spec.subject), default)
    return _STAGE_X[spec.scene][spec.layout] + spec.jitter[0], y + spec.jitter[1]

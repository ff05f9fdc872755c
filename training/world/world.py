"""Renders a `SceneSpec`: the procedural flat-art world that the embedded model learns. Its data set is this file.

`render` returns any frames of a clip, so that training can render only two groups of four. Every clip closes on itself:
frame 24 equals frame 0. Torch on any device, no state, no randomness beyond the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.embedded.places import subject_position
from engine.embedded.spec import SceneSpec
from training.world.drawing import DESIGN_HEIGHT, DESIGN_WIDTH, Canvas, Rgb, multiply
from training.world.palette_and_camera import apply_palette, drifted
from training.world.scenes import DAYLIGHTS, SCENE_PAINTERS, SPACE_LIGHT, WHITE, paint_road_marks, paint_space
from training.world.scenes_indoors import INDOOR_LIGHT, INDOOR_PAINTERS, WINDOWS
from training.world.scenes_outdoors import AURORA_LIGHT, OUTDOOR_PAINTERS
from training.world.subjects import PAINTS, paint_subject
from training.world.weather import paint_weather

WIDTH, HEIGHT = 416, 256
NUM_FRAMES, FPS = 25, 12
PERIOD_FRAMES = NUM_FRAMES - 1

_PAINTERS: dict[str, Callable[[Canvas, Any, int], None]] = {
    **SCENE_PAINTERS,
    **OUTDOOR_PAINTERS,
    **INDOOR_PAINTERS,
    "space": paint_space,
}
_WHOLE = (0.0, 0.0, float(DESIGN_WIDTH), float(DESIGN_HEIGHT))


def render(
    spec: SceneSpec,
    frame_indices: Sequence[int] = range(NUM_FRAMES),
    *,
    height: int = HEIGHT,
    width: int = WIDTH,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The frames with these indices, [T, 3, height, width] float32 in [0, 1]; the same spec gives the same pixels."""
    indices = torch.tensor([index % PERIOD_FRAMES for index in frame_indices], dtype=torch.float32, device=device)
    canvas = Canvas(indices / PERIOD_FRAMES, height=height, width=width)
    _PAINTERS[spec.scene](canvas, spec.time, spec.layout)
    if spec.scene == "city" and spec.time is not None:
        paint_road_marks(canvas, spec.time, is_driving=spec.subject == "car", mirrored=spec.direction == "left")
    windows = WINDOWS.get(spec.scene)
    # Weather outside of a window, and fog far away, is behind the subject. Any other weather also falls before it.
    is_behind = windows is not None or spec.weather == "fog"
    if is_behind:
        paint_weather(canvas, spec.weather, spec.time, _WHOLE if windows is None else windows[spec.layout])
    if spec.subject is not None and spec.colour is not None:
        x, y = subject_position(spec)
        mirrored = spec.direction == "left"
        paint_subject(canvas, spec.subject, PAINTS[spec.colour], x, y, mirrored=mirrored, light=_light(spec))
    if not is_behind:
        paint_weather(canvas, spec.weather, spec.time, _WHOLE)
    pixels = apply_palette(canvas.pixels.clamp_(0, 1), spec.palette)
    return drifted(pixels, canvas.phase) if spec.camera == "drift" else pixels


def _light(spec: SceneSpec) -> Rgb:
    """The light on the subject."""
    if spec.scene == "aurora":
        return AURORA_LIGHT
    if spec.time is None:
        return SPACE_LIGHT if spec.scene == "space" else WHITE
    if spec.scene in WINDOWS:
        return INDOOR_LIGHT[spec.time]
    light = DAYLIGHTS[spec.time].light
    return multiply(light, (0.95, 1.0, 1.0)) if spec.scene == "underwater" else light


def subject_box(spec: SceneSpec) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of the pixels that the subject may touch, or None without one."""
    if spec.subject is None:
        return None
    x, y = subject_position(spec)
    scale = HEIGHT / DESIGN_HEIGHT
    x -= (DESIGN_WIDTH - WIDTH / scale) / 2
    return (
        max(0, round((x - 38) * scale)),
        max(0, round((y - 36) * scale)),
        min(WIDTH, round((x + 38) * scale)),
        min(HEIGHT, round((y + 36) * scale)),
    )

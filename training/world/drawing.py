"""A small canvas of signed-distance shapes for the procedural world: torch tensors, painter's order, soft edges.

Coordinates are design units (224 x 128, y down) whatever the picture's size in pixels. A shape is a distance, negative
inside; painting blends a colour over the picture with an edge one pixel wide. Everything that moves is a function of
the phase in [0, 1), one value per frame, so that a clip closes on itself.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

DESIGN_WIDTH, DESIGN_HEIGHT = 224, 128
TAU = 2 * math.pi

Rgb = tuple[float, float, float]
Number = float | Tensor


def rgb(code: str) -> Rgb:
    """`rgb("ff8000")` is (1.0, 0.5, 0.0)."""
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def multiply(first: Rgb, second: Rgb) -> Rgb:
    red, green, blue = (min(1.0, a * b) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Area:
    """A rectangle of the canvas with its own coordinates `x`, `y` ([1|T, h, w]); painting writes through."""

    def __init__(self, pixels: Tensor, x: Tensor, y: Tensor, pixels_per_unit: float) -> None:
        self.x, self.y = x, y
        self._pixels = pixels
        self._pixels_per_unit = pixels_per_unit

    def paint(self, distance: Tensor, colour: Rgb | Tensor, *, opacity: Number = 1.0, softness: float = 1.0) -> None:
        """Blends `colour` (a triple, or a tensor that broadcasts to [T, 3, h, w]) where `distance` is negative."""
        cover = (0.5 - distance * (self._pixels_per_unit / softness)).clamp(0, 1)
        self.blend(cover * opacity, colour)

    def blend(self, cover: Tensor, colour: Rgb | Tensor) -> None:
        """Blends with `cover` [1|T, h, w] in [0, 1] given directly: glows, mist, gradients."""
        if isinstance(colour, tuple):
            colour = cover.new_tensor(colour).view(1, 3, 1, 1)
        self._pixels.lerp_(colour, cover.unsqueeze(1))

    def placed(self, x: Number, y: Number, *, angle: Number = 0.0, mirrored: bool = False, size: float = 1.0) -> Area:
        """The same pixels in coordinates whose origin is at (x, y): shapes drawn there are moved, turned, mirrored."""
        dx, dy = self.x - x, self.y - y
        if mirrored:
            dx = -dx
        if isinstance(angle, Tensor) or angle != 0.0:
            turn = torch.as_tensor(angle, dtype=dx.dtype, device=dx.device)
            cos, sin = turn.cos(), turn.sin()
            dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
        return Area(self._pixels, dx / size, dy / size, self._pixels_per_unit * size)


class Canvas:
    """T frames being painted. `pixels` is [T, 3, H, W] in [0, 1]; `phase` is [T, 1, 1] in [0, 1)."""

    def __init__(self, phase: Tensor, *, height: int = DESIGN_HEIGHT, width: int = DESIGN_WIDTH) -> None:
        self.phase = phase.view(-1, 1, 1)
        self.pixels = torch.zeros(phase.numel(), 3, height, width, device=phase.device)
        # Pixels are square: a picture that is narrower than the design loses the same at both sides.
        self._scale = height / DESIGN_HEIGHT
        self._left = (DESIGN_WIDTH - width / self._scale) / 2
        self._x = ((torch.arange(width, device=phase.device) + 0.5) / self._scale + self._left).view(1, 1, -1)
        self._y = ((torch.arange(height, device=phase.device) + 0.5) / self._scale).view(1, -1, 1)

    def still(self) -> Canvas:
        """An empty canvas of the same size with one frame at phase 0: what never moves is painted once."""
        height, width = self.pixels.shape[2:]
        return Canvas(self.phase.new_zeros(1), height=height, width=width)

    def area(self, x0: float = 0, y0: float = 0, x1: float = DESIGN_WIDTH, y1: float = DESIGN_HEIGHT) -> Area:
        """The rectangle, cut at the picture's border. Choose it tight: the cost is its number of pixels."""
        height, width = self.pixels.shape[2:]
        left, right = (min(width, max(0, round((x - self._left) * self._scale))) for x in (x0, x1))
        top, bottom = (min(height, max(0, round(y * self._scale))) for y in (y0, y1))
        pixels = self.pixels[:, :, top:bottom, left:right]
        return Area(pixels, self._x[:, :, left:right], self._y[:, top:bottom], self._scale)

    def wave(self, cycles: int = 1, offset: float = 0.0) -> Tensor:
        """A sine over the clip, [T, 1, 1] in [-1, 1]; `cycles` is whole, so it closes."""
        return torch.sin(TAU * (cycles * self.phase + offset))

    def ramp(self, cycles: int = 1, offset: float = 0.0) -> Tensor:
        """A saw tooth over the clip, [T, 1, 1] in [0, 1)."""
        return (cycles * self.phase + offset) % 1.0


def vertical_gradient(y: Tensor, stops: tuple[tuple[float, Rgb], ...]) -> Tensor:
    """Colours between `(y, colour)` stops, smooth at each: [1, 3, h, 1]."""
    colour = y.new_tensor(stops[0][1]).view(1, 3, 1, 1).expand(1, 3, y.shape[1], 1)
    for (start, _), (end, after) in pairwise(stops):
        share = ((y - start) / (end - start)).clamp(0, 1).unsqueeze(1)
        colour = torch.lerp(colour, y.new_tensor(after).view(1, 3, 1, 1), share * share * (3 - 2 * share))
    return colour


def circle(x: Tensor, y: Tensor, cx: Number, cy: Number, radius: Number) -> Tensor:
    return torch.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius


def ellipse(x: Tensor, y: Tensor, cx: Number, cy: Number, rx: float, ry: float) -> Tensor:
    dx, dy = (x - cx) / rx, (y - cy) / ry
    level = torch.sqrt(dx * dx + dy * dy)
    slope = torch.sqrt((dx / rx) ** 2 + (dy / ry) ** 2).clamp_min(1e-4)
    return level * (level - 1) / slope


def capsule(x: Tensor, y: Tensor, ax: Number, ay: Number, bx: Number, by: Number, radius: Number) -> Tensor:
    """A thick line from a to b with round ends."""
    px, py, dx, dy = x - ax, y - ay, bx - ax, by - ay
    along = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return torch.sqrt((px - dx * along) ** 2 + (py - dy * along) ** 2) - radius


def rectangle(x: Tensor, y: Tensor, cx: Number, cy: Number, half_w: float, half_h: float, corner: float = 0) -> Tensor:
    dx, dy = (x - cx).abs() - (half_w - corner), (y - cy).abs() - (half_h - corner)
    outside = torch.sqrt(dx.clamp_min(0) ** 2 + dy.clamp_min(0) ** 2)
    return outside + torch.maximum(dx, dy).clamp_max(0) - corner


def polygon(x: Tensor, y: Tensor, *corners: tuple[Number, Number]) -> Tensor:
    """A convex polygon, its corners clockwise as seen."""
    distance: Tensor | None = None
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        dx, dy = bx - ax, by - ay
        length = (dx * dx + dy * dy) ** 0.5
        edge = ((x - ax) * dy - (y - ay) * dx) / length
        distance = edge if distance is None else torch.maximum(distance, edge)
    assert distance is not None
    return distance


def triangle(
    x: Tensor, y: Tensor, a: tuple[Number, Number], b: tuple[Number, Number], c: tuple[Number, Number]
) -> Tensor:
    """A triangle whose corners may turn over during the clip: a beating wing."""
    (ax, ay), (bx, by), (cx, cy) = a, b, c
    turn = torch.sign(torch.as_tensor((bx - ax) * (cy - ay) - (by - ay) * (cx - ax), dtype=x.dtype, device=x.device))
    edges = []
    for (px, py), (qx, qy) in (((ax, ay), (bx, by)), ((bx, by), (cx, cy)), ((cx, cy), (ax, ay))):
        dx, dy = qx - px, qy - py
        edges.append(turn * ((x - px) * dy - (y - py) * dx) / (dx * dx + dy * dy) ** 0.5)
    return intersect(*edges)


def union(*distances: Tensor) -> Tensor:
    result = distances[0]
    for distance in distances[1:]:
        result = torch.minimum(result, distance)
    return result


def cut(distance: Tensor, *others: Tensor) -> Tensor:
    """`distance` without what the others cover."""
    for other in others:
        distance = torch.maximum(distance, -other)
    return distance


def intersect(*distances: Tensor) -> Tensor:
    result = distances[0]
    for distance in distances[1:]:
        result = torch.maximum(result, distance)
    return result


def glow(x: Tensor, y: Tensor, cx: float, cy: float, radius: float) -> Tensor:
    """A soft light: 1 at the centre, fading over `radius` units."""
    return torch.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (radius * radius)))

"""Rain, snow, fog and petals over a finished scene, or over a window's glass.

Falling things are one formula over the region: columns, each with its own start, that repeat downwards. A clip moves
them by whole repeats, so it closes. Still things are computed once, not per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.world.drawing import DESIGN_WIDTH, TAU, Area, Canvas, Rgb, rgb

_NEUTRAL = "day"
_RAIN_VEIL: dict[str, tuple[Rgb, float]] = {
    "day": (rgb("56708f"), 0.34),
    "sunset": (rgb("4a3a66"), 0.26),
    "night": (rgb("0c1430"), 0.26),
    "dawn": (rgb("8088ab"), 0.32),
}
_RAIN_STREAK: dict[str, tuple[Rgb, float]] = {
    "day": (rgb("eaf5ff"), 0.80),
    "sunset": (rgb("ffe0d6"), 0.70),
    "night": (rgb("9db8ee"), 0.70),
    "dawn": (rgb("ffffff"), 0.85),
}
_FLAKE: dict[str, Rgb] = {
    "day": rgb("ffffff"),
    "sunset": rgb("fff0ea"),
    "night": rgb("d3def8"),
    "dawn": rgb("ffffff"),
}
_SNOW_VEIL: dict[str, tuple[Rgb, float]] = {
    "day": (rgb("7f9ab8"), 0.26),
    "sunset": (rgb("6a5a80"), 0.14),
    "night": (rgb("26315e"), 0.12),
    "dawn": (rgb("8f96bd"), 0.30),
}
_MIST: dict[str, Rgb] = {"day": rgb("e6eef2"), "sunset": rgb("f0b99c"), "night": rgb("55629a"), "dawn": rgb("f2dde6")}
_PETAL: dict[str, Rgb] = {"day": rgb("ff9ec4"), "sunset": rgb("ffa3bd"), "night": rgb("d98bc0"), "dawn": rgb("ff9cc6")}


def paint_weather(
    canvas: Canvas,
    weather: str,
    time: str | None,
    region: tuple[float, float, float, float] = (0, 0, 224, 128),
) -> None:
    """Paints `weather` inside `region` (x0, y0, x1, y1) of a finished picture; "clear" changes nothing."""
    if weather == "clear":
        return
    area = canvas.area(*region)
    hour = _NEUTRAL if time is None else time
    # A window shows less of the sky: its rain and snow are set closer.
    is_open = region[2] - region[0] > DESIGN_WIDTH / 2
    if weather == "rain":
        _veil(area, *_RAIN_VEIL[hour])
        _rain(canvas, area, *_RAIN_STREAK[hour], is_open=is_open)
    elif weather == "snow":
        _veil(area, *(_SNOW_VEIL["night"] if time is None else _SNOW_VEIL[hour]))
        _snow(canvas, area, _FLAKE[hour], is_open=is_open)
    elif weather == "fog":
        _fog(canvas, area, _MIST[hour], region)
    elif weather == "petals":
        _petals(canvas, area, _PETAL[hour], is_open=is_open)
    else:
        raise ValueError(f"unknown weather {weather!r}")


def _veil(area: Area, colour: Rgb, opacity: float) -> None:
    area.blend(torch.full_like(area.x * area.y, opacity), colour)


def _columns(area: Area, width: float, slant: float) -> tuple[Tensor, Tensor]:
    """Distance from the middle of each pixel's column, and the column's start in [0, 1): both [1, h, w]."""
    along = (area.x + slant * area.y) / width
    number = torch.floor(along)
    # The golden ratio keeps neighbours apart; the square hides the regularity.
    return (along - number - 0.5) * width, (number * 0.618034 + number * number * 0.2137) % 1.0


def _falling(canvas: Canvas, area: Area, start: Tensor, repeat: float, cycles: int) -> Tensor:
    """Height above or below the nearest falling thing, [T, h, w], in [-repeat / 2, repeat / 2)."""
    height = (area.y / repeat + start) - cycles * canvas.phase
    return height.sub_(torch.floor(height)).sub_(0.5).mul_(repeat)


def _rain(canvas: Canvas, area: Area, colour: Rgb, opacity: float, *, is_open: bool) -> None:
    aside, start = _columns(area, 17.0 if is_open else 13.0, 0.28)
    level = _falling(canvas, area, start, 46.0 if is_open else 34.0, 2)
    half_length = 10.0 if is_open else 8.0
    tips = level.abs_().sub_(half_length).mul_(-0.3).clamp_(0, 1)
    side = (1.9 - aside.abs()).clamp(0, 1) * opacity
    area.blend(tips.mul_(side), colour)


def _snow(canvas: Canvas, area: Area, colour: Rgb, *, is_open: bool) -> None:
    width, slant = 22.0 if is_open else 14.5, 0.34
    aside, start = _columns(area, width, slant)
    level = _falling(canvas, area, start, 34.0 if is_open else 24.0, 1)
    # Less the column's slant, so that flakes stay round.
    offset = torch.add(aside + 2.0 * canvas.wave(1), level, alpha=-slant)
    squares = level.square_().add_(offset.square_())
    radius = 3.3 if is_open else 3.0
    area.blend(squares.mul_(-1 / (2 * radius)).add_(0.5 + radius / 2).clamp_(0, 0.97), colour)


def _petals(canvas: Canvas, area: Area, colour: Rgb, *, is_open: bool) -> None:
    aside, start = _columns(area, 34.0 if is_open else 22.0, 0.75)
    level = _falling(canvas, area, start, 36.0 if is_open else 26.0, 1)
    # The slanted columns skew the circle into a petal; the sway makes it flutter.
    offset = aside + 3.0 * canvas.wave(1)
    shape = level.mul_(1.05).square_().add_(offset.square_().mul_(0.8))
    area.blend(shape.mul_(-1 / 7.0).add_(0.5 + 12.0 / 7.0).clamp_(0, 0.95), colour)


def _fog(canvas: Canvas, area: Area, colour: Rgb, region: tuple[float, float, float, float]) -> None:
    _, top, _, bottom = region
    down = (area.y - top) / (bottom - top)
    base = 0.36 + 0.26 * down
    # sin(a - phase) = sin(a) cos(phase) - cos(a) sin(phase): the waves move without a sine per frame.
    still, moving = torch.zeros_like(area.x * area.y), torch.zeros_like(area.x * area.y)
    for middle, half, strength, length, direction, offset in (
        (0.34, 0.09, 0.46, 168.0, 1, 0.0),
        (0.60, 0.10, 0.50, 136.0, -1, 0.35),
        (0.88, 0.12, 0.32, 190.0, 1, 0.6),
    ):
        band = strength * torch.exp(-(((down - middle) / half) ** 2))
        angle = TAU * (area.x / length + offset)
        base = base + 0.55 * band
        still += 0.45 * band * torch.sin(angle)
        moving -= direction * 0.45 * band * torch.cos(angle)
    turn = TAU * canvas.phase
    cover = base + still * torch.cos(turn) + moving * torch.sin(turn)
    area.blend(cover.clamp_(0, 0.9), colour)

"""The indoor scenes of the procedural world: a classroom, a cosy room, a cafe, and a studio.

Still things are painted once, on one frame, in full colours; a light map of daylight and lamps then tints them. Two
light maps, blended by a sine, let the lamps breathe at the cost of one blend per clip. Only things that move by
themselves are painted per frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.embedded.places import STAGES
from training.world.drawing import (
    DESIGN_WIDTH,
    TAU,
    Area,
    Canvas,
    Rgb,
    capsule,
    circle,
    cut,
    ellipse,
    glow,
    intersect,
    mix,
    multiply,
    polygon,
    rectangle,
    rgb,
    union,
    vertical_gradient,
)
from training.world.scenes import DAYLIGHTS, WHITE

Box = tuple[float, float, float, float]

# Softer than outdoors: a room keeps its own colours, and the window tells the time.
_AMBIENT: dict[str, Rgb] = {
    "day": (0.96, 0.97, 0.98),
    "sunset": (0.83, 0.62, 0.61),
    "night": (0.37, 0.39, 0.63),
    "dawn": (0.80, 0.77, 0.90),
}
# The light on a subject that stands on the stage.
INDOOR_LIGHT: dict[str, Rgb] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (0.98, 0.78, 0.70),
    "night": (0.96, 0.87, 0.79),
    "dawn": (0.93, 0.89, 0.97),
}
_LAMP_STRENGTH = {"day": 0.0, "sunset": 0.36, "night": 0.86, "dawn": 0.24}
_LAMP_LIGHT: Rgb = (1.06, 0.90, 0.64)
# How much the window brightens the wall around it, and its patch of light on the floor.
_SPILL = {"day": 0.08, "sunset": 0.26, "night": 0.08, "dawn": 0.18}
_PATCH = {"day": 0.20, "sunset": 0.42, "night": 0.10, "dawn": 0.22}


@dataclass(frozen=True)
class _Brush:
    """Plain shapes in tight areas."""

    canvas: Canvas

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: str, *, corner: float = 0, softness: float = 1
    ) -> None:
        area = self.canvas.area(x0 - 2, y0 - 2, x1 + 2, y1 + 2)
        shape = rectangle(area.x, area.y, (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, corner)
        area.paint(shape, rgb(colour), softness=softness)

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        self.oval(x, y, radius, radius, colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str, *, softness: float = 1) -> None:
        area = self.canvas.area(x - rx - 2, y - ry - 2, x + rx + 2, y + ry + 2)
        area.paint(ellipse(area.x, area.y, x, y, rx, ry), rgb(colour), softness=softness)

    def line(self, ax: float, ay: float, bx: float, by: float, radius: float, colour: str) -> None:
        margin = radius + 2
        area = self.canvas.area(min(ax, bx) - margin, min(ay, by) - margin, max(ax, bx) + margin, max(ay, by) + margin)
        area.paint(capsule(area.x, area.y, ax, ay, bx, by, radius), rgb(colour))

    def corners(self, colour: str, *points: tuple[float, float]) -> None:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        area = self.canvas.area(min(xs) - 2, min(ys) - 2, max(xs) + 2, max(ys) + 2)
        area.paint(polygon(area.x, area.y, *points), rgb(colour))

    def gradient(self, y0: float, y1: float, top: str, bottom: str) -> None:
        area = self.canvas.area(0, y0, DESIGN_WIDTH, y1)
        area.blend(torch.ones_like(area.x * area.y), vertical_gradient(area.y, ((y0, rgb(top)), (y1, rgb(bottom)))))


# --- Windows -----------------------------------------------------------------------------------------------------


def _paint_view(still: Canvas, time: str, glass: Box, view: str) -> None:
    """Sky, sun or moon, and land, inside the glass."""
    x0, y0, x1, y1 = glass
    width, height = x1 - x0, y1 - y0
    sky = DAYLIGHTS[time]
    area = still.area(*glass)
    x, y = area.x, area.y
    stops = ((y0, sky.top), (y0 + height * 0.45, sky.middle), (y1 - height * 0.16, sky.horizon))
    area.blend(torch.ones_like(x * y), vertical_gradient(y, stops))
    across, down, radius = {
        "day": (0.78, 0.24, 9.0),
        "sunset": (0.52, 0.60, 14.0),
        "night": (0.74, 0.27, 10.0),
        "dawn": (0.46, 0.54, 10.0),
    }[time]
    sun_x, sun_y = x0 + across * width, y0 + down * height
    area.blend(glow(x, y, sun_x, sun_y, 22 if time == "night" else 34) * sky.glow_strength, sky.glow)
    sun = circle(x, y, sun_x, sun_y, radius)
    if time == "night":
        sun = cut(sun, circle(x, y, sun_x + 6, sun_y - 3.5, 8.8))
    area.paint(sun, sky.sun, softness=1.3)
    light = sky.light
    if view == "hills":
        far = mix(multiply(rgb("7fb08a"), light), sky.horizon, 0.35)
        near = multiply(rgb("6fbf5a"), light)
        area.paint(y1 - height * 0.25 + 4.5 * torch.sin(TAU * (x - x0) / width + 0.6) - y, far)
        area.paint(y1 - height * 0.13 + 3.0 * torch.sin(TAU * (x - x0) / width + 3.4) - y, near)
        for share, size in ((0.12, 7.0), (0.27, 5.0), (0.88, 6.0)):
            tx, ty = x0 + share * width, y1 - height * 0.12 - size
            tree = union(circle(x, y, tx, ty, size), rectangle(x, y, tx, ty + size, 1.6, size))
            area.paint(tree, multiply(rgb("3f9a4f"), light))
    else:
        far = mix(multiply(rgb("8f9ec4"), light), sky.horizon, 0.5)
        for share, tall in ((0.06, 0.40), (0.30, 0.50), (0.62, 0.34), (0.92, 0.46)):
            area.paint(rectangle(x, y, x0 + share * width, y1, 8, tall * height), far)
        lit = {"night": rgb("ffd873"), "sunset": rgb("ffd98a")}.get(time)
        for index, (share, tall, tone) in enumerate(
            ((0.17, 0.29, "8d7bb0"), (0.45, 0.22, "b9777c"), (0.77, 0.31, "6f93b5"))
        ):
            bx, top = x0 + share * width, y1 - tall * height
            area.paint(rectangle(x, y, bx, y1, 10, tall * height), multiply(rgb(tone), light))
            for row in range(2):
                for side in (-1, 1):
                    is_lit = lit is not None and (time == "night" or (index + row + side) % 3 != 0)
                    colour = lit if is_lit and lit is not None else multiply(rgb("3b4a6b"), light)
                    area.paint(rectangle(x, y, bx + 4.5 * side, top + 5.5 + 7.5 * row, 2, 2.2), colour)


def _paint_frame(brush: _Brush, glass: Box, colour: str, *, sill: str, curtain: str | None = None) -> None:
    """The wood around the glass and a sill. Nothing covers the glass, where the weather is painted."""
    x0, y0, x1, y1 = glass
    if curtain is not None:
        brush.line(x0 - 15, y0 - 9, x1 + 15, y0 - 9, 1.8, "7a5238")
        for left, right in ((x0 - 13, x0 - 3), (x1 + 3, x1 + 13)):
            brush.box(left, y0 - 8, right, y1 + 13, curtain, corner=4)
    brush.box(x0 - 4, y0 - 4, x1 + 4, y1 + 4, colour, corner=2)
    brush.box(x0 - 8, y1 + 3, x1 + 8, y1 + 8, sill, corner=2)


def _move_sky(canvas: Canvas, time: str, glass: Box) -> None:
    """A cloud that sways in the window; at night stars that twinkle."""
    x0, y0, x1, y1 = glass
    width, height = x1 - x0, y1 - y0
    if time == "night":
        for index, (across, down) in enumerate(((0.10, 0.16), (0.26, 0.40), (0.42, 0.13), (0.53, 0.42), (0.92, 0.12))):
            x, y = x0 + across * width, y0 + down * height
            star = canvas.area(x - 3, y - 3, x + 3, y + 3)
            twinkle = 0.72 + 0.28 * canvas.wave(1 + index % 2, index * 0.3)
            star.paint(circle(star.x, star.y, x, y, 1.6), rgb("fdf6d8"), opacity=twinkle, softness=1.5)
        return
    for x, y, size, offset in (
        (x0 + 0.27 * width, y0 + 0.30 * height, 0.62, 0.0),
        (x0 + 0.80 * width, y0 + 0.42 * height, 0.5, 0.4),
    ):
        left, right = max(x0, x - 28 * size), min(x1, x + 28 * size)
        area = canvas.area(left, y - 14 * size, right, y + 7 * size)
        u, v = (area.x - x - 3.0 * canvas.wave(1, offset)) / size, (area.y - y) / size
        bumps = torch.minimum(circle(u, v, -9, -1, 7.5), circle(u, v, 6, -3, 9.5))
        shape = torch.minimum(bumps, capsule(u, v, -16, 2, 16, 2, 4.0)) * size
        area.paint(shape, DAYLIGHTS[time].cloud, opacity=0.94, softness=1.3)


# --- Light -------------------------------------------------------------------------------------------------------


def _shine(
    canvas: Canvas,
    room: Canvas,
    time: str,
    glass: Box,
    lamps: Sequence[tuple[float, float, float]],
    emit: Callable[[Canvas, float], None],
    *,
    has_patch: bool,
) -> None:
    """Lights `room` twice, a little dimmer and a little brighter, and blends the two over the clip.

    `lamps` are (x, y, reach); `emit` paints what shines by itself, with a level in [0, 1]; `has_patch`: the window's
    light falls on the floor.
    """
    x0, y0, x1, y1 = glass
    area = room.area()
    x, y = area.x, area.y
    middle = (x0 + x1) / 2
    sky = DAYLIGHTS[time]
    light = x.new_tensor(_AMBIENT[time]).view(1, 3, 1, 1).expand(1, 3, y.shape[1], x.shape[2]).clone()
    spill = torch.exp(-(((x - middle) / (x1 - x0)) ** 2) - ((y - (y0 + y1) / 2) / (0.9 * (y1 - y0))) ** 2)
    light += spill.unsqueeze(1) * x.new_tensor(mix(sky.horizon, sky.light, 0.3)).view(1, 3, 1, 1) * _SPILL[time]
    if has_patch:
        lean = (112 - middle) * 0.22
        patch = polygon(
            x, y, (x0 + 8 + lean, 104), (x1 - 8 + lean, 104), (x1 + 2 + 2 * lean, 122), (x0 - 2 + 2 * lean, 122)
        )
        cover = (0.5 - patch / 5).clamp(0, 1).unsqueeze(1)
        light += cover * x.new_tensor(sky.glow).view(1, 3, 1, 1) * _PATCH[time]
    lamp = sum((glow(x, y, *place) for place in lamps), start=torch.zeros_like(x * y)).unsqueeze(1)
    # Near a lamp its colour replaces the evening's, so that overlapping lamps do not glare.
    lamp = (1 - torch.exp(-1.7 * lamp)) * _LAMP_STRENGTH[time]
    lamp_light = x.new_tensor(_LAMP_LIGHT).view(1, 3, 1, 1)
    # The view behind the glass has its own light.
    inside = (-0.4 - rectangle(x, y, middle, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2) * 2).clamp(0, 1).unsqueeze(1)
    stills = []
    for level in (0.0, 1.0):
        still = canvas.still()
        lit = torch.lerp(light, lamp_light, lamp * (0.9 + 0.1 * level))
        lit = torch.lerp(lit, torch.ones_like(lit), inside)
        still.pixels.copy_((room.pixels * lit).clamp_(0, 1))
        emit(still, level)
        stills.append(still.pixels)
    torch.lerp(stills[0], stills[1], (0.5 + 0.5 * canvas.wave(1)).unsqueeze(1), out=canvas.pixels)


def _halo(still: Canvas, time: str, x: float, y: float, radius: float, level: float) -> None:
    area = still.area(x - 2 * radius, y - 2 * radius, x + 2 * radius, y + 2 * radius)
    strength = {"day": 0.10, "sunset": 0.34, "night": 0.62, "dawn": 0.24}[time]
    area.blend(glow(area.x, area.y, x, y, radius) * (strength * (0.9 + 0.1 * level)), rgb("ffd58a"))


def _shade_colour(time: str, level: float, off: str) -> Rgb:
    on = mix(rgb("ffd27a"), rgb("ffe3a0"), level)
    return mix(rgb(off), on, {"day": 0.25, "sunset": 0.8, "night": 1.0, "dawn": 0.6}[time])


def _pendant(still: Canvas, time: str, x: float, y: float, level: float, colour: str = "d9583f") -> None:
    """A hanging lamp: cord, dome and bulb."""
    _halo(still, time, x, y + 6, 22, level)
    cord = still.area(x - 3, 0, x + 3, y)
    cord.paint((cord.x - x).abs() - 0.9, multiply(rgb("3a2c2c"), INDOOR_LIGHT[time]))
    area = still.area(x - 16, y - 14, x + 16, y + 10)
    area.paint(circle(area.x, area.y, x, y + 1.5, 5), _shade_colour(time, level, "f6e6bd"))
    dome = intersect(ellipse(area.x, area.y, x, y + 2, 13, 13), area.y - (y + 2))
    area.paint(dome, multiply(rgb(colour), INDOOR_LIGHT[time]))


def _floor_lamp(still: Canvas, time: str, x: float, top: float, level: float) -> None:
    """Only the shade; the room has the pole and the foot."""
    _halo(still, time, x, top + 8, 26, level)
    area = still.area(x - 16, top - 2, x + 16, top + 20)
    shade = polygon(area.x, area.y, (x - 8, top), (x + 8, top), (x + 13, top + 18), (x - 13, top + 18))
    area.paint(shade - 0.6, _shade_colour(time, level, "f2ddb0"), softness=1.3)


# --- Things ------------------------------------------------------------------------------------------------------


def _pot(brush: _Brush, x: float, foot: float, size: float, colour: str) -> None:
    brush.corners(
        colour,
        (x - 9 * size, foot - 15 * size),
        (x + 9 * size, foot - 15 * size),
        (x + 6.5 * size, foot),
        (x - 6.5 * size, foot),
    )
    brush.box(x - 10.5 * size, foot - 17 * size, x + 10.5 * size, foot - 12.5 * size, colour, corner=1)


def _leaves(canvas: Canvas, time: str, x: float, y: float, size: float, warmth: float = 0.0) -> None:
    """A house plant's leaves, swaying; (x, y) is the middle of the pot's rim."""
    area = canvas.area(x - 21 * size, y - 40 * size, x + 21 * size, y + 2)
    up = (y - area.y) / size
    u = (area.x - x) / size - canvas.wave(1, 0.01 * x) * 0.045 * up.clamp_min(0)
    light = mix(INDOOR_LIGHT[time], _AMBIENT[time], 0.6 if time == "night" else 0.2)
    light = mix(light, _LAMP_LIGHT, warmth if time == "night" else 0.0)
    dark, bright = multiply(rgb("2f7d4f"), light), multiply(rgb("4fae62"), light)

    def leaf(tip_x: float, tip_y: float, half: float) -> Tensor:
        # Two circles' overlap: a pointed leaf from the rim's middle to the tip.
        length = math.hypot(tip_x, tip_y)
        along = (u * tip_x + up * tip_y) / length
        aside = (u * tip_y - up * tip_x) / length
        bend = (along / length).clamp(0, 1)
        return (aside.abs() + 0.8 - (half + 0.6) * 3.4 * bend * (1 - bend) ** 0.6) * 0.8 * size

    for tip_x, tip_y, half, tone in (
        (-15, 25, 4.4, dark),
        (15, 26, 4.4, dark),
        (1, 37, 4.6, dark),
        (-18, 12, 3.8, bright),
        (18, 13, 3.8, bright),
        (-8, 32, 4.0, bright),
        (9, 31, 4.0, bright),
    ):
        area.paint(leaf(tip_x, tip_y, half), tone, softness=1.2)


def _bookshelf(brush: _Brush, x0: float, y0: float, x1: float, y1: float, rows: int) -> None:
    brush.box(x0, y0, x1, y1, "7d5238", corner=2)
    tones = ("c8564b", "e0a848", "4f8f8b", "efe3cc", "6b6aa8", "d98a5a", "7fae6a")
    step = (y1 - y0 - 3) / rows
    for row in range(rows):
        top, bottom = y0 + 3 + row * step, y0 + row * step + step
        brush.box(x0 + 3, top, x1 - 3, bottom, "4f3226")
        count = int((x1 - x0 - 8) // 5.4)
        for index in range(count):
            if (index * 3 + row * 4) % 7 == 6:
                continue
            left = x0 + 4 + index * 5.4
            height = (bottom - top) * (0.68 + 0.1 * ((index * 2 + row) % 3))
            brush.box(left, bottom - height, left + 4.6, bottom, tones[(index + row * 3) % 7])


def _picture(brush: _Brush, x0: float, y0: float, x1: float, y1: float, kind: int) -> None:
    brush.box(x0, y0, x1, y1, "f4e9d6", corner=1)
    brush.box(x0 + 3, y0 + 3, x1 - 3, y1 - 3, ("8fc3d6", "f0b27a", "e79a9a")[kind])
    area = brush.canvas.area(x0 + 3, y0 + 3, x1 - 3, y1 - 3)
    middle, low = (x0 + x1) / 2, y1 - 3
    area.paint(circle(area.x, area.y, middle + 4, (y0 + y1) / 2 - 2, 4), rgb("fff0c0"))
    area.paint(circle(area.x, area.y, middle - 6, low + 8, 14), rgb(("4f9a7a", "b8604a", "7a5a90")[kind]))


def _cup(brush: _Brush, x: float, y: float, colour: str) -> None:
    """A cup that stands at y."""
    area = brush.canvas.area(x - 8, y - 11, x + 11, y + 2)
    handle = circle(area.x, area.y, x + 5.5, y - 5.5, 3.0).abs() - 1.1
    body = rectangle(area.x, area.y, x, y - 5, 5.5, 5, 2)
    area.paint(torch.minimum(handle, body), rgb(colour))
    area.paint(rectangle(area.x, area.y, x, y - 0.6, 8, 1.3, 1), rgb(colour))


def _steam(canvas: Canvas, x: float, y: float, offset: float = 0.0) -> None:
    """Two soft wisps that climb from y by whole wavelengths."""
    area = canvas.area(x - 8, y - 25, x + 8, y)
    up = (y - area.y) / 25
    fade = torch.sin(torch.pi * up.clamp(0, 1)) * 0.62
    for side in (-1, 1):
        middle = x + side * 3.2 + 1.8 * torch.sin(TAU * (1.2 * up - canvas.phase + offset + 0.07 * side))
        area.paint((area.x - middle).abs() - 1.3, WHITE, opacity=fade, softness=2.4)


# --- Classroom ---------------------------------------------------------------------------------------------------

_CLASS_GLASS: tuple[Box, Box, Box] = ((12, 25, 88, 82), (136, 25, 212, 82), (78, 25, 154, 82))
_BOARDS: tuple[Box, Box, Box] = ((104, 25, 217, 82), (7, 25, 120, 82), (5, 25, 64, 82))


def _desk(brush: _Brush, x: float, top: float, half: float) -> None:
    for side in (-1, 1):
        brush.box(x + side * (half - 5) - 2, top + 3, x + side * (half - 5) + 2, 126, "5f6b7c", corner=1)
    brush.box(x - half + 5, top + 4, x + half - 5, top + 13, "b9773f")
    brush.box(x - half, top, x + half, top + 5.5, "e8ac66", corner=2)


def _chalk(brush: _Brush, x: float, y: float, kind: int) -> None:
    """What the lesson was about, in chalk, 16 units high around (x, y)."""
    area = brush.canvas.area(x - 14, y - 12, x + 14, y + 12)
    u, v = area.x - x, area.y - y
    if kind == 0:
        shape = circle(u, v, 0, 0, 7.5).abs() - 1.3
    elif kind == 1:
        outline = polygon(u, v, (0, -9), (9, 7), (-9, 7))
        shape = (outline + 1.3).abs() - 1.3
    elif kind == 2:
        shape = (rectangle(u, v, 0, 0, 7, 7).abs()) - 1.3
    else:
        turn = torch.atan2(v, u) + torch.pi / 2
        fold = (turn * 5 / TAU - torch.floor(turn * 5 / TAU + 0.5)).abs() * 2
        shape = (torch.sqrt(u * u + v * v) - (9.5 - 5.0 * fold)) * 0.75
    area.paint(shape, rgb(("f6f3e6", "f9d98a", "9fd8e6", "f6b7b0")[kind]), opacity=0.92)


def _classroom(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    glass, (bx0, by0, bx1, by1) = _CLASS_GLASS[layout], _BOARDS[layout]
    room = canvas.still()
    brush = _Brush(room)
    brush.gradient(0, 98, "fbeccb", "f3dcb2")
    brush.box(-2, 96, 226, 101, "b98150")
    brush.gradient(101, 128, "cf9a66", "b57d4c")
    _paint_frame(brush, glass, "fffaf0", sill="c9975f")
    _paint_view(room, time, glass, "hills")
    brush.box(bx0, by0, bx1, by1, "b3743f", corner=2)
    brush.box(bx0 + 4, by0 + 4, bx1 - 4, by1 - 4, ("2f6f5b", "3b4a5c", "2f6f5b")[layout], corner=1)
    brush.box(bx0 + 8, by1 - 1.5, bx1 - 8, by1 + 3, "8d5a32", corner=1)
    if layout == 2:
        _chalk(brush, bx0 + 18, by0 + 20, 3)
        _chalk(brush, bx1 - 18, by0 + 20, 0)
        for left, tone, spot in ((164, "fdf6e3", "e2574c"), (190, "dff0f5", "4f9fd0")):
            brush.box(left, 25, left + 21, 51, tone, corner=1)
            brush.disc(left + 10.5, 36, 6, spot)
            brush.box(left + 4, 44, left + 17, 47.4, "6fb26a", corner=1)
            brush.disc(left + 10.5, 25.5, 2, "d94f45")
    else:
        for index, kind in enumerate((0, 1, 2, 3)):
            _chalk(brush, bx0 + 20 + index * 24.5, by0 + 18, (kind + layout) % 4)
    desk_x = (48, 176, 40)[layout]
    _desk(brush, desk_x, 104, 36)
    globe_x = desk_x + (18, -18, 16)[layout]
    brush.box(globe_x - 6, 101, globe_x + 6, 104.5, "7a4a2c", corner=1)
    brush.box(globe_x - 1.8, 97, globe_x + 1.8, 103, "7a4a2c")
    stack_x = desk_x - (16, -16, 16)[layout]
    for row, tone in enumerate(("d9584a", "4f86c0", "f0b84a")):
        shift = (0, 2, -1)[row]
        brush.box(stack_x - 11 + shift, 100 - row * 4, stack_x + 11 + shift, 104 - row * 4, tone, corner=1)
    if layout == 1:
        brush.disc(64, 12, 9.5, "5b4436")
        brush.disc(64, 12, 7, "fffaf0")
        brush.line(64, 12, 64, 8, 1.2, "3a3030")
        brush.line(64, 12, 67.4, 13.6, 1.2, "3a3030")
    pendants = ((28.0, 12.0), (100.0, 12.0)) if layout == 1 else ()

    def emit(still: Canvas, level: float) -> None:
        for x, y in pendants:
            _pendant(still, time, x, y, level, "4f9a8f")

    side = 56.0 if layout == 1 else 168.0
    _shine(canvas, room, time, glass, ((side, 6.0, 62.0), (side, 70.0, 70.0)), emit, has_patch=True)
    _move_sky(canvas, time, glass)
    if layout != 1:
        _bunting(canvas, time)
    _globe(canvas, time, globe_x, 91.5)


def _bunting(canvas: Canvas, time: str) -> None:
    light = mix(_AMBIENT[time], INDOOR_LIGHT[time], 0.7)
    tones = ("e2574c", "f2b544", "4fa36a", "4a8fcf", "9a6bb8")
    for number, (left, right) in enumerate(((-4.0, 112.0), (112.0, 228.0))):
        count = round((right - left) / 19)
        for index in range(count):
            share = (index + 0.5) / count
            x, y = left + share * (right - left), 1.5 + 20 * share * (1 - share)
            area = canvas.area(x - 8, 0, x + 8, y + 15)
            tip = 1.6 * canvas.wave(1, 0.13 * index)
            flag = polygon(area.x, area.y, (x - 7, y), (x + 7, y), (x + tip, y + 13))
            area.paint(flag - 0.3, multiply(rgb(tones[(index + 3 * number) % 5]), light))


def _globe(canvas: Canvas, time: str, x: float, y: float) -> None:
    area = canvas.area(x - 12, y - 12, x + 12, y + 12)
    light = mix(_AMBIENT[time], INDOOR_LIGHT[time], 0.5)
    ball = circle(area.x, area.y, x, y, 9.5)
    area.paint(ball, multiply(rgb("3f8fd6"), light))
    turn = TAU * ((area.x - x) / 24 - canvas.phase)
    land = (0.15 - torch.sin(turn + 0.12 * (area.y - y)) * torch.cos((area.y - y + 1) / 7)) * 4
    area.paint(torch.maximum(ball + 0.5, land), multiply(rgb("6fbf62"), light), softness=1.5)
    area.paint(cut(ball, circle(area.x, area.y, x - 3, y - 3, 10.5)), (0.03, 0.05, 0.2), opacity=0.28, softness=2)


# --- Room --------------------------------------------------------------------------------------------------------

_ROOM_GLASS: tuple[Box, Box, Box] = ((18, 18, 92, 76), (132, 18, 206, 76), (66, 18, 142, 76))


def _armchair(brush: _Brush, x: float, foot: float, tone: str, shade: str) -> None:
    for side in (-1, 1):
        brush.box(x + side * 16 - 2, foot - 5, x + side * 16 + 2, foot, "5b3a28")
    brush.box(x - 19, foot - 34, x + 19, foot - 6, shade, corner=9)
    brush.box(x - 16, foot - 19, x + 16, foot - 4, tone, corner=5)
    for side in (-1, 1):
        brush.box(x + side * 20 - 5, foot - 24, x + side * 20 + 5, foot - 3, tone, corner=5)


def _sofa(brush: _Brush, x0: float, x1: float, foot: float, tone: str, shade: str) -> None:
    middle = (x0 + x1) / 2
    for x in (x0 + 8, x1 - 8):
        brush.box(x - 2, foot - 5, x + 2, foot, "5b3a28")
    brush.box(x0 + 3, foot - 31, x1 - 3, foot - 6, shade, corner=7)
    brush.box(x0 + 6, foot - 18, middle - 0.8, foot - 4, tone, corner=4)
    brush.box(middle + 0.8, foot - 18, x1 - 6, foot - 4, tone, corner=4)
    for left in (x0, x1 - 10):
        brush.box(left, foot - 23, left + 10, foot - 3, tone, corner=5)
    brush.box(x0 + 13, foot - 28, x0 + 27, foot - 15, "f0b85a", corner=4)


def _bed(brush: _Brush, x0: float, x1: float, foot: float) -> None:
    brush.box(x1 - 5, foot - 40, x1, foot, "8a5a3a", corner=2)
    brush.box(x0, foot - 10, x1 - 2, foot - 3, "8a5a3a", corner=2)
    brush.box(x0 + 3, foot - 5, x0 + 8, foot, "8a5a3a")
    brush.box(x0 + 1, foot - 21, x1 - 5, foot - 8, "f6ead8", corner=4)
    brush.box(x1 - 30, foot - 28, x1 - 7, foot - 16, "fffaf0", corner=5)
    brush.box(x0, foot - 24, x1 - 33, foot - 7, "5d86a8", corner=5)
    brush.box(x1 - 43, foot - 24, x1 - 33, foot - 7, "cfe0e6", corner=3)


def _room(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    glass, (stage_x, stage_y) = _ROOM_GLASS[layout], STAGES["room"][layout]
    room = canvas.still()
    brush = _Brush(room)
    brush.gradient(0, 98, "eccbb0", "e2b798")
    brush.box(-2, 97, 226, 101, "f6e8d4")
    brush.gradient(101, 128, "a9714e", "8c5a3e")
    _paint_frame(brush, glass, "fff6e6", sill="8a5a3c", curtain=("c9685a", "5f8f8a", "b5657a")[layout])
    _paint_view(room, time, glass, "town")
    rug, ring = (("efdcc0", "c9685a"), ("e8d3c0", "5f8f8a"), ("f0dccb", "b5657a"))[layout]
    brush.oval(stage_x, stage_y, 50, 9.5, ring)
    brush.oval(stage_x, stage_y, 45, 7.2, rug)
    if layout == 0:
        _picture(brush, 124, 22, 148, 52, 1)
        _picture(brush, 154, 28, 180, 49, 0)
        _armchair(brush, 50, 124, "e0a24a", "c9853a")
        lamp = (207.0, 34.0)
        plant = (98.0, 116.0, 0.95)
    elif layout == 1:
        _bookshelf(brush, 4, 34, 40, 112, 4)
        _picture(brush, 68, 26, 100, 50, 2)
        _bed(brush, 126, 224, 125)
        lamp = (0.0, 0.0)
        plant = (22.0, 34.0, 0.62)
    else:
        _bookshelf(brush, 3, 60, 37, 112, 3)
        _sofa(brush, 56, 148, 122, "7d9a6a", "66835a")
        _picture(brush, 172, 24, 202, 48, 0)
        lamp = (46.0, 30.0)
        plant = (18.0, 60.0, 0.8)
    _pot(brush, *plant, ("d9d0c4", "efe3cc", "c46a4a")[layout])
    if layout != 1:
        lamp_x, lamp_top = lamp
        brush.box(lamp_x - 1.6, lamp_top + 16, lamp_x + 1.6, 118, "4a3a36")
        brush.oval(lamp_x, 118, 10, 2.6, "4a3a36")
        lamps = ((lamp_x, lamp_top + 12, 64.0), (stage_x, 96.0, 58.0))
    else:
        lamps = ((stage_x, 20.0, 58.0), (stage_x, 92.0, 56.0))

    def emit(still: Canvas, level: float) -> None:
        _fairy_lights(still, time, layout, level)
        if layout == 1:
            _pendant(still, time, stage_x, 13, level, "d98a4a")
        else:
            _floor_lamp(still, time, *lamp, level)

    _shine(canvas, room, time, glass, lamps, emit, has_patch=False)
    _move_sky(canvas, time, glass)
    x, foot, size = plant
    _leaves(canvas, time, x, foot - 16 * size, size, warmth=0.15)


def _fairy_lights(still: Canvas, time: str, layout: int, level: float) -> None:
    """A string of lights over the free wall; every second one brightens while the others dim."""
    left, right = ((112, 226), (-2, 66), (154, 226))[layout]
    count = round((right - left) / 14)
    for index in range(count):
        share = (index + 0.5) / count
        x, y = left + share * (right - left), 5 + 28 * share * (1 - share)
        bright = level if index % 2 else 1 - level
        area = still.area(x - 9, y - 9, x + 9, y + 9)
        strength = {"day": 0.12, "sunset": 0.4, "night": 0.75, "dawn": 0.3}[time]
        area.blend(glow(area.x, area.y, x, y, 5) * (strength * (0.55 + 0.45 * bright)), rgb("ffcf70"))
        bulb = mix(rgb("f6d9a0"), rgb("fff3c4"), bright if time != "day" else 0.5)
        area.paint(circle(area.x, area.y, x, y, 1.9), bulb, softness=1.2)


# --- Cafe --------------------------------------------------------------------------------------------------------

_CAFE_GLASS: tuple[Box, Box, Box] = ((10, 20, 94, 80), (130, 20, 214, 80), (72, 20, 150, 78))


def _round_table(brush: _Brush, x: float, top: float, half: float) -> None:
    brush.box(x - 2.2, top, x + 2.2, 123, "4a322a")
    brush.oval(x, 124, 13, 2.6, "4a322a")
    brush.oval(x, top + 2, half, 4.4, "8f5a38")
    brush.oval(x, top, half, 4.2, "d69a60")


def _stool(brush: _Brush, x: float, top: float) -> None:
    brush.line(x - 5, top + 3, x - 7, 123, 1.6, "4a322a")
    brush.line(x + 5, top + 3, x + 7, 123, 1.6, "4a322a")
    brush.box(x - 10, top, x + 10, top + 5, "b5533f", corner=2.4)


def _counter(brush: _Brush, x0: float, x1: float) -> None:
    brush.box(x0, 88, x1, 130, "7d4f38", corner=2)
    for index in range(int((x1 - x0) // 14)):
        left = x0 + 5 + index * 14
        brush.box(left, 99, left + 8, 130, "6a4230", corner=2)
    brush.box(x0 - 3, 86, x1 + 3, 92, "e2b27c", corner=2)


def _coffee_machine(brush: _Brush, x: float) -> None:
    brush.box(x - 14, 60, x + 14, 86, "9fb0b8", corner=3)
    brush.box(x - 14, 60, x + 14, 67, "c9544a", corner=3)
    brush.box(x - 10, 72, x + 10, 83, "3a3f4a", corner=1)
    brush.box(x - 3.5, 71, x + 3.5, 75, "dfe6ea", corner=1)
    _cup(brush, x, 83, "fff6e6")


def _menu_board(brush: _Brush, x0: float, y0: float, x1: float, y1: float) -> None:
    brush.box(x0, y0, x1, y1, "a8703f", corner=2)
    brush.box(x0 + 3, y0 + 3, x1 - 3, y1 - 3, "2f3236", corner=1)
    _cup(brush, x0 + 13, y0 + 19, "f6e3b8")
    for row, length in enumerate((0.95, 0.7)):
        y = y0 + 9.5 + row * 8
        brush.line(x0 + 27, y, x0 + 27 + (x1 - x0 - 34) * length, y, 1.5, "f3efe4")
    if y1 - y0 > 30:
        brush.line(x0 + 9, y1 - 8.5, x1 - 9, y1 - 8.5, 1.5, "f0b27a")


def _shelves(brush: _Brush) -> None:
    for y in (30.0, 52.0):
        brush.box(6, y, 60, y + 4, "8a5a3c", corner=1)
    for index, tone in enumerate(("fff6e6", "e2685a", "5f9aa8")):
        _cup(brush, 17 + index * 16, 29.5, tone)
    for index, tone in enumerate(("c98a4a", "f3e6cf", "7fa86a")):
        brush.box(11 + index * 16, 40, 22 + index * 16, 52, tone, corner=3)


def _cafe(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    glass = _CAFE_GLASS[layout]
    cups: tuple[tuple[float, float, str], ...]
    pendants: tuple[tuple[float, float], ...]
    lamps: tuple[tuple[float, float, float], ...]
    room = canvas.still()
    brush = _Brush(room)
    brush.gradient(0, 86, "f2dfbf", "e6c9a0")
    brush.box(-2, 84, 226, 104, "5f8a80")
    brush.box(-2, 82, 226, 86, "8a5a3c")
    brush.gradient(103, 128, "b98560", "96684a")
    _paint_frame(brush, glass, "6a4230", sill="8a5a3c")
    _paint_view(room, time, glass, "town")
    if layout == 0:
        _menu_board(brush, 120, 22, 178, 55)
        _counter(brush, 194, 232)
        _coffee_machine(brush, 209)
        _stool(brush, 88, 106)
        _round_table(brush, 48, 99, 30)
        cups = ((36.0, 98.0, "fff6e6"), (60.0, 98.0, "e2685a"))
        pendants = ((113.0, 20.0), (190.0, 20.0))
        lamps = ((108.0, 34.0, 46.0), (182.0, 34.0, 58.0), (150.0, 96.0, 52.0))
    elif layout == 1:
        _menu_board(brush, 50, 34, 112, 67)
        _counter(brush, -8, 36)
        _coffee_machine(brush, 16)
        _stool(brush, 136, 106)
        _round_table(brush, 176, 99, 30)
        cups = ((164.0, 98.0, "f0b84a"), (188.0, 98.0, "fff6e6"))
        pendants = ((30.0, 16.0), (70.0, 16.0), (110.0, 16.0))
        lamps = ((30.0, 32.0, 44.0), (84.0, 32.0, 50.0), (84.0, 96.0, 54.0))
    else:
        _shelves(brush)
        _counter(brush, -8, 62)
        _coffee_machine(brush, 18)
        _cup(brush, 46, 86, "fff6e6")
        _round_table(brush, 112, 100, 28)
        cups = ((101.0, 99.0, "5f9aa8"), (122.0, 99.0, "fff6e6"))
        _menu_board(brush, 164, 30, 216, 56)
        pendants = ((34.0, 13.0), (172.0, 13.0), (208.0, 13.0))
        lamps = ((34.0, 30.0, 46.0), (190.0, 26.0, 54.0), (188.0, 94.0, 54.0))
    for x, y, tone in cups:
        _cup(brush, x, y, tone)

    def emit(still: Canvas, level: float) -> None:
        for index, (x, y) in enumerate(pendants):
            _pendant(still, time, x, y, level if index % 2 else 1 - level, ("c9543f", "3f7f78", "c9543f")[layout])

    _shine(canvas, room, time, glass, lamps, emit, has_patch=True)
    _move_sky(canvas, time, glass)
    for index, (x, y, _) in enumerate(cups):
        _steam(canvas, x, y - 11, 0.37 * index)
    if layout == 2:
        _steam(canvas, 46, 75, 0.2)


# --- Studio ------------------------------------------------------------------------------------------------------

# Backdrop from top to floor, then the two colours of the lamps.
_STUDIO_TONES: tuple[tuple[str, str, str, str, str], ...] = (
    ("191636", "38336a", "575084", "ff5fb0", "4fd8ff"),
    ("d98a78", "f3c3a2", "f7d9bd", "fff0d0", "ffd0a0"),
    ("0f2f44", "1f6a78", "3a8f92", "5ff0d0", "ffb45f"),
)


def _studio(canvas: Canvas, time: str | None, layout: int) -> None:
    top, middle, floor, first, second = _STUDIO_TONES[layout]
    base = canvas.still()
    area = base.area()
    stops = ((0.0, rgb(top)), (84.0, rgb(middle)), (100.0, mix(rgb(middle), rgb(floor), 0.5)), (112.0, rgb(floor)))
    area.blend(torch.ones_like(area.x * area.y), vertical_gradient(area.y, (*stops, (128.0, rgb(middle)))))
    # The paper's sweep: a softly lighter pool where the subject stands.
    pool = torch.exp(-(((area.x - 112) / 62) ** 2) - ((area.y - 116) / 13) ** 2)
    area.blend(pool * 0.4, mix(rgb(floor), WHITE, 0.6))
    stills = []
    for level in (0.0, 1.0):
        still = canvas.still()
        still.pixels.copy_(base.pixels)
        light = still.area()
        for share, side, tone in ((1 - level, 46.0, first), (level, 178.0, second)):
            # While one lamp rises, the other falls and its light leans to the middle.
            halo = glow(light.x, light.y, side + (112 - side) * 0.25 * (1 - share), 50, 54)
            light.blend(halo * (0.28 + 0.24 * share), rgb(tone))
        (_neon_studio, _ring_studio, _bar_studio)[layout](_Brush(still), level)
        stills.append(still.pixels)
    torch.lerp(stills[0], stills[1], (0.5 + 0.5 * canvas.wave(1)).unsqueeze(1), out=canvas.pixels)
    plant = ((200.0, 101.0, 0.85), (193.0, 92.0, 1.15), (206.0, 101.0, 0.85))[layout]
    _leaves(canvas, "day", *plant)


def _neon(area: Area, distance: Tensor, tone: str, power: float) -> None:
    """A tube of light: a halo around a bright line."""
    halo = torch.exp(-((distance.clamp_min(0) / 6.5) ** 2))
    area.blend(halo * (0.35 + 0.4 * power), rgb(tone))
    area.paint(distance - 1.7, mix(rgb(tone), WHITE, 0.35 + 0.45 * power), softness=1.4)


def _stand(brush: _Brush, x: float, top: float, foot: float) -> None:
    brush.line(x, top, x, foot - 10, 1.5, "1f1d2b")
    brush.line(x, foot - 13, x - 10, foot, 1.5, "1f1d2b")
    brush.line(x, foot - 13, x + 10, foot, 1.5, "1f1d2b")


def _softbox(brush: _Brush, x: float, y: float, tone: str, power: float, *, mirrored: bool) -> None:
    _stand(brush, x, y, 118)
    area = brush.canvas.area(x - 58, y - 58, x + 58, y + 58)
    area.blend(glow(area.x, area.y, x, y, 26) * (0.35 + 0.25 * power), rgb(tone))
    head = area.placed(x, y, angle=-0.22, mirrored=mirrored)
    head.paint(rectangle(head.x, head.y, 0, 0, 15, 20, 3), rgb("1f1d2b"))
    head.paint(rectangle(head.x, head.y, 0, 0, 12, 17, 2), mix(rgb(tone), WHITE, 0.6 + 0.3 * power), softness=1.4)


def _neon_studio(brush: _Brush, level: float) -> None:
    _softbox(brush, 27, 42, "ffc4e4", 1 - level, mirrored=False)
    _softbox(brush, 197, 42, "c4efff", level, mirrored=True)
    area = brush.canvas.area(50, 0, 174, 112)
    arch = rectangle(area.x, area.y, 112, 70, 42, 54, 20).abs()
    arch = torch.sqrt(arch * arch + (area.y - 96).clamp_min(0) ** 2)
    _neon(area, arch, "ff5fb0", 0.4 + 0.6 * (1 - level))
    _pot(brush, 200, 116, 0.85, "e9e2f2")


def _ring_studio(brush: _Brush, level: float) -> None:
    # A paper arch and a sun of paper behind the subject.
    arch = brush.canvas.area(66, 12, 158, 106)
    gate = intersect(rectangle(arch.x, arch.y, 112, 90, 42, 74, 41), arch.y - 101)
    arch.paint(gate, mix(rgb("fbe3c8"), WHITE, 0.15 * level), opacity=0.8, softness=1.5)
    arch.paint(circle(arch.x, arch.y, 134, 44, 15), mix(rgb("f2a48c"), rgb("f7b89a"), level), opacity=0.8, softness=1.3)
    _stand(brush, 40, 72, 120)
    area = brush.canvas.area(0, 0, 104, 112)
    ring = circle(area.x, area.y, 40, 46, 22).abs()
    area.blend(torch.exp(-((ring / 13) ** 2)) * (0.45 + 0.25 * level), rgb("fff3d6"))
    area.paint(ring - 5.4, rgb("4a3038"))
    area.paint(ring - 3.6, mix(rgb("ffe9c4"), WHITE, 0.4 + 0.6 * level), softness=1.3)
    brush.box(35.5, 38, 44.5, 54, "2f2430", corner=2)
    _pot(brush, 193, 111, 1.15, "fff3e4")
    shelf = brush.canvas.area(140, 0, 224, 52)
    for index, (y, tone) in enumerate(((16.0, "ff7f8a"), (29.0, "ffb45f"))):
        line = capsule(shelf.x, shelf.y, 166, y, 206, y, 0.2)
        _neon(shelf, line, tone, 0.3 + 0.7 * (level if index else 1 - level))


def _bar_studio(brush: _Brush, level: float) -> None:
    area = brush.canvas.area(0, 0, 68, 120)
    for index, (x, tone) in enumerate(((14.0, "5ff0d0"), (30.0, "7fb8ff"), (46.0, "ffb45f"))):
        power = level if index % 2 else 1 - level
        _neon(area, capsule(area.x, area.y, x, 16 + 10 * index, x, 98, 0.4), tone, 0.25 + 0.75 * power)
    _softbox(brush, 186, 40, "ffe0b8", level, mirrored=True)
    _pot(brush, 206, 116, 0.85, "f0e6d6")
    ring = brush.canvas.area(62, 0, 162, 98)
    _neon(ring, circle(ring.x, ring.y, 112, 48, 30).abs(), "5ff0d0", 0.3 + 0.5 * (1 - level))


IndoorPainter = Callable[[Canvas, str | None, int], None]
INDOOR_PAINTERS: dict[str, IndoorPainter] = {
    "classroom": _classroom,
    "room": _room,
    "cafe": _cafe,
    "studio": _studio,
}
# The glass, where the weather shows.
WINDOWS: dict[str, tuple[Box, ...]] = {"classroom": _CLASS_GLASS, "room": _ROOM_GLASS, "cafe": _CAFE_GLASS}

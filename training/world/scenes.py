"""The eight scenes of the procedural world: skies, land and everything that moves on its own.

Each painter draws one scene of a `SceneSpec` on a canvas, far to near. Motion is made of whole cycles, so a clip closes
on itself. Details are at least three design units wide, because the 16x autoencoder loses finer ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.world.drawing import (
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

WHITE = rgb("ffffff")


@dataclass(frozen=True)
class Daylight:
    """A time of day: the sky's colours from top to horizon, what is in it, and the light on everything else."""

    top: Rgb
    middle: Rgb
    horizon: Rgb
    cloud: Rgb
    light: Rgb
    sun: Rgb
    glow: Rgb
    glow_strength: float


DAYLIGHTS: dict[str, Daylight] = {
    "day": Daylight(
        rgb("2f8fe6"), rgb("6dbcf5"), rgb("d5f0fb"), WHITE, (1.0, 1.0, 1.0), rgb("fff2a0"), rgb("fff7cf"), 0.55
    ),
    "sunset": Daylight(
        rgb("4b2a7a"),
        rgb("e0555a"),
        rgb("ffb84d"),
        rgb("ff9472"),
        (0.86, 0.56, 0.52),
        rgb("ffe07a"),
        rgb("ffb340"),
        0.85,
    ),
    "night": Daylight(
        rgb("070b26"), rgb("141d4d"), rgb("2c3b7c"), rgb("34437f"), (0.27, 0.34, 0.6), rgb("f6f0cf"), rgb("6f83c9"), 0.5
    ),
    "dawn": Daylight(
        rgb("93b6ec"),
        rgb("e9c3e0"),
        rgb("ffe9c4"),
        rgb("fbdcea"),
        (0.86, 0.82, 0.94),
        rgb("fff6e0"),
        rgb("fff0d0"),
        0.8,
    ),
}
SPACE_LIGHT: Rgb = (0.95, 0.92, 1.0)

_STARS = ((18, 12), (52, 30), (80, 10), (110, 24), (142, 9), (170, 33), (204, 16), (34, 47), (128, 42), (212, 45))


def paint_sky(canvas: Canvas, time: str, horizon: float, sun_x: float, sun_y: float | None = None) -> None:
    """Sky down to `horizon`, sun or moon at `sun_x`, and stars at night. Clouds come separately, before the land."""
    sky = DAYLIGHTS[time]
    area = canvas.area(0, 0, 224, horizon + 2)
    stops = ((0.0, sky.top), (horizon * 0.55, sky.middle), (horizon, sky.horizon))
    area.blend(torch.ones_like(area.x * area.y), vertical_gradient(area.y, stops))
    heights = {"day": 24.0, "sunset": horizon - 9, "night": 25.0, "dawn": horizon - 20}
    y = heights[time] if sun_y is None or time in ("day", "night") else sun_y
    area.blend(glow(area.x, area.y, sun_x, y, 46 if time != "night" else 26) * sky.glow_strength, sky.glow)
    if time == "night":
        for index, (x, star_y) in enumerate(_STARS):
            if star_y < horizon - 8 and abs(x - sun_x) > 18:
                star = canvas.area(x - 4, star_y - 4, x + 4, star_y + 4)
                twinkle = 0.75 + 0.25 * canvas.wave(1 + index % 2, index * 0.3)
                star.paint(circle(star.x, star.y, x, star_y, 1.6), rgb("fdf6d8"), opacity=twinkle, softness=1.5)
        moon = circle(area.x, area.y, sun_x, y, 12)
        area.paint(cut(moon, circle(area.x, area.y, sun_x + 7, y - 4, 10.5)), sky.sun)
    else:
        area.paint(circle(area.x, area.y, sun_x, y, {"day": 12, "sunset": 19, "dawn": 13}[time]), sky.sun, softness=1.5)


def paint_clouds(canvas: Canvas, time: str, *places: tuple[float, float, float]) -> None:
    """Clouds (x, y, size) that sway from side to side once in a clip."""
    colour = DAYLIGHTS[time].cloud
    for index, (x, y, size) in enumerate(places):
        area = canvas.area(x - 30 * size - 6, y - 14 * size - 2, x + 30 * size + 6, y + 8 * size)
        cloud = area.placed(x + 5 * canvas.wave(1, index * 0.37), y, size=size)
        u, v = cloud.x, cloud.y
        shape = union(
            circle(u, v, -13, 0, 8),
            circle(u, v, 0, -4, 10.5),
            circle(u, v, 13, -0.5, 8),
            capsule(u, v, -20, 2, 20, 2, 4.5),
        )
        cloud.paint(intersect(shape, v - 5), colour, opacity=0.92, softness=1.3)


def paint_water(canvas: Canvas, time: str, top: float, bottom: float, sun_x: float, *, rows: int) -> None:
    """A sea from `top` to `bottom`: long crests that move by whole wavelengths, and the light's path on them."""
    sky = DAYLIGHTS[time]
    near = {"day": rgb("0b62b5"), "sunset": rgb("3a2a6b"), "night": rgb("07143d"), "dawn": rgb("6d8fc9")}[time]
    far = {"day": rgb("45b5e6"), "sunset": rgb("c8607a"), "night": rgb("1f3a7d"), "dawn": rgb("dcc4e2")}[time]
    area = canvas.area(0, top, 224, bottom)
    area.blend(torch.ones_like(area.x * area.y), vertical_gradient(area.y, ((top, far), (128.0, near))))
    crest_colour = mix(far, WHITE, 0.25 if time != "night" else 0.12)
    for row in range(rows):
        share = (row + 0.6) / rows
        y = top + (bottom - top) * share**1.25
        length = (28.0, 37.33, 44.8, 56.0, 56.0)[min(4, row)]
        band = canvas.area(0, y - 6, 224, y + 6)
        angle = TAU * (band.x / length - canvas.phase + row * 0.31)
        crest = (band.y - (y + (0.8 + 1.6 * share) * torch.sin(angle))).abs() - (1.2 + 0.8 * share)
        gaps = 6 * (torch.sin(TAU * (band.x / 112 - canvas.phase + row * 0.37)) - 0.35)
        band.paint(intersect(crest, gaps), crest_colour, opacity=0.75, softness=1.4)
    sparkle = mix(sky.sun, sky.glow, 0.3)
    for row in range(4):
        y = top + 4 + row * (bottom - top - 6) / 4.5
        half = (5 + 3.0 * row) * (1 + 0.3 * canvas.wave(2, row * 0.3))
        dash = canvas.area(sun_x - 24, y - 3, sun_x + 24, y + 3)
        shape = 1.9 * (((dash.x - sun_x) / half) ** 2 + ((dash.y - y) / 1.9) ** 2).sqrt() - 1.9
        dash.paint(shape, sparkle, opacity=0.8, softness=1.6)


def daylit(colour: str, time: str) -> Rgb:
    return multiply(rgb(colour), DAYLIGHTS[time].light)


def _hill(area: Area, crest: Tensor, colour: Rgb, fade: Rgb | None = None) -> None:
    area.paint(crest - area.y, colour if fade is None else vertical_gradient(area.y, ((80.0, colour), (128.0, fade))))


def _beach(canvas: Canvas, time: str, layout: int) -> None:
    sun_x = (150.0, 70.0, 112.0)[layout]
    paint_sky(canvas, time, 58, sun_x)
    paint_clouds(
        canvas,
        time,
        *(((60, 22, 1.0), (195, 34, 0.8)), ((160, 20, 1.0), (22, 36, 0.8)), ((38, 22, 0.9), (188, 20, 1.0)))[layout],
    )
    paint_water(canvas, time, 56, 100, sun_x, rows=3)
    area = canvas.area(0, 78, 224, 128)
    sand, wet, foam = daylit("f6dca0", time), daylit("d3b27a", time), daylit("ffffff", time)
    shore = 89 + 3.0 * torch.sin(TAU * area.x / 150 + layout * 2.1) + 3.0 * canvas.wave(1)
    area.paint(shore - area.y, foam, opacity=0.95)
    area.paint(shore + 3.5 - area.y, wet)
    dry = 96 + 3.0 * torch.sin(TAU * area.x / 150 + layout * 2.1)
    area.paint(dry - area.y, sand, softness=3)
    for x, size, mirrored in (((28.0, 1.0, False),), ((196.0, 1.0, True),), ((24.0, 0.9, False), (204.0, 0.8, True)))[
        layout
    ]:
        _palm(canvas, time, x, size=size, mirrored=mirrored)


def _palm(canvas: Canvas, time: str, x: float, *, size: float, mirrored: bool) -> None:
    area = canvas.area(x - 48 * size, 24, x + 48 * size, 118)
    palm = area.placed(x, 114, mirrored=mirrored, size=size)
    u, v = palm.x, palm.y
    trunk, leaf, dark = daylit("8a5a36", time), daylit("2f9a4a", time), daylit("1f7a3f", time)
    for ax, ay, bx, by, radius in ((-4, 0, -2, -26, 4), (-2, -26, 4, -48, 3.4), (4, -48, 12, -64, 3)):
        palm.paint(capsule(u, v, ax, ay, bx, by, radius), trunk)
    sway = 2.5 * canvas.wave(1)
    for index, (ex, ey) in enumerate(((-16, -58), (-12, -74), (8, -86), (32, -78), (38, -60), (26, -48), (-4, -50))):
        shape = union(
            capsule(u, v, 12, -66, (12 + ex) / 2 + sway / 2, (-66 + ey) / 2 - 5, 4.0),
            capsule(u, v, (12 + ex) / 2 + sway / 2, (-66 + ey) / 2 - 5, ex + sway, ey + 2, 3.0),
        )
        palm.paint(shape, leaf if index % 2 else dark)


def _sea(canvas: Canvas, time: str, layout: int) -> None:
    sun_x = (112.0, 60.0, 168.0)[layout]
    paint_sky(canvas, time, 56, sun_x)
    paint_clouds(
        canvas,
        time,
        *(((44, 24, 1.0), (182, 30, 0.9)), ((150, 22, 1.1), (206, 38, 0.7)), ((66, 24, 1.1), (18, 38, 0.7)))[layout],
    )
    if layout:
        x = 180.0 if layout == 1 else 44.0
        isle = canvas.area(x - 44, 38, x + 44, 58)
        far = mix(daylit("4f8a7a", time), DAYLIGHTS[time].horizon, 0.35)
        isle.paint(union(ellipse(isle.x, isle.y, x, 58, 34, 12), ellipse(isle.x, isle.y, x + 12, 58, 16, 18)), far)
    paint_water(canvas, time, 56, 128, sun_x, rows=5)


def _mountains(canvas: Canvas, time: str, layout: int) -> None:
    sun_x = (46.0, 180.0, 112.0)[layout]
    paint_sky(canvas, time, 102, sun_x, 44 if time == "sunset" else 36)
    paint_clouds(
        canvas,
        time,
        *(((180, 20, 1.0), (110, 28, 0.7)), ((40, 20, 1.0), (110, 26, 0.7)), ((40, 22, 0.9), (190, 22, 0.9)))[layout],
    )
    sky = DAYLIGHTS[time]
    area = canvas.area(0, 20, 224, 110)
    peaks = (
        ((72, 46, 62), (196, 40, 70), (134, 26, 82)),
        ((150, 46, 62), (26, 40, 70), (88, 26, 82)),
        ((112, 58, 60), (36, 28, 76), (188, 28, 76)),
    )[layout]
    for index, (x, top, half) in enumerate(peaks):
        base = mix(daylit("5f6b86", time), sky.horizon, 0.3 - 0.13 * index)
        slope = (100 - top) / half
        ridge = top + (area.x - x).abs() * slope
        mountain = (ridge - area.y) * 0.7
        area.paint(mountain, base)
        area.paint(intersect(mountain, x + 0.22 * (area.y - top) - area.x), mix(base, (0.08, 0.08, 0.16), 0.28))
        snow_line = top + 17 + 4 * torch.sin(TAU * (area.x - x) / 22)
        area.paint(intersect(mountain, area.y - snow_line), mix(daylit("f6f9ff", time), sky.horizon, 0.12))
    area = canvas.area(0, 76, 224, 128)
    _hill(area, 92 + 5 * torch.sin(TAU * area.x / 190 + 1.3 * layout), daylit("5aa06a", time))
    for x, y, size in ((20, 100, 1.0), (44, 104, 0.8), (206, 101, 1.0), (182, 104, 0.7)):
        _pine(canvas, time, x, y, size * 0.62, "2c6b52", 0.0)
    area = canvas.area(0, 94, 224, 128)
    _hill(area, 104 + 4 * torch.sin(TAU * area.x / 160 + 2.0 + layout), daylit("8ccf6a", time), daylit("5cab4e", time))


def _pine(canvas: Canvas, time: str, x: float, foot: float, size: float, colour: str, sway: float) -> None:
    area = canvas.area(x - 24 * size - 3, foot - 76 * size, x + 24 * size + 3, foot + 2)
    tree = area.placed(x, foot, size=size)
    u, v = tree.x, tree.y
    lean = sway * canvas.wave(1, x * 0.013)
    tree.paint(rectangle(u, v, 0, -6, 3.4, 7), daylit("6a4530", time))
    for index, (low, high, half) in enumerate(((-10, -40, 21), (-26, -56, 17), (-42, -73, 12))):
        bend = lean * (index + 1)
        tone = mix(rgb(colour), WHITE, 0.05 * index)
        tree.paint(
            polygon(u, v, (bend, high), (half + bend * 0.5, low), (-half + bend * 0.5, low)),
            multiply(tone, DAYLIGHTS[time].light),
        )


def _round_tree(canvas: Canvas, time: str, x: float, foot: float, size: float, colour: str) -> None:
    area = canvas.area(x - 28 * size - 4, foot - 76 * size, x + 28 * size + 4, foot + 2)
    tree = area.placed(x, foot, size=size)
    u, v = tree.x, tree.y
    bend = 1.8 * canvas.wave(1, x * 0.011)
    tree.paint(rectangle(u, v, 0, -15, 4, 17), daylit("7a4f33", time))
    crown = union(
        circle(u, v, -11 + bend, -38, 14), circle(u, v, 11 + bend, -38, 14), circle(u, v, bend * 1.4, -53, 17)
    )
    tree.paint(crown, daylit(colour, time))
    tree.paint(
        circle(u, v, -5 + bend * 1.4, -55, 8),
        multiply(mix(rgb(colour), WHITE, 0.18), DAYLIGHTS[time].light),
        softness=3,
    )


def _forest(canvas: Canvas, time: str, layout: int) -> None:
    sun_x = (150.0, 76.0, 112.0)[layout]
    paint_sky(canvas, time, 98, sun_x, 42)
    paint_clouds(canvas, time, *(((90, 18, 0.9),), ((146, 18, 0.9),), ((64, 18, 0.8), (170, 26, 0.7)))[layout])
    sky = DAYLIGHTS[time]
    area = canvas.area(0, 44, 224, 128)
    rows = mix(daylit("4f9a72", time), sky.horizon, 0.4)
    area.paint(68 + 5 * torch.sin(TAU * area.x / 28) + 6 * torch.sin(TAU * area.x / 170 + layout) - area.y, rows)
    for x in (((64, 118, 172)), ((52, 106, 160)), ((80, 112, 144)))[layout]:
        _pine(canvas, time, x, 98, 0.66, "3a8a5c", 0.8)
    area = canvas.area(0, 84, 224, 128)
    _hill(area, 95 + 2.5 * torch.sin(TAU * area.x / 224 + layout), daylit("86c95a", time), daylit("4f9a3c", time))
    path = (area.x - 112 - 14 * torch.sin((area.y - 96) / 12 + layout * 2)).abs() - (4 + (area.y - 95) * 0.75)
    area.paint(intersect(path, 97 - area.y), daylit("d9bf86", time), softness=2)
    trees = (
        (("r", 22, 106, 1.15), ("p", 196, 106, 1.2), ("p", 60, 101, 0.85)),
        (("p", 26, 106, 1.2), ("r", 200, 106, 1.15), ("p", 164, 101, 0.85)),
        (("r", 18, 106, 1.1), ("r", 206, 106, 1.1), ("p", 52, 102, 0.8), ("p", 172, 102, 0.8)),
    )[layout]
    for kind, x, foot, size in trees:
        if kind == "r":
            _round_tree(canvas, time, x, foot, size, "3fa04a")
        else:
            _pine(canvas, time, x, foot, size, "1f7350", 1.0)


_BLOCKS = (
    (14, 34, 42),
    (42, 22, 62),
    (70, 26, 46),
    (98, 24, 72),
    (128, 30, 50),
    (156, 24, 66),
    (184, 28, 40),
    (212, 24, 58),
)


def _city(canvas: Canvas, time: str, layout: int) -> None:
    sun_x = (56.0, 168.0, 112.0)[layout]
    paint_sky(canvas, time, 100, sun_x, 40)
    paint_clouds(
        canvas,
        time,
        *(((150, 18, 1.0), (206, 32, 0.7)), ((70, 18, 1.0), (20, 30, 0.7)), ((44, 20, 0.9), (184, 20, 0.9)))[layout],
    )
    sky = DAYLIGHTS[time]
    far = canvas.area(0, 40, 224, 100)
    for index in range(7):
        x, height = index * 36 + 8, 30 + (index * 37 + layout * 13) % 22
        far.paint(rectangle(far.x, far.y, x, 96, 15, height), mix(daylit("8f9ec4", time), sky.horizon, 0.55))
    tones = ("c98b6b", "6d8fb8", "d9b27a", "8a7fb0", "b86f72", "5f9aa0")
    for index, (x, width, _) in enumerate(_BLOCKS):
        height = _BLOCKS[(index + 3 * layout) % len(_BLOCKS)][2]
        _building(canvas, time, x, width / 2, 98 - height, tones[(index * 2 + layout) % 6], index)
    road = canvas.area(0, 96, 224, 128)
    road.paint(96 - road.y, daylit("b9b4ae", time))
    road.paint(101 - road.y, daylit("55586a", time))


def _building(canvas: Canvas, time: str, x: float, half: float, top: float, tone: str, index: int) -> None:
    area = canvas.area(x - half - 1, top - 1, x + half + 1, 98)
    area.paint(rectangle(area.x, area.y, x, (top + 100) / 2, half, (100 - top) / 2), daylit(tone, time))
    area.paint(
        intersect(rectangle(area.x, area.y, x, (top + 100) / 2, half, (100 - top) / 2), x + half * 0.55 - area.x),
        mix(daylit(tone, time), (0.05, 0.05, 0.15), 0.16),
    )
    lit_window, dark_window = rgb("ffd873"), daylit("33405e", time)
    columns = 2 if half < 14 else 3
    for row in range(int((94 - top) // 12)):
        for column in range(columns):
            wx, wy = x + (column - (columns - 1) / 2) * (2 * half / columns) * 0.92, top + 8 + row * 12
            is_lit = (time == "night" and (row * 3 + column * 5 + index) % 4 != 0) or (
                time == "sunset" and (row + column + index) % 3 == 0
            )
            window = canvas.area(wx - 4, wy - 5, wx + 4, wy + 5)
            window.paint(rectangle(window.x, window.y, wx, wy, 3, 3.6), dark_window if not is_lit else lit_window)


def paint_road_marks(canvas: Canvas, time: str, *, is_driving: bool, mirrored: bool) -> None:
    """The dashes of the city's road; they scroll by one period in a clip when a car drives."""
    road = canvas.area(0, 120, 224, 128)
    shift = canvas.phase * (2.0 if is_driving else 0.0) * (-1 if mirrored else 1)
    along = ((road.x / 44.8 + shift) % 1.0 - 0.5).abs() * 44.8
    road.paint(torch.maximum(along - 11, (road.y - 123.5).abs() - 1.6), daylit("f3eee0", time))


def _volcano(canvas: Canvas, time: str, layout: int) -> None:
    x0 = (112.0, 84.0, 140.0)[layout]
    paint_sky(canvas, time, 100, (190.0, 196.0, 30.0)[layout], 66)
    sky = DAYLIGHTS[time]
    area = canvas.area(0, 0, 224, 128)
    smoke_tone = mix(rgb("4d4854"), sky.cloud, 0.15) if time != "night" else rgb("3b3a52")
    for index in range(6):
        life = canvas.ramp(1, index / 6)
        drift = canvas.area(x0 - 30, 0, x0 + 90, 56)
        fade = torch.sin(math.pi * life).clamp_min(0) ** 0.6
        drift.paint(
            circle(drift.x, drift.y, x0 + 8 + 40 * life**1.5, 38 - 40 * life, 8 + 14 * life),
            smoke_tone,
            opacity=0.95 * fade,
            softness=3,
        )
    fire = glow(area.x, area.y, x0, 36, 40) * (0.75 + 0.12 * canvas.wave(2))
    area.blend(fire, rgb("ff7a2a"))
    _hill(area, 96 + 4 * torch.sin(TAU * area.x / 130 + layout), mix(daylit("6a5a60", time), sky.horizon, 0.25))
    dx = (area.x - x0).abs()
    slope = 42 + 0.9 * (dx - 13).clamp_min(0) - 0.0019 * (dx - 13).clamp_min(0) ** 2
    cone = (slope - area.y) * 0.72
    rock = daylit("6b4b48", time)
    area.paint(
        cone,
        vertical_gradient(
            area.y, ((42.0, mix(rock, rgb("a8402a"), 0.35)), (120.0, mix(rock, (0.05, 0.04, 0.06), 0.35)))
        ),
    )
    area.paint(
        intersect(cone, x0 + 6 + 0.32 * (area.y - 42) - area.x),
        mix(rock, (0.05, 0.03, 0.06), 0.4),
        opacity=0.45,
        softness=3,
    )
    _fountain(canvas, x0)
    _lava(canvas, x0)
    ground = canvas.area(0, 104, 224, 128)
    _hill(ground, 113 + 2.5 * torch.sin(TAU * ground.x / 112 + layout), daylit("4a3a3f", time), daylit("3a2c33", time))


def _fountain(canvas: Canvas, x0: float) -> None:
    area = canvas.area(x0 - 46, 0, x0 + 46, 64)
    reach = 22 + 4 * canvas.wave(2)
    plume = polygon(
        area.x,
        area.y,
        (x0 - 4 + 1.5 * canvas.wave(1), 42 - reach),
        (x0 + 4 + 1.5 * canvas.wave(1), 42 - reach),
        (x0 + 9, 46),
        (x0 - 9, 46),
    )
    area.paint(plume, rgb("ff5a1a"), softness=3)
    area.paint(plume + 4, rgb("ffd24a"), softness=3)
    for index in range(8):
        life = canvas.ramp(1, index / 8 + 0.05)
        side = (-1) ** index * (9 + 5.5 * (index // 2))
        px, py = x0 + side * life, 40 - 112 * life * (1 - life * 0.86) * (0.82 + 0.05 * (index % 3))
        size = 4.2 - 1.6 * life
        area.paint(
            circle(area.x, area.y, px, py, size), rgb("ff8a24"), opacity=(5 * (1 - life)).clamp(0, 1), softness=1.5
        )
        area.paint(
            circle(area.x, area.y, px, py, size - 1.8),
            rgb("ffe27a"),
            opacity=(5 * (1 - life)).clamp(0, 1),
            softness=1.5,
        )


def _lava(canvas: Canvas, x0: float) -> None:
    area = canvas.area(x0 - 60, 40, x0 + 60, 116)
    x, y = area.x, area.y
    area.paint(ellipse(x, y, x0, 43, 13, 4), rgb("ffb03a"), softness=2)
    for lean, length, width, bend in ((-0.36, 62, 4.2, 3.0), (0.06, 70, 5.0, 4.0), (0.5, 48, 3.8, 2.0)):
        down = y - 42
        middle = x0 + lean * down + bend * torch.sin(down / 9)
        stream = torch.maximum((x - middle).abs() - width * (0.7 + 0.006 * down), torch.maximum(-down, down - length))
        hot = 0.5 + 0.5 * torch.sin(TAU * (down / 24 - 2 * canvas.phase))
        colour = torch.lerp(
            x.new_tensor(rgb("f2471c")).view(1, 3, 1, 1), x.new_tensor(rgb("ffc23d")).view(1, 3, 1, 1), hot.unsqueeze(1)
        )
        area.paint(stream, colour, softness=1.6)


_WATERS: dict[str, tuple[str, str, str, str]] = {
    # top, bottom, rays, sand
    "day": ("5fdcf2", "0b5aa8", "e6ffff", "e9d59a"),
    "sunset": ("ff9a5c", "4a2a78", "ffd98a", "b98a86"),
    "night": ("16306e", "040a26", "7f9be0", "3a4570"),
    "dawn": ("f3cfe0", "5f86c4", "fff4e6", "d9c6c0"),
}


def _underwater(canvas: Canvas, time: str, layout: int) -> None:
    top, bottom, ray, sand = (rgb(code) for code in _WATERS[time])
    area = canvas.area()
    area.blend(torch.ones_like(area.x * area.y), vertical_gradient(area.y, ((0.0, top), (118.0, bottom))))
    for index in range(4):
        middle = 20 + 56 * index + 12 * layout + 5 * canvas.wave(1, index * 0.27) + (area.y - 20) * (-0.32)
        half = 7 + area.y * 0.11 + index % 2 * 4
        strength = (0.34 if time != "night" else 0.2) * (1 - area.y / 112).clamp_min(0)
        area.paint((area.x - middle).abs() - half, ray, opacity=strength, softness=9)
    area.paint(
        112 + 3.5 * torch.sin(TAU * area.x / 150 + 2 * layout) - area.y,
        vertical_gradient(area.y, ((108.0, sand), (128.0, mix(sand, bottom, 0.4)))),
    )
    plants = (
        ((18, 46, 0), (32, 62, 1), (196, 54, 0), (210, 40, 1), (60, 26, 2), (172, 26, 2)),
        ((14, 60, 1), (200, 64, 0), (212, 44, 1), (182, 38, 0), (40, 28, 2), (150, 24, 2)),
        ((20, 56, 0), (36, 40, 1), (206, 60, 1), (186, 26, 2), (58, 24, 2), (112, 22, 2)),
    )[layout]
    for x, height, kind in plants:
        if kind == 2:
            _coral(canvas, time, x, height)
        else:
            _seaweed(canvas, time, x, height, "2fae6b" if kind else "1f8a5c")
    # Each bubble rises to where the next one was: slow, and the column is full at any time.
    for index, x in enumerate((60, 164)):
        column = canvas.area(x - 12, 0, x + 12, 116)
        for place in range(3):
            rise = (canvas.ramp(1, index * 0.43 + layout * 0.11) + place) / 3
            bx, by = x + 3 * torch.sin(TAU * (2 * rise + index * 0.3)), 112 - 118 * rise
            edge = circle(column.x, column.y, bx, by, 4.4)
            column.paint(edge, mix(top, WHITE, 0.5), opacity=0.55, softness=1.3)
            column.paint(circle(column.x, column.y, bx - 1.4, by - 1.4, 1.7), WHITE, opacity=0.7, softness=1.5)


def _water_lit(colour: str, time: str) -> Rgb:
    return multiply(
        rgb(colour),
        {"day": (0.9, 1.0, 1.0), "sunset": (0.9, 0.62, 0.66), "night": (0.32, 0.42, 0.7), "dawn": (0.9, 0.88, 0.96)}[
            time
        ],
    )


def _seaweed(canvas: Canvas, time: str, x: float, height: float, colour: str) -> None:
    area = canvas.area(x - 16, 116 - height - 6, x + 16, 122)
    up = ((120 - area.y) / height).clamp(0, 1.1)
    middle = x + 6 * up * torch.sin(TAU * (up * 0.8 - canvas.phase) + x)
    blade = torch.maximum((area.x - middle).abs() - (4.6 * (1.08 - up).clamp_min(0) ** 0.5), 120 - height - area.y)
    area.paint(blade, _water_lit(colour, time), softness=1.3)


def _coral(canvas: Canvas, time: str, x: float, height: float) -> None:
    area = canvas.area(x - 24, 116 - height - 6, x + 24, 124)
    u, v = area.x - x, area.y - 121
    tone = _water_lit("ff6f7d" if int(x) % 4 else "ff9d5c", time)
    for ax, bx, by in (
        (0, 0, -height),
        (-2, -13, -height * 0.75),
        (2, 13, -height * 0.75),
        (-2, -17, -height * 0.4),
        (2, 17, -height * 0.4),
    ):
        area.paint(capsule(u, v, ax, 0, bx, by, 3.2), tone)


def _space(canvas: Canvas, time: None, layout: int) -> None:
    area = canvas.area()
    area.blend(
        torch.ones_like(area.x * area.y), vertical_gradient(area.y, ((0.0, rgb("0b0720")), (128.0, rgb("241046"))))
    )
    nebulae = (
        ((60, 90, "6a2a9a"), (170, 30, "1f4aa0")),
        ((170, 96, "8a2a7a"), (50, 36, "1f5a90")),
        ((112, 110, "2a4ab0"), (190, 40, "7a2a8a")),
    )[layout]
    for x, y, tone in nebulae:
        area.blend(glow(area.x, area.y, x, y, 52) * (0.55 + 0.08 * canvas.wave(1)), rgb(tone))
    for index, (x, y) in enumerate((*_STARS, (22, 84), (64, 112), (100, 74), (150, 116), (206, 100), (186, 70))):
        star = canvas.area(x - 5, y - 5, x + 5, y + 5)
        dx, dy = (star.x - x).abs(), (star.y - y).abs()
        shape = torch.minimum(dx * 0.45 + dy * 1.6, dx * 1.6 + dy * 0.45) - 1.7
        star.paint(shape, rgb("fff6d6"), opacity=0.65 + 0.35 * canvas.wave(1 + index % 2, index * 0.23), softness=1.6)
    x, y, radius, tone, has_ring = (
        (58, 48, 28, "f0934e", True),
        (166, 50, 30, "3fa7a0", False),
        (170, 44, 26, "c9648f", True),
    )[layout]
    planet = canvas.area(x - 56, y - 36, x + 56, y + 36)
    u, v = planet.x - x, planet.y - y
    disc = circle(u, v, 0, 0, radius)
    planet.paint(disc, rgb(tone))
    for band in (-0.45, 0.1, 0.6):
        planet.paint(
            intersect(disc, (v - band * radius - 2.5 * torch.sin(TAU * (u / 56 - canvas.phase))).abs() - 3.2),
            mix(rgb(tone), WHITE, 0.3),
            softness=2,
        )
    planet.paint(cut(disc, circle(u, v, -9, -9, radius + 3)), (0.04, 0.02, 0.1), opacity=0.5, softness=4)
    if has_ring:
        tilt_u, tilt_v = u * 0.96 - v * 0.28, v * 0.96 + u * 0.28
        ring = ellipse(tilt_u, tilt_v, 0, 0, radius * 1.7, radius * 0.5).abs() - 2.4
        planet.paint(cut(ring, torch.maximum(disc, tilt_v)), rgb("f6dfae"))
    mx, my = x + 50 * canvas.wave(1, 0.05 * layout), y + 12 * canvas.wave(1, 0.25 + 0.05 * layout)
    moon = canvas.area(x - 62, y - 22, x + 62, y + 22)
    moon.paint(circle(moon.x, moon.y, mx, my, 5.5), rgb("d9d6e6"))


ScenePainter = Callable[[Canvas, str, int], None]
SCENE_PAINTERS: dict[str, ScenePainter] = {
    "beach": _beach,
    "sea": _sea,
    "mountains": _mountains,
    "forest": _forest,
    "city": _city,
    "volcano": _volcano,
    "underwater": _underwater,
}
paint_space = _space

"""Five outdoor scenes of the procedural world: park, desert, countryside, garden and the polar night.

Still things are painted once, on a canvas of a single frame, and copied to all frames. Moving things are painted per
frame, on top. So a painter's order is: still things far to near, then moving things far to near.
"""

from __future__ import annotations

from collections.abc import Callable

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
    polygon,
    rectangle,
    rgb,
    union,
    vertical_gradient,
)
from training.world.scenes import DAYLIGHTS, WHITE, daylit, paint_clouds, paint_sky

LAMP: Rgb = rgb("ffd873")
AURORA_LIGHT: Rgb = (0.62, 0.8, 0.88)

_GLINTS = ((18, 12), (80, 10), (110, 24), (142, 9), (204, 16), (52, 30))


def _show(still: Canvas, canvas: Canvas) -> None:
    canvas.pixels.copy_(still.pixels.expand_as(canvas.pixels))


def _swaying(area: Area, sway: Tensor, reach: float, shape: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The shape moved sideways by `sway` [-1, 1] times `reach`. Between its two ends, distances are nearly linear."""
    return torch.lerp(shape(area.x + reach, area.y), shape(area.x - reach, area.y), 0.5 + 0.5 * sway)


def _is_dark(time: str) -> bool:
    return time in ("night", "sunset")


def _glints(canvas: Canvas, time: str, sun_x: float) -> None:
    if time != "night":
        return
    for index, (x, y) in enumerate(_GLINTS):
        if abs(x - sun_x) > 20:
            star = canvas.area(x - 5, y - 5, x + 5, y + 5)
            dx, dy = (star.x - x).abs(), (star.y - y).abs()
            shape = torch.minimum(dx * 0.45 + dy * 1.6, dx * 1.6 + dy * 0.45) - 1.6
            star.paint(shape, rgb("fff6d6"), opacity=0.45 + 0.45 * canvas.wave(1, index * 0.23), softness=1.6)


def _land(area: Area, crest: Tensor, top: float, colour: Rgb, below: Rgb) -> None:
    """Ground under `crest`, from `colour` at `top` to `below` at the picture's lower edge."""
    area.paint(crest - area.y, vertical_gradient(area.y, ((top, colour), (128.0, below))))


def _ripples(canvas: Canvas, time: str, places: tuple[tuple[float, float, float], ...]) -> None:
    """Glints (x, y, half width) on still water."""
    tone = mix(DAYLIGHTS[time].horizon, WHITE, 0.45 if time != "night" else 0.1)
    for index, (x, y, half) in enumerate(places):
        area = canvas.area(x - half - 8, y - 3, x + half + 8, y + 3)
        middle = x + 3.5 * canvas.wave(1, index * 0.31)
        area.paint(capsule(area.x, area.y, middle - half, y, middle + half, y, 1.2), tone, opacity=0.6, softness=1.5)


def _water(still: Canvas, time: str, x: float, y: float, rx: float, ry: float, rim: Rgb) -> None:
    sky = DAYLIGHTS[time]
    area = still.area(x - rx - 4, y - ry - 4, x + rx + 4, y + ry + 4)
    area.paint(ellipse(area.x, area.y, x, y + 0.6, rx + 3, ry + 2.4), rim)
    far = mix(sky.horizon, sky.middle, 0.5)
    near = mix(sky.middle, sky.top, 0.7)
    area.paint(ellipse(area.x, area.y, x, y, rx, ry), vertical_gradient(area.y, ((y - ry, far), (y + ry, near))))


# Park


def _park_tree(canvas: Canvas, time: str, x: float, foot: float, size: float, tone: str) -> None:
    area = canvas.area(x - 32 * size - 3, foot - 78 * size, x + 32 * size + 3, foot + 3)
    leaf, trunk = daylit(tone, time), daylit("7a4f33", time)
    tree = area.placed(x, foot, size=size)
    stem = polygon(tree.x, tree.y, (-2.6, -40), (2.6, -40), (4.6, 1), (-4.6, 1))
    tree.paint(stem, trunk)
    sway = canvas.wave(1, x * 0.011)
    top = canvas.area(x - 32 * size - 3, foot - 78 * size, x + 32 * size + 3, foot - 22 * size)
    crown = top.placed(x, foot, size=size)

    def outline(u: Tensor, v: Tensor) -> Tensor:
        return union(
            circle(u, v, -15, -38, 13.5),
            circle(u, v, 15, -38, 13.5),
            circle(u, v, -9, -54, 14.5),
            circle(u, v, 10, -55, 14),
            circle(u, v, 0, -42, 15),
        )

    def bright(u: Tensor, v: Tensor) -> Tensor:
        return union(circle(u, v, -10, -57, 9.5), circle(u, v, -17, -42, 7), circle(u, v, 7, -60, 6.5))

    crown.paint(_swaying(crown, sway, 2.2, outline), leaf)
    crown.paint(_swaying(crown, sway, 2.7, bright), mix(leaf, WHITE, 0.16 if time != "night" else 0.08), softness=2.5)


def _bench(canvas: Canvas, time: str, x: float, foot: float) -> None:
    area = canvas.area(x - 20, foot - 26, x + 20, foot + 2)
    wood, iron = daylit("b5763f", time), daylit("4a4653", time)
    for side in (-13, 13):
        area.paint(rectangle(area.x, area.y, x + side, foot - 9, 1.7, 9.5), iron)
    area.paint(rectangle(area.x, area.y, x, foot - 18.5, 17.5, 2.4, 1), wood)
    area.paint(rectangle(area.x, area.y, x, foot - 13.2, 17.5, 1.9, 1), mix(wood, WHITE, 0.12))
    area.paint(rectangle(area.x, area.y, x, foot - 7, 18.5, 2.2, 1), mix(wood, (0.1, 0.05, 0.05), 0.15))


def _lamp(still: Canvas, time: str, x: float, foot: float, height: float) -> None:
    area = still.area(x - 34, foot - height - 34, x + 34, foot + 2)
    iron = daylit("3d4458", time)
    area.paint(rectangle(area.x, area.y, x, foot - height / 2, 1.5, height / 2), iron)
    area.paint(rectangle(area.x, area.y, x, foot - 2, 3, 2.4, 1), iron)
    head = foot - height - 4
    if _is_dark(time):
        area.blend(glow(area.x, area.y, x, head, 15) * (0.75 if time == "night" else 0.45), LAMP)
    area.paint(rectangle(area.x, area.y, x, head, 4.2, 5, 1.4), LAMP if _is_dark(time) else daylit("fff6dc", time))
    area.paint(polygon(area.x, area.y, (x, head - 10), (x + 6.4, head - 4), (x - 6.4, head - 4)), iron)
    area.paint(rectangle(area.x, area.y, x, head + 5.4, 4.6, 1.4), iron)


def _flowers(area: Area, time: str, x: float, y: float) -> None:
    area.paint(ellipse(area.x, area.y, x, y + 1, 22, 4.6), daylit("3f9a45", time))
    for index in range(5):
        bloom = daylit(("ff7f9f", "ffd65c", "ff9bd0")[index % 3], time)
        area.paint(circle(area.x, area.y, x + (index - 2) * 7.2, y - 1 + index % 2 * 2, 2.6), bloom)


def _park_ground(still: Canvas, time: str, layout: int) -> None:
    lawn = still.area(0, 80, 224, 128)
    crest = 87 + 1.5 * torch.sin(TAU * lawn.x / 224 + 2 * layout)
    _land(lawn, crest, 80.0, daylit("a5da62", time), daylit("58ad48", time))
    sand = daylit("f0d9a4", time)
    if layout == 0:  # A path winds from the front to the hedge.
        middle = 152 + 20 * torch.sin((lawn.y - 84) / 13) - (lawn.y - 88) * 0.35
        lawn.paint(intersect((lawn.x - middle).abs() - (2.5 + (lawn.y - 87) * 0.36), 88 - lawn.y), sand, softness=1.5)
    elif layout == 1:  # A pond at the left, a path along the front.
        lawn.paint((lawn.y - (120 + 2.5 * torch.sin(TAU * lawn.x / 260))).abs() - 6, sand, softness=1.5)
        _water(still, time, 40, 99, 38, 7.5, daylit("d8cfb8", time))
        for x, y in ((14.0, 108.0), (24.0, 110.0), (68.0, 107.0)):
            lawn.paint(ellipse(lawn.x, lawn.y, x, y, 5, 2.6), daylit("9aa0a6", time))
    else:  # An avenue to the horizon.
        path = intersect((lawn.x - 112).abs() - (4 + (lawn.y - 88) * 1.15), 88 - lawn.y)
        lawn.paint(path, sand, softness=1.5)
    for x, foot, size, _ in _PARK_TREES[layout]:
        shade = ellipse(lawn.x, lawn.y, x + 4, foot, 26 * size, 4.2 * size)
        lawn.paint(shade, daylit("3f8f3c", time), opacity=0.6, softness=3)
    lamps = (((178, 113, 44),), ((158, 110, 42),), ((54, 115, 44), (170, 115, 44)))
    for x, foot, height in lamps[layout]:
        _lamp(still, time, x, foot, height)
    if layout != 1:
        _flowers(lawn, time, (20, 0, 18)[layout], 122)
    if layout == 2:
        _flowers(lawn, time, 206, 122)


_PARK_TREES = (
    ((30, 112, 1.12, "3fa552"), (211, 106, 0.9, "57b548"), (66, 95, 0.42, "57b548")),
    ((198, 112, 1.12, "4bae4e"), (14, 92, 0.5, "57b548")),
    ((14, 110, 0.98, "57b548"), (210, 110, 0.98, "3fa552"), (73, 95, 0.38, "3fa552"), (151, 95, 0.38, "57b548")),
)


def _park(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    sky = DAYLIGHTS[time]
    sun_x = (178.0, 44.0, 158.0)[layout]
    still = canvas.still()
    paint_sky(still, time, 86, sun_x, 62 if time == "sunset" else 54)
    far = still.area(0, 40, 224, 92)
    tower = mix(daylit("7f93bd", time), sky.horizon, 0.5)
    skyline = (
        ((66, 8, 66), (84, 9, 58), (101, 7, 70), (124, 9, 64), (142, 7, 70)),
        ((92, 8, 68), (110, 9, 58), (130, 8, 64), (70, 8, 72)),
        ((88, 9, 62), (106, 8, 70), (124, 8, 58), (141, 8, 68)),
    )[layout]
    for x, half, top in skyline:
        far.paint(rectangle(far.x, far.y, x, (top + 92) / 2, half, (92 - top) / 2), tower)
        if time == "night":
            far.paint(rectangle(far.x, far.y, x - 2, top + 6, 1.7, 1.7), mix(LAMP, tower, 0.25))
    bumps = 81 - 5 * torch.sin(TAU * (far.x / 44 + 0.21 * layout)).abs() - 2 * torch.sin(TAU * far.x / 97 + layout)
    far.paint(bumps - far.y, mix(daylit("4c9c63", time), sky.horizon, 0.16))
    _park_ground(still, time, layout)
    _show(still, canvas)
    _glints(canvas, time, sun_x)
    clouds = (((66, 20, 1.0), (122, 34, 0.65)), ((112, 20, 1.0), (176, 28, 0.6)), ((70, 22, 1.0), (202, 20, 0.5)))
    paint_clouds(canvas, time, *clouds[layout])
    if layout == 1:
        _ripples(canvas, time, ((28, 96, 8), (52, 99, 9), (32, 103, 7)))
    for x, foot, size, tone in reversed(_PARK_TREES[layout]):
        _park_tree(canvas, time, x, foot, size, tone)
    if layout < 2:  # Before the trunk.
        _bench(canvas, time, (54, 184)[layout], 115)


# Desert


def _sand(code: str, time: str) -> Rgb:
    """Sand under the sky's light: at night the moon makes it bluish."""
    return mix(daylit(code, time), rgb("3a4a8c"), 0.28) if time == "night" else daylit(code, time)


def _dune(area: Area, time: str, x: float, top: float, width: float, tone: str) -> None:
    """A sand hill with a sharp S-shaped ridge: light on one side, shade on the other."""
    light = _sand(tone, time)
    dx = (area.x - x) / width
    crest = top + (118 - top) * (1 - 1 / (1 + 2.2 * dx * dx))
    hill = (crest - area.y) * 0.85
    area.paint(hill, light)
    ridge = x + 9 * torch.sin((area.y - top) / 9) + 0.5 * (area.y - top)
    area.paint(intersect(hill, ridge - area.x), mix(light, _sand("a04f2a", time), 0.4), opacity=0.8, softness=1.6)


def _mesa(area: Area, time: str, x: float, top: float, half: float, haze: float) -> None:
    rock = mix(daylit("c4623f", time), DAYLIGHTS[time].horizon, haze)
    dark = mix(rock, (0.2, 0.06, 0.1), 0.25)
    body = polygon(area.x, area.y, (x - half, top), (x + half, top), (x + half * 1.25, 94), (x - half * 1.25, 94))
    skirt = polygon(
        area.x, area.y, (x - half * 1.1, 78), (x + half * 1.1, 78), (x + half * 1.9, 96), (x - half * 1.9, 96)
    )
    area.paint(union(body, skirt), rock)
    area.paint(intersect(body, x + half * 0.3 + 0.1 * (area.y - top) - area.x), dark, opacity=0.8)
    area.paint(intersect(body, (area.y - top - 8).abs() - 2.2), mix(rock, daylit("ffd9a8", time), 0.3))


def _arch(still: Canvas, time: str, x: float) -> None:
    area = still.area(x - 52, 34, x + 50, 108)
    rock = daylit("cf6f45", time)
    u, v = area.x - x, area.y
    body = union(
        rectangle(u, v, 0, 62, 38, 20, 16),
        polygon(u, v, (-38, 56), (-14, 56), (-10, 106), (-46, 106)),
        polygon(u, v, (18, 56), (38, 56), (44, 106), (14, 106)),
    )
    hole = union(ellipse(u, v, 2, 78, 17, 19), rectangle(u, v, 2, 94, 15, 16))
    stone = cut(body, hole)
    area.paint(stone, rock)
    dark = mix(rock, (0.2, 0.05, 0.08), 0.32)
    for y in (54.0, 70.0, 88.0):
        band = (v - y - 1.6 * torch.sin(u / 9)).abs() - 2.2
        area.paint(intersect(stone, band), mix(rock, daylit("ffd9a8", time), 0.3))
    area.paint(intersect(stone, 29 + 0.1 * (v - 60) - u), dark, opacity=0.8, softness=2)
    depth = union(ellipse(u, v, -3, 76, 17, 19), rectangle(u, v, -3, 94, 15, 18))
    area.paint(intersect(stone, depth), dark)


def _cactus(canvas: Canvas, time: str, x: float, foot: float, size: float, mirrored: bool) -> None:
    area = canvas.area(x - 20 * size, foot - 54 * size, x + 20 * size, foot + 3)
    plant = area.placed(x, foot, size=size, mirrored=mirrored)
    u, v = plant.x, plant.y
    tone = daylit("3f9a58", time)
    shape = union(
        capsule(u, v, 0, 0, 0, -45, 5.2),
        capsule(u, v, 0, -17, -13, -19, 3.6),
        capsule(u, v, -13, -19, -13, -33, 3.6),
        capsule(u, v, 0, -11, 13, -14, 3.6),
        capsule(u, v, 13, -14, 13, -25, 3.6),
    )
    plant.paint(ellipse(u, v, 5, 0, 15, 2.6), daylit("a8653a", time), opacity=0.6, softness=2)
    plant.paint(intersect(shape, v - 0.5), tone)
    plant.paint(capsule(u, v, 2.6, -4, 2.6, -44, 1.5), mix(tone, (0.02, 0.1, 0.12), 0.25), softness=2)
    plant.paint(circle(u, v, 0, -50, 3), daylit("ff6f91", time))


def _desert(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    sky = DAYLIGHTS[time]
    sun_x = (170.0, 40.0, 138.0)[layout]
    still = canvas.still()
    paint_sky(still, time, 92, sun_x, 72 if time == "sunset" else 56)
    if time != "night":  # Dust in the hot air; without it the sky could be a beach's.
        air = still.area(0, 40, 224, 94)
        air.blend(
            ((air.y - 46) / 46).clamp(0, 1).expand(1, -1, air.x.shape[2]) * 0.6,
            mix(daylit("ffd39a", time), sky.horizon, 0.3),
        )
    far = still.area(0, 30, 224, 128)
    if layout == 0:
        _mesa(far, time, 34, 56, 25, 0.22)
        _mesa(far, time, 76, 70, 11, 0.4)
    elif layout == 1:
        _mesa(far, time, 20, 74, 14, 0.42)
        _mesa(far, time, 66, 68, 9, 0.42)
    else:
        _mesa(far, time, 30, 46, 15, 0.2)
        _mesa(far, time, 198, 52, 19, 0.2)
        _mesa(far, time, 66, 72, 9, 0.42)
    land = still.area(0, 60, 224, 128)
    haze = mix(_sand("f0b878", time), sky.horizon, 0.22)
    land.paint(90 + 2 * torch.sin(TAU * land.x / 120 + layout) - land.y, haze)
    dunes = (
        ((196, 66, 70, "f3b870"), (112, 86, 80, "eeb067")),
        ((118, 80, 84, "f3b870"), (26, 88, 60, "eeb067")),
        ((112, 80, 74, "f3bd77"), (40, 89, 60, "eeb067"), (190, 89, 60, "eeb067")),
    )[layout]
    for x, top, width, tone in dunes:
        _dune(land, time, x, top, width, tone)
    if layout == 1:
        _arch(still, time, 174)
    front = still.area(0, 92, 224, 128)
    crest = 102 + 3.5 * torch.sin(TAU * front.x / 200 + (0.4, 2.6, 1.2)[layout])
    _land(front, crest, 92.0, _sand("f8c885", time), _sand("e09a55", time))
    cacti = (
        ((26, 114, 1.15, False), (204, 112, 0.85, True), (60, 104, 0.5, True)),
        ((22, 113, 1.05, True), (206, 116, 0.6, False)),
        ((28, 114, 1.0, True), (198, 115, 1.15, False)),
    )[layout]
    for x, foot, size, mirrored in cacti:
        _cactus(still, time, x, foot, size, mirrored)
    _show(still, canvas)
    _glints(canvas, time, sun_x)
    clouds = (((70, 22, 0.8),), ((180, 20, 0.8),), ((190, 22, 0.7), (48, 18, 0.6)))[layout]
    paint_clouds(canvas, time, *clouds)
    wisp = mix(daylit("fff0cc", time), sky.glow, 0.3)
    for row, y in enumerate((108.0, 116.5, 124.0)):  # Sand that the wind carries, a wavelength in a clip.
        band = canvas.area(0, y - 4, 224, y + 4)
        angle = TAU * (band.x / 112 - canvas.phase + row * 0.37)
        line = (band.y - (y + 1.3 * torch.sin(angle))).abs() - 1.3
        band.paint(intersect(line, 8 * (torch.sin(angle + 1.1) - 0.1)), wisp, opacity=0.4, softness=3)


# Countryside


def _windmill(still: Canvas, time: str, x: float, foot: float, size: float, haze: float) -> None:
    area = still.area(x - 20 * size, foot - 66 * size, x + 20 * size, foot + 2)
    mill = area.placed(x, foot, size=size)
    u, v = mill.x, mill.y
    sky = DAYLIGHTS[time]
    wall, cap = (mix(daylit(code, time), sky.horizon, haze) for code in ("f7ead2", "a5492f"))
    body = polygon(u, v, (-7.5, -48), (7.5, -48), (13, 1), (-13, 1))
    mill.paint(body, wall)
    mill.paint(intersect(body, 3 - u), mix(wall, (0.25, 0.15, 0.25), 0.2))
    mill.paint(intersect(ellipse(u, v, 0, -48, 9.5, 11), v + 46), cap)
    mill.paint(rectangle(u, v, 0, -17, 14, 1.7), cap)
    mill.paint(rectangle(u, v, 0, -6, 3.4, 7, 3), cap)
    if size > 0.6:
        pane = LAMP if _is_dark(time) else daylit("54708f", time)
        mill.paint(rectangle(u, v, 0, -29, 2.6, 3.4, 1), pane)


def _sails(canvas: Canvas, time: str, x: float, foot: float, size: float, haze: float, start: float) -> None:
    """Four sails that make a quarter turn in a clip, so that the end looks like the beginning."""
    y, reach = foot - 50 * size, 31 * size
    area = canvas.area(x - reach - 1, y - reach - 1, x + reach + 1, y + reach + 1)
    hub = area.placed(x, y, angle=TAU * (canvas.phase + start) / 4, size=size)
    u, v = hub.x, hub.y
    sky = DAYLIGHTS[time]
    cloth, wood = (mix(daylit(code, time), sky.horizon, haze) for code in ("fffaf0", "6b4634"))
    across, along = u.abs(), v.abs()
    sail = torch.minimum(
        torch.maximum((across - 18.5).abs() - 10.5, (v * u.sign() - 2.7).abs() - 3.2),
        torch.maximum((along - 18.5).abs() - 10.5, (-u * v.sign() - 2.7).abs() - 3.2),
    )
    hub.paint(sail, cloth)
    arms = torch.minimum(torch.maximum(across - 30, along - 1.2), torch.maximum(along - 30, across - 1.2))
    hub.paint(torch.minimum(arms, circle(u, v, 0, 0, 3)), wood)


def _house(still: Canvas, time: str, x: float, foot: float, size: float, *, is_barn: bool) -> None:
    area = still.area(x - 30 * size, foot - 50 * size, x + 30 * size, foot + 2)
    home = area.placed(x, foot, size=size)
    u, v = home.x, home.y
    pane = LAMP if _is_dark(time) else daylit("6fa3c7", time)
    cream, red, white = daylit("fff1d6", time), daylit("d94f3d", time), daylit("fffaf0", time)
    if is_barn:
        front = union(
            rectangle(u, v, 0, -12, 22, 13),
            polygon(u, v, (-13, -38), (13, -38), (22, -24), (-22, -24)),
            polygon(u, v, (0, -46), (13, -38), (-13, -38)),
        )
        roof = union(
            *(
                capsule(u, v, side * ax, ay, side * bx, by, 2)
                for side in (-1, 1)
                for ax, ay, bx, by in ((0, -46, 13, -38), (13, -38, 24, -23))
            )
        )
        home.paint(front, daylit("c8402f", time))
        home.paint(roof, daylit("fff6ea", time) if time != "night" else daylit("c9c4cf", time))
        home.paint(rectangle(u, v, 0, -8, 9.5, 10), white)
        home.paint(rectangle(u, v, 0, -7.5, 7.2, 8.2), daylit("8f2a22", time))
        home.paint(rectangle(u, v, 0, -30, 4.5, 4.5), white)
        home.paint(rectangle(u, v, 0, -30, 2.9, 2.9), pane)
        return
    home.paint(rectangle(u, v, 12, -40, 3.2, 9), daylit("b5634a", time))
    home.paint(rectangle(u, v, 0, -11, 21, 12), cream)
    home.paint(polygon(u, v, (-14, -40), (14, -40), (26, -21), (-26, -21)), red)
    home.paint(polygon(u, v, (-24.5, -24), (24.5, -24), (26, -20), (-26, -20)), mix(red, (0.2, 0, 0.1), 0.25))
    home.paint(rectangle(u, v, 0, -7.5, 4, 8.5, 1), daylit("8a5436", time))
    for side in (-12.5, 12.5):
        home.paint(rectangle(u, v, side, -12, 4.4, 4.6), white)
        home.paint(rectangle(u, v, side, -12, 3.1, 3.3), pane)


def _fence(canvas: Canvas, time: str, x0: float, x1: float, foot: float) -> None:
    area = canvas.area(x0 - 3, foot - 17, x1 + 3, foot + 2)
    wood = daylit("fdf5e6", time)
    for y in (foot - 5, foot - 11):
        area.paint(rectangle(area.x, area.y, (x0 + x1) / 2, y, (x1 - x0) / 2, 1.4), mix(wood, (0.3, 0.25, 0.3), 0.18))
    count = max(2, round((x1 - x0) / 13) + 1)
    for index in range(count):
        x = x0 + (x1 - x0) * index / (count - 1)
        area.paint(rectangle(area.x, area.y, x, foot - 7.5, 2, 8, 1), wood)


def _countryside(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    sky = DAYLIGHTS[time]
    sun_x = (128.0, 150.0, 60.0)[layout]
    still = canvas.still()
    paint_sky(still, time, 84, sun_x, 62 if time == "sunset" else 50)
    land = still.area(0, 56, 224, 128)
    x, y = land.x, land.y
    shift = (0.0, 2.2, 4.1)[layout]
    land.paint(72 + 5 * torch.sin(TAU * x / 150 + shift) - y, mix(daylit("6fa98f", time), sky.horizon, 0.45))
    land.paint(79 + 4 * torch.sin(TAU * x / 190 + 1.6 + shift) - y, mix(daylit("86bb62", time), sky.horizon, 0.18))
    mills = (
        ((188, 100, 1.05, 0.0, 0.1), (152, 84, 0.42, 0.2, 0.45)),
        ((36, 100, 1.05, 0.0, 0.3), (74, 83, 0.42, 0.2, 0.65)),
        ((26, 98, 0.9, 0.0, 0.15), (198, 98, 0.9, 0.0, 0.6), (150, 82, 0.4, 0.22, 0.4)),
    )[layout]
    for mill_x, foot, size, haze, _ in mills[1 if layout < 2 else 2 :]:
        _windmill(still, time, mill_x, foot, size, haze)
    # Fields: rape in flower, then striped crops, then the meadow in front.
    rape = 86 + 3.5 * torch.sin(TAU * x / 210 + 3.3 + shift) - y
    land.paint(rape, mix(daylit("f7d548", time), sky.horizon, 0.08))
    crops = 94 + 3 * torch.sin(TAU * x / 240 + 0.6 + shift) - y
    land.paint(crops, daylit("94c94f", time))
    rows = 2.2 * torch.sin(TAU * (x - 112) / ((y - 70).clamp_min(6) * 0.42))
    land.paint(intersect(crops, rows), daylit("78b544", time), opacity=0.8, softness=1.5)
    for mill_x, foot, size, haze, _ in mills[: 1 if layout < 2 else 2]:
        _windmill(still, time, mill_x, foot, size, haze)
    if layout == 0:
        _house(still, time, 32, 103, 0.95, is_barn=False)
    elif layout == 1:
        _house(still, time, 190, 103, 0.95, is_barn=True)
    else:
        _house(still, time, 66, 95, 0.5, is_barn=False)
    front = still.area(0, 96, 224, 128)
    meadow = 103 + 1.6 * torch.sin(TAU * front.x / 224 + shift)
    _land(front, meadow, 96.0, daylit("a3d860", time), daylit("5dac45", time))
    _show(still, canvas)
    _glints(canvas, time, sun_x)
    clouds = (((50, 20, 1.0), (100, 36, 0.6)), ((104, 18, 0.9), (200, 26, 0.7)), ((112, 22, 1.0), (166, 38, 0.55)))
    paint_clouds(canvas, time, *clouds[layout])
    breeze = canvas.area(0, 104, 224, 128)  # Wind over the meadow, one wavelength in a clip.
    wave = torch.sin(TAU * (breeze.x / 74.667 + breeze.y / 90 - canvas.phase))
    breeze.blend((wave - 0.2).clamp_min(0) * 0.28 * ((breeze.y - 105) / 8).clamp(0, 1), daylit("d4f08a", time))
    fences = (((-2, 34, 123), (150, 226, 115)), ((-2, 64, 115), (190, 226, 123)), ((-2, 52, 117), (172, 226, 117)))
    for x0, x1, foot in fences[layout]:
        _fence(canvas, time, x0, x1, foot)
    for mill_x, foot, size, haze, start in reversed(mills):
        _sails(canvas, time, mill_x, foot, size, haze, start)


# Garden


def _blossom(code: str, time: str) -> Rgb:
    """Cherry blossom stays pink in every light, so that the garden is recognised."""
    return mix(daylit(code, time), rgb(code), {"day": 0.0, "sunset": 0.4, "night": 0.24, "dawn": 0.3}[time])


def _cherry(canvas: Canvas, time: str, x: float, foot: float, size: float, mirrored: bool) -> None:
    sway = canvas.wave(1, x * 0.011)
    area = canvas.area(x - 46 * size, foot - 44 * size, x + 46 * size, foot + 3)
    tree = area.placed(x, foot, size=size, mirrored=mirrored)
    u, v = tree.x, tree.y
    bark = daylit("6b4038", time)
    trunk = union(
        capsule(u, v, 0, 0, 3, -22, 4.6),
        capsule(u, v, 3, -22, -10, -44, 3.4),
        capsule(u, v, 3, -22, 18, -44, 3.2),
        polygon(u, v, (-2, -10), (4, -10), (8, 1), (-8, 1)),
    )
    tree.paint(intersect(trunk, v - 1), bark)
    top = canvas.area(x - 46 * size, foot - 92 * size, x + 46 * size, foot - 24 * size)
    crown = top.placed(x, foot, size=size, mirrored=mirrored)

    def outline(u: Tensor, v: Tensor) -> Tensor:
        return union(
            circle(u, v, -26, -44, 14),
            circle(u, v, 28, -44, 14),
            circle(u, v, -13, -60, 17),
            circle(u, v, 14, -62, 17),
            circle(u, v, 1, -48, 16),
            circle(u, v, 0, -72, 14),
        )

    def bright(u: Tensor, v: Tensor) -> Tensor:
        return union(
            circle(u, v, -15, -64, 10), circle(u, v, 4, -76, 8), circle(u, v, -29, -47, 7), circle(u, v, 20, -66, 7.5)
        )

    def deep(u: Tensor, v: Tensor) -> Tensor:
        return union(circle(u, v, 6, -42, 9), circle(u, v, 30, -40, 7), circle(u, v, -20, -38, 7))

    tone = _blossom("ff9fc0", time)
    whole = _swaying(crown, sway, 2.4, outline)
    crown.paint(whole, tone)
    crown.paint(_swaying(crown, sway, 2.1, deep), _blossom("ec7aa6", time), softness=2.5)
    crown.paint(_swaying(crown, sway, 2.9, bright), _blossom("ffd0e0", time), softness=2.5)


def _fuji(still: Canvas, time: str, x: float, top: float) -> None:
    area = still.area(0, top - 2, 224, 100)
    sky = DAYLIGHTS[time]
    dx = ((area.x - x).abs() - 7).clamp_min(0)
    crest = top + 62 * (1 - torch.exp(-dx / 52))
    slope = (crest - area.y) * 0.7
    area.paint(slope, mix(daylit("7d9bd0", time), mix(sky.horizon, sky.top, 0.6), 0.35))
    line = top + 13 + 4 * torch.sin(TAU * (area.x - x) / 19)
    area.paint(intersect(slope, area.y - line, dx - 13), mix(daylit("ffffff", time), sky.horizon, 0.15))


def _bridge(still: Canvas, time: str, x: float, y: float) -> None:
    area = still.area(x - 44, y - 36, x + 44, y + 6)
    u = area.x - x
    red = daylit("e0402f", time)
    dark = mix(red, (0.15, 0.0, 0.08), 0.35)
    arc = y - 17 * (1 - (u / 40) ** 2)
    ends = torch.maximum(u.abs() - 36, area.y - y - 0.5)
    area.paint(intersect((area.y - arc - 3).abs() - 2.4, ends), dark)
    area.paint(intersect((area.y - arc).abs() - 2.2, ends), red)
    area.paint(intersect((area.y - arc + 11).abs() - 1.5, ends), red)
    for post in (-35.0, -17.5, 0.0, 17.5, 35.0):
        foot = y - 17 * (1 - (post / 40) ** 2)
        area.paint(rectangle(u, area.y, post, foot - 6, 1.8, 8.5), red)
        area.paint(circle(u, area.y, post, foot - 15, 2.3), daylit("f2c14e", time))


def _torii(still: Canvas, time: str, x: float, foot: float, size: float) -> None:
    area = still.area(x - 38 * size, foot - 64 * size, x + 38 * size, foot + 2)
    gate = area.placed(x, foot, size=size)
    u, v = gate.x, gate.y
    red, black = daylit("e0452f", time), daylit("3a2f3d", time)
    for side in (-1, 1):
        pillar = ((-20, -52), (-15, -52), (-17, 0), (-23, 0)) if side < 0 else ((15, -52), (20, -52), (23, 0), (17, 0))
        gate.paint(polygon(u, v, *pillar), red)
        gate.paint(rectangle(u, v, side * 20, -2, 4, 3), black)
    gate.paint(rectangle(u, v, 0, -40, 25, 2.3), red)
    gate.paint(rectangle(u, v, 0, -47, 2.6, 5), red)
    bow = -0.0045 * u * u
    gate.paint(intersect((v - bow + 53).abs() - 2.8, u.abs() - 30), red)
    gate.paint(intersect((v - bow + 57.5).abs() - 2.2, u.abs() - 34), black)


def _stone_lantern(still: Canvas, time: str, x: float, foot: float, size: float) -> None:
    area = still.area(x - 26 * size, foot - 50 * size, x + 26 * size, foot + 2)
    lamp = area.placed(x, foot, size=size)
    u, v = lamp.x, lamp.y
    stone, dark = daylit("b9b8bd", time), daylit("8f8f9b", time)
    if _is_dark(time):
        lamp.blend(glow(u, v, 0, -21, 15) * (0.75 if time == "night" else 0.4), LAMP)
    lamp.paint(rectangle(u, v, 0, -2, 8, 3, 1), dark)
    lamp.paint(rectangle(u, v, 0, -9, 3.4, 7), stone)
    lamp.paint(rectangle(u, v, 0, -15, 8, 2, 1), dark)
    lamp.paint(rectangle(u, v, 0, -21, 6.5, 5), stone)
    lamp.paint(rectangle(u, v, 0, -21, 3.6, 3.4, 1), LAMP if _is_dark(time) else daylit("6d6a78", time))
    lamp.paint(polygon(u, v, (-3, -33), (3, -33), (12, -25), (-12, -25)), dark)
    lamp.paint(circle(u, v, 0, -34, 2.6), stone)


def _garden(canvas: Canvas, time: str | None, layout: int) -> None:
    assert time is not None
    sky = DAYLIGHTS[time]
    sun_x = (196.0, 40.0, 168.0)[layout]
    still = canvas.still()
    paint_sky(still, time, 90, sun_x, 66 if time == "sunset" else 56)
    _fuji(still, time, (138.0, 88.0, 112.0)[layout], 40)
    far = still.area(0, 66, 224, 128)
    grove = 84 - 5 * torch.sin(TAU * (far.x / 50 + 0.2 * layout)).abs()
    far.paint(grove - far.y, mix(_blossom("f4a6c0", time), sky.horizon, 0.35))
    hedge = 89 - 3.5 * torch.sin(TAU * (far.x / 36 + 0.3 * layout)).abs()
    far.paint(hedge - far.y, mix(daylit("6aa868", time), sky.horizon, 0.15))
    lawn = still.area(0, 86, 224, 128)
    _land(lawn, 90 + 0 * lawn.x, 86.0, daylit("a9d977", time), daylit("6cb558", time))
    rim = daylit("c9c4b8", time)
    if layout == 0:
        _water(still, time, 172, 106, 34, 9, rim)
        _bridge(still, time, 172, 105)
    elif layout == 1:
        _water(still, time, 190, 102, 46, 7.5, rim)
        _cherry(still, time, 6, 99, 0.62, False)
        _torii(still, time, 40, 108, 1.0)
    else:
        _water(still, time, 112, 98, 62, 6.5, rim)
    petal = mix(_blossom("ffb7d0", time), daylit("a9d977", time), 0.1)
    trees = (
        ((30, 112, 1.0, False), (219, 94, 0.46, True)),
        ((190, 113, 1.0, True),),
        ((12, 112, 0.92, False), (212, 112, 0.92, True)),
    )[layout]
    for x, foot, size, _ in trees:
        lawn.paint(ellipse(lawn.x, lawn.y, x, foot + 1, 34 * size, 5.5 * size), petal, opacity=0.85, softness=2)
    stones = (
        ((70, 122), (92, 125), (50, 119)),
        ((66, 114), (84, 119), (104, 124)),
        ((88, 124), (112, 125), (136, 124)),
    )
    for x, y in stones[layout]:
        lawn.paint(ellipse(lawn.x, lawn.y, x, y, 8, 2.8), daylit("d9d4c6", time))
    for x, foot, size in (((62, 105, 0.75),), ((154, 114, 0.75),), ((54, 117, 0.85), (170, 117, 0.85)))[layout]:
        _stone_lantern(still, time, x, foot, size)
    _show(still, canvas)
    _glints(canvas, time, sun_x)
    clouds = (((104, 18, 0.8), (160, 32, 0.5)), ((90, 22, 0.5), (142, 17, 0.9)), ((80, 20, 0.8), (128, 34, 0.5)))
    paint_clouds(canvas, time, *clouds[layout])
    ripples = (
        ((158, 108, 7), (182, 110, 7), (190, 105, 5)),
        ((206, 99, 8), (166, 103, 8), (204, 106, 8)),
        ((80, 97, 9), (118, 95, 9), (140, 100, 10)),
    )
    _ripples(canvas, time, ripples[layout])
    for x, foot, size, mirrored in reversed(trees):
        _cherry(canvas, time, x, foot, size, mirrored)


# Aurora


def _fir(still: Canvas, x: float, foot: float, size: float) -> None:
    area = still.area(x - 24 * size, foot - 76 * size, x + 24 * size, foot + 2)
    tree = area.placed(x, foot, size=size)
    u, v = tree.x, tree.y
    green, snow = rgb("17414f"), rgb("b9dbe6")
    tree.paint(rectangle(u, v, 0, -5, 3.4, 6), rgb("33303f"))
    for low, high, half in ((-9, -38, 21), (-25, -55, 17), (-42, -73, 12.5)):
        tier = polygon(u, v, (0, high), (half, low), (-half, low))
        tree.paint(tier, green)
        tree.paint(intersect(tier, capsule(u, v, 0, high - 2, -half, low, 3.8)), snow)


def _hut(still: Canvas, x: float, foot: float) -> None:
    area = still.area(x - 40, foot - 56, x + 56, foot + 20)
    u, v = area.x - x, area.y - foot
    area.blend(((glow(u, v, 8, -6, 20) - 0.03) * 0.55).clamp_min(0), rgb("ffb35c"))
    area.paint(rectangle(u, v, 0, -10, 20, 12), rgb("6b4136"))
    for y in (-5.0, -13.0):
        area.paint(rectangle(u, v, 0, y, 20, 1.3), rgb("553128"))
    area.paint(rectangle(u, v, -13, -38, 3.2, 8), rgb("5a4a55"))
    area.paint(rectangle(u, v, -13, -46, 4.4, 1.8, 1), rgb("dff0f5"))
    area.paint(polygon(u, v, (0, -42), (27, -19), (-27, -19)), rgb("4f2f2c"))
    roof = union(capsule(u, v, 0, -42, 26, -21, 3.4), capsule(u, v, 0, -42, -26, -21, 3.4))
    area.paint(roof, rgb("dff0f5"))
    area.paint(rectangle(u, v, 8.5, -10, 6, 5.6, 1), rgb("3d231f"))
    area.paint(rectangle(u, v, 8.5, -10, 4.6, 4.2), LAMP)
    area.paint(rectangle(u, v, -8.5, -6, 4.4, 8, 1), rgb("3d231f"))


def _curtain(canvas: Canvas, base: float, tilt: float, waves: tuple[float, float], strength: float, index: int) -> None:
    """Light with a clear lower edge that fades upwards; its folds swing and its rays glide along."""
    area = canvas.area(0, 0, 224, 84)
    long, short = waves
    x = area.x
    edge = (
        base
        + tilt * (x - 112)
        + 9 * torch.sin(TAU * (x / long + 0.3 * index) + 0.9 * canvas.wave(1, 0.3 * index))
        + 3.5 * torch.sin(TAU * (x / short - 0.17 * index) - 0.8 * canvas.wave(1, 0.25 + 0.3 * index))
    )
    rays = 0.72 + 0.28 * torch.sin(
        TAU * (x / 28 + 0.1 * index) + 2.2 * torch.sin(TAU * x / 149.33 - TAU * canvas.phase)
    )
    height = edge - area.y
    cover = torch.exp(height.clamp_min(0) * (-1 / 24)) * (height / 5 + 1).clamp(0, 1)
    colours = ((2.0, rgb("b04af0")), (base - 22, rgb("6a7cf2")), (base - 2, rgb("3ff0a0")), (base + 12, rgb("7dffb8")))
    area.blend(cover * (rays * strength), vertical_gradient(area.y, colours))


def _aurora(canvas: Canvas, time: str | None, layout: int) -> None:
    still = canvas.still()
    area = still.area(0, 0, 224, 100)
    night = ((0.0, rgb("060a2c")), (50.0, rgb("0d2450")), (96.0, rgb("2a6a86")))
    area.blend(torch.ones_like(area.x * area.y), vertical_gradient(area.y, night))
    stars = (*_GLINTS, (34, 47), (170, 33), (128, 44), (212, 42))
    for x, y in stars:
        spot = still.area(x - 4, y - 4, x + 4, y + 4)
        spot.paint(circle(spot.x, spot.y, x, y, 1.5), rgb("f2fbff"), softness=1.5)
    _show(still, canvas)
    curtains = (
        ((40.0, -0.10, (190.0, 70.0), 0.6), (60.0, -0.14, (230.0, 84.0), 0.85)),
        ((38.0, 0.12, (200.0, 66.0), 0.6), (60.0, 0.10, (170.0, 90.0), 0.85)),
        ((36.0, 0.0, (120.0, 62.0), 0.55), (62.0, 0.02, (150.0, 75.0), 0.9)),
    )[layout]
    for index, (base, tilt, waves, strength) in enumerate(curtains):
        _curtain(canvas, base, tilt, waves, strength, index + 2 * layout)
    _aurora_land(canvas, layout)


def _aurora_land(canvas: Canvas, layout: int) -> None:
    ridge = canvas.area(0, 62, 224, 100)
    x = ridge.x
    peaks = (
        ((40, 70, 0.42), (150, 74, 0.35)),
        ((180, 68, 0.42), (80, 75, 0.35)),
        ((112, 66, 0.5), (30, 76, 0.4), (196, 76, 0.4)),
    )
    for middle, top, slope in peaks[layout]:
        peak = (top + (x - middle).abs() * slope - ridge.y) * 0.9
        ridge.paint(peak, rgb("2f5f86"))
        ridge.paint(
            intersect(peak, ridge.y - top - 8 - 2.5 * torch.sin(TAU * (x - middle) / 17), (x - middle).abs() - 17),
            rgb("8fc3d6"),
        )
    ground = canvas.area(0, 84, 224, 128)
    far = 92 + 4 * torch.sin(TAU * ground.x / 180 + (0.5, 2.6, 4.2)[layout]) - ground.y
    ground.paint(far, rgb("7fb9c9"))
    near = canvas.area(0, 92, 224, 128)
    crest = 102 + 3 * torch.sin(TAU * near.x / 224 + (2.2, 0.2, 1.4)[layout]) - near.y
    near.paint(crest, vertical_gradient(near.y, ((96.0, rgb("c4ecec")), (128.0, rgb("7fa8d0")))))
    if layout == 2:  # A frozen lake takes the sky's green.
        ice = vertical_gradient(near.y, ((100.0, rgb("6fd6c0")), (112.0, rgb("8fc8dc"))))
        near.paint(ellipse(near.x, near.y, 112, 106, 54, 5.5), ice, softness=1.5)
    firs = (
        ((18, 110, 0.95), (44, 106, 0.6), (158, 100, 0.32), (144, 99, 0.26)),
        ((206, 110, 0.95), (182, 106, 0.62), (66, 99, 0.32), (80, 98, 0.26)),
        ((16, 112, 1.0), (44, 105, 0.6), (208, 112, 1.0), (180, 105, 0.6)),
    )[layout]
    for fir_x, foot, size in reversed(firs):
        _fir(canvas, fir_x, foot, size)
    if layout == 0:
        _hut(canvas, 192, 110)
    elif layout == 1:
        _hut(canvas, 34, 110)


OutdoorPainter = Callable[[Canvas, str | None, int], None]
OUTDOOR_PAINTERS: dict[str, OutdoorPainter] = {
    "park": _park,
    "desert": _desert,
    "countryside": _countryside,
    "garden": _garden,
    "aurora": _aurora,
}

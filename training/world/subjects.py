"""The subjects of the procedural world, each about 50-60 design units across and looking to the right.

Each function paints in `area`'s coordinates (origin at the subject's middle) and moves periodically in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from training.world.drawing import (
    Area,
    Canvas,
    Rgb,
    capsule,
    circle,
    cut,
    ellipse,
    intersect,
    mix,
    polygon,
    rectangle,
    rgb,
    triangle,
    union,
)

PAINTS: dict[str, Rgb] = {
    "red": rgb("e2332d"),
    "blue": rgb("2563e8"),
    "yellow": rgb("fbc91f"),
    "green": rgb("2fa84a"),
    "purple": rgb("9a3fc9"),
    "white": rgb("f7f5f0"),
}
BLACK, WHITE = (0.08, 0.07, 0.1), rgb("ffffff")
DARK, SKIN, HAIR = rgb("2b2a38"), rgb("f0bd96"), rgb("38241f")


@dataclass(frozen=True)
class Pose:
    """The middle of a subject, and whether it looks to the left."""

    x: float
    y: float
    mirrored: bool


def paint_subject(canvas: Canvas, subject: str, paint: Rgb, x: float, y: float, *, mirrored: bool, light: Rgb) -> None:
    """`light` tints the subject a little, so that it belongs to its time of day and keeps its colour."""
    area = canvas.area(x - 42, y - 40, x + 42, y + 44)
    _PAINTERS[subject](canvas, area, Pose(x, y, mirrored), lambda colour: _lit(colour, light), paint)


def _lit(colour: Rgb, light: Rgb) -> Rgb:
    red, green, blue = (c * (0.74 + 0.26 * t) for c, t in zip(colour, light, strict=True))
    return red, green, blue


Lit = Callable[[Rgb], Rgb]


def _sailboat(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    boat = area.placed(pose.x, pose.y + 1.5 * canvas.wave(2), angle=0.07 * canvas.wave(1), mirrored=pose.mirrored)
    u, v = boat.x, boat.y
    boat.paint(capsule(u, v, 0, -32, 0, 12, 1.4), lit(rgb("6b4a33")))
    boat.paint(polygon(u, v, (3, -31), (25, 10), (3, 10)), lit(rgb("fff6e2")))
    boat.paint(polygon(u, v, (-3, -27), (-3, 10), (-21, 10)), lit(paint))
    hull = polygon(u, v, (-29, 14), (30, 14), (20, 26), (-21, 26))
    boat.paint(hull, lit(paint))
    boat.paint(intersect(hull, 22 - v), lit(mix(paint, BLACK, 0.35)))


def _bird(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    flap = canvas.wave(1)
    bird = area.placed(pose.x, pose.y + 3 * canvas.wave(1, 0.25), mirrored=pose.mirrored)
    u, v = bird.x, bird.y
    dark = lit(mix(paint, BLACK, 0.3))
    bird.paint(polygon(u, v, (-33, -7), (-14, -3), (-14, 5), (-31, 6)), dark)
    bird.paint(triangle(u, v, (0, -5 - 22 * flap), (13, -4), (-1, -2)) - 1.5, lit(mix(paint, BLACK, 0.45)))
    bird.paint(polygon(u, v, (23, -9), (34, -4), (23, -1)), lit(rgb("ffa21f")))
    bird.paint(union(ellipse(u, v, 0, 0, 20, 10), circle(u, v, 18, -6, 8.5)), lit(paint))
    bird.paint(ellipse(u, v, 4, 4, 13, 5), lit(mix(paint, WHITE, 0.45)))
    bird.paint(circle(u, v, 20.5, -8, 2.2), BLACK)
    wing = triangle(u, v, (-14, -3 - 24 * flap), (10, -4), (-10, 1))
    bird.paint(wing - 2.5, dark)


def _fish(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    wag = canvas.wave(2)
    fish = area.placed(pose.x, pose.y + 3 * canvas.wave(1), angle=0.05 * canvas.wave(2, 0.25), mirrored=pose.mirrored)
    u, v = fish.x, fish.y
    dark = lit(mix(paint, BLACK, 0.28))
    swing = 5 * wag
    fish.paint(polygon(u, v, (-36, -15 + swing), (-17, -2), (-17, 2), (-31, 0 + swing)), dark)
    fish.paint(polygon(u, v, (-31, 0 + swing), (-17, -2), (-17, 2), (-36, 15 + swing)), dark)
    fish.paint(polygon(u, v, (-10, -22), (4, -22), (14, -12), (-14, -10)), dark)
    body = ellipse(u, v, 3, 0, 26, 17)
    fish.paint(body, lit(paint))
    stripe = (u - 1 + v * v * 0.02).abs() - 3.2
    light = mix(paint, WHITE, 0.75) if min(paint) < 0.8 else rgb("ff9a3c")
    fish.paint(intersect(body, stripe), lit(light))
    fish.paint(intersect(body, (u + 13 + v * v * 0.02).abs() - 2.4), lit(light))
    fish.paint(polygon(u, v, (-7, 3), (7, 5), (-5, 12 + 3 * wag)), dark)
    fish.paint(circle(u, v, 17, -5, 4.6), WHITE)
    fish.paint(circle(u, v, 18, -5, 2.5), BLACK)


def _rocket(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    tilt = 0.55 + 0.04 * canvas.wave(2)
    rocket = area.placed(pose.x, pose.y + 2.5 * canvas.wave(1), angle=tilt, mirrored=pose.mirrored)
    u, v = rocket.x, rocket.y
    dark = lit(mix(paint, BLACK, 0.35))
    reach = 36 + 4 * canvas.wave(3)
    rocket.paint(polygon(u, v, (-8, 18), (8, 18), (0, reach + 3)), rgb("ff7a1a"))
    rocket.paint(polygon(u, v, (-4.5, 18), (4.5, 18), (0, reach - 7)), rgb("ffe46b"))
    rocket.paint(polygon(u, v, (-8, 2), (-8, 16), (-18, 23), (-17, 11)), dark)
    rocket.paint(polygon(u, v, (8, 2), (17, 11), (18, 23), (8, 16)), dark)
    body = intersect(ellipse(u, v, 0, 2, 12, 36), v - 19)
    rocket.paint(body, lit(paint))
    nose = rgb("f5f2ea") if min(paint) < 0.8 else rgb("a9adbd")
    rocket.paint(intersect(body, v + 17), lit(nose))
    rocket.paint(circle(u, v, 0, -4, 6.6), lit(rgb("f5f2ea") if min(paint) < 0.8 else rgb("8a90a6")))
    rocket.paint(circle(u, v, 0, -4, 4.4), rgb("6fd0f5"))


def _car(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    car = area.placed(pose.x, pose.y + 1.3 * canvas.wave(3), mirrored=pose.mirrored)
    ground = area.placed(pose.x, pose.y, mirrored=pose.mirrored)
    u, v = car.x, car.y
    area.paint(ellipse(ground.x, ground.y, 0, 20, 34, 4), BLACK, opacity=0.3, softness=2)
    cabin = polygon(u, v, (-14, -17), (9, -17), (19, 0), (-20, 0))
    car.paint(cabin, lit(paint))
    glass = lit(rgb("bfe9ff"))
    car.paint(polygon(u, v, (-12, -13.5), (-3, -13.5), (-3, -1), (-16, -1)), glass)
    car.paint(polygon(u, v, (1, -13.5), (7.5, -13.5), (14.5, -1), (1, -1)), glass)
    body = rectangle(u, v, 0, 6, 34, 8, 6)
    car.paint(body, lit(paint))
    car.paint(intersect(body, 9 - v), lit(mix(paint, BLACK, 0.3)))
    car.paint(circle(u, v, 31, 4, 3), rgb("fff1a8"))
    spin = -canvas.phase * 4 * torch.pi
    for cx in (-19.0, 19.0):
        ground.paint(circle(ground.x, ground.y, cx, 14, 8.2), BLACK)
        ground.paint(circle(ground.x, ground.y, cx, 14, 4.4), rgb("c9ccd6"))
        dx, dy = 4 * torch.cos(spin), -4 * torch.sin(spin)
        ground.paint(capsule(ground.x, ground.y, cx - dx, 14 - dy, cx + dx, 14 + dy, 1.1), DARK)


def _dog(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    dog = area.placed(pose.x, pose.y + 1.2 * canvas.wave(2), mirrored=pose.mirrored)
    u, v = dog.x, dog.y
    coat, dark = lit(paint), lit(mix(paint, BLACK, 0.3))
    step, wag = canvas.wave(2), canvas.wave(1)
    for hip, sign, colour in ((-13.0, -1, dark), (12.0, 1, dark), (-17.0, 1, coat), (8.0, -1, coat)):
        dog.paint(capsule(u, v, hip, 8, hip + 5 * sign * step, 23, 3.4), colour)
    dog.paint(capsule(u, v, -20, -2, -31 + 2 * wag.abs(), -15 + 5 * wag, 2.8), coat)
    dog.paint(union(capsule(u, v, -14, 3, 10, 3, 10.5), capsule(u, v, 10, 0, 19, -13, 7)), coat)
    dog.paint(ellipse(u, v, -2, 8, 13, 4.5), lit(mix(paint, WHITE, 0.4)))
    dog.paint(circle(u, v, 19, -15, 11), coat)
    dog.paint(capsule(u, v, 23, -11, 31, -10, 5), lit(mix(paint, WHITE, 0.4)))
    dog.paint(circle(u, v, 35, -12, 2.8), BLACK)
    dog.paint(circle(u, v, 23, -18, 2.4), BLACK)
    dog.paint(capsule(u, v, 13, -20, 10 + 1.5 * wag, -8, 4), dark)


def _balloon(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    sway = canvas.wave(1)
    side = -1 if pose.mirrored else 1
    balloon = area.placed(pose.x + side * 4 * sway, pose.y + 3 * canvas.wave(1, 0.25), angle=side * 0.05 * sway)
    u, v = balloon.x, balloon.y
    rope = lit(rgb("7a5a3c"))
    balloon.paint(capsule(u, v, -10, 10, -5, 26, 0.9), rope)
    balloon.paint(capsule(u, v, 10, 10, 5, 26, 0.9), rope)
    envelope = union(circle(u, v, 0, -10, 25), polygon(u, v, (-21, 3), (21, 3), (6, 20), (-6, 20)))
    balloon.paint(envelope, lit(paint))
    pale = mix(paint, WHITE, 0.6) if min(paint) < 0.8 else rgb("b9c3d6")
    for middle in (-14.0, 14.0):
        centre = middle * (1 - ((v + 10) / 31) ** 2).clamp_min(0.05).sqrt()
        balloon.paint(intersect(envelope + 0.5, (u - centre).abs() - 3.6), lit(pale))
    balloon.paint(intersect(envelope, 15 - v), lit(mix(paint, BLACK, 0.35)))
    balloon.paint(rectangle(u, v, 0, 30, 7, 5, 2), lit(rgb("a36a35")))


def _dancer(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    sway, beat = canvas.wave(1), canvas.wave(1, 0.25)
    girl = area.placed(pose.x + 1.5 * sway, pose.y - 1.2 * beat.abs(), angle=0.05 * sway, mirrored=pose.mirrored)
    u, v = girl.x, girl.y
    skin, hair, dress = lit(SKIN), lit(HAIR), lit(paint)
    girl.paint(capsule(u, v, -4, -25, -11 - 4 * sway, -11, 4), hair)
    girl.paint(capsule(u, v, -3, 16, -4 - 3 * beat, 35, 2.6), skin)
    girl.paint(capsule(u, v, 4, 16, 6 + 5 * beat, 34, 2.6), skin)
    girl.paint(capsule(u, v, -6, -11, -20, -18 - 7 * sway, 2.5), skin)
    girl.paint(capsule(u, v, 6, -11, 20, -22 + 7 * sway, 2.5), skin)
    swing = 5 * sway
    skirt = polygon(u, v, (-5, -3), (5, -3), (21 + swing, 19), (11 + swing, 23), (-11 + swing, 23), (-21 + swing, 19))
    girl.paint(skirt, dress)
    girl.paint(intersect(skirt, 18.5 - v), lit(mix(paint, WHITE if min(paint) < 0.8 else BLACK, 0.3)))
    girl.paint(capsule(u, v, 0, -10, 0, -3, 6.2), dress)
    girl.paint(capsule(u, v, 0, -20, 0, -14, 2.6), skin)
    girl.paint(circle(u, v, 1, -25, 7.5), skin)
    girl.paint(cut(circle(u, v, -0.5, -27, 8.6), circle(u, v, 5, -23, 8)), hair)


def _cat(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    sway, breath = canvas.wave(1), canvas.wave(2)
    cat = area.placed(pose.x, pose.y, mirrored=pose.mirrored)
    u, v = cat.x, cat.y
    coat, dark = lit(paint), lit(mix(paint, BLACK, 0.3))
    pale = lit(mix(paint, WHITE, 0.55) if min(paint) < 0.8 else rgb("d9dbe6"))
    tip = -27 - 5 * sway
    cat.paint(capsule(u, v, -12, 24, -25, 18, 3.8), dark)
    cat.paint(capsule(u, v, -25, 18, -28 - 2 * sway, 3, 3.8), dark)
    cat.paint(capsule(u, v, -28 - 2 * sway, 3, tip, -10, 3.8), dark)
    cat.paint(union(ellipse(u, v, -2, 15, 17, 14), capsule(u, v, 4, -2, 6, 18, 10)), coat)
    cat.paint(ellipse(u, v, 11, 12, 5, 10), pale)
    cat.paint(circle(u, v, -7, 19, 8.5), dark)
    cat.paint(circle(u, v, -6, 17.5, 8), coat)
    for paw, shade in ((14.0, dark), (6.0, coat)):
        cat.paint(capsule(u, v, paw, 10, paw + 1, 25.5, 3.5), shade)
    head = cat.placed(8, -13 + 0.6 * breath, angle=0.06 * canvas.wave(1, 0.25))
    u, v = head.x, head.y
    head.paint(polygon(u, v, (-10, -21), (1, -9), (-13, -3)) - 1, coat)
    head.paint(polygon(u, v, (13, -21), (14, -3), (3, -9)) - 1, coat)
    head.paint(polygon(u, v, (-8.5, -16), (-3, -8), (-10, -5)), dark)
    head.paint(polygon(u, v, (11.5, -16), (12, -6), (6, -8)), dark)
    head.paint(ellipse(u, v, 0, 0, 16.5, 12.5), coat)
    head.paint(ellipse(u, v, 5, 5.5, 8, 5), pale)
    for eye in (-3.5, 9.5):
        head.paint(ellipse(u, v, eye, -2, 2.6, 3.4), BLACK)
    head.paint(polygon(u, v, (3, 2.5), (7.6, 2.5), (5.3, 5.5)), lit(rgb("e87a8c")))


def _children(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    """A boy and a girl who throw a ball to each other: it flies one way and back in each clip."""
    throw, height = canvas.wave(1, 0.25), canvas.wave(1) ** 2
    pair = area.placed(pose.x, pose.y, mirrored=pose.mirrored)
    skin, cloth, dark = lit(SKIN), lit(paint), lit(mix(paint, BLACK, 0.35))
    boy = pair.placed(-20, -2 * canvas.wave(1).clamp_min(0))
    u, v = boy.x, boy.y
    boy.paint(capsule(u, v, -4, 12, -5, 27, 3), skin)
    boy.paint(capsule(u, v, 4, 12, 6, 27, 3), skin)
    boy.paint(rectangle(u, v, 0, 13, 8, 5.5, 2), lit(rgb("35405e")))
    boy.paint(capsule(u, v, -6, -2, -12, 8 - 3 * throw, 2.6), skin)
    boy.paint(rectangle(u, v, 0, 2, 9, 9, 4), cloth)
    boy.paint(capsule(u, v, 6, -1, 13, -4 - 5 * height, 3), cloth)
    boy.paint(circle(u, v, 14, -5 - 5 * height, 2.7), skin)
    boy.paint(circle(u, v, 1, -15, 9), skin)
    boy.paint(circle(u, v, 5, -14, 1.6), BLACK)
    boy.paint(cut(circle(u, v, 0, -16.5, 10), circle(u, v, 5, -10, 10)), lit(HAIR))
    girl = pair.placed(20, -2 * canvas.wave(1, 0.5).clamp_min(0))
    u, v = -girl.x, girl.y
    girl.paint(capsule(u, v, -8, -16, -13 - 2 * throw, -6, 3.6), lit(rgb("6b3f22")))
    girl.paint(capsule(u, v, -4, 14, -5, 27, 2.8), skin)
    girl.paint(capsule(u, v, 4, 14, 5, 27, 2.8), skin)
    girl.paint(capsule(u, v, -5, -2, -12, 7 + 3 * throw, 2.6), skin)
    dress = polygon(u, v, (-5, -6), (5, -6), (14, 18), (-14, 18)) - 1.5
    girl.paint(dress, cloth)
    girl.paint(intersect(dress, 15 - v), dark)
    girl.paint(capsule(u, v, 5, -2, 13, -4 - 5 * height, 2.6), skin)
    girl.paint(circle(u, v, 1, -15, 9), skin)
    girl.paint(circle(u, v, 5, -14, 1.6), BLACK)
    girl.paint(cut(circle(u, v, -0.5, -17, 10), circle(u, v, 5.5, -10, 10)), lit(rgb("6b3f22")))
    ball = pair.placed(-4 * throw, -10 - 16 * height)
    ball.paint(circle(ball.x, ball.y, 0, 0, 6), cloth)
    ball.paint(intersect(circle(ball.x, ball.y, 0, 0, 6), ball.x.abs() - 1.6), lit(_pale(paint)))


def _ball(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    """A ball that bounces and rolls to the side it looks to. Its panels swirl, so that one frame shows that side."""
    hop = canvas.wave(1) ** 2
    ground = area.placed(pose.x, pose.y, mirrored=pose.mirrored)
    area.paint(ellipse(ground.x, ground.y, 0, 22, 20, 3.5), BLACK, opacity=0.3 - 0.15 * hop, softness=2)
    ball = ground.placed(0, -9 * hop)
    rolled = ball.placed(0, 0, angle=2 * torch.pi * canvas.phase)
    u, v = rolled.x, rolled.y
    body = circle(u, v, 0, 0, 22)
    ball.paint(body, lit(paint))
    radius = torch.sqrt(u * u + v * v)
    panels = radius * (0.35 - torch.sin(3 * (torch.atan2(v, u) - radius * 0.045))) / 3
    ball.paint(intersect(body, panels), lit(_pale(paint)))
    ball.paint(circle(u, v, 0, 0, 4.5), lit(mix(paint, BLACK, 0.3)))
    ball.paint(cut(body, circle(ball.x, ball.y, 2, -5, 23.5)), BLACK, opacity=0.25)


def _dinosaur(canvas: Canvas, area: Area, pose: Pose, lit: Lit, paint: Rgb) -> None:
    step, nod = canvas.wave(2), canvas.wave(1)
    dinosaur = area.placed(pose.x, pose.y - 1.2 * canvas.wave(2), mirrored=pose.mirrored)
    ground = area.placed(pose.x, pose.y, mirrored=pose.mirrored)
    u, v = dinosaur.x, dinosaur.y
    hide, dark, pale = lit(paint), lit(mix(paint, BLACK, 0.3)), lit(_pale(paint))
    for hip, sign in ((-11.0, -1), (11.0, 1)):
        ground.paint(capsule(ground.x, ground.y, hip, 14, hip + 4 * sign * step, 26, 4.6), dark)
    tip = 2 + 5 * nod
    for back, top in ((-17.0, -6.0), (-8.0, -11.0), (2.0, -12.0), (11.0, -9.0)):
        dinosaur.paint(polygon(u, v, (back, top - 7), (back + 5.5, top + 4), (back - 5.5, top + 4)) - 0.8, dark)
    dinosaur.paint(polygon(u, v, (-34, tip - 2), (-12, -5), (-8, 16), (-20, 12)) - 2, hide)
    dinosaur.paint(ellipse(u, v, -2, 5, 21, 14.5), hide)
    x, y = 25 + 1.5 * nod, -25 + 2 * canvas.wave(1, 0.25)
    dinosaur.paint(capsule(u, v, 12, 3, x - 3, y + 2, 6.5), hide)
    dinosaur.paint(union(circle(u, v, x - 1, y, 9), capsule(u, v, x, y + 1, x + 7, y + 3, 6)), hide)
    dinosaur.paint(ellipse(u, v, 0, 12, 15, 5.5), pale)
    for hip, sign in ((-6.0, 1), (15.0, -1)):
        ground.paint(capsule(ground.x, ground.y, hip, 12, hip + 4 * sign * step, 26, 4.8), hide)
    dinosaur.paint(circle(u, v, x + 2, y - 2.5, 3.2), WHITE)
    dinosaur.paint(circle(u, v, x + 2.8, y - 2.5, 1.9), BLACK)


def _pale(paint: Rgb) -> Rgb:
    """A second colour beside the paint; white needs a darker one."""
    return mix(paint, WHITE, 0.65) if min(paint) < 0.8 else rgb("b9c3d6")


Painter = Callable[[Canvas, Area, Pose, Lit, Rgb], None]
_PAINTERS: dict[str, Painter] = {
    "sailboat": _sailboat,
    "bird": _bird,
    "fish": _fish,
    "rocket": _rocket,
    "car": _car,
    "dog": _dog,
    "balloon": _balloon,
    "dancer": _dancer,
    "cat": _cat,
    "children": _children,
    "ball": _ball,
    "dinosaur": _dinosaur,
}

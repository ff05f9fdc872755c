"""Draws captions of a `SceneSpec`, English and Chinese, with synonyms, word orders, dropped slots and questions.

Training reads text only through the lexicon: caption, `understand`, token ids. A dropped slot is the model's to choose,
which is what makes "the beach" alone work. Every word used here must be in the lexicon: a test draws thousands.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine.embedded.lexicon import UNK_ID, understand
from engine.embedded.spec import SceneSpec

CHINESE_SHARE = 0.35
EMPTY_SHARE = 0.10
UNKNOWN_SHARE = 0.05

_SCENES_EN: dict[str, tuple[str, ...]] = {
    "beach": (
        "on the beach",
        "at the beach",
        "by the seaside",
        "on the sand",
        "at the seashore",
        "on a tropical beach",
    ),
    "sea": ("at sea", "on the ocean", "on the sea", "out at sea", "on the waves", "on the open ocean"),
    "mountains": (
        "in the mountains",
        "in the alps",
        "below the snowy mountains",
        "in a mountain valley",
        "by the mountains",
    ),
    "forest": ("in the forest", "in the woods", "in a pine forest", "in a jungle", "in the woodland"),
    "city": ("in the city", "downtown", "in a city street", "in town", "in front of the skyline", "in the street"),
    "volcano": (
        "near a volcano",
        "by an erupting volcano",
        "in front of a volcano",
        "with a volcanic eruption",
        "with lava",
    ),
    "underwater": (
        "underwater",
        "under the sea",
        "in a coral reef",
        "on the sea floor",
        "in the deep sea",
        "in an aquarium",
    ),
    "space": ("in space", "in outer space", "in the universe", "near a planet", "in a galaxy", "in the cosmos"),
}
_SCENES_EN_ALONE: dict[str, tuple[str, ...]] = {
    "beach": ("the beach", "a beach", "the seaside", "a tropical beach", "the coast"),
    "sea": ("the sea", "the ocean", "waves", "the open sea", "an ocean"),
    "mountains": ("mountains", "the mountains", "snowy mountains", "a mountain range", "the alps"),
    "forest": ("a forest", "the forest", "the woods", "a jungle", "woodland"),
    "city": ("a city", "the city", "a city skyline", "downtown", "skyscrapers", "a town"),
    "volcano": ("a volcano", "an erupting volcano", "a volcano erupting", "lava", "a volcanic eruption"),
    "underwater": ("underwater", "a coral reef", "the sea floor", "the underwater world", "the deep sea"),
    "space": ("space", "outer space", "the universe", "a galaxy", "planets", "the cosmos"),
}
_TIMES_EN: dict[str, tuple[str, ...]] = {
    "day": (
        "in the daytime",
        "on a sunny day",
        "at noon",
        "by day",
        "in the afternoon",
        "in broad daylight",
        "during the day",
    ),
    "sunset": ("at sunset", "at dusk", "in the evening", "at sundown", "in the golden hour", "while the sun sets"),
    "night": ("at night", "by night", "in the moonlight", "at midnight", "on a starry night", "under the stars"),
    "dawn": ("at dawn", "at sunrise", "in the morning", "in the early morning", "at daybreak", "as the sun rises"),
}
_TIMES_EN_ALONE: dict[str, tuple[str, ...]] = {
    "day": ("a sunny day", "daytime", "noon"),
    "sunset": ("a sunset", "the sunset", "dusk", "sundown", "the setting sun"),
    "night": ("night", "a starry night", "moonlight"),
    "dawn": ("dawn", "sunrise", "a sunrise", "morning"),
}
_SUBJECTS_EN: dict[str, tuple[str, ...]] = {
    "sailboat": ("sailboat", "boat", "sailing boat", "ship", "yacht"),
    "bird": ("bird", "seagull", "parrot", "gull"),
    "fish": ("fish", "tropical fish", "goldfish", "clownfish"),
    "rocket": ("rocket", "spaceship", "spacecraft", "rocket ship"),
    "car": ("car", "automobile", "taxi", "sports car"),
    "dog": ("dog", "puppy", "doggy", "labrador"),
    "balloon": ("hot-air balloon", "balloon", "hot air balloon"),
    "dancer": ("dancer", "dancing girl", "dancing woman", "ballerina"),
}
_VERBS_EN: dict[str, tuple[str, ...]] = {
    "sailboat": ("sailing", "floating", "drifting"),
    "bird": ("flying", "flapping its wings"),
    "fish": ("swimming",),
    "rocket": ("flying", "hovering"),
    "car": ("driving", "rolling"),
    "dog": ("running", "trotting", "walking", "playing"),
    "balloon": ("floating", "drifting", "hovering"),
    "dancer": ("dancing",),
}
_COLOURS_EN: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "blue": ("blue", "navy", "azure"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "purple": ("purple", "violet"),
    "white": ("white", "ivory"),
}
_DIRECTIONS_EN: dict[str, tuple[str, ...]] = {
    "left": ("to the left", "facing left", "heading left"),
    "right": ("to the right", "facing right", "heading right"),
}
_OPENINGS_EN = (
    "",
    "",
    "",
    "",
    "show me ",
    "now let me show you ",
    "a picture of ",
    "please show ",
    "i would like to see ",
    "now we see ",
)
_FLAVOURS_EN = ("beautiful ", "calm ", "lovely ", "pretty ")

_SCENES_ZH: dict[str, tuple[str, ...]] = {
    "beach": ("海滩", "沙滩", "海边"),
    "sea": ("大海", "海上", "海面"),
    "mountains": ("山里", "雪山", "群山", "高山"),
    "forest": ("森林", "树林", "丛林"),
    "city": ("城市", "街道", "街上", "都市"),
    "volcano": ("火山", "火山喷发", "火山爆发"),
    "underwater": ("海底", "水下", "海底世界", "水中"),
    "space": ("太空", "宇宙", "银河"),
}
_TIMES_ZH: dict[str, tuple[str, ...]] = {
    "day": ("白天", "中午", "晴天"),
    "sunset": ("日落", "黄昏", "傍晚", "夕阳", "夕阳西下"),
    "night": ("夜晚", "晚上", "夜里", "深夜"),
    "dawn": ("黎明", "清晨", "早晨", "日出"),
}
_SUBJECTS_ZH: dict[str, tuple[tuple[str, str], ...]] = {
    "sailboat": (("一艘", "帆船"), ("一条", "小船"), ("一条", "船")),
    "bird": (("一只", "鸟"), ("一只", "小鸟"), ("一只", "海鸥")),
    "fish": (("一条", "鱼"), ("一条", "小鱼"), ("一条", "热带鱼")),
    "rocket": (("一枚", "火箭"), ("一艘", "飞船")),
    "car": (("一辆", "汽车"), ("一辆", "车"), ("一辆", "轿车")),
    "dog": (("一只", "狗"), ("一只", "小狗"), ("一只", "狗狗")),
    "balloon": (("一个", "热气球"), ("一个", "气球")),
    "dancer": (("一个", "女孩"), ("一位", "姑娘"), ("一个", "舞者")),
}
_VERBS_ZH: dict[str, tuple[str, ...]] = {
    "sailboat": ("航行", "漂浮"),
    "bird": ("飞", "飞翔"),
    "fish": ("游", "游动"),
    "rocket": ("飞行", "飞"),
    "car": ("行驶",),
    "dog": ("跑", "奔跑", "玩耍"),
    "balloon": ("飘浮", "飘"),
    "dancer": ("跳舞", "起舞"),
}
_COLOURS_ZH: dict[str, tuple[str, ...]] = {
    "red": ("红色", "大红"),
    "blue": ("蓝色", "天蓝"),
    "yellow": ("黄色", "金色"),
    "green": ("绿色", "翠绿"),
    "purple": ("紫色",),
    "white": ("白色", "雪白"),
}
_DIRECTIONS_ZH = {"left": ("向左", "朝左", "往左"), "right": ("向右", "朝右", "往右")}
_OPENINGS_ZH = ("", "", "", "给我看看", "现在给大家看看", "我想看", "请给我", "现在让我们看看")


@dataclass(frozen=True)
class _Slots:
    """Which parts of the spec a caption names."""

    scene: bool
    time: bool
    subject: bool
    colour: bool
    direction: bool


def draw_caption(spec: SceneSpec, rng: random.Random, *, chinese: bool | None = None) -> str:
    """A caption that names a random part of the spec, at least one thing."""
    slots = _draw_slots(spec, rng)
    is_chinese = rng.random() < CHINESE_SHARE if chinese is None else chinese
    return (_chinese if is_chinese else _english)(spec, slots, rng)


def full_caption(spec: SceneSpec, rng: random.Random, *, chinese: bool) -> str:
    """A caption that names all that the spec holds."""
    has_subject = spec.subject is not None
    slots = _Slots(True, spec.time is not None, has_subject, has_subject, has_subject)
    return (_chinese if chinese else _english)(spec, slots, rng)


def draw_token_ids(spec: SceneSpec, rng: random.Random) -> tuple[int, ...]:
    """What training feeds the text encoder: a caption's tokens, sometimes none (for guidance), some of them unknown."""
    if rng.random() < EMPTY_SHARE:
        return ()
    token_ids = understand(draw_caption(spec, rng)).token_ids
    return tuple(UNK_ID if rng.random() < UNKNOWN_SHARE else token_id for token_id in token_ids)


def _draw_slots(spec: SceneSpec, rng: random.Random) -> _Slots:
    has_subject = spec.subject is not None
    while True:
        subject = has_subject and rng.random() < 0.88
        slots = _Slots(
            scene=rng.random() < 0.92,
            time=spec.time is not None and rng.random() < 0.8,
            subject=subject,
            colour=subject and rng.random() < 0.8,
            direction=subject and rng.random() < 0.35,
        )
        # A time of day alone says too little of a rocket in space; any named thing else is a caption.
        if slots.scene or slots.subject or slots.time:
            return slots


def _english(spec: SceneSpec, slots: _Slots, rng: random.Random) -> str:
    if spec.scene == "volcano" and slots.scene and not slots.subject and not slots.time and rng.random() < 0.4:
        return rng.choice(
            ("How does a volcano erupt?", "how do volcanoes erupt", "what happens when a volcano erupts?")
        )
    opening = rng.choice(_OPENINGS_EN)
    time = rng.choice(_TIMES_EN[spec.time]) if slots.time and spec.time else ""
    if slots.subject and spec.subject:
        return opening + _english_with_subject(spec, slots, time, rng)
    if not slots.scene:
        return opening + rng.choice(_TIMES_EN_ALONE[spec.time or "night"])
    scene = rng.choice(_SCENES_EN_ALONE[spec.scene])
    if rng.random() < 0.15:
        scene = rng.choice(_FLAVOURS_EN) + scene
    if not time:
        return opening + scene
    if rng.random() < 0.3 and spec.time:
        return opening + rng.choice(_TIMES_EN_ALONE[spec.time]) + " " + rng.choice(_SCENES_EN[spec.scene])
    return opening + rng.choice((f"{scene} {time}", f"{scene}, {time}", f"{time}, {scene}", f"{time} {scene}"))


def _english_with_subject(spec: SceneSpec, slots: _Slots, time: str, rng: random.Random) -> str:
    assert spec.subject and spec.colour and spec.direction
    colour = rng.choice(_COLOURS_EN[spec.colour]) if slots.colour else ""
    who = rng.choice(_SUBJECTS_EN[spec.subject])
    if spec.subject == "dancer" and colour and rng.random() < 0.6:
        subject = f"a {rng.choice(('girl', 'woman', 'dancer', 'lady'))} in a {colour} dress"
    else:
        subject = f"a {colour} {who}" if colour else f"a {who}"
    if rng.random() < 0.6:
        subject += " " + rng.choice(_VERBS_EN[spec.subject])
    if slots.direction:
        subject += " " + rng.choice(_DIRECTIONS_EN[spec.direction])
    scene = rng.choice(_SCENES_EN[spec.scene]) if slots.scene else ""
    orders = (
        (subject, scene, time),
        (subject, time, scene),
        (time, subject, scene),
        (scene, subject, time),
        (time, scene, subject),
    )
    parts = [part for part in rng.choice(orders) if part]
    return rng.choice((" ", " ", ", ")).join(parts)


def _chinese(spec: SceneSpec, slots: _Slots, rng: random.Random) -> str:
    if spec.scene == "volcano" and slots.scene and not slots.subject and not slots.time and rng.random() < 0.4:
        return rng.choice(("火山是怎么喷发的？", "火山怎么爆发？", "火山喷发是什么样子的"))
    opening = rng.choice(_OPENINGS_ZH)
    scene = rng.choice(_SCENES_ZH[spec.scene]) if slots.scene else ""
    time = rng.choice(_TIMES_ZH[spec.time]) if slots.time and spec.time else ""
    if not (slots.subject and spec.subject):
        return opening + rng.choice((scene + time, time + ("的" if time and scene else "") + scene))
    assert spec.colour and spec.direction
    measure, name = rng.choice(_SUBJECTS_ZH[spec.subject])
    colour = rng.choice(_COLOURS_ZH[spec.colour]) + "的" if slots.colour else ""
    if spec.subject == "dancer" and colour and rng.random() < 0.5:
        subject = f"{measure}穿{colour}裙子的{name}"
    else:
        subject = f"{rng.choice((measure, ''))}{colour}{name}"
    direction = rng.choice(_DIRECTIONS_ZH[spec.direction]) if slots.direction else ""
    verb = rng.choice(_VERBS_ZH[spec.subject]) if rng.random() < 0.6 else ""
    place = f"{time}{scene}"
    action = direction + verb
    orders = (
        f"{place}{'，' if place else ''}{subject}{action}",
        f"{subject}在{place}{action}" if place else f"{subject}{action}",
        f"{place}里有{subject}{action}" if place else f"{subject}{action}",
        f"{time}{subject}{action}{'，' if scene else ''}{scene}",
    )
    return opening + rng.choice(orders)

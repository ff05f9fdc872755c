"""Draws captions of a `SceneSpec`, English and Chinese, with synonyms, word orders, dropped slots and questions.

Training reads text as the stage does: caption, `reading.read`, `reading.completed_tokens`. The clip's own spec
completes the slots that a caption leaves open, so the model is always told all that it must show, in many orders. Every
word used here must be in the lexicon, and no caption may contradict its spec: a test draws thousands.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine.embedded.lexicon import UNK_ID
from engine.embedded.reading import completed_tokens, read, unconditional_tokens
from engine.embedded.spec import SceneSpec

CHINESE_SHARE = 0.35
# Empty captions, for guidance.
EMPTY_SHARE = 0.08
# Captions with an unknown word beside the known ones, as on stage.
UNKNOWN_SHARE = 0.15

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
    "park": ("in the park", "in a city park", "on the lawn", "at the playground", "in a public park"),
    "desert": ("in the desert", "on a sand dune", "near a cactus", "in the sahara", "between the dunes"),
    "countryside": (
        "in the countryside",
        "by a windmill",
        "in a meadow",
        "in the fields",
        "near a farm",
        "on a country road",
    ),
    "garden": ("in the garden", "in a flower garden", "between the flowers", "in the backyard", "in a rose garden"),
    "classroom": ("in the classroom", "at school", "in front of the blackboard", "in class", "in a kindergarten"),
    "room": ("in a cosy room", "in the bedroom", "in the living room", "at home", "on the sofa", "by the fireplace"),
    "cafe": ("in a café", "in the coffee shop", "at a cafe", "in a coffee house", "in a restaurant"),
    "studio": ("in the studio", "in a tv studio", "on stage", "in a broadcast studio", "under the spotlight"),
    "aurora": (
        "under the northern lights",
        "under the aurora",
        "below an aurora borealis",
        "in the polar night",
        "in the arctic",
    ),
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
    "park": ("a park", "the park", "a city park", "a lawn", "a playground"),
    "desert": ("a desert", "the desert", "sand dunes", "a cactus", "the sahara"),
    "countryside": ("the countryside", "a windmill", "a meadow", "rolling hills", "a farm", "fields"),
    "garden": ("a garden", "the garden", "a flower garden", "flowers", "a rose garden"),
    "classroom": ("a classroom", "the classroom", "a school", "a blackboard", "a lesson"),
    "room": ("a cosy room", "a room", "a bedroom", "a living room", "the sofa"),
    "cafe": ("a café", "a coffee shop", "the cafe", "a coffee house", "a restaurant"),
    "studio": ("a studio", "the studio", "a tv studio", "a stage", "a broadcast studio"),
    "aurora": ("the northern lights", "an aurora", "the aurora borealis", "polar lights", "aurora"),
}
_QUESTIONS_EN: dict[str, tuple[str, ...]] = {
    "beach": ("Where can we swim at the seaside?", "what is a beach made of?"),
    "sea": ("how do waves form?", "why is the ocean moving?"),
    "mountains": ("how are mountains formed?", "how do mountains grow?"),
    "forest": ("who lives in the forest?", "what grows in a jungle?"),
    "city": ("what does a city look like?", "who lives in the skyscrapers?"),
    "volcano": ("How does a volcano erupt?", "how do volcanoes erupt", "what happens when a volcano erupts?"),
    "underwater": ("what lives under the sea?", "What is on the sea floor?", "how does a coral reef grow?"),
    "space": ("what is in outer space?", "how do planets form?", "What does the universe look like?"),
    "park": ("what can we do in the park?", "where is the playground?"),
    "desert": ("how do dunes form?", "what grows in the desert?", "where do cactuses grow?"),
    "countryside": ("how does a windmill work?", "what happens on a farm?"),
    "garden": ("how do flowers grow?", "what grows in a garden?"),
    "classroom": ("what do we learn at school?", "what happens in a classroom?"),
    "room": ("what is in the living room?", "who is in the bedroom?"),
    "cafe": ("where can we get a coffee?", "what happens in a coffee shop?"),
    "studio": ("how does a tv studio work?", "what happens on stage?"),
    "aurora": ("what are the northern lights?", "How does an aurora form?", "why are there polar lights?"),
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
_WEATHERS_EN: dict[str, tuple[str, ...]] = {
    "clear": ("under a clear sky", "in clear weather", "in fine weather"),
    "rain": ("in the rain", "in rainy weather", "while it is raining", "with heavy rain", "in a storm"),
    "snow": ("in the snow", "in falling snow", "while it is snowing", "with snowflakes", "in winter"),
    "fog": ("in the fog", "in the mist", "in foggy weather", "in thick fog", "in the haze"),
    "petals": ("with falling petals", "with cherry blossoms", "under falling blossoms", "with petals in the wind"),
}
_WEATHERS_EN_BEFORE: dict[str, tuple[str, ...]] = {
    "clear": ("clear weather, ",),
    "rain": ("rainy ", "rain, "),
    "snow": ("snowfall, ", "snow, "),
    "fog": ("foggy ", "misty ", "fog, "),
    "petals": ("petals, ", "sakura, "),
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
    "cat": ("cat", "kitten", "kitty", "tabby cat"),
    "children": ("children", "kids", "boy and girl", "little children"),
    "ball": ("ball", "beach ball", "football", "bouncing ball"),
    "dinosaur": ("dinosaur", "dino", "brontosaurus", "friendly dinosaur", "baby dinosaur"),
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
    "cat": ("sitting", "resting", "wagging its tail", "waiting"),
    "children": ("playing", "playing with a ball", "throwing a ball", "jumping", "playing together"),
    "ball": ("bouncing", "rolling", "jumping"),
    "dinosaur": ("walking", "standing", "strolling", "stomping"),
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
_CAMERAS_EN: dict[str, tuple[str, ...]] = {
    "still": ("static camera", "fixed camera", "still camera"),
    "drift": ("slow pan", "slow camera drift", "the camera drifts slowly", "camera panning", "panning shot"),
}
_PALETTES_EN: dict[str, tuple[str, ...]] = {
    "vivid": ("vivid colours", "bright colors", "vibrant colours"),
    "pastel": ("pastel colours", "soft colors", "pastel tones", "watercolour style"),
    "vintage": ("vintage style", "retro look", "old film style", "sepia tones"),
}
_PALETTES_EN_BEFORE: dict[str, tuple[str, ...]] = {
    "vivid": ("a vivid picture of ", "colourful "),
    "pastel": ("a pastel drawing of ", "a watercolor painting of "),
    "vintage": ("a vintage picture of ", "an old film of ", "retro "),
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
_FLAVOURS_EN = ("beautiful", "calm", "lovely", "pretty")

_SCENES_ZH: dict[str, tuple[str, ...]] = {
    "beach": ("海滩", "沙滩", "海边"),
    "sea": ("大海", "海上", "海面"),
    "mountains": ("山里", "雪山", "群山", "高山"),
    "forest": ("森林", "树林", "丛林"),
    "city": ("城市", "街道", "街上", "都市"),
    "volcano": ("火山", "火山喷发", "火山爆发"),
    "underwater": ("海底", "水下", "海底世界", "水中"),
    "space": ("太空", "宇宙", "银河"),
    "park": ("公园", "草坪", "草地", "公园里"),
    "desert": ("沙漠", "沙丘", "仙人掌旁", "大漠"),
    "countryside": ("乡村", "田野", "风车旁", "农场", "草原"),
    "garden": ("花园", "庭院", "花丛", "后院"),
    "classroom": ("教室", "学校", "课堂", "教室里"),
    "room": ("房间", "卧室", "客厅", "温馨的房间"),
    "cafe": ("咖啡馆", "咖啡厅", "咖啡店"),
    "studio": ("演播室", "直播间", "舞台上", "摄影棚"),
    "aurora": ("极光下", "北极光", "极光"),
}
_QUESTIONS_ZH: dict[str, tuple[str, ...]] = {
    "sea": ("海浪是怎么形成的？", "大海是什么样子的"),
    "mountains": ("高山是怎么形成的？",),
    "forest": ("森林里住着谁？", "丛林里有什么？"),
    "volcano": ("火山是怎么喷发的？", "火山怎么爆发？", "火山喷发是什么样子的"),
    "underwater": ("海底有什么？", "海底世界是什么样子的？", "深海里生活着什么"),
    "space": ("宇宙是什么样子的？", "太空里有什么？", "星球是怎么形成的？"),
    "desert": ("沙漠里有什么？", "沙漠是怎么形成的？"),
    "countryside": ("风车是怎么旋转的？", "乡村是什么样子的"),
    "garden": ("花园里有什么？",),
    "classroom": ("学校里有什么？", "课堂上发生什么？"),
    "studio": ("演播室是什么样子的？", "直播间里有什么"),
    "aurora": ("极光是什么？", "北极光是怎么形成的？", "为什么会有极光？"),
}
_TIMES_ZH: dict[str, tuple[str, ...]] = {
    "day": ("白天", "中午", "晴天"),
    "sunset": ("日落", "黄昏", "傍晚", "夕阳", "夕阳西下"),
    "night": ("夜晚", "晚上", "夜里", "深夜"),
    "dawn": ("黎明", "清晨", "早晨", "日出"),
}
_WEATHERS_ZH: dict[str, tuple[str, ...]] = {
    "clear": ("晴空万里", "天气晴朗"),
    "rain": ("雨中", "下雨", "下着雨", "大雨"),
    "snow": ("雪中", "下雪", "雪花飘落", "大雪"),
    "fog": ("雾中", "大雾", "薄雾"),
    "petals": ("花瓣飘落", "樱花", "樱花飘落", "花瓣飞舞"),
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
    "cat": (("一只", "猫"), ("一只", "小猫"), ("一只", "猫咪")),
    "children": (("两个", "孩子"), ("一群", "孩子们"), ("两个", "小朋友"), ("", "男孩和女孩")),
    "ball": (("一个", "皮球"), ("一个", "球"), ("一个", "沙滩球")),
    "dinosaur": (("一只", "恐龙"), ("一头", "恐龙"), ("一只", "小恐龙")),
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
    "cat": ("坐着", "摇尾巴", "蹲着"),
    "children": ("玩耍", "玩球", "扔皮球", "跳跃"),
    "ball": ("滚动", "弹跳", "跳"),
    "dinosaur": ("走", "散步", "走路"),
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
_CAMERAS_ZH: dict[str, tuple[str, ...]] = {
    "still": ("固定镜头", "镜头不动"),
    "drift": ("镜头缓缓移动", "缓慢平移", "镜头平移"),
}
_PALETTES_ZH: dict[str, tuple[str, ...]] = {
    "vivid": ("鲜艳", "色彩鲜艳"),
    "pastel": ("水彩", "柔和色调", "色彩柔和"),
    "vintage": ("复古", "复古风格", "怀旧风格", "老电影"),
}
_OPENINGS_ZH = ("", "", "", "给我看看", "现在给大家看看", "我想看", "请给我", "现在让我们看看")


@dataclass(frozen=True)
class _Slots:
    """Which parts of the spec a caption names."""

    scene: bool
    time: bool
    weather: bool
    subject: bool
    colour: bool
    direction: bool
    camera: bool
    palette: bool

    @property
    def is_scene_only(self) -> bool:
        return self == _Slots(True, False, False, False, False, False, False, False)


def draw_caption(spec: SceneSpec, rng: random.Random, *, chinese: bool | None = None) -> str:
    """A caption that names a random part of the spec, at least one thing."""
    slots = _draw_slots(spec, rng)
    is_chinese = rng.random() < CHINESE_SHARE if chinese is None else chinese
    return (_chinese if is_chinese else _english)(spec, slots, rng)


def full_caption(spec: SceneSpec, rng: random.Random, *, chinese: bool) -> str:
    """A caption that names all slots of the spec but the layout, which no prompt can name."""
    has_subject = spec.subject is not None
    slots = _Slots(
        scene=True,
        time=spec.time is not None,
        weather=True,
        subject=has_subject,
        colour=has_subject,
        direction=has_subject,
        camera=True,
        palette=True,
    )
    return (_chinese if chinese else _english)(spec, slots, rng)


def draw_token_ids(spec: SceneSpec, rng: random.Random) -> tuple[int, ...]:
    """The text encoder's input in training: the whole spec in a caption's order, at times with UNK; or nothing."""
    if rng.random() < EMPTY_SHARE:
        return unconditional_tokens()
    token_ids = completed_tokens(read(draw_caption(spec, rng)), spec)
    if rng.random() < UNKNOWN_SHARE:
        at = rng.randrange(len(token_ids) + 1)
        token_ids = (*token_ids[:at], UNK_ID, *token_ids[at:])
    return token_ids


def _draw_slots(spec: SceneSpec, rng: random.Random) -> _Slots:
    has_subject = spec.subject is not None
    while True:
        subject = has_subject and rng.random() < 0.88
        slots = _Slots(
            scene=rng.random() < 0.92,
            time=spec.time is not None and rng.random() < 0.65,
            weather=rng.random() < (0.05 if spec.weather == "clear" else 0.8),
            subject=subject,
            colour=subject and rng.random() < 0.75,
            direction=subject and rng.random() < 0.3,
            camera=rng.random() < (0.04 if spec.camera == "still" else 0.6),
            palette=rng.random() < (0.06 if spec.palette == "vivid" else 0.7),
        )
        # A camera or a palette alone names no picture.
        if slots.scene or slots.subject or slots.time:
            return slots


def _english(spec: SceneSpec, slots: _Slots, rng: random.Random) -> str:
    if slots.is_scene_only and rng.random() < 0.3:
        return rng.choice(_QUESTIONS_EN[spec.scene])
    time = rng.choice(_TIMES_EN[spec.time]) if slots.time and spec.time else ""
    if slots.subject and spec.subject:
        picture = _english_with_subject(spec, slots, time, rng)
    elif slots.scene:
        picture = _english_scene(spec, slots, time, rng)
    else:
        assert spec.time
        picture = rng.choice(_TIMES_EN_ALONE[spec.time])
        if slots.weather:
            picture += " " + rng.choice(_WEATHERS_EN[spec.weather])
    before = rng.choice(_OPENINGS_EN)
    after = ", " + rng.choice(_CAMERAS_EN[spec.camera]) if slots.camera else ""
    if slots.palette and rng.random() < 0.35:
        before = rng.choice(_PALETTES_EN_BEFORE[spec.palette])
    elif slots.palette:
        palette = rng.choice(_PALETTES_EN[spec.palette])
        after = rng.choice((f", {palette}{after}", f"{after} in {palette}", f"{after}, {palette}"))
    if slots.camera and rng.random() < 0.2 and not slots.palette:
        return f"{after[2:]}, {before}{picture}"
    return before + picture + after


def _english_scene(spec: SceneSpec, slots: _Slots, time: str, rng: random.Random) -> str:
    scene = rng.choice(_SCENES_EN_ALONE[spec.scene])
    if rng.random() < 0.15:
        scene = _with_flavour(scene, rng.choice(_FLAVOURS_EN))
    if slots.weather:
        if rng.random() < 0.4:
            scene = rng.choice(_WEATHERS_EN_BEFORE[spec.weather]) + scene
        else:
            weather = rng.choice(_WEATHERS_EN[spec.weather])
            scene = rng.choice((f"{scene} {weather}", f"{scene}, {weather}", f"{weather}, {scene}"))
    elif time and spec.time and rng.random() < 0.3:
        return rng.choice(_TIMES_EN_ALONE[spec.time]) + " " + rng.choice(_SCENES_EN[spec.scene])
    if not time:
        return scene
    return rng.choice((f"{scene} {time}", f"{scene}, {time}", f"{time}, {scene}", f"{time} {scene}"))


def _with_flavour(scene: str, flavour: str) -> str:
    article, _, rest = scene.partition(" ")
    return f"{_article(flavour, article)} {flavour} {rest}" if article in {"a", "an", "the"} else f"{flavour} {scene}"


def _article(following: str, article: str = "a") -> str:
    if article == "the":
        return article
    return "an" if following[0] in "aeiou" else "a"


def _english_with_subject(spec: SceneSpec, slots: _Slots, time: str, rng: random.Random) -> str:
    assert spec.subject and spec.colour and spec.direction
    colour = rng.choice(_COLOURS_EN[spec.colour]) if slots.colour else ""
    scene = rng.choice(_SCENES_EN[spec.scene]) if slots.scene else ""
    weather = rng.choice(_WEATHERS_EN[spec.weather]) if slots.weather else ""
    subject = _english_subject(spec.subject, colour, rng)
    if slots.direction:
        subject += " " + rng.choice(_DIRECTIONS_EN[spec.direction])
    parts = [part for part in (subject, scene, time, weather) if part]
    if rng.random() < 0.5:
        rng.shuffle(parts)
    return rng.choice((" ", " ", ", ")).join(parts)


def _english_subject(subject: str, colour: str, rng: random.Random) -> str:
    who = rng.choice(_SUBJECTS_EN[subject])
    if subject == "dancer" and colour and rng.random() < 0.6:
        phrase = f"a {rng.choice(('girl', 'woman', 'dancer', 'lady'))} in {_article(colour)} {colour} dress"
    elif subject == "children":
        dressed = colour and rng.random() < 0.5
        phrase = f"{who} in {colour}" if dressed else f"{rng.choice(('two ', '', 'some '))}{colour} {who}"
    else:
        article = rng.choice((_article(colour or who), _article(colour or who), "the", ""))
        phrase = f"{article} {colour} {who}"
    phrase = " ".join(phrase.split())
    if rng.random() < 0.6:
        phrase += " " + rng.choice(_VERBS_EN[subject])
    return phrase


def _chinese(spec: SceneSpec, slots: _Slots, rng: random.Random) -> str:
    if slots.is_scene_only and spec.scene in _QUESTIONS_ZH and rng.random() < 0.4:
        return rng.choice(_QUESTIONS_ZH[spec.scene])
    scene = rng.choice(_SCENES_ZH[spec.scene]) if slots.scene else ""
    time = rng.choice(_TIMES_ZH[spec.time]) if slots.time and spec.time else ""
    weather = rng.choice(_WEATHERS_ZH[spec.weather]) if slots.weather else ""
    if slots.subject and spec.subject:
        picture = _chinese_with_subject(spec, slots, (time, weather, scene), rng)
    else:
        parts = [part for part in (time, weather, scene) if part]
        if rng.random() < 0.4:
            rng.shuffle(parts)
        picture = rng.choice(("", "的", "，")).join(parts)
    extras = []
    if slots.palette:
        extras.append(rng.choice(_PALETTES_ZH[spec.palette]))
    if slots.camera:
        extras.append(rng.choice(_CAMERAS_ZH[spec.camera]))
    rng.shuffle(extras)
    opening = rng.choice(_OPENINGS_ZH)
    if extras and rng.random() < 0.3:
        return opening + "，".join((*extras, picture))
    return opening + "，".join((picture, *extras))


def _chinese_with_subject(
    spec: SceneSpec, slots: _Slots, time_weather_scene: tuple[str, str, str], rng: random.Random
) -> str:
    assert spec.subject and spec.colour and spec.direction
    time, weather, scene = time_weather_scene
    measure, name = rng.choice(_SUBJECTS_ZH[spec.subject])
    colour = rng.choice(_COLOURS_ZH[spec.colour]) + "的" if slots.colour else ""
    if colour and spec.subject == "dancer" and rng.random() < 0.5:
        subject = f"{measure}穿{colour}裙子的{name}"
    elif colour and spec.subject == "children" and rng.random() < 0.5:
        subject = f"{measure}穿着{colour}{name}"
    else:
        subject = f"{rng.choice((measure, ''))}{colour}{name}"
    direction = rng.choice(_DIRECTIONS_ZH[spec.direction]) if slots.direction else ""
    action = direction + (rng.choice(_VERBS_ZH[spec.subject]) if rng.random() < 0.6 else "")
    lit = f"{time}{'的' if time and weather else ''}{weather}"
    place = f"{lit}{'的' if weather and scene else ''}{scene}"
    if not place:
        return subject + action
    return rng.choice(
        (
            f"{place}，{subject}{action}",
            f"{subject}在{place}{action}",
            f"{place}里有{subject}{action}",
            f"{lit}{subject}{action}{'，' if scene else ''}{scene}",
            f"{scene}{'，' if scene else ''}{subject}{action}，{lit}",
        )
    )

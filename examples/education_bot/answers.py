"""From a question to an answer and a scene, without a language model: a dozen answers, and a template for all else. Pure.

Scenes come in two forms: `simple` for the embedded model, which knows eight places, four times of day and eight
subjects, and `rich` for the large ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
MAX_QUESTION_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """What the child is told, and the prompt for the stage; no scene where there should be none."""

    text: str
    scene: str | None
    note: str = ""  # where it comes from, if that should be said

    @property
    def caption(self) -> str:
        """The first sentence, to stand over the picture."""
        return re.split(r"(?<=[.!?])\s|(?<=[。!?!?])", self.text, maxsplit=1)[0].strip()


@dataclass(frozen=True, slots=True)
class Topic:
    words: tuple[str, ...]  # English as whole words, Chinese as they stand
    simple: str
    rich: str
    en: str
    zh: str


TOPICS = (
    Topic(
        ("volcano", "volcanoes", "lava", "erupt", "erupts", "eruption", "火山", "岩浆"),
        "an erupting volcano at night",
        "a volcano erupting at night, fountains of glowing lava, ash cloud, cinematic documentary",
        "Deep under a volcano, rock is so hot that it melts. Gas in it pushes it up, like the bubbles in a shaken bottle "
        "of lemonade, until it bursts out as lava.",
        "火山下面很深的地方,石头热得熔化了,叫岩浆。里面的气体像摇过的汽水一样把它往上推,最后喷出地面,就成了熔岩。",
    ),
    Topic(
        ("rocket", "rockets", "spaceship", "火箭", "飞船"),
        "a rocket in space",
        "a rocket lifting off with a bright flame, then flying into space, documentary",
        "A rocket burns fuel and throws hot gas down very fast. The gas pushes the rocket up, so it can fly even where "
        "there is no air.",
        "火箭燃烧燃料,把热气飞快地向下喷出去。气体把火箭往上推,所以没有空气的地方它也能飞。",
    ),
    Topic(
        ("bird", "birds", "wings", "鸟", "翅膀"),
        "a bird over the sea by day",
        "a white seagull gliding over the sea in sunlight, slow motion",
        "A bird's wings are curved, and they push air down. The air pushes back and carries the bird. Its bones are hollow, "
        "so it is very light.",
        "鸟的翅膀是弯的,会把空气往下压,空气就把鸟托起来。鸟的骨头是空心的,所以身体很轻。",
    ),
    Topic(
        ("fish", "fishes", "gills", "underwater", "鱼"),
        "a yellow fish underwater",
        "a colourful fish swimming past a coral reef, sunbeams in the water",
        "Fish breathe water. It flows through their gills, and the gills take the oxygen out of it.",
        "鱼在水里呼吸。水流过鱼鳃,鱼鳃把水里的氧气取出来。",
    ),
    Topic(
        ("coral", "corals", "reef", "珊瑚"),
        "a coral reef underwater by day",
        "a coral reef full of colourful corals, fish between them, clear water",
        "A coral looks like a plant, but it is made by thousands of tiny animals. Each builds a little house of chalk, and "
        "together they become a reef.",
        "珊瑚看起来像植物,其实是成千上万个小动物。每一个都造一间小石屋,合起来就成了珊瑚礁。",
    ),
    Topic(
        ("sunset", "sundown", "evening sky", "日落", "夕阳", "晚霞"),
        "the sea at sunset",
        "the sun setting over the sea, red and orange sky, calm waves",
        "In the evening the sunlight takes a longer way through the air. The blue is scattered away on it, and the red and "
        "orange reach us.",
        "傍晚,阳光要穿过更厚的空气。蓝光在路上散开了,红光和橙光才到我们眼里。",
    ),
    Topic(
        ("night", "dark", "moon", "夜", "天黑", "月亮"),
        "the mountains at night",
        "the night sky with moon and stars over mountains, time lapse",
        "The Earth turns like a top. When our side turns away from the Sun, it is night; the Moon shines then because the "
        "Sun still lights it.",
        "地球像陀螺一样转。我们这一面背对太阳时,就是夜晚;月亮发亮,是因为太阳还照着它。",
    ),
    Topic(
        ("planet", "planets", "saturn", "space", "universe", "star", "stars", "行星", "土星", "太空", "宇宙", "星星"),
        "a ringed planet in space",
        "the planet Saturn with its rings slowly turning in space, documentary",
        "Space is almost empty, and very, very big. Planets go round the Sun in it; Saturn's rings are countless pieces of "
        "ice that go round Saturn.",
        "太空几乎是空的,而且非常非常大。行星绕着太阳转;土星的光环是无数块冰,绕着土星转。",
    ),
    Topic(
        ("balloon", "balloons", "热气球", "气球"),
        "a red hot-air balloon over the mountains at dawn",
        "a red hot-air balloon rising over mountains at dawn, gentle light",
        "Hot air is lighter than cold air. The flame heats the air in the balloon, and the cold air around lifts it up.",
        "热空气比冷空气轻。火焰把气球里的空气烧热,周围的冷空气就把它托起来。",
    ),
    Topic(
        ("sailboat", "sailboats", "sailing boat", "sailing", "sail", "ship", "ships", "boat", "帆船", "船"),
        "a white sailboat on the sea by day",
        "a white sailboat on a blue sea, wind in its sails, sunny day",
        "A ship pushes water aside, and the water pushes back and carries it. The wind blows into the sails and moves it "
        "forward.",
        "船把水挤开,水就把船托起来。风吹着帆,船就往前走。",
    ),
    Topic(
        ("wave", "waves", "sea", "ocean", "tide", "海浪", "大海", "海水", "潮"),
        "the sea by day",
        "waves rolling on the open sea, close to the water, sunlight",
        "The wind pushes the water, and the push travels on as a wave. The water itself only goes up and down.",
        "风推着水面,这股推力就变成波浪传向远方。水自己只是上上下下。",
    ),
    Topic(
        ("mountain", "mountains", "山"),
        "snowy mountains by day",
        "snowy mountain peaks above the clouds, slow aerial shot",
        "The ground is made of huge plates that move very slowly. Where two push against each other, the ground folds up "
        "and becomes mountains.",
        "大地由几块很大的板块组成,它们慢慢地移动。两块顶在一起,地面就隆起来,变成高山。",
    ),
    Topic(
        ("tree", "trees", "leaf", "leaves", "forest", "plant", "plants", "树", "叶子", "森林", "植物"),
        "a forest in the morning",
        "sunlight falling through green leaves in a forest, close-up, morning",
        "Leaves are green because of chlorophyll. With sunlight, water and air they make sugar for the tree, and oxygen "
        "for us.",
        "叶子里有叶绿素,所以是绿色的。它们用阳光、水和空气给大树做糖,还给我们氧气。",
    ),
    Topic(
        ("dog", "dogs", "puppy", "狗", "犬"),
        "a dog on the beach by day",
        "a happy dog running on the beach, slow motion",
        "A dog smells some ten thousand times better than we do. Its nose tells it who was here, and when.",
        "狗的鼻子比我们灵敏上万倍。它一闻就知道谁来过、什么时候来的。",
    ),
)

# What a picture for children should not be made of: kept short, for the server has a safety layer of its own.
_NOT_FOR_CHILDREN = re.compile(
    r"\b(?:kill(?:s|ed|ing)?|murders?|blood|gore|suicide|guns?|bombs?|weapons?|drugs?|cocaine|heroin|sex(?:y|ual)?|porn|"
    r"naked|nude)\b|杀|自杀|血腥|枪|炸弹|毒品|色情|裸",
    re.IGNORECASE,
)
_REDIRECT = {
    "en": "That is nothing for a picture here. Please ask a grown-up you trust about it. Shall we look at a volcano instead?",
    "zh": "这个不适合在这里画出来,可以去问问你信任的大人。我们来看看火山怎么样?",
}
_UNKNOWN = {
    "en": "I have no answer to that yet, but here is a picture of it. What do you see in it?",
    "zh": "这个问题我还不会回答,不过我给你画一幅画。你在画里看到了什么?",
}
_EMPTY = {"en": "What would you like to know?", "zh": "你想知道什么呢?"}
# Words that ask, and say nothing of the picture.
_ASKING_EN = re.compile(
    r"^(?:(?:please|hey|hi|hello|can you|could you|tell me|show me|explain|what|why|how|when|where|who|which|is|are|was|were|"
    r"do|does|did|can|could|will|would|the|a|an|about|to me|me|it|there)\b[\s,]*)+",
    re.IGNORECASE,
)
_ASKING_ZH = re.compile(
    r"为什么|怎么样|怎么|什么是|是什么|什么|请|告诉我|给我|看看|如何|为何|是不是|哪里|吗|呢|的\?*$|[??。!!,,]"
)
_HAN = re.compile(r"[\u3400-\u9fff]")


def language_of(question: str) -> Language:
    return "zh" if _HAN.search(question) else "en"


def is_for_children(text: str) -> bool:
    return _NOT_FOR_CHILDREN.search(text) is None


def reply(question: str, *, is_simple: bool) -> Reply:
    """The answer of the template. `is_simple`: the loaded model is the embedded one."""
    question = question.strip()[:MAX_QUESTION_CHARACTERS]
    language = language_of(question)
    if not question:
        return Reply(_EMPTY[language], None)
    if not is_for_children(question):
        return Reply(_REDIRECT[language], None)
    topic = _topic(question)
    if topic is not None:
        return Reply(topic.zh if language == "zh" else topic.en, topic.simple if is_simple else topic.rich)
    subject = subject_of(question)
    scene = subject if is_simple else _drawn(subject, language)
    return Reply(_UNKNOWN[language], scene)


def subject_of(question: str) -> str:
    """The question without the words that only ask."""
    if language_of(question) == "zh":
        return _ASKING_ZH.sub("", question).strip() or question
    return _ASKING_EN.sub("", question).strip(" ?!.") or question


def _drawn(subject: str, language: Language) -> str:
    return (
        f"{subject},清晰的科普动画,色彩明快"
        if language == "zh"
        else f"{subject}, clear educational animation, bright colours"
    )


def _topic(question: str) -> Topic | None:
    """The topic whose word stands first in the question, and the longest there."""
    lowered = question.lower()
    found = [
        (at, -len(word), index)
        for index, topic in enumerate(TOPICS)
        for word in topic.words
        if (at := _find(word, lowered)) is not None
    ]
    return TOPICS[min(found)[2]] if found else None


def _find(word: str, text: str) -> int | None:
    if _HAN.search(word):
        at = text.find(word)
        return at if at >= 0 else None
    found = re.search(rf"\b{re.escape(word)}\b", text)
    return found.start() if found else None

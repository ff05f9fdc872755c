"""Answers a question with a text and a scene, without a language model: a dozen topics and a template. Pure.

The topics are in `topics.json`. Scenes come in two forms: `simple` for the embedded model, which knows eight places,
four times of day and eight subjects, and `rich` for the large ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

Language = Literal["en", "zh"]
MAX_QUESTION_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer for the child, and the prompt for the stage, or None for no scene."""

    text: str
    scene: str | None
    note: str = ""  # the source of the answer, if the page should say it

    @property
    def caption(self) -> str:
        """The first sentence, for below the picture."""
        return re.split(r"(?<=[.!?])\s|(?<=[。\uff01\uff1f])", self.text, maxsplit=1)[0].strip()


class Topic(msgspec.Struct, frozen=True):
    """One entry of `topics.json`."""

    words: tuple[str, ...]  # English as whole words, Chinese anywhere in the text
    about: tuple[str, ...]  # the answer fits a question that has one of these, too
    simple: str
    rich: str
    en: str
    zh: str


# Words that a picture for children should not come from. A short list, no safety system; the server has none so far.
_NOT_FOR_CHILDREN = re.compile(
    r"\b(?:kill(?:s|ed|ing)?|murders?|blood|gore|suicide|guns?|bombs?|weapons?|drugs?|cocaine|heroin|sex(?:y|ual)?|porn|"
    r"naked|nude)\b|杀|自杀|血腥|枪|炸弹|毒品|色情|裸",
    re.IGNORECASE,
)
_REDIRECT = {
    "en": "We do not make a picture of that here. Please ask a grown-up about it. Shall we look at a volcano instead?",
    "zh": "这个不适合在这里画，可以去问问你信任的大人。我们来看看火山怎么样？",
}
_NOT_QUITE = {"en": "I do not know that, but I know this. ", "zh": "这个我不太清楚，不过我知道："}
_UNKNOWN = {
    "en": "I have no answer to that yet, but here is a picture of it. What do you see in it?",
    "zh": "这个问题我还不会回答，不过我给你画一幅画。你在画里看到了什么？",
}
_EMPTY = {"en": "What would you like to know?", "zh": "你想知道什么呢？"}
# Words that only ask, and say nothing about the picture.
_ASKING_EN = re.compile(
    r"^(?:(?:please|hey|hi|hello|can you|could you|tell me|show me|explain|what|why|how|when|where|who|which|is|are|"
    r"was|were|do|does|did|can|could|will|would|the|a|an|about|to me|me|it|there)\b[\s,]*)+",
    re.IGNORECASE,
)
# Full-width marks are escapes: some tools narrow them.
_ASKING_ZH = re.compile(
    r"为什么|怎么样|怎么|什么是|是什么|什么|请|告诉我|给我|看看|如何|为何|是不是|哪里|吗|呢|"
    r"的[?\uff1f]*$|[?\uff1f。!\uff01,\uff0c]"
)
_HAN = re.compile(r"[\u3400-\u9fff]")


@cache
def topics() -> tuple[Topic, ...]:
    return msgspec.json.decode((Path(__file__).parent / "topics.json").read_bytes(), type=tuple[Topic, ...])


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
        text = topic.zh if language == "zh" else topic.en
        is_answer = any(_find(word, question.lower()) is not None for word in topic.about)
        return Reply(text if is_answer else _NOT_QUITE[language] + text, topic.simple if is_simple else topic.rich)
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
        f"{subject}，清晰的科普动画，色彩明快"
        if language == "zh"
        else f"{subject}, clear educational animation, bright colours"
    )


def _topic(question: str) -> Topic | None:
    """The topic whose word comes first in the question; of two at the same place, the longer word."""
    lowered = question.lower()
    found = [
        (at, -len(word), index)
        for index, topic in enumerate(topics())
        for word in topic.words
        if (at := _find(word, lowered)) is not None
    ]
    return topics()[min(found)[2]] if found else None


def _find(word: str, text: str) -> int | None:
    if _HAN.search(word):
        at = text.find(word)
        return at if at >= 0 else None
    found = re.search(rf"\b{re.escape(word)}\b", text)
    return found.start() if found else None

"""The lexicon reads English and Chinese as a viewer would, and reports the words that it does not know."""

import random

import pytest

from engine.embedded.lexicon import VOCABULARY, VOCABULARY_SIZE, hear
from engine.embedded.lexicon_words import CHINESE, ENGLISH


def concepts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.concept for word in hear(text) if word.concept is not None))


def unknown(text: str) -> list[str]:
    return [word.surface for word in hear(text) if word.concept is None]


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("The beach", ("beach",)),
        ("Show me a golden retriever puppy running along the OCEAN at sundown", ("dog", "sea", "sunset")),
        ("how does a volcano erupt?", ("volcano",)),
        ("how do volcanoes erupt", ("volcano",)),
        ("a girl dancing in a red dress on the beach", ("dancer", "red", "beach")),
        ("two hot-air balloons over snow-capped mountains", ("balloon", "mountains")),
        ("a blue fish in the deep sea", ("blue", "fish", "underwater")),
        ("火山是怎么喷发的？", ("volcano",)),
        ("现在给大家看看海边日落", ("beach", "sunset")),
        ("一只金毛在沙滩上奔跑", ("dog", "beach")),
        ("夕阳西下，海面上一艘红色的帆船", ("sunset", "sea", "red", "sailboat")),
        ("beach 日落", ("beach", "sunset")),
    ],
)
def test_prompts_are_heard_as_their_concepts_in_order(text: str, understood: tuple[str, ...]) -> None:
    assert concepts(text) == understood
    assert unknown(text) == []


def test_unknown_words_are_reported_and_scenery_is_not() -> None:
    text = "a big red car under white clouds and green trees in the city, so fast"
    assert concepts(text) == ("red", "car", "city")
    assert unknown(text) == ["big", "fast"]


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("a kitten", "cat"),
        ("小猫咪", "cat"),
        ("小朋友们在玩耍", "children"),
        ("girls playing", "children"),
        ("frisbee", "ball"),
        ("皮球", "ball"),
        ("地球", "space"),
        ("窗外下着雨", "rain"),
        ("misty", "fog"),
        ("falling petals", "petals"),
        ("northern lights", "aurora"),
        ("直播间", "studio"),
        ("cozy bedroom", "room"),
        ("café", "cafe"),
        ("watercolour", "pastel"),
        ("镜头缓缓移动", "drift"),
        ("the camera pans slowly to the left", "drift"),
        ("bright colors", "vivid"),
    ],
)
def test_synonyms(text: str, concept: str) -> None:
    assert concepts(text)[0] == concept
    assert unknown(text) == []


def test_each_phrase_means_one_thing() -> None:
    for words, separator in ((ENGLISH, ","), (CHINESE, None)):
        phrases = [phrase.strip() for synonyms in words.values() for phrase in synonyms.split(separator)]
        assert len(phrases) > 500
        assert len(set(phrases)) == len(phrases)
    assert set(ENGLISH) == set(CHINESE) <= set(VOCABULARY)


def test_words_are_matched_whole() -> None:
    assert unknown("carpet") == ["carpet"]


@pytest.mark.parametrize("text", ["", "   ", "please show me the", "🎉🎉", "给我看看", "123 4"])
def test_a_text_of_fillers_or_signs_gives_no_words(text: str) -> None:
    assert hear(text) == ()


def test_any_unicode_text_of_any_length_is_accepted() -> None:
    rng = random.Random(5)
    for length in (1, 10, 100, 2000, 20_000):
        text = "".join(chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)))) for _ in range(length))
        assert set(concepts(text)) <= set(VOCABULARY)
    assert concepts("\ud800 beach") == ("beach",)


def test_concepts_have_room_in_the_embedding_table() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY) <= VOCABULARY_SIZE == 128

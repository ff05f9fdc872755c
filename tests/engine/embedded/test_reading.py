"""A prompt names what one clip can show; the rest is chosen the same way each time."""

import random
from dataclasses import asdict, replace

import pytest

from engine.embedded.lexicon import ALONE, COLUMNS, FACINGS, MAX_TOKENS, ROWS, UNK_ID, VOCABULARY
from engine.embedded.places import subject_place
from engine.embedded.reading import (
    NATURAL_COLOURS,
    Reading,
    complete,
    completed_tokens,
    read,
    unconditional_tokens,
)
from engine.embedded.spec import HELD_OUT_SUBJECT_COLOURS, SUBJECTS, WEATHERS_OF_SCENE, SceneSpec, draw_spec
from training.data.captions import full_caption

SLOTS = ("scene", "time", "weather", "subject", "colour", "direction", "camera", "palette")


def named_by(reading: Reading) -> dict[str, str]:
    return {slot: value for slot in SLOTS if (value := getattr(reading, slot)) is not None}


def place_of(spec: SceneSpec) -> list[str]:
    if spec.subject is None:
        return []
    column, row = subject_place(spec)
    return [COLUMNS[column], ROWS[row]]


def facing_of(spec: SceneSpec) -> str | None:
    return FACINGS[spec.subject, spec.direction] if spec.subject and spec.direction else None


def spelled(token_ids: tuple[int, ...]) -> list[str]:
    return [VOCABULARY[token_id] for token_id in token_ids]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("how does a volcano erupt?", {"scene": "volcano"}),
        ("火山是怎么喷发的?", {"scene": "volcano"}),
        ("now let me show you a sunset at the sea", {"scene": "sea", "time": "sunset"}),
        ("现在给大家看看海边日落", {"scene": "beach", "time": "sunset"}),
        ("what are the northern lights?", {"scene": "aurora"}),
        ("极光是什么?", {"scene": "aurora"}),
        ("what lives under the sea?", {"scene": "underwater"}),
        ("fish in the ocean", {"scene": "underwater", "subject": "fish"}),
        ("why is the sky blue?", {"time": "day"}),
        ("sakura in the garden", {"scene": "garden", "weather": "petals"}),
        (
            "下雨天的教室里，一只白色的小猫",
            {"scene": "classroom", "weather": "rain", "subject": "cat", "colour": "white"},
        ),
        ("snowy mountains", {"scene": "mountains"}),
        ("雪山", {"scene": "mountains"}),
        ("snow", {"weather": "snow"}),
        ("雪", {"weather": "snow"}),
        ("a girl in a red dress dancing on the lawn", {"scene": "park", "subject": "dancer", "colour": "red"}),
        ("two children throwing a red ball", {"subject": "children", "colour": "red"}),
        ("a t-rex in the desert, slow pan", {"scene": "desert", "subject": "dinosaur", "camera": "drift"}),
        ("复古风格的咖啡馆，镜头缓缓移动", {"scene": "cafe", "palette": "vintage", "camera": "drift"}),
        ("the aurora at night", {"scene": "aurora"}),
        ("a red car under a blue sky", {"subject": "car", "colour": "red", "time": "day"}),
    ],
)
def test_prompts_name_their_slots_and_nothing_is_lost(text: str, named: dict[str, str]) -> None:
    heard = read(text)
    assert named_by(heard) == named
    assert heard.not_understood == ()
    assert sorted(spelled(heard.token_ids)) == sorted(heard.concepts) == sorted(named.values())


@pytest.mark.parametrize(
    ("text", "understood", "not_understood"),
    [
        ("a dog and a red car on the beach", ("dog", "beach"), ("red", "car")),
        ("the beach, then the forest", ("beach",), ("forest",)),
        ("a red beach", ("beach",), ("red",)),
        ("the beach to the left", ("beach",), ("to the left",)),
        ("outer space at sunset", ("space",), ("sunset",)),
        ("snow in the desert", ("desert",), ("snow",)),
        ("rain and snow in the mountains", ("mountains", "snow"), ("rain",)),
        ("下雪的沙漠", ("desert",), ("下雪",)),
        ("a big dog", ("dog",), ("big",)),
    ],
)
def test_words_that_one_clip_cannot_show_are_reported(
    text: str, understood: tuple[str, ...], not_understood: tuple[str, ...]
) -> None:
    heard = read(text)
    assert set(heard.concepts) == set(understood)
    assert heard.not_understood == not_understood


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("Dusk over the OCEAN, a crimson yacht", ("dusk", "ocean", "crimson", "yacht")),
        ("夜晚的雪山", ("夜晚", "雪山")),
        ("puppies and a puppy on the shore", ("puppies", "shore")),
        ("雪夜的城市", ("雪", "夜", "城市")),
    ],
)
def test_understood_words_are_reported_as_the_prompt_wrote_them(text: str, understood: tuple[str, ...]) -> None:
    heard = read(text)
    assert heard.understood == understood
    assert heard.not_understood == ()


def test_only_unknown_words_leave_a_token_and_only_one() -> None:
    assert spelled(read("a quantum beach, quarks, at night, snow").token_ids) == ["<unk>", "beach", "night"]


def test_an_unknown_word_becomes_unk_and_is_reported_once() -> None:
    heard = read("a quantum beach, quantum!")
    assert heard.concepts == ("beach",)
    assert heard.not_understood == ("quantum",)
    assert heard.token_ids[0] == UNK_ID


def test_subjects_may_be_in_scenes_that_training_never_showed() -> None:
    spec, _ = complete(read("a sailboat in the desert"), 0)
    assert (spec.subject, spec.scene) == ("sailboat", "desert")


def test_the_prompt_comes_first_and_the_rest_follows_in_the_order_of_slots() -> None:
    spec, token_ids = complete(read("sunset, a cat at the beach"), 4)
    layout = f"layout-{spec.layout}"
    expected = ["sunset", "cat", "beach", "clear", "white", f"cat-{spec.direction}", "still", "vivid", layout]
    assert spelled(token_ids) == expected + place_of(spec)
    _, token_ids = complete(read("outer space"), 4)
    assert spelled(token_ids)[:5] == ["space", "clear", ALONE, "still", "vivid"]


@pytest.mark.parametrize("chinese", [False, True])
def test_a_full_caption_reads_as_its_spec_and_leaves_only_the_layout(chinese: bool) -> None:
    rng = random.Random(6)
    for _ in range(500):
        spec = draw_spec(rng)
        heard = read(full_caption(spec, rng, chinese=chinese))
        assert named_by(heard) == {slot: asdict(spec)[slot] for slot in SLOTS if asdict(spec)[slot] is not None}
        told = [facing_of(spec) if token == spec.direction else token for token in spelled(heard.token_ids)]
        tail = [] if spec.subject else [ALONE]
        assert spelled(completed_tokens(heard, spec)) == [*told, *tail, f"layout-{spec.layout}", *place_of(spec)]


def test_any_text_becomes_a_legal_clip_always_the_same() -> None:
    rng = random.Random(7)
    concepts = ["beach", "space", "aurora", "desert", "petals", "snow", "红色", "狗", "鱼", "children", "ball", "night"]
    concepts += ["pan", "retro", "to the left", "nonsense", "，", "雨", "火山", "dawn", "fog"]
    for seed in range(1500):
        if seed % 2:
            text = " ".join(rng.choice(concepts) for _ in range(rng.randrange(12)))
        else:
            text = "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(60)))
        heard = read(text)
        spec, token_ids = complete(heard, seed)
        assert (spec, token_ids) == complete(read(text), seed)
        assert spec.weather in WEATHERS_OF_SCENE[spec.scene]
        assert len(token_ids) <= MAX_TOKENS
        shown = {token for token in spelled(token_ids) if token not in {"<unk>", ALONE, f"layout-{spec.layout}"}}
        expected = {value for slot in SLOTS if (value := getattr(spec, slot)) is not None}
        if (facing := facing_of(spec)) is not None:
            expected = expected - {spec.direction} | {facing, *place_of(spec)}
        assert shown == expected
        assert token_ids.count(UNK_ID) <= 1


def test_naming_a_slot_changes_only_that_slot() -> None:
    for seed in range(200):
        before, _ = complete(read("a dog"), seed)
        for text, change in (
            ("a dog, pastel colours", {"palette": "pastel"}),
            ("a dog, slow pan", {"camera": "drift"}),
            ("a purple dog", {"colour": "purple"}),
            ("a dog facing left", {"direction": "left"}),
        ):
            assert complete(read(text), seed)[0] == replace(before, **change)


def test_naming_what_was_chosen_anyway_changes_nothing() -> None:
    rng = random.Random(8)
    for seed in range(300):
        text = rng.choice(("", "a cat", "night", "in the rain"))
        spec, _ = complete(read(text), seed)
        said = full_caption(spec, rng, chinese=bool(seed % 2))
        assert complete(read(said), seed)[0] == spec


def test_most_unnamed_times_are_day_and_all_come() -> None:
    times = [complete(read("the beach"), seed)[0].time for seed in range(600)]
    assert set(times) == {"day", "sunset", "night"}  # dawn at the beach is held out: only a prompt gets it
    assert times.count("day") > times.count("sunset") > 60
    assert complete(read("the beach at dawn"), 0)[0].time == "dawn"


def test_natural_colours_are_ones_that_the_model_was_shown() -> None:
    assert set(NATURAL_COLOURS) == set(SUBJECTS)
    assert not set(NATURAL_COLOURS.items()) & set(HELD_OUT_SUBJECT_COLOURS)


def test_a_clip_that_contradicts_its_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="scene must be 'beach'"):
        completed_tokens(read("the beach"), SceneSpec("sea", "day"))


def test_an_empty_prompt_is_a_clip_and_the_unconditional_tokens_are_none() -> None:
    assert read("").token_ids == ()
    assert complete(read(""), 1)[1] != unconditional_tokens() == ()


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("雨夜里温馨的房间", {"rain", "night", "room"}),
        ("雪夜的城市", {"snow", "night", "city"}),
        ("a cosy room on a rainy night", {"rain", "night", "room"}),
    ],
)
def test_one_word_may_name_two_things(text: str, concepts: set[str]) -> None:
    reading = read(text)
    assert set(reading.concepts) == concepts and not reading.not_understood

"""Captions, lexicon and reading agree: what a caption names is what the model is told."""

import random

import pytest

from engine.embedded.lexicon import ALONE, COLUMNS, FACINGS, MAX_TOKENS, ROWS, TOKEN_IDS, UNK_ID
from engine.embedded.places import subject_place
from engine.embedded.reading import completed_tokens, read
from engine.embedded.spec import SceneSpec, draw_spec
from training.data.captions import draw_caption, draw_token_ids, full_caption


def named_by(spec: SceneSpec) -> set[str]:
    values = (spec.scene, spec.time, spec.weather, spec.subject, spec.colour, spec.direction, spec.camera, spec.palette)
    return {value for value in values if value is not None}


def told_of(spec: SceneSpec) -> set[int]:
    """The tokens of the whole spec. Subject and direction are one token; the subject's place is included."""
    words = named_by(spec) | {f"layout-{spec.layout}"} | (set() if spec.subject else {ALONE})
    if spec.subject is not None and spec.direction is not None:
        column, row = subject_place(spec)
        words = words - {spec.direction} | {FACINGS[spec.subject, spec.direction], COLUMNS[column], ROWS[row]}
    return {TOKEN_IDS[word] for word in words}


@pytest.mark.parametrize("chinese", [False, True])
def test_captions_with_all_slots_are_understood_exactly_as_their_spec(chinese: bool) -> None:
    rng = random.Random(1)
    for _ in range(500):
        spec = draw_spec(rng)
        caption = full_caption(spec, rng, chinese=chinese)
        heard = read(caption)
        assert heard.not_understood == (), caption
        assert set(heard.concepts) == named_by(spec), caption


def test_captions_with_dropped_slots_never_contradict_their_spec() -> None:
    rng = random.Random(2)
    for _ in range(3000):
        spec = draw_spec(rng)
        caption = draw_caption(spec, rng)
        heard = read(caption)
        assert heard.not_understood == (), caption
        assert heard.token_ids, caption
        assert set(heard.concepts) <= named_by(spec), caption
        told = completed_tokens(heard, spec)
        assert set(told) == told_of(spec) and len(told) == len(set(told)), caption


def test_captions_leave_each_slot_open_and_name_each() -> None:
    rng = random.Random(4)
    spec = SceneSpec(
        "park", "night", weather="rain", subject="cat", colour="red", direction="left", camera="drift", palette="pastel"
    )
    heard = [set(read(draw_caption(spec, rng)).concepts) for _ in range(400)]
    for value in named_by(spec):
        assert 40 < sum(value in words for words in heard) < 395, value


def test_training_text_is_sometimes_empty_or_has_an_unknown_word() -> None:
    rng = random.Random(3)
    texts = []
    for _ in range(2000):
        spec = draw_spec(rng)
        texts.append(draw_token_ids(spec, rng))
        assert not texts[-1] or set(texts[-1]) - {UNK_ID} == told_of(spec)
    assert 0.06 < sum(not text for text in texts) / len(texts) < 0.10
    told = [text for text in texts if text]
    assert 0.12 < sum(UNK_ID in text for text in told) / len(told) < 0.18
    assert max(map(len, texts)) <= MAX_TOKENS

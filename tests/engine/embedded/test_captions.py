"""Captions and lexicon agree: what a caption names is what the model is told."""

import random

import pytest

from engine.embedded.captions import draw_caption, draw_token_ids, full_caption
from engine.embedded.lexicon import MODIFIERS, UNK_ID, understand
from engine.embedded.spec import SceneSpec, draw_spec


def named_by(spec: SceneSpec) -> set[str]:
    return {name for name in (spec.scene, spec.time, spec.subject, spec.colour, spec.direction) if name is not None}


@pytest.mark.parametrize("chinese", [False, True])
def test_captions_with_all_slots_are_understood_exactly_as_their_spec(chinese: bool) -> None:
    rng = random.Random(1)
    for _ in range(500):
        spec = draw_spec(rng)
        caption = full_caption(spec, rng, chinese=chinese)
        heard = understand(caption)
        assert heard.not_understood == (), caption
        assert set(heard.understood) - set(MODIFIERS) == named_by(spec), caption


def test_captions_with_dropped_slots_name_nothing_else() -> None:
    rng = random.Random(2)
    for _ in range(500):
        spec = draw_spec(rng)
        caption = draw_caption(spec, rng)
        heard = understand(caption)
        assert heard.not_understood == (), caption
        assert heard.token_ids, caption
        assert set(heard.understood) - set(MODIFIERS) <= named_by(spec), caption


def test_training_text_is_sometimes_empty_and_sometimes_unknown() -> None:
    rng = random.Random(3)
    texts = [draw_token_ids(draw_spec(rng), rng) for _ in range(1000)]
    assert 0.07 < sum(not text for text in texts) / len(texts) < 0.13
    tokens = [token for text in texts for token in text]
    assert 0.03 < tokens.count(UNK_ID) / len(tokens) < 0.07

"""Which words the model follows: the first check of a training run."""

from collections import Counter
from dataclasses import replace

from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import Encoder
from engine.embedded.spec import TIMELESS_SCENES, SceneSpec
from training.data.dataset import draw_specs
from training.evaluation.sampling import EmbeddedModel
from training.evaluation.word_sensitivity import SLOTS, measure_swaps, swapped


def test_the_shipped_model_listens_to_every_word() -> None:
    """For each slot, left and right included, its first step is worse if the model is told a wrong value."""
    model = EmbeddedModel.from_pretrained()
    encoder = Encoder.from_pretrained(EMBEDDED_FOLDER / "encoder")
    specs = draw_specs(16, 5, subject_share=1.0)
    measured = measure_swaps(model, encoder, specs)
    swaps = {swap.slot: swap for swap in measured if swap.subject is None}
    assert set(swaps) == set(SLOTS)
    by_subject = {swap.subject: swap.num_pictures for swap in measured if swap.subject is not None}
    assert by_subject == Counter(spec.subject for spec in specs)
    assert [slot for slot, swap in swaps.items() if swap.told_wrong <= swap.told_right] == []


def test_a_swap_changes_one_slot_and_stays_legal() -> None:
    spec = SceneSpec("space", None, subject="rocket", colour="red", direction="left")
    assert swapped(spec, "direction") == replace(spec, direction="right")
    assert swapped(spec, "time") is None and swapped(spec, "weather") is None
    other = swapped(spec, "scene")
    assert other is not None and other.scene in TIMELESS_SCENES - {"space"}

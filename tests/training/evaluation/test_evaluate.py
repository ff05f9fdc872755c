"""The evaluation's prompts; and its clips depend on prompt and seed alone."""

import torch

from engine.embedded.reading import read
from engine.embedded.spec import HELD_OUT_SCENE_TIMES, HELD_OUT_SUBJECT_COLOURS, HELD_OUT_SUBJECT_SCENES
from training.evaluation.evaluate import generate, probes
from training.evaluation.sampling import EmbeddedModel


def test_every_round_asks_for_each_held_out_pair() -> None:
    asked = probes(num_seen=10, rounds=2)
    of_kind = {kind: [probe.spec for probe in asked if probe.kind == kind] for kind in {probe.kind for probe in asked}}
    assert len(of_kind["seen"]) == 10 and not any(spec.is_held_out for spec in of_kind["seen"])
    assert [(spec.scene, spec.time) for spec in of_kind["scene_time"]] == [*HELD_OUT_SCENE_TIMES] * 2
    assert [(spec.subject, spec.scene) for spec in of_kind["subject_scene"]] == [*HELD_OUT_SUBJECT_SCENES] * 2
    assert [(spec.subject, spec.colour) for spec in of_kind["subject_colour"]] == [*HELD_OUT_SUBJECT_COLOURS] * 2


def test_half_of_the_prompts_are_chinese_and_each_names_its_whole_spec() -> None:
    asked = probes(num_seen=20, rounds=1)
    assert sum(probe.is_chinese for probe in asked) == len(asked) // 2
    for probe in asked:
        heard = read(probe.text)
        assert heard.not_understood == (), probe.text
        assert (heard.scene, heard.subject, heard.colour) == (probe.spec.scene, probe.spec.subject, probe.spec.colour)


def test_a_clip_depends_on_its_prompt_and_seed_and_not_on_its_neighbours() -> None:
    model = EmbeddedModel.from_pretrained()
    tokens = [probe.token_ids for probe in probes(num_seen=2, rounds=0)]
    together = generate(model, tokens, model.settings["fast"], seed=3)
    alone = generate(model, tokens[1:], model.settings["fast"], seed=4)
    assert together.shape == (2, 25, 3, 256, 416) and together.dtype == torch.uint8
    assert (together[1].int() - alone[0].int()).abs().max() <= 1

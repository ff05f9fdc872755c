"""The procedural world: clips close on themselves, the same spec gives the same pixels, subjects are really there."""

import random

import pytest
import torch

from engine.embedded.spec import COLOURS, SCENES, SUBJECTS_OF_SCENE, TIMES, SceneSpec, draw_spec
from engine.embedded.world import HEIGHT, WIDTH, render


def bare(scene: str, layout: int = 0) -> SceneSpec:
    return SceneSpec(scene, None if scene == "space" else "day", layout=layout)


@pytest.mark.parametrize("scene", SCENES)
def test_every_clip_closes_on_itself(scene: str) -> None:
    subject = SUBJECTS_OF_SCENE[scene][0]
    spec = SceneSpec(scene, None if scene == "space" else "sunset", subject, "red", "left", layout=1)
    last, first, before_last = render(spec, [24, 0, 23])
    assert torch.equal(last, first)
    step = (first - before_last).abs().mean()
    ordinary = (render(spec, [12]) - render(spec, [11])).abs().mean()
    assert 0 < step < 3 * ordinary + 0.002


def test_the_same_spec_gives_the_same_pixels() -> None:
    spec = draw_spec(random.Random(8))
    assert torch.equal(render(spec, [3, 7]), render(spec, [3, 7]))


def test_frames_are_pixels_in_range_and_sharable() -> None:
    frames = render(bare("volcano"), [0, 5])
    assert frames.shape == (2, 3, HEIGHT, WIDTH)
    assert frames.dtype == torch.float32
    assert 0 <= frames.min() <= frames.max() <= 1


def test_times_of_day_are_far_apart() -> None:
    means = torch.stack([render(SceneSpec("sea", time), [0]).mean((0, 2, 3)) for time in TIMES])
    assert torch.pdist(means).min() > 0.1


@pytest.mark.parametrize(("scene", "subject"), [(s, subject) for s in SCENES for subject in SUBJECTS_OF_SCENE[s]])
def test_a_subject_is_large_enough_for_the_latents(scene: str, subject: str) -> None:
    without = bare(scene)
    changed = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for colour in ("red", "green"):
        spec = SceneSpec(scene, without.time, subject, colour, "right")
        changed |= (render(spec, [0]) - render(without, [0])).abs().amax((0, 1)) > 0.1
    rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
    assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) >= 47
    assert int(changed.sum()) > 600


def test_colours_and_directions_show() -> None:
    pictures = [render(SceneSpec("sea", "day", "sailboat", colour, "left"), [0]) for colour in COLOURS]
    for index, picture in enumerate(pictures[1:], 1):
        assert (picture - pictures[index - 1]).abs().amax() > 0.2
    mirrored = render(SceneSpec("sea", "day", "sailboat", COLOURS[0], "right"), [0])
    assert (pictures[0] - mirrored).abs().amax() > 0.2


@pytest.mark.parametrize(
    "fields",
    [
        {"scene": "desert", "time": "day"},
        {"scene": "space", "time": "day"},
        {"scene": "sea", "time": None},
        {"scene": "sea", "time": "day", "colour": "red"},
        {"scene": "sea", "time": "day", "subject": "bird", "colour": "pink", "direction": "left"},
    ],
)
def test_a_spec_that_cannot_be_drawn_does_not_exist(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be one of|describe a subject"):
        SceneSpec(**fields)

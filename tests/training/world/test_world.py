"""The procedural world: clips close on themselves, the same spec gives the same pixels, subjects are really there."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.embedded.places import NUM_COLUMNS, NUM_ROWS, subject_place, subject_position
from engine.embedded.spec import (
    COLOURS,
    DIRECTIONS,
    HELD_OUT_SCENE_TIMES,
    HELD_OUT_SUBJECT_COLOURS,
    HELD_OUT_SUBJECT_SCENES,
    SCENES,
    SUBJECTS,
    SUBJECTS_OF_SCENE,
    SYMMETRIC_SUBJECTS,
    TIMELESS_SCENES,
    TIMES,
    WEATHERS_OF_SCENE,
    SceneSpec,
    draw_spec,
)
from training.evaluation.classifier import true_names
from training.world.world import HEIGHT, WIDTH, render, subject_box


def bare(scene: str, time: str = "day", **fields: Any) -> SceneSpec:
    return SceneSpec(scene, None if scene in TIMELESS_SCENES else time, **fields)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("camera", ["still", "drift"])
def test_every_clip_closes_on_itself(scene: str, camera: str) -> None:
    spec = bare(
        scene,
        "sunset",
        weather=WEATHERS_OF_SCENE[scene][-1],
        subject=SUBJECTS_OF_SCENE[scene][0],
        colour="red",
        direction="left",
        camera=camera,
        layout=1,
    )
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


@pytest.mark.parametrize(("scene", "weather"), [(s, weather) for s in SCENES for weather in WEATHERS_OF_SCENE[s][1:]])
def test_weather_shows_and_moves(scene: str, weather: str) -> None:
    clear, wild = render(bare(scene), [0, 6]), render(bare(scene, weather=weather), [0, 6])
    assert (wild[0] - clear[0]).abs().mean() > 0.003
    # Fog hides motion; any other weather adds motion of its own.
    assert (wild[1] - wild[0]).abs().mean() > (0.002 if weather == "fog" else (clear[1] - clear[0]).abs().mean())


def test_palettes_and_cameras_show() -> None:
    usual = render(bare("beach"), [6])
    for fields in ({"palette": "pastel"}, {"palette": "vintage"}, {"camera": "drift"}):
        assert (render(bare("beach", **fields), [6]) - usual).abs().mean() > 0.02


@pytest.mark.parametrize(("scene", "subject"), [(s, subject) for s in SCENES for subject in SUBJECTS_OF_SCENE[s]])
def test_a_subject_is_three_latent_cells_wide_and_stays_in_its_box(scene: str, subject: str) -> None:
    for layout in range(3):
        without = bare(scene, layout=layout)
        changed = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        for colour in ("red", "green"):
            spec = bare(scene, subject=subject, colour=colour, direction="right", layout=layout)
            changed |= (render(spec, [0]) - render(without, [0])).abs().amax((0, 1)) > 0.1
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) >= 48
        box = subject_box(spec)
        assert box is not None
        x0, y0, x1, y1 = box
        assert changed[y0:y1, x0:x1].sum() > 0.9 * changed.sum()


def test_only_the_judge_draws_held_out_pairs() -> None:
    rng = random.Random(1)
    assert not any(draw_spec(rng).is_held_out for _ in range(3000))
    judged = [draw_spec(rng, with_held_out=True) for _ in range(6000)]
    assert {(spec.scene, spec.time) for spec in judged} >= set(HELD_OUT_SCENE_TIMES)
    assert {(spec.subject, spec.scene) for spec in judged} >= set(HELD_OUT_SUBJECT_SCENES)
    assert {(spec.subject, spec.colour) for spec in judged} >= set(HELD_OUT_SUBJECT_COLOURS)


def test_colours_show() -> None:
    pictures = [render(bare("sea", subject="sailboat", colour=colour, direction="left"), [0]) for colour in COLOURS]
    for index, picture in enumerate(pictures[1:], 1):
        assert (picture - pictures[index - 1]).abs().amax() > 0.2


@pytest.mark.parametrize("subject", SUBJECTS)
def test_directions_show_unless_both_sides_look_the_same(subject: str) -> None:
    scene = next(scene for scene in SCENES if subject in SUBJECTS_OF_SCENE[scene])
    left, right = (render(bare(scene, subject=subject, colour="red", direction=side), [0]) for side in DIRECTIONS)
    assert bool((left - right).abs().amax() > 0.2) is (subject not in SYMMETRIC_SUBJECTS)


def test_a_judge_is_asked_for_no_direction_where_none_can_be_seen() -> None:
    spec = bare("sea", subject="balloon", colour="red", direction="left")
    assert true_names(spec)["direction"] == "none"
    assert true_names(replace(spec, subject="bird"))["direction"] == "left"


def test_subjects_cover_the_same_patches_in_every_scene() -> None:
    """A patch is 32 pixels wide, a latent row 16 high. So a subject covers the same few patches wherever it is."""
    for scene in SCENES:
        for subject in SUBJECTS_OF_SCENE[scene]:
            for layout in range(3):
                spec = bare(scene, subject=subject, colour="red", direction="right", layout=layout)
                x, y = subject_position(spec)
                assert ((x - 8) % 16, y % 8) == (0, 0), spec
                column, row = subject_place(spec)
                assert 0 <= column < NUM_COLUMNS and 0 <= row < NUM_ROWS


@pytest.mark.parametrize(
    "fields",
    [
        {"scene": "moon", "time": "day"},
        {"scene": "space", "time": "day"},
        {"scene": "sea", "time": None},
        {"scene": "sea", "time": "day", "colour": "red"},
        {"scene": "sea", "time": "day", "weather": "hail"},
        {"scene": "sea", "time": "day", "camera": "shaky"},
        {"scene": "sea", "time": "day", "palette": "ink"},
        {"scene": "sea", "time": "day", "layout": 3},
        {"scene": "sea", "time": "day", "subject": "bird", "colour": "pink", "direction": "left"},
    ],
)
def test_a_spec_that_cannot_be_drawn_raises(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be (one of|in)|describe a subject"):
        SceneSpec(**fields)

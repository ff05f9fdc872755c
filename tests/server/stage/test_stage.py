"""The stage: what is on air after each command, the transitions, and that nothing is ever out of range."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from engine.api import Frames
from server.stage.picture import FULL_WEIGHT, Clip, FirstShown, Footage, Layer, OnAir, Picture, Scene, Still, Transition
from server.stage.stage import MAX_STILL_DEPTH, Stage
from tests.seeds import seeds

FRAME_RATE = 24
CUT = Transition("cut", 0.0)
FADE = Transition("crossfade", 0.5)  # 12 frames


def frames(num_frames: int, value: int = 100, *, height: int = 8, width: int = 14) -> Frames:
    planes = np.full((num_frames, height * 3 // 2, width), value, np.uint8)
    planes += np.arange(num_frames, dtype=np.uint8)[:, None, None]  # so that frame i is known by its value
    return Frames(planes)


def clip(prompt_id: str = "p1", num_frames: int = 25, **options: object) -> Clip:
    settings: dict[str, object] = {"frame_rate": 24, "closes_on_itself": True, "after": "loop", **options}
    return Clip(prompt_id, frames(num_frames), **settings)  # type: ignore[arg-type]


class StageHarness:
    """Asks the stage for one frame after the other."""

    def __init__(self) -> None:
        self.stage = Stage(FRAME_RATE)
        self.index = -1

    def next(self, num_frames: int = 1) -> Picture:
        for _ in range(num_frames):
            self.index += 1
            picture = self.stage.picture(self.index)
        return picture

    def shown_values(self, num_frames: int) -> list[int]:
        """The first pixel of each of the next pictures, which must have one layer."""
        return [pixel(only(self.next())) for _ in range(num_frames)]


def only(picture: Picture) -> Layer:
    assert len(picture.layers) == 1
    assert picture.layers[0].weight == FULL_WEIGHT
    return picture.layers[0]


def pixel(layer: Layer) -> int:
    assert isinstance(layer.source, Footage)
    return int(layer.source.frames.planes[layer.frame_number, 0, 0])


def weight_of_new(picture: Picture) -> int:
    return picture.layers[-1].weight if len(picture.layers) == 2 else FULL_WEIGHT


# --- the table ----------------------------------------------------------------------------------------------------

STATES = {
    "idle": lambda stage: None,
    "preview over idle": lambda stage: stage.show_preview("old", frames(2), 0),
    "clip": lambda stage: stage.take(clip("old"), CUT),
    "preview over clip": lambda stage: (stage.take(clip("below"), CUT), stage.show_preview("old", frames(2), 0)),
    "blank over clip": lambda stage: (stage.take(clip("old"), CUT), stage.blank()),
    "blank over idle": lambda stage: stage.blank(),
}
COMMANDS = {
    "show_preview": lambda stage: stage.show_preview("new", frames(2), 0),
    "drop_preview": lambda stage: stage.drop_preview("old"),
    "drop another's preview": lambda stage: stage.drop_preview("another"),
    "take": lambda stage: stage.take(clip("new"), FADE),
    "blank": lambda stage: stage.blank(),
    "resume": lambda stage: stage.resume(),
}
IDLE, BLANK = (OnAir.IDLE, None), (OnAir.BLANK, None)
NEW_PREVIEW, NEW_CLIP = (OnAir.PREVIEW, "new"), (OnAir.CLIP, "new")
OLD_PREVIEW, OLD_CLIP, CLIP_BELOW = (OnAir.PREVIEW, "old"), (OnAir.CLIP, "old"), (OnAir.CLIP, "below")
TABLE = {
    #                     show_preview  drop_preview  drop another's  take      blank  resume
    "idle":              (NEW_PREVIEW, IDLE,         IDLE,           NEW_CLIP, BLANK, IDLE),
    "preview over idle": (NEW_PREVIEW, IDLE,         OLD_PREVIEW,    NEW_CLIP, BLANK, OLD_PREVIEW),
    "clip":              (NEW_PREVIEW, OLD_CLIP,     OLD_CLIP,       NEW_CLIP, BLANK, OLD_CLIP),
    "preview over clip": (NEW_PREVIEW, CLIP_BELOW,   OLD_PREVIEW,    NEW_CLIP, BLANK, OLD_PREVIEW),
    "blank over clip":   (BLANK,       BLANK,        BLANK,          BLANK,    BLANK, OLD_CLIP),
    "blank over idle":   (BLANK,       BLANK,        BLANK,          BLANK,    BLANK, IDLE),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_on_air_after_each_command_in_each_state(state: str, command: str) -> None:
    harness = StageHarness()
    STATES[state](harness.stage)
    harness.next(20)
    COMMANDS[command](harness.stage)
    assert harness.stage.on_air == TABLE[state][list(COMMANDS).index(command)]
    harness.next(20)
    assert harness.stage.on_air == TABLE[state][list(COMMANDS).index(command)]


# --- clips --------------------------------------------------------------------------------------------------------


def test_the_idle_scene_is_on_air_before_the_first_prompt() -> None:
    assert StageHarness().next() == Picture((Layer(Scene.IDLE, 0, FULL_WEIGHT),))


def test_a_program_has_at_least_a_frame_a_second() -> None:
    assert Stage(1).picture(0).layers
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Stage(0)


def test_a_cut_shows_the_clip_whole_from_its_first_frame() -> None:
    harness = StageHarness()
    harness.next(7)
    harness.stage.take(clip(), CUT)
    picture = harness.next()
    assert pixel(only(picture)) == 100
    assert picture.is_cut


def test_a_closed_loop_leaves_out_the_first_frame_which_the_last_repeats() -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=4), CUT)
    assert harness.shown_values(8) == [100, 101, 102, 103, 101, 102, 103, 101]


def test_a_clip_plays_at_its_own_frame_rate() -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=4, frame_rate=12), CUT)
    assert harness.shown_values(8) == [100, 100, 101, 101, 102, 102, 103, 103]


def test_a_faster_clip_skips_frames() -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=9, frame_rate=48), CUT)
    assert harness.shown_values(5) == [100, 102, 104, 106, 108]


def test_an_open_loop_dissolves_its_tail_into_its_head() -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=24, closes_on_itself=False), CUT)
    values = harness.shown_values(60)
    assert values[:16] == list(range(100, 116))
    seam = values[16:24]  # from frame 15 to the frame after the head that it dissolves into, in even steps
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) <= 3
    assert seam == sorted(seam, reverse=True)
    assert values[24:32] == list(range(108, 116))
    assert values[32:40] == seam
    assert values[24:40] == values[40:56]


def test_a_seam_rises_evenly_from_the_clips_tail_to_its_head() -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=30, closes_on_itself=False), CUT)
    # Eight frames of the tail, 122 to 129, into the head, 100 to 107, in ninths.
    seam = [round((122 + i) + (100 - 122) * (i + 1) / 9) for i in range(8)]
    later = [*range(108, 122), *seam]
    assert harness.shown_values(22 + 8 + 22 + 22) == [*range(100, 122), *seam, *later, *later]


def test_hold_keeps_the_last_frame() -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=3, after="hold"), CUT)
    assert harness.shown_values(6) == [100, 101, 102, 102, 102, 102]


@pytest.mark.parametrize("after", ["loop", "hold"])
@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_clip_of_very_few_frames_plays(num_frames: int, closes: bool, after: str) -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=num_frames, closes_on_itself=closes, after=after), CUT)
    assert set(harness.shown_values(10)) <= set(range(100, 100 + num_frames))


def test_a_clip_without_frames_is_refused_and_nothing_changes() -> None:
    stage = Stage(FRAME_RATE)
    with pytest.raises(ValueError, match="expected frames"):
        stage.take(clip(num_frames=0), CUT)
    assert stage.on_air == IDLE


def test_a_gap_in_the_program_is_a_gap_in_the_clip() -> None:
    stage = Stage(FRAME_RATE)
    stage.take(clip(num_frames=25), CUT)
    stage.picture(3)
    assert pixel(only(stage.picture(9))) == 106


def test_the_programs_first_frame_is_number_0() -> None:
    with pytest.raises(ValueError, match="above -1, got -1"):
        Stage(FRAME_RATE).picture(-1)


def test_the_program_never_goes_back() -> None:
    stage = Stage(FRAME_RATE)
    stage.picture(5)
    with pytest.raises(ValueError, match="above 5"):
        stage.picture(5)


# --- crossfades ---------------------------------------------------------------------------------------------------


def test_a_crossfade_rises_evenly_from_the_first_frame_to_full() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip(), FADE)
    weights = [weight_of_new(harness.next()) for _ in range(13)]
    steps = [b - a for a, b in zip([0, *weights], weights, strict=False)]
    assert weights[0] > 0
    assert weights[-1] == FULL_WEIGHT
    assert max(steps) - min(steps) <= 1


def test_a_new_clip_stays_full_when_frames_after_its_crossfade_are_skipped() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip(), FADE)
    harness.next()
    assert pixel(only(harness.stage.picture(100))) >= 100, "frames of the new clip have 100 to 124"


@pytest.mark.parametrize("duration_s", [0.0, 0.02])
def test_a_crossfade_shorter_than_half_a_frame_is_a_cut(duration_s: float) -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip(), Transition("crossfade", duration_s))
    picture = harness.next()
    assert pixel(only(picture)) == 100 and picture.is_cut


def test_both_sides_of_a_crossfade_keep_moving() -> None:
    harness = StageHarness()
    harness.stage.take(clip("a"), CUT)
    harness.next(5)
    harness.stage.take(clip("b"), FADE)
    numbers = [tuple(layer.frame_number for layer in harness.next().layers) for _ in range(3)]
    assert numbers == [(5, 0), (6, 1), (7, 2)]


def test_a_very_long_crossfade_shows_the_clip_from_its_first_frame() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip(), Transition("crossfade", 60.0))
    assert weight_of_new(harness.next()) == 1


def rendered(picture: Picture) -> float:
    """A picture's first pixel as the compositor would make it; the idle scene counts as 0."""
    return sum(layer.weight * _value(layer) for layer in picture.layers) / FULL_WEIGHT


def _value(layer: Layer) -> float:
    if isinstance(layer.source, Still):
        return sum(inner.weight * _value(inner) for inner in layer.source.layers) / FULL_WEIGHT
    return 0.0 if isinstance(layer.source, Scene) else pixel(layer)


def test_a_take_during_a_crossfade_does_not_jump() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip("a"), FADE)
    before = rendered(harness.next(7))
    harness.stage.take(clip("b"), FADE)
    values = [rendered(harness.next()) for _ in range(13)]
    jumps = [abs(b - a) for a, b in zip([before, *values], values, strict=False)]
    assert max(jumps) < 10  # of about 110; the dominant layer alone would jump by about 50
    assert harness.stage.on_air == (OnAir.CLIP, "b")


@pytest.mark.parametrize("num_between", [2, 9], ids=["early, the older is the stronger", "late, the newer is"])
def test_many_interrupted_crossfades_nest_to_a_bounded_depth(num_between: int) -> None:
    harness = StageHarness()
    depths: list[int] = []
    for number in range(30):
        harness.stage.take(clip(f"p{number}"), FADE)
        picture = harness.next(num_between)
        check(picture)
        depths += [layer.source.depth for layer in picture.layers if isinstance(layer.source, Still)]
    assert max(depths) == MAX_STILL_DEPTH


def test_the_last_of_two_commands_between_frames_counts() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip("a"), FADE)
    harness.stage.take(clip("b"), CUT)
    picture = harness.next()
    assert only(picture).frame_number == 0
    assert picture.first_shown == (FirstShown("b", "picture", None),)


# --- previews -----------------------------------------------------------------------------------------------------


def test_a_preview_fades_in_and_moves_smoothly_back_and_forth() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.show_preview("p1", frames(3), 0)
    harness.next(10)
    values = harness.shown_values(40)
    assert max(values) == 102
    assert min(values) == 100
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) <= 1


@pytest.mark.parametrize(
    ("frame_rate", "expected"),
    [(24, [0, 10, 20, 30, 40, 50, 60, 50, 40, 30, 20, 10, 0, 10]), (4, [0, 60, 0, 60])],
    ids=["with frames in between", "too slow for any"],
)
def test_a_preview_goes_from_frame_to_frame_in_a_quarter_of_a_second(frame_rate: int, expected: list[int]) -> None:
    harness = StageHarness()
    harness.stage = Stage(frame_rate)
    harness.stage.show_preview("p1", Frames(np.array([0, 60], np.uint8).repeat(12 * 14).reshape(2, 12, 14)), 0)
    assert harness.shown_values(len(expected)) == expected


def test_the_next_preview_of_a_prompt_goes_on_where_the_last_one_was() -> None:
    harness = StageHarness()
    harness.stage.show_preview("p1", frames(5), 0)
    before = harness.next(9).layers[-1].frame_number
    harness.stage.show_preview("p1", frames(5), 1)
    assert harness.next().layers[-1].frame_number == before + 1


def test_a_dropped_preview_gives_way_to_the_clip_that_ran_on_below_it() -> None:
    harness = StageHarness()
    harness.stage.take(clip("a", num_frames=100), CUT)
    harness.next(10)
    harness.stage.show_preview("b", frames(2), 0)
    harness.next(10)
    harness.stage.drop_preview("b")
    picture = harness.next(10)
    assert only(picture).frame_number == 29


def test_a_late_preview_of_the_clip_on_air_is_ignored() -> None:
    harness = StageHarness()
    harness.stage.take(clip("a"), CUT)
    harness.stage.show_preview("a", frames(2), 3)
    assert harness.stage.on_air == (OnAir.CLIP, "a")


def test_a_large_preview_steps_without_making_frames_in_between() -> None:
    harness = StageHarness()
    large = frames(4, height=480, width=832)
    harness.stage.show_preview("p1", large, 0)
    layer = only(harness.next(10))
    assert isinstance(layer.source, Footage)
    assert layer.source.frames is large
    assert layer.frame_number == 1


# --- first shown --------------------------------------------------------------------------------------------------


def test_a_receipt_is_due_in_the_first_frame_of_each_preview_and_of_the_clip() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.show_preview("p1", frames(2), 0)
    assert harness.next().first_shown == (FirstShown("p1", "preview", 0),)
    assert harness.next().first_shown == ()
    harness.stage.show_preview("p1", frames(2), 1)
    assert harness.next().first_shown == (FirstShown("p1", "preview", 1),)
    harness.stage.take(clip("p1"), FADE)
    assert harness.next().first_shown == (FirstShown("p1", "picture", None),)
    assert harness.next(30).first_shown == ()


def test_nothing_counts_as_shown_below_the_blank_until_it_is_seen() -> None:
    harness = StageHarness()
    harness.stage.blank()
    harness.next()
    harness.stage.show_preview("p1", frames(2), 0)
    assert harness.next().first_shown == ()
    harness.stage.take(clip("p1"), FADE)
    assert harness.next(5).first_shown == ()
    harness.stage.resume()
    picture = harness.next()
    assert picture.first_shown == (FirstShown("p1", "picture", None),)
    assert only(picture).frame_number == 5
    assert picture.is_cut


def test_a_take_in_the_moment_of_resuming_shows_both_sides_of_its_crossfade() -> None:
    harness = StageHarness()
    harness.stage.blank()
    harness.stage.take(clip("a"), CUT)
    harness.next(3)
    harness.stage.resume()
    harness.stage.take(clip("b"), FADE)
    assert harness.next().first_shown == (FirstShown("a", "picture", None), FirstShown("b", "picture", None))


def test_blank_is_black_at_once_even_in_mid_crossfade() -> None:
    harness = StageHarness()
    harness.next()
    harness.stage.take(clip(), FADE)
    harness.next(3)
    harness.stage.blank()
    picture = harness.next()
    assert only(picture) == Layer(Scene.BLANK, 0, FULL_WEIGHT)
    assert picture.is_cut


# --- random commands ----------------------------------------------------------------------------------------------


def check(picture: Picture) -> None:
    assert 1 <= len(picture.layers) <= 2
    assert sum(layer.weight for layer in picture.layers) == FULL_WEIGHT
    for layer in picture.layers:
        check_layer(layer)


def check_layer(layer: Layer) -> None:
    assert 0 < layer.weight <= FULL_WEIGHT and isinstance(layer.weight, int)
    assert isinstance(layer.source, Scene | Footage | Still)
    if isinstance(layer.source, Footage):
        assert 0 <= layer.frame_number < len(layer.source.frames)
    elif isinstance(layer.source, Still):
        assert layer.frame_number == 0
        assert sum(inner.weight for inner in layer.source.layers) == FULL_WEIGHT
        for inner in layer.source.layers:
            check_layer(inner)


def random_command(rng: random.Random, stage: Stage, serial: int) -> None:
    prompt_id = f"p{serial - rng.randrange(3)}"
    match rng.randrange(8):
        case 0 | 1 | 2:
            stage.show_preview(prompt_id, frames(rng.randint(1, 6)), step_index=serial)
        case 3:
            stage.drop_preview(prompt_id)
        case 4 | 5:
            options = {
                "num_frames": rng.randint(1, 40),
                "frame_rate": rng.choice([1, 8, 12, 24, 30, 60]),
                "closes_on_itself": rng.random() < 0.5,
                "after": rng.choice(["loop", "hold"]),
            }
            transition = rng.choice([CUT, FADE, Transition("crossfade", 0.0), Transition("crossfade", 3.0)])
            stage.take(clip(f"clip{serial}", **options), transition)  # type: ignore[arg-type]
        case 6:
            stage.blank()
        case 7:
            stage.resume()


@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(20))
def test_random_commands_give_whole_pictures_and_each_receipt_once(seed: int) -> None:
    rng = random.Random(seed)
    stage = Stage(rng.choice([5, 24, 30, 60]))
    shown: Counter[FirstShown] = Counter()
    frame_index = -1
    for serial in range(400):
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            random_command(rng, stage, serial)
        frame_index += rng.choice([1, 1, 1, 1, 2, 30])
        picture = stage.picture(frame_index)
        check(picture)
        shown.update(first for first in picture.first_shown if first.kind == "picture")
        state, prompt_id = stage.on_air
        if state is OnAir.CLIP:
            assert shown[FirstShown(prompt_id or "", "picture", None)] == 1
        if state is OnAir.BLANK:
            assert picture.first_shown == ()
    assert shown
    assert set(shown.values()) == {1}


# --- continued scenes ---------------------------------------------------------------------------------------------


def continued(index: int, **options: object) -> Clip:
    """Its first frame is the last of the clip before it, as with a model that starts from a frame."""
    made = clip(num_frames=5, after="continue", continuation=index, **options)
    made.frames.planes[:] = frames(5, 100 + 4 * index).planes
    return made


def test_a_clip_that_follows_in_time_goes_on_where_the_one_before_ends() -> None:
    harness = StageHarness()
    harness.stage.take(continued(0), CUT)
    assert harness.shown_values(2) == [100, 101]
    assert harness.stage.follow(continued(1))
    assert harness.shown_values(4) == [102, 103, 104, 105]
    assert harness.stage.follow(continued(2))
    assert harness.shown_values(6) == [106, 107, 108, 109, 110, 111]


def test_a_late_clip_follows_after_another_round_and_nothing_freezes() -> None:
    harness = StageHarness()
    harness.stage.take(continued(0), CUT)
    assert harness.shown_values(6) == [100, 101, 102, 103, 104, 101]
    assert harness.stage.follow(continued(1))
    pictures = [harness.next() for _ in range(5)]
    assert [pixel(only(picture)) for picture in pictures] == [102, 103, 104, 105, 106]
    assert pictures[3].first_shown == (FirstShown("p1", "picture", None, continuation=1, num_rounds=2),)
    assert not any(picture.is_cut for picture in pictures)


@pytest.mark.parametrize("num_before", range(1, 40))
def test_an_open_loop_is_joined_at_its_last_frame_whenever_a_clip_comes(num_before: int) -> None:
    harness = StageHarness()
    first = clip(num_frames=24, closes_on_itself=False, after="continue")
    harness.stage.take(first, CUT)
    shown = [harness.next() for _ in range(num_before)]
    following = clip(num_frames=24, closes_on_itself=False, after="continue", continuation=1)
    following.frames.planes[:] = frames(24, 123).planes
    assert harness.stage.follow(following)
    shown += [harness.next() for _ in range(40)]
    values = [pixel(only(picture)) for picture in shown]
    join = next(i for i, picture in enumerate(shown) if any(first.continuation for first in picture.first_shown))
    # The last round's body and tail are whole: no frame of them is mixed or left out.
    assert values[join - 16 : join + 1] == list(range(108, 125))
    assert not any(picture.is_cut for picture in shown[1:])
    # The seam has mixed pictures between tail and head: no step is longer than the seam's own.
    assert max(abs(b - a) for a, b in itertools.pairwise(values)) <= 4


@pytest.mark.parametrize(("program_rate", "clip_rate"), [(24, 12), (24, 24), (30, 24), (25, 16), (12, 24)])
def test_the_time_to_the_join_is_the_deadline_to_follow(program_rate: int, clip_rate: int) -> None:
    for late in (False, True):
        harness = StageHarness()
        harness.stage = Stage(program_rate)
        harness.stage.take(continued(0, frame_rate=clip_rate), CUT)
        harness.next(2)
        due = harness.index + round(harness.stage.seconds_to_join() * program_rate)
        harness.next(due - 1 - harness.index + late)
        harness.stage.follow(continued(1, frame_rate=clip_rate))
        is_joined = any(first.continuation for first in harness.next(1 - late).first_shown) if not late else False
        assert is_joined is not late


@pytest.mark.parametrize("num_shown", range(3, 8))
def test_a_clip_of_two_frames_may_be_joined_at_every_frame(num_shown: int) -> None:
    harness = StageHarness()
    harness.stage.take(clip(num_frames=2, after="continue"), CUT)
    harness.next(num_shown)
    assert harness.stage.seconds_to_join() == 1 / FRAME_RATE


def test_without_a_shown_clip_the_time_to_the_join_is_the_least_asked() -> None:
    harness = StageHarness()
    for command in (
        lambda: None,
        lambda: harness.stage.show_preview("p1", frames(2), 0),
        lambda: harness.stage.drop_preview("p1"),
    ):
        command()
        harness.next(10)
        assert (harness.stage.seconds_to_join(), harness.stage.seconds_to_join(2.5)) == (0.0, 2.5)
    harness.stage.take(clip(after="continue"), CUT)
    assert harness.stage.seconds_to_join(2.5) == 2.5  # no frame of it was seen yet


def test_a_clip_follows_below_a_preview_and_while_it_fades_out() -> None:
    harness = StageHarness()
    harness.stage.take(continued(0), CUT)
    harness.next(3)
    harness.stage.follow(continued(1))
    harness.stage.show_preview("p2", frames(1, 7), 0)
    mixed = [harness.next() for _ in range(4)]
    assert [pixel(picture.layers[0]) for picture in mixed] == [103, 104, 105, 106]
    assert mixed[2].first_shown == (FirstShown("p1", "picture", None, continuation=1),)


def test_a_clip_follows_its_own_scene_only() -> None:
    harness = StageHarness()
    assert not harness.stage.follow(continued(1))
    harness.stage.take(clip("other"), CUT)
    harness.next()
    assert not harness.stage.follow(continued(1))
    harness.stage.take(continued(0), CUT)
    assert not harness.stage.follow(continued(1))  # no frame of it was seen yet


def test_layers_show_what_runs_below_a_blank() -> None:
    harness = StageHarness()
    assert harness.stage.layers[0].source is Scene.IDLE
    harness.stage.take(clip(), CUT)
    harness.next(3)
    harness.stage.blank()
    harness.next()
    assert pixel(harness.stage.layers[0]) == 103


def test_a_morph_never_steps_further_than_the_loop_itself_does() -> None:
    """A scene that drifts by 2 levels a frame; the clip starts from what was on air 24 frames before its take."""
    steps = {}
    for kind in ("cut", "morph"):
        harness = StageHarness()
        running, morphed = clip(num_frames=49, after="hold"), clip("p2", num_frames=49)
        running.frames.planes[:] = 60 + 2 * np.arange(49, dtype=np.uint8)[:, None, None]
        harness.stage.take(running, CUT)
        on_air = pixel(harness.next(10).layers[0])
        morphed.frames.planes[:] = on_air + 2 * np.arange(49, dtype=np.uint8)[:, None, None]
        harness.next(24)
        harness.stage.take(morphed, Transition(kind, 0.5))
        shown = [sum(pixel(layer) * layer.weight for layer in harness.next().layers) / FULL_WEIGHT for _ in range(25)]
        steps[kind] = max(abs(b - a) for a, b in itertools.pairwise([on_air + 48, *shown]))
    assert steps["cut"] > 40
    assert steps["morph"] < 6

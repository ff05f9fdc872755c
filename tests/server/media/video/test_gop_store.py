"""Kept GOPs: which frames are replayed or encoded, and that a decoder never misses a reference."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable

import pytest

from server.media.video.encoder import EncodedFrame
from server.media.video.gop_store import GopStore
from tests.seeds import seeds

GOP = 6


class Line:
    """An encoder and a decoder around a store: each frame is a keyframe, or refers to the one encoded before it."""

    def __init__(self, **options: int) -> None:
        self.store = GopStore(GOP, **options)
        self.num_encoded = self.num_kept = 0
        self.sent: list[EncodedFrame] = []
        self._encoded_last = -1
        self._reference: dict[int, int] = {}  # of an encoded frame: the frame before it
        self._frame_index = -1

    def show(self, identity: Hashable | None, *, wants_keyframe: bool = False) -> EncodedFrame:
        self._frame_index += 1
        frame = self.store.replay(identity, wants_keyframe=wants_keyframe)
        if frame is None:
            self.num_encoded += 1
            is_keyframe = wants_keyframe or self.store.next_is_keyframe
            frame = EncodedFrame(bytes(10), (), self._frame_index, self._frame_index, is_keyframe)
            self._reference[self._frame_index] = self._encoded_last
            self._encoded_last = self._frame_index
            self.store.record(identity, frame)
        else:
            self.num_kept += 1
        self.sent.append(frame)
        return frame

    def play(self, identities: Iterable[Hashable | None]) -> int:
        """Shows these pictures; returns how many of them had to be encoded."""
        before = self.num_encoded
        for identity in identities:
            self.show(identity)
        return self.num_encoded - before

    def can_be_decoded(self) -> bool:
        before: EncodedFrame | None = None
        for frame in self.sent:
            if not frame.is_keyframe and (before is None or self._reference[frame.frame_index] != before.frame_index):
                return False
            before = frame
        return self.sent[0].is_keyframe


def test_the_second_round_of_a_loop_costs_no_encoding() -> None:
    line = Line()
    assert line.play(range(12)) == 12
    assert line.play(range(12)) == 0
    assert line.play(range(12)) == 0
    assert [frame.is_keyframe for frame in line.sent[24:]] == [k % GOP == 0 for k in range(12)]
    assert line.can_be_decoded()


def test_a_still_picture_costs_one_gop() -> None:
    line = Line()
    assert line.play(["still"] * 60) == GOP
    assert line.can_be_decoded()


def test_a_loop_that_is_no_multiple_of_a_gop_is_free_after_some_rounds() -> None:
    line = Line()
    round_of_nine = list(range(9))
    line.play(round_of_nine * 2)
    assert line.play(round_of_nine * 4) == 0
    assert line.can_be_decoded()


def test_a_loop_is_replayed_even_if_its_first_round_has_one_more_frame() -> None:
    line = Line()
    line.play([0, *range(1, 13)])
    line.play(range(1, 13))
    assert line.play([*range(1, 13)] * 3) == 0
    assert line.can_be_decoded()


def test_a_caption_costs_its_own_frames_and_those_up_to_the_next_kept_gop() -> None:
    line = Line()
    line.play(list(range(12)) * 2)
    touched = [0, 1, ("caption", 2), ("caption", 3), 4, 5, *range(6, 12)]
    encoded = line.play(touched)
    assert 2 <= encoded <= GOP + 2
    line.play(list(range(12)) * 2)
    assert line.play(range(12)) == 0
    assert line.can_be_decoded()


def test_a_take_ends_the_replay_at_once_with_a_keyframe() -> None:
    line = Line()
    line.play(list(range(12)) * 2)
    line.play(range(3))
    taken = line.show("other", wants_keyframe=True)
    assert taken.is_keyframe
    assert taken.frame_index == len(line.sent) - 1
    assert line.can_be_decoded()


def test_a_clip_that_comes_back_is_replayed() -> None:
    line = Line()
    clip = [("a", k) for k in range(12)]
    line.play(clip)
    line.play([("b", k) for k in range(12)])
    line.show(clip[0], wants_keyframe=True)
    assert line.play(clip[1:]) == 0
    assert line.can_be_decoded()


def test_unique_pictures_are_always_encoded() -> None:
    line = Line()
    assert line.play([None] * 30) == 30
    assert [k for k, frame in enumerate(line.sent) if frame.is_keyframe] == [0, 6, 12, 18, 24]


def test_a_keyframe_request_in_mid_gop_gets_a_new_keyframe() -> None:
    line = Line()
    line.play(list(range(12)) * 2)
    line.play(range(3))
    assert line.show(3, wants_keyframe=True).is_keyframe
    line.play(range(4, 12))
    line.play(list(range(12)) * 3)
    assert line.play(range(12)) == 0
    assert line.can_be_decoded()


def test_after_a_frame_was_left_out_nothing_refers_to_it() -> None:
    line = Line()
    line.play(list(range(12)) * 2)
    line.play(range(2))
    line.store.skip()
    assert line.show(3).is_keyframe


def test_kept_gops_are_bounded_and_the_oldest_are_dropped_first() -> None:
    line = Line(max_bytes=4 * GOP * 10)
    line.play(range(20 * GOP))
    assert line.store.kept_bytes <= 4 * GOP * 10
    assert line.play(range(16 * GOP, 19 * GOP)) <= GOP
    assert line.can_be_decoded()


@pytest.mark.random
def test_a_decoder_can_follow_random_commands() -> None:
    for seed in seeds(200):
        chance = random.Random(seed)
        line = Line(max_bytes=chance.choice([100, 300, 10_000]))
        clips = [[(name, k) for k in range(chance.randint(1, 15))] for name in "abc"]
        for _ in range(25):
            clip = chance.choice(clips)
            match chance.randrange(5):
                case 0:
                    line.show(clip[0], wants_keyframe=True)
                case 1:
                    line.play([None] * chance.randint(1, 8))
                case 2:
                    line.store.interrupt()
                case _:
                    line.play(clip[chance.randrange(len(clip)) :] + clip * chance.randint(0, 3))
        assert line.can_be_decoded(), f"seed {seed}"

"""A prompt's state table: every (state, event) pair either moves as the table says, or raises and changes nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fakes import frames

from engine.api import Frames, FramesReady, Quality
from server.session.prompt import ENDS, NEXT_STATE, Assembly, IllegalMove, Prompt, PromptEvent, PromptState
from server.session.session import NEXT_SESSION_STATE, IllegalSessionMove, SessionMove, SessionState
from server.stage.picture import Transition


def prompt(state: PromptState = PromptState.RECEIVED) -> Prompt:
    return Prompt("p1", "sea", Quality.FAST, 1, Transition("cut", 0.0), "loop", received_at=0.0, state=state)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(PromptState, PromptEvent)))
def test_every_state_and_event_of_a_prompt_follows_the_table(state: PromptState, event: PromptEvent) -> None:
    moved = prompt(state)
    if (state, event) in NEXT_STATE:
        moved.move(event)
        assert moved.state is NEXT_STATE[state, event]
    else:
        with pytest.raises(IllegalMove):
            moved.move(event)
        assert moved.state is state


def test_nothing_leaves_an_end_and_every_other_state_can_end() -> None:
    assert not [state for state, _ in NEXT_STATE if state in ENDS]
    can_end = set(ENDS)
    for _ in PromptState:
        can_end |= {state for (state, _), after in NEXT_STATE.items() if after in can_end}
    assert can_end == set(PromptState)


def test_a_clip_is_its_chunks_in_order() -> None:
    assembly = Assembly()
    for first_index, num_frames in [(0, 1), (1, 3)]:
        chunk = frames(num_frames)
        chunk.planes[:] = first_index + np.arange(num_frames, dtype=np.uint8)[:, None, None]
        assembly.add(FramesReady("g", first_index, chunk), 4)
    assert [int(plane[0, 0]) for plane in assembly.finished(4).planes] == [0, 1, 2, 3]
    assert len(assembly) == 0


def test_a_clip_in_one_piece_is_not_copied() -> None:
    assembly, whole = Assembly(), frames(4)
    assembly.add(FramesReady("g", 0, whole), 4)
    assert np.shares_memory(assembly.finished(4).planes, whole.planes)


def test_frames_of_another_size_are_refused() -> None:
    assembly = Assembly()
    assembly.add(FramesReady("g", 0, frames(1)), 4)
    with pytest.raises(ValueError, match="expected frames of"):
        assembly.add(FramesReady("g", 1, Frames(np.zeros((1, 6, 4), np.uint8))), 4)


@pytest.mark.parametrize(
    "chunks",
    [[], [(0, 1)], [(1, 3), (0, 1)], [(0, 1), (2, 3)], [(0, 5)]],
    ids=["none", "cut short", "out of order", "one missing", "one too many"],
)
def test_a_clip_with_the_wrong_frames_is_refused(chunks: list[tuple[int, int]]) -> None:
    assembly = Assembly()
    with pytest.raises(ValueError, match="expected"):
        for first_index, num_frames in chunks:
            assembly.add(FramesReady("g", first_index, frames(num_frames)), 4)
        assembly.finished(4)


@pytest.mark.parametrize(("state", "move"), list(itertools.product(SessionState, SessionMove)))
def test_every_state_and_move_of_a_session_follows_the_table(harness, state: SessionState, move: SessionMove) -> None:
    session = harness.session
    session.state = state
    if (state, move) in NEXT_SESSION_STATE:
        session._move(move)
        assert session.state is NEXT_SESSION_STATE[state, move]
    else:
        with pytest.raises(IllegalSessionMove):
            session._move(move)
        assert session.state is state

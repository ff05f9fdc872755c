"""A prompt's state table: every (state, event) pair either moves as the table says, or raises and changes nothing."""

from __future__ import annotations

import itertools

import pytest
from fakes import frames

from engine.api import FramesReady, Quality
from server.prompt import ENDS, NEXT_STATE, IllegalMove, Prompt, PromptEvent, PromptState, assembled
from server.session import NEXT_SESSION_STATE, IllegalSessionMove, SessionMove, SessionState
from server.stage import Transition


def prompt(state: PromptState = PromptState.RECEIVED) -> Prompt:
    return Prompt("p1", "sea", Quality.FAST, 1, Transition("cut", 0.0), "loop", received_at=0.0, state=state)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(PromptState, PromptEvent)))
def test_every_pair(state: PromptState, event: PromptEvent) -> None:
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
    assert len(assembled([FramesReady("g", 0, frames(1)), FramesReady("g", 1, frames(3))], 4)) == 4


@pytest.mark.parametrize(
    "chunks",
    [[], [(0, 1)], [(1, 3), (0, 1)], [(0, 1), (2, 3)], [(0, 5)]],
    ids=["none", "cut short", "out of order", "one missing", "one too many"],
)
def test_a_clip_with_the_wrong_frames_is_refused(chunks: list[tuple[int, int]]) -> None:
    broken = [FramesReady("g", first_index, frames(num_frames)) for first_index, num_frames in chunks]
    with pytest.raises(ValueError, match="expected"):
        assembled(broken, 4)


@pytest.mark.parametrize(("state", "move"), list(itertools.product(SessionState, SessionMove)))
def test_every_pair_of_the_session(house, state: SessionState, move: SessionMove) -> None:
    session = house.session
    session.state = state
    if (state, move) in NEXT_SESSION_STATE:
        session._move(move)
        assert session.state is NEXT_SESSION_STATE[state, move]
    else:
        with pytest.raises(IllegalSessionMove):
            session._move(move)
        assert session.state is state

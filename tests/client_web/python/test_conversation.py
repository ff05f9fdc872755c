"""The Python SDK's side of the protocol, without a network: requests, retries, failures and events."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from sceneshift import Refused, SceneshiftError, SessionLost, State
from sceneshift.conversation import LONGEST_DELAY_S, MAX_UNANSWERED, NEXT, Conversation
from sceneshift.decoding import type_of
from sceneshift.protocol.messages import ServerMessage


class Handle:
    """A prompt's listener that keeps what it gets."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.error: SceneshiftError | None = None

    def hear(self, event: ServerMessage) -> None:
        self.heard.append(type_of(event))

    def fail(self, error: SceneshiftError) -> None:
        self.error = error


class Bench:
    """A conversation with a scripted server."""

    def __init__(self, **options: Any) -> None:
        self.heard: list[ServerMessage] = []
        self.answers: list[ServerMessage | SceneshiftError] = []
        self.talk = Conversation(options, self.heard.append)
        self.seq = itertools.count()

    def connect(self) -> dict[str, Any]:
        """Opens a connection; returns the first message."""
        self.talk.connecting()
        self.talk.connected()
        return self.said()

    def start(self, session_id: str = "s1") -> None:
        self.created(self.connect(), session_id)

    def created(self, opening: dict[str, Any], session_id: str = "s1", seq: int | None = None) -> None:
        options = {"width": 832}
        self.hear(
            "session.created", seq=seq, session_id=session_id, event_id=opening["event_id"], resume_token="secret",
            options=options, model=None, engine="ready",
        )  # fmt: skip

    def said(self) -> dict[str, Any]:
        (message,) = self.said_all()
        return message

    def said_all(self) -> list[dict[str, Any]]:
        messages = [json.loads(text) for text in self.talk.outgoing]
        self.talk.outgoing.clear()
        return messages

    def hear(self, kind: str, *, seq: int | None = None, **fields: Any) -> bool:
        number = next(self.seq) if seq is None else seq
        return self.talk.received(json.dumps({"type": kind, "seq": number, "ts": 0.0, **fields}))

    def refuse(self, code: str, *, event_id: str | None = None, seq: int = -1, **more: Any) -> bool:
        error = {"type": "server", "code": code, "message": "no", "event_id": event_id, **more}
        return self.hear("error", seq=seq, error=error)

    def ask(self, kind: str, **fields: Any) -> None:
        self.talk.ask(kind, fields, self.answers.append)

    def prompt(self, prompt_id: str) -> Handle:
        handle = Handle()
        fields = {"text": "sea", "prompt_id": prompt_id}
        self.talk.ask("prompt.set", fields, lambda answer: None, prompt=handle)
        return handle

    def accept(self, asked: dict[str, Any], seq: int | None = None) -> None:
        self.hear(
            "prompt.accepted", seq=seq, event_id=asked["event_id"], prompt_id=asked["prompt_id"], seed=1,
            quality="fast", estimated_preview_ms=None, estimated_picture_ms=None,
        )  # fmt: skip


@pytest.fixture
def bench() -> Bench:
    return Bench(quality="fine")


def test_a_session_starts_with_its_options(bench: Bench) -> None:
    opening = bench.connect()
    assert (opening["type"], opening["quality"]) == ("session.start", "fine")
    bench.created(opening)
    assert bench.talk.state is State.LIVE
    assert [type_of(event) for event in bench.heard] == ["session.created"]


def test_after_a_cut_the_session_resumes_and_resends_unanswered_requests(bench: Bench) -> None:
    bench.start()
    bench.prompt("p1")
    bench.accept(bench.said())
    bench.prompt("p2")
    unanswered = bench.said()
    bench.talk.lost()
    opening = bench.connect()
    assert opening["type"] == "session.resume"
    assert (opening["session_id"], opening["resume_token"], opening["last_seq"]) == ("s1", "secret", 1)
    bench.created(opening)
    assert bench.said_all() == [unanswered]


def test_requests_made_without_a_connection_are_sent_when_it_is_back(bench: Bench) -> None:
    bench.start()
    bench.talk.lost()
    bench.ask("program.take")
    assert not bench.talk.outgoing
    bench.created(bench.connect())
    assert bench.said()["type"] == "program.take"


def test_a_repeated_answer_is_delivered_and_heard_once(bench: Bench) -> None:
    bench.start()
    bench.ask("program.blank")
    event_id = bench.said()["event_id"]
    bench.hear("program.changed", on_air="blank", seq=5)
    bench.hear("program.changed", on_air="blank", seq=5, event_id=event_id)
    assert len(bench.answers) == 1
    assert [type_of(event) for event in bench.heard] == ["session.created", "program.changed"]


def test_a_server_that_forgot_the_session_gets_a_new_one_and_open_prompts(bench: Bench) -> None:
    bench.start()
    accepted = bench.prompt("p1")
    bench.accept(bench.said())
    bench.ask("program.take")
    waiting = bench.prompt("p2")
    bench.talk.lost()
    bench.connect()
    assert bench.refuse("unknown_session")
    opening = bench.said()
    assert opening["type"] == "session.start"
    bench.created(opening, session_id="s2", seq=0)
    assert isinstance(accepted.error, SessionLost) and isinstance(bench.answers[0], SessionLost)
    assert waiting.error is None
    repeated = bench.said()
    assert repeated["prompt_id"] == "p2"
    bench.accept(repeated, seq=1)  # the numbers are those of the new session
    assert waiting.heard == ["prompt.accepted"]


def test_a_session_that_the_server_ended_is_followed_by_another(bench: Bench) -> None:
    bench.start()
    assert not bench.hear("session.closed", reason="server_shutdown", usage={})
    bench.talk.lost(1001)
    assert bench.talk.state is State.WAITING
    assert bench.connect()["type"] == "session.start"


def test_a_session_whose_time_was_up_is_followed_by_none(bench: Bench) -> None:
    bench.start()
    assert not bench.hear("session.closed", reason="time_up", usage={})
    bench.talk.lost(1000)
    assert bench.talk.state is State.REFUSED
    assert isinstance(bench.talk.trouble, SessionLost)


@pytest.mark.parametrize(
    ("reason", "code"), [("unauthorized", "unauthorized"), ("", "unauthorized"), ("rate_limited", "rate_limited")]
)
def test_a_refused_connection_says_why_and_is_not_tried_again(bench: Bench, reason: str, code: str) -> None:
    bench.start()
    bench.talk.lost(1008, reason)
    assert bench.talk.state is State.REFUSED
    assert isinstance(bench.talk.trouble, Refused) and bench.talk.trouble.code == code


def test_prompts_whose_events_are_lost_in_a_gap_fail(bench: Bench) -> None:
    bench.start()
    handles = [bench.prompt(name) for name in ("p1", "p2")]
    for asked in bench.said_all():
        bench.accept(asked)
    bench.talk.lost()
    bench.connect()
    bench.refuse("resume_gap")
    opening = bench.said()
    assert opening["last_seq"] == -1
    bench.hear("prompt.ready", seq=400, prompt_id="p2")
    bench.created(opening, seq=401)
    assert isinstance(handles[0].error, SessionLost)
    assert handles[1].error is None and handles[1].heard[-1] == "prompt.ready"


def test_the_next_session_starts_with_changed_options(bench: Bench) -> None:
    bench.start()
    bench.talk.remember({"quality": "fast"})
    bench.hear("session.closed", reason="internal_error", usage={})
    bench.talk.lost()
    assert bench.connect()["quality"] == "fast"


def test_a_refused_prompt_gets_code_and_field(bench: Bench) -> None:
    bench.start()
    handle = bench.prompt("p1")
    bench.refuse("prompt_empty", event_id=bench.said()["event_id"], seq=1, param="text")
    assert isinstance(handle.error, Refused)
    assert (handle.error.code, handle.error.param, handle.error.retryable) == ("prompt_empty", "text", False)


def test_a_full_server_is_asked_again_after_its_retry_time(bench: Bench) -> None:
    bench.connect()
    assert not bench.refuse("server_full", retryable=True, retry_after_ms=1500)
    bench.talk.lost()
    assert bench.talk.state is State.WAITING
    assert bench.talk.next_delay_s(0.0) == 1.5


def test_a_place_in_the_queue_is_an_event(bench: Bench) -> None:
    opening = bench.connect()
    bench.hear("session.queued", seq=-1, position=2, estimated_wait_ms=None)
    assert bench.talk.state is State.QUEUED
    bench.created(opening)
    assert [type_of(event) for event in bench.heard] == ["session.queued", "session.created"]


@pytest.mark.parametrize("close_code, state", [(1006, State.WAITING), (1008, State.REFUSED)])
def test_a_wrong_token_is_not_tried_again(bench: Bench, close_code: int, state: State) -> None:
    bench.connect()
    bench.talk.lost(close_code)
    assert bench.talk.state is state


def test_retry_delays_grow_to_a_bound_and_start_again(bench: Bench) -> None:
    longest = [bench.talk.next_delay_s(1.0) for _ in range(8)]
    assert longest[:3] == [0.25, 0.5, 1.0]
    assert longest[-1] == LONGEST_DELAY_S
    assert bench.talk.next_delay_s(0.0) == 0.0
    bench.start()
    assert bench.talk.next_delay_s(1.0) == 0.25


def test_too_many_unanswered_requests_are_refused(bench: Bench) -> None:
    for _ in range(MAX_UNANSWERED):
        bench.ask("session.ping")
    with pytest.raises(Refused, match="too_many_unanswered"):
        bench.ask("session.ping")


def test_the_end_fails_waiting_requests_and_refuses_new_ones(bench: Bench) -> None:
    bench.start()
    bench.ask("program.take")
    bench.said()
    bench.talk.close()
    assert bench.said()["type"] == "session.close"
    bench.hear("session.closed", reason="client", usage={})
    bench.talk.abandon(SessionLost("closed"))
    assert bench.talk.is_over and isinstance(bench.answers[0], SessionLost)
    with pytest.raises(SessionLost):
        bench.ask("program.take")


@pytest.mark.parametrize("state, next_state", list(itertools.product(State, State)))
def test_only_moves_of_the_table_are_allowed(bench: Bench, state: State, next_state: State) -> None:
    bench.talk.state = state
    if next_state in NEXT[state]:
        bench.talk._enter(next_state)
        assert bench.talk.state is next_state
    else:
        with pytest.raises(RuntimeError, match="not a move"):
            bench.talk._enter(next_state)
        assert bench.talk.state is state

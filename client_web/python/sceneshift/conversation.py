"""The client's side of the protocol for one session, over any number of connections. Logic without I/O.

`session.py` is the shell: it says what happened to the connection (`connecting`, `connected`, `received`, `lost`) and
sends the texts in `outgoing`. After a cut, unanswered requests are sent again under their `event_id`, so that the
server applies each once. The browser's twin is `client_web/sdk/connection.js`: the same states and moves.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from sceneshift.decoding import decode
from sceneshift.errors import Refused, SceneshiftError, SessionLost
from sceneshift.protocol.codes import ErrorDetail
from sceneshift.protocol.messages import Error, ServerMessage, SessionClosed, SessionCreated, SessionQueued

# Full jitter (Brooker, "Exponential backoff and jitter"): many bots that lose one server must not return at once.
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0
# The server remembers the last 256 ids of a session: a repeated request must be among them.
MAX_UNANSWERED = 64
# RFC 6455, 7.4.1: a policy violation. The reason is an error code: of a wrong token, or of far too many messages.
POLICY_VIOLATION = 1008


class State(StrEnum):
    """The state of the connection, with the names of `ConnectionState` in the browser."""

    CLOSED = "closed"  # not opened, or closed on purpose
    CONNECTING = "connecting"  # the socket opens
    STARTING = "starting"  # session.start is on its way
    QUEUED = "queued"  # the server has no room yet; session.created comes when it has
    RESUMING = "resuming"  # session.resume is on its way
    LIVE = "live"  # there is a session
    WAITING = "waiting"  # the socket is lost; the next attempt is timed
    REFUSED = "refused"  # the server refuses us, and asking again would not help


NEXT: dict[State, frozenset[State]] = {
    State.CLOSED: frozenset({State.CONNECTING}),
    State.CONNECTING: frozenset({State.STARTING, State.RESUMING, State.WAITING, State.REFUSED, State.CLOSED}),
    State.STARTING: frozenset({State.LIVE, State.QUEUED, State.WAITING, State.REFUSED, State.CLOSED}),
    State.QUEUED: frozenset({State.LIVE, State.WAITING, State.REFUSED, State.CLOSED}),
    State.RESUMING: frozenset({State.LIVE, State.STARTING, State.WAITING, State.REFUSED, State.CLOSED}),
    State.LIVE: frozenset({State.WAITING, State.REFUSED, State.CLOSED}),
    State.WAITING: frozenset({State.CONNECTING, State.CLOSED}),
    State.REFUSED: frozenset({State.CLOSED}),
}


class Listener(Protocol):
    """What gets the events of one prompt: `prompt.Prompt`. Both methods may be called twice."""

    def hear(self, event: ServerMessage) -> None: ...

    def fail(self, error: SceneshiftError) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A message that was sent and not answered yet."""

    text: str
    answer: Callable[[ServerMessage | SceneshiftError], None]
    prompt_id: str | None  # an unacknowledged prompt outlives its session, and is sent to the next one


def new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(8)


class Conversation:
    """The protocol state of one session. `hear` gets every event once, in order."""

    def __init__(self, options: Mapping[str, Any], hear: Callable[[ServerMessage], None]) -> None:
        self._options = dict(options)
        self._hear = hear
        self.state = State.CLOSED
        self.outgoing: deque[str] = deque()
        self.created: SessionCreated | None = None
        self.trouble: SceneshiftError | None = None  # why the last attempt failed
        self._session: tuple[str, str] | None = None  # id and resume token
        self._last_seq = -1
        self._opening_id = ""
        self._has_gap = False
        self._heard_since_gap: set[str] = set()
        self._is_closing = False
        self._num_attempts = 0
        self._retry_after_s = 0.0
        self._requests: dict[str, Request] = {}
        self._prompts: dict[str, Listener] = {}

    @property
    def is_over(self) -> bool:
        return self.state is State.REFUSED or (self.state is State.CLOSED and self._is_closing)

    # --- from the program -----------------------------------------------------------------------------------------

    def ask(
        self,
        kind: str,
        fields: Mapping[str, Any],
        answer: Callable[[ServerMessage | SceneshiftError], None],
        *,
        prompt: Listener | None = None,
    ) -> None:
        """Sends the message now, or when there is a connection again.

        Raises `Refused` if too many wait, and `SessionLost` when the session has ended.
        """
        if self.is_over or self._is_closing:
            raise SessionLost("the session is closed")
        if len(self._requests) >= MAX_UNANSWERED:
            reason = f"{MAX_UNANSWERED} messages wait for an answer already"
            raise Refused("too_many_unanswered", reason, retryable=True)
        event_id = new_id("e-")
        text = _encode({"type": kind, "event_id": event_id, **fields})
        prompt_id = None
        if prompt is not None:
            prompt_id = str(fields["prompt_id"])
            if prompt_id in self._prompts:
                raise Refused("prompt_id_taken", f"the prompt {prompt_id} is under way", param="prompt_id")
            self._prompts[prompt_id] = prompt
        self._requests[event_id] = Request(text, answer, prompt_id)
        if self.state is State.LIVE:
            self.outgoing.append(text)

    def remember(self, options: Mapping[str, Any]) -> None:
        """Keeps changed options, so that a new session starts with them."""
        self._options.update(options)

    def close(self) -> None:
        """Closes, and ends the session if there is a connection; the answer is `session.closed`."""
        if self.is_over or self._is_closing:
            return
        self._is_closing = True
        if self.state is State.LIVE:
            self.outgoing.append(_encode({"type": "session.close", "event_id": new_id("e-")}))
        elif self.state is not State.CLOSED:
            self._enter(State.CLOSED)

    def abandon(self, error: SceneshiftError) -> None:
        """Nothing more will come: requests and prompts that still wait get `error`."""
        requests, prompts = list(self._requests.values()), list(self._prompts.values())
        self._requests.clear()
        self._prompts.clear()
        for request in requests:
            request.answer(error)
        for prompt in prompts:
            prompt.fail(error)

    # --- from the connection --------------------------------------------------------------------------------------

    def connecting(self) -> None:
        self._enter(State.CONNECTING)

    def connected(self) -> None:
        """Sends the first message on a new connection."""
        if self._session is None:
            self._start()
        else:
            self._enter(State.RESUMING)
            self._resume(self._last_seq)

    def received(self, text: str | bytes) -> bool:
        """Takes one frame. False if the connection is no longer needed and may be closed."""
        event = decode(text)
        if event is None:
            return True
        is_new = self._is_new(event)
        if self.state is not State.LIVE:
            return self._received_before_live(event, is_new)
        self._deliver(event, is_new)
        return not isinstance(event, SessionClosed) or self._ended(event)

    def lost(self, close_code: int | None = None, close_reason: str | None = None) -> None:
        """The connection is gone, or could not be made."""
        self.outgoing.clear()
        if self.state in (State.CLOSED, State.REFUSED, State.WAITING):
            return
        if self._is_closing:
            self._enter(State.CLOSED)
        elif close_code == POLICY_VIOLATION:
            code = close_reason or "unauthorized"
            known = {"unauthorized": "the access token is missing or wrong; `sceneshift url` prints the right one"}
            self.refuse(Refused(code, known.get(code, "the server closed the connection for breaking a rule")))
        else:
            self._enter(State.WAITING)

    def refuse(self, error: SceneshiftError) -> None:
        """The server refuses us, and asking again would not help."""
        self.trouble = error
        self._enter(State.REFUSED)

    def next_delay_s(self, chance: float) -> float:
        """How long to wait before the next attempt; `chance` lies in [0, 1)."""
        longest_s: float = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self._num_attempts)
        delay_s = self._retry_after_s + chance * longest_s
        self._num_attempts = min(self._num_attempts + 1, 10)
        self._retry_after_s = 0.0
        return delay_s

    # --- opening --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._forget_session("the server no longer knows the session")
        self._enter(State.STARTING)
        self._opening_id = new_id("e-")
        start = {"type": "session.start", "event_id": self._opening_id, **self._options}
        self.outgoing.append(_encode(start))

    def _resume(self, last_seq: int) -> None:
        assert self._session is not None
        session_id, resume_token = self._session
        self._opening_id = new_id("e-")
        resume = {
            "type": "session.resume",
            "event_id": self._opening_id,
            "session_id": session_id,
            "resume_token": resume_token,
            "last_seq": last_seq,
        }
        self.outgoing.append(_encode(resume))

    def _received_before_live(self, event: ServerMessage, is_new: bool) -> bool:
        # A replay may hold the first `session.created`, and errors with numbers: neither answers our opening.
        if isinstance(event, SessionCreated) and event.event_id == self._opening_id:
            self._become_live(event)
        elif isinstance(event, Error) and event.seq < 0:
            return self._refused(event.error)
        elif isinstance(event, SessionClosed):
            self._deliver(event, is_new)
            return self._ended(event)
        else:
            if isinstance(event, SessionQueued) and self.state is State.STARTING:
                self._enter(State.QUEUED)
            self._deliver(event, is_new)
        return True

    def _become_live(self, created: SessionCreated) -> None:
        self._session = (str(created.session_id), created.resume_token)
        self._last_seq = max(self._last_seq, created.seq)
        self.created = created
        self.trouble = None
        self._num_attempts = 0
        self._enter(State.LIVE)
        if self._has_gap:
            self._give_up_what_fell_into_the_gap()
        self._hear(created)
        self.outgoing.extend(request.text for request in self._requests.values())

    def _refused(self, detail: ErrorDetail) -> bool:
        """The server refused our opening. False if the connection is no longer needed."""
        self.trouble = Refused.by(detail)
        if detail.retryable:
            self._retry_after_s = LONGEST_DELAY_S if detail.retry_after_ms is None else detail.retry_after_ms / 1000
            return False
        if self.state is not State.RESUMING:
            self._enter(State.REFUSED)
            return False
        if detail.code == "resume_gap":
            # We were away for longer than the server remembers: its remaining events are better than a new stage.
            self._has_gap = True
            self._heard_since_gap.clear()
            self._resume(-1)
        else:
            self._start()
        return True

    # --- events ---------------------------------------------------------------------------------------------------

    def _is_new(self, event: ServerMessage) -> bool:
        """Whether the event did not come before. A repeated answer keeps its old number."""
        if event.seq < 0:
            return True
        if event.seq <= self._last_seq:
            return False
        self._last_seq = event.seq
        return True

    def _deliver(self, event: ServerMessage, is_new: bool) -> None:
        error = event.error if isinstance(event, Error) else None
        event_id = error.event_id if error is not None else getattr(event, "event_id", None)
        request = self._requests.pop(event_id, None) if event_id is not None else None
        if request is not None:
            if error is not None and request.prompt_id is not None:
                self._prompts.pop(request.prompt_id).fail(Refused.by(error))
            request.answer(event if error is None else Refused.by(error))
        prompt_id = getattr(event, "prompt_id", None)
        if prompt_id in self._prompts:
            self._heard_since_gap.add(prompt_id)
            self._prompts[prompt_id].hear(event)
        if is_new:
            self._hear(event)

    def ended(self, prompt_id: str) -> None:
        """A prompt has ended: forgets it."""
        self._prompts.pop(prompt_id, None)

    def _ended(self, closed: SessionClosed) -> bool:
        """After `session.closed`. Always False: the connection is no longer needed."""
        self._session = None
        if self._is_closing:
            self._enter(State.CLOSED)
        elif closed.reason == "time_up":  # another stage would go round the limit
            self.refuse(SessionLost("the time of this stage is up"))
        return False

    def _forget_session(self, reason: str) -> None:
        """A new session comes. Fails what only the old one could answer: acknowledged prompts and other requests."""
        self._session = None
        self._last_seq = -1
        self._has_gap = False
        unacknowledged = {request.prompt_id for request in self._requests.values()} - {None}
        for event_id, request in list(self._requests.items()):
            if request.prompt_id is None:
                del self._requests[event_id]
                request.answer(SessionLost(reason))
        self._fail_prompts(set(self._prompts) - unacknowledged, reason)

    def _give_up_what_fell_into_the_gap(self) -> None:
        """Fails prompts without an event in the replay: their end may be among the lost events."""
        self._has_gap = False
        unacknowledged = {request.prompt_id for request in self._requests.values()}
        silent = set(self._prompts) - self._heard_since_gap - unacknowledged
        self._fail_prompts(silent, "the server no longer remembers what became of the prompt")

    def _fail_prompts(self, prompt_ids: set[str], reason: str) -> None:
        for prompt_id in prompt_ids:
            self._prompts.pop(prompt_id).fail(SessionLost(reason))

    def _enter(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise RuntimeError(f"connection: {self.state} → {state} is not a move")
        self.state = state


def _encode(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()

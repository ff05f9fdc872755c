"""Decides about the audience's wishes: cooldowns, approval, votes, and their turn. Pure; its caller has the clock.

A wish is asked for, perhaps approved by a moderator, perhaps voted for, and then waits for its turn on the stage. Each
method takes the time in seconds and returns the actions to do; `due_at` says when `tick` should be called.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from examples.stream_chat.lines import Approve, Blank, ChatLine, Reject, Resume, Scene, Vote, read

# How many users' last wishes are remembered, for the cooldown's length at most; the oldest is forgotten first.
MAX_USERS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Rules:
    user_cooldown_s: float = 30.0  # between two wishes of one user
    cooldown_s: float = 8.0  # between two scenes
    vote_s: float = 0.0  # how long the audience votes; 0: no votes, one wish after the other
    needs_approval: bool = False
    max_waiting: int = 20  # wishes that are neither on the stage nor gone; more are refused
    max_on_ballot: int = 5


class WishState(StrEnum):
    ASKED = "asked"  # waits for a moderator
    WAITING = "waiting"  # for the next ballot
    ON_BALLOT = "on_ballot"
    NEXT = "next"  # for its turn on the stage
    SENT = "sent"  # to the stage
    GONE = "gone"  # rejected, or outvoted


NEXT_STATES: dict[WishState, frozenset[WishState]] = {
    WishState.ASKED: frozenset({WishState.WAITING, WishState.NEXT, WishState.GONE}),
    WishState.WAITING: frozenset({WishState.ON_BALLOT, WishState.GONE}),
    WishState.ON_BALLOT: frozenset({WishState.NEXT, WishState.GONE}),
    WishState.NEXT: frozenset({WishState.SENT, WishState.GONE}),
    WishState.SENT: frozenset(),
    WishState.GONE: frozenset(),
}


@dataclass(slots=True)
class Wish:
    number: int
    user: str
    text: str
    state: WishState = WishState.ASKED

    def enter(self, state: WishState) -> None:
        if state not in NEXT_STATES[self.state]:
            raise RuntimeError(f"wish: {self.state} → {state} is not a move")
        self.state = state


@dataclass(frozen=True, slots=True)
class Put:
    """Put this wish on the stage."""

    number: int
    user: str
    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Say this in the chat."""

    text: str


@dataclass(frozen=True, slots=True)
class SetBlank:
    is_blank: bool


Action = Put | Say | SetBlank


@dataclass(slots=True)
class Ballot:
    closes_at: float
    wishes: list[Wish] = field(default_factory=list)
    votes: dict[str, int] = field(default_factory=dict)  # by user: the last one counts


class Show:
    """The wishes of one stage."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._wishes: dict[int, Wish] = {}
        self._num_wishes = 0
        self._asked_at: dict[str, float] = {}
        self._ballot: Ballot | None = None
        self._put_at: float | None = None

    # --- commands -------------------------------------------------------------------------------------------------

    def hear(self, line: ChatLine, now: float) -> list[Action]:
        """Takes a chat line. It has no effect if it is no command, or one that this user may not give."""
        command = read(line.text)
        match command:
            case None:
                return []
            case Scene(text):
                return self._ask(line, text, now)
            case Vote(number):
                return self._vote(line.user, number)
            case _ if not line.is_moderator:
                return []
            case Approve(number):
                return self.approve(number, now)
            case Reject(number):
                return self.reject(number)
            case Blank():
                return [SetBlank(True)]
            case Resume():
                return [SetBlank(False)]

    def approve(self, number: int, now: float) -> list[Action]:
        wish = self._wishes.get(number)
        if wish is None or wish.state is not WishState.ASKED:
            return [Say(f"#{number} does not wait for approval")]
        return self._admit(wish, now)

    def reject(self, number: int) -> list[Action]:
        """Rejects a wish that is not on the stage yet; after that there is `!blank`."""
        wish = self._wishes.get(number)
        if wish is None:
            return [Say(f"#{number} does not wait")]
        self._drop(wish)
        return [Say(f"#{number} was rejected")]

    def tick(self, now: float) -> list[Action]:
        """Does what is due: ends a vote, opens the next one, puts the next scene on the stage."""
        actions: list[Action] = []
        if self._ballot is not None and now >= self._ballot.closes_at:
            actions += self._close(self._ballot)
        if self._ballot is None:
            actions += self._open_ballot(now)
        if self._first(WishState.NEXT) is not None and now >= self._free_at(now):
            actions.append(self._put(now))
        return actions

    def due_at(self, now: float) -> float | None:
        """When `tick` will have something to do; None if nothing waits for a time."""
        times = [] if self._ballot is None else [self._ballot.closes_at]
        if self._first(WishState.NEXT) is not None:
            times.append(self._free_at(now))
        return min(times, default=None)

    # --- state ----------------------------------------------------------------------------------------------------

    def wishes(self, state: WishState) -> list[Wish]:
        """The wishes in a state, oldest first."""
        return [wish for wish in self._wishes.values() if wish.state is state]

    def votes(self) -> Counter[int]:
        """The number of votes by wish number, while there is a vote."""
        return Counter() if self._ballot is None else Counter(self._ballot.votes.values())

    # --- a wish ---------------------------------------------------------------------------------------------------

    def _ask(self, line: ChatLine, text: str, now: float) -> list[Action]:
        if not text:
            return [Say(f"@{line.user} what scene? For example: !scene the sea at night")]
        wait_s = 0.0 if line.is_moderator else self._wait_s(line.user, now)
        if wait_s > 0:
            return [Say(f"@{line.user} your next scene in {-int(-wait_s // 1)} s")]
        if len(self._wishes) >= self.rules.max_waiting:
            return [Say(f"@{line.user} too many scenes are waiting; try again in a while")]
        self._remember(line.user, now)
        self._num_wishes += 1
        wish = self._wishes[self._num_wishes] = Wish(self._num_wishes, line.user, text)
        if self.rules.needs_approval and not line.is_moderator:
            return [
                Say(f"@{line.user} your scene is #{wish.number}; it waits for a moderator (!approve {wish.number})")
            ]
        return self._admit(wish, now)

    def _admit(self, wish: Wish, now: float) -> list[Action]:
        if self.rules.vote_s > 0:
            wish.enter(WishState.WAITING)
            if self._ballot is not None:
                return self._fill(self._ballot)
        else:
            wish.enter(WishState.NEXT)
        return self.tick(now)

    def _put(self, now: float) -> Put:
        wish = self._first(WishState.NEXT)
        assert wish is not None
        wish.enter(WishState.SENT)
        del self._wishes[wish.number]
        self._put_at = now
        return Put(wish.number, wish.user, wish.text)

    def _drop(self, wish: Wish) -> None:
        wish.enter(WishState.GONE)
        del self._wishes[wish.number]
        if self._ballot is not None and wish in self._ballot.wishes:
            self._ballot.wishes.remove(wish)

    # --- votes ----------------------------------------------------------------------------------------------------

    def _vote(self, user: str, number: int) -> list[Action]:
        if self._ballot is not None and any(wish.number == number for wish in self._ballot.wishes):
            self._ballot.votes[user] = number
        return []

    def _open_ballot(self, now: float) -> list[Action]:
        if self._first(WishState.WAITING) is None:
            return []
        self._ballot = Ballot(now + self.rules.vote_s)
        return [*self._fill(self._ballot), Say(f"Vote with !vote and the number, for {self.rules.vote_s:g} s")]

    def _fill(self, ballot: Ballot) -> list[Action]:
        actions: list[Action] = []
        for wish in self.wishes(WishState.WAITING)[: self.rules.max_on_ballot - len(ballot.wishes)]:
            wish.enter(WishState.ON_BALLOT)
            ballot.wishes.append(wish)
            actions.append(Say(f"#{wish.number}: {wish.text} (by @{wish.user})"))
        return actions

    def _close(self, ballot: Ballot) -> list[Action]:
        """Most votes win, among equals the oldest wish. Votes for a wish that was rejected meanwhile do not count."""
        self._ballot = None
        if not ballot.wishes:
            return []
        votes = Counter(ballot.votes.values())
        winner = max(ballot.wishes, key=lambda wish: (votes[wish.number], -wish.number))
        for wish in ballot.wishes[:]:
            if wish is not winner:
                self._drop(wish)
        winner.enter(WishState.NEXT)
        return [Say(f"#{winner.number} wins with {votes[winner.number]} votes: {winner.text}")]

    # --- time -----------------------------------------------------------------------------------------------------

    def _first(self, state: WishState) -> Wish | None:
        return next((wish for wish in self._wishes.values() if wish.state is state), None)

    def _free_at(self, now: float) -> float:
        """When the stage may change again."""
        return now if self._put_at is None else self._put_at + self.rules.cooldown_s

    def _wait_s(self, user: str, now: float) -> float:
        asked_at = self._asked_at.get(user)
        return 0.0 if asked_at is None else asked_at + self.rules.user_cooldown_s - now

    def _remember(self, user: str, now: float) -> None:
        # Re-inserted, so that the dictionary is in the order of time.
        self._asked_at.pop(user, None)
        self._asked_at[user] = now
        while self._asked_at:
            oldest = next(iter(self._asked_at))
            if len(self._asked_at) <= MAX_USERS_KEPT and self._wait_s(oldest, now) > 0:
                break
            del self._asked_at[oldest]

"""Who pays for a connection and for what it starts: a key, perhaps one of its client secrets, perhaps an address.

Each of their accounts must have room, so a secret can never have more than its key. The doors make a `Payer` through
`gate.py`; the registry, a stage's slot and the doors ask it. On the event loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from server.accounts.account import Account
from server.protocol.errors import Refused
from server.token_bucket import TokenBucket, take

# When to ask again for what somebody must leave first.
RETRY_AFTER_MS = 5000
_WORDS = {"sessions": "stages at once", "viewers": "viewers at once", "pixels_per_s": "pixels a second"}


class Reservation:
    """Engine seconds of one generation: its estimate, until `settle` corrects it."""

    def __init__(self, accounts: tuple[Account, ...], seconds: float) -> None:
        self.seconds = seconds
        self._charged = [(account, account.window) for account in accounts]
        self._is_settled = False
        for account, window in self._charged:
            account.spend(window, seconds)

    def settle(self, seconds: float) -> None:
        """What the engine really worked; 0.0 for nothing. In the window of the reservation. Idempotent."""
        if self._is_settled:
            return
        self._is_settled = True
        for account, window in self._charged:
            account.spend(window, seconds - self.seconds, num_generations=int(seconds > 0))
            account.settled_s += seconds
        self.seconds = 0.0


@dataclass(frozen=True, slots=True)
class Payer:
    accounts: tuple[Account, ...] = ()

    # --- by time --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """A new connection of a controller or viewer. Raises `Refused` (`rate_limited`)."""
        self._take("connects", "connections", "a minute")

    def prompt(self) -> None:
        """Raises `Refused` (`rate_limited`)."""
        self._take("prompts", "prompts", "a minute")

    @property
    def messages(self) -> tuple[TokenBucket, ...]:
        """The buckets that each message takes from."""
        return tuple(account.messages for account in self.accounts if account.messages is not None)

    @property
    def session_s(self) -> float | None:
        """How long a session may last; None: as long as it likes."""
        return min((one.limits.session_s for one in self.accounts if one.limits.session_s is not None), default=None)

    @property
    def stored_bytes(self) -> int | None:
        """How much the key's recordings may take together; None: as much as the server allows."""
        found = (one.limits.stored_bytes for one in self.accounts if one.limits.stored_bytes is not None)
        return min(found, default=None)

    def _take(self, name: str, words: str, unit: str) -> None:
        found = [(account, bucket) for account in self.accounts if (bucket := getattr(account, name)) is not None]
        if (wait_s := take([bucket for _, bucket in found])) > 0:
            account, bucket = max(found, key=lambda one: one[1].wait_s())
            reason = f"{account.title} may have {bucket.rate * 60:g} {words} {unit}"
            raise Refused("rate_limited", reason, retry_after_ms=math.ceil(wait_s * 1000))

    # --- engine seconds -------------------------------------------------------------------------------------------

    def check(self, seconds: float, returning: Reservation | None = None) -> None:
        """Raises `Refused` (`budget_exhausted`). `returning`: a reservation that ends before."""
        returned_s = returning.seconds if returning is not None else 0.0
        for account in self.accounts:
            if not account.can_spend(seconds, returned_s=returned_s):
                reason = f"{account.title} has used up its {account.limits.engine_s:g} engine seconds"
                raise Refused("budget_exhausted", reason, retry_after_ms=account.ms_to_next_window())

    def reserve(self, seconds: float) -> Reservation:
        """Raises `Refused` (`budget_exhausted`)."""
        self.check(seconds)
        return Reservation(self.accounts, seconds)

    # --- at once --------------------------------------------------------------------------------------------------

    def enter_viewer(self) -> Place:
        """A viewer's place, until it leaves. Raises `Refused` (`too_many_viewers`)."""
        for account in self.accounts:
            if (full := account.full(viewers=1)) is not None:
                raise Refused("too_many_viewers", _most(account, full), retry_after_ms=RETRY_AFTER_MS)
        return Place(self, viewers=1)

    def check_stage(self, pixels_per_s: int, replaced: Place | None = None) -> None:
        """Raises `Refused` (`server_full`; `invalid_value` for a stage that is too large for ever).

        `replaced`: the place of a stage that goes when this one comes.
        """
        for account in self.accounts:
            most = account.limits.pixels_per_s
            if most is not None and pixels_per_s > most:
                reason = f"{_most(account, ('pixels_per_s', most))}, and this stage has {pixels_per_s}"
                raise Refused("invalid_value", reason, param="frame_rate")
            leaves = replaced is not None and account in replaced.payer.accounts
            sessions, pixels = (0, pixels_per_s - replaced.pixels_per_s) if replaced and leaves else (1, pixels_per_s)
            if (full := account.full(sessions=sessions, pixels_per_s=pixels)) is not None:
                raise Refused("server_full", _most(account, full), retry_after_ms=RETRY_AFTER_MS)

    def enter_stage(self, pixels_per_s: int) -> Place:
        """Raises `Refused` (`server_full`, `invalid_value`)."""
        self.check_stage(pixels_per_s)
        return Place(self, sessions=1, pixels_per_s=pixels_per_s)


class Place:
    """What a stage or a viewer takes of its payer's accounts, until it leaves."""

    def __init__(self, payer: Payer, *, sessions: int = 0, viewers: int = 0, pixels_per_s: int = 0) -> None:
        self.payer = payer
        self.pixels_per_s = pixels_per_s
        self._taken = {"sessions": sessions, "viewers": viewers, "pixels_per_s": pixels_per_s}
        for account in payer.accounts:
            account.take(**self._taken)

    def shares_account_with(self, payer: Payer) -> bool:
        return not set(self.payer.accounts).isdisjoint(payer.accounts)

    def leave(self) -> None:
        """Idempotent."""
        for account in self.payer.accounts:
            account.take(**{name: -number for name, number in self._taken.items()})
        self._taken = {}


# On a server without keys, and in tests: nothing is counted.
NOBODY = Payer()


def _most(account: Account, full: tuple[str, int]) -> str:
    name, most = full
    return f"{account.title} may have {most} {_WORDS[name]}"

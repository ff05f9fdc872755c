"""All accounts of a server: found by key, client secret and address, kept over restarts by the store.

Decisions use memory. What was spent goes to the store once a second and at the end, as differences; a killed process
loses the last second. A reservation counts at once, so a generation that a kill cut off stays charged by its estimate.
On the event loop.

Bounds: keys stay; of client secrets and addresses, `MAX_OTHERS` each. The one that was not seen for longest goes,
unless something of it is open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from server.accounts.account import DAY_S, Account, day_of
from server.accounts.payer import Payer
from server.clock import Clock
from server.protocol import limits as limits_module
from server.protocol.limits import Limits
from server.rarely import Rarely
from server.store import spent
from server.store.keys import Key
from server.store.spent import SpentRow
from server.store.store import Store, StoreError

_log = logging.getLogger(__name__)

MAX_OTHERS = 10_000
FLUSH_S = 1.0
FORGET_EVERY_S = 3600.0
# A year and some, for bills; an address is worth nothing when its window is over.
KEEP_KEYS_DAYS = 400
KEEP_ADDRESSES_DAYS = 2
# A key's holder may sign secrets for ever; times that we tell stay numbers that clients can read.
_FAR_S = 100 * 366 * DAY_S


@dataclass(frozen=True, slots=True)
class LimitedSecret:
    """What an account needs of a client secret that has limits."""

    id: str
    limits: Limits
    ends_at: float


class Accounts:
    """`open` it before the doors; `follow` writes; `flush` once more at the end. `of_address`: of each address."""

    def __init__(
        self, store: Store, clock: Clock, wall_time: Callable[[], float], *, of_address: Limits = limits_module.NONE
    ) -> None:
        self._store = store
        self._clock = clock
        self._wall_time = wall_time
        self._of_address = of_address
        self._complain = Rarely(clock, _log.error)
        self._keys: dict[str, Account] = {}  # by tenant
        # The newest last, by owner, for each kind. What is still in use is found even if it was dropped there.
        self._others: dict[str, dict[str, Account]] = {"secret": {}, "address": {}}
        self._in_use: WeakValueDictionary[str, Account] = WeakValueDictionary()
        self._stored_s: dict[str, dict[int, float]] = {}  # of earlier processes, until somebody asks for the account
        self._changes: dict[tuple[str, int], SpentRow] = {}
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reads the store. Raises `StoreError`."""
        today = day_of(self._wall_time())
        rows = await self._store.ask(lambda connection: spent.since(connection, today - 1))
        rows += await self._store.ask(lambda connection: spent.since(connection, 0, prefix="secret "))
        for row in rows:
            self._stored_s.setdefault(row.owner, {})[row.window] = row.engine_s

    # --- who pays -------------------------------------------------------------------------------------------------

    def payer(
        self, tenant: str, key: Key | None, *, secret: LimitedSecret | None = None, address: str | None = None
    ) -> Payer:
        """`key` is None on an open server. `secret`: if it has limits. `address`: if it is told apart from others."""
        accounts = [self._of_key(tenant, key)]
        if secret is not None:
            ends_at = min(secret.ends_at, self._wall_time() + _FAR_S)
            accounts.append(
                self._other("secret", f"{tenant}/{secret.id}", "this client secret", secret.limits, ends_at)
            )
        if address is not None and self._of_address != limits_module.NONE:
            accounts.append(self._other("address", address, "this address", self._of_address, None))
        return Payer(tuple(accounts))

    def _of_key(self, tenant: str, key: Key | None) -> Account:
        limits = key.limits if key is not None else limits_module.NONE
        account = self._keys.get(tenant)
        if account is None:
            title = f"the key `{key.name}`" if key is not None else "this server"
            account = self._keys[tenant] = self._made(f"key {tenant}", title, limits, None, KEEP_KEYS_DAYS)
        return account

    def _other(self, kind: str, name: str, title: str, limits: Limits, ends_at: float | None) -> Account:
        owner, others = f"{kind} {name}", self._others[kind]
        account = others.pop(owner, None) or self._in_use.get(owner)
        if account is None:
            account = self._in_use[owner] = self._made(owner, title, limits, ends_at, KEEP_ADDRESSES_DAYS)
        others[owner] = account
        if len(others) > MAX_OTHERS:
            del others[next(iter(others))]
        return account

    def _made(self, owner: str, title: str, limits: Limits, ends_at: float | None, keep_days: int) -> Account:
        def note(window: int, seconds: float, generations: int) -> None:
            forget_at = ends_at + DAY_S if ends_at is not None else (window + keep_days) * DAY_S
            before = self._changes.get((owner, window)) or SpentRow(owner, window, 0.0, 0)
            seconds, generations = before.engine_s + seconds, before.generations + generations
            self._changes[owner, window] = SpentRow(owner, window, seconds, generations, forget_at)

        return Account(
            title,
            limits,
            clock=self._clock,
            wall_time=self._wall_time,
            ends_at=ends_at,
            spent_s=self._stored_s.pop(owner, {}),
            note=note,
        )

    # --- the store ------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """For ever: writes down what was spent."""
        forget_at = self._clock.now()
        while True:
            await self._clock.sleep_until(self._clock.now() + FLUSH_S)
            await self.flush()
            if self._clock.now() >= forget_at:
                forget_at = self._clock.now() + FORGET_EVERY_S
                now = self._wall_time()
                self._store.tell(lambda connection, now=now: spent.forget(connection, now))  # type: ignore[misc]

    async def flush(self) -> None:
        """Writes what has changed. A failed store is logged, and its changes are kept for the next call.

        If cancelled, the writing goes on: its changes must neither be lost nor be added twice.
        """
        if self._writing is not None:
            await asyncio.shield(self._writing)
        self._writing = asyncio.create_task(self._write(), name="accounts-write")
        await asyncio.shield(self._writing)

    async def _write(self) -> None:
        changes, self._changes = self._changes, {}
        if not changes:
            return
        try:
            await self._store.ask(lambda connection: spent.add(connection, changes.values()))
        except StoreError as error:
            self._complain("- ! what was spent is not written down yet: %s", error)
            for (owner, window), row in changes.items():
                newer = self._changes.get((owner, window)) or SpentRow(owner, window, 0.0, 0, row.forget_at)
                seconds, generations = row.engine_s + newer.engine_s, row.generations + newer.generations
                self._changes[owner, window] = SpentRow(owner, window, seconds, generations, newer.forget_at)

    # --- what was spent -------------------------------------------------------------------------------------------

    async def days(self, tenants: Sequence[str], num_days: int) -> dict[str, list[SpentRow]]:
        """What each of these keys has spent in the newest days, by tenant. Raises `StoreError`."""
        await self.flush()
        first = day_of(self._wall_time()) - num_days + 1
        rows = await self._store.ask(lambda connection: spent.since(connection, first, prefix="key "))
        found: dict[str, list[SpentRow]] = {tenant: [] for tenant in tenants}
        for row in rows:
            if (tenant := row.owner.removeprefix("key ")) in found:
                found[tenant].append(row)
        return found

    @property
    def today(self) -> int:
        return day_of(self._wall_time())

    def now(self, tenant: str) -> Account | None:
        """What this key takes at this moment; None if it has not come since the start."""
        return self._keys.get(tenant)

    def settled_s(self) -> dict[str, float]:
        """Engine seconds since the start of this process, by tenant."""
        return {tenant: account.settled_s for tenant, account in self._keys.items()}

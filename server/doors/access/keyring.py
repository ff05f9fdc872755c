"""The keys that open this server, and the client secrets that open it no more: in memory, kept up with the store.

`Keyring` answers at once, on the event loop. Another process may make or revoke a key (`sceneshift token`); `follow`
notices that within a second. The doors say with `hold` how to close what a revoked key or secret holds open.
"""

from __future__ import annotations

import hmac
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from secrets import token_bytes

from server.clock import Clock
from server.doors.access.client_secrets import ALL_SCOPES, Identity
from server.rarely import Rarely
from server.store import keys
from server.store.keys import MAIN, Key, SecretRow
from server.store.store import Store, StoreError

_log = logging.getLogger(__name__)

POLL_S = 1.0
FORGET_EVERY_S = 3600.0


@dataclass(slots=True, eq=False)
class _Held:
    identity: Identity
    end: Callable[[], None]


class Keyring:
    """`token`: the main key, instead of the one in the store; None with no key of the store: an open server."""

    def __init__(self, store: Store, clock: Clock, wall_time: Callable[[], float], *, token: str | None = None) -> None:
        self._store = store
        self._clock = clock
        self._complain = Rarely(clock, _log.error)
        self._wall_time = wall_time
        self._main = Key(MAIN, MAIN, token, ALL_SCOPES) if token is not None else None
        self._keys: dict[str, Key] = {}
        self._secrets: dict[tuple[str, str], SecretRow] = {}  # by tenant and id
        self._held: set[_Held] = set()
        self._own_link_secret = token_bytes(32)
        self._use([], [])

    async def load(self) -> None:
        """Reads the store, at the start and after a change. Raises `StoreError`."""
        await self._store.has_changed()
        self._use(*await self._store.ask(_read))

    async def follow(self) -> None:
        """For ever: takes over what other processes have changed, and closes what has ended."""
        forget_at = self._clock.now()
        while True:
            await self._clock.sleep_until(self._clock.now() + POLL_S)
            try:
                if await self._store.has_changed():
                    self._use(*await self._store.ask(_read))
            except StoreError as error:
                self._complain("- ! keys stay as they are: %s", error)  # a full disk must not end a show
            self._end_revoked()
            if self._clock.now() >= forget_at:
                forget_at = self._clock.now() + FORGET_EVERY_S
                self._forget_ended(self._wall_time())

    def _forget_ended(self, now: float) -> None:
        self._secrets = {name: row for name, row in self._secrets.items() if row.expires_at > now}
        self._store.tell(lambda connection: keys.forget_ended_secrets(connection, now))

    @property
    def is_open(self) -> bool:
        """Whether the server asks nobody for a key."""
        return self._main is None

    # --- keys -----------------------------------------------------------------------------------------------------

    def find(self, given: bytes) -> Key | None:
        """The good key with this text. It takes the same time wherever two texts differ."""
        found = None
        for key in self._keys.values():
            if hmac.compare_digest(given, key.text.encode()) and key.is_good(self._wall_time()):
                found = key
        return found

    def name_of(self, tenant: str) -> str:
        """A tenant's key, as the operator named it."""
        return key.name if (key := self._keys.get(tenant)) is not None else tenant

    def signer(self, key_id: str | None) -> Key | None:
        """The good key that signs client secrets as `key_id`."""
        key = self._keys.get(key_id or MAIN)
        return key if key is not None and key.is_good(self._wall_time()) else None

    @property
    def link_secret(self) -> bytes:
        """Signs links to files. On an open server they end with the process."""
        main = self._keys.get(MAIN)
        return hmac.digest(main.text.encode(), b"links", "sha256") if main is not None else self._own_link_secret

    def key(self, tenant: str) -> Key | None:
        """The key of this tenant, also one that was revoked; None on an open server."""
        return self._keys.get(tenant)

    @property
    def tenants(self) -> list[str]:
        """Of all keys, also of those that were revoked; on an open server "", which is everybody."""
        return list(self._keys) if not self.is_open else [""]

    # --- client secrets -------------------------------------------------------------------------------------------

    def is_used(self, identity: Identity) -> bool:
        return (row := self._row(identity)) is not None and row.used_at is not None

    def use_up(self, identity: Identity) -> None:
        """The secret of `identity` was for one use. Does nothing for others."""
        if identity.is_for_one_use and identity.secret_id is not None:
            now = self._wall_time()
            row = self._row(identity) or SecretRow(identity.secret_id, identity.tenant, identity.expires_at or now)
            self._put(replace(row, used_at=now))

    def keep_link(self, row: SecretRow) -> None:
        """A secret that lives long, so that `links` shows it."""
        self._put(row)

    def links(self, tenant: str) -> list[SecretRow]:
        now = self._wall_time()
        rows = (row for row in self._secrets.values() if row.made_at is not None and row.tenant == tenant)
        return [row for row in rows if row.revoked_at is None and row.expires_at > now]

    def revoke_secret(self, tenant: str, secret_id: str, expires_at: float) -> None:
        """Ends what it holds open, too. `expires_at`: if the secret is not remembered yet."""
        row = self._secrets.get((tenant, secret_id)) or SecretRow(secret_id, tenant, expires_at)
        self._put(replace(row, revoked_at=self._wall_time()))
        self._end_revoked()

    def _row(self, identity: Identity) -> SecretRow | None:
        return self._secrets.get((identity.tenant, identity.secret_id or ""))

    def _put(self, row: SecretRow) -> None:
        self._secrets[row.tenant, row.id] = row
        self._store.tell(lambda connection: keys.remember_secret(connection, row))

    # --- what is open ---------------------------------------------------------------------------------------------

    def hold(self, identity: Identity, end: Callable[[], None]) -> Callable[[], None]:
        """`identity` holds something open; `end` closes it if its key or secret is revoked. Call the result when it is
        closed."""
        held = _Held(identity, end)
        self._held.add(held)
        return lambda: self._held.discard(held)

    def is_good(self, identity: Identity) -> bool:
        """Whether neither the key nor the secret was revoked since it was admitted."""
        if self.is_open:
            return True
        row = self._row(identity)
        return (row is None or row.revoked_at is None) and self.signer(identity.tenant) is not None

    def _end_revoked(self) -> None:
        for held in list(self._held):
            if not self.is_good(held.identity):
                self._held.discard(held)
                held.end()

    def _use(self, all_keys: Sequence[Key], secrets: Sequence[SecretRow]) -> None:
        self._keys = {key.id: key for key in all_keys}
        # The server's own token is a row of the store, which may be revoked; one of `--token` stands in its place.
        if self._main is not None and ((stored := self._keys.get(MAIN)) is None or stored.text != self._main.text):
            self._keys[MAIN] = self._main
        self._secrets = {(row.tenant, row.id): row for row in secrets}
        self._end_revoked()


def own_token(store: Store) -> str:
    """The token that this server made for itself, the same after each start. For the entry points: it blocks."""
    return store.ask_now(lambda connection: keys.main_key(connection, ALL_SCOPES, now=time.time())).text


def _read(connection: sqlite3.Connection) -> tuple[list[Key], list[SecretRow]]:
    return keys.all_keys(connection), keys.remembered_secrets(connection)

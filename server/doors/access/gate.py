"""What the doors ask about a request: who sends it, and what they may do. What was let in or refused is written down.

`auth.py` knows keys and headers, `peers.py` addresses, `server.store.audit` the audit log. On the event loop.
"""

from __future__ import annotations

import contextlib

from aiohttp import web

from server.accounts.accounts import Accounts, LimitedSecret
from server.accounts.payer import Payer
from server.doors.access.auth import Access
from server.doors.access.client_secrets import Identity
from server.doors.access.peers import Peers
from server.protocol.codes import ErrorCode
from server.protocol.errors import Refused
from server.protocol.limits import NONE
from server.protocol.table import Scope
from server.store.audit import Audit

# Refusals that say something about who knocked, and not about what they sent.
AUDITED: frozenset[ErrorCode] = frozenset(
    (
        *("unauthorized", "missing_scope", "forbidden_host", "forbidden_origin", "token_needed_behind_proxy"),
        *("rate_limited", "wrong_token", "name_taken"),
    )
)


class Gate:
    def __init__(self, access: Access, peers: Peers, accounts: Accounts, audit: Audit) -> None:
        self.access = access
        self.peers = peers
        self.accounts = accounts
        self.keyring = access.keyring
        self._audit = audit

    def admit(
        self, request: web.Request, scope: Scope | None = None, session: str | None = None, *, connects: bool = False
    ) -> Identity:
        """See `Access.admit`. What connects is written down, and counted. Raises `Refused`."""
        identity = self.access.admit(request.headers, request.query, scope, session, connects=connects)
        if connects:
            self.payer(request, identity).connect()
            self.note(request, identity, door_of(request), session=session or "")
        return identity

    def admit_key(self, request: web.Request, scope: Scope | None = None, session: str | None = None) -> Identity:
        """A key itself, and no client secret. Raises `Refused`."""
        identity = self.admit(request, scope, session)
        if not identity.is_key:
            raise Refused("missing_scope", "a client secret cannot do this; use a key")
        return identity

    def admit_controller(self, request: web.Request) -> Identity:
        """See `Access.admit_controller`. Raises `Refused`."""
        identity = self.access.admit_controller(request.headers, request.query)
        self.payer(request, identity).connect()
        return identity

    def payer(self, request: web.Request, identity: Identity) -> Payer:
        """Whose limits hold for this request, and for what it starts."""
        secret = None
        if identity.secret_id is not None and identity.limits != NONE:
            secret = LimitedSecret(identity.secret_id, identity.limits, identity.expires_at or 0.0)
        key = self.keyring.key(identity.tenant)
        return self.accounts.payer(identity.tenant, key, secret=secret, address=self.peers.of(request))

    def may(self, request: web.Request, scope: Scope) -> bool:
        return self.access.may(request.headers, request.query, scope)

    def check_guesses(self, request: web.Request) -> None:
        """On every route: each of them would tell a guesser. Raises `Refused` (`rate_limited`)."""
        digest = self.access.digest(request.headers, request.query)
        if digest is not None:
            is_right = not self.access.is_guess(request.headers, request.query)
            self.peers.check_token(request, digest, is_right=is_right)

    def note(self, request: web.Request, identity: Identity, action: str, *, session: str = "") -> None:
        """Writes down what was done."""
        peer = self.peers.of(request)
        self._audit.note(action, tenant=identity.tenant, who=identity.who, peer=peer, session=session)

    def note_refusal(
        self,
        request: web.Request,
        code: ErrorCode,
        *,
        identity: Identity | None = None,
        action: str | None = None,
        session: str = "",
    ) -> None:
        """Writes down a refusal, if it is one of `AUDITED`."""
        if code not in AUDITED:
            return
        if identity is None:
            with contextlib.suppress(Refused):
                identity = self.access.admit(request.headers, request.query)
        tenant = identity.tenant if identity is not None else ""
        who = identity.who if identity is not None else self.access.digest(request.headers, request.query) or ""
        self._audit.note_refusal(
            action or door_of(request), code, tenant=tenant, who=who, peer=self.peers.of(request), session=session
        )

    def note_message(
        self, request: web.Request, identity: Identity, action: str, session: str, code: ErrorCode | None
    ) -> None:
        """A message of a connection: done, or refused with `code`."""
        if code is None:
            self.note(request, identity, action, session=session)
        else:
            self.note_refusal(request, code, identity=identity, action=action, session=session)


def door_of(request: web.Request) -> str:
    """The method and the pattern of the route, without what a client chose."""
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical if resource is not None else '-'}"

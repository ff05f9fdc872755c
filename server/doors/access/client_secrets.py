"""Client secrets: narrow, short-lived stand-ins for the server's token, for pages, viewers and links.

A secret is `ek_` and a JWT (RFC 7519) that the token signs with HS256, so any language can make one. Its claims only
narrow what the token may do: scopes, one stage, the origins of pages. Nothing is stored: a new token ends them all.
Pure; `auth.py` reads secrets, `secrets_api.py` and the command line make them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, get_args

import jwt

from server.protocol.errors import Refused
from server.protocol.table import Scope

PREFIX = "ek_"
ALL_SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
_AUDIENCE = "sceneshift"
_ALGORITHM = "HS256"
# A controller watches its own stage.
_IMPLIED: dict[Scope, frozenset[Scope]] = {"prompt": frozenset({"view"})}
_NEEDED_CLAIMS = ("exp", "iat", "jti", "scope")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the sender of a request may do. `tenant` names the key behind it, never the key itself."""

    tenant: str
    scopes: frozenset[Scope] = ALL_SCOPES
    session: str | None = None  # the one stage that it is for; None: any
    origins: tuple[str, ...] = ()  # of pages that may use it; empty: any that the server lets in
    is_key: bool = True  # whether it is the token itself, which alone makes secrets

    def check(self, scope: Scope | None, session: str | None = None) -> None:
        """Raises `Refused` (`missing_scope`). `session`: the stage that the request is about, if it is about one."""
        if scope is not None and scope not in self.scopes:
            has = ", ".join(sorted(self.scopes)) or "none"
            raise Refused("missing_scope", f"this needs the scope `{scope}`; the secret has: {has}")
        if session is not None and self.session is not None and session != self.session:
            raise Refused("missing_scope", f"this secret is for the stage `{self.session}` only")


def tenant_of(token: str) -> str:
    """A digest that tells tenants apart and gives nothing of the token away."""
    return hashlib.blake2b(token.encode(), digest_size=8).hexdigest()


def make(
    token: str,
    scopes: Iterable[Scope],
    *,
    now: float,
    lives_s: float,
    session: str | None = None,
    origins: Sequence[str] = (),
) -> str:
    """A secret for connecting until `now + lives_s`, in seconds of Unix time."""
    claims: dict[str, Any] = {
        "aud": _AUDIENCE,
        "iat": int(now),
        "exp": int(now + lives_s),
        "jti": token_hex(8),
        "scope": " ".join(sorted(scopes)),
    }
    if session is not None:
        claims["session"] = session
    if origins:
        claims["origins"] = [origin.lower() for origin in origins]
    return PREFIX + jwt.encode(claims, token, algorithm=_ALGORITHM)


def read(secret: str, token: str, *, now: float, origin: str | None) -> Identity:
    """What a secret allows a page of `origin` (None: no page). Raises `Refused` (`unauthorized`)."""
    try:
        claims = jwt.decode(
            secret.removeprefix(PREFIX),
            token,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            # The time is compared below, with the server's clock.
            options={
                "require": [*_NEEDED_CLAIMS, "aud"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        identity = _identity(claims, token)
        expires_at = float(claims["exp"])
    except (jwt.InvalidTokenError, TypeError, ValueError):
        raise Refused("unauthorized", "the client secret is not one of this server's") from None
    if expires_at <= now:
        raise Refused("unauthorized", "the client secret has expired; ask for a new one")
    if identity.origins and origin not in identity.origins:
        raise Refused("unauthorized", f"the client secret is for pages of {', '.join(identity.origins)}")
    return identity


def _identity(claims: dict[str, Any], token: str) -> Identity:
    """Raises `TypeError` or `ValueError` for claims of a wrong shape."""
    named = set(str(claims["scope"]).split())
    if not named <= ALL_SCOPES:
        raise ValueError("an unknown scope")
    scopes: frozenset[Scope] = frozenset(scope for scope in ALL_SCOPES if scope in named)
    for scope in scopes:
        scopes |= _IMPLIED.get(scope, frozenset())
    session, origins = claims.get("session"), claims.get("origins", [])
    if not isinstance(session, str | None) or not isinstance(origins, list):
        raise TypeError("`session` is a text, `origins` a list")
    return Identity(tenant_of(token), scopes, session, tuple(str(one).lower() for one in origins), is_key=False)

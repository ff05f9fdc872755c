"""Client secrets: narrow, short-lived stand-ins for a key, for pages, viewers and links.

A secret is `ek_` and a JWT (RFC 7519) that a key signs with HS256, so any language can make one. Its header names the
key (`kid`); without a name it is the server's token. Its claims only narrow what the key may do: scopes, one stage, the
origins of pages, one use, limits. Pure; `auth.py` reads secrets, `secrets_api.py` and the command line make them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, get_args

import jwt
import msgspec

from server.protocol.errors import Refused
from server.protocol.limits import NONE, Limits
from server.protocol.table import Scope
from server.store import keys
from server.store.keys import Key

PREFIX = "ek_"
# Of a `jti`.
MAX_ID_CHARACTERS = 64
ALL_SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
_AUDIENCE = "sceneshift"
_ALGORITHM = "HS256"
# A controller watches its own stage.
_IMPLIED: dict[Scope, frozenset[Scope]] = {"prompt": frozenset({"view"})}
_NEEDED_CLAIMS = ("exp", "iat", "jti", "scope")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sent a request, and what they may do. `tenant` is the id of the key behind it, "" on an open server."""

    tenant: str
    scopes: frozenset[Scope] = ALL_SCOPES
    session: str | None = None  # the one stage that it is for; None: any
    origins: tuple[str, ...] = ()  # of pages that may use it; empty: any that the server lets in
    secret_id: str | None = None  # `jti`; None: it is the key itself, which alone makes secrets
    expires_at: float | None = None
    is_for_one_use: bool = False
    limits: Limits = NONE  # of the client secret; its key's hold beside them
    resumes_only: bool = False  # the secret was used or has ended: a resume token opens its own stage, and nothing else

    @property
    def is_key(self) -> bool:
        return self.secret_id is None

    @property
    def who(self) -> str:
        """For the audit log."""
        return f"{self.tenant}/{self.secret_id}" if self.secret_id is not None else self.tenant

    @property
    def sees(self) -> str | None:
        """The tenant whose stages it may watch; None: those of all, because an operator must see what is on air."""
        return None if self.is_key and "admin" in self.scopes else self.tenant

    def check(self, scope: Scope | None, session: str | None = None) -> None:
        """Raises `Refused` (`missing_scope`). `session`: the stage that the request is about, if it is about one."""
        if scope is not None and scope not in self.scopes:
            has = ", ".join(sorted(self.scopes)) or "none"
            raise Refused("missing_scope", f"this needs the scope `{scope}`; the secret has: {has}")
        if session is not None and self.session is not None and session != self.session:
            raise Refused("missing_scope", f"this secret is for the stage `{self.session}` only")


def digest_of(token: str) -> str:
    """Tells tokens apart and gives nothing of them away."""
    return hashlib.blake2b(token.encode(), digest_size=8).hexdigest()


def new_id() -> str:
    return token_hex(8)


def make(
    token: str,
    scopes: Iterable[Scope],
    *,
    now: float,
    lives_s: float,
    session: str | None = None,
    origins: Sequence[str] = (),
    is_for_one_use: bool = False,
    secret_id: str | None = None,
    limits: Limits = NONE,
) -> str:
    """A secret for connecting until `now + lives_s`, in seconds of Unix time. `token`: a key or the server's token."""
    claims: dict[str, Any] = {
        "aud": _AUDIENCE,
        "iat": int(now),
        "exp": int(now + lives_s),
        "jti": secret_id or new_id(),
        "scope": " ".join(sorted(scopes)),
    }
    if session is not None:
        claims["session"] = session
    if origins:
        claims["origins"] = [origin.lower() for origin in origins]
    if is_for_one_use:
        claims["uses"] = 1
    if limits != NONE:
        claims["limits"] = msgspec.to_builtins(limits)
    key_id = token.split("_")[1] if token.startswith(keys.PREFIX) else None
    return PREFIX + jwt.encode(claims, token, algorithm=_ALGORITHM, headers={"kid": key_id} if key_id else None)


def read(secret: str, signer: Callable[[str | None], Key | None], *, origin: str | None) -> Identity:
    """What a secret allows a page of `origin` (None: no page). The caller looks at its end and its uses.

    `signer` gives the key of an id; None stands for the server's token. Raises `Refused` (`unauthorized`).
    """
    text = secret.removeprefix(PREFIX)
    try:
        key = signer(_key_id(text))
        if key is None:
            raise ValueError("no such key")
        claims = jwt.decode(
            text,
            key.text,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            # The caller compares the time with the server's clock.
            options={
                "require": [*_NEEDED_CLAIMS, "aud"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        identity = _identity(claims, key)
    except (jwt.InvalidTokenError, msgspec.ValidationError, TypeError, ValueError, OverflowError):
        raise Refused("unauthorized", "the client secret is not one of this server's") from None
    if identity.origins and origin not in identity.origins:
        raise Refused("unauthorized", f"the client secret is for pages of {', '.join(identity.origins)}")
    return identity


def _key_id(text: str) -> str | None:
    """Raises `TypeError` or `jwt.InvalidTokenError`."""
    key_id = jwt.get_unverified_header(text).get("kid")
    if not isinstance(key_id, str | None):
        raise TypeError("`kid` is a text")
    return key_id


def _identity(claims: dict[str, Any], key: Key) -> Identity:
    """Raises `TypeError`, `ValueError` or `msgspec.ValidationError` for claims of a wrong shape."""
    json.dumps(claims, ensure_ascii=False).encode()  # half a surrogate pair is no text: it fails in an error or a file
    named = set(str(claims["scope"]).split())
    if not named <= ALL_SCOPES:
        raise ValueError("an unknown scope")
    scopes: frozenset[Scope] = frozenset(scope for scope in ALL_SCOPES if scope in named)
    for scope in scopes:
        scopes |= _IMPLIED.get(scope, frozenset())
    limits = msgspec.convert(claims.get("limits", {}), Limits)
    if limits.stored_bytes is not None:
        raise ValueError("recordings are counted by key")
    session, origins, uses = claims.get("session"), claims.get("origins", []), claims.get("uses", 0)
    if not isinstance(session, str | None) or not isinstance(origins, list) or uses not in (0, 1):
        raise TypeError("`session` is a text, `origins` a list, `uses` 0 or 1")
    secret_id, expires_at = str(claims["jti"]), float(claims["exp"])
    if len(secret_id) > MAX_ID_CHARACTERS or not math.isfinite(expires_at):
        raise ValueError("`jti` is too long, or `exp` is no time")
    return Identity(
        key.id,
        frozenset(scope for scope in scopes if scope in key.scopes),
        session,
        tuple(str(one).lower() for one in origins),
        secret_id=secret_id,
        expires_at=expires_at,
        is_for_one_use=uses == 1,
        limits=limits,
    )

"""Access checks: keys and client secrets, a proxy's headers, `Origin` and `Host`.

They keep out four attackers: strangers on the network (keys), strangers whom a proxy on this machine lets in (its
headers), pages of other sites in the user's own browser (`Origin`), and such pages that point their own host name at
this machine (DNS rebinding: `Host`). The other doors call it, on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from server.config import Settings, is_loopback
from server.doors.access import client_secrets
from server.doors.access.client_secrets import ALL_SCOPES, Identity
from server.doors.access.keyring import Keyring
from server.protocol.errors import Refused
from server.protocol.limits import Limits
from server.protocol.table import Scope

# What our pages offer as a WebSocket's subprotocols. The answer names the first one only.
PROTOCOL = "sceneshift.v1"
TOKEN_PROTOCOL = "sceneshift.token."
_SCHEMES = ("http", "https")
# Old scripts, and pages that were stored without a token, tell their user this sentence.
_NO_TOKEN = (
    "this server asks for an access token, also on its own machine since version 0.1.0, and none came: "
    "`sceneshift url` prints its address with the token"
)
_WRONG_TOKEN = "the access token is not this server's: `sceneshift url` prints its address with the right one"
# Headers that proxies add to a request (RFC 7239, RFC 9110 section 7.6.3, and older conventions).
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")


class Access:
    """The checks for one server. Header mappings are case-insensitive, as aiohttp's are."""

    def __init__(self, settings: Settings, keyring: Keyring, wall_time: Callable[[], float]) -> None:
        if keyring.is_open and settings.is_reachable:
            reason = "others may reach this server (host, public_address or allowed_origins)"
            raise ValueError(f"expected an access token, since {reason}")
        self.keyring = keyring
        self._wall_time = wall_time
        self._allowed_origins = frozenset(settings.allowed_origins)
        self._allowed_hosts = frozenset(urlsplit(origin).hostname for origin in settings.allowed_origins)
        self._is_loopback = settings.is_loopback

    @property
    def allowed_origins(self) -> list[str]:
        """Other sites that were allowed by name, in order."""
        return sorted(self._allowed_origins)

    def admit(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        scope: Scope | None = None,
        session: str | None = None,
        *,
        connects: bool = False,
    ) -> Identity:
        """Who asks, if they may: a key or a client secret, as `_given` finds it.

        `session`: the stage that the request is about. `connects`: the request uses up a secret for one use. Raises
        `Refused` (`unauthorized`, `missing_scope`).
        """
        identity = self._identify(headers, query)
        self._check_life(identity)
        identity.check(scope, session)
        if connects:
            self.keyring.use_up(identity)
        return identity

    def admit_controller(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Identity:
        """`admit` for a connection with messages. A secret that was used or has ended still resumes its own stage.

        So a page whose network failed comes back by its resume token, however short its secret lived.
        """
        identity = self._identify(headers, query)
        if (reason := self._end_of(identity)) is not None:
            identity = replace(identity, resumes_only=True)
        identity.check("prompt")
        if reason is None:
            self.keyring.use_up(identity)
        return identity

    def may(self, headers: Mapping[str, str], query: Mapping[str, str], scope: Scope | None = None) -> bool:
        """Without a scope: whether the key or secret is good, whatever it is for."""
        try:
            self.admit(headers, query, scope)
        except Refused:
            return False
        return True

    def is_guess(self, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        """Whether what came was never a key or a secret of this server. One that has ended is no guess."""
        try:
            self._identify(headers, query)
        except Refused:
            return True
        return False

    def make_secret(
        self,
        identity: Identity,
        scopes: Sequence[Scope],
        *,
        secret_id: str,
        lives_s: float,
        session: str | None,
        origins: Sequence[str],
        is_for_one_use: bool,
        limits: Limits,
    ) -> tuple[str, int]:
        """A client secret, and the Unix time of its end. Raises `Refused`: only a key's holder makes secrets."""
        if self.keyring.is_open:
            raise Refused("not_supported", "this server has no token, so its clients need no secret")
        key = self.keyring.signer(identity.tenant) if identity.is_key else None
        if key is None:
            raise Refused("missing_scope", "a client secret cannot make another one; use a key")
        if not set(scopes) <= key.scopes:
            has = ", ".join(sorted(key.scopes))
            raise Refused("missing_scope", f"a secret can do no more than its key, which has: {has}", param="scope")
        now = self._wall_time()
        secret = client_secrets.make(
            key.text,
            scopes,
            now=now,
            lives_s=lives_s,
            session=session,
            origins=origins,
            is_for_one_use=is_for_one_use,
            secret_id=secret_id,
            limits=limits,
        )
        return secret, int(now + lives_s)

    def _identify(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Identity:
        """Whose key or secret came, even if it has ended. Raises `Refused` (`unauthorized`)."""
        if self.keyring.is_open:
            return Identity(tenant="")  # all are one tenant
        given = _given(headers, query)
        if (key := self.keyring.find(given)) is not None:
            return Identity(key.id, frozenset(scope for scope in ALL_SCOPES if scope in key.scopes))
        text = given.decode("utf-8", "replace")
        if not text.startswith(client_secrets.PREFIX):
            raise Refused("unauthorized", _WRONG_TOKEN if given else _NO_TOKEN)
        origin = headers.get("Origin")
        origin = origin.strip().lower() if origin is not None else None
        identity = client_secrets.read(text, self.keyring.signer, origin=origin)
        if not self.keyring.is_good(identity):
            raise Refused("unauthorized", "the client secret was revoked")
        return identity

    def _end_of(self, identity: Identity) -> str | None:
        """Why a secret no longer connects."""
        if identity.expires_at is not None and identity.expires_at <= self._wall_time():
            return "the client secret has expired; ask for a new one"
        if identity.is_for_one_use and self.keyring.is_used(identity):
            return "the client secret was for one use, and has been used; ask for a new one"
        return None

    def _check_life(self, identity: Identity) -> None:
        if (reason := self._end_of(identity)) is not None:
            raise Refused("unauthorized", reason)

    def check_proxy(self, headers: Mapping[str, str]) -> None:
        """A server without a token is for this machine alone, but a proxy's client may be anybody.

        Raises `Refused` (`token_needed_behind_proxy`).
        """
        if self.keyring.is_open and (found := [name for name in PROXY_HEADERS if name in headers]):
            came = f"this request came through a proxy ({found[0]}), and this server has no token"
            raise Refused("token_needed_behind_proxy", f"{came}; start it without --no-token")

    def digest(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """Of the key or secret that came, right or wrong. None if none came, or none is needed."""
        given = _given(headers, query)
        return (
            client_secrets.digest_of(given.decode("utf-8", "replace")) if given and not self.keyring.is_open else None
        )

    def is_known_host(self, host_header: str | None) -> bool:
        """On loopback only loopback names are ours: another name for 127.0.0.1 is a page's DNS rebinding."""
        if not self._is_loopback:
            return True  # the token protects
        hostname = _hostname(host_header or "")
        return hostname is not None and (is_loopback(hostname) or hostname in self._allowed_hosts)

    def is_allowed_origin(self, origin: str | None) -> bool:
        """Whether this is another site's page that was allowed by name."""
        return origin is not None and origin.strip().lower() in self._allowed_origins

    def is_foreign_fetch(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser says that a page of another site asks, which was not allowed by name.

        Fetch Metadata (W3C): for a picture or a frame, browsers send no `Origin`. Old ones, and all over plain HTTP to
        another machine, send neither header.
        """
        is_cross_site = headers.get("Sec-Fetch-Site", "").strip().lower() == "cross-site"
        return is_cross_site and not self.is_allowed_origin(headers.get("Origin"))

    def is_known_origin(self, origin: str | None, host_header: str | None) -> bool:
        """Whether this is our own page, an allowed one, or no page at all (bots send no `Origin`)."""
        if origin is None:
            return True
        if self.is_allowed_origin(origin):
            return True
        scheme, separator, netloc = origin.strip().lower().partition("://")
        return bool(separator) and scheme in _SCHEMES and netloc == (host_header or "").strip().lower()


def _given(headers: Mapping[str, str], query: Mapping[str, str]) -> bytes:
    """As a bearer header, as a WebSocket's subprotocol, or as `token` in the query.

    Browsers cannot set headers on a WebSocket, and proxies log queries.
    """
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        offered = (one.strip() for one in headers.get("Sec-WebSocket-Protocol", "").split(","))
        by_protocol = (one.removeprefix(TOKEN_PROTOCOL) for one in offered if one.startswith(TOKEN_PROTOCOL))
        given = next(by_protocol, query.get("token", ""))
    return given.strip().encode("utf-8", "replace")


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None

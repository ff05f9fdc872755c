"""Access checks: the token, a proxy's headers, `Origin` and `Host`.

They keep out four attackers: strangers on the network (token), strangers whom a proxy on this machine lets in (its
headers), pages of other sites in the user's own browser (`Origin`), and such pages that point their own host name at
this machine (DNS rebinding: `Host`). Pure; the other doors call it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from server.config import Settings, is_loopback
from server.doors.access import client_secrets
from server.doors.access.client_secrets import Identity
from server.protocol.errors import Refused
from server.protocol.table import Scope

_SCHEMES = ("http", "https")
# Headers that proxies add to a request (RFC 7239, RFC 9110 section 7.6.3, and older conventions).
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")


def new_token() -> str:
    """160 random bits that need no quoting in a URL or a shell."""
    return secrets.token_hex(20)


class Access:
    """The checks for one server. Header mappings are case-insensitive, as aiohttp's are."""

    def __init__(self, settings: Settings, *, wall_time: Callable[[], float] = time.time) -> None:
        if settings.token is None and settings.is_reachable:
            reason = "others may reach this server (host, public_address or allowed_origins)"
            raise ValueError(f"expected an access token, since {reason}")
        self._token = settings.token
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
    ) -> Identity:
        """Who asks, if they may: the token or a client secret, as a bearer header or as `token` in the query.

        Browsers cannot set headers on a WebSocket. `session`: the stage that the request is about. Raises `Refused`
        (`unauthorized`, `missing_scope`).
        """
        identity = self._identify(headers, query)
        identity.check(scope, session)
        return identity

    def may(self, headers: Mapping[str, str], query: Mapping[str, str], scope: Scope | None = None) -> bool:
        """Without a scope: whether the token or secret is good, whatever it is for."""
        try:
            self.admit(headers, query, scope)
        except Refused:
            return False
        return True

    def make_secret(
        self,
        identity: Identity,
        scopes: Sequence[Scope],
        *,
        lives_s: float,
        session: str | None,
        origins: Sequence[str],
    ) -> tuple[str, int]:
        """A client secret, and the Unix time of its end. Raises `Refused`: only the token's holder makes secrets."""
        if self._token is None:
            raise Refused("not_supported", "this server has no token, so its clients need no secret")
        if not identity.is_key:
            raise Refused("missing_scope", "a client secret cannot make another one; use the access token")
        now = self._wall_time()
        secret = client_secrets.make(self._token, scopes, now=now, lives_s=lives_s, session=session, origins=origins)
        return secret, int(now + lives_s)

    def _identify(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Identity:
        """Raises `Refused` (`unauthorized`)."""
        if self._token is None:
            return Identity(tenant="")  # all are one tenant
        given = self._given(headers, query)
        if hmac.compare_digest(given, self._token.encode()):
            return Identity(client_secrets.tenant_of(self._token))
        text = given.decode("utf-8", "replace")
        if not text.startswith(client_secrets.PREFIX):
            raise Refused("unauthorized", "the access token is missing or wrong")
        origin = headers.get("Origin")
        origin = origin.strip().lower() if origin is not None else None
        return client_secrets.read(text, self._token, now=self._wall_time(), origin=origin)

    def check_proxy(self, headers: Mapping[str, str]) -> None:
        """A server without a token is for this machine's user alone, but a proxy's client may be anybody.

        Raises `Refused` (`token_needed_behind_proxy`).
        """
        if self._token is None and (found := [name for name in PROXY_HEADERS if name in headers]):
            came = f"this request came through a proxy ({found[0]}), and this server has no token"
            raise Refused("token_needed_behind_proxy", f"{came}; start it with --token, or SCENESHIFT_TOKEN")

    @staticmethod
    def _given(headers: Mapping[str, str], query: Mapping[str, str]) -> bytes:
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = query.get("token", "")
        return given.strip().encode("utf-8", "replace")

    def digest(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """Of the token or secret that came, right or wrong. None if none came, or none is needed."""
        given = self._given(headers, query)
        return client_secrets.tenant_of(given.decode("utf-8", "replace")) if given and self._token is not None else None

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


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None

"""Access checks: the token, a proxy's headers, `Origin` and `Host`.

They keep out four attackers: strangers on the network (token), strangers whom a proxy on this machine lets in (its
headers), pages of other sites in the user's own browser (`Origin`), and such pages that point their own host name at
this machine (DNS rebinding: `Host`). Pure; the other doors call it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from server.config import Settings, is_loopback
from server.protocol.errors import Refused

_SCHEMES = ("http", "https")
# Headers that proxies add to a request (RFC 7239, RFC 9110 section 7.6.3, and older conventions).
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")


def new_token() -> str:
    """160 random bits that need no quoting in a URL or a shell."""
    return secrets.token_hex(20)


def address_of(remote: str | None, headers: Mapping[str, str]) -> str | None:
    """Whom a request comes from, to count what one peer takes; None behind a proxy, whose address is everybody's.

    Of an IPv6 address the network, because a host has as many addresses in its own as it likes (RFC 4291 section 2.5).
    """
    if remote is None or any(name in headers for name in PROXY_HEADERS):
        return None
    return str(ipaddress.IPv6Network((remote, 64), strict=False)) if ":" in remote else remote


class Access:
    """The checks for one server. Header mappings are case-insensitive, as aiohttp's are."""

    def __init__(self, settings: Settings) -> None:
        if settings.token is None and settings.is_reachable:
            reason = "others may reach this server (host, public_address or allowed_origins)"
            raise ValueError(f"expected an access token, since {reason}")
        self._token = settings.token
        self._allowed_origins = frozenset(settings.allowed_origins)
        self._allowed_hosts = frozenset(urlsplit(origin).hostname for origin in settings.allowed_origins)
        self._is_loopback = settings.is_loopback

    @property
    def allowed_origins(self) -> list[str]:
        """Other sites that were allowed by name, in order."""
        return sorted(self._allowed_origins)

    def has_token(self, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        """Bearer header, or `token` in the query: browsers cannot set headers on a WebSocket."""
        if self._token is None:
            return True
        return hmac.compare_digest(self._given(headers, query), self._token.encode())

    def check_token(self, headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        """Raises `Refused` (`unauthorized`)."""
        if not self.has_token(headers, query):
            raise Refused("unauthorized", "the access token is missing or wrong")

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

    def holder(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The tenant of a request: one per token. On a server without a token, all are one tenant."""
        return "" if self._token is None else hashlib.blake2b(self._given(headers, query), digest_size=8).hexdigest()

    def is_known_host(self, host_header: str | None) -> bool:
        """On loopback only loopback names are ours: another name for 127.0.0.1 is a page's DNS rebinding."""
        if not self._is_loopback:
            return True  # the token protects
        hostname = _hostname(host_header or "")
        return hostname is not None and (is_loopback(hostname) or hostname in self._allowed_hosts)

    def is_allowed_origin(self, origin: str | None) -> bool:
        """Whether this is another site's page that was allowed by name."""
        return origin is not None and origin.strip().lower() in self._allowed_origins

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

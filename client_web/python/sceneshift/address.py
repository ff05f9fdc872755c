"""A server's addresses, from the URL that a person has at hand. Looks for the token of a server on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from sceneshift.run_file import token_at

DEFAULT_URL = "http://127.0.0.1:8080"
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS = {"http": 80, "https": 443}
_REALTIME = "/v1/realtime"


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address without a slash at its end, and its access token."""

    base: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str | None, token: str | None, environment: Mapping[str, str]) -> Address:
        """From `url` (as `sceneshift serve` prints it, ``#token=…`` included), else SCENESHIFT_URL, else this machine.

        The token likewise, else SCENESHIFT_TOKEN, else that of the user's own server at a loopback address. Raises
        `ValueError`.
        """
        url = url or environment.get("SCENESHIFT_URL") or DEFAULT_URL
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(f"expected an address like {DEFAULT_URL}, got {url!r}")
        path = parts.path.rstrip("/").removesuffix(_REALTIME)
        in_url = parts.fragment.removeprefix("token=") if parts.fragment.startswith("token=") else None
        token = token or in_url or environment.get("SCENESHIFT_TOKEN") or None
        address = cls(f"{_SCHEMES[parts.scheme]}://{parts.netloc}{path}", token)
        if token is None and address.is_this_machine:
            return cls(address.base, token_at(parts.port or _PORTS[_SCHEMES[parts.scheme]], environment))
        return address

    @property
    def realtime_url(self) -> str:
        return self.base.replace("http", "ws", 1) + _REALTIME

    @property
    def is_this_machine(self) -> bool:
        hostname = urlsplit(self.base).hostname or ""
        try:
            return hostname == "localhost" or ipaddress.ip_address(hostname).is_loopback
        except ValueError:
            return False

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def fragment(self) -> str:
        """With the token, for pages; empty without one. Browsers and OBS do not send it."""
        return f"#token={quote(self.token, safe='')}" if self.token else ""

    def whep_url(self, session_id: str) -> str:
        return f"{self.base}/whep/{quote(session_id, safe='')}"

    def obs_url(self, session_id: str) -> str:
        return f"{self.base}/obs/{quote(session_id, safe='')}{self.fragment}"

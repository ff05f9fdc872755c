"""Access checks: strangers, other sites' pages and rebound host names are refused."""

from __future__ import annotations

import time

import pytest

from server.clock import MonotonicClock
from server.config import Settings
from server.doors.access.auth import PROXY_HEADERS, Access
from server.doors.access.keyring import Keyring
from server.protocol.errors import Refused
from server.store.keys import new_token
from server.store.store import Store

TOKEN = "0123456789abcdef0123"


def access(settings: Settings) -> Access:
    keyring = Keyring(Store(), MonotonicClock(), time.time, token=settings.token)
    return Access(settings, keyring, time.time)


@pytest.mark.parametrize(
    "reached",
    [
        {"host": "0.0.0.0"},
        {"public_address": "203.0.113.7"},
        {"allowed_origins": ("https://stage.example",)},
        {"allowed_origins": ("http://localhost:3000", "https://stage.example")},
    ],
)
def test_a_server_that_others_may_reach_cannot_be_built_without_a_token(reached: dict) -> None:
    assert Settings(**reached).is_reachable
    with pytest.raises(ValueError, match="access token, since others may reach"):
        access(Settings(**reached))


@pytest.mark.parametrize("origins", [(), ("http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:3000")])
def test_loopback_and_pages_of_this_machine_need_no_token(origins: tuple[str, ...]) -> None:
    doors = access(Settings(allowed_origins=origins))
    assert doors.admit({}, {}, "admin").tenant == ""


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_a_server_without_a_token_refuses_proxied_requests(name: str) -> None:
    with pytest.raises(Refused, match=f"through a proxy .{name}.*without --no-token"):
        access(Settings()).check_proxy({name: "1"})
    access(Settings()).check_proxy({"Host": "localhost"})
    access(Settings(token=TOKEN)).check_proxy({name: "1"})


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, {}, False),
        ({"Authorization": f"Bearer {TOKEN}"}, {}, True),
        ({"Authorization": f"bearer {TOKEN}"}, {}, True),
        ({"Authorization": f"Bearer  {TOKEN} "}, {}, True),
        ({"Authorization": f"Basic {TOKEN}"}, {}, False),
        ({"Authorization": "Bearer wrong"}, {"token": TOKEN}, False),
        ({"Authorization": "Bearer \udcff"}, {}, False),
        ({}, {"token": TOKEN}, True),
        ({}, {"token": TOKEN[:-1]}, False),
        ({}, {"token": "日" * 20}, False),
        ({}, {"token": ""}, False),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_only_the_right_token_is_accepted_as_bearer_or_query(
    host: str, headers: dict, query: dict, expected: bool
) -> None:
    assert access(Settings(host=host, token=TOKEN)).may(headers, query, "admin") is expected


def test_a_request_without_the_token_is_refused_as_unauthorized() -> None:
    doors = access(Settings(token=TOKEN))
    doors.admit({"Authorization": f"Bearer {TOKEN}"}, {})
    doors.admit({}, {"token": TOKEN})
    with pytest.raises(Refused, match="access token") as refused:
        doors.admit({}, {})
    assert refused.value.detail.code == "unauthorized"


def test_a_server_with_a_token_accepts_any_host_name() -> None:
    assert access(Settings(host="0.0.0.0", token=TOKEN)).is_known_host("stage.example")


@pytest.mark.parametrize(
    ("host_header", "expected"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("[::1]:8080", True),
        ("stage.example", True),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("", False),
        (None, False),
    ],
)
def test_on_loopback_a_foreign_host_name_is_dns_rebinding(host_header: str | None, expected: bool) -> None:
    doors = access(Settings(token=TOKEN, allowed_origins=("https://stage.example",)))
    assert doors.is_known_host(host_header) is expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, True),
        ("http://localhost:8080", True),
        ("https://stage.example", True),
        ("https://STAGE.example", True),
        ("http://localhost:3000", False),
        ("http://evil.example", False),
        ("http://stage.example", False),
        ("https://stage.example.evil.example", False),
        ("null", False),
        ("", False),
        ("file://localhost:8080", False),
    ],
)
def test_pages_of_other_origins_are_refused(origin: str | None, expected: bool) -> None:
    doors = access(Settings(token=TOKEN, allowed_origins=("https://stage.example",)))
    assert doors.is_known_origin(origin, "localhost:8080") is expected


@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        (None, None, False),  # no browser, or an old one
        ("none", None, False),
        ("same-origin", None, False),
        ("same-site", None, False),
        ("cross-site", None, True),
        ("Cross-Site", "null", True),
        ("cross-site", "https://evil.example", True),
        ("cross-site", "https://stage.example", False),
    ],
)
def test_a_browser_tells_that_another_site_asks(site: str | None, origin: str | None, expected: bool) -> None:
    doors = access(Settings(token=TOKEN, allowed_origins=("https://stage.example",)))
    headers = {"Sec-Fetch-Site": site, "Origin": origin}
    assert doors.is_foreign_fetch({name: value for name, value in headers.items() if value}) is expected


def test_tokens_are_fresh_and_long() -> None:
    assert len({new_token() for _ in range(10)}) == 10
    assert len(new_token()) == 40


def test_another_token_is_the_same_tenant_and_an_open_server_has_one() -> None:
    """So what a key has used is not forgotten with a new token."""
    tenant = access(Settings(token=TOKEN)).admit({"Authorization": f"Bearer {TOKEN}"}, {}).tenant
    other = "another-token-of-some-length"
    assert tenant and tenant == access(Settings(token=other)).admit({}, {"token": other}).tenant
    assert access(Settings()).admit({}, {"token": "any"}).tenant == ""

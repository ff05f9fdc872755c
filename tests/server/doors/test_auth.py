"""Access checks: strangers, other sites' pages and rebound host names are refused."""

from __future__ import annotations

import pytest

from server.config import Settings
from server.doors.auth import PROXY_HEADERS, Access, address_of, new_token
from server.protocol.errors import Refused

TOKEN = "0123456789abcdef0123"


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
        Access(Settings(**reached))


@pytest.mark.parametrize("origins", [(), ("http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:3000")])
def test_loopback_and_pages_of_this_machine_need_no_token(origins: tuple[str, ...]) -> None:
    access = Access(Settings(allowed_origins=origins))
    assert access.has_token({}, {})


@pytest.mark.parametrize(
    ("remote", "headers", "expected"),
    [
        ("192.0.2.1", {}, "192.0.2.1"),
        ("2001:db8:0:1::5", {}, "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::9", {"Host": "stage"}, "2001:db8:0:1::/64"),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, None),
        (None, {}, None),
    ],
)
def test_an_address_is_one_hosts_and_not_a_proxys(remote: str | None, headers: dict, expected: str | None) -> None:
    assert address_of(remote, headers) == expected


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_a_server_without_a_token_refuses_proxied_requests(name: str) -> None:
    with pytest.raises(Refused, match=f"through a proxy .{name}.*--token"):
        Access(Settings()).check_proxy({name: "1"})
    Access(Settings()).check_proxy({"Host": "localhost"})
    Access(Settings(token=TOKEN)).check_proxy({name: "1"})


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
    assert Access(Settings(host=host, token=TOKEN)).has_token(headers, query) is expected


def test_a_request_without_the_token_is_refused_as_unauthorized() -> None:
    access = Access(Settings(token=TOKEN))
    access.check_token({"Authorization": f"Bearer {TOKEN}"}, {})
    access.check_token({}, {"token": TOKEN})
    with pytest.raises(Refused, match="access token") as refused:
        access.check_token({}, {})
    assert refused.value.detail.code == "unauthorized"


def test_a_server_with_a_token_accepts_any_host_name() -> None:
    assert Access(Settings(host="0.0.0.0", token=TOKEN)).is_known_host("stage.example")


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
    access = Access(Settings(token=TOKEN, allowed_origins=("https://stage.example",)))
    assert access.is_known_host(host_header) is expected


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
    access = Access(Settings(token=TOKEN, allowed_origins=("https://stage.example",)))
    assert access.is_known_origin(origin, "localhost:8080") is expected


def test_tokens_are_fresh_and_long() -> None:
    assert len({new_token() for _ in range(10)}) == 10
    assert len(new_token()) == 40


def test_each_token_is_one_tenant_whose_name_does_not_reveal_it() -> None:
    access = Access(Settings(token=TOKEN))
    holder = access.holder({"Authorization": f"Bearer {TOKEN}"}, {})
    assert holder == access.holder({}, {"token": TOKEN}) != access.holder({}, {"token": "another"})
    assert holder and TOKEN not in holder
    assert Access(Settings()).holder({}, {"token": "any"}) == ""

"""Who a request comes from, and the guesses of the token that one peer may make."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict
from serving import serving

from server.clock import FakeClock
from server.doors.access import peers as peers_module
from server.doors.access.peers import GUESSES_WITHIN_S, MAX_GUESSES, Peers, Proxies, peer_at
from server.protocol.errors import Refused

TOKEN = "0123456789abcdef0123"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("192.168.0.7", "192.168.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", None),
        ("127.1.2.3", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        (None, None),
    ],
)
def test_a_peer_is_an_address_or_a_network_and_nobody_on_loopback(address: str | None, expected: str | None) -> None:
    assert peer_at(address) == expected


@pytest.mark.parametrize(
    ("trusted", "address", "forwarded", "expected"),
    [
        ((), "203.0.113.9", "", "203.0.113.9"),
        ((), "203.0.113.9", "198.51.100.1", None),
        (("127.0.0.0/8",), "127.0.0.1", "198.51.100.1", "198.51.100.1"),
        (("127.0.0.0/8",), "127.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (("127.0.0.0/8", "10.0.0.0/8"), "127.0.0.1", "198.51.100.1, 10.2.3.4", "198.51.100.1"),
        (("127.0.0.0/8",), "127.0.0.1", "", None),
        (("127.0.0.0/8",), "127.0.0.1", "nonsense", None),
        (("127.0.0.0/8",), "203.0.113.9", "198.51.100.1", "203.0.113.9"),
    ],
)
def test_only_a_trusted_proxy_says_who_asks(
    trusted: tuple[str, ...], address: str, forwarded: str, expected: str | None
) -> None:
    headers = CIMultiDict({"X-Forwarded-For": forwarded} if forwarded else {})
    assert Proxies(trusted).peer_of(address, headers) == expected


async def test_behind_a_trusted_proxy_each_client_has_its_own_guesses() -> None:
    async with serving(token=TOKEN, trusted_proxies=("127.0.0.1/32",)) as server:

        async def ask(client: str, token: str) -> int:
            headers = {"X-Forwarded-For": client, "Authorization": f"Bearer {token}"}
            async with server.http.get("/metrics", headers=headers) as response:
                return response.status

        assert [await ask("203.0.113.9", f"wrong {n}") for n in range(12)] == [401] * 10 + [429] * 2
        assert await ask("203.0.113.9", TOKEN) == 429
        assert await ask("198.51.100.1", TOKEN) == 200


def request(address: str = "203.0.113.9", **headers: str) -> Any:
    return SimpleNamespace(remote=address, headers=CIMultiDict(headers))


def refused(peers: Peers, digest: str, one: Any, *, is_right: bool = False) -> bool:
    try:
        peers.check_token(one, digest, is_right=is_right)
    except Refused as refusal:
        assert refusal.detail.code == "rate_limited" and refusal.detail.retry_after_ms
        return True
    return False


# --- guesses ------------------------------------------------------------------------------------------------------


def test_after_ten_wrong_tokens_a_peer_is_refused_until_the_minute_is_over() -> None:
    clock = FakeClock()
    peers, guesser = Peers(clock), request()
    assert [refused(peers, f"wrong {number}", guesser) for number in range(12)] == [False] * 10 + [True] * 2
    assert refused(peers, "right", guesser, is_right=True), "an answer would tell that the guess is right"
    assert not refused(peers, "wrong", request("203.0.113.10"))
    clock._now += GUESSES_WITHIN_S
    assert not refused(peers, "right", guesser, is_right=True)
    assert [refused(peers, f"wrong {number}", guesser) for number in range(11)] == [False] * 10 + [True]


def test_a_page_with_an_old_token_may_ask_again_and_locks_nobody_out() -> None:
    peers = Peers(FakeClock())
    assert not any(refused(peers, old, request()) for old in ("old", "older") * 100)
    assert not refused(peers, "right", request(), is_right=True)


@pytest.mark.parametrize("one", [request("127.0.0.1"), request(Via="1.1 proxy"), request(**{"X-Forwarded-For": "::1"})])
def test_where_strangers_share_an_address_none_of_them_locks_out_the_others(one: Any) -> None:
    peers = Peers(FakeClock())
    assert not any(refused(peers, f"wrong {number}", one) for number in range(100))
    assert peers.of(one) is None


def test_an_operator_may_say_that_addresses_tell_nothing() -> None:
    peers = Peers(FakeClock(), tells_apart=False)
    assert not any(refused(peers, f"wrong {number}", request()) for number in range(100))


def test_only_the_newest_peers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 2)
    peers = Peers(FakeClock())
    for number in range(1, 5):
        assert not refused(peers, "wrong", request(f"203.0.113.{number}"))
    assert list(peers._guesses) == ["203.0.113.3", "203.0.113.4"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/realtime", "/v1/sessions/my-show/watch"])
async def test_every_door_refuses_a_guesser_before_it_opens(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(peers_module, "peer_at", lambda address: "203.0.113.9")
    async with serving(token=TOKEN) as harness:
        for number in range(MAX_GUESSES):
            async with harness.http.get(f"/metrics?token=wrong-{number}") as response:
                assert response.status == 401
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        headers = upgrade | {"Authorization": f"Bearer {TOKEN}"}
        async with harness.http.get(path, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (429, "rate_limited")
            assert 0 < int(response.headers["Retry-After"]) <= 60
        async with harness.http.get("/livez") as response:
            assert response.status == 200, "what needs no token is no guess"

"""Accounts of keys, client secrets and addresses: budgets over restarts, days and clocks, and their other limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.accounts import accounts as module
from server.accounts.account import DAY_S
from server.accounts.accounts import Accounts, LimitedSecret
from server.accounts.payer import NOBODY, Payer
from server.clock import FakeClock
from server.protocol.errors import Refused
from server.protocol.limits import NONE, Limits, parsed, written
from server.store import spent
from server.store.keys import Key
from server.store.store import FILE_NAME, Store

MIDNIGHT = 20_000 * DAY_S
NOON = MIDNIGHT + DAY_S / 2
SCOPES = frozenset(("prompt",))


class Ledger:
    """Accounts on a store that outlives them, with clocks that the test moves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wall_time_s = float(NOON)
        self.clock = FakeClock()

    async def open(self, of_address: Limits = NONE) -> Accounts:
        self.store = Store(self.path)
        self.store.open()
        self.accounts = Accounts(self.store, self.clock, lambda: self.wall_time_s, of_address=of_address)
        await self.accounts.open()
        return self.accounts

    async def restart(self, of_address: Limits = NONE, *, is_killed: bool = False) -> Accounts:
        if not is_killed:
            await self.accounts.flush()
        self.store.close()
        return await self.open(of_address)

    def payer(self, secret: LimitedSecret | None = None, address: str | None = None, **limits: float) -> Payer:
        key = Key("k1", "shop", "sk_k1_x", SCOPES, limits=Limits(**limits))  # type: ignore[arg-type]
        return self.accounts.payer("k1", key, secret=secret, address=address)

    def secret(self, lives_s: float = 600.0, name: str = "j1", **limits: float) -> LimitedSecret:
        return LimitedSecret(name, Limits(**limits), NOON + lives_s)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(tmp_path / FILE_NAME)
    await ledger.open()
    yield ledger
    ledger.store.close()


def refusal(payer: Payer, seconds: float = 1.0) -> Refused | None:
    try:
        payer.check(seconds)
    except Refused as refused:
        return refused
    return None


def spend(payer: Payer, seconds: float) -> None:
    payer.reserve(seconds).settle(seconds)


# --- engine seconds ---------------------------------------------------------------------------------------------------


async def test_a_budget_refuses_what_it_cannot_pay_and_says_when_it_is_new(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    spend(payer, 8.0)
    payer.check(2.0)
    refused = refusal(payer, 2.1)
    assert refused is not None
    detail = refused.detail
    assert (detail.code, detail.retryable, detail.retry_after_ms) == ("budget_exhausted", True, DAY_S / 2 * 1000)
    assert "the key `shop`" in detail.message and "sk_" not in detail.message


async def test_what_is_reserved_counts_until_the_end_tells_what_it_was(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    first, second = payer.reserve(4.0), payer.reserve(4.0)
    assert refusal(payer, 4.0)
    first.settle(1.0)
    first.settle(9.0)  # told once
    payer.check(4.0)
    second.settle(0.0)  # a clip that was made before
    payer.check(9.0)
    assert refusal(payer, 9.1)


async def test_a_cost_that_is_not_known_yet_is_taken_while_anything_is_left(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    spend(payer, 9.9)
    payer.check(0.0)
    spend(payer, 0.1)
    assert refusal(payer, 0.0)
    assert refusal(ledger.payer(engine_s=10), 0.0)
    assert refusal(ledger.payer(ledger.secret(engine_s=0)), 0.0)


async def test_the_place_of_a_clip_that_goes_first_is_free_for_the_next(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    reservation = payer.reserve(9.0)
    payer.check(9.0, returning=reservation)
    assert refusal(payer, 9.0)


async def test_a_secret_spends_its_own_budget_and_its_keys(ledger: Ledger) -> None:
    one, other = ledger.secret(engine_s=5), ledger.secret(name="j2", engine_s=5)
    spend(ledger.payer(one, engine_s=8), 5.0)
    refused = refusal(ledger.payer(one, engine_s=8))
    assert refused is not None and "this client secret" in refused.detail.message
    assert refused.detail.retry_after_ms == 600_000  # the end of its life
    ledger.payer(other, engine_s=8).check(3.0)
    refused = refusal(ledger.payer(other, engine_s=8), 3.1)
    assert refused is not None and "the key `shop`" in refused.detail.message


async def test_a_secret_that_asks_for_more_than_its_key_gets_no_more(ledger: Ledger) -> None:
    payer = ledger.payer(ledger.secret(engine_s=1000, session_s=900, sessions=9), engine_s=2, session_s=60, sessions=1)
    assert refusal(payer, 3.0)
    assert payer.session_s == 60
    payer.enter_stage(1)
    with pytest.raises(Refused, match="shop"):
        payer.enter_stage(1)


async def test_a_secret_has_one_window_over_midnight_and_none_after_its_end(ledger: Ledger) -> None:
    secret = ledger.secret(lives_s=DAY_S, engine_s=5)
    spend(ledger.payer(secret), 5.0)
    ledger.wall_time_s = MIDNIGHT + DAY_S + 1
    assert refusal(ledger.payer(secret))
    ledger.wall_time_s = NOON + DAY_S
    refused = refusal(ledger.payer(secret))  # a stage that began in time goes on
    assert refused is not None and refused.detail.retry_after_ms is None


async def test_a_new_day_brings_a_new_budget_and_a_clock_set_back_brings_none(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    ledger.wall_time_s = MIDNIGHT + DAY_S - 2
    spend(payer, 10.0)
    ledger.wall_time_s += 3
    payer.check(10.0)
    spend(payer, 6.0)
    ledger.wall_time_s -= 3  # the clock is corrected
    assert refusal(payer, 0.1)
    ledger.wall_time_s += 3
    payer.check(4.0)
    assert refusal(payer, 4.1)


async def test_a_clip_over_midnight_belongs_to_the_day_that_it_began_in(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    reservation = payer.reserve(6.0)
    ledger.wall_time_s += DAY_S
    reservation.settle(9.0)
    payer.check(10.0)
    (yesterday,) = (await ledger.accounts.days(["k1"], 7))["k1"]
    assert (yesterday.window, yesterday.engine_s, yesterday.generations) == (20_000, 9.0, 1)


# --- kept -------------------------------------------------------------------------------------------------------------


async def test_budgets_outlive_a_restart(ledger: Ledger) -> None:
    secret = ledger.secret(engine_s=5)
    spend(ledger.payer(secret, address="203.0.113.9", engine_s=10), 4.0)
    await ledger.restart(Limits(engine_s=4.5))
    assert not refusal(ledger.payer(secret, engine_s=10))
    assert refusal(ledger.payer(secret, engine_s=10), 1.1)
    assert refusal(ledger.payer(engine_s=10), 6.1)
    assert not refusal(ledger.payer(address="203.0.113.9", engine_s=10), 4.5)  # it had no budget then
    spend(ledger.payer(address="203.0.113.9", engine_s=10), 4.0)
    await ledger.restart(Limits(engine_s=4.5))
    assert refusal(ledger.payer(address="203.0.113.9", engine_s=10), 1.0)
    assert not refusal(ledger.payer(address="203.0.113.10", engine_s=10), 1.0)


async def test_a_killed_process_loses_one_second_of_what_was_spent(ledger: Ledger) -> None:
    payer = ledger.payer(engine_s=10)
    spend(payer, 5.0)
    held = payer.reserve(2.0)
    await ledger.accounts.flush()
    held.settle(3.0)  # too late to be written
    spend(payer, 1.0)
    await ledger.restart(is_killed=True)
    assert refusal(ledger.payer(engine_s=10), 3.1) and not refusal(ledger.payer(engine_s=10), 3.0)


async def test_what_the_store_could_not_take_is_written_later(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    payer = ledger.payer(engine_s=10)
    spend(payer, 2.0)
    await ledger.store.ask(lambda connection: connection.execute("ALTER TABLE spent RENAME TO gone"))
    await ledger.accounts.flush()
    spend(payer, 1.0)
    await ledger.accounts.flush()
    assert len([record for record in caplog.records if "not written down" in record.getMessage()]) == 1
    await ledger.store.ask(lambda connection: connection.execute("ALTER TABLE gone RENAME TO spent"))
    (today,) = (await ledger.accounts.days(["k1"], 1))["k1"]
    assert (today.engine_s, today.generations) == (3.0, 2)


async def test_old_rows_are_forgotten(ledger: Ledger) -> None:
    spend(ledger.payer(ledger.secret(engine_s=5), engine_s=10), 1.0)
    await ledger.accounts.flush()
    for days, left in ((2, 1), (401, 0)):
        now = NOON + days * DAY_S
        await ledger.store.ask(lambda connection, now=now: spent.forget(connection, now))
        assert len(await ledger.store.ask(lambda connection: spent.since(connection, 0))) == left


async def test_only_the_newest_secrets_are_remembered_unless_something_of_them_is_open(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OTHERS", 2)
    open_one = ledger.payer(ledger.secret(name="open", sessions=1))
    place = open_one.enter_stage(1)
    for number in range(5):
        ledger.payer(ledger.secret(name=f"j{number}", sessions=1))
    assert list(ledger.accounts._others["secret"]) == ["secret k1/j3", "secret k1/j4"]
    with pytest.raises(Refused):
        ledger.payer(ledger.secret(name="open", sessions=1)).enter_stage(1)
    place.leave()


# --- the other limits -------------------------------------------------------------------------------------------------


async def test_a_reconnect_refills_no_bucket(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.payer(connects_per_min=3).connect()
    with pytest.raises(Refused, match="the key `shop` may have 3 connections a minute") as refused:
        ledger.payer(connects_per_min=3).connect()
    assert (refused.value.detail.code, refused.value.detail.retry_after_ms) == ("rate_limited", 20_000)
    await ledger.clock.advance(20)
    ledger.payer(connects_per_min=3).connect()


async def test_a_prompt_that_one_account_refuses_takes_nothing_from_another(ledger: Ledger) -> None:
    secret = ledger.secret(prompts_per_min=1)
    ledger.payer(secret, prompts_per_min=3).prompt()
    for _ in range(5):
        with pytest.raises(Refused, match="this client secret"):
            ledger.payer(secret, prompts_per_min=3).prompt()
    for _ in range(2):
        ledger.payer(prompts_per_min=3).prompt()


async def test_the_stages_of_a_key_share_its_places_and_pixels(ledger: Ledger) -> None:
    payer = ledger.payer(sessions=2, pixels_per_s=1000)
    first = payer.enter_stage(600)
    for pixels, code in ((401, "server_full"), (1001, "invalid_value")):
        with pytest.raises(Refused, match="1000 pixels a second") as refused:
            payer.check_stage(pixels)
        assert refused.value.detail.code == code
    payer.check_stage(1000, replaced=first)
    second = payer.enter_stage(400)
    with pytest.raises(Refused, match="2 stages at once"):
        payer.check_stage(0)
    payer.check_stage(400, replaced=second)
    first.leave()
    first.leave()
    payer.enter_stage(600)


async def test_viewers_at_once(ledger: Ledger) -> None:
    places = [ledger.payer(viewers=2).enter_viewer() for _ in range(2)]
    with pytest.raises(Refused) as refused:
        ledger.payer(viewers=2).enter_viewer()
    assert (refused.value.detail.code, refused.value.detail.retry_after_ms) == ("too_many_viewers", 5000)
    places[0].leave()
    ledger.payer(viewers=2).enter_viewer()


async def test_an_address_counts_for_all_keys_and_only_if_it_is_told_apart(ledger: Ledger) -> None:
    accounts = await ledger.restart(Limits(connects_per_min=1))
    accounts.payer("a", None, address="203.0.113.9").connect()
    with pytest.raises(Refused, match="this address"):
        accounts.payer("b", None, address="203.0.113.9").connect()
    for _ in range(3):
        accounts.payer("b", None, address=None).connect()


def test_nobody_pays_on_a_server_without_accounts() -> None:
    NOBODY.connect()
    NOBODY.prompt()
    spend(NOBODY, 1e9)
    NOBODY.enter_stage(10**9).leave()
    assert (NOBODY.session_s, NOBODY.stored_bytes, NOBODY.messages) == (None, None, ())


# --- limits as text ---------------------------------------------------------------------------------------------------


def test_limits_are_read_and_written_as_an_operator_types_them() -> None:
    limits = parsed(["engine_s=600", "prompts_per_min=0.5", "sessions=2"])
    assert limits == Limits(engine_s=600, prompts_per_min=0.5, sessions=2)
    assert written(limits) == "engine_s=600 sessions=2 prompts_per_min=0.5"
    assert written(NONE) == ""


@pytest.mark.parametrize("text", ["gold=1", "engine_s", "engine_s=", "engine_s=-1", "sessions=1.5", "viewers=x"])
def test_a_wrong_limit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        parsed([text])

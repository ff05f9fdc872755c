"""`sceneshift bench hostile` in short: some of its attacks on a real server, with the bounds that no load moves."""

from __future__ import annotations

import random
import re
import secrets
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "server"))

from serving import serving

from bench.attacks.attacker import Attacker, client, counting
from bench.attacks.table import ATTACKS
from bench.live import hostile
from bench.live.hostile import Row, broken_bounds, flags_of, under_attack
from bench.parts.served import served
from bench.parts.show import Show
from server.doors.connections import ConnectionBounds
from tests.seeds import seeds

TOKEN = "0123456789abcdef0123"
# They need neither another server nor more time than the test has.
QUICK = (
    *("bad-heads", "endless-requests", "unknown-scripts", "guessed-tokens", "forged-secrets", "connections"),
    *("reconnecting", "messages-no-token", "watch-no-token", "stray-packets", "aborted-uploads", "other-sites"),
    *("snapshots", "messages", "mixed-messages", "pings", "large-frames", "sending-watchers", "unreading-viewers"),
    *("guessed-resumes", "taken-names", "sending-viewer", "quadratic-offer", "large-offers", "unwatched-places"),
    *("candidates", "feedback", "media-to-us"),
)
NUM_ATTACKS = 6


@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(1))
async def test_a_show_beside_hostile_clients_keeps_its_bounds(seed: int, tmp_path: Path) -> None:
    """One second an attack, all on one server. Without the stalls and the play ratio, which a busy machine breaks."""
    names, token = random.Random(seed).sample(QUICK, NUM_ATTACKS), secrets.token_hex(20)
    async with served(flags_of(ATTACKS["nobody"], token, str(tmp_path))) as server:
        async with client(server.url.replace("localhost", "127.0.0.1"), token) as http:
            async with Show(server, http).on() as show:
                for name in names:
                    row = await under_attack(name, show, server, token, seconds=1.0)
                    holes = [bound for bound in row.broken if not bound.startswith(("stall", "play ratio"))]
                    assert holes == [], row
                assert show.is_on


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("half-heads", "0 of 200 held after 5 s"),
        ("half-bodies", "0 of 50 held after 5 s"),
        ("silent", "0 of 900 held after 5 s"),
        # 1006: it sent on for a second after its refusal, so the server has hung up without a goodbye.
        ("messages", r"\d+ sent; close codes: .*100[68] \d+ times.*"),
    ],
)
async def test_an_attack_tells_what_it_got(name: str, outcome: str) -> None:
    """On a server whose bounds of time are short."""
    attack, bounds = ATTACKS[name], ConnectionBounds(most=100, head_s=0.1, body_s=0.1)
    async with serving(token=TOKEN, build={"bounds": bounds}) as harness:
        await harness.controller(name="show", token=TOKEN)
        url = str(harness.http._base_url).rstrip("/")
        with counting() as sent:
            async with client(url, None if attack.is_stranger else TOKEN) as http:
                attacker = Attacker(http, url, TOKEN, attack.is_stranger, hold_heads_s=5.0, hold_bodies_s=5.0)
                told = await attack.run(attacker)
    assert re.fullmatch(outcome, told.got), told
    assert told.holes == []
    assert sent.num_bytes > 0 or name == "silent"


def _row(**figures: object) -> Row:
    row = Row("x", "token", "loopback", "-", 45, 1.0, 5, growth_mb=0, files=9, files_left=0, log_bytes=0, log_share=0.0)
    return replace(row, **figures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "broken"),
    [
        ({}, []),
        ({"stall_ms": 61, "files_left": 1, "log_bytes": 9000, "log_share": 0.2}, []),
        ({"stall_ms": 101, "play_ratio": 0.999}, ["stall over 100 ms", "play ratio below 1.0"]),
        ({"growth_mb": 33}, ["memory over 32 MB"]),
        ({"by": "stranger", "stall_ms": 61}, ["stall over 60 ms"]),
        ({"by": "stranger", "files_left": 1}, ["files left open"]),
        ({"by": "stranger", "log_bytes": 9000, "log_share": 0.2}, ["log over 0.1 bytes a byte"]),
        ({"by": "stranger", "log_bytes": 200, "log_share": 9.0}, []),
    ],
)
def test_a_row_names_the_bounds_that_it_broke(figures: dict[str, object], broken: list[str]) -> None:
    assert broken_bounds(_row(**figures)) == broken


def test_a_broken_bound_is_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def beside_a_show(name: str, **options: object) -> Row:
        return _row(attack=name, broken=["memory over 32 MB"] if name == "messages" else [])

    monkeypatch.setattr(hostile, "beside_a_show", beside_a_show)
    assert hostile.main(["--only", "nobody"]) == 0
    assert hostile.main(["--only", "nobody", "messages"]) == 1
    told = capsys.readouterr()
    assert "| messages | token |" in told.out and told.err == ""


def test_a_machine_that_is_too_busy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def beside_a_show(name: str, **options: object) -> Row:
        return _row(attack=name, broken=["stall over 60 ms"])

    monkeypatch.setattr(hostile, "beside_a_show", beside_a_show)
    assert hostile.main(["--only", "nobody"]) == 1
    assert "too busy" in capsys.readouterr().err

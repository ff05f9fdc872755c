"""The attacks of `sceneshift bench faults --attacks` do what they say: on a real server, for a fraction of a second."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "server"))

from serving import serving

from bench.live import attacks
from server.doors.connections import ConnectionBounds

BOUNDS = ConnectionBounds(most=100, head_s=0.1, body_s=0.1)


@pytest.mark.parametrize(
    ("attack", "outcome"),
    [
        ("message-flood", r"\d+ sent; close codes: .*1008 \d+ times.*"),
        ("ping-flood", r"\d+ sent; close codes: .*1008 \d+ times.*"),
        ("reconnecting", r"\d+ sockets in 0 s"),
        ("half-heads", "0 of 200 held after 5 s"),
        ("half-bodies", "0 of 50 held after 5 s"),
        ("silent", "0 of 900 held after 5 s"),
    ],
)
async def test_an_attack_tells_what_it_got(monkeypatch: pytest.MonkeyPatch, attack: str, outcome: str) -> None:
    monkeypatch.setattr(attacks, "ATTACK_S", 5.0 if "flood" in attack else 0.3)
    monkeypatch.setattr(attacks, "HOLD_HEADS_S", 5.0)
    monkeypatch.setattr(attacks, "HOLD_BODIES_S", 5.0)
    async with serving(token=attacks.TOKEN, build={"bounds": BOUNDS}) as harness:
        await harness.controller(name="show", token=attacks.TOKEN)
        url = str(harness.http._base_url)
        told = await attacks._attack(attack, url, None if attack in attacks.STRANGERS else attacks.TOKEN)
    assert re.fullmatch(outcome, told), told

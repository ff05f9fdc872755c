"""`sceneshift bench clips` on a real server that is really killed, with the synthetic engine."""

from __future__ import annotations

import json

import pytest

from bench.live import clips


def test_five_kills_lose_and_double_none_of_twenty_clips(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--kill", "5", "--clips", "20", "--engine", "synthetic", "--without-full-disk", "--json"]
    status = clips.main(options)
    result = json.loads(capsys.readouterr().out)
    assert result["met"] == {"none_lost_or_twice": True, "no_half_file": True, "integrity": True}
    assert status == 0 and result["killed"]["kills"] == 5 and result["killed"]["begun_again"] > 0


def test_a_missed_bound_is_status_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def missed(_: object) -> dict[str, object]:
        return {"met": {"a": True, "b": False}}

    monkeypatch.setitem(clips._RUNS, "queue", missed)
    assert clips.main(["--queue", "10", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["met"] == {"a": True, "b": False}

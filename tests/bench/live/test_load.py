"""`sceneshift bench load` measures what it says: on the real server, with real controllers and viewers, for seconds."""

from __future__ import annotations

import json

import pytest

from bench.live import load


def test_two_stages_for_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--engine", "synthetic", "--sessions", "2", "--duration", "2", "--gap", "0.5", "--json"]
    assert load.main(options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["prompts"] == len(result["each"]) > 2
    assert result["prompts_with_exactly_one_end"] == result["prompts"]
    assert result["ends"]["applied"] == result["server"]["picture_ms"]["n"] == result["controller"]["picture_ms"]["n"]
    assert result["estimate_error"]["picture"]["n"] == result["ends"]["applied"]
    assert [seen["frames_decoded"] > 20 for seen in result["viewers"]] == [True, True]
    assert result["processes"]["server"]["cores"] > 0
    assert result["reused"] == 0
    assert set(result["met"]) == {"every_prompt_ends_once", "continuous_play", "estimates", "no_errors"}
    assert "prompt to picture" in load._table(result)


def test_percentiles_are_measured_values() -> None:
    assert load._percentile([1.0], 0.99) == 1.0
    hundred = [float(number) for number in range(1, 101)]
    assert [load._percentile(hundred, share) for share in (0.5, 0.9, 0.95, 0.99)] == [50.0, 90.0, 95.0, 99.0]


def test_an_estimate_is_off_by_its_share_of_what_was_real() -> None:
    pairs = [(100.0, 200.0), (300.0, 200.0), (None, 200.0), (100.0, None), (200.0, 200.0)]
    assert load._errors(pairs) == {"n": 3, "p50": 0.5, "p90": 0.5}


def test_a_missing_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert load.main(["--url", "http://127.0.0.1:9", "--duration", "1"]) == 2
    assert "bench load:" in capsys.readouterr().err

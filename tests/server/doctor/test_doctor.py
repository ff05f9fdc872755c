"""The doctor's output, for given findings of the engine's part."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from server.config import Settings
from server.doctor import doctor

PLAN = ["transformer: fp8, 4.7 GiB, stays on the GPU", "peak: 14.8 of 14.9 GiB"]


def found(**changes: Any) -> dict[str, Any]:
    profile = {
        "name": "embedded",
        "folder": "/somewhere",
        "hub_id": "",
        "steps": {"fast": 4, "fine": 8},
        "clip": "416x256, 25 frames",
        "seconds": None,
        "weight_bytes": 27 * 2**20,
        "fits": True,
        "why": "",
        "plan": [],
    }
    large = {
        **profile,
        "name": "wan2.2-ti2v-5b",
        "folder": None,
        "hub_id": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        "weight_bytes": 21 * 2**30,
        "fits": False,
        "why": "4.0 GB of GPU memory are too few",
    }
    return {
        "torch": "2.13.0",
        "default_model": "embedded",
        "devices": [],
        "host_memory": {"total_bytes": 24 * 2**30, "free_bytes": 12 * 2**30},
        "dtype": "float32",
        "attention": "native",
        "compiler": None,
        "hub_cache": {"folder": "/cache/hub", "free_bytes": 2**30},
        "core_share": 0.97,
        "shared_memory": {"folder": "/dev/shm", "free_bytes": 2**30, "needed_bytes": 128 * 2**20},
        "profiles": [profile, large],
        **changes,
    }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The answer of the engine's part; a test may change it."""
    answer = found()
    monkeypatch.setattr(doctor, "ask_engine", lambda _: (answer, ""))
    monkeypatch.setattr(doctor, "network_findings", lambda _: [])
    return answer


def test_a_line_for_each_thing_and_a_row_for_each_profile(
    engine: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "memory             ok       24.0 GiB, 12.0 GiB free" in lines
    assert "gpu                absent" in lines
    assert "model weights      ok       embedded, 27.0 MiB" in lines
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["embedded"].split()[1:4] == ["*", "27.0", "MiB"] and rows["embedded"].endswith("not measured")
    assert "  4.0 GB of GPU memory are too few" in lines
    assert "  Wan-AI/Wan2.2-TI2V-5B-Diffusers would be downloaded at the first start" in lines


def test_a_small_shared_memory_gets_advice_and_does_not_fail_the_check(
    engine: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.main([])
    assert "shared memory      ok       1.0 GiB free in /dev/shm" in capsys.readouterr().out
    engine["shared_memory"]["free_bytes"] = 64 * 2**20  # of a container, unless it is given more
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    assert "shared memory      FAILED" in out
    assert "64.0 MiB free in /dev/shm, 128.0 MiB needed" in out and "--shm-size=256m" in out
    engine["shared_memory"] = None
    doctor.main([])
    assert "shared memory      absent" in capsys.readouterr().out


def test_a_busy_machine_gets_advice_and_does_not_fail_the_check(
    engine: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.main([])
    assert "free cores         ok       the engine would get 97% of a core when it wants one" in capsys.readouterr().out
    engine["core_share"] = 0.12
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    assert "free cores         FAILED" in out
    assert "this machine is busy: the engine would get 12% of a core" in out and "close programs" in out
    engine["core_share"] = None
    doctor.main([])
    assert "free cores         absent" in capsys.readouterr().out


def test_a_gpu_and_its_plan_are_shown(engine: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    gpu = {"name": "Some GPU", "total_bytes": 16 * 2**30, "free_bytes": 15 * 2**30}
    engine["devices"] = [gpu]
    engine["profiles"][1] |= {"fits": True, "why": "", "plan": PLAN}
    doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    assert "gpu                ok       Some GPU, 16.0 GiB, 15.0 GiB free" in lines
    assert all(f"  {line}" in lines for line in PLAN)


def test_an_engine_that_cannot_start_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "ask_engine", lambda _: ({}, "ImportError: libcudart.so.12"))
    monkeypatch.setattr(doctor, "network_findings", lambda _: [])
    assert doctor.main([]) == 1
    printed = capsys.readouterr()
    assert "engine             MISSING" in printed.out.splitlines()
    assert "libcudart.so.12" in printed.err


def test_missing_weights_fail_the_check(engine: dict[str, Any]) -> None:
    engine["profiles"] = engine["profiles"][1:]
    assert doctor.main([]) == 1


def test_json_has_the_findings_and_the_engines_answer(
    engine: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["is_complete"] is True and told["engine"] == engine
    gpu = {"name": "gpu", "mark": "absent", "found": None, "is_needed": False, "advice": ""}
    assert gpu in told["findings"]


def test_the_network_is_checked_with_the_settings_of_serve(
    engine: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[Settings] = []

    def look(settings: Settings) -> list[doctor.Finding]:
        asked.append(settings)
        return [doctor.Finding("stun:a", None, advice="no answer: is it running?")]

    monkeypatch.setattr(doctor, "network_findings", look)
    monkeypatch.setenv("SCENESHIFT_UDP_PORTS", "50000-50010")
    file = tmp_path / "sceneshift.toml"
    file.write_text("port = 1234\n")
    assert doctor.main(["--config", str(file), "--ice-servers", "stun:a"]) == 0
    assert (asked[0].udp_ports, asked[0].ice_servers, asked[0].port) == ((50000, 50010), ("stun:a",), 1234)
    lines = capsys.readouterr().out.splitlines()
    where = lines.index("stun:a             FAILED")
    assert lines[where + 1].strip() == "no answer: is it running?"
    assert any(line.startswith("port 1234 ") for line in lines)


def test_an_invalid_size_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--gpu-memory", "much"]) == 2
    assert "--gpu-memory" in capsys.readouterr().err


def test_what_is_known_is_printed_while_the_engine_still_looks(
    engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed_before: list[str] = []
    is_shown = threading.Event()

    def look(_: Settings) -> list[doctor.Finding]:
        printed_before.extend(capsys.readouterr().out.splitlines())
        is_shown.set()
        return []

    def ask(_: int | None) -> tuple[dict[str, Any], str]:
        assert is_shown.wait(60), "the engine's answer was waited for before anything else"
        return engine, ""

    monkeypatch.setattr(doctor, "network_findings", look)
    monkeypatch.setattr(doctor, "ask_engine", ask)
    assert doctor.main([]) == 0
    assert printed_before[0].startswith("python ") and any(line.startswith("h264 encoder") for line in printed_before)
    assert capsys.readouterr().out.startswith("memory ")

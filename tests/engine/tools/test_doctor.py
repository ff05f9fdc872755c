"""The engine's half of the doctor: what each profile needs, where it is, and whether it fits."""

from __future__ import annotations

import json
from typing import Any

from engine.tools import doctor

GB = 10**9


def profiles(gpu_memory_bytes: int | None = None) -> dict[str, dict[str, Any]]:
    found = doctor.find(gpu_memory_bytes)
    json.dumps(found)  # it crosses a pipe
    return {profile["name"]: profile for profile in found["profiles"]}


def test_the_embedded_model_is_here_and_fits() -> None:
    embedded = profiles()["embedded"]
    assert embedded["folder"] and embedded["fits"]
    assert 20e6 < embedded["weight_bytes"] < 40e6


def test_the_engines_share_of_the_cores_is_measured() -> None:
    share = doctor.core_share()
    assert share is None or 0.0 < share <= 1.0


def test_the_shared_memory_is_compared_with_what_the_engine_and_its_spare_take() -> None:
    memory = doctor.find(None)["shared_memory"]
    assert memory is None or (memory["needed_bytes"] == 128 * 2**20 and memory["free_bytes"] > 0)


def test_the_plan_for_a_gpu_lists_where_each_part_would_live() -> None:
    found = profiles(16 * GB)
    assert found["fastwan2.2-5b"]["fits"]
    assert found["fastwan2.2-5b"]["plan"][0].startswith("transformer: ")
    assert round(found["fastwan2.2-5b"]["weight_bytes"] / 1e9, 1) == 22.8
    too_small = profiles(3 * GB)["wan2.2-t2v-a14b"]
    assert not too_small["fits"] and "it needs" in too_small["why"]

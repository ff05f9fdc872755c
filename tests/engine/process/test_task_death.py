"""An engine whose own task dies ends its events, so that its reader knows that no more will come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.api import EngineReady, Generate
from engine.clip_cache.caching_engine import CacheSettings, CachingEngine
from engine.config import EngineSettings
from engine.process.supervisor import EngineProcess
from engine.synthetic import SyntheticEngine

PATIENCE_S = 20.0


async def _read_to_the_end(engine: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in engine.events()]


@pytest.mark.parametrize("is_cached", [False, True])
async def test_the_events_end_when_the_synthetic_engines_task_dies(
    is_cached: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = SyntheticEngine()
    engine: Any = CachingEngine(inner, CacheSettings(2**20, 0, tmp_path), fingerprint="x") if is_cached else inner
    monkeypatch.setattr(inner, "_generate", lambda command: 1 / 0)
    await engine.open()
    engine.send(Generate("s1.1", "scene 1", stage_id="s1"))
    assert [type(event) for event in await _read_to_the_end(engine)] == [EngineReady]
    await engine.close()


async def test_the_events_end_when_the_supervisor_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EngineProcess(EngineSettings())

    async def die() -> None:
        raise ZeroDivisionError("scripted")

    monkeypatch.setattr(engine, "_supervise", die)
    await engine.open()
    assert await _read_to_the_end(engine) == []
    await engine.close()

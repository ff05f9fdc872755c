"""`sceneshift bench engine`: times the engine alone, prompt to first preview and to the clip, for both qualities.

The real engine process and the embedded model, nothing on air, one prompt after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

from bench.parts.machine import machine_facts
from engine.api import EngineReady, Generate, GenerationFinished, PreviewReady, Quality
from engine.config import EngineSettings, LoadSettings
from engine.process.supervisor import EngineProcess

PROMPTS = ("the sea at sunset", "夜晚的雪山", "a red fish under water", "城市的黎明", "a volcano erupting at night")


async def run(rounds: int, model: str) -> dict[str, Any]:
    engine = EngineProcess(EngineSettings(load=LoadSettings(model=model), keep_spare=False))
    await engine.open()
    events = engine.events()
    figures: dict[str, Any] = {}
    try:
        async for event in events:
            if isinstance(event, EngineReady):
                figures["startup_s"] = round(event.startup_s, 2)
                break
        assert engine.model is not None
        for quality in Quality:
            measured = []
            for index in range(rounds):
                command = Generate(f"{quality}-{index}", PROMPTS[index % len(PROMPTS)], quality, seed=index)
                measured.append(await one(engine, events, command))
            figures[quality] = summary(measured, engine.model.num_steps[quality], engine.model.duration_s)
    finally:
        await engine.close()
    return {"bench": "engine", "machine": machine_facts(), "model": model, "rounds": rounds, **figures}


async def one(engine: EngineProcess, events: Any, command: Generate) -> dict[str, float]:
    began_at = time.monotonic()
    engine.send(command)
    preview_s = 0.0
    async for event in events:
        if isinstance(event, PreviewReady) and not preview_s:
            preview_s = time.monotonic() - began_at
        if isinstance(event, GenerationFinished):
            spent = event.timings
            return {
                "preview_s": preview_s,
                "clip_s": time.monotonic() - began_at,
                "denoised_s": spent.denoised_s,
                "previewed_s": spent.previewed_s,
                "decoded_s": spent.decoded_s,
            }
    raise RuntimeError("the engine closed")


def summary(measured: list[dict[str, float]], num_steps: int, duration_s: float) -> dict[str, Any]:
    medians = {name: statistics.median(row[name] for row in measured) for name in measured[0]}
    return {
        "num_steps": num_steps,
        "real_time_factor": round(duration_s / medians["clip_s"], 2),
        **{f"{name.removesuffix('_s')}_ms": round(value * 1000) for name, value in medians.items()},
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args(argv)
    result = asyncio.run(run(arguments.rounds, arguments.model))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:<12} {value}")
    return 0

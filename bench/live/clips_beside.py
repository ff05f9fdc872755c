"""`bench clips --beside`: live stages alone, then while clips are made, then the clips alone."""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from bench.live.load import WatchedStage
from bench.parts import clip_shop
from bench.parts.served import served

MEAN_GAP_S = 10.0
PREVIEW_GROWTH = 1.05
# Clips that are made without stages, to compare.
NUM_ALONE = 20
MOST_BESIDE_S = 3600.0


async def run(options: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="clips-") as name:
        async with served(clip_shop.serve_arguments(Path(name), options.engine)) as server:
            async with clip_shop.session(server.url) as http, AsyncExitStack() as stack:
                stages = [
                    WatchedStage(server.url, clip_shop.TOKEN, {"quality": "fast"}, random.Random(chance.random()))
                    for _ in range(options.beside)
                ]
                for stage in stages:
                    await stack.enter_async_context(stage.on_air())
                await _prompted(stages, time.monotonic() + options.duration)
                num_alone = [len(stage.prompts) for stage in stages]
                clips_a_minute = await _beside(http, stages, options)
                piece_ms = await _longest_piece_ms(http)
                await stack.aclose()
                alone_a_minute = await _made_alone(http, options)
    return _result(stages, num_alone, piece_ms, clips_a_minute, alone_a_minute)


async def _prompted(stages: list[WatchedStage], until: float) -> None:
    await asyncio.gather(*(stage.prompt_at_random(until, MEAN_GAP_S) for stage in stages))
    await asyncio.gather(*(stage.all_ended() for stage in stages))


async def _beside(http: aiohttp.ClientSession, stages: list[WatchedStage], options: argparse.Namespace) -> float:
    """Prompts go on until the last clip has ended. Gives clips a minute."""
    began_at = time.monotonic()
    await clip_shop.order_all(http, range(options.clips), {})
    prompting = [asyncio.create_task(stage.prompt_at_random(began_at + MOST_BESIDE_S, MEAN_GAP_S)) for stage in stages]
    try:
        await clip_shop.until_ended(http, options.clips)
        seconds = time.monotonic() - began_at
    finally:
        for task in prompting:
            task.cancel()
        await asyncio.gather(*prompting, return_exceptions=True)
    await asyncio.gather(*(stage.all_ended() for stage in stages))
    return 60 * options.clips / seconds


async def _made_alone(http: aiohttp.ClientSession, options: argparse.Namespace) -> float:
    count = min(NUM_ALONE, options.clips)
    began_at = time.monotonic()
    await clip_shop.order_all(http, range(options.clips, options.clips + count), {})
    await clip_shop.until_ended(http, options.clips + count)
    return 60 * count / (time.monotonic() - began_at)


async def _longest_piece_ms(http: aiohttp.ClientSession) -> float:
    """By the server's own measured costs; the stages wait for the piece that runs when their prompt comes."""
    async with http.get("/readyz") as answer:
        costs = (await answer.json()).get("costs") or []
    return max((1000 * cost["seconds"] for cost in costs), default=0.0)


def _result(
    stages: list[WatchedStage], num_alone: list[int], piece_ms: float, clips_a_minute: float, alone_a_minute: float
) -> dict[str, Any]:
    alone, beside = [], []
    for stage, num in zip(stages, num_alone, strict=True):
        prompts = list(stage.prompts.values())
        alone += [prompt.preview_ms for prompt in prompts[:num] if prompt.preview_ms is not None]
        beside += [prompt.preview_ms for prompt in prompts[num:] if prompt.preview_ms is not None]
    ratios = [stage.stats.get("continuous_play_ratio", 0.0) for stage in stages]
    ends = [len(prompt.ends) for stage in stages for prompt in stage.prompts.values()]
    p95_alone, p95_beside = _p95(alone), _p95(beside)
    return {
        "stages": len(stages),
        "previews": {"alone": len(alone), "beside": len(beside)},
        "preview_p95_ms": {"alone": p95_alone, "beside": p95_beside},
        "longest_piece_ms": round(piece_ms, 1),
        "continuous_play_ratio": ratios,
        "clips_a_minute": {"beside": round(clips_a_minute, 1), "alone": round(alone_a_minute, 1)},
        "met": {
            "previews_in_time": p95_beside <= PREVIEW_GROWTH * p95_alone + piece_ms,
            "continuous_play": min(ratios, default=0.0) >= 1.0,
            "every_prompt_ends_once": set(ends) == {1},
        },
    }


def _p95(values: list[float]) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1) if ordered else 0.0

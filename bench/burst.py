"""`sceneshift bench burst`: thirty prompts in three seconds from one controller, on the real server and engine.

The newest must be applied, all others superseded, and no denoising step may be spent on what nobody waits for, but
for the one that is under way when its prompt is superseded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

from websockets.asyncio.client import connect

from bench.controller import Controller
from bench.machine import machine_facts
from bench.served import served

PROMPTS = ("the sea", "夜晚的雪山", "a forest at dawn", "a city at night", "a volcano", "海边日落")


async def run(num_prompts: int, seconds: float) -> dict[str, Any]:
    async with served() as server:
        address = server.url.replace("http", "ws", 1) + "/v1/realtime"
        async with connect(address, max_size=None) as connection:
            controller = Controller(connection)
            await controller.send(type="session.start", fresh=True)
            await controller.until("session.created")
            sending = asyncio.create_task(send_burst(controller, num_prompts, seconds))
            applied, before = await controller.until("prompt.applied", prompt_id=f"p{num_prompts - 1}")
            await sending
            # A second generation after the burst shows that nothing else was waiting in the engine.
            await controller.send(type="prompt.set", text="space", prompt_id="after")
            await controller.until("prompt.applied", prompt_id="after")
            await controller.send(type="session.close")
            closed, _ = await controller.until("session.closed")
    ends = Counter(ends[0].removeprefix("prompt.") for name, ends in controller.ends.items() if name != "after")
    started = [message for message in before if message["type"] == "prompt.started"]
    return {
        "bench": "burst",
        "machine": machine_facts(),
        "prompts": num_prompts,
        "seconds": seconds,
        "ends": dict(ends),
        "each_prompt_ended_once": all(len(ends) == 1 for ends in controller.ends.values()),
        "newest_applied": controller.ends[f"p{num_prompts - 1}"] == ["prompt.applied"],
        "newest_prompt_to_picture_ms": applied["timings"]["total_ms"],
        "generations_started": len(started),
        "steps_spent_in_all": closed["usage"]["denoising_steps"],
        "steps_that_two_clips_need": 2 * started[-1]["num_steps"],
    }


async def send_burst(controller: Controller, num_prompts: int, seconds: float) -> None:
    for index in range(num_prompts):
        await controller.send(type="prompt.set", text=PROMPTS[index % len(PROMPTS)], prompt_id=f"p{index}")
        await asyncio.sleep(seconds / num_prompts)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench burst", description=__doc__)
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args(argv)
    result = asyncio.run(run(arguments.prompts, arguments.seconds))
    if arguments.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        for name, value in result.items():
            print(f"{name:<28} {value}")
    return 0 if result["newest_applied"] and result["each_prompt_ended_once"] else 1

"""`sceneshift bench burst`: thirty prompts in three seconds from one controller, on the real server and engine.

The newest prompt must be applied and all others superseded. No denoising step may be spent on a superseded prompt,
except the step that is under way when the prompt is superseded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

from bench.parts.busy import add_flag, beside_busy
from bench.parts.machine import machine_facts
from bench.parts.served import served
from sceneshift import Prompt, Session, connect
from sceneshift.events import END_TYPES, PromptStarted, ServerMessage, type_of

PROMPTS = ("the sea", "夜晚的雪山", "a forest at dawn", "a city at night", "a volcano", "海边日落")


async def run(num_prompts: int, seconds: float) -> dict[str, Any]:
    async with served() as server, connect(server.url, fresh=True) as session:
        hearing = asyncio.create_task(_heard(session))
        newest = await send_burst(session, num_prompts, seconds)
        applied = await newest.picture
        # A second generation after the burst shows that nothing else was waiting in the engine.
        await (await session.prompt("space", prompt_id="after")).picture
        await session.close()
        heard = await hearing
    ends: dict[str, list[str]] = {}
    for event in heard:
        if type_of(event) in END_TYPES:
            ends.setdefault(event.prompt_id, []).append(type_of(event).removeprefix("prompt."))
    in_burst = heard[: heard.index(applied)]
    started = [event for event in in_burst if isinstance(event, PromptStarted)]
    return {
        "bench": "burst",
        "machine": machine_facts(),
        "prompts": num_prompts,
        "seconds": seconds,
        "ends": dict(Counter(each[0] for name, each in ends.items() if name != "after")),
        "each_prompt_ended_once": all(len(each) == 1 for each in ends.values()),
        "newest_applied": ends[newest.prompt_id] == ["applied"],
        "newest_prompt_to_picture_ms": applied.timings.total_ms,
        "generations_started": len(started),
        "steps_spent_in_all": heard[-1].usage["denoising_steps"],
        "steps_that_two_clips_need": 2 * started[-1].num_steps,
    }


async def _heard(session: Session) -> list[ServerMessage]:
    """All messages of the server, up to `session.closed`."""
    return [event async for event in session.events()]


async def send_burst(session: Session, num_prompts: int, seconds: float) -> Prompt:
    """Sends the prompts evenly over the time, and returns the last."""
    for index in range(num_prompts):
        prompt = await session.prompt(PROMPTS[index % len(PROMPTS)], prompt_id=f"p{index}")
        await asyncio.sleep(seconds / num_prompts)
    return prompt


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench burst", description=__doc__)
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_flag(parser)
    arguments = parser.parse_args(argv)
    work = run(arguments.prompts, arguments.seconds)
    result = {"busy": arguments.busy} | asyncio.run(beside_busy(arguments.busy, work))
    if arguments.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        for name, value in result.items():
            print(f"{name:<28} {value}")
    return 0 if result["newest_applied"] and result["each_prompt_ended_once"] else 1

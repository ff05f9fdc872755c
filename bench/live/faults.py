"""`sceneshift bench faults`: kills, stops and breaks the engine in mid-denoising, with a program on air.

It uses the real server, engine process and embedded model, one WebSocket controller, and one WebRTC viewer in a process
of its own. Each round sends a prompt, waits for its second denoising step, kills or stops the engine or makes it raise,
and waits until the prompt is applied. It prints the time from the fault to the picture, the controller's messages, the
longest gap between sent frames, and all resources that are left over after the rounds.

With `--busy N`, some prompts and one fault of each kind come first. Then the prompts and the rounds run beside N
spinning processes. Instead of 15 s, the bound is then 1.5 times the longest recovery before that, divided by the
engine's fair share (`bench.parts.busy.fair_share`). A clip without a fault has the same bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from bench.live import injected
from bench.parts.busy import add_flag, busy, fair_share
from bench.parts.controller import Controller
from bench.parts.machine import machine_facts
from engine.config import EngineSettings
from engine.process.supervisor import EngineProcess
from server import app as application
from server.config import Settings

FAULTS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "raised": signal.SIGUSR1}
ROOT = Path(__file__).resolve().parent.parent.parent
FAULTY_WORKER = ROOT / "tests" / "engine" / "process" / "faulty_worker.py"
PROMPTS = ("the sea at sunset", "夜晚的雪山", "a forest by day", "城市的黎明", "a volcano erupting at night")
ROUND_LIMIT_S = 60.0
RECOVERY_LIMIT_S = 15.0
# Prompts without a fault, to compare clips with and without busy processes.
UNHURT_PROMPTS = 3
MAX_TIMES_FAIR = 1.5


async def run(rounds: int, num_busy: int) -> dict[str, Any]:
    engine = EngineProcess(EngineSettings(worker_command=(sys.executable, str(FAULTY_WORKER))))
    listener = application.listen("127.0.0.1", 0)
    app = application.build(Settings(port=0), engine)
    async with application.running(app, listener) as port:
        address = f"ws://127.0.0.1:{port}/v1/realtime"
        async with connect(address, max_size=None) as connection:
            controller = Controller(connection)
            await controller.send(type="session.start", quality="fine", fresh=True)
            created, _ = await controller.until("session.created")
            if created["engine"] != "ready":
                await controller.until("session.warning", code="engine_ready")
            url = f"http://127.0.0.1:{port}/whep/{created['session_id']}"
            viewer = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.parts.viewer", url, stdout=subprocess.PIPE, cwd=ROOT
            )
            assert viewer.stdout is not None
            await viewer.stdout.readline()  # its first decoded frame
            limit_s = ROUND_LIMIT_S
            for index in range(2):  # these create parts that are made lazily
                await one_round(controller, engine, index, limit_s)
            before = await left_overs(engine)
            recovery_s = RECOVERY_LIMIT_S
            alone: list[dict[str, Any]] = []
            if num_busy:
                alone = [await unhurt(controller, index, limit_s) for index in range(UNHURT_PROMPTS)]
                hurt = [await one_round(controller, engine, index, limit_s) for index in range(len(FAULTS))]
                recovery_s = MAX_TIMES_FAIR * max(one["recovered_s"] for one in hurt) / share(num_busy)
                limit_s = MAX_TIMES_FAIR * limit_s / share(num_busy)
                await engine.settled()
            async with busy(num_busy):
                beside = [await unhurt(controller, index, limit_s) for index in range(len(alone))]
                results = [await one_round(controller, engine, index, limit_s) for index in range(rounds)]
            after = await left_overs(engine)
            await controller.until("stats.updated")
            viewer.terminate()
            seen = json.loads((await viewer.communicate())[0].splitlines()[-1])
            await controller.send(type="session.close")
            await controller.until("session.closed")
    result = summary(results, controller, before, after, seen, recovery_s)
    return result | ({"busy": beside_busy_summary(num_busy, alone, beside)} if num_busy else {})


def share(num_busy: int) -> float:
    cores = int(machine_facts()["cores"])
    return fair_share(num_busy, num_cores=cores, num_threads=EngineSettings().num_threads)


async def unhurt(controller: Controller, index: int, limit_s: float) -> dict[str, Any]:
    """A prompt without a fault: the engine's milliseconds of work on its clip, and the controller's warnings."""
    prompt_id = f"unhurt-{index}-{time.monotonic_ns()}"
    async with asyncio.timeout(limit_s):
        text = PROMPTS[index % len(PROMPTS)]
        await controller.send(type="prompt.set", text=text, prompt_id=prompt_id, seed=index, quality="fine")
        applied, before = await controller.until("prompt.applied", prompt_id=prompt_id)
    parts = ("text_ms", "denoised_ms", "previewed_ms", "decoded_ms")
    warnings = [message["code"] for message in before if message["type"] == "session.warning"]
    return {"clip_ms": sum(applied["timings"][part] for part in parts), "warnings": warnings}


async def one_round(controller: Controller, engine: EngineProcess, index: int, limit_s: float) -> dict[str, Any]:
    fault = list(FAULTS)[index % len(FAULTS)]
    prompt_id = f"{fault}-{index}-{time.monotonic_ns()}"
    async with asyncio.timeout(limit_s):
        await controller.send(
            type="prompt.set", text=PROMPTS[index % len(PROMPTS)], prompt_id=prompt_id, seed=index, quality="fine"
        )
        await controller.until("prompt.preview", prompt_id=prompt_id, step_index=1)
        assert engine.pid is not None
        os.kill(engine.pid, FAULTS[fault])
        struck_at = time.monotonic()
        _, before = await controller.until("prompt.applied", prompt_id=prompt_id)
        seconds = time.monotonic() - struck_at
    warnings = [message["code"] for message in before if message["type"] == "session.warning"]
    attempts = [message["attempt"] for message in before if message["type"] == "prompt.started"]
    return {"fault": fault, "recovered_s": round(seconds, 2), "warnings": warnings, "last_attempt": attempts[-1]}


async def left_overs(engine: EngineProcess) -> dict[str, int]:
    """Counters that must not grow, taken when the spare engine process runs too."""
    await engine.settled()
    ps = await asyncio.create_subprocess_exec("ps", "-A", "-o", "ppid=", stdout=subprocess.PIPE)
    listed = (await ps.communicate())[0].decode().split()
    shm = Path("/dev/shm")
    return {
        "child_processes": listed.count(str(os.getpid())) - 1,  # less `ps` itself
        "file_descriptors": len(list(Path("/dev/fd").iterdir())),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "shared_memory_files": len(list(shm.iterdir())) if shm.is_dir() else 0,
    }


def summary(
    results: list[dict[str, Any]],
    controller: Controller,
    before: dict[str, int],
    after: dict[str, int],
    seen: dict[str, Any],
    limit_s: float,
) -> dict[str, Any]:
    by_fault = {
        fault: {
            "rounds": len(times),
            "median_s": round(statistics.median(times), 2),
            "worst_s": max(times),
        }
        for fault in FAULTS
        if (times := [result["recovered_s"] for result in results if result["fault"] == fault])
    }
    expected = ["engine_lost", "engine_recovered"]
    return {
        "bench": "faults",
        "machine": machine_facts(),
        "rounds": len(results),
        "fault_to_picture": by_fault,
        "limit_s": round(limit_s, 2),
        "all_within_limit": all(result["recovered_s"] <= limit_s for result in results),
        "controller_was_told_each_time": all(
            [code for code in result["warnings"] if code in expected] == expected for result in results
        ),
        "second_attempt_each_time": all(result["last_attempt"] == 2 for result in results),
        "each_prompt_ended_once": all(ends == ["prompt.applied"] for ends in controller.ends.values()),
        "continuous_play_ratio": controller.stats["continuous_play_ratio"],
        "max_gap_between_sent_frames_ms": controller.stats["max_gap_ms"],
        "viewer": seen,
        "left_over_before": before,
        "left_over_after": after,
        "leaked": {name: after[name] - before[name] for name in after if after[name] > before[name]},
    }


def beside_busy_summary(num_busy: int, alone: list[dict[str, Any]], beside: list[dict[str, Any]]) -> dict[str, Any]:
    clip_ms, clip_alone_ms = (statistics.median(one["clip_ms"] for one in prompts) for prompts in (beside, alone))
    times_fair = clip_ms * share(num_busy) / clip_alone_ms
    return {
        "processes": num_busy,
        "prompts_without_fault_on_air": len(beside),
        "engines_lost_without_fault": sum(one["warnings"].count("engine_lost") for one in beside),
        "fair_share": round(share(num_busy), 3),
        "clip_ms": round(clip_ms, 1),
        "clip_alone_ms": round(clip_alone_ms, 1),
        "clip_times_fair": round(times_fair, 2),
        "clip_within_fair_share": times_fair <= MAX_TIMES_FAIR,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_flag(parser)
    parser.add_argument("--injected", action="store_true", help="instead: what a bug or a machine may do, row by row")
    parser.add_argument("--kills", type=int, default=3, help="with --injected: kills of the engine in the last row")
    arguments = parser.parse_args(argv)
    if arguments.injected:
        return injected.main(arguments.kills, as_json=arguments.json)
    result = asyncio.run(run(arguments.rounds, arguments.busy))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:<34} {value}")
    is_good = (
        result["all_within_limit"]
        and result["controller_was_told_each_time"]
        and result["each_prompt_ended_once"]
        and not result["leaked"]
        and result.get("busy", {}).get("clip_within_fair_share", True)
        and not result.get("busy", {}).get("engines_lost_without_fault", 0)
    )
    return 0 if is_good else 1

"""`sceneshift bench clips`: clips on demand while trouble comes. One of:

* `--kill N`: `--clips M` clips are ordered and made while the server is killed (SIGKILL) N times at random moments.
  Then the disk is full for a while (a small tmpfs, for which the bench must be root). No order may be lost or made
  twice, no event may be there twice, each file must be whole, and the store's integrity must be ok.
* `--cancel N`: deletes N clips while they are being made, and measures the time until the engine is free.
* `--queue N`: the server's memory, lists and start with N clips that wait.
* `--door N`: N orders whose clip was made before, each with its download, beside bare aiohttp with the same file.
* `--beside N`: N live stages alone, then while `--clips M` clips are made; clips a minute beside the engine alone.

It ends with status 1 if a bound is missed. `--engine synthetic` measures all but the model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.live import clips_beside, clips_killed, clips_waiting
from bench.parts.busy import add_flag, beside_busy
from bench.parts.machine import machine_facts
from bench.parts.served import ServeError

_RUNS: dict[str, Callable[[argparse.Namespace], Awaitable[dict[str, Any]]]] = {
    "kill": clips_killed.run,
    "cancel": clips_waiting.run_cancel,
    "queue": clips_waiting.run_queue,
    "door": clips_waiting.run_door,
    "beside": clips_beside.run,
}


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    chosen = next(name for name in _RUNS if getattr(options, name) is not None)
    machine = machine_facts()
    try:
        found = asyncio.run(beside_busy(options.busy, _RUNS[chosen](options)))
    except ServeError as error:
        print(f"bench clips: {error}", file=sys.stderr)
        return 2
    result = {"bench": f"clips --{chosen}", "machine": machine, "engine": options.engine, "seed": options.seed} | found
    result["load_after"] = f"{os.getloadavg()[0]:.2f}"
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:<26} {value}")
    return 0 if all(result["met"].values()) else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sceneshift bench clips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    for name in _RUNS:
        which.add_argument(f"--{name}", type=int, metavar="N")
    parser.add_argument("--clips", type=int, default=200, help="how many clips are made (default 200)")
    parser.add_argument("--engine", choices=("embedded", "synthetic"), default="embedded")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments and prompts (default 1)")
    parser.add_argument("--without-full-disk", action="store_true", help="with --kill: leave out the full disk")
    parser.add_argument("--duration", type=float, default=120.0, help="with --beside: seconds alone (default 120)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_flag(parser)
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

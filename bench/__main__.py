"""`sceneshift bench NAME`: finds the measurement with this name and runs its `main(argv)`. Imports no other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec

BENCHES = {
    "glass": "prompts in a real browser: prompt to preview and to picture at the viewer's glass",
    "faults": "kills, stops and breaks the engine, round after round; --injected: what the machine may do",
    "hostile": "one hostile client beside a running show, attack by attack, each with its bounds",
    "burst": "thirty prompts in three seconds from one controller",
    "budget": "two tenants, one floods: the other's previews and budget, and what the engine's time was charged to",
    "load": "many stages prompted at random, with real viewers: latencies, estimates, continuous play",
    "viewers": "what a viewer costs the sending process, ours beside stock aiortc, and how late packets leave",
    "clips": "clips on demand: killed servers, a full disk, beside live stages, cancelled, 10,000 that wait",
    "networks": "what a real browser sees through loss, delay, a thin link and an outage, and whether others notice",
    "soak": "a long show in a real browser: joins, hundreds of switches, every frame accounted for",
    "pages": "each page in a real browser: first paint, layout shift, bytes of script",
    "engine": "the engine alone: steps, previews, decoding",
    "arbiter": "the arbiter in simulation: thousands of sessions, simpler policies beside ours",
    "gpu_wan": "the 5B model's shapes on one large GPU, through our engine and through stock diffusers",
}
# The others are `bench.live.NAME`.
_MODULES = {"arbiter": "sim.arbiter_sim", "engine": "model.engine", "gpu_wan": "model.gpu_wan"}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if not arguments or arguments[0] not in BENCHES:
        given = f"there is no bench {arguments[0]!r}" if arguments else "which bench?"
        print(f"sceneshift bench: {given}\n\n{_usage()}", file=sys.stderr)
        return 2
    name = _module(arguments[0])
    if find_spec(name) is None:
        print(f"sceneshift bench: {name} is not part of this installation", file=sys.stderr)
        return 2
    return int(importlib.import_module(name).main(arguments[1:]))


def _module(name: str) -> str:
    return f"bench.{_MODULES.get(name, f'live.{name}')}"


def _usage() -> str:
    lines = [f"  {name:<13}{what}" for name, what in BENCHES.items() if find_spec(_module(name)) is not None]
    return "\n".join(["usage: sceneshift bench NAME [OPTIONS]", "", *lines, "", "NAME --help explains each."])


if __name__ == "__main__":
    sys.exit(main())

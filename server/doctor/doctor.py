"""`sceneshift doctor`: what this machine has and lacks, and what each model profile needs and how fast it is here.

The engine's part (devices, memory, profiles) comes from `python -m engine.tools.doctor`, a process of its own, so
nothing here imports torch. It takes seconds, so a thread waits for it while the rest is looked at and printed. The
network's part is `reachability.py`. The rest runs in the entry point's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from server import config

_GIB = 2**30
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# An engine that gets less than this share of a core is so slow that users notice.
_BUSY_BELOW = 0.6
# Imports take seconds, and minutes on a cold disk.
_ENGINE_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `found` is None if it is missing."""

    name: str
    found: str | None
    is_needed: bool = False  # by `serve`
    advice: str = ""  # what to do about it, if anything

    @property
    def mark(self) -> str:
        if self.found is not None:
            return "ok"
        if self.advice:
            return "FAILED"
        return "MISSING" if self.is_needed else "absent"


def main(arguments: Sequence[str]) -> int:
    """Prints each finding as soon as it is known; 1 if something is missing that `serve` needs."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.load(_flags(options), os.environ)
    except config.ConfigError as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 2
    findings: list[Finding] = []
    with ThreadPoolExecutor(1, thread_name_prefix="doctor") as threads:
        asking = threads.submit(ask_engine, settings.gpu_memory)
        for finding in _all_findings(settings, asking.result):
            findings.append(finding)
            if not options.json:
                print("\n".join(_lines(finding)), flush=True)
        engine, _ = asking.result()
    is_complete = all(finding.found is not None or not finding.is_needed for finding in findings)
    if options.json:
        print(json.dumps(_as_json(findings, engine, is_complete), indent=2))
    elif engine:
        print("\n".join(["", *_profile_table(engine)]))
    return 0 if is_complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sceneshift doctor", description="Shows what this machine has and lacks, and what each model needs."
    )
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--gpu-memory", metavar="SIZE", help="plan the models for a GPU of this size, as 16GB")
    parser.add_argument("--config", metavar="FILE", help="look with the settings of this file, as `serve` would")
    parser.add_argument("--host", help="the address that `serve` would be bound to")
    parser.add_argument("--port", help="the port")
    config.add_ice_flags(parser)
    return parser


def _flags(options: argparse.Namespace) -> list[str]:
    """The flags that `serve` would get."""
    given = {name: value for name, value in vars(options).items() if name != "json" and value is not None}
    return [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", value)]


def ask_engine(gpu_memory_bytes: int | None) -> tuple[dict[str, Any], str]:
    """What `engine.tools.doctor` found, or an empty dict and the reason."""
    command = [sys.executable, "-m", "engine.tools.doctor"]
    if gpu_memory_bytes is not None:
        command += ["--gpu-memory-bytes", str(gpu_memory_bytes)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ENGINE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {_ENGINE_TIMEOUT_S:.0f} s"
    if answer.returncode:
        return {}, (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
    # The last line, because libraries print banners before it.
    found: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return found, ""


# --- findings --------------------------------------------------------------------------------------------------------


def _all_findings(settings: config.Settings, answer: Callable[[], tuple[dict[str, Any], str]]) -> Iterator[Finding]:
    """The quick ones first. `answer` waits for the engine's part."""
    yield from _own_findings(settings)
    yield from network_findings(settings)
    yield from _engine_findings(*answer())


def network_findings(settings: config.Settings) -> list[Finding]:
    """The checks of `reachability.py`, with this machine's network and the ICE servers of the settings."""
    from server.doctor import reachability  # noqa: PLC0415 - needs aiortc, which the doctor may find missing

    return [
        Finding(check.name, check.found, check.is_needed, check.advice)
        for check in asyncio.run(reachability.checks(settings))
    ]


def _own_findings(settings: config.Settings) -> Iterator[Finding]:
    yield Finding("python", platform.python_version() if sys.version_info >= (3, 11) else None, True)
    yield Finding("torch", _package("torch"), True)
    yield Finding("cpu cores", str(os.cpu_count()), True)
    yield Finding("h264 encoder", _encoder("libx264", "libopenh264"), True)
    yield Finding("vp8 encoder", _encoder("libvpx"))
    yield Finding(f"port {settings.port}", _port_state(settings.port))
    yield Finding("chromium", next(filter(None, map(shutil.which, _BROWSERS)), None))


def _engine_findings(engine: dict[str, Any], trouble: str) -> Iterator[Finding]:
    if not engine:
        print(f"sceneshift doctor: the engine cannot start: {trouble}", file=sys.stderr)
        yield Finding("engine", None, True)
        return
    memory = engine["host_memory"]
    yield Finding("memory", f"{_gib(memory['total_bytes'])}, {_gib(memory['free_bytes'])} free", True)
    yield _free_cores(engine["core_share"])
    yield Finding("gpu", "; ".join(_gpu(device) for device in engine["devices"]) or None)
    yield Finding("arithmetic", engine["dtype"])
    yield Finding("attention", engine["attention"])
    yield Finding("compiler", engine["compiler"])
    cache = engine["hub_cache"]
    yield Finding("hub cache", f"{cache['folder']}, {_gib(cache['free_bytes'])} free")
    yield _shared_memory(engine["shared_memory"])
    yield Finding("model weights", _weights(engine["profiles"]), True)


def _free_cores(core_share: float | None) -> Finding:
    if core_share is None:
        return Finding("free cores", None)  # only Linux measures it
    told = f"the engine would get {core_share:.0%} of a core when it wants one"
    if core_share >= _BUSY_BELOW:
        return Finding("free cores", told)
    advice = f"this machine is busy: {told}, and scenes take longer; close programs that use the processor"
    return Finding("free cores", None, advice=advice)


def _shared_memory(memory: dict[str, Any] | None) -> Finding:
    if memory is None:
        return Finding("shared memory", None)  # only Linux has it
    told = f"{_size(memory['free_bytes'])} free in {memory['folder']}"
    if memory["free_bytes"] >= memory["needed_bytes"]:
        return Finding("shared memory", told)
    advice = f"{told}, {_size(memory['needed_bytes'])} needed: frames take the slower way through a file"
    return Finding("shared memory", None, advice=f"{advice}; give a container --shm-size=256m")


def _package(name: str) -> str | None:
    """The installed version, read from its metadata."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _encoder(*names: str) -> str | None:
    if find_spec("av") is None:
        return None
    import av  # noqa: PLC0415

    return next((name for name in names if name in av.codecs_available), None)


def _port_state(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return "in use; give another with --port"
    return "free"


def _gpu(device: dict[str, Any]) -> str:
    return f"{device['name']}, {_gib(device['total_bytes'])}, {_gib(device['free_bytes'])} free"


def _weights(profiles: Iterable[dict[str, Any]]) -> str | None:
    here = [f"{one['name']}, {_size(one['weight_bytes'])}" for one in profiles if one["folder"] and one["weight_bytes"]]
    return "; ".join(here) or None


# --- output ----------------------------------------------------------------------------------------------------------


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.name:<18} {finding.mark:<8} {finding.found or ''}".rstrip()
    if finding.advice:
        yield f"{'':<28}{finding.advice}"


def _profile_table(engine: dict[str, Any]) -> Iterator[str]:
    rows = [("profile", "weights", "here", "fits", "steps", "clip", "seconds a clip")]
    for profile in engine["profiles"]:
        name = profile["name"] + (" *" if profile["name"] == engine["default_model"] else "")
        steps = "/".join(str(number) for number in profile["steps"].values())
        rows.append(
            (
                name,
                _size(profile["weight_bytes"]),
                "yes" if profile["folder"] else "no",
                "yes" if profile["fits"] else "no",
                steps,
                profile["clip"],
                "not measured" if profile["seconds"] is None else f"{profile['seconds']:.1f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield "* taken when none is chosen; weights in bf16 or as stored; steps of fast/fine"
    for profile in engine["profiles"]:
        if profile["why"] or profile["plan"]:
            yield ""
            yield f"{profile['name']}:"
            yield from (f"  {line}" for line in ([profile["why"]] if profile["why"] else profile["plan"]))
        if not profile["folder"]:
            yield f"  {profile['hub_id']} would be downloaded at the first start"


def _as_json(findings: Iterable[Finding], engine: dict[str, Any], is_complete: bool) -> dict[str, Any]:
    return {
        "is_complete": is_complete,
        "findings": [
            {
                "name": one.name,
                "mark": one.mark,
                "found": one.found,
                "is_needed": one.is_needed,
                "advice": one.advice,
            }
            for one in findings
        ],
        "engine": engine,
    }


def _size(num_bytes: int) -> str:
    return _gib(num_bytes) if num_bytes >= _GIB else f"{num_bytes / 2**20:.1f} MiB"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"

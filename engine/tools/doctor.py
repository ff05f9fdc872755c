"""`python -m engine.tools.doctor`: what the engine would find on this machine, as JSON, for `sceneshift doctor`.

It is a process of its own, because it imports torch and asks the devices, and the server's process does neither. It
loads no weights and downloads nothing. It computes for 2.5 seconds, to measure its share of the cores beside other
programs. It estimates nothing that it does not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HUB_CACHE

from engine.api import ModelError
from engine.config import PROFILES, EngineSettings, Family, LoadSettings, ModelProfile, default_model
from engine.loading import attention, checkpoint, device_memory, memory_plan, part_sizes, published_configs
from engine.process.own_clock import CoreShare, threads_of
from engine.process.wire import SHARED_MEMORY

_GIB = 2**30
_LOOK_S = 2.5


@dataclass(frozen=True, slots=True)
class Machine:
    """The device that the engine would take, and the bytes that it may use there."""

    device: torch.device
    budget_bytes: int


def find(gpu_memory_bytes: int | None) -> dict[str, Any]:
    """All findings, as JSON values. `gpu_memory_bytes`: plan for that much instead of the free memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    if gpu_memory_bytes is not None:
        machine = Machine(torch.device("cuda"), gpu_memory_bytes)
    else:
        machine = Machine(device, device_memory.budget(device, None) if device.type == "cuda" else _free_host_bytes())
    return {
        "torch": torch.__version__,
        "default_model": default_model(),
        "devices": _devices(),
        "host_memory": {"total_bytes": _host_bytes("MemTotal"), "free_bytes": _free_host_bytes()},
        "dtype": str(dtype).removeprefix("torch."),
        "attention": str(attention.choose(device, dtype)),
        "compiler": _compiler(device),
        "hub_cache": _hub_cache(),
        "shared_memory": _shared_memory(),
        "profiles": [_profile(profile, machine) for profile in PROFILES.values()],
    }


def core_share() -> float | None:
    """The share of core time that an engine's arithmetic gets now, as `own_clock.CoreShare` counts it."""
    share, matrix = CoreShare(), torch.rand(512, 512)
    sample = threads_of(os.getpid())
    if sample is None:
        return None
    began_at = now = time.monotonic()
    share.begin(began_at, sample)
    while now < began_at + _LOOK_S:
        torch.mm(matrix, matrix)
        now = time.monotonic()
    share.add(now, threads_of(os.getpid()) or {})
    return share.share(now)


def _devices() -> list[dict[str, Any]]:
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        found.append(
            {
                "device": f"cuda:{index}",
                "name": properties.name,
                "total_bytes": total_bytes,
                "free_bytes": free_bytes,
                "capability": f"{properties.major}.{properties.minor}",
            }
        )
    return found


def _compiler(device: torch.device) -> str | None:
    """The compiler that torch.compile needs here, if it is installed."""
    if device.type == "cuda":
        try:
            return f"triton {version('triton')}"  # it comes with CUDA builds of torch
        except PackageNotFoundError:
            return None
    return shutil.which("g++") or shutil.which("clang++")


def _hub_cache() -> dict[str, Any]:
    folder = Path(HF_HUB_CACHE)
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return {"folder": str(folder), "free_bytes": shutil.disk_usage(existing).free}


def _shared_memory() -> dict[str, Any] | None:
    """The frames of the engine, and of its spare process, pass through it. None: this system has none."""
    if not SHARED_MEMORY.is_dir():
        return None
    needed, free = 2 * EngineSettings().frames_bytes, shutil.disk_usage(SHARED_MEMORY).free
    return {"folder": str(SHARED_MEMORY), "free_bytes": free, "needed_bytes": needed}


# --- profiles --------------------------------------------------------------------------------------------------------


def _profile(profile: ModelProfile, machine: Machine) -> dict[str, Any]:
    folder = _folder(profile)
    return {
        "name": profile.name,
        "folder": None if folder is None else str(folder),
        "hub_id": profile.hub_id,
        "steps": {quality.value: number for quality, number in profile.num_steps.items()},
        "clip": f"{profile.width}x{profile.height}, {profile.num_frames} frames",
        "seconds": None,  # of a clip: nothing on this machine measures and stores it yet
        **_needs(profile, machine),
    }


def _folder(profile: ModelProfile) -> Path | None:
    """The profile's folder on this machine; None if it must be downloaded first."""
    try:
        return checkpoint.resolve(LoadSettings(model=profile.name)).folder
    except ModelError:
        return None


def _needs(profile: ModelProfile, machine: Machine) -> dict[str, Any]:
    """`weight_bytes` as stored or in bf16; `fits`, and why not; `plan`: line by line on a GPU."""
    if profile.family is Family.EMBEDDED:
        assert profile.folder is not None
        stored = sum(path.stat().st_size for path in profile.folder.rglob("*.safetensors"))
        return {"weight_bytes": stored, "fits": True, "why": "", "plan": []}
    sizes = published_configs.sizes(profile.name)
    weight_bytes = sum(size.num_bytes(memory_plan.Storage.BF16) for size in sizes.values())
    found: dict[str, Any] = {"weight_bytes": weight_bytes, "fits": False, "why": "", "plan": []}
    if machine.device.type != "cuda":
        needed = 2 * weight_bytes  # float32
        found["why"] = f"no GPU; a CPU would need {needed / _GIB:.0f} GiB, and minutes a step by its operations"
        return found
    transformer, vae, _ = published_configs.MODELS[profile.name]
    workload = part_sizes.workload_of(
        transformer,
        vae,
        width=profile.width,
        height=profile.height,
        num_frames=profile.num_frames,
        starts_from_frame=profile.can_start_from_frame,
        num_forwards=max(profile.num_steps.values()) * (1 if profile.guidance_scale == 1.0 else 2),
    )
    try:
        plan = memory_plan.plan(sizes, workload, machine.budget_bytes)
    except ModelError as error:
        found["why"] = str(error)
        return found
    return found | {"fits": True, "plan": list(plan.lines)}


def _free_host_bytes() -> int:
    return _host_bytes("MemAvailable")


def _host_bytes(what: str) -> int:
    """From /proc/meminfo. Without that file it is all of the memory, or 0 if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0
    kib = next((line.split()[1] for line in lines if line.startswith(f"{what}:")), "0")
    return int(kib) * 1024


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.tools.doctor", description=__doc__)
    parser.add_argument("--gpu-memory-bytes", type=int)
    arguments = parser.parse_args(argv)
    print(json.dumps(find(arguments.gpu_memory_bytes) | {"core_share": core_share()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Plans where each part of a model lives: the fastest placement that fits a memory budget. Pure.

`part_sizes.py` reads sizes and workload, `placing.py` carries out the placement of each part. On the CPU nothing needs
planning. The memory of the allocator and of the device's context is an estimate; `bench/model/gpu_wan.py` prints the
measured peak beside the planned one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from engine.api import ModelError

PARTS = ("transformer", "transformer_2", "text_encoder", "vae")

_GIB = 2**30
# Memory that we do not ask for: the device's context, libraries' workspaces, holes in the allocator's blocks.
CONTEXT_BYTES = int(0.6 * _GIB)
_SHARE_OF_HOLES = 0.04
# For comparing plans only. Copies from pinned memory over PCIe 4.0 x16 reach about twice that, other copies half.
_COPY_BYTES_PER_S = 12e9
# The price of fp8 weights: the seconds that one would rather wait than take them. They cost fidelity. They also cost
# speed, because they are cast and not compiled. A judgement, not a measurement.
_FP8_REGRET_S = {"transformer": 1.0, "transformer_2": 1.0, "text_encoder": 0.3}


class Placement(StrEnum):
    RESIDENT = "stays on the GPU"
    AWAY = "on the GPU only while it is used"
    STREAMED = "streamed to the GPU layer by layer"


class Storage(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"


@dataclass(frozen=True, slots=True)
class PartSize:
    """Numbers of weights. `num_castable`: those that fp8 may hold; `num_streamed`: on the GPU at once if streamed."""

    name: str
    num_weights: int
    num_castable: int
    num_streamed: int

    def num_bytes(self, storage: Storage) -> int:
        return 2 * self.num_weights - (self.num_castable if storage is Storage.FP8 else 0)


@dataclass(frozen=True, slots=True)
class Workload:
    """The memory of the work besides the weights, in bytes, while one clip is denoised and one is decoded."""

    denoising: int
    decoding: int
    feature_cache: int
    num_forwards: int  # of the transformer for one clip


@dataclass(frozen=True, slots=True)
class PartPlan:
    size: PartSize
    placement: Placement
    storage: Storage

    @property
    def num_bytes(self) -> int:
        return self.size.num_bytes(self.storage)

    @property
    def resident_bytes(self) -> int:
        return self.num_bytes if self.placement is Placement.RESIDENT else 0

    @property
    def visiting_bytes(self) -> int:
        """Bytes on the GPU while the part is used, besides the resident parts."""
        if self.placement is Placement.AWAY:
            return self.num_bytes
        return 2 * self.size.num_streamed if self.placement is Placement.STREAMED else 0

    def __str__(self) -> str:
        return f"{self.size.name}: {self.storage}, {self.num_bytes / _GIB:.1f} GiB, {self.placement}"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """One placement a part. `overlaps`: there is room to decode one clip while the next is denoised."""

    parts: Mapping[str, PartPlan]
    workload: Workload
    budget_bytes: int
    overlaps: bool = False

    @property
    def peak_bytes(self) -> int:
        """The most bytes at any moment, with the device's context and the allocator's holes."""
        return _with_reserve(max(self._phases()))

    @property
    def overlapping_peak_bytes(self) -> int:
        return _with_reserve(max(self._phases()) + min(self.workload.denoising, self.workload.decoding))

    @property
    def has_room_to_compile(self) -> bool:
        """Whether there is room for one more forward, which compiles in the background."""
        return _with_reserve(max(self._phases()) + self.workload.denoising) <= self.budget_bytes

    @property
    def lines(self) -> tuple[str, ...]:
        """For `/readyz` and people."""
        work = self.workload
        return (
            *(str(part) for part in self.parts.values()),
            f"denoising: {work.denoising / _GIB:.1f} GiB (estimated)",
            f"decoding: {work.decoding / _GIB:.1f} GiB (estimated) and {work.feature_cache / _GIB:.1f} GiB of cache",
            f"peak: {self.peak_bytes / _GIB:.1f} of {self.budget_bytes / _GIB:.1f} GiB",
        )

    def _phases(self) -> tuple[int, int, int]:
        """Bytes in each phase: reading the prompt, denoising, decoding. A decode runs between other works' steps."""
        resident = sum(part.resident_bytes for part in self.parts.values())
        visiting = {name: part.visiting_bytes for name, part in self.parts.items()}
        decoder = visiting.get("vae", 0) + self.workload.feature_cache
        experts = max(visiting.get("transformer", 0), visiting.get("transformer_2", 0))
        return (
            resident + decoder + visiting.get("text_encoder", 0),
            resident + decoder + experts + self.workload.denoising,
            # A visiting expert stays on the device between the steps, so also during a decode.
            resident + decoder + experts + self.workload.decoding,
        )

    def seconds_lost(self) -> float:
        """A rough figure for comparing plans: the copies for one clip, and the price of fp8."""
        return sum(self._lost_by(name, part) for name, part in self.parts.items())

    def _lost_by(self, name: str, part: PartPlan) -> float:
        lost = _FP8_REGRET_S.get(name, 0.0) if part.storage is Storage.FP8 else 0.0
        copy_s = part.num_bytes / _COPY_BYTES_PER_S
        if part.placement is Placement.AWAY:
            lost += copy_s
        elif part.placement is Placement.STREAMED:
            # A third more than moving it at once: layers wait for each other.
            lost += 1.3 * copy_s * (self.workload.num_forwards if name.startswith("transformer") else 1)
        return lost


def plan(sizes: Mapping[str, PartSize], workload: Workload, budget_bytes: int) -> MemoryPlan:
    """The fastest placement that fits. Raises `ModelError` that names the smallest budget that suffices."""
    plans = [
        MemoryPlan(dict(zip(sizes, chosen, strict=True)), workload, budget_bytes)
        for chosen in itertools.product(*(_choices(size) for size in sizes.values()))
    ]
    fitting = [one for one in plans if one.peak_bytes <= budget_bytes]
    if not fitting:
        least = min(one.peak_bytes for one in plans)
        raise ModelError(
            f"{budget_bytes / 1e9:.1f} GB of GPU memory are too few for this model at this size:"
            f" it needs {least / 1e9 + 0.05:.1f} GB at least. Give more with --gpu-memory, or make smaller or shorter"
            " clips, or take the tiny decoder"
        )
    best = min(fitting, key=lambda one: (one.seconds_lost(), one.peak_bytes))
    overlaps = best.overlapping_peak_bytes <= budget_bytes
    return MemoryPlan(best.parts, workload, budget_bytes, overlaps=overlaps)


def _choices(size: PartSize) -> list[PartPlan]:
    """The possible plans of a part. The VAEs stay in bf16: their convolutions are sensitive, and they are small."""
    if size.name == "pruned_vae":
        return [PartPlan(size, Placement.RESIDENT, Storage.BF16)]
    if size.name == "vae":
        return [PartPlan(size, placement, Storage.BF16) for placement in (Placement.RESIDENT, Placement.AWAY)]
    return [PartPlan(size, placement, storage) for placement in Placement for storage in Storage]


def _with_reserve(num_bytes: int) -> int:
    return int((num_bytes + CONTEXT_BYTES) / (1 - _SHARE_OF_HOLES))

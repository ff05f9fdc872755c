"""Keeps the large parts of a loaded model where the memory plan wants them, and moves visitors in turn. Loop thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from engine.api import Quality
from engine.config import LoadSettings, ModelProfile
from engine.loading import device_memory, memory_plan, part_sizes, placing

# The values of `--decoder` besides a file or a folder.
DECODER_NAMES = ("full", "pruned", "tiny")


class DeviceResidency:
    """Places the parts by the memory plan. Large parts that live off the device take turns on it.

    A visitor stays until another part comes, so the steps of a generation copy the transformer only once.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, plan: memory_plan.MemoryPlan | None) -> None:
        self.device = device
        self.dtype = dtype
        self.plan = plan
        self._visitor: placing.Placed | None = None
        self._stay = ExitStack()

    def place(self, name: str, module: nn.Module) -> placing.Placed:
        if self.plan is None:
            return placing.Placed(module.to(self.device), self.device)
        return placing.place(self.plan.parts[name], module, self.device, dtype=self.dtype)

    def is_plain(self, name: str) -> bool:
        """Whether a part simply stays on the device, without hooks."""
        if self.plan is None:
            return True
        part = self.plan.parts[name]
        return part.placement is memory_plan.Placement.RESIDENT and part.storage is memory_plan.Storage.BF16

    @property
    def has_room_to_compile(self) -> bool:
        return self.plan is None or self.plan.has_room_to_compile

    def visit(self, part: placing.Placed) -> None:
        """Brings the part to the device until another part visits or `empty` is called."""
        if part is not self._visitor:
            self.empty()
            self._stay.enter_context(part.in_use())
            self._visitor = part

    def call(self, part: placing.Placed) -> AbstractContextManager[None]:
        """For a part that leaves at once: a decode would have no room beside the text encoder."""
        self.empty()
        return part.in_use()

    def empty(self) -> None:
        self._stay.close()
        self._visitor = None


def planned(
    profile: ModelProfile, settings: LoadSettings, device: torch.device
) -> tuple[ModelProfile, memory_plan.MemoryPlan | None]:
    """The profile with as many joint rows as fit, and the memory plan for this budget; no plan on the CPU.

    Joint steps gain only if no part must leave the device for them and there is still room to compile. Raises
    `ModelError` if the budget is too small.
    """
    if device.type != "cuda":
        return profile, None
    assert profile.folder is not None
    sizes = {name: _with_loras(size, settings) for name, size in _sizes(profile, settings).items()}
    budget_bytes = device_memory.budget(device, settings.gpu_memory_bytes)
    if settings.gpu_memory_bytes is not None:
        device_memory.hold_to(budget_bytes, device)
    rows, plan = widest_plan(
        sizes, lambda rows: _workload(profile, settings, rows=rows), profile.rows_per_forward, budget_bytes
    )
    return replace(profile, rows_per_forward=rows), plan


def widest_plan(
    sizes: Mapping[str, memory_plan.PartSize],
    workload_of: Callable[[int], memory_plan.Workload],
    max_rows: int,
    budget_bytes: int,
) -> tuple[int, memory_plan.MemoryPlan]:
    """How many rows (at most `max_rows`) fit into the best plan for one row a forward, and that plan.

    `workload_of` gives the workload of a number of rows. Raises `ModelError` if the budget is too small for one.
    """
    plan = memory_plan.plan(sizes, workload_of(1), budget_bytes)
    for rows in range(max_rows, 1, -1):
        wider = replace(plan, workload=workload_of(rows))
        if wider.peak_bytes <= budget_bytes and wider.has_room_to_compile >= plan.has_room_to_compile:
            return rows, replace(wider, overlaps=wider.overlapping_peak_bytes <= budget_bytes)
    return 1, plan


def _sizes(profile: ModelProfile, settings: LoadSettings) -> dict[str, memory_plan.PartSize]:
    assert profile.folder is not None
    sizes = {name: size for name, size in part_sizes.read_sizes(profile.folder).items() if _is_used(name, profile)}
    if (pruned := _pruned_vae(settings)) is not None:
        sizes["pruned_vae"] = part_sizes.read_size("pruned_vae", pruned)
    return sizes


def _with_loras(size: memory_plan.PartSize, settings: LoadSettings) -> memory_plan.PartSize:
    """The part with all LoRAs beside its weights. If two experts share the files, each counts them all."""
    if settings.lora_folder is None or not size.name.startswith("transformer"):
        return size
    files = Path(settings.lora_folder).glob("*.safetensors")
    num_weights = sum(part_sizes.num_weights(file) for file in files)
    num_streamed = size.num_streamed + num_weights  # an upper bound: their spread over the blocks is not known
    return replace(size, num_weights=size.num_weights + num_weights, num_streamed=num_streamed)


def _pruned_vae(settings: LoadSettings) -> Path | None:
    if settings.decoder is None or settings.decoder in DECODER_NAMES or not Path(settings.decoder).is_dir():
        return None
    return Path(settings.decoder)


def _workload(profile: ModelProfile, settings: LoadSettings, *, rows: int) -> memory_plan.Workload:
    assert profile.folder is not None
    return part_sizes.read_workload(
        profile.folder,
        width=profile.width,
        height=profile.height,
        num_frames=profile.num_frames,
        rows=rows,
        num_forwards=profile.num_steps[Quality.FAST] * (1 if profile.guidance_scale == 1.0 else 2),
        decodes_full=settings.decoder in (None, "full") or _pruned_vae(settings) is not None,
        vae_folder=_pruned_vae(settings),
        starts_from_frame=profile.can_start_from_frame,
    )


def _is_used(part: str, profile: ModelProfile) -> bool:
    return part != "transformer_2" or profile.boundary_ratio is not None

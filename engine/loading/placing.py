"""Brings each loaded part where `memory_plan` wants it, with diffusers' layer-wise casting and group offload.

Engine process, loop thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from diffusers.hooks.layerwise_casting import apply_layerwise_casting
from torch import nn

from engine.loading.memory_plan import PartPlan, Placement, Storage
from engine.loading.part_sizes import uncast_modules


class Placed:
    """A part where the plan wants it. `in_use` brings it to the device for a while, if it lives off the device."""

    def __init__(self, module: nn.Module, device: torch.device, *, is_away: bool = False) -> None:
        self.module = module
        self._device = device
        self._is_away = is_away
        self._num_users = 0
        self._home = _tensors(module) if is_away else []

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """May be entered by several at once (two decodes); the last one out sends the part away."""
        if not self._is_away:
            yield
            return
        self._num_users += 1
        try:
            if self._num_users == 1:
                for tensor, kept in self._home:
                    tensor.data = kept.to(self._device, non_blocking=True, copy=True)
            yield
        finally:
            self._num_users -= 1
            if self._num_users == 0:
                for tensor, kept in self._home:
                    tensor.data = kept


def _tensors(module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each weight and its home tensor, in pinned memory if there is a device to copy to."""
    pins = torch.cuda.is_available()
    home = []
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if pins:
            tensor.data = tensor.data.pin_memory()
        home.append((tensor, tensor.data))
    return home


def place(part: PartPlan, module: nn.Module, device: torch.device, *, dtype: torch.dtype = torch.bfloat16) -> Placed:
    """Brings a loaded module (on the CPU, in `dtype`) where the plan wants it."""
    if part.storage is Storage.FP8:
        apply_layerwise_casting(
            module,
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=dtype,
            skip_modules_pattern=uncast_modules(part.size.name),
            non_blocking=True,
        )
    if part.placement is Placement.RESIDENT:
        module.to(device)
    elif part.placement is Placement.STREAMED:
        is_transformer = part.size.name.startswith("transformer")
        apply_group_offloading(
            module,
            onload_device=device,
            offload_type="block_level" if is_transformer else "leaf_level",
            num_blocks_per_group=1 if is_transformer else None,
            use_stream=device.type == "cuda",
        )
    return Placed(module, device, is_away=part.placement is Placement.AWAY)

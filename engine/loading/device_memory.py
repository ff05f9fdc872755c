"""A device's memory: the budget, the peak, and how to recognise that it ran out. Engine process, loop thread."""

from __future__ import annotations

import gc

import torch

from engine.loading.memory_plan import CONTEXT_BYTES


def hold_to(budget_bytes: int, device: torch.device) -> None:
    """Makes the allocator refuse more than the budget, as if the device were that small.

    The device's context is outside the allocator, so its share of the budget is left free.
    """
    if device.type == "cuda":
        # Unlike its neighbours, the last of these functions takes no device without an index.
        index = torch.cuda.current_device() if device.index is None else device.index
        total = torch.cuda.get_device_properties(index).total_memory
        share = (budget_bytes - CONTEXT_BYTES) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), index)


def budget(device: torch.device, asked_bytes: int | None) -> int:
    """The bytes that may be used: as asked, but at most the device's free memory."""
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return min(asked_bytes, free_bytes) if asked_bytes is not None else free_bytes


_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Also recognises the messages of libraries below torch and of the CPU's allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def free(device: torch.device) -> None:
    """Returns unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_bytes(device: torch.device) -> int:
    """The most bytes allocated so far; 0 if the device does not count."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0

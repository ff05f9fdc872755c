"""Chooses a Wan transformer's attention kernel: the first of a fixed order that works here. Loop thread, at load.

The order is fixed, not timed, so that the same prompt gives the same clip tomorrow. Quantised kernels (sage) and those
that need a download are not tried. On the CPU, torch's own kernel is the only choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

NATIVE = "native"
# FlashAttention 3 and cuDNN's reach 600 to 700 TFLOP/s of bf16 on Hopper (published), FlashAttention 2 about half.
PREFERENCE = ("_flash_3", "_native_cudnn", "flash", "_native_flash")
# bf16 has 8 bits of mantissa, and kernels add up in different orders.
_TOLERANCE = 2e-2


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """The kernel in use, and what was tried before it: ``_flash_3: not installed``."""

    name: str
    tried: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name.lstrip("_") + (f" (not {'; '.join(self.tried)})" if self.tried else "")


def choose(device: torch.device, dtype: torch.dtype, preference: tuple[str, ...] = PREFERENCE) -> AttentionChoice:
    """The first of `preference` that runs on this device and agrees with torch's own attention; else torch's own."""
    if device.type != "cuda":
        return AttentionChoice(NATIVE)
    return first_that_works(device, dtype, preference)


def first_that_works(device: torch.device, dtype: torch.dtype, preference: tuple[str, ...]) -> AttentionChoice:
    """Each is tried on a tiny input."""
    tried: list[str] = []
    for name in preference:
        reason = why_not(name, device, dtype)
        if reason is None:
            return AttentionChoice(name, tuple(tried))
        tried.append(f"{name.lstrip('_')}: {reason}")
    return AttentionChoice(NATIVE, tuple(tried))


@torch.inference_mode()
def why_not(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why this kernel cannot be used here; None if it can."""
    random = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 96, 2, 128, generator=random).to(device, dtype)
    expected = dispatch_attention_fn(query, key, value, backend=AttentionBackendName.NATIVE)
    try:
        with attention_backend(name):
            found = dispatch_attention_fn(query, key, value)
    except Exception as error:
        # A foreign kernel may raise anything on a device that it was not built for. The next kernel is tried.
        return str(error).partition("\n")[0][:120] or type(error).__name__
    deviation = (found.float() - expected.float()).abs().max().item()
    return None if deviation < _TOLERANCE else f"off by {deviation:.3f}"


def use(transformer: WanTransformer3DModel, choice: AttentionChoice) -> None:
    """Sets the kernel on every attention layer. Torch's own is the default."""
    if choice.name != NATIVE:
        transformer.set_attention_backend(choice.name)


def fuse_projections(transformer: WanTransformer3DModel) -> None:
    """One matrix product for queries, keys and values instead of three; drops the separate weights.

    diffusers keeps both, which stores 15 % of the transformer twice. Not with LoRA files: they name separate weights.
    """
    for module in transformer.modules():
        if isinstance(module, AttentionModuleMixin):
            module.fuse_projections()  # type: ignore[no-untyped-call]
            for name in ("to_k", "to_v") if module.is_cross_attention else ("to_q", "to_k", "to_v"):
                setattr(module, name, None)

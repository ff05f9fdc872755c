"""Optimiser, schedule and weight average for training the embedded model on a CPU or a GPU."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

_CHUNK = 8


class Muon:
    """Muon for the inner weights, AdamW for the rest (embeddings, norms, biases, first and last layers).

    Muon (Jordan et al. 2024) replaces a matrix's momentum by its nearest orthogonal matrix, found with five
    Newton-Schulz rounds. Weights of equal shape go through them as one batch. Convolutions count as matrices.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        adamw_lr: float,
        outer: tuple[str, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Weights with a part of `outer` in their name go to AdamW. Newton-Schulz runs in `dtype`; bf16 is enough."""
        self.lr = lr
        self._dtype = dtype
        self._matrices: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        others: list[nn.Parameter] = []
        for name, parameter in named:
            if not parameter.requires_grad:
                continue
            if (
                parameter.ndim >= 2
                and min(parameter.flatten(1).shape) >= 16
                and not any(part in name for part in outer)
            ):
                self._matrices[tuple(parameter.flatten(1).shape)].append(parameter)
            else:
                others.append(parameter)
        self._momentum = {
            shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self._matrices.items()
        }
        self._adamw = torch.optim.AdamW(others, lr=adamw_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self._adamw_lr = adamw_lr

    def step(self, lr_factor: float) -> None:
        for group in self._adamw.param_groups:
            group["lr"] = self._adamw_lr * lr_factor
        self._adamw.step()
        for shape, parameters in self._matrices.items():
            gradient = torch.stack(
                [parameter.grad.flatten(1) for parameter in parameters if parameter.grad is not None]
            )
            momentum = self._momentum[shape]
            momentum.lerp_(gradient, 0.05)
            update = orthogonalise(gradient.lerp_(momentum, 0.95), self._dtype)
            scale = self.lr * lr_factor * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, direction in zip(parameters, update, strict=True):
                parameter.data.add_(direction.view_as(parameter), alpha=-scale)

    def state_dict(self) -> dict[str, Any]:
        return {"momentum": self._momentum, "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._momentum = state["momentum"]
        self._adamw.load_state_dict(state["adamw"])


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Newton-Schulz on a batch [N, rows, columns]; the result is fp32."""
    if matrices.device.type == "cpu" and len(matrices) > _CHUNK:  # what fits into a core's cache
        return torch.cat([orthogonalise(part, dtype) for part in torch.split(matrices, _CHUNK)])
    x = matrices.transpose(1, 2) if matrices.shape[1] > matrices.shape[2] else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = x.transpose(1, 2) if matrices.shape[1] > matrices.shape[2] else x
    return result.float()


ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Average(Generic[ModuleT]):
    """An exponential moving average of a module's weights; buffers are copied. `export` writes the average."""

    def __init__(self, module: ModuleT, decay: float) -> None:
        self.module: ModuleT = copy.deepcopy(module).eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)
        for kept, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(buffer)


def lr_factor(progress: float, *, warm_up: float = 0.02, decay_share: float = 0.45) -> float:
    """Trapezoid over progress in [0, 1]: short warm-up, plateau, linear decay over the last `decay_share`."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    return min(1.0, max(0.01, (1 - progress) / decay_share))

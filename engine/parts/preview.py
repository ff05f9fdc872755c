"""Makes previews of a clip that is still being denoised, from the x0 of each step. Engine process, loop thread.

Three ways, the cheapest first: `linear` (one matrix, blurred colours), `tiny` (the tiny decoder on two latent frames),
`full` (the model's own decoder on one). A preview shows one latent frame in mid-clip. There is none after the last
step, because the clip follows. For the 5B model at 832x480, a step is 55 TFLOP, a preview by the tiny decoder 0.3 and
by the full one 28. So Wan never takes `full` if it has another way. A preview of the embedded model is a seventh of a
decode, and even its first x0, the mean of all clips that the prompt allows, shows light, ground and subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch.nn import functional

from engine.parts.decoder import Decoder
from engine.parts.linear_preview import LinearFactors


class Previews(Protocol):
    """Makes a model's previews."""

    @property
    def name(self) -> str: ...

    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        """Frames ``[N, 3, H, W]`` in [0, 1] to show after this step, None after the last. x0 is ``[1, C, T, h, w]``."""
        ...


class Previewer:
    """Makes previews with a decoder."""

    def __init__(self, decoder: Decoder, name: str = "decoder") -> None:
        self._decoder = decoder
        self.name = name

    @torch.inference_mode()
    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        if step_index + 1 >= num_steps:
            return None
        return self._decoder.decode_around(x0, x0.shape[2] // 2)[-1:]


class LinearPreviewer:
    """Makes previews with the linear factors, at a quarter of the clip's width and height, smoothed."""

    name = "linear"

    def __init__(self, factors: LinearFactors, *, spatial_factor: int) -> None:
        self._factors = factors
        self._enlargement = spatial_factor // 4

    @torch.inference_mode()
    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        if step_index + 1 >= num_steps:
            return None
        colours = self._factors.colours(x0[:, :, x0.shape[2] // 2])
        large = functional.interpolate(colours, scale_factor=self._enlargement, mode="bilinear", align_corners=False)
        return large.clamp(0, 1)


class FirstLinear:
    """Makes the first preview with the linear factors, which cost almost nothing, and sharper ones with `later`.

    The first x0 has no details yet that a decoder could show.
    """

    def __init__(self, first: LinearPreviewer, later: Previews) -> None:
        self._first = first
        self._later = later
        self.name = f"{first.name}, then {later.name}"

    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        return (self._later if step_index else self._first).preview(x0, step_index, num_steps)


def build(decoders: Mapping[str, Decoder], factors: LinearFactors | None, *, spatial_factor: int) -> Previews:
    """The best previews that these decoders (by name: full, pruned, tiny) and factors allow without delaying a step."""
    linear = LinearPreviewer(factors, spatial_factor=spatial_factor) if factors is not None else None
    if "tiny" in decoders:
        tiny = Previewer(decoders["tiny"], "tiny")
        return tiny if linear is None else FirstLinear(linear, tiny)
    if linear is not None:
        return linear
    name = next(iter(decoders))
    return Previewer(decoders[name], name)

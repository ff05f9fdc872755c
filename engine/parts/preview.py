"""Pictures of a clip that is still being denoised, from the x0 that each step implies. Engine process, loop thread.

Three ways, the cheapest first: `linear` (one matrix, blurred colours), `tiny` (the tiny decoder on two latent frames),
`full` (the model's own decoder on one). One latent frame in mid-clip is shown; after the last step there is none: the
clip follows. By operations, for the 5B model at 832x480: a step is 55 TFLOP, the tiny decoder's preview 0.3, the full
one's 28, which is why Wan never takes `full` where it has another. The embedded model's decoder is a seventh of a
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
    """What a model makes its previews with."""

    @property
    def name(self) -> str: ...

    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        """Frames ``[N, 3, H, W]`` in [0, 1] to show after this step, None after the last. x0 is ``[1, C, T, h, w]``."""
        ...


class Previewer:
    """Through a decoder."""

    def __init__(self, decoder: Decoder, name: str = "decoder") -> None:
        self._decoder = decoder
        self.name = name

    @torch.inference_mode()
    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        if step_index + 1 >= num_steps:
            return None
        return self._decoder.decode_around(x0, x0.shape[2] // 2)[-1:]


class LinearPreviewer:
    """Through the factors, at a quarter of the clip's width and height, smoothed."""

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
    """The first preview through the factors, which cost next to nothing; the sharper ones after it through `later`.

    In the first x0 there is nothing yet that a decoder could sharpen.
    """

    def __init__(self, first: LinearPreviewer, later: Previews) -> None:
        self._first = first
        self._later = later
        self.name = f"{first.name}, then {later.name}"

    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        return (self._later if step_index else self._first).preview(x0, step_index, num_steps)


def build(decoders: Mapping[str, Decoder], factors: LinearFactors | None, *, spatial_factor: int) -> Previews:
    """The best that these decoders (by name: full, pruned, tiny) and factors allow without holding up a step."""
    linear = LinearPreviewer(factors, spatial_factor=spatial_factor) if factors is not None else None
    if "tiny" in decoders:
        tiny = Previewer(decoders["tiny"], "tiny")
        return tiny if linear is None else FirstLinear(linear, tiny)
    if linear is not None:
        return linear
    name = next(iter(decoders))
    return Previewer(decoders[name], name)

"""Pictures of a clip that is still being denoised, from the x0 that each step implies. Engine process, loop thread.

A ladder: after the first step a linear map from latents to colours, one small picture a latent frame, for next to
nothing; it shows sky, ground and light, which is all that a first x0 holds. After the later ones the decoder on one
latent frame in mid-clip, which shows the subject. The last step needs none: the clip follows.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from engine.decoder import Decoder


class LinearPreview:
    """Colour = matrix . latent + bias, fitted once against rendered clips (`engine.embedded.train export`)."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor) -> None:
        """`matrix` is ``[C, 3]``, `bias` ``[3]``, for standardised latents and RGB in [0, 1]."""
        self._matrix = matrix
        self._bias = bias

    @classmethod
    def from_file(cls, path: Path) -> LinearPreview:
        factors = json.loads(path.read_text())
        return cls(torch.tensor(factors["matrix"]), torch.tensor(factors["bias"]))

    def preview(self, x0: torch.Tensor) -> torch.Tensor:
        """``[1, C, T, h, w]`` to ``[T, 3, h, w]`` in [0, 1]."""
        return (torch.einsum("cthw,cr->trhw", x0[0], self._matrix) + self._bias.view(1, 3, 1, 1)).clamp(0, 1)


class PreviewLadder:
    def __init__(self, linear: LinearPreview, decoder: Decoder) -> None:
        self._linear = linear
        self._decoder = decoder

    @torch.inference_mode()
    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        """Frames ``[N, 3, H, W]`` in [0, 1] to show after this step, None after the last."""
        if step_index + 1 >= num_steps:
            return None
        if step_index == 0:
            return self._linear.preview(x0)
        return self._decoder.decode_around(x0, x0.shape[2] // 2)[-1:]

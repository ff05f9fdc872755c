"""Pictures of a clip that is still being denoised, from the x0 that each step implies. Engine process, loop thread.

One latent frame in mid-clip goes through the decoder: a seventh of a decode, and even the first x0 of the embedded
model, the mean of all clips that the prompt allows, shows light, ground and subject that way. After the last step
there is none: the clip follows.
"""

from __future__ import annotations

import torch

from engine.decoder import Decoder


class Previewer:
    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @torch.inference_mode()
    def preview(self, x0: torch.Tensor, step_index: int, num_steps: int) -> torch.Tensor | None:
        """Frames ``[N, 3, H, W]`` in [0, 1] to show after this step, None after the last."""
        if step_index + 1 >= num_steps:
            return None
        return self._decoder.decode_around(x0, x0.shape[2] // 2)[-1:]

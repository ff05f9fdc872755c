"""Decodes latents to frames, one latent frame at a time, so that the worker can act between any two. Loop thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from engine.embedded.modules import Decoder as EmbeddedModule


class Decoder(Protocol):
    def decode(self, latents: torch.Tensor, *, closes: bool = True) -> Iterator[torch.Tensor]:
        """Consecutive frames ``[N, 3, H, W]`` in [0, 1] of ``[1, C, T, h, w]``: one first, then four a latent frame.

        `closes`: the decoder may make the clip a ring, whose last frame leads to the second one. False if the clip
        starts from a frame of another clip.
        """
        ...

    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        """The frames ``[N, 3, H, W]`` of one latent frame alone, for a preview."""
        ...


class EmbeddedDecoder:
    """The embedded model's decoder sees one latent frame and the one before it; its stream closes loops by itself."""

    def __init__(self, module: EmbeddedModule) -> None:
        self._module = module

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, *, closes: bool = True) -> Iterator[torch.Tensor]:
        for frames in self._module.stream(latents, closes=closes):
            yield frames[0]

    @torch.inference_mode()
    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        previous = latents[:, :, latent_index - 1] if latent_index else None
        return self._module.decode_latent_frame(latents[:, :, latent_index], previous)[0]


class SideStreamDecoder:
    """Decodes with another decoder, one latent frame ahead, on a CUDA stream of its own.

    The GPU makes the next group of frames while the loop thread sends the last group and another generation takes a
    step. The frames are the same. Used only if the memory plan has room for both at once (`MemoryPlan.overlaps`).
    """

    def __init__(self, decoder: Decoder, device: torch.device) -> None:
        self._decoder = decoder
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def decode(self, latents: torch.Tensor, *, closes: bool = True) -> Iterator[torch.Tensor]:
        # The latents may still be in the making on the loop's stream, and must outlive their use on ours.
        self._stream.wait_stream(torch.cuda.current_stream(latents.device))
        latents.record_stream(self._stream)
        stream = self._decoder.decode(latents, closes=closes)
        ahead = self._next(stream)
        while ahead is not None:
            frames, is_made = ahead
            ahead = self._next(stream)
            loop_stream = torch.cuda.current_stream(latents.device)
            loop_stream.wait_event(is_made)
            frames.record_stream(loop_stream)
            yield frames

    def decode_around(self, latents: torch.Tensor, latent_index: int) -> torch.Tensor:
        return self._decoder.decode_around(latents, latent_index)

    def _next(self, stream: Iterator[torch.Tensor]) -> tuple[torch.Tensor, torch.cuda.Event] | None:
        """Queues the next group; returns at once. None after the last."""
        with torch.cuda.stream(self._stream):
            frames = next(stream, None)
            return None if frames is None else (frames, self._stream.record_event())

"""Converts the decoder's RGB tensors to the yuv420p frames that encoders take, and back. Engine process."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from engine.api import Frames, ModelError

# ITU-R BT.601, limited range: Y 16..235, U and V 16..240.
_LUMA = (65.481, 128.553, 24.966)
_BLUE = (-37.797, -74.203, 112.0)
_RED = (112.0, -93.786, -18.214)


def to_frames(rgb: torch.Tensor) -> Frames:
    """Frames of `rgb`, ``[N, 3, H, W]`` in [0, 1], both sides even. Raises `ModelError` if a value is not finite."""
    if not torch.isfinite(rgb).all():
        raise ModelError("the model made frames that are not numbers (NaN or infinite)")
    num_frames, _, height, width = rgb.shape
    matrix = torch.tensor([_LUMA, _BLUE, _RED], dtype=torch.float32, device=rgb.device)
    offset = torch.tensor([16.0, 128.0, 128.0], device=rgb.device).view(1, 3, 1, 1)
    yuv = torch.einsum("rc,nchw->nrhw", matrix, rgb.float().clamp(0, 1)) + offset
    luma = yuv[:, 0].reshape(num_frames, -1)
    chroma = functional.avg_pool2d(yuv[:, 1:], 2).reshape(num_frames, -1)
    flat = torch.cat([luma, chroma], dim=1).round().to(torch.uint8)
    planes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = flat.cpu().numpy()
    return Frames(planes.reshape(num_frames, height * 3 // 2, width))


def to_rgb(frames: Frames) -> torch.Tensor:
    """``[N, 3, H, W]`` float32 in [0, 1] of frames, on the CPU; chroma is repeated over its four pixels."""
    width, height = frames.width, frames.height
    flat = torch.from_numpy(frames.planes.reshape(len(frames), -1).astype(np.float32))
    luma = flat[:, : width * height].view(-1, 1, height, width)
    chroma = flat[:, width * height :].view(-1, 2, height // 2, width // 2)
    offset = torch.tensor([16.0, 128.0, 128.0]).view(1, 3, 1, 1)
    yuv = torch.cat([luma, functional.interpolate(chroma, scale_factor=2, mode="nearest")], dim=1) - offset
    matrix = torch.linalg.inv(torch.tensor([_LUMA, _BLUE, _RED], dtype=torch.float64)).float()
    return torch.einsum("rc,nchw->nrhw", matrix, yuv).clamp(0, 1)

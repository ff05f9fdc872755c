"""`python -m training.evaluation.scaling`: the loss from scaling a clip of the embedded model to the program's size,
compared with the loss in the autoencoder.

The truth is the world rendered at the program's size. It is compared with the render at the model's size, scaled as the
server scales (Lanczos, bicubic) and sharpened, and with the autoencoder's round trip at the model's size. A learned
scaler could gain no more than the first line's distance from perfect.
"""

from __future__ import annotations

import argparse

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import Decoder, Encoder
from training.data.dataset import draw_specs
from training.world.world import HEIGHT, WIDTH, render

_FACTOR = 2
_FRAMES = range(9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = Encoder.from_pretrained(EMBEDDED_FOLDER / "encoder")
    decoder = Decoder.from_pretrained(EMBEDDED_FOLDER / "decoder")
    errors: dict[str, list[float]] = {}
    for spec in draw_specs(arguments.clips, seed=3):
        truth = render(spec, _FRAMES, height=_FACTOR * HEIGHT, width=_FACTOR * WIDTH)[-1]
        small = render(spec, _FRAMES)
        with torch.inference_mode():
            round_trip = decoder.decode(encoder.encode(small[None]), closes=False)[0, -1]
        for name, scaled in {
            "lanczos": _scaled(small[-1], "LANCZOS"),
            "bicubic": _scaled(small[-1], "BICUBIC"),
            "lanczos, sharpened": _sharpened(_scaled(small[-1], "LANCZOS")),
            "round trip, then lanczos": _scaled(round_trip, "LANCZOS"),
            "round trip, then lanczos, sharpened": _sharpened(_scaled(round_trip, "LANCZOS")),
        }.items():
            errors.setdefault(name, []).append(float((scaled - truth).square().mean()))
    for name, values in errors.items():
        print(f"{name:36} {_psnr(values):.1f} dB against the world at {_FACTOR * WIDTH}x{_FACTOR * HEIGHT}")


def _scaled(picture: Tensor, interpolation: str) -> Tensor:
    """[3, H, W] in [0, 1], twice as large, by the library that the server scales with."""
    pixels = (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    scaled = frame.reformat(width=_FACTOR * WIDTH, height=_FACTOR * HEIGHT, interpolation=interpolation)
    return torch.from_numpy(scaled.to_ndarray(format="rgb24")).permute(2, 0, 1).float().div(255)


def _sharpened(picture: Tensor) -> Tensor:
    """Unsharp masking at half strength."""
    blurred = functional.avg_pool2d(picture[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    return (picture + 0.5 * (picture - blurred)).clamp(0, 1)


def _psnr(errors: list[float]) -> float:
    return -10 * float(np.log10(np.mean(errors)))


if __name__ == "__main__":
    main()

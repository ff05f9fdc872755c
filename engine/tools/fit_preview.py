"""`python -m engine.tools.fit_preview FOLDER`: finds the linear preview factors of a VAE and writes them beside it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from engine.api import ModelError
from engine.parts import linear_preview


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        vae = _load(arguments.folder, arguments.device)
    except ModelError as error:
        print(f"fit_preview: {error}", file=sys.stderr)
        return 1
    began_at = time.monotonic()
    factors = linear_preview.fit(
        linear_preview.vae_encode(vae),
        spatial_factor=int(vae.config["scale_factor_spatial"]),
        num_pictures=arguments.pictures,
    )
    file = arguments.output or arguments.folder / linear_preview.FILE_NAME
    linear_preview.write(file, factors)
    print(f"{file}: {factors.psnr_db} dB on pictures not fitted, {time.monotonic() - began_at:.1f} s")
    return 0


def _load(folder: Path, device: str) -> AutoencoderKLWan:
    """`folder` is a model folder, or only its VAE's."""
    vae_folder = folder / "vae" if (folder / "vae").is_dir() else folder
    try:
        vae: AutoencoderKLWan = AutoencoderKLWan.from_pretrained(
            vae_folder, torch_dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"no Wan VAE can be loaded from {vae_folder}: {error}") from error
    vae.to(device).eval()  # type: ignore[arg-type]
    return vae


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.tools.fit_preview", description=__doc__)
    parser.add_argument("folder", type=Path, help="a model folder in diffusers' layout, or that of a VAE alone")
    parser.add_argument("--output", type=Path, help=f"default: {linear_preview.FILE_NAME} in the folder")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())

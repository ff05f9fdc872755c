"""Writes trained modules as the folder that the engine loads: `engine/embedded/weights/`, in the diffusers layout."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.embedded.modules import Autoencoder, TextEncoder, group_frames
from training.evaluation.sampling import SamplingSettings, Transformer
from training.world.world import FPS, HEIGHT, NUM_FRAMES, WIDTH


def export_folder(
    folder: Path,
    *,
    transformer: Transformer,
    text_encoder: TextEncoder,
    autoencoder: Autoencoder,
    preview: dict[str, Any],
    settings: dict[str, SamplingSettings],
) -> None:
    """Writes everything in fp16, in files of at most 16 MB. `preview` is `fit_preview`'s result.

    It does not write the model card: that describes measured weights, so a person writes it.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, __version__  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(transformer).half().save_pretrained(folder / "transformer", max_shard_size="16MB")
    text_encoder.save_pretrained(folder / "text_encoder")
    autoencoder.encoder.save_pretrained(folder / "encoder")
    autoencoder.decoder.save_pretrained(folder / "decoder")
    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=settings["fast"].shift)  # type: ignore[no-untyped-call]
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "SceneshiftEmbeddedPipeline",
        "_diffusers_version": __version__,
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["engine.embedded.modules", "TextEncoder"],
        "encoder": ["engine.embedded.modules", "Encoder"],
        "decoder": ["engine.embedded.modules", "Decoder"],
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": NUM_FRAMES,
        "fps": FPS,
        "settings": {name: asdict(setting) for name, setting in settings.items()},
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "preview.json").write_text(json.dumps(preview) + "\n")


@torch.no_grad()
def fit_preview(latents: Tensor, frames: Tensor) -> dict[str, Any]:
    """The linear map from latents [B, C, T, H, W] to RGB that best explains `frames` [B, 4T-3, 3, 16H, 16W].

    Returns `matrix` [C][3] and `bias` [3]: rgb = latent @ matrix + bias, in [0, 1], one pixel per latent cell.
    """
    means = group_frames(frames).mean(2)
    batch, num_latent_frames = means.shape[:2]
    target = torch.nn.functional.avg_pool2d(means.flatten(0, 1), 16).view(
        batch, num_latent_frames, 3, *latents.shape[3:]
    )
    known = latents.permute(0, 2, 3, 4, 1).flatten(0, 3)
    known = torch.cat([known, known.new_ones(len(known), 1)], 1)
    wanted = target.permute(0, 1, 3, 4, 2).flatten(0, 3)
    solution = torch.linalg.lstsq(known, wanted).solution
    error = (known @ solution - wanted).square().mean()
    return {
        "matrix": [[round(value, 5) for value in row] for row in solution[:-1].tolist()],
        "bias": [round(value, 5) for value in solution[-1].tolist()],
        "psnr_db": round(float(-10 * torch.log10(error)), 2),
    }

"""Trains the embedded model: `python -m training.train STAGE --recipe small [--resume] [--slice-minutes M]`.

The stages, in order: `renders` (clips in files, for recipes that render ahead; the other stages may run beside it),
`autoencoder`, `examples` (renders to latents), `images` (single latent frames), `clips`, `few_steps`, `export`. `all`
runs them one after another and continues where an earlier run was cut off. Each training stage has a wall-clock budget
that may be spent in slices: a slice ends with a checkpoint, and `--resume` continues from it. All stages but `export`
write under runs/ (checkpoints, a CSV curve per stage).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.config import EMBEDDED_FOLDER
from training.data.clip_files import render_ahead
from training.data.dataset import RENDERS, draw_specs, make_examples
from training.evaluation.sampling import SamplingSettings
from training.export import export_folder, fit_preview
from training.few_steps import train_few_steps
from training.train_autoencoder import load_autoencoder, new_autoencoder, train_autoencoder
from training.train_generator import Generator, load_generator, train_clips, train_images
from training.training import RECIPES, Recipe, use_machine
from training.world.world import render

STAGES = ("renders", "autoencoder", "examples", "images", "clips", "few_steps", "export")
FAST = SamplingSettings(num_steps=4, guidance_scale=1.0, shift=3.0)
FINE = SamplingSettings(num_steps=8, guidance_scale=1.0, shift=3.0)


def export(recipe: Recipe, folder: Path = EMBEDDED_FOLDER, *, start_from: Path | None = None) -> None:
    """Exports the averages of the newest stages that ran; a part whose stage never ran is exported with random weights.

    `start_from`: a weights folder with the autoencoder that the other stages used, if the run has none of its own.
    """
    has_autoencoder = start_from is not None or (recipe.folder / "autoencoder.pt").exists()
    autoencoder = load_autoencoder(recipe, start_from) if has_autoencoder else new_autoencoder(recipe)
    newest = next(
        (stage for stage in ("few_steps", "clips", "images") if (recipe.folder / f"{stage}.pt").exists()), None
    )
    generator = Generator(recipe) if newest is None else load_generator(recipe, newest)
    frames = torch.stack([render(spec) for spec in draw_specs(min(24, recipe.num_clips), recipe.seed + 3)])
    with torch.no_grad():
        latents = autoencoder.eval().encoder.encode(frames)
    export_folder(
        folder,
        transformer=generator.transformer,
        text_encoder=generator.text_encoder,
        autoencoder=autoencoder,
        preview=fit_preview(latents, frames),
        settings={"fast": FAST, "fine": FINE},
    )


def run_stage(recipe: Recipe, stage: str, *, start_from: Path | None, folder: Path, **budget: Any) -> None:
    if stage == "renders":
        if recipe.renders_ahead:
            render_ahead(
                recipe.folder / RENDERS, num_clips=recipe.num_clips, seed=recipe.seed, num_workers=recipe.num_renderers
            )
    elif stage == "autoencoder":
        train_autoencoder(recipe, start_from=start_from, **budget)
    elif stage == "examples":
        make_examples(recipe, load_autoencoder(recipe, start_from).encoder)
    elif stage == "images":
        train_images(recipe, start_from=start_from, **budget)
    elif stage == "clips":
        train_clips(recipe, start_from=start_from, **budget)
    elif stage == "few_steps":
        train_few_steps(recipe, **budget)
    else:
        export(recipe, folder, start_from=start_from)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="small")
    parser.add_argument("--device", help="instead of the recipe's: cpu, cuda")
    parser.add_argument("--minutes", type=float, help="the stage's budget, instead of the recipe's")
    parser.add_argument("--slice-minutes", type=float, help="stop then, with a checkpoint to resume from")
    parser.add_argument("--resume", action="store_true", help="continue from the stage's checkpoint")
    parser.add_argument("--start-from", type=Path, help="begin with this weights folder instead of random numbers")
    parser.add_argument("--seed", type=int, help="instead of the recipe's: other examples, other batches")
    parser.add_argument("--export-to", type=Path, default=EMBEDDED_FOLDER, help="where `export` writes")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.recipe]
    if arguments.device is not None:
        recipe = replace(recipe, device=arguments.device)
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    recipe.folder.mkdir(parents=True, exist_ok=True)
    use_machine(recipe)
    is_all = arguments.stage == "all"
    for stage in STAGES if is_all else (arguments.stage,):
        run_stage(
            recipe,
            stage,
            start_from=arguments.start_from,
            folder=arguments.export_to,
            minutes=arguments.minutes,
            slice_minutes=arguments.slice_minutes,
            resume=arguments.resume or is_all,
        )


if __name__ == "__main__":
    main()

"""Measures the exported model: `python -m training.evaluation.evaluate [--setting fast] [--json] [--sheet out.png]`.

Prompts name whole specs, in English and in Chinese: some like those of training, and some of pairs that training never
showed (scene x time, subject x scene, subject x colour). A classifier trained on renders names what each clip shows.
It judges three rows: the generated clips, renders of the same specs through the autoencoder, which are the ceiling, and
the renders themselves. A head that is not right on 95 % of unseen renders is not used. The classifier is trained once
and stored in --runs.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from engine.config import EMBEDDED_FOLDER
from engine.embedded.modules import Encoder, fastest_dtype
from engine.embedded.reading import completed_tokens, read
from engine.embedded.spec import (
    COLOURS,
    DIRECTIONS,
    HELD_OUT_SCENE_TIMES,
    HELD_OUT_SUBJECT_COLOURS,
    HELD_OUT_SUBJECT_SCENES,
    NUM_LAYOUTS,
    SUBJECTS_OF_SCENE,
    TIMELESS_SCENES,
    TIMES,
    SceneSpec,
)
from training.data.captions import full_caption
from training.data.dataset import draw_specs
from training.evaluation.classifier import (
    HEADS,
    Classifier,
    load_classifier,
    rendered_pictures,
    save_classifier,
    train_classifier,
    true_names,
)
from training.evaluation.sampling import EmbeddedModel, SamplingSettings, TokenIds, initial_noise, sample_latents
from training.world.world import render

GATE = 0.95
# The goals for held-out combinations, by head.
GOALS = {"scene": 0.97, "time": 0.97, "subject": 0.90, "colour": 0.90, "direction": 0.90}


@dataclass(frozen=True)
class Probe:
    """A prompt, the spec that its clip must show, and its kind: "seen" or the kind of pair that training left out."""

    text: str
    spec: SceneSpec
    kind: str

    @property
    def token_ids(self) -> TokenIds:
        return completed_tokens(read(self.text), self.spec)

    @property
    def is_chinese(self) -> bool:
        return not self.text.isascii()


def probes(*, num_seen: int = 60, rounds: int = 3, seed: int = 5) -> list[Probe]:
    """`num_seen` seen specs, and `rounds` clips of each held-out pair. Every other prompt is in Chinese."""
    rng = random.Random(seed)
    specs = [(spec, "seen") for spec in draw_specs(num_seen, seed)]
    for _ in range(rounds):
        specs += [(_draw_around(rng, scene=scene, time=time), "scene_time") for scene, time in HELD_OUT_SCENE_TIMES]
        specs += [
            (_draw_around(rng, scene=scene, subject=subject), "subject_scene")
            for subject, scene in HELD_OUT_SUBJECT_SCENES
        ]
        specs += [
            (_draw_around(rng, subject=subject, colour=colour), "subject_colour")
            for subject, colour in HELD_OUT_SUBJECT_COLOURS
        ]
    return [
        Probe(full_caption(spec, rng, chinese=index % 2 == 1), spec, kind) for index, (spec, kind) in enumerate(specs)
    ]


def _draw_around(rng: random.Random, **pair: str) -> SceneSpec:
    """A clear, still, vivid spec that is held out by `pair` alone."""
    while True:
        subject = pair.get("subject")
        scene = pair.get("scene") or rng.choice(
            [place for place, subjects in SUBJECTS_OF_SCENE.items() if subject in subjects]
        )
        subject = subject or rng.choice((*SUBJECTS_OF_SCENE[scene], None))
        spec = SceneSpec(
            scene,
            None if scene in TIMELESS_SCENES else pair.get("time") or rng.choice(TIMES),
            subject=subject,
            colour=(pair.get("colour") or rng.choice(COLOURS)) if subject else None,
            direction=rng.choice(DIRECTIONS) if subject else None,
            layout=rng.randrange(NUM_LAYOUTS),
        )
        pairs = (
            (spec.scene, spec.time) in HELD_OUT_SCENE_TIMES,
            (spec.subject, spec.scene) in HELD_OUT_SUBJECT_SCENES,
            (spec.subject, spec.colour) in HELD_OUT_SUBJECT_COLOURS,
        )
        if sum(pairs) == 1:
            return spec


def generate(
    model: EmbeddedModel, token_ids: Sequence[TokenIds], settings: SamplingSettings, *, seed: int, batch: int = 6
) -> Tensor:
    """Clips uint8 [B, 25, 3, H, W]; clip i has the noise of `seed + i`."""
    clips = []
    for start in range(0, len(token_ids), batch):
        part = list(token_ids[start : start + batch])
        noise = torch.cat([initial_noise(seed + start + index) for index in range(len(part))])
        latents = sample_latents(model.transformer, model.text_encoder, part, noise=noise, settings=settings)
        with torch.inference_mode():
            clips.append((model.decoder.decode(latents) * 255 + 0.5).to(torch.uint8))
    return torch.cat(clips)


def evaluate(
    model: EmbeddedModel,
    encoder: Encoder,
    judge: tuple[Classifier, dict[str, float]],
    settings: SamplingSettings,
    *,
    seed: int = 1000,
    num_seen: int = 60,
    rounds: int = 3,
) -> dict[str, Any]:
    """All figures, by name; shares are in [0, 1]."""
    classifier, judged = judge
    asked = probes(num_seen=num_seen, rounds=rounds)
    started_s = time.perf_counter()
    clips = generate(model, [probe.token_ids for probe in asked], settings, seed=seed)
    seconds_per_clip = (time.perf_counter() - started_s) / len(clips)
    again = generate(model, [asked[0].token_ids], settings, seed=seed)
    rows: dict[str, list[dict[str, str]]] = {"generated": [], "round_trip": [], "renders": []}
    measured: list[dict[str, float]] = []
    for index, probe in enumerate(asked):
        generated = clips[index : index + 1].float().div(255)
        rendered = render(probe.spec)[None]
        with torch.inference_mode():
            round_trip = model.decoder.decode(encoder.encode(rendered))
        for name, frames in (("generated", generated), ("round_trip", round_trip), ("renders", rendered)):
            rows[name] += classifier.names(frames)
        measured.append(_measured(generated, round_trip, rendered))
    heads = [head for head in HEADS if judged[head] >= GATE]
    figures: dict[str, Any] = {
        "settings": {"steps": settings.num_steps, "guidance": settings.guidance_scale, "shift": settings.shift},
        "dtype": str(model.decoder.dtype).removeprefix("torch."),
        "num_clips": len(asked),
        "judge_on_unseen_renders": {head: round(accuracy, 4) for head, accuracy in judged.items()},
        "heads_below_the_gate": [head for head in HEADS if head not in heads],
    }
    for row, names in rows.items():
        figures[row] = _shares_by_kind(asked, names, heads)
    for name in measured[0]:
        figures[name] = round(sum(values[name] for values in measured) / len(measured), 3)
    figures["sharpness_share_of_round_trip"] = round(figures["sharpness"] / figures["sharpness_round_trip"], 3)
    figures["same_prompt_and_seed_same_clip"] = bool((again[0].int() - clips[0].int()).abs().max() <= 1)
    figures["seconds_per_clip"] = round(seconds_per_clip, 3)
    figures["goals"] = _goals(figures)
    return figures


def _measured(generated: Tensor, round_trip: Tensor, rendered: Tensor) -> dict[str, float]:
    """The figures of one clip [1, 25, 3, H, W]; sharpness, motion and flicker relative to the render."""
    return {
        "round_trip_psnr_db": _psnr(round_trip, rendered),
        "generated_psnr_db": _psnr(generated, rendered),
        "sharpness": _sharpness(generated) / _sharpness(rendered),
        "sharpness_round_trip": _sharpness(round_trip) / _sharpness(rendered),
        "motion": _motion(generated) / _motion(rendered),
        "flicker": _flicker(generated) / _flicker(rendered),
        "flicker_round_trip": _flicker(round_trip) / _flicker(rendered),
        "group_seam": _group_seam(generated),
        "loop_seam": _loop_seam(generated),
        "loop_seam_renders": _loop_seam(rendered),
    }


def _shares_by_kind(asked: list[Probe], names: list[dict[str, str]], heads: list[str]) -> dict[str, dict[str, float]]:
    """For each kind of probe, and all held-out ones by language, the share that each head finds right."""
    groups: dict[str, list[int]] = {}
    for index, probe in enumerate(asked):
        keys = [probe.kind]
        if probe.kind != "seen":
            keys += ["held_out", "held_out_chinese" if probe.is_chinese else "held_out_english"]
        for key in keys:
            groups.setdefault(key, []).append(index)
    shares: dict[str, dict[str, float]] = {}
    for key, members in groups.items():
        shares[key] = {}
        for head in heads:
            truth = {index: true_names(asked[index].spec)[head] for index in members}
            # To find no colour or direction in a clip without a subject is no achievement.
            counted = [index for index in members if head not in {"colour", "direction"} or truth[index] != "none"]
            right = [names[index][head] == truth[index] for index in counted]
            shares[key][head] = round(sum(right) / len(right), 4)
    return shares


def _goals(figures: dict[str, Any]) -> dict[str, bool | None]:
    """Which goals are reached; None if the judge's head did not pass its gate."""
    held_out = figures["generated"]["held_out"]
    reached: dict[str, bool | None] = {
        f"{head} >= {goal:.0%} held out": held_out[head] >= goal if head in held_out else None
        for head, goal in GOALS.items()
    }
    reached["sharpness >= 90% of the round trip"] = figures["sharpness_share_of_round_trip"] >= 0.9
    reached["round trip >= 30 dB"] = figures["round_trip_psnr_db"] >= 30
    reached["loop seam <= 1.2"] = figures["loop_seam"] <= 1.2
    reached["same prompt and seed, same clip"] = figures["same_prompt_and_seed_same_clip"]
    return reached


def _psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


def _sharpness(clips: Tensor) -> float:
    return float(
        (clips[..., 1:] - clips[..., :-1]).abs().mean() + (clips[..., 1:, :] - clips[..., :-1, :]).abs().mean()
    )


def _steps(clips: Tensor) -> Tensor:
    """Mean absolute step from each frame to the next, [24]."""
    return (clips[:, 1:] - clips[:, :-1]).abs().mean((0, 2, 3, 4))


def _motion(clips: Tensor) -> float:
    return float(_steps(clips).mean())


def _flicker(clips: Tensor) -> float:
    return float((clips[:, 2:] - 2 * clips[:, 1:-1] + clips[:, :-2]).abs().mean())


def _group_seam(clips: Tensor) -> float:
    """The steps between groups of four over those within the groups: 1 if nothing pulses."""
    steps = _steps(clips[:, 1:])
    between = torch.arange(len(steps)) % 4 == 3
    return float(steps[between].mean() / steps[~between].mean())


def _loop_seam(clips: Tensor) -> float:
    """The loop's step from its last frame to the second one, over the mean step: 1 is a step like any other."""
    return float((clips[:, 1] - clips[:, -1]).abs().mean()) / _motion(clips)


def contact_sheet(path: Path, asked: Sequence[Probe], rows: Sequence[Sequence[Tensor]], *, frame: int = 10) -> None:
    """A row for each probe: the render, its round trip through the autoencoder, and the model's clip."""
    width, height, gap, line = 416, 256, 8, 16
    sheet = Image.new("RGB", (3 * (width + gap) + gap, len(asked) * (height + gap + line) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (probe, clips) in enumerate(zip(asked, rows, strict=True)):
        top = gap + index * (height + gap + line)
        spec = probe.spec
        words = (
            spec.palette,
            spec.colour,
            spec.subject,
            spec.direction,
            spec.scene,
            spec.time,
            spec.weather,
            spec.camera,
        )
        said = " ".join(word for word in words if word is not None)
        draw.text((gap, top), f"{said}, layout {spec.layout} ({probe.kind})", fill="black")
        for column, clip in enumerate(clips):
            picture = (clip[frame].float() * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            sheet.paste(Image.fromarray(picture), (gap + column * (width + gap), top + line))
    sheet.save(path)


def ready_judge(folder: Path, *, num_pictures: int, num_steps: int) -> tuple[Classifier, dict[str, float]]:
    """The classifier in `folder`, trained now if there is none."""
    path = folder / "classifier.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pictures, specs = rendered_pictures(num_pictures, 77, num_workers=2)
        classifier, accuracy = train_classifier(pictures, specs, num_steps=num_steps)
        save_classifier(path, classifier, accuracy)
    return load_classifier(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=EMBEDDED_FOLDER)
    parser.add_argument("--runs", type=Path, default=Path("runs/embedded-evaluation"), help="where the judge is stored")
    parser.add_argument("--setting", default="fast", help="a named setting of the model")
    parser.add_argument("--steps", type=int, help="instead of the setting's")
    parser.add_argument("--guidance", type=float, help="instead of the setting's")
    parser.add_argument("--shift", type=float, help="instead of the setting's")
    parser.add_argument("--float32", action="store_true", help="even where the engine takes bf16")
    parser.add_argument("--num-seen", type=int, default=60, help="clips like those of training")
    parser.add_argument("--rounds", type=int, default=3, help="clips of each held-out pair")
    parser.add_argument("--num-pictures", type=int, default=20_000, help="renders that the judge learns from")
    parser.add_argument("--judge-steps", type=int, default=3000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--sheet", type=Path, help="write a PNG of renders, round trips and clips of 24 probes, and stop"
    )
    parser.add_argument("--seed", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    dtype = torch.float32 if arguments.float32 else fastest_dtype(torch.device("cpu"))
    model = EmbeddedModel.from_pretrained(arguments.weights, dtype=dtype)
    settings = model.settings[arguments.setting]
    settings = replace(
        settings,
        num_steps=arguments.steps or settings.num_steps,
        guidance_scale=settings.guidance_scale if arguments.guidance is None else arguments.guidance,
        shift=arguments.shift or settings.shift,
    )
    encoder = Encoder.from_pretrained(arguments.weights / "encoder")
    if arguments.sheet is not None:
        asked = probes(num_seen=12, rounds=1)[::2][:24]
        clips = generate(model, [probe.token_ids for probe in asked], settings, seed=arguments.seed).float().div(255)
        rendered = [render(probe.spec) for probe in asked]
        with torch.inference_mode():
            round_trips = [model.decoder.decode(encoder.encode(frames[None]))[0] for frames in rendered]
        contact_sheet(arguments.sheet, asked, list(zip(rendered, round_trips, clips, strict=True)))
        return
    judge = ready_judge(arguments.runs, num_pictures=arguments.num_pictures, num_steps=arguments.judge_steps)
    figures = evaluate(
        model,
        encoder,
        judge,
        settings,
        seed=arguments.seed,
        num_seen=arguments.num_seen,
        rounds=arguments.rounds,
    )
    if arguments.json:
        print(json.dumps(figures, ensure_ascii=False, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()

"""Measures the exported model: `python -m engine.embedded.evaluate [--setting fast] [--json] [--sheet out.png]`.

Every scene at every time of day is prompted once in English and once in Chinese, and some subjects in colours; a
classifier trained on renders names what each clip shows. Two rows are judged: the generated clips, and renders of the
same prompts through the autoencoder, which are the ceiling. The classifier and its pictures lie in the recipe's folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from engine.embedded.classifier import Classifier, load_classifier, save_classifier, train_classifier
from engine.embedded.dataset import draw_specs, load_specs
from engine.embedded.lexicon import understand
from engine.embedded.modules import Encoder
from engine.embedded.sampling import WEIGHTS_FOLDER, EmbeddedModel, SamplingSettings, initial_noise, sample_latents
from engine.embedded.spec import HELD_OUT_SCENE_TIMES, SCENES, TIMES, SceneSpec
from engine.embedded.world import render


@dataclass(frozen=True)
class Probe:
    """A prompt and what its clip must show."""

    text: str
    spec: SceneSpec


_SCENE_WORDS = {
    "beach": ("a beach", "海滩"),
    "sea": ("the ocean", "大海"),
    "mountains": ("snowy mountains", "雪山"),
    "forest": ("a forest", "森林"),
    "city": ("a city", "城市"),
    "volcano": ("an erupting volcano", "火山喷发"),
    "underwater": ("a coral reef underwater", "海底世界"),
    "space": ("outer space", "太空"),
}
_TIME_WORDS = {
    "day": ("on a sunny day", "白天的"),
    "sunset": ("at sunset", "日落时的"),
    "night": ("at night", "夜晚的"),
    "dawn": ("at sunrise", "清晨的"),
}
_SUBJECT_PROBES = (
    ("a girl in a red dress dancing on the beach at sunset", "beach", "sunset", "dancer", "red"),
    ("a white sailboat on the ocean at dawn", "sea", "dawn", "sailboat", "white"),
    ("a purple hot-air balloon over the mountains by day", "mountains", "day", "balloon", "purple"),
    ("a yellow puppy running in the woods in the morning", "forest", "dawn", "dog", "yellow"),
    ("a red car driving through the city at night", "city", "night", "car", "red"),
    ("a blue bird flying by a volcano at sunset", "volcano", "sunset", "bird", "blue"),
    ("a red fish in the coral reef on a sunny day", "underwater", "day", "fish", "red"),
    ("a green rocket in space", "space", None, "rocket", "green"),
    ("a blue car in the mountains at dusk", "mountains", "sunset", "car", "blue"),
    ("a golden dog on the beach at noon", "beach", "day", "dog", "yellow"),
    ("a purple sailboat out at sea under the stars", "sea", "night", "sailboat", "purple"),
    ("a woman in a green dress dancing in the city in the evening", "city", "sunset", "dancer", "green"),
    ("夜晚的海面上一艘红色的帆船", "sea", "night", "sailboat", "red"),
    ("一只白色的小狗在沙滩上奔跑，黄昏", "beach", "sunset", "dog", "white"),
    ("太空中一枚紫色的火箭", "space", None, "rocket", "purple"),
    ("海底一条黄色的小鱼，白天", "underwater", "day", "fish", "yellow"),
    ("白天城市里一辆绿色的汽车", "city", "day", "car", "green"),
    ("清晨森林里一个穿蓝色裙子的女孩跳舞", "forest", "dawn", "dancer", "blue"),
    ("白天雪山上一个红色的热气球", "mountains", "day", "balloon", "red"),
    ("夜晚火山旁一只白色的鸟", "volcano", "night", "bird", "white"),
)


def scene_probes() -> list[Probe]:
    probes = []
    for scene in SCENES:
        for time_of_day in (None,) if scene == "space" else TIMES:
            spec = SceneSpec(scene, time_of_day)
            english, chinese = _SCENE_WORDS[scene]
            if time_of_day is not None:
                english, chinese = f"{english} {_TIME_WORDS[time_of_day][0]}", _TIME_WORDS[time_of_day][1] + chinese
            probes += [Probe(english, spec), Probe(chinese, spec)]
    return probes


def subject_probes() -> list[Probe]:
    return [
        Probe(text, SceneSpec(scene, time_of_day, subject, colour, "right"))
        for text, scene, time_of_day, subject, colour in _SUBJECT_PROBES
    ]


def generate(
    model: EmbeddedModel, texts: Sequence[str], settings: SamplingSettings, *, seed: int, batch: int = 6
) -> Tensor:
    """Clips [B, 25, 3, H, W] in [0, 1]; clip i has the noise of `seed + i`."""
    clips = []
    for start in range(0, len(texts), batch):
        token_ids = [understand(text).token_ids for text in texts[start : start + batch]]
        noise = torch.cat([initial_noise(seed + start + index) for index in range(len(token_ids))])
        latents = sample_latents(model.transformer, model.text_encoder, token_ids, noise=noise, settings=settings)
        with torch.inference_mode():
            clips.append(model.decoder.decode(latents))
    return torch.cat(clips)


def evaluate(
    model: EmbeddedModel, encoder: Encoder, classifier: Classifier, settings: SamplingSettings, *, seed: int = 1000
) -> dict[str, Any]:
    """All figures, by name; shares are in [0, 1]."""
    scenes, subjects = scene_probes(), subject_probes()
    started_s = time.perf_counter()
    generated = generate(model, [probe.text for probe in (*scenes, *subjects)], settings, seed=seed)
    seconds_per_clip = (time.perf_counter() - started_s) / len(generated)
    named = classifier.names(generated)
    of_scenes = list(zip(scenes, named, strict=False))
    of_subjects = list(zip(subjects, named[len(scenes) :], strict=True))
    held_out = [
        (probe, names) for probe, names in of_scenes if (probe.spec.scene, probe.spec.time) in HELD_OUT_SCENE_TIMES
    ]
    chinese = [(probe, names) for probe, names in of_scenes if not probe.text.isascii()]
    english = [(probe, names) for probe, names in of_scenes if probe.text.isascii()]
    rendered = torch.stack([render(probe.spec) for probe in subjects])
    with torch.inference_mode():
        round_trip = model.decoder.decode(encoder.encode(rendered))
    ceiling = list(zip(subjects, classifier.names(round_trip), strict=True))
    return {
        "settings": {"steps": settings.num_steps, "guidance": settings.guidance_scale, "shift": settings.shift},
        "scene_accuracy": _share(of_scenes + of_subjects, "scene"),
        "time_accuracy": _share(of_scenes + of_subjects, "time"),
        "scene_and_time_english": _share(english, "scene", "time"),
        "scene_and_time_chinese": _share(chinese, "scene", "time"),
        "scene_and_time_held_out": _share(held_out, "scene", "time") if held_out else None,
        "subject_accuracy": _share(of_subjects, "subject"),
        "colour_accuracy": _share(of_subjects, "colour"),
        "round_trip_subject_accuracy": _share(ceiling, "subject"),
        "round_trip_colour_accuracy": _share(ceiling, "colour"),
        "round_trip_psnr_db": round_trip_psnr(model, encoder),
        "sharpness_generated": round(_sharpness(generated[len(scenes) :]) / _sharpness(rendered), 3),
        "sharpness_round_trip": round(_sharpness(round_trip) / _sharpness(rendered), 3),
        "motion_generated": round(_motion(generated[len(scenes) :]) / _motion(rendered), 3),
        "loop_seam": round(_loop_seam(generated), 3),
        "seconds_per_clip": round(seconds_per_clip, 3),
        "num_clips": len(generated),
        "mistakes": [
            f"{probe.text}: {names}"
            for probe, names in of_scenes + of_subjects
            if (names["scene"], names["time"]) != (probe.spec.scene, probe.spec.time or "none")
        ],
    }


def _share(judged: list[tuple[Probe, dict[str, str]]], *heads: str) -> float:
    right = [all(names[head] == (getattr(probe.spec, head) or "none") for head in heads) for probe, names in judged]
    return round(sum(right) / len(right), 4)


def round_trip_psnr(model: EmbeddedModel, encoder: Encoder, *, num_clips: int = 24, seed: int = 99) -> float:
    """Decibels of fresh renders through encoder and decoder, all frames."""
    frames = torch.stack([render(spec) for spec in draw_specs(num_clips, seed)])
    with torch.inference_mode():
        error = (model.decoder.decode(encoder.encode(frames)) - frames).square().mean()
    return round(float(-10 * torch.log10(error)), 2)


def _sharpness(clips: Tensor) -> float:
    return float(
        (clips[..., 1:] - clips[..., :-1]).abs().mean() + (clips[..., 1:, :] - clips[..., :-1, :]).abs().mean()
    )


def _motion(clips: Tensor) -> float:
    return float((clips[:, 1:] - clips[:, :-1]).abs().mean())


def _loop_seam(clips: Tensor) -> float:
    """|frame 24 - frame 0| over the mean step between frames: 1 is a step like any other, 0 a perfect close."""
    return float((clips[:, -1] - clips[:, 0]).abs().mean()) / _motion(clips)


def contact_sheet(path: Path, clips: Tensor, captions: Sequence[str], *, columns: int = 2) -> None:
    """Three frames of each clip in a row, its caption above."""
    _, _, _, height, width = clips.shape
    rows = -(-len(clips) // columns)
    cell_width, cell_height = 3 * width + 8, height + 16
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (clip, caption) in enumerate(zip(clips, captions, strict=True)):
        left, top = index % columns * cell_width, index // columns * cell_height
        draw.text((left + 4, top + 2), caption.encode("ascii", "replace").decode(), fill="black")
        for column, frame in enumerate((0, 9, 18)):
            pixels = (clip[frame].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy()
            sheet.paste(Image.fromarray(pixels), (left + column * width, top + 14))
    sheet.save(path)


def ready_classifier(folder: Path, *, num_steps: int) -> Classifier:
    """The recipe's classifier, trained now if there is none; needs the pictures that the `encode` stage keeps."""
    path = folder / "classifier.pt"
    if not path.exists():
        pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        classifier, worst = train_classifier(pictures, load_specs(folder / "specs.json"), num_steps=num_steps)
        print(f"classifier trained: its worst head is right on {worst:.1%} of renders that it never saw", flush=True)
        save_classifier(path, classifier)
    return load_classifier(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FOLDER)
    parser.add_argument("--runs", type=Path, default=Path("runs/embedded-small"), help="where the classifier lies")
    parser.add_argument("--setting", default="fast", help="a named setting of the model")
    parser.add_argument("--steps", type=int, help="instead of the setting's")
    parser.add_argument("--guidance", type=float, help="instead of the setting's")
    parser.add_argument("--shift", type=float, help="instead of the setting's")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the subject prompts")
    parser.add_argument("--seed", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = EmbeddedModel.from_pretrained(arguments.weights)
    settings = model.settings[arguments.setting]
    settings = replace(
        settings,
        num_steps=arguments.steps or settings.num_steps,
        guidance_scale=settings.guidance_scale if arguments.guidance is None else arguments.guidance,
        shift=arguments.shift or settings.shift,
    )
    if arguments.sheet is not None:
        probes = subject_probes()
        clips = generate(model, [probe.text for probe in probes], settings, seed=arguments.seed)
        contact_sheet(arguments.sheet, clips, [probe.text for probe in probes])
    classifier = ready_classifier(arguments.runs, num_steps=900)
    figures = evaluate(
        model, Encoder.from_pretrained(arguments.weights / "encoder"), classifier, settings, seed=arguments.seed
    )
    if arguments.json:
        print(json.dumps(figures, ensure_ascii=False, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()

"""Draws a run's training curves as one SVG, a panel for each stage: `python -m training.curves RUN -o curves.svg`."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

# Stage, column, and the panel's title.
_PANELS = (
    ("autoencoder", "average_psnr", "autoencoder: round trip of 24 unseen renders (dB)"),
    ("images", "loss", "stills: flow-matching loss"),
    ("clips", "loss", "clips: flow-matching loss"),
    ("few_steps", "loss", "few steps: distillation loss"),
)
_WIDTH, _HEIGHT, _LEFT, _TOP = 820, 170, 60, 34


def draw(run: Path) -> str:
    """The SVG of the stages that have a curve."""
    panels = []
    for stage, column, title in _PANELS:
        path = run / f"{stage}.csv"
        rows = list(csv.DictReader(path.open())) if path.exists() else []
        points = [(float(row["seconds"]) / 60, float(row[column])) for row in rows]
        if len(points) > 1:
            panels.append((title, points))
    height = _HEIGHT * len(panels)
    body = "".join(_panel(title, points, index * _HEIGHT) for index, (title, points) in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif"'
        f' font-size="12" fill="#222"><rect width="{_WIDTH}" height="{height}" fill="#fff"/>{body}</svg>\n'
    )


def _panel(title: str, points: list[tuple[float, float]], top: int) -> str:
    times, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    bottom, right = top + _HEIGHT - 28, _WIDTH - 20
    span = (high - low) or 1.0

    def place(minute: float, value: float) -> str:
        x = _LEFT + (right - _LEFT) * minute / max(times)
        return f"{x:.1f},{bottom - (bottom - top - _TOP) * (value - low) / span:.1f}"

    line = " ".join(place(minute, value) for minute, value in points)
    labels = "".join(
        f'<text x="{_LEFT - 8}" y="{float(place(0, value).split(",")[1]) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        for value in (low, high)
    )
    return (
        f'<text x="{_LEFT}" y="{top + 20}" font-weight="600">{title}</text>{labels}'
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{max(times):.0f} minutes, {len(points)} readings</text>'
        f'<polyline points="{line}" fill="none" stroke="#0072B2" stroke-width="1.5"/>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a recipe's folder under runs/")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.write_text(draw(arguments.run))


if __name__ == "__main__":
    main()

"""Draws the figures of `bench.sim.arbiter_sim` as one SVG: a panel for each figure, a group for each trace, a bar for
each policy."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

# Colours that differ in grey and for the colour-blind (Okabe and Ito).
_COLOURS = {
    "fcfs": "#999999",
    "round robin": "#E69F00",
    "edf": "#56B4E9",
    "ours, no ladder": "#009E73",
    "ours": "#0072B2",
}
_PANELS = (
    ("preview_p95_s", "prompt to first preview, p95 (s, logarithmic; less is better)", True),
    ("on_time_share", "share of prompts applied in time (more is better)", False),
    ("play_ratio", "continuous play ratio of scenes that go on (more is better)", False),
)
_WIDTH, _PANEL_HEIGHT, _LEFT, _TOP = 960, 230, 64, 64
_PLOT_HEIGHT = 150


def plot(results: dict[str, Any], *, title: str) -> str:
    parts = [f'<text x="{_LEFT}" y="26" font-size="17" font-weight="600">{escape(title)}</text>', _legend()]
    for row, (key, name, is_log) in enumerate(_PANELS):
        shown = {trace: policies for trace, policies in results.items() if key in policies["ours"]}
        if shown:
            parts.append(_panel(_TOP + row * _PANEL_HEIGHT, key, name, is_log, shown))
    height = _TOP + len(_PANELS) * _PANEL_HEIGHT
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#222"'
    frame = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {style}>'
    return "\n".join([head, frame, *parts, "</svg>"]) + "\n"


def _legend() -> str:
    entries = []
    for index, (policy, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + index * 140
        entries.append(f'<rect x="{x}" y="38" width="12" height="12" fill="{colour}"/>')
        entries.append(f'<text x="{x + 18}" y="48">{escape(policy)}</text>')
    return "\n".join(entries)


def _panel(top: int, key: str, name: str, is_log: bool, shown: dict[str, Any]) -> str:
    values = [policies[policy][key] for policies in shown.values() for policy in _COLOURS]
    low, high = _range(values, is_log)
    bottom = top + 28 + _PLOT_HEIGHT
    parts = [f'<text x="{_LEFT}" y="{top + 16}" font-weight="600">{escape(name)}</text>']
    for tick in _ticks(low, high, is_log):
        y = bottom - _share(tick, low, high, is_log) * _PLOT_HEIGHT
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{tick:g}</text>')
    group = (_WIDTH - _LEFT - 16) / max(len(shown), 4)
    bar = min(22.0, group * 0.8 / len(_COLOURS))
    for place, (trace, policies) in enumerate(shown.items()):
        left = _LEFT + place * group + group * 0.1
        for index, (policy, colour) in enumerate(_COLOURS.items()):
            height = max(1.0, _share(policies[policy][key], low, high, is_log) * _PLOT_HEIGHT)
            label = escape(f"{trace}, {policy}: {policies[policy][key]}")
            x, y = left + index * bar, bottom - height
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" height="{height:.1f}" fill="{colour}">'
                f"<title>{label}</title></rect>"
            )
        parts.append(f'<text x="{left + bar * 2.5:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(trace)}</text>')
    return "\n".join(parts)


def _range(values: list[float], is_log: bool) -> tuple[float, float]:
    if not is_log:
        return 0.0, max(1.0, *values)
    return 10 ** math.floor(math.log10(max(1e-3, min(values)))), 10 ** math.ceil(math.log10(max(1e-2, *values)))


def _ticks(low: float, high: float, is_log: bool) -> list[float]:
    if not is_log:
        return [high * share / 4 for share in range(5)]
    return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def _share(value: float, low: float, high: float, is_log: bool) -> float:
    if not is_log:
        return (value - low) / (high - low)
    return (math.log10(max(value, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))

"""`sceneshift bench glass`: what a viewer sees, measured at the viewer's glass in a real browser.

Starts the real server (unless `--url` names one) and a real Chromium with `glass_page.js`, sends prompts at random
times, and reads the number of every shown frame out of its decoded picture. The receipts name the frame that first
shows a preview or a clip; the bench measures when that frame, or the first one after it, was on the glass. Latency
runs from the moment before the page sends the prompt. Browser and server share this machine's cores.

With `--busy N`, some prompts are sent before N spinning processes start, and the others beside them. Then the bench
checks that every prompt is on air, that the engine is never lost, and that a clip takes no longer than before, given
the engine's fair share of the cores (`bench.parts.busy.fair_share`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.parts.browser import NoBrowser, chromium
from bench.parts.busy import add_flag, busy, fair_share
from bench.parts.machine import machine_facts
from bench.parts.served import ServeError, served
from engine.config import EngineSettings
from sceneshift.address import Address

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

PROMPTS = (
    "beach at sunset",
    "海边日落",
    "how does a volcano erupt?",
    "火山是怎么喷发的？",
    "a red sailboat on the sea at dawn",
    "黎明海上的红色帆船",
    "snowy mountains at night",
    "夜晚的雪山",
    "a yellow fish under water",
    "海底的黄色小鱼",
    "a blue car in the city at night",
    "a dog on the beach",
    "a girl in a red dress dancing in the forest",
    "a rocket in space",
)
PAUSE_S = (0.5, 3.0)
# A gap that a viewer would call a stall. 24 frames a second are 42 ms apart.
STALL_MS = 150.0
SECONDS_PER_PROMPT = 30.0
# Beside busy processes; and the number of prompts before them.
SECONDS_PER_BUSY_PROMPT = 45.0
PROMPTS_ALONE = 6
# Beside busy processes, a clip may take so many times as long as its fair share allows.
MAX_TIMES_FAIR = 1.5
OPEN_TIMEOUT_S = 60.0
_VIDEO = "<video autoplay muted playsinline></video>"

# The slice's promises (two cores, embedded model), by name: the measured value must be at most, or exactly, this.
TARGETS = {
    "preview_on_glass_median_ms": 600.0,
    "picture_on_glass_median_ms": 3000.0,
    "max_gap_sent_ms": 100.0,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that the browser showed. `index` is None if no marker could be read."""

    index: int | None
    shown_at_ms: float
    num_presented: int
    reading_ms: float


@dataclass(slots=True)
class Measured:
    """One prompt's course, in milliseconds since it was sent."""

    text: str
    ends: list[str] = field(default_factory=list)
    preview_glass_ms: float | None = None
    picture_glass_ms: float | None = None
    preview_server_ms: float | None = None
    picture_server_ms: float | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def clip_ms(self) -> float | None:
        """The engine's work on the clip; None if the clip is not on air."""
        parts = ("text_ms", "denoised_ms", "previewed_ms", "decoded_ms")
        return sum(self.timings[part] for part in parts) if self.timings else None


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        result = asyncio.run(_run(options))
    except (NoBrowser, ServeError, TimeoutError) as error:
        print(f"sceneshift bench glass: {error or 'no end within the time allowed'}", file=sys.stderr)
        return 2
    print(json.dumps(result, ensure_ascii=False, indent=2) if options.json else _table(result))
    return 0 if not options.check or all(result["met"].values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sceneshift bench glass", description=__doc__)
    parser.add_argument("--browser", choices=["chromium"], default="chromium")
    parser.add_argument("--prompts", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts and the pauses between them (default 1)")
    parser.add_argument("--quality", choices=["fast", "fine"], default="fast")
    parser.add_argument("--engine", choices=["embedded", "synthetic"], default="embedded")
    parser.add_argument("--engine-priority", choices=["low", "normal"], default="normal")
    add_flag(parser)
    parser.add_argument("--url", help="measure this server (http://host:port/#token=...) instead of starting one")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    return parser


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures. Raises `NoBrowser`, `ServeError`, `TimeoutError`. Cancelling it ends server and browser."""
    facts = machine_facts()
    async with AsyncExitStack() as stack:
        url = options.url
        if url is None:
            arguments = ["--engine", options.engine, "--engine-priority", options.engine_priority]
            url = (await stack.enter_async_context(served(arguments))).url
        browser = await stack.enter_async_context(chromium())
        facts["chromium"] = browser.version
        if not options.busy:
            seen = await _watch(browser, url, _plan(options.prompts, options.seed), options.quality)
            return _result(facts, options, seen)
        plan = _plan(PROMPTS_ALONE + options.prompts, options.seed)
        seen = await _watch(browser, url, plan, options.quality, num_busy=options.busy)
        return _busy_result(facts, options, seen)


def _plan(num_prompts: int, seed: int) -> list[dict[str, Any]]:
    """The same prompts and pauses for the same seed; no prompt comes twice in a row."""
    rng = random.Random(seed)
    plan: list[dict[str, Any]] = []
    while len(plan) < num_prompts:
        text = rng.choice(PROMPTS)
        if not plan or plan[-1]["text"] != text:
            plan.append({"text": text, "delayMs": round(rng.uniform(*PAUSE_S) * 1000)})
    return plan


async def _watch(
    browser: Browser, url: str, plan: list[dict[str, Any]], quality: str, *, num_busy: int = 0
) -> dict[str, Any]:
    """Runs the bench's script inside a plain page of the server, because no page of another origin may connect.

    `num_busy` processes start beside the server after the plan's first `PROMPTS_ALONE` prompts.
    """
    address = Address.of(url, None, os.environ)
    page = await browser.new_page(viewport={"width": 900, "height": 560}, bypass_csp=True)
    await page.goto(f"{address.base}/livez{address.fragment}")
    await page.evaluate("(video) => { document.body.innerHTML = video; }", _VIDEO)
    script = await asyncio.to_thread((Path(__file__).parent / "glass_page.js").read_text)
    await page.add_script_tag(content=script, type="module")
    await page.wait_for_function("window.glassBench")
    async with asyncio.timeout(OPEN_TIMEOUT_S):
        await page.evaluate(
            "async (options) => { window.bench = window.glassBench.make(options); await window.bench.open(); }",
            {"marker": True, "quality": quality, "fresh": True},
        )
    if num_busy:
        await _run_page(page, plan[:PROMPTS_ALONE], SECONDS_PER_PROMPT)
        async with busy(num_busy):
            seen = await _run_page(page, plan[PROMPTS_ALONE:], SECONDS_PER_BUSY_PROMPT)
    else:
        seen = await _run_page(page, plan, SECONDS_PER_PROMPT)
    await page.evaluate("window.bench.close()")
    await page.close()
    return seen


async def _run_page(page: Page, plan: list[dict[str, Any]], limit_s: float) -> dict[str, Any]:
    """All that the page has seen when each prompt of the plan has ended or timed out."""
    async with asyncio.timeout((limit_s + PAUSE_S[1]) * (len(plan) + 1)):
        run = "([plan, limitMs]) => window.bench.run(plan, limitMs)"
        seen: dict[str, Any] = await page.evaluate(run, [plan, limit_s * 1000])
    return seen


# --- the figures --------------------------------------------------------------------------------------------------


def _result(facts: dict[str, Any], options: argparse.Namespace, seen: dict[str, Any]) -> dict[str, Any]:
    frames = [Frame(*record) for record in seen["frames"]]
    each = _measured(seen["sent"], seen["events"], frames)
    stats = seen["stats"]
    result: dict[str, Any] = {
        "bench": "glass",
        "machine": facts,
        "engine": (seen["created"].get("model") or {}).get("name"),
        "quality": options.quality,
        "prompts": len(each),
        "seed": options.seed,
        "glass": {
            "preview_ms": _summary(one.preview_glass_ms for one in each),
            "picture_ms": _summary(one.picture_glass_ms for one in each),
        },
        "server": {
            "preview_ms": _summary(one.preview_server_ms for one in each),
            "picture_ms": _summary(one.picture_server_ms for one in each),
            "clip_ms": _summary(one.clip_ms for one in each),
            "timings_median_ms": _median_timings(each),
        },
        "ends": dict(Counter(end for one in each for end in one.ends)),
        "prompts_with_exactly_one_end": sum(len(one.ends) == 1 for one in each),
        "sender": {name: stats[name] for name in ("frames_due", "frames_sent", "continuous_play_ratio", "max_gap_ms")},
        "sender_misses": _misses(seen["seconds"], seen["sent"]),
        "viewer": _viewer(frames) | {"webrtc": seen["receiver"]},
        "errors": seen["errors"] + [e["message"]["error"] for e in seen["events"] if e["message"]["type"] == "error"],
        "each": [{name: getattr(one, name) for name in Measured.__slots__ if name != "timings"} for one in each],
    }
    result["met"] = _met(result)
    return result


def _busy_result(facts: dict[str, Any], options: argparse.Namespace, seen: dict[str, Any]) -> dict[str, Any]:
    """The figures beside busy processes. `alone` has those of the prompts before them."""
    num_threads = EngineSettings().num_threads
    share = fair_share(options.busy, num_cores=int(facts["cores"]), num_threads=num_threads)
    alone = _result(facts, options, seen | {"sent": seen["sent"][:PROMPTS_ALONE]})
    result = _result(facts, options, seen | {"sent": seen["sent"][PROMPTS_ALONE:]})
    clip_ms, clip_alone_ms = result["server"]["clip_ms"].get("median"), alone["server"]["clip_ms"].get("median")
    warnings = [e["message"]["code"] for e in seen["events"] if e["message"]["type"] == "session.warning"]
    result["alone"] = {name: alone[name] for name in ("prompts", "glass", "server")}
    result["busy"] = {
        "processes": options.busy,
        "engines_lost": warnings.count("engine_lost"),
        "prompts_on_air": sum(one["picture_glass_ms"] is not None for one in result["each"]),
        "warnings": warnings,
        "continuous_play_ratio": _ratio_since(seen["seconds"], seen["sent"][PROMPTS_ALONE]["at"]),
        "fair_share": round(share, 3),
        "clip_ms": clip_ms,
        "clip_alone_ms": clip_alone_ms,
        "clip_times_fair": round(clip_ms * share / clip_alone_ms, 2) if clip_ms and clip_alone_ms else None,
    }
    result["met"] = _met_beside_busy(result)
    return result


def _ratio_since(seconds: list[tuple[float, int, int, float]], since_ms: float) -> float:
    """The share of the frames due since then that were sent in time."""
    before = next(((due, in_time) for at, due, in_time, _ in reversed(seconds) if at <= since_ms), (0, 0))
    due, in_time = seconds[-1][1] - before[0], seconds[-1][2] - before[1]
    return round(in_time / due, 6) if due else 1.0


def _met_beside_busy(result: dict[str, Any]) -> dict[str, bool]:
    beside = result["busy"]
    return {
        "no_engine_lost": beside["engines_lost"] == 0,
        "every_prompt_on_air": beside["prompts_on_air"] == result["prompts"],
        "every_prompt_ends_once": result["prompts_with_exactly_one_end"] == result["prompts"],
        "clip_within_fair_share": (beside["clip_times_fair"] or float("inf")) <= MAX_TIMES_FAIR,
    }


def _measured(sent: list[dict[str, Any]], events: list[dict[str, Any]], frames: list[Frame]) -> list[Measured]:
    """Every prompt with its receipts, matched with the frames that the bench read at the glass."""
    measured: list[Measured] = []
    for prompt in sent:
        one = Measured(prompt["text"])
        measured.append(one)
        for event in events:
            message = event["message"]
            if message.get("prompt_id") != prompt["promptId"]:
                continue
            kind = message["type"].removeprefix("prompt.")
            if kind in ("applied", "superseded", "cancelled", "rejected", "failed"):
                one.ends.append(kind)
            if kind == "preview" and message.get("frame"):
                one.preview_server_ms = message["frame"]["sent_at_ms"]
                one.preview_glass_ms = _on_glass(frames, message["frame"]["frame_index"], prompt["at"])
            if kind == "applied":
                one.picture_server_ms = message["frame"]["sent_at_ms"]
                one.picture_glass_ms = _on_glass(frames, message["frame"]["frame_index"], prompt["at"])
                one.timings = message["timings"]
    return measured


def _on_glass(frames: list[Frame], frame_index: int, sent_at_ms: float) -> float | None:
    """When the frame, or the first one after it that the browser showed, was on the glass."""
    for frame in frames:
        if frame.index is not None and frame.index >= frame_index:
            return round(frame.shown_at_ms - sent_at_ms, 1)
    return None


def _misses(seconds: list[tuple[float, int, int, float]], sent: list[dict[str, Any]]) -> dict[str, Any]:
    """Due frames that were not sent in time: before the first prompt, while the browser starts, and after it."""
    first_prompt_at = sent[0]["at"] if sent else float("inf")
    before = [(due, in_time, gap) for at, due, in_time, gap in seconds if at < first_prompt_at]
    num_before = before[-1][0] - before[-1][1] if before else 0
    num_all = seconds[-1][1] - seconds[-1][2] if seconds else 0
    return {
        "before_first_prompt": num_before,
        "after_first_prompt": num_all - num_before,
        "max_gap_before_first_prompt_ms": before[-1][2] if before else 0.0,
    }


def _viewer(frames: list[Frame]) -> dict[str, Any]:
    """Drops and stalls in the picture itself: missing numbers, and long times between two frames."""
    read = [frame for frame in frames if frame.index is not None]
    steps = [(b.index or 0) - (a.index or 0) for a, b in pairwise(read)]
    gaps = [b.shown_at_ms - a.shown_at_ms for a, b in pairwise(frames)]
    return {
        "frames_seen": len(frames),
        "frames_without_marker": len(frames) - len(read),
        # The browser showed these frames but called us too late to read them.
        "frames_presented_unread": max(0, frames[-1].num_presented - frames[0].num_presented + 1 - len(frames)),
        "numbers_left_out": sum(step - 1 for step in steps if step > 1),
        "numbers_going_back": sum(step < 0 for step in steps),
        "stalls_over_150_ms": sum(gap > STALL_MS for gap in gaps),
        "max_gap_ms": round(max(gaps), 1),
        "reading_median_ms": round(statistics.median(frame.reading_ms for frame in frames), 2),
    }


def _summary(values: Iterable[float | None]) -> dict[str, float | int]:
    known = sorted(value for value in values if value is not None)
    if not known:
        return {"n": 0}
    p95 = known[min(len(known) - 1, round(0.95 * (len(known) - 1)))]
    return {
        "n": len(known),
        "median": round(statistics.median(known), 1),
        "p95": round(p95, 1),
        "min": round(known[0], 1),
        "max": round(known[-1], 1),
    }


def _median_timings(each: list[Measured]) -> dict[str, float]:
    names = next((list(one.timings) for one in each if one.timings), [])
    return {name: round(statistics.median(one.timings[name] for one in each if one.timings), 1) for name in names}


def _met(result: dict[str, Any]) -> dict[str, bool]:
    preview, picture = result["glass"]["preview_ms"], result["glass"]["picture_ms"]
    return {
        "preview_on_glass_median": preview.get("median", float("inf")) <= TARGETS["preview_on_glass_median_ms"],
        "picture_on_glass_median": picture.get("median", float("inf")) <= TARGETS["picture_on_glass_median_ms"],
        "every_prompt_ends_once": result["prompts_with_exactly_one_end"] == result["prompts"],
        "continuous_play": result["sender"]["continuous_play_ratio"] >= 1.0,
        "no_gap_between_sent_frames": result["sender"]["max_gap_ms"] <= TARGETS["max_gap_sent_ms"],
    }


def _busy_lines(result: dict[str, Any]) -> list[str]:
    if "busy" not in result:
        return []
    beside = result["busy"]
    return [
        f"beside {beside['processes']} busy processes: engines lost {beside['engines_lost']}, prompts on air "
        f"{beside['prompts_on_air']} of {result['prompts']}, warnings {beside['warnings']}, continuous play "
        f"{beside['continuous_play_ratio']:.4f}",
        f"clip in the engine: {beside['clip_ms']} ms, alone {beside['clip_alone_ms']} ms; fair share "
        f"{beside['fair_share']:.2f}: {beside['clip_times_fair']} times what is fair",
        "",
    ]


def _table(result: dict[str, Any]) -> str:
    machine, sender, viewer = result["machine"], result["sender"], result["viewer"]
    rows = [
        ("prompt to preview on glass", result["glass"]["preview_ms"]),
        ("prompt to picture on glass", result["glass"]["picture_ms"]),
        ("prompt to preview sent", result["server"]["preview_ms"]),
        ("prompt to picture sent", result["server"]["picture_ms"]),
    ]
    lines = [
        f"bench glass: {result['prompts']} prompts, {result['engine']}, {result['quality']}",
        f"{machine['cpu']}, {machine['cores']} cores, python {machine['python']}, torch {machine['torch']}, "
        f"chromium {machine['chromium']}, commit {machine['commit']}",
        "",
        f"{'ms':<28}{'median':>9}{'p95':>9}{'min':>9}{'max':>9}{'n':>5}",
    ]
    for name, values in rows:
        numbers = "".join(f"{values.get(key, float('nan')):>9.0f}" for key in ("median", "p95", "min", "max"))
        lines.append(f"{name:<28}{numbers}{values['n']:>5}")
    lines += [
        "",
        f"ends: {result['ends']}; exactly one: {result['prompts_with_exactly_one_end']} of {result['prompts']} prompts",
        f"sender: continuous play ratio {sender['continuous_play_ratio']:.6f} "
        f"({sender['frames_sent']} of {sender['frames_due']}), longest gap {sender['max_gap_ms']:.0f} ms; "
        f"late or left out before the first prompt: {result['sender_misses']['before_first_prompt']}",
        f"glass: {viewer['frames_seen']} frames seen, {viewer['numbers_left_out']} numbers left out, "
        f"{viewer['stalls_over_150_ms']} stalls, longest gap {viewer['max_gap_ms']:.0f} ms",
        "",
        *_busy_lines(result),
        *(f"{'met   ' if is_met else 'MISSED'}  {name}" for name, is_met in result["met"].items()),
    ]
    return "\n".join(lines)

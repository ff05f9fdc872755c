"""`sceneshift bench gpu_wan`: the 5B model's shapes through our engine, and through stock diffusers, on one GPU.

Needs torch with CUDA, diffusers, transformers, accelerate, safetensors and numpy, and no network: the weights are
random, in the exact published shapes, made on the device (23 GB in bf16, and as much host memory for the last part).
If the machine has its own torch, bring the others as wheels: `pip install --no-deps --target DIR ...`, then
`PYTHONPATH=DIR:. python -m bench.model.gpu_wan`. `--shapes small` runs all of it on a CPU, to see that it runs.

torch counts the operations on shapes alone. The peak that they are compared with is measured, not looked up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchLCMScheduler, WanPipeline
from torch.utils.flop_counter import FlopCounterMode

from bench.model import wan_shapes
from bench.model.wan_shapes import PUBLISHED, SMALL, RandomTokens, Shapes
from bench.parts.machine import machine_facts
from engine.api import Generate, ModelError
from engine.config import PROFILES
from engine.loading import attention, device_memory, memory_plan, part_sizes, placing
from engine.loading.compiling import CompiledBehind
from engine.parts import linear_preview, preview
from engine.parts.decoder import Decoder
from engine.parts.denoiser import Denoiser
from engine.parts.generation import Generation
from engine.parts.noise_schedule import NoiseSchedule
from engine.parts.pixels import to_frames
from engine.parts.tiny_decoder import TinyDecoder
from engine.parts.umt5 import Umt5TextEncoder, ZeroPaddedTextEncoder
from engine.parts.vae_decoder import VaeDecoder

TIMESTEPS = PROFILES["fastwan2.2-5b"].distilled_timesteps
BUDGET_BYTES = 16 * 10**9


@dataclass(slots=True)
class Bench:
    """The common state of the parts of the measurement, and their results."""

    shapes: Shapes
    device: torch.device
    rounds: int
    folder: Path
    dtype: torch.dtype = field(init=False)
    peak_flops: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def note(self, name: str, value: Any) -> None:
        self.found[name] = value
        print(f"{name:<34} {_told(value)}", file=sys.stderr)

    def timed(self, name: str, work: Callable[[], Any], flops: float = 0.0, *, rounds: int | None = None) -> float:
        """Median seconds of `work` after one run that is not counted."""
        times = []
        for _ in range(1 + (rounds or self.rounds)):
            self.finish()
            began_at = time.perf_counter()
            work()
            self.finish()
            times.append(time.perf_counter() - began_at)
        median = statistics.median(times[1:])
        entry: dict[str, float] = {"ms": round(median * 1e3, 2)}
        if flops:
            entry["tflop"] = round(flops / 1e12, 4)
            if self.peak_flops:
                entry["share_of_peak"] = round(flops / median / self.peak_flops, 3)
        self.note(name, entry)
        return median

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def peak_memory(self, name: str) -> Iterator[None]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        self.note(name, {"gib": round(device_memory.peak_bytes(self.device) / 2**30, 2)})


@dataclass(slots=True)
class Parts:
    """The modules, as loaded."""

    transformer: Any
    text_encoder: Any
    vae: Any
    pruned_vae: Any
    tiny: Any


@dataclass(slots=True)
class Engine:
    """Our engine's parts around the modules, assembled as in `engine.loading.models`."""

    bench: Bench
    text_encoder: ZeroPaddedTextEncoder
    denoiser: Denoiser
    decoders: dict[str, Decoder]
    previews: preview.Previews
    schedule: NoiseSchedule
    num_begun: int = 0

    def begin(self, num_frames: int) -> Generation:
        """A generation with a prompt of its own, so that no cache helps."""
        self.num_begun += 1
        generation = Generation(Generate(f"g{self.num_begun}", f"prompt {self.num_begun}"), time.monotonic())
        generation.prompt_embeds = self.text_encoder.encode(generation.command.prompt).embeds
        device = self.bench.device
        generation.generator = torch.Generator(device).manual_seed(self.num_begun)
        shape = (1, *self.bench.shapes.latent_shape(num_frames))
        generation.latents = torch.randn(shape, generator=generation.generator, device=device)
        generation.solver = self.schedule.solver(len(TIMESTEPS), device)
        return generation

    def preview(self, generation: Generation) -> None:
        assert generation.x0 is not None
        rgb = self.previews.preview(generation.x0, generation.step_index - 1, generation.num_steps)
        if rgb is not None:
            to_frames(rgb)

    def decode(self, generation: Generation, decoder: str) -> int:
        assert generation.latents is not None
        return sum(len(to_frames(rgb)) for rgb in self.decoders[decoder].decode(generation.latents))


# --- the parts of the measurement ------------------------------------------------------------------------------------


def run(shapes: Shapes, device: torch.device, *, rounds: int, compiles: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(shapes, device, rounds, wan_shapes.write_configs(shapes, Path(scratch) / "model"))
        bench.found = {"bench": "gpu_wan", "machine": machine_facts(), "shapes": shapes.name, "device": _name(device)}
        _measure_peak(bench)
        parts = _build(bench)
        stock_s = _measure_stock(bench, parts)
        engine = _assemble(bench, parts)
        _measure_forward(bench, engine, "eager")
        if compiles:
            _compile(bench, engine, parts)
            _measure_forward(bench, engine, "compiled")
        _measure_joint_steps(bench, engine)
        _measure_decoders(bench, engine)
        _measure_text(bench, parts)
        _measure_prompt(bench, engine, stock_s)
        _measure_budget(bench, parts)
        if shapes is PUBLISHED:
            bench.note("goals", _goals(bench.found))
        return bench.found


def _goals(found: dict[str, Any]) -> dict[str, bool]:
    """The goals for an H200-class GPU (issue 4). For steps, the better of eager and compiled counts."""
    steps = [entry for name, entry in found.items() if name.startswith("step_") and "share_of_peak" in entry]
    return {
        "forward_at_55_percent_of_peak": max(step["share_of_peak"] for step in steps) >= 0.55,
        "prompt_to_preview_200_ms": found["prompt_to_preview"]["ms"] <= 200,
        "prompt_to_clip_700_ms": found["prompt_to_clip_tiny"]["ms"] <= 700,
        "first_preview_2_percent_of_a_step": found["first_preview_share_of_step"] <= 0.02,
        "picture_8_times_sooner_than_stock": found["first_picture_sooner_than_stock"] >= 8,
        "budget_of_16_gb_holds": found["budget_holds"],
    }


def _measure_peak(bench: Bench) -> None:
    """The device's peak: square matrices large enough to fill it, in the model's dtype."""
    side = 8192 if bench.device.type == "cuda" else 512
    left, right = (torch.randn(side, side, device=bench.device, dtype=bench.dtype) for _ in range(2))
    flops = 2.0 * side**3
    seconds = bench.timed("matmul", lambda: left @ right, flops, rounds=20)
    bench.peak_flops = flops / seconds
    bench.note("matmul_peak", {"tflop_per_s": round(bench.peak_flops / 1e12, 2), "dtype": str(bench.dtype)})


def _build(bench: Bench) -> Parts:
    began_at = time.perf_counter()

    def on_device(make: Any) -> Any:
        return wan_shapes.on_device(make, bench.shapes, bench.device, bench.dtype)

    parts = Parts(
        transformer=on_device(wan_shapes.transformer),
        text_encoder=on_device(wan_shapes.text_encoder),
        vae=on_device(wan_shapes.vae),
        pruned_vae=on_device(wan_shapes.pruned_vae),
        tiny=on_device(wan_shapes.tiny_module),
    )
    if bench.device.type == "cuda":
        parts.tiny = parts.tiny.to(memory_format=torch.channels_last)
    bench.finish()
    bench.note("built", {"s": round(time.perf_counter() - began_at, 1)})
    return parts


def _measure_stock(bench: Bench, parts: Parts) -> float:
    """diffusers' own pipeline, same weights, same steps, full decode. It shows no picture before it ends."""
    pipeline = WanPipeline(
        tokenizer=RandomTokens(bench.shapes.num_tokens[0], bench.shapes.text_encoder["vocab_size"]),
        text_encoder=parts.text_encoder,
        vae=parts.vae,
        scheduler=FlowMatchLCMScheduler(shift=1.0),
        transformer=parts.transformer,
        expand_timesteps=True,
    )
    pipeline.set_progress_bar_config(disable=True)

    def clip() -> None:
        pipeline(
            prompt="the sea at sunset",
            width=bench.shapes.width,
            height=bench.shapes.height,
            num_frames=bench.shapes.frames[0],
            num_inference_steps=len(TIMESTEPS),
            guidance_scale=1.0,
            generator=torch.Generator(bench.device).manual_seed(0),
            output_type="pt",
        )

    with bench.peak_memory("stock_peak_memory"):
        return bench.timed("stock_prompt_to_clip", clip, rounds=min(bench.rounds, 2))


def _assemble(bench: Bench, parts: Parts) -> Engine:
    choice = attention.choose(bench.device, bench.dtype)
    attention.use(parts.transformer, choice)
    if bench.device.type == "cuda":
        attention.fuse_projections(parts.transformer)
    bench.note("attention", str(choice))
    began_at = time.perf_counter()
    factors = linear_preview.fit(linear_preview.vae_encode(parts.vae), spatial_factor=16)
    bench.finish()
    bench.note("preview_factors_fitted", {"s": round(time.perf_counter() - began_at, 2)})
    decoders: dict[str, Decoder] = {
        "full": VaeDecoder(parts.vae),
        "pruned": VaeDecoder(parts.pruned_vae),
        "tiny": TinyDecoder(parts.tiny),
    }
    return Engine(
        bench=bench,
        text_encoder=_text_encoder(bench, parts, bench.shapes.num_tokens[0]),
        denoiser=Denoiser(parts.transformer, rows_per_forward=4),
        decoders=decoders,
        previews=preview.build(decoders, factors, spatial_factor=16),
        schedule=NoiseSchedule(bench.folder, distilled_timesteps=TIMESTEPS),
    )


def _text_encoder(bench: Bench, parts: Parts, num_tokens: int, **options: Any) -> ZeroPaddedTextEncoder:
    tokens = RandomTokens(num_tokens, bench.shapes.text_encoder["vocab_size"])
    return ZeroPaddedTextEncoder(Umt5TextEncoder(parts.text_encoder, tokens, device=bench.device, **options))


def _measure_forward(bench: Bench, engine: Engine, kind: str) -> None:
    """Whole denoising steps, including the solver's update."""
    for num_frames in bench.shapes.frames:
        generation = engine.begin(num_frames)
        flops = _forward_flops(bench.shapes, num_frames)
        with bench.peak_memory(f"step_{num_frames}_frames_{kind}_memory"):
            bench.timed(f"step_{num_frames}_frames_{kind}", lambda one=generation: _step(engine, [one]), flops)


def _step(engine: Engine, generations: list[Generation]) -> None:
    """Repeats the first step, which is the same work as the others."""
    for generation in generations:
        generation.step_index = 0
        generation.solver = engine.schedule.solver(len(TIMESTEPS), engine.bench.device)
    engine.denoiser.step(generations)


def _compile(bench: Bench, engine: Engine, parts: Parts) -> None:
    """Compiles as the engine does: in the background, while steps run eager."""
    behind = CompiledBehind(parts.transformer)
    engine.denoiser = Denoiser(behind, rows_per_forward=4)  # type: ignore[arg-type]
    began_at = time.perf_counter()
    for num_frames in bench.shapes.frames:
        _step(engine, [engine.begin(num_frames)])
    for batch in (2, 4):
        _step(engine, [engine.begin(bench.shapes.frames[0]) for _ in range(batch)])
    while behind.compiling:
        time.sleep(0.2)
    bench.note("compiled", {"s": round(time.perf_counter() - began_at, 1), "shapes": behind.compiled})
    bench.note("compile_notes", behind.notes)


def _measure_joint_steps(bench: Bench, engine: Engine) -> None:
    num_frames = bench.shapes.frames[0]
    for batch in (1, 2, 4):
        generations = [engine.begin(num_frames) for _ in range(batch)]
        flops = batch * _forward_flops(bench.shapes, num_frames)
        bench.timed(f"joint_step_of_{batch}", lambda them=generations: _step(engine, them), flops)


def _measure_decoders(bench: Bench, engine: Engine) -> None:
    num_frames = bench.shapes.frames[0]
    latents = torch.randn(1, *bench.shapes.latent_shape(num_frames), device=bench.device)
    for name, decoder in engine.decoders.items():
        with bench.peak_memory(f"decoder_{name}_memory"):
            bench.timed(
                f"decoder_{name}", lambda one=decoder: list(one.decode(latents)), _decoder_flops(bench.shapes, name)
            )


def _measure_text(bench: Bench, parts: Parts) -> None:
    for num_tokens in bench.shapes.num_tokens:
        encoder = _text_encoder(bench, parts, num_tokens)
        flops = _text_flops(bench.shapes, num_tokens)
        bench.timed(f"umt5_{num_tokens}_tokens", lambda one=encoder: one.encode("the sea"), flops)


def _measure_prompt(bench: Bench, engine: Engine, stock_s: float) -> None:
    """A viewer's wait: text, steps, previews and decoding one after the other, frames on the host."""
    num_frames = bench.shapes.frames[0]

    def to_preview() -> Generation:
        generation = engine.begin(num_frames)
        engine.denoiser.step([generation])
        engine.preview(generation)
        return generation

    def to_clip(decoder: str) -> None:
        generation = to_preview()
        while not generation.is_denoised:
            engine.denoiser.step([generation])
            engine.preview(generation)
        assert engine.decode(generation, decoder) == num_frames

    with bench.peak_memory("prompt_peak_memory"):
        preview_s = bench.timed("prompt_to_preview", to_preview)
        bench.timed("prompt_to_clip_tiny", lambda: to_clip("tiny"))
        bench.timed("prompt_to_clip_full", lambda: to_clip("full"))
    generation = to_preview()
    cost_s = bench.timed("first_preview_alone", lambda: engine.preview(generation))
    step_s = bench.found["joint_step_of_1"]["ms"] / 1e3
    bench.note("first_preview_share_of_step", round(cost_s / step_s, 4))
    bench.note("first_picture_sooner_than_stock", round(stock_s / preview_s, 1))


def _measure_budget(bench: Bench, parts: Parts) -> None:
    """One clip, full decode, with all parts placed as planned for 16 GB and the allocator limited to it."""
    shapes = bench.shapes
    modules = {"transformer": parts.transformer, "text_encoder": parts.text_encoder, "vae": parts.vae}
    sizes = {
        name: part_sizes.part_size(name, {key: tuple(weight.shape) for key, weight in module.named_parameters()})
        for name, module in modules.items()
    }
    workload = part_sizes.read_workload(
        bench.folder, width=shapes.width, height=shapes.height, num_frames=shapes.frames[0]
    )
    plan = memory_plan.plan(sizes, workload, BUDGET_BYTES)
    bench.note("budget_plan", plan.lines)
    for module in (*modules.values(), parts.pruned_vae, parts.tiny):
        module.to("cpu")
    device_memory.free(bench.device)
    device_memory.hold_to(BUDGET_BYTES, bench.device)
    placed = {
        name: placing.place(plan.parts[name], module, bench.device, dtype=bench.dtype)
        for name, module in modules.items()
    }
    engine = Engine(
        bench=bench,
        text_encoder=_text_encoder(bench, parts, shapes.num_tokens[0], in_use=placed["text_encoder"].in_use),
        denoiser=Denoiser(parts.transformer, rows_per_forward=1),
        decoders={"full": VaeDecoder(parts.vae, in_use=placed["vae"].in_use)},
        previews=preview.Previewer(VaeDecoder(parts.vae, in_use=placed["vae"].in_use)),
        schedule=NoiseSchedule(bench.folder, distilled_timesteps=TIMESTEPS),
    )

    def clip() -> None:
        generation = engine.begin(shapes.frames[0])
        with placed["transformer"].in_use():
            while not generation.is_denoised:
                engine.denoiser.step([generation])
        engine.decode(generation, "full")

    with bench.peak_memory("budget_peak_memory"):
        bench.timed("budget_prompt_to_clip_full", clip, rounds=1)
    taken_bytes = _taken_bytes(bench.device)
    bench.note("budget_taken_on_device", {"gib": round(taken_bytes / 2**30, 2)})
    bench.note("budget_holds", taken_bytes <= BUDGET_BYTES)


def _taken_bytes(device: torch.device) -> int:
    """The most that the allocator reserved, plus the device's context."""
    if device.type != "cuda":
        return 0
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    context_bytes = total_bytes - free_bytes - torch.cuda.memory_reserved(device)
    return torch.cuda.max_memory_reserved(device) + context_bytes


# --- counting --------------------------------------------------------------------------------------------------------


def _forward_flops(shapes: Shapes, num_frames: int) -> float:
    def forward(module: Any) -> None:
        module(
            hidden_states=torch.empty(1, *shapes.latent_shape(num_frames), device="meta"),
            timestep=torch.empty(1, device="meta"),
            encoder_hidden_states=torch.empty(1, 512, shapes.transformer["text_dim"], device="meta"),
        )

    return _counted(wan_shapes.transformer, shapes, forward)


def _decoder_flops(shapes: Shapes, name: str) -> float:
    latents = torch.empty(1, *shapes.latent_shape(shapes.frames[0]), device="meta")
    if name == "tiny":
        return _counted(wan_shapes.tiny_module, shapes, lambda module: list(TinyDecoder(module).decode(latents)))
    make = wan_shapes.pruned_vae if name == "pruned" else wan_shapes.vae
    return _counted(make, shapes, lambda module: list(VaeDecoder(module).decode(latents)))


def _text_flops(shapes: Shapes, num_tokens: int) -> float:
    tokens = torch.zeros(1, num_tokens, dtype=torch.long, device="meta")
    return _counted(wan_shapes.text_encoder, shapes, lambda module: module(tokens))


def _counted(make: Any, shapes: Shapes, forward: Callable[[Any], Any]) -> float:
    """The operations of a forward, counted in a run on shapes alone."""
    with torch.device("meta"):
        module = make(shapes).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        forward(module)
    return float(counter.get_total_flops())


# --- the command -----------------------------------------------------------------------------------------------------


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{number} {unit.replace('_', ' ')}" for unit, number in value.items())
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="sceneshift bench gpu_wan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", choices=("published", "small"), default="published")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="measure eager only")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, too")
    arguments = parser.parse_args(argv)
    shapes = SMALL if arguments.shapes == "small" else PUBLISHED
    device = torch.device(arguments.device)
    if device.type == "cpu" and shapes is PUBLISHED:
        print("gpu_wan: the published shapes need a GPU; --shapes small runs here", file=sys.stderr)
        return 2
    try:
        found = run(shapes, device, rounds=arguments.rounds, compiles=not arguments.no_compile)
    except ModelError as error:
        print(f"gpu_wan: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

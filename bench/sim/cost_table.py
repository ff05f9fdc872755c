"""`python -m bench.sim.cost_table`: writes the costs of the engine's pieces here, for `bench.sim.arbiter_sim`.

`measure` runs the real engine process, one prompt after the other, and writes what its cost model learned. `estimate`
computes the table of the few-step 5B model on a large GPU, for machines without one: the counted operations of a
forward and of a decode, divided by an assumed throughput of the device.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from bench.model.engine import PROMPTS, one
from bench.parts.machine import machine_facts
from bench.sim.arbiter_sim import CostTable
from engine.api import EngineReady, Generate, Quality
from engine.arbiter.cost import CostRow, Piece
from engine.config import EngineSettings, LoadSettings, profile
from engine.process.supervisor import EngineProcess

# TFLOP, 832x480, 49 frames, as `bench.model.gpu_wan` counts them. The text encoder on 64 real tokens.
_FORWARD, _FULL_DECODE, _TINY_DECODE, _TEXT = 55.0, 362.0, 1.8, 0.6
# Assumptions for an H200: half of 989 published dense bf16 TFLOP/s in the transformer; less in 3D convolutions; a
# preview is one matrix over the latents and a copy.
_TFLOPS, _CONVOLUTION_TFLOPS, _PREVIEW_S = 500.0, 150.0, 0.005


async def measure(rounds: int) -> CostTable:
    engine = EngineProcess(EngineSettings(load=LoadSettings(model="embedded"), keep_spare=False))
    await engine.open()
    events = engine.events()
    try:
        async for event in events:
            if isinstance(event, EngineReady):
                break
        for index in range(rounds):
            for quality in Quality:
                await one(engine, events, Generate(f"{quality}-{index}", PROMPTS[index % len(PROMPTS)], quality, index))
        facts = machine_facts()
        made = profile("embedded")
        rows = engine.cost_rows()
        source = f"measured, {rounds} clips of each quality; load {facts['load_before']}, commit {facts['commit']}"
        return CostTable(
            "embedded", source, made.ladder, made.num_latent_frames, rows, made.num_frames / made.frame_rate
        )
    finally:
        await engine.close()


def estimate() -> CostTable:
    made = profile("fastwan2.2-5b")
    pieces = made.num_latent_frames
    tiny = next(index for index, rung in enumerate(made.ladder) if rung.decoder == "tiny")
    rows = (
        CostRow(Piece.BEGIN, 0, 1, _TEXT / _TFLOPS, 0.0, 0),
        CostRow(Piece.STEP, 0, 1, _FORWARD / _TFLOPS, 0.0, 0),
        CostRow(Piece.PREVIEW, 0, 1, _PREVIEW_S, 0.0, 0),
        CostRow(Piece.DECODE, 0, 1, _FULL_DECODE / _CONVOLUTION_TFLOPS / pieces, 0.0, 0),
        CostRow(Piece.DECODE, tiny, 1, _TINY_DECODE / _CONVOLUTION_TFLOPS / pieces, 0.0, 0),
    )
    source = f"estimate from counted operations at {_TFLOPS:g} and {_CONVOLUTION_TFLOPS:g} TFLOP/s; not measured"
    return CostTable(made.name, source, made.ladder, pieces, rows, made.num_frames / made.frame_rate)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["measure", "estimate"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    table = asyncio.run(measure(arguments.rounds)) if arguments.how == "measure" else estimate()
    arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(table)) + b"\n")
    print(f"{arguments.output}: {table.name}, {table.source}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

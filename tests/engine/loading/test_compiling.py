"""A transformer is compiled while it serves: eager at first, the same results after, and eager still if that fails.

The compile thread is waited for by closing it, so nothing here is timed. Only one test takes the real compiler.
"""

from __future__ import annotations

import shutil
import threading
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from wan_folders import cached, ti2v_5b

from engine.loading.compiling import CompiledBehind


def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(cached(ti2v_5b) / "transformer", torch_dtype=torch.float32).eval()


def inputs(height: int = 2, batch: int = 1) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(batch, 48, 3, height, 4, generator=random),
        "timestep": torch.full((batch,), 500.0),
        "encoder_hidden_states": torch.randn(batch, 5, 32, generator=random),
        "return_dict": False,
    }


@torch.inference_mode()
def step(model: Any, height: int = 2) -> torch.Tensor:
    velocity: torch.Tensor = model(**inputs(height))[0]
    return velocity


def finish(behind: CompiledBehind) -> None:
    """Waits until all shapes so far are compiled or have failed."""
    behind.close()
    behind._thread.join()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_equals_eager() -> None:
    model = transformer()
    behind = CompiledBehind(model)
    step(behind)
    finish(behind)
    assert behind.compiled == ("3x2x4, batch 1",) and behind.notes == ()
    assert torch.allclose(step(behind), step(model), atol=1e-4)


def test_an_unseen_shape_runs_eager_and_is_compiled_meanwhile() -> None:
    calls = Calls()
    model = transformer()
    behind = CompiledBehind(model, backend=calls)  # type: ignore[arg-type]
    assert torch.equal(step(behind), step(model))
    assert behind.compiled + behind.compiling == ("3x2x4, batch 1",)
    finish(behind)
    assert calls.num_compiled == 1  # once for all blocks
    assert behind.compiled == ("3x2x4, batch 1",) and behind.compiling == ()
    before = calls.num_run
    assert torch.allclose(step(behind), step(model), atol=1e-6)
    assert calls.num_run == before + len(model.blocks)
    assert calls.num_compiled == 1  # nothing is compiled by a step


def test_no_step_waits_for_the_compiler() -> None:
    calls = Calls()
    calls.gate.clear()
    model = transformer()
    behind = CompiledBehind(model, backend=calls)  # type: ignore[arg-type]
    for height in (2, 4, 2, 4):
        assert torch.equal(step(behind, height), step(model, height))
    assert behind.compiling == ("3x2x4, batch 1", "3x4x4, batch 1")
    calls.gate.set()
    finish(behind)
    assert behind.compiled == ("3x2x4, batch 1", "3x4x4, batch 1")
    assert torch.equal(step(behind, height=6), step(model, height=6))  # closed: eager from now on


def test_weights_are_shared() -> None:
    model = transformer()
    behind = CompiledBehind(model, backend="eager")
    step(behind)
    finish(behind)
    with torch.no_grad():
        model.proj_out.bias.add_(1.0)
    assert torch.allclose(step(behind), step(model), atol=1e-6)


def test_a_shape_that_cannot_be_compiled_stays_eager_and_is_noted() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no Triton here")

    model = transformer()
    behind = CompiledBehind(model, backend=broken)  # type: ignore[arg-type]
    step(behind)
    finish(behind)
    assert behind.compiled == () == behind.compiling
    assert behind.notes[0].startswith("3x2x4, batch 1 runs eager: ") and "no Triton here" in behind.notes[0]
    assert torch.equal(step(behind), step(model))


def test_a_compiled_kernel_that_fails_costs_no_step() -> None:
    calls = Calls()
    model = transformer()
    behind = CompiledBehind(model, backend=calls)  # type: ignore[arg-type]
    step(behind)
    finish(behind)
    calls.error = RuntimeError("illegal instruction")
    assert torch.equal(step(behind), step(model))
    assert behind.compiled == () and "illegal instruction" in behind.notes[0]
    calls.error = torch.OutOfMemoryError("CUDA out of memory")
    assert torch.equal(step(behind), step(model))  # eager from now on


def test_out_of_memory_is_raised_to_the_caller() -> None:
    calls = Calls()
    behind = CompiledBehind(transformer(), backend=calls)  # type: ignore[arg-type]
    step(behind)
    finish(behind)
    calls.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        step(behind)
    assert behind.compiled == ("3x2x4, batch 1",)


class Calls:
    """A compiler that compiles nothing, counts, and fails on demand."""

    def __init__(self) -> None:
        self.num_compiled = 0
        self.num_run = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Any:
        self.gate.wait()
        self.num_compiled += 1

        def run(*arguments: Any) -> Any:
            self.num_run += 1
            if self.error is not None:
                raise self.error
            return graph.forward(*arguments)

        return run

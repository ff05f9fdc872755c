"""The GPU bench runs on a CPU with small shapes; on a GPU it would build the published shapes."""

from __future__ import annotations

import json

import pytest

from bench.model import gpu_wan, wan_shapes


def test_the_bench_runs_with_small_shapes_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_wan.main(["--shapes", "small", "--device", "cpu", "--rounds", "1", "--no-compile", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    measured = [
        *("matmul", "stock_prompt_to_clip", "step_9_frames_eager", "step_17_frames_eager"),
        *("joint_step_of_1", "joint_step_of_2", "joint_step_of_4"),
        *("decoder_full", "decoder_pruned", "decoder_tiny", "umt5_64_tokens", "umt5_512_tokens"),
        *("prompt_to_preview", "prompt_to_clip_tiny", "prompt_to_clip_full", "budget_prompt_to_clip_full"),
    ]
    assert all(found[name]["ms"] > 0 for name in measured)
    assert found["budget_holds"] is True
    assert found["joint_step_of_4"]["tflop"] == pytest.approx(4 * found["joint_step_of_1"]["tflop"], abs=3e-4)


def test_the_published_shapes_need_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_wan.main(["--device", "cpu"]) == 2
    assert "--shapes small" in capsys.readouterr().err


def test_the_published_shapes_have_the_published_operations() -> None:
    """Counted on shapes alone; the same figures as in `bench.sim.cost_table`."""
    published = wan_shapes.PUBLISHED
    assert round(gpu_wan._forward_flops(published, 49) / 1e12) == 55
    assert round(gpu_wan._decoder_flops(published, "tiny") / 1e12, 1) == 1.8
    assert round(gpu_wan._text_flops(published, 64) / 1e12, 1) == 0.6

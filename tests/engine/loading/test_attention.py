"""The attention kernel is the first that works, and says why the others do not; fused projections compute the same."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanTransformer3DModel
from wan_folders import cached, ti2v_5b

from engine.loading import attention

CPU = torch.device("cpu")


def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(cached(ti2v_5b) / "transformer", torch_dtype=torch.float32).eval()


@torch.inference_mode()
def forward(model: WanTransformer3DModel) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    velocity: torch.Tensor = model(
        hidden_states=torch.randn(1, 48, 3, 2, 4, generator=random),
        timestep=torch.tensor([500.0]),
        encoder_hidden_states=torch.randn(1, 5, 32, generator=random),
        return_dict=False,
    )[0]
    return velocity


def test_the_cpu_uses_torchs_kernel() -> None:
    assert attention.choose(CPU, torch.float32) == attention.AttentionChoice("native")


def test_a_missing_kernel_is_skipped_with_the_reason() -> None:
    choice = attention.first_that_works(CPU, torch.float32, ("_flash_3", "_native_math"))
    assert choice.name == "_native_math"
    assert "flash_3: Flash Attention 3" in choice.tried[0]
    assert str(choice).startswith("native_math (not flash_3: ")


def test_torchs_kernel_is_used_if_no_other_works() -> None:
    assert attention.first_that_works(CPU, torch.float32, ("_flash_3", "no such kernel")).name == "native"


def test_a_kernel_with_wrong_results_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query: torch.Tensor, *_: torch.Tensor, backend: str | None = None) -> torch.Tensor:
        return query if backend else query + 1

    monkeypatch.setattr(attention, "dispatch_attention_fn", wrong)
    assert attention.why_not("_native_math", CPU, torch.float32) == "off by 1.000"


def test_another_kernel_computes_the_same() -> None:
    model = transformer()
    expected = forward(model)
    attention.use(model, attention.AttentionChoice("_native_math"))
    try:
        assert torch.allclose(forward(model), expected, atol=1e-5)
    finally:
        model.set_attention_backend("native")


def test_fused_projections_compute_the_same_and_take_no_more_room() -> None:
    model = transformer()
    expected, num_weights = forward(model), sum(weight.numel() for weight in model.parameters())
    attention.fuse_projections(model)
    assert torch.allclose(forward(model), expected, atol=1e-6)
    assert sum(weight.numel() for weight in model.parameters()) == num_weights

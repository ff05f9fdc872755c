"""Tests that need a GPU. Skipped without one, as where this project was written: see bench/RESULTS.md."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from wan_folders import cached, ti2v_5b

from engine.loading import attention, part_sizes, placing
from engine.loading.memory_plan import PartPlan, Placement, Storage
from engine.parts.decoder import SideStreamDecoder
from engine.parts.vae_decoder import VaeDecoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = torch.device("cuda")


def latents(seed: int) -> torch.Tensor:
    return torch.randn(1, 48, 3, 2, 4, generator=torch.Generator().manual_seed(seed)).to(GPU)


def test_a_decode_ahead_on_a_side_stream_gives_the_same_frames() -> None:
    decoder = VaeDecoder(AutoencoderKLWan.from_pretrained(cached(ti2v_5b) / "vae").eval().to(GPU))
    ahead = SideStreamDecoder(decoder, GPU)
    for seed in range(3):
        expected = list(decoder.decode(latents(seed)))
        found = list(ahead.decode(latents(seed)))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_an_attention_kernel_is_found() -> None:
    choice = attention.choose(GPU, torch.bfloat16)
    assert attention.why_not(choice.name, GPU, torch.bfloat16) is None


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize("placement", Placement)
def test_wherever_a_part_lives_it_computes(placement: Placement, storage: Storage) -> None:
    folder = cached(ti2v_5b) / "transformer"
    module = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16).eval()
    part = PartPlan(part_sizes.read_sizes(cached(ti2v_5b))["transformer"], placement, storage)
    placed = placing.place(part, module, GPU)
    random = torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(1, 48, 3, 2, 4, generator=random).to(GPU, torch.bfloat16),
        "timestep": torch.tensor([500.0], device=GPU),
        "encoder_hidden_states": torch.randn(1, 5, 32, generator=random).to(GPU, torch.bfloat16),
    }
    exact = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16).eval().to(GPU)
    for _ in range(2):
        with torch.inference_mode(), placed.in_use():
            found = placed.module(**inputs, return_dict=False)[0]
            expected = exact(**inputs, return_dict=False)[0]
        assert (found - expected).float().norm() <= 0.15 * expected.float().norm()


def test_an_away_part_leaves_the_device() -> None:
    module = torch.nn.Linear(8, 8)
    size = part_sizes.part_size("vae", {"weight": (8, 8), "bias": (8,)})
    placed = placing.place(PartPlan(size, Placement.AWAY, Storage.BF16), module, GPU)
    with placed.in_use():
        assert module.weight.is_cuda
    assert not module.weight.is_cuda

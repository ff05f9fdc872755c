"""The memory plan: made from sizes alone, the fastest that fits; and placed parts compute the same results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import UMT5EncoderModel
from wan_folders import cached, ti2v_5b

from engine.api import ModelError
from engine.loading import device_memory, memory_plan, part_sizes, placing, published_configs
from engine.loading.memory_plan import MemoryPlan, PartPlan, PartSize, Placement, Storage, Workload

GB = 10**9


@pytest.fixture(scope="module")
def sizes() -> dict[str, PartSize]:
    """The exact sizes of the published 5B model."""
    return published_configs.sizes("wan2.2-ti2v-5b")


@pytest.fixture(scope="module")
def workload() -> Workload:
    """49 frames at 832x480 with three steps and the full decoder."""
    return part_sizes.workload_of(
        published_configs.TRANSFORMER_5B, published_configs.VAE_2_2, width=832, height=480, num_frames=49
    )


def test_the_published_sizes(sizes: dict[str, PartSize], workload: Workload) -> None:
    assert round(sizes["transformer"].num_weights / 1e9, 2) == 5.0
    assert round(sizes["text_encoder"].num_weights / 1e9, 2) == 5.68
    assert round(sizes["vae"].num_weights / 1e6) == 705
    assert round(workload.feature_cache / 2**30, 2) == 1.33
    # fp8 leaves embeddings, norms and the conditioning alone.
    assert 4.8e9 < sizes["transformer"].num_castable < 4.95e9
    assert 3.5e9 < sizes["text_encoder"].num_castable < 3.7e9


def test_the_other_published_models() -> None:
    billions = {
        name: [round(size.num_weights / 1e9, 1) for size in published_configs.sizes(name).values()]
        for name in ("wan2.1-t2v-1.3b", "wan2.2-t2v-a14b")
    }
    assert billions == {"wan2.1-t2v-1.3b": [1.4, 5.7, 0.1], "wan2.2-t2v-a14b": [14.3, 14.3, 5.7, 0.1]}


def where(plan: MemoryPlan) -> dict[str, tuple[Placement, Storage]]:
    return {name: (part.placement, part.storage) for name, part in plan.parts.items()}


def test_a_large_gpu_holds_everything(sizes: dict[str, PartSize], workload: Workload) -> None:
    plan = memory_plan.plan(sizes, workload, 80 * GB)
    assert set(where(plan).values()) == {(Placement.RESIDENT, Storage.BF16)}
    assert plan.overlaps and plan.has_room_to_compile


def test_compiling_needs_room_for_a_forward_in_the_background(sizes: dict[str, PartSize], workload: Workload) -> None:
    tight = memory_plan.plan(sizes, workload, memory_plan.plan(sizes, workload, 80 * GB).peak_bytes)
    assert tight.parts["transformer"].storage is Storage.BF16 and not tight.has_room_to_compile


def test_the_5b_model_fits_16_gb(sizes: dict[str, PartSize], workload: Workload) -> None:
    plan = memory_plan.plan(sizes, workload, 16 * GB)
    assert plan.peak_bytes <= 16 * GB
    # The transformer, which each step needs, is never copied. The text encoder, used once a prompt, may be.
    assert plan.parts["transformer"].placement is Placement.RESIDENT
    assert plan.parts["text_encoder"].placement is not Placement.RESIDENT


def test_the_plan_is_told_line_by_line(sizes: dict[str, PartSize], workload: Workload) -> None:
    lines = memory_plan.plan(sizes, workload, 80 * GB).lines
    assert lines[0] == "transformer: bf16, 9.3 GiB, stays on the GPU"
    assert lines[1] == "text_encoder: bf16, 10.6 GiB, stays on the GPU"
    assert lines[-1].startswith("peak: ") and lines[-1].endswith(" of 74.5 GiB")


def test_less_memory_never_makes_a_faster_plan_and_plans_keep_to_the_budget(
    sizes: dict[str, PartSize], workload: Workload
) -> None:
    lost = []
    for budget in range(10, 40, 2):
        plan = memory_plan.plan(sizes, workload, budget * GB)
        assert plan.peak_bytes <= budget * GB
        lost.append(plan.seconds_lost())
    assert lost == sorted(lost, reverse=True)


def test_too_little_memory_is_refused_with_the_smallest_budget(sizes: dict[str, PartSize], workload: Workload) -> None:
    with pytest.raises(
        ModelError, match=r"4\.0 GB of GPU memory are too few.* it needs (\d+\.\d) GB at least"
    ) as refused:
        memory_plan.plan(sizes, workload, 4 * GB)
    least = float(str(refused.value).split("it needs ")[1].split(" GB")[0])
    assert memory_plan.plan(sizes, workload, int(least * GB)).peak_bytes <= least * GB


def test_two_experts_share_a_card_in_turn() -> None:
    expert = {f"blocks.{index}.ffn.weight": (1_000_000, 350) for index in range(40)}
    sizes = {name: part_sizes.part_size(name, expert) for name in ("transformer", "transformer_2")}
    plan = memory_plan.plan(sizes, Workload(10**9, 10**9, 0, num_forwards=40), 48 * GB)
    assert plan.peak_bytes <= 48 * GB
    assert {part.placement for part in plan.parts.values()} <= {Placement.RESIDENT, Placement.AWAY}


def test_sizes_are_read_from_the_headers_alone(tmp_path: Path) -> None:
    sizes = part_sizes.read_sizes(cached(ti2v_5b))
    assert list(sizes) == ["transformer", "text_encoder", "vae"]
    transformer = WanTransformer3DModel.from_pretrained(cached(ti2v_5b) / "transformer")
    assert sizes["transformer"].num_weights == sum(weight.numel() for weight in transformer.parameters())
    (tmp_path / "vae").mkdir()
    with pytest.raises(ModelError, match="holds no safetensors file"):
        part_sizes.read_sizes(tmp_path)
    (tmp_path / "vae" / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00cut")
    with pytest.raises(ModelError, match="cut off"):
        part_sizes.read_sizes(tmp_path)


def test_a_tiny_decoder_alone_needs_no_cache() -> None:
    folder, size = cached(ti2v_5b), {"width": 64, "height": 32, "num_frames": 9}
    assert part_sizes.read_workload(folder, **size).feature_cache > 0
    assert part_sizes.read_workload(folder, **size, decodes_full=False).feature_cache == 0


# --- doing it -----------------------------------------------------------------------------------------------------


def small() -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(cached(ti2v_5b) / "transformer", torch_dtype=torch.float32).eval()


@torch.inference_mode()
def forward(transformer: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    velocity: torch.Tensor = transformer(
        hidden_states=torch.randn(1, 48, 3, 2, 4, generator=random),
        timestep=torch.tensor([500.0]),
        encoder_hidden_states=torch.randn(1, 5, 32, generator=random),
        return_dict=False,
    )[0]
    return velocity


def placed(placement: Placement, storage: Storage = Storage.BF16) -> placing.Placed:
    size = part_sizes.read_sizes(cached(ti2v_5b))["transformer"]
    part = PartPlan(size, placement, storage)
    return placing.place(part, small(), torch.device("cpu"), dtype=torch.float32)


def test_an_away_part_is_on_the_device_only_while_it_is_used() -> None:
    part = placed(Placement.AWAY)
    weight = next(part.module.parameters())
    home = weight.data_ptr()
    with part.in_use(), part.in_use():
        assert weight.data_ptr() != home
        there = forward(part.module)
    assert weight.data_ptr() == home
    assert torch.equal(there, forward(small()))


def test_a_streamed_part_computes_the_same() -> None:
    part = placed(Placement.STREAMED)
    with part.in_use():
        assert torch.equal(forward(part.module), forward(small()))


def test_fp8_stores_castable_weights_in_one_byte_and_stays_close() -> None:
    part = placed(Placement.RESIDENT, Storage.FP8)
    stored = {name for name, weight in part.module.named_parameters() if weight.dtype is torch.float8_e4m3fn}
    assert "blocks.0.attn1.to_q.weight" in stored and "blocks.0.ffn.net.2.weight" in stored
    assert not any("condition_embedder" in name or "norm" in name for name in stored)
    exact = forward(small())
    assert (forward(part.module) - exact).norm() / exact.norm() < 0.1
    assert not torch.equal(forward(part.module), exact)


def text_encoder() -> UMT5EncoderModel:
    return UMT5EncoderModel.from_pretrained(cached(ti2v_5b) / "text_encoder", dtype=torch.float32).eval()


@torch.inference_mode()
def encode(module: Any) -> torch.Tensor:
    tokens = torch.tensor([[3, 5, 7, 9]])
    embeds: torch.Tensor = module(tokens, torch.ones_like(tokens)).last_hidden_state
    return embeds


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize("placement", Placement)
def test_the_text_encoder_works_wherever_it_lives(placement: Placement, storage: Storage) -> None:
    """Also in fp8, where T5's feed-forward could cast its activations to the stored dtype of its last layer."""
    size = part_sizes.read_sizes(cached(ti2v_5b))["text_encoder"]
    part = placing.place(PartPlan(size, placement, storage), text_encoder(), torch.device("cpu"), dtype=torch.float32)
    exact = encode(text_encoder())
    with part.in_use():
        deviation = (encode(part.module) - exact).norm() / exact.norm()
    assert deviation < 0.1 if storage is Storage.FP8 else deviation == 0


@pytest.mark.parametrize(("name", "make"), [("transformer", small), ("text_encoder", text_encoder)])
def test_the_sizes_count_the_weights_that_fp8_may_hold(name: str, make: Callable[[], Any]) -> None:
    size = part_sizes.read_sizes(cached(ti2v_5b))[name]
    part = PartPlan(size, Placement.RESIDENT, Storage.FP8)
    module = placing.place(part, make(), torch.device("cpu"), dtype=torch.float32).module
    in_fp8 = {key: weight.numel() for key, weight in module.named_parameters() if weight.dtype is torch.float8_e4m3fn}
    assert size.num_castable == sum(number for key, number in in_fp8.items() if key.endswith("weight"))
    assert not any("wo." in key or "shared" in key for key in in_fp8)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory lane"), False),
    ],
)
def test_out_of_memory_is_recognised_by_its_message_too(error: Exception, is_one: bool) -> None:
    assert device_memory.is_out_of_memory(error) is is_one


def test_sizes_of_pickles_are_the_same(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cached(ti2v_5b), tmp_path / "model"))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert part_sizes.read_sizes(folder) == part_sizes.read_sizes(cached(ti2v_5b))


def test_the_budget_is_held_on_a_device_that_is_named_without_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=64 * 2**30))
    # torch's own check of the device stays: it takes no device without an index.
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *one: held.append(one), raising=False)
    for device in ("cuda", "cuda:1"):
        device_memory.hold_to(16 * 2**30, torch.device(device))
    assert [index for _, index in held] == [2, 1]
    assert all(0.23 < share < 0.25 for share, _ in held)


def test_only_the_header_is_read(tmp_path: Path) -> None:
    """A file without its weights still gives its sizes: planning does not read 20 GB."""
    (tmp_path / "vae").mkdir()
    file = tmp_path / "vae" / "model.safetensors"
    save_file({"decoder.conv.weight": torch.zeros(8, 4)}, file)
    file.write_bytes(file.read_bytes()[:-64])
    assert part_sizes.read_sizes(tmp_path)["vae"].num_weights == 32

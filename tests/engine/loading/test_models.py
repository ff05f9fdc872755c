"""Loading: the settings become parts that work together: rungs, decoders, the memory plan, the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from wan_folders import SIZE, cached, fastwan, t2v_1_3b, ti2v_5b

from engine.api import Frames, Generate, ModelError, Quality
from engine.config import LoadSettings
from engine.loading import checkpoint, memory_plan, models, part_sizes, placing
from engine.loading.device_residency import planned, widest_plan
from engine.loading.memory_plan import MemoryPlan, PartPlan, Placement, Storage, Workload
from engine.loading.models import Model, load
from engine.parts.generation import Generation
from engine.parts.tiny_decoder import TinyDecoderModule


def loaded(folder: Path, **options: Any) -> Model:
    return load(LoadSettings(model=str(folder), device="cpu", **{**SIZE, **options}))


def clip_of(model: Model, *, rung_index: int = 0, **options: Any) -> torch.Tensor:
    generation = Generation(Generate("a", "the sea", seed=3, **options), queued_at=0.0)
    generation.rung_index = rung_index
    model.begin(generation)
    while not generation.is_denoised:
        model.denoiser.step([generation])
    return torch.cat(list(model.decode(generation)))


@pytest.fixture
def with_tiny_decoder(tmp_path: Path) -> Path:
    """A few-step folder with a tiny decoder beside it, under its published name."""
    folder = Path(shutil.copytree(cached(fastwan), tmp_path / "model"))
    torch.manual_seed(0)
    module = TinyDecoderModule(48, 2, (16, 8, 8, 8))
    save_file(module.state_dict(), folder / "taew2_2.safetensors")
    return folder


# --- rungs and decoders -------------------------------------------------------------------------------------------


def test_every_rung_of_the_ladder_makes_a_clip_of_its_size(with_tiny_decoder: Path) -> None:
    model = loaded(with_tiny_decoder, width=128, height=64)
    rungs = model.profile.ladder
    assert [rung.degraded for rung in rungs] == [(), ("tiny_decoder",), ("tiny_decoder", "smaller_size")]
    for rung_index, rung in enumerate(rungs):
        clip = clip_of(model, rung_index=rung_index)
        assert clip.shape == (SIZE["num_frames"], 3, rung.height, rung.width)
    assert rungs[-1].width < 128


def test_a_clip_from_a_frame_may_be_made_on_a_smaller_rung(with_tiny_decoder: Path) -> None:
    model = loaded(with_tiny_decoder, width=128, height=64)
    frame = Frames(np.full((1, 96, 128), 120, np.uint8))
    smallest = len(model.profile.ladder) - 1
    assert clip_of(model, rung_index=smallest, first_frame=frame).shape[3] < 128


def test_without_a_tiny_decoder_no_rung_promises_one() -> None:
    model = loaded(cached(fastwan), width=128, height=64)
    assert [rung.degraded for rung in model.profile.ladder] == [(), ("smaller_size",)]
    assert {rung.decoder for rung in model.profile.ladder} == {"full"}


def test_a_chosen_tiny_decoder_is_on_every_rung(with_tiny_decoder: Path) -> None:
    model = loaded(with_tiny_decoder, decoder="tiny", width=128, height=64)
    assert {rung.decoder for rung in model.profile.ladder} == {"tiny"}
    assert all("tiny_decoder" not in rung.degraded for rung in model.profile.ladder)
    assert model.report().decoder == "tiny"
    by_file = loaded(cached(fastwan), decoder=str(with_tiny_decoder / "taew2_2.safetensors"), width=128, height=64)
    assert torch.equal(clip_of(model), clip_of(by_file))


def test_a_pruned_vae_decodes_in_the_full_ones_place(tmp_path: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(cached(t2v_1_3b) / "vae")
    pruned = AutoencoderKLWan.from_config({**vae.config, "decoder_base_dim": 2})
    pruned.save_pretrained(tmp_path / "pruned")
    model = loaded(cached(t2v_1_3b), decoder=str(tmp_path / "pruned"))
    assert model.profile.ladder[0].decoder == "pruned"
    assert clip_of(model).shape[0] == SIZE["num_frames"]


def test_a_pruned_vae_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="takes 16 latent channels, this model makes 48"):
        loaded(cached(ti2v_5b), decoder=str(cached(t2v_1_3b) / "vae"))


def test_a_missing_decoder_is_refused_with_the_valid_choices() -> None:
    with pytest.raises(ModelError, match=r"no decoder 'tiny': expected full, tiny \(with taew2_2\.safetensors in"):
        loaded(cached(ti2v_5b), decoder="tiny")


def test_a_folder_named_like_a_decoder_is_not_used_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    monkeypatch.chdir(tmp_path)
    assert loaded(cached(ti2v_5b)).profile.decoder == "full"


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", "there is no device cuda: torch .* finds 0 GPUs"), ("gpu", "unknown device 'gpu'; expected cpu, cuda")],
)
def test_a_missing_device_is_named(device: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelError, match=message):
        load(LoadSettings(device=device))


@pytest.mark.parametrize(
    ("part", "file", "content"),
    [
        ("tokenizer", "tokenizer.json", "{}"),
        ("vae", "config.json", {"base_dim": "x"}),
        ("text_encoder", "config.json", {"num_heads": "x"}),
    ],
)
def test_a_part_that_a_library_cannot_load_is_named(tmp_path: Path, part: str, file: str, content: Any) -> None:
    folder = Path(shutil.copytree(cached(ti2v_5b), tmp_path / "model"))
    broken = folder / part / file
    if isinstance(content, dict):
        content = json.dumps(json.loads(broken.read_text()) | content)
    broken.write_text(content)
    with pytest.raises(ModelError, match=rf"the model in {folder}, {part}, cannot be loaded: \w+: "):
        loaded(folder)


def test_out_of_memory_at_load_is_no_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(models, "_load_part", short)
    with pytest.raises(torch.OutOfMemoryError):
        loaded(cached(ti2v_5b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_embedded_model_runs_in_the_fastest_dtype(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(models, "fastest_dtype", lambda _: dtype)
    model = load(LoadSettings(model="embedded", device="cpu"))
    assert model.report().dtype == str(dtype).removeprefix("torch.")
    assert model.denoiser.experts[0].dtype == dtype


def test_the_embedded_model_takes_no_lora_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes no LoRA files"):
        load(LoadSettings(lora_folder=str(tmp_path)))


# --- what it says of itself ---------------------------------------------------------------------------------------


def test_the_report_changes_only_if_something_changed() -> None:
    model = loaded(cached(ti2v_5b))
    report = model.report()
    assert (report.dtype, report.attention, report.decoder, report.preview) == ("float32", "native", "full", "linear")
    assert model.report() is report


def test_a_memory_budget_without_effect_is_reported() -> None:
    for model in (loaded(cached(fastwan), gpu_memory_bytes=2**34), load(LoadSettings(gpu_memory_bytes=2**34))):
        assert any("--gpu-memory has no effect" in note for note in model.report().notes)
    assert not loaded(cached(fastwan)).report().notes


def test_a_preview_follows_every_step_but_the_last() -> None:
    model = loaded(cached(fastwan))
    generation = Generation(Generate("a", "the sea"), queued_at=0.0)
    model.begin(generation)
    previews = []
    while not generation.is_denoised:
        model.denoiser.step([generation])
        previews.append(model.preview(generation))
    assert previews[-1] is None and all(preview is not None for preview in previews[:-1])


def test_each_part_is_announced_before_it_is_loaded() -> None:
    parts: list[str] = []
    load(LoadSettings(model=str(cached(ti2v_5b)), device="cpu", **SIZE), on_part=parts.append)
    assert set(parts) == {"text_encoder", "tokenizer", "vae", "transformer"}


# --- memory -------------------------------------------------------------------------------------------------------


def test_parts_that_are_away_take_turns_and_the_clip_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of a small GPU, carried out on the CPU."""
    expected = clip_of(loaded(cached(ti2v_5b)))
    parts = {
        name: PartPlan(size, Placement.AWAY, Storage.BF16)
        for name, size in part_sizes.read_sizes(cached(ti2v_5b)).items()
    }
    plan = MemoryPlan(parts, Workload(0, 0, 0, 1), budget_bytes=2**30)
    monkeypatch.setattr(models, "planned", lambda profile, *_: (profile, plan))
    here: list[str] = []
    note_visits(monkeypatch, here)
    model = loaded(cached(ti2v_5b))
    assert model.report().memory_plan == plan.lines
    here.clear()
    assert torch.equal(clip_of(model), expected)
    text = ["+UMT5EncoderModel", "-UMT5EncoderModel"]
    # The prompt and the negative prompt; all steps in one visit, which outlasts the decode.
    assert here == [*text, *text, "+WanTransformer3DModel", "+AutoencoderKLWan", "-AutoencoderKLWan"]
    model.free_memory()
    assert here[-1] == "-WanTransformer3DModel"
    assert torch.equal(clip_of(model), expected)


def note_visits(monkeypatch: pytest.MonkeyPatch, here: list[str]) -> None:
    """Parts that come to the device (+) and leave it (-), in order."""
    in_use = placing.Placed.in_use

    @contextmanager
    def noted(part: placing.Placed) -> Iterator[None]:
        name = type(part.module).__name__
        here.append(f"+{name}")
        with in_use(part):
            yield
        here.append(f"-{name}")

    monkeypatch.setattr(placing.Placed, "in_use", noted)


def test_the_same_seed_is_the_same_clip_and_another_is_not() -> None:
    model = loaded(cached(fastwan))
    first = clip_of(model)
    model.free_memory()
    assert torch.equal(clip_of(model), first)
    other = Generation(Generate("b", "the sea", Quality.FAST, seed=4), queued_at=0.0)
    model.begin(other)
    while not other.is_denoised:
        model.denoiser.step([other])
    assert not torch.equal(torch.cat(list(model.decode(other))), first)


def test_joint_rows_move_no_part_off_the_device() -> None:
    sizes = part_sizes.read_sizes(cached(fastwan))

    def workload_of(rows: int) -> Workload:
        return Workload(denoising=rows * 2**30, decoding=0, feature_cache=0, num_forwards=3)

    rows, roomy = widest_plan(sizes, workload_of, 4, 2**40)
    assert rows == 4 and roomy.overlaps
    alone = memory_plan.plan(sizes, workload_of(1), 2**40)
    # Room for three rows, but for two only with one more forward of them for the compiler in the background.
    rows, tight = widest_plan(sizes, workload_of, 4, alone.peak_bytes + 7 * 2**29)
    assert rows == 2 and tight.parts == roomy.parts == alone.parts
    assert tight.has_room_to_compile


def plan_of(monkeypatch: pytest.MonkeyPatch, **options: Any) -> MemoryPlan:
    """The plan for a GPU. Of the device it needs only the free memory."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**40, 2**40))
    settings = LoadSettings(model=str(cached(fastwan)), **SIZE, **options)
    _, plan = planned(checkpoint.resolve(settings), settings, torch.device("cuda"))
    assert plan is not None
    return plan


def test_the_plan_counts_a_pruned_vae_and_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = AutoencoderKLWan.from_pretrained(cached(fastwan) / "vae")
    AutoencoderKLWan.from_config({**vae.config, "decoder_base_dim": 2}).save_pretrained(tmp_path / "small")
    full, tiny = plan_of(monkeypatch), plan_of(monkeypatch, decoder="tiny")
    pruned = plan_of(monkeypatch, decoder=str(tmp_path / "small"))
    assert tiny.workload.feature_cache == 0 < pruned.workload.feature_cache < full.workload.feature_cache
    assert pruned.parts["pruned_vae"].placement is Placement.RESIDENT


def test_the_plan_counts_the_loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a.lora_A.weight": torch.zeros(4, 24)}, tmp_path / "ink.safetensors")
    bare, plan = plan_of(monkeypatch), plan_of(monkeypatch, lora_folder=str(tmp_path))
    assert plan.parts["transformer"].num_bytes == bare.parts["transformer"].num_bytes + 2 * 4 * 24
    assert plan.parts["text_encoder"] == bare.parts["text_encoder"]


# --- bf16 ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU would run, on the CPU: diffusers keeps some modules of a bf16 Wan in float32."""
    monkeypatch.setattr(models, "_dtype_on", lambda _: torch.bfloat16)


@pytest.mark.parametrize("starts_from_frame", [False, True])
def test_in_bf16_the_clip_stays_close_to_float32s(
    starts_from_frame: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    frame = Frames(np.full((1, SIZE["height"] * 3 // 2, SIZE["width"]), 120, np.uint8))
    options = {"first_frame": frame} if starts_from_frame else {}
    expected = clip_of(loaded(cached(fastwan)), **options)
    request.getfixturevalue("in_bf16")
    model = loaded(cached(fastwan))
    assert model.report().dtype == "bfloat16"
    clip = clip_of(model, **options).float()
    assert (clip - expected).abs().mean() < 0.02


@pytest.mark.usefixtures("in_bf16")
def test_in_bf16_generations_share_a_step_and_stay_themselves() -> None:
    model = loaded(cached(fastwan))
    together = [Generation(Generate(name, "the sea", seed=seed), queued_at=0.0) for name, seed in (("a", 3), ("b", 4))]
    for generation in together:
        model.begin(generation)
    while not together[0].is_denoised:
        model.denoiser.step(together)
    assert together[0].latents is not None and together[0].latents.dtype == torch.float32
    joint = torch.cat(list(model.decode(together[0])))
    assert (joint - clip_of(model)).abs().float().mean() < 0.02

"""LoRA files by name: the numbers of diffusers' pipeline with the same adapter, switched between steps, no reload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import save_file
from wan_folders import SIZE, a14b, cached, t2v_1_3b

from engine.api import Generate, ModelError, Quality
from engine.config import LoadSettings
from engine.loading.lora import Loras
from engine.loading.models import Model, load
from engine.parts.generation import Generation

pytest.importorskip("peft")

LAYERS = ("attn1.to_q", "attn1.to_v", "attn2.to_k", "ffn.net.0.proj")


def write_lora(file: Path, seed: int, *, prefix: str = "transformer.", rank: int = 4, width: int = 24) -> Path:
    """A LoRA of the tiny transformers as diffusers saves it."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for block in range(2):
        for layer in LAYERS:
            out = 48 if layer.startswith("ffn") else width
            name = f"{prefix}blocks.{block}.{layer}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width, generator=random) * 0.3
            tensors[f"{name}.lora_B.weight"] = torch.randn(out, rank, generator=random) * 0.3
    save_file(tensors, file)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    write_lora(folder / "ink.v2.safetensors", 1)
    write_lora(folder / "clay.safetensors", 2, rank=2)
    return folder


def loaded(builder: object, folder: Path | None) -> Model:
    lora_folder = str(folder) if folder else None
    model = load(LoadSettings(model=str(cached(builder)), device="cpu", lora_folder=lora_folder, **SIZE))  # type: ignore[arg-type]
    model.profile = replace(model.profile, num_steps={Quality.FAST: 4, Quality.FINE: 4})
    return model


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return loaded(t2v_1_3b, folder)


def begun(model: Model, lora: str | None, *, seed: int = 1) -> Generation:
    generation = Generation(Generate(f"{lora}{seed}", "the sea", seed=seed, lora=lora), queued_at=0.0)
    model.begin(generation)
    return generation


def finish(model: Model, generation: Generation) -> torch.Tensor:
    while not generation.is_denoised:
        model.denoiser.step([generation])
    assert generation.latents is not None
    return generation.latents


def theirs(builder: object, ours: Generation, *files: tuple[Path, bool], **options: object) -> torch.Tensor:
    pipeline = WanPipeline.from_pretrained(cached(builder), text_encoder=None, tokenizer=None)  # type: ignore[arg-type]
    pipeline.set_progress_bar_config(disable=True)
    for file, is_for_low_noise in files:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, load_into_transformer_2=is_for_low_noise)
    with torch.inference_mode():
        latents: torch.Tensor = pipeline(
            prompt_embeds=ours.prompt_embeds,
            negative_prompt_embeds=ours.negative_embeds,
            generator=torch.Generator().manual_seed(1),
            num_inference_steps=4,
            guidance_scale=ours.guidance_scale,
            output_type="latent",
            **SIZE,
            **options,
        ).frames
    return latents


def test_lora_files_are_listed_by_name(model: Model) -> None:
    assert model.description.loras == ("clay", "ink.v2")


@pytest.mark.parametrize("name", ["ink.v2", "clay"])
def test_each_lora_equals_the_pipeline_bitwise(model: Model, folder: Path, name: str) -> None:
    generation = begun(model, name)
    ours = finish(model, generation)
    assert torch.equal(ours, theirs(t2v_1_3b, generation, (folder / f"{name}.safetensors", False)))


def test_without_a_lora_the_numbers_are_the_bare_models(model: Model) -> None:
    bare = loaded(t2v_1_3b, None)
    assert torch.equal(finish(model, begun(model, None)), finish(bare, begun(bare, None)))


def test_generations_with_different_loras_alternate_step_by_step(model: Model) -> None:
    names = ["ink.v2", None, "clay"]
    alone = [finish(model, begun(model, name)) for name in names]
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)
    together = [begun(model, name) for name in names]
    for _ in range(4):
        for generation in together:
            model.denoiser.step([generation])
    for generation, expected in zip(together, alone, strict=True):
        assert generation.latents is not None and torch.equal(generation.latents, expected)


def test_generations_with_different_loras_never_share_a_step(model: Model) -> None:
    with pytest.raises(ValueError, match="cannot share a step"):
        model.denoiser.step([begun(model, "clay"), begun(model, None)])


def test_an_unknown_name_is_refused_with_those_that_exist(model: Model) -> None:
    with pytest.raises(ModelError, match=r"no LoRA 'oil'; there are: clay, ink\.v2"):
        begun(model, "oil")


def test_a_pair_of_files_serves_the_two_experts(tmp_path: Path) -> None:
    high = write_lora(tmp_path / "ink_high_noise.safetensors", 1)
    low = write_lora(tmp_path / "ink_low_noise.safetensors", 2)
    model = loaded(a14b, tmp_path)
    assert model.description.loras == ("ink",)
    generation = begun(model, "ink")
    ours = finish(model, generation)
    assert torch.equal(ours, theirs(a14b, generation, (high, False), (low, True), guidance_scale_2=3.0))


def test_the_names_of_other_trainers_are_understood(tmp_path: Path) -> None:
    tensors = {
        f"diffusion_model.blocks.{block}.{layer}.lora_{half}.weight": torch.randn(*shape) * 0.3
        for block in range(2)
        for layer in ("self_attn.q", "cross_attn.k")
        for half, shape in (("down", (4, 24)), ("up", (24, 4)))
    }
    save_file(tensors, tmp_path / "theirs.safetensors")
    model = loaded(t2v_1_3b, tmp_path)
    assert not torch.equal(finish(model, begun(model, "theirs")), finish(model, begun(model, None)))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("damaged", r"bad\.safetensors is no safetensors file"),
        ("no lora", r"bad\.safetensors is no LoRA"),
        ("other layers", r"bad\.safetensors is for another model: this one has no layer for"),
        ("other width", r"bad\.safetensors is for another model: .* has 32 channels, this model 24"),
        ("half of a pair", r"bad\.safetensors cannot be loaded"),
        ("no folder", "does not exist"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, what: str, message: str) -> None:
    file = tmp_path / "loras" / "bad.safetensors"
    if what != "no folder":
        file.parent.mkdir()
    if what == "damaged":
        file.write_bytes(b"PK\x03\x04 a zip file, say")
    elif what == "no lora":
        save_file({"transformer.blocks.0.attn1.to_q.weight": torch.zeros(24, 24)}, file)
    elif what == "other layers":
        save_file({"transformer.single_blocks.0.proj.lora_A.weight": torch.zeros(4, 24)}, file)
    elif what == "half of a pair":
        save_file({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 24)}, file)
    elif what == "other width":
        write_lora(file, 1, width=32)
    with pytest.raises(ModelError, match=message):
        loaded(t2v_1_3b, file.parent)


def test_a_folder_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "style.pt").touch()
    with pytest.raises(ModelError, match="holds no safetensors file"):
        Loras(tmp_path, [])

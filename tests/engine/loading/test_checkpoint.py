"""Model folders are found, recognised, checked and fetched; what is wrong with one is named exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from wan_folders import SIZE, Builder, a14b, cached, fastwan, t2v_1_3b, ti2v_5b

from engine.api import ModelError, Quality
from engine.config import EMBEDDED_FOLDER, PROFILES, LoadSettings
from engine.loading import checkpoint
from engine.loading.models import load


def settings(model: str | Path, **options: Any) -> LoadSettings:
    return LoadSettings(model=str(model), device="cpu", **{**SIZE, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A 5B folder of the test's own, to break."""
    return Path(shutil.copytree(cached(ti2v_5b), tmp_path / "model"))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


# --- recognised ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "name"),
    [
        (ti2v_5b, "wan2.2-ti2v-5b"),
        (fastwan, "fastwan2.2-5b"),
        (t2v_1_3b, "wan2.1-t2v-1.3b"),
        (a14b, "wan2.2-t2v-a14b"),
    ],
)
def test_a_published_layout_is_recognised(builder: Builder, name: str) -> None:
    profile = checkpoint.resolve(settings(cached(builder)))
    assert (profile.name, profile.folder) == (name, cached(builder))
    assert profile.can_start_from_frame == (builder in (ti2v_5b, fastwan))


def test_a_few_step_folder_is_recognised_by_its_name_not_its_path(folder: Path, tmp_path: Path) -> None:
    lies = shutil.copytree(folder, tmp_path / "fastwan experiments" / "Wan2.2-TI2V-5B-Diffusers")
    called = shutil.copytree(folder, tmp_path / "FastWan2.2-TI2V-5B")
    in_the_hubs_cache = shutil.copytree(folder, tmp_path / "models--FastVideo--FastWan2.2" / "snapshots" / "abc")
    names = [checkpoint.resolve(settings(one)).name for one in (lies, called, in_the_hubs_cache)]
    assert names == ["wan2.2-ti2v-5b", "fastwan2.2-5b", "fastwan2.2-5b"]


def test_a_few_step_model_of_unknown_steps_needs_a_named_profile(tmp_path: Path) -> None:
    folder = shutil.copytree(cached(t2v_1_3b), tmp_path / "model")
    edit(folder / "model_index.json", _class_name="WanDMDPipeline")
    with pytest.raises(ModelError, match=r"few-step model.* --model PROFILE="):
        checkpoint.resolve(settings(folder))
    assert checkpoint.resolve(settings(f"fastwan2.2-5b={folder}")).name == "fastwan2.2-5b"


def test_two_experts_need_a_boundary_ratio(tmp_path: Path) -> None:
    folder = shutil.copytree(cached(a14b), tmp_path / "model")
    for value, message in ((None, "names a transformer_2 and no boundary_ratio"), ("high", "expected 0 to 1")):
        edit(folder / "model_index.json", boundary_ratio=value)
        with pytest.raises(ModelError, match=message):
            checkpoint.resolve(settings(folder))


def test_the_embedded_model_is_recognised_by_name_and_by_folder() -> None:
    assert checkpoint.resolve(LoadSettings()).name == "embedded"
    assert checkpoint.resolve(LoadSettings(model=str(EMBEDDED_FOLDER))).name == "embedded"


def test_a_profile_may_be_named_with_its_folder() -> None:
    assert checkpoint.resolve(settings(f"fastwan2.2-5b={cached(ti2v_5b)}")).name == "fastwan2.2-5b"
    with pytest.raises(ModelError, match="cannot be run as embedded"):
        checkpoint.resolve(settings(f"embedded={cached(ti2v_5b)}"))


def test_a_chosen_size_applies_to_every_rung() -> None:
    profile = checkpoint.resolve(settings(cached(ti2v_5b), width=416, height=256))
    assert {(rung.width, rung.height) for rung in profile.ladder} == {(416, 256), (320, 192)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 80}, "multiples of 32, not 80x32"),
        ({"width": 0, "height": 0}, "multiples of 32, not 0x0"),
        ({"width": -64}, "multiples of 32, not -64x32"),
        ({"num_frames": 10}, r"4n \+ 1 frames, not 10; try 9"),
        ({"num_frames": 0}, r"4n \+ 1 frames, not 0; try 1"),
        ({"num_frames": -3}, r"4n \+ 1 frames, not -3; try 1"),
    ],
)
def test_sizes_that_the_vae_cannot_make_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        checkpoint.resolve(settings(cached(ti2v_5b), **options))


# --- broken -------------------------------------------------------------------------------------------------------

WEIGHTS = "diffusion_pytorch_model.safetensors"


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def truncate(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])


def damage(folder: Path) -> None:
    (folder / "vae" / WEIGHTS).write_bytes(b"<html>404</html>")


def write_header(folder: Path, header: str) -> None:
    (folder / "vae" / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header.encode())


def lose_a_shard(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).rename(folder / "transformer" / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def pickle(folder: Path) -> None:
    (folder / "vae" / WEIGHTS).rename(folder / "vae" / "diffusion_pytorch_model.bin")


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), r"has no model_index\.json"),
    "index is no JSON": (lambda f: (f / "model_index.json").write_text("{"), r"model_index\.json cannot be read"),
    "no vae": (lambda f: shutil.rmtree(f / "vae"), "lacks vae/"),
    "vae not named": (
        lambda f: edit(f / "model_index.json", vae=[None, None]),
        "names no vae; expected a AutoencoderKLWan",
    ),
    "other pipeline": (lambda f: edit(f / "model_index.json", _class_name="FluxPipeline"), "holds a FluxPipeline"),
    "other text encoder": (
        lambda f: edit(f / "model_index.json", text_encoder=["transformers", "CLIPTextModel"]),
        "CLIPTextModel as text_encoder; expected UMT5EncoderModel",
    ),
    "config of another class": (
        lambda f: edit(f / "vae" / "config.json", _class_name="AutoencoderKL"),
        r"vae/config\.json is of a AutoencoderKL; expected AutoencoderKLWan",
    ),
    "no config": (lambda f: (f / "text_encoder" / "config.json").unlink(), r"text_encoder/config\.json is missing"),
    "no weights": (lambda f: (f / "transformer" / WEIGHTS).unlink(), f"lacks {WEIGHTS}"),
    "truncated": (truncate, r"transformer/.*safetensors is \d+ bytes long, its header says \d+"),
    "not safetensors": (damage, r"vae/.* is no safetensors file"),
    "header is a list": (lambda f: write_header(f, "[]"), r"vae/.* has a damaged header"),
    "header without offsets": (lambda f: write_header(f, '{"a": 1}'), r"vae/.* has a damaged header"),
    "index of shards is odd": (
        lambda f: (lose_a_shard(f), edit(f / "transformer" / f"{WEIGHTS}.index.json", weight_map=[])),
        "lacks all shards",
    ),
    "other patches": (
        lambda f: edit(f / "transformer" / "config.json", patch_size=2),
        r"transformer/config\.json has patch_size 2; expected \[1, 2, 2\]",
    ),
    "statistics of another VAE": (
        lambda f: edit(f / "vae" / "config.json", latents_mean=[0.0]),
        r"vae/config\.json has 1 latents_mean; expected 48",
    ),
    "text of another width": (
        lambda f: edit(f / "text_encoder" / "config.json", d_model=64),
        "reads text of 32 channels, the text encoder makes 64",
    ),
    "shard missing": (lose_a_shard, r"lacks model-00002-of-00002\.safetensors"),
    "pickles only": (pickle, r"pickles only \(diffusion_pytorch_model\.bin\).*--allow-pickles"),
    "unknown scheduler": (
        lambda f: edit(f / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler"),
        "scheduler is a DDIMScheduler; expected one of",
    ),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), r"lacks tokenizer\.json"),
    "image-to-video checkpoint": (
        lambda f: edit(f / "transformer" / "config.json", in_channels=36),
        "takes 36 channels and gives 48",
    ),
    "parts of two models": (lambda f: edit(f / "vae" / "config.json", z_dim=16), "parts are of different models"),
    "an expert missing": (lambda f: edit(f / "model_index.json", boundary_ratio=0.875), "names no transformer_2"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_fault_of_a_folder_is_named(folder: Path, what: str) -> None:
    break_it, message = BREAKS[what]
    break_it(folder)
    with pytest.raises(ModelError, match=message):
        checkpoint.resolve(settings(folder))


def test_a_few_step_model_may_name_an_unknown_scheduler(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", _class_name="SelfForcingFlowMatchScheduler")
    model = load(settings(f"fastwan2.2-5b={folder}"))
    assert model.noise_schedule.solver(3, model.device).timestep_number(1) == 757


def test_weights_in_shards_are_the_same_model(folder: Path) -> None:
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer")
    (folder / "transformer" / WEIGHTS).unlink()
    transformer.save_pretrained(folder / "transformer", max_shard_size="60KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    sharded = load(settings(folder)).denoiser.experts[0].state_dict()
    assert all(torch.equal(sharded[name], tensor) for name, tensor in transformer.state_dict().items())


def test_pickles_are_loaded_if_the_user_allows_them(folder: Path) -> None:
    pickle(folder)
    checkpoint.resolve(settings(folder, allows_pickles=True))


def test_a_missing_tensor_is_named_instead_of_staying_random(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    tensors = load_file(file)
    del tensors["blocks.1.ffn.net.2.weight"]
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"transformer lacks 1 tensors .* blocks\.1\.ffn\.net\.2\.weight"):
        load(settings(folder))


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    edit(folder / "transformer" / "config.json", ffn_dim=64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(settings(folder))


@pytest.mark.parametrize("model", ["wan3", "./nowhere", "/nowhere/at/all"])
def test_an_unknown_model_is_refused_with_the_valid_choices(model: str) -> None:
    with pytest.raises(ModelError, match=r"does not exist|expected one of embedded, fastwan2\.2-5b"):
        checkpoint.fetch(LoadSettings(model=model))


def test_the_startup_timeout_allows_for_a_slow_disk(folder: Path) -> None:
    assert checkpoint.startup_timeout_s(settings(folder)) == pytest.approx(120, abs=1)
    with (folder / "text_encoder" / "notes.txt").open("wb") as file:
        file.truncate(10 * 10**9)  # sparse
    assert checkpoint.startup_timeout_s(settings(folder)) == pytest.approx(320, abs=1)


# --- fetched ------------------------------------------------------------------------------------------------------


class FakeHub:
    """Gives a tiny folder in place of the published one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, hub_id: str, wanted: tuple[str, ...]) -> str:
        self.asked.append((hub_id, wanted))
        return str(self._folder)


def put_in_cache(hub_cache: Path, hub_id: str, folder: Path) -> Path:
    """As huggingface_hub lays it out."""
    home = hub_cache / f"models--{hub_id.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    return Path(shutil.copytree(folder, home / "snapshots" / "abc"))


def test_a_profile_is_downloaded_by_its_hub_id_and_keeps_its_numbers(hub_cache: Path) -> None:
    hub = FakeHub(cached(ti2v_5b))  # nothing in these files says "few steps": the profile must
    fetched = checkpoint.fetch(settings("fastwan2.2-5b"), download=hub)
    assert [hub_id for hub_id, _ in hub.asked] == [PROFILES["fastwan2.2-5b"].hub_id]
    profile = checkpoint.resolve(fetched)
    assert (profile.name, profile.folder) == ("fastwan2.2-5b", cached(ti2v_5b))
    assert profile.num_steps[Quality.FAST] == 3


def test_only_safetensors_and_configs_are_downloaded(hub_cache: Path) -> None:
    hub = FakeHub(cached(ti2v_5b))
    checkpoint.fetch(settings("someone/their-wan"), download=hub)
    [(hub_id, wanted)] = hub.asked
    assert hub_id == "someone/their-wan"
    assert {"model_index.json", "transformer/*.safetensors", "vae/*.json", "tokenizer/*"} <= set(wanted)
    assert not any(pattern.endswith((".bin", ".pt", ".pth")) for pattern in wanted)


def test_a_published_hub_id_is_the_profile_of_that_name(hub_cache: Path) -> None:
    hub = FakeHub(cached(ti2v_5b))
    fetched = checkpoint.fetch(settings(PROFILES["fastwan2.2-5b"].hub_id), download=hub)
    assert checkpoint.resolve(fetched).name == "fastwan2.2-5b"


def test_a_cached_model_is_not_downloaded_again(hub_cache: Path) -> None:
    folder = put_in_cache(hub_cache, PROFILES["wan2.2-ti2v-5b"].hub_id, cached(ti2v_5b))
    hub = FakeHub(Path("never"))
    fetched = checkpoint.fetch(settings("wan2.2-ti2v-5b"), download=hub)
    assert not hub.asked
    assert checkpoint.resolve(fetched).folder == folder
    assert checkpoint.resolve(settings("wan2.2-ti2v-5b")).folder == folder


def test_an_interrupted_download_is_continued(hub_cache: Path) -> None:
    folder = put_in_cache(hub_cache, PROFILES["wan2.2-ti2v-5b"].hub_id, cached(ti2v_5b))
    (folder / "transformer" / WEIGHTS).unlink()
    hub = FakeHub(cached(ti2v_5b))
    checkpoint.fetch(settings("wan2.2-ti2v-5b"), download=hub)
    assert len(hub.asked) == 1


def test_offline_a_missing_model_names_the_command_that_downloads_it(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match=r"is not on this machine yet; `sceneshift serve --model wan2\.2-ti2v-5b`"):
        checkpoint.resolve(LoadSettings(model="wan2.2-ti2v-5b"))


def test_a_folder_is_never_looked_up_on_the_hub(hub_cache: Path) -> None:
    hub = FakeHub(Path("never"))
    assert checkpoint.fetch(settings(cached(a14b)), download=hub) == settings(cached(a14b))
    assert not hub.asked

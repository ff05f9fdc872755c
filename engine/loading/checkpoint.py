"""Finds a model's folder and says whether it can be loaded, from configs and file headers alone: no torch, no weights.

`fetch` runs in the entry point, before an engine process exists, because a download may take an hour and the
supervisor does not wait that long. `resolve` runs in both processes, offline.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.api import ModelError
from engine.config import PROFILES, Family, LoadSettings, ModelProfile, profile

Download = Callable[[str, tuple[str, ...]], str]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WEIGHTS_STEM = {"transformers": "model", "diffusers": "diffusion_pytorch_model"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler", "UniPCMultistepScheduler")
# Sub-folder: the class that the index and the part's config must name.
_WAN_PARTS = {
    "transformer": "WanTransformer3DModel",
    "vae": "AutoencoderKLWan",
    "text_encoder": "UMT5EncoderModel",
}
_EMBEDDED_PARTS = ("transformer", "text_encoder", "encoder", "decoder", "scheduler")
_PARTS_TO_DOWNLOAD = ("transformer", "transformer_2", "vae", "text_encoder")


# --- finding ------------------------------------------------------------------------------------------------------


def fetch(settings: LoadSettings, *, download: Download | None = None) -> LoadSettings:
    """Returns settings whose model is on this machine; downloads it if needed, with a progress bar on stderr. Blocks.

    Raises `ModelError` if the model cannot be found. `download` takes a hub id and the wanted file patterns, and
    returns the folder.
    """
    name, hub_id = _published(settings.model)
    if not hub_id:
        resolve(settings)
        return settings
    folder = _cached_folder(hub_id)
    if folder is None:
        folder = Path((download or _download)(hub_id, _wanted_files(settings.allows_pickles)))
    settings = replace(settings, model=f"{name}={folder}" if name else str(folder))
    resolve(settings)
    return settings


def resolve(settings: LoadSettings) -> ModelProfile:
    """The profile that `settings` ask for, with its folder, checked file by file.

    Raises `ModelError` that names the part that is missing or wrong, what was expected, and what to do.
    """
    folder, chosen = _locate(settings.model)
    index = _read_json(folder / "model_index.json")
    recognised = _recognise(folder, index)
    made = chosen or recognised
    if chosen is None and not made.distilled_timesteps and "DMD" in str(index.get("_class_name")):
        raise ModelError(
            f"{folder} is a few-step model, and only the 5B's steps are known; --model PROFILE={folder} runs it with "
            "the steps and guidance of PROFILE"
        )
    if made.family is not recognised.family:
        raise ModelError(f"{folder} is a model like {recognised.name}, which cannot be run as {made.name}")
    made = replace(made, folder=folder)
    if made.family is Family.EMBEDDED:
        _check_embedded(folder)
        return _sized(made, settings, multiple_of=32)
    return _resolve_wan(made, index, settings)


def startup_timeout_s(settings: LoadSettings) -> float:
    """How long the engine may be silent while it loads: it beats between two parts, and a slow disk reads 50 MB/s."""
    folder = resolve(settings).folder
    assert folder is not None
    parts = [sum(file.stat().st_size for file in part.iterdir() if file.is_file()) for part in _folders(folder)]
    return 120.0 + max(parts) / 50e6


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_dir())


def _locate(model: str) -> tuple[Path, ModelProfile | None]:
    """The folder, and the profile if one was named."""
    name, separator, path = model.partition("=")
    if separator and name in PROFILES:
        return _existing(Path(path)), profile(name)
    if model in PROFILES and PROFILES[model].folder is not None:
        return PROFILES[model].folder or Path(), PROFILES[model]
    name, hub_id = _published(model)
    if not hub_id:
        return _existing(Path(model)), None
    folder = _cached_folder(hub_id)
    if folder is None:
        raise ModelError(f"{hub_id} is not on this machine yet; `sceneshift serve --model {model}` downloads it")
    return folder, profile(name) if name else None


def _published(model: str) -> tuple[str, str]:
    """(profile's name or "", hub id or "") of what `--model` says; ("", "") for a folder."""
    if model in PROFILES:
        return model, PROFILES[model].hub_id
    by_hub_id = {made.hub_id: made.name for made in PROFILES.values() if made.hub_id}
    if model in by_hub_id:
        return by_hub_id[model], model
    looks_like_folder = "=" in model or Path(model).exists() or model.startswith((".", "/", "~"))
    if looks_like_folder:
        return "", ""
    if _HUB_ID.fullmatch(model):
        return "", model
    raise ModelError(
        f"unknown model {model!r}; expected one of {', '.join(sorted(PROFILES))}, a folder with a model_index.json, a "
        "hub id like Wan-AI/Wan2.2-TI2V-5B-Diffusers, or PROFILE=FOLDER"
    )


def _existing(folder: Path) -> Path:
    folder = folder.expanduser()
    if not (folder / "model_index.json").is_file():
        what = "has no model_index.json" if folder.is_dir() else "does not exist"
        raise ModelError(f"the model folder {folder} {what}; expected a diffusers folder as it is published")
    return folder


# --- downloading --------------------------------------------------------------------------------------------------


def _wanted_files(allows_pickles: bool) -> tuple[str, ...]:
    endings = ("json", "safetensors", *(("bin",) if allows_pickles else ()))
    weights = tuple(f"{part}/*.{ending}" for part in _PARTS_TO_DOWNLOAD for ending in endings)
    return ("model_index.json", "scheduler/*.json", "tokenizer/*", *weights)


def _download(hub_id: str, wanted: tuple[str, ...]) -> str:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  half a second that `embedded` need not wait

    try:
        return str(snapshot_download(hub_id, allow_patterns=list(wanted)))
    except Exception as error:
        # The library's errors come from several HTTP stacks and have no common base class. Ctrl-C passes.
        raise ModelError(f"{hub_id} could not be downloaded: {error}; what has arrived is kept: try again") from error


def _cached_folder(hub_id: str) -> Path | None:
    """The model's folder in the hub's cache if it is complete (index and each part's folder), else None."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None
    try:
        resolve(LoadSettings(model=str(folder), allows_pickles=True))
    except ModelError:
        return None  # an interrupted download: `snapshot_download` continues it
    return folder


# --- recognising --------------------------------------------------------------------------------------------------


def _recognise(folder: Path, index: Mapping[str, Any]) -> ModelProfile:
    """The profile that a folder matches. Raises `ModelError` for a model that this engine cannot run."""
    if "settings" in index and (folder / "decoder").is_dir():
        return PROFILES["embedded"]
    name = str(index.get("_class_name"))
    if not name.startswith("Wan"):
        raise ModelError(f"{folder} holds a {name}; expected a Wan text-to-video model or the embedded one")
    config = _read_json(folder / "transformer" / "config.json")
    channels = config.get("in_channels"), config.get("out_channels")
    if channels == (48, 48):
        return PROFILES["fastwan2.2-5b" if _is_few_step(folder, name) else "wan2.2-ti2v-5b"]
    if channels == (16, 16) and config.get("image_dim") is None:
        has_two_experts = _declared(index, "transformer_2") is not None
        return PROFILES["wan2.2-t2v-a14b" if has_two_experts else "wan2.1-t2v-1.3b"]
    raise ModelError(
        f"{folder}/transformer takes {channels[0]} channels and gives {channels[1]}; expected 48 (Wan 2.2 5B) or 16 "
        "(Wan 2.1 and 2.2 text-to-video); image-to-video checkpoints with extra channels are not supported"
    )


def _is_few_step(folder: Path, class_name: str) -> bool:
    """Decides by the class or the model's name: the folder's, or in the hub's cache that above ``snapshots/COMMIT``."""
    names = [folder.name, *(above.name for above in folder.parents if above.name.startswith("models--"))]
    return "DMD" in class_name or any("fastwan" in name.lower() for name in names)


def _resolve_wan(made: ModelProfile, index: Mapping[str, Any], settings: LoadSettings) -> ModelProfile:
    folder = made.folder
    assert folder is not None
    parts = dict(_WAN_PARTS)
    boundary_ratio = index.get("boundary_ratio")
    if boundary_ratio is not None:
        parts["transformer_2"] = parts["transformer"]
        if not isinstance(boundary_ratio, int | float) or not 0 < boundary_ratio < 1:
            raise ModelError(f"{folder}/model_index.json has boundary_ratio {boundary_ratio!r}; expected 0 to 1")
    elif _declared(index, "transformer_2") is not None:
        raise ModelError(
            f"{folder}/model_index.json names a transformer_2 and no boundary_ratio, at which it takes over; the "
            "published model's is 0.875"
        )
    for part, expected in parts.items():
        _check_part(folder, index, part, expected, allows_pickles=settings.allows_pickles)
    if not made.distilled_timesteps:  # else the profile's own sampler runs, whatever the folder names
        _check_scheduler(folder)
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise ModelError(f"{folder}/tokenizer lacks tokenizer.json; expected the UMT5 tokenizer as it is published")
    transformer, vae = (_read_json(folder / part / "config.json") for part in ("transformer", "vae"))
    if transformer["in_channels"] != vae.get("z_dim"):
        raise ModelError(
            f"{folder}: the transformer makes {transformer['in_channels']} latent channels, the VAE takes "
            f"{vae.get('z_dim')}; these parts are of different models"
        )
    for name in ("latents_mean", "latents_std"):
        if name in vae and len(vae[name]) != vae.get("z_dim"):
            raise ModelError(f"{folder}/vae/config.json has {len(vae[name])} {name}; expected {vae.get('z_dim')}")
    text_dim = _read_json(folder / "text_encoder" / "config.json").get("d_model")
    if transformer.get("text_dim", 4096) != text_dim:
        raise ModelError(
            f"{folder}: the transformer reads text of {transformer.get('text_dim', 4096)} channels, the text encoder "
            f"makes {text_dim}; these parts are of different models"
        )
    patch_size = transformer.get("patch_size", [1, 2, 2])
    if patch_size != [1, 2, 2]:
        raise ModelError(f"{folder}/transformer/config.json has patch_size {patch_size}; expected [1, 2, 2]")
    expands_timesteps = bool(index.get("expand_timesteps"))
    made = replace(made, boundary_ratio=boundary_ratio, can_start_from_frame=expands_timesteps)
    return _sized(made, settings, multiple_of=int(vae.get("scale_factor_spatial", 8)) * 2)


def _sized(made: ModelProfile, settings: LoadSettings, *, multiple_of: int) -> ModelProfile:
    width = made.width if settings.width is None else settings.width
    height = made.height if settings.height is None else settings.height
    num_frames = made.num_frames if settings.num_frames is None else settings.num_frames
    if width % multiple_of or height % multiple_of or min(width, height) < multiple_of:
        raise ModelError(f"{made.name} makes sides that are multiples of {multiple_of}, not {width}x{height}")
    if num_frames % 4 != 1 or num_frames < 1:
        nearest = max(1, num_frames // 4 * 4 + 1)
        raise ModelError(f"{made.name} makes 4n + 1 frames, not {num_frames}; try {nearest}")
    if made.family is Family.EMBEDDED and ((width, height) != (made.width, made.height) or num_frames not in (25, 49)):
        raise ModelError(f"the embedded model makes 25 or 49 frames of {made.width}x{made.height} only")
    return made.resized(width, height, num_frames)


# --- checking -----------------------------------------------------------------------------------------------------


def _check_embedded(folder: Path) -> None:
    for part in _EMBEDDED_PARTS:
        if not (folder / part).is_dir():
            raise ModelError(f"the model folder {folder} lacks {part}; expected a folder like the embedded one")
    for part in _EMBEDDED_PARTS[:-1]:
        for file in (folder / part).glob("*.safetensors"):
            check_safetensors(file)


def _check_part(folder: Path, index: Mapping[str, Any], part: str, expected: str, *, allows_pickles: bool) -> None:
    declared = _declared(index, part)
    if declared is None:
        raise ModelError(f"{folder}/model_index.json names no {part}; expected a {expected}")
    if declared[1] != expected:
        raise ModelError(f"{folder}/model_index.json names {declared[1]} as {part}; expected {expected}")
    if not (folder / part).is_dir():
        raise ModelError(f"the model folder {folder} lacks {part}/, which its model_index.json names")
    config = _read_json(folder / part / "config.json")
    said = config.get("_class_name") or (config.get("architectures") or [None])[0]
    if said not in (expected, None):
        raise ModelError(f"{folder}/{part}/config.json is of a {said}; expected {expected}")
    weights = list(_weight_files(folder / part, _WEIGHTS_STEM[declared[0]], allows_pickles=allows_pickles))
    for file in weights:
        check_safetensors(file)


def _check_scheduler(folder: Path) -> None:
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    if scheduler not in _SCHEDULERS:
        raise ModelError(f"{folder}/scheduler is a {scheduler}; expected one of {', '.join(_SCHEDULERS)}")


def _weight_files(folder: Path, stem: str, *, allows_pickles: bool) -> Iterator[Path]:
    """The safetensors files of one part. Raises `ModelError` for a missing file, or if there are only pickles."""
    whole, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if whole.is_file():
        yield whole
        return
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        shards = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing or not shards:
            raise ModelError(f"{folder} lacks {', '.join(missing) or 'all shards'}; {index.name} names {len(shards)}")
        yield from (folder / shard for shard in shards)
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles and allows_pickles:
        return
    if pickles:
        raise ModelError(
            f"{folder} holds pickles only ({pickles[0]}), which can run code of their author's choice when they are "
            "loaded; get the safetensors, or pass --allow-pickles if you trust them"
        )
    raise ModelError(f"{folder} lacks {whole.name} (or {index.name} with its shards)")


def check_safetensors(file: Path) -> None:
    """Checks that header and length agree: 8 bytes of header length, JSON, tensors (huggingface/safetensors)."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        if size < 8 or header_size > min(size, 100 * 2**20):
            raise ModelError(f"{file} is no safetensors file, or its beginning is damaged; download it again")
        try:
            header = json.loads(stream.read(header_size))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, AttributeError, TypeError, KeyError, IndexError):
            raise ModelError(f"{file} has a damaged header; download it again") from None
    expected = 8 + header_size + max(ends, default=0)
    if size != expected:
        raise ModelError(f"{file} is {size} bytes long, its header says {expected}; download it again")


def _declared(index: Mapping[str, Any], part: str) -> tuple[str, str] | None:
    """(library, class) that the index names for a part; None if it names none."""
    match index.get(part):
        case [str(library), str(name)]:
            return library, name
        case _:
            return None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; expected a diffusers folder as it is published") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds no JSON object")
    return value


def fingerprint(load: LoadSettings) -> str:
    """A digest of how the model is loaded and from which files: names, sizes, times. Raises `ModelError`."""
    digest = hashlib.blake2b(repr(load).encode(), digest_size=20)
    for folder in (resolve(load).folder, load.lora_folder and Path(load.lora_folder)):
        for path in sorted(folder.rglob("*")) if folder else ():
            if folder and path.is_file():
                status = path.stat()
                digest.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()

"""Which part of a model lives where, planned from the files' headers before a byte is loaded, and then done.

`plan` is pure: sizes, workload and budget in, one placement a part out. `place` does it to a loaded module, with
diffusers' layer-wise casting and group offload. On the CPU nothing needs planning. Engine process, loop thread.

What is counted exactly: the weights, and the VAE's feature cache (by a run on shapes alone). What is estimated:
activations, and what the allocator and the device's own context take beside them. `bench/model/gpu_wan.py` prints the
measured peak beside the planned one.
"""

from __future__ import annotations

import gc
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN, apply_layerwise_casting
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from engine.api import ModelError

PARTS = ("transformer", "transformer_2", "text_encoder", "vae")

_GIB = 2**30
# Beside what we ask for: the device's context, libraries' workspaces, holes in the allocator's blocks.
_CONTEXT_BYTES = int(0.6 * _GIB)
_SHARE_OF_HOLES = 0.04
# For comparing plans only. Copies from pinned memory over PCIe 4.0 x16 reach about twice that; other ways half.
_COPY_BYTES_PER_S = 12e9
# What fp8 weights cost in likeness, and, as they are cast and not compiled, in speed: in seconds that one would wait
# rather than take them. A judgement, not a measurement.
_FP8_REGRET_S = {"transformer": 1.0, "transformer_2": 1.0, "text_encoder": 0.3}


class Placement(StrEnum):
    RESIDENT = "stays on the GPU"
    AWAY = "on the GPU only while it is used"
    STREAMED = "streamed to the GPU layer by layer"


class Storage(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"


@dataclass(frozen=True, slots=True)
class PartSize:
    """Numbers of weights. `num_castable`: those that fp8 may hold; `num_streamed`: on the GPU at once if streamed."""

    name: str
    num_weights: int
    num_castable: int
    num_streamed: int

    def num_bytes(self, storage: Storage) -> int:
        return 2 * self.num_weights - (self.num_castable if storage is Storage.FP8 else 0)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the work takes beside the weights, in bytes, for one clip being denoised and one being decoded."""

    denoising: int
    decoding: int
    feature_cache: int
    num_forwards: int  # of the transformer, a clip


@dataclass(frozen=True, slots=True)
class PartPlan:
    size: PartSize
    placement: Placement
    storage: Storage

    @property
    def num_bytes(self) -> int:
        return self.size.num_bytes(self.storage)

    @property
    def resident_bytes(self) -> int:
        return self.num_bytes if self.placement is Placement.RESIDENT else 0

    @property
    def visiting_bytes(self) -> int:
        """On the GPU while the part is used, beside the resident ones."""
        if self.placement is Placement.AWAY:
            return self.num_bytes
        return 2 * self.size.num_streamed if self.placement is Placement.STREAMED else 0

    def __str__(self) -> str:
        return f"{self.size.name}: {self.storage}, {self.num_bytes / _GIB:.1f} GiB, {self.placement}"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """One placement a part. `overlaps`: there is room to decode one clip while the next is denoised."""

    parts: Mapping[str, PartPlan]
    workload: Workload
    budget_bytes: int
    overlaps: bool = False

    @property
    def peak_bytes(self) -> int:
        """The most at any moment, with the device's context and the allocator's holes."""
        return _with_reserve(max(self._phases()))

    @property
    def overlapping_peak_bytes(self) -> int:
        return _with_reserve(max(self._phases()) + min(self.workload.denoising, self.workload.decoding))

    @property
    def has_room_to_compile(self) -> bool:
        """Whether a forward may run in the background, to be compiled, beside whatever else goes on."""
        return _with_reserve(max(self._phases()) + self.workload.denoising) <= self.budget_bytes

    @property
    def lines(self) -> tuple[str, ...]:
        """For `/readyz` and people."""
        work = self.workload
        return (
            *(str(part) for part in self.parts.values()),
            f"denoising: {work.denoising / _GIB:.1f} GiB (estimated)",
            f"decoding: {work.decoding / _GIB:.1f} GiB (estimated) and {work.feature_cache / _GIB:.1f} GiB of cache",
            f"peak: {self.peak_bytes / _GIB:.1f} of {self.budget_bytes / _GIB:.1f} GiB",
        )

    def _phases(self) -> tuple[int, int, int]:
        """Reading the prompt, denoising, decoding. A decode goes on between the steps of other generations."""
        resident = sum(part.resident_bytes for part in self.parts.values())
        visiting = {name: part.visiting_bytes for name, part in self.parts.items()}
        decoder = visiting.get("vae", 0) + self.workload.feature_cache
        experts = max(visiting.get("transformer", 0), visiting.get("transformer_2", 0))
        return (
            resident + decoder + visiting.get("text_encoder", 0),
            resident + decoder + experts + self.workload.denoising,
            # The expert that is away at times stays between the steps, hence beside a decode, too.
            resident + decoder + experts + self.workload.decoding,
        )

    def seconds_lost(self) -> float:
        """A rough figure, for comparing plans: copies a clip, and what fp8 is regretted by."""
        return sum(self._lost_by(name, part) for name, part in self.parts.items())

    def _lost_by(self, name: str, part: PartPlan) -> float:
        lost = _FP8_REGRET_S.get(name, 0.0) if part.storage is Storage.FP8 else 0.0
        copy_s = part.num_bytes / _COPY_BYTES_PER_S
        if part.placement is Placement.AWAY:
            lost += copy_s
        elif part.placement is Placement.STREAMED:
            # A third more than moving it at once: layers wait for each other.
            lost += 1.3 * copy_s * (self.workload.num_forwards if name.startswith("transformer") else 1)
        return lost


def plan(sizes: Mapping[str, PartSize], workload: Workload, budget_bytes: int) -> MemoryPlan:
    """The quickest placement that fits. Raises `ModelError` that names the smallest budget that would do."""
    plans = [
        MemoryPlan(dict(zip(sizes, chosen, strict=True)), workload, budget_bytes)
        for chosen in itertools.product(*(_choices(size) for size in sizes.values()))
    ]
    fitting = [one for one in plans if one.peak_bytes <= budget_bytes]
    if not fitting:
        least = min(one.peak_bytes for one in plans)
        raise ModelError(
            f"{budget_bytes / 1e9:.1f} GB of GPU memory are too few for this model at this size:"
            f" it needs {least / 1e9 + 0.05:.1f} GB at least. Give more with --gpu-memory, or make smaller or shorter"
            " clips, or take the tiny decoder"
        )
    best = min(fitting, key=lambda one: (one.seconds_lost(), one.peak_bytes))
    overlaps = best.overlapping_peak_bytes <= budget_bytes
    return MemoryPlan(best.parts, workload, budget_bytes, overlaps=overlaps)


def _choices(size: PartSize) -> list[PartPlan]:
    """What may be done with a part. The VAEs keep their bf16: their convolutions are sensitive, and they are small."""
    if size.name == "pruned_vae":
        return [PartPlan(size, Placement.RESIDENT, Storage.BF16)]
    if size.name == "vae":
        return [PartPlan(size, placement, Storage.BF16) for placement in (Placement.RESIDENT, Placement.AWAY)]
    return [PartPlan(size, placement, storage) for placement in Placement for storage in Storage]


def _with_reserve(num_bytes: int) -> int:
    return int((num_bytes + _CONTEXT_BYTES) / (1 - _SHARE_OF_HOLES))


# --- sizes, from headers and configurations --------------------------------------------------------------------------


def read_sizes(folder: Path) -> dict[str, PartSize]:
    """Of the parts in a diffusers folder, from the safetensors headers alone."""
    parts = [name for name in PARTS if (folder / name).is_dir()]
    return {name: read_size(name, folder / name) for name in parts}


def read_size(name: str, folder: Path) -> PartSize:
    """Of one part, from its own folder."""
    return part_size(name, _weights(folder))


def num_weights(file: Path) -> int:
    """In a safetensors file, from its header."""
    return sum(_product(entry["shape"]) for name, entry in _header(file).items() if name != "__metadata__")


def part_size(name: str, weights: Mapping[str, Sequence[int]]) -> PartSize:
    """Of a part whose weights have these names and shapes."""
    numbers = {weight: _product(shape) for weight, shape in weights.items()}
    castable = {weight for weight, shape in weights.items() if _is_castable(name, weight, shape)}
    return PartSize(
        name=name,
        num_weights=sum(numbers.values()),
        num_castable=sum(numbers[weight] for weight in castable),
        num_streamed=_streamed(name, numbers),
    )


def _streamed(name: str, numbers: Mapping[str, int]) -> int:
    """While one group computes, the next is on its way. A transformer's groups are its blocks; the rest stays."""
    groups: dict[str, int] = {}
    for weight, number in numbers.items():
        groups[_group(weight)] = groups.get(_group(weight), 0) + number
    blocks = {group: number for group, number in groups.items() if group.rpartition(".")[2].isdecimal()}
    if not name.startswith("transformer"):
        return sum(sorted(groups.values())[-2:])
    return sum(groups.values()) - sum(blocks.values()) + sum(sorted(blocks.values())[-2:])


def _group(weight: str) -> str:
    """What is streamed together: a block (``blocks.7``, ``encoder.block.7``), or all of one top-level module."""
    parts = weight.split(".")
    for index, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: index + 1])
    return parts[0]


def _is_castable(part: str, weight: str, shape: Sequence[int]) -> bool:
    """Whether diffusers' layer-wise casting, told to keep `_kept(part)`, holds this weight in fp8."""
    module, _, kind = weight.rpartition(".")
    names = module.split(".")
    around = [".".join(names[: length + 1]) for length in range(len(names))]
    is_kept = any(re.search(pattern, name) for pattern in _kept(part) for name in around)
    return kind == "weight" and len(shape) >= 2 and not is_kept


def _kept(part: str) -> tuple[str, ...]:
    """Patterns of modules that stay as they are: where precision counts, or where casting would not work."""
    if part == "text_encoder":
        # T5's feed-forward casts its activations to the dtype of `wo` before it is upcast; an embedding would be
        # upcast whole, two gigabytes, for a few rows.
        return ("norm", r"\bwo$", "shared", "embed_tokens", "relative_attention_bias")
    wan = (*WanTransformer3DModel._skip_layerwise_casting_patterns, *WanTransformer3DModel._keep_in_fp32_modules)
    return (*DEFAULT_SKIP_MODULES_PATTERN, *wan)


def _weights(folder: Path) -> dict[str, list[int]]:
    """Names and shapes in all safetensors files of a folder. Raises `ModelError` if one is cut off or none is there.

    Pickles are read where there is nothing else: `engine.loading.checkpoint` has refused them unless the user insists.
    """
    files = sorted(folder.glob("*.safetensors"))
    pickles = sorted(folder.glob("*.bin")) if not files else []
    if not files and not pickles:
        raise ModelError(f"{folder} holds no safetensors file")
    weights: dict[str, list[int]] = {}
    for file in files:
        weights |= {name: entry["shape"] for name, entry in _header(file).items() if name != "__metadata__"}
    for file in pickles:  # mapped, so that no weight is read
        weights |= {name: list(weight.shape) for name, weight in torch.load(file, weights_only=True, mmap=True).items()}
    return weights


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        try:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length)) if length < 2**27 else {}
        except ValueError:
            header = {}
    if not header:
        raise ModelError(f"{file} is not a safetensors file, or was cut off")
    return header


def _product(shape: Iterable[int]) -> int:
    number = 1
    for side in shape:
        number *= side
    return number


def read_workload(
    folder: Path,
    *,
    width: int,
    height: int,
    num_frames: int,
    rows: int = 1,
    num_forwards: int = 3,
    decodes_full: bool = True,
    starts_from_frame: bool = True,
    vae_folder: Path | None = None,
) -> Workload:
    """Of the model in a diffusers folder, decoded by its own VAE or that in `vae_folder`; see `workload_of`."""
    return workload_of(
        _config(folder / "transformer"),
        _config(vae_folder or folder / "vae"),
        width=width,
        height=height,
        num_frames=num_frames,
        rows=rows,
        num_forwards=num_forwards,
        decodes_full=decodes_full,
        starts_from_frame=starts_from_frame,
    )


def workload_of(
    transformer: Mapping[str, Any],
    vae: Mapping[str, Any],
    *,
    width: int,
    height: int,
    num_frames: int,
    rows: int = 1,
    num_forwards: int = 3,
    decodes_full: bool = True,
    starts_from_frame: bool = True,
) -> Workload:
    """For clips of this size. `rows` go through the transformer at once; a tiny decoder alone keeps no VAE cache."""
    factor = int(vae.get("scale_factor_spatial", 8))
    latent_frames = (num_frames - 1) // 4 + 1
    num_tokens = latent_frames * (height // factor // 2) * (width // factor // 2)
    inner = int(transformer["num_attention_heads"]) * int(transformer["attention_head_dim"])
    # Live at once in a block, counted along its forward: hidden states and norms in fp32 and bf16 (14 bytes a channel),
    # both sides of the feed-forward's nonlinearity (4), and, when a clip starts from a frame, modulation of each
    # token's own (six vectors in fp32 and bf16 and the embedding they come from: 40). A quarter more for what comes
    # and goes.
    a_token = 1.25 * ((54 if starts_from_frame else 14) * inner + 4 * int(transformer["ffn_dim"]))
    cache, largest = _decoder_features(vae, height // factor, width // factor) if decodes_full else (0, 0)
    tiny = int(0.4 * _GIB * width * height / (832 * 480))
    return Workload(
        denoising=int(rows * num_tokens * a_token),
        # A residual block at the largest feature map: input, shortcut, norm in fp32, activation, padded copy, output.
        decoding=max(8 * 2 * largest, tiny),
        feature_cache=2 * cache,
        num_forwards=num_forwards,
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    return config


def _decoder_features(config: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Numbers held by the VAE decoder's cache, and by its largest feature map, for latents of this height and width.

    By running it on shapes alone: three latent frames, after which the cache grows no more.
    """
    with torch.device("meta"):
        vae: Any = AutoencoderKLWan.from_config(dict(config))
    largest = 0

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal largest
        largest = max(largest, output.numel() if isinstance(output, torch.Tensor) else 0)

    modules = list(vae.decoder.modules())
    for module in modules:
        module.register_forward_hook(note)
    cache: list[Any] = [None] * sum(isinstance(module, WanCausalConv3d) for module in modules)
    latents = torch.empty(1, int(config["z_dim"]), 1, height, width, device="meta")
    with torch.inference_mode():
        for latent_index in range(3):
            vae.decoder(latents, feat_cache=cache, feat_idx=[0], first_chunk=latent_index == 0)
    return sum(kept.numel() for kept in cache if isinstance(kept, torch.Tensor)), largest


# --- doing it --------------------------------------------------------------------------------------------------------


class Placed:
    """A part where the plan wants it. `in_use` brings it to the device for a while, where the plan says so."""

    def __init__(self, module: nn.Module, device: torch.device, *, is_away: bool = False) -> None:
        self.module = module
        self._device = device
        self._is_away = is_away
        self._num_users = 0
        self._home = _tensors(module) if is_away else []

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """May be entered by several at once (two decodes); the last one out sends the part away."""
        if not self._is_away:
            yield
            return
        self._num_users += 1
        try:
            if self._num_users == 1:
                for tensor, kept in self._home:
                    tensor.data = kept.to(self._device, non_blocking=True, copy=True)
            yield
        finally:
            self._num_users -= 1
            if self._num_users == 0:
                for tensor, kept in self._home:
                    tensor.data = kept


def _tensors(module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each weight and where it is at home: pinned memory, if there is a device to copy to."""
    pins = torch.cuda.is_available()
    home = []
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if pins:
            tensor.data = tensor.data.pin_memory()
        home.append((tensor, tensor.data))
    return home


def place(part: PartPlan, module: nn.Module, device: torch.device, *, dtype: torch.dtype = torch.bfloat16) -> Placed:
    """Brings a loaded module (on the CPU, in `dtype`) where the plan wants it."""
    if part.storage is Storage.FP8:
        apply_layerwise_casting(
            module,
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=dtype,
            skip_modules_pattern=_kept(part.size.name),
            non_blocking=True,
        )
    if part.placement is Placement.RESIDENT:
        module.to(device)
    elif part.placement is Placement.STREAMED:
        is_transformer = part.size.name.startswith("transformer")
        apply_group_offloading(
            module,
            onload_device=device,
            offload_type="block_level" if is_transformer else "leaf_level",
            num_blocks_per_group=1 if is_transformer else None,
            use_stream=device.type == "cuda",
        )
    return Placed(module, device, is_away=part.placement is Placement.AWAY)


def hold_to(budget_bytes: int, device: torch.device) -> None:
    """Makes the allocator refuse what goes beyond the budget, as if the device were that small.

    The device's context is not the allocator's: its share is left for it.
    """
    if device.type == "cuda":
        # Unlike its neighbours, the last of these functions takes no device without an index.
        index = torch.cuda.current_device() if device.index is None else device.index
        total = torch.cuda.get_device_properties(index).total_memory
        share = (budget_bytes - _CONTEXT_BYTES) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), index)


def budget(device: torch.device, asked_bytes: int | None) -> int:
    """What may be used: as asked, at most what the device has free."""
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return min(asked_bytes, free_bytes) if asked_bytes is not None else free_bytes


# --- when it is short ------------------------------------------------------------------------------------------------

_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Libraries below torch say it in words of their own; the CPU's allocator, too."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def free(device: torch.device) -> None:
    """Gives back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_bytes(device: torch.device) -> int:
    """The most that was allocated so far; 0 where the device does not count."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0

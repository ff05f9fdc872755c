"""LoRA files from a folder, loaded once beside the transformer's weights and switched between steps. Loop thread.

diffusers and PEFT keep all LoRAs in the model's linear layers; `select` activates one of them or none. Nothing is
merged, so switching copies no weights, and without a LoRA the numbers are those of the bare model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import WanLoraLoaderMixin
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.api import ModelError
from engine.loading.checkpoint import check_safetensors

# Published LoRAs for a model with two experts have one file for each. A file with neither ending goes to both.
_EXPERT_ENDINGS = ("_high_noise", "_low_noise")


class Loras:
    """The LoRAs of `experts` (one transformer, or two). None is selected at first."""

    def __init__(self, folder: Path, experts: Sequence[Any]) -> None:
        """Loads every ``*.safetensors`` of `folder`. Raises `ModelError` that names the file and what is wrong."""
        if find_spec("peft") is None:
            raise ModelError("LoRA files need the package peft: pip install 'sceneshift[lora]'")
        if not folder.is_dir():
            raise ModelError(f"the LoRA folder {folder} does not exist")
        if not any(folder.glob("*.safetensors")):
            # An error, not an empty list of names: on a GPU the model would run uncompiled for nothing.
            raise ModelError(f"the LoRA folder {folder} holds no safetensors file")
        self._adapters: dict[str, list[str]] = {}
        self._selected: str | None = None
        for name, expert_index, file in _files(folder, len(experts)):
            # PEFT makes module names of these: no dots.
            adapter = f"lora_{len(self._adapters)}_{expert_index}"
            _add(experts[expert_index], adapter, file)
            self._adapters.setdefault(name, []).append(adapter)
        self._layers = [layer for expert in experts for layer in expert.modules() if hasattr(layer, "_active_adapter")]
        self._activate([])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._adapters))

    def select(self, name: str | None) -> None:
        """Activates this LoRA, or none, from the next forward on. Raises `ModelError` for an unknown name."""
        if name == self._selected:
            return
        if name is not None and name not in self._adapters:
            raise ModelError(f"there is no LoRA {name!r}; there are: {', '.join(self.names) or 'none'}")
        self._activate(self._adapters[name] if name is not None else [])
        self._selected = name

    def _activate(self, adapters: list[str]) -> None:
        # Not `set_adapters`: it walks the whole model and marks trainable weights, 31 ms for a transformer of 30 layers
        # against 0.4 ms (measured). A layer ignores adapters that it does not have.
        for layer in self._layers:
            layer._active_adapter = adapters


def _files(folder: Path, num_experts: int) -> Iterator[tuple[str, int, Path]]:
    """(name, expert, file), by name."""
    for file in sorted(folder.glob("*.safetensors")):
        ending = next((index for index, ending in enumerate(_EXPERT_ENDINGS) if file.stem.endswith(ending)), None)
        if ending is None or num_experts == 1:
            yield from ((file.stem, index, file) for index in range(num_experts))
        else:
            yield file.stem.removesuffix(_EXPERT_ENDINGS[ending]), ending, file


def _add(transformer: Any, adapter: str, file: Path) -> None:
    check_safetensors(file)
    try:
        tensors = load_file(file)
        # Also accepts the names that other trainers give: `diffusion_model.` and `lora_unet_`.
        state = WanLoraLoaderMixin.lora_state_dict(tensors)
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        raise ModelError(f"{file} is no LoRA for a Wan model: {error}") from error
    _check(transformer, state, file)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # we want several
            WanLoraLoaderMixin.load_lora_into_transformer(state, transformer, adapter_name=adapter)
    except (RuntimeError, ValueError, LookupError) as error:
        raise ModelError(f"{file} cannot be loaded: {error}") from error


def _check(transformer: Any, state: dict[str, torch.Tensor], file: Path) -> None:
    """Checks that every weight has its layer. diffusers would only warn, and skip weights that do not fit."""
    if not state or not all("lora" in name for name in state):
        raise ModelError(f"{file} is no LoRA: expected weights with lora in their names only")
    layers = dict(transformer.named_modules())
    for name, weights in state.items():
        layer_name, separator, _ = name.removeprefix("transformer.").partition(".lora_")
        layer = layers.get(layer_name)
        if not name.startswith("transformer.") or not separator or layer is None:
            raise ModelError(f"{file} is for another model: this one has no layer for {name}")
        expected = layer.weight.shape[1 if ".lora_A." in name else 0]
        found = weights.shape[1 if ".lora_A." in name else 0]
        if weights.ndim > 1 and found != expected:
            raise ModelError(f"{file} is for another model: {name} has {found} channels, this model {expected}")

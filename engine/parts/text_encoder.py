"""Encodes prompts to embeddings and caches them. Engine process, loop thread."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.embedded.modules import TextEncoder as EmbeddedModule
from engine.embedded.reading import complete, read, unconditional_tokens


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """`embeds`: ``[1, L, D]``. The other fields are the words of the prompt that the model knows, and does not know."""

    embeds: torch.Tensor
    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class TextEncoder(Protocol):
    def encode(self, prompt: str, *, seed: int = 0) -> TextEncoding:
        """An empty prompt gives the unconditional embedding that guidance starts from.

        `seed`: the generation's seed. A model may use it to choose what the prompt leaves open.
        """
        ...


class EmbeddedTextEncoder:
    """The embedded model's encoder: a bilingual lexicon reads, the seed completes, a small transformer encodes."""

    def __init__(self, module: EmbeddedModule) -> None:
        self._module = module

    @torch.inference_mode()
    def encode(self, prompt: str, *, seed: int = 0) -> TextEncoding:
        if not prompt:
            return TextEncoding(self._module.encode((unconditional_tokens(),)))
        reading = read(prompt)
        _, token_ids = complete(reading, seed)
        return TextEncoding(self._module.encode((token_ids,)), reading.understood, reading.not_understood)


class CachedTextEncoder:
    """Keeps the last `capacity` encodings, because hosts repeat prompts. Drops the least recently used first.

    Only for encoders that ignore the seed.
    """

    def __init__(self, encoder: TextEncoder, *, capacity: int = 128) -> None:
        self._encoder = encoder
        self._capacity = capacity
        self._kept: OrderedDict[str, TextEncoding] = OrderedDict()

    def encode(self, prompt: str, *, seed: int = 0) -> TextEncoding:
        encoding = self._kept.pop(prompt, None) or self._encoder.encode(prompt)
        self._kept[prompt] = encoding
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return encoding

    def clear(self) -> None:
        """Forgets all encodings, when memory is short."""
        self._kept.clear()

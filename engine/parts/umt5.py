"""The text encoder of the Wan models: prompts to UMT5 embeddings. Engine process, loop thread.

The arithmetic is `WanPipeline._get_t5_prompt_embeds`'s (diffusers), but on the prompt's own tokens only. The pipeline
runs 512 tokens, masks all but the prompt's, and then replaces the rest by zeros. For 64 tokens that is eight times the
work for the same numbers.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from engine.parts.text_encoder import TextEncoder, TextEncoding

# Cross-attention of the transformer has no mask, so the padded length is part of the picture.
MAX_TOKENS = 512


class Umt5TextEncoder:
    """Runs `module` on `device`. `in_use` brings it there, if it is not there already."""

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Any,
        *,
        device: torch.device,
        in_use: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._module = module
        self._tokenizer = tokenizer
        self._device = device
        self._in_use = in_use

    @torch.inference_mode()
    def encode(self, prompt: str, *, seed: int = 0) -> TextEncoding:
        """``[1, L, D]`` for the L tokens of the prompt, at most 512; the rest of the prompt is cut off."""
        tokens = self._tokenizer(cleaned(prompt), truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with self._in_use():
            mask = tokens.attention_mask.to(self._device)
            embeds = self._module(tokens.input_ids.to(self._device), mask).last_hidden_state
        return TextEncoding(embeds)


class ZeroPaddedTextEncoder:
    """Pads another encoder's embeddings to 512 tokens. It wraps the cache, so that the cache keeps no zeros."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def encode(self, prompt: str, *, seed: int = 0) -> TextEncoding:
        embeds = self._encoder.encode(prompt).embeds
        return TextEncoding(functional.pad(embeds, (0, 0, 0, MAX_TOKENS - embeds.shape[1])))


def cleaned(prompt: str) -> str:
    """Unescapes entities twice and collapses white space, as the pipeline does. (Its optional ftfy is not used.)"""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt)).strip()).strip()

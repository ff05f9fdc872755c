"""The embedded model's own networks: text encoder and autoencoder. The transformer is diffusers' WanTransformer3DModel.

Latents are 16x16x4 with the Wan grouping: the first latent frame is one frame, every later one is four frames, so 4n+1
frames are n+1 latent frames. All convolutions are 2D with time folded into the channels, because 3D ones run several
times slower on a CPU. Plain modules without state between calls: the engine process calls them from its step thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FRAMES_PER_LATENT = 4
PIXELS_PER_LATENT = 16
LATENT_CHANNELS = 24
_WEIGHTS_NAME = "model.safetensors"


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The dtype of transformer and decoder: bf16 where it is much faster, fp32 elsewhere.

    bf16 is faster on a GPU and on a processor with matrix tiles (AMX). On two such cores a step takes 56 ms instead of
    91, and a clip's decoding 123 ms instead of 241. Without the tiles, bf16 is emulated.
    """
    return torch.bfloat16 if device.type == "cuda" or torch.cpu._is_amx_tile_supported() else torch.float32


class FolderModule(nn.Module):
    """A module kept as a folder with `config.json` and fp16 safetensors, as diffusers and transformers keep theirs."""

    config_type: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": type(self).__name__, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        # Buffers stay in fp32: the latents' variances before standardisation may exceed what fp16 can hold.
        halved = {name: parameter.detach().half() for name, parameter in self.named_parameters()}
        tensors = {**self.state_dict(), **halved}
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _WEIGHTS_NAME)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Loads in fp32 and evaluation mode; a folder of another class raises `ValueError`."""
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text())
        name = config.pop("_class_name", None)
        if name != cls.__name__:
            raise ValueError(f"{folder} holds a {name}, not a {cls.__name__}")
        module = cls(cls.config_type(**config))
        module.load_state_dict(load_file(folder / _WEIGHTS_NAME))
        return module.float().eval()


@dataclass(frozen=True)
class TextEncoderConfig:
    vocab_size: int
    text_dim: int = 128
    num_layers: int = 2
    num_heads: int = 4
    max_tokens: int = 32


class TextEncoder(FolderModule):
    """Concept tokens of the lexicon to [B, max_tokens, text_dim]. Padding (id 0) is learned, not masked."""

    config_type = TextEncoderConfig
    config: TextEncoderConfig

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.text_dim)
        self.positions = nn.Parameter(torch.randn(config.max_tokens, config.text_dim) * 0.1)
        nn.init.normal_(self.tokens.weight, std=0.5)
        layer = nn.TransformerEncoderLayer(
            config.text_dim,
            config.num_heads,
            4 * config.text_dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.text_dim)

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, max_tokens] int64 to [B, max_tokens, text_dim]."""
        encoded: Tensor = self.norm(self.layers(self.tokens(token_ids) + self.positions))
        return encoded

    def encode(self, token_ids: list[tuple[int, ...]] | tuple[tuple[int, ...], ...]) -> Tensor:
        """One tuple of token ids per text, cut at `max_tokens`, to [B, max_tokens, text_dim]."""
        encoded: Tensor = self(pad_token_ids(token_ids, self.config.max_tokens).to(self.positions.device))
        return encoded


def pad_token_ids(texts: list[tuple[int, ...]] | tuple[tuple[int, ...], ...], max_tokens: int) -> Tensor:
    padded = torch.zeros(len(texts), max_tokens, dtype=torch.int64)
    for row, token_ids in enumerate(texts):
        kept = token_ids[:max_tokens]
        padded[row, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
    return padded


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        level = torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)
        y: Tensor = self.second(F.silu(self.first(x * level * self.gain)))
        return x + y


@dataclass(frozen=True)
class AutoencoderConfig:
    """Channels at 1/4, 1/8 and 1/16 of the picture's side, and residual blocks at each.

    `output_kernel`: of the decoder's last convolution, at a quarter of the side. At 1 it costs a ninth of what it costs
    at 3, which is a fifth of the whole decoder.
    """

    channels: tuple[int, int, int] = (64, 128, 224)
    num_blocks: tuple[int, int, int] = (1, 2, 3)
    latent_channels: int = LATENT_CHANNELS
    output_kernel: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "num_blocks", tuple(self.num_blocks))


class Encoder(FolderModule):
    """A group of four frames to one latent frame with zero mean and unit variance in every channel."""

    config_type = AutoencoderConfig
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        quarter, eighth, sixteenth = config.channels
        blocks = config.num_blocks
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(3 * FRAMES_PER_LATENT * 16, quarter, 3, padding=1),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * quarter, eighth, 1),
            *(_ResidualBlock(eighth) for _ in range(blocks[1])),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * eighth, sixteenth, 1),
            *(_ResidualBlock(sixteenth) for _ in range(blocks[2] - 1)),
            nn.Conv2d(sixteenth, config.latent_channels, 3, padding=1),
        )
        # Standardises the latents with no constant to look up: in evaluation mode its statistics are frozen.
        self.standardise = nn.BatchNorm2d(config.latent_channels, affine=False, momentum=0.05)

    def forward(self, groups: Tensor) -> Tensor:
        """[B, 4, 3, 16H, 16W] in [0, 1] to [B, C, H, W]."""
        latents: Tensor = self.standardise(self.before_standardising(groups))
        return latents

    def before_standardising(self, groups: Tensor) -> Tensor:
        latents: Tensor = self.layers((groups.flatten(1, 2) * 2 - 1).contiguous(memory_format=torch.channels_last))
        return latents

    def encode(self, frames: Tensor) -> Tensor:
        """[B, 4n+1, 3, 16H, 16W] in [0, 1] to latents [B, C, n+1, H, W]; the first of them is one frame."""
        groups = group_frames(frames)
        batch, num_latent_frames = groups.shape[:2]
        latents: Tensor = self(groups.flatten(0, 1))
        return latents.view(batch, num_latent_frames, *latents.shape[1:]).transpose(1, 2)


def group_frames(frames: Tensor) -> Tensor:
    """[B, 4n+1, 3, H, W] to [B, n+1, 4, 3, H, W]: the first frame four times, then fours."""
    if frames.shape[1] % FRAMES_PER_LATENT != 1:
        raise ValueError(f"expected 4n+1 frames, got {frames.shape[1]}")
    first = frames[:, :1].expand(-1, FRAMES_PER_LATENT, -1, -1, -1)
    grouped: Tensor = torch.cat([first, frames[:, 1:]], 1).unflatten(1, (-1, FRAMES_PER_LATENT))  # type: ignore[no-untyped-call]
    return grouped


class Decoder(FolderModule):
    """Decodes one latent frame, with the one before it as context, to its frames. Keeps nothing between calls."""

    config_type = AutoencoderConfig
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        quarter, eighth, sixteenth = config.channels
        blocks = config.num_blocks
        # One channel more than two latents: it says whether there is a previous latent frame.
        self.layers = nn.Sequential(
            nn.Conv2d(2 * config.latent_channels + 1, sixteenth, 3, padding=1),
            *(_ResidualBlock(sixteenth) for _ in range(blocks[2])),
            nn.Conv2d(sixteenth, 4 * eighth, 1),
            nn.PixelShuffle(2),
            *(_ResidualBlock(eighth) for _ in range(blocks[1])),
            nn.Conv2d(eighth, 4 * quarter, 1),
            nn.PixelShuffle(2),
            *(_ResidualBlock(quarter) for _ in range(blocks[0])),
            nn.Conv2d(quarter, 3 * FRAMES_PER_LATENT * 16, config.output_kernel, padding=config.output_kernel // 2),
            nn.PixelShuffle(4),
        )

    def forward(self, latent: Tensor, previous: Tensor, has_previous: Tensor) -> Tensor:
        """[B, C, H, W] twice and [B] of 0 or 1, to [B, 4, 3, 16H, 16W], not clamped. Without a previous one, zeros."""
        flag = has_previous.view(-1, 1, 1, 1).expand(-1, 1, *latent.shape[2:])
        x = torch.cat([latent, previous * flag, flag], 1).contiguous(memory_format=torch.channels_last)
        # In bf16 the steps between brightnesses would be as large as those of 8 bits, so the rest is in float32.
        y: Tensor = self.layers(x.to(self.dtype)).to(latent.dtype)
        return (y * 0.5 + 0.5).view(y.shape[0], FRAMES_PER_LATENT, 3, *y.shape[2:])

    def decode_latent_frame(self, latent: Tensor, previous: Tensor | None) -> Tensor:
        """[B, C, H, W] to frames [B, 4, 3, 16H, 16W] in [0, 1], or [B, 1, ...] for the first one (no previous)."""
        has_previous = latent.new_full((latent.shape[0],), 0.0 if previous is None else 1.0)
        frames = self(latent, torch.zeros_like(latent) if previous is None else previous, has_previous)
        shown: Tensor = frames[:, -1:] if previous is None else frames
        return shown.clamp(0, 1).contiguous()

    def stream(self, latents: Tensor, *, closes: bool) -> Iterator[Tensor]:
        """[B, C, n+1, H, W] to frames [B, 1, ...], then n times [B, 4, ...], in [0, 1], as they are made.

        A clip that `closes` is a ring from its second latent frame on. That latent frame is decoded as the successor of
        the last one, so a loop from the last frame to the second crosses a border like any other. Borders between
        groups are smoothed: a jump beyond the picture's own motion is spread over two frames on each side.
        """
        yield self.decode_latent_frame(latents[:, :, 0], None)
        last = latents.shape[2] - 1
        if last == 0:
            return
        before_first = latents[:, :, last if closes else 0]
        first = group = self.decode_latent_frame(latents[:, :, 1], before_first)
        ending = self.decode_latent_frame(latents[:, :, last], latents[:, :, last - 1]) if closes and last > 1 else None
        if ending is not None:
            group = group + _spread(_jump(ending, first), _AFTER_BORDER)
        for index in range(2, last + 1):
            if index == last and ending is not None:
                following = ending
            else:
                following = self.decode_latent_frame(latents[:, :, index], latents[:, :, index - 1])
            jump = _jump(group, following)
            yield (group + _spread(jump, _BEFORE_BORDER)).clamp(0, 1)
            group = following + _spread(jump, _AFTER_BORDER)
        if ending is not None:
            group = group + _spread(_jump(ending, first), _BEFORE_BORDER)
        yield group.clamp(0, 1)

    def decode(self, latents: Tensor, *, closes: bool = True) -> Tensor:
        """[B, C, n+1, H, W] to [B, 4n+1, 3, 16H, 16W] in [0, 1]."""
        return torch.cat(list(self.stream(latents, closes=closes)), 1)


# Shares of a border's jump for the four frames before and after it.
_BEFORE_BORDER, _AFTER_BORDER = (0.0, 0.0, 1 / 8, 3 / 8), (-3 / 8, -1 / 8, 0.0, 0.0)


def _jump(group: Tensor, following: Tensor) -> Tensor:
    """[B, 1, 3, H, W]: the step over the border less the mean of the steps beside it."""
    step = following[:, :1] - group[:, -1:]
    return step - (group[:, -1:] - group[:, -2:-1] + following[:, 1:2] - following[:, :1]) / 2


def _spread(jump: Tensor, shares: tuple[float, ...]) -> Tensor:
    return jump * jump.new_tensor(shares).view(1, -1, 1, 1, 1)


class Autoencoder(nn.Module):
    """Encoder and decoder under training."""

    def __init__(self, encoder: AutoencoderConfig, decoder: AutoencoderConfig) -> None:
        super().__init__()
        self.encoder = Encoder(encoder)
        self.decoder = Decoder(decoder)

    def forward(self, groups: Tensor, previous: Tensor, has_previous: Tensor, noise_level: float) -> Tensor:
        """Groups [B, 4, 3, H, W] and the ones before them, through noisy latents, back to [B, 4, 3, H, W].

        The noise makes the decoder tolerate small errors of a sampled latent. No gradient flows through the previous
        latent frame: it would cost a third of the step.
        """
        standardise = self.encoder.standardise.eval()
        with torch.no_grad():
            previous_latent = self.encoder(previous)
        latent = self.encoder.before_standardising(groups)
        if self.training:
            # Each batch updates the running statistics, but is standardised with them and not with its own: a batch of
            # night scenes must not look like a batch of days.
            F.batch_norm(
                latent.detach().float(), standardise.running_mean, standardise.running_var, training=True, momentum=0.02
            )
        latent = standardise(latent)
        if noise_level:
            latent = latent + noise_level * torch.randn_like(latent)
            previous_latent = previous_latent + noise_level * torch.randn_like(previous_latent)
        frames: Tensor = self.decoder(latent, previous_latent, has_previous)
        return frames

"""The stage's values: clips and transitions go in, pictures come out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from engine.api import Frames

# Layer weights are integers of this sum, so that the compositor's arithmetic is exact.
FULL_WEIGHT = 256

_serials = itertools.count()


@dataclass(frozen=True, slots=True)
class Transition:
    """How a clip replaces what is on air. A crossfade or morph shorter than a frame is a cut."""

    kind: Literal["cut", "crossfade", "morph"]
    duration_s: float


@dataclass(eq=False, slots=True)
class Clip:
    """A finished clip. Its frames play at `frame_rate`, whatever the program's is."""

    prompt_id: str
    frames: Frames
    frame_rate: int
    closes_on_itself: bool
    after: Literal["loop", "continue", "hold"]
    continuation: int = 0  # 0 for the clip of a prompt, 1, 2, ... for those that its scene goes on with


class OnAir(StrEnum):
    IDLE = "idle"
    PREVIEW = "preview"
    CLIP = "clip"
    BLANK = "blank"


@dataclass(frozen=True, slots=True)
class FirstShown:
    """This picture is the first that shows a preview, or a finished clip (`picture`), of a prompt."""

    prompt_id: str
    kind: Literal["preview", "picture"]
    step_index: int | None
    continuation: int = 0  # which of the scene's clips, as in `Clip`
    num_rounds: int = 1  # rounds that the clip before it was shown; 1 if this one came in time, more if it was late


class Scene(StrEnum):
    """Sources that the compositor paints itself. The idle scene's frame number is the program's frame index."""

    IDLE = "idle"
    BLANK = "blank"


@dataclass(eq=False, slots=True)
class Footage:
    """Frames as a source. Its identity is the compositor's cache key; `serial` names it without keeping it alive."""

    frames: Frames
    serial: int = field(default_factory=_serials.__next__, init=False)


@dataclass(eq=False, slots=True)
class Still:
    """A mixture frozen in mid-crossfade, as a source with one frame."""

    layers: tuple[Layer, ...]
    serial: int = field(default_factory=_serials.__next__, init=False)

    @property
    def depth(self) -> int:
        return 1 + max(layer.source.depth if isinstance(layer.source, Still) else 0 for layer in self.layers)


Source = Scene | Footage | Still


@dataclass(frozen=True, slots=True)
class Layer:
    source: Source
    frame_number: int
    weight: int  # of FULL_WEIGHT, above 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What one frame of the program shows: one or two layers whose weights sum to FULL_WEIGHT."""

    layers: tuple[Layer, ...]
    first_shown: tuple[FirstShown, ...] = ()
    is_cut: bool = False  # nothing in common with the picture before: a good place for a keyframe

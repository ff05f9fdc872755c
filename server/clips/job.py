"""A clip that somebody ordered: what it shall be, and how far it is. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct

from engine.api import Quality

# Of OpenAI's API. A cancelled clip is `failed`, because typed clients know no other end.
Status = Literal["queued", "in_progress", "completed", "failed"]
MAX_ATTEMPTS = 3


class ClipError(StrEnum):
    """Why a clip failed. Stable: clients may branch on them."""

    ENGINE_LOST = "engine_lost"
    MODEL_ERROR = "model_error"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    BUDGET_EXHAUSTED = "budget_exhausted"


class Spec(Struct, frozen=True, omit_defaults=True):
    """What the clip shall be. Stored as JSON, so a field may be added, but not renamed.

    `reference` is a JPEG that the clip starts from. `source_id` is the clip that it goes on from, whole.
    """

    prompt: str
    seconds: float
    width: int
    height: int
    seed: int
    quality: Quality = Quality.FAST
    lora: str | None = None
    reference: bytes | None = None
    source_id: str | None = None


class Made(Struct, frozen=True, omit_defaults=True):
    """What became of it."""

    model: str
    seconds: float
    frame_rate: int
    native_width: int
    native_height: int
    num_bytes: int
    engine_s: float
    is_reused: bool = False
    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class Failure(Struct, frozen=True):
    code: str
    message: str


class Job(Struct, frozen=True):
    """A row of the store. Times are Unix times, in seconds."""

    number: int  # the order in which jobs came
    id: str
    tenant: str
    status: Status
    spec: Spec
    created_at: float
    attempt: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    made: Made | None = None
    failure: Failure | None = None
    remixed_from: str | None = None
    user: str | None = None
    metadata: dict[str, str] = {}

    @property
    def has_ended(self) -> bool:
        return self.status in ("completed", "failed")


def to_json(value: Struct | None) -> bytes | None:
    return msgspec.json.encode(value) if value is not None else None

"""Checks whether the loaded model and this server can do what a client asks for. Pure; on the event loop.

`registry.py` checks a new session, `session.py` updates and `prompts.py` prompts. Nothing is refused before the model
is known; they check again when it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.api import ModelDescription
from server.config import ProgramSize
from server.protocol.errors import Refused
from server.protocol.fields import FRAME_RATE


def check(model: ModelDescription | None, *, transition: str, after: str, lora: str | None) -> None:
    """Raises `Refused` (`not_supported`, `invalid_value`) that names the field and what there is instead."""
    if model is None:
        return
    if transition == "morph" and not model.can_start_from_frame:
        reason = f"the model {model.name} cannot start a clip from a given frame, so it can `cut` and `crossfade` only"
        raise Refused("not_supported", reason, param="transition")
    if after == "continue" and not model.can_start_from_frame:
        reason = (
            f"the model {model.name} cannot start a clip from a given frame, so its clips can `loop` and `hold` only"
        )
        raise Refused("not_supported", reason, param="after")
    if lora is not None and lora not in model.loras:
        known = ", ".join(model.loras) or "none"
        raise Refused("invalid_value", f"the model {model.name} has no LoRA `{lora}`; there are: {known}", param="lora")


def check_size(largest: ProgramSize, width: int, height: int, frame_rate: int) -> None:
    """Raises `Refused` (`invalid_value`) for a program of more pixels a second than the operator allows.

    Names `frame_rate` if the size is possible at a lower one, else `width`.
    """
    most = math.prod(largest)
    if width * height * frame_rate <= most:
        return
    limit = f"{largest[0]}x{largest[1]} at {largest[2]} frames/s"
    reason = f"a program on this server has at most the pixels a second of {limit} (--max-program)"
    possible_rate = most // (width * height)
    if possible_rate >= FRAME_RATE.low:
        reason += f"; at {width}x{height} that is `frame_rate` {possible_rate}, got {frame_rate}"
        raise Refused("invalid_value", reason, param="frame_rate")
    raise Refused("invalid_value", f"{reason}; {width}x{height} is too large at any rate", param="width")


def check_music(names: Sequence[str], music: str | None) -> None:
    """Raises `Refused` (`invalid_value`), which lists the music that there is."""
    if music is not None and music not in names:
        raise Refused("invalid_value", f"there is no music `{music}`; there are: {', '.join(names)}", param="music")

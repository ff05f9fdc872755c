"""Checks whether the loaded model and this server can do what a client asks for. Pure; on the event loop.

`registry.py` checks a new session, `session.py` updates and `prompts.py` prompts. Nothing is refused before the model
is known; they check again when it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.api import ModelDescription
from server.protocol.errors import Refused


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


def check_music(names: Sequence[str], music: str | None) -> None:
    """Raises `Refused` (`invalid_value`), which lists the music that there is."""
    if music is not None and music not in names:
        raise Refused("invalid_value", f"there is no music `{music}`; there are: {', '.join(names)}", param="music")

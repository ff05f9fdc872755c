"""The server's events as typed objects, from the very definitions that the server sends them with.

`from sceneshift.events import PromptApplied`, and match on the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sceneshift.decoding import END_TYPES, KINDS, type_of
from server import messages

if TYPE_CHECKING:
    from server.messages import *  # noqa: F403

__all__ = ["END_TYPES", "KINDS", "type_of"]


def __getattr__(name: str) -> Any:
    """The events by name, and what stands in them (`FrameStamp`, …). Looked up, so that a new one is here at once."""
    found = getattr(messages, name, None)
    if isinstance(found, type) and issubclass(found, msgspec.Struct) and not issubclass(found, messages.ClientMessage):
        return found
    raise AttributeError(f"there is no event {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(kind.__name__ for kind in KINDS.values())])
